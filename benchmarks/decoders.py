"""Energy score of the Gaussian heads and of the diffusion decoder.

    python benchmarks/decoders.py            a toy with two modes, four seeds; stores its result
    python benchmarks/decoders.py --quick    one seed, shorter training
    python benchmarks/decoders.py --sim2025  on simulated planets; stores its result
    python benchmarks/decoders.py --stored   the last full runs again

The toy: the residual of the fit, in its sigma, is s A + 0.5 e with white noise e. A is a bump of
height 1.5 whose place the state tells; its sign s = +-1 comes from a coin that nothing tells.
The heads and the denoiser (as configured, on 24 wavelengths, the state in place of the encoders)
learn on new planets in every step and are judged on others. The denoiser stands on the heads and
does not lead them, so one training yields both rows. `gaussian_limit` is the Gaussian with the
exact mean and full covariance, the best that any Gaussian head can say, a low-rank one included;
`exact` draws from the truth's own distribution. Scores are in units of the fit's sigma, smaller
is better; the interval is that of a paired bootstrap over test planets.

On `sim2025` a network a decoder learns as in benchmarks/ablation.py (its planets, none of the
set; run `spectramind fit experiment=ablation` first) and is judged on the set's test planets:
energy score of whole spectra in units of the fit's sigma, FGS1 as one wavelength of 283, and
challenge score of mu and sigma. `fit` draws from the fit's own full covariance. The last line
is JSON.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from ablation import answer, open_school, taught
from grading import scores_by_planet
from observed import Observed, observe
from quiet import Machine
from reports.decoders import table
from spectramind import config as configuration
from spectramind.diagnose.metrics import energy_score, naive_statistics
from spectramind.files import write_json
from spectramind.model.diffusion import Denoiser, white_noise
from spectramind.model.heads import Head, soft_bound
from spectramind.model.likelihood import robust_nll
from spectramind.posterior import SpectrumPosterior
from spectramind.training.data import feature_table
from v50 import FULL

RESULT = Path(__file__).parents[1] / "docs" / "results" / "decoders.json"
WAVELENGTHS = 24
HEIGHT, WIDTH, WHITE = 1.5, 4.0, 0.5  # of the bump [sigma], [bins]; of the noise [sigma]
PLANETS, LR = 64, 3e-3  # of a training step
TEST_PLANETS, SAMPLES = 200, 100  # of the score
SEED = 1  # of the networks of sim2025
DECODERS = {
    "gaussian": (),
    "covariance": ("model.decoders.covariance.rank=8",),
    "diffusion": ("decoders=diffusion",),
}


class Toy(NamedTuple):
    """Planets of the toy, depths in units of the fit's sigma."""

    state: Float[Tensor, "B W 2"]  # the bump and white noise
    bump: Float64[Tensor, "B W"]
    truth: Float64[Tensor, "B W"]


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="Energy score of the decoders on a toy.")
    parser.add_argument("--quick", action="store_true", help="one seed, shorter training")
    parser.add_argument("--sim2025", action="store_true", help="simulated planets, not the toy")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    arguments = parser.parse_args()
    stored = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if arguments.stored:
        result = stored
    else:
        state = Machine.now().stored()
        if arguments.sim2025:
            result = stored | {"sim2025": measure_sim2025() | state}
        elif arguments.quick:
            result = {"toy": measure(seeds=1, steps=200) | state}
        else:
            result = stored | {"toy": measure(seeds=4, steps=1000) | state}
        if not arguments.quick:
            write_json(RESULT, result)
    print(table(result))
    print(json.dumps(result))


def measure(*, seeds: int, steps: int) -> dict[str, object]:
    """Train and judge on every seed."""
    start = time.monotonic()
    points = [judge(Decoder(seed, steps), seed) for seed in range(seeds)]
    seconds = time.monotonic() - start
    gains = {
        f"gain_over_{kind}": np.concatenate([own[kind] - own["diffusion"] for own in points])
        for kind in ("gaussian", "gaussian_limit")
    }
    return {
        "energy_score": {
            kind: [round(float(own[kind].mean()), 4) for own in points] for kind in points[0]
        },
        **{name: round(float(gain.mean()), 4) for name, gain in gains.items()},
        **{f"{name}_low95": round(low95(gain), 4) for name, gain in gains.items()},
        "training_steps": steps,
        "test_planets": TEST_PLANETS,
        "samples": SAMPLES,
        "seeds": list(range(seeds)),
        "seconds": round(seconds, 1),
    }


class Decoder(nn.Module):
    """Both heads and the denoiser, trained on the toy."""

    def __init__(self, seed: int, steps: int) -> None:
        super().__init__()
        model = configuration.load(["decoders=diffusion"]).model
        self.bound, self.loss = model.decoders.sigma.max_log_scale, model.loss
        assert model.decoders.diffusion is not None
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.mu, self.log_scale = Head(2, (32,), 1), Head(2, (32,), 1)
            self.denoiser = Denoiser(2, WAVELENGTHS, model.decoders.diffusion)
            self._learn(seed, steps)

    def gaussian(self, state: Float[Tensor, "B W 2"]) -> SpectrumPosterior:
        """What the heads say, as in `V50.decode`."""
        log_scale = soft_bound(self.log_scale(state)[..., 0].double(), self.bound)
        return SpectrumPosterior(self.mu(state)[..., 0].double(), torch.exp(log_scale))

    def _learn(self, seed: int, steps: int) -> None:
        optimizer = torch.optim.AdamW(self.parameters(), lr=LR)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
        for step in range(steps):
            toy = draw_toy(PLANETS, 1_000_000 * (seed + 1) + step)
            posterior, clip = self.gaussian(toy.state), self.loss.z_clip
            unit = torch.ones_like(toy.truth)
            nll = robust_nll(posterior, toy.truth, unit=unit, z_clip=clip, fgs1_weight=1.0)
            error = self.denoiser.loss(
                posterior, toy.state, toy.truth, z_clip=clip, fgs1_weight=1.0
            )
            optimizer.zero_grad()
            (nll.mean() + self.denoiser.config.weight * error).backward()
            optimizer.step()
            schedule.step()


