"""All wavelengths of all visits in one Gaussian system: the Bayesian spectrum.

Around a guess the light curves are linear in the depths and in what wavelengths share (orbit,
limb darkening, times, drift). The shared parameters are marginalised under their prior, which
leaves a Gaussian likelihood of the 283 depths. The prior over spectra turns it into a posterior
whose mean is the next guess. Visits are one likelihood, each with a small depth offset of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from spectramind.transit.columns import Columns
from spectramind.transit.linear import Curves, Linear, Normal
from spectramind.transit.parameters import Layout
from spectramind.transit.settings import TransitConfig
from spectramind.transit.spectrum_prior import Posterior, PriorOnDevice
from spectramind.transit.spots import Apparent, Spots
from spectramind.transit.time_noise import (
    NoiseBelief,
    Projected,
    TimeNoise,
    colour_modes,
    process_covariance,
)
from spectramind.transit.white import SharedPrior, Solution, bounded, solve, steady

_DEPTH_RANGE = (1e-7, 0.3)
_CLEANED = (0, 1, 2)  # passes that begin with a search for outliers and noise
_HEARD = (0, 2)  # and for noise in time, before it leads the transit astray
_HELD = 3  # last passes, in which the strength of the drift stays so that the spectrum settles
_WINDOWS = (10, 30)  # bins of the means that show correlation in time
_NEIGHBOURS = 7  # wavelengths on either side that are averaged there
_BY_CHANCE = 0.15  # growth of a variance that white noise shows as well
_IMPACT = 2  # b^2 among the shared parameters
BARE = 1e-2  # scatter about white light without a prior over spectra [(Rp/Rs)^2]


DepthPrior = tuple[Float64[Tensor, " W"], Float64[Tensor, "W W"]]  # mean and covariance


@dataclass(frozen=True, eq=False)
class Beliefs:
    """What is known of the planets of a batch beforehand."""

    shared: SharedPrior
    spectra: PriorOnDevice | None  # None leaves every depth to its own wavelength
    noise: NoiseBelief
    spots: Spots


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Gaussian likelihood exp(-d A d / 2 + b d) of depths, the shared parameters marginalised."""

    information: Float64[Tensor, "B W W"]  # A
    vector: Float64[Tensor, "B W"]  # b
    centre: Float64[Tensor, "B N"]  # best shared parameters for the depths of the guess
    response: Float64[Tensor, "B N W"]  # by how much they fall when a depth rises
    covariance: Float64[Tensor, "B N N"]  # of the shared parameters for known depths


@dataclass(frozen=True, eq=False)
class SpectrumFit:
    """Posterior of a batch."""

    posterior: Posterior
    likelihood: Likelihood  # of the depths that the light curves show, spots and all
    information: Float64[Tensor, "B W W"]  # A of the likelihood of the depths, spots marginalised
    vector: Float64[Tensor, "B W"]  # its b, b^2 held at 0 where it would fall below
    depth: Float64[Tensor, "B W"]
    apparent: Float64[Tensor, "B W"]  # what the depth seems to be
    shared: Float64[Tensor, "B N"]
    shared_covariance: Float64[Tensor, "B N N"]
    linear: Linear  # without outliers, with the noise that was found
    curves: Curves
    change: Float64[Tensor, " B"]  # of the spectrum in the last pass [(Rp/Rs)^2]
    known: list[DepthPrior]  # of each planet, at the amplitude that was found
    noise: TimeNoise


def marginalise(
    normal: Normal,
    prior: SharedPrior,
    depth: Float64[Tensor, "B W"],
    shared: Float64[Tensor, "B N"],
) -> Likelihood:
    """Likelihood of the depths alone, from normal equations at a guess."""
    lower = torch.linalg.cholesky(normal.shared + prior.precision)
    pull = normal.shared_pull + prior.pull(shared)
    response = torch.cholesky_solve(normal.cross.transpose(-1, -2), lower)
    step = torch.cholesky_solve(pull[..., None], lower)[..., 0]
    information = torch.diag_embed(normal.depth) - normal.cross @ response
    if normal.blurred is not None:
        information = information - normal.blurred
    information = 0.5 * (information + information.transpose(-1, -2))
    vector = normal.depth_pull - (normal.cross @ step[..., None])[..., 0]
    return Likelihood(
        information=information,
        vector=vector + (information @ depth[..., None])[..., 0],
        centre=shared + step,
        response=response,
        covariance=torch.cholesky_inverse(lower),
    )


