"""Artefacts: JSON, tables and tensors that a later stage reads, each with a checksum of itself.

Once in such a file stand `sha256:` and 64 hexadecimal digits: the SHA-256 of the file with zeros
in place of the digits. Whoever loads it compares. A file that has changed since it was written is
refused with a sentence that names the command which writes it anew.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectramind.errors import ArtefactError
from spectramind.files import json_bytes, write_atomic

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

CHANGED = "it has changed since it was written"  # why a file is refused
_CHECKSUM = "checksum"  # the key in JSON and in the metadata of tables
_FACTS = "spectramind"  # the one metadata key of a tensor file: several have no fixed order
_BLANK = f"sha256:{'0' * 64}"
_STAMP = re.compile(rb"sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Kind:
    """What a file is called in a sentence, and the command that writes it."""

    what: str
    command: str

    def missing(self, path: Path) -> ArtefactError:
        """The sentence for a file that is not there."""
        return ArtefactError(f"{path}: no {self.what} there. Run `{self.command}` first.")

    def damaged(self, path: Path, why: str) -> ArtefactError:
        """The sentence for a file that cannot be used."""
        return ArtefactError(
            f"{path}: is no whole {self.what}: {why}. Run `{self.command}` again."
        )


def save_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON with its checksum, atomically.

    Raises:
        WriteError: If the file cannot be written.
    """
    write_atomic(path, stamped_json(value))


def stamped_json(value: Mapping[str, Any]) -> bytes:
    """The text of such a file."""
    return _stamped(json_bytes({_CHECKSUM: _BLANK, **value}))


def load_json(path: Path, kind: Kind) -> dict[str, Any]:
    """Read what `save_json` wrote.

    Raises:
        ArtefactError: If the file is missing, or not as it was written.
    """
    content = _whole(path, kind)
    try:
        value = json.loads(content)
        del value[_CHECKSUM]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise kind.damaged(path, f"it is no JSON object ({error})") from error
    return value


def save_table(path: Path, table: "pl.DataFrame") -> None:
    """Write a table as parquet with its checksum, atomically.

    Raises:
        WriteError: If the file cannot be written.
    """
    content = io.BytesIO()
    table.write_parquet(content, metadata={_CHECKSUM: _BLANK})
    write_atomic(path, _stamped(content.getvalue()))


def load_table(path: Path, kind: Kind) -> "pl.DataFrame":
    """Read what `save_table` wrote.

    Raises:
        ArtefactError: If the file is missing, or not as it was written.
    """
    import polars as pl

    content = _whole(path, kind)
    try:
        return pl.read_parquet(content)
    except pl.exceptions.PolarsError as error:
        raise kind.damaged(path, f"it is no parquet table ({error})") from error


def save_tensors(path: Path, arrays: "Mapping[str, np.ndarray]", facts: Mapping[str, Any]) -> str:
    """Write arrays as safetensors, facts as JSON in the metadata, with a checksum, atomically.

    Returns:
        SHA-256 of the file.

    Raises:
        WriteError: If the file cannot be written.
    """
    import numpy as np
    from safetensors.numpy import save

    metadata = {_FACTS: json.dumps({_CHECKSUM: _BLANK, **facts}, sort_keys=True)}
    tensors = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = _stamped(save(tensors, metadata))
    write_atomic(path, content)
    return hashlib.sha256(content).hexdigest()


def load_tensors(path: Path, kind: Kind) -> "tuple[dict[str, Any], dict[str, np.ndarray]]":
    """Facts and arrays that `save_tensors` wrote.

    Raises:
        ArtefactError: If the file is missing, or not as it was written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = _whole(path, kind)
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = json.loads(header["__metadata__"][_FACTS])
        del facts[_CHECKSUM]
        return facts, load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise kind.damaged(path, f"it is no safetensors file of ours ({error})") from error


def _stamped(content: bytes) -> bytes:
    """The content with its checksum in place of the zeros."""
    if len(_STAMP.findall(content)) != 1:
        raise ValueError("a file cannot hold the checksum of another one")
    stamp = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return content.replace(_BLANK.encode(), stamp.encode())


def _whole(path: Path, kind: Kind) -> bytes:
    """The content of a file whose checksum is right."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise kind.missing(path) from error
    except OSError as error:
        raise kind.damaged(path, f"it cannot be read ({error.strerror})") from error
    found = _STAMP.findall(content)
    if len(found) != 1:
        raise kind.damaged(path, "it carries no checksum")
    blank = _STAMP.sub(_BLANK.encode(), content)
    if hashlib.sha256(blank).hexdigest().encode() != found[0]:
        raise kind.damaged(path, CHANGED)
    return content
