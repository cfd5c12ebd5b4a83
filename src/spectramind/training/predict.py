"""Spectra from trained members: one posterior per member, mixed into one."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64

from spectramind.errors import ArtefactError, ConfigError
from spectramind.model.settings import ModelConfig
from spectramind.observation import Star, TransitFit
from spectramind.posterior import SpectrumPosterior
from spectramind.training.data import FeatureTable, feature_table
from spectramind.training.device import resolve_device, seeded
from spectramind.training.out_of_memory import is_out_of_memory
from spectramind.training.store import RUN, Member, member_names, read_member

_BATCH = 64  # planets predicted at once; does not change the result


@dataclass(frozen=True)
class Epistemic:
    """How the spread of the network's answers is measured at prediction."""

    method: Literal["ensemble", "mc_dropout"]
    mc_samples: int  # passes with dropout per member, for mc_dropout

    def passes(self, model: ModelConfig) -> int:
        """Passes with dropout per member; 0 means one pass without.

        Raises:
            ConfigError: If dropout is asked for and the network has none.
        """
        if self.method == "ensemble":
            return 0
        encoders = model.encoders
        if encoders.fgs1.dropout == encoders.airs.dropout == model.fusion.dropout == 0.0:
            raise ConfigError(
                "uq.epistemic=mc_dropout: dropout is 0 in model.encoders.fgs1, .airs and "
                "model.fusion, so all passes would be equal. Set one above 0 or use "
                "uq.epistemic=ensemble."
            )
        return self.mc_samples


def predict_members(
    out: Path,
    fits: Mapping[int, TransitFit],
    stars: Mapping[int, Star | None],
    *,
    model: ModelConfig | None,
    epistemic: Epistemic,
    device: str,
    seed: int,
) -> tuple[Int64[np.ndarray, " B"], SpectrumPosterior]:
    """Spectra of all fitted planets, mixed over all members of a training run.

    Args:
        out: Output folder of `train_members`.
        fits: Fit of each planet.
        stars: Star of each planet; None where the archive has no star table.
        model: Architecture that the checkpoints must have; None takes any.
        epistemic: Method and number of passes per member.
        device: auto | cpu | cuda.
        seed: Of the dropout masks; `training.seed`.

    Returns:
        Planet ids in increasing order and their float64 posterior.

    Raises:
        ArtefactError: If there is no checkpoint, or one of another architecture.
        ConfigError: If the device is absent or out of memory.
    """
    names = member_names(out / "members") if (out / RUN).is_file() else []
    if not names:
        raise ArtefactError(
            f"{out}: there is no finished training run in it, expected members/*.safetensors and "
            "train.json. Run `spectramind train` first."
        )
    table = feature_table(fits, stars)
    members = [read_member(out / "members", name, model) for name in names]
    passes = epistemic.passes(members[0].model)
    posterior = predict(members, table, passes=passes, device=resolve_device(device), seed=seed)
    return table.planet_ids, posterior


def predict(
    members: Sequence[Member],
    table: FeatureTable,
    *,
    passes: int,
    device: torch.device,
    seed: int,
) -> SpectrumPosterior:
    """Equal mixture over members and passes; depths below 0 become 0, and stderr counts them.

    Members and passes answer in the fit's own errors. What widens the fit's sigma multiplies that
    of their mixture, spread of the means included, once and last.
    """
    mixed = SpectrumPosterior.mixture(
        [
            _predict_member(member, table, passes=passes, device=device, seed=seed)
            for member in members
        ]
    )
    below = int((mixed.mu < 0.0).sum())
    if below:
        print(  # noqa: T201
            f"predict: {below} of {mixed.mu.numel()} depths were below 0 and are set to 0",
            file=sys.stderr,
        )
    positive = SpectrumPosterior(mixed.mu.clamp(min=0.0), mixed.sigma, mixed.factor)
    return positive.scaled(torch.from_numpy(table.sigma / table.own_sigma))


def _predict_member(
    member: Member, table: FeatureTable, *, passes: int, device: torch.device, seed: int
) -> SpectrumPosterior:
    try:
        parts = list(_predict_parts(member, table, passes=passes, device=device, seed=seed))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        elsewhere = "Set runtime.device=cpu" if device.type != "cpu" else "Free memory"
        raise ConfigError(
            f"{member.name}: the {device.type} is out of memory with {_BATCH} planets at once. "
            f"{elsewhere}, or predict on a machine with more; only a network trained with a "
            "smaller model.encoders.airs.hidden or model.encoders.fgs1.d_model needs less."
        ) from error
    return SpectrumPosterior.joined(parts)


def _predict_parts(
    member: Member, table: FeatureTable, *, passes: int, device: torch.device, seed: int
) -> Iterator[SpectrumPosterior]:
    """Posterior of all planets, batch by batch."""
    network = member.network.to(device).train(passes > 0)
    batch = member.scaling.batch(table).unwidened()
    with seeded(seed, device), torch.inference_mode():
        for rows in torch.arange(len(batch)).split(_BATCH):
            part = batch[rows].to(device)
            draws = [network(part) for _ in range(max(passes, 1))]
            yield SpectrumPosterior.mixture(draws).cpu()
    network.eval()
