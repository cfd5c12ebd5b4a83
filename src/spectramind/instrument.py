"""Facts of the two Ariel channels as the challenge delivers them.

Sources: the hosts' data description and the public axis table of the 2025 challenge. Frame
counts and cadences of an archive are read from its files; the nominal ones here are what the
simulator writes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the settings need these facts, and numpy takes long to load
    import numpy as np
    from numpy.typing import NDArray

WAVELENGTHS = 283  # scored wavelengths: FGS1 first, then AIRS-CH0 with increasing wavelength
FGS1_WAVELENGTH_UM = 0.7
FGS1_BAND_UM = (0.60, 0.80)
WINDOW_H = 7.5  # length of one visit
SCORED_COLUMNS = slice(39, 321)  # columns of AIRS-CH0 that are scored, in detector order
LINEARITY_ORDER = 6  # coefficients c0..c5, ascending

# Wavelength of AIRS-CH0 column x: c0 + c1 x + c2 x^2 [um]; falls with x.
_DISPERSION_UM = (4.0784631408988705, -0.004433634065929632, -6.913472144801841e-06)


@dataclass(frozen=True)
class Channel:
    """One detector and the times of its read pairs.

    A read pair is one reset: the first read `read_s[0]` after it, the second `read_s[1]` after
    it; their difference is the flux of one exposure (correlated double sampling).
    """

    name: str  # as in the archive's file names
    rows: int
    columns: int
    cadence_s: float  # nominal time between read pairs [s]
    read_s: tuple[float, float]  # charge accumulation time of the two reads of a pair [s]

    @property
    def shape(self) -> tuple[int, int]:
        """Detector shape (rows, columns)."""
        return self.rows, self.columns

    @property
    def pixels(self) -> int:
        """Number of pixels, which is the number of columns of a signal file."""
        return self.rows * self.columns

    @property
    def exposure_s(self) -> float:
        """Time over which the difference of a pair collects light [s]."""
        return self.read_s[1] - self.read_s[0]

    @property
    def pairs(self) -> int:
        """Nominal number of read pairs in a visit."""
        return round(WINDOW_H * 3600.0 / self.cadence_s)


FGS1 = Channel("FGS1", rows=32, columns=32, cadence_s=0.4, read_s=(0.1, 0.2))
AIRS = Channel("AIRS-CH0", rows=32, columns=356, cadence_s=4.8, read_s=(0.1, 4.6))
CHANNELS = (FGS1, AIRS)


def detector_wavelength_um() -> "NDArray[np.float64]":
    """Wavelength of each AIRS-CH0 column, shape (356,), decreasing [um]."""
    import numpy as np

    column = np.arange(AIRS.columns, dtype=np.float64)
    c0, c1, c2 = _DISPERSION_UM
    return c0 + c1 * column + c2 * column**2


def wavelength_um() -> "NDArray[np.float64]":
    """Scored wavelengths, shape (283,): FGS1, then AIRS-CH0 increasing [um]."""
    import numpy as np

    return np.concatenate([[FGS1_WAVELENGTH_UM], to_scored(detector_wavelength_um())])


def airs_edges_um() -> "NDArray[np.float64]":
    """Edges of the 282 scored AIRS-CH0 bins, shape (283,): midway between columns [um]."""
    column = detector_wavelength_um()
    between = 0.5 * (column[1:] + column[:-1])
    return between[SCORED_COLUMNS.start - 1 : SCORED_COLUMNS.stop][::-1]


def to_scored(detector_columns: "NDArray") -> "NDArray":
    """Crop the last axis (356 detector columns) to the 282 scored ones, wavelength increasing."""
    return detector_columns[..., SCORED_COLUMNS][..., ::-1]
