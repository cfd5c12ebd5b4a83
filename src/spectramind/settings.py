"""Base class of every configuration section, kinds of values, and the keys of a nested one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt


def user_path(text: str) -> Path:
    """A path as a user writes it: taken verbatim, but for a leading `~`.

    Raises:
        ValueError: If it is empty, or its `~` names nobody.
    """
    if not text:
        raise ValueError("a path cannot be empty: write . for the current folder")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError("there is no such home folder. Write the path in full") from error


def _user_path(value: object) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError("expected a path; one that reads as a number stands in quotes")
    try:
        str(value).encode()
    except UnicodeEncodeError as error:  # no file of settings could hold it
        raise ValueError("the name is not UTF-8 text. Rename it, or name a link to it") from error
    return user_path(str(value))


UserPath = Annotated[Path, BeforeValidator(_user_path)]
Seed = Annotated[StrictInt, Field(ge=0, lt=2**32)]  # as large as every generator takes


class Settings(BaseModel):
    """A frozen section of the configuration: types and ranges, no values, no unknown keys.

    The values live in the YAML groups under `configs/`; a subclass stands beside the code
    that consumes it and declares no default.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted key, for example `training.curriculum.masked.lr`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat


def keys_of_paths(section: type[BaseModel], prefix: str = "") -> frozenset[str]:
    """Dotted keys of all settings below a section whose values are paths."""
    found: set[str] = set()
    for name, field in section.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        if Path in kinds or UserPath in kinds:
            found.add(f"{prefix}{name}")
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= keys_of_paths(kind, f"{prefix}{name}.")
    return frozenset(found)
