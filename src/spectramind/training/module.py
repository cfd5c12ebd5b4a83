"""Training of one network: the stages of the curriculum as Lightning modules, and the trainer."""

import logging
import math
import signal
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from torch import Tensor, nn

from spectramind.errors import DataError
from spectramind.model.likelihood import loss_terms
from spectramind.model.network import V50, Batch
from spectramind.model.settings import LossConfig
from spectramind.parallel import SILENCE_S
from spectramind.training.checkpoint import SafetensorsIO, is_checkpoint
from spectramind.training.curriculum import ContrastiveAlignment, MaskedAutoencoding
from spectramind.training.data import Batches
from spectramind.training.ddp import Share, of_all, rank, strategy
from spectramind.training.device import Precision
from spectramind.training.loggers import logger_of
from spectramind.training.out_of_memory import advise_when_out_of_memory
from spectramind.training.settings import LoggerKind, Schedule, TrainingConfig
from spectramind.training.store import Epoch, Trained, weights_of

Sample = tuple[Batch, Tensor, list[int]]

_LOGS = ("lightning.pytorch", "lightning.fabric", "mlflow", "alembic")
# Lightning 2.6 on torch 2.13.
_LIGHTNING_PYTREE = r"`isinstance\(treespec, LeafSpec\)` is deprecated"
_SEEDS = 2**63  # seeds are taken modulo this


class StageModule(LightningModule, ABC):
    """One stage of the curriculum; its random numbers depend on seed and epoch only."""

    def __init__(
        self, stage: str, member: str, schedule: Schedule, training: TrainingConfig, seed: int
    ) -> None:
        super().__init__()
        self.stage, self.member, self.seed = stage, member, seed
        self.schedule, self.training_config = schedule, training

    @abstractmethod
    def loss_of(self, features: Batch, truth: Tensor) -> Tensor:
        """The loss of this stage."""

    def transfer_batch_to_device(
        self,
        batch: Sample,
        device: torch.device,
        dataloader_idx: int,  # noqa: ARG002 - part of Lightning's hook
    ) -> Sample:
        """Move the tensors of a sample."""
        features, truth, planets = batch
        return features.to(device), truth.to(device), planets

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Loss of one batch; masks and dropout depend on seed, epoch and process only."""
        if batch_idx == 0:
            drawn = self.seed + 1_000_003 * (self.current_epoch + 1) + 1_000_000_007 * rank()
            torch.manual_seed(drawn % _SEEDS)
        features, truth, planets = batch
        loss = self.loss_of(features, truth)
        total = self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="sum")
        if not math.isfinite(float(total)):  # of one of the processes; each says the same
            found = f"the loss is {float(total):g}"
            raise _not_finite(self, self.current_epoch + 1, found, of_all(planets))
        size = len(features)
        self.log(
            "training_loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True
        )
        return loss

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - one of Lightning's many forms
        """AdamW; the rate follows the stage's schedule step by step."""
        chosen = self.schedule
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=chosen.lr, weight_decay=self.training_config.weight_decay
        )
        steps = self.trainer.estimated_stepping_batches / chosen.epochs
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_share((step + 0.5) / steps, chosen)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


_KEYS = {
    "masked": "training.curriculum.masked.",
    "contrastive": "training.curriculum.contrastive.",
    "supervised": "training.",
}


def _not_finite(module: StageModule, epoch: int, found: str, planets: list[int]) -> DataError:
    return DataError(
        f"{module.member}, {module.stage} epoch {epoch}: {found} in the batch of planets "
        f"{', '.join(map(str, planets))}. Look at the fits of these planets, or lower "
        f"{_KEYS[module.stage]}lr (now {module.schedule.lr:g}); members already finished and the "
        "checkpoint of the epoch before are kept."
    )


def require_finite_weights(module: StageModule, epoch: int) -> None:
    """Refuse to go on from weights that are not finite.

    Raises:
        DataError: Names the first of them.
    """
    for name, weight in module.named_parameters():
        if not torch.isfinite(weight).all():
            raise DataError(
                f"{module.member}, {module.stage} epoch {epoch}: the weights {name} are not "
                f"finite after the last batch. Lower {_KEYS[module.stage]}lr (now "
                f"{module.schedule.lr:g}); the checkpoint of the epoch before is kept."
            )


def learning_rate_share(epochs: float, schedule: Schedule) -> float:
    """Learning rate after some epochs as a share of the highest: linear warm-up, then the decay.

    The cosine reaches 0 at the end of the last epoch.

    Source: Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5, without restarts.
    """
    warm = schedule.warmup_epochs
    if epochs < warm:
        return epochs / warm
    if schedule.decay == "constant":
        return 1.0
    done = min((epochs - warm) / max(schedule.epochs - warm, 1e-9), 1.0)
    return 0.5 * (1.0 + math.cos(math.pi * done))


