"""What speaks against a fit: sentences for people, and a sigma that grows with it."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from jaxtyping import Bool, Float64

from spectramind.observation import TransitFit
from spectramind.transit.binning import BinnedVisit
from spectramind.transit.metrics import red_noise_ratio
from spectramind.transit.parameters import ORBIT
from spectramind.transit.settings import FailureConfig
from spectramind.transit.shared_prior import Guess

_GONE = 2.0  # spectrum's mean depth below this many sigma: noise in time explains the dip
_GUESSED = (
    "No visit shows enough of the star both in and out of transit, and no table tells the orbit, "
    "so the depth is a guess."
)
_UNSURE = (
    "The orbit may be so small that the transit outlasts every visit, and the dip that was found "
    "is weak, so the depth is a guess."
)
_STRONG = 4.0  # times `snr`: a depth of so many sigma shows by itself where its transit ends
_LIT_SHARE = 0.5  # of the measured wavelengths that should hold flux
_NAMES = (
    "ln period", "ln semi-major axis", "squared impact parameter", "u1 of FGS1", "u2 of FGS1",
    "u1 of AIRS-CH0", "u2 of AIRS-CH0", "colour of u1", "colour of u2",
)  # fmt: skip
_CHANNELS = ("FGS1", "AIRS-CH0")


@dataclass(frozen=True, eq=False)
class Findings:
    """What is judged of one planet, its visits in order."""

    depth: tuple[float, float]  # white light of FGS1 and AIRS-CH0, by their own light alone
    depth_sigma: tuple[float, float]
    mean: tuple[float, float]  # AIRS-CH0 mean of the spectrum, and its error
    hidden_share: float  # of the information on that mean, taken by noise in time
    fixed: Float64[np.ndarray, " 9"]  # orbit and limb darkening minus prior mean, over scatter
    offset_sigma: Float64[np.ndarray, "V 2"]  # disagreement of a visit's depth [sigma]
    prior_sigma: float  # light from what the prior over spectra expects; 0 without prior
    amplitude_sigma: float  # ln amplitude minus its expectation, over scatter; 0 without prior
    change_ppm: float  # of the spectrum in the last pass
    white: Float64[np.ndarray, "V 2 T"]  # left by noise in time, over white noise; NaN: unused
    inside: Bool[np.ndarray, "V 2 T"]  # bins in transit
    sure_bins: int  # of AIRS-CH0 out of transit even on a smaller orbit, in the best visit


def judge(
    found: Findings, visits: Sequence[BinnedVisit], *, known: bool, config: FailureConfig,
    settled_ppm: float,
) -> tuple[str, ...]:  # fmt: skip
    """What speaks against a fit, one sentence each; empty for a trusted one.

    Args:
        found: The fit.
        visits: Its light curves.
        known: Whether the star is in the table, whose values then are evidence.
        config: Section `transit.failure`.
        settled_ppm: Largest change of the spectrum in the last pass [ppm].
    """
    reasons = _depth_reasons(found, visits, config)
    reasons += _visit_reasons(found, visits, config)
    if not known and _guessed(found, visits, config):
        reasons.append(_GUESSED)
    elif _unsure(found, visits, config):
        reasons.append(_UNSURE)
    if found.change_ppm > settled_ppm:
        reasons.append(f"The last pass still changed the spectrum by {found.change_ppm:.0f} ppm.")
    if known:
        reasons += [
            f"{name} lies {abs(distance):.1f} sigma from what the star's table suggests."
            for name, distance in zip(_NAMES, found.fixed, strict=True)
            if abs(distance) > config.tension_sigma
        ]
    if abs(found.amplitude_sigma) > config.tension_sigma:
        reasons.append(
            f"The spectrum's amplitude lies {found.amplitude_sigma:+.1f} sigma from the expected."
        )
    if found.prior_sigma > config.tension_sigma:
        reasons.append(
            "The spectrum has shapes that the prior over spectra does not know: the light lies "
            f"{found.prior_sigma:.1f} sigma from it."
        )
    return tuple(reasons)


def contradicts_table(found: Findings, config: FailureConfig) -> bool:
    """Whether the orbit lies too far from the star table's for both to be right."""
    return bool(np.abs(found.fixed[:ORBIT]).max() > config.tension_sigma)


def table_sentence(guess: Guess, fit: TransitFit) -> str:
    """What to say of a planet that was fitted without its row of the star table."""
    orbit = zip(("P", "a/Rs", "b"), astuple(guess)[1:4], fit.parameters[:ORBIT], strict=True)
    parts = [f"{name} {table:.3g} there, {own:.3g} here" for name, table, own in orbit]
    return f"The light curves contradict the star table's orbit ({', '.join(parts)})."


def widening(found: Findings, *, known: bool, config: FailureConfig) -> tuple[float, float]:
    """Factors on sigma of FGS1 and of AIRS-CH0; 1 where nothing speaks against the fit.

    Residuals beyond the noise in time that are too large, or correlated in time, widen the
    channel that has them. The distance of a parameter, a visit or the amplitude from its prior
    widens both, from `tolerated_sigma` on in proportion. Nothing of it has a step.

    Args:
        found: The fit.
        known: Whether the star is in the table, whose values then are evidence.
        config: Section `transit.failure`.
    """
    distances = [abs(found.amplitude_sigma), *np.abs(found.offset_sigma).ravel()]
    if known:
        distances += np.abs(found.fixed).tolist()
    tension = max(max(distances) / config.tolerated_sigma, 1.0)
    fgs1, airs = (_misfit(found.white[:, channel], config) for channel in range(2))
    return tension * fgs1, tension * airs


