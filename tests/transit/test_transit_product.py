"""Covariances that can be used, and the errors that a fit has of its own."""

from dataclasses import replace

import numpy as np
import pytest
from transit_world import default_config, draw_world, make_curves

from spectramind.transit.fit import fit_planets
from spectramind.transit.priors import first_priors
from spectramind.transit.product import widened
from spectramind.transit.start import prepare
from spectramind.transit.store import read_fit, write_fit

W = 283
CONFIG = default_config(passes=6)


@pytest.fixture(scope="module")
def fits():
    """Of one batch: a planet as it should be, and one whose transit is lost."""
    curves = [make_curves(draw_world(seed)) for seed in (1, 2)]
    rng = np.random.default_rng(3)
    flat = replace(
        curves[1],
        airs_e=rng.normal(1e5, 2e2, curves[1].airs_e.shape).astype(np.float32),
        fgs1_e=rng.normal(2e5, 1e2, curves[1].fgs1_e.shape).astype(np.float32),
    )
    planets = [prepare([own], draw_world(1).table, CONFIG) for own in (curves[0], flat)]
    return fit_planets(planets, first_priors(CONFIG), CONFIG)


def degenerate(rng):
    """Three shapes and next to nothing beside them."""
    root = rng.normal(0.0, 1e-4, (W, 3))
    return root @ root.T


@pytest.mark.parametrize("factors", [(1.0, 1.0), (400.0, 1.3), (1.0, 60.0)])
@pytest.mark.parametrize("common", [0.0, 1e-12, CONFIG.failure.depth_scatter**2])
def test_a_nearly_degenerate_covariance_has_a_cholesky_factor(rng, factors, common):
    spread = widened(degenerate(rng), factors, common)
    np.linalg.cholesky(spread)
    np.testing.assert_array_equal(spread, spread.T)


def test_a_covariance_is_widened_by_channel_and_in_common(rng):
    posterior = degenerate(rng)
    spread = widened(posterior, (2.0, 3.0), 1e-8)
    assert spread[0, 0] == pytest.approx(4.0 * posterior[0, 0] + 1e-8)
    assert spread[0, 7] == pytest.approx(6.0 * posterior[0, 7] + 1e-8)
    assert spread[5, 7] == pytest.approx(9.0 * posterior[5, 7] + 1e-8)


def test_what_is_read_back_has_a_cholesky_factor(fits, rng, tmp_path):
    """Those of a batch, and one that float32 could not hold."""
    fits = [*fits, replace(fits[0], covariance=widened(degenerate(rng), (5.0, 1.0), 1e-4))]
    for number, fit in enumerate(fits):
        path = tmp_path / f"{number}.safetensors"
        write_fit(path, replace(fit, planet_id=number), {})
        found = read_fit(path)
        np.testing.assert_array_equal(found.covariance, fit.covariance)
        np.testing.assert_array_equal(found.covariance, found.covariance.T)
        np.testing.assert_array_equal(found.information, fit.information)
        np.linalg.cholesky(found.covariance)
        assert np.isfinite(found.samples(2)).all()


def test_a_fit_has_errors_of_its_own_before_anything_widened_them(fits):
    trusted, lost = fits
    assert "no transit found" in " ".join(lost.reasons)
    for fit, scatter in ((trusted, 0.0), (lost, CONFIG.failure.depth_scatter)):
        factor = np.append(fit.widening[0], np.full(W - 1, fit.widening[1]))
        assert (factor >= 1.0).all()
        common = fit.sigma**2 - (factor * fit.own_sigma) ** 2
        np.testing.assert_allclose(common, common.mean(), atol=1e-8 * np.max(fit.sigma**2))
        assert common.mean() == pytest.approx(scatter**2, rel=0.05, abs=1e-10)
        assert fit.usable
    assert lost.own_sigma.max() < CONFIG.failure.depth_scatter
    assert trusted.reasons == ()
