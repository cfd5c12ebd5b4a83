"""One figure of a transit fit: light curves, residuals, spectrum, Allan deviation, verdict."""

import textwrap

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from spectramind.errors import DataError
from spectramind.instrument import FGS1_BAND_UM, FGS1_WAVELENGTH_UM, wavelength_um
from spectramind.observation import TransitFit, VisitFit
from spectramind.robust import MAD_TO_SIGMA
from spectramind.transit.metrics import (
    PPM,
    AllanDeviation,
    allan_deviation,
    on_regular_grid,
    white_light,
)

# Okabe and Ito 2008: told apart by all readers, colour-blind or not.
_AIRS, _FGS1, _FLAGGED, _INK = "#0072B2", "#D55E00", "#A33B00", "#1A1A1A"
_GREY, _GRID = "0.45", "0.9"
_WIDTH_IN, _HEIGHT_IN, _DPI = 16.0, 10.0, 100
_EXTRA_VISIT_IN = 3.6  # each visit beyond two widens the figure [in]
_WRAP = 165  # letters in a line of the verdict, for the narrowest figure
_REACH = 6.0  # residuals further out than this many sigma leave the panel, and are counted
_IMAGE_SIGMA = 3.5  # ends of the colour scale
_PAIR = (("FGS1", _FGS1), ("AIRS-CH0 white light", _AIRS))


def plot_fit(fit: TransitFit) -> Figure:
    """Draw one planet's fit: one column per visit on the left, spectrum and Allan deviation right.

    Light curves are divided by star and drift. White light of AIRS-CH0 is the mean over
    wavelengths weighted by the inverse variance of their residuals. The figure is 1,600 pixels
    wide for up to two visits and holds no state outside itself; save it with `savefig`.

    Raises:
        DataError: If the fit holds no visit, or a visit has too few times for its residuals.
    """
    if not fit.visits:
        raise DataError(
            f"Planet {fit.planet_id}: the fit holds no visit, so there is nothing to draw. "
            "Run `spectramind fit` again."
        )
    extra = _EXTRA_VISIT_IN * max(0, len(fit.visits) - 2)
    figure = Figure(
        figsize=(_WIDTH_IN + extra, _HEIGHT_IN),
        dpi=_DPI,
        layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.04),
        facecolor="white",
    )
    _title(figure, fit)
    halves = figure.add_gridspec(1, 2, width_ratios=[9.0 + extra, 7.0])
    columns = GridSpecFromSubplotSpec(1, len(fit.visits), halves[0])
    for number, visit in enumerate(fit.visits):
        _draw_visit(figure, columns[number], visit, where=_where(fit, visit), first=number == 0)
    rows = GridSpecFromSubplotSpec(2, 1, halves[1], height_ratios=[1.55, 1.0])
    _draw_spectrum(figure, rows[0], fit)
    _draw_allan(figure.add_subplot(rows[1]), fit)
    return figure


def _title(figure: Figure, fit: TransitFit) -> None:
    """Planet and key numbers; of a fit that is not trusted, every reason in words."""
    count = len(fit.visits)
    fgs1 = f"depth {fit.depth[0] * PPM:,.0f} ppm" if fit.measured[0] else "not measured"
    facts = (
        f"AIRS-CH0 depth {fit.white_depth * PPM:,.0f} ppm, FGS1 {fgs1}, "
        f"reduced chi² {fit.reduced_chi2:.2f}, {count} visit{'s' if count > 1 else ''}"
    )
    verdict = "NOT TRUSTED" if fit.reasons else "trusted"
    lines = [f"Planet {fit.planet_id}: fit {verdict}   ({facts})"]
    if fit.reasons:
        lines += textwrap.wrap("Because: " + " ".join(fit.reasons), _WRAP)
    figure.suptitle(
        "\n".join(lines), x=0.006, ha="left", fontsize=12.5,
        color=_FLAGGED if fit.reasons else _INK, parse_math=False,
    )  # fmt: skip


def _draw_visit(
    figure: Figure, column: SubplotSpec, visit: VisitFit, *, where: str, first: bool
) -> None:
    """Curve and residuals of both channels above the image of all residuals."""
    grid = GridSpecFromSubplotSpec(5, 1, column, height_ratios=[2.6, 1.25, 2.6, 1.25, 3.3])
    panels = [figure.add_subplot(grid[0])]
    panels += [figure.add_subplot(grid[row], sharex=panels[0]) for row in range(1, 5)]
    residual = visit.flux.astype(np.float64) - visit.model
    noise = _noise(residual)
    for number, (name, color) in enumerate(_PAIR):
        weight = _weights(noise, name)
        flux, model = (
            white_light(part.astype(np.float64), weight) for part in (visit.flux, visit.model)
        )
        curve, below = panels[2 * number : 2 * number + 2]
        _draw_curve(curve, visit.time_h, flux, model, name=name, color=color)
        _draw_residual(below, visit.time_h, (flux - model) * PPM, color)
        if first:
            curve.set_ylabel("relative flux")
            below.set_ylabel("residual\n[ppm]")
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
    panels[0].set_title(f"Visit {visit.visit}", loc="left", fontsize=11, fontweight="bold")
    figure.align_ylabels(panels)
    z = residual / np.where(noise > 0.0, noise, np.nan)
    _draw_image(panels[-1], visit.time_h, z, where)
    if first:
        panels[-1].set_ylabel("wavelength [µm]")


