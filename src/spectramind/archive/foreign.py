"""Light curves that another pipeline made: a folder of netCDF files, see docs/lightcurves.md."""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
from jaxtyping import Float32, Float64, Int64

from spectramind.archive.fingerprint import fingerprint
from spectramind.archive.layout import Split, Year
from spectramind.archive.tables import find_table, read_stars, read_usable_labels
from spectramind.errors import DataError
from spectramind.instrument import (
    AIRS,
    CHANNELS,
    FGS1,
    FGS1_BAND_UM,
    WAVELENGTHS,
    Channel,
    airs_edges_um,
)
from spectramind.instrument import wavelength_um as scored_wavelength_um
from spectramind.observation import Labels, LightCurves, Star, named, some

_NAME = re.compile(r"([0-9]{1,19})(?:_([0-9]{1,9}))?")  # <planet_id> or <planet_id>_<visit>
_SCORED = {FGS1.name: 1, AIRS.name: WAVELENGTHS - 1}  # wavelengths of a channel
_LARGEST = np.iinfo(np.int64).max
_HUGE = 1e34  # no flux: a sum over all columns of such is still a float32
_STARS = "stars.csv"
_LABELS = "labels.csv"
_ROW, _COLUMN = "centroid_row_px", "centroid_column_px"
_VARIABLES = ("time_h", "wavelength_um", "flux_e", "flux_err_e", _ROW, _COLUMN)
_UNITS = {  # spellings of the one unit that a variable may be in
    "time_h": ("h", "hr", "hour", "hours"),
    "wavelength_um": ("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer"),
}


