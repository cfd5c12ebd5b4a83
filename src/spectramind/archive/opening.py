"""Archives of every kind: what the stages need to know of one, and the one place to open them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from spectramind.archive.layout import Split, Year, open_archive
from spectramind.archive.settings import DataConfig
from spectramind.observation import Labels, Star


@runtime_checkable
class PlanetArchive(Protocol):
    """Planets of two splits, their stars, and the true spectra of the training planets."""

    @property
    def root(self) -> Path:
        """Folder of the archive."""
        ...

    @property
    def year(self) -> Year:
        """Challenge whose metric scores the spectra."""
        ...

    @property
    def label_table(self) -> Path:
        """Where the true spectra of training planets lie, if there are any."""
        ...

    @property
    def for_retrieval(self) -> bool:
        """Whether spectra are written for retrieval codes too, not for a submission alone."""
        ...

    def planets(self, split: Split) -> Sequence[int]:
        """Planets that have data, ascending."""
        ...

    def listed(self, split: Split) -> Sequence[int]:
        """Planets that a table of the split names, with data or without."""
        ...

    def expected(self) -> set[int]:
        """Test planets that a prediction must hold, with data or without."""
        ...

    def stars(self, split: Split) -> Mapping[int, Star]:
        """Stars by planet, without those that are not known."""
        ...

    def labels(self) -> Labels:
        """True spectra of training planets; of none where there are no labels."""
        ...

    def wavelength_um(self) -> Float64[np.ndarray, " 283"]:
        """Scored wavelengths [um]: FGS1, then AIRS-CH0 increasing."""
        ...

    def problems(self, split: Split) -> list[str]:
        """What of a split is left out or contradicts a table, one sentence per kind."""
        ...


def open_data(data: DataConfig) -> PlanetArchive:
    """The archive that `data` names.

    Raises:
        DataError: If there is none at `data.root`.
    """
    if data.name == "lightcurves":
        from spectramind.archive.foreign import open_foreign  # xarray takes a second to import

        return open_foreign(data.root)
    return open_archive(data.root)


def stars_of(
    archive: PlanetArchive, split: Split, planets: Iterable[int]
) -> dict[int, Star | None]:
    """Star of each planet; None where the archive knows nothing usable, as `problems` says."""
    known = archive.stars(split)
    return {planet: known.get(planet) for planet in planets}
