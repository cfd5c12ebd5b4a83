"""What a fit leaves of a planet: spectrum with covariance, parameters, residual light curves."""

import numpy as np
import torch
from jaxtyping import Float64

from spectramind.observation import TransitFit, VisitFit
from spectramind.transit.binning import BinnedVisit
from spectramind.transit.depths import SpectrumFit
from spectramind.transit.drift import chebyshev
from spectramind.transit.linear import transit_columns
from spectramind.transit.settings import TransitConfig
from spectramind.transit.start import BinnedPlanet, Start
from spectramind.transit.verdict import Findings, judge, lost, widening

_ORBIT_NAMES = ("period_d", "semi_major_axis_rs", "impact_parameter")
_LIMB_NAMES = ("u1_fgs1", "u2_fgs1", "u1_airs", "u2_airs")
_TIME_NAMES = ("t0_h", "clock_h")


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
    spread = fit.posterior.covariance[row].cpu().numpy()
    used = np.isfinite(found.white)
    reduced_chi2 = float(np.mean(found.white[used] ** 2)) if used.any() else 0.0
    known = start.guesses[row].known
    fgs1, airs = widening(found, known=known, config=config.failure)
    factor = np.append(fgs1, np.full(len(spread) - 1, airs))
    spread = factor[:, None] * spread * factor + (1e-6 * found.change_ppm) ** 2
    if lost(reasons):
        spread = spread + config.failure.depth_scatter**2
    information = fit.likelihood.information[row].cpu().numpy()
    alone = information.diagonal()
    own = fit.linear.layout.split(fit.shared[row : row + 1], fit.linear.batch.place)
    return TransitFit(
        planet_id=planet.planet_id,
        depth=fit.depth[row].cpu().numpy(),
        sigma=np.sqrt(np.diag(spread)),
        covariance=spread.astype(np.float32),
        information=information.astype(np.float32),
        measured_sigma=np.where(alone > 1e-12, alone, np.nan) ** -0.5,
        parameter_names=names,
        parameters=values,
        parameter_covariance=covariance,
        limb_darkening=(fit.linear.batch.limb[row] + own.limb[0]).cpu().numpy(),
        reduced_chi2=reduced_chi2,
        reasons=reasons,
        visits=tuple(
            _visit_product(visit, number, row, fit) for number, visit in enumerate(planet.visits)
        ),
    )


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
        time, own.orbit, own.mid_time_h[:, number : number + 1, 0], fit.depth[row : row + 1, :1],
        limb, 3,
    )  # fmt: skip
    tau = torch.tensor(visit.scaled(visit.fine_time_h), device=device)
    terms = chebyshev(tau, linear.layout.time_order)[:, 1:]
    gain = 1.0 + terms @ own.drift_fgs1[0, number]
    return log_transit[0, 0, 0].exp().cpu().numpy(), gain.cpu().numpy()
