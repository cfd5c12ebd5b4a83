"""The loss: a robust Gaussian likelihood and the physics priors, each with its own weight."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spectramind.model.physics_priors import (
    asymmetric_share,
    high_frequency_power,
    incoherence,
    negativity,
    roughness,
)
from spectramind.model.settings import LossConfig
from spectramind.posterior import SpectrumPosterior


class LossTerms(NamedTuple):
    """The loss of a batch and its unweighted terms."""

    total: Float[Tensor, ""]
    nll: Float[Tensor, ""]
    roughness: Float[Tensor, ""]
    high_frequency: Float[Tensor, ""]
    asymmetry: Float[Tensor, ""]
    negativity: Float[Tensor, ""]
    incoherence: Float[Tensor, ""]


def loss_terms(
    posterior: SpectrumPosterior,
    fit: SpectrumPosterior,
    own_sigma: Float[Tensor, "B W"],
    asymmetry: Float[Tensor, "B W"],
    depth: Float[Tensor, "B W"],
    config: LossConfig,
) -> LossTerms:
    """Weighted sum of the likelihood and the physics priors, means over planets.

    Args:
        posterior: Predicted spectra.
        fit: Spectra of the fit.
        own_sigma: The fit's errors before anything widened them, the unit of the priors.
        asymmetry: Residual at ingress minus residual at egress [standard errors].
        depth: True spectra.
        config: Weights; a prior of weight 0 is measured but has no part in the total.

    Source: own combination; each term names its own.
    """
    nll = robust_nll(
        posterior, depth, unit=fit.sigma, z_clip=config.z_clip, fgs1_weight=config.fgs1_weight
    )
    correction = (posterior.mu - fit.mu) / own_sigma
    weighed = (
        (config.gll_weight, nll),
        (config.smooth_l2_weight, roughness(posterior.mu, own_sigma)),
        (
            config.fft_suppress_weight,
            high_frequency_power(posterior.mu, own_sigma, cutoff=config.fft_cutoff),
        ),
        (config.asymmetry_weight, asymmetric_share(correction, asymmetry)),
        (config.negativity_weight, negativity(posterior.mu, own_sigma)),
        (config.coherence_weight, incoherence(correction)),
    )
    terms = [term.mean() for _, term in weighed]
    total = sum(weight * term for (weight, _), term in zip(weighed, terms, strict=True) if weight)
    return LossTerms(torch.as_tensor(total), *terms)


def robust_nll(
    posterior: SpectrumPosterior,
    depth: Float[Tensor, "B W"],
    *,
    unit: Float[Tensor, "B W"],
    z_clip: float,
    fgs1_weight: float,
) -> Float[Tensor, " B"]:
    """Weighted mean over wavelengths of rho(z)/2 + ln(sigma / unit), z = (y - mu)/sigma [nat].

    rho(z) = z^2 up to c = `z_clip` and c^2 (1 + ln(z^2/c^2)) beyond: value and slope are
    continuous, and the pull of one point on ln sigma is at most c^2. Within the clip this is
    the Gaussian log density but for ln(2 pi)/2 and the unit.

    Args:
        posterior: Predicted spectra.
        depth: True spectra.
        unit: Depth in whose units sigma is measured; leaves gradients as they are.
        z_clip: c.
        fgs1_weight: Weight of wavelength 0; every other one counts 1.

    Source: Gaussian likelihood; the tail is that of a Student t density (its logarithm grows
    as ln z^2), joined at c.
    """
    square = robust_square(posterior.z(depth) ** 2, z_clip)
    return weighted_mean(0.5 * square + torch.log(posterior.sigma / unit), fgs1_weight)


def joint_nll(
    posterior: SpectrumPosterior,
    depth: Float[Tensor, "B W"],
    *,
    unit: Float[Tensor, "B W"],
    z_clip: float,
) -> Float[Tensor, " B"]:
    """rho(q)/2 + ln det(S)/(2 W) - mean ln unit, q^2 = (y - mu)^T S^-1 (y - mu)/W [nat].

    The joint counterpart of `robust_nll`, per wavelength; rho is the same, so that a blown planet
    pulls as a whole by at most c^2. Here each wavelength counts alike.

    Source: Gaussian likelihood of the whole spectrum; tail as in `robust_nll`.
    """
    wavelengths = depth.shape[-1]
    square = robust_square(posterior.mahalanobis(depth) / wavelengths, z_clip)
    return 0.5 * (square + posterior.log_det() / wavelengths) - torch.log(unit).mean(-1)


def robust_square(square: Float[Tensor, "..."], clip: float) -> Float[Tensor, "..."]:
    """The rho of `robust_nll` from z^2: itself up to clip^2, logarithmic beyond."""
    edge = clip**2
    tail = edge * (1.0 + torch.log(square.clamp(min=edge) / edge))
    return torch.where(square <= edge, square, tail)


def weighted_mean(point: Float[Tensor, "... W"], fgs1_weight: float) -> Float[Tensor, "..."]:
    """Mean over wavelengths in which FGS1 counts `fgs1_weight` and every AIRS bin 1."""
    weight = torch.ones(point.shape[-1], dtype=point.dtype, device=point.device)
    weight[0] = fgs1_weight
    return (point * weight).sum(-1) / weight.sum()
