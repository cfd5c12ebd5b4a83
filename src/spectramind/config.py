"""Composition of the configuration: YAML groups through Hydra into one frozen, validated object.

Values live in `configs/`, types and ranges in the pydantic sections beside the code that reads
them.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, StrictInt, ValidationError
from pydantic_core import ErrorDetails

from spectramind.archive.settings import DataConfig
from spectramind.calibrate.settings import CalibrationConfig
from spectramind.diagnose.settings import DiagnosticsConfig
from spectramind.errors import ConfigError
from spectramind.model.settings import ModelConfig
from spectramind.overrides import FORM, parse
from spectramind.settings import Settings, UserPath, flatten, keys_of_paths
from spectramind.simulate.settings import SimulateConfig
from spectramind.training.settings import LoggerKind, TrainingConfig
from spectramind.transit.settings import TransitConfig
from spectramind.uq.settings import UQConfig

_PACKAGE = "# @package "


class RuntimeConfig(Settings):
    """Where and how to run; results differ by rounding, and by dropout where devices > 1."""

    out: UserPath  # folder of all artefacts
    workers: StrictInt = Field(ge=1)  # processes
    device: Literal["auto", "cpu", "cuda"]
    devices: StrictInt = Field(ge=1)  # processes that train a network together, a GPU each
    logger: LoggerKind


class Config(Settings):
    """The whole configuration; it ends in `stages`, the science receives its own sections."""

    data: DataConfig
    prior: UserPath | None  # trained priors of another `fit`, or `pretrained`; None: own
    weights: UserPath | None  # run whose network predicts, or `pretrained`; None: own
    simulate: SimulateConfig
    calibration: CalibrationConfig
    transit: TransitConfig
    model: ModelConfig
    training: TrainingConfig
    uq: UQConfig
    diagnostics: DiagnosticsConfig
    runtime: RuntimeConfig

    def frozen(self) -> str:
        """The text of `params.yaml`: resolved values, sorted keys."""
        return text_of(dump(self))


def configs_folder() -> Path:
    """The YAML groups: beside the package when installed, in the repository otherwise."""
    packaged = Path(__file__).resolve().parent / "configs"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "configs"


def load(overrides: Sequence[str]) -> Config:
    """Compose `configs/config.yaml` with `KEY=VALUE` overrides and validate the result.

    Raises:
        ConfigError: If a group, key, value or combination is not usable.
    """
    return _compose(_parsed(overrides, sweep=False))


def _parsed(words: Sequence[str], *, sweep: bool) -> list[Override]:
    return parse(words, keys_of_paths(Config), sweep=sweep)


def _compose(overrides: Sequence[Override]) -> Config:
    for override in overrides:
        _require_choice(override)
    words = tuple(str(override.input_line) for override in overrides)
    try:
        return _composed(configs_folder(), words)
    except MissingConfigException as error:
        raise _no_such_choice(error) from error
    except HydraException as error:
        raise _bad_override(error) from error


@lru_cache(maxsize=64)
def _composed(folder: Path, words: tuple[str, ...]) -> Config:
    """A third of a second of YAML; benchmarks ask for the same words again and again."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        return from_tree(compose("config", list(words)))


def from_tree(tree: DictConfig) -> Config:
    """Resolve and validate a composed tree."""
    try:
        values = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"configuration: {str(error).splitlines()[0]}.") from error
    return validate(values)


def load_sweep(overrides: Sequence[str]) -> list[str]:
    """Check every value of a sweep, the other overrides at their first value.

    Returns:
        The overrides as Hydra's own sweeper takes them.

    Raises:
        ConfigError: If an override cannot be parsed, or a value is not usable.
    """
    parsed = _parsed(overrides, sweep=True)
    values = [_values(override) for override in parsed]
    first = [choices[0] for choices in values]
    for index, choices in enumerate(values):
        for choice in choices[1:] if index else choices:
            _compose([*first[:index], choice, *first[index + 1 :]])
    return [str(override.input_line) for override in parsed]


def _values(override: Override) -> list[Override]:
    """The overrides that a sweep over this one consists of."""
    if not override.is_sweep_override():
        return [override]
    key = override.get_key_element()
    return parse([f"{key}={value}" for value in override.sweep_string_iterator()], (), sweep=True)


def load_params(path: Path) -> Config:
    """Read a frozen configuration, as `spectramind config freeze` writes it."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}). "
            f"Write it with: spectramind config freeze -o {path}"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML ({str(error).splitlines()[0]}).") from error
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise _bad_params(path, error) from error


def validate(values: object) -> Config:
    """Check types and ranges of a plain tree.

    Raises:
        ConfigError: All faults in one message, each with its key.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentences(error)) from error


def dump(config: Config) -> dict[str, Any]:
    """The configuration as plain JSON types."""
    return config.model_dump(mode="json")


