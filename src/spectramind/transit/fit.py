"""The transit fit of planets, from light curves to `TransitFit`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from spectramind.observation import TransitFit
from spectramind.transit.depths import (
    Beliefs,
    SpectrumFit,
    fit_known,
    fit_spectrum,
    marginalise,
    without_depths,
)
from spectramind.transit.ends import Shortened, without_bad_ends
from spectramind.transit.flux import separation
from spectramind.transit.linear import Normal
from spectramind.transit.parameters import FIXED
from spectramind.transit.priors import LabelledEvidence, Priors, UnlabelledEvidence
from spectramind.transit.product import make_product
from spectramind.transit.settings import TransitConfig
from spectramind.transit.shared_prior import make_evidence, with_wide_orbit
from spectramind.transit.spectrum_prior import (
    AMPLITUDES,
    SCALES,
    PriorOnDevice,
    log_signal,
)
from spectramind.transit.spots import SPOTS, Spots, make_spots
from spectramind.transit.start import BinnedPlanet, Start, all_columns, begin_fit
from spectramind.transit.verdict import (
    Findings,
    contradicts_table,
    table_sentence,
)
from spectramind.transit.white import SharedPrior, Solution

_CPU = torch.device("cpu")
_SMALLER = 2.0  # scatters of ln a
_IN_TRANSIT = 1e-9  # hidden share above which a bin is in transit
_LOOSE = 1e-2  # scatter of a visit's depth when its disagreement is measured [(Rp/Rs)^2]


def learn_from(
    planets: Sequence[BinnedPlanet],
    labels: Mapping[int, Float64[np.ndarray, " 283"]],
    priors: Priors,
    config: TransitConfig,
    device: torch.device = _CPU,
) -> list[LabelledEvidence]:
    """What labelled planets with equally many visits teach, their depths held at the labels."""
    start = begin_fit(planets, priors, config, device)
    batch = all_columns(planets, start, config, device)
    depth = torch.tensor(np.stack([labels[planet.planet_id] for planet in planets]))
    solution, noise = fit_known(
        batch, start.layout, start.prior, depth.to(device), start.solution.shared, config
    )
    normal, shared = solution.normal, solution.shared
    like = marginalise(normal, start.prior, depth.to(device), shared)
    unit = _unit_spots(start, config)
    spots = torch.stack(
        [
            unit.scaled(scatter).known_evidence(like.information, like.vector, depth.to(device))
            for scatter in SPOTS
        ],
        dim=1,
    )
    evidence = []
    for row, (planet, guess) in enumerate(zip(planets, start.guesses, strict=True)):
        label = labels[planet.planet_id]
        around, information, pull = (
            part[row].cpu().numpy() for part in (shared, normal.shared, normal.shared_pull)
        )
        own = make_evidence(guess, around, information, pull, start.layout, config)
        scale = log_signal(planet.star, float(label[1:].mean()))
        heard = noise.evidence[row].cpu().numpy()
        evidence.append(
            LabelledEvidence(
                planet.planet_id, guess.known, own, heard, spots[row].cpu().numpy(), label, scale
            )
        )
    return evidence


def learn_without_labels(
    planets: Sequence[BinnedPlanet],
    priors: Priors,
    config: TransitConfig,
    device: torch.device = _CPU,
) -> list[UnlabelledEvidence]:
    """What planets with equally many visits teach, their depths marginalised under a prior."""
    start = begin_fit(planets, priors, config, device)
    fit, scale = _fitted(planets, start, priors, config)
    normal = fit.linear.normal_of(fit.curves)
    heard = torch.zeros(len(planets), len(SCALES), len(AMPLITUDES)).to(scale)
    spots = torch.zeros(len(planets), len(SPOTS)).to(scale)
    if priors.spectrum is not None:
        prior = PriorOnDevice(priors.spectrum, device)
        heard = prior.log_evidence(fit.information, fit.vector, scale)
        spots = _spots_evidence(fit, _unit_spots(start, config), prior, scale)
    evidence = []
    for row, (planet, guess) in enumerate(zip(planets, start.guesses, strict=True)):
        information, pull = without_depths(normal, row, fit.known[row], fit.apparent[row])
        own = make_evidence(
            guess, fit.shared[row].cpu().numpy(), information.cpu().numpy(), pull.cpu().numpy(),
            start.layout, config,
        )  # fmt: skip
        noise, bright, spectra = (
            part[row].cpu().numpy() for part in (fit.noise.evidence, spots, heard)
        )
        evidence.append(
            UnlabelledEvidence(planet.planet_id, guess.known, own, noise, bright, spectra)
        )
    return evidence


def _unit_spots(start: Start, config: TransitConfig) -> Spots:
    """Spots of each planet's star whose shares have a scatter of 1."""
    temperature = np.array([guess.temperature_k for guess in start.guesses])
    ones = np.ones(len(temperature))
    return make_spots(temperature, start.solution.depth[:, 1], ones, config.spots)