def fit_known(
    batch: Columns,
    layout: Layout,
    prior: SharedPrior,
    depth: Float64[Tensor, "B 283"],
    shared: Float64[Tensor, "B N"],
    config: TransitConfig,
) -> tuple[Solution, TimeNoise]:
    """Shared parameters of planets whose spectrum is known, and their noise in time."""
    linear = Linear(batch, layout)
    solution = solve(linear, depth, shared, prior, free_depth=False, steps=config.passes)
    linear = _cleaned(linear, batch, depth, solution.shared, config)
    known = [(own, torch.zeros(len(own), len(own)).to(own)) for own in depth]
    guess = depth, solution.shared
    noise = find_noise(linear, known, prior, guess, NoiseBelief.first(), shapes_first=False)
    linear = Linear(linear.batch, layout, noise)
    solution = solve(linear, depth, solution.shared, prior, free_depth=False, steps=config.passes)
    return solution, noise


def fit_spectrum(
    batch: Columns,
    layout: Layout,
    beliefs: Beliefs,
    log_scale: Float64[Tensor, " B"],
    start: Solution,
    config: TransitConfig,
) -> SpectrumFit:
    """Iterate likelihood and posterior from a white-light fit.

    Args:
        batch: Every wavelength a column.
        layout: Shared parameters.
        beliefs: What is known of them, of spectra and of noise in time beforehand.
        log_scale: `prior.log_signal` of each planet.
        start: White-light solution: two depths, and shared parameters of `layout`.
        config: Section `transit`.
    """
    spectra, prior = beliefs.spectra, beliefs.shared
    linear, general = Linear(batch, layout), prior
    wavelengths = batch.depths - 1
    white = torch.cat([start.depth[:, :1], start.depth[:, 1:].expand(-1, wavelengths)], dim=1)
    depth, shared = white, start.shared
    posterior = noise = None
    for number in range(config.passes):
        if number in _CLEANED:
            linear = _cleaned(linear, batch, depth, shared, config)
        if number in _HEARD:
            known = depth_priors(spectra, posterior, depth)
            noise = find_noise(
                linear, known, prior, (depth, shared), beliefs.noise, shapes_first=number > 0
            )
            linear = Linear(linear.batch, layout, noise)
        likelihood = marginalise(linear.normal(depth, shared), prior, depth, shared)
        seen = likelihood.information, likelihood.vector
        information, hidden, _ = beliefs.spots.marginalised(*seen)
        posterior = _posterior(information, hidden, spectra, log_scale, white)
        apparent = beliefs.spots.apparent(*seen, posterior.mean, posterior.covariance)
        held, shared = _most_likely(likelihood, apparent, depth, prior)
        new = (apparent.mean - _times(held, apparent.covariance)).clamp(*_DEPTH_RANGE)
        change = (new - depth).abs().amax(-1)
        depth = new
        if number < config.passes - _HELD:
            prior = _own_drift(general, layout, shared, _spread(likelihood, apparent), config)
    assert posterior is not None  # there are two passes
    assert noise is not None
    return SpectrumFit(
        posterior=posterior,
        likelihood=likelihood,
        information=information,
        vector=beliefs.spots.marginalised(likelihood.information, likelihood.vector - held)[1],
        depth=(posterior.mean - _times(held, apparent.cross)).clamp(*_DEPTH_RANGE),
        apparent=depth,
        shared=shared,
        shared_covariance=_spread(likelihood, apparent),
        linear=linear,
        curves=linear.curves(depth, shared),
        change=change,
        known=depth_priors(spectra, posterior, depth),
        noise=noise,
    )


def _most_likely(
    likelihood: Likelihood,
    apparent: Apparent,
    depth: Float64[Tensor, "B W"],
    prior: SharedPrior,
) -> tuple[Float64[Tensor, "B W"], Float64[Tensor, "B N"]]:
    """Shared parameters of the next guess; b^2 held at 0 where it would fall below.

    Returns:
        By how much that changes the vector b of the likelihood, and the parameters.
    """
    moved = (likelihood.response @ (apparent.mean - depth)[..., None])[..., 0]
    shared = likelihood.centre - moved
    excess = (bounded(shared, prior) - shared)[:, _IMPACT, None]
    seen = likelihood.response[:, _IMPACT, None] @ apparent.covariance  # of b^2 and depths
    own = likelihood.covariance[:, :, _IMPACT] + (likelihood.response @ seen.mT)[..., 0]
    held = excess / own[:, _IMPACT, None]
    return held * likelihood.response[:, _IMPACT], bounded(shared + held * own, prior)


