"""Prior over transmission spectra, learned from labels.

    spectrum = level + amplitude x [mean shape + principal components + Gaussian process]

The level is free; shapes have no mean over AIRS-CH0, and FGS1 is one of their columns, so its
offset and what it has to do with the bands are learned like the rest. Each planet has one
amplitude, lognormal about a power of the scale height that the star table suggests, because
spectra of all depths differ by a factor of a thousand. Number of components and length of the
process are those that make left-out labels most likely.

Source: of the parts, Cottaar's winning entries of 2024 and 2025 (challenge write-ups).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from spectramind.errors import DataError
from spectramind.instrument import wavelength_um
from spectramind.observation import Star
from spectramind.transit.settings import SpectrumConfig

_AMPLITUDES = torch.linspace(-3.0, 3.0, 13, dtype=torch.float64)  # [scatters of ln amplitude]
_SEARCH = np.linspace(-2.0, 2.0, 81)  # [ln]
_PASSES = 12  # amplitudes and shapes in turn
_HELD_OUT = 5  # every fifth planet judges
_SMALLEST = 1e-8  # amplitude of a flat spectrum [(Rp/Rs)^2]
_RSUN_M, _GM_JUPITER = 6.957e8, 1.26687e17  # IAU 2015 nominal values [m], [m^3 s^-2]
_GAS_CONSTANT, _MEAN_MASS = 8314.46, 2.3  # [J K^-1 kg^-1 at 1 amu], [amu] of H2 and He
_JITTER = 1e-7  # of the covariance's mean diagonal


@dataclass(frozen=True, eq=False)
class SpectrumPrior:
    """Gaussian mixture over spectra: one Gaussian for each amplitude."""

    level: tuple[float, float]  # mean and scatter of the AIRS-CH0 mean depth
    shape: Float64[np.ndarray, " 283"]  # mean shape for unit amplitude
    components: Float64[np.ndarray, "K 283"]  # scaled by their standard deviations
    process: Float64[np.ndarray, " 283"]  # standard deviation of the Gaussian process
    length_um: float  # its correlation length; FGS1 stands alone [um]
    amplitude: tuple[float, float, float]  # ln amplitude: constant, exponent, scatter
    planets: int  # labels it was learned from

    def covariance(self) -> Float64[np.ndarray, "283 283"]:
        """Of the shape for unit amplitude."""
        total = self.components.T @ self.components
        total += np.outer(self.process, self.process) * _correlation(self.length_um)
        return total + _JITTER * np.trace(total) / len(total) * np.eye(len(total))

    def log_amplitude(self, log_scale: float) -> float:
        """Expected ln amplitude of a planet."""
        constant, exponent, _ = self.amplitude
        return constant + exponent * log_scale


@dataclass(frozen=True, eq=False)
class Posterior:
    """Gaussian moments of the spectra of a batch."""

    mean: Float64[Tensor, "B W"]
    covariance: Float64[Tensor, "B W W"]
    log_amplitude: Float64[Tensor, " B"]


def log_signal(star: Star | None, depth: float) -> float:
    """Log of the change of depth by one scale height, 2 (Rp/Rs) (H/Rs); 0 for an unknown star.

    H = R T / (mu g) with mu = 2.3, T the equilibrium temperature of a black planet and g from
    the planet's mass and depth.
    """
    if star is None:
        return 0.0
    temperature = star.temperature_k / np.sqrt(2.0 * star.semi_major_axis_rs)
    radius = star.radius_rsun * _RSUN_M
    gravity = _GM_JUPITER * star.planet_mass_mjup / (max(depth, 1e-6) * radius**2)
    height = _GAS_CONSTANT * temperature / (_MEAN_MASS * gravity)
    return float(np.log(2.0 * np.sqrt(max(depth, 1e-6)) * height / radius))


def learn_spectrum_prior(
    labels: Float64[np.ndarray, "N 283"],
    log_scale: Sequence[float],
    config: SpectrumConfig,
) -> SpectrumPrior:
    """Prior from known spectra.

    Args:
        labels: Depths (Rp/Rs)^2 of the training planets.
        log_scale: `log_signal` of each.
        config: Section `transit.spectrum`.

    Raises:
        DataError: If there are fewer labels than `config.fewest_labels`.
    """
    if len(labels) < config.fewest_labels:
        raise DataError(
            f"{len(labels)} labelled planets, transit.spectrum.fewest_labels asks for "
            f"{config.fewest_labels} to learn a prior over spectra from. Label more planets, "
            "lower the key, or name a trained prior with prior=FILE."
        )
    scale = np.asarray(log_scale)
    judges = np.arange(len(labels)) % _HELD_OUT == 0
    best, chosen = -np.inf, (config.components[0], config.lengths_um[0])
    for components in config.components:
        if components > len(labels) // 4:
            continue
        for length in config.lengths_um:
            trial = _learn(labels[~judges], scale[~judges], components, length)
            likelihood = float(_log_likelihood(trial, labels[judges], scale[judges]).sum())
            if likelihood > best:
                best, chosen = likelihood, (components, length)
    return _learn(labels, scale, *chosen)


def _learn(
    labels: Float64[np.ndarray, "N 283"],
    scale: Float64[np.ndarray, " N"],
    components: int,
    length_um: float,
) -> SpectrumPrior:
    level = labels[:, 1:].mean(axis=1)
    shapes = labels - level[:, None]
    amplitude = np.log(np.maximum(shapes[:, 1:].std(axis=1), _SMALLEST))
    line = np.column_stack([np.ones(len(scale)), scale])
    prior = None
    for _ in range(_PASSES):
        coefficient, *_ = np.linalg.lstsq(line, amplitude, rcond=None)
        scatter = max(float(np.std(amplitude - line @ coefficient)), 0.1)
        unit = shapes / np.exp(amplitude)[:, None]
        mean = unit.mean(axis=0)
        _, singular, vectors = np.linalg.svd(unit - mean, full_matrices=False)
        kept = vectors[:components]
        left = (unit - mean) - ((unit - mean) @ kept.T) @ kept
        prior = SpectrumPrior(
            level=(float(level.mean()), float(2.0 * level.std())),
            shape=mean,
            components=kept * (singular[:components] / np.sqrt(len(unit)))[:, None],
            process=left.std(axis=0),
            length_um=length_um,
            amplitude=(float(coefficient[0]), float(coefficient[1]), scatter),
            planets=len(labels),
        )
        amplitude = _best_amplitudes(prior, shapes, scale, amplitude)
    assert prior is not None
    return prior


def _best_amplitudes(
    prior: SpectrumPrior,
    shapes: Float64[np.ndarray, "N 283"],
    scale: Float64[np.ndarray, " N"],
    start: Float64[np.ndarray, " N"],
) -> Float64[np.ndarray, " N"]:
    """Most likely ln amplitude of each spectrum, searched around the present one."""
    tried = start[:, None] + _SEARCH
    likelihood = _amplitude_likelihood(prior, shapes, tried)
    constant, exponent, scatter = prior.amplitude
    likelihood -= 0.5 * ((tried - (constant + exponent * scale)[:, None]) / scatter) ** 2
    return np.take_along_axis(tried, likelihood.argmax(1)[:, None], axis=1)[:, 0]


def _amplitude_likelihood(
    prior: SpectrumPrior,
    shapes: Float64[np.ndarray, "N 283"],
    log_amplitude: Float64[np.ndarray, "N G"],
) -> Float64[np.ndarray, "N G"]:
    """Log likelihood of each shape for each amplitude."""
    lower = np.linalg.cholesky(prior.covariance())
    both = np.linalg.solve(lower, np.vstack([shapes, prior.shape]).T)
    data, mean = both[:, :-1], both[:, -1]
    factor = np.exp(-log_amplitude)
    square = (data**2).sum(0)[:, None] * factor**2
    square += (mean @ mean) - 2.0 * (mean @ data)[:, None] * factor
    size = shapes.shape[1]
    return -0.5 * square - size * log_amplitude - np.log(np.diag(lower)).sum()


def _log_likelihood(
    prior: SpectrumPrior, labels: Float64[np.ndarray, "N 283"], scale: Float64[np.ndarray, " N"]
) -> Float64[np.ndarray, " N"]:
    """Log likelihood of left-out labels, the amplitude marginalised."""
    shapes = labels - labels[:, 1:].mean(axis=1, keepdims=True)
    constant, exponent, scatter = prior.amplitude
    steps = np.linspace(-4.0, 4.0, 161)
    tried = (constant + exponent * scale)[:, None] + scatter * steps
    terms = _amplitude_likelihood(prior, shapes, tried) - 0.5 * steps**2
    highest = terms.max(axis=1)
    return highest + np.log(np.exp(terms - highest[:, None]).sum(axis=1))


def _correlation(length_um: float) -> Float64[np.ndarray, "283 283"]:
    """Exponential in wavelength; FGS1 is correlated with nothing but through the components."""
    wavelength = wavelength_um()
    correlation = np.exp(-np.abs(wavelength[:, None] - wavelength) / length_um)
    correlation[0, 1:] = correlation[1:, 0] = 0.0
    return correlation


class PriorOnDevice:
    """A prior's matrices, ready to meet likelihoods of a batch."""

    def __init__(self, prior: SpectrumPrior, device: torch.device) -> None:
        self.prior = prior
        self.lower = torch.linalg.cholesky(torch.tensor(prior.covariance(), device=device))
        self.shape = torch.tensor(prior.shape, device=device)

    def posterior(
        self,
        information: Float64[Tensor, "#B W W"],
        vector: Float64[Tensor, "B W"],
        log_scale: Float64[Tensor, " B"],
    ) -> Posterior:
        """Posterior of spectra with likelihood exp(-d A d / 2 + b d), amplitude marginalised.

        The level is eliminated first; then one eigendecomposition serves all amplitudes.

        Args:
            information: A; one for all, or one per planet.
            vector: b.
            log_scale: `log_signal` of each planet.
        """
        constant, exponent, scatter = self.prior.amplitude
        level, spread = self.prior.level
        row = information.sum(-1)
        total = row.sum(-1, keepdim=True) + spread**-2.0
        gain = row / total  # pull of a shape on the level
        offset = (vector.sum(-1, keepdim=True) + level * spread**-2.0) / total
        inner = information - row[:, :, None] * gain[:, None, :]
        pull = vector - row * offset
        white = self.lower.T @ inner @ self.lower
        values, vectors = torch.linalg.eigh(0.5 * (white + white.transpose(-1, -2)))
        values = values.clamp_min(0.0)[:, None]
        basis = self.lower @ vectors  # whitened coordinates to shapes
        seen = torch.einsum("bwv,bw->bv", basis, pull)[:, None]
        mean_seen = torch.einsum("bwv,bwu,u->bv", basis, inner, self.shape)[:, None]
        mean_pull = pull @ self.shape
        mean_square = torch.einsum("w,bwv,v->b", self.shape, inner, self.shape)
        expected = constant + exponent * log_scale
        log_amplitude = expected[:, None] + scatter * _AMPLITUDES.to(expected)
        alpha = log_amplitude.exp()[..., None]  # (B, G, 1)
        precision = 1.0 + alpha**2 * values
        turned = alpha * (seen - alpha * mean_seen)
        evidence = (0.5 * turned**2 / precision - 0.5 * precision.log()).sum(-1)
        evidence = evidence + alpha[..., 0] * mean_pull[:, None]
        evidence = evidence - 0.5 * alpha[..., 0] ** 2 * mean_square[:, None]
        weight = torch.softmax(evidence - 0.5 * _AMPLITUDES.to(expected) ** 2, dim=-1)
        coordinates = alpha * turned / precision  # mean of the shape in the basis
        shapes = coordinates @ basis.transpose(-1, -2) + alpha * self.shape
        variance = torch.einsum("bg,bgv->bv", weight, alpha**2 / precision)
        mean = torch.einsum("bg,bgw->bw", weight, shapes)
        apart = (shapes - mean[:, None]) * weight.sqrt()[..., None]
        covariance = (basis * variance[:, None]) @ basis.transpose(-1, -2)
        covariance = covariance + apart.transpose(-1, -2) @ apart
        follows = (covariance @ gain[..., None])[..., 0]  # how the level falls with each depth
        own = (gain * follows).sum(-1) + 1.0 / total[..., 0]
        covariance = covariance - follows[:, None, :] - follows[:, :, None] + own[:, None, None]
        return Posterior(
            mean=mean - (gain * mean).sum(-1, keepdim=True) + offset,
            covariance=covariance,
            log_amplitude=(weight * log_amplitude).sum(-1),
        )
