"""Small settings, and archives of synthetic fits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from biased_fits import STAR, make_fit

from spectramind.config import load
from spectramind.model.network import V50
from spectramind.model.settings import ModelConfig
from spectramind.observation import Labels
from spectramind.provenance import Provenance
from spectramind.training.data import Batches, Samples, Scaling, feature_table
from spectramind.training.module import Place, TrainingData, train_network
from spectramind.training.settings import TrainingConfig
from spectramind.training.store import SIZES

SMALL_MODEL = {
    "encoders": {
        "fgs1": {
            "type": "mamba", "d_model": 8, "n_layers": 1, "dropout": 0.1, "d_state": 4,
            "d_conv": 4, "expand": 2, "stride": 16, "bidirectional": False,
        },
        "airs": {
            "type": "gnn", "gnn_type": "gat", "hidden": 8, "layers": 1, "heads": 2,
            "dropout": 0.1, "edge_types": ["adjacent", "molecule", "detector"],
            "neighbours": 4, "detector_block": 47,
        },
    },
    "fusion": {"type": "concat", "channels": 2, "width": 8, "patterns": 4, "dropout": 0.1},
    "decoders": {
        "mu": {"hidden": [16]},
        "sigma": {"hidden": [16], "max_log_scale": 2.3},
        "covariance": {"rank": 0, "hidden": [16], "weight": 0.1},
        "diffusion": None,
    },
    "loss": {
        "gll_weight": 1.0, "smooth_l2_weight": 0.1, "fft_suppress_weight": 0.05,
        "asymmetry_weight": 0.1, "negativity_weight": 1.0, "coherence_weight": 0.1,
        "fgs1_weight": load([]).model.loss.fgs1_weight, "z_clip": 5.0, "fft_cutoff": 0.15,
    },
}  # fmt: skip
SMALL_TRAINING = {
    "optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.01, "batch_size": 8, "epochs": 3,
    "amp": False, "gradient_clip": 1.0, "early_stop_patience": 3, "folds": 2, "seeds": 1,
    "warmup_epochs": 0, "decay": "constant",
    "curriculum": {
        "masked": {
            "epochs": 0, "lr": 1e-2, "warmup_epochs": 0, "decay": "constant",
            "hidden_share": 0.3, "block": 8,
        },
        "contrastive": {
            "epochs": 0, "lr": 1e-2, "warmup_epochs": 0, "decay": "constant",
            "temperature": 0.1, "width": 8,
        },
    },
    "reobserved": 0, "start": None, "validation_fraction": 0.2, "calibration_fraction": 0.2,
    "seed": 1337,
}  # fmt: skip


@pytest.fixture(scope="session")
def model_config() -> ModelConfig:
    return ModelConfig.model_validate(SMALL_MODEL)


@pytest.fixture(scope="session")
def training_config() -> TrainingConfig:
    return TrainingConfig.model_validate(SMALL_TRAINING)


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    return Provenance(
        "train", "c" * 16, "e" * 16, "d" * 16, "none", False, "0", 1337, "2026-01-01"
    )


@pytest.fixture(scope="session")
def archive():
    """Fits, stars and labels of as many planets as asked for."""

    def make(count: int, *, bias: float = 1.5, first: int = 3):
        planets = [7 * i + first for i in range(count)]
        made = {p: make_fit(p, bias=bias, visits=1 + i % 2) for i, p in enumerate(planets)}
        fits = {planet: fit for planet, (fit, _) in made.items()}
        stars = {planet: replace(STAR, radius_rsun=1.0 + 1e-3 * planet) for planet in fits}
        labels = Labels(np.array(list(made)), np.stack([truth for _, truth in made.values()]))
        return fits, stars, labels

    return make


@pytest.fixture
def train_one(archive, model_config, tmp_path):
    """Train one network on twelve planets, four per batch, which also choose its epoch."""

    def make(config, folder="unfinished", *, bar=False, batches=Batches):
        fits, stars, labels = archive(12)
        table = feature_table(fits, stars)
        truth = torch.from_numpy(labels.of(table.planet_ids).depth)
        samples = Samples(Scaling.of(table).batch(table), truth, table.planet_ids)
        torch.manual_seed(6)
        data = TrainingData(batches(samples, size=4, seed=3), Batches(samples, size=4, seed=None))
        place = Place(
            torch.device("cpu"), 1, "none", tmp_path / "logs", tmp_path / folder, bar,
            precision="32-true",
        )  # fmt: skip
        return train_network(
            V50(model_config, SIZES), data, member="fold0_seed0", loss=model_config.loss,
            config=config, seed=9, place=place,
        )  # fmt: skip

    return make


@pytest.fixture
def train(train_one, training_config):
    """The same with the small settings and anything that a test changes."""

    def make(folder="unfinished", *, batches=Batches, **changes):
        return train_one(training_config.model_copy(update=changes), folder, batches=batches)

    return make
