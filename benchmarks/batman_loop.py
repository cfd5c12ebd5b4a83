"""White-light fit of stored planets with batman and scipy, one after another.

Run by benchmarks/fit.py as `python batman_loop.py FOLDER`. Each planet gets the binned data, the
free parameters, the priors and the first guess of spectramind's white fit, but one start only and
no search for outliers; derivatives are numerical. The fit of spectramind is timed beside it on
the same binned data. The last line is JSON.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import batman
import numpy as np
import torch
from jaxtyping import Float64
from scipy.optimize import least_squares

from fit_chain import PRIORS, load, stored
from spectramind import config as configuration
from spectramind.instrument import wavelength_um
from spectramind.transit.columns import Columns, make_white_columns
from spectramind.transit.limb_darkening import quadratic_coefficients
from spectramind.transit.parameters import Layout
from spectramind.transit.priors import Priors, read_priors
from spectramind.transit.settings import TransitConfig
from spectramind.transit.shared_prior import Guess, guess_orbit
from spectramind.transit.start import BinnedPlanet, prepare
from spectramind.transit.white import SharedPrior, first_guesses, fit_white, stack_priors

_SMALLEST_DEPTH = 1e-6
_LARGEST_IMPACT = 1.2  # [stellar radii], as in the white fit


@dataclass(frozen=True, eq=False)
class Problem:
    """White light of one planet, ready for either fit."""

    planet: BinnedPlanet
    guess: Guess
    layout: Layout
    prior: SharedPrior
    batch: Columns


def main() -> None:
    """Fit every planet of the folder both ways."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    config, priors = configuration.load([]).transit, read_priors(folder / PRIORS)
    seconds, own_seconds, distance, count = 0.0, 0.0, 0.0, 0
    for batch in stored(folder):
        for star, curves in load(batch):
            problem = pose(prepare(curves, star, config), priors, config)
            visits, guesses = [problem.planet.visits], [problem.guess]
            start = time.perf_counter()
            white, _ = fit_white(
                problem.batch, problem.layout, problem.prior, visits, guesses, config
            )
            middle = time.perf_counter()
            depth = fit_with_batman(problem, config)
            seconds += time.perf_counter() - middle
            own_seconds += middle - start
            sigma = white.normal.depth[0].numpy() ** -0.5
            distance = max(distance, float(np.abs((white.depth[0].numpy() - depth) / sigma).max()))
            count += 1
    print(json.dumps({
        "seconds": seconds, "white_seconds": own_seconds, "planets": count,
        "white_distance_sigma": distance,
    }))  # fmt: skip


def pose(planet: BinnedPlanet, priors: Priors, config: TransitConfig) -> Problem:
    """The white fit of one planet, as `fit_planets` begins it."""
    guess = guess_orbit(planet.star, config)
    limb = quadratic_coefficients(guess.temperature_k, wavelength_um())[None]
    layout = Layout(len(planet.visits), len(config.baseline.scatter), 1)
    population = priors.known if guess.known else priors.unknown
    own = population.prior(guess, planet.middles_h, layout, config)
    prior = stack_priors([own], torch.device("cpu"))
    batch = make_white_columns([planet.visits], limb, config)
    return Problem(planet, guess, layout, prior, batch)


def fit_with_batman(problem: Problem, config: TransitConfig) -> Float64[np.ndarray, " 2"]:
    """White depths of FGS1 and AIRS-CH0."""
    depths, starts = first_guesses(
        [problem.planet.visits], [problem.guess], problem.prior, problem.layout, config
    )
    start = np.concatenate([depths[0, 0].numpy(), starts[0, 0].numpy()])
    scatter = np.linalg.inv(problem.prior.precision[0].numpy()).diagonal() ** 0.5
    lower, upper = np.full(start.size, -np.inf), np.full(start.size, np.inf)
    lower[:2], lower[4], upper[4] = _SMALLEST_DEPTH, 0.0, _LARGEST_IMPACT**2
    found = least_squares(
        Residuals(problem, config),
        np.clip(start, lower + 1e-9, upper - 1e-9),
        bounds=(lower, upper),
        x_scale=np.concatenate([[1e-4, 1e-4], scatter]),
    )
    return found.x[:2]


class Residuals:
    """Residuals of both channels and of the prior, in units of their errors."""

    def __init__(self, problem: Problem, config: TransitConfig) -> None:
        self.problem = problem
        self.lower = np.linalg.cholesky(problem.prior.precision[0].numpy())
        self.mean = problem.prior.mean[0].numpy()
        self.log_flux, self.weight = (
            own[0].numpy() for own in (problem.batch.log_flux, problem.batch.weight)
        )
        tau = problem.batch.tau[0].numpy()
        order = problem.layout.time_order
        self.terms = np.polynomial.chebyshev.chebvander(tau, order)[..., 1:]
        self.law: Any = batman.TransitParams()  # whose fields begin as None
        self.law.ecc, self.law.w, self.law.limb_dark, self.law.t0 = 0.0, 90.0, "quadratic", 0.0
        self.times = problem.batch.time_h[0].numpy().mean(-1)
        self.models: dict[tuple[int, int], batman.TransitModel] = {}
        self.samples = config.samples_per_bin

    def __call__(self, x: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, " R"]:
        """Residuals at two depths and the shared parameters of the layout."""
        depth, shared = x[:2], x[2:]
        problem, layout = self.problem, self.problem.layout
        rows = [self.lower.T @ (shared - self.mean)]
        limb = problem.batch.limb[0].numpy() + shared[3:7].reshape(2, 2)
        for visit, binned in enumerate(problem.planet.visits):
            bins = binned.airs_time_h.size
            mid, clock = shared[layout.times(visit)]
            offsets, drift = shared[layout.offsets(visit)], shared[layout.drift(visit)]
            for channel, coefficients in enumerate(drift.reshape(2, -1)):
                transit = self._transit(
                    (visit, channel), mid + (clock if channel == 0 else 0.0),
                    max(depth[channel] + offsets[channel], _SMALLEST_DEPTH), shared, limb[channel],
                )  # fmt: skip
                gain = 1.0 + self.terms[visit, channel, :bins] @ coefficients
                left = self.log_flux[visit, channel, :bins] - np.log(transit * gain)
                weight = self.weight[visit, channel, :bins]
                level = np.sum(weight * left) / np.sum(weight)
                rows.append(np.sqrt(weight) * (left - level))
        return np.concatenate(rows)

    def _transit(
        self, series: tuple[int, int], mid_h: float, depth: float,
        shared: Float64[np.ndarray, " N"], limb: Float64[np.ndarray, " 2"],
    ) -> Float64[np.ndarray, " T"]:  # fmt: skip
        law, visit = self.law, self.problem.planet.visits[series[0]]
        law.per, law.a = float(np.exp(shared[0])), float(np.exp(shared[1]))
        law.inc = float(np.degrees(np.arccos(np.sqrt(shared[2]) / law.a)))
        law.rp, law.u, law.t0 = float(np.sqrt(depth)), limb.tolist(), mid_h / 24.0
        if series not in self.models:
            time_d = self.times[series][: visit.airs_time_h.size] / 24.0
            self.models[series] = batman.TransitModel(
                law, time_d, supersample_factor=self.samples, exp_time=visit.width_h / 24.0
            )
        return self.models[series].light_curve(law)


if __name__ == "__main__":
    main()
