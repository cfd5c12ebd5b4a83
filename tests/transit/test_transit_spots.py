"""Spots that the planet does not cross: marginalised, and told from depths by a prior alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from spectral_process import SURE, exponential
from transit_world import default_config, draw_world, fit_alone, make_curves

from spectramind.transit.priors import first_priors
from spectramind.transit.spectrum_prior import PriorOnDevice, SpectrumPrior
from spectramind.transit.spots import SPOTS, Spots, learn_spots, make_spots

W = 283
CONFIG = default_config()
X = np.linspace(-1.0, 1.0, W)
NARROW = SpectrumPrior(
    level=(0.012, 0.006), shape=0.1 * X, components=np.vstack([X**2, np.sin(5.0 * X)]),
    process=exponential(np.full(W, 0.05), 0.03), amplitude=(-10.0, 0.0, 0.5), planets=50,
    typical=(-10.0, 0.5), least=1e-6, shares=SURE,
)  # fmt: skip


@pytest.fixture
def stars():
    depth = torch.tensor([0.012, 0.02], dtype=torch.float64)
    return make_spots(np.array([4800.0, 6200.0]), depth, np.array([0.02, 0.02]), CONFIG.spots)


@pytest.fixture
def likelihood(rng):
    root = rng.normal(size=(2, W, 2 * W)) / 5e-5 / np.sqrt(2 * W)
    information = torch.tensor(root @ root.transpose(0, 2, 1))
    depth = torch.tensor(0.015 + 1e-4 * rng.normal(size=(2, W)))
    return information, (information @ depth[..., None])[..., 0], depth


def test_spots_deepen_the_blue_and_scatter_less_on_hot_stars(stars):
    assert (stars.direction > 0.0).all()
    assert (stars.direction[:, 0] > 1.5 * stars.direction[:, 1:].amax(1)).all()
    assert (stars.direction[:, 1:].diff(dim=-1) < 0.0).all()
    assert stars.scatter[0] == pytest.approx(0.02 * (5000.0 / 4800.0) ** 4)
    assert stars.scatter[1] < 0.5 * stars.scatter[0]


def test_marginalised_depths_have_the_covariance_of_depths_and_spots(stars, likelihood):
    information, vector, depth = likelihood
    hidden, own, _ = stars.marginalised(information, vector)
    for row in range(2):
        direction = stars.direction[row]
        spread = torch.linalg.inv(information[row])
        spread = spread + stars.scatter[row] ** 2 * torch.outer(direction, direction)
        torch.testing.assert_close(torch.linalg.inv(hidden[row]), spread, rtol=1e-6, atol=0.0)
        mean = torch.linalg.solve(hidden[row], own[row])
        usual = 0.5 * stars.scatter[row] * direction  # spots are commoner than faculae
        torch.testing.assert_close(mean, depth[row] - usual, rtol=1e-7, atol=0.0)


def test_apparent_depths_are_those_of_the_joint_posterior(stars, likelihood):
    """Depths and share as one vector of 284, with a Gaussian prior on the depths."""
    information, vector, _ = likelihood
    hidden, own, _ = stars.marginalised(information, vector)
    precision = torch.eye(W, dtype=torch.float64) / 2e-4**2
    covariance = torch.linalg.inv(hidden + precision)
    mean = (
        covariance @ (own + precision @ torch.full((W,), 0.015, dtype=torch.float64))[..., None]
    )[..., 0]
    found = stars.apparent(information, vector, mean, covariance)
    for row in range(2):
        mix = torch.cat([torch.eye(W, dtype=torch.float64), stars.direction[row][:, None]], dim=1)
        before = torch.block_diag(precision, stars.scatter[row, None, None] ** -2.0)
        joint = torch.linalg.inv(mix.T @ information[row] @ mix + before)
        pull = mix.T @ vector[row]
        pull[:W] += precision @ torch.full((W,), 0.015, dtype=torch.float64)
        pull[W] += 0.5 * stars.scatter[row] * stars.scatter[row] ** -2.0
        torch.testing.assert_close(found.mean[row], mix @ joint @ pull, rtol=1e-8, atol=0.0)
        spread = mix @ joint @ mix.T
        scale = spread.diagonal().mean()
        torch.testing.assert_close(
            found.covariance[row] / scale, spread / scale, rtol=0.0, atol=1e-7
        )
        cross = (mix @ joint)[:, :W]
        torch.testing.assert_close(found.cross[row] / scale, cross / scale, rtol=0.0, atol=1e-7)


def test_no_spots_change_nothing(stars, likelihood):
    information, vector, _ = likelihood
    hidden, own, gain = stars.scaled(0.0).marginalised(information, vector)
    assert torch.equal(hidden, information)
    assert torch.equal(own, vector)
    assert (gain == 0.0).all()


def test_evidence_of_known_depths_is_that_of_their_gaussian(stars, likelihood):
    information, vector, depth = likelihood
    known = depth + 0.01 * stars.direction
    found = stars.known_evidence(information, vector, known)
    for row in range(2):
        spread = torch.linalg.inv(information[row])
        wide = spread + stars.scatter[row] ** 2 * torch.outer(
            stars.direction[row], stars.direction[row]
        )
        apart, usual = depth[row] - known[row], 0.5 * stars.scatter[row] * stars.direction[row]
        one, other = (
            -0.5 * (left @ torch.linalg.solve(own, left) + torch.linalg.slogdet(own)[1])
            for own, left in ((wide, apart - usual), (spread, apart))
        )
        assert float(found[row]) == pytest.approx(float(one - other), rel=1e-6)


@pytest.mark.parametrize("scatter", SPOTS)
def test_the_scatter_of_an_archive_is_learned_from_labels(rng, scatter):
    direction = torch.tensor(np.linspace(6e-3, 3e-3, W))[None]
    information = torch.eye(W, dtype=torch.float64)[None] / 5e-5**2
    evidence = []
    for _ in range(60):
        depth = torch.full((1, W), 0.015, dtype=torch.float64)
        seen = depth + scatter * rng.normal() * direction + 5e-5 * torch.tensor(rng.normal(size=W))
        vector = (information @ seen[..., None])[..., 0]
        evidence.append(
            [
                float(
                    Spots(direction, torch.tensor([tried], dtype=torch.float64)).known_evidence(
                        information, vector, depth
                    )
                )
                for tried in SPOTS
            ]
        )
    assert learn_spots(np.array(evidence)) == pytest.approx(scatter, rel=0.3, abs=1e-3)


def test_planets_that_say_nothing_leave_some_doubt():
    assert 0.003 < learn_spots(np.zeros((50, len(SPOTS)))) < 0.03


def test_a_prior_over_spectra_sees_spots_in_light_that_it_cannot_explain():
    prior = PriorOnDevice(NARROW, torch.device("cpu"))
    unit = make_spots(
        np.array([5000.0]), torch.tensor([0.012], dtype=torch.float64), np.ones(1), CONFIG.spots
    )
    information = torch.eye(W, dtype=torch.float64)[None] / 3e-5**2
    scale = torch.tensor([float("nan")], dtype=torch.float64)

    def evidence(share):
        seen = 0.012 + np.exp(-10.0) * torch.tensor(0.1 * X) + share * unit.direction
        vector = (information @ seen[..., None])[..., 0]
        found = []
        for scatter in SPOTS:
            hidden, own, gain = unit.scaled(scatter).marginalised(information, vector)
            found.append(float(prior.total_evidence(hidden, own, scale) + gain))
        return np.array(found)

    assert evidence(0.0).argmax() == 0
    assert evidence(0.08).argmax() == len(SPOTS) - 1


def test_sigma_of_a_planet_holds_the_spots_that_its_stars_may_have():
    world = draw_world(2)
    curves = make_curves(world, factor=90)
    base = replace(first_priors(CONFIG), spectrum=NARROW)
    fits = [
        fit_alone(
            [curves], world.table, CONFIG, replace(base, known=replace(base.known, spots=scatter))
        )
        for scatter in (0.0, 0.05)
    ]
    none, some = fits
    assert some.sigma[0] > 1.5 * none.sigma[0]
    assert (some.sigma[1:] > none.sigma[1:]).all()
    assert some.reduced_chi2 < none.reduced_chi2 + 0.05
