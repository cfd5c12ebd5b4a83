"""The figure of a fit: what it shows, what it says, and that it touches nothing else."""

import io
import re
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from dark_fits import without
from matplotlib.collections import PolyCollection, QuadMesh

from spectramind.errors import DataError
from spectramind.instrument import wavelength_um
from spectramind.observation import TransitFit, VisitFit
from spectramind.transit.figure import plot_fit

NOISE = 3e-4
REASONS = ("White light: reduced chi^2 is 41.2, above 30.", "k_fgs1_0 ended at the bound of $1$.")


def visit_fit(number, depth, rng, bins=75):
    time = np.linspace(0.0, 7.5, bins)
    model = 1.0 - (np.abs(time - 3.75) < 1.3)[:, None] * depth
    return VisitFit(
        visit=number,
        time_h=time,
        flux=(model + NOISE * rng.standard_normal(model.shape)).astype(np.float32),
        model=model.astype(np.float32),
        electrons=np.full(283, NOISE**-2.0, np.float32),
        fgs1_time_h=time,
        fgs1_flux=model[:, 0].astype(np.float32),
        fgs1_model=model[:, 0].astype(np.float32),
        fgs1_centroid=np.zeros((bins, 2), np.float32),
    )


def transit_fit(rng, visits=2, reasons=()):
    depth = 0.01 + 1e-4 * np.sin(4.0 * wavelength_um())
    return TransitFit(
        planet_id=785834,
        depth=depth,
        sigma=np.full(283, 5e-5),
        own_sigma=np.full(283, 5e-5),
        widening=np.ones(2),
        covariance=np.diag(np.full(283, 25e-10)),
        scale=np.ones(2),
        level_sigma=0.0,
        information=np.diag(np.full(283, 4e8)),
        vector=4e8 * depth,
        measured_sigma=np.full(283, 1e-4),
        parameter_names=("period_d",),
        parameters=np.array([4.0]),
        parameter_covariance=np.array([[1e-6]]),
        limb_darkening=np.full((283, 2), 0.2),
        limb_pull=np.zeros(4),
        reduced_chi2=1.03,
        reasons=reasons,
        visits=tuple(visit_fit(number, depth, rng) for number in range(visits)),
    )


def panels(figure, x=None, y=None):
    """Panels by a part of their axis labels."""
    return [
        panel
        for panel in figure.axes
        if (x is None or x in panel.get_xlabel()) and (y is None or y in panel.get_ylabel())
    ]


def curves(panel):
    return [line for line in panel.lines if len(line.get_xdata()) > 2]


def drawn(figure):
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=30, metadata={"Software": None})
    return content.getvalue()


def words(figure):
    return " ".join(figure.get_suptitle().split())


def test_every_panel_is_there_and_labelled(rng):
    figure = plot_fit(transit_fit(rng, visits=2))
    assert figure.get_size_inches()[0] * figure.dpi == 1600
    assert len(panels(figure, x="time [h]")) == 2
    assert len(panels(figure, y="relative flux")) == 2  # of the first visit
    assert len(panels(figure, y="[ppm]")) == 4  # two residuals, spectrum, Allan deviation
    assert len(panels(figure, x="wavelength [µm]")) == 1
    assert len(panels(figure, x="averaging time [min]", y="Allan deviation [ppm]")) == 1
    assert len(panels(figure, x="AIRS-CH0 residual [noise of one bin]")) == 2  # colour bars
    titles = [panel.get_title("left") for panel in figure.axes]
    assert [title for title in titles if "Visit" in title] == ["Visit 0", "Visit 1"]


def test_spectrum_is_that_of_the_fit_in_ppm(rng):
    fit = transit_fit(rng)
    figure = plot_fit(fit)
    (airs,) = panels(figure, x="wavelength [µm]")
    (fgs1,) = panels(figure, x="FGS1")
    (line,) = curves(airs)
    np.testing.assert_allclose(line.get_xdata(), wavelength_um()[1:])
    np.testing.assert_allclose(line.get_ydata(), 1e6 * fit.depth[1:])
    (band,) = (c for c in airs.collections if isinstance(c, PolyCollection))
    edges = band.get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(1e6 * (fit.depth + fit.sigma)[1:].max())
    assert edges.min() == pytest.approx(1e6 * (fit.depth - fit.sigma)[1:].min())
    assert fgs1.containers[0].lines[0].get_ydata()[0] == pytest.approx(1e6 * fit.depth[0])
    assert fgs1.get_ylim() == airs.get_ylim()


def test_light_curves_and_residuals_are_those_of_the_visit(rng):
    fit = transit_fit(rng, visits=1)
    figure = plot_fit(fit)
    visit = fit.visits[0]
    fgs1, airs = panels(figure, y="relative flux")
    np.testing.assert_allclose(curves(fgs1)[0].get_ydata(), visit.flux[:, 0], rtol=1e-6)
    np.testing.assert_allclose(curves(fgs1)[1].get_ydata(), visit.model[:, 0], rtol=1e-6)
    scatter = np.std(curves(airs)[0].get_ydata() - curves(airs)[1].get_ydata())
    assert scatter == pytest.approx(NOISE / np.sqrt(282), rel=0.4)
    residual, white = panels(figure, y="residual\n[ppm]")
    expected = 1e6 * (visit.flux[:, 0] - visit.model[:, 0])
    np.testing.assert_allclose(curves(residual)[0].get_ydata(), expected, atol=0.1)
    assert residual.texts[0].get_text() == f"rms {np.sqrt(np.mean(expected**2)):.0f} ppm"
    assert np.std(curves(white)[0].get_ydata()) == pytest.approx(1e6 * scatter)


