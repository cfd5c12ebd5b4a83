import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from spectramind.artefacts import save_json
from spectramind.cli import call
from spectramind.cli.app import app
from spectramind.cli.call import command
from spectramind.cli.words import path_word
from spectramind.config import load
from spectramind.errors import ConfigError, DataError
from spectramind.stages.checks import device_of
from spectramind.stages.folders import STAGES
from spectramind.stages.freshness import built_on, code_so_far, stage_hash

COMMANDS = [
    "simulate",
    "calibrate",
    "fit",
    "train",
    "calibrate-temp",
    "predict",
    "diagnose dashboard",
    "run",
    "score",
    "submission validate",
    "config show",
    "config freeze",
    "config diff",
    "config hash",
    "config dvc",
    "config validate",
    "doctor",
]


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *words: runner.invoke(app, list(words))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_shows_an_example(invoke, command):
    done = invoke(*command.split(), "--help")
    assert done.exit_code == 0
    assert f"spectramind {command}" in " ".join(done.output.split())


def test_help_lists_every_command(invoke):
    text = invoke("--help").output
    for words in COMMANDS:
        assert re.search(rf"^\W*{words.split()[0]}\b", text, re.MULTILINE), words


def test_unknown_key_ends_with_usage_code_and_a_suggestion(invoke, tmp_path):
    done = invoke("config", "validate", "training.lrr=1")
    assert done.exit_code == 2
    assert "error: training.lrr: no such key. Did you mean training.lr?" in done.stderr
    (event,) = (tmp_path / "v50_debug_log.jsonl").read_text().splitlines()
    assert json.loads(event)["state"].startswith("failed: training.lrr")


def test_params_and_overrides_exclude_each_other(invoke):
    done = invoke("fit", "--params", "params.yaml", "training.lr=1")
    assert done.exit_code == 2
    assert "cannot be combined with KEY=VALUE (training.lr=1). Give one of the two." in done.stderr


def test_no_archive_names_what_is_expected(invoke):
    done = invoke("calibrate", "data=kaggle", "data.root=nowhere")
    assert done.exit_code == 1
    assert "data=sim" in done.stderr


def test_no_archive_after_an_earlier_run(invoke, tmp_path):
    folder = tmp_path / "artefacts" / "calibrate"
    folder.mkdir(parents=True)
    config = load(["data=kaggle", "data.root=nowhere"])
    sidecar = {
        "config_hash": stage_hash(config, "calibrate"),
        "code_so_far": code_so_far("calibrate"),
        "built_on": built_on(config, "calibrate"),
        "data_hash": "x",
    }
    save_json(folder / "stage.json", sidecar)
    done = invoke("train", "data=kaggle", "data.root=nowhere", "--dry-run")
    assert done.exit_code == 1
    assert "data=sim" in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["training.lr"], "Overrides read KEY=VALUE"),
        (["training.lr=1e-4,"], "Overrides read KEY=VALUE"),
        (["model=v50,nope"], "model=nope: no such choice"),
        (["training.lr=1e-4,-1"], "training.lr: got -1"),
        (["training.lr=1,2", "--dry-run"], "--multirun cannot be combined with --dry-run"),
        (["--params", "p.yaml"], "it cannot read --params"),
    ],
)
def test_sweeps_are_checked_before_the_first_job(invoke, tmp_path, words, sentence):
    done = invoke("train", "-m", *words)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert not (tmp_path / "multirun").exists()


def test_simulate_never_writes_into_the_challenge_archive(invoke):
    done = invoke("simulate", "data=kaggle", "data.root=real")
    assert done.exit_code == 2
    assert "`simulate` writes simulated archives only. Use data=sim." in done.stderr


@pytest.mark.parametrize(("words", "code"), [(["config", "hash"], 0), (["fit", "a=1"], 2)])
def test_log_that_cannot_be_written_is_said_once_and_changes_nothing(
    invoke, tmp_path, words, code
):
    (tmp_path / "v50_debug_log.jsonl").mkdir()
    done = invoke(*words)
    assert done.exit_code == code
    said = "the debug log is left out: v50_debug_log.jsonl: cannot be written (Is a directory)."
    assert done.stderr.count(said) == 1


WORDS = [  # the whole line that a word brings
    ("training.lr=1,2", r"training\.lr=1,2: has several values\. A stage runs with each of them "
     r"under --multirun \(-m\); a text with a comma stands in quotes: 'training\.lr=\"A,B\"'; a "
     r"list in brackets: 'training\.lr=\[A,B\]'\."),
    ("=5", r"=5: has no key\. Overrides read KEY=VALUE, for example uq\.corel=true\."),
    ("seed", r"seed: is no KEY=VALUE\. Overrides read KEY=VALUE, for example uq\.corel=true\."),
    ("training.lr=[", r"training\.lr=\[: cannot be read\. Overrides read KEY=VALUE, for example "
     r"uq\.corel=true\. Special characters stand in quotes: 'training\.lr=\"TEXT\"'\."),
    ("data=5", r"data=5: no such choice\. There are: kaggle, lightcurves, sim\."),
    ("model=null", r"model=null: no such choice\. There are: v50\."),
    ("training.seed=4294967296", r"training\.seed: got 4294967296; input should be less than .*"),
    ("simulate.seed=-1", r"simulate\.seed: got -1; input should be greater than or equal to 0\."),
]  # fmt: skip


