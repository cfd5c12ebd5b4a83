"""Bounds of benchmarks/accuracy.py: what is reached when more than the light curves is known.

With the transit's shape and limb darkening known, the log flux of a wavelength is linear in its
depth and in its drift, around the true spectrum:

    r(t, w) = log flux - log transit = star(w) + drift(t, w) + (d_w - true d_w) s(t, w) + noise

`limit` marginalises the drift under the simulator's own Gaussian prior, `perfect` takes it from
the truth. Both end with the Gaussian prior over spectra that the fit uses, so that `limit` is the
limit of such a prior, not of what can be known. Moments of the drift need many thousand visits:
from a thousand the bound comes out too low.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64

from sets import DRIFT_ORDER, DriftPrior, TransitTruth, World, drift_prior
from spectramind.parallel import Shown, results
from spectramind.transit.binning import BinnedVisit
from spectramind.transit.spectrum_prior import PriorOnDevice, SpectrumPrior, log_signal

Spectrum = tuple[Float64[np.ndarray, " 283"], Float64[np.ndarray, " 283"]]  # depth and sigma


@dataclass(frozen=True, eq=False)
class _Gram:
    """Normal equations of one visit on the depths d minus their truth, and its drift c."""

    depth: Float64[np.ndarray, " 283"]  # diagonal
    cross: Float64[np.ndarray, "283 35"]
    drift: Float64[np.ndarray, "35 35"]
    depth_pull: Float64[np.ndarray, " 283"]
    drift_pull: Float64[np.ndarray, " 35"]


def drift_moments(samples: int, seeds: Sequence[int], workers: int) -> DriftPrior:
    """Mean of the simulator's drift moments over several draws, for the memory's sake.

    Args:
        samples: Visits of one draw.
        seeds: One a draw.
        workers: Processes.
    """
    made = results(
        partial(drift_prior, samples), seeds, workers=workers, shown=Shown("drift", "seeds")
    )
    parts = [part for _, part in made]
    parts.sort(key=lambda part: part.remainder)  # sums in one order, whoever finished first
    return DriftPrior(
        np.mean([part.airs for part in parts], axis=0),
        np.mean([part.fgs1 for part in parts], axis=0),
        float(np.sqrt(np.mean([part.remainder**2 for part in parts]))),
    )


def limit(world: World, drift: DriftPrior, spectra: SpectrumPrior) -> Spectrum:
    """Posterior of the spectrum, transit shape and limb darkening known, drift by its prior.

    Args:
        world: A planet with its truth.
        drift: Moments of the simulator's drift.
        spectra: Prior over spectra that never saw the planet's label.
    """
    orders, size = DRIFT_ORDER, len(drift.fgs1) + len(drift.airs)
    precision = np.zeros((size, size))
    precision[:orders, :orders] = np.linalg.inv(drift.fgs1)
    precision[orders:, orders:] = np.linalg.inv(drift.airs)
    information, pull = np.zeros((283, 283)), np.zeros(283)
    for visit, truth in zip(world.visits, _truth(world), strict=True):
        own = _gram(visit, truth, _residual(visit, truth, known_drift=False))
        inverse = np.linalg.inv(own.drift + precision)
        information += np.diag(own.depth) - own.cross @ inverse @ own.cross.T
        pull += own.depth_pull - own.cross @ inverse @ own.drift_pull
    return _spectrum(world, information, pull, spectra)


def perfect(world: World, spectra: SpectrumPrior) -> Spectrum:
    """Posterior of the spectrum, transit shape, limb darkening and drift known."""
    information, pull = np.zeros((283, 283)), np.zeros(283)
    for visit, truth in zip(world.visits, _truth(world), strict=True):
        own = _gram(visit, truth, _residual(visit, truth, known_drift=True))
        information += np.diag(own.depth)
        pull += own.depth_pull
    return _spectrum(world, information, pull, spectra)


def _truth(world: World) -> tuple[TransitTruth, ...]:
    assert world.truth is not None, "bounds need worlds drawn with truth=True"
    return world.truth


def _residual(
    visit: BinnedVisit, truth: TransitTruth, *, known_drift: bool
) -> Float64[np.ndarray, "T 283"]:
    """Log flux over the true transit and, where it is known, the true drift."""
    flux = np.column_stack([visit.fgs1, visit.airs])
    residual = np.log(flux) - np.log(truth.transit)
    return residual - np.log(truth.drift) if known_drift else residual


def _gram(
    visit: BinnedVisit, truth: TransitTruth, residual: Float64[np.ndarray, "T 283"]
) -> _Gram:
    """Weighted products over time, the star's level eliminated by taking means away.

    The noise of a wavelength is what its flux has beside the truth.
    """
    noise = _residual(visit, truth, known_drift=True)
    weight = noise.var(axis=0, ddof=1) ** -1.0
    slope = truth.slope / truth.transit
    slope, residual = slope - slope.mean(0), residual - residual.mean(0)
    bins = len(slope)
    terms = np.polynomial.chebyshev.chebvander
    fgs1, airs = (
        terms(visit.scaled(time), DRIFT_ORDER)[:, 1:]
        for time in (visit.fgs1_time_h, visit.airs_time_h)
    )
    fgs1, airs = fgs1 - fgs1.mean(0), airs - airs.mean(0)
    colour = terms(np.linspace(-1.0, 1.0, 282), DRIFT_ORDER)
    design = np.zeros((283, bins, DRIFT_ORDER + DRIFT_ORDER * colour.shape[1]))
    design[0, :, :DRIFT_ORDER] = fgs1
    design[1:, :, DRIFT_ORDER:] = np.einsum("ti,wj->wtij", airs, colour).reshape(282, bins, -1)
    weighted = design * weight[:, None, None]
    flat, total = design.reshape(-1, design.shape[2]), weighted.reshape(-1, design.shape[2])
    return _Gram(
        depth=weight * (slope**2).sum(0),
        cross=np.einsum("wtn,tw->wn", weighted, slope),
        drift=total.T @ flat,
        depth_pull=weight * (slope * residual).sum(0),
        drift_pull=total.T @ residual.T.ravel(),
    )


def _spectrum(
    world: World,
    information: Float64[np.ndarray, "283 283"],
    pull: Float64[np.ndarray, " 283"],
    spectra: SpectrumPrior,
) -> Spectrum:
    """Posterior under the prior over spectra; normal equations are about the true spectrum."""
    vector = pull + information @ world.label
    scale = log_signal(world.star, float(world.label[1:].mean()))
    posterior = PriorOnDevice(spectra, torch.device("cpu")).posterior(
        torch.tensor(information)[None],
        torch.tensor(vector)[None],
        torch.tensor([scale], dtype=torch.float64),
    )
    variance = posterior.covariance[0].diagonal()
    return posterior.mean[0].numpy(), variance.sqrt().numpy()
