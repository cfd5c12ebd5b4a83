"""The committed calibration settings."""

from pathlib import Path

import pytest
import yaml

from spectramind.calibrate.settings import CalibrationConfig


@pytest.fixture(scope="session")
def config() -> CalibrationConfig:
    path = Path(__file__).parents[2] / "configs" / "calibration" / "default.yaml"
    return CalibrationConfig(**yaml.safe_load(path.read_text()))
