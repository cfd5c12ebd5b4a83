"""The store survives kills, full disks and company."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from spectramind.artefacts import save_json
from spectramind.calibrate.cache import LightCurveStore
from spectramind.errors import ArtefactError, DataError, WriteError
from spectramind.observation import LightCurves

ORIGIN = {"config_hash": "c", "source": "s"}


def make_curves(planet_id: int = 5, visit: int = 0, level: float = 1.0) -> LightCurves:
    rng = np.random.default_rng(planet_id)
    return LightCurves(
        planet_id=planet_id,
        visit=visit,
        airs_time_h=np.arange(30) / 750.0,
        airs_e=(level * rng.random((30, 282))).astype(np.float32),
        airs_centroid=rng.random(30).astype(np.float32),
        fgs1_time_h=np.arange(90) / 9000.0,
        fgs1_e=(level * rng.random(90)).astype(np.float32),
        fgs1_centroid=rng.random((90, 2)).astype(np.float32),
    )


def same(one: LightCurves, other: LightCurves) -> bool:
    names = (
        "airs_time_h", "airs_e", "airs_centroid", "fgs1_time_h", "fgs1_e", "fgs1_centroid",
    )  # fmt: skip
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_what_is_written_is_read_back_mapped(tmp_path):
    store = LightCurveStore(tmp_path)
    for planet_id, visit in ((5, 0), (5, 1), (2, 0)):
        store.write("train", make_curves(planet_id, visit), {"masked": 3})
    store.write("test", make_curves(9), {})
    found = store.read("train", 5, 1)
    assert same(found, make_curves(5, 1))
    assert (found.planet_id, found.visit) == (5, 1)
    assert isinstance(found.airs_e, np.memmap)
    assert store.facts("train", 5, 1) == {"masked": 3}
    assert store.planets("train") == [2, 5]
    assert store.visits("train", 5) == [0, 1]
    assert store.visits("train", 77) == []
    assert len(list((tmp_path / "time").iterdir())) == 2


def test_index_has_one_row_per_visit(tmp_path):
    store = LightCurveStore(tmp_path)
    store.write_index()
    assert pl.read_parquet(tmp_path / "index.parquet").height == 0
    store.write("train", make_curves(5), {})
    store.write("test", make_curves(3, 1), {})
    store.write_index()
    index = pl.read_parquet(tmp_path / "index.parquet")
    assert index["planet_id"].to_list() == [3, 5]
    assert index["airs_pairs"].to_list() == [30, 30]
    assert store.size() == sum(p.stat().st_size for p in tmp_path.rglob("visit_*.npy"))


def test_a_hit_needs_the_same_origin_and_whole_files(tmp_path):
    store = LightCurveStore(tmp_path)
    calls = []

    def make():
        calls.append(1)
        return make_curves(), {}

    assert not store.ensure("train", 5, 0, ORIGIN, make)
    assert store.ensure("train", 5, 0, ORIGIN, make)
    assert len(calls) == 1
    assert not store.ensure("train", 5, 0, {**ORIGIN, "source": "other"}, make)
    path = tmp_path / "train" / "5" / "visit_0.airs.npy"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert not store.ensure("train", 5, 0, {**ORIGIN, "source": "other"}, make)
    (tmp_path / "train" / "5" / "visit_0.json").write_text("{")
    assert not store.ensure("train", 5, 0, ORIGIN, make)
    assert len(calls) == 4
    assert same(store.read("train", 5, 0), make_curves())


def test_missing_and_damaged_visits_are_named(tmp_path):
    store = LightCurveStore(tmp_path)
    with pytest.raises(
        ArtefactError,
        match=r"^planet 5, visit 0 \(train\): no light curves in .*. Run `spectramind calibrate` "
        r"first.$",
    ):
        store.read("train", 5, 0)
    store.write("train", make_curves(), {})
    path = tmp_path / "train" / "5" / "visit_0.fgs1.npy"
    whole = path.read_bytes()
    mend = r"Run `spectramind calibrate` again\.$"
    path.write_bytes(whole[:200])
    with pytest.raises(ArtefactError, match=rf"visit_0.fgs1.npy: .* has changed since .* {mend}"):
        store.read("train", 5, 0)
    path.unlink()
    with pytest.raises(ArtefactError, match=rf"visit_0.fgs1.npy: .* cannot be read .* {mend}"):
        store.read("train", 5, 0)
    mark = path.with_name("visit_0.json")
    for content in ("{}", "{"):
        mark.write_text(content)
        with pytest.raises(ArtefactError, match=rf"visit_0.json: is no whole .* {mend}"):
            store.facts("train", 5, 0)
    save_json(mark, {"split": "train"})
    with pytest.raises(ArtefactError, match=rf"it lacks airs_sha256, .* {mend}"):
        store.facts("train", 5, 0)


@pytest.mark.parametrize("name", ["5/visit_0.airs.npy", "5/visit_0.fgs1.npy", "time"])
def test_a_flipped_bit_of_an_array_is_seen_and_mended(tmp_path, name):
    store = LightCurveStore(tmp_path)
    made = make_curves()

    def make():
        return made, {}

    assert not store.ensure("train", 5, 0, {}, make)
    path = next((tmp_path / "time").iterdir()) if name == "time" else tmp_path / "train" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=f"{path.name}: .* it has changed since"):
        store.read("train", 5, 0)
    assert not store.ensure("train", 5, 0, {}, make)
    np.testing.assert_array_equal(store.read("train", 5, 0).airs_e, made.airs_e)
    assert store.ensure("train", 5, 0, {}, make)


def test_full_disk_is_a_sentence_and_loses_nothing(tmp_path):
    """The kernel refuses files above a limit, as a full disk refuses blocks."""
    store = LightCurveStore(tmp_path)
    store.write("train", make_curves(5), {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(
            ArtefactError, match=r"cannot be written \(File too large\). Free disk"
        ):
            store.write("train", make_curves(6), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.planets("train") == [5]
    assert same(store.read("train", 5, 0), make_curves(5))
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("limit", "facts"),
    [(8192, {}), (35000, {"long": 50000 * "x"})],  # no room for an array; for the mark alone
)
def test_full_disk_keeps_the_old_visit(tmp_path, limit, facts):
    store = LightCurveStore(tmp_path)
    store.write("train", make_curves(), {"old": 1}, ORIGIN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(WriteError, match=r"cannot be written \(File too large\)"):
            store.write("train", make_curves(level=2.0), facts, ORIGIN)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert same(store.read("train", 5, 0), make_curves())
    assert store.facts("train", 5, 0) == {"old": 1}
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("damaged", [False, True])
def test_a_remake_that_fails_leaves_no_visit_of_another_origin(tmp_path, damaged):
    store = LightCurveStore(tmp_path)
    store.write("train", make_curves(), {}, ORIGIN)
    origin = ORIGIN if damaged else {**ORIGIN, "source": "other"}
    if damaged:
        (tmp_path / "train" / "5" / "visit_0.airs.npy").write_bytes(b"torn")

    def fail():
        raise DataError("no star")

    with pytest.raises(DataError, match="no star"):
        store.ensure("train", 5, 0, origin, fail)
    assert store.visits("train", 5) == []
    assert store.size() == 0


def test_keep_removes_all_other_visits_of_the_split(tmp_path):
    store = LightCurveStore(tmp_path)
    for planet_id, visit in ((5, 0), (5, 1), (2, 0)):
        store.write("train", make_curves(planet_id, visit), {})
    store.write("test", make_curves(9), {})
    store.keep("train", {(5, 1)})
    assert (store.planets("train"), store.visits("train", 5)) == ([5], [1])
    assert store.planets("test") == [9]
    assert len(list(tmp_path.rglob("visit_*.npy"))) == 4


def test_a_visit_that_cannot_be_removed_is_a_sentence(tmp_path):
    (tmp_path / "train" / "5" / "visit_0.json").mkdir(parents=True)
    store = LightCurveStore(tmp_path)
    with pytest.raises(WriteError, match=r"visit_0.json: cannot be written \(Is a directory\)"):
        store.ensure("train", 5, 0, ORIGIN, lambda: (make_curves(), {}))
    with pytest.raises(WriteError, match=r"visit_0.json: cannot be written \(Is a directory\)"):
        store.write("train", make_curves(), {})


def test_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    store = LightCurveStore(tmp_path / "file" / "store")
    with pytest.raises(ArtefactError, match=r"cannot be written \(Not a directory\)"):
        store.write("train", make_curves(), {})


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_light_curve_store import make_curves
from spectramind.calibrate.cache import LightCurveStore
store = LightCurveStore(Path(sys.argv[1]))
print("ready", flush=True)
visit = 0
while True:
    for planet_id in range(4):
        store.write("train", make_curves(planet_id, visit), {"n": visit})
    visit = (visit + 1) % 3
"""


