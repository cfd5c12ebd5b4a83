"""The one object that losses, ensembles, temperature, intervals and exports read."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False)
class SpectrumPosterior:
    """Gaussian over the spectrum of each planet, N(mu, S) with diag S = sigma^2.

    Without factors the wavelengths are independent. With factors U, S = D + U U^T and the
    diagonal D = sigma^2 - sum_k U^2 is positive; `sigma` is the marginal one in both cases, and
    all but the joint methods read nothing else.

    Shapes: B planets, W wavelengths, K factors; depths (Rp/Rs)^2, dimensionless.
    """

    mu: Float[Tensor, "B W"]
    sigma: Float[Tensor, "B W"]
    factor: Float[Tensor, "B W K"] | None = None

    def log_prob(self, depth: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """Log density at each wavelength [nat]: -((y - mu)/sigma)^2/2 - ln sigma - ln(2 pi)/2."""
        return -0.5 * self.z(depth) ** 2 - torch.log(self.sigma) - 0.5 * _LOG_2PI

    def z(self, depth: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """Normalised residual (y - mu) / sigma."""
        return (depth - self.mu) / self.sigma

    def scaled(
        self, temperature: Float[Tensor, "B W"] | Float[Tensor, " W"] | float
    ) -> "SpectrumPosterior":
        """Same mean and correlations, sigma times `temperature`."""
        return self._with(self.sigma * temperature)

    def at_least(self, sigma: Float[Tensor, "B W"]) -> "SpectrumPosterior":
        """Same mean and correlations, the larger of both sigmas at each wavelength."""
        return self._with(torch.maximum(self.sigma, sigma))

    def mahalanobis(self, depth: Float[Tensor, "B W"]) -> Float[Tensor, " B"]:
        """(y - mu)^T S^-1 (y - mu); the sum of z^2 where there is no factor.

        Source: Woodbury identity, z^T D^-1 z - b^T M^-1 b with M = I + V^T D^-1 V and
        b = V^T D^-1 z, all in units of sigma (V = U / sigma).
        """
        z = self.z(depth)
        if self.factor is None:
            return z.square().sum(-1)
        loadings, rest, root = self._woodbury()
        b = torch.einsum("bwk,bw->bk", loadings, z / rest)[..., None]
        inner = torch.linalg.solve_triangular(root, b, upper=False)
        return (z.square() / rest).sum(-1) - inner.square().sum((-2, -1))

    def log_det(self) -> Float[Tensor, " B"]:
        """Ln det S.

        Source: matrix determinant lemma, ln det D + ln det M with M as in `mahalanobis`.
        """
        alone = 2.0 * torch.log(self.sigma).sum(-1)
        if self.factor is None:
            return alone
        _, rest, root = self._woodbury()
        logs = torch.log(torch.diagonal(root, dim1=-2, dim2=-1))
        return alone + torch.log(rest).sum(-1) + 2.0 * logs.sum(-1)

    def joint_log_prob(self, depth: Float[Tensor, "B W"]) -> Float[Tensor, " B"]:
        """Log density of whole spectra [nat]: -(y - mu)^T S^-1 (y - mu)/2 - ln det(2 pi S)/2."""
        constant = depth.shape[-1] * _LOG_2PI
        return -0.5 * (self.mahalanobis(depth) + self.log_det() + constant)

    def sample(
        self, noise: Float[Tensor, "S A W"], shared: Float[Tensor, "S A K"]
    ) -> Float[Tensor, "S B W"]:
        """Spectra mu + sqrt(D) noise + U shared from normal draws; A is B, or 1 for all."""
        if self.factor is None:
            return self.mu + self.sigma * noise
        own = torch.sqrt(self.sigma**2 - self.factor.square().sum(-1))
        return self.mu + own * noise + (self.factor * shared[:, :, None]).sum(-1)

    def interval(
        self, half_width: Float[Tensor, " W"] | float
    ) -> tuple[Float[Tensor, "B W"], Float[Tensor, "B W"]]:
        """Lower and upper end of mu -+ half_width * sigma."""
        reach = half_width * self.sigma
        return self.mu - reach, self.mu + reach

    def cpu(self) -> "SpectrumPosterior":
        """The same in main memory."""
        factor = None if self.factor is None else self.factor.cpu()
        return type(self)(self.mu.cpu(), self.sigma.cpu(), factor)

    @classmethod
    def mixture(cls, members: list["SpectrumPosterior"]) -> "SpectrumPosterior":
        """Moments of the equal mixture of members: the spread of the means joins the variance.

        Args:
            members: At least one posterior of the same planets, all with factors or none.

        Returns:
            mu = mean_m mu_m and sigma^2 = mean_m sigma_m^2 + var_m mu_m (population variance).
            Where members have factors, so has the mixture: theirs and the deviations of their
            means, each over sqrt(M). Its covariance is then exactly that of the mixture.
        """
        mu = torch.stack([member.mu for member in members])
        variance = torch.stack([member.sigma**2 for member in members]).mean(0)
        sigma = torch.sqrt(variance + mu.var(0, correction=0))
        factors = [member.factor for member in members if member.factor is not None]
        if not factors:
            return cls(mu.mean(0), sigma)
        if len(members) > 1:
            factors.append((mu - mu.mean(0)).movedim(0, -1))
        return cls(mu.mean(0), sigma, torch.cat(factors, dim=-1) / math.sqrt(len(members)))

    @classmethod
    def joined(cls, parts: list["SpectrumPosterior"]) -> "SpectrumPosterior":
        """The planets of all parts, one after the other; all with factors or none."""
        factors = [part.factor for part in parts if part.factor is not None]
        return cls(
            torch.cat([part.mu for part in parts]),
            torch.cat([part.sigma for part in parts]),
            torch.cat(factors) if factors else None,
        )

    def _with(self, sigma: Float[Tensor, "B W"]) -> "SpectrumPosterior":
        """Same mean and correlations with another sigma."""
        if self.factor is None:
            return type(self)(self.mu, sigma)
        return type(self)(self.mu, sigma, self._loadings() * sigma[..., None])

    def _loadings(self) -> Float[Tensor, "B W K"]:
        """Factors in units of sigma."""
        assert self.factor is not None
        return self.factor / self.sigma[..., None]

    def _woodbury(
        self,
    ) -> tuple[Float[Tensor, "B W K"], Float[Tensor, "B W"], Float[Tensor, "B K K"]]:
        """V, D and the Cholesky root of I + V^T D^-1 V, in units of sigma."""
        loadings = self._loadings()
        rest = 1.0 - loadings.square().sum(-1)
        inner = torch.einsum("bwk,bwl->bkl", loadings / rest[..., None], loadings)
        unit = torch.eye(loadings.shape[-1], dtype=inner.dtype, device=inner.device)
        return loadings, rest, torch.linalg.cholesky(inner + unit)
