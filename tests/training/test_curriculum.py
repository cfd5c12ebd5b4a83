"""The stages before the labels teach something, can be left out, and resume exactly."""

import math
import os
import sys

import numpy as np
import pytest
import torch

from spectramind.errors import ArtefactError
from spectramind.model.network import V50
from spectramind.training import module
from spectramind.training.checkpoint import SafetensorsIO, is_checkpoint
from spectramind.training.curriculum import ContrastiveAlignment, MaskedAutoencoding
from spectramind.training.data import Scaling, feature_table
from spectramind.training.module import KeepCheckpoint, learning_rate_share
from spectramind.training.settings import Schedule, TrainingConfig
from spectramind.training.store import SIZES

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def batch(archive):
    fits, stars, _ = archive(12)
    table = feature_table(fits, stars)
    return Scaling.of(table).batch(table)


@pytest.fixture
def network(model_config):
    torch.manual_seed(5)
    return V50(model_config, SIZES)


def with_stages(config, *, masked=0, contrastive=0, epochs=2):
    values = config.model_dump()
    values["epochs"] = epochs
    values["curriculum"]["masked"]["epochs"] = masked
    values["curriculum"]["contrastive"]["epochs"] = contrastive
    return TrainingConfig.model_validate(values)


def improve(module, batch, steps=40):
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = module(batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return np.mean(losses[:3]), np.mean(losses[-3:])


def test_masked_autoencoding_learns_both_inputs(network, batch, training_config):
    module = MaskedAutoencoding(network, training_config.curriculum.masked)
    for part in (module.series_error, module.nodes_error):
        torch.manual_seed(0)
        loss = part(batch)
        assert loss > 0
        loss.backward()
    for name, parameter in module.named_parameters():
        if name.startswith(("network.mu", "network.log_scale", "network.readout")):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
    before, after = improve(module, batch)
    assert after < 0.9 * before


def test_hidden_values_do_not_leak_into_the_guess(network, batch, training_config):
    """With everything hidden, the guess cannot depend on the input."""
    config = training_config.curriculum.masked.model_copy(update={"hidden_share": 1.0 - 1e-12})
    module = MaskedAutoencoding(network, config).eval()
    seen = {}
    module.series.register_forward_hook(lambda *call: seen.update(series=call[2]))
    module.nodes.register_forward_hook(lambda *call: seen.update(nodes=call[2]))
    with torch.no_grad():
        module(batch)
        first = dict(seen)
        module(type(batch)(**{**vars(batch), "nodes": batch.nodes + 1, "series": -batch.series}))
    assert torch.equal(first["series"], seen["series"])
    assert torch.equal(first["nodes"], seen["nodes"])


def test_contrastive_alignment_by_hand_and_learning(network, batch, training_config):
    module = ContrastiveAlignment(network, training_config.curriculum.contrastive)
    one = batch[torch.arange(1)]
    assert float(module(one).detach()) == pytest.approx(0.0, abs=1e-6)
    before, after = improve(module, batch)
    assert before > 0.5 * math.log(len(batch))  # chance, or worse: cosines over a low temperature
    assert after < 0.7 * min(before, math.log(len(batch)))


def test_schedule_by_hand():
    cosine = Schedule(epochs=5, lr=1.0, warmup_epochs=1.0, decay="cosine")
    shares = [learning_rate_share(epoch, cosine) for epoch in (0.25, 1.0, 3.0, 5.0)]
    assert shares == pytest.approx([0.25, 1.0, 0.5, 0.0])
    constant = cosine.model_copy(update={"decay": "constant", "warmup_epochs": 0.0})
    assert [learning_rate_share(epoch, constant) for epoch in (0.1, 5.0)] == [1.0, 1.0]


@pytest.fixture
def train(train_one):
    return train_one


class Killed(Exception):
    """Stands for a kill between two epochs."""


def test_a_killed_training_goes_on_to_the_same_weights(train, training_config, monkeypatch):
    config = with_stages(training_config, masked=2, contrastive=1, epochs=2)
    whole = train(config, "other")
    written = KeepCheckpoint.on_train_epoch_end

    for kill in (("masked", 0), ("contrastive", 0), ("supervised", 0)):

        def die(self, trainer, pl_module, kill=kill):
            written(self, trainer, pl_module)
            if (pl_module.stage, trainer.current_epoch) == kill:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(KeepCheckpoint, "on_train_epoch_end", die)
            with pytest.raises(Killed):
                train(config, kill[0])
        resumed = train(config, kill[0])
        assert resumed.history == whole.history
        assert resumed.best_epoch == whole.best_epoch
        for name, value in whole.weights.items():
            assert torch.equal(value, resumed.weights[name]), (kill, name)


def test_each_stage_changes_the_network_and_can_be_left_out(train, training_config):
    histories = [
        train(with_stages(training_config, masked=masked, contrastive=contrastive), str(number))
        for number, (masked, contrastive) in enumerate([(0, 0), (1, 0), (0, 1)])
    ]
    losses = {made.history[1].training_loss for made in histories}
    assert len(losses) == 3
    assert len({made.history[0].validation_nll for made in histories}) == 1  # still the fit


def test_epochs_and_time_left_are_said_where_there_is_no_bar(
    train, training_config, monkeypatch, capsys
):
    monkeypatch.setattr(module, "SILENCE_S", -1.0)
    train(with_stages(training_config, masked=2, contrastive=0, epochs=2))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    for line, stage in zip(said, ("masked", "supervised"), strict=True):
        assert line.startswith(f"train: fold0_seed0, {stage} epoch 1 of at most 2, ")


def test_a_terminal_gets_a_bar_and_a_file_does_not(train, training_config, monkeypatch, capsys):
    config = with_stages(training_config, masked=0, contrastive=0, epochs=1)
    train(config, "file", bar=True)
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True, raising=False)
    train(config, "hidden", bar=False)
    assert "Epoch" not in capsys.readouterr().err
    train(config, "terminal", bar=True)
    said = capsys.readouterr()
    assert "Epoch 0/0" in said.err
    assert "3/3" in said.err  # batches
    assert said.out == ""


