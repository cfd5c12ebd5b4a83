"""Checkpoints of a running training as safetensors: resumed exactly, never unpickled.

Lightning hands over a tree of dictionaries, lists, numbers and tensors. Tensors go to
`NAME.safetensors`, and the tree, with their names in their places, into the metadata of the same
file, so that a killed training always leaves the file of one whole epoch. The metadata also holds
a hash over tree and tensors, so that a damaged file is refused.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from torch import Tensor

from spectramind.errors import ArtefactError
from spectramind.files import read_tensors, tensor_bytes, write_tensors

_SUFFIX = ".safetensors"
_TREE, _HASH = "tree", "sha256"  # in the file's facts


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
        facts = {_TREE: tree, _HASH: _hash(arrays, tree)}
        write_tensors(Path(path).with_suffix(_SUFFIX), arrays, facts)

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
        try:
            facts, arrays = read_tensors(Path(path).with_suffix(_SUFFIX))
            tree, seen = (facts or {})[_TREE], (facts or {})[_HASH]
            if _hash(arrays, tree) != seen:
                raise _damaged(path)
            there = {name: torch.from_numpy(array).to(where) for name, array in arrays.items()}
            return _restored(json.loads(tree), there)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise _damaged(path) from error

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove the file."""
        Path(path).with_suffix(_SUFFIX).unlink(missing_ok=True)


def is_checkpoint(path: Path) -> bool:
    """Whether there is a checkpoint of this name."""
    return path.with_suffix(_SUFFIX).is_file()


def _hash(arrays: dict[str, np.ndarray], tree: str) -> str:
    return hashlib.sha256(tensor_bytes(arrays, {_TREE: tree})).hexdigest()


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


def _damaged(path: str | Path) -> ArtefactError:
    return ArtefactError(
        f"{Path(path).with_suffix(_SUFFIX)}: is not a whole checkpoint of a running training. "
        "Remove the file and run `spectramind train` again; this member begins anew."
    )
