"""White-light fit: FGS1 and AIRS-CH0 of all visits share one orbit, many planets at once.

The two series are the columns of `Linear`, with a depth each. A coarse search over mid-transit
time and impact parameter finds starts; all are improved together by damped least squares
(Levenberg 1944, Marquardt 1963), and each planet goes on from its best.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64
from scipy.ndimage import median_filter
from torch import Tensor

from spectramind.robust import MAD_TO_SIGMA
from spectramind.transit.binning import BinnedVisit
from spectramind.transit.columns import Columns
from spectramind.transit.drift import chebyshev
from spectramind.transit.flux import covered_integrals, hidden_share, separation
from spectramind.transit.linear import Linear, Normal
from spectramind.transit.parameters import Layout
from spectramind.transit.settings import TransitConfig
from spectramind.transit.shared_prior import Guess

_TYPICAL_DEPTH = 0.01  # of a start that no search has found [(Rp/Rs)^2]
_STEPS = 40  # at most, of one fit
_TRIAL_BINS = 60  # of a visit, at least, on which the starts are compared
_SETTLED = 0.02  # change of chi^2 at which a fit has converged
_FREE_DEPTH = 1.0  # so wide that the prior only keeps a rank
_JUMP = 8.0  # smallest size [usual change from bin to bin]
_COST_OF_A_JUMP = 50.0  # gain in chi^2 from which it is believed
_TEMPLATE = 0.1  # radius ratio of the search
_SEARCH_ORDER = 3  # of the baseline beside the template
_DEPTH_RANGE = (1e-6, 0.16)
_SHALLOWEST = 1e-4  # depth of a start
_PERIOD_REACH, _AXIS_REACH, _LARGEST_IMPACT = 0.2, 1.2, 1.2  # [ln], [ln], [stellar radii]


@dataclass(frozen=True, eq=False)
class SharedPrior:
    """Gaussian prior of each planet's shared parameters."""

    mean: Float64[Tensor, "B N"]
    precision: Float64[Tensor, "B N N"]

    def pull(self, shared: Float64[Tensor, "B N"]) -> Float64[Tensor, "B N"]:
        """Gradient of the log prior."""
        return -(self.precision @ (shared - self.mean)[..., None])[..., 0]

    def chi2(self, shared: Float64[Tensor, "B N"]) -> Float64[Tensor, " B"]:
        """Squared distance from the mean in units of the prior."""
        return -(self.pull(shared) * (shared - self.mean)).sum(-1)

    def take(self, rows: Tensor) -> "SharedPrior":
        """The priors of some planets, in that order."""
        return SharedPrior(self.mean[rows], self.precision[rows])


def stack_priors(
    priors: Sequence[tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, "N N"]]],
    device: torch.device,
) -> SharedPrior:
    """Priors of a batch from means and covariances."""
    mean = torch.tensor(np.stack([mean for mean, _ in priors]), device=device)
    covariance = torch.tensor(np.stack([own for _, own in priors]), device=device)
    return SharedPrior(mean, torch.linalg.inv(covariance))


@dataclass(frozen=True, eq=False)
class Solution:
    """Best parameters of a batch and what the data say around them."""

    depth: Float64[Tensor, "B W"]
    shared: Float64[Tensor, "B N"]
    normal: Normal
    cost: Float64[Tensor, " B"]  # chi^2 of data and priors


def solve(
    linear: Linear,
    depth: Float64[Tensor, "B W"],
    shared: Float64[Tensor, "B N"],
    prior: SharedPrior,
    *,
    free_depth: bool,
    steps: int,
) -> Solution:
    """Damped least squares from a start; each planet has its own damping.

    Args:
        linear: Light curves.
        depth: Depths to start from, or to hold.
        shared: Shared parameters to start from.
        prior: Their prior.
        free_depth: Whether depths are fitted (without prior) or held.
        steps: At most so many trials.
    """
    normal = linear.normal(depth, shared)
    cost = normal.chi2 + prior.chi2(shared)
    damping = torch.full_like(cost, 1e-3)
    moving = torch.ones_like(cost, dtype=torch.bool)  # a settled planet waits for the others
    for _ in range(steps):
        moved = _step(normal, prior, shared, damping, free_depth=free_depth)
        new_depth = (depth + moved[0]).clamp(*_DEPTH_RANGE) if free_depth else depth
        new_shared = bounded(shared + moved[1], prior)
        new_normal = linear.normal(new_depth, new_shared)
        new_cost = new_normal.chi2 + prior.chi2(new_shared)
        better = moving & (new_cost < cost)
        settled = ((cost - new_cost).abs() < _SETTLED) | ~better & (damping > 1e3)
        depth, shared = _chosen(better, new_depth, depth), _chosen(better, new_shared, shared)
        normal = _chosen_normal(better, new_normal, normal)
        cost = torch.where(better, new_cost, cost)
        damping = torch.where(better, 0.1 * damping, (10.0 * damping).clamp_min(1e-3))
        moving = moving & ~settled
        if not bool(moving.any()):
            break
    return Solution(depth, shared, normal, cost)


