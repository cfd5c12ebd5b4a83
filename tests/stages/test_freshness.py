"""What makes a stage stale, and what does not."""

import shutil

import pytest

from spectramind.artefacts import save_json
from spectramind.errors import ConfigError
from spectramind.stages.checks import require_data
from spectramind.stages.folders import (
    OF_TRAINING,
    STAGES,
    read_seal,
    read_sidecar,
    stage_folder,
    stages_of,
)
from spectramind.stages.freshness import (
    data_hash,
    narrowed,
    stage_hash,
    stages_before,
    stages_read,
    up_to_date,
)
from spectramind.stages.runner import run_all, run_stage


def stale(config):
    return [stage for stage in STAGES if not up_to_date(config, stage)]


def again(config):
    """Stages that `run` does again."""
    done = []
    run_all(config, done.append, lambda *_: None, overwrite=True)
    return done


@pytest.mark.parametrize(
    "key",
    [
        "runtime.workers=1",
        "runtime.device=cpu",
        "runtime.devices=2",
        "runtime.logger=none",
        "calibration.cache=false",
    ],
)
def test_a_key_that_no_result_depends_on_makes_nothing_stale(of, run, key):
    one, other = of(run), of(run, key)
    assert one != other
    assert [stage_hash(one, stage) for stage in STAGES] == [stage_hash(other, s) for s in STAGES]
    assert stale(other) == again(other) == []
    assert stages_before(other, "diagnose") == ()


def test_a_key_that_a_result_depends_on_does(of, run):
    other = of(run, "training.lr=1e-3")
    assert stale(other) == again(other) == list(STAGES[3:])


@pytest.mark.parametrize("key", ["config_hash", "code_so_far", "built_on", "data_hash"])
def test_a_stage_made_from_anything_else_is_stale(of, run, key):
    config = of(run)
    seal = run / "fit" / "stage.json"
    made = read_seal(run / "fit", "fit")
    assert len(made[key]) == 16
    save_json(seal, made)
    assert up_to_date(config, "fit")
    save_json(seal, made | {key: "0123456789abcdef"})
    assert not up_to_date(config, "fit")
    assert stages_before(config, "fit") == ()
    assert stages_before(config, "diagnose") == STAGES[2:-1]
    assert again(config) == list(STAGES[2:])


def test_a_stage_is_fresh_for_no_more_planets_than_it_worked_on(of, run):
    both, tests_alone = of(run), of(run, "data.splits=[test]", "prior=pretrained")
    made = of(run, "prior=pretrained")
    run_stage(made, "fit", run / "fit", overwrite=True)
    assert up_to_date(tests_alone, "fit")
    run_stage(tests_alone, "calibrate", run / "calibrate")
    assert up_to_date(tests_alone, "calibrate")
    assert stale(both) == list(STAGES[1:])


def test_nothing_of_training_planets_is_asked_for_where_network_and_priors_are_borrowed(of, run):
    borrowed = of(run, "weights=pretrained", "prior=pretrained")
    for stage in ("predict", "diagnose"):
        assert narrowed(borrowed, stage).data.splits == ("test",)
    assert narrowed(borrowed, "train") == borrowed
    for kept in ("weights=pretrained", "prior=pretrained"):
        assert narrowed(of(run, kept), "predict") == of(run, kept)


def test_nothing_is_trained_where_the_network_is_borrowed(of, run):
    borrowed = of(run, "weights=pretrained")
    rest = [stage for stage in STAGES if stage not in OF_TRAINING]
    assert list(stages_of(borrowed)) == rest
    assert list(stages_read(borrowed, "diagnose")) == rest[1:-1]
    foreign = of(run, "data.name=lightcurves", "data.level=lightcurves")
    assert stages_of(foreign) == STAGES[1:]


