"""V50: reads light curves, fit and residuals, and corrects the fit's spectrum.

    mu = mu_fit + own_sigma * delta        sigma = sigma_fit * exp(s)

own_sigma is the fit's error before anything widened it: what speaks against a fit makes its error
bars larger, and never the correction. Both heads are zero at initialisation: an untrained V50 is
the fit. A covariance head or a diffusion decoder may stand on them. Shapes: B planets, V visits,
C series channels, L time bins, W = 283 wavelengths, F node features, P planet features.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from spectramind.model.diffusion import Denoiser, white_noise
from spectramind.model.gnn import Gate, GraphEncoder
from spectramind.model.graph import relations
from spectramind.model.heads import CovarianceHead, Head, soft_bound
from spectramind.model.likelihood import joint_nll, loss_terms
from spectramind.model.mamba import Fgs1Encoder
from spectramind.model.readout import Readout
from spectramind.model.settings import (
    LossConfig,
    ModelConfig,
)
from spectramind.posterior import SpectrumPosterior


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of the network for some planets: scaled features and the fit itself."""

    nodes: Float[Tensor, "B W F"]
    series: Float[Tensor, "B V C L"]
    mask: Bool[Tensor, "B V L"]  # True where the series holds data
    planet: Float[Tensor, "B P"]
    depth: Float64[Tensor, "B W"]  # the fit's spectrum
    sigma: Float64[Tensor, "B W"]  # the fit's error bars
    own_sigma: Float64[Tensor, "B W"]  # before anything widened them: the correction's unit
    asymmetry: Float[Tensor, "B W"]  # residual at ingress minus at egress [standard errors]

    def __len__(self) -> int:
        return len(self.depth)

    def __getitem__(self, rows: Tensor) -> "Batch":
        """The planets of these rows."""
        return Batch(*(tensor[rows] for tensor in self._tensors()))

    def to(self, device: torch.device) -> "Batch":
        """The same planets on another device."""
        return Batch(*(tensor.to(device) for tensor in self._tensors()))

    @property
    def fit(self) -> SpectrumPosterior:
        """The spectrum that the network corrects."""
        return SpectrumPosterior(self.depth, self.sigma)

    @property
    def widening(self) -> Float64[Tensor, "B W"]:
        """How many times larger than its own the fit's sigma is."""
        return self.sigma / self.own_sigma

    def unwidened(self) -> "Batch":
        """The same planets, as if nothing spoke against their fits."""
        return replace(self, sigma=self.own_sigma)

    def _tensors(self) -> tuple[Tensor, ...]:
        return tuple(vars(self).values())


@dataclass(frozen=True)
class FeatureSizes:
    """Widths of the network's inputs."""

    nodes: int
    series: int
    planet: int


