"""Bad ends of visits: light that drops, settles or jumps in the first or last part of them.

To the search for the transit such a part looks like half of one, and it drags drift, orbit and
depth with it. A planet whose white light fits poorly is tried without such parts.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64

from spectramind.transit.binning import MINIMUM_BINS, BinnedVisit
from spectramind.transit.flux import separation
from spectramind.transit.priors import Priors
from spectramind.transit.settings import TransitConfig
from spectramind.transit.start import BinnedPlanet, Start, begin_fit


@dataclass(frozen=True, eq=False)
class Shortened:
    """A planet without the bad ends of its visits."""

    planet: BinnedPlanet
    gone_h: Float64[np.ndarray, "V 2"]  # at the beginning and at the end of each visit [h]
    chi2: float  # reduced, of the white light that is left
    whole: float  # the same with whole visits

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence per visit that is shorter now."""
        return tuple(
            f"Visit {visit.visit}: {_words(gone)} were left out, for without bad ends the white "
            f"light, its noise taken for white, has a reduced chi^2 of {self.chi2:.1f} in place "
            f"of {self.whole:.1f}."
            for visit, gone in zip(self.planet.visits, self.gone_h, strict=True)
            if gone.any()
        )


def _words(gone_h: Float64[np.ndarray, " 2"]) -> str:
    parts = zip(("first", "last"), 60.0 * gone_h, strict=True)
    return " and ".join(f"the {name} {minutes:.0f} min" for name, minutes in parts if minutes)


def without_bad_ends(
    planet: BinnedPlanet, whole: float, priors: Priors, config: TransitConfig
) -> Shortened | None:
    """The planet without the ends that spoil its white light; None if it fits or no end does.

    First the longest of `ends.parts_h` is left out at every end. If the white light then is no
    longer poor, and fits better by `ends.gain`, each end is given back alone: bad are those with
    which it fits worse by as much. They lose the shortest part that does as well as the longest.

    Args:
        planet: With whole visits.
        whole: Reduced chi^2 of its white light.
        priors: What is known beforehand.
        config: Section `transit`.
    """
    gain, visits = config.ends.gain, len(planet.visits)
    parts = [own for own in sorted(config.ends.parts_h) if _stays(planet, own)]
    if whole <= config.failure.chi2 or not parts:
        return None
    every = np.full((visits, 2), parts[-1])
    least = _tried(planet, every, priors, config).misfit[0]
    if least > config.failure.chi2 or gain * least >= whole:
        return None
    bad = np.zeros((visits, 2))
    for place in np.ndindex(visits, 2):
        given = every.copy()
        given[place] = 0.0
        bad[place] = _tried(planet, given, priors, config).misfit[0] >= gain * least
    for part in parts if bad.any() else ():
        gone_h = part * bad
        shorter, start = without_ends(planet, gone_h), _tried(planet, gone_h, priors, config)
        chi2 = start.misfit[0]
        if chi2 < gain * least and gain * chi2 < whole and _enough(shorter, bad, start, config):
            return Shortened(shorter, gone_h, chi2, whole)
    return None


def _stays(planet: BinnedPlanet, part_h: float) -> bool:
    """Whether visits can be fitted without so much at both ends."""
    shorter = without_ends(planet, np.full((len(planet.visits), 2), part_h))
    return all(visit.airs_time_h.size >= MINIMUM_BINS for visit in shorter.visits)


def _tried(
    planet: BinnedPlanet, gone_h: Float64[np.ndarray, "V 2"], priors: Priors, config: TransitConfig
) -> Start:
    return begin_fit([without_ends(planet, gone_h)], priors, config, torch.device("cpu"))


def without_ends(planet: BinnedPlanet, gone_h: Float64[np.ndarray, "V 2"]) -> BinnedPlanet:
    """A planet whose visits lack so much at their beginning and at their end [h]."""
    visits = zip(planet.visits, gone_h.tolist(), strict=True)
    return replace(planet, visits=tuple(_shorter(visit, *gone) for visit, gone in visits))


def _shorter(visit: BinnedVisit, first_h: float, last_h: float) -> BinnedVisit:
    """The bins between the ends, and the finer exposures of FGS1; an end of 0 h loses nothing."""
    time, fine, half = visit.airs_time_h, visit.fine_time_h, 0.5 * visit.width_h
    first = time[0] - half + first_h if first_h else -np.inf
    last = time[-1] + half - last_h if last_h else np.inf
    kept, seen = (time > first) & (time < last), (fine > first) & (fine < last)
    return replace(
        visit, airs_time_h=time[kept], fgs1_time_h=visit.fgs1_time_h[kept],
        airs=visit.airs[kept], airs_white=visit.airs_white[kept], fgs1=visit.fgs1[kept],
        fine_time_h=fine[seen], fine_fgs1=visit.fine_fgs1[seen],
        fine_centroid=visit.fine_centroid[seen],
    )  # fmt: skip


def _enough(
    planet: BinnedPlanet, bad: Float64[np.ndarray, "V 2"], start: Start, config: TransitConfig
) -> bool:
    """Whether visits with bad ends have bins in transit, and outside it at each bad end."""
    shared = start.solution.shared[0]
    reach = 1.0 + float(start.white.depth[0, 1]) ** 0.5
    counts: list[int] = []
    for number, (visit, (first, last)) in enumerate(zip(planet.visits, bad, strict=True)):
        time, middle = visit.airs_time_h, float(shared[start.layout.times(number).start])
        z = separation(
            torch.tensor(time), t0_h=middle, period_d=float(shared[0].exp()),
            semi_major_axis_rs=float(shared[1].exp()), impact_parameter=float(shared[2].sqrt()),
        )  # fmt: skip
        inside = z.numpy() < reach
        used = start.used[0, number, 1, : time.size].numpy()
        counts += [int(np.sum(used & inside))] if first or last else []
        counts += [int(np.sum(used & ~inside & (time < middle)))] if first else []
        counts += [int(np.sum(used & ~inside & (time > middle)))] if last else []
    return min(counts) >= config.failure.bins
