"""What a fit leaves of a planet: spectrum with covariance, parameters, residual light curves."""

import numpy as np
import torch
from jaxtyping import Float64

from spectramind.observation import TransitFit, VisitFit
from spectramind.transit.binning import BinnedVisit
from spectramind.transit.depths import SpectrumFit
from spectramind.transit.drift import chebyshev
from spectramind.transit.linear import transit_columns
from spectramind.transit.parameters import ORBIT
from spectramind.transit.settings import TransitConfig
from spectramind.transit.start import BinnedPlanet, Start
from spectramind.transit.verdict import Findings, judge, level_error, widening

_ORBIT_NAMES = ("period_d", "semi_major_axis_rs", "impact_parameter")
_LIMB_NAMES = ("u1_fgs1", "u2_fgs1", "u1_airs", "u2_airs")
_TIME_NAMES = ("t0_h", "clock_h")
_ROUNDING = 1e-10  # share added to each variance: more than rounding can have taken from it


def make_product(
    planet: BinnedPlanet, row: int, fit: SpectrumFit, start: Start, found: Findings,
    config: TransitConfig,
) -> TransitFit:  # fmt: skip
    """The fit of one planet of a batch, with what speaks against it."""
    reasons = judge(
        found, planet.visits, known=start.guesses[row].known, config=config.failure,
        settled_ppm=config.settled_ppm,
    )  # fmt: skip
    names, values, covariance = _parameters(planet, row, fit, start)
    used = np.isfinite(found.white)
    reduced_chi2 = float(np.mean(found.white[used] ** 2)) if used.any() else 0.0
    posterior = fit.posterior.covariance[row].cpu().numpy()
    factors = widening(found, known=start.guesses[row].known, config=config.failure)
    level = level_error(found, reasons, config.failure)
    spread = widened(posterior, factors, level**2)
    information = fit.information[row].cpu().numpy()
    alone = information.diagonal()
    own = fit.linear.layout.split(fit.shared[row : row + 1], fit.linear.batch.place)
    return TransitFit(
        planet_id=planet.planet_id,
        depth=fit.depth[row].cpu().numpy(),
        sigma=np.sqrt(np.diag(spread)),
        own_sigma=np.sqrt(np.diag(posterior)),
        widening=np.array(factors),
        scale=np.ones(2),
        level_sigma=level,
        covariance=spread,
        information=information,
        vector=fit.vector[row].cpu().numpy(),
        measured_sigma=np.where(alone > 1e-12, alone, np.nan) ** -0.5,
        parameter_names=names,
        parameters=values,
        parameter_covariance=covariance,
        limb_darkening=(fit.linear.batch.limb[row] + own.limb[0]).cpu().numpy(),
        limb_pull=found.fixed[ORBIT : ORBIT + len(_LIMB_NAMES)],
        reduced_chi2=reduced_chi2,
        reasons=reasons,
        visits=tuple(
            _visit_product(visit, number, row, fit) for number, visit in enumerate(planet.visits)
        ),
    )


def widened(
    posterior: Float64[np.ndarray, "W W"], factors: tuple[float, float], common: float
) -> Float64[np.ndarray, "W W"]:
    """Symmetric positive definite covariance of a fit that something may speak against.

    Args:
        posterior: Covariance of the depths, FGS1 first.
        factors: On sigma of FGS1 and of AIRS-CH0.
        common: Variance that all depths have in common [(Rp/Rs)^4].

    A congruence, and a variance of 0 or more added to all entries, leave no eigenvalue below 0 but
    for rounding, which is relative to the variances. Cholesky's method works where the correlation
    matrix has no eigenvalue below about W^2 times the precision of a number.

    Source: Higham 2002, Accuracy and Stability of Numerical Algorithms, theorem 10.7.
    """
    factor = np.append(factors[0], np.full(len(posterior) - 1, factors[1]))
    spread = factor[:, None] * posterior * factor + common
    spread = 0.5 * (spread + spread.T)
    spread[np.diag_indices_from(spread)] *= 1.0 + _ROUNDING
    return spread


