"""The nouns that travel between stages: frames, detector maps, light curves, stars and fits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, UInt16

from spectramind.errors import DataError
from spectramind.instrument import WAVELENGTHS, Channel

NOT_MEASURED = (  # reason not to trust the spectrum of a planet without a fit
    "Not measured: there is no fit, so this is the mean and spread of the training labels."
)
SpectraKind = Literal["posterior", "likelihood"]  # with a prior over spectra, without one
_NAMED = 5  # things that one sentence names


@dataclass(frozen=True, eq=False)
class DetectorMaps:
    """Calibration maps of one channel and visit.

    `linear_corr` holds the ascending coefficients c0..c5 of the polynomial that turns a
    measured signal [e-] into the linear one.
    """

    dark: Float64[np.ndarray, "Y X"]  # dark current [e-/s]
    dead: Bool[np.ndarray, "Y X"]
    flat: Float64[np.ndarray, "Y X"]  # relative response, mean about 1
    read: Float64[np.ndarray, "Y X"]  # read noise of one read [e-]
    linear_corr: Float64[np.ndarray, "6 Y X"]


@dataclass(frozen=True, eq=False)
class Frames:
    """Raw reads of one channel and visit, one contiguous time series per pixel.

    Reads alternate between the first and the second of a pair. Electrons are
    `counts / gain + offset_e`.
    """

    planet_id: int
    visit: int
    channel: Channel
    pixels: Int[np.ndarray, " P"]  # flat detector index, row * columns + column
    reads: Sequence[UInt16[np.ndarray, " R"]]  # P series of R = 2 T counts, in `pixels` order
    time_h: Float64[np.ndarray, " T"]  # middle of each read pair [h]
    read_s: tuple[float, float]  # charge accumulation time of the two reads of a pair [s]
    gain: float  # [counts/e-]
    offset_e: float  # [e-]


@dataclass(frozen=True, eq=False)
class LightCurves:
    """Calibrated light curves of one planet and visit at native cadence."""

    planet_id: int
    visit: int
    airs_time_h: Float64[np.ndarray, " T"]
    airs_e: Float32[np.ndarray, "T 282"]  # flux, wavelength increasing [e-/exposure]
    airs_centroid: Float32[np.ndarray, " T"]  # mean row of the trace [pixel]
    fgs1_time_h: Float64[np.ndarray, " S"]  # S is 0 where FGS1 was not measured
    fgs1_e: Float32[np.ndarray, " S"]  # flux [e-/exposure]
    fgs1_centroid: Float32[np.ndarray, "S 2"]  # row and column of the star [pixel]


@dataclass(frozen=True)
class Star:
    """One row of the star table; starting values for the fit, not exact."""

    radius_rsun: float
    mass_msun: float
    temperature_k: float
    planet_mass_mjup: float
    eccentricity: float
    period_d: float
    semi_major_axis_rs: float  # in stellar radii
    inclination_deg: float


@dataclass(frozen=True, eq=False)
class Labels:
    """True spectra of planets, in the order of `planet_ids`."""

    planet_ids: Int[np.ndarray, " B"]
    depth: Float64[np.ndarray, "B 283"]  # (Rp/Rs)^2

    @classmethod
    def none(cls) -> "Labels":
        """Labels of no planet."""
        return cls(np.zeros(0, np.int64), np.zeros((0, WAVELENGTHS)))

    def of(self, planet_ids: Iterable[int] | Int[np.ndarray, " K"]) -> "Labels":
        """The labels of these planets, in their order.

        Raises:
            DataError: If a planet has no label.
        """
        row = {int(planet): index for index, planet in enumerate(self.planet_ids)}
        wanted = [int(planet) for planet in planet_ids]
        lost = [planet for planet in wanted if planet not in row]
        if lost:
            raise DataError(
                f"labels: no true spectrum of {named(lost)} ({len(lost)} of {len(wanted)} "
                "planets). Add them to the table of labels, leave these planets out, or use the "
                "labels that belong to this archive."
            )
        return Labels(np.array(wanted, np.int64), self.depth[[row[planet] for planet in wanted]])

    def by_planet(self) -> dict[int, Float64[np.ndarray, " 283"]]:
        """The true spectrum of each planet."""
        return dict(zip(self.planet_ids.tolist(), self.depth, strict=True))


@dataclass(frozen=True, eq=False)
class VisitFit:
    """What the fit leaves of one visit, binned in time; wavelength 0 is FGS1."""

    visit: int
    time_h: Float64[np.ndarray, " T"]
    flux: Float32[np.ndarray, "T 283"]  # over star and baseline, 1 outside transit; NaN: dark
    model: Float32[np.ndarray, "T 283"]  # fitted transit
    electrons: Float32[np.ndarray, " 283"]  # of one time bin; 0: dark [e-]
    fgs1_time_h: Float64[np.ndarray, " L"]  # L is 0 where FGS1 was not measured
    fgs1_flux: Float32[np.ndarray, " L"]  # FGS1 in finer bins, divided by star and baseline
    fgs1_model: Float32[np.ndarray, " L"]
    fgs1_centroid: Float32[np.ndarray, "L 2"]  # minus its median [pixel]


@dataclass(frozen=True, eq=False)
class TransitFit:
    """The first estimate of one planet: spectrum, parameters, residuals and a verdict.

    `reasons` is empty for a trusted fit; otherwise it names in words what was found. `sigma` is
    `own_sigma` times `widening`, with what the last pass changed added in quadrature, and the
    scatter of plausible depths where no transit was found.
    """

    planet_id: int
    depth: Float64[np.ndarray, " 283"]  # posterior mean of (Rp/Rs)^2
    sigma: Float64[np.ndarray, " 283"]  # square root of the covariance's diagonal
    own_sigma: Float64[np.ndarray, " 283"]  # of the posterior, before anything widened it
    widening: Float64[np.ndarray, " 2"]  # factor on sigma of FGS1 and of AIRS-CH0; 1: no doubt
    scale: Float64[np.ndarray, " 2"]  # factor on own_sigma that labels asked for; 1: no labels
    level_sigma: float  # error common to all depths, beyond the light curves [(Rp/Rs)^2]
    covariance: Float64[np.ndarray, "283 283"]  # symmetric and positive definite
    information: Float64[np.ndarray, "283 283"]  # A: the light curves say exp(-d A d / 2 + b d)
    vector: Float64[np.ndarray, " 283"]  # b, without any prior over spectra
    measured_sigma: Float64[np.ndarray, " 283"]  # error by the wavelength alone; NaN: dark
    parameter_names: tuple[str, ...]
    parameters: Float64[np.ndarray, " K"]
    parameter_covariance: Float64[np.ndarray, "K K"]
    limb_darkening: Float64[np.ndarray, "283 2"]  # quadratic u1, u2
    limb_pull: Float64[np.ndarray, " 4"]  # u1, u2 per channel, from the prior [its scatters]
    reduced_chi2: float  # of the white light beyond noise in time
    reasons: tuple[str, ...]
    visits: tuple[VisitFit, ...]

    @property
    def measured(self) -> Bool[np.ndarray, " 283"]:
        """Wavelengths whose own light says something of their depth."""
        return np.isfinite(self.measured_sigma)

    @property
    def usable(self) -> bool:
        """Whether all depths and sigmas are numbers and the covariance is positive definite."""
        return bool(self.usable_at.all()) and self.definite

    @property
    def definite(self) -> bool:
        """Whether the covariance is positive definite."""
        try:
            np.linalg.cholesky(self.covariance)
        except np.linalg.LinAlgError:
            return False
        return True

    @property
    def usable_at(self) -> Bool[np.ndarray, " 283"]:
        """Where the depth is a number and each sigma, own and widened, a positive one."""
        known = np.isfinite(self.depth) & np.isfinite(self.sigma) & np.isfinite(self.own_sigma)
        return known & (self.sigma > 0.0) & (self.own_sigma > 0.0)

    @property
    def white_depth(self) -> float:
        """Inverse-variance mean of the AIRS-CH0 depths."""
        weight = 1.0 / self.own_sigma[1:] ** 2
        return float(np.sum(weight * self.depth[1:]) / np.sum(weight))

    @property
    def white_sigma(self) -> float:
        """Standard deviation of `white_depth`, the correlation of the depths included."""
        weight = self.sigma[1:] ** -2.0 / np.sum(self.sigma[1:] ** -2.0)
        return float(np.sqrt(weight @ self.covariance[1:, 1:] @ weight))

    def scaled(self, scale: Float64[np.ndarray, " 2"]) -> "TransitFit":
        """The same fit with errors of another scale, what is common to all depths aside."""
        ratio = scale / self.scale
        factor = np.append(ratio[0], np.full(len(self.depth) - 1, ratio[1]))
        level = self.level_sigma**2
        covariance = factor[:, None] * (self.covariance - level) * factor + level
        return replace(
            self,
            sigma=np.sqrt(np.diag(covariance)),
            own_sigma=self.own_sigma * factor,
            scale=scale,
            covariance=covariance,
        )

    def samples(self, count: int) -> Float64[np.ndarray, "S 283"]:
        """Draws from the posterior; the same ones for the same planet and count.

        Args:
            count: Number of draws S.
        """
        lower = np.linalg.cholesky(self.covariance)
        normal = np.random.default_rng(self.planet_id).standard_normal((count, len(lower)))
        return self.depth + normal @ lower.T


@dataclass(frozen=True, eq=False)
class Spectra:
    """Spectra of planets, ready to be written.

    A likelihood is NaN where nothing is measured. A posterior has values there from its prior.
    """

    kind: SpectraKind
    planet_ids: Sequence[int]
    depth: Float64[np.ndarray, "B 283"]
    sigma: Float64[np.ndarray, "B 283"]
    covariance: Float64[np.ndarray, "B 283 283"] | None
    samples: Float64[np.ndarray, "B S 283"] | None
    measured: Bool[np.ndarray, "B 283"]  # False: no light, or no fit
    priors: Sequence[str]  # what else than light made each spectrum, as a sentence
    reasons: Sequence[Sequence[str]]  # not to trust a planet's spectrum; empty for a trusted one


def named(planet_ids: Sequence[int]) -> str:
    """Planets in the words of a sentence: the first five by number, the others counted."""
    return f"planet{'s' * (len(planet_ids) > 1)} {some(planet_ids)}"


def some(things: Sequence[object]) -> str:
    """The first five of several things, the others counted."""
    shown = ", ".join(str(thing) or "''" for thing in things[:_NAMED])
    return shown + (f" and {len(things) - _NAMED} more" if len(things) > _NAMED else "")
