"""Figures over all judged planets: stages, score, calibration of the error bars, residuals."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from spectramind.diagnose.alerts import CHANNELS, RUN_LIMIT_S
from spectramind.diagnose.evidence import Judged
from spectramind.diagnose.figures import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Figure,
    Table,
    axis,
    band,
    dots,
    layout,
    level_line,
    line,
    short,
    table,
)
from spectramind.diagnose.reliability import (
    coverage_envelope,
    covered,
    gaussian_coverage,
    interval_quality,
    pit_envelope,
    pit_histogram,
    z2_envelope,
)
from spectramind.diagnose.residuals import (
    ResidualPower,
    binned_correlation,
    neighbour_correlation,
    rms_error,
)
from spectramind.diagnose.scorecard import Score

_ENVELOPE = 0.95
_PIT_BINS = 10
_CORRELATION_BINS = 47
_LEVEL_COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
_PPM = 1e6


def stage_figure(seconds: Mapping[str, float]) -> Figure:
    """Run time of each stage beside the limit of a challenge run."""
    names, values = [*seconds], [*seconds.values()]
    total = sum(values)
    slowest = max(seconds, key=lambda name: seconds[name])
    finding = (
        f"The stages took {total:.0f} s together, {total / RUN_LIMIT_S:.1%} of the 9 h a "
        f"challenge run may take; {slowest} is the longest with {seconds[slowest]:.0f} s."
    )
    bars = {
        "type": "bar", "orientation": "h", "y": names, "x": short(values), "name": "stage",
        "marker": {"color": BLUE}, "text": [f"{value:.0f} s" for value in values],
        "textposition": "auto",
    }  # fmt: skip
    limit = {
        "type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": RUN_LIMIT_S, "x1": RUN_LIMIT_S,
        "line": {"color": VERMILION, "width": 2, "dash": "dash"},
        "label": {"text": "9 h limit", "font": {"color": VERMILION, "size": 11}},
    }  # fmt: skip
    shape = layout("seconds", "", height=120 + 34 * len(names), shapes=[limit])
    shape["xaxis"]["type"] = "log"
    shape["yaxis"]["autorange"] = "reversed"
    rows = table(("stage", "seconds"), names, values)
    return Figure(
        "001", "Run time of each stage", finding, rows, {"data": [bars], "layout": shape}
    )


def score_figure(scores: Mapping[str, Score], number: str = "201") -> Figure:
    """Total, FGS1 and AIRS-CH0 score of each estimator, between naive (0) and ideal (1)."""
    groups = ("total", "FGS1", "AIRS-CH0")
    values = {name: (item.total, item.fgs1, item.airs) for name, item in scores.items()}
    data = [
        {
            "type": "bar", "name": name, "x": groups, "y": short(values[name]),
            "marker": {"color": color}, "text": [f"{value:.3f}" for value in values[name]],
            "textposition": "auto",
        }
        for name, color in zip(values, _LEVEL_COLORS, strict=False)
    ]  # fmt: skip
    shapes = [level_line(0.0, "naive guess 0"), level_line(1.0, "ideal 1")]
    names = ["naive guess", *values, "ideal"]
    columns = zip((0.0,) * 3, *values.values(), (1.0,) * 3, strict=True)
    rows = table(("estimator", *groups), names, *columns)
    parts = [
        f"{name} scores {v[0]:.4f} (FGS1 {v[1]:.3f}, AIRS-CH0 {v[2]:.3f})"
        for name, v in values.items()
    ]
    finding = (
        "; ".join(parts) + ". The mean of the training labels scores 0, an ideal prediction 1."
    )
    lowest = min(0.0, *(min(value) for value in values.values()))
    shape = layout("", "score", shapes=shapes, barmode="group",
                   yaxis={"range": [1.1 * lowest, 1.12]})  # fmt: skip
    title = f"Score by the metric of {next(iter(scores.values())).year}"
    return Figure(number, title, finding, rows, {"data": data, "layout": shape})


def planet_score_figure(judged: Judged, v50: Score) -> Figure:
    """Score of each planet, sorted."""
    order = np.argsort(v50.planets, kind="stable")
    planets, values = judged.planet_ids[order], v50.planets[order]
    below = int(np.sum(values < 0.0))
    finding = (
        f"Planet {int(planets[0])} is the worst with {values[0]:.3f}, planet {int(planets[-1])} "
        f"the best with {values[-1]:.3f}, the median is {np.median(values):.3f}; {below} of "
        f"{len(values)} planets are worse than the naive guess."
    )
    names = [str(planet) for planet in planets]
    rank = list(range(1, len(values) + 1))
    data = [dots(rank, short(values), "planet", BLUE, text=names, hoverinfo="text+y")]
    shape = layout(
        "rank, worst first", "score of one planet", shapes=[level_line(0.0, "naive guess")]
    )
    rows = table(("rank", "planet", "score"), rank, names, values)
    return Figure("202", "Score of each planet", finding, rows, {"data": data, "layout": shape})


def coverage_figure(judged: Judged, others: Mapping[str, np.ndarray]) -> Figure:
    """Observed coverage against the wanted level, with the envelope over planets.

    Args:
        judged: The planets judged.
        others: Normalised residuals of other posteriors, drawn for comparison.
    """
    levels = np.arange(0.05, 0.96, 0.05)
    ours = gaussian_coverage(judged.z, levels)
    envelope = [
        coverage_envelope(
            judged.planets, float(level), calibration_planets=None, probability=_ENVELOPE
        )
        for level in levels
    ]
    low, high = np.array(envelope).T
    x = short(levels)
    data = [
        band(x, short(low), short(high), "95% envelope over planets", SKY, 0.3),
        line([0, 1], [0, 1], "perfect", INK, dash="dot"),
        line(x, short(ours), "V50 posterior", BLUE),
    ]
    comparison = {name: gaussian_coverage(z, levels) for name, z in others.items()}
    for (name, values), color in zip(comparison.items(), (ORANGE, GREEN), strict=False):
        data.append(line(x, short(values), name, color, dash="dash"))
    published = {
        level: float(covered(judged.depth, *bounds).mean())
        for level, bounds in judged.intervals.items()
    }
    name = f"{judged.interval_method} intervals"
    data.append(
        dots([*published], short([*published.values()]), name, VERMILION, symbol="diamond")
    )
    said = ", ".join(f"{share:.1%} at {100 * level:g}%" for level, share in published.items())
    outside = int(np.sum((ours < low) | (ours > high)))
    finding = (
        f"{judged.interval_method} intervals hold {said} of the truth ({judged.planets} "
        f"{judged.name}); the posterior leaves the 95% envelope at {outside} of "
        f"{len(levels)} levels."
    )
    columns = ("level", "V50 posterior", *comparison, "envelope low", "envelope high")
    rows = table(columns, levels, ours, *comparison.values(), low, high)
    shape = layout("wanted coverage", "observed coverage", height=440, xaxis={"range": [0, 1]},
                   yaxis={"range": [0, 1.02]})  # fmt: skip
    return Figure("401", "Coverage against level", finding, rows, {"data": data, "layout": shape})


def wavelength_coverage_figure(judged: Judged, wavelength_um: np.ndarray) -> Figure:
    """Coverage of the published intervals at each wavelength, with the envelope over planets."""
    um = short(wavelength_um)
    data, columns, parts = [], {}, []
    for (level, bounds), color in zip(judged.intervals.items(), _LEVEL_COLORS, strict=False):
        share = covered(judged.depth, *bounds).mean(0)
        low, high = coverage_envelope(
            judged.planets, level, calibration_planets=judged.calibration_planets,
            probability=_ENVELOPE,
        )  # fmt: skip
        ends = [um[0], um[-1]]
        data.append(
            band(ends, [low] * 2, [high] * 2, f"95% envelope, {100 * level:g}%", color, 0.12)
        )
        data.append(dots(um, short(share), f"{100 * level:g}% intervals", color))
        columns[f"coverage at {100 * level:g}%"] = share
        outside = int(np.sum((share < low - 1e-9) | (share > high + 1e-9)))
        parts.append(
            f"{outside} of {len(share)} wavelengths lie outside the envelope at {100 * level:g}%"
        )
    finding = f"{' and '.join(parts)} (at most 5% expected by chance, in runs of neighbours)."
    shape = layout("wavelength [µm]", "observed coverage", yaxis={"range": [-0.02, 1.04]})
    rows = table(("wavelength [µm]", *columns), wavelength_um, *columns.values())
    return Figure(
        "402", "Coverage at each wavelength", finding, rows, {"data": data, "layout": shape}
    )


def pit_figure(judged: Judged) -> Figure:
    """Histogram of Phi(z); flat when calibrated, U-shaped when sigma is too small."""
    low, high = pit_envelope(judged.planets, _PIT_BINS, _ENVELOPE)
    centres = (np.arange(_PIT_BINS) + 0.5) / _PIT_BINS
    shares = {name: pit_histogram(judged.z[:, part], _PIT_BINS) for name, part in CHANNELS}
    data = [band([0.0, 1.0], [low] * 2, [high] * 2, "95% envelope over planets", SKY, 0.3)]
    for (name, share), color in zip(shares.items(), (PURPLE, BLUE), strict=True):
        data.append({"type": "bar", "x": short(centres), "y": short(share), "name": name,
                     "marker": {"color": color}})  # fmt: skip
    outer = {name: float(share[0] + share[-1]) for name, share in shares.items()}
    finding = (
        f"The two outer bins hold {outer['FGS1']:.1%} of FGS1 and {outer['AIRS-CH0']:.1%} of "
        f"AIRS-CH0 values, {2 / _PIT_BINS:.0%} when calibrated; more means that sigma is "
        "too small or mu biased, less that sigma is too large."
    )
    shape = layout("probability integral transform", "share of values", barmode="group",
                   shapes=[level_line(1 / _PIT_BINS, "calibrated")])  # fmt: skip
    rows = table(("bin centre", *shares), centres, *shares.values())
    return Figure("403", "Probability integral transform", finding, rows,
                  {"data": data, "layout": shape})  # fmt: skip


def z2_figure(judged: Judged, wavelength_um: np.ndarray) -> Figure:
    """Mean z^2 at each wavelength; 1 when sigma is right."""
    values = (judged.z**2).mean(0)
    low, high = z2_envelope(judged.planets, _ENVELOPE)
    um = short(wavelength_um)
    data = [
        band([um[0], um[-1]], [low] * 2, [high] * 2, "95% envelope over planets", SKY, 0.3),
        dots(um, short(values), "mean z²", BLUE),
    ]
    finding = (
        f"Mean z² is {values[0]:.2f} for FGS1 and {values[1:].mean():.2f} for AIRS-CH0, 1 when "
        f"right; {int(np.sum((values < low) | (values > high)))} of {len(values)} wavelengths lie "
        f"outside the 95% envelope {low:.2f} to {high:.2f} of {judged.planets} planets."
    )
    shape = layout("wavelength [µm]", "mean z²", shapes=[level_line(1.0, "right")])
    shape["yaxis"]["type"] = "log"
    rows = table(("wavelength [µm]", "mean z²"), wavelength_um, values)
    return Figure("404", "Size of the errors against sigma", finding, rows,
                  {"data": data, "layout": shape})  # fmt: skip


def width_figure(judged: Judged, wavelength_um: np.ndarray) -> Figure:
    """Median width of the published intervals at each wavelength."""
    widths = {
        f"{100 * level:g}% interval [ppm]": np.median(upper - lower, axis=0) * _PPM
        for level, (lower, upper) in judged.intervals.items()
    }
    um = short(wavelength_um)
    data = [
        dots(um, short(width), name, color)
        for (name, width), color in zip(widths.items(), _LEVEL_COLORS, strict=False)
    ]
    parts = [
        f"{name.split()[0]}: {width[0]:.0f} ppm at FGS1, {np.median(width[1:]):.0f} at AIRS-CH0"
        for name, width in widths.items()
    ]
    finding = f"Median full width over {judged.planets} planets: {'; '.join(parts)}."
    shape = layout("wavelength [µm]", "full width [ppm]")
    rows = table(("wavelength [µm]", *widths), wavelength_um, *widths.values())
    return Figure("405", "Width of the intervals", finding, rows, {"data": data, "layout": shape})


def quality_table(judged: Judged) -> Table:
    """Coverage, width and Winkler score by channel and level."""
    items = [
        interval_quality(name, level, judged.depth[:, part], lower[:, part], upper[:, part])
        for level, (lower, upper) in judged.intervals.items()
        for name, part in (*CHANNELS, ("all", slice(None)))
    ]
    return table(
        ("channel", "level", "coverage", "coverage - level", "mean width [ppm]", "Winkler [ppm]"),
        [item.channel for item in items],
        [item.level for item in items],
        [item.coverage for item in items],
        [item.coverage - item.level for item in items],
        [item.width * _PPM for item in items],
        [item.winkler * _PPM for item in items],
    )


def power_figure(power: ResidualPower, planets: int) -> Figure:
    """Power spectrum of the residuals over wavelength, with the white-noise line."""
    x = short(power.frequency)
    data = [
        line(x, short(power.power), "residuals", BLUE),
    ]
    above = int(np.sum(power.power > power.white_95))
    finding = (
        f"The highest power is {power.power.max():.1f} times white noise, at a period of "
        f"{power.strongest_period:.0f} channels; {above} of {len(x)} frequencies exceed the 95% "
        f"line, about {0.05 * len(x):.0f} expected of white residuals."
    )
    shapes = [level_line(1.0, "white noise"), level_line(power.white_95, "95%", VERMILION)]
    shape = layout("frequency [cycles/channel]", "power / white noise", shapes=shapes)
    shape["yaxis"]["type"] = "log"
    rows = table(
        ("frequency [cycles/channel]", "power / white noise"), power.frequency, power.power
    )
    title = f"Power spectrum of the AIRS-CH0 residuals ({planets} planets)"
    return Figure("501", title, finding, rows, {"data": data, "layout": shape})


def correlation_figure(judged: Judged, wavelength_um: np.ndarray) -> Figure:
    """Correlation of the residuals between bins of wavelengths, over planets."""
    wavelengths = len(wavelength_um)
    edges = np.unique(np.linspace(1, wavelengths, _CORRELATION_BINS + 1).round().astype(np.int64))
    edges = np.concatenate([[0], edges])
    matrix = binned_correlation(judged.z, edges)
    centres = [f"{np.mean(wavelength_um[a:b]):.2f}" for a, b in pairwise(edges)]
    heat = {
        "type": "heatmap", "x": centres, "y": centres, "z": np.round(matrix, 3).tolist(),
        "zmin": -1, "zmax": 1, "colorscale": [[0, BLUE], [0.5, "#F5F5F5"], [1, VERMILION]],
        "colorbar": {"title": {"text": "correlation"}},
    }  # fmt: skip
    near = neighbour_correlation(judged.z[:, 1:], 1)
    far = neighbour_correlation(judged.z[:, 1:], (wavelengths - 1) // 4)
    finding = (
        f"Residuals of neighbouring AIRS-CH0 channels correlate by {near:+.2f}, those a quarter "
        f"of the band apart by {far:+.2f}; chance alone gives single cells about "
        f"±{1 / np.sqrt(judged.planets):.2f} with {judged.planets} planets."
    )
    shape = layout("wavelength [µm]", "wavelength [µm]", height=520)
    shape["xaxis"] = axis("wavelength [µm]", type="category", nticks=12)
    shape["yaxis"] = axis("wavelength [µm]", type="category", nticks=12)
    rows = table(("wavelength [µm]", *centres), centres, *matrix)
    return Figure(
        "502", "Correlation of residuals", finding, rows, {"data": [heat], "layout": shape}
    )


def error_figure(judged: Judged, wavelength_um: np.ndarray) -> Figure:
    """True error beside the claimed one at each wavelength."""
    true = rms_error(judged.depth, judged.mu) * _PPM
    claimed = np.sqrt((judged.sigma**2).mean(0)) * _PPM
    um = short(wavelength_um)
    data = [
        dots(um, short(true), "true rms error", VERMILION),
        dots(um, short(claimed), "claimed rms sigma", BLUE, symbol="diamond"),
    ]
    finding = (
        f"FGS1 errs by {true[0]:.0f} ppm rms and claims {claimed[0]:.0f}; AIRS-CH0 errs by "
        f"{np.median(true[1:]):.0f} and claims {np.median(claimed[1:]):.0f} ppm (medians over "
        "wavelength)."
    )
    shape = layout("wavelength [µm]", "error [ppm]")
    shape["yaxis"]["type"] = "log"
    rows = table(("wavelength [µm]", "true rms error [ppm]", "claimed rms sigma [ppm]"),
                 wavelength_um, true, claimed)  # fmt: skip
    return Figure("503", "True and claimed error", finding, rows, {"data": data, "layout": shape})
