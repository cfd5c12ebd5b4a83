"""The process of a prior over spectra, written down by hand."""

import numpy as np

from spectramind.instrument import wavelength_um
from spectramind.transit.spectrum_prior import SCALES

SURE = np.eye(len(SCALES))[SCALES.index(1.0)]  # all planets have a process of scale 1


def exponential(scatter, length_um: float) -> np.ndarray:
    """Covariance that falls with distance in wavelength; FGS1 stands alone."""
    um = wavelength_um()
    correlation = np.exp(-np.abs(np.subtract.outer(um, um)) / length_um)
    correlation[0, 1:] = correlation[1:, 0] = 0.0
    return np.multiply.outer(scatter, scatter) * correlation
