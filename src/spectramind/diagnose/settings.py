"""Settings of the dashboard and constants of the score (`configs/diagnostics`)."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, StrictBool, StrictInt, model_validator

from spectramind.errors import ConfigError
from spectramind.settings import Settings

if TYPE_CHECKING:
    import numpy as np


class MetricConfig(Settings):
    """Constants of the metrics; that of 2024 has one weight and one ideal error for all points."""

    fgs_weight: PositiveFloat  # weight of the FGS1 point beside 1 for each AIRS-CH0 point
    fgs1_sigma_true: PositiveFloat  # ideal error of FGS1 [(Rp/Rs)^2]
    airs_sigma_true: PositiveFloat  # ideal error of AIRS-CH0, in 2024 of all points [(Rp/Rs)^2]
    naive: Literal["labels", 2024, 2025]  # where the guess that scores 0 is from
    naive_2024: tuple[PositiveFloat, PositiveFloat]  # published mean and sigma [(Rp/Rs)^2]
    naive_2025: tuple[PositiveFloat, PositiveFloat]

    def sigma_true(self, wavelengths: int) -> "np.ndarray":
        """Ideal error at each wavelength, shape (W,)."""
        import numpy as np

        sigma = np.full(wavelengths, self.airs_sigma_true)
        sigma[0] = self.fgs1_sigma_true
        return sigma


class DiagnosticsConfig(Settings):
    """What the dashboard shows."""

    metric: MetricConfig  # constants of the score
    planets: Annotated[StrictInt, Field(ge=1, le=60)]  # spectra and light curves shown, at most
    shap: StrictBool  # attribution to features; not part of this version
    fft_residuals: StrictBool  # power spectrum of the residuals over wavelength
    umap: StrictBool  # map of the latent space; not part of this version
    gnn_explain: StrictBool  # attribution to graph edges; not part of this version
    export_html: StrictBool  # write dashboard.html beside dashboard.json and spectra.png

    @model_validator(mode="after")
    def _refuse_what_is_not_built(self) -> "DiagnosticsConfig":
        built_later = {"shap": self.shap, "umap": self.umap, "gnn_explain": self.gnn_explain}
        for name, wanted in built_later.items():
            if wanted:
                raise ConfigError(
                    f"diagnostics.{name}: true is not part of this version, wanted false. Set "
                    f"diagnostics.{name}=false."
                )
        return self
