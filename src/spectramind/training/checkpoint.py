"""Checkpoints of a running training as safetensors: resumed exactly, never unpickled.

Lightning hands over a tree of dictionaries, lists, numbers and tensors. Tensors go to
`NAME.safetensors`, and the tree, with their names in their places, into the metadata of the same
file, so that a killed training always leaves the file of one whole epoch.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from spectramind.artefacts import Kind, load_tensors, save_tensors
from spectramind.errors import ArtefactError

_CHECKPOINT = Kind("checkpoint of a running training", "spectramind train")
_SUFFIX = ".safetensors"
_TREE = "tree"  # in the file's facts


class SafetensorsIO(CheckpointIO):
    """Lightning's checkpoints without pickle; `path` names the file without its ending."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401, ARG002 - part of Lightning's interface
    ) -> None:
        """Write a checkpoint, atomically.

        Raises:
            TypeError: If it holds something that is neither number, text, list, dictionary nor
                tensor.
        """
        tensors: dict[str, Tensor] = {}
        tree = json.dumps(_plain(checkpoint, tensors))
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        save_tensors(Path(path).with_suffix(_SUFFIX), arrays, {_TREE: tree})

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = None,  # noqa: ANN401 - part of Lightning's interface
        weights_only: bool | None = None,  # noqa: ARG002 - nothing is unpickled anyway
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            ArtefactError: If it is damaged.
        """
        where = map_location if isinstance(map_location, (str, torch.device)) else "cpu"
        facts, arrays = load_tensors(Path(path).with_suffix(_SUFFIX), _CHECKPOINT)
        there = {name: torch.from_numpy(array).to(where) for name, array in arrays.items()}
        return _restored(json.loads(facts[_TREE]), there)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove the file."""
        Path(path).with_suffix(_SUFFIX).unlink(missing_ok=True)


def is_checkpoint(path: Path) -> bool:
    """Whether there is a whole checkpoint of this name; one that is damaged is named on stderr."""
    file = path.with_suffix(_SUFFIX)
    if not file.is_file():
        return False
    try:
        load_tensors(file, _CHECKPOINT)
    except ArtefactError as error:
        print(f"train: {error} This stage of it begins anew.", file=sys.stderr)  # noqa: T201
        return False
    return True


def _plain(value: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401 - any tree
    """The tree with a name in place of each tensor; the tensors are collected."""
    match value:
        case Tensor():
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().clone().contiguous()
            return {"tensor": name}
        case dict():
            pairs = [[_plain(key, tensors), _plain(own, tensors)] for key, own in value.items()]
            return {"pairs": pairs}
        case tuple():
            return {"tuple": [_plain(own, tensors) for own in value]}
        case list():
            return [_plain(own, tensors) for own in value]
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def _restored(value: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401 - any tree
    match value:
        case {"tensor": name}:
            return tensors[name]
        case {"pairs": pairs}:
            return {_restored(key, tensors): _restored(own, tensors) for key, own in pairs}
        case {"tuple": items}:
            return tuple(_restored(own, tensors) for own in items)
        case list():
            return [_restored(own, tensors) for own in value]
    return value