def _spots_evidence(
    fit: SpectrumFit, unit: Spots, prior: PriorOnDevice, scale: Float64[Tensor, " B"]
) -> Float64[Tensor, "B S"]:
    """Log evidence of each of `SPOTS`, depths and amplitude marginalised."""
    evidence = []
    for scatter in SPOTS:
        information, vector, gain = unit.scaled(scatter).marginalised(
            fit.likelihood.information, fit.likelihood.vector
        )
        evidence.append(prior.total_evidence(information, vector, scale) + gain)
    return torch.stack(evidence, dim=1)


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
    start = begin_fit(planets, priors, config, device)
    shorter: dict[int, Shortened] = {}
    for row, (planet, chi2) in enumerate(zip(planets, start.misfit, strict=True)):
        found = without_bad_ends(planet, chi2, priors, config)
        if found is not None:
            shorter[row] = found
    if not shorter:
        return _fits(planets, start, priors, config)
    left = [shorter[row].planet if row in shorter else own for row, own in enumerate(planets)]
    fits = _fits(left, begin_fit(left, priors, config, device), priors, config)
    for row, found in shorter.items():
        fits[row] = replace(fits[row], reasons=(*found.reasons, *fits[row].reasons))
    return fits


def _fits(
    planets: Sequence[BinnedPlanet], start: Start, priors: Priors, config: TransitConfig
) -> list[TransitFit]:
    """Fits of planets from their white light on."""
    fit, scale = _fitted(planets, start, priors, config)
    findings = _findings(fit, start, priors, scale, config)
    products = []
    for row, (planet, found) in enumerate(zip(planets, findings, strict=True)):
        product = make_product(planet, row, fit, start, found, config)
        if start.guesses[row].known and _doubted(planet, start.misfit[row], found, priors, config):
            product = _without_table(planet, priors, config, start.white.depth.device)
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
    other = begin_fit([planet], _doubting(priors, config), config, _CPU, believed=False)
    return other.misfit[0] < 0.5 * chi2


def _doubting(priors: Priors, config: TransitConfig) -> Priors:
    """Priors of stars whose row of the star table tells the temperature alone."""
    return replace(priors, unknown=with_wide_orbit(priors.known, config))


def _without_table(
    planet: BinnedPlanet, priors: Priors, config: TransitConfig, device: torch.device
) -> TransitFit:
    """Fit of a planet whose light curves contradict its row of the star table."""
    wide = _doubting(priors, config)
    start = begin_fit([planet], wide, config, device, believed=False)
    fit, scale = _fitted([planet], start, wide, config)
    (found,) = _findings(fit, start, wide, scale, config)
    product = make_product(planet, 0, fit, start, found, config)
    return replace(product, reasons=(table_sentence(start.guesses[0], product), *product.reasons))