def start_writer(folder: Path) -> subprocess.Popen:
    arguments = [sys.executable, "-c", WRITER, str(folder), str(Path(__file__).parent)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_kill_in_mid_write_loses_one_visit_at_most(tmp_path):
    store = LightCurveStore(tmp_path)
    for _ in range(2):
        process = start_writer(tmp_path)
        time.sleep(0.4)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        visits = [(p, v) for p in store.planets("train") for v in store.visits("train", p)]
        assert len(visits) >= 4
        for planet_id, visit in visits:
            assert same(store.read("train", planet_id, visit), make_curves(planet_id, visit))
    # the next run takes the lock of the dead one at once and cleans up behind it
    folder = tmp_path / "train" / "0"
    left = [folder / f".visit_0.{name}.{'0' * 16}.tmp" for name in ("fgs1.npy", "json")]
    for path in left:
        path.write_bytes(b"half")
    store.write("train", make_curves(0, 0), {})
    assert not any(path.exists() for path in left)


def test_a_second_process_waits_and_finds_the_work_done(tmp_path):
    """Two stores stand for two processes: a lock belongs to an open file."""
    entered, release = threading.Event(), threading.Event()

    def slow():
        entered.set()
        assert release.wait(10.0)
        return make_curves(), {}

    def never():
        pytest.fail("the second run calibrated the visit again")

    results = {}

    def run(name, make):
        results[name] = LightCurveStore(tmp_path).ensure("train", 5, 0, ORIGIN, make)

    first = threading.Thread(target=run, args=("first", slow))
    first.start()
    assert entered.wait(10.0)
    second = threading.Thread(target=run, args=("second", never))
    second.start()
    time.sleep(0.05)
    assert "second" not in results
    release.set()
    first.join()
    second.join()
    assert results == {"first": False, "second": True}
