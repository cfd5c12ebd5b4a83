"""The transit fit of planets, from light curves to `TransitFit`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from spectramind.errors import DataError
from spectramind.instrument import wavelength_um
from spectramind.observation import LightCurves, Star, TransitFit, VisitFit
from spectramind.transit.binning import BinnedVisit, bin_visit
from spectramind.transit.columns import Columns, make_columns, make_white_columns
from spectramind.transit.depths import (
    Beliefs,
    SpectrumFit,
    fit_known,
    fit_spectrum,
    without_depths,
)
from spectramind.transit.drift import chebyshev
from spectramind.transit.limb_darkening import quadratic_coefficients
from spectramind.transit.linear import Linear, transit_columns
from spectramind.transit.parameters import FIXED, Layout
from spectramind.transit.priors import LabelledEvidence, Priors, UnlabelledEvidence
from spectramind.transit.settings import TransitConfig
from spectramind.transit.shared_prior import Guess, guess_orbit, make_evidence, with_wide_orbit
from spectramind.transit.spectrum_prior import FLOORS, PriorOnDevice, log_signal
from spectramind.transit.verdict import (
    Findings,
    contradicts_table,
    judge,
    lost,
    table_sentence,
    widening,
)
from spectramind.transit.white import (
    SharedPrior,
    Solution,
    fit_white,
    fit_with_jumps,
    stack_priors,
)

_CPU = torch.device("cpu")
_ORBIT_NAMES = ("period_d", "semi_major_axis_rs", "impact_parameter")
_LIMB_NAMES = ("u1_fgs1", "u2_fgs1", "u1_airs", "u2_airs")
_TIME_NAMES = ("t0_h", "clock_h")
_IN_TRANSIT = 1e-9  # hidden share above which a bin is in transit
_LOOSE = 1e-2  # scatter of a visit's depth when its disagreement is measured [(Rp/Rs)^2]


@dataclass(frozen=True, eq=False)
class BinnedPlanet:
    """A planet with its visits in time bins."""

    planet_id: int
    star: Star | None
    visits: tuple[BinnedVisit, ...]

    @property
    def middles_h(self) -> list[float]:
        """Middle of each visit's window [h]."""
        return [float(np.mean(visit.airs_time_h[[0, -1]])) for visit in self.visits]


def prepare(
    curves: Sequence[LightCurves], star: Star | None, config: TransitConfig
) -> BinnedPlanet:
    """Bin the visits of a planet.

    Raises:
        DataError: If there is no visit, or one of them cannot be fitted at all.
    """
    if not curves:
        raise DataError("The planet has no visit with light curves. Calibrate it first.")
    binned = tuple(bin_visit(visit, config) for visit in curves)
    return BinnedPlanet(curves[0].planet_id, star, binned)


@dataclass(frozen=True, eq=False)
class _Start:
    """White-light fit of planets, on the way to their spectra."""

    guesses: list[Guess]
    layout: Layout
    limb: Float64[np.ndarray, "B 283 2"]
    prior: SharedPrior
    white: Solution
    solution: Solution  # `white` with the shared parameters of `layout`
    used: Bool[Tensor, "B V 2 T"]  # bins of white light that are no outliers

    @property
    def misfit(self) -> list[float]:
        """Reduced chi^2 of the white light of each planet, all noise taken for white."""
        count = self.used.flatten(1).sum(1).clamp_min(1)
        return (self.white.normal.chi2 / count).tolist()


