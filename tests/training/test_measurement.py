"""Depths of spectra observed again, against the slower way with whole covariances."""

from dataclasses import replace

import numpy as np
import torch
from default_sections import default_spectrum_prior
from full_covariance import reobserve

from spectramind.transit.measurement import Measurement
from spectramind.transit.spectrum_prior import PriorOnDevice


def test_equals_the_posterior_with_whole_covariances(archive):
    fits, _, _ = archive(1)
    (fit,) = fits.values()
    _, spectrum = default_spectrum_prior()
    shape = np.append(0.4, np.sin(np.linspace(0.0, 9.0, 282)))
    spectrum = replace(spectrum, shape=shape, amplitude=(np.log(1e-4), 0.5, 0.7))
    prior = PriorOnDevice(spectrum, torch.device("cpu"))
    rng = np.random.default_rng(3)
    spectra = 0.012 + 3e-4 * rng.standard_normal((4, 283)).cumsum(1) / 17.0
    for log_scale in (-1.0, 1.0):
        slow = reobserve(fit, spectra, prior, log_scale, np.random.default_rng(1))
        measurement = Measurement(fit.information, prior)
        depth, sigma = measurement.observe(spectra, log_scale, np.random.default_rng(1))
        for row, one in enumerate(slow):
            np.testing.assert_allclose(depth[row], one.depth, rtol=1e-8)
            np.testing.assert_allclose(sigma[row], one.sigma, rtol=1e-6)