def _step(
    normal: Normal,
    prior: SharedPrior,
    shared: Float64[Tensor, "B N"],
    damping: Float64[Tensor, " B"],
    *,
    free_depth: bool,
) -> tuple[Float64[Tensor, "B W"], Float64[Tensor, "B N"]]:
    pull = normal.shared_pull + prior.pull(shared)
    data = torch.diagonal(normal.shared, dim1=-2, dim2=-1)
    information = normal.shared + prior.precision + torch.diag_embed(damping[:, None] * data)
    if not free_depth:
        return torch.zeros_like(normal.depth), torch.linalg.solve(information, pull)
    own = normal.depth * (1.0 + damping[:, None]) + _FREE_DEPTH**-2.0
    upper = torch.cat([torch.diag_embed(own), normal.cross], dim=-1)
    lower = torch.cat([normal.cross.transpose(-1, -2), information], dim=-1)
    both = torch.cat([upper, lower], dim=-2)
    step = torch.linalg.solve(both, torch.cat([normal.depth_pull, pull], dim=-1))
    return step.split([own.shape[1], pull.shape[1]], dim=-1)  # pyright: ignore[reportReturnType]


def bounded(shared: Float64[Tensor, "B N"], prior: SharedPrior) -> Float64[Tensor, "B N"]:
    """Orbits that can be: near the table's, the centre of the planet near the star's disc."""
    reach = torch.tensor([_PERIOD_REACH, _AXIS_REACH], dtype=shared.dtype).to(shared.device)
    orbit = shared[:, :2].clamp(prior.mean[:, :2] - reach, prior.mean[:, :2] + reach)
    impact2 = shared[:, 2:3].clamp(0.0, _LARGEST_IMPACT**2)
    return torch.cat([orbit, impact2, shared[:, 3:]], dim=-1)