@dataclass(frozen=True)
class ForeignArchive:
    """A folder of light curves, one file per planet and visit.

    Planets with a row in `labels.csv` are training planets, all others test planets.
    """

    root: Path
    files: Mapping[tuple[int, int], Path]  # by planet and visit, ascending

    @property
    def year(self) -> Year:
        """Spectra are scored by the metric of 2025."""
        return 2025

    @property
    def label_table(self) -> Path:
        """Where the true spectra of training planets lie, if there are any."""
        return find_table(self.root, _LABELS)

    @property
    def for_retrieval(self) -> bool:
        """Spectra are written for retrieval codes too."""
        return True

    def planets(self, split: Split) -> list[int]:
        """Planets of a split that have a file, ascending.

        Raises:
            DataError: If the table of labels is damaged.
        """
        labelled = set(self.labels().planet_ids.tolist())
        own = dict.fromkeys(planet for planet, _ in self.files)
        return [planet for planet in own if (planet in labelled) == (split == "train")]

    def listed(self, split: Split) -> list[int]:
        """No table names planets of a split without light curves."""
        return self.planets(split)

    def expected(self) -> set[int]:
        """Test planets that a prediction must hold: those that have a file."""
        return set(self.planets("test"))

    def visits(self, split: str, planet_id: int) -> list[int]:  # noqa: ARG002
        """Visits of a planet, ascending; none of a planet that has no file."""
        return [visit for planet, visit in self.files if planet == planet_id]

    def curves(self, split: str, planet_id: int) -> list[LightCurves]:
        """Light curves of the visits of a planet.

        Raises:
            DataError: If a file is missing, damaged or not what docs/lightcurves.md describes.
        """
        return [self.light_curves(planet_id, visit) for visit in self.visits(split, planet_id)]

    def origin(self, split: str, planet_id: int) -> str:
        """Hash of the files of a planet, of their names and of all bytes."""
        paths = [self.files[planet_id, visit] for visit in self.visits(split, planet_id)]
        return fingerprint(paths, self.root)

    def wavelength_um(self) -> Float64[np.ndarray, " 283"]:
        """Scored wavelengths [um]: FGS1, then AIRS-CH0 increasing."""
        return scored_wavelength_um()

    def light_curves(self, planet_id: int, visit: int) -> LightCurves:
        """Light curves of one visit in order of time, on the scored wavelengths.

        AIRS-CH0 columns whose centres fall into one wavelength bin are summed, except those that
        are NaN throughout; a wavelength without a column is NaN throughout. Flux whose error is
        not finite or not positive is NaN. A centroid that the file does not hold is zero. Without
        a group FGS1, or any flux in it, the series of FGS1 is empty.

        Raises:
            DataError: If the file is missing, damaged or not what docs/lightcurves.md describes.
        """
        path = self.files.get((planet_id, visit))
        if path is None:
            raise DataError(
                f"planet {planet_id}, visit {visit}: {self.root} has no light curves of it. "
                f"Write them to {planet_id}_{visit}.nc."
            )
        groups = _load(path)
        airs = _series(path, groups, planet_id, visit, AIRS)
        fgs1 = _NO_SERIES
        if FGS1.name in groups:
            own = _series(path, groups, planet_id, visit, FGS1)
            fgs1 = own if np.isfinite(own.flux_e).any() else _NO_SERIES
        return LightCurves(
            planet_id=planet_id,
            visit=visit,
            airs_time_h=airs.time_h,
            airs_e=airs.flux_e,
            airs_centroid=airs.centroid[:, 0],
            fgs1_time_h=fgs1.time_h,
            fgs1_e=fgs1.flux_e[:, 0],
            fgs1_centroid=fgs1.centroid,
        )

    def stars(self, split: Split) -> dict[int, Star]:
        """Stars of a split by planet, with light curves or without: usable rows of `stars.csv`.

        Raises:
            DataError: If a table is damaged.
        """
        path, labelled = find_table(self.root, _STARS), set(self.labels().planet_ids.tolist())
        known = read_stars(path).by_planet if path.exists() else {}
        return {p: star for p, star in known.items() if (p in labelled) == (split == "train")}

    def labels(self) -> Labels:
        """True spectra of the planets with a usable row in `labels.csv`; of none without it.

        Raises:
            DataError: If the table is damaged.
        """
        path = self.label_table
        return read_usable_labels(path)[0] if path.exists() else Labels.none()

    def problems(self, split: Split) -> list[str]:  # noqa: ARG002 - a file belongs to no split
        """What is left out of the folder, one sentence per kind; the same for both splits.

        Raises:
            DataError: If a table is damaged.
        """
        stars, labels = find_table(self.root, _STARS), self.label_table
        known = {stars, labels, *self.files.values()}
        others = sorted(
            entry.name
            for entry in self.root.iterdir()
            if entry not in known and not entry.name.startswith(".") and _holds_data(entry)
        )
        found = []
        if others:
            found.append(
                f"{self.root} holds what is not read: {some(others)}. Light curves lie there in "
                "files <planet_id>_<visit>.nc; move the others elsewhere."
            )
        if stars.exists():
            then = "Such rows are left out; their planets count as ones of unknown stars."
            found += [f"{stars.name}: {text}. {then}" for text in read_stars(stars).lost]
        if labels.exists():
            spectra, lost = read_usable_labels(labels)
            then = "Such rows are left out; their planets count as test planets."
            found += [f"{labels.name}: {text}. {then}" for text in lost]
            found += self._without_curves(labels, set(spectra.planet_ids.tolist()))
        return found

    def _without_curves(self, table: Path, planets: set[int]) -> list[str]:
        strange = sorted(planets - {planet for planet, _ in self.files})
        if not strange:
            return []
        return [
            f"{table.name} lists {named(strange)}, but there is no file of light curves. Such "
            "rows teach the prior over spectra at most."
        ]


def open_foreign(root: Path) -> ForeignArchive:
    """List the light curves in a folder, without reading them.

    Raises:
        DataError: If there are none, a name says no planet, or two files hold one visit.
    """
    if not root.is_dir():
        raise _no_light_curves(root, "is not a folder")
    files: dict[tuple[int, int], Path] = {}
    for path in sorted(root.glob("*.nc")):
        if path.name.startswith("."):  # unfinished
            continue
        key = _key(path)
        if key in files:
            raise DataError(
                f"data.root={root}: {files[key].name} and {path.name} both hold planet {key[0]}, "
                f"visit {key[1]}. Remove or renumber one."
            )
        files[key] = path
    if not files:
        raise _no_light_curves(root, "holds no netCDF file")
    return ForeignArchive(root, dict(sorted(files.items())))


