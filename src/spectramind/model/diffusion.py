"""Diffusion decoder: spectra of any distribution, made from noise in the Gaussian heads' units.

With x = (d - mu) / sigma of the true spectrum and e ~ N(0, I), noise becomes spectrum along

    x_a = cos(a) e + sin(a) x,    0 <= a <= pi/2,    dx_a/da = v = E[cos(a) x - sin(a) e | x_a].

A small network learns v, given the fused state of the planet; a spectrum is drawn by solving
the equation from noise. Where the heads are right, x ~ N(0, I), v is zero and x = e: the last
layer starts at zero, so an untrained decoder draws from the heads' Gaussian exactly, and what
it learns is what they cannot say (correlations, skew, two modes).

Source: v as in Salimans and Ho 2022, arXiv 2202.00512, appendix D (angle a, up to the direction
of time); the loss is flow matching, Lipman et al. 2023, arXiv 2210.02747, on the trigonometric
interpolant of Albergo and Vanden-Eijnden 2023, arXiv 2209.15571; the conditioning by scale and
shift is that of Peebles and Xie 2023, arXiv 2212.09748.

Shapes: S samples or draws, B planets, W wavelengths, D fused state, C width, K components,
A = S or 1 angles; the A of noise is B or 1, the same for every planet.
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F

from spectramind.model.likelihood import robust_square, weighted_mean
from spectramind.model.settings import DiffusionConfig
from spectramind.posterior import SpectrumPosterior

_END = math.pi / 2.0  # angle of the spectrum
_HARMONICS = 4  # of the angle that the network sees
_AT_ONCE = 256  # spectra solved at once; does not change the result


class Denoiser(nn.Module):
    """The network of the velocity v of noisy spectra, its loss and its solver."""

    def __init__(self, state: int, wavelengths: int, config: DiffusionConfig) -> None:
        super().__init__()
        width = config.width
        self.config, self.wavelengths = config, wavelengths
        self.condition = nn.Linear(state, width)
        self.clock = nn.Linear(2 * _HARMONICS, width)
        self.enter = nn.Linear(1, width)
        self.place = nn.Parameter(torch.randn(wavelengths, width) / math.sqrt(width))
        self.blocks = nn.ModuleList(
            Block(width, wavelengths, config.components) for _ in range(config.layers)
        )
        self.last = nn.Linear(width, 2)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def velocity(
        self,
        x: Float[Tensor, "S B W"],
        angle: Float[Tensor, "A B"],
        condition: Float[Tensor, "B W C"],
    ) -> Float[Tensor, "S B W"]:
        """An offset and a multiple of x, both from the network."""
        clock = self.clock(_harmonics(angle))[:, :, None]
        context = F.silu(condition + clock)
        nodes = self.enter(x[..., None]) + self.place
        for block in self.blocks:
            nodes = block(nodes, context)
        offset, slope = self.last(nodes).unbind(-1)
        return offset + slope * x

    def loss(
        self,
        posterior: SpectrumPosterior,
        state: Float[Tensor, "B W D"],
        depth: Float[Tensor, "B W"],
        *,
        z_clip: float,
        fgs1_weight: float,
    ) -> Float[Tensor, ""]:
        """Mean of rho(v - (cos(a) x - sin(a) e)), weighted as in `robust_nll`.

        It has no gradient for the heads, which learn from their likelihood alone. The angles of a
        planet's draws are evenly spread from a random start.

        Args:
            posterior: What the Gaussian heads say.
            state: Fused state.
            depth: True spectra.
            z_clip: Error beyond which a point counts less.
            fgs1_weight: Weight of wavelength 0; every other one counts 1.
        """
        x = posterior.z(depth).detach().float()
        draws = self.config.draws
        noise = torch.randn(draws, *x.shape, device=x.device)
        start = torch.rand(1, len(x), device=x.device)
        spread = torch.arange(draws, device=x.device)[:, None] / draws
        angle = _END * torch.remainder(start + spread, 1.0)
        cos, sin = torch.cos(angle)[..., None], torch.sin(angle)[..., None]
        velocity = self.velocity(cos * noise + sin * x, angle, self.condition(state))
        error = velocity.float() - (cos * x - sin * noise)
        return weighted_mean(robust_square(error.square(), z_clip), fgs1_weight).mean()

    def moments(
        self,
        posterior: SpectrumPosterior,
        state: Float[Tensor, "B W D"],
        widening: Float64[Tensor, "B W"],
    ) -> SpectrumPosterior:
        """Mean and standard deviation of spectra from noise whose own are exactly 0 and 1.

        The mean moves by sigma over `widening`: what speaks against a fit widens errors alone.
        """
        x = self._matched(state)
        return SpectrumPosterior(
            posterior.mu + posterior.sigma / widening * x.mean(0),
            posterior.sigma * x.std(0, correction=0),
        )

    def sample(
        self,
        posterior: SpectrumPosterior,
        state: Float[Tensor, "B W D"],
        widening: Float64[Tensor, "B W"],
        noise: Float64[Tensor, "S A W"],
    ) -> Float64[Tensor, "S B W"]:
        """Spectra from standard normal draws, about the mean of `moments`."""
        widened = (1.0 - 1.0 / widening) * self._matched(state).mean(0)
        return posterior.mu + posterior.sigma * (self.solve(noise, state) - widened)

    def _matched(self, state: Float[Tensor, "B W D"]) -> Float64[Tensor, "S B W"]:
        """X from noise of mean 0 and deviation 1, the same for every planet, of `seed` alone."""
        noise = matched_noise(self.config.samples, self.wavelengths, self.config.seed)
        return self.solve(noise.to(state.device)[:, None], state)

    def solve(
        self, noise: Float64[Tensor, "S A W"], state: Float[Tensor, "B W D"]
    ) -> Float64[Tensor, "S B W"]:
        """X at the end of the path from each noise; the network runs in its own precision."""
        condition = self.condition(state)
        parts = noise.split(max(1, _AT_ONCE // len(state)))
        return torch.cat([self._solve(part, condition) for part in parts])

    def _solve(
        self, noise: Float64[Tensor, "S A W"], condition: Float[Tensor, "B W C"]
    ) -> Float64[Tensor, "S B W"]:
        """Heun's method in equal steps of the angle.

        Source: Karras et al. 2022, arXiv 2206.00364, algorithm 1 without its schedule.
        """
        x = noise.expand(-1, len(condition), -1)
        step = _END / self.config.steps
        for number in range(self.config.steps):
            first = self._slope(x, number * step, condition)
            second = self._slope(x + step * first, (number + 1) * step, condition)
            x = x + 0.5 * step * (first + second)
        return x

    def _slope(
        self, x: Float64[Tensor, "S B W"], angle: float, condition: Float[Tensor, "B W C"]
    ) -> Float64[Tensor, "S B W"]:
        angles = torch.full((1, len(condition)), angle, device=x.device)
        return self.velocity(x.float(), angles, condition).double()


class Block(nn.Module):
    """A residual block: exchange between wavelengths through K patterns, then a perceptron."""

    def __init__(self, width: int, wavelengths: int, components: int) -> None:
        super().__init__()
        self.modulate = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.gather = nn.Parameter(torch.randn(components, wavelengths) / wavelengths**0.5)
        self.spread = nn.Parameter(torch.randn(wavelengths, components) / components**0.5)
        self.meet = nn.Linear(width, width)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)

    def forward(
        self, nodes: Float[Tensor, "S B W C"], context: Float[Tensor, "A B W C"]
    ) -> Float[Tensor, "S B W C"]:
        """States of all wavelengths."""
        scale, shift = self.modulate(context).chunk(2, dim=-1)
        own = self.norm(nodes) * (1.0 + scale) + shift
        met = self.spread @ F.silu(self.meet(self.gather @ own))
        return nodes + self.outer(F.silu(self.inner(own + met)))


def matched_noise(samples: int, wavelengths: int, seed: int) -> Float64[Tensor, "S W"]:
    """Normal draws in pairs of opposite sign, scaled to unit variance at each wavelength.

    Source: antithetic variates and moment matching, Glasserman 2004, sections 4.2 and 4.5.
    """
    half = white_noise(samples // 2, wavelengths, seed)
    half = half / half.square().mean(0).sqrt()
    return torch.cat([half, -half])


def white_noise(samples: int, columns: int, seed: int) -> Float64[Tensor, "S W"]:
    """Standard normal draws of a generator of their own, equal on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, columns, dtype=torch.float64, generator=generator)


def _harmonics(angle: Float[Tensor, "A B"]) -> Float[Tensor, "A B H"]:
    orders = torch.arange(1, _HARMONICS + 1, device=angle.device)
    phase = angle[..., None] * orders
    return torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)
