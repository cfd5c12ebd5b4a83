"""What the light curves of a planet would have said of other spectra, a wavelength at a time.

Same data and same posterior as `transit.reobserve`, without the covariance of each spectrum,
which would cost far more than all the rest: here one eigendecomposition serves all spectra.
"""

import numpy as np
from jaxtyping import Float32, Float64

from spectramind.transit.spectrum_prior import PriorOnDevice

_AMPLITUDES = np.linspace(-3.0, 3.0, 13)  # [scatters of ln amplitude], as the fit's prior has them


class Measurement:
    """A fit's information A on depths, together with the prior that the fit was made with."""

    def __init__(self, information: Float32[np.ndarray, "W W"], prior: PriorOnDevice) -> None:
        exact = information.astype(np.float64)
        values, vectors = np.linalg.eigh(0.5 * (exact + exact.T))
        root = np.sqrt(np.maximum(values, 0.0))  # rounding may leave some below 0
        self.noise = (vectors * root).T
        self.information = self.noise.T @ self.noise
        self.prior = prior.prior
        self._eliminate_level()
        lower = prior.lower.cpu().numpy()
        white = lower.T @ self.inner @ lower
        values, vectors = np.linalg.eigh(0.5 * (white + white.T))
        self.values = np.maximum(values, 0.0)
        self.basis = lower @ vectors  # whitened coordinates to shapes
        self.mean_seen = self.prior.shape @ self.inner @ self.basis
        self.mean_square = self.prior.shape @ self.inner @ self.prior.shape

    def _eliminate_level(self) -> None:
        row = self.information.sum(-1)
        self.total = row.sum() + self.prior.level[1] ** -2.0
        self.row, self.gain = row, row / self.total  # gain: pull of a shape on the level
        self.inner = self.information - np.outer(row, self.gain)

    def observe(
        self,
        spectra: Float64[np.ndarray, "K W"],
        log_scale: float,
        rng: np.random.Generator,
    ) -> tuple[Float64[np.ndarray, "K W"], Float64[np.ndarray, "K W"]]:
        """Depths and their standard deviations that the fit would have given.

        Args:
            spectra: True depths (Rp/Rs)^2.
            log_scale: `log_signal` of the planet.
            rng: Draws the noise of the light curves.
        """
        drawn = rng.standard_normal(spectra.shape)
        return self.posterior(spectra @ self.information + drawn @ self.noise, log_scale)

    def posterior(
        self, vector: Float64[np.ndarray, "K W"], log_scale: float
    ) -> tuple[Float64[np.ndarray, "K W"], Float64[np.ndarray, "K W"]]:
        """Mean and standard deviation of spectra with likelihood exp(-d A d / 2 + b d).

        Args:
            vector: b of each spectrum.
            log_scale: `log_signal` of the planet.
        """
        level, spread = self.prior.level
        offset = (vector.sum(-1, keepdims=True) + level * spread**-2.0) / self.total
        pull = vector - self.row * offset
        alpha = self._amplitudes(log_scale)
        precision = 1.0 + alpha**2 * self.values  # (G, W)
        seen = (pull @ self.basis)[:, None] - alpha * self.mean_seen  # (K, G, W)
        weight = self._weight(seen, pull, alpha, precision)
        shapes = (alpha**2 * seen / precision) @ self.basis.T + alpha * self.prior.shape
        mean = np.einsum("kg,kgw->kw", weight, shapes)
        apart = (shapes - mean[:, None]) * np.sqrt(weight)[..., None]
        variance = weight @ (alpha**2 / precision)
        diagonal = variance @ (self.basis**2).T + (apart**2).sum(1)
        follows = (variance * (self.gain @ self.basis)) @ self.basis.T
        follows += np.einsum(
            "kgw,kg->kw", apart, apart @ self.gain
        )  # of the level with each depth
        own = follows @ self.gain + 1.0 / self.total
        depth = mean - (mean @ self.gain)[:, None] + offset
        return depth, np.sqrt(diagonal - 2.0 * follows + own[:, None])

    def _amplitudes(self, log_scale: float) -> Float64[np.ndarray, "G 1"]:
        scatter = self.prior.amplitude[2]
        return np.exp(self.prior.log_amplitude(log_scale) + scatter * _AMPLITUDES)[:, None]

    def _weight(
        self,
        seen: Float64[np.ndarray, "K G W"],
        pull: Float64[np.ndarray, "K W"],
        alpha: Float64[np.ndarray, "G 1"],
        precision: Float64[np.ndarray, "G W"],
    ) -> Float64[np.ndarray, "K G"]:
        """Share of each amplitude in the posterior of each spectrum."""
        evidence = 0.5 * (alpha * seen**2 * (alpha / precision)).sum(-1)
        evidence += np.outer(pull @ self.prior.shape, alpha[:, 0])
        evidence -= 0.5 * (np.log(precision).sum(-1) + alpha[:, 0] ** 2 * self.mean_square)
        evidence -= 0.5 * _AMPLITUDES**2
        weight = np.exp(evidence - evidence.max(-1, keepdims=True))
        return weight / weight.sum(-1, keepdims=True)