def _fitted(
    planets: Sequence[BinnedPlanet], start: Start, priors: Priors, config: TransitConfig
) -> tuple[SpectrumFit, Float64[Tensor, " B"]]:
    """Spectra, and `log_signal` of each planet."""
    device = start.white.depth.device
    batch = all_columns(planets, start, config, device)
    white = start.white.depth[:, 1].tolist()
    signal = [log_signal(planet.star, depth) for planet, depth in zip(planets, white, strict=True)]
    scale = torch.tensor(signal, dtype=torch.float64, device=device)
    spectra = None if priors.spectrum is None else PriorOnDevice(priors.spectrum, device)
    populations = [priors.known if guess.known else priors.unknown for guess in start.guesses]
    spots = make_spots(
        np.array([guess.temperature_k for guess in start.guesses]), start.solution.depth[:, 1],
        np.array([population.spots for population in populations]), config.spots,
    )  # fmt: skip
    beliefs = Beliefs(start.prior, spectra, priors.noise, spots)
    fit = fit_spectrum(batch, start.layout, beliefs, scale, start.solution, config)
    return fit, scale


def _findings(
    fit: SpectrumFit,
    start: Start,
    priors: Priors,
    scale: Float64[Tensor, " B"],
    config: TransitConfig,
) -> list[Findings]:
    """What the verdict looks at, planet by planet."""
    weight = fit.linear.batch.weight
    residual = fit.linear.residual(fit.curves) - fit.linear.process(fit.curves)
    white, inside = [], []
    for columns in (slice(0, 1), slice(1, None)):
        own = weight[:, :, columns]
        total = own.sum(2)
        lit = total > 0.5 * total.amax(-1, keepdim=True)
        mean = (own * residual[:, :, columns]).sum(2) / total.clamp_min(1e-300)
        white.append(torch.where(lit, mean * total.sqrt(), torch.nan))
        inside.append(-fit.curves.log_transit[:, :, columns].mean(2) > _IN_TRANSIT)
    scatter = torch.linalg.inv(start.prior.precision).diagonal(dim1=-2, dim2=-1).sqrt()
    sure = _sure_bins(fit, scatter[:, 1].clamp_max(config.prior.semi_major_axis))
    fixed = ((fit.shared - start.prior.mean) / scatter)[:, :FIXED]
    level, sigma = _white_depths(start.white)
    mean, error = _mean_depth(fit)
    normal = fit.linear.normal_of(fit.curves)
    hidden = _hidden_share(normal, fit.linear.white_normal(fit.curves), start.prior)
    disagreement = _disagreement(normal, fit.shared, start)
    strength = surprise = 0.0 * fit.change
    if priors.spectrum is not None:
        expected, spread = (
            torch.tensor(part).to(fit.change)
            for part in priors.spectrum.log_amplitude(scale.cpu().numpy())
        )
        strength = (fit.posterior.log_amplitude - expected) / spread
        prior = PriorOnDevice(priors.spectrum, fit.change.device)
        surprise = prior.surprise(fit.information, fit.vector, fit.posterior.log_amplitude)
    return [
        Findings(
            depth=tuple(level[row].tolist()),
            depth_sigma=tuple(sigma[row].tolist()),
            mean=(float(mean[row]), float(error[row])),
            hidden_share=float(hidden[row]),
            fixed=fixed[row].cpu().numpy(),
            offset_sigma=disagreement[row].cpu().numpy(),
            prior_sigma=float(surprise[row]),
            amplitude_sigma=float(strength[row]),
            change_ppm=1e6 * float(fit.change[row]),
            white=torch.stack(white, dim=2)[row].cpu().numpy(),
            inside=torch.stack(inside, dim=2)[row].cpu().numpy(),
            sure_bins=int(sure[row]),
        )
        for row in range(len(fit.depth))
    ]


