"""Where the stage `fit` gets its light curves, stars and labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from spectramind.archive.layout import SPLITS, Split
from spectramind.archive.opening import open_data, stars_of
from spectramind.archive.source import LightCurveSource, ListedCurves
from spectramind.calibrate.cache import LightCurveStore
from spectramind.observation import LightCurves, Star, named
from spectramind.stages.folders import store_folder

if TYPE_CHECKING:
    from spectramind.config import Config


@dataclass(frozen=True)
class StoredCurves:
    """Light curves that the stage `calibrate` made, or a simulator."""

    store: LightCurveStore

    def planets(self, split: Split) -> list[int]:
        """Planets of a split that have light curves."""
        return self.store.planets(split)

    def visits(self, split: str, planet_id: int) -> list[int]:
        """Visits of a planet."""
        return self.store.visits(split, planet_id)

    def curves(self, split: str, planet_id: int) -> list[LightCurves]:
        """Light curves of the visits of a planet."""
        visits = self.store.visits(split, planet_id)
        return [self.store.read(split, planet_id, visit) for visit in visits]

    def origin(self, split: str, planet_id: int) -> str:
        """Hash of what the light curves of a planet are, from the hashes in the store's marks."""
        return self.store.content_hash(split, planet_id)


@dataclass(frozen=True, eq=False)
class Source:
    """Light curves of planets by split, and what is known of them."""

    visits: Mapping[Split, Mapping[int, int]]  # number of visits of each planet
    curves: LightCurveSource
    stars: Mapping[Split, Mapping[int, Star | None]]  # of these planets and of labelled ones
    labels: Mapping[int, Float64[np.ndarray, " 283"]]  # of training planets, also without curves
    problems: tuple[str, ...]  # what is left out, a sentence for each kind
    for_retrieval: bool  # whether spectra are written for retrieval codes too

    @property
    def alone(self) -> int:
        """Number of labels of planets without light curves."""
        return len(self.labels.keys() - self.visits["train"].keys())


def open_source(config: "Config") -> Source:
    """The light curves that `data` names: those of the archive, or made from its frames.

    Raises:
        DataError: If there are none at `data.root`.
    """
    archive = open_data(config.data)
    stored = StoredCurves(LightCurveStore(store_folder(config)))
    curves: ListedCurves = archive if isinstance(archive, ListedCurves) else stored
    visits: dict[Split, dict[int, int]] = {split: {} for split in SPLITS}
    known: dict[Split, dict[int, Star | None]] = {split: {} for split in SPLITS}
    problems: list[str] = []
    for split in config.data.splits:
        everyone, measured = set(archive.planets(split)), set(curves.planets(split))
        problems += archive.problems(split)
        problems += _one_sided(split, everyone | set(archive.listed(split)), measured)
        known[split] = stars_of(archive, split, sorted(everyone & measured))
        visits[split] = {planet: len(curves.visits(split, planet)) for planet in known[split]}
    labels, tested = archive.labels().by_planet(), archive.expected() - set(visits["train"])
    labels = {planet: depth for planet, depth in labels.items() if planet not in tested}
    known["train"] |= stars_of(archive, "train", labels.keys() - known["train"].keys())
    found = tuple(dict.fromkeys(problems))  # some archives say the same of both splits
    return Source(visits, curves, known, labels, found, archive.for_retrieval)


def _one_sided(split: Split, there: set[int], measured: set[int]) -> list[str]:
    """A sentence for planets of the archive without light curves, and one for the reverse."""
    sentences = {
        "no light curves. The stage `calibrate` says why": there - measured,
        "light curves, but no folder and no row in the archive's table. Add them, or remove the "
        "light curves": measured - there,
    }
    return [
        f"{split}: {named(sorted(lost))} left out: {why}."
        for why, lost in sentences.items()
        if lost
    ]
