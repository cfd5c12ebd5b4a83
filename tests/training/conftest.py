"""Synthetic fits with a known bias: what a network must be able to take out."""

from dataclasses import replace

import numpy as np
import pytest

from spectramind.model.network import ModelConfig
from spectramind.observation import Labels, Star, TransitFit, VisitFit
from spectramind.provenance import Provenance
from spectramind.training.settings import TrainingConfig

SMALL_MODEL = {
    "encoders": {
        "fgs1": {
            "type": "mamba", "d_model": 8, "n_layers": 1, "dropout": 0.1, "d_state": 4,
            "d_conv": 4, "expand": 2, "stride": 16,
        },
        "airs": {
            "type": "gnn", "gnn_type": "gat", "hidden": 8, "layers": 1, "heads": 2,
            "dropout": 0.1, "edge_types": ["adjacent", "molecule", "detector"],
            "neighbours": 4, "detector_block": 47,
        },
    },
    "fusion": {"type": "concat"},
    "decoders": {"mu": {"hidden": [16]}, "sigma": {"hidden": [16], "max_log_scale": 2.3}},
    "loss": {
        "gll_weight": 1.0, "smooth_l2_weight": 0.1, "fft_suppress_weight": 0.05,
        "fgs1_weight": 57.846, "z_clip": 5.0, "fft_cutoff": 0.15,
    },
}  # fmt: skip
SMALL_TRAINING = {
    "optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.01, "batch_size": 8, "epochs": 3,
    "amp": False, "gradient_clip": 1.0, "early_stop_patience": 3, "folds": 2, "seeds": 1,
    "validation_fraction": 0.2, "calibration_fraction": 0.2, "seed": 1337,
}  # fmt: skip


@pytest.fixture
def model_config() -> ModelConfig:
    return ModelConfig.model_validate(SMALL_MODEL)


@pytest.fixture
def training_config() -> TrainingConfig:
    return TrainingConfig.model_validate(SMALL_TRAINING)


@pytest.fixture
def provenance() -> Provenance:
    return Provenance("train", "c" * 16, "d" * 16, "none", False, "0", 1337, "2026-01-01")


def make_visit(rng: np.random.Generator, visit: int, depth: np.ndarray, bins: int) -> VisitFit:
    def shape(count: int) -> tuple[np.ndarray, np.ndarray]:
        time_h = (np.arange(count) + 0.5) * 7.5 / count
        return time_h, np.clip((1.6 - np.abs(time_h - 3.7)) / 0.3, 0.0, 1.0)

    time_h, coarse = shape(60)
    fine_h, fine = shape(bins)
    model = (1.0 - coarse[:, None] * depth).astype(np.float32)
    fgs1_model = (1.0 - fine * depth[0]).astype(np.float32)
    noise = rng.normal(0.0, 1e-4, model.shape).astype(np.float32)
    return VisitFit(
        visit=visit,
        time_h=time_h,
        flux=model + noise,
        model=model,
        fgs1_time_h=fine_h,
        fgs1_flux=fgs1_model + rng.normal(0.0, 1e-4, bins).astype(np.float32),
        fgs1_model=fgs1_model,
        fgs1_centroid=rng.normal(0.0, 0.01, (bins, 2)).astype(np.float32),
    )


def make_fit(
    planet_id: int, *, bias: float, visits: int = 1, bins: int = 150
) -> tuple[TransitFit, np.ndarray]:
    """A fit whose depths lie `bias` sigma above a flat, slightly tilted truth."""
    rng = np.random.default_rng(planet_id)
    truth = rng.uniform(0.005, 0.02) * (1.0 + 1e-3 * rng.normal() * np.linspace(-1, 1, 283))
    sigma = 1e-4 * rng.uniform(0.8, 1.2) * np.linspace(1.0, 2.0, 283)
    depth = truth + sigma * (bias + rng.normal(size=283))
    fit = TransitFit(
        planet_id=planet_id,
        depth=depth,
        sigma=sigma,
        parameter_names=("a_rs", "b"),
        parameters=np.array([10.0, 0.3]) + rng.normal(0.0, 0.05, 2),
        parameter_covariance=np.diag([0.01, 0.01]),
        limb_darkening=np.column_stack([np.linspace(0.4, 0.1, 283), np.full(283, 0.2)]),
        reduced_chi2=float(rng.uniform(0.9, 1.1)),
        reasons=(),
        visits=tuple(make_visit(rng, visit, depth, bins) for visit in range(visits)),
    )
    return fit, truth


STAR = Star(1.2, 1.1, 5900.0, 0.9, 0.0, 5.2, 10.5, 88.5)


@pytest.fixture
def archive():
    """Fits, stars and labels of as many planets as asked for."""

    def make(count: int, *, bias: float = 1.5):
        made = {7 * i + 3: make_fit(7 * i + 3, bias=bias, visits=1 + i % 2) for i in range(count)}
        fits = {planet: fit for planet, (fit, _) in made.items()}
        stars = {planet: replace(STAR, radius_rsun=1.0 + 1e-3 * planet) for planet in fits}
        labels = Labels(np.array(list(made)), np.stack([truth for _, truth in made.values()]))
        return fits, stars, labels

    return make