def text_of(values: Mapping[str, Any]) -> str:
    """Values as YAML with sorted keys."""
    return yaml.safe_dump(dict(values), sort_keys=True)


def part(values: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401 - any JSON value
    """What stands at a dotted key, or at the place of a group such as `decoders`.

    Raises:
        ConfigError: If there is no such key; suggests one.
    """
    files = sorted((configs_folder() / key).glob("*.yaml")) if key.isidentifier() else []
    place = _package(files[0], files[0].read_text(encoding="utf-8")) if files else key
    found: Any = values
    for name in place.split("."):
        if not isinstance(found, Mapping) or name not in found:
            raise ConfigError(f"{key}: no such key.{_nearest(key)}")
        found = found[name]
    return found


def _no_such_choice(error: MissingConfigException) -> ConfigError:
    wanted = str(error.missing_cfg_file).removesuffix(".yaml")
    group, _, name = wanted.rpartition("/")
    options = ", ".join(error.options or ())
    near = difflib.get_close_matches(name, list(error.options or ()), n=1)
    hint = f" Did you mean {group}={near[0]}?" if near else ""
    return ConfigError(f"{group}={name}: no such choice.{hint} There are: {options}.")


def _require_choice(override: Override) -> None:
    """Refuse a group that is set to something else than the name of a choice.

    Raises:
        ConfigError: Names the choices.
    """
    group, value = override.key_or_group, override.value()
    choices = sorted(path.stem for path in (configs_folder() / group).glob("*.yaml"))
    if choices and not override.is_delete() and not isinstance(value, str):
        named = ", ".join(choices)
        raise ConfigError(f"{override.input_line}: no such choice. There are: {named}.")


def _bad_override(error: HydraException) -> ConfigError:
    cause = error.__cause__
    key = getattr(cause, "full_key", None)
    if key and type(cause).__name__ == "ConfigAttributeError":
        return ConfigError(f"{key}: no such key.{_nearest(str(key))}")
    lines = str(error).splitlines()
    return ConfigError(f"{lines[0].rstrip('.')}. {FORM}")


def _nearest(key: str) -> str:
    """Suggest the most alike key of the default configuration; leaves and sections count."""
    known: set[str] = set()
    for path in configs_folder().glob("*/*.yaml"):
        if path.parent.name == "experiment":
            continue
        text = path.read_text(encoding="utf-8")
        for leaf in flatten(yaml.safe_load(text), f"{_package(path, text)}."):
            parts = leaf.split(".")
            known.update(".".join(parts[:n]) for n in range(1, len(parts) + 1))
    near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.6)
    if not near:
        last = key.rpartition(".")[2]
        near = [name for name in sorted(known) if name.rpartition(".")[2] == last][:1]
    return f" Did you mean {near[0]}?" if near else " See: spectramind config show"


def _package(path: Path, text: str) -> str:
    """Where a group's values stand: in a section of its own name, or where its head line says."""
    first = text.splitlines()[0]
    return first.removeprefix(_PACKAGE) if first.startswith(_PACKAGE) else path.parent.name


def _bad_params(path: Path, error: ValidationError) -> ConfigError:
    """A frozen file has all keys of the version that wrote it; nobody mends them one by one."""
    wrong: dict[str, list[str]] = {"extra_forbidden": [], "missing": [], "model_type": []}
    for detail in error.errors(include_url=False):
        wrong.get(detail["type"], []).append(_key(detail))
    if not any(wrong.values()):
        return ConfigError(_sentences(error))
    strange, lost, other = (", ".join(keys[:3]) for keys in wrong.values())
    found = [
        *([f"there is no key {strange}"] if strange else []),
        *([f"{lost} has no value"] if lost else []),
        *([f"{other or 'it'} is no section"] if wrong["model_type"] else []),
    ]
    return ConfigError(
        f"{path}: is not of this version's layout: {'; '.join(found)}. Write it anew with: "
        f"spectramind config freeze -o {path} (and the KEY=VALUE that it was written with)."
    )


def _sentences(error: ValidationError) -> str:
    return "\n".join(_sentence(detail) for detail in error.errors(include_url=False))


def _key(detail: ErrorDetails) -> str:
    return ".".join(str(part) for part in detail["loc"])


def _sentence(detail: ErrorDetails) -> str:
    key = _key(detail)
    if detail["type"] == "extra_forbidden":
        return f"{key}: no such key.{_nearest(key)}"
    if detail["type"] == "missing":
        return f"{key}: has no value. Give one with {key}=VALUE."
    got = json.dumps(detail["input"], default=str)
    expected = detail.get("ctx", {}).get("expected", "")
    if detail["type"] == "literal_error" and " or " not in expected:
        return f"{key}: got {got}; this version has {expected} alone. Leave the key out."
    message = detail["msg"].removeprefix("Value error, ")
    return f"{key}: got {got}; {message[0].lower()}{message[1:]}."
