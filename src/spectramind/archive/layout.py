"""The archives of the Ariel Data Challenge 2024 and 2025 on disk, read without constants.

Counts of frames, cadences and integration times come from the files of the archive.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int

from spectramind.archive.signals import (
    Exposure,
    read_maps,
    read_pixels,
)
from spectramind.archive.tables import (
    planet_ids,
    read_accumulation_s,
    read_adc,
    read_labels,
    read_pair_times,
    read_star,
    read_table,
    read_wavelengths,
)
from spectramind.errors import DataError
from spectramind.instrument import CHANNELS, FGS1, Channel
from spectramind.observation import DetectorMaps, Frames, Labels, Star

Split = Literal["train", "test"]
Year = Literal[2024, 2025]

_AXES = "axis_info.parquet"
_WAVELENGTHS = "wavelengths.csv"
_LABELS: dict[Year, str] = {2024: "train_labels.csv", 2025: "train.csv"}
_MAPS = ("dark", "dead", "flat", "linear_corr", "read")
_NAMED = 5  # planets that one sentence of `problems` names


@dataclass(frozen=True)
class Archive:
    """An archive in the layout of 2024 or 2025; the year is recognised by its files.

    2024 has no star table and one visit per planet, 0, whose files carry no visit number.
    """

    root: Path
    year: Year

    def planets(self, split: Split) -> list[int]:
        """Planets that have a folder, in ascending order.

        An archive of light curves has no folders; its planets are those of the star table.
        """
        folder = self.root / split
        if not folder.is_dir():
            return self.listed(split)
        return sorted(int(entry.name) for entry in folder.iterdir() if _is_planet(entry))

    def listed(self, split: Split) -> list[int]:
        """Planets that the table of the split names (2025: stars, 2024: converters)."""
        path = self._planet_table(split)
        if not path.exists():
            return []
        return sorted(planet_ids(read_table(path), path).tolist())

    def sample_planets(self) -> list[int]:
        """Planets that a submission must hold by the sample; [] where there is no sample."""
        path = self.root / "sample_submission.csv"
        if not path.exists():
            return []
        return sorted(planet_ids(read_table(path), path).tolist())

    def visits(self, split: Split, planet_id: int) -> list[int]:
        """Visits that have a signal file; [0] where there is none, so that reading it raises."""
        if self.year == 2024:
            return [0]
        folder = self._planet(split, planet_id)
        found = {
            int(visit)
            for channel in CHANNELS
            for path in folder.glob(f"{channel.name}_signal_*.parquet")
            if (visit := path.stem.rpartition("_")[2]).isdecimal()
        }
        return sorted(found) or [0]

    def labels(self) -> Labels:
        """True spectra of the train planets.

        Raises:
            DataError: If the archive has none, or they are damaged.
        """
        path = self.root / _LABELS[self.year]
        if not path.exists():
            raise DataError(
                f"{self.root}: has no labels of the train planets. Labels come only as "
                f"{_LABELS[self.year]}, with the train planets of the archive."
            )
        return read_labels(path)

    def star(self, split: Split, planet_id: int) -> Star | None:
        """The planet's row of the star table; None in 2024, which has no such table."""
        if self.year == 2024:
            return None
        return read_star(self._planet_table(split), planet_id)

    def adc(self, planet_id: int, channel: Channel) -> tuple[float, float]:
        """Gain [counts/e-] and offset [e-]: electrons = counts / gain + offset."""
        if self.year == 2025:
            return read_adc(self.root / "adc_info.csv", None, channel)
        split: Split = "test" if planet_id in self.listed("test") else "train"
        return read_adc(self._planet_table(split), planet_id, channel)

    def time_h(self, channel: Channel) -> Float64[np.ndarray, " T"]:
        """Middle of the two reads of each pair [h]."""
        return read_pair_times(self.root / _AXES, channel)

    def read_s(self, channel: Channel) -> tuple[float, float]:
        """Charge accumulation time of the two reads of a pair [s]; FGS1 has no column for it."""
        if channel == FGS1:
            return FGS1.read_s
        return read_accumulation_s(self.root / _AXES)

    def wavelength_um(self) -> Float64[np.ndarray, " 283"]:
        """Scored wavelengths [um]: FGS1, then AIRS-CH0 increasing."""
        return read_wavelengths(self.root / _WAVELENGTHS)

    def frames(
        self,
        split: Split,
        planet_id: int,
        visit: int,
        channel: Channel,
        pixels: Int[np.ndarray, " P"],
    ) -> Frames:
        """Raw reads of the wanted pixels (flat detector indices, each at most once).

        Raises:
            DataError: If a file is missing, damaged or contradicts another one.
        """
        time_h = self.time_h(channel)
        gain, offset_e = self.adc(planet_id, channel)
        reads = read_pixels(
            Exposure(planet_id, visit, channel),
            self.signal_file(split, planet_id, visit, channel),
            pixels,
            expected_reads=2 * len(time_h),
        )
        return Frames(
            planet_id=planet_id,
            visit=visit,
            channel=channel,
            pixels=pixels,
            reads=reads,
            time_h=time_h,
            read_s=self.read_s(channel),
            gain=gain,
            offset_e=offset_e,
        )

    def detector_maps(
        self, split: Split, planet_id: int, visit: int, channel: Channel
    ) -> DetectorMaps:
        """Calibration maps of one channel and visit.

        Raises:
            DataError: If a map is missing, damaged, of another shape, all dead or not finite.
        """
        folder = self._maps_folder(split, planet_id, visit, channel)
        return read_maps(Exposure(planet_id, visit, channel), folder)

    def signal_file(self, split: Split, planet_id: int, visit: int, channel: Channel) -> Path:
        """Where the raw reads lie."""
        name = f"{channel.name}_signal{self._suffix(visit)}.parquet"
        return self._planet(split, planet_id) / name

    def visit_files(self, split: Split, planet_id: int, visit: int) -> list[Path]:
        """The files that the light curves of a visit are made from, those of the planet only."""
        files = []
        for channel in CHANNELS:
            files.append(self.signal_file(split, planet_id, visit, channel))
            folder = self._maps_folder(split, planet_id, visit, channel)
            files.extend(folder / f"{name}.parquet" for name in _MAPS)
        return files

    def shared_files(self, split: Split) -> list[Path]:
        """The tables that the light curves of every visit depend on."""
        adc = self.root / "adc_info.csv" if self.year == 2025 else self._planet_table(split)
        return [self.root / _AXES, self.root / _WAVELENGTHS, adc]

    def problems(self, split: Split) -> list[str]:
        """Contradictions between the folders and the tables of a split, one sentence per kind."""
        on_disk = set(self.planets(split))
        table = self._planet_table(split).name
        found = [
            _planets_sentence(on_disk - set(self.listed(split)), f"have no row in {table}"),
            _planets_sentence(
                set(self.listed(split)) - on_disk, f"are listed in {table} but have no folder"
            ),
        ]
        labels = self.root / _LABELS[self.year]
        if split == "train" and labels.exists():
            labelled = set(self.labels().planet_ids.tolist())
            found += [
                _planets_sentence(labelled - on_disk, f"are in {labels.name} but have no folder"),
                _planets_sentence(on_disk - labelled, f"have no row in {labels.name}"),
            ]
        return [f"{split}: {sentence}" for sentence in found if sentence]

    def _planet(self, split: Split, planet_id: int) -> Path:
        return self.root / split / str(planet_id)

    def _maps_folder(self, split: Split, planet_id: int, visit: int, channel: Channel) -> Path:
        name = f"{channel.name}_calibration{self._suffix(visit)}"
        return self._planet(split, planet_id) / name

    def _suffix(self, visit: int) -> str:
        return "" if self.year == 2024 else f"_{visit}"

    def _planet_table(self, split: Split) -> Path:
        name = "adc_info" if self.year == 2024 else "star_info"
        return self.root / f"{split}_{name}.csv"


