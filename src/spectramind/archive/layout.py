"""The archives of the Ariel Data Challenge 2024 and 2025 on disk, read without constants.

Counts of frames, cadences and integration times come from the files of the archive.
"""

import re
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
    find_table,
    planet_rows,
    read_accumulation_s,
    read_adc,
    read_pair_times,
    read_stars,
    read_table,
    read_usable_labels,
    read_wavelengths,
)
from spectramind.errors import DataError
from spectramind.instrument import CHANNELS, FGS1, Channel
from spectramind.observation import DetectorMaps, Frames, Labels, Star, named, some

Split = Literal["train", "test"]
Year = Literal[2024, 2025]
SPLITS: tuple[Split, ...] = ("train", "test")

_AXES = "axis_info.parquet"
_WAVELENGTHS = "wavelengths.csv"
_LABELS: dict[Year, str] = {2024: "train_labels.csv", 2025: "train.csv"}
_MAPS = ("dark", "dead", "flat", "linear_corr", "read")
_SAMPLE = "sample_submission.csv"
_ID = re.compile(r"0|[1-9][0-9]{0,18}")  # as a folder is called
_LARGEST = np.iinfo(np.int64).max


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

    @property
    def label_table(self) -> Path:
        """Where the true spectra of the train planets lie, if there are any."""
        return find_table(self.root, _LABELS[self.year])

    @property
    def for_retrieval(self) -> bool:
        """Spectra of the challenge go into a submission alone."""
        return False

    def expected(self) -> set[int]:
        """Test planets that a submission must hold: those of tables, folders and the sample."""
        return {*self.planets("test"), *self.listed("test"), *self.sample_planets()}

    def listed(self, split: Split) -> list[int]:
        """Planets that the table of the split names (2025: stars, 2024: converters)."""
        return _listed(self._planet_table(split))

    def sample_planets(self) -> list[int]:
        """Planets that a submission must hold by the sample; [] where there is no sample."""
        return _listed(find_table(self.root, _SAMPLE))

    def visits(self, split: Split, planet_id: int) -> list[int]:
        """Visits that have a signal file; [0] where there is none, so that reading it raises."""
        if self.year == 2024:
            return [0]
        folder = self._planet(split, planet_id)
        found = {
            int(visit)
            for channel in CHANNELS
            for path in folder.glob(f"{channel.name}_signal_*.parquet")
            if _ID.fullmatch(visit := path.stem.rpartition("_")[2])
        }
        return sorted(found) or [0]

    def labels(self) -> Labels:
        """True spectra of the train planets; a row that cannot be used is left out.

        There are none where the archive has no table of them.

        Raises:
            DataError: If they are damaged.
        """
        path = self.label_table
        return read_usable_labels(path)[0] if path.exists() else Labels.none()

    def stars(self, split: Split) -> dict[int, Star]:
        """Stars by planet, without those of unusable rows; none in 2024, which has no table."""
        path = self._planet_table(split)
        if self.year == 2024 or not path.exists():
            return {}
        return dict(read_stars(path).by_planet)

    def adc(self, planet_id: int, channel: Channel) -> tuple[float, float]:
        """Gain [counts/e-] and offset [e-]: electrons = counts / gain + offset."""
        if self.year == 2025:
            return read_adc(find_table(self.root, "adc_info.csv"), None, channel)
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
        return read_wavelengths(find_table(self.root, _WAVELENGTHS))

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
        new = self.year == 2025
        adc = find_table(self.root, "adc_info.csv") if new else self._planet_table(split)
        return [self.root / _AXES, find_table(self.root, _WAVELENGTHS), adc]

    def problems(self, split: Split) -> list[str]:
        """What of a split is left out or contradicts a table, one sentence per kind.

        Raises:
            DataError: If a table cannot be used at all.
        """
        found = [
            *_stray(self.root / split),
            *self._table_problems(split),
            *(self._label_problems() if split == "train" else self._sample_problems()),
        ]
        return [f"{split}: {sentence}" for sentence in found]

    def _table_problems(self, split: Split) -> list[str]:
        path, on_disk = self._planet_table(split), set(self.planets(split))
        if not on_disk:
            return [f"there is no planet in {self.root / split}. Put the planets' folders there."]
        new = self.year == 2025
        then = "count as ones of unknown stars" if new else "cannot be calibrated"
        alone = "counts as one of an unknown star" if new else "cannot be calibrated"
        if not path.exists():
            return [f"{path.name} is missing, so all planets {then}. Put it into {self.root}."]
        lost = read_stars(path).lost if new else _lost(path)
        mend = "Fetch the archive again or remove the rows."
        return _against(path, on_disk, lost, f"A planet without one {alone}.", mend)

    def _label_problems(self) -> list[str]:
        path = self.label_table
        if not path.exists():
            return []
        _, lost = read_usable_labels(path)
        then = "A planet without one teaches nothing."
        use = (
            "Such rows teach the prior over spectra at most. Fetch the archive again to fit them."
        )
        return _against(path, set(self.planets("train")), lost, then, use)

    def _sample_problems(self) -> list[str]:
        path = find_table(self.root, _SAMPLE)
        lost = _lost(path) if path.exists() else ()
        return [f"{path.name}: {text}. Such rows name no planet to predict." for text in lost]

    def _planet(self, split: Split, planet_id: int) -> Path:
        return self.root / split / str(planet_id)

    def _maps_folder(self, split: Split, planet_id: int, visit: int, channel: Channel) -> Path:
        name = f"{channel.name}_calibration{self._suffix(visit)}"
        return self._planet(split, planet_id) / name

    def _suffix(self, visit: int) -> str:
        return "" if self.year == 2024 else f"_{visit}"

    def _planet_table(self, split: Split) -> Path:
        name = "adc_info" if self.year == 2024 else "star_info"
        return find_table(self.root, f"{split}_{name}.csv")


