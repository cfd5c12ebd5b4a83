"""All wavelengths of all visits in one Gaussian system: the Bayesian spectrum.

Around a guess the light curves are linear in the depths and in what wavelengths share (orbit,
limb darkening, times, drift). The shared parameters are marginalised under their prior, which
leaves a Gaussian likelihood of the 283 depths. The prior over spectra turns it into a posterior
whose mean is the next guess. Visits are one likelihood, each with a small depth offset of its own.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from spectramind.transit.columns import Columns
from spectramind.transit.linear import Curves, Linear, Normal
from spectramind.transit.parameters import Layout
from spectramind.transit.settings import TransitConfig
from spectramind.transit.spectrum_prior import Posterior, PriorOnDevice
from spectramind.transit.white import SharedPrior, Solution, bounded, solve, steady

_PARAMETERS_A_WAVELENGTH = 2  # star and depth, for the noise from residuals
_DEPTH_RANGE = (1e-7, 0.3)
_HELD = 3  # last passes, in which the strength of the drift stays so that the spectrum settles
_IMPACT = 2  # b^2 among the shared parameters
_BARE = 1e-2  # scatter about white light without a prior over spectra [(Rp/Rs)^2]


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
    likelihood: Likelihood
    depth: Float64[Tensor, "B W"]
    shared: Float64[Tensor, "B N"]
    shared_covariance: Float64[Tensor, "B N N"]
    linear: Linear  # without outliers, with the noise that was found
    curves: Curves
    change: Float64[Tensor, " B"]  # of the spectrum in the last pass [(Rp/Rs)^2]


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
) -> Solution:
    """Shared parameters of planets whose spectrum is known; outliers are left out."""
    linear = Linear(batch, layout)
    solution = solve(linear, depth, shared, prior, free_depth=False, steps=config.passes)
    linear = Linear(_cleaned(linear, solution.depth, solution.shared, config), layout)
    return solve(linear, depth, solution.shared, prior, free_depth=False, steps=config.passes)


def fit_spectrum(
    batch: Columns,
    layout: Layout,
    prior: SharedPrior,
    spectra: PriorOnDevice | None,
    log_scale: Float64[Tensor, " B"],
    start: Solution,
    config: TransitConfig,
) -> SpectrumFit:
    """Iterate likelihood and posterior from a white-light fit.

    Args:
        batch: Every wavelength a column.
        layout: Shared parameters.
        prior: Their prior.
        spectra: Prior over spectra; None leaves every depth to its own wavelength.
        log_scale: `prior.log_signal` of each planet.
        start: White-light solution: two depths, and shared parameters of `layout`.
        config: Section `transit`.
    """
    linear, general = Linear(batch, layout), prior
    wavelengths = batch.depths - 1
    white = torch.cat([start.depth[:, :1], start.depth[:, 1:].expand(-1, wavelengths)], dim=1)
    depth, shared = white, start.shared
    for number in range(config.passes):
        if number in (1, 2):  # the first posterior shows outliers and noise, the second settles
            linear = Linear(_cleaned(Linear(batch, layout), depth, shared, config), layout)
        likelihood = marginalise(linear.normal(depth, shared), prior, depth, shared)
        posterior = _posterior(likelihood, spectra, log_scale, white)
        new, shared = _most_likely(likelihood, posterior, depth, prior)
        change = (new - depth).abs().amax(-1)
        depth = new
        if number < config.passes - _HELD:
            prior = _own_drift(general, layout, shared, _spread(likelihood, posterior), config)
    return SpectrumFit(
        posterior=posterior,
        likelihood=likelihood,
        depth=depth,
        shared=shared,
        shared_covariance=_spread(likelihood, posterior),
        linear=linear,
        curves=linear.curves(depth, shared),
        change=change,
    )


def _most_likely(
    likelihood: Likelihood,
    posterior: Posterior,
    depth: Float64[Tensor, "B W"],
    prior: SharedPrior,
) -> tuple[Float64[Tensor, "B W"], Float64[Tensor, "B N"]]:
    """Depths and shared parameters of the next guess; b^2 held at 0 where it would fall below."""
    moved = (likelihood.response @ (posterior.mean - depth)[..., None])[..., 0]
    shared = likelihood.centre - moved
    excess = (bounded(shared, prior) - shared)[:, _IMPACT, None]
    seen = likelihood.response[:, _IMPACT, None] @ posterior.covariance  # of b^2 and depths
    own = likelihood.covariance[:, :, _IMPACT] + (likelihood.response @ seen.mT)[..., 0]
    held = excess / own[:, _IMPACT, None]
    new = posterior.mean - held * seen[:, 0]
    return new.clamp(*_DEPTH_RANGE), bounded(shared + held * own, prior)


def _spread(likelihood: Likelihood, posterior: Posterior) -> Float64[Tensor, "B N N"]:
    """Covariance of the shared parameters, the depths unknown."""
    response = likelihood.response
    return likelihood.covariance + response @ posterior.covariance @ response.transpose(-1, -2)


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
    likelihood: Likelihood,
    spectra: PriorOnDevice | None,
    log_scale: Float64[Tensor, " B"],
    white: Float64[Tensor, "B W"],
) -> Posterior:
    if spectra is not None:
        return spectra.posterior(likelihood.information, likelihood.vector, log_scale)
    bare = torch.eye(likelihood.vector.shape[1]).to(likelihood.vector) * _BARE**-2.0
    covariance = torch.linalg.inv(likelihood.information + bare)
    mean = (covariance @ (likelihood.vector + white @ bare)[..., None])[..., 0]
    return Posterior(mean, covariance, torch.zeros_like(log_scale))


def _cleaned(
    linear: Linear,
    depth: Float64[Tensor, "B W"],
    shared: Float64[Tensor, "B N"],
    config: TransitConfig,
) -> Columns:
    """Without outliers, and with the noise that the residuals of each wavelength show."""
    curves = linear.curves(depth, shared)
    batch = linear.batch.keep(steady(linear, curves, config.outlier_sigma))
    residual = Linear(batch, linear.layout).residual(curves)
    count = (batch.weight > 0.0).sum(-1) - _PARAMETERS_A_WAVELENGTH
    ratio = (batch.weight * residual**2).sum(-1) / count.clamp_min(1)
    return batch.scaled(torch.where(count > 0, ratio, 1.0).clamp_min(1e-6))
