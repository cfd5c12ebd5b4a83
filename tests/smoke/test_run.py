"""The whole system from nothing, and the command lines that the mission names."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny_run import LIGHT_CURVES, TINY, spectramind, spectramind_process

from spectramind.observation import NOT_MEASURED
from spectramind.stages.folders import STAGES, command_of
from spectramind.transit.store import read_fits

SUBMISSION = "artefacts/predict/submission.csv"
PRODUCTS = (
    "predict/submission.csv",
    "predict/intervals.parquet",
    "train/oof.parquet",
    "train/calibration.parquet",
)


# The program, but that the processes it hands planets to are forked from one that has loaded the
# stages, where each would load them for some seconds.
FORKED = """
import multiprocessing, sys
from spectramind import parallel
from spectramind.stages.folders import module_of
in_processes = ("simulate", "calibrate", "fit", "train")
multiprocessing.set_forkserver_preload([module_of(stage) for stage in in_processes])
parallel.get_context = lambda _: multiprocessing.get_context("forkserver")
from spectramind.cli.app import main
main()
"""


def _hashes(folder: Path) -> dict[str, str]:
    paths = [folder / "artefacts" / name for name in PRODUCTS]
    paths += sorted((folder / "artefacts/simulate/train").rglob("*.parquet"))
    paths += sorted((folder / "artefacts/train").rglob("*.safetensors"))
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def test_same_seed_gives_the_same_bytes(finished, tmp_path):
    """In a process of its own, which hands its planets to others."""
    words = [sys.executable, "-c", FORKED, "run", *TINY, "runtime.workers=2"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = _hashes(tmp_path)
    assert again == _hashes(finished)
    assert len(again) > len(PRODUCTS) + 10


def test_the_program_says_what_is_wrong_and_ends_with_its_code(tmp_path):
    done = spectramind_process(tmp_path, "config", "validate", "training.lrr=1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: training.lrr: no such key. Did you mean training.lr?\n"
    (event,) = (tmp_path / "v50_debug_log.jsonl").read_text().splitlines()
    assert json.loads(event)["arguments"] == ["config", "validate", "training.lrr=1"]


def test_every_stage_leaves_its_provenance(finished):
    for stage in STAGES:
        sidecar = json.loads((finished / "artefacts" / stage / "stage.json").read_text())
        assert len(sidecar["config_hash"]) == 16
        assert sidecar["stage"] == stage
        assert sidecar["git_sha"]
        assert isinstance(sidecar["git_dirty"], bool)
        assert len(sidecar["data_hash"]) == 16


def test_submission_is_valid_and_scored(finished):
    sample = "artefacts/simulate/sample_submission.csv"
    spectramind(finished, "submission", "validate", SUBMISSION, "--sample", sample)
    report = json.loads(spectramind(finished, "score", SUBMISSION, *TINY, "--json").stdout)
    diagnosed = json.loads((finished / "artefacts/diagnose-metrics.json").read_text())
    assert report["score"] == pytest.approx(diagnosed["score"], abs=1e-9)
    assert report["planets"] == 2


def test_fresh_stages_are_not_run_again(copy):
    done = spectramind(copy, "predict", *TINY)
    assert "running it first" not in done.stderr
    words = (*TINY, "transit.bin_s=240", "--overwrite", "--dry-run", "--json")
    plan = spectramind(copy, "predict", *words)
    assert json.loads(plan.stdout)["runs_first"] == ["fit", "train", "calibrate-temp"]


def test_a_second_run_computes_nothing(copy):
    def ages():
        files = (path for path in (copy / "artefacts").rglob("*") if path.is_file())
        return {path: path.stat().st_mtime_ns for path in files}

    before = ages()
    done = spectramind(copy, "run", *TINY)
    assert done.stderr.count(": up to date, ") == len(STAGES)
    assert ages() == before
    assert "score " in done.stdout
    (copy / "artefacts" / "simulate" / "train.csv").touch()
    assert spectramind(copy, "run", *TINY).stderr.count(": up to date, ") == len(STAGES)
    other = (*TINY, "uq.levels=[0.6]")
    refused = spectramind(copy, "run", *other, check=False)
    assert refused.exit_code == 1
    assert "calibrate-temp: holds a finished run of another configuration" in refused.stderr
    assert "(uq.levels is [0.5] there and [0.6] here)" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert spectramind(copy, "run", *TINY).stderr.count(": up to date, ") == len(STAGES)
    changed = spectramind(copy, "run", *other, "--overwrite")
    assert changed.stderr.count(": up to date, ") == 4  # those before calibrate-temp


def test_the_network_of_another_run_predicts_without_training(copy, light_curves, tmp_path):
    """Its calibration comes along, and no label here makes sigma smaller than the fit's.

    Training settings of this run no longer matter.
    """
    bare = spectramind(copy, "predict", *TINY, "weights=artefacts", "--overwrite", check=False)
    assert bare.exit_code == 2
    assert "too few labels to learn a prior over spectra" in bare.stderr
    run = shutil.copytree(light_curves, tmp_path / "again")
    own = pl.read_csv(run / SUBMISSION).to_numpy()
    for stage in ("train", "calibrate-temp"):
        shutil.move(run / "artefacts" / stage, tmp_path / "other" / stage)
    words = (*TINY, *LIGHT_CURVES, "training.lr=2e-3", "--overwrite")
    done = spectramind(run, "predict", *words, f"weights={tmp_path / 'other'}")
    assert "running it first" not in done.stderr
    borrowed = pl.read_csv(run / SUBMISSION).to_numpy()
    np.testing.assert_array_equal(borrowed[:, :284], own[:, :284])  # planets and mu
    fits = read_fits(run / "artefacts/fit", "test")
    least = np.stack([fits[int(planet)].sigma for planet in own[:, 0]])
    np.testing.assert_allclose(borrowed[:, 284:], np.maximum(own[:, 284:], least), rtol=1e-6)
    nowhere = spectramind(run, "predict", *words, "weights=nowhere", check=False)
    assert nowhere.exit_code == 1
    assert "weights=nowhere: nowhere lacks train/members" in nowhere.stderr


def test_other_atmospheres_without_a_prior_to_see_them_through_are_refused(copy):
    words = (*TINY, "training.reobserved=2", "--overwrite")
    done = spectramind(copy, "train", *words, check=False)
    assert done.exit_code == 2
    assert "training.reobserved=2: none of 7 training planets can be observed" in done.stderr


@pytest.fixture
def log_as_before():
    """Hydra lets its jobs log to files and to a stream that ends with the command."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for own in set(root.handlers) - set(handlers):
        own.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("log_as_before")
