"""Spectra and light curves of single planets, for the page and as a picture."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from spectramind.diagnose.evidence import Evidence, arrays
from spectramind.diagnose.figures import (
    BLUE,
    INK,
    ORANGE,
    PURPLE,
    VERMILION,
    Figure,
    Plot,
    axis,
    band,
    dots,
    layout,
    line,
    short,
    table,
    thinned,
)
from spectramind.files import write_atomic
from spectramind.observation import TransitFit, VisitFit

PPM = 1e6
_PICTURE_PLANETS = 3


def ranked(quality: Float64[np.ndarray, " B"], planets: int) -> Int[np.ndarray, " P"]:
    """Rows of planets spread from the worst over the median to the best."""
    order = np.argsort(quality, kind="stable")
    total, count = len(order), min(planets, len(order))
    middle = total // 2
    if count == 1:
        picks = np.array([middle])
    elif count == 2:
        picks = np.array([0, total - 1])
    else:
        lower = np.linspace(0, middle, count // 2 + 1)
        upper = np.linspace(middle, total - 1, count - count // 2)
        picks = np.unique(np.concatenate([lower, upper]).round())
    return order[picks.astype(np.int64)]


def spectrum_figure(evidence: Evidence, row: int, number: str, rank: str) -> Figure:
    """Truth, V50 with its intervals, and the transit fit of one planet."""
    mu, sigma = arrays(evidence.predicted)
    fit_mu, fit_sigma = arrays(evidence.fit)
    values = {
        "V50 [ppm]": mu[row] * PPM,
        "V50 sigma [ppm]": sigma[row] * PPM,
        "fit [ppm]": fit_mu[row] * PPM,
        "fit sigma [ppm]": fit_sigma[row] * PPM,
    }
    for level, (lower, upper) in evidence.intervals.items():
        values[f"{100 * level:g}% lower [ppm]"] = lower[row].double().numpy() * PPM
        values[f"{100 * level:g}% upper [ppm]"] = upper[row].double().numpy() * PPM
    truth = None if evidence.truth is None else evidence.truth.depth[row] * PPM
    if truth is not None:
        values["truth [ppm]"] = truth
    columns = ("wavelength [µm]", *values)
    plot = {
        "data": _spectrum_traces(evidence, values, truth),
        "layout": layout(
            "", "transit depth (Rp/Rs)² [ppm]", height=420,
            yaxis={"tickformat": "d"},
            xaxis={"domain": [0, 0.08], "tickvals": [0.7], "ticktext": ["FGS1<br>0.7"]},
            xaxis2=axis("wavelength [µm]", domain=[0.1, 1.0], anchor="y"),
        ),
    }  # fmt: skip
    planet = int(evidence.planet_ids[row])
    finding = _spectrum_finding(values, truth, rank, planet) + _unseen(evidence.fits, planet)
    return Figure(
        number,
        f"Planet {planet}",
        finding,
        table(columns, evidence.wavelength_um, *values.values()),
        plot,
    )


def _spectrum_finding(
    values: dict[str, np.ndarray], truth: np.ndarray | None, rank: str, planet: int
) -> str:
    sigma = float(np.median(values["V50 sigma [ppm]"][1:]))
    start = f"Planet {planet}, {rank}: median AIRS-CH0 sigma {sigma:.0f} ppm"
    if truth is None:
        shift = values["V50 [ppm]"] - values["fit [ppm]"]
        move = float(np.sqrt(np.mean(shift[1:] ** 2)))
        return f"{start}; V50 moves the transit fit by {move:.0f} ppm rms. Its truth is not known."
    errors = [float(np.sqrt(np.mean((values[name] - truth) ** 2)))
              for name in ("V50 [ppm]", "fit [ppm]")]  # fmt: skip
    return (
        f"{start}, true error {errors[0]:.0f} ppm rms; the transit fit alone errs by "
        f"{errors[1]:.0f} ppm."
    )


def _unseen(fits: Sequence[TransitFit], planet: int) -> str:
    """A sentence on wavelengths without light curves; empty where all have some."""
    measured = next((fit.measured for fit in fits if fit.planet_id == planet), None)
    if measured is None or measured.all():
        return ""
    among = "" if measured[0] else ", FGS1 among them"
    return (
        f" {np.count_nonzero(~measured)} of {measured.size} wavelengths were not measured{among}: "
        "their depths follow from the others."
    )


def _spectrum_traces(
    evidence: Evidence, values: dict[str, np.ndarray], truth: np.ndarray | None
) -> list[Plot]:
    um = short(evidence.wavelength_um[1:])
    traces: list[Plot] = [
        dots(um, short(values["fit [ppm]"][1:]), "transit fit", ORANGE, xaxis="x2", opacity=0.55)
    ]
    traces[0]["marker"]["size"] = 4
    for index, level in enumerate(sorted(evidence.intervals, reverse=True)):
        lower = short(values[f"{100 * level:g}% lower [ppm]"][1:])
        upper = short(values[f"{100 * level:g}% upper [ppm]"][1:])
        opacity = 0.18 + 0.17 * index
        traces.append(
            {**band(um, lower, upper, f"{100 * level:g}% interval", BLUE, opacity), "xaxis": "x2"}
        )
    traces.append(line(um, short(values["V50 [ppm]"][1:]), "V50", BLUE, xaxis="x2"))
    if truth is not None:
        traces.append(line(um, short(truth[1:]), "truth", INK, dash="dot", xaxis="x2"))
    return traces + _fgs1_traces(values, truth)


def _fgs1_traces(values: dict[str, np.ndarray], truth: np.ndarray | None) -> list[Plot]:
    def point(name: str, label: str, color: str, x: float, symbol: str) -> Plot:
        error = {"type": "data", "array": short(values[f"{name} sigma [ppm]"][:1]), "width": 3}
        y = short(values[f"{name} [ppm]"][:1])
        return dots([x], y, label, color, symbol=symbol, error_y=error, showlegend=False)

    traces = [
        point("fit", "transit fit, FGS1", ORANGE, 0.67, "circle"),
        point("V50", "V50, FGS1", BLUE, 0.7, "diamond"),
    ]
    if truth is not None:
        x, y = [0.73], short(truth[:1])
        traces.append(dots(x, y, "truth, FGS1", INK, symbol="x", showlegend=False))
    return traces


def light_curve_figure(fit: TransitFit, number: str) -> Figure:
    """White light curves of the first visit of one planet, with the fitted transit."""
    visit = fit.visits[0]
    lit = np.append(False, np.isfinite(visit.flux[:, 1:]).any(axis=0))
    airs, airs_model = visit.flux[:, lit].mean(1), visit.model[:, lit].mean(1)
    keep = thinned(len(airs))
    time = short(visit.time_h[keep])
    data = [
        dots(time, short(airs[keep], 7), "AIRS-CH0", BLUE, opacity=0.6),
        line(time, short(airs_model[keep], 7), "AIRS-CH0 model", INK),
    ]
    columns: list[list[Any]] = [
        ["AIRS-CH0"] * len(time), [*time], [*airs[keep]], [*airs_model[keep]],
    ]  # fmt: skip
    if len(visit.fgs1_flux):
        keep = thinned(len(visit.fgs1_flux))
        flux, model = visit.fgs1_flux[keep], visit.fgs1_model[keep]
        shift = float(1.5 * (1.0 - min(airs_model.min(), visit.fgs1_model.min()))) + 0.002
        time = short(visit.fgs1_time_h[keep])
        data += [
            dots(time, short(flux - shift, 7), "FGS1, shifted", PURPLE, opacity=0.5),
            line(time, short(model - shift, 7), "FGS1 model", VERMILION),
        ]
        for column, more in zip(columns, (["FGS1"] * len(time), time, flux, model), strict=True):
            column.extend(more)
    rows = table(("channel", "time [h]", "flux", "model"), *columns)
    plot = {"data": data, "layout": layout("time [h]", "flux / star and baseline")}
    finding = _light_curve_finding(fit, visit, airs - airs_model)
    return Figure(number, f"Light curve of planet {fit.planet_id}", finding, rows, plot)


def _light_curve_finding(fit: TransitFit, visit: VisitFit, residual: Any) -> str:  # noqa: ANN401
    scatter = float(np.std(residual)) * PPM
    without = "" if len(visit.fgs1_flux) else "; FGS1 was not measured"
    verdict = "; ".join(fit.reasons) if fit.reasons else "trusted"
    return (
        f"Planet {fit.planet_id}, visit {visit.visit} of {len(fit.visits)}: the AIRS-CH0 white "
        f"light curve scatters by {scatter:.0f} ppm per bin about the fitted transit of "
        f"{fit.white_depth * PPM:.0f} ppm; reduced chi² {fit.reduced_chi2:.2f}{without}; verdict "
        f"of the fit: {verdict}."
    )


def write_picture(evidence: Evidence, rows: Int[np.ndarray, " P"], path: Path) -> None:
    """Draw a few spectra with truth, transit fit and V50 error bars, as PNG, atomically."""
    picks = rows[
        np.linspace(0, len(rows) - 1, min(_PICTURE_PLANETS, len(rows))).round().astype(int)
    ]
    canvas = Canvas(figsize=(10, 2.9 * len(picks) + 0.7), layout="constrained", facecolor="white")
    grid = canvas.subplots(len(picks), 2, squeeze=False, sharey="row", width_ratios=[1, 13])
    for (fgs1, airs), row in zip(grid, picks, strict=True):
        _draw_planet(evidence, int(row), fgs1, airs)
    grid[0, 1].legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, frameon=False)
    grid[-1, 1].set_xlabel("wavelength [µm]")
    canvas.supylabel("transit depth (Rp/Rs)² [ppm]", fontsize=11)
    content = io.BytesIO()
    canvas.savefig(content, format="png", dpi=150, metadata={"Software": None})
    write_atomic(path, content.getvalue())


def _draw_planet(evidence: Evidence, row: int, fgs1: Axes, airs: Axes) -> None:
    (mu, sigma), (fit_mu, fit_sigma) = arrays(evidence.predicted), arrays(evidence.fit)
    um = evidence.wavelength_um
    for panel, part in ((fgs1, slice(0, 1)), (airs, slice(1, None))):
        x = um[part]
        style = {"fmt": "o", "ms": 2.2, "lw": 0.7, "color": ORANGE, "alpha": 0.45}
        panel.errorbar(x, fit_mu[row, part] * PPM, fit_sigma[row, part] * PPM,
                       label="transit fit, 1 sigma", **style)  # fmt: skip
        if evidence.truth is not None:
            panel.plot(x, evidence.truth.depth[row, part] * PPM, color="black", lw=1.3,
                       marker="x" if panel is fgs1 else None, label="truth", zorder=4)  # fmt: skip
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="0.9", lw=0.6)
    middle, reach = mu[row] * PPM, sigma[row] * PPM
    fgs1.errorbar(um[:1] + 0.02, middle[:1], reach[:1], fmt="D", ms=4, color=BLUE, capsize=3)
    airs.fill_between(um[1:], (middle - reach)[1:], (middle + reach)[1:], color=BLUE, alpha=0.3,
                      lw=0, label="V50, 1 sigma", zorder=3)  # fmt: skip
    airs.plot(um[1:], middle[1:], color=BLUE, lw=1.3, label="V50", zorder=5)
    fgs1.set_xticks([0.7])
    fgs1.set_xlim(0.6, 0.8)
    airs.margins(x=0.01)
    airs.spines["left"].set_visible(False)
    airs.tick_params(left=False)
    airs.set_title(f"planet {int(evidence.planet_ids[row])}", loc="right", fontsize=10)
