"""The store of calibrated light curves: crash-safe, shared by processes, memory-mapped.

```
FOLDER/time/<hash>.npy                      time axis [h], float64, one file per distinct axis
FOLDER/<split>/<planet>/visit_<v>.airs.npy  (T, 283) float32: 282 fluxes, mean row
FOLDER/<split>/<planet>/visit_<v>.fgs1.npy  (S, 3) float32: flux, row and column of the star
FOLDER/<split>/<planet>/visit_<v>.json      written last: the visit exists when this does
FOLDER/index.parquet                        one row per visit
```
"""

import hashlib
import io
from collections.abc import Callable, Container, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from spectramind.artefacts import CHANGED, Kind, load_json, save_table, stamped_json
from spectramind.errors import ArtefactError
from spectramind.files import locked, remove_leftovers, unwritable, write_atomic, write_together
from spectramind.observation import LightCurves
from spectramind.provenance import digest

_KEYS = {
    "split", "planet_id", "visit", "origin", "airs_shape", "fgs1_shape", "airs_time", "fgs1_time",
    "airs_sha256", "fgs1_sha256", "facts",
}  # fmt: skip
_INDEX = {
    "split": pl.String,
    "planet_id": pl.Int64,
    "visit": pl.Int64,
    "airs_pairs": pl.Int64,
    "fgs1_pairs": pl.Int64,
    "airs_sha256": pl.String,
    "fgs1_sha256": pl.String,
}
_MARK = ".json"
_SUFFIXES = (_MARK, ".fgs1.npy", ".airs.npy")  # removed in this order, written in the other
_VISIT = Kind("calibrated visit", "spectramind calibrate")