def test_six_lines_of_the_mission(copy):
    for stage in ("calibrate", "fit", "train"):  # what they hold in store is theirs to take again
        (copy / "artefacts" / stage / "stage.json").unlink()
    for stage in ("calibrate-temp", "predict", "diagnose"):
        shutil.rmtree(copy / "artefacts" / stage)
    said = [
        spectramind(copy, *line.split(), *TINY).stderr
        for line in (
            "calibrate data=sim calibration.cache=true",
            "train model=v50 training=default",
            "predict model=v50 uq.corel=true --out-csv outputs/submission.csv",
            "calibrate-temp uq.temp_scale=true",
            "diagnose dashboard diagnostics=dashboard",
        )
    ]
    assert ["running it first" in lines for lines in said] == [False, True, True, False, True]
    assert "fit: missing or stale, running it first" in said[1]
    assert "relational" in said[2]
    assert (copy / "outputs/submission.csv").is_file()
    assert json.loads((copy / "outputs/submission.csv.json").read_text())["stage"] == "predict"
    assert (copy / "artefacts/diagnose/dashboard.html").is_file()
    sweep = "train -m training.lr=1e-4,2e-4 uq.epistemic=ensemble,mc_dropout"
    done = spectramind(copy, *sweep.split(), *TINY, "training.epochs=1")
    assert done.stderr.count(": best epoch ") == 2 * 2  # folds and rates: both spreads are of one
    ranks = [row.split() for row in done.stdout.splitlines() if "training.lr=" in row]
    scores = [float(row[2]) for row in ranks]
    assert len(ranks) == 4
    assert scores == sorted(scores, reverse=True)
    events = [json.loads(line) for line in (copy / "v50_debug_log.jsonl").read_text().splitlines()]
    assert [event["state"] for event in events[-6:]] == ["done"] * 6


def test_frozen_parameters_demand_the_stages_before(copy):
    spectramind(copy, "config", "freeze", *TINY, "transit.bin_s=300")
    done = spectramind(copy, "train", "--params", "params.yaml", check=False)
    assert done.exit_code == 1
    assert "Run `spectramind fit` with the same settings first." in done.stderr


