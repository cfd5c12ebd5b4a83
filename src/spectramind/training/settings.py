"""Settings of the training (`configs/training`)."""

from typing import Literal

from pydantic import Field, StrictBool, StrictInt

from spectramind.settings import Settings


class TrainingConfig(Settings):
    """How the ensemble members are trained."""

    optimizer: Literal["adamw"]
    lr: float = Field(gt=0, le=1)  # learning rate
    weight_decay: float = Field(ge=0)  # decoupled, of AdamW
    batch_size: StrictInt = Field(ge=1)  # [planets]
    epochs: StrictInt = Field(ge=1)  # at most
    amp: StrictBool  # mixed precision where the device gains from it
    gradient_clip: float = Field(gt=0)  # largest norm of the gradient
    early_stop_patience: StrictInt = Field(ge=1)  # epochs without a better validation likelihood
    folds: StrictInt = Field(ge=2)  # parts that are left out in turn
    seeds: StrictInt = Field(ge=1)  # members a fold
    validation_fraction: float = Field(gt=0, lt=1)  # of a fold's training planets
    calibration_fraction: float = Field(gt=0, lt=1)  # of all planets, never trained on
    seed: StrictInt = Field(ge=0)  # of folds, weights, order and dropout
