"""Whether limb darkening lies where the priors expect it, over all planets of an archive."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NAMES = ("u1 of FGS1", "u2 of FGS1", "u1 of AIRS-CH0", "u2 of AIRS-CH0")
_FAR = 1.0  # distance of a median from its prior that matters [scatters of the prior]
_CHANCE = 4.0  # over the root of the number of planets: distance that chance explains


@dataclass(frozen=True)
class LimbShift:
    """The coefficient whose median lies furthest from its prior."""

    name: str
    distance: float  # [scatters of the prior]
    planets: int

    @property
    def far(self) -> bool:
        """Whether that matters and is more than chance."""
        enough = max(_FAR, _CHANCE / max(self.planets, 1) ** 0.5)
        return abs(self.distance) > enough

    @property
    def sentence(self) -> str:
        """What is said of it."""
        lies = (
            f"{self.name} lies {self.distance:+.1f} prior scatters from the expected value in the "
            f"median of {self.planets} planets"
        )
        if not self.far:
            return lies
        return (
            f"{lies}: stars, or the law of limb darkening, are not those of the priors, so all "
            "depths may be off together"
        )


def limb_shift(pulls: Sequence[Sequence[float]]) -> LimbShift:
    """Of `TransitFit.limb_pull` of planets, flagged ones too: far limb darkening flags them."""
    if not pulls:
        return LimbShift(_NAMES[0], 0.0, 0)
    medians = np.median(np.asarray(pulls, dtype=np.float64), axis=0)
    worst = int(np.argmax(np.abs(medians)))
    return LimbShift(_NAMES[worst], float(medians[worst]), len(pulls))