def test_image_holds_residuals_over_their_noise(rng):
    fit = transit_fit(rng, visits=1)
    (panel,) = panels(plot_fit(fit), x="time [h]")
    (mesh,) = (c for c in panel.collections if isinstance(c, QuadMesh))
    z = mesh.get_array()
    assert z.shape == (282, 75)
    assert np.std(z) == pytest.approx(1.0, abs=0.06)
    visit = fit.visits[0]
    direct = (visit.flux - visit.model)[:, 1:].T / NOISE
    assert np.corrcoef(z.ravel(), direct.ravel())[0, 1] > 0.97


def test_allan_deviation_starts_at_the_noise_of_a_bin(rng):
    figure = plot_fit(transit_fit(rng, visits=1))
    (panel,) = panels(figure, x="averaging time [min]")
    handles, labels = panel.get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))
    assert set(found) == {"FGS1, visit 0", "AIRS-CH0 white light, visit 0", "white noise, 1 sigma"}
    line = found["FGS1, visit 0"]
    assert line.get_xdata()[0] == pytest.approx(7.5 * 60 / 74)
    assert line.get_ydata()[0] == pytest.approx(1e6 * NOISE, rel=0.3)


def test_a_trusted_fit_says_so(rng):
    title = words(plot_fit(transit_fit(rng)))
    assert title.startswith("Planet 785834: fit trusted")
    assert "reduced chi² 1.03, 2 visits" in title


def test_a_flagged_fit_gives_its_reasons_in_words(rng):
    figure = plot_fit(transit_fit(rng, visits=1, reasons=REASONS))
    title = words(figure)
    assert "fit NOT TRUSTED" in title
    for reason in REASONS:
        assert reason in title
    assert any("flagged" in panel.get_title("left") for panel in figure.axes)
    drawn(figure)  # dollar signs are no formula


def test_drawing_leaves_no_state_and_gives_the_same_picture(rng):
    fit = transit_fit(rng, visits=1)
    before = dict(mpl.rcParams)
    first = drawn(plot_fit(fit))
    assert first.startswith(b"\x89PNG")
    assert drawn(plot_fit(fit)) == first
    assert dict(mpl.rcParams) == before


def test_outliers_are_counted_and_leave_the_scale_alone(rng):
    fit = transit_fit(rng, visits=1)
    flux = fit.visits[0].flux.copy()
    flux[10, 0] += 0.02
    figure = plot_fit(replace(fit, visits=(replace(fit.visits[0], flux=flux),)))
    panel = panels(figure, y="residual\n[ppm]")[0]
    assert panel.texts[0].get_text().endswith("1 outside")
    assert panel.get_ylim()[1] < 5000.0


def test_missing_bins_wavelengths_and_channels_are_drawn(rng):
    fit = transit_fit(rng, visits=1)
    flux = fit.visits[0].flux.copy()
    flux[5:9] = np.nan
    flux[:, 30] = 1.0  # no flux: neither noise nor a transit
    figure = plot_fit(replace(fit, visits=(replace(fit.visits[0], flux=flux),)))
    (panel,) = panels(figure, x="time [h]")
    mask = np.ma.getmaskarray(panel.collections[0].get_array())
    assert mask[:, 5:9].all()
    assert mask[29].all()
    assert mask.sum() == 4 * 282 + 71
    flux[:, 1:] = np.nan
    figure = plot_fit(replace(fit, visits=(replace(fit.visits[0], flux=flux),)))
    assert any(t.get_text() == "no flux in this channel" for p in figure.axes for t in p.texts)
    drawn(figure)


def test_an_fgs1_that_was_not_measured_is_said_to_be_so(rng):
    fit = transit_fit(rng, visits=1)
    assert "FGS1 depth 10," in words(plot_fit(fit))
    lost = without(fit, np.arange(283) == 0)
    figure = plot_fit(lost)
    assert "FGS1 not measured" in words(figure)
    assert any(t.get_text() == "no flux in this channel" for p in figure.axes for t in p.texts)
    assert drawn(figure)


def test_white_light_is_that_of_the_measured_wavelengths(rng):
    """Of 5 columns the others would else be the whole of it."""
    fit = transit_fit(rng, visits=1)
    dark = ~np.isin(np.arange(283), [20, 80, 140, 200, 260])
    figure = plot_fit(without(fit, dark))
    white = panels(figure, y="residual\n[ppm]")[1]
    rms = float(re.search(r"rms (\d+) ppm", white.texts[0].get_text())[1])
    assert rms == pytest.approx(1e6 * NOISE / np.sqrt(5), rel=0.2)
    (panel,) = panels(figure, x="time [h]")
    assert np.ma.getmaskarray(panel.collections[0].get_array()).all(1).sum() == 277


def test_more_visits_widen_the_figure(rng):
    figure = plot_fit(transit_fit(rng, visits=3))
    assert figure.get_size_inches()[0] > 16.0
    assert len(panels(figure, x="time [h]")) == 3


def test_a_fit_without_visits_is_refused(rng):
    with pytest.raises(DataError, match=r"Planet 785834: the fit holds no visit, so there is no"):
        plot_fit(transit_fit(rng, visits=0))


def test_a_visit_of_few_bins_is_refused(rng):
    fit = transit_fit(rng, visits=0)
    with pytest.raises(DataError, match=r"Planet 785834, visit 3: 12 different times, at least"):
        plot_fit(replace(fit, visits=(visit_fit(3, fit.depth, rng, bins=12),)))