def test_checkpoint_gives_back_every_kind_of_value(tmp_path):
    tree = {
        "step": 3, "rate": 0.25, "name": "a", "none": None, "flag": True, "pair": (1, "b"),
        "state": {0: {"exp_avg": torch.arange(3.0), "step": torch.tensor(2.0)}}, "list": [1, [2]],
    }  # fmt: skip
    SafetensorsIO().save_checkpoint(tree, tmp_path / "last")
    back = SafetensorsIO().load_checkpoint(tmp_path / "last")
    torch.testing.assert_close(back.pop("state"), tree.pop("state"), rtol=0, atol=0)
    assert back == tree
    assert is_checkpoint(tmp_path / "last")
    SafetensorsIO().remove_checkpoint(tmp_path / "last")
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_refuses_what_would_need_pickle(tmp_path):
    with pytest.raises(TypeError, match="cannot hold a object"):
        SafetensorsIO().save_checkpoint({"thing": object()}, tmp_path / "last")


def test_a_damaged_checkpoint_is_refused(tmp_path, capsys):
    SafetensorsIO().save_checkpoint({"weight": torch.ones(3)}, tmp_path / "last")
    path = tmp_path / "last.safetensors"
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])  # of the last tensor
    for content in (b"something else", whole[:-1], flipped, whole.replace(b"pairs", b"Pairs")):
        path.write_bytes(content)
        with pytest.raises(ArtefactError, match=r"last\.safetensors: is no whole checkpoint of"):
            SafetensorsIO().load_checkpoint(tmp_path / "last")
    assert not is_checkpoint(tmp_path / "last")
    assert "This stage of it begins anew" in capsys.readouterr().err


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    def die(*_):
        raise Killed

    io = SafetensorsIO()
    io.save_checkpoint({"epoch": 1, "weight": torch.ones(3)}, tmp_path / "last")
    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, die)
            with pytest.raises(Killed):
                io.save_checkpoint({"epoch": 2, "weight": torch.zeros(3)}, tmp_path / "last")
        back = io.load_checkpoint(tmp_path / "last")
        assert back["epoch"] == 1
        assert torch.equal(back["weight"], torch.ones(3))
