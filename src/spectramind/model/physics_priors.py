"""Priors on the shape of a spectrum: molecules absorb in bands wider than a bin.

Both act on the AIRS part of mu in units of the fit's sigma, and both are 1 for the white noise
of the fit itself. FGS1, far away in wavelength, is left out.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_WHITE_NOISE_SECOND_DIFFERENCE = 6.0  # variance of x_{i-1} - 2 x_i + x_{i+1} for unit variance


def roughness(mu: Float[Tensor, "B W"], sigma_fit: Float[Tensor, "B W"]) -> Float[Tensor, " B"]:
    """Smooth L2: mean_i ((mu_{i-1} - 2 mu_i + mu_{i+1}) / sigma_fit_i)^2 / 6 over AIRS.

    Source: second-difference (Whittaker) smoothing; own unit.
    """
    second = mu[:, 1:-2] - 2.0 * mu[:, 2:-1] + mu[:, 3:]
    unit = sigma_fit[:, 2:-1]
    return ((second / unit) ** 2).mean(-1) / _WHITE_NOISE_SECOND_DIFFERENCE


def high_frequency_power(
    mu: Float[Tensor, "B W"], sigma_fit: Float[Tensor, "B W"], *, cutoff: float
) -> Float[Tensor, " B"]:
    """Mean power of mu / sigma_fit over AIRS at frequencies of at least `cutoff`.

    The spectrum of n bins, less its mean, is continued by its mirror image, so that its ends
    meet: r = [q_0..q_{n-1}, q_{n-1}..q_0], power_k = |FFT(r)_k|^2 / (2 n) at k / (2 n) cycles
    a bin for 0 <= k < n. White noise of unit variance has power 1 at every k > 0.

    Args:
        mu: Predicted spectra.
        sigma_fit: Error bars of the fit.
        cutoff: Lowest frequency that counts [cycles/bin].

    Source: own definition; the mirrored FFT is the type II cosine transform.
    """
    unit = sigma_fit[:, 1:].square().mean(-1, keepdim=True).sqrt()
    ratio = (mu[:, 1:] - mu[:, 1:].mean(-1, keepdim=True)) / unit
    bins = ratio.shape[-1]
    spectrum = torch.fft.rfft(torch.cat([ratio, ratio.flip(-1)], dim=-1))[:, :bins]
    power = spectrum.abs() ** 2 / (2 * bins)
    frequency = torch.arange(bins, device=mu.device) / (2 * bins)
    return power[:, frequency >= cutoff].mean(-1)
