"""What the trainer does in each step: rate, clipping, stopping, and which epoch observes."""

import math

import pytest
import torch

from spectramind.training.data import Batches
from spectramind.training.module import SpectrumModule

CPU = torch.device("cpu")


def test_the_rate_follows_the_schedule_step_by_step(train, monkeypatch):
    """Three steps per epoch: it rises for one epoch, and falls as a cosine over two."""
    rates = []

    def note(_self, optimizer):
        rates.append(optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(SpectrumModule, "on_before_optimizer_step", note)
    train(epochs=3, lr=0.01, warmup_epochs=1, decay="cosine", early_stop_patience=9)
    rising = [1 / 6, 3 / 6, 5 / 6]
    falling = [0.5 * (1.0 + math.cos(math.pi * part / 12)) for part in (1, 3, 5, 7, 9, 11)]
    assert rates == pytest.approx([0.01 * share for share in (*rising, *falling)], rel=1e-6)
    assert rates[-1] > 0.0


@pytest.mark.parametrize("largest", [1e-3, 1e6])
def test_the_gradient_is_clipped(train, monkeypatch, largest):
    norms = []

    def note(self, *_):
        norms.append(
            math.sqrt(
                sum(
                    float(own.grad.square().sum())
                    for own in self.parameters()
                    if own.grad is not None
                )
            )
        )

    monkeypatch.setattr(SpectrumModule, "on_train_batch_end", note)
    train(epochs=1, gradient_clip=largest)
    assert len(norms) == 3
    if largest < 1.0:
        assert norms == pytest.approx([largest] * 3, rel=1e-3)
    else:
        assert all(norm > 1e-2 for norm in norms)


def test_training_stops_after_so_many_worse_epochs(train, monkeypatch):
    """The second epoch is the best; two worse ones follow."""
    likelihoods = torch.tensor([5.0, 4.0, 3.0, 3.5, 3.25, 1.0, 0.0])
    monkeypatch.setattr(
        SpectrumModule, "validation_nll", lambda _self, _batch, epoch: likelihoods[epoch]
    )
    trained = train(epochs=6, early_stop_patience=2)
    assert [epoch.validation_nll for epoch in trained.history] == [5.0, 4.0, 3.0, 3.5, 3.25]
    assert trained.best_epoch == 2


def test_every_epoch_of_every_stage_has_a_number_of_its_own(train, training_config):
    """Observed-again planets follow from it: no stage sees those of another."""
    epochs = []

    class Noted(Batches):
        def samples(self, epoch):
            epochs.append(epoch)
            return super().samples(epoch)

    stages = training_config.curriculum
    curriculum = stages.model_copy(
        update={
            "masked": stages.masked.model_copy(update={"epochs": 2}),
            "contrastive": stages.contrastive.model_copy(update={"epochs": 1}),
        }
    )
    train(batches=Noted, epochs=2, curriculum=curriculum, early_stop_patience=9)
    assert epochs == [0, 1, 2, 3, 4]