def _begin(
    planets: Sequence[BinnedPlanet],
    priors: Priors,
    config: TransitConfig,
    device: torch.device,
    *,
    believed: bool = True,
) -> _Start:
    """White-light fits; `believed`: the star table tells the orbits."""
    guesses = [guess_orbit(planet.star, config) for planet in planets]
    if not believed:
        guesses = [replace(guess, known=False) for guess in guesses]
    limb = np.stack([quadratic_coefficients(g.temperature_k, wavelength_um()) for g in guesses])
    orders = len(config.baseline.scatter)
    terms = config.baseline.wavelength_order + 1
    narrow, layout = (Layout(len(planets[0].visits), orders, n) for n in (1, terms))
    own = [priors.known if guess.known else priors.unknown for guess in guesses]

    def prior(which: Layout) -> SharedPrior:
        parts = [
            population.prior(guess, planet.middles_h, which, config)
            for population, guess, planet in zip(own, guesses, planets, strict=True)
        ]
        return stack_priors(parts, device)

    visits = [planet.visits for planet in planets]

    def begin(visits: Sequence[Sequence[BinnedVisit]]) -> tuple[Solution, Linear]:
        batch = make_white_columns(visits, limb, config).to(device)
        return fit_white(batch, narrow, prior(narrow), visits, guesses, config)

    white, used = fit_with_jumps(begin, visits, config.failure.chi2)
    full = prior(layout)
    shared = _widened(white.shared, narrow, layout)
    solution = Solution(white.depth, shared, white.normal, white.cost)
    return _Start(guesses, layout, limb, full, white, solution, used)


def _all_columns(
    planets: Sequence[BinnedPlanet], start: _Start, config: TransitConfig, device: torch.device
) -> Columns:
    """Every wavelength, without the bins that stand out in white light."""
    batch = make_columns([planet.visits for planet in planets], start.limb, config).to(device)
    fgs1, airs = start.used.split(1, dim=2)
    return batch.keep(torch.cat([fgs1, airs.expand(-1, -1, batch.depths - 1, -1)], dim=2))


def _widened(
    shared: Float64[Tensor, "B M"], narrow: Layout, layout: Layout
) -> Float64[Tensor, "B N"]:
    """Shared parameters of white light among those of all wavelengths."""
    wide = torch.zeros(len(shared), layout.size).to(shared)
    wide[:, :FIXED] = shared[:, :FIXED]
    for visit in range(layout.visits):
        wide[:, layout.times(visit)] = shared[:, narrow.times(visit)]
        wide[:, layout.offsets(visit)] = shared[:, narrow.offsets(visit)]
        source, target = narrow.drift(visit).start, layout.drift(visit).start
        orders = layout.time_order
        wide[:, target : target + orders] = shared[:, source : source + orders]
        airs = slice(target + orders, layout.drift(visit).stop, layout.wavelength_terms)
        wide[:, airs] = shared[:, source + orders : source + 2 * orders]
    return wide


def learn_from(
    planets: Sequence[BinnedPlanet],
    labels: Mapping[int, Float64[np.ndarray, " 283"]],
    priors: Priors,
    config: TransitConfig,
    device: torch.device = _CPU,
) -> list[LabelledEvidence]:
    """What labelled planets with equally many visits teach, their depths held at the labels."""
    start = _begin(planets, priors, config, device)
    batch = _all_columns(planets, start, config, device)
    depth = torch.tensor(np.stack([labels[planet.planet_id] for planet in planets]))
    solution, noise = fit_known(
        batch, start.layout, start.prior, depth.to(device), start.solution.shared, config
    )
    normal, shared = solution.normal, solution.shared
    evidence = []
    for row, (planet, guess) in enumerate(zip(planets, start.guesses, strict=True)):
        label = labels[planet.planet_id]
        around, information, pull = (
            part[row].cpu().numpy() for part in (shared, normal.shared, normal.shared_pull)
        )
        own = make_evidence(guess, around, information, pull, start.layout, config)
        scale = log_signal(planet.star, float(label[1:].mean()))
        heard = noise.evidence[row].cpu().numpy()
        evidence.append(LabelledEvidence(planet.planet_id, guess.known, own, heard, label, scale))
    return evidence


