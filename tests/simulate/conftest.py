from pathlib import Path

import pytest
import torch
import yaml

from spectramind.provenance import describe
from spectramind.simulate.settings import SimulateConfig
from spectramind.simulate.writer import simulate_archive

DEFAULT = Path(__file__).parents[2] / "configs" / "simulate" / "default.yaml"


def settings(effects=None, **changes):
    """The committed settings with changes; sections are merged."""
    values = yaml.safe_load(DEFAULT.read_text())
    values["effects"].update(effects or {})
    for key, value in changes.items():
        if isinstance(value, dict):
            values[key].update(value)
        else:
            values[key] = value
    return SimulateConfig(**values)


@pytest.fixture
def make_settings():
    return settings


@pytest.fixture(scope="session")
def write_archive():
    def write(root, config=None, level="frames", code="k", **changes):
        config = config or settings(**changes)
        provenance = describe(
            stage="simulate", config_hash="-", code_hash=code, data_hash="", seed=config.seed
        )
        return simulate_archive(
            config,
            root=root,
            level=level,
            workers=1,
            device=torch.device("cpu"),
            provenance=provenance,
        )

    return write
