"""Structure left in the residuals over wavelength: power spectrum, correlation, size."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int
from scipy import stats
from scipy.signal.windows import hann

Matrix = Float64[np.ndarray, "B W"]


@dataclass(frozen=True, eq=False)
class ResidualPower:
    """Mean power spectrum of the residuals over wavelength, relative to white noise (1)."""

    frequency: Float64[np.ndarray, " K"]  # [cycles/channel]
    power: Float64[np.ndarray, " K"]
    white_95: float  # exceeded by one frequency in twenty of white residuals
    p_value: float  # of the highest frequency, all frequencies considered

    @property
    def strongest_period(self) -> float:
        """Period with the highest power [channels]."""
        return float(1.0 / self.frequency[np.argmax(self.power)])


def residual_power(z: Matrix) -> ResidualPower:
    """Hann-windowed power of each planet's residuals, normalised by their variance, then averaged.

    A planet's mean and variance are removed first, so the shape is judged, not the size. With n
    planets of white residuals each value is Gamma(n, 1/n): the power of one planet is
    exponential. The two lowest frequencies share the removed mean and are left out, and so is
    the highest, whose power is not exponential.

    Args:
        z: Normalised residuals at contiguous wavelengths (AIRS-CH0).

    Source: Welch 1967, with planets in place of time segments; the maximum over frequencies
    after Sidak 1967.
    """
    planets, wavelengths = z.shape
    centred = z - z.mean(1, keepdims=True)
    scale = centred.std(1, keepdims=True)
    unit = centred / np.where(scale > 0.0, scale, 1.0)
    window = hann(wavelengths, sym=False)
    spectrum = np.fft.rfft(unit * window, axis=1)[:, 2:-1]
    power = (np.abs(spectrum) ** 2).mean(0) / np.sum(window**2)
    frequency = np.fft.rfftfreq(wavelengths)[2:-1]
    law = stats.gamma(planets, scale=1.0 / planets)
    p_value = min(1.0, len(power) * float(law.sf(power.max())))
    return ResidualPower(frequency, power, float(law.ppf(0.95)), p_value)


def binned_correlation(z: Matrix, edges: Int[np.ndarray, " E"]) -> Float64[np.ndarray, "N N"]:
    """Correlation over planets between bins of wavelengths, about zero: E[a b]/sqrt(E a^2 E b^2).

    Args:
        z: Normalised residuals; a good model has mean zero, so the mean is not removed.
        edges: First index of each bin and the end of the last one.
    """
    sums = np.add.reduceat(z, edges[:-1], axis=1) / np.diff(edges)
    product = sums.T @ sums
    size = np.sqrt(np.diag(product))
    scale = np.outer(size, size)
    return product / np.where(scale > 0.0, scale, 1.0)


def neighbour_correlation(z: Matrix, lag: int) -> float:
    """Mean correlation between wavelengths `lag` channels apart, about zero."""
    return float((z[:, lag:] * z[:, :-lag]).mean() / (z**2).mean())


def rms_error(depth: Matrix, mu: Matrix) -> Float64[np.ndarray, " W"]:
    """Root mean square error over planets at each wavelength."""
    return np.sqrt(((depth - mu) ** 2).mean(0))