def _holds_data(entry: Path) -> bool:
    """Whether an entry is a file, or a folder with netCDF files in it."""
    return entry.is_file() or any(entry.glob("*.nc"))


def _key(path: Path) -> tuple[int, int]:
    found = _NAME.fullmatch(path.stem)
    if found is None or int(found[1]) > _LARGEST:
        raise DataError(
            f"{path}: the name does not say which planet it holds. Name it "
            "<planet_id>_<visit>.nc or <planet_id>.nc, both whole numbers of 64 bits, such as "
            "1103775_0.nc."
        )
    return int(found[1]), int(found[2] or 0)


def _no_light_curves(root: Path, found: str) -> DataError:
    return DataError(
        f"data.root={root}: {found}. Expected light curves in files <planet_id>_<visit>.nc; "
        "docs/lightcurves.md shows how to write them."
    )


def _load(path: Path) -> dict[str, xr.Dataset]:
    """The known variables of the channels that a file has, by channel name."""
    try:
        with h5py.File(path) as file:  # where this fails, h5netcdf would print a traceback
            file.attrs.get("_nc3_strict")
        groups = xr.open_groups(path, engine="h5netcdf", decode_times=False)
        try:
            found = {c.name: groups[f"/{c.name}"] for c in CHANNELS if f"/{c.name}" in groups}
            return {name: group[_known(group)].load() for name, group in found.items()}
        finally:
            for group in groups.values():
                group.close()
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read as netCDF-4 ({error}). Write the file again as "
            "docs/lightcurves.md shows."
        ) from error


def _known(group: xr.Dataset) -> list[str]:
    return [name for name in _VARIABLES if name in group.variables]


@dataclass(frozen=True, eq=False)
class _Series:
    """One channel of one visit, in order of time."""

    time_h: Float64[np.ndarray, " T"]
    flux_e: Float32[np.ndarray, "T W"]  # 282 wavelengths of AIRS-CH0, 1 of FGS1
    centroid: Float32[np.ndarray, "T 2"]  # row and column [pixel]


_NO_SERIES = _Series(np.zeros(0), np.zeros((0, 1), np.float32), np.zeros((0, 2), np.float32))


def _series(
    path: Path, groups: Mapping[str, xr.Dataset], planet_id: int, visit: int, channel: Channel
) -> _Series:
    where = f"planet {planet_id}, visit {visit}, {channel.name}: {path}"
    if channel.name not in groups:
        raise DataError(
            f"{where} has no group {channel.name!r}. Write each channel to a group of its name: "
            f"dataset.to_netcdf(path, group={channel.name!r}, mode='a', engine='h5netcdf')."
        )
    group = groups[channel.name]
    time, wavelength = _axis(group, "time_h", where), _axis(group, "wavelength_um", where)
    axes = (*time.dims, *wavelength.dims)
    time_h, wavelength_um = _numbers(time, where), _numbers(wavelength, where).reshape(-1)
    shape = (time_h.size, wavelength_um.size)
    flux = _numbers(_on(axes, group, "flux_e", where), where).reshape(shape)
    error = _numbers(_on(axes, group, "flux_err_e", where), where).reshape(shape)
    good = (np.abs(flux) < _HUGE) & np.isfinite(error) & (error > 0.0)  # NaN is not
    order = _order(time_h, where)
    bins = _bins(wavelength_um, channel, where)
    summed = _summed(np.where(good, flux, np.nan)[order], bins, _SCORED[channel.name])
    centroid = [_centroid(group, name, time, where) for name in (_ROW, _COLUMN)]
    return _Series(
        time_h=time_h[order],
        flux_e=summed.astype(np.float32),
        centroid=np.stack(centroid, axis=1)[order].astype(np.float32),
    )


def _axis(group: xr.Dataset, name: str, where: str) -> xr.DataArray:
    """A variable with one dimension; the wavelength of a single column may have none."""
    axis = _variable(group, name, where)
    if axis.ndim > 1 or (axis.ndim == 0 and name == "time_h"):
        raise DataError(f"{where}: {name} has {axis.ndim} dimensions. Write it with one.")
    if not axis.size:
        raise DataError(f"{where}: {name} is empty. Leave this visit out or write it again.")
    units = axis.attrs.get("units")
    if units is not None and units not in _UNITS[name]:
        raise DataError(
            f"{where}: {name} has units {units!r}, expected {_UNITS[name][0]!r}. Convert the "
            "values, or mend the attribute."
        )
    return axis