def open_archive(root: Path) -> Archive:
    """Recognise the layout of the archive in a folder.

    Raises:
        DataError: If the folder is missing, empty, or holds neither year's files.
    """
    if not root.is_dir():
        raise _no_archive(root, "is not a folder")
    try:
        empty = not any(root.iterdir())
    except OSError as error:
        raise _no_archive(root, f"cannot be read ({error.strerror})") from error
    if empty:
        raise _no_archive(root, "is empty")
    for name in (_AXES, _WAVELENGTHS):
        if not find_table(root, name).exists():
            raise _no_archive(root, f"lacks {name}")
    if find_table(root, "adc_info.csv").exists():
        return Archive(root, 2025)
    if any(find_table(root, f"{split}_adc_info.csv").exists() for split in SPLITS):
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
    """Whether an entry of a split is a planet's folder, or a link to one."""
    return bool(_ID.fullmatch(entry.name)) and int(entry.name) <= _LARGEST and entry.is_dir()


def _stray(folder: Path) -> list[str]:
    """Entries of a split that are no planet's folder, one sentence per kind; hidden ones aside."""
    kinds: dict[str, list[str]] = {}
    for entry in sorted(folder.iterdir() if folder.is_dir() else ()):
        if not entry.name.startswith(".") and not _is_planet(entry):
            kinds.setdefault(_why_stray(entry), []).append(entry.name)
    return [f"{folder}: left out {some(names)}, {why}" for why, names in kinds.items()]


def _why_stray(entry: Path) -> str:
    if not entry.exists():
        return "a link that leads nowhere. Restore what it points at."
    if not entry.is_dir():
        return "a file, no planet's folder. Unpack it, or move it elsewhere."
    return (
        "a name that is no planet's. Name the folder by the planet_id alone, a whole number of 64 "
        "bits without leading zeros, such as 1103775."
    )


def _listed(path: Path) -> list[int]:
    """Planets that have rows in a table, ascending; [] where there is no table."""
    if not path.exists():
        return []
    found = planet_rows(read_table(path), path)
    return sorted([*found.ids.tolist(), *found.twice])


def _lost(path: Path) -> tuple[str, ...]:
    return planet_rows(read_table(path), path).lost


def _against(
    path: Path, on_disk: set[int], lost: tuple[str, ...], then: str, without_folder: str
) -> list[str]:
    """Contradictions between the folders of a split and a table, and its unusable rows."""
    listed = set(_listed(path))
    found = [f"{path.name}: {text}. Such rows are left out. {then}" for text in lost]
    if on_disk - listed:
        without = named(sorted(on_disk - listed))
        found.append(f"{path.name} has no row of {without}. {then} Add the rows.")
    if listed - on_disk:
        without = named(sorted(listed - on_disk))
        found.append(
            f"{path.name} has a row, but there is no folder of {without}. {without_folder}"
        )
    return found
