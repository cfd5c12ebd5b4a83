"""One member's training: the Lightning module, the best weights, the quiet trainer."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from spectramind.errors import ConfigError, DataError
from spectramind.model.likelihood import LossConfig, LossTerms, loss_terms
from spectramind.model.network import V50, Batch
from spectramind.training.data import Batches
from spectramind.training.device import precision
from spectramind.training.settings import TrainingConfig
from spectramind.training.store import Epoch, Trained, Weights

Sample = tuple[Batch, Tensor, list[int]]

_LIGHTNING_LOGS = ("lightning.pytorch", "lightning.fabric")
# Lightning 2.6 on torch 2.13.
_LIGHTNING_PYTREE = r"`isinstance\(treespec, LeafSpec\)` is deprecated"


class SpectrumModule(LightningModule):
    """The network with its loss and optimiser."""

    def __init__(
        self, network: V50, loss: LossConfig, training: TrainingConfig, member: str
    ) -> None:
        super().__init__()
        self.network, self.loss, self.training_config, self.member = (
            network,
            loss,
            training,
            member,
        )

    def transfer_batch_to_device(
        self,
        batch: Sample,
        device: torch.device,
        dataloader_idx: int,  # noqa: ARG002 - part of Lightning's hook
    ) -> Sample:
        """Move the tensors of a sample."""
        features, truth, planets = batch
        return features.to(device), truth.to(device), planets

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Loss of one batch."""
        terms = self.terms(*batch[:2])
        if not torch.isfinite(terms.total):
            planets = ", ".join(map(str, batch[2]))
            loss = float(terms.total.detach())
            raise DataError(
                f"{self.member}, epoch {self.current_epoch + 1}: the loss is {loss:g} in the "
                f"batch of planets {planets}. Look at the fits of these planets, or lower "
                f"training.lr (now {self.training_config.lr:g}); members already finished are "
                "kept."
            )
        size = len(batch[0])
        self.log("training_loss", terms.total, on_step=False, on_epoch=True, batch_size=size)
        return terms.total

    def validation_step(self, batch: Sample, batch_idx: int) -> None:  # noqa: ARG002
        """Likelihood of one batch, without the priors."""
        self.log("validation_nll", self.terms(*batch[:2]).nll, batch_size=len(batch[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW at a constant rate."""
        chosen = self.training_config
        return torch.optim.AdamW(self.parameters(), lr=chosen.lr, weight_decay=chosen.weight_decay)

    def terms(self, features: Batch, truth: Tensor) -> LossTerms:
        """Loss of some planets with true depths (B, W)."""
        return loss_terms(
            self.network(features), features.fit, features.asymmetry, truth, self.loss
        )


class KeepBest(Callback):
    """Keep the weights of the best epoch in memory; stop after `patience` worse ones.

    The untrained network takes part as epoch 0, so that training cannot make a member worse
    than the fit on the validation planets.
    """

    def __init__(self, network: V50, untrained_nll: float, patience: int) -> None:
        self.patience = patience
        self.best = Epoch(0, None, untrained_nll)
        self.weights = _copy(network)
        self.history = [self.best]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the epoch with the best one so far."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        number = trainer.current_epoch + 1
        epoch = Epoch(number, values["training_loss"], values["validation_nll"])
        self.history.append(epoch)
        if epoch.validation_nll < self.best.validation_nll:
            assert isinstance(pl_module, SpectrumModule)
            self.best, self.weights = epoch, _copy(pl_module.network)
        elif number - self.best.epoch >= self.patience:
            trainer.should_stop = True


def train_network(
    module: SpectrumModule,
    training: Batches,
    validation: Batches,
    *,
    device: torch.device,
    log_folder: Path | None,
) -> Trained:
    """Train one network and return its best epoch.

    Args:
        module: Freshly initialised network with loss and settings.
        training: Batches to learn from.
        validation: Batches that choose the epoch.
        device: Where to compute.
        log_folder: Where TensorBoard events go; None writes none.

    Raises:
        DataError: If the loss is not finite.
        ConfigError: If the device runs out of memory.
    """
    chosen = module.training_config
    try:
        keep = KeepBest(
            module.network, untrained_nll(module, validation, device), chosen.early_stop_patience
        )
        with _quiet():
            trainer = Trainer(
                accelerator="gpu" if device.type == "cuda" else "cpu",
                devices=1,
                precision=precision(device, amp=chosen.amp),
                max_epochs=chosen.epochs,
                gradient_clip_val=chosen.gradient_clip,
                callbacks=[keep],
                logger=_logger(log_folder),
                log_every_n_steps=1,
                num_sanity_val_steps=0,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(module, training, validation)
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"{module.member}: the device is out of memory. Lower training.batch_size (now "
            f"{chosen.batch_size}) or model.encoders.*.d_model and hidden."
        ) from error
    return Trained(keep.weights, keep.best.epoch, tuple(keep.history))


def untrained_nll(module: SpectrumModule, validation: Batches, device: torch.device) -> float:
    """Mean validation likelihood of the network as it is [nat]."""
    network = module.network.to(device).eval()
    total, planets = 0.0, 0
    with torch.inference_mode():
        for features, truth, _ in validation:
            terms = module.terms(features.to(device), truth.to(device))
            total, planets = total + float(terms.nll) * len(features), planets + len(features)
    network.train()
    return total / planets


def _copy(network: V50) -> Weights:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _logger(folder: Path | None) -> Any:  # noqa: ANN401 - Lightning takes a logger or False
    return False if folder is None else TensorBoardLogger(folder.parent, folder.name, version="")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's notes about devices and its own use of a deprecated torch class.

    Its other warnings still surface.
    """
    loggers = [logging.getLogger(name) for name in _LIGHTNING_LOGS]
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
