"""`doctor --deep`: every file of the archive is read once, and what is damaged is named."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from spectramind.archive.fingerprint import archive_files
from spectramind.archive.layout import SPLITS, Archive, Split, open_archive
from spectramind.archive.tables import read_table
from spectramind.calibrate.cache import LightCurveStore
from spectramind.calibrate.chain import visits_of
from spectramind.config import Config
from spectramind.instrument import CHANNELS, Channel
from spectramind.parallel import Shown, each
from spectramind.stages.folders import store_folder

_TABLES = (".csv", ".csv.gz", ".parquet")
Reading = Callable[[], object]


def faults(config: Config) -> tuple[str, ...]:
    """A sentence for each file of the archive that cannot be used.

    Raises:
        DataError: If there is no archive at `data.root`.
    """
    numbered = list(enumerate(_readings(config)))
    shown = Shown("read archive", "files")
    outcomes = list(each(_read, numbered, workers=config.runtime.workers, shown=shown))
    outcomes.sort(key=lambda outcome: outcome.item[0])
    found = [str(outcome.error) for outcome in outcomes if outcome.error is not None]
    return tuple(dict.fromkeys(found))  # a table is read by itself and against the folders


def _read(numbered: tuple[int, Reading]) -> None:
    numbered[1]()


def _readings(config: Config) -> Iterator[Reading]:
    """Reads, each of another file or of a few."""
    if config.data.name == "lightcurves":
        from spectramind.archive.foreign import open_foreign  # xarray takes a second to import

        foreign = open_foreign(config.data.root)
        yield partial(foreign.problems, SPLITS[0])  # reads the tables
        yield from (partial(foreign.light_curves, *visit) for visit in foreign.files)
        return
    archive = open_archive(config.data.root)
    seen: set[Path] = set()
    if config.data.level == "lightcurves":
        yield from _of_store(LightCurveStore(store_folder(config)))
    else:
        for visit in visits_of(archive, SPLITS):
            seen.update(archive.visit_files(*visit))
            yield from _of_visit(archive, *visit)
    for path in sorted(set(archive_files(archive.root)) - seen):
        if path.name.lower().endswith(_TABLES):
            yield partial(read_table, path)
    for split in SPLITS:
        yield partial(archive.problems, split)


def _of_store(store: LightCurveStore) -> Iterator[Reading]:
    for split in SPLITS:
        for planet in store.planets(split):
            for visit in store.visits(split, planet):
                yield partial(store.read, split, planet, visit)


def _of_visit(archive: Archive, split: Split, planet: int, visit: int) -> Iterator[Reading]:
    for channel in CHANNELS:
        yield partial(archive.detector_maps, split, planet, visit, channel)
        yield partial(_all_pixels, archive, split, planet, visit, channel)


def _all_pixels(archive: Archive, split: Split, planet: int, visit: int, channel: Channel) -> None:
    archive.frames(split, planet, visit, channel, np.arange(channel.pixels))