@pytest.mark.parametrize("words", [["config", "diff"], ["fit"]])
@pytest.mark.parametrize(("word", "sentence"), WORDS)
def test_a_word_that_is_no_override(invoke, words, word, sentence):
    done = invoke(*words, word)
    assert done.exit_code == 2
    assert re.fullmatch(f"error: {sentence}\n", done.stderr), done.stderr


@pytest.mark.parametrize(("typed", "meant"), [("--jsno", "--json"), ("--dryrun", "--dry-run")])
def test_a_mistyped_option_brings_the_right_one(invoke, typed, meant):
    done = invoke("fit", typed)
    assert done.exit_code == 2
    assert f"No such option: {typed}" in done.stderr
    assert meant in done.stderr


def test_gpu_that_is_not_there(invoke, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert invoke("config", "show", "runtime.device=cuda").exit_code == 0  # for another machine
    done = invoke("simulate", "runtime.device=cuda")
    assert done.exit_code == 2
    assert "runtime.device=cuda: no CUDA device is seen on this machine. Use" in done.stderr


def test_freeze_then_check_then_diff(invoke):
    assert invoke("config", "freeze", "experiment=demo").exit_code == 0
    assert invoke("config", "freeze", "experiment=demo", "--check").exit_code == 0
    stale = invoke("config", "freeze", "--check")
    assert stale.exit_code == 2
    assert "differs from the composed configuration" in stale.stderr
    changes = json.loads(invoke("config", "diff", "training.folds=7", "--json").stdout)
    assert changes == {"training.folds": {"from": 5, "to": 7}}


def test_config_show_as_json_and_yaml(invoke):
    tree = json.loads(invoke("config", "show", "--json").stdout)
    assert tree["model"]["encoders"]["fgs1"]["type"] == "mamba"
    assert "encoders:" in invoke("config", "show").stdout


def test_hash_lists_every_stage(invoke):
    hashes = json.loads(invoke("config", "hash", "--json").stdout)
    assert len(hashes) == 7
    assert all(re.fullmatch("[0-9a-f]{16}", value) for value in hashes.values())


def test_doctor_reports_device_disk_and_archive(invoke):
    findings = json.loads(invoke("doctor", "--json").stdout)
    assert {"torch", "device", "precision", "cores", "memory", "disk", "archive"} <= set(findings)
    assert findings["archive"].startswith("not found")


@pytest.mark.parametrize(("error", "code"), [(DataError("x: y."), 1), (ConfigError("x: y."), 2)])
def test_exit_codes_and_log_of_a_failing_command(tmp_path, monkeypatch, capsys, error, code):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.Exit) as caught, command("fit", debug=False):
        raise error
    assert caught.value.exit_code == code
    assert capsys.readouterr().err == "error: x: y.\n"
    with pytest.raises(type(error)), command("fit", debug=True):
        raise error
    states = [
        json.loads(line)["state"]
        for line in (tmp_path / "v50_debug_log.jsonl").read_text().splitlines()
    ]
    assert states == ["failed: x: y."] * 2


def test_a_section_is_shown_alone(invoke):
    whole = json.loads(invoke("config", "show", "training.lr=3e-4", "--json").stdout)
    named = invoke("config", "show", "training", "training.lr=3e-4", "decoders", "--json")
    assert json.loads(named.stdout) == {
        "training": whole["training"], "decoders": whole["model"]["decoders"],
    }  # fmt: skip
    assert invoke("config", "show", "training.curriculum").stdout.startswith(
        "training.curriculum:"
    )
    done = invoke("config", "show", "trainng")
    assert done.exit_code == 2
    assert done.stderr == "error: trainng: no such key. Did you mean training?\n"


