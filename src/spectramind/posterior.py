"""The one object that losses, ensembles, temperature, intervals and exports read."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False)
class SpectrumPosterior:
    """Independent Gaussians over the spectrum of each planet, N(mu, sigma^2).

    Shapes: B planets, W wavelengths; depths (Rp/Rs)^2, dimensionless.
    """

    mu: Float[Tensor, "B W"]
    sigma: Float[Tensor, "B W"]

    def log_prob(self, depth: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """Log density at each wavelength [nat]: -((y - mu)/sigma)^2/2 - ln sigma - ln(2 pi)/2."""
        return -0.5 * self.z(depth) ** 2 - torch.log(self.sigma) - 0.5 * _LOG_2PI

    def z(self, depth: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """Normalised residual (y - mu) / sigma."""
        return (depth - self.mu) / self.sigma

    def scaled(self, temperature: Float[Tensor, " W"] | float) -> "SpectrumPosterior":
        """Same mean, sigma multiplied by `temperature` (one for all or one a wavelength)."""
        return type(self)(self.mu, self.sigma * temperature)

    def interval(
        self, half_width: Float[Tensor, " W"] | float
    ) -> tuple[Float[Tensor, "B W"], Float[Tensor, "B W"]]:
        """Lower and upper end of mu -+ half_width * sigma."""
        reach = half_width * self.sigma
        return self.mu - reach, self.mu + reach

    @classmethod
    def mixture(cls, members: list["SpectrumPosterior"]) -> "SpectrumPosterior":
        """Moments of the equal mixture of members: the spread of the means joins the variance.

        Args:
            members: At least one posterior of the same planets.

        Returns:
            mu = mean_m mu_m and sigma^2 = mean_m sigma_m^2 + var_m mu_m (population variance).
        """
        mu = torch.stack([member.mu for member in members])
        variance = torch.stack([member.sigma**2 for member in members]).mean(0)
        return cls(mu.mean(0), torch.sqrt(variance + mu.var(0, correction=0)))