def _times(
    vector: Float64[Tensor, "B W"], matrix: Float64[Tensor, "B W W"]
) -> Float64[Tensor, "B W"]:
    return (vector[:, None] @ matrix)[:, 0]


def _spread(likelihood: Likelihood, apparent: Apparent) -> Float64[Tensor, "B N N"]:
    """Covariance of the shared parameters, the depths unknown."""
    response = likelihood.response
    return likelihood.covariance + response @ apparent.covariance @ response.transpose(-1, -2)


def _own_drift(
    prior: SharedPrior,
    layout: Layout,
    shared: Float64[Tensor, "B N"],
    covariance: Float64[Tensor, "B N N"],
    config: TransitConfig,
) -> SharedPrior:
    """The prior with drifts as strong as those of each visit and channel: they differ tenfold.

    The variance of a visit's coefficients over that of all visits, by one step of
    expectation-maximisation a pass, with `baseline.typical` coefficients of the usual strength
    added.
    """
    precision = prior.precision.clone()
    second = covariance + shared[:, :, None] * shared[:, None, :]
    typical = config.baseline.typical
    for visit in range(layout.visits):
        first, last = layout.drift(visit).start, layout.drift(visit).stop
        airs = first + layout.time_order
        for part in (slice(first, airs), slice(airs, last)):
            usual = prior.precision[:, part, part]
            total = (usual * second[:, part, part]).sum((1, 2)) + typical
            strength = total / (part.stop - part.start + typical)
            precision[:, part, part] = usual / strength[:, None, None]
    return SharedPrior(prior.mean, precision)


def _posterior(
    information: Float64[Tensor, "B W W"],
    vector: Float64[Tensor, "B W"],
    spectra: PriorOnDevice | None,
    log_scale: Float64[Tensor, " B"],
    white: Float64[Tensor, "B W"],
) -> Posterior:
    if spectra is not None:
        return spectra.posterior(information, vector, log_scale)
    bare = torch.eye(vector.shape[1]).to(vector) * BARE**-2.0
    covariance = torch.linalg.inv(information + bare)
    mean = (covariance @ (vector + white @ bare)[..., None])[..., 0]
    nothing = torch.zeros_like(log_scale)
    return Posterior(mean, covariance, nothing, nothing)


def _cleaned(
    linear: Linear,
    batch: Columns,
    depth: Float64[Tensor, "B W"],
    shared: Float64[Tensor, "B N"],
    config: TransitConfig,
) -> Linear:
    """Without outliers, and with the noise that the residuals of each wavelength show.

    `linear` holds the light curves as they were last, noise in time and all; `batch` all values.
    """
    curves = linear.curves(depth, shared)
    process, whole = linear.process(curves), Linear(batch, linear.layout)
    used = steady(batch, whole.residual(curves) - process, config.outlier_sigma)
    batch = batch.keep(used)
    residual = Linear(batch, linear.layout).residual(curves) - process
    # White noise is what neighbouring bins differ by: noise that is correlated adds little to it.
    step = (batch.weight.sqrt() * residual).diff(dim=-1)
    pair = (batch.weight[..., 1:] > 0.0) & (batch.weight[..., :-1] > 0.0)
    count = pair.sum(-1)
    ratio = 0.5 * torch.where(pair, step, 0.0).square().sum(-1) / count.clamp_min(1)
    scaled = batch.scaled(torch.where(count > 0, ratio, 1.0).clamp_min(1e-6))
    if linear.noise is not None:  # else the process would hide in it
        scaled = _coarser(residual, scaled)
    return Linear(scaled, linear.layout)


