"""Where the fit of a planet begins: its visits in time bins, and their white light."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from spectramind.errors import DataError
from spectramind.instrument import wavelength_um
from spectramind.observation import LightCurves, Star
from spectramind.transit.binning import BinnedVisit, bin_visit
from spectramind.transit.columns import Columns, make_columns, make_white_columns
from spectramind.transit.limb_darkening import quadratic_coefficients
from spectramind.transit.linear import Linear
from spectramind.transit.parameters import FIXED, Layout
from spectramind.transit.priors import Priors
from spectramind.transit.settings import TransitConfig
from spectramind.transit.shared_prior import Guess, guess_orbit
from spectramind.transit.white import (
    SharedPrior,
    Solution,
    fit_white,
    fit_with_jumps,
    stack_priors,
)


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
class Start:
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


def begin_fit(
    planets: Sequence[BinnedPlanet],
    priors: Priors,
    config: TransitConfig,
    device: torch.device,
    *,
    believed: bool = True,
) -> Start:
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
    depths = white.depth[:, 1].tolist()
    guesses = [replace(one, depth=own) for one, own in zip(guesses, depths, strict=True)]
    full = prior(layout)
    shared = _widened(white.shared, narrow, layout)
    solution = Solution(_begun(white.depth, planets), shared, white.normal, white.cost)
    return Start(guesses, layout, limb, full, white, solution, used)


def _begun(
    depth: Float64[Tensor, "B 2"], planets: Sequence[BinnedPlanet]
) -> Float64[Tensor, "B 2"]:
    """White-light depths, that of AIRS-CH0 for an FGS1 that was not measured."""
    seen = [any(visit.has_fgs1 for visit in planet.visits) for planet in planets]
    measured = torch.tensor(seen).to(depth.device)
    return torch.where(measured[:, None], depth, depth[:, 1:])


def all_columns(
    planets: Sequence[BinnedPlanet], start: Start, config: TransitConfig, device: torch.device
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
