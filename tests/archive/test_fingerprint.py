import os
from functools import partial
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
import polars as pl
import pytest
import yaml
from tiny_archive import own_copy, write_columns

from spectramind.archive.fingerprint import archive_hash, fingerprint
from spectramind.errors import DataError
from spectramind.simulate.tables import write_columns as write_simulated

LARGE = 5 * 2**20  # bytes


@pytest.fixture
def root(archive_2025, tmp_path) -> Path:
    return own_copy(archive_2025, tmp_path / "work" / "archive", "axis_info.parquet")


def _paths(root: Path) -> list[Path]:
    return list(root.rglob("*.parquet"))


def test_fingerprint_is_of_content_not_of_place_age_or_order(archive_2025, root):
    os.utime(root / "axis_info.parquet", (1, 1))
    there = fingerprint(_paths(archive_2025.root), archive_2025.root)
    assert fingerprint(_paths(root)[::-1], root) == there
    assert len(there) == 16


def test_one_changed_count_changes_the_fingerprint(tmp_path):
    path = tmp_path / "signal.parquet"
    values = np.zeros((10, 4), np.uint16)
    write_columns(path, values)
    before = fingerprint([path], tmp_path)
    values[3, 2] = 1
    write_columns(path, values)
    assert fingerprint([path], tmp_path) != before


def test_name_and_size_and_text_count(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("x\n" + "1\n" * 50000)
    before = fingerprint([first], tmp_path)
    second.write_bytes(first.read_bytes())
    assert fingerprint([second], tmp_path) != before
    first.write_text("y\n" + "1\n" * 50000)
    assert fingerprint([first], tmp_path) != before


@pytest.mark.parametrize("rows", [32, 6 * 32])
def test_one_changed_pixel_of_a_simulated_map_changes_the_fingerprint(tmp_path, rows):
    """The simulator stores no statistics: two such maps may have the same footer and size."""
    path = tmp_path / "dark.parquet"
    values = np.random.default_rng(0).random((rows, 356))
    names = [f"column_{i}" for i in range(356)]
    write_simulated(path, pl.DataFrame(values, schema=names))
    before, size = fingerprint([path], tmp_path), path.stat().st_size
    values[3, 200] *= 2.0
    write_simulated(path, pl.DataFrame(values, schema=names))
    assert path.stat().st_size == size
    assert fingerprint([path], tmp_path) != before


def test_only_the_footer_of_a_large_parquet_file_is_read(tmp_path):
    path = tmp_path / "signal.parquet"
    footer = b"F" * 100
    trailer = footer + (100).to_bytes(4, "little") + b"PAR1"
    path.write_bytes(b"a" * LARGE + trailer)
    before = fingerprint([path], tmp_path)
    path.write_bytes(b"b" * LARGE + trailer)
    assert fingerprint([path], tmp_path) == before
    path.write_bytes(b"b" * LARGE + trailer.replace(b"F", b"G"))
    assert fingerprint([path], tmp_path) != before


def test_truncated_parquet_has_a_fingerprint_of_its_own(root):
    path = root / "axis_info.parquet"
    before = fingerprint([path], root)
    path.write_bytes(path.read_bytes()[:-3])
    assert fingerprint([path], root) != before


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"gone.parquet: is missing. Fetch the file again."):
        fingerprint([tmp_path / "gone.parquet"], tmp_path)


def test_unreadable_file(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(DataError, match=r"a.csv: cannot be read \(Is a directory\)"):
        fingerprint([tmp_path / "a.csv"], tmp_path)


def test_the_hash_covers_the_data_and_not_unfinished_files(root):
    before = archive_hash(root)
    (root / "truth").mkdir()
    (root / "truth" / "1.json").write_text("{}")
    (root / "train" / ".half.parquet.tmp").write_text("")
    (root / ".train.csv.tmp").write_text("")
    (root / "train" / ".locks").mkdir()
    (root / "train" / ".locks" / "train-11-0").write_text("")
    assert archive_hash(root) == before
    (root / "train" / "785834" / "more.parquet").write_text("")
    assert archive_hash(root) != before


def test_one_archive_has_one_hash_however_it_is_reached(root, tmp_path, monkeypatch):
    """Touched, tracked by DVC with an older or a newer record, behind links, from elsewhere."""
    before = archive_hash(root)
    for path in root.rglob("*"):
        os.utime(path, (2e9, 2e9))
    assert archive_hash(root) == before
    record = {"outs": [{"path": "archive", "md5": "0123456789abcdef.dir", "nfiles": 3}]}
    (root.parent / "archive.dvc").write_text(yaml.safe_dump(record))
    (root.parent / "dvc.lock").write_text(yaml.safe_dump({"stages": {"simulate": record}}))
    for age in (1, 4e9):
        os.utime(root.parent / "dvc.lock", (age, age))
        assert archive_hash(root) == before
    monkeypatch.chdir(root.parent)
    assert archive_hash(Path("archive")) == before
    (tmp_path / "link").symlink_to(root)
    assert archive_hash(tmp_path / "link") == before
    (tmp_path / "elsewhere").mkdir()
    (root / "train").rename(tmp_path / "elsewhere" / "train")
    (root / "train").symlink_to(tmp_path / "elsewhere" / "train")
    assert archive_hash(root) == before
    planet = root / "train" / "785834"
    planet.rename(tmp_path / "elsewhere" / "785834")
    planet.symlink_to(tmp_path / "elsewhere" / "785834")
    assert archive_hash(root) == before


def test_a_folder_shared_by_links_counts_at_each_of_its_places_in_any_order(root, monkeypatch):
    """Two visits of one planet with the same maps, stored once."""
    planet = root / "train" / "785834"
    first, second = (planet / f"AIRS-CH0_calibration_{visit}" for visit in (0, 1))
    copytree(first, second, dirs_exist_ok=True)
    before = archive_hash(root)
    for linked, whole in ((first, second), (second, first)):
        rmtree(linked)
        linked.symlink_to(whole.name)
        assert archive_hash(root) == before
        linked.unlink()
        copytree(whole, linked)
    listed = Path.iterdir
    for backwards in (False, True):
        ordered = partial(sorted, reverse=backwards)
        monkeypatch.setattr(Path, "iterdir", lambda path, ordered=ordered: ordered(listed(path)))
        assert archive_hash(root) == before


def test_a_folder_that_cannot_be_listed(root, monkeypatch):
    listed, closed = Path.iterdir, root / "train" / "785834"

    def refuse(path):
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    sentence = r"785834: cannot be read \(Permission denied\)\. Give yourself the right to read it"
    with pytest.raises(DataError, match=sentence):
        archive_hash(root)


def test_a_link_to_a_folder_above_it_ends(root):
    before = archive_hash(root)
    (root / "train" / "again").symlink_to(root / "train")
    assert archive_hash(root) == before
