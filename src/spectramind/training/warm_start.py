"""Networks of an earlier run whose weights a new training starts from.

A member never starts from a network that learned from planets which judge the member.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from spectramind.errors import ArtefactError, ConfigError
from spectramind.model.settings import ModelConfig
from spectramind.training.folds import CALIBRATION, FOLDS, Folds, read_folds
from spectramind.training.store import Member, member_names, member_slot, read_member


@dataclass(frozen=True, eq=False)
class WarmStart:
    """Members of a finished run, and the planets that each of them learned from."""

    members: tuple[Member, ...]
    folds: Folds

    def member_for(self, held_out: Int64[np.ndarray, " K"], index: int) -> Member:
        """A member that learned from none of the planets held out.

        Args:
            held_out: Planets that judge the new member.
            index: Number of the new member; where several old ones fit, they take turns.

        Raises:
            ConfigError: If every member learned from one of them.
        """
        learned = {member.name: self._learned(member) for member in self.members}
        fit = [own for own in self.members if not np.isin(held_out, learned[own.name]).any()]
        if not fit:
            named = held_out[np.isin(held_out, learned[self.members[0].name])][0]
            raise ConfigError(
                "training.start: every network of that run learned from planets that this one "
                f"holds out to judge itself by (planet {named} for one). Train with its "
                "training.folds, training.seed and training.calibration_fraction on the same "
                "planets, or start from a run on other planets."
            )
        return fit[index % len(fit)]

    def _learned(self, member: Member) -> Int64[np.ndarray, " N"]:
        fold, _ = member_slot(member.name)
        return self.folds.planet_ids[~np.isin(self.folds.fold, (fold, CALIBRATION))]


def read_warm_start(run: Path, model: ModelConfig) -> WarmStart:
    """Read the members that a run has trained.

    Args:
        run: `runtime.out` of that run.
        model: Architecture that its members must have.

    Raises:
        ArtefactError: If there is none, or it is damaged or of another architecture.
    """
    folder = run / "train"
    names = member_names(folder / "members")
    if not names or not (folder / FOLDS).is_file():
        raise ArtefactError(
            f"{folder}: there is no finished training run in it, expected members/*.safetensors "
            f"and {FOLDS}. Name the runtime.out of a run that has trained in training.start, or "
            "set it to null."
        )
    members = tuple(read_member(folder / "members", name, model) for name in names)
    return WarmStart(members, read_folds(folder / FOLDS))
