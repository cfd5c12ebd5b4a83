"""A fit with correlated errors, and a prior over spectra, both written down by hand."""

import numpy as np
from spectral_process import SURE, exponential

from spectramind.observation import TransitFit
from spectramind.transit.spectrum_prior import SpectrumPrior

W = 283


def plain_prior() -> SpectrumPrior:
    """Two waves over the band and a short process; FGS1 with an offset of its own."""
    x = np.linspace(0.0, 1.0, W - 1)
    waves = np.array([np.sin(6.0 * x), np.cos(9.0 * x)])
    waves -= waves.mean(1, keepdims=True)
    return SpectrumPrior(
        level=(0.012, 0.006),
        shape=np.append(-0.5, np.cos(4.0 * x) - np.cos(4.0 * x).mean()),
        components=np.concatenate([[[0.8], [-0.3]], waves], axis=1),
        process=exponential(np.append(0.4, np.full(W - 1, 0.2)), 0.05),
        amplitude=(np.log(2e-4), 0.0, 0.1),
        planets=100,
        typical=(-9.0, 1.0),
        least=1e-6,
        shares=SURE,
    )


def informed_fit() -> TransitFit:
    """Errors of 50 ppm a wavelength and 30 ppm in common."""
    error = np.diag(np.full(W, 50e-6**2)) + 30e-6**2
    return TransitFit(
        planet_id=5,
        depth=np.full(W, 0.012),
        sigma=np.sqrt(error.diagonal()),
        own_sigma=np.sqrt(error.diagonal()),
        widening=np.ones(2),
        covariance=error,
        scale=np.ones(2),
        level_sigma=0.0,
        information=np.linalg.inv(error),
        vector=np.linalg.solve(error, np.full(W, 0.012)),
        measured_sigma=np.full(W, 50e-6),
        parameter_names=(),
        parameters=np.empty(0),
        parameter_covariance=np.empty((0, 0)),
        limb_darkening=np.full((W, 2), 0.2),
        limb_pull=np.zeros(4),
        reduced_chi2=1.0,
        reasons=(),
        visits=(),
    )
