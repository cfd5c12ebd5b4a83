"""Synthetic evidence: a posterior that is right, or wrong in a chosen way."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from spectramind.diagnose.evidence import Evidence, OutOfFold
from spectramind.diagnose.metrics import naive_statistics
from spectramind.diagnose.report import write_dashboard
from spectramind.diagnose.settings import DiagnosticsConfig
from spectramind.instrument import wavelength_um
from spectramind.observation import Labels, TransitFit, VisitFit
from spectramind.posterior import SpectrumPosterior
from spectramind.uq.calibration import gaussian_half_width

DASHBOARD = Path(__file__).parents[2] / "configs" / "diagnostics" / "dashboard.yaml"
SIGMA = 6e-5


def posterior(depth, rng, *, claimed=1.0, bias=0.0, correlated=0.0):
    """Posterior whose z is normal with standard deviation 1/claimed and mean -bias/claimed."""
    planets, wavelengths = depth.shape
    shared = rng.standard_normal((planets, 1)) * np.sqrt(correlated)
    own = rng.standard_normal((planets, wavelengths)) * np.sqrt(1.0 - correlated)
    mu = depth + SIGMA * (shared + own + bias)
    sigma = np.full_like(mu, SIGMA * claimed)
    return SpectrumPosterior(torch.from_numpy(mu), torch.from_numpy(sigma))


def spectra(planets, rng):
    um = wavelength_um()
    base = rng.uniform(0.005, 0.02, (planets, 1))
    band = np.exp(-0.5 * ((um - 2.7) / 0.15) ** 2) + 0.7 * np.exp(-0.5 * ((um - 3.3) / 0.1) ** 2)
    return base * (1.0 + rng.uniform(0.01, 0.05, (planets, 1)) * band)


def transit_fit(planet, depth, rng, points=225):
    time = np.linspace(0.0, 7.5, points)
    inside = (np.abs(time - 3.75) < 1.3)[:, None]
    model = 1.0 - inside * depth
    fine = np.linspace(0.0, 7.5, 1024)
    fgs1 = 1.0 - (np.abs(fine - 3.75) < 1.3) * depth[0]
    visit = VisitFit(
        visit=0,
        time_h=time,
        flux=(model + 1e-3 * rng.standard_normal(model.shape)).astype(np.float32),
        model=model.astype(np.float32),
        electrons=np.full(283, 1e6, np.float32),
        fgs1_time_h=fine,
        fgs1_flux=(fgs1 + 3e-4 * rng.standard_normal(1024)).astype(np.float32),
        fgs1_model=fgs1.astype(np.float32),
        fgs1_centroid=np.zeros((1024, 2), np.float32),
    )
    return TransitFit(
        planet_id=planet,
        depth=depth,
        sigma=np.full(283, 2e-4),
        own_sigma=np.full(283, 2e-4),
        widening=np.ones(2),
        covariance=np.diag(np.full(283, 4e-8)),
        scale=np.ones(2),
        level_sigma=0.0,
        information=np.diag(np.full(283, 2.5e7)),
        vector=2.5e7 * depth,
        measured_sigma=np.full(283, 3e-4),
        parameter_names=("t0",),
        parameters=np.array([3.75]),
        parameter_covariance=np.array([[1e-6]]),
        limb_darkening=np.full((283, 2), 0.2),
        limb_pull=np.zeros(4),
        reduced_chi2=1.03,
        reasons=(),
        visits=(visit,),
    )


def row(stage, *, sha="a" * 40, dirty=False):
    return {
        "stage": stage, "config_hash": "c0ffee", "data_hash": "da7a", "git_sha": sha,
        "git_dirty": dirty, "version": "0.1.0", "seed": 1337, "created": "2026-01-01T00:00:00",
    }  # fmt: skip


@pytest.fixture
def provenance():
    return row


def dashboard_settings(**changes):
    return DiagnosticsConfig(**{**yaml.safe_load(DASHBOARD.read_text()), **changes})


def evidence_of(rng, planets=24, *, known=True, correlated=0.3, claimed=1.0, bias=0.0, **changes):
    depth, train = spectra(planets, rng), spectra(60, rng)
    ids = np.arange(1000, 1000 + planets)
    wrong = {"claimed": claimed, "bias": bias, "correlated": correlated}
    ours = posterior(depth, rng, **wrong)
    values = {
        "year": 2025,
        "planet_ids": ids,
        "wavelength_um": wavelength_um(),
        "predicted": ours,
        "fit": posterior(depth, rng, claimed=3.0),
        "intervals": {level: ours.interval(gaussian_half_width(level)) for level in (0.68, 0.9)},
        "calibration_planets": None,
        "truth": Labels(ids, depth) if known else None,
        "naive": naive_statistics(train),
        "oof": OutOfFold(posterior(train, rng, **wrong), Labels(np.arange(60), train)),
        "provenance": [row(stage) for stage in ("calibrate", "fit", "train")],
        "stage_seconds": {"calibrate": 20.5, "fit": 61.0, "train": 200.0},
        "fits": [transit_fit(int(ids[i]), depth[i], rng) for i in range(planets)],
        "command": "spectramind diagnose dashboard experiment=demo",
    }
    return Evidence(**{**values, **changes})


@pytest.fixture
def settings():
    return dashboard_settings


@pytest.fixture
def make_evidence(rng):
    return partial(evidence_of, rng)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory):
    """One dashboard of good evidence: report, page and JSON."""
    out = tmp_path_factory.mktemp("dashboard")
    report = write_dashboard(evidence_of(np.random.default_rng(1)), dashboard_settings(), out)
    return report, report.html.read_text(), json.loads(report.json.read_text())
