"""Training on fits with a known bias: it helps, resumes, and never makes things worse."""

import json
import pickle
import re
import shutil
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from spectramind import parallel
from spectramind.archive.submission import read_spectra
from spectramind.artefacts import save_json
from spectramind.errors import ArtefactError, ConfigError, DataError
from spectramind.observation import Labels
from spectramind.training import members
from spectramind.training.data import Scaling, feature_table
from spectramind.training.device import resolve_device
from spectramind.training.members import Recipe, Runtime, TrainingPlanets, train_members
from spectramind.training.module import SpectrumModule
from spectramind.training.predict import Epistemic, predict, predict_members
from spectramind.training.store import Epoch, Trained, read_member


@pytest.fixture
def run(tmp_path, model_config, training_config, provenance):
    """Train with the small settings and anything that a test changes."""

    def train(data, *, folder="train", model=model_config, epistemic="ensemble", **changes):
        logger, device = changes.pop("logger", "none"), changes.pop("device", "cpu")
        devices, workers = changes.pop("devices", 1), changes.pop("workers", 1)
        made_by = changes.pop("provenance", provenance)
        planets = TrainingPlanets(*data, changes.pop("donors", None))
        start = changes.pop("start", None)
        training = training_config.model_copy(update=changes)
        return train_members(
            planets,
            Recipe(model, training, Epistemic(epistemic, 3), start),
            Runtime(device, devices, workers, logger),
            out=tmp_path / folder,
            provenance=made_by,
        )

    return train


@pytest.fixture(scope="module")
def trained(tmp_path_factory, archive, model_config, training_config, provenance):
    """A finished run that tests read and copy: its data, folder and report."""
    data, out = archive(12), tmp_path_factory.mktemp("trained")
    training = training_config.model_copy(update={"epochs": 2, "seeds": 2})
    report = train_members(
        TrainingPlanets(*data, donors=None),
        Recipe(model_config, training, Epistemic("ensemble", 3), start=None),
        Runtime("cpu", devices=1, workers=1, logger="none"),
        out=out,
        provenance=provenance,
    )
    return data, out, report


@pytest.fixture
def members_copy(trained, tmp_path):
    """A copy of the finished run's members, to be damaged."""
    return Path(shutil.copytree(trained[1] / "members", tmp_path / "members"))


@pytest.fixture
def untrained(monkeypatch):
    """Members as they begin, where only files and keys matter."""

    def at_once(network, *_, **__):
        return Trained(network.state_dict(), 0, (Epoch(0, None, 0.0),))

    monkeypatch.setattr(members, "train_network", at_once)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_training_takes_out_a_known_bias(run, archive, capsys):
    report = run(archive(24, bias=1.5), epochs=6)
    assert report.v50_nll < report.fit_nll - 0.5
    assert (report.planets, report.calibration_planets) == (24, 5)
    assert min(report.best_epochs) > 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("validation likelihood") == 2
    assert "fold 2 of 2, seed 1 of 1: best epoch" in said.err


def test_files_of_a_run(trained, provenance):
    data, out, report = trained
    assert report.members == ("fold0_seed0", "fold0_seed1", "fold1_seed0", "fold1_seed1")
    roles = pl.read_parquet(out / "folds.parquet")
    aside = roles.filter(pl.col("role") == "calibration")["planet_id"]
    planets, posterior = read_spectra(out / "oof.parquet")
    assert posterior.mu.dtype == torch.float64
    assert sorted([*planets.tolist(), *aside]) == sorted(data[0])
    assert read_spectra(out / "calibration.parquet")[0].tolist() == sorted(aside)
    log = pl.read_csv(out / "training_log.csv")
    assert log["member"].unique().sort().to_list() == list(report.members)
    assert log.filter(pl.col("epoch") == 0)["training_loss"].is_null().all()
    facts = json.loads((out / "train.json").read_text())
    assert facts["config_hash"] == provenance.config_hash
    assert facts["v50_nll"] == report.v50_nll
    weights = [(out / "members" / f"{name}.safetensors").read_bytes() for name in report.members]
    assert len(set(weights)) == 4


