"""Members on disk: weights as safetensors, everything else as JSON; nothing is unpickled.

The JSON is written last and holds the hash of the weights, so that a member is either whole
or not there.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError

from spectramind.artefacts import Kind, load_json, load_tensors, save_json, save_tensors
from spectramind.errors import ArtefactError
from spectramind.model.network import V50, FeatureSizes
from spectramind.model.settings import ModelConfig
from spectramind.provenance import Provenance
from spectramind.settings import flatten
from spectramind.training.data import Scaling
from spectramind.training.device import seeded
from spectramind.training.features import NODE_FEATURES, PLANET_FEATURES, SERIES_FEATURES

FEATURES = {
    "nodes": list(NODE_FEATURES),
    "series": list(SERIES_FEATURES),
    "planet": list(PLANET_FEATURES),
}
SIZES = FeatureSizes(len(NODE_FEATURES), len(SERIES_FEATURES), len(PLANET_FEATURES))
Weights = dict[str, torch.Tensor]
RUN = "train.json"  # of a training run, written last
_RUN = Kind("training run", "spectramind train")
_CHECKPOINT = Kind("checkpoint", "spectramind train")


class Epoch(NamedTuple):
    """One line of the training log; epoch 0 is the network before training."""

    epoch: int
    training_loss: float | None  # mean over the epoch's batches
    validation_nll: float  # robust likelihood, see `robust_nll` [nat]


@dataclass(frozen=True, eq=False)
class Trained:
    """The best weights of one member and how they were reached."""

    weights: Weights
    best_epoch: int
    history: tuple[Epoch, ...]


@dataclass(frozen=True, eq=False)
class Member:
    """One trained network with the scaling of its fold."""

    name: str
    key: str  # hash of all that its weights depend on
    model: ModelConfig
    network: V50
    scaling: Scaling
    best_epoch: int
    history: tuple[Epoch, ...]


def member_name(fold: int, seed: int) -> str:
    """Name of the member of a fold and seed number."""
    return f"fold{fold}_seed{seed}"


def member_slot(name: str) -> tuple[int, int]:
    """Fold and seed number of a member, from its name."""
    fold, seed = name.removeprefix("fold").split("_seed")
    return int(fold), int(seed)


def member_names(folder: Path) -> list[str]:
    """Names of the members in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.json"))


def weights_of(network: V50) -> Weights:
    """A copy of a network's weights in the computer's own memory."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def write_member(folder: Path, member: Member, provenance: Provenance) -> None:
    """Write `NAME.safetensors` and then `NAME.json`."""
    weights = sorted(weights_of(member.network).items())
    arrays = {key: tensor.numpy() for key, tensor in weights}
    seen = save_tensors(folder / f"{member.name}.safetensors", arrays, {})
    facts = {
        **asdict(provenance),
        "key": member.key,
        "weights_sha256": seen,
        "model": member.model.model_dump(mode="json"),
        "features": FEATURES,
        "scaling": member.scaling.to_json(),
        "best_epoch": member.best_epoch,
        "history": [epoch._asdict() for epoch in member.history],
    }
    save_json(folder / f"{member.name}.json", facts)


def is_finished(folder: Path, name: str, model: ModelConfig, key: str) -> bool:
    """Whether there is an undamaged member with this key."""
    try:
        return read_member(folder, name, model).key == key
    except ArtefactError:
        return False


def read_run(out: Path) -> dict[str, Any]:
    """What `train.json` of a training run says.

    Raises:
        ArtefactError: If it is missing or damaged.
    """
    return load_json(out / RUN, _RUN)


def remove_others(folder: Path, names: Sequence[str]) -> None:
    """Remove members of earlier runs, so that only these remain."""
    for path in folder.glob("fold*_seed*.*"):
        if path.stem not in names:
            path.unlink()


def read_member(folder: Path, name: str, model: ModelConfig | None) -> Member:
    """Read a member; its architecture must be the configured one, if one is given.

    Raises:
        ArtefactError: If it is damaged, incomplete, or of another architecture.
    """
    path = folder / f"{name}.json"
    facts = _facts(path)
    weights = path.with_suffix(".safetensors")
    _, arrays = load_tensors(weights, _CHECKPOINT)
    if _sha256(weights) != facts["weights_sha256"]:
        raise _CHECKPOINT.damaged(weights, f"it is not the one that {path.name} was written with")
    own = facts["model"] if model is None else model.model_dump(mode="json")
    _require_same(path, facts, own)
    try:
        with seeded(0, torch.device("cpu")):  # the weights drawn here are overwritten
            architecture = ModelConfig.model_validate(facts["model"])
            network = V50(architecture, SIZES)
        network.load_state_dict({key: torch.from_numpy(own) for key, own in arrays.items()})
        scaling = Scaling.from_json(facts["scaling"])
        history = tuple(Epoch(**epoch) for epoch in facts["history"])
    except (ValidationError, RuntimeError, TypeError, KeyError) as error:
        raise _CHECKPOINT.damaged(
            path, "it does not describe a network of this version"
        ) from error
    return Member(
        name, facts["key"], architecture, network.eval(), scaling, facts["best_epoch"], history
    )


def _require_same(path: Path, facts: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Refuse a member whose architecture or features differ, and say where."""
    wanted = {"model": {**model, "loss": None}, "features": FEATURES}
    stored = {"model": {**facts["model"], "loss": None}, "features": facts["features"]}
    there, here = flatten(stored), flatten(wanted)
    differ = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    if differ:
        first = differ[0]
        raise ArtefactError(
            f"{path}: the checkpoint is of another architecture: {first} is "
            f"{there.get(first)!r} in it and {here.get(first)!r} in the configuration "
            f"({len(differ)} keys differ). Set the key back, or run `spectramind train` again."
        )


def _facts(path: Path) -> dict[str, Any]:
    facts = load_json(path, _CHECKPOINT)
    lost = {"key", "weights_sha256", "model", "features", "best_epoch"} - set(facts)
    if lost:
        raise _CHECKPOINT.damaged(path, f"it lacks {', '.join(sorted(lost))}")
    return facts


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