def _coarser(residual: Float64[Tensor, "B V W T"], batch: Columns) -> Columns:
    """With the variance of wavelengths widened whose residuals are correlated in time.

    The variance of means over windows, against that of white noise, averaged over neighbouring
    wavelengths: what a process common to smooth colours does not explain.
    """
    scaled = batch.weight.sqrt() * residual
    growth = torch.ones_like(scaled[..., 0])
    for bins in _WINDOWS:
        whole = scaled.shape[-1] // bins * bins
        if whole < 2 * bins:  # a visit of fewer bins shows nothing of that length
            continue
        parts = scaled[..., :whole].unflatten(-1, (-1, bins))
        count = (parts != 0.0).sum(-1).clamp_min(1)
        power = (parts.sum(-1).square() / count).mean(-1)
        airs = power[:, :, 1:].flatten(0, 1)[:, None]
        near = torch.nn.functional.avg_pool1d(
            airs, 2 * _NEIGHBOURS + 1, 1, _NEIGHBOURS, count_include_pad=False
        )
        growth[:, :, 1:] = torch.maximum(
            growth[:, :, 1:], near[:, 0].unflatten(0, power.shape[:2])
        )
    return batch.scaled((growth - _BY_CHANCE).clamp_min(1.0))


def find_noise(
    linear: Linear,
    known: Sequence[DepthPrior],
    prior: SharedPrior,
    guess: tuple[Float64[Tensor, "B W"], Float64[Tensor, "B N"]],
    belief: NoiseBelief,
    *,
    shapes_first: bool,
) -> TimeNoise:
    """Noise in time of a batch, depths and shared parameters marginalised.

    Args:
        linear: Light curves without outliers.
        known: Mean and covariance of the depths of each planet beforehand.
        prior: Of the shared parameters.
        guess: Depths and shared parameters.
        belief: In noise that is correlated in time.
        shapes_first: As for `process_covariance`.
    """
    batch, (depth, shared) = linear.batch, guess
    modes = colour_modes(batch.weight, batch.place)
    design, residual = linear.projected(linear.curves(depth, shared), modes)
    shares = batch.weight / batch.weight.amax(-1, keepdim=True).clamp_min(1e-300)
    used = torch.einsum("bvwk,bvwt->bvkt", modes**2, shares).clamp(0.0, 1.0).sqrt()
    found = []
    for row in range(len(depth)):
        mean, covariance = known[row]
        parameters = torch.block_diag(covariance, torch.linalg.inv(prior.precision[row]))
        moved = torch.cat([depth[row] - mean, shared[row] - prior.mean[row]])
        for visit in range(modes.shape[1]):
            time = batch.time_h[row, visit].mean(-1)
            seen = Projected(
                design[row, visit],
                residual[row, visit] + design[row, visit] @ moved,
                used[row, visit],
                torch.cat([time[:1], time[1:].expand(modes.shape[-1] - 1, -1)]),
            )
            found.append(process_covariance(seen, parameters, belief, shapes_first=shapes_first))
    process, common, heard = (
        torch.stack(part).unflatten(0, (len(depth), -1)) for part in zip(*found, strict=True)
    )
    return TimeNoise.of(modes, process, common, heard)


def depth_priors(
    spectra: PriorOnDevice | None,
    posterior: Posterior | None,
    depth: Float64[Tensor, "B W"],
) -> list[DepthPrior]:
    """Mean and covariance of each planet's depths beforehand, at the amplitude that was found."""
    if spectra is None or posterior is None:
        bare = BARE**2 * torch.eye(depth.shape[1]).to(depth)
        return [(own.mean() * torch.ones_like(own), bare) for own in depth]
    sizes = zip(posterior.log_amplitude.exp(), posterior.scale, strict=True)
    return [spectra.gaussian(amplitude, scale) for amplitude, scale in sizes]


def without_depths(
    normal: Normal, row: int, known: DepthPrior, depth: Float64[Tensor, " W"]
) -> tuple[Float64[Tensor, "N N"], Float64[Tensor, " N"]]:
    """Information and gradient of one planet's shared parameters, the depths marginalised.

    With D the information on depths and K their prior covariance, the depths' posterior
    covariance is (1 + K D)^-1 K, so that K is never inverted.
    """
    mean, covariance = known
    information = torch.diag(normal.depth[row])
    if normal.blurred is not None:
        information = information - normal.blurred[row]
    cross = normal.cross[row]
    mixed = torch.eye(len(depth)).to(depth) + covariance @ information
    solved = torch.linalg.solve(mixed, torch.cat([covariance, (mean - depth)[:, None]], dim=1))
    spread, pulled = 0.5 * (solved[:, :-1] + solved[:, :-1].T), solved[:, -1]
    shift = spread @ normal.depth_pull[row] + pulled
    return (
        normal.shared[row] - cross.T @ spread @ cross,
        normal.shared_pull[row] - cross.T @ shift,
    )
