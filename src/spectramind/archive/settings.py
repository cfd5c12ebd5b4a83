"""Settings of the archive (`configs/data`)."""

from typing import Literal

from pydantic import model_validator

from spectramind.settings import Settings, UserPath


class DataConfig(Settings):
    """Which archive is read."""

    name: Literal["sim", "kaggle", "lightcurves"]  # simulated here, of the challenge, or foreign
    root: UserPath  # folder of the archive
    level: Literal["frames", "lightcurves"]  # raw uint16 frames, or light curves
    splits: tuple[Literal["train", "test"], ...]  # planets that calibrate and fit work on

    @model_validator(mode="after")
    def _some_splits(self) -> "DataConfig":
        if not self.splits or len(set(self.splits)) < len(self.splits):
            raise ValueError("data.splits names train, test or both, each once")
        return self

    @model_validator(mode="after")
    def _challenge_has_frames(self) -> "DataConfig":
        if self.name == "kaggle" and self.level != "frames":
            raise ValueError("data.level must be frames for data=kaggle: it has no light curves")
        if self.name == "lightcurves" and self.level != "lightcurves":
            raise ValueError("data.level must be lightcurves for data=lightcurves: no frames")
        return self