MISSING = [  # words of a command, and the sentence that ends it before anything is computed
    (["fit", "prior=no/prior"], r"prior=no/prior: no/prior: no file of priors of a transit f.*"),
    (["predict", "weights=no"], r"weights=no: no lacks train/members/\*\.safetensors and "
     r"train/train\.json and calibrate-temp/calibration\.json, so no training has ended there\. "
     r"Name the runtime\.out of a run that has, or set weights=null\."),
    (["train", "training.start=no"], r"training\.start=no: no lacks train/members/\*\.safetensors "
     r"and train/folds\.parquet, so no training has ended there\. Name .* training\.start=null\."),
    (["train", "runtime.devices=3"], r"runtime\.devices=3: does not divide training\.batch_s.*"),
    (["predict", "--out-csv", "."], r"--out-csv \.: is a folder\. Name a file in it\."),
    (["predict", "--out-csv", "file/s.csv"], r"file/s\.csv: cannot be written \(.*/file may not "
     r"be written to\)\. .*"),
    (["fit", "runtime.out=file/out"], r"file/out: cannot be written \(.*"),
]  # fmt: skip


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(("words", "sentence"), MISSING)
def test_what_is_missing_is_said_before_anything_is_computed(
    invoke, tmp_path, monkeypatch, words, sentence, dry
):
    monkeypatch.setattr("spectramind.stages.checks.data_hash", lambda _: "")
    monkeypatch.setattr("spectramind.stages.freshness.data_hash", lambda _: "")
    (tmp_path / "file").touch()
    done = invoke(*words, *dry)
    assert done.exit_code in (1, 2)
    assert re.fullmatch(f"error: {sentence}\n", done.stderr), done.stderr
    assert not (tmp_path / "artefacts").exists()


def test_run_checks_first(invoke, tmp_path):
    done = invoke("run", "weights=no")
    assert "error: weights=no: no lacks" in done.stderr
    assert not (tmp_path / "artefacts").exists()


@pytest.fixture
def foreign(tmp_path):
    (tmp_path / "5_0.nc").touch()
    return ("data=lightcurves", "data.root=.")


@pytest.mark.parametrize(
    "stage", ["train", "calibrate-temp", "predict", "diagnose dashboard", "run"]
)
def test_light_curves_of_others_without_labels_train_nothing(invoke, tmp_path, foreign, stage):
    done = invoke(*stage.split(), *foreign)
    assert done.exit_code == 1
    assert "has no true spectrum of a training planet, from which a network" in done.stderr
    assert "They come as labels.csv, a row for each planet. Without any, predict" in done.stderr
    assert not (tmp_path / "artefacts").exists()


def test_borrowed_weights_without_labels_ask_for_a_borrowed_prior(invoke, tmp_path, foreign):
    done = invoke("predict", *foreign, "weights=pretrained")
    assert done.exit_code == 2
    assert "Fit it with prior=pretrained too." in done.stderr
    assert not (tmp_path / "artefacts").exists()


def test_doctor_counts_light_curves_of_others(invoke, foreign):
    found = json.loads(invoke("doctor", *foreign, "--json").stdout)
    assert found["archive"] == "light curves at .: 1 planet, 1 file"


def test_score_names_the_file_that_is_not_there(invoke):
    done = invoke("score", "nothing.csv")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: nothing.csv: is missing.")


def test_a_plan_is_ten_lines_and_is_not_logged_as_done(invoke, tmp_path):
    done = invoke("simulate", "--dry-run")
    assert done.exit_code == 0
    assert 5 <= len(done.stdout.splitlines()) <= 12
    assert "{" not in done.stdout
    plan = json.loads(invoke("simulate", "--dry-run", "--json").stdout)
    assert (plan["stage"], plan["runs_first"]) == ("simulate", [])
    assert plan["config_hash"] in done.stdout
    events = (tmp_path / "v50_debug_log.jsonl").read_text().splitlines()
    assert {json.loads(event)["state"] for event in events} == {"dry run"}
    assert not (tmp_path / "artefacts").exists()


@pytest.mark.parametrize("option", ["--out-csv", "--params"])
def test_paths_among_the_options(invoke, monkeypatch, option):
    done = invoke("predict", f"{option}=")
    assert done.exit_code == 2
    assert "a path cannot be empty: write . for the current folder." in done.stderr
    monkeypatch.setenv("HOME", "/h")
    assert path_word("~/x y") == Path("/h/x y")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            MemoryError("2 TiB"),
            r"out of memory \(2 TiB\): the command needs more than {}\. Lower run.*",
        ),
        (
            MemoryError(),
            r"out of memory: the command needs more than {}\. Lower runtime\.workers .*",
        ),
        (
            OSError(12, "Cannot allocate memory"),
            r"out of memory \(.*\): the command needs .*",
        ),
    ],
)
@pytest.mark.parametrize(
    ("limit", "most"), [(None, "there is"), (2.0, r"the limit of 2\.0 GiB all.*")]
)
def test_want_of_memory_is_a_sentence(tmp_path, monkeypatch, capsys, error, sentence, limit, most):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(call, "memory_limit_gib", lambda: limit)
    with pytest.raises(typer.Exit) as caught, command("fit", debug=False):
        raise error
    assert caught.value.exit_code == 1
    assert re.fullmatch(f"error: {sentence.format(most)}\n", capsys.readouterr().err)


def test_the_device_is_the_one_that_computes(monkeypatch):
    """`auto` is no device, and some stages compute on the CPU whatever there is."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    devices = {stage: device_of(load([]), stage) for stage in STAGES}
    assert {stage for stage, device in devices.items() if device == "cuda"} == {
        "simulate", "fit", "train", "predict",
    }  # fmt: skip
    assert set(devices.values()) == {"cpu", "cuda"}
