"""Physics priors: penalties on spectra and on corrections that no planet would have.

Each is a mean over wavelengths in units of the fit's own sigma. Roughness and high frequencies are
1 for the white noise of the fit itself, incoherence for a white correction of one sigma. FGS1, far
away in wavelength, has no part in the first two. The correction is (mu - mu_fit) / own_sigma.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from spectramind.instrument import wavelength_um
from spectramind.spectroscopy import GASES, bands_of

_WHITE_NOISE_SECOND_DIFFERENCE = 6.0  # variance of x_{i-1} - 2 x_i + x_{i+1} for unit variance


def roughness(mu: Float[Tensor, "B W"], own_sigma: Float[Tensor, "B W"]) -> Float[Tensor, " B"]:
    """Smooth L2: mean_i ((mu_{i-1} - 2 mu_i + mu_{i+1}) / own_sigma_i)^2 / 6 over AIRS.

    Source: second-difference (Whittaker) smoothing; own unit.
    """
    second = mu[:, 1:-2] - 2.0 * mu[:, 2:-1] + mu[:, 3:]
    unit = own_sigma[:, 2:-1]
    return ((second / unit) ** 2).mean(-1) / _WHITE_NOISE_SECOND_DIFFERENCE


def high_frequency_power(
    mu: Float[Tensor, "B W"], own_sigma: Float[Tensor, "B W"], *, cutoff: float
) -> Float[Tensor, " B"]:
    """Mean power of mu / own_sigma over AIRS at frequencies of at least `cutoff`.

    The spectrum of n bins, less its mean, is continued by its mirror image, so that its ends
    meet: r = [q_0..q_{n-1}, q_{n-1}..q_0], power_k = |FFT(r)_k|^2 / (2 n) at k / (2 n) cycles
    per bin for 0 <= k < n. White noise of unit variance has power 1 at every k > 0.

    Args:
        mu: Predicted spectra.
        own_sigma: Errors of the fit before anything widened them.
        cutoff: Lowest frequency that counts [cycles/bin].

    Source: own definition; the mirrored FFT is the type II cosine transform.
    """
    unit = own_sigma[:, 1:].square().mean(-1, keepdim=True).sqrt()
    ratio = (mu[:, 1:] - mu[:, 1:].mean(-1, keepdim=True)) / unit
    bins = ratio.shape[-1]
    spectrum = torch.fft.rfft(torch.cat([ratio, ratio.flip(-1)], dim=-1))[:, :bins]
    power = spectrum.abs() ** 2 / (2 * bins)
    frequency = torch.arange(bins, device=mu.device) / (2 * bins)
    return power[:, frequency >= cutoff].mean(-1)


def negativity(mu: Float[Tensor, "B W"], own_sigma: Float[Tensor, "B W"]) -> Float[Tensor, " B"]:
    """Mean of max(0, -mu / own_sigma)^2: no depth is negative.

    Source: own choice; a one-sided quadratic penalty.
    """
    return (-mu / own_sigma).clamp(min=0.0).square().mean(-1)


def incoherence(correction: Float[Tensor, "B W"]) -> Float[Tensor, " B"]:
    """Mean over molecule bands of the variance of the correction inside the band.

    A gas that was missed lifts all bins of its band; one bin alone is noise. Bands are those of
    `spectroscopy.bands_of` that hold two bins or more; their variance is the unbiased one.

    Source: own definition on the band tables.
    """
    bands = torch.from_numpy(_bands()).to(correction)
    size = bands.sum(-1)
    mean = correction @ bands.T / size
    square = correction.square() @ bands.T - size * mean.square()
    return (square.clamp(min=0.0) / (size - 1.0)).mean(-1)


def asymmetric_share(
    correction: Float[Tensor, "B W"], asymmetry: Float[Tensor, "B W"]
) -> Float[Tensor, " B"]:
    """Mean square of that part of the correction that follows the asymmetry over wavelength.

    With a the mean residual at ingress minus that at egress, in standard errors, this is
    <correction, a>^2 / (<a, a> W). A depth acts on both edges alike: residuals that differ
    between them speak of time and drift, so a correction must not be drawn from them.

    Source: own definition.
    """
    along = (correction * asymmetry).sum(-1).square()
    return along / asymmetry.square().sum(-1).clamp(min=1e-12) / correction.shape[-1]


@cache
def _bands() -> Float32[np.ndarray, "K W"]:
    """Membership of the molecule bands with at least two bins."""
    grid = wavelength_um()
    bands = np.concatenate([bands_of(gas, grid) for gas in GASES]).astype(np.float32)
    return bands[bands.sum(axis=1) >= 2]
