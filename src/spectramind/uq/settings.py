"""Settings of the error bars (`configs/uq`)."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt, field_validator

from spectramind.settings import Settings

NOT_RELATIONAL = (
    "uq.corel=true: the relational (graph) version is not built yet; the intervals are split "
    "conformal, each wavelength for itself."
)


class UQConfig(Settings):
    """How uncertainty is estimated and corrected."""

    epistemic: Literal["ensemble", "mc_dropout"]  # where the spread of the mean comes from
    mc_samples: Annotated[StrictInt, Field(ge=2)]  # forward passes of mc_dropout
    temp_scale: StrictBool  # multiply sigma by the temperature fitted out of fold
    corel: StrictBool  # conformal intervals instead of Gaussian ones
    levels: Annotated[tuple[float, ...], Field(min_length=1)]  # coverage of the intervals

    @field_validator("levels")
    @classmethod
    def _increasing_inside_0_1(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        inside = all(0.0 < level < 1.0 for level in levels)
        if not inside or list(levels) != sorted(set(levels)):
            raise ValueError("wanted increasing numbers between 0 and 1, for example [0.68, 0.9]")
        return levels
