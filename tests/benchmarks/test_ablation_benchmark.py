"""The ablation's table by hand, and which trainings it need not do again."""

from types import SimpleNamespace

import numpy as np
import pytest

import ablation
from ablation import OWN, WHOLE, Judgement, measure_steps, remembered, rows_of
from reports.ablation import scatter
from spectramind import config as configuration
from spectramind.model.network import V50
from spectramind.training.store import SIZES


def test_rows_stand_beside_the_right_network_planet_by_planet():
    gains = {
        (WHOLE, 1): [1.0, 2.0, 6.0], (WHOLE, 2): [3.0, 4.0, 2.0],
        ("no graph", 1): [0.0, 1.0, 5.0], ("no graph", 2): [0.0, 1.0, 5.0],
        (OWN, 1): [7.0, 7.0, 7.0], (OWN, 2): [9.0, 9.0, 9.0],
        ("own, transformer", 1): [8.0, 8.0, 8.0], ("own, transformer", 2): [9.0, 9.0, 9.0],
    }  # fmt: skip
    found = {task: Judgement(gain, 2.0) for task, gain in gains.items()}
    rows = rows_of(found, [WHOLE, "no graph", OWN, "own, transformer"], (1, 2))
    assert rows[WHOLE]["gains"] == [3.0, 3.0]
    assert "apart" not in rows[WHOLE]
    assert rows["no graph"]["apart"] == pytest.approx(-1.0)  # of -2, -2 and +1
    assert rows["no graph"]["apart_error"] == pytest.approx(np.sqrt(2.0 / 3.0))
    assert rows["own, transformer"]["beside"] == OWN
    assert rows["own, transformer"]["apart"] == pytest.approx(0.5)


def test_a_training_is_remembered_until_what_it_rests_on_changes(tmp_path, monkeypatch):
    trained = []

    def judge(_, task):
        trained.append(task)
        return Judgement([0.5, float(len(trained))], 1.0)

    def school(truth):
        table = SimpleNamespace(nodes=np.ones(3))
        return SimpleNamespace(
            donors=SimpleNamespace(key="k"), table=table, truth=np.full(2, truth)
        )

    monkeypatch.setattr(ablation, "judge", judge)
    first = remembered(school(1.0), tmp_path, (WHOLE, 1))
    assert remembered(school(1.0), tmp_path, (WHOLE, 1)) == first
    assert trained == [(WHOLE, 1)]
    remembered(school(1.0), tmp_path, (WHOLE, 2))
    remembered(school(1.0), tmp_path, (OWN, 1))
    remembered(school(2.0), tmp_path, (WHOLE, 1))
    assert len(trained) == 4
    monkeypatch.setattr(ablation, "code_hash", lambda *_: "other code")
    assert remembered(school(1.0), tmp_path, (WHOLE, 1)).gain[1] == 5.0


def test_steps_are_those_of_the_variants(monkeypatch):
    """Every variant has its turn in each round, and is the network that its name says."""
    turns = []

    def step(network, batch, truth, _):
        assert len(batch) == len(truth) == 2
        turns.append(type(network.fgs1).__name__)
        return float(len(turns))

    monkeypatch.setattr(ablation, "_step_ms", step)
    made = measure_steps((WHOLE, "no FGS1 encoder"), rounds=3, size=2)
    assert turns == ["Fgs1Encoder", "Silent"] * (3 + ablation.WARM_UP)
    first = 1.0 + 2 * ablation.WARM_UP
    assert made["ms"] == {WHOLE: first + 2.0, "no FGS1 encoder": first + 3.0}


def test_a_step_takes_time_and_leaves_gradients():
    config = configuration.load(["experiment=ablation"])
    network = V50(config.model, SIZES)
    batch, truth = ablation._random_batch(2, 64)
    assert ablation._step_ms(network, batch, truth, config.model.loss) > 0.0
    assert any(own.grad is not None and own.grad.abs().sum() > 0 for own in network.parameters())


def test_scatter_of_two_trainings_each_by_hand():
    rows = {"a": {"gains": [0.0, 2.0]}, "b": {"gains": [1.0, 1.0]}}  # variances 2 and 0
    assert scatter(rows) == pytest.approx(np.sqrt(2.0 * (2.0 / 2 + 0.0) / 2))