def _parameters(
    planet: BinnedPlanet, row: int, fit: SpectrumFit, start: Start
) -> tuple[tuple[str, ...], Float64[np.ndarray, " K"], Float64[np.ndarray, "K K"]]:
    """Shared parameters in physical terms: P, a, b, limb darkening and times of each visit."""
    shared, prior = fit.shared[row].cpu().numpy(), fit.shared_covariance[row].cpu().numpy()
    limb = fit.linear.batch.limb[row].cpu().numpy()
    first = [start.layout.times(visit).start for visit in range(start.layout.visits)]
    times = [row + place for row in first for place in range(len(_TIME_NAMES))]
    chosen = [*range(len(_ORBIT_NAMES) + len(_LIMB_NAMES)), *times]
    values, slopes = shared[chosen].copy(), np.ones(len(chosen))
    values[:2] = slopes[:2] = np.exp(values[:2])
    values[2] = np.sqrt(values[2])
    slopes[2] = 0.5 / max(values[2], 0.05)  # b^2 is the Gaussian one; near 0 b has no slope
    values[3:5] += limb[0]
    values[5:7] += limb[1:].mean(axis=0)
    names = [*_ORBIT_NAMES, *_LIMB_NAMES]
    names += [f"{name}_{visit.visit}" for visit in planet.visits for name in _TIME_NAMES]
    covariance = slopes[:, None] * prior[np.ix_(chosen, chosen)] * slopes
    return tuple(names), values, covariance


def _visit_product(visit: BinnedVisit, number: int, row: int, fit: SpectrumFit) -> VisitFit:
    """Residual products of one visit for the network and the figures."""
    bins = visit.airs_time_h.size
    log_transit = fit.curves.log_transit[row, number, :, :bins]
    residual = fit.linear.residual(fit.curves)[row, number, :, :bins]
    flux = (log_transit + residual).exp().T.cpu().numpy().astype(np.float32)
    fine_model, fine_gain = _fine(visit, number, row, fit)
    weight = fit.linear.batch.weight[row, number, 0, :bins]
    own = fit.linear.batch.log_flux - fit.curves.log_transit - fit.curves.log_gain
    level = (weight * own[row, number, 0, :bins]).sum() / weight.sum().clamp_min(1e-300)
    baseline = fine_gain * float(level.exp())
    return VisitFit(
        visit=visit.visit,
        time_h=visit.airs_time_h,
        flux=np.where(visit.electrons > 0.0, flux, np.float32(np.nan)),
        model=log_transit.exp().T.cpu().numpy().astype(np.float32),
        electrons=visit.electrons.astype(np.float32),
        fgs1_time_h=visit.fine_time_h,
        fgs1_flux=(visit.fine_fgs1 / baseline).astype(np.float32),
        fgs1_model=fine_model.astype(np.float32),
        fgs1_centroid=visit.fine_centroid.astype(np.float32),
    )


def _fine(
    visit: BinnedVisit, number: int, row: int, fit: SpectrumFit
) -> tuple[Float64[np.ndarray, " L"], Float64[np.ndarray, " L"]]:
    """Transit and drift of FGS1 at the times of its finer series."""
    linear = fit.linear
    device = fit.depth.device
    own = linear.layout.split(fit.shared[row : row + 1], linear.batch.place)
    limb = linear.batch.limb[row : row + 1, :1] + own.limb[:, :1]
    time = torch.tensor(visit.fine_time_h, device=device)[None, None, :, None]
    log_transit, _ = transit_columns(
        time, own.orbit, own.mid_time_h[:, number : number + 1, 0],
        fit.apparent[row : row + 1, :1], limb, 3,
    )  # fmt: skip
    tau = torch.tensor(visit.scaled(visit.fine_time_h), device=device)
    terms = chebyshev(tau, linear.layout.time_order)[:, 1:]
    gain = 1.0 + terms @ own.drift_fgs1[0, number]
    return log_transit[0, 0, 0].exp().cpu().numpy(), gain.cpu().numpy()