def _draw_curve(
    panel: Axes,
    time_h: Float64[np.ndarray, " T"],
    flux: Float64[np.ndarray, " T"],
    model: Float64[np.ndarray, " T"],
    *,
    name: str,
    color: str,
) -> None:
    order = np.argsort(time_h, kind="stable")
    panel.plot(time_h, flux, ".", ms=5.0, color=color, alpha=0.65, mew=0, label=name)
    panel.plot(time_h[order], model[order], color=_INK, lw=1.4, label="model", zorder=3)
    panel.yaxis.set_major_locator(MaxNLocator(4))
    panel.ticklabel_format(axis="y", useOffset=False)
    panel.margins(x=0.01)
    panel.set_title(f"{name}; line: model", loc="right", fontsize=9, color=color, pad=3)
    _plain(panel)


def _draw_residual(
    panel: Axes, time_h: Float64[np.ndarray, " T"], ppm: Float64[np.ndarray, " T"], color: str
) -> None:
    """Residuals within 6 robust sigma; the number of those outside is written into the panel."""
    finite = ppm[np.isfinite(ppm)]
    panel.axhline(0.0, color=_INK, lw=1.0)
    panel.plot(time_h, ppm, ".", ms=5.0, color=color, alpha=0.65, mew=0)
    if finite.size == 0:
        text = "no flux in this channel"
    else:
        sigma = MAD_TO_SIGMA * float(np.median(np.abs(finite)))
        farthest = float(np.abs(finite).max())
        reach = min(farthest, _REACH * sigma) if sigma > 0.0 else farthest
        outside = int(np.sum(np.abs(finite) > reach))
        text = f"rms {np.sqrt(np.mean(finite**2)):.0f} ppm"
        text += f", {outside} outside" if outside else ""
        panel.set_ylim(*(sign * max(1.35 * reach, 1e-3) for sign in (-1.0, 1.0)))
    panel.annotate(
        text, (0.99, 0.97), xycoords="axes fraction", ha="right", va="top", fontsize=8.5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
    )  # fmt: skip
    panel.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    _plain(panel)


def _draw_image(
    panel: Axes, time_h: Float64[np.ndarray, " T"], z: Float64[np.ndarray, "T 283"], where: str
) -> None:
    """AIRS-CH0 residuals over time and wavelength, each wavelength over its own noise."""
    grid, step_s = on_regular_grid(time_h, z[:, 1:], where=where)
    hours = time_h.min() + np.arange(grid.shape[0]) * step_s / 3600.0
    mesh = panel.pcolormesh(
        hours, wavelength_um()[1:], np.ma.masked_invalid(grid.T), cmap="RdBu_r", shading="nearest",
        vmin=-_IMAGE_SIGMA, vmax=_IMAGE_SIGMA, rasterized=True,
    )  # fmt: skip
    panel.set_facecolor("0.75")  # missing bins and wavelengths without flux
    panel.set_xlabel("time [h]")
    panel.tick_params(labelsize=8.5)
    bar = panel.figure.colorbar(
        mesh, ax=panel, orientation="horizontal", extend="both", aspect=45, pad=0.03, fraction=0.06
    )
    bar.set_label("AIRS-CH0 residual [noise of one bin]", fontsize=9)
    bar.ax.tick_params(labelsize=8.5)
    bar.outline.set_visible(False)