def learn_without_labels(
    planets: Sequence[BinnedPlanet],
    priors: Priors,
    config: TransitConfig,
    device: torch.device = _CPU,
) -> list[UnlabelledEvidence]:
    """What planets with equally many visits teach, their depths marginalised under a prior."""
    fit, start, scale = _fitted(planets, priors, config, device)
    normal, floors = fit.linear.normal(fit.depth, fit.shared), [torch.zeros(len(scale), 1)]
    if priors.spectrum is not None:
        given = (fit.likelihood.information, fit.likelihood.vector, scale)
        trials = [replace(priors.spectrum, floor=floor) for floor in FLOORS]
        floors = [PriorOnDevice(trial, device).log_evidence(*given) for trial in trials]
    evidence = []
    for row, (planet, guess) in enumerate(zip(planets, start.guesses, strict=True)):
        information, pull = without_depths(normal, row, fit.known[row], fit.depth[row])
        own = make_evidence(
            guess, fit.shared[row].cpu().numpy(), information.cpu().numpy(), pull.cpu().numpy(),
            start.layout, config,
        )  # fmt: skip
        heard = fit.noise.evidence[row].cpu().numpy()
        evidence.append(
            UnlabelledEvidence(
                planet.planet_id, guess.known, own, heard,
                np.stack([floor[row].cpu().numpy() for floor in floors]),
            )
        )  # fmt: skip
    return evidence


def fit_planets(
    planets: Sequence[BinnedPlanet],
    priors: Priors,
    config: TransitConfig,
    device: torch.device = _CPU,
) -> list[TransitFit]:
    """Spectra of planets with equally many visits, side by side.

    Args:
        planets: Binned visits.
        priors: What is known beforehand; it must not have seen these planets' labels.
        config: Section `transit`.
        device: Where torch computes.
    """
    fit, start, scale = _fitted(planets, priors, config, device)
    findings = _findings(fit, start, priors, scale)
    products = []
    for row, (planet, found) in enumerate(zip(planets, findings, strict=True)):
        product = _product(planet, row, fit, start, found, config)
        if start.guesses[row].known and _doubted(planet, start.misfit[row], found, priors, config):
            product = _without_table(planet, priors, config, device)
        products.append(product)
    return products


def _doubted(
    planet: BinnedPlanet, chi2: float, found: Findings, priors: Priors, config: TransitConfig
) -> bool:
    """Whether light curves and the star table cannot both be right about a planet's orbit.

    Either the orbit was drawn far from the table's, or the white light, with a reduced `chi2`,
    fits badly with it and twice as well without.
    """
    if contradicts_table(found, config.failure):
        return True
    if chi2 <= config.failure.chi2:
        return False
    other = _begin([planet], _doubting(priors, config), config, _CPU, believed=False)
    return other.misfit[0] < 0.5 * chi2


def _doubting(priors: Priors, config: TransitConfig) -> Priors:
    """Priors of stars whose row of the star table tells the temperature alone."""
    return replace(priors, unknown=with_wide_orbit(priors.known, config))


def _without_table(
    planet: BinnedPlanet, priors: Priors, config: TransitConfig, device: torch.device
) -> TransitFit:
    """Fit of a planet whose light curves contradict its row of the star table."""
    wide = _doubting(priors, config)
    fit, start, scale = _fitted([planet], wide, config, device, believed=False)
    (found,) = _findings(fit, start, wide, scale)
    product = _product(planet, 0, fit, start, found, config)
    return replace(product, reasons=(table_sentence(start.guesses[0], product), *product.reasons))


def _fitted(
    planets: Sequence[BinnedPlanet],
    priors: Priors,
    config: TransitConfig,
    device: torch.device,
    *,
    believed: bool = True,
) -> tuple[SpectrumFit, _Start, Float64[Tensor, " B"]]:
    """Spectra, the white-light fits that they began with, and `log_signal` of each planet."""
    start = _begin(planets, priors, config, device, believed=believed)
    batch = _all_columns(planets, start, config, device)
    white = start.white.depth[:, 1].tolist()
    signal = [log_signal(planet.star, depth) for planet, depth in zip(planets, white, strict=True)]
    scale = torch.tensor(signal, dtype=torch.float64, device=device)
    spectra = None if priors.spectrum is None else PriorOnDevice(priors.spectrum, device)
    beliefs = Beliefs(start.prior, spectra, priors.noise)
    fit = fit_spectrum(batch, start.layout, beliefs, scale, start.solution, config)
    return fit, start, scale


