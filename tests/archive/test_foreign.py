import functools
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import xarray as xr

from spectramind.archive.fingerprint import archive_hash
from spectramind.archive.foreign import open_foreign
from spectramind.archive.settings import DataConfig
from spectramind.config import load
from spectramind.errors import ConfigError, DataError
from spectramind.instrument import airs_edges_um, wavelength_um

DOCS = Path(__file__).parents[2] / "docs" / "lightcurves.md"
AIRS_UM = wavelength_um()[1:]
DIMS = ("time", "wavelength")


def channel(wavelength, *, times=5, seed=0, **change) -> xr.Dataset:
    """A channel's group; `change` replaces or (None) removes variables."""
    rng = np.random.default_rng(seed)
    shape = (times, np.size(wavelength))
    variables = {
        "time_h": ("time", np.sort(rng.uniform(0.0, 7.5, times))),
        "wavelength_um": ("wavelength", np.asarray(wavelength, float)),
        "flux_e": (DIMS, rng.normal(1e6, 1e3, shape)),
        "flux_err_e": (DIMS, np.full(shape, 1e3)),
    }
    merged = {**variables, **change}
    return xr.Dataset({name: value for name, value in merged.items() if value is not None})


@functools.cache
def usual(*names: str) -> bytes:
    """A file of these channels as they are where a test says nothing of them: made once."""
    datasets = {"FGS1": channel([0.7], times=9, seed=1), "AIRS-CH0": channel(AIRS_UM)}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "usual.nc"
        for name in names:
            datasets[name].to_netcdf(path, group=name, mode="a", engine="h5netcdf")
        return path.read_bytes()


def write(path: Path, airs: xr.Dataset | None = None, fgs1: xr.Dataset | None = None) -> Path:
    given = {"FGS1": fgs1, "AIRS-CH0": airs}
    path.unlink(missing_ok=True)
    if left := [name for name, own in given.items() if own is None]:
        path.write_bytes(usual(*left))
    for name, own in given.items():
        if own is not None:
            own.to_netcdf(path, group=name, mode="a", engine="h5netcdf")
    return path


def read(folder: Path, airs: xr.Dataset | None = None, fgs1: xr.Dataset | None = None):
    write(folder / "7_1.nc", airs, fgs1)
    return open_foreign(folder).light_curves(7, 1)


def refused(folder: Path, *, match: str, airs=None, fgs1=None) -> None:
    with pytest.raises(DataError, match=match):
        read(folder, airs, fgs1)


def test_the_documented_example_can_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[0]
    exec(compile(example, "example", "exec"), {})
    archive = open_foreign(tmp_path)
    assert archive.planets("test") == [1103775]
    assert archive.visits("test", 1103775) == [0]
    curves = archive.light_curves(1103775, 0)
    assert curves.airs_e.shape == (375, 282)
    assert curves.fgs1_e.shape == (750,)
    assert np.isfinite(curves.airs_e).all(0).sum() == 100
    assert np.nanmean(curves.airs_e) == pytest.approx(1e6, rel=1e-4)


def test_the_documented_band_is_the_band():
    low, high = re.search(r"outside ([\d.]+) to ([\d.]+) um", DOCS.read_text()).groups()
    assert (float(low), float(high)) == pytest.approx(airs_edges_um()[[0, -1]], abs=1e-4)


def test_scored_columns_come_back_as_they_are(tmp_path):
    airs, fgs1 = channel(AIRS_UM), channel([0.7], times=9, seed=1)
    curves = read(tmp_path, airs, fgs1)
    assert np.array_equal(curves.airs_time_h, airs["time_h"])
    assert np.array_equal(curves.airs_e, airs["flux_e"].values.astype(np.float32))
    assert np.array_equal(curves.fgs1_time_h, fgs1["time_h"])
    assert np.array_equal(curves.fgs1_e, fgs1["flux_e"].values[:, 0].astype(np.float32))
    assert (curves.planet_id, curves.visit) == (7, 1)
    assert not curves.airs_centroid.any()
    assert not curves.fgs1_centroid.any()


def test_order_of_times_wavelengths_and_dimensions_changes_nothing(tmp_path, rng):
    airs = channel(AIRS_UM, centroid_row_px=("time", np.arange(5.0)))
    shuffled = airs.isel(time=rng.permutation(5), wavelength=rng.permutation(282))
    shuffled = shuffled.transpose("wavelength", "time").rename(time="exposure", wavelength="w")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = read(tmp_path / "a", airs), read(tmp_path / "b", shuffled)
    assert np.array_equal(first.airs_e, second.airs_e)
    assert np.array_equal(first.airs_time_h, second.airs_time_h)
    assert np.array_equal(first.airs_centroid, np.arange(5.0, dtype=np.float32))
    assert np.array_equal(first.airs_centroid, second.airs_centroid)