def test_out_of_fold_spectra_come_from_members_that_never_saw_the_planet(trained, model_config):
    data, out, _ = trained
    roles = pl.read_parquet(out / "folds.parquet").filter(pl.col("fold") == 1)
    left_out = roles["planet_id"].to_numpy()
    table = feature_table(*data[:2]).of(left_out)
    own = [read_member(out / "members", f"fold1_seed{k}", model_config) for k in (0, 1)]
    wanted = predict(own, table, passes=0, device=torch.device("cpu"), seed=1)
    planets, posterior = read_spectra(out / "oof.parquet")
    rows = np.isin(planets, left_out)
    torch.testing.assert_close(posterior.mu[rows], wanted.mu, rtol=1e-5, atol=1e-9)
    other = read_member(out / "members", "fold0_seed0", model_config)
    assert not np.array_equal(other.scaling.nodes.median, own[0].scaling.nodes.median)


def test_scaling_and_weights_ignore_left_out_and_calibration_planets(run, archive, tmp_path):
    fits, stars, labels = archive(15)
    run((fits, stars, labels), epochs=1)
    roles = pl.read_parquet(tmp_path / "train" / "folds.parquet")
    unseen = roles.filter((pl.col("fold") == 0) | (pl.col("role") == "calibration"))["planet_id"]
    changed = {
        planet: replace(fit, depth=fit.depth * 1.3) if planet in set(unseen) else fit
        for planet, fit in fits.items()
    }
    run((changed, stars, labels), folder="other", epochs=1)
    name = "members/fold0_seed0.safetensors"
    assert (tmp_path / "train" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    name = "members/fold1_seed0.safetensors"
    assert (tmp_path / "train" / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


@pytest.mark.usefixtures("untrained")
def test_members_of_other_labels_are_others(run, archive, model_config, tmp_path):
    fits, stars, labels = archive(12)
    moved = replace(labels, depth=labels.depth * (1.0 + 1e-12 * np.eye(*labels.depth.shape)))
    for name, own in (("first", labels), ("same", labels), ("moved", moved)):
        run((fits, stars, own), folder=name)
    first, same, other = (
        read_member(tmp_path / name / "members", "fold0_seed0", model_config).key
        for name in ("first", "same", "moved")
    )
    assert first == same != other


def test_resume_reproduces_the_same_bytes(run, archive, tmp_path):
    data, out = archive(12), tmp_path / "train"
    run(data, epochs=2)
    first = contents(out)
    (out / "members" / "fold1_seed0.safetensors").unlink()
    (out / "train.json").unlink()
    report = run(data, epochs=2)
    assert report.reused == 1
    assert contents(out) == first
    assert run(data, epochs=2).reused == 2
    assert contents(out) == first


class ByPost(Executor):
    """Tasks and answers go as between processes, of which each would load torch again.

    That processes train the same weights is held by the run from nothing in `smoke`.
    """

    tasks = 0

    def submit(self, function, /, *arguments):
        type(self).tasks += 1
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        answer = Future()
        answer.set_result(pickle.loads(pickle.dumps(function(*arguments))))
        return answer


@pytest.fixture
def by_post(monkeypatch):
    monkeypatch.setattr(ByPost, "tasks", 0)
    monkeypatch.setattr(parallel, "_pool", lambda _: ByPost())
    return ByPost


def test_members_beside_one_another_are_those_of_one_by_one(run, trained, tmp_path, by_post):
    data, one, before = trained
    report = run(data, epochs=2, seeds=2, workers=2, folder="beside")
    assert by_post.tasks == 4
    assert report.members == before.members
    assert contents(tmp_path / "beside" / "members") == contents(one / "members")


@pytest.mark.usefixtures("by_post")
def test_an_error_beside_other_members_comes_through(run, archive):
    message = r"fold\d_seed0, supervised epoch \d: the validation likelihood is nan in the batch"
    with pytest.raises(DataError, match=message):
        run(archive(12), epochs=3, lr=1.0, gradient_clip=1e30, weight_decay=1e30, workers=2)


def same_weights(before, after):
    ended = after.network.state_dict()
    return all(torch.equal(ended[name], own) for name, own in before.network.state_dict().items())


def test_training_goes_on_from_another_run(run, archive, tmp_path, model_config):
    """At a rate of nothing, members are those of the run they start from, scaling and all."""
    run(archive(12), folder="first/train")
    run(archive(14, first=1003), start=tmp_path / "first", lr=1e-30, weight_decay=0.0)
    for fold in range(2):
        name = f"fold{fold}_seed0"
        before = read_member(tmp_path / "first/train/members", name, model_config)
        after = read_member(tmp_path / "train/members", name, model_config)
        assert same_weights(before, after), name
        assert after.scaling.to_json() == before.scaling.to_json()
        assert after.history[0].validation_nll != 0.0
    with pytest.raises(ArtefactError, match="there is no finished training run in it"):
        run(archive(12), folder="third", start=tmp_path / "nowhere")


@pytest.mark.usefixtures("untrained")
def test_no_member_goes_on_from_one_that_knows_its_held_out_planets(
    run, archive, tmp_path, model_config
):
    """On the same planets a fold goes on from its own fold, other folds are refused."""
    data = archive(12)
    run(data, folder="first/train")
    frozen = {"start": tmp_path / "first", "seeds": 2}
    run(data, **frozen)
    for fold, seed in ((0, 0), (0, 1), (1, 0), (1, 1)):
        name = f"fold{fold}_seed{seed}"
        before = read_member(tmp_path / "first/train/members", f"fold{fold}_seed0", model_config)
        after = read_member(tmp_path / "train/members", name, model_config)
        assert same_weights(before, after), name
    for changes in ({"folds": 3}, {"calibration_fraction": 0.4}, {"seed": 7}):
        message = r"training\.start: every network of that run learned .* \(planet \d+ for one\)"
        with pytest.raises(ConfigError, match=message):
            run(data, folder="other", **frozen | changes)


def test_gain_is_against_the_fit_whatever_training_began_with(run, archive, tmp_path, capsys):
    """Weights of planets whose fits err the other way are far worse than the fit."""
    run(archive(12), folder="first/train", epochs=6)
    capsys.readouterr()
    run(
        archive(12, bias=-1.5, first=1003), start=tmp_path / "first", lr=1e-30, weight_decay=0.0
    )  # fmt: skip
    said = re.findall(
        r"validation likelihood ([+-][\d.]+) nat against the fit", capsys.readouterr().err
    )
    assert len(said) == 2
    assert all(float(gain) < -0.05 for gain in said)


@pytest.mark.usefixtures("untrained")
def test_other_settings_or_data_train_anew(run, archive, tmp_path):
    data = archive(12)
    run(data, epochs=1)
    first = contents(tmp_path / "train")
    assert run(data, epochs=1, seed=7).reused == 0
    assert (
        contents(tmp_path / "train")["members/fold0_seed0.safetensors"]
        != (first["members/fold0_seed0.safetensors"])
    )
    assert run(archive(12, bias=0.0), epochs=1, seed=7).reused == 0


@pytest.mark.usefixtures("untrained")
def test_other_code_trains_anew(run, archive, provenance):
    data = archive(12)
    run(data, epochs=1)
    changed = replace(provenance, code_hash="changed")
    assert run(data, epochs=1, provenance=changed).reused == 0


@pytest.mark.usefixtures("untrained")
def test_a_damaged_member_is_trained_anew(run, archive, tmp_path):
    data, out = archive(12), tmp_path / "train"
    run(data, epochs=1)
    first = contents(out)
    for content in (b"{", b"[]", b"{}", b"\xff"):
        (out / "members" / "fold0_seed0.json").write_bytes(content)
        assert run(data, epochs=1).reused == 1, content
        assert contents(out) == first, content


@pytest.mark.usefixtures("untrained")
def test_weights_of_another_run_are_not_sealed(run, archive, tmp_path, monkeypatch):
    """A second run writes its member into the folder after the first has trained its own."""
    data = archive(12)
    run(data, folder="other", epochs=1, seed=7)
    train = members._train_missing

    def train_then_lose(of):
        reused = train(of)
        for path in (tmp_path / "other" / "members").glob("fold1_seed0.*"):
            shutil.copy(path, of.out / "members")
        return reused

    monkeypatch.setattr(members, "_train_missing", train_then_lose)
    message = (
        r"fold1_seed0.json: was written by another training run meanwhile, with key \w{16} "
        r"instead of \w{16}. Wait until that run has ended, then run `spectramind train` again"
    )
    with pytest.raises(ArtefactError, match=message):
        run(data, epochs=1)
    assert not (tmp_path / "train" / "train.json").exists()


@pytest.mark.usefixtures("untrained")
def test_members_of_earlier_runs_go(run, archive, tmp_path):
    data = archive(12)
    run(data, epochs=1, folds=3)
    run(data, epochs=1)
    names = sorted(path.name for path in (tmp_path / "train" / "members").iterdir())
    assert names == [f"fold{k}_seed0.{kind}" for k in (0, 1) for kind in ("json", "safetensors")]


def test_hopeless_training_leaves_the_fit_exactly(run, archive, tmp_path):
    """A huge learning rate ruins every epoch: epoch 0, the fit, must win."""
    fits, stars, _ = archive(12, bias=0.0)
    exact = Labels(np.array(list(fits)), np.stack([fit.depth for fit in fits.values()]))
    report = run((fits, stars, exact), lr=1.0, epochs=2)
    assert report.best_epochs == (0, 0)
    planets, posterior = read_spectra(tmp_path / "train" / "oof.parquet")
    np.testing.assert_array_equal(posterior.mu, np.stack([fits[p].depth for p in planets]))
    assert report.v50_nll == pytest.approx(report.fit_nll)


def test_predict_mixes_all_members(trained, model_config):
    data, out, report = trained
    new = {planet + 1: replace(fit, planet_id=planet + 1) for planet, fit in data[0].items()}
    stars = dict.fromkeys(new)
    settings = {"model": model_config, "device": "cpu", "seed": 1}
    dropout = Epistemic("mc_dropout", 4)
    planets, mixed = predict_members(
        out, new, stars, epistemic=Epistemic("ensemble", 4), **settings
    )
    assert planets.tolist() == sorted(new)
    table = feature_table(new, stars)
    cpu = torch.device("cpu")
    each = [read_member(out / "members", name, model_config) for name in report.members]
    single = [predict([member], table, passes=0, device=cpu, seed=2) for member in each]
    mu = np.stack([one.mu.numpy() for one in single])
    variance = np.mean([one.sigma.numpy() ** 2 for one in single], axis=0) + mu.var(0)
    np.testing.assert_allclose(mixed.mu, mu.mean(0), rtol=1e-9)
    np.testing.assert_allclose(mixed.sigma, np.sqrt(variance), rtol=1e-9)
    draws = [predict_members(out, new, stars, epistemic=dropout, **settings) for _ in "ab"]
    assert torch.equal(draws[0][1].mu, draws[1][1].mu)
    assert not torch.equal(draws[0][1].mu, mixed.mu)
    settings["seed"] = 2
    other = predict_members(out, new, stars, epistemic=dropout, **settings)[1]
    assert not torch.equal(draws[0][1].mu, other.mu)


def test_negative_depths_are_set_to_zero_and_counted(trained, model_config, capsys):
    data, out, _ = trained
    planet, fit = next(iter(data[0].items()))
    below = {planet: replace(fit, depth=fit.depth - 0.1)}
    capsys.readouterr()
    _, posterior = predict_members(
        out, below, {planet: None},
        model=model_config, epistemic=Epistemic("ensemble", 1), device="cpu",
        seed=1,
    )  # fmt: skip
    assert "predict: 283 of 283 depths were below 0 and are set to 0" in capsys.readouterr().err
    assert (posterior.mu == 0).all()


def test_csv_keeps_the_course_of_every_epoch(run, archive, tmp_path):
    """Of this training alone: what an earlier one left is removed."""
    earlier = tmp_path / "train" / "logs" / "fold0_seed0"
    earlier.mkdir(parents=True)
    for stage in ("masked", "supervised"):
        (earlier / f"{stage}.csv").write_text("step,name,value\n1,training_loss,0.5\n")
    run(archive(12), epochs=2, logger="csv")
    files = sorted((tmp_path / "train" / "logs").rglob("*.csv"))
    assert [file.parent.name for file in files] == ["fold0_seed0", "fold1_seed0"]
    for file in files:
        assert file.stem == "supervised"
        table = pl.read_csv(file)
        assert table.schema == {"step": pl.Int64, "name": pl.String, "value": pl.Float64}
        losses = table.filter(pl.col("name") == "training_loss")
        assert losses["value"].is_finite().all()
        assert len(losses) == 2
        assert {"validation_nll", "epoch"} < set(table["name"])


def test_tensorboard_writes_events(run, archive, tmp_path):
    run(archive(12), epochs=1, logger="tensorboard")
    events = list((tmp_path / "train" / "logs").rglob("events.out.tfevents.*"))
    assert len(events) == 2


def test_mixed_precision_trains_too(run, archive, monkeypatch, tmp_path):
    seen = []
    loss_of = SpectrumModule.loss_of

    def watched(*arguments):
        seen.append(torch.is_autocast_enabled("cpu"))
        return loss_of(*arguments)

    monkeypatch.setattr(SpectrumModule, "loss_of", watched)
    monkeypatch.setattr(members, "precision", lambda *_, **__: "bf16-mixed")
    report = run(archive(12), epochs=2, amp=True)
    assert all(seen)
    assert report.v50_nll < report.fit_nll
    assert json.loads((tmp_path / "train/train.json").read_text())["precision"] == "bf16-mixed"


def test_a_killed_training_does_not_go_on_in_another_precision(run, archive, monkeypatch):
    class Killed(Exception):
        pass

    folders = []

    def killed(*_, place, **__):
        folders.append(place.resume_folder)
        raise Killed

    monkeypatch.setattr(members, "train_network", killed)
    for precision_now in ("32-true", "bf16-mixed"):
        monkeypatch.setattr(members, "precision", lambda *_, own=precision_now, **__: own)
        with pytest.raises(Killed):
            run(archive(12))
    assert folders[0] != folders[1]


@pytest.mark.parametrize(
    ("least", "what"),
    [(2, "epoch 1: the loss"), (1, "epoch 0: the validation likelihood")],
    ids=["training", "validation"],
)
def test_loss_that_is_not_finite_names_fold_epoch_and_planets(
    run, archive, monkeypatch, least, what
):
    """Eight planets learn, and one chooses the epoch."""
    scale = Scaling.scaled

    def poisoned(self, table):
        made = scale(self, table)
        if len(table.planet_ids) >= least:
            made.nodes[0] = torch.nan
        return made

    monkeypatch.setattr(Scaling, "scaled", poisoned)
    message = (
        rf"fold0_seed0, supervised {what} is nan in the batch of planets [\d, ]+\. "
        r"Look at the fits of these planets, or lower training\.lr \(now 0\.01\)"
    )
    with pytest.raises(DataError, match=message):
        run(archive(12), batch_size=16)


def test_predict_without_training_says_what_to_run(archive, tmp_path, model_config):
    fits, stars, _ = archive(1)
    with pytest.raises(ArtefactError, match=r"no finished training run .* Run `spectramind"):
        predict_members(
            tmp_path, fits, stars,
            model=model_config, epistemic=Epistemic("ensemble", 1), device="cpu",
        seed=1,
        )  # fmt: skip


def test_checkpoint_of_another_architecture_names_the_key(trained, model_config):
    wider = model_config.encoders.fgs1.model_copy(update={"d_model": 16})
    encoders = model_config.encoders.model_copy(update={"fgs1": wider})
    other = model_config.model_copy(update={"encoders": encoders})
    folder = trained[1] / "members"
    message = r"model\.encoders\.fgs1\.d_model is 8 in it and 16 in the configuration \(1 keys"
    with pytest.raises(ArtefactError, match=message):
        read_member(folder, "fold0_seed0", other)
    loss = model_config.loss.model_copy(update={"z_clip": 9.0})
    read_member(folder, "fold0_seed0", model_config.model_copy(update={"loss": loss}))


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_damaged_checkpoint(members_copy, model_config, suffix):
    path = members_copy / f"fold0_seed0.{suffix}"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ArtefactError, match=f"fold0_seed0.{suffix}: is no whole checkpoint: it h"):
        read_member(members_copy, "fold0_seed0", model_config)


def test_weights_of_another_member_are_refused(members_copy, model_config):
    other, own = (members_copy / f"fold{fold}_seed0.safetensors" for fold in (1, 0))
    own.write_bytes(other.read_bytes())
    with pytest.raises(ArtefactError, match=r"is not the one that fold0_seed0\.json was written"):
        read_member(members_copy, "fold0_seed0", model_config)


def test_a_checkpoint_that_lacks_something_says_what(members_copy, model_config):
    save_json(members_copy / "fold0_seed0.json", {"key": "k", "model": {}})
    with pytest.raises(ArtefactError, match="it lacks best_epoch, features, weights_sha256"):
        read_member(members_copy, "fold0_seed0", model_config)


def test_checkpoint_of_another_version(members_copy, model_config):
    path = members_copy / "fold0_seed0.json"
    facts = json.loads(path.read_text())
    del facts["scaling"]["planet"], facts["checksum"]
    save_json(path, facts)
    with pytest.raises(ArtefactError, match="does not describe a network of this version"):
        read_member(members_copy, "fold0_seed0", model_config)


def test_dropout_without_dropout_is_refused(run, archive, model_config):
    encoders = model_config.encoders.model_copy(
        update={
            "fgs1": model_config.encoders.fgs1.model_copy(update={"dropout": 0.0}),
            "airs": model_config.encoders.airs.model_copy(update={"dropout": 0.0}),
        }
    )
    fusion = model_config.fusion.model_copy(update={"dropout": 0.0})
    silent = model_config.model_copy(update={"encoders": encoders, "fusion": fusion})
    with pytest.raises(ConfigError, match=r"uq.epistemic=mc_dropout: dropout is 0 in"):
        run(archive(12), model=silent, epistemic="mc_dropout")


def test_unwritable_folder(run, archive, tmp_path):
    (tmp_path / "train").write_text("a file where the folder should be")
    with pytest.raises(ArtefactError, match="cannot be written"):
        run(archive(12), epochs=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpu_that_is_absent_is_refused():
    with pytest.raises(ConfigError, match=r"runtime.device=cuda: no CUDA device is seen"):
        resolve_device("cuda")
    assert resolve_device("auto").type == "cpu"


def test_random_state_and_folder_outside_are_untouched(run, archive, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    run(archive(12), epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not list(here.iterdir())