class LightCurveStore:
    """Light curves of many visits below one folder; several processes may write at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def write(
        self,
        split: str,
        curves: LightCurves,
        facts: Mapping[str, Any],
        origin: Mapping[str, str] | None = None,
    ) -> None:
        """Write one visit; a kill at any moment leaves the old visit, none, or the whole new one.

        A full disk leaves the old one: all is on disk under other names before that goes.

        Args:
            split: "train" or "test".
            curves: Light curves of the visit.
            facts: What the calibration found, JSON values.
            origin: Hashes of what the curves were made from; `ensure` compares them.

        Raises:
            WriteError: If the disk is full or the folder cannot be written.
        """
        with self._locked(split, curves.planet_id, curves.visit):
            self._write(split, curves, facts, origin or {})

    def ensure(
        self,
        split: str,
        planet_id: int,
        visit: int,
        origin: Mapping[str, str],
        make: Callable[[], tuple[LightCurves, Mapping[str, Any]]],
    ) -> bool:
        """Write the visit unless a whole one of the same origin is there; True if it was.

        One of another origin, or a damaged one, is removed before `make` is called: if that
        fails, nothing is left that could pass for its result.
        A second process that asks for the same visit waits for the first and then finds it.
        The lock belongs to the process and vanishes with it.
        """
        with self._locked(split, planet_id, visit):
            if self._holds(split, planet_id, visit, origin):
                return True
            self._remove(split, planet_id, visit)
            curves, facts = make()
            self._write(split, curves, facts, origin)
            return False

    def keep(self, split: str, visits: Container[tuple[int, int]]) -> None:
        """Remove every visit of the split that is not among these (planet, visit).

        Raises:
            WriteError: If a file cannot be removed.
        """
        for planet_id in self.planets(split):
            for visit in self.visits(split, planet_id):
                if (planet_id, visit) not in visits:
                    with self._locked(split, planet_id, visit):
                        self._remove(split, planet_id, visit)

    def read(self, split: str, planet_id: int, visit: int) -> LightCurves:
        """Light curves of one visit; the arrays are views of memory-mapped files.

        Raises:
            ArtefactError: If the visit is missing or its files are damaged.
        """
        mark = self._mark(split, planet_id, visit)
        stem = self._stem(split, planet_id, visit)
        airs = _mapped(stem.with_suffix(".airs.npy"), mark["airs_shape"], mark["airs_sha256"])
        fgs1 = _mapped(stem.with_suffix(".fgs1.npy"), mark["fgs1_shape"], mark["fgs1_sha256"])
        times = {
            name: _mapped(self._axis(mark[f"{name}_time"]), shape[:1], mark[f"{name}_time"])
            for name, shape in (("airs", mark["airs_shape"]), ("fgs1", mark["fgs1_shape"]))
        }
        return LightCurves(
            planet_id=planet_id,
            visit=visit,
            airs_time_h=times["airs"],
            airs_e=airs[:, :-1],
            airs_centroid=airs[:, -1],
            fgs1_time_h=times["fgs1"],
            fgs1_e=fgs1[:, 0],
            fgs1_centroid=fgs1[:, 1:],
        )

    def facts(self, split: str, planet_id: int, visit: int) -> dict[str, Any]:
        """What the calibration found in this visit."""
        return self._mark(split, planet_id, visit)["facts"]

    def visits(self, split: str, planet_id: int) -> list[int]:
        """Visits of a planet that are whole, ascending."""
        marks = (self.folder / split / str(planet_id)).glob("visit_*.json")
        return sorted(int(mark.stem.removeprefix("visit_")) for mark in marks)

    def content_hash(self, split: str, planet_id: int) -> str:
        """Hash of all light curves of a planet, from the hashes that their marks hold.

        Raises:
            ArtefactError: If a mark is damaged.
        """
        named = ("visit", "airs_sha256", "fgs1_sha256", "airs_time", "fgs1_time")
        visits = self.visits(split, planet_id)
        marks = [self._mark(split, planet_id, visit) for visit in visits]
        return digest([[mark[name] for name in named] for mark in marks])

    def planets(self, split: str) -> list[int]:
        """Planets of a split with at least one whole visit, ascending."""
        marks = (self.folder / split).glob("*/visit_*.json")
        return sorted({int(mark.parent.name) for mark in marks})

    def size(self) -> int:
        """Bytes of all arrays in the store."""
        return sum(path.stat().st_size for path in self.folder.rglob("visit_*.npy"))

    def write_index(self) -> None:
        """Write `index.parquet`: one row per visit with its shapes and hashes."""
        rows = [
            {
                "split": split,
                "planet_id": planet_id,
                "visit": visit,
                "airs_pairs": mark["airs_shape"][0],
                "fgs1_pairs": mark["fgs1_shape"][0],
                "airs_sha256": mark["airs_sha256"],
                "fgs1_sha256": mark["fgs1_sha256"],
            }
            for split in self._splits()
            for planet_id in self.planets(split)
            for visit in self.visits(split, planet_id)
            for mark in [self._mark(split, planet_id, visit)]
        ]
        save_table(self.folder / "index.parquet", pl.DataFrame(rows, schema=_INDEX))

    def _splits(self) -> list[str]:
        return sorted({mark.parent.parent.name for mark in self.folder.glob("*/*/visit_*.json")})

    def _stem(self, split: str, planet_id: int, visit: int) -> Path:
        return self.folder / split / str(planet_id) / f"visit_{visit}"

    def _axis(self, name: str) -> Path:
        return self.folder / "time" / f"{name}.npy"

    def _mark(self, split: str, planet_id: int, visit: int) -> dict[str, Any]:
        path = self._stem(split, planet_id, visit).with_suffix(".json")
        if not path.exists():
            raise ArtefactError(
                f"planet {planet_id}, visit {visit} ({split}): no light curves in {self.folder}. "
                "Run `spectramind calibrate` first."
            )
        mark = load_json(path, _VISIT)
        lost = _KEYS - mark.keys()
        if lost:
            raise _VISIT.damaged(path, f"it lacks {', '.join(sorted(lost))}")
        return mark

    def _write(
        self, split: str, curves: LightCurves, facts: Mapping[str, Any], origin: Mapping[str, str]
    ) -> None:
        stem = self._stem(split, curves.planet_id, curves.visit)
        airs = np.column_stack([curves.airs_e, curves.airs_centroid]).astype(np.float32)
        fgs1 = np.column_stack([curves.fgs1_e, curves.fgs1_centroid]).astype(np.float32)
        airs_npy, fgs1_npy = _npy(airs), _npy(fgs1)
        mark = {
            "split": split,
            "planet_id": curves.planet_id,
            "visit": curves.visit,
            "origin": dict(origin),
            "airs_shape": list(airs.shape),
            "fgs1_shape": list(fgs1.shape),
            "airs_time": self._write_axis(curves.airs_time_h),
            "fgs1_time": self._write_axis(curves.fgs1_time_h),
            "airs_sha256": hashlib.sha256(airs_npy).hexdigest(),
            "fgs1_sha256": hashlib.sha256(fgs1_npy).hexdigest(),
            "facts": dict(facts),
        }
        remove_leftovers(stem.parent, f"{stem.name}.")  # of a killed process
        contents = (airs_npy, fgs1_npy, stamped_json(mark))
        paths = (stem.with_suffix(suffix) for suffix in reversed(_SUFFIXES))
        write_together(dict(zip(paths, contents, strict=True)))

    def _remove(self, split: str, planet_id: int, visit: int) -> None:
        stem = self._stem(split, planet_id, visit)
        for path in (stem.with_suffix(suffix) for suffix in _SUFFIXES):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise unwritable(path, error) from error

    def _write_axis(self, time_h: np.ndarray) -> str:
        content = _npy(np.asarray(time_h, dtype=np.float64))
        name = hashlib.sha256(content).hexdigest()[:16]
        path = self._axis(name)
        if not (path.exists() and path.read_bytes() == content):
            write_atomic(path, content)
        return name

    def _holds(self, split: str, planet_id: int, visit: int, origin: Mapping[str, str]) -> bool:
        """Whether the visit is there, of this origin and undamaged."""
        try:
            mark = self._mark(split, planet_id, visit)
            if mark["origin"] == dict(origin):
                self.read(split, planet_id, visit)
                return True
        except ArtefactError:  # missing or damaged: the caller makes the visit anew
            pass
        return False

    def _locked(self, split: str, planet_id: int, visit: int) -> AbstractContextManager[None]:
        return locked(self.folder / ".locks" / f"{split}-{planet_id}-{visit}", wait=True)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _mapped(path: Path, shape: list[int], sha256: str) -> np.ndarray:
    """Memory-map a file that the commit mark promised, once its hash has been compared."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(sha256):
            raise _VISIT.damaged(path, CHANGED)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _VISIT.damaged(path, f"it cannot be read ({error})") from error
    if list(array.shape) != shape:
        raise _VISIT.damaged(path, f"it has shape {list(array.shape)}, expected {shape}")
    return array
