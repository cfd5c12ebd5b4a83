"""Several processes on one network: disjoint planets, equal weights, one voice for errors."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file, save_file

from spectramind.errors import ConfigError, DataError
from spectramind.model.network import V50
from spectramind.training import ddp, module
from spectramind.training.data import Batches, Samples, Scaling, feature_table
from spectramind.training.ddp import Share, cause_of, rank, require_devices
from spectramind.training.module import Place, TrainingData, train_network
from spectramind.training.out_of_memory import is_out_of_memory
from spectramind.training.settings import TrainingConfig
from spectramind.training.store import SIZES

CPU = torch.device("cpu")


@pytest.fixture
def prepared(archive):
    def make(planets=12, size=4):
        fits, stars, labels = archive(planets)
        table = feature_table(fits, stars)
        truth = torch.from_numpy(labels.of(table.planet_ids).depth)
        samples = Samples(Scaling.of(table).batch(table), truth, table.planet_ids)
        return TrainingData(*(Batches(samples, size=size, seed=seed) for seed in (3, None)))

    return make


@pytest.mark.parametrize(("planets", "size", "left_out"), [(12, 4, 0), (11, 4, 0), (9, 4, 1)])
def test_shares_are_disjoint_and_make_up_the_batches(
    prepared, monkeypatch, planets, size, left_out
):
    training = prepared(planets, size).training
    share = Share(training, 2)
    parts = []
    for number in (0, 1):
        monkeypatch.setattr(ddp, "rank", lambda number=number: number)
        parts.append(list(share))
        assert len(parts[-1]) == len(share)
    seen = []
    for (features, truth, one), (_, _, other) in zip(*parts, strict=True):
        assert len(features) == len(truth) == len(one)
        row = training.own.planet_ids.tolist().index(one[0])
        assert torch.equal(features.nodes[0], training.own.features.nodes[row])
        assert torch.equal(truth[0], training.own.truth[row])
        seen += [*one, *other]
    assert len(set(seen)) == len(seen) == planets - left_out
    whole = [set(batch[2]) for batch in training]
    assert [set(one) | set(other) for (*_, one), (*_, other) in zip(*parts, strict=True)] == (
        whole[: len(share)]
    )


def test_fewer_planets_than_processes_are_refused(prepared):
    with pytest.raises(DataError, match=r"training planets: 3 in this fold, fewer than runtime\."):
        Share(prepared(3).training, 4)


def test_devices_must_be_there_and_divide_the_batch(monkeypatch):
    require_devices(CPU, 2, batch_size=16)
    with pytest.raises(ConfigError, match=r"runtime\.devices=3: does not divide training\.batch_"):
        require_devices(CPU, 3, batch_size=16)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"runtime\.devices=2: 1 CUDA devices are seen on this"):
        require_devices(torch.device("cuda"), 2, batch_size=16)


def test_the_last_line_of_another_process_tells_what_went_wrong():
    told = (
        "Traceback (most recent call last):\n  File\nspectramind.errors.DataError: planet 3: bad"
    )
    cause = cause_of(told)
    assert isinstance(cause, DataError)
    assert str(cause) == "planet 3: bad"
    assert is_out_of_memory(cause_of("x\ntorch.OutOfMemoryError: CUDA out of memory."))
    assert is_out_of_memory(cause_of("x\nRuntimeError: DefaultCPUAllocator: not enough"))
    assert not is_out_of_memory(cause_of("x\nRuntimeError: shapes differ"))
    assert cause_of("x\nZeroDivisionError: division by zero") is None


class Recorder(Callback):
    """Writes what one process saw and ended with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen = folder, []

    def on_train_batch_start(self, *call):
        _, _, (*_, planets), _ = call
        self.seen.append(planets)

    def on_train_end(self, *call):
        _, pl_module = call
        weights = {name: value.clone() for name, value in pl_module.state_dict().items()}
        seen = torch.tensor(self.seen)
        save_file({**weights, "seen": seen}, self.folder / f"rank{rank()}.safetensors")


def settings(config, *, masked=0):
    values = config.model_dump() | {"batch_size": 4, "epochs": 2}
    values["curriculum"]["masked"]["epochs"] = masked
    return TrainingConfig.model_validate(values)


@pytest.fixture
def train(model_config, prepared, tmp_path):
    """Without dropout, so that the number of processes can only change the rounding."""
    values = model_config.model_dump()
    for part in (*values["encoders"].values(), values["fusion"]):
        part["dropout"] = 0.0
    model = type(model_config).model_validate(values)

    def make(config, devices, poison=None):
        torch.manual_seed(6)
        network, data = V50(model, SIZES), prepared()
        if poison is not None:
            data.training.own.features.nodes[poison] = torch.nan
        place = Place(
            CPU,
            devices,
            "none",
            tmp_path / "logs",
            tmp_path / f"unfinished{devices}",
            bar=False,
            precision="32-true",
        )
        return train_network(
            network, data, member="fold0_seed0",
            loss=model.loss, config=config, seed=9, place=place,
        )  # fmt: skip

    return make


@pytest.mark.slow
def test_two_processes_end_with_equal_weights_and_saw_disjoint_planets(
    prepared, model_config, training_config, tmp_path
):
    torch.manual_seed(6)
    network, data = V50(model_config, SIZES), prepared()
    config = settings(training_config)
    stage = module.SpectrumModule(network, model_config.loss, config, "fold0_seed0", 9)
    keep = module.KeepBest(network, 1e9, 3)
    place = Place(
        CPU, 2, "none", tmp_path / "logs", tmp_path / "unfinished", bar=False, precision="32-true"
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    callbacks = [keep, Recorder(tmp_path)]
    module._fit_stage(stage, data.training, data.validation, callbacks, place, 0)
    first, second = (load_file(tmp_path / f"rank{number}.safetensors") for number in (0, 1))
    seen = torch.cat([first.pop("seen"), second.pop("seen")], dim=1)  # 6 steps of 4 planets
    assert seen.shape == (6, 4)
    for epoch in (seen[:3], seen[3:]):
        assert sorted(epoch.flatten().tolist()) == data.training.own.planet_ids.tolist()
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, second[name]), name
    after = network.state_dict()
    assert all(torch.equal(first[f"network.{name}"], value) for name, value in after.items())
    assert any(not torch.equal(before[name], value) for name, value in after.items())
    assert [epoch.epoch for epoch in keep.history] == [0, 1, 2]
    assert keep.best.epoch > 0
    written = {path.name for path in (tmp_path / "unfinished").iterdir()}
    assert written == {"supervised.safetensors"}


@pytest.mark.slow
def test_two_processes_train_what_one_does(train, training_config):
    one, two = (train(settings(training_config), devices) for devices in (1, 2))
    assert one.best_epoch == two.best_epoch > 0
    for mine, other in zip(one.history[1:], two.history[1:], strict=True):
        assert mine.training_loss == pytest.approx(other.training_loss, rel=1e-4)
        assert mine.validation_nll == pytest.approx(other.validation_nll, rel=1e-3)
    for name, value in one.weights.items():
        torch.testing.assert_close(two.weights[name], value, rtol=1e-2, atol=1e-4)


@pytest.mark.slow
def test_an_error_in_another_process_reaches_the_user(train, training_config):
    """A stage that leaves the heads alone, and a planet that only one of the processes has."""
    named = (
        r"fold0_seed0, masked epoch 1: the loss is nan in the batch of planets (\d+, ){3}\d+\. "
    )
    with pytest.raises(DataError, match=named):
        train(settings(training_config, masked=1), 2, poison=0)
