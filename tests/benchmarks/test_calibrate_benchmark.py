"""The benchmark measures all chains alike, and its rivals calibrate what they say."""

import json

import numpy as np
import polars as pl
import pytest
from calibration_scenes import core_pixel, make_scene, real_maps, write_archive

import calibrate
import hosts_chain
import vectorised_chain
from reports.calibrate import FIGURES, table
from spectramind import config as configuration
from spectramind.archive.layout import open_archive
from spectramind.calibrate.chain import calibrate_visit, read_pixels
from spectramind.instrument import AIRS, CHANNELS, FGS1

PLANET = 42


@pytest.fixture(scope="module")
def config():
    return configuration.load([]).calibration


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One planet with dead pixels, noise, foreground, jitter and a cosmic ray in each channel."""
    root, scenes = tmp_path_factory.mktemp("archive"), []
    for channel in (FGS1, AIRS):
        maps = real_maps(channel, np.random.default_rng(3))
        scenes.append(
            make_scene(channel, pairs=60, maps=maps, noise=True, foreground_e=40.0, jitter=0.2)
        )
        scenes[-1].frames.reads[core_pixel(channel)][101] += 20_000
    write_archive(root, {PLANET: (scenes[0], scenes[1])})
    return root


def test_all_chains_run_in_turn_and_equally_often(monkeypatch):
    results = {"fused": [3.0, 1.0, 2.0], "hosts": [60.0, 80.0, 70.0]}
    order = []

    def run(arguments):
        order.append(arguments[0])
        seconds = results[arguments[0]][(len(order) - 1) // 2]
        return {"seconds": seconds, "peak_gb": seconds / 10.0}

    monkeypatch.setattr(calibrate, "run", run)
    found = calibrate.compare({name: [name] for name in results}, 3)
    assert order == 3 * ["fused", "hosts"]
    assert found["fused"] == {"seconds": 1.0, "peak_gb": 0.3}
    assert found["hosts"] == {"seconds": 60.0, "peak_gb": 8.0}


def test_every_rival_is_held_against_the_fused_chain():
    seconds = {"fused": 2.0, "hosts": 90.0, "hosts_default": 30.0, "vectorised": 5.0}
    assert calibrate.speedups({name: {"seconds": s} for name, s in seconds.items()}) == {
        "speedup_vs_host": 45.0,
        "speedup_vs_host_default": 15.0,
        "speedup_vs_vectorised": 2.5,
    }


def test_every_process_has_one_thread_on_one_core(monkeypatch):
    """Numba and torch read their variables as polars does; they take seconds to import."""
    for library in ("NUMBA_NUM", "OMP_NUM", "OPENBLAS_NUM", "POLARS_MAX"):
        monkeypatch.setenv(f"{library}_THREADS", "2")
    code = "import json, os, polars; print(json.dumps([polars.thread_pool_size(), "
    code += "len(os.sched_getaffinity(0)), *map(os.environ.get, "
    code += "('NUMBA_NUM_THREADS', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'))]))"
    assert calibrate.run(["-c", code]) == [1, 1, "1", "1", "1"]


def test_the_decode_is_of_what_the_chain_reads(root, config, monkeypatch, capsys):
    visit = [str(root), "train", str(PLANET), "0", config.model_dump_json()]
    monkeypatch.setattr("sys.argv", ["-c", *visit, "2"])
    read, whole = {}, pl.read_parquet

    def noted(path, **words):
        read.setdefault(path, words.get("columns"))
        return whole(path, **words)

    monkeypatch.setattr(pl, "read_parquet", noted)
    exec(compile(calibrate.DECODE, "decode", "exec"), {})
    spent = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert min(spent["decode"], spent["calibrate"]) > 0.0
    archive = open_archive(root)
    where = "train", PLANET, 0
    wanted = {archive.signal_file(*where, one): read_pixels(one).tolist() for one in CHANNELS}
    assert {path: read.get(path) for path in wanted} == wanted


def test_the_vectorised_chain_gives_the_same_light_curves(root, config):
    archive = open_archive(root)
    curves, facts = calibrate_visit(archive, "train", PLANET, 0, config)
    assert all(facts[name]["masked"] and facts[name]["cosmic_rays"] for name in facts)
    airs, row = vectorised_chain.calibrate_channel(archive, "train", PLANET, 0, AIRS, config)
    fgs1, place = vectorised_chain.calibrate_channel(archive, "train", PLANET, 0, FGS1, config)
    close = {"rtol": vectorised_chain.TOLERANCE}
    np.testing.assert_allclose(airs[::-1].T, curves.airs_e, **close)
    np.testing.assert_allclose(fgs1[0], curves.fgs1_e, **close)
    np.testing.assert_allclose(row[0], curves.airs_centroid, **close)
    np.testing.assert_allclose(place.T, curves.fgs1_centroid, **close)


def test_the_hosts_default_leaves_out_the_linearity_and_bins_first(root, monkeypatch):
    archive = open_archive(root)
    visit = (archive, "train", PLANET, 0, AIRS)
    assert hosts_chain.calibrate_channel(*visit, form="default").shape == (2, 282)
    monkeypatch.setattr(hosts_chain, "SCORED_COLUMNS", slice(39, 69))  # one polynomial per pixel
    full = hosts_chain.calibrate_channel(*visit, form="full")
    default = hosts_chain.calibrate_channel(*visit, form="default")
    assert (full.shape, default.shape) == ((60, 30), (2, 30))
    binned = full.reshape(2, 30, 30).sum(1)
    np.testing.assert_allclose(default, binned, rtol=0.05)  # non-linearity is a few per cent
    assert np.abs(default / binned - 1.0).max() > 1e-3
    linear = next(root.glob("train/*/AIRS-CH0_calibration_0/linear_corr.parquet"))
    table = pl.read_parquet(linear)
    unity = np.zeros((6, *AIRS.shape))
    unity[1] = 1.0
    pl.DataFrame(unity.reshape(-1, AIRS.columns), schema=table.columns).write_parquet(linear)
    full = hosts_chain.calibrate_channel(*visit, form="full")
    table.write_parquet(linear)
    np.testing.assert_allclose(default, full.reshape(2, 30, 30).sum(1), rtol=1e-12)


def test_the_table_shows_every_ratio():
    result = {one.key: 10.5 + k for k, one in enumerate(FIGURES)}
    ratios = {"speedup_vs_host", "speedup_vs_host_default", "speedup_vs_vectorised", "over_decode"}
    assert ratios < result.keys()
    shown = table(result | {"seed": 1, "date": "2026-01-02T00:00:00"})
    assert all(f"| {value}" in shown for value in result.values())


def test_a_quick_run_stores_nothing_and_says_how_busy_the_machine_is(monkeypatch, capsys):
    result = dict.fromkeys([one.key for one in FIGURES], 1.5) | {"seed": 1}
    asked = {}

    def measure(**given):
        asked.update(given)
        return result

    monkeypatch.setattr(calibrate, "measure", measure)
    monkeypatch.setattr(calibrate.Machine, "store_times", lambda *_: pytest.fail("stored"))
    monkeypatch.setattr("sys.argv", ["calibrate.py", "--quick"])
    calibrate.main()
    out, err = capsys.readouterr()
    assert asked["cadence_factor"] == 5
    assert err.startswith("load ")
    assert json.loads(out.splitlines()[-1])["load_before"] >= 0.0