def _findings(
    fit: SpectrumFit, start: _Start, priors: Priors, scale: Float64[Tensor, " B"]
) -> list[Findings]:
    """What the verdict looks at, planet by planet."""
    weight = fit.linear.batch.weight
    residual = fit.linear.residual(fit.curves)
    settled = residual - fit.linear.process(fit.curves)
    white, rest, inside = [], [], []
    for columns in (slice(0, 1), slice(1, None)):
        own = weight[:, :, columns]
        total = own.sum(2)
        lit = total > 0.5 * total.amax(-1, keepdim=True)
        for series, found in ((residual, white), (settled, rest)):
            mean = (own * series[:, :, columns]).sum(2) / total.clamp_min(1e-300)
            found.append(torch.where(lit, mean * total.sqrt(), torch.nan))
        inside.append(-fit.curves.log_transit[:, :, columns].mean(2) > _IN_TRANSIT)
    scatter = torch.linalg.inv(start.prior.precision).diagonal(dim1=-2, dim2=-1).sqrt()
    fixed = ((fit.shared - start.prior.mean) / scatter)[:, :FIXED]
    level, sigma = _white_depths(start.white)
    disagreement = _disagreement(fit, start)
    strength = 0.0 * fit.change
    if priors.spectrum is not None:
        expected, spread = (
            torch.tensor(part).to(fit.change)
            for part in priors.spectrum.log_amplitude(scale.cpu().numpy())
        )
        strength = (fit.posterior.log_amplitude - expected) / spread
    return [
        Findings(
            depth=tuple(level[row].tolist()),
            depth_sigma=tuple(sigma[row].tolist()),
            fixed=fixed[row].cpu().numpy(),
            offset_sigma=disagreement[row].cpu().numpy(),
            amplitude_sigma=float(strength[row]),
            change_ppm=1e6 * float(fit.change[row]),
            white=torch.stack(white, dim=2)[row].cpu().numpy(),
            settled=torch.stack(rest, dim=2)[row].cpu().numpy(),
            inside=torch.stack(inside, dim=2)[row].cpu().numpy(),
        )
        for row in range(len(fit.depth))
    ]


def _white_depths(white: Solution) -> tuple[Float64[Tensor, "B 2"], Float64[Tensor, "B 2"]]:
    """White-light depths and their errors, all shared parameters held."""
    return white.depth, white.normal.depth.clamp_min(1e-30) ** -0.5


def _disagreement(fit: SpectrumFit, start: _Start) -> Float64[Tensor, "B V 2"]:
    """Distance of each visit's depths from the planet's, in units of their own error."""
    layout = start.layout
    if layout.visits == 1:
        return torch.zeros(len(fit.depth), 1, 2).to(fit.depth)
    normal = fit.linear.normal(fit.depth, fit.shared)
    first = [layout.offsets(visit).start for visit in range(layout.visits)]
    rows = [row + channel for row in first for channel in range(2)]
    precision = start.prior.precision.clone()
    for row in rows:
        precision[:, row, row] = _LOOSE**-2.0
    covariance = torch.linalg.inv(normal.shared + precision)
    pull = normal.shared_pull + start.prior.pull(fit.shared)
    pull[:, rows] = normal.shared_pull[:, rows]
    step = (covariance @ pull[..., None])[..., 0][:, rows]
    sigma = covariance.diagonal(dim1=-2, dim2=-1)[:, rows].sqrt()
    return (step / sigma).reshape(-1, layout.visits, 2)


def _product(
    planet: BinnedPlanet, row: int, fit: SpectrumFit, start: _Start, found: Findings,
    config: TransitConfig,
) -> TransitFit:  # fmt: skip
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
    planet: BinnedPlanet, row: int, fit: SpectrumFit, start: _Start
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
    fine_model, fine_gain = _fine(visit, number, row, fit)
    weight = fit.linear.batch.weight[row, number, 0, :bins]
    own = fit.linear.batch.log_flux - fit.curves.log_transit - fit.curves.log_gain
    level = (weight * own[row, number, 0, :bins]).sum() / weight.sum()
    baseline = fine_gain * float(level.exp())
    return VisitFit(
        visit=visit.visit,
        time_h=visit.airs_time_h,
        flux=(log_transit + residual).exp().T.cpu().numpy().astype(np.float32),
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
