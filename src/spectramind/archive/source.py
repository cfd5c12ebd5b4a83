"""What the fit asks of light curves, whoever made them."""

from typing import Protocol, runtime_checkable

from spectramind.archive.layout import Split
from spectramind.observation import LightCurves


@runtime_checkable
class LightCurveSource(Protocol):
    """Where the light curves of a planet come from; goes to the workers."""

    def curves(self, split: str, planet_id: int) -> list[LightCurves]:
        """Light curves of the visits of a planet."""
        ...

    def origin(self, split: str, planet_id: int) -> str:
        """Hash of what the light curves of a planet are, without reading them."""
        ...


@runtime_checkable
class ListedCurves(LightCurveSource, Protocol):
    """A source that knows which planets and visits it has."""

    def planets(self, split: Split) -> list[int]:
        """Planets of a split that have light curves."""
        ...

    def visits(self, split: str, planet_id: int) -> list[int]:
        """Visits of a planet."""
        ...
