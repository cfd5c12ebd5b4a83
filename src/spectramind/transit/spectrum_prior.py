"""Prior over transmission spectra, learned from labels.

    spectrum = level + amplitude x [mean shape + principal components + scale x process]

The level is free; shapes have no mean over AIRS-CH0, and FGS1 is one of their columns, so its
offset and what it has to do with the bands are learned like the rest. Each planet has one
amplitude, lognormal about a power of the scale height that the star table suggests, because
spectra of all depths differ by a factor of a thousand. The process is what components leave of
labels that they were not learned from. How strong it is in a planet its own light tells: the scale
is the root of its mean square, by evidence. No planet is without some of it (`least`), however
small its amplitude seems to be: the truth would lie outside.

Source: of the parts, Cottaar's winning entries of 2024 and 2025 (challenge write-ups).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from spectramind.instrument import wavelength_um
from spectramind.observation import Star

AMPLITUDES = torch.linspace(-8.0, 8.0, 33, dtype=torch.float64)  # [scatters of ln amplitude]
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of the process, tried on every planet
_POSSIBLE = (-25.0, -4.0)  # ln amplitude
_UNHEARD = 1e-14  # share of the posterior below which an amplitude changes no digit
_RSUN_M, _GM_JUPITER = 6.957e8, 1.26687e17  # IAU 2015 nominal values [m], [m^3 s^-2]
_GAS_CONSTANT, _MEAN_MASS = 8314.46, 2.3  # [J K^-1 kg^-1 at 1 amu], [amu] of H2 and He
_TOLD = 1e-10  # information on a shape, over that on the best known one, below which it is none
_JITTER = 1e-9  # of the mean variance of the process
LENGTH_UM = 0.1  # of `plain_correlation`


@dataclass(frozen=True, eq=False)
class SpectrumPrior:
    """Gaussian mixture over spectra: one Gaussian for each amplitude and scale of the process."""

    level: tuple[float, float]  # mean and scatter of the AIRS-CH0 mean depth
    shape: Float64[np.ndarray, " 283"]  # mean shape for unit amplitude
    components: Float64[np.ndarray, "K 283"]  # scaled by their standard deviations
    process: Float64[np.ndarray, "283 283"]  # covariance of what they leave, of scale 1
    amplitude: tuple[float, float, float]  # ln amplitude: constant, exponent, scatter
    planets: int  # labels it was learned from
    typical: tuple[float, float]  # ln amplitude of a planet of an unknown star: mean, scatter
    least: float  # amplitude of the process that every planet has beside its own [(Rp/Rs)^2]
    shares: Float64[np.ndarray, " C"]  # of planets whose process has each of `SCALES`

    @property
    def scale(self) -> float:
        """Of the process of a planet before its light is seen: root of the mean square."""
        return float(np.sqrt(self.shares @ np.square(SCALES)))

    def covariance(self) -> Float64[np.ndarray, "283 283"]:
        """Of the shape for unit amplitude."""
        return self.components.T @ self.components + self.scale**2 * self.process

    def log_amplitude(
        self, log_scale: Float64[np.ndarray, " B"]
    ) -> tuple[Float64[np.ndarray, " B"], Float64[np.ndarray, " B"]]:
        """Expected ln amplitude of planets and its scatter; NaN stands for an unknown star."""
        constant, exponent, scatter = self.amplitude
        unknown = np.isnan(log_scale)
        mean = np.where(unknown, self.typical[0], constant + exponent * log_scale)
        return mean, np.where(unknown, self.typical[1], scatter)


@dataclass(frozen=True, eq=False)
class Posterior:
    """Gaussian moments of the spectra of a batch."""

    mean: Float64[Tensor, "B W"]
    covariance: Float64[Tensor, "B W W"]
    log_amplitude: Float64[Tensor, " B"]
    scale: Float64[Tensor, " B"]  # of the process


def log_signal(star: Star | None, depth: float) -> float:
    """Log of the change of depth by one scale height, 2 (Rp/Rs) (H/Rs); NaN: an unknown star.

    H = R T / (mu g) with mu = 2.3, T the equilibrium temperature of a black planet and g from
    the planet's mass and depth.
    """
    if star is None:
        return float("nan")
    temperature = star.temperature_k / np.sqrt(2.0 * star.semi_major_axis_rs)
    radius = star.radius_rsun * _RSUN_M
    gravity = _GM_JUPITER * star.planet_mass_mjup / (max(depth, 1e-6) * radius**2)
    height = _GAS_CONSTANT * temperature / (_MEAN_MASS * gravity)
    return float(np.log(2.0 * np.sqrt(max(depth, 1e-6)) * height / radius))


def plain_correlation() -> Float64[np.ndarray, "283 283"]:
    """Exponential in wavelength; FGS1 is correlated with nothing."""
    wavelength = wavelength_um()
    correlation = np.exp(-np.abs(wavelength[:, None] - wavelength) / LENGTH_UM)
    correlation[0, 1:] = correlation[1:, 0] = 0.0
    return correlation


@dataclass(frozen=True, eq=False)
class Levelled:
    """Information on shapes, the level left free; I is one for all spectra, or one per planet."""

    inner: Float64[Tensor, "I W W"]  # information on shapes
    row: Float64[Tensor, "I W"]  # sums of the information over its rows
    total: Float64[Tensor, "I 1"]  # information on the level, with that of its prior
    gain: Float64[Tensor, "I W"]  # pull of a shape on the level

    def offset(
        self, vector: Float64[Tensor, "B W"], level: tuple[float, float]
    ) -> Float64[Tensor, "B 1"]:
        """Level of spectra without shape."""
        mean, spread = level
        return (vector.sum(-1, keepdim=True) + mean * spread**-2.0) / self.total

    def pull(
        self, vector: Float64[Tensor, "B W"], level: tuple[float, float]
    ) -> Float64[Tensor, "B W"]:
        """Of the light curves on shapes."""
        return vector - self.row * self.offset(vector, level)


@dataclass(frozen=True, eq=False)
class Seen(Levelled):
    """What light curves with given information can see of a prior's shapes.

    The last column of M is the mean shape, the others are the components.
    """

    values: Float64[Tensor, "I W"]  # information on each whitened coordinate of the process
    basis: Float64[Tensor, "I W W"]  # these coordinates to shapes
    cross: Float64[Tensor, "I W M"]  # information on coordinates and columns together
    gram: Float64[Tensor, "I M M"]  # and on columns


@dataclass(frozen=True, eq=False)
class Given:
    """Posterior of shapes for given amplitudes and scales of the process, N of each planet."""

    evidence: Float64[Tensor, "B N"]  # log, up to what all priors share
    columns: Float64[Tensor, "B N M"]  # mean factors of the components and of the mean shape
    lower: Float64[Tensor, "#B N K K"]  # Cholesky factor of the components' precision
    damped: Float64[Tensor, "#B N W"]  # variance of the process by coordinate, columns known

    def at(self, which: Bool[Tensor, " N"]) -> "Given":
        """Of some of the amplitudes."""
        return Given(
            self.evidence[:, which], self.columns[:, which], self.lower[:, which],
            self.damped[:, which],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Mixture:
    """Posterior of shapes: basis diag(variance) basis^T + factors factors^T about the mean."""

    mean: Float64[Tensor, "B W"]
    variance: Float64[Tensor, "B W"]
    factors: Float64[Tensor, "B W R"]
    log_amplitude: Float64[Tensor, " B"]
    scale: Float64[Tensor, " B"]


class PriorOnDevice:
    """A prior's matrices, ready to meet likelihoods of a batch."""

    def __init__(self, prior: SpectrumPrior, device: torch.device) -> None:
        self.prior = prior
        process = torch.tensor(prior.process, device=device)
        unit = torch.eye(len(process)).to(process)
        self.lower = torch.linalg.cholesky(process + _JITTER * process.diagonal().mean() * unit)
        self.columns = torch.tensor(np.vstack([prior.components, prior.shape]), device=device)
        self.scales = torch.tensor(SCALES, dtype=torch.float64, device=device)
        self.shares = torch.tensor(prior.shares, device=device).log()

    def gaussian(
        self, amplitude: Float64[Tensor, ""], scale: Float64[Tensor, ""]
    ) -> tuple[Float64[Tensor, " W"], Float64[Tensor, "W W"]]:
        """Mean and covariance of spectra of one amplitude and one scale of the process."""
        level, scatter = self.prior.level
        mean, components = self.columns[-1], self.columns[:-1]
        covariance = amplitude**2 * components.T @ components
        process = self._process(amplitude, scale) * self.lower @ self.lower.T
        return level + amplitude * mean, covariance + process + scatter**2

    def _process(
        self, amplitude: Float64[Tensor, "*#N"], scale: Float64[Tensor, "*#N"]
    ) -> Float64[Tensor, "..."]:
        """Factor on the covariance of the process."""
        return (amplitude * scale) ** 2 + self.prior.least**2

    def posterior(
        self,
        information: Float64[Tensor, "#B W W"],
        vector: Float64[Tensor, "B W"],
        log_scale: Float64[Tensor, "#B"],
    ) -> Posterior:
        """Posterior of spectra with likelihood exp(-d A d / 2 + b d), amplitude marginalised.

        The level is eliminated first; then one eigendecomposition serves all amplitudes and
        scales of the process, for the components are few.

        Args:
            information: A; one for all, or one per planet.
            vector: b.
            log_scale: `log_signal` of each planet, or of all.
        """
        seen = self.see(information)
        mixture = self.mixture(seen, vector, log_scale)
        covariance = (seen.basis * mixture.variance[:, None]) @ seen.basis.mT
        covariance = covariance + mixture.factors @ mixture.factors.mT
        follows = (covariance @ seen.gain[..., None])[..., 0]  # how the level falls with a depth
        own = (seen.gain * follows).sum(-1) + 1.0 / seen.total[..., 0]
        covariance = covariance - follows[:, None, :] - follows[:, :, None] + own[:, None, None]
        return Posterior(
            mean=self._with_level(seen, vector, mixture.mean),
            covariance=covariance,
            log_amplitude=mixture.log_amplitude,
            scale=mixture.scale,
        )

    def marginals(
        self, seen: Seen, vector: Float64[Tensor, "B W"], log_scale: Float64[Tensor, "#B"]
    ) -> tuple[Float64[Tensor, "B W"], Float64[Tensor, "B W"]]:
        """Mean and variance of each depth by the same posterior, without the covariance.

        Args:
            seen: Of the information A of all these spectra.
            vector: b.
            log_scale: `log_signal` of each planet, or of all.
        """
        mixture = self.mixture(seen, vector, log_scale)
        basis, gain, total = seen.basis[0], seen.gain[0], seen.total[0, 0]
        variance, factors = mixture.variance, mixture.factors
        diagonal = variance @ (basis**2).T + factors.square().sum(-1)
        follows = (variance * (gain @ basis)) @ basis.T  # as in `posterior`
        follows = follows + (factors @ (gain @ factors)[..., None])[..., 0]
        own = follows @ gain + 1.0 / total
        depth = self._with_level(seen, vector, mixture.mean)
        return depth, diagonal - 2.0 * follows + own[:, None]

    def _with_level(
        self, seen: Seen, vector: Float64[Tensor, "B W"], shape: Float64[Tensor, "B W"]
    ) -> Float64[Tensor, "B W"]:
        fall = (seen.gain * shape).sum(-1, keepdim=True)
        return shape - fall + seen.offset(vector, self.prior.level)

    def log_evidence(
        self,
        information: Float64[Tensor, "#B W W"],
        vector: Float64[Tensor, "B W"],
        log_scale: Float64[Tensor, "#B"],
    ) -> Float64[Tensor, "B C G"]:
        """Of each of `SCALES` and each amplitude of the grid, given likelihoods of depths."""
        seen = self.see(information)
        mean, spread = self.prior.level
        pull = vector.sum(-1, keepdim=True) + mean * spread**-2.0
        level = 0.5 * (pull**2 / seen.total - seen.total.log())
        log_amplitude = self._log_amplitudes(log_scale)
        return self._evidence(seen, vector, log_amplitude) + level[..., None]

    def total_evidence(
        self,
        information: Float64[Tensor, "#B W W"],
        vector: Float64[Tensor, "B W"],
        log_scale: Float64[Tensor, "#B"],
    ) -> Float64[Tensor, " B"]:
        """The same, amplitude and scale marginalised."""
        evidence = self.log_evidence(information, vector, log_scale) + self.shares[:, None]
        return (evidence - 0.5 * AMPLITUDES.to(evidence) ** 2).flatten(1).logsumexp(-1)

    def surprise(
        self,
        information: Float64[Tensor, "B W W"],
        vector: Float64[Tensor, "B W"],
        log_amplitude: Float64[Tensor, " B"],
    ) -> Float64[Tensor, " B"]:
        """How far light lies from shapes of one amplitude, in standard deviations of its chi^2.

        The process has the scale of a planet before its light is seen.

        Args:
            information: A, one per planet.
            vector: b.
            log_amplitude: Of each planet.
        """
        seen = self._levelled(information)
        alpha = log_amplitude.exp()[:, None]
        pull = seen.pull(vector, self.prior.level) - alpha * (seen.inner @ self.columns[-1])
        usual = torch.tensor(self.prior.scale).to(alpha)
        factor = (self._process(alpha, usual) / alpha**2)[..., None]
        components = self.columns[:-1].T @ self.columns[:-1]
        lower = torch.linalg.cholesky(components + factor * (self.lower @ self.lower.T))
        values, basis = _decomposed(seen.inner, lower)
        left = (pull[:, None] @ basis)[:, 0]
        told = values > _TOLD * values.amax(-1, keepdim=True)
        square = left**2 / (values.clamp_min(1e-300) * (1.0 + alpha**2 * values))
        excess = torch.where(told, square - 1.0, 0.0).sum(-1)
        return excess / (2.0 * told.sum(-1)).clamp_min(1.0).sqrt()

    def see(self, information: Float64[Tensor, "I W W"]) -> Seen:
        """Eliminate the level and decompose what is left in whitened coordinates.

        Args:
            information: A of exp(-d A d / 2 + b d).
        """
        light = self._levelled(information)
        values, basis = _decomposed(light.inner, self.lower)
        known = light.inner @ self.columns.T
        return Seen(
            **vars(light),
            values=values,
            basis=basis,
            cross=basis.mT @ known,
            gram=self.columns @ known,
        )

    def _levelled(self, information: Float64[Tensor, "I W W"]) -> Levelled:
        row = information.sum(-1)
        total = row.sum(-1, keepdim=True) + self.prior.level[1] ** -2.0
        gain = row / total
        return Levelled(information - row[:, :, None] * gain[:, None, :], row, total, gain)

    def mixture(
        self, seen: Seen, vector: Float64[Tensor, "B W"], log_scale: Float64[Tensor, "#B"]
    ) -> Mixture:
        """Posterior of the shapes, the amplitude marginalised, with each planet's own scale.

        Args:
            seen: Of the information A; one for all, or one per planet.
            vector: b.
            log_scale: `log_signal` of each planet, or of all.
        """
        log_amplitude = self._log_amplitudes(log_scale)
        evidence = self._evidence(seen, vector, log_amplitude)
        believed = -0.5 * AMPLITUDES.to(evidence) ** 2
        share = torch.softmax((evidence + believed).logsumexp(-1) + self.shares, dim=-1)
        scale = (share @ self.scales**2).sqrt()
        own = self._given(seen, vector, log_amplitude, scale[:, None])
        weight = torch.softmax(own.evidence + believed, dim=-1)
        told = (weight > _UNHEARD).any(0)
        weight, log_amplitude, own = weight[:, told], log_amplitude[:, told], own.at(told)
        left = self._by_coordinate(seen, vector)[:, None] - own.columns @ seen.cross.mT
        shapes = own.columns @ self.columns + (own.damped * left) @ seen.basis.mT
        mean = (weight[:, None] @ shapes)[:, 0]
        apart = (shapes - mean[:, None]) * weight.sqrt()[..., None]
        hidden = own.damped[..., None] * seen.cross[:, None, :, :-1]
        follows = self.columns[:-1].T - seen.basis[:, None] @ hidden  # (B, G, W, K)
        size = (weight.sqrt() * log_amplitude.exp())[..., None, None]
        spread = torch.linalg.solve_triangular(own.lower, size * follows.mT, upper=False)
        return Mixture(
            mean=mean,
            variance=(weight[:, None] @ own.damped)[:, 0],
            factors=torch.cat([spread.flatten(1, 2), apart], dim=1).mT,
            log_amplitude=(weight * log_amplitude).sum(-1),
            scale=scale,
        )

    def _log_amplitudes(self, log_scale: Float64[Tensor, " B"]) -> Float64[Tensor, "B G"]:
        """The grid of ln amplitudes of each planet."""
        own = self.prior.log_amplitude(log_scale.cpu().numpy())
        expected, scatter = (torch.tensor(part).to(log_scale) for part in own)
        steps = AMPLITUDES.to(expected)
        return (expected[:, None] + scatter[:, None] * steps).clamp(*_POSSIBLE)

    def _evidence(
        self, seen: Seen, vector: Float64[Tensor, "B W"], log_amplitude: Float64[Tensor, "#B G"]
    ) -> Float64[Tensor, "B C G"]:
        """Log evidence of each scale of the process and each amplitude."""
        grid = log_amplitude.shape[1]
        scales = self.scales.repeat_interleave(grid)[None]
        all_of = log_amplitude.repeat(1, len(self.scales))
        return self._given(seen, vector, all_of, scales).evidence.unflatten(1, (-1, grid))

    def _by_coordinate(self, seen: Seen, vector: Float64[Tensor, "B W"]) -> Float64[Tensor, "B W"]:
        pull = seen.pull(vector, self.prior.level)
        return (pull[:, None] @ seen.basis)[:, 0]

    def _given(
        self,
        seen: Seen,
        vector: Float64[Tensor, "B W"],
        log_amplitude: Float64[Tensor, "#B N"],
        scale: Float64[Tensor, "#B #N"],
    ) -> Given:
        """Posterior for given amplitudes and scales, first the process and then the components."""
        alpha = log_amplitude.exp()
        square = self._process(alpha, scale)[..., None]
        grown = square * seen.values[:, None]
        damped = square / (1.0 + grown)  # (B, N, W)
        pairs = (seen.cross[..., None] * seen.cross[..., None, :]).flatten(2)
        gram = seen.gram[:, None] - (damped @ pairs).unflatten(-1, seen.gram.shape[-2:])
        pull = seen.pull(vector, self.prior.level)
        turned = self._by_coordinate(seen, vector)[:, None]
        told = (pull @ self.columns.T)[:, None] - (damped * turned) @ seen.cross
        own = gram[..., :-1, :-1] * alpha[..., None, None] ** 2
        lower = torch.linalg.cholesky(own + torch.eye(own.shape[-1]).to(own))
        wanted = alpha[..., None] * (told[..., :-1] - alpha[..., None] * gram[..., :-1, -1])
        half = torch.linalg.solve_triangular(lower, wanted[..., None], upper=False)
        factor = torch.linalg.solve_triangular(lower.mT, half, upper=True)[..., 0]
        evidence = 0.5 * (half[..., 0].square().sum(-1) + (damped * turned**2).sum(-1))
        evidence = evidence - lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        evidence = evidence - 0.5 * torch.log1p(grown).sum(-1)
        evidence = evidence + alpha * (told[..., -1] - 0.5 * alpha * gram[..., -1, -1])
        shape = alpha.expand(evidence.shape)[..., None]
        return Given(evidence, torch.cat([shape * factor, shape], dim=-1), lower, damped)


def _decomposed(
    information: Float64[Tensor, "I W W"], lower: Float64[Tensor, "*I W W"]
) -> tuple[Float64[Tensor, "I W"], Float64[Tensor, "I W W"]]:
    """Information on each whitened coordinate, and the basis from these coordinates to shapes."""
    white = lower.mT @ information @ lower
    values, vectors = torch.linalg.eigh(0.5 * (white + white.mT))
    return values.clamp_min(0.0), lower @ vectors