def _draw_spectrum(figure: Figure, where: SubplotSpec, fit: TransitFit) -> None:
    """Depths with their 1 sigma band; FGS1 has its own narrow axis with the same scale."""
    grid = GridSpecFromSubplotSpec(1, 2, where, width_ratios=[1.0, 9.0], wspace=0.02)
    fgs1 = figure.add_subplot(grid[0])
    airs = figure.add_subplot(grid[1], sharey=fgs1)
    depth, sigma, um = fit.depth * PPM, fit.sigma * PPM, wavelength_um()
    half_band = 0.5 * (FGS1_BAND_UM[1] - FGS1_BAND_UM[0])
    fgs1.errorbar(
        [FGS1_WAVELENGTH_UM], depth[:1], sigma[:1], xerr=half_band, fmt="D", ms=6, color=_FGS1,
        capsize=3, elinewidth=1.5, label="FGS1", mfc=_FGS1 if fit.measured[0] else "white",
    )  # fmt: skip
    airs.fill_between(um[1:], (depth - sigma)[1:], (depth + sigma)[1:], color=_AIRS, alpha=0.25,
                      lw=0, label="1 sigma")  # fmt: skip
    airs.plot(um[1:], depth[1:], color=_AIRS, lw=1.4, label="AIRS-CH0")
    white = fit.white_depth * PPM
    for panel in (fgs1, airs):
        panel.axhline(white, color=_GREY, lw=1.0, ls="--", zorder=1, label="AIRS-CH0 mean depth")
        _plain(panel)
    fgs1.set_xlim(0.55, 0.85)
    fgs1.set_xticks([FGS1_WAVELENGTH_UM])
    fgs1.set_xlabel("FGS1")
    fgs1.set_ylabel("transit depth (Rp/Rs)² [ppm]")
    fgs1.yaxis.set_major_formatter("{x:,.0f}")
    airs.margins(x=0.01)
    airs.spines["left"].set_visible(False)
    airs.tick_params(axis="y", left=False, labelleft=False)
    airs.set_xlabel("wavelength [µm]")
    verdict = ", flagged" if fit.reasons else ""
    airs.set_title(f"Transmission spectrum{verdict}", loc="left", fontsize=11, fontweight="bold")
    _legend(airs)


def _draw_allan(panel: Axes, fit: TransitFit) -> None:
    """Allan deviation of both white-light curves of each visit beside white noise."""
    styles = ("-", "--", "-.", ":")
    for number, visit in enumerate(fit.visits):
        residual = visit.flux.astype(np.float64) - visit.model
        noise = _noise(residual)
        for name, color in _PAIR:
            white = white_light(residual, _weights(noise, name))[:, None]
            grid, step_s = on_regular_grid(visit.time_h, white, where=_where(fit, visit))
            label = f"{name}, visit {visit.visit}"
            if np.isfinite(grid).any():
                allan = allan_deviation(grid, step_s)
                _draw_deviation(panel, allan, color, styles[number % len(styles)], label)
    panel.plot([], [], color=_GREY, lw=1.0, label="white noise, 1 sigma")
    panel.set_xscale("log")
    panel.set_yscale("log")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("averaging time [min]")
    panel.set_ylabel("Allan deviation [ppm]")
    panel.set_title("Noise against averaging time", loc="left", fontsize=11, fontweight="bold")
    _plain(panel)
    panel.grid(which="minor", color=_GRID, lw=0.4)
    _legend(panel)


def _draw_deviation(
    panel: Axes, allan: AllanDeviation, color: str, style: str, label: str
) -> None:
    minutes = allan.tau_s / 60.0
    white, error = allan.white_ppm[:, 0], allan.white_error_ppm[:, 0]
    lower = np.maximum(white - error, 0.05 * white)  # a logarithmic axis has no zero
    panel.fill_between(minutes, lower, white + error, color=color, alpha=0.10, lw=0)
    panel.plot(minutes, white, color=color, lw=0.8, alpha=0.6)
    panel.plot(minutes, allan.deviation_ppm[:, 0], style, color=color, lw=1.8, label=label)


def _where(fit: TransitFit, visit: VisitFit) -> str:
    return f"Planet {fit.planet_id}, visit {visit.visit}"


def _noise(residual: Float64[np.ndarray, "T 283"]) -> Float64[np.ndarray, " 283"]:
    """Noise of one bin at each wavelength from differences of neighbours; 0 where none is left.

    A wavelength with less than a tenth of the median noise holds no flux, only the shape of
    its model.
    """
    steps = np.abs(np.diff(residual, axis=0))
    finite = [column[np.isfinite(column)] for column in steps.T]
    scale = MAD_TO_SIGMA / np.sqrt(2.0)
    noise = np.array([scale * np.median(part) if part.size else 0.0 for part in finite])
    return np.where(noise >= 0.1 * np.median(noise[1:]), noise, 0.0)


def _weights(noise: Float64[np.ndarray, " 283"], name: str) -> Float64[np.ndarray, " 283"]:
    """Inverse variance of the wavelengths of AIRS-CH0, or FGS1 alone."""
    if name == "FGS1":
        return np.where(np.arange(noise.size) == 0, 1.0, 0.0)
    weight = np.where(noise > 0.0, 1.0 / np.where(noise > 0.0, noise, 1.0) ** 2, 0.0)
    weight[0] = 0.0
    return weight


def _plain(panel: Axes) -> None:
    """Two spines, a quiet grid and small tick labels."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color=_GRID, lw=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8.5)


def _legend(panel: Axes) -> None:
    panel.legend(loc="best", fontsize=8.5, frameon=True, framealpha=0.8, edgecolor="none")