def level_error(found: Findings, reasons: Sequence[str], config: FailureConfig) -> float:
    """What all depths may be off together, beyond their covariance [(Rp/Rs)^2].

    The last change of the spectrum; where no transit was found, the scatter of depths; and where
    noise in time takes part of the information, some of the level's own error again: kernels and
    their amplitudes are not known as well as the covariance has it.
    """
    hidden = config.hidden_noise * found.hidden_share * found.mean[1] ** 2
    scatter = config.depth_scatter * lost(reasons)
    return float(np.sqrt((1e-6 * found.change_ppm) ** 2 + scatter**2 + hidden))


def _misfit(residual: Float64[np.ndarray, "V T"], config: FailureConfig) -> float:
    """Root of the reduced chi^2 of a channel times its red noise, neither below 1."""
    chi2 = [np.mean(own[np.isfinite(own)] ** 2) for own in residual if np.isfinite(own).any()]
    red = np.array([red_noise_ratio(residual.T, bins) for bins in config.red_noise_bins])
    square = [np.mean(red[np.isfinite(red)] ** 2)] if np.isfinite(red).any() else []
    factor = [max(float(np.mean(part)), 1.0) for part in (chi2, square) if part]
    return float(np.sqrt(np.prod(np.array(factor))))


def lost(reasons: Sequence[str]) -> bool:
    """Whether no transit was found at all, or nothing to measure its depth against."""
    return any("no transit found" in own or own in (_GUESSED, _UNSURE) for own in reasons)


def _unsure(found: Findings, visits: Sequence[BinnedVisit], config: FailureConfig) -> bool:
    """Whether a weak dip rests on bins that would be in transit on a smaller orbit.

    With no bin out of transit nothing was taken for one, and sigma is wide enough.
    """
    depth, error = found.mean
    weak = depth < _STRONG * config.snr * error
    outside = max(_counts(found, number, visit)[1] for number, visit in enumerate(visits))
    return weak and outside > 0 and found.sure_bins < config.bins


def _guessed(found: Findings, visits: Sequence[BinnedVisit], config: FailureConfig) -> bool:
    """Whether AIRS-CH0 has too few bins in transit, or outside, in every visit."""
    fewest = [min(_counts(found, number, visit)) for number, visit in enumerate(visits)]
    return max(fewest) < config.bins


def _counts(found: Findings, number: int, visit: BinnedVisit) -> tuple[int, int]:
    """Bins of AIRS-CH0 in transit and outside, in one visit."""
    bins = visit.airs_time_h.size
    used = np.isfinite(found.white[number, 1, :bins])
    inside = found.inside[number, 1, :bins] & used
    return int(inside.sum()), int((used & ~inside).sum())


def _depth_reasons(
    found: Findings, visits: Sequence[BinnedVisit], config: FailureConfig
) -> list[str]:
    """The channels in which there is no transit; AIRS-CH0 also by the spectrum itself."""
    measured = any(visit.has_fgs1 for visit in visits), True
    lost = [
        (channel, depth, sigma)
        for channel, depth, sigma, seen in zip(
            _CHANNELS, found.depth, found.depth_sigma, measured, strict=True
        )
        if seen and not depth > config.snr * sigma
    ]
    if not found.mean[0] > _GONE * found.mean[1] and _CHANNELS[1] not in {own[0] for own in lost}:
        lost.append((_CHANNELS[1], *found.mean))
    return [
        f"{channel}: no transit found, depth {1e6 * depth:.0f} +- {1e6 * sigma:.0f} ppm."
        for channel, depth, sigma in lost
    ]


def _visit_reasons(
    found: Findings, visits: Sequence[BinnedVisit], config: FailureConfig
) -> list[str]:
    reasons = []
    for number, visit in enumerate(visits):
        bins = visit.airs_time_h.size
        for channel, name in enumerate(_CHANNELS):
            if channel == 0 and not visit.has_fgs1:
                continue
            where = f"Visit {visit.visit}, {name}"
            residual = found.white[number, channel, :bins]
            used, inside = np.isfinite(residual), found.inside[number, channel, :bins]
            reasons += _series_reasons(where, residual, inside & used, config, visit.width_h)
            rejected = 1.0 - float(used.mean())
            if rejected > config.rejected_share:
                reasons.append(f"{where}: {100.0 * rejected:.0f} % of the bins rejected.")
            distance = found.offset_sigma[number, channel]
            if abs(distance) > config.disagreement_sigma:
                reasons.append(
                    f"{where}: its depth lies {distance:+.1f} sigma from that of all visits."
                )
        lit = int(np.sum(visit.lit))
        if lit < _LIT_SHARE * visit.columns:  # a grid with fewer columns is no fault
            reasons.append(
                f"Visit {visit.visit}: {lit} of {visit.columns} wavelengths of AIRS-CH0 hold flux."
            )
    return reasons


def _series_reasons(
    where: str,
    residual: Float64[np.ndarray, " T"],
    inside: Bool[np.ndarray, " T"],
    config: FailureConfig,
    width_h: float,
) -> list[str]:
    used = np.isfinite(residual)
    counts = int(inside.sum()), int((used & ~inside).sum())
    if min(counts) < config.bins:
        return [f"{where}: {counts[0]} bins in transit and {counts[1]} outside."]
    reasons = []
    chi2 = float(np.mean(residual[used] ** 2))
    if chi2 > config.chi2:
        reasons.append(
            f"{where}: reduced chi^2 of the white light beyond noise in time is {chi2:.1f}."
        )
    bins = max(round(config.red_noise_s / (3600.0 * width_h)), 2)
    red = float(red_noise_ratio(residual[:, None], bins)[0])
    if red > config.red_noise:
        reasons.append(
            f"{where}: residuals beyond noise in time are correlated, {red:.1f} times the noise "
            f"at {config.red_noise_s / 60.0:.0f} min."
        )
    return reasons
