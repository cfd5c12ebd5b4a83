"""Settings of the training (`configs/training`)."""

from typing import Literal

from pydantic import Field, StrictBool, StrictInt

from spectramind.settings import Seed, Settings, UserPath

LoggerKind = Literal["csv", "tensorboard", "mlflow", "none"]


class Schedule(Settings):
    """Length and learning rate of one stage of the curriculum."""

    epochs: StrictInt = Field(ge=0)  # at most; 0 leaves the stage out
    lr: float = Field(gt=0, le=1)  # highest learning rate
    warmup_epochs: float = Field(ge=0)  # in which the rate rises from 0
    decay: Literal["constant", "cosine"]  # of the rate after the warm-up; cosine ends at 0


class MaskedConfig(Schedule):
    """Masked autoencoding: guess hidden pieces of both inputs from the rest; no labels."""

    hidden_share: float = Field(gt=0, lt=1)  # of tokens and of wavelength blocks
    block: StrictInt = Field(ge=1)  # wavelengths that are hidden together


class ContrastiveConfig(Schedule):
    """Contrastive alignment: which light curve belongs to which spectrum; no labels."""

    temperature: float = Field(gt=0)  # of the softmax over the planets of a batch
    width: StrictInt = Field(ge=1)  # of the space in which both are compared


class CurriculumConfig(Settings):
    """The stages before the supervised one."""

    masked: MaskedConfig
    contrastive: ContrastiveConfig


class TrainingConfig(Settings):
    """How the ensemble members are trained."""

    optimizer: Literal["adamw"]
    lr: float = Field(gt=0, le=1)  # highest learning rate
    weight_decay: float = Field(ge=0)  # decoupled, of AdamW
    batch_size: StrictInt = Field(ge=1)  # [planets]
    epochs: StrictInt = Field(ge=1)  # at most
    warmup_epochs: float = Field(ge=0)  # in which the rate rises from 0
    decay: Literal["constant", "cosine"]  # of the rate after the warm-up; cosine ends at 0
    amp: StrictBool  # mixed precision where the device is made for it
    gradient_clip: float = Field(gt=0)  # largest norm of the gradient
    early_stop_patience: StrictInt = Field(ge=1)  # epochs without a better validation likelihood
    curriculum: CurriculumConfig
    start: UserPath | None  # run whose members training goes on from, or `pretrained`; None: none
    folds: StrictInt = Field(ge=2)  # parts that are left out in turn
    seeds: StrictInt = Field(ge=1)  # members per fold
    validation_fraction: float = Field(gt=0, lt=1)  # of a fold's training planets
    reobserved: StrictInt = Field(ge=0)  # other atmospheres per planet and epoch
    calibration_fraction: float = Field(gt=0, lt=1)  # of all planets, never trained on
    seed: Seed  # of folds, weights, order and dropout

    @property
    def supervised(self) -> Schedule:
        """Schedule of the last stage."""
        return Schedule(
            epochs=self.epochs, lr=self.lr, warmup_epochs=self.warmup_epochs, decay=self.decay
        )
