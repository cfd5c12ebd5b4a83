"""The same visits of a planet with other spectra: what their fits would have said.

Orbit, star, drift and noise decide how well light curves know each depth; which spectrum they
carry hardly matters. The information A of a fit therefore serves for any spectrum d of the same
planet: its light curves would have said b = A d + n with n ~ N(0, A), and the prior over spectra
turns b into a posterior as it does in the fit. A thousand planets so become any number of
spectra seen through real orbits, drifts and noise, at the price of a matrix product each.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64

from spectramind.errors import DataError
from spectramind.observation import TransitFit
from spectramind.transit.spectrum_prior import PriorOnDevice


def reobserve(
    fit: TransitFit,
    spectra: Float64[np.ndarray, "K 283"],
    prior: PriorOnDevice,
    log_scale: float,
    rng: np.random.Generator,
) -> list[TransitFit]:
    """Fits of the same visits, had the planet had these spectra.

    Residuals, orbit and limb darkening stay those of the fit: they are not drawn again.

    Args:
        fit: A trusted fit.
        spectra: True depths (Rp/Rs)^2.
        prior: What is known of spectra; it must not have seen the planet's label if the results
            are to be judged by it.
        log_scale: `prior.log_signal` of the planet.
        rng: Draws the noise.

    Raises:
        DataError: If the fit is not to be trusted, for then its information is not either.
    """
    if fit.reasons:
        raise DataError(
            f"planet {fit.planet_id}: its fit is flagged ({fit.reasons[0]}), so its noise is not "
            "known. Observe a trusted planet again instead."
        )
    values, vectors = np.linalg.eigh(fit.information)
    values = np.maximum(values, 0.0)  # rounding may leave some below 0
    noise = (rng.standard_normal(spectra.shape) * np.sqrt(values)) @ vectors.T
    whole = (vectors * values) @ vectors.T
    posterior = prior.posterior(
        torch.from_numpy(whole)[None],
        torch.from_numpy(spectra @ whole + noise),
        torch.full((len(spectra),), log_scale, dtype=torch.float64),
    )
    covariance = posterior.covariance.numpy()
    return [
        replace(fit, depth=depth, sigma=sigma, own_sigma=sigma, covariance=own)
        for depth, sigma, own in zip(
            posterior.mean.numpy(),
            np.sqrt(covariance.diagonal(axis1=1, axis2=2)),
            covariance,
            strict=True,
        )
    ]
