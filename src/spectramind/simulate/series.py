"""Series in time: correlated noise at the full cadence of FGS1, and means over exposures."""

import numpy as np
from jaxtyping import Float64
from scipy.signal import lfilter

from spectramind.instrument import FGS1, Channel


def correlated(rng: np.random.Generator, time_s: float) -> Float64[np.ndarray, " N"]:
    """Ornstein-Uhlenbeck series of unit variance at each read pair of FGS1.

    Args:
        rng: Its random stream.
        time_s: Correlation time [s].
    """
    keep = np.exp(-FGS1.cadence_s / time_s)
    shock = np.sqrt(1.0 - keep**2) * rng.standard_normal(FGS1.pairs)
    shock[0] = rng.standard_normal()
    return np.asarray(lfilter([1.0], [1.0, -keep], shock))


def averaged(
    full: Float64[np.ndarray, "K N"], channel: Channel, merged: int
) -> Float64[np.ndarray, "K T"]:
    """Means of series at the full FGS1 cadence over the merged exposures of a channel."""
    return full.reshape(len(full), channel.pairs // merged, -1).mean(2)
