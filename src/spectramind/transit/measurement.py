"""What the light curves of a planet would have said of other spectra.

Same data and same posterior as the fit's (`PriorOnDevice`), without the covariance of each
spectrum, which would cost far more than all the rest: one eigendecomposition serves all spectra.
"""

import numpy as np
import torch
from jaxtyping import Float64

from spectramind.transit.spectrum_prior import PriorOnDevice


class Measurement:
    """A fit's information A on depths, together with the prior that the fit was made with."""

    def __init__(self, information: Float64[np.ndarray, "W W"], prior: PriorOnDevice) -> None:
        values, vectors = np.linalg.eigh(information)
        root = np.sqrt(np.maximum(values, 0.0))  # rounding may leave some below 0
        self.noise = torch.from_numpy((vectors * root).T)
        self.information = self.noise.T @ self.noise
        self.prior = prior
        self.seen = prior.see(self.information[None])

    def observe(
        self,
        spectra: Float64[np.ndarray, "K W"],
        log_scale: float,
        rng: np.random.Generator,
    ) -> tuple[Float64[np.ndarray, "K W"], Float64[np.ndarray, "K W"]]:
        """Depths and their standard deviations that the fit would have given.

        Args:
            spectra: True depths (Rp/Rs)^2.
            log_scale: `log_signal` of the planet.
            rng: Draws the noise of the light curves.
        """
        drawn = torch.from_numpy(rng.standard_normal(spectra.shape))
        vector = torch.from_numpy(spectra) @ self.information + drawn @ self.noise
        scale = torch.tensor([log_scale], dtype=torch.float64)  # one for all: it costs once
        depth, variance = self.prior.marginals(self.seen, vector, scale)
        return depth.numpy(), variance.sqrt().numpy()
