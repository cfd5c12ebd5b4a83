"""When a fit is not to be trusted: sentences for people, and a wider sigma."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from spectramind.observation import Star
from spectramind.transit.binning import BinnedVisit
from spectramind.transit.combine import Combined
from spectramind.transit.settings import FailureConfig
from spectramind.transit.white import LIMB, ORBIT, WhiteFit

_IN_TRANSIT = 1e-9  # hidden share above which a bin is in transit
_NO_TRANSIT = "no transit found"


def judge(
    white: WhiteFit,
    visits: Sequence[BinnedVisit],
    combined: Combined,
    star: Star | None,
    config: FailureConfig,
) -> tuple[str, ...]:
    """What speaks against a fit, one sentence each; empty for a trusted one."""
    reasons = [
        *_depth_reasons(combined, config),
        *_fit_reasons(white, config),
        *_visit_reasons(white, visits, config),
    ]
    if star is not None:
        reasons += _tension_reasons(white, config)
    for channel, sigma in zip(("FGS1", "AIRS-CH0"), combined.disagreement, strict=True):
        if sigma > config.disagreement_sigma:
            reasons.append(f"{channel}: the visits' depths differ by {sigma:.1f} sigma.")
    return tuple(reasons)


def widened(
    sigma: Float64[np.ndarray, " 283"], reasons: Sequence[str], config: FailureConfig
) -> Float64[np.ndarray, " 283"]:
    """Sigma of a fit with these reasons against it."""
    if not reasons:
        return sigma
    wide = sigma * config.inflation
    if any(_NO_TRANSIT in reason for reason in reasons):
        return np.maximum(wide, config.depth_scatter)
    return wide


def _depth_reasons(combined: Combined, config: FailureConfig) -> list[str]:
    weight = combined.sigma[1:] ** -2.0
    airs = float(weight @ combined.depth[1:] / weight.sum())
    found = zip(
        ("FGS1", "AIRS-CH0"), (float(combined.depth[0]), airs), combined.level_sigma, strict=True
    )
    return [
        f"{channel}: {_NO_TRANSIT}, depth {1e6 * depth:.0f} +- {1e6 * sigma:.0f} ppm."
        for channel, depth, sigma in found
        if not depth > config.snr * sigma
    ]


def _fit_reasons(white: WhiteFit, config: FailureConfig) -> list[str]:
    reasons = [f"{name} ended at the bound of its range." for name in white.bounded]
    if not white.reduced_chi2 <= config.chi2:
        reasons.append(
            f"White light: reduced chi^2 is {white.reduced_chi2:.1f}, above {config.chi2:g}."
        )
    return reasons


def _visit_reasons(
    white: WhiteFit, visits: Sequence[BinnedVisit], config: FailureConfig
) -> list[str]:
    reasons = []
    for number, series in enumerate(white.series):
        where = f"Visit {visits[number // 2].visit}, {('FGS1', 'AIRS-CH0')[number % 2]}"
        inside = white.hidden(series, series.time_h) > _IN_TRANSIT
        counts = int(np.sum(inside & series.used)), int(np.sum(~inside & series.used))
        if min(counts) < config.bins:
            reasons.append(f"{where}: {counts[0]} bins in transit and {counts[1]} outside.")
        rejected = 1.0 - float(series.used.mean())
        if rejected > config.rejected_share:
            reasons.append(f"{where}: {100.0 * rejected:.0f} % of the bins rejected as outliers.")
    for visit in visits:
        dark = int(np.sum(~visit.lit))
        if dark:
            reasons.append(f"Visit {visit.visit}: {dark} wavelengths of AIRS-CH0 hold no flux.")
    return reasons


def _tension_reasons(white: WhiteFit, config: FailureConfig) -> list[str]:
    reasons = []
    names = [*ORBIT, *LIMB]
    for number, name in enumerate(names):
        centre, scatter = white.prior.centre[number], white.prior.scatter[number]
        value = white.value(name)
        value = abs(value) if name == "impact_parameter" else value  # b and -b are one orbit
        if abs(value - centre) > config.tension_sigma * scatter:
            reasons.append(
                f"{name} is {value:.4g}, expected {centre:.4g} +- {scatter:.2g} for this star."
            )
    return reasons