def _variable(group: xr.Dataset, name: str, where: str) -> xr.DataArray:
    if name not in group.variables:
        raise DataError(
            f"{where} has no variable {name!r} in this group. Write time_h, wavelength_um, flux_e "
            "and flux_err_e as docs/lightcurves.md shows."
        )
    return group[name]


def _on(axes: tuple[Hashable, ...], group: xr.Dataset, name: str, where: str) -> xr.DataArray:
    """A variable with its dimensions in the order of `axes`."""
    variable = _variable(group, name, where)
    if len(set(axes)) != len(axes) or sorted(map(str, variable.dims)) != sorted(map(str, axes)):
        raise DataError(
            f"{where}: {name} has the dimensions {variable.dims}, expected those of time_h and "
            f"wavelength_um, {axes}, in any order. Name the dimensions alike."
        )
    return variable.transpose(*axes)


def _numbers(variable: xr.DataArray, where: str) -> Float64[np.ndarray, "..."]:
    if variable.dtype.kind not in "fiu":
        raise DataError(
            f"{where}: {variable.name} holds {variable.dtype}, expected numbers. Write floats."
        )
    return variable.values.astype(np.float64)


def _order(time_h: Float64[np.ndarray, " T"], where: str) -> Int64[np.ndarray, " T"]:
    """Indices that sort the exposures by time."""
    bad = np.flatnonzero(~np.isfinite(time_h))
    if bad.size:
        raise DataError(
            f"{where}: time_h is not finite in {bad.size} of {time_h.size} exposures, first in "
            f"number {bad[0]}. Leave these exposures out."
        )
    order = np.argsort(time_h, kind="stable")
    again = np.flatnonzero(np.diff(time_h[order]) == 0.0)
    if again.size:
        first, second = order[again[0]], order[again[0] + 1]
        raise DataError(
            f"{where}: time_h holds {time_h[first]:.10g} h twice, in exposures {first} and "
            f"{second} ({again.size} duplicates). Keep or average one exposure per time."
        )
    return order


def _bins(
    wavelength_um: Float64[np.ndarray, " C"], channel: Channel, where: str
) -> Int64[np.ndarray, " C"]:
    """The scored wavelength bin of each column's centre."""
    edges = airs_edges_um() if channel == AIRS else np.array(FGS1_BAND_UM)
    outside = ~((wavelength_um >= edges[0]) & (wavelength_um <= edges[-1]))
    if outside.any():
        raise DataError(
            f"{where}: {outside.sum()} of {outside.size} columns are outside the band of "
            f"{channel.name}, {edges[0]:.4f} to {edges[-1]:.4f} um, the first at "
            f"{wavelength_um[outside][0]:.6g} um. Leave them out, or give wavelength_um in um."
        )
    return np.minimum(np.searchsorted(edges, wavelength_um, side="right"), edges.size - 1) - 1


def _summed(
    flux: Float64[np.ndarray, "T C"], bins: Int64[np.ndarray, " C"], count: int
) -> Float64[np.ndarray, "T W"]:
    """Columns of each bin added up; a column that is NaN throughout is not there."""
    total = np.full((flux.shape[0], count), np.nan)
    measured = np.isfinite(flux).any(axis=0)
    for number in np.unique(bins[measured]):
        total[:, number] = flux[:, measured & (bins == number)].sum(axis=1)
    return total


def _centroid(
    group: xr.Dataset, name: str, time: xr.DataArray, where: str
) -> Float64[np.ndarray, " T"]:
    if name not in group.variables:
        return np.zeros(time.size)
    centroid = _numbers(_on(time.dims, group, name, where), where)
    good = np.abs(centroid) < _HUGE  # NaN is not
    if not good.all():
        raise DataError(
            f"{where}: {name} has {np.count_nonzero(~good)} values that are not "
            "finite. Interpolate them or leave the variable out."
        )
    return centroid