class PretextModule(StageModule):
    """A stage without labels, which trains the network through heads of its own."""

    def __init__(
        self, pretext: nn.Module, stage: str, member: str, schedule: Schedule,
        training: TrainingConfig, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(stage, member, schedule, training, seed)
        self.pretext = pretext

    def loss_of(self, features: Batch, truth: Tensor) -> Tensor:  # noqa: ARG002 - needs no label
        """Loss of the pretext task."""
        return self.pretext(features)


class SpectrumModule(StageModule):
    """The supervised stage: the network with its likelihood and physics priors."""

    def __init__(
        self, network: V50, loss: LossConfig, training: TrainingConfig, member: str, seed: int
    ) -> None:
        super().__init__("supervised", member, training.supervised, training, seed)
        self.network, self.loss = network, loss

    def loss_of(self, features: Batch, truth: Tensor) -> Tensor:
        """Weighted sum of all terms, those of optional decoders included."""
        return self.network.loss(features, truth, self.loss)

    def validation_step(self, batch: Sample, batch_idx: int) -> None:  # noqa: ARG002
        """Likelihood of one batch, without the priors; every process sees all batches."""
        nll = self.validation_nll(batch, self.current_epoch + 1)
        self.log("validation_nll", nll, batch_size=len(batch[0]), sync_dist=True)

    def validation_nll(self, batch: Sample, epoch: int) -> Tensor:
        """Mean likelihood of the planets of a batch [nat].

        Raises:
            DataError: If it is not finite.
        """
        features, truth, planets = batch
        posterior = self.network(features)
        nll = loss_terms(
            posterior, features.fit, features.own_sigma, features.asymmetry, truth, self.loss
        ).nll
        if not torch.isfinite(nll):
            require_finite_weights(self, epoch)
            raise _not_finite(self, epoch, f"the validation likelihood is {float(nll):g}", planets)
        return nll


class KeepBest(Callback):
    """Keep the weights of the best epoch in memory; stop after `patience` worse ones.

    The network before training takes part as epoch 0. Untrained it is the fit, so that no member
    can be worse than the fit on the validation planets.
    """

    def __init__(self, network: V50, first_nll: float, patience: int) -> None:
        self.patience = patience
        self.best = Epoch(0, None, first_nll)
        self.weights = weights_of(network)
        self.history = [self.best]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Stop at once where the resumed training had already stopped."""
        trainer.should_stop = self._stale()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the epoch, and its weights if it is the best so far."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        number = trainer.current_epoch + 1
        epoch = Epoch(number, values["training_loss"], values["validation_nll"])
        self.history.append(epoch)
        if epoch.validation_nll < self.best.validation_nll:
            assert isinstance(pl_module, SpectrumModule)
            self.best, self.weights = epoch, weights_of(pl_module.network)
        trainer.should_stop = trainer.strategy.reduce_boolean_decision(self._stale())

    def _stale(self) -> bool:
        return self.history[-1].epoch - self.best.epoch >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """State of this callback for a checkpoint."""
        history = [list(epoch) for epoch in self.history]
        return {"best": self.best.epoch, "weights": self.weights, "history": history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state from a checkpoint."""
        self.history = [Epoch(*epoch) for epoch in state_dict["history"]]
        self.best = next(e for e in self.history if e.epoch == state_dict["best"])
        self.weights = state_dict["weights"]


class KeepCheckpoint(Callback):
    """Write a checkpoint after every epoch, from which a killed training goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the checkpoint of the epoch before.

        Raises:
            DataError: If a weight is not finite; the last checkpoint stays.
        """
        assert isinstance(pl_module, StageModule)
        require_finite_weights(pl_module, trainer.current_epoch + 1)
        trainer.save_checkpoint(self.path)


class SayProgress(Callback):
    """A line on stderr now and then, where there is no bar: epochs done, time the others take."""

    def __init__(self) -> None:
        self.start = self.said = time.monotonic()
        self.first = 0  # epoch that this training began with

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Note where a resumed training begins."""
        self.first = trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a line, unless the last one is recent or this was the last epoch."""
        assert isinstance(pl_module, StageModule)
        now, done, whole = time.monotonic(), trainer.current_epoch + 1, pl_module.schedule.epochs
        if now - self.said < SILENCE_S or done >= whole or rank():
            return
        self.said = now
        left = (now - self.start) / (done - self.first) * (whole - done)
        print(  # noqa: T201
            f"train: {pl_module.member}, {pl_module.stage} epoch {done} of at most {whole}, "
            f"{left:.0f} s more at most",
            file=sys.stderr,
        )


@dataclass(frozen=True)
class Place:
    """Where a member is trained and logged, and where its checkpoints lie meanwhile."""

    device: torch.device
    devices: int  # processes that train it together
    logger: LoggerKind
    log_folder: Path  # of all members
    resume_folder: Path  # checkpoints of running stages
    bar: bool  # whether a terminal gets a progress bar
    precision: Precision


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The two parts of the planets that a member may see."""

    training: Batches  # to learn from
    validation: Batches  # to choose the best epoch by


def train_network(
    network: V50,
    data: TrainingData,
    *,
    member: str,
    loss: LossConfig,
    config: TrainingConfig,
    seed: int,
    place: Place,
) -> Trained:
    """Take one network through the curriculum and return its best supervised epoch.

    Args:
        network: With the weights to start from.
        data: What it learns from, and what chooses the epoch; the stages before the last one
            ignore the labels.
        member: Name, for messages.
        loss: Weights of the supervised loss.
        config: Section `training`.
        seed: Of masks and dropout.
        place: Device and folders. Training resumes from a checkpoint of this member in
            `resume_folder`; the result is the same as without the interruption.

    Raises:
        DataError: If the loss is not finite.
        ConfigError: If the device runs out of memory.
    """
    curriculum = config.curriculum
    pretexts = {
        "masked": (
            curriculum.masked, lambda: MaskedAutoencoding(network, curriculum.masked)
        ),
        "contrastive": (
            curriculum.contrastive, lambda: ContrastiveAlignment(network, curriculum.contrastive)
        ),
    }  # fmt: skip
    before = 0  # epochs of earlier stages: observed-again planets are new in every one of all
    for number, (stage, (schedule, make)) in enumerate(pretexts.items()):
        if schedule.epochs:
            torch.manual_seed(seed + number)  # of the heads; a resumed training draws the same
            module = PretextModule(make(), stage, member, schedule, config, seed + number + 1)
            _fit_stage(module, data.training, None, [], place, before)
            before += schedule.epochs
    module = SpectrumModule(network, loss, config, member, seed)
    with advise_when_out_of_memory(f"{member}, supervised", config):
        first = first_nll(module, data.validation, place.device)
    keep = KeepBest(network, first, config.early_stop_patience)
    _fit_stage(module, data.training, data.validation, [keep], place, before)
    return Trained(keep.weights, keep.best.epoch, tuple(keep.history))


def _fit_stage(
    module: StageModule,
    training: Batches,
    validation: Batches | None,
    callbacks: list[Callback],
    place: Place,
    before: int,
) -> None:
    path = place.resume_folder / module.stage
    shared = training if place.devices == 1 else Share(training, place.devices)
    resumed = path if is_checkpoint(path) else None
    step = f"{module.member}, {module.stage}"
    with _quiet(), advise_when_out_of_memory(step, module.training_config):
        trainer = _trainer(module, [*callbacks, KeepCheckpoint(path)], place)
        training.epoch = partial(_epoch, trainer, before)
        with _interruptible(trainer):
            trainer.fit(module, shared, validation, ckpt_path=resumed)
    if place.devices > 1:  # what the callbacks know is in the other processes
        states = SafetensorsIO().load_checkpoint(path)["callbacks"]
        for callback in callbacks:
            if callback.state_key in states:
                callback.load_state_dict(states[callback.state_key])


@contextmanager
def _interruptible(trainer: Trainer) -> Iterator[None]:
    """SIGINT is a KeyboardInterrupt here as elsewhere; Lightning makes an exit state 1 of it."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not trainer.interrupted or end.code != 1:
            raise
        signal.signal(signal.SIGINT, handler)  # Lightning ignores the next ones
        raise KeyboardInterrupt from end


def _epoch(trainer: Trainer, before: int) -> int:
    return before + trainer.current_epoch


def _trainer(module: StageModule, callbacks: list[Callback], place: Place) -> Trainer:
    config = module.training_config
    shown = place.bar and sys.stderr.isatty()
    bar = RichProgressBar(leave=False, console_kwargs={"stderr": True}) if shown else SayProgress()
    return Trainer(
        accelerator="gpu" if place.device.type == "cuda" else "cpu",
        devices=place.devices,
        strategy=strategy(place.devices),
        precision=place.precision,
        max_epochs=module.schedule.epochs,
        gradient_clip_val=config.gradient_clip,
        callbacks=[*callbacks, bar],
        logger=logger_of(place.logger, place.log_folder, member=module.member, stage=module.stage),
        plugins=[SafetensorsIO()],
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=shown,
        enable_model_summary=False,
    )


def first_nll(module: SpectrumModule, validation: Batches, device: torch.device) -> float:
    """Mean validation likelihood of the network as it is [nat]."""
    network = module.network.to(device).eval()
    total, planets = 0.0, 0
    with torch.inference_mode():
        for features, truth, named in validation:
            nll = module.validation_nll((features.to(device), truth.to(device), named), 0)
            total, planets = total + float(nll) * len(features), planets + len(features)
    network.train()
    return total / planets


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's notes about devices and its own use of a deprecated torch class.

    Its other warnings still surface.
    """
    loggers = [logging.getLogger(name) for name in _LOGS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _LIGHTNING_PYTREE, FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