def _chosen(better: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _chosen_normal(better: Tensor, new: Normal, old: Normal) -> Normal:
    names = ("depth", "cross", "shared", "depth_pull", "shared_pull", "chi2")
    return Normal(**{n: _chosen(better, getattr(new, n), getattr(old, n)) for n in names})


def fit_white(
    batch: Columns,
    layout: Layout,
    prior: SharedPrior,
    planets: Sequence[Sequence[BinnedVisit]],
    guesses: Sequence[Guess],
    config: TransitConfig,
) -> tuple[Solution, Linear]:
    """Fit the white light of a batch; bins that stand out are left out.

    Args:
        batch: Two columns, FGS1 and AIRS-CH0.
        layout: Shared parameters, with a drift that has one term along the spectrum.
        prior: Prior of the shared parameters.
        planets: Visits of each planet, as in the batch.
        guesses: Orbit of each planet.
        config: Section `transit`.

    Returns:
        The solution, and the light curves without outliers.
    """
    depths, shared = first_guesses(planets, guesses, prior, layout, config)
    starts = depths.shape[1]
    first = torch.arange(len(planets), device=depths.device)
    rows = first.repeat_interleave(starts)
    thin = batch.every(max(1, batch.tau.shape[-1] // _TRIAL_BINS))
    tried = solve(
        Linear(_rows(thin, rows), layout), depths.flatten(0, 1), shared.flatten(0, 1),
        prior.take(rows), free_depth=True, steps=_STEPS,
    )  # fmt: skip
    best = tried.cost.reshape(-1, starts).argmin(1) + first * starts
    depth, chosen = tried.depth[best], tried.shared[best]
    linear = whole = Linear(batch, layout)
    for _ in range(2):
        solution = solve(linear, depth, chosen, prior, free_depth=True, steps=_STEPS)
        curves = whole.curves(solution.depth, solution.shared)
        used = steady(whole.batch, whole.residual(curves), config.outlier_sigma)
        depth, chosen = solution.depth, solution.shared
        linear = Linear(batch.keep(used), layout)
    return solve(linear, depth, chosen, prior, free_depth=True, steps=_STEPS), linear


def fit_with_jumps(
    begin: Callable[[Sequence[Sequence[BinnedVisit]]], tuple[Solution, Linear]],
    planets: Sequence[Sequence[BinnedVisit]],
    limit: float,
) -> tuple[Solution, Bool[Tensor, "B V 2 T"]]:
    """White-light fits; where one is poor, with the jumps of its light curves taken out.

    A jump looks like an ingress: least squares would put the transit there. Noise in time is
    heard later, about a transit that has to be in its place.

    Args:
        begin: Fits the white light of the planets with these visits.
        planets: Visits of each planet.
        limit: Reduced chi^2 above which a fit is poor.

    Returns:
        The solution, and the bins that are no outliers.
    """
    solution, linear = begin(planets)
    used = linear.batch.weight > 0.0
    poor = solution.normal.chi2 / used.flatten(1).sum(1).clamp_min(1) > limit
    found = [
        [without_jumps(visit) if search else (visit, 0) for visit in visits]
        for visits, search in zip(planets, poor.tolist(), strict=True)
    ]
    count = torch.tensor([sum(jumps for _, jumps in visits) for visits in found]).to(poor.device)
    if not bool((count > 0).any()):
        return solution, used
    calm, linear = begin([[visit for visit, _ in visits] for visits in found])
    better = poor & (calm.cost + _COST_OF_A_JUMP * count < solution.cost)
    normal = _chosen_normal(better, calm.normal, solution.normal)
    depth, shared, cost = (
        _chosen(better, getattr(calm, name), getattr(solution, name))
        for name in ("depth", "shared", "cost")
    )
    used = _chosen(better, linear.batch.weight > 0.0, used)
    return Solution(depth, shared, normal, cost), used


def without_jumps(visit: BinnedVisit) -> tuple[BinnedVisit, int]:
    """A visit whose white light has no jumps, and how many there were in both channels."""
    airs, fgs1 = _levelled(visit.airs_white), _levelled(visit.fgs1)
    return replace(visit, airs_white=airs[0], fgs1=fgs1[0]), airs[1] + fgs1[1]


def _levelled(flux: Float64[np.ndarray, " T"]) -> tuple[Float64[np.ndarray, " T"], int]:
    """A series without jumps: changes within one bin or two, between stretches that are steady."""
    step = np.diff(flux)
    usual = MAD_TO_SIGMA * float(np.median(np.abs(step)))
    jumps, level = 0, flux.copy()
    for width in (1, 2):
        for place in range(3, flux.size - width - 2):
            before, after = level[place - 3 : place], level[place + width - 1 : place + width + 2]
            size = float(np.median(after) - np.median(before))
            if abs(size) > _JUMP * max(usual, np.ptp(before) / 2.0, np.ptp(after) / 2.0):
                level[place + width - 1 :] -= size
                level[place : place + width - 1] = np.median(before)
                jumps += 1
    return level, jumps


def steady(
    batch: Columns, residual: Float64[Tensor, "B V W T"], limit: float
) -> Bool[Tensor, "B V W T"]:
    """False where a value lies further from the model than `limit` times the usual distance."""
    measured = batch.weight > 0.0
    distance = torch.where(measured, residual.abs(), torch.nan)
    usual = MAD_TO_SIGMA * distance.nanmedian(dim=-1, keepdim=True).values
    noise = batch.weight.amax(-1, keepdim=True).clamp_min(1e-300) ** -0.5
    return measured & (residual.abs() <= limit * torch.maximum(usual, noise))


def _rows(batch: Columns, rows: Tensor) -> Columns:
    return Columns(
        batch.time_h[rows], batch.tau[rows], batch.log_flux[rows], batch.weight[rows],
        batch.place, batch.limb[rows],
    )  # fmt: skip


def first_guesses(
    planets: Sequence[Sequence[BinnedVisit]],
    guesses: Sequence[Guess],
    prior: SharedPrior,
    layout: Layout,
    config: TransitConfig,
) -> tuple[Float64[Tensor, "B S 2"], Float64[Tensor, "B S N"]]:
    """Depths and shared parameters to start from: for each impact parameter the best times.

    The last start of each planet is the expected orbit with a typical depth in the middle of each
    visit: where a strong drift looks like half a transit, or a transit fills the whole window,
    the search is led astray.
    """
    trials = zip(planets, guesses, prior.mean, strict=True)
    starts = [_starts(visits, guess, mean, layout, config) for visits, guess, mean in trials]
    most = max(map(len, starts))
    starts = [[*own, *own[-1:] * (most - len(own))] for own in starts]  # once more from the last
    depths = torch.tensor([[[depth, depth] for depth, _ in own] for own in starts])
    shared = [torch.stack([parameters for _, parameters in own]) for own in starts]
    return depths.to(prior.mean), torch.stack(shared)


def _starts(
    visits: Sequence[BinnedVisit],
    guess: Guess,
    mean: Float64[Tensor, " N"],
    layout: Layout,
    config: TransitConfig,
) -> list[tuple[float, Float64[Tensor, " N"]]]:
    """Depth and shared parameters of each start of one planet."""
    axes = (1.0,) if guess.known else config.scan.axes
    found = []
    for axis in axes:
        orbit = replace(guess, semi_major_axis_rs=axis * guess.semi_major_axis_rs)
        for impact in (guess.impact_parameter, *config.scan.impact_parameters):
            shared, amplitudes, gain = mean.clone(), [], 0.0
            shared[1] += np.log(axis)
            shared[2] = impact**2
            for number, visit in enumerate(visits):
                time, amplitude, own = _search(visit, orbit, impact, config)
                shared[layout.times(number).start] = time
                amplitudes.append(amplitude)
                gain += own
            depth = np.clip(_TEMPLATE**2 * np.mean(amplitudes), _SHALLOWEST, _DEPTH_RANGE[1])
            found.append((gain, float(depth), shared))
    found.sort(key=lambda start: -start[0])
    best = found[: config.scan.starts + len(axes) - 1]
    return [*[(depth, shared) for _, depth, shared in best], (_TYPICAL_DEPTH, mean)]


def _search(
    visit: BinnedVisit, guess: Guess, impact: float, config: TransitConfig
) -> tuple[float, float, float]:
    """Best mid-transit time for a given orbit: a template beside a free baseline.

    Returns:
        Mid-transit time [h], depth over that of the template, and the gain in chi^2.
    """
    scan, time = config.scan, torch.tensor(visit.airs_time_h)
    grid = torch.arange(
        float(time[0]) - scan.margin_h, float(time[-1]) + scan.margin_h, scan.step_h,
        dtype=torch.float64,
    )  # fmt: skip
    z = separation(
        time - grid[:, None],
        t0_h=0.0, period_d=guess.period_d, semi_major_axis_rs=guess.semi_major_axis_rs,
        impact_parameter=impact,
    )  # fmt: skip
    table_z = torch.linspace(0.0, 1.1, 200, dtype=torch.float64)
    radius = torch.tensor(_TEMPLATE, dtype=torch.float64)
    table = hidden_share(covered_integrals(table_z, radius), 0.1, 0.2)
    shape = np.interp(z.numpy(), table_z.numpy(), table.numpy(), right=0.0)
    basis, _ = np.linalg.qr(chebyshev(torch.tensor(visit.tau), _SEARCH_ORDER).numpy())
    shape = shape - (shape @ basis) @ basis.T
    power = np.sum(shape**2, axis=1)
    weights = np.array([visit.airs_noise, visit.fgs1_noise]) ** -2.0
    drop = -weights[0] * without_spikes(visit.airs_white)
    drop -= weights[1] * without_spikes(visit.fgs1)
    strong = power > 1e-6 * power.max()
    amplitude = np.where(strong, shape @ drop / np.where(strong, power, 1.0), 0.0)
    amplitude = np.maximum(amplitude / weights.sum(), 0.0)
    gain = amplitude**2 * power * weights.sum()
    best = int(np.argmax(gain))
    return float(grid[best]), float(amplitude[best]), float(gain[best])


def without_spikes(flux: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, " T"]:
    """Running median of three, also at the ends: monotone parts stay, single spikes go."""
    return median_filter(flux, size=3, mode="mirror")
