"""Where the stage `fit` gets its light curves, stars and labels: an archive, or foreign files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from spectramind.archive.layout import SPLITS, Split, open_archive, stars_of
from spectramind.calibrate.cache import LightCurveStore
from spectramind.observation import LightCurves, Star, named
from spectramind.stages.folders import store_folder

if TYPE_CHECKING:
    from spectramind.archive.foreign import ForeignArchive
    from spectramind.config import Config
    from spectramind.transit.work import LightCurveSource


@dataclass(frozen=True)
class StoredCurves:
    """Light curves that the stage `calibrate` made, or a simulator."""

    store: LightCurveStore

    def curves(self, split: str, planet_id: int) -> list[LightCurves]:
        """Light curves of the visits of a planet."""
        visits = self.store.visits(split, planet_id)
        return [self.store.read(split, planet_id, visit) for visit in visits]

    def origin(self, split: str, planet_id: int) -> str:
        """Hash of what the light curves of a planet are, from the hashes in the store's marks."""
        return self.store.content_hash(split, planet_id)


@dataclass(frozen=True)
class ForeignCurves:
    """Light curves of another pipeline, which know no splits."""

    archive: "ForeignArchive"

    def curves(self, split: str, planet_id: int) -> list[LightCurves]:  # noqa: ARG002
        """Light curves of the visits of a planet."""
        visits = self.archive.visits(planet_id)
        return [self.archive.light_curves(planet_id, visit) for visit in visits]

    def origin(self, split: str, planet_id: int) -> str:  # noqa: ARG002
        """Hash of the files of a planet."""
        return self.archive.content_hash(planet_id)


@dataclass(frozen=True, eq=False)
class Source:
    """Light curves of planets by split, and what is known of them."""

    visits: Mapping[Split, Mapping[int, int]]  # number of visits of each planet
    curves: "LightCurveSource"
    stars: Mapping[Split, Mapping[int, Star | None]]
    labels: Mapping[int, Float64[np.ndarray, " 283"]]  # of training planets with light curves
    problems: tuple[str, ...]  # what is left out, a sentence for each kind


def open_source(config: "Config") -> Source:
    """The light curves that `data` names.

    Raises:
        DataError: If there are none at `data.root`.
    """
    if config.data.name == "lightcurves":
        from spectramind.archive.foreign import open_foreign  # xarray takes a second to import

        return _foreign(open_foreign(config.data.root), config.data.splits)
    archive, store = open_archive(config.data.root), LightCurveStore(store_folder(config))
    visits: dict[Split, dict[int, int]] = {split: {} for split in SPLITS}
    known: dict[Split, dict[int, Star | None]] = {split: {} for split in SPLITS}
    problems: list[str] = []
    for split in config.data.splits:
        everyone, measured = set(archive.planets(split)), set(store.planets(split))
        problems += archive.problems(split)
        problems += _one_sided(split, everyone | set(archive.listed(split)), measured)
        known[split] = stars_of(archive, split, sorted(everyone & measured))
        visits[split] = {planet: len(store.visits(split, planet)) for planet in known[split]}
    spectra = archive.labels().by_planet().items()
    labels = {planet: depth for planet, depth in spectra if planet in visits["train"]}
    return Source(visits, StoredCurves(store), known, labels, tuple(problems))


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


def _foreign(archive: "ForeignArchive", splits: tuple[Split, ...]) -> Source:
    """Planets with a label are training planets, all others test planets."""
    known = archive.labels()
    spectra = {} if known is None else known.by_planet()
    counts = {planet: len(archive.visits(planet)) for planet in archive.planets()}
    labels = {planet: depth for planet, depth in spectra.items() if planet in counts}
    stars = archive.stars()
    parts: dict[Split, list[int]] = {
        "train": [planet for planet in counts if planet in labels],
        "test": [planet for planet in counts if planet not in labels],
    }
    parts = {split: own if split in splits else [] for split, own in parts.items()}
    return Source(
        visits={split: {planet: counts[planet] for planet in own} for split, own in parts.items()},
        curves=ForeignCurves(archive),
        stars={split: {planet: stars[planet] for planet in own} for split, own in parts.items()},
        labels=labels,
        problems=tuple(archive.problems()),
    )