@pytest.mark.parametrize(
    ("stage", "split", "more"),
    [("train", "train", ""), ("diagnose", "test", ""), ("fit", "train", ", or name a prior")],
)
def test_a_stage_whose_planets_are_left_out_is_refused(of, run, stage, split, more):
    other = {"train": "test", "test": "train"}[split]
    with pytest.raises(
        ConfigError, match=f"needs planets of {split}, which .* Add {split} to it{more}"
    ):
        require_data(of(run, f"data.splits=[{other}]"), stage)
    require_data(of(run, f"data.splits=[{other}]", "prior=pretrained"), "fit")


def test_a_stage_that_has_run_again_makes_those_after_it_stale(of, run):
    """What it mends need not show in its settings, code or archive: a planet lost before."""
    config = of(run)
    before = read_sidecar(config, "calibrate")
    run_stage(config, "calibrate", run / "calibrate")
    assert read_sidecar(config, "calibrate")["run"] != before["run"]  # within a second, too
    assert stale(config) == again(config) == list(STAGES[2:])
    assert stale(config) == []


def test_an_archive_simulated_again_alike_makes_nothing_stale(of, run):
    config = of(run)
    (run / "simulate" / "stage.json").unlink()
    assert again(config) == ["simulate"]


def test_an_archive_simulated_otherwise_makes_every_stage_stale(of, run):
    assert again(of(run, "simulate.seed=51")) == list(STAGES)


def test_prediction_from_other_weights_reads_no_training_of_this_run(of, run):
    config = of(run, f"weights={run}")
    assert stages_before(config, "predict") == ()
    run_stage(config, "predict", run / "predict", overwrite=True)
    run_stage(config, "train", run / "train")
    assert up_to_date(config, "predict")
    run_stage(config, "fit", run / "fit")
    assert not up_to_date(config, "predict")


def test_another_archive_than_the_one_simulated_is_not_fresh(of, run, tmp_path, write_archive):
    write_archive(tmp_path / "other", "two")
    (tmp_path / "empty").mkdir()
    for name in ("other", "empty", "nowhere"):
        assert not up_to_date(of(run, f"data.root={tmp_path / name}"), "simulate")
    shutil.copytree(run / "simulate", tmp_path / "copy")
    assert stale(of(run, f"data.root={tmp_path / 'copy'}")) == []


def test_an_archive_behind_a_link_is_the_same(of, run, tmp_path):
    (tmp_path / "link").symlink_to(run / "simulate")
    linked = of(run, f"data.root={tmp_path / 'link'}")
    assert data_hash(linked) == data_hash(of(run))
    assert stale(linked) == []


def test_the_same_relative_path_in_another_folder_is_another_archive(
    of, tmp_path, monkeypatch, write_archive
):
    hashes = []
    for name in ("one", "two"):
        write_archive(tmp_path / name / "archive", name)
        monkeypatch.chdir(tmp_path / name)
        hashes.append(data_hash(of("out", "data.root=archive")))
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(
    ("key", "stage", "file"),
    [
        ("prior", "fit", "fit/priors/all.safetensors"),
        ("training.start", "train", "train/members/fold0_seed0.json"),
        ("weights", "predict", "calibrate-temp/calibration.json"),
    ],
)
def test_what_is_borrowed_counts_by_content_not_by_place(
    of, tmp_path, monkeypatch, key, stage, file
):
    path = tmp_path / "one" / file
    path.parent.mkdir(parents=True)
    path.write_text("one")
    monkeypatch.chdir(tmp_path)

    def hashes(place):
        config = of("out", f"{key}={place}")
        return [stage_hash(config, own) for own in STAGES]

    before = hashes("one")
    assert before == hashes(tmp_path / "one")
    shutil.move("one", "moved")
    assert before == hashes("moved")
    (tmp_path / "moved" / file).write_text("another")
    after = hashes("moved")
    changed = [own for own, old, new in zip(STAGES, before, after, strict=True) if old != new]
    assert changed == list(STAGES[STAGES.index(stage) :])
    if key == "prior":
        assert after == hashes(tmp_path / "moved" / file)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b""])
def test_a_damaged_seal_means_not_finished(of, run, content):
    config = of(run)
    (stage_folder(config, "fit") / "stage.json").write_bytes(content)
    assert read_sidecar(config, "fit") is None
    assert again(config) == list(STAGES[2:])