def test_wavelength_as_coordinate_and_time_with_units_of_hours(tmp_path):
    airs = channel(AIRS_UM).set_coords(["time_h", "wavelength_um"])
    airs["time_h"].attrs["units"] = "hours"
    airs["wavelength_um"].attrs["units"] = "micron"
    curves = read(tmp_path, airs)
    assert np.array_equal(curves.airs_time_h, airs["time_h"])


def test_columns_of_one_bin_are_summed_and_others_stay_dark(tmp_path):
    edges = airs_edges_um()
    middle = [edges[10] + 1e-4, edges[11] - 1e-4, edges[200] + 1e-4]
    airs = channel(middle)
    curves = read(tmp_path, airs)
    flux = airs["flux_e"].values
    assert curves.airs_e[:, 10] == pytest.approx(flux[:, 0] + flux[:, 1])
    assert curves.airs_e[:, 200] == pytest.approx(flux[:, 2])
    assert np.flatnonzero(np.isfinite(curves.airs_e).any(0)).tolist() == [10, 200]


def test_bins_are_nearest_scored_wavelengths(tmp_path, rng):
    wavelength = rng.uniform(AIRS_UM[0], AIRS_UM[-1], 40)
    curves = read(tmp_path, channel(wavelength))
    nearest = np.unique(np.abs(wavelength[:, None] - AIRS_UM).argmin(1))
    assert np.array_equal(np.flatnonzero(np.isfinite(curves.airs_e).all(0)), nearest)


def test_band_edges_belong_to_the_outer_bins(tmp_path):
    curves = read(tmp_path, channel(airs_edges_um()[[0, -1]]))
    assert np.flatnonzero(np.isfinite(curves.airs_e).all(0)).tolist() == [0, 281]


