"""Inputs without the fit, for benchmarks/ablation.py: light curves as they are, binned in time."""

import numpy as np
from jaxtyping import Float64, Int64

from spectramind.calibrate.cache import LightCurveStore
from spectramind.config import Config
from spectramind.observation import LightCurves
from spectramind.stages.folders import store_folder
from spectramind.training.data import FeatureTable
from spectramind.training.features import PLANET_FEATURES

BINS, SERIES_BINS = 40, 1024  # of each wavelength, of the FGS1 series
_STAR = slice(PLANET_FEATURES.index("star_known"), PLANET_FEATURES.index("cos_inclination") + 1)


def fitless_table(
    table: FeatureTable,
    teach: Int64[np.ndarray, " T"],
    truth: Float64[np.ndarray, "B 283"],
    config: Config,
) -> FeatureTable:
    """The same planets, told by their first visit's light curves and the star table alone.

    The network then corrects the mean spectrum of the training planets in units of its scatter.
    """
    store = LightCurveStore(store_folder(config))
    seen = [store.read("train", planet, 0) for planet in table.planet_ids.tolist()]
    known = truth[np.searchsorted(table.planet_ids, teach)]
    shape = truth.shape
    return FeatureTable(
        table.planet_ids,
        np.stack([_nodes(curves) for curves in seen]).astype(np.float32),
        np.stack([_series(curves) for curves in seen]).astype(np.float32)[:, None, None],
        np.ones((len(seen), 1, SERIES_BINS), dtype=bool),
        np.arange(len(seen)),
        table.planet[:, _STAR],
        np.broadcast_to(known.mean(0), shape).copy(),
        np.broadcast_to(known.std(0), shape).copy(),
        np.broadcast_to(known.std(0), shape).copy(),
    )


def _nodes(curves: LightCurves) -> Float64[np.ndarray, "283 T"]:
    """Flux over its median in equal bins of time; FGS1 first."""
    airs = _binned(curves.airs_e.astype(np.float64), BINS)
    fgs1 = _binned(curves.fgs1_e.astype(np.float64)[:, None], BINS)
    flux = np.concatenate([fgs1, airs], axis=1).T
    return flux / np.maximum(np.median(flux, axis=1, keepdims=True), 1.0)


def _series(curves: LightCurves) -> Float64[np.ndarray, " L"]:
    flux = _binned(curves.fgs1_e.astype(np.float64)[:, None], SERIES_BINS)[:, 0]
    return flux / np.median(flux)


def _binned(flux: Float64[np.ndarray, "T W"], bins: int) -> Float64[np.ndarray, "N W"]:
    edges = np.linspace(0, len(flux), bins + 1).astype(int)
    return np.add.reduceat(flux, edges[:-1]) / np.diff(edges)[:, None]
