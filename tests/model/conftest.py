"""A small V50 and random batches."""

from copy import deepcopy
from functools import cache

import pytest
import torch

from spectramind.config import dump, load
from spectramind.model.network import V50, Batch, FeatureSizes
from spectramind.model.settings import ModelConfig

SIZES = FeatureSizes(nodes=5, series=3, planet=4)


@cache
def committed(*overrides: str) -> dict:
    return dump(load(list(overrides)))["model"]


@pytest.fixture
def model_values() -> dict:
    """The committed values, shrunk."""
    values = deepcopy(committed())
    values["encoders"]["fgs1"] |= {"d_model": 8, "n_layers": 2, "d_state": 4}
    values["fusion"] |= {"channels": 2, "width": 8, "patterns": 4}
    values["encoders"]["airs"] |= {"hidden": 8, "layers": 2, "heads": 2}
    values["decoders"]["mu"]["hidden"] = [8]
    values["decoders"]["sigma"]["hidden"] = [8]
    values["decoders"]["covariance"]["hidden"] = [8]
    return values


@pytest.fixture
def diffusion_values() -> dict:
    """The committed values of the diffusion decoder, shrunk."""
    values = committed("decoders=diffusion")["decoders"]["diffusion"]
    return values | {"width": 8, "layers": 2, "components": 4, "steps": 3, "samples": 8}


@pytest.fixture
def config(model_values) -> ModelConfig:
    return ModelConfig.model_validate(model_values)


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(3)
    depth = 0.01 + 1e-4 * torch.randn(3, 283, dtype=torch.float64)
    mask = torch.ones(3, 2, 70, dtype=torch.bool)
    mask[0, 1] = False
    mask[1, :, 60:] = False
    return Batch(
        torch.randn(3, 283, SIZES.nodes),
        torch.randn(3, 2, SIZES.series, 70),
        mask,
        torch.randn(3, SIZES.planet),
        depth,
        1e-4 * torch.tensor([[1.0], [1.25], [5.0]]).double().expand(-1, 283),
        torch.full_like(depth, 1e-4),
        torch.randn(3, 283),
    )


@pytest.fixture
def network(config) -> V50:
    """Evaluation mode, heads perturbed away from zero."""
    return perturbed(config)


def perturbed(config: ModelConfig) -> V50:
    torch.manual_seed(4)
    made = V50(config, SIZES).eval()
    with torch.no_grad():
        for head in (made.mu, made.log_scale):
            head.last.weight.normal_()
            head.last.bias.normal_()
    return made