def test_fgs1_columns_are_summed_and_one_needs_no_dimension(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    three = channel([0.79, 0.61, 0.7], times=9)
    assert read(tmp_path / "a", fgs1=three).fgs1_e == pytest.approx(
        three["flux_e"].sum("wavelength")
    )
    one = channel([0.7], times=9).isel(wavelength=0)
    curves = read(tmp_path / "b", fgs1=one)
    assert curves.fgs1_e == pytest.approx(one["flux_e"].values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_flux_that_is_not_finite_becomes_nan_and_the_rest_is_kept(tmp_path, bad):
    airs = channel(AIRS_UM)
    airs["flux_e"][2, 5] = bad
    curves = read(tmp_path, airs)
    assert np.argwhere(np.isnan(curves.airs_e)).tolist() == [[2, 5]]
    assert not np.isinf(curves.airs_e).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_flux_with_a_bad_error_becomes_nan(tmp_path, bad):
    airs = channel(AIRS_UM)
    airs["flux_err_e"][3, 7] = bad
    assert np.argwhere(np.isnan(read(tmp_path, airs).airs_e)).tolist() == [[3, 7]]


def test_a_bin_with_one_missing_column_is_nan_but_a_dead_column_is_absent(tmp_path):
    pair = AIRS_UM[50] + np.array([-1e-4, 1e-4])
    airs = channel([*pair, *(AIRS_UM[60] + np.array([-1e-4, 1e-4]))])
    airs["flux_e"][1, 0] = np.nan
    airs["flux_e"][:, 2] = np.nan
    curves = read(tmp_path, airs)
    assert np.flatnonzero(np.isnan(curves.airs_e[:, 50])).tolist() == [1]
    assert curves.airs_e[:, 60] == pytest.approx(airs["flux_e"].values[:, 3])


def test_zero_and_negative_flux_are_left_to_the_fit(tmp_path):
    airs = channel(AIRS_UM, flux_e=(DIMS, np.zeros((5, 282))))
    airs["flux_e"][0, 0] = -3.0
    curves = read(tmp_path, airs)
    assert curves.airs_e[0, 0] == -3.0
    assert not curves.airs_e[1:].any()


def test_centroids_of_fgs1_are_row_and_column(tmp_path):
    fgs1 = channel(
        [0.7],
        times=9,
        centroid_row_px=("time", np.arange(9.0)),
        centroid_column_px=("time", 2 * np.arange(9.0)),
    )
    centroid = read(tmp_path, fgs1=fgs1).fgs1_centroid
    assert np.array_equal(centroid, np.arange(9.0)[:, None] * [1, 2])


def test_planets_and_visits_are_those_of_the_names(tmp_path):
    for name in ("12_1.nc", "12_0.nc", "3.nc", "12_10.nc", ".5_0.nc"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    archive = open_foreign(tmp_path)
    assert archive.planets("test") == archive.listed("test") == [3, 12]
    assert archive.expected() == {3, 12}
    assert archive.planets("train") == []
    assert archive.visits("test", 12) == [0, 1, 10]
    assert archive.visits("test", 3) == [0]
    assert archive.visits("test", 4) == []
    assert archive.light_curves(3, 0).visit == 0


def test_stars_and_labels_may_be_there_for_some_planets(tmp_path, rng):
    for name in ("3.nc", "12_0.nc"):
        write(tmp_path / name)
    archive = open_foreign(tmp_path)
    assert archive.stars("test") == {}
    assert archive.labels().planet_ids.size == 0
    (tmp_path / "stars.csv").write_text(
        "planet_id,Rs,Ms,Ts,Mp,e,P,sma,i\n12,1,0.9,5500,1,0,3.1,9,88\n"
    )
    depth = rng.uniform(0.01, 0.02, 283)
    header = ",".join(["planet_id", *(f"wl_{n}" for n in range(1, 284))])
    (tmp_path / "labels.csv").write_text(f"{header}\n12,{','.join(map(repr, depth.tolist()))}\n")
    assert (archive.planets("train"), archive.planets("test")) == ([12], [3])
    assert archive.expected() == {3}
    assert archive.stars("test") == {}
    star = archive.stars("train")[12]
    assert (star.temperature_k, star.period_d) == (5500.0, 3.1)
    labels = archive.labels()
    assert labels.planet_ids.tolist() == [12]
    assert np.array_equal(labels.depth[0], depth)
    (tmp_path / "labels.csv").write_text(f"{header}\n12,{',' * 282}\n")
    assert archive.labels().planet_ids.size == 0
    assert archive.planets("train") == []
    assert (
        archive.problems("train")
        == archive.problems("test")
        == [
            "labels.csv: depths that are empty, NaN or not between 0 and 1 make the spectrum of "
            "planet 12 unusable. Such rows are left out; their planets count as test planets."
        ]
    )


def test_the_data_hash_sees_every_value_and_table(tmp_path):
    quiet = channel(AIRS_UM, times=2400)  # above the size from which files are read in part
    path = write(tmp_path / "3.nc", quiet)
    assert path.stat().st_size > 5 * 2**20
    hashes = [archive_hash(tmp_path)]
    assert hashes[0] == archive_hash(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    hashes.append(archive_hash(tmp_path))
    (tmp_path / "stars.csv").write_text("planet_id\n3\n")
    hashes.append(archive_hash(tmp_path))
    assert len(set(hashes)) == 3
    assert all(len(value) == 16 for value in hashes)


def test_the_configuration_composes_and_has_no_frames():
    data = load(["data=lightcurves", "data.root=elsewhere"]).data
    assert data == DataConfig(
        name="lightcurves", root=Path("elsewhere"), level="lightcurves", splits=("train", "test")
    )
    with pytest.raises(ConfigError, match=r"must be lightcurves for data=lightcurves: no frames"):
        load(["data=lightcurves", "data.level=frames"])


def test_a_folder_without_light_curves_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no netCDF file\. Expected light curves in files"):
        open_foreign(tmp_path)
    with pytest.raises(DataError, match=r"data\.root=.*none: is not a folder\. Expected"):
        open_foreign(tmp_path / "none")


@pytest.mark.parametrize("name", ["WASP-39b.nc", "5_.nc", "5_0_1.nc", "_1.nc", "5_a.nc", "٣.nc"])
def test_a_name_without_a_planet_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        DataError, match=r"does not say which planet it holds\. Name it <planet_id>"
    ):
        open_foreign(tmp_path)


def test_two_files_of_one_visit_are_refused(tmp_path):
    for name in ("5.nc", "5_00.nc"):
        (tmp_path / name).write_bytes(b"")
    match = r"5\.nc and 5_00\.nc both hold planet 5, visit 0\. Remove or renumber one"
    with pytest.raises(DataError, match=match):
        open_foreign(tmp_path)


def test_a_visit_that_is_not_there_is_refused(tmp_path):
    write(tmp_path / "5.nc")
    with pytest.raises(DataError, match=r"planet 5, visit 2: .* Write them to 5_2\.nc"):
        open_foreign(tmp_path).light_curves(5, 2)


def test_damaged_files_are_refused_in_one_sentence(tmp_path):
    path = write(tmp_path / "7_1.nc")
    whole = path.read_bytes()
    for content in (b"", b"CDF\x01 classic", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"7_1\.nc: cannot be read as netCDF-4 \(.*\)\. Write"):
            open_foreign(tmp_path).light_curves(7, 1)
    archive = open_foreign(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"7_1\.nc: cannot be read as netCDF-4"):
        archive.light_curves(7, 1)


def test_a_missing_channel_is_refused(tmp_path):
    channel([0.7]).to_netcdf(tmp_path / "7.nc", group="FGS1", engine="h5netcdf")
    with pytest.raises(DataError, match=r"planet 7, visit 0, AIRS-CH0: .*has no group 'AIRS-CH0"):
        open_foreign(tmp_path).light_curves(7, 0)


def test_fgs1_may_be_missing_or_nan_throughout(tmp_path):
    channel(AIRS_UM).to_netcdf(tmp_path / "7.nc", group="AIRS-CH0", engine="h5netcdf")
    dark = channel([0.7], times=9, flux_e=(DIMS, np.full((9, 1), np.nan)))
    for curves in (open_foreign(tmp_path).light_curves(7, 0), read(tmp_path, fgs1=dark)):
        assert curves.fgs1_time_h.shape == curves.fgs1_e.shape == (0,)
        assert curves.fgs1_centroid.shape == (0, 2)
        assert np.isfinite(curves.airs_e).all()


@pytest.mark.parametrize("name", ["time_h", "wavelength_um", "flux_e", "flux_err_e"])
def test_a_missing_variable_is_refused(tmp_path, name):
    airs = channel(AIRS_UM).drop_vars(name)
    refused(
        tmp_path, airs=airs, match=rf"AIRS-CH0: .*7_1\.nc has no variable '{name}' in this group"
    )


def test_duplicated_times_are_refused_by_the_first(tmp_path):
    airs = channel(AIRS_UM, time_h=("time", np.array([2.5, 1.25, 7.0, 2.5, 1.25])))
    match = r"time_h holds 1\.25 h twice, in exposures 1 and 4 \(2 duplicates\)\. Keep or average"
    refused(tmp_path, airs=airs, match=match)


def test_times_that_are_not_finite_are_refused(tmp_path):
    airs = channel(AIRS_UM, time_h=("time", np.array([0.0, 1.0, np.nan, 3.0, 4.0])))
    refused(
        tmp_path, airs=airs, match=r"not finite in 1 of 5 exposures, first in number 2\. Leave"
    )


@pytest.mark.parametrize("wavelength", [1.9, 3.95, np.nan, 2000.0])
def test_columns_outside_the_band_are_refused(tmp_path, wavelength):
    match = rf"1 of 2 columns .* band of AIRS-CH0, 1\.9473 to 3\.8975 um, .* {wavelength:g} um"
    refused(tmp_path, airs=channel([2.0, wavelength]), match=match)


def test_fgs1_outside_its_band_is_refused(tmp_path):
    match = (
        r"outside the band of FGS1, 0\.6000 to 0\.8000 um, the first at 0\.9 um\. Leave them out"
    )
    refused(tmp_path, fgs1=channel([0.9]), match=match)


def test_other_units_are_refused(tmp_path):
    airs = channel(AIRS_UM)
    airs["time_h"].attrs["units"] = "d"
    refused(tmp_path, airs=airs, match=r"time_h has units 'd', expected 'h'\. Convert the values")


def test_axes_of_another_shape_are_refused(tmp_path):
    airs = channel(AIRS_UM, time_h=(DIMS, np.zeros((5, 282))))
    refused(tmp_path, airs=airs, match=r"time_h has 2 dimensions\. Write it with one")


def test_an_empty_channel_is_refused(tmp_path):
    refused(tmp_path, airs=channel([]), match=r"wavelength_um is empty\. Leave this visit out")


def test_flux_on_other_dimensions_is_refused(tmp_path):
    airs = channel(AIRS_UM, flux_err_e=("time", np.ones(5)))
    match = (
        r"flux_err_e has the dimensions \('time',\), expected those of time_h and wavelength_um"
    )
    refused(tmp_path, airs=airs, match=match)


def test_text_instead_of_numbers_is_refused(tmp_path):
    airs = channel(AIRS_UM, time_h=("time", np.array(list("abcde"), dtype=object)))
    refused(tmp_path, airs=airs, match=r"time_h holds .*, expected numbers\. Write floats")


def test_a_centroid_with_gaps_is_refused(tmp_path):
    airs = channel(AIRS_UM, centroid_row_px=("time", np.array([0.0, 1.0, np.nan, 3.0, np.nan])))
    match = r"centroid_row_px has 2 values that are not finite\. Interpolate them or leave"
    refused(tmp_path, airs=airs, match=match)
