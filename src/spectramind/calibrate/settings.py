"""The section `calibration` of the configuration."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt, model_validator

from spectramind.instrument import AIRS, FGS1
from spectramind.settings import Settings

Row = Annotated[StrictInt, Field(ge=0, le=AIRS.rows)]


class CalibrationConfig(Settings):
    """Which steps run, and where on the detector."""

    cache: StrictBool  # reuse light curves of the same settings and source files
    adc: StrictBool  # counts to electrons
    linearity: StrictBool  # detector non-linearity, one polynomial per pixel
    dark: StrictBool  # dark current
    flat: StrictBool  # relative response of the pixels
    foreground: StrictBool  # additive background light
    cosmic_rays: StrictBool  # rejection in time, pixel by pixel
    dead_pixels: Literal["inpaint", "zero_weight"]  # zero_weight: rescale by the mean trace
    hot_mask: StrictBool  # treat hot pixels like dead ones
    hot_sigma: float = Field(gt=0.0)  # [sigma] of the dark map above which a pixel is hot
    airs_rows: tuple[Row, Row]  # [pixel] rows summed, half open
    airs_foreground_rows: StrictInt = Field(ge=1, le=AIRS.rows // 2)  # [pixel] on each side
    fgs1_aperture: StrictInt = Field(ge=1, le=FGS1.rows)  # [pixel] side of the square summed
    fgs1_foreground_pixels: StrictInt = Field(ge=1, lt=FGS1.pixels)  # [pixels] measuring it
    foreground_smooth_s: float = Field(ge=0.0)  # [s] running mean of the foreground; 0: none
    cosmic_sigma: float = Field(ge=3.0)  # [sigma] of a pixel's noise in time

    @model_validator(mode="after")
    def _consistent(self) -> "CalibrationConfig":
        first, last = self.airs_rows
        if first >= last:
            raise ValueError(
                f"calibration.airs_rows is [{first}, {last}], expected first < last (half open)."
            )
        if not self.adc and (self.linearity or self.dark):
            raise ValueError(
                "calibration.linearity and calibration.dark work on electrons and need "
                "calibration.adc=true; switch them off too."
            )
        outer = self.airs_foreground_rows
        if self.foreground and (first < outer or last > AIRS.rows - outer):
            raise ValueError(
                f"calibration.airs_rows [{first}, {last}] overlaps the {outer} foreground rows on "
                f"each side; use rows within [{outer}, {AIRS.rows - outer}]."
            )
        return self
