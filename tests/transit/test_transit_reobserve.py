"""Other spectra seen through the visits of a fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from biased_visits import informed_fit, plain_prior
from full_covariance import reobserve

from spectramind.errors import DataError
from spectramind.transit.spectrum_prior import PriorOnDevice

W = 283


def test_errors_are_as_large_as_the_fits_say():
    """Spectra drawn from the prior itself: z^2 is 1, and correlated noise is recognised."""
    prior, rng = plain_prior(), np.random.default_rng(1)
    shapes = rng.multivariate_normal(prior.shape, prior.covariance(), size=200)
    spectra = 0.012 + np.exp(prior.amplitude[0]) * shapes
    fits = reobserve(informed_fit(), spectra, PriorOnDevice(prior, torch.device("cpu")), 0.0, rng)
    depth, sigma = (np.stack([getattr(fit, name) for fit in fits]) for name in ("depth", "sigma"))
    z = (depth - spectra) / sigma
    assert 0.85 < np.mean(z**2) < 1.15
    level = (depth - spectra).mean(1)
    known = np.array([fit.covariance.mean() ** 0.5 for fit in fits])
    assert 0.8 < np.mean((level / known) ** 2) < 1.2  # of the mean, where errors add up


def test_what_belongs_to_the_visits_stays():
    fit, prior = informed_fit(), PriorOnDevice(plain_prior(), torch.device("cpu"))
    spectra = np.full((2, W), 0.012)
    one, two = reobserve(fit, spectra, prior, 0.0, np.random.default_rng(0))
    assert one.visits is fit.visits
    assert one.information is fit.information
    assert not np.array_equal(one.depth, two.depth)  # each has noise of its own
    again, _ = reobserve(fit, spectra, prior, 0.0, np.random.default_rng(0))
    assert np.array_equal(one.depth, again.depth)


def test_a_flagged_fit_is_refused():
    fit = replace(informed_fit(), reasons=("FGS1: no transit found.",))
    prior = PriorOnDevice(plain_prior(), torch.device("cpu"))
    with pytest.raises(DataError, match="is flagged"):
        reobserve(fit, np.full((1, W), 0.01), prior, 0.0, np.random.default_rng(0))