def _sure_bins(fit: SpectrumFit, scatter: Float64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """Bins of AIRS-CH0 outside transit on a smaller orbit too, in the visit that has most.

    Args:
        fit: Of the batch.
        scatter: Of ln a beforehand; the orbit is smaller by `_SMALLER` of them.
    """
    batch = fit.linear.batch
    own = fit.linear.layout.split(fit.shared, batch.place)
    period, axis, impact2 = own.orbit.unbind(-1)
    parts = period.exp(), (axis - _SMALLER * scatter).exp(), impact2.clamp_min(0.0).sqrt()
    time, middle, *orbit = torch.broadcast_tensors(
        batch.time_h[:, :, 1].mean(-1), own.mid_time_h[..., 1, None],
        *(part[:, None, None] for part in parts),
    )  # fmt: skip
    apart = separation(
        time,
        t0_h=middle,
        period_d=orbit[0],
        semi_major_axis_rs=orbit[1],
        impact_parameter=orbit[2],
    )
    radius = fit.depth[:, 1:].mean(1).clamp_min(0.0).sqrt()
    lit = batch.weight[:, :, 1:].sum(2) > 0.0
    return ((apart > 1.0 + radius[:, None, None]) & lit).sum(-1).amax(1)


def _white_depths(white: Solution) -> tuple[Float64[Tensor, "B 2"], Float64[Tensor, "B 2"]]:
    """White-light depths and their errors, all shared parameters held."""
    return white.depth, white.normal.depth.clamp_min(1e-30) ** -0.5


def _mean_depth(fit: SpectrumFit) -> tuple[Float64[Tensor, " B"], Float64[Tensor, " B"]]:
    """Inverse-variance mean of the AIRS-CH0 depths, and its error with their correlation."""
    covariance = fit.posterior.covariance[:, 1:, 1:]
    weight = 1.0 / covariance.diagonal(dim1=-2, dim2=-1)
    weight = weight / weight.sum(-1, keepdim=True)
    variance = torch.einsum("bw,bwv,bv->b", weight, covariance, weight)
    return (weight * fit.depth[:, 1:]).sum(-1), variance.clamp_min(0.0).sqrt()


def _hidden_share(normal: Normal, white: Normal, prior: SharedPrior) -> Float64[Tensor, " B"]:
    """Share of the information on the level of AIRS-CH0 that noise in time takes."""
    left, all_of = (_level_information(own, prior) for own in (normal, white))
    return (1.0 - left / all_of.clamp_min(1e-300)).clamp(0.0, 1.0)


def _level_information(normal: Normal, prior: SharedPrior) -> Float64[Tensor, " B"]:
    """On the level of AIRS-CH0, its spectrum known and the shared parameters marginalised."""
    total = normal.depth[:, 1:].sum(-1)
    if normal.blurred is not None:
        total = total - normal.blurred[:, 1:, 1:].sum((1, 2))
    cross = normal.cross[:, 1:].sum(1)[..., None]
    lower = torch.linalg.cholesky(normal.shared + prior.precision)
    half = torch.linalg.solve_triangular(lower, cross, upper=False)
    return total - half.square().sum((1, 2))


def _disagreement(
    normal: Normal, shared: Float64[Tensor, "B N"], start: Start
) -> Float64[Tensor, "B V 2"]:
    """Distance of each visit's depths from the planet's, in units of their own error."""
    layout = start.layout
    if layout.visits == 1:
        return torch.zeros(len(shared), 1, 2).to(shared)
    first = [layout.offsets(visit).start for visit in range(layout.visits)]
    rows = [row + channel for row in first for channel in range(2)]
    precision = start.prior.precision.clone()
    for row in rows:
        precision[:, row, row] = _LOOSE**-2.0
    covariance = torch.linalg.inv(normal.shared + precision)
    pull = normal.shared_pull + start.prior.pull(shared)
    pull[:, rows] = normal.shared_pull[:, rows]
    step = (covariance @ pull[..., None])[..., 0][:, rows]
    sigma = covariance.diagonal(dim1=-2, dim2=-1)[:, rows].sqrt()
    return (step / sigma).reshape(-1, layout.visits, 2)