def draw_toy(planets: int, seed: int) -> Toy:
    """New planets."""
    generator = torch.Generator().manual_seed(seed)
    centre = WAVELENGTHS * torch.rand(planets, 1, generator=generator, dtype=torch.float64)
    bump = HEIGHT * torch.exp(-0.5 * ((torch.arange(WAVELENGTHS) - centre) / WIDTH) ** 2)
    other = torch.randn(planets, WAVELENGTHS, generator=generator)
    sign = 2.0 * torch.randint(2, (planets, 1), generator=generator) - 1.0
    noise = torch.randn(bump.shape, generator=generator, dtype=torch.float64)
    return Toy(torch.stack([bump.float(), other], dim=-1), bump, sign * bump + WHITE * noise)


def judge(decoder: Decoder, seed: int) -> dict[str, Float64[np.ndarray, " B"]]:
    """Energy score of each test planet and kind."""
    toy = draw_toy(TEST_PLANETS, 500_000 + seed)
    noise = white_noise(SAMPLES * TEST_PLANETS, WAVELENGTHS + 1, seed)
    noise = noise.unflatten(0, (SAMPLES, TEST_PLANETS))
    own, shared = noise[..., :-1], noise[..., -1:]
    with torch.inference_mode():
        heads = decoder.gaussian(toy.state)
        sigma = torch.sqrt(toy.bump**2 + WHITE**2)
        limit = SpectrumPosterior(torch.zeros_like(sigma), sigma, toy.bump[..., None])
        drawn = {
            "gaussian": heads.sample(own, shared),
            "gaussian_limit": limit.sample(own, shared),
            "diffusion": decoder.denoiser.sample(heads, toy.state, torch.ones_like(sigma), own),
            "exact": shared.sign() * toy.bump + WHITE * own,
        }
    truth, unit = toy.truth.numpy(), np.ones(toy.truth.shape)
    return {kind: energy_score(truth, samples.numpy(), unit) for kind, samples in drawn.items()}


def measure_sim2025() -> dict[str, object]:
    """Train a network a decoder, and judge all on the test planets of sim2025."""
    config, start = configuration.load(["experiment=ablation"]), time.monotonic()
    data, school = observe("sim2025", FULL, os.cpu_count() or 1), open_school(config)
    planets = sorted(data.test)
    truth = data.labels.depth[np.searchsorted(data.labels.planet_ids, planets)]
    naive = naive_statistics(data.labels.of(sorted(data.train)).depth)
    table = feature_table(data.test, {planet: data.stars[planet] for planet in planets})
    energy = {"fit": energy_score(truth, _fit_samples(data, planets), table.sigma)}
    score = {
        "fit": scores_by_planet(table.depth, table.sigma, truth, naive, config.diagnostics.metric)
    }
    for name, overrides in DECODERS.items():
        chosen = configuration.load(["experiment=ablation", *overrides])
        network, scaling = taught(school, chosen, SEED)
        batch = scaling.batch(table)
        parts = torch.arange(len(batch)).split(50)
        drawn = [network.samples(batch[rows], count=SAMPLES, seed=SEED).numpy() for rows in parts]
        energy[name] = energy_score(truth, np.concatenate(drawn, axis=1), table.sigma)
        score[name] = scores_by_planet(
            *answer(network, batch), truth, naive, config.diagnostics.metric
        )
        print(name, energy[name].mean(), score[name].mean(), flush=True)
    gain = energy["gaussian"] - energy["diffusion"]
    return {
        "energy_score": {kind: round(float(own.mean()), 4) for kind, own in energy.items()},
        "score": {kind: round(float(own.mean()), 4) for kind, own in score.items()},
        "gain_over_gaussian": round(float(gain.mean()), 4),
        "gain_over_gaussian_low95": round(low95(gain), 4),
        "test_planets": len(planets),
        "teachers": len(school.teach),
        "samples": SAMPLES,
        "seeds": [SEED],
        "seconds": round(time.monotonic() - start, 1),
    }


def _fit_samples(data: Observed, planets: list[int]) -> Float64[np.ndarray, "S B 283"]:
    return np.stack([data.test[planet].samples(SAMPLES) for planet in planets], axis=1)


def low95(gains: Float64[np.ndarray, " N"]) -> float:
    """Lower end of the 95 % interval of the mean."""
    draws = np.random.default_rng(0).integers(len(gains), size=(2000, len(gains)))
    return float(np.quantile(gains[draws].mean(1), 0.025))


if __name__ == "__main__":
    main()
