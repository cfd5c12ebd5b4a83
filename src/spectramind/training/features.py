"""Features of a planet for the network, from its fit, the residuals and its star.

Shapes: W = 283 wavelengths, T time bins of the fit, C series channels, L bins of the FGS1
series. A feature that is not known is NaN here and becomes 0 (typical) after scaling. Sigma is the
fit's own everywhere: what widens it says nothing of how well light curves measure a depth.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float32, Float64

from spectramind.errors import DataError
from spectramind.instrument import WAVELENGTHS, wavelength_um
from spectramind.observation import Star, TransitFit, VisitFit

_SMOOTHING_BINS = (2.0, 6.0, 20.0)  # standard deviations of the smoothing kernels [bins]
_OCTAVES = (1, 2, 4)  # waves over the AIRS band in the wavelength encoding
_BOTTOM = 0.8  # share of the deepest model flux at which the bottom of the transit begins
_EDGE = 0.02  # share at which ingress begins
# Parameters of the fit whose value, and whose standard deviation, are features.
FIT_VALUES = ("semi_major_axis_rs", "impact_parameter", "u1_fgs1", "u1_airs")
FIT_SIGMAS = ("semi_major_axis_rs", "impact_parameter", "u1_fgs1")

NODE_FEATURES = (
    *(f"pull_{width:g}" for width in _SMOOTHING_BINS), "pull_white", "shape", "log_shape_sigma",
    "log_sigma", "log_relative_sigma", "log_flux", "log_residual", "residual_lag1", "ingress",
    "egress", "bottom", "u1", "u2", "wavelength_um", "is_fgs1",
    *(f"{wave}_{octave}" for octave in _OCTAVES for wave in ("sin", "cos")),
)  # fmt: skip
SERIES_FEATURES = ("flux", "model", "residual", "clock", "time", "row", "column")
PLANET_FEATURES = (
    "log_depth", "log_depth_sigma", "fgs1_contrast", "log_fgs1_sigma", "log_spectrum_spread",
    "log_chi2", "flagged", "visits", "star_known", "log_star_radius", "log_star_mass",
    "temperature", "log_planet_mass", "eccentricity", "log_period", "log_axis", "cos_inclination",
    *FIT_VALUES, *(f"log_sigma_{name}" for name in FIT_SIGMAS),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class PlanetFeatures:
    """Unscaled features of one planet."""

    nodes: Float32[np.ndarray, "W F"]
    series: tuple[Float32[np.ndarray, "C _"], ...]  # one per visit
    masks: tuple[Bool[np.ndarray, " _"], ...]  # True where the series holds data
    planet: Float32[np.ndarray, " P"]


@dataclass(frozen=True, eq=False)
class VisitFeatures:
    """Features that follow from the light curves and their model, not from the spectrum."""

    nodes: Float64[np.ndarray, "W N"]
    series: tuple[Float32[np.ndarray, "C _"], ...]  # one per visit
    masks: tuple[Bool[np.ndarray, " _"], ...]


def visit_features(fit: TransitFit) -> VisitFeatures:
    """Features that a planet shares with its observations with other atmospheres.

    Where FGS1 was not measured, its series is masked throughout.

    Raises:
        DataError: If FGS1 was measured and the fit's light curve of it cannot be used.
    """
    series, masks = zip(*(_series(visit) for visit in fit.visits), strict=True)
    if fit.measured[0] and not any(mask.any() for mask in masks):
        raise DataError(
            f"planet {fit.planet_id}: its fit holds no finite bin of the FGS1 light curve. "
            "Calibrate and fit this planet again."
        )
    nodes = np.column_stack([_flux(fit.visits), _residuals(fit.visits), _grid(fit)])
    return VisitFeatures(nodes, series, masks)


def planet_features(
    fit: TransitFit, star: Star | None, visits: VisitFeatures | None = None
) -> PlanetFeatures:
    """All features of one planet.

    Args:
        fit: Of the planet.
        star: Row of the star table; None if there is none.
        visits: `visit_features` of the fit, where they are known already.

    Raises:
        DataError: If the fit's spectrum or light curve cannot be used.
    """
    _require_usable(fit)
    visits = visits or visit_features(fit)
    nodes = np.column_stack([_pulls(fit), _shape(fit), _noise(fit), visits.nodes])
    planet = np.array([*_spectrum_facts(fit), *_star_facts(star), *_parameters(fit)])
    return PlanetFeatures(
        nodes.astype(np.float32), visits.series, visits.masks, planet.astype(np.float32)
    )


def _require_usable(fit: TransitFit) -> None:
    good = fit.usable_at
    if not good.all():
        raise DataError(
            f"planet {fit.planet_id}: depth or sigma of the fit is not usable at "
            f"{np.count_nonzero(~good)} of {WAVELENGTHS} wavelengths (first: index "
            f"{np.argmin(good)}), expected finite depths and sigma > 0. Fit this planet again."
        )


def _pulls(fit: TransitFit) -> Float64[np.ndarray, "W 4"]:
    """(smoothed depth - depth) / own sigma for each kernel and for the white depth.

    Smoothed depths are inverse-variance weighted Gaussian means over AIRS; FGS1, far away in
    wavelength, has none and gets 0.
    """
    weight = 1.0 / fit.own_sigma[1:] ** 2
    pulls = np.zeros((len(fit.depth), len(_SMOOTHING_BINS) + 1))
    smooth = _kernels(len(weight)) @ np.stack([weight * fit.depth[1:], weight], axis=1)
    pulls[1:, :-1] = (smooth[..., 0] / smooth[..., 1]).T - fit.depth[1:, None]
    pulls[:, -1] = fit.white_depth - fit.depth
    return pulls / fit.own_sigma[:, None]


@cache
def _kernels(bins: int) -> Float64[np.ndarray, "S N N"]:
    """Gaussians of each smoothing width about each bin."""
    step = np.subtract.outer(np.arange(bins), np.arange(bins))
    return np.stack([np.exp(-0.5 * (step / width) ** 2) for width in _SMOOTHING_BINS])


def _shape(fit: TransitFit) -> Float64[np.ndarray, "W 2"]:
    """(depth - white) / spread of the spectrum, and log sigma / spread."""
    spread = _spread(fit)
    return np.column_stack(
        [(fit.depth - fit.white_depth) / spread, np.log10(fit.own_sigma / spread)]
    )


def _spread(fit: TransitFit) -> float:
    """Standard deviation of the depths over AIRS-CH0, plus the error of their mean."""
    return float(np.std(fit.depth[1:]) + np.sum(fit.own_sigma[1:] ** -2.0) ** -0.5)


def _noise(fit: TransitFit) -> Float64[np.ndarray, "W 2"]:
    log_sigma = np.log10(fit.own_sigma)
    return np.column_stack([log_sigma, log_sigma - np.median(log_sigma)])


def _flux(visits: tuple[VisitFit, ...]) -> Float64[np.ndarray, " W"]:
    """log10 of the electrons in a time bin against those of the median wavelength; NaN: dark."""
    electrons = np.mean([visit.electrons for visit in visits], axis=0, dtype=np.float64)
    known = np.where(electrons > 0.0, electrons, np.nan)
    return np.log10(known) - np.nanmedian(np.log10(known))


def _residuals(visits: tuple[VisitFit, ...]) -> Float64[np.ndarray, "W 5"]:
    """Residual statistics per wavelength: log rms against the median, lag-1, three phase means.

    Means over ingress, egress and bottom are in units of their own standard error, rms/sqrt(n);
    a phase without bins gives 0. A wavelength without flux has no rms: NaN.
    """
    residual = np.concatenate([visit.flux - visit.model for visit in visits]).astype(np.float64)
    phases = np.concatenate([_phases(visit) for visit in visits])
    known = np.isfinite(residual)
    residual = np.where(known, residual, 0.0)
    power = (residual**2).sum(0)
    rms = np.sqrt(power / known.sum(0).clip(min=1)).clip(min=np.finfo(np.float32).tiny)
    lag1 = (residual[1:] * residual[:-1]).sum(0) / power.clip(min=np.finfo(np.float64).tiny)
    bins = phases.T.astype(np.float64) @ known
    means = phases.T.astype(np.float64) @ residual / np.sqrt(bins.clip(min=1)) / rms
    log_rms = np.where(known.any(0), np.log10(rms), np.nan)
    return np.column_stack([log_rms - np.nanmedian(log_rms), lag1, means.T])


def _phases(visit: VisitFit) -> Bool[np.ndarray, "T 3"]:
    """Which time bins lie in ingress, egress and at the bottom of the fitted transit."""
    drop = np.mean(1.0 - visit.model[:, 1:].astype(np.float64), axis=1)
    share = drop / max(drop.max(), np.finfo(np.float32).tiny)
    middle = np.sum(share * visit.time_h) / max(share.sum(), np.finfo(np.float32).tiny)
    edge, early = (share > _EDGE) & (share < _BOTTOM), visit.time_h < middle
    return np.column_stack([edge & early, edge & ~early, share >= _BOTTOM])


def _grid(fit: TransitFit) -> Float64[np.ndarray, "W G"]:
    """Limb darkening, wavelength, detector and a wave encoding of the place in the band."""
    place = np.arange(WAVELENGTHS) / (WAVELENGTHS - 1)
    waves = [wave(np.pi * octave * place) for octave in _OCTAVES for wave in (np.sin, np.cos)]
    fgs1 = (np.arange(WAVELENGTHS) == 0).astype(np.float64)
    return np.column_stack([fit.limb_darkening, wavelength_um(), fgs1, *waves])


def _series(visit: VisitFit) -> tuple[Float32[np.ndarray, "C L"], Bool[np.ndarray, " L"]]:
    """Channels of the FGS1 series of a visit, and where all of them are finite."""
    flux, model = visit.fgs1_flux.astype(np.float64), visit.fgs1_model.astype(np.float64)
    residual = flux - model
    known = np.isfinite(residual)
    if not known.any():
        return np.zeros((len(SERIES_FEATURES), len(flux)), dtype=np.float32), known
    tiny = float(np.finfo(np.float32).tiny)
    scatter = max(float(np.sqrt(np.mean(residual[known] ** 2))), tiny)
    shape = (model - 1.0) / max(float(np.max(1.0 - model[known])), tiny)
    channels = np.stack(
        [
            (flux - 1.0) / scatter,
            shape,
            residual / scatter,
            _clock(visit.fgs1_time_h, shape),
            visit.fgs1_time_h - visit.fgs1_time_h.mean(),
            *visit.fgs1_centroid.T.astype(np.float64),
        ]
    ).astype(np.float32)
    return channels, np.all(np.isfinite(channels), axis=0)


def _clock(
    time_h: Float64[np.ndarray, " L"], shape: Float64[np.ndarray, " L"]
) -> Float64[np.ndarray, " L"]:
    """Time from mid-transit over half the transit: -1 and 1 at half depth; 0 without a transit."""
    inside = time_h[shape < -0.5]
    if len(inside) < 2:
        return np.zeros_like(time_h)
    return (time_h - inside.mean()) / (0.5 * np.ptp(inside))


def _spectrum_facts(fit: TransitFit) -> tuple[float, ...]:
    white_sigma = float(np.sum(fit.own_sigma[1:] ** -2.0) ** -0.5)
    white = max(float(fit.white_depth), white_sigma)  # a lost transit may have depth <= 0
    contrast = (fit.depth[0] - fit.white_depth) / np.hypot(fit.own_sigma[0], white_sigma)
    return (
        np.log10(white),
        np.log10(white_sigma),
        float(contrast),
        np.log10(fit.own_sigma[0]),
        np.log10(_spread(fit)),
        np.log10(fit.reduced_chi2) if fit.reduced_chi2 > 0 else np.nan,
        float(bool(fit.reasons)),
        float(len(fit.visits)),
    )


def _star_facts(star: Star | None) -> tuple[float, ...]:
    if star is None:
        return (0.0, *[np.nan] * 8)
    return (
        1.0,
        np.log10(star.radius_rsun),
        np.log10(star.mass_msun),
        star.temperature_k,
        np.log10(star.planet_mass_mjup),
        star.eccentricity,
        np.log10(star.period_d),
        np.log10(star.semi_major_axis_rs),
        np.cos(np.deg2rad(star.inclination_deg)),
    )


def _parameters(fit: TransitFit) -> tuple[float, ...]:
    values = dict(zip(fit.parameter_names, fit.parameters, strict=True))
    sigmas = dict(
        zip(fit.parameter_names, np.sqrt(fit.parameter_covariance.diagonal()), strict=True)
    )
    logs = {name: np.log10(sigma) for name, sigma in sigmas.items() if sigma > 0}
    return (
        *(values.get(name, np.nan) for name in FIT_VALUES),
        *(logs.get(name, np.nan) for name in FIT_SIGMAS),
    )