class V50(nn.Module):
    """Mamba over FGS1, a graph network over the spectrum, and two residual heads."""

    def __init__(self, config: ModelConfig, sizes: FeatureSizes) -> None:
        super().__init__()
        self.sizes = sizes
        fgs1, airs = config.encoders.fgs1, config.encoders.airs
        edges = relations(
            airs.edge_types, neighbours=airs.neighbours, detector_block=airs.detector_block
        )
        self.fgs1 = Fgs1Encoder(fgs1, sizes.series)
        inputs = sizes.nodes + sizes.planet
        self.airs = GraphEncoder(airs, inputs, torch.from_numpy(edges.matrices))
        self.readout = Readout(
            config.fusion, airs.hidden + sizes.nodes, fgs1.d_model + sizes.planet,
            edges.matrices.shape[-1],
        )  # fmt: skip
        fused = airs.hidden + sizes.nodes + config.fusion.patterns + fgs1.d_model
        self.chosen = chosen = config.decoders
        self.mu = Head(fused, chosen.mu.hidden, 1)
        self.log_scale = Head(fused, chosen.sigma.hidden, 1)
        self.max_log_scale = chosen.sigma.max_log_scale
        self.covariance = (
            CovarianceHead(fused, chosen.covariance) if chosen.covariance.rank else None
        )
        self.denoiser = (
            Denoiser(fused, edges.matrices.shape[-1], chosen.diffusion)
            if chosen.diffusion
            else None
        )

    def forward(self, batch: Batch, gate: Gate | None = None) -> SpectrumPosterior:
        """The corrected spectrum, in float64 like the fit; `gate` closes edges of the graph."""
        state = self.fuse(batch, gate)
        posterior = self.decode(batch, state)
        if self.denoiser is None:
            return posterior
        return self.denoiser.moments(posterior, state, batch.widening)

    def decode(self, batch: Batch, state: Float[Tensor, "B W D"]) -> SpectrumPosterior:
        """Spectrum of the Gaussian heads from a fused state."""
        delta = self.mu(state)[..., 0].double()
        log_scale = soft_bound(self.log_scale(state)[..., 0].double(), self.max_log_scale)
        mu, sigma = batch.depth + batch.own_sigma * delta, batch.sigma * torch.exp(log_scale)
        factor = None if self.covariance is None else self.covariance(state, sigma)
        return SpectrumPosterior(mu, sigma, factor)

    @torch.no_grad()
    def samples(self, batch: Batch, *, count: int, seed: int) -> Float64[Tensor, "S B W"]:
        """Independent draws of whole spectra, the same noise for every planet.

        Args:
            batch: Planets.
            count: S, draws per planet.
            seed: Of the noise.
        """
        state = self.fuse(batch)
        posterior = self.decode(batch, state)
        wavelengths = batch.depth.shape[-1]
        factors = 0 if posterior.factor is None else posterior.factor.shape[-1]
        noise = white_noise(count, wavelengths + factors, seed).to(batch.depth.device)
        own, shared = noise[:, None].split([wavelengths, factors], dim=-1)
        if self.denoiser is None:
            return posterior.sample(own, shared)
        return self.denoiser.sample(posterior, state, batch.widening, own)

    def loss(
        self, batch: Batch, depth: Float64[Tensor, "B W"], config: LossConfig
    ) -> Float[Tensor, ""]:
        """Loss of the supervised stage: that of the heads and of an optional decoder.

        Args:
            batch: Planets.
            depth: True spectra.
            config: Weights of the heads' loss; clip and FGS1 weight hold for all parts.
        """
        state = self.fuse(batch)
        posterior = self.decode(batch, state)
        total = loss_terms(
            posterior, batch.fit, batch.own_sigma, batch.asymmetry, depth, config
        ).total
        if self.covariance is not None:
            joint = joint_nll(posterior, depth, unit=batch.sigma, z_clip=config.z_clip)
            total = total + self.chosen.covariance.weight * joint.mean()
        if self.denoiser is not None:
            error = self.denoiser.loss(
                posterior, state, depth, z_clip=config.z_clip, fgs1_weight=config.fgs1_weight
            )
            total = total + self.denoiser.config.weight * error
        return total

    def fuse(self, batch: Batch, gate: Gate | None = None) -> Float[Tensor, "B W D"]:
        """Concatenate at each node: its state and features, the readout's patterns, FGS1 state."""
        nodes = torch.cat([self.spectrum(batch.nodes, batch.planet, gate), batch.nodes], dim=-1)
        curve = self.fgs1(batch.series, batch.mask)
        patterns = self.readout(nodes, torch.cat([curve, batch.planet], dim=-1))
        shared = curve[:, None].expand(-1, nodes.shape[1], -1)
        return torch.cat([nodes, patterns, shared], dim=-1)

    def spectrum(
        self,
        nodes: Float[Tensor, "B W F"],
        planet: Float[Tensor, "B P"],
        gate: Gate | None = None,
    ) -> Float[Tensor, "B W D"]:
        """States of the wavelengths; every node gets the features of the planet."""
        facts = planet[:, None].expand(-1, nodes.shape[1], -1)
        return self.airs(torch.cat([nodes, facts], dim=-1), gate)
