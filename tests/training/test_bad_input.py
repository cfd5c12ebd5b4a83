"""What cannot be trained ends in one sentence, and what was finished before it is kept."""

import importlib.util
from pathlib import Path

import pytest
import torch

from spectramind.errors import ConfigError, DataError
from spectramind.model.network import V50
from spectramind.training.checkpoint import SafetensorsIO
from spectramind.training.data import Samples, Scaling, feature_table
from spectramind.training.loggers import logger_of
from spectramind.training.members import Recipe, Runtime, TrainingPlanets, train_members
from spectramind.training.module import SpectrumModule
from spectramind.training.predict import Epistemic, predict, predict_members
from spectramind.training.store import SIZES, Member

CPU = torch.device("cpu")
ALONE = Runtime("cpu", devices=1, workers=1, logger="none")
ENSEMBLE = Epistemic("ensemble", 3)


def stored_epoch(folder: Path) -> int:
    return SafetensorsIO().load_checkpoint(folder / "supervised")["epoch"]


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(train, tmp_path, monkeypatch):
    loss_of = SpectrumModule.loss_of

    def poisoned(self, features, truth):
        loss = loss_of(self, features, truth)
        return loss * torch.nan if self.current_epoch == 2 else loss

    whole = train("other", epochs=3)
    with monkeypatch.context() as patch:
        patch.setattr(SpectrumModule, "loss_of", poisoned)
        message = (
            r"fold0_seed0, supervised epoch 3: the loss is nan in the batch of planets "
            r"\d+, \d+, \d+, \d+\. Look at the fits"
        )
        with pytest.raises(DataError, match=message):
            train(epochs=3)
    assert stored_epoch(tmp_path / "unfinished") == 1  # the second of 0, 1, 2
    mended = train(epochs=3)
    assert mended.history == whole.history
    assert all(torch.equal(mended.weights[name], value) for name, value in whole.weights.items())


def test_weights_that_are_not_finite_do_not_replace_the_last_good_checkpoint(
    train, tmp_path, monkeypatch
):
    """The loss of the last batch is finite, its gradient is not."""
    last = {"step": 0}

    def spoil(self, _optimizer):
        last["step"] += 1
        if last["step"] == 6:  # of 3 batches in 2 epochs
            self.network.mu.last.bias.grad.fill_(torch.nan)

    monkeypatch.setattr(SpectrumModule, "on_before_optimizer_step", spoil)
    message = (
        r"fold0_seed0, supervised epoch 2: the weights .* are not finite after the last batch"
    )
    with pytest.raises(DataError, match=message):
        train(epochs=3)
    assert stored_epoch(tmp_path / "unfinished") == 0


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["gpu", "cpu", "python"],
)
def test_out_of_memory_says_what_to_lower(train, archive, model_config, monkeypatch, error):
    def full(*_):
        raise error

    fits, stars, _ = archive(2)
    table = feature_table(fits, stars)
    network = V50(model_config, SIZES)
    member = Member("fold0_seed0", "", model_config, network, Scaling.of(table), 0, ())
    monkeypatch.setattr(V50, "forward", full)
    message = (
        r"fold0_seed0, supervised: the device is out of memory\. Lower training\.batch_size "
        r"\(now 8\), or model\.encoders\.fgs1\.d_model and model\.encoders\.airs\.hidden, or raise"
    )
    with pytest.raises(ConfigError, match=message):
        train()
    message = (
        r"fold0_seed0: the cpu is out of memory with 64 planets at once\. Free memory, or .* "
        r"trained with a smaller model\.encoders\.airs\.hidden"
    )
    with pytest.raises(ConfigError, match=message):
        predict([member], table, passes=0, device=CPU, seed=1)


@pytest.mark.parametrize("where", ["Samples.of", "Scaling.batch"])
def test_out_of_memory_before_the_first_batch_is_told_too(
    archive, model_config, training_config, provenance, tmp_path, monkeypatch, where
):
    def full(*_):
        raise MemoryError

    fits, stars, labels = archive(12)
    training = training_config.model_copy(update={"epochs": 1})

    def go():
        train_members(
            TrainingPlanets(fits, stars, labels, donors=None),
            Recipe(model_config, training, ENSEMBLE, start=None), ALONE,
            out=tmp_path, provenance=provenance,
        )  # fmt: skip
        predict_members(
            tmp_path, fits, stars, model=model_config, epistemic=ENSEMBLE, device="cpu", seed=1
        )

    if where == "Samples.of":
        monkeypatch.setattr(Samples, "of", full)
        message = r"fold0_seed0, its planets: the device is out of memory\. Lower training\.batch"
    else:
        go()
        monkeypatch.setattr(Scaling, "batch", full)
        message = r"fold0_seed0: the cpu is out of memory with 64 planets at once\. Free memory"
    with pytest.raises(ConfigError, match=message):
        go()


def test_out_of_memory_names_observed_again_planets_where_there_are_any(train, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(V50, "forward", full)
    with pytest.raises(ConfigError, match=r"lower training\.reobserved \(now 3\) or runtime"):
        train(reobserved=3)
    with pytest.raises(ConfigError, match=r"own memory, fewer runtime\.workers take less"):
        train(reobserved=0)


def test_other_errors_of_torch_stay_what_they_are(train, monkeypatch):
    def wrong(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(SpectrumModule, "loss_of", wrong)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train()


def test_one_training_planet_is_refused(
    archive, model_config, training_config, provenance, tmp_path
):
    message = r"training planets: 1 planets with training\.calibration_fraction=0\.2 leave none"
    with pytest.raises(DataError, match=message):
        train_members(
            TrainingPlanets(*archive(1), donors=None),
            Recipe(model_config, training_config, ENSEMBLE, start=None), ALONE,
            out=tmp_path, provenance=provenance,
        )  # fmt: skip


def test_no_logger_csv_and_tensorboard(tmp_path):
    assert logger_of("none", tmp_path, member="fold0_seed0", stage="masked") is False
    made = logger_of("csv", tmp_path, member="fold0_seed0", stage="masked")
    assert (made.name, made.version) == ("fold0_seed0", "masked")
    made = logger_of("tensorboard", tmp_path, member="fold0_seed0", stage="masked")
    assert Path(made.log_dir) == tmp_path / "fold0_seed0" / "masked"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the extra mlflow")
def test_mlflow_keeps_the_course_of_every_epoch(
    archive, model_config, training_config, provenance, tmp_path, monkeypatch
):
    import mlflow

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    train_members(
        TrainingPlanets(*archive(12), donors=None),
        Recipe(model_config, training_config, ENSEMBLE, start=None),
        Runtime("cpu", devices=1, workers=1, logger="mlflow"),
        out=tmp_path, provenance=provenance,
    )  # fmt: skip
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'logs' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'spectramind'")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {f"fold{fold}_seed0/supervised" for fold in (0, 1)}
    for run in runs.values():
        history = client.get_metric_history(run.info.run_id, "validation_nll")
        assert len(history) == 3
    assert not (Path.cwd() / "mlruns").exists()