def test_every_stage_runs_from_frozen_parameters(light_curves, tmp_path):
    """As the pipeline calls them, over what is there already."""
    run = shutil.copytree(light_curves, tmp_path / "run")
    spectramind(run, "config", "freeze", *TINY, *LIGHT_CURVES)
    for stage in STAGES:
        spectramind(run, *command_of(stage).split(), "--params", "params.yaml")
    assert (run / SUBMISSION).read_bytes() == (light_curves / SUBMISSION).read_bytes()


@pytest.mark.parametrize(
    ("pattern", "reader", "writer"),
    [
        ("fit/test/*.safetensors", "predict", "fit"),
        ("train/oof.parquet", "calibrate-temp", "train"),
        ("calibrate-temp/calibration.json", "predict", "calibrate-temp"),
        ("predict/spectra.parquet", "diagnose dashboard", "predict"),
    ],
)
def test_a_flipped_bit_is_named_and_mended(light_curves, tmp_path, pattern, reader, writer):
    run, words = shutil.copytree(light_curves, tmp_path / "run"), (*TINY, *LIGHT_CURVES)
    path = sorted((run / "artefacts").glob(pattern))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] + bytes([whole[-30] ^ 4]) + whole[-29:])
    done = spectramind(run, *reader.split(), *words, check=False)
    assert done.exit_code == 1
    assert f"{path.relative_to(run)}: is no whole" in done.stderr
    assert f"Run `spectramind {writer}` again" in done.stderr
    spectramind(run, writer, *words)
    spectramind(run, "predict", *words)
    again, before = (pl.read_csv(folder / SUBMISSION) for folder in (run, light_curves))
    np.testing.assert_allclose(again.to_numpy(), before.to_numpy(), rtol=1e-9)  # fitted alone


def test_dry_run_writes_nothing(copy):
    before = sorted(copy.rglob("*"))
    done = spectramind(
        copy, "train", *TINY, "training.lr=2e-3", "--overwrite", "--dry-run", "--json"
    )
    plan = json.loads(done.stdout)
    assert plan["runs_first"] == []
    assert plan["would_write"] == "artefacts/train"
    assert sorted(copy.rglob("*")) == before


def test_damaged_and_unlabelled_planets_do_not_stop_the_others(copy):
    labels = copy / "artefacts/simulate/train.csv"
    *kept, unlabelled = labels.read_text().splitlines()
    labels.write_text("\n".join(kept) + "\n")
    test = copy / "artefacts/simulate/test"
    bad = sorted(path for path in test.iterdir() if path.is_dir())[0]
    signal = next(bad.glob("AIRS-CH0_signal_*.parquet"))
    signal.write_bytes(signal.read_bytes()[:1000])
    done = spectramind(copy, "predict", *TINY, "--out-csv", "mine.csv")
    assert f"test planet {bad.name}, visit 0: " in done.stderr
    assert f"test: planet {bad.name} left out: no light curves. The stage" in done.stderr
    assert f"test: planet {bad.name} not measured: there is no fit, so the mean" in done.stderr
    assert f"train: planet {unlabelled.split(',')[0]} without a label, so" in done.stderr
    table = pl.read_csv(copy / SUBMISSION)
    assert int(bad.name) in table["planet_id"].to_list()
    beside = json.loads((copy / "mine.csv.json").read_text())
    assert beside["facts"]["reasons"][bad.name] == [NOT_MEASURED]
    spectramind(copy, "diagnose", "dashboard", *TINY)
    shown = json.loads((copy / "artefacts/diagnose/dashboard.json").read_text())
    assert [bad.name, NOT_MEASURED] in shown["tables"]["Not to be trusted"]["rows"]
    scored = json.loads(spectramind(copy, "score", SUBMISSION, *TINY, "--json").stdout)
    diagnosed = json.loads((copy / "artefacts/diagnose-metrics.json").read_text())
    assert diagnosed["score"] == pytest.approx(scored["score"], abs=1e-9)
    assert diagnosed["planets"] == scored["planets"] == 2
    rows = (copy / SUBMISSION).read_text().splitlines()
    (copy / "partial.csv").write_text("\n".join(rows[:-1]) + "\n")
    partial = spectramind(copy, "score", "partial.csv", *TINY, check=False)
    assert partial.exit_code == 1
    assert "lacks 1 planet of" in partial.stderr
    strict = spectramind(copy, "calibrate", *TINY, "--strict", check=False)
    assert strict.exit_code == 1
    assert bad.name in strict.stderr


def test_light_curve_level_needs_no_frames(light_curves):
    assert not list(light_curves.rglob("*_signal_*.parquet"))
    metrics = json.loads((light_curves / "artefacts/diagnose-metrics.json").read_text())
    assert metrics["planets"] == 2
