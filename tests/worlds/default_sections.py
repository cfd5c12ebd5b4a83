"""Committed settings, and a prior over spectra wide enough for any of them."""

from functools import cache

import numpy as np
from spectral_process import SURE, exponential

from spectramind import config
from spectramind.simulate.settings import SimulateConfig
from spectramind.transit.settings import TransitConfig
from spectramind.transit.spectrum_prior import SpectrumPrior


@cache
def _default() -> config.Config:
    return config.load([])


def default_simulate() -> SimulateConfig:
    return _default().simulate


def default_spectrum_prior() -> tuple[TransitConfig, SpectrumPrior]:
    x = np.linspace(0.0, 1.0, 282)
    waves = np.array([np.sin(3.0 * k * x) for k in range(1, 9)])
    waves -= waves.mean(1, keepdims=True)
    first = np.linspace(-0.5, 0.5, 8)[:, None]
    return _default().transit, SpectrumPrior(
        level=(0.012, 0.01),
        shape=np.zeros(283),
        components=np.concatenate([first, waves], axis=1),
        process=exponential(np.append(1.0, np.full(282, 0.5)), 0.1),
        amplitude=(np.log(1e-4), 0.0, 1.0),
        planets=100,
        typical=(-9.0, 1.0),
        least=1e-6,
        shares=SURE,
    )