def open_archive(root: Path) -> Archive:
    """Recognise the layout of the archive in a folder.

    Raises:
        DataError: If the folder is missing, empty, or holds neither year's files.
    """
    if not root.is_dir():
        raise _no_archive(root, "is not a folder")
    names = {entry.name for entry in root.iterdir()}
    if not names:
        raise _no_archive(root, "is empty")
    if _AXES not in names or _WAVELENGTHS not in names:
        raise _no_archive(root, f"lacks {_AXES if _AXES not in names else _WAVELENGTHS}")
    if "adc_info.csv" in names:
        return Archive(root, 2025)
    if names & {"train_adc_info.csv", "test_adc_info.csv"}:
        return Archive(root, 2024)
    raise _no_archive(root, "lacks adc_info.csv (2025) or train_adc_info.csv (2024)")


def _no_archive(root: Path, found: str) -> DataError:
    return DataError(
        f"data.root={root}: {found}. Expected the unpacked archive of the Ariel Data Challenge: "
        f"{_AXES}, {_WAVELENGTHS}, train/, test/ and, of 2025, adc_info.csv, train.csv, "
        "train_star_info.csv, test_star_info.csv or, of 2024, train_adc_info.csv, "
        "test_adc_info.csv, train_labels.csv. data=sim needs none of it: "
        "run spectramind simulate first."
    )


def _is_planet(entry: Path) -> bool:
    return entry.name.isdecimal() and entry.is_dir()


def _planets_sentence(planets: set[int], found: str) -> str:
    """Names the first planets and counts the others; empty where there are none."""
    if not planets:
        return ""
    named = ", ".join(map(str, sorted(planets)[:_NAMED]))
    more = f" and {len(planets) - _NAMED} more" if len(planets) > _NAMED else ""
    return (
        f"planets {named}{more} {found}. Fetch the archive again or leave them out on both sides."
    )


SPLITS: tuple[Split, ...] = ("train", "test")


def stars_of(
    archive: Archive, split: Split, planets: Iterable[int]
) -> tuple[dict[int, Star | None], tuple[str, ...]]:
    """Star of each planet, and a sentence for each planet that the table lacks."""
    stars: dict[int, Star | None] = {}
    failures = []
    for planet in planets:
        try:
            stars[planet] = archive.star(split, planet)
        except DataError as error:
            failures.append(str(error))
    return stars, tuple(failures)
