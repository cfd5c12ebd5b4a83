"""What the stages were made from, and whether what lies on disk is still that.

A stage is fresh while its configuration, its code and its archive are those that it was made
with, and no stage before it has run again. `STAGE_KEYS` is the one place that says which keys a
stage's result depends on; what code it depends on is read from its imports.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from spectramind.archive.fingerprint import archive_hash
from spectramind.closure import code_hash
from spectramind.config import Config, dump
from spectramind.errors import ArtefactError
from spectramind.provenance import Provenance, describe, digest
from spectramind.settings import flatten
from spectramind.stages.folders import (
    CALIBRATION,
    OF_TRAINING,
    STAGES,
    Stage,
    command_of,
    module_of,
    read_seal,
    read_sidecar,
    run_folder,
    stage_folder,
)

# Keys that each stage adds to those of the stages before it; `simulate` stands alone, because
# the stages after it know the archive by its data hash.
STAGE_KEYS: dict[Stage, tuple[str, ...]] = {
    "simulate": ("data.level", "simulate"),
    "calibrate": ("calibration", "data.level"),
    "fit": ("prior", "transit"),
    "train": (
        "diagnostics.metric",
        "model",
        "simulate.atmosphere",
        "simulate.population",
        "training",
        "uq.epistemic",
        "uq.mc_samples",
    ),
    "calibrate-temp": ("uq.levels", "uq.temp_scale"),
    "predict": ("weights",),
    "diagnose": ("diagnostics", "uq.corel"),
}
SCORED: tuple[Stage, ...] = ("train", "diagnose")  # stages whose facts are metrics
_NOT_RESULT = {"calibration": ("cache",)}  # keys inside a section that change no result
# Files of another run that say what is taken from it; priors may be a file of their own.
_NAMED = 3  # keys that one sentence names
_PRIORS = "fit/priors/all.safetensors"
_MEMBERS = "train/members/*.json"
_QUANTILES = f"calibrate-temp/{CALIBRATION}"


def stage_values(config: Config, stage: Stage) -> dict[str, Any]:
    """The values that the result of a stage depends on, those of earlier stages included.

    Another run that is named in them counts by what is taken from it, wherever it lies.
    """
    tree = dump(config)
    tree["prior"] = _borrowed(config.prior, _PRIORS)
    tree["training"]["start"] = _borrowed(config.training.start, _MEMBERS)
    tree["weights"] = _borrowed(config.weights, _MEMBERS, _QUANTILES)
    for section, names in _NOT_RESULT.items():
        for name in names:
            del tree[section][name]
    return {key: _at(tree, key) for name in _up_to(stage) for key in STAGE_KEYS[name]}


def stage_hash(config: Config, stage: Stage) -> str:
    """Configuration hash of a stage: no paths, workers, device or logger enter it."""
    return digest(stage_values(config, stage))


def stage_code(stage: Stage) -> str:
    """Hash of all code that a stage's own work depends on: the import closure of its file."""
    return code_hash(module_of(stage))


def code_so_far(stage: Stage) -> str:
    """Hash of the code of a stage and of the stages before it."""
    return code_hash(*map(module_of, _up_to(stage)))


def _up_to(stage: Stage) -> tuple[Stage, ...]:
    """A stage and those before it, whose settings and code it inherits."""
    return STAGES[0 if stage == "simulate" else 1 : STAGES.index(stage) + 1]


def _at(tree: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401 - any JSON value
    value: Any = tree
    for part in key.split("."):
        value = value[part]
    return value


def _borrowed(named: Path | None, *patterns: str) -> str | None:
    """Hash of what is taken from another run."""
    if named is None:
        return None
    run, seen = run_folder(named), hashlib.sha256()
    files = [path for pattern in patterns for path in sorted(run.glob(pattern))]
    for path in files or [run]:
        seen.update(path.read_bytes() if path.is_file() else b"not there")
    return seen.hexdigest()[:16]


def built_on(config: Config, stage: Stage) -> str:
    """Hash of the seals of the stages that a stage reads: other when one of them has run again."""
    return digest([read_sidecar(config, own) for own in stages_read(config, stage)])


def stages_read(config: Config, stage: Stage) -> tuple[Stage, ...]:
    """Stages that a stage reads; the archive is known by its data hash instead."""
    needed = STAGES[1 : max(STAGES.index(stage), 1)]
    if stage in ("predict", "diagnose") and config.weights is not None:
        return tuple(name for name in needed if name not in OF_TRAINING)
    return needed


@cache
def _archive_hash(root: Path) -> str:
    return archive_hash(root)


def data_hash(config: Config) -> str:
    """Hash of the archive at `data.root`; see `archive.fingerprint`.

    Raises:
        DataError: If there is no archive.
    """
    from spectramind.archive.opening import open_data  # polars takes half a second to import

    open_data(config.data)
    return _archive_hash(config.data.root.resolve())


def forget_data_hash() -> None:
    """Hash the archive anew: it has been written."""
    _archive_hash.cache_clear()


def seed_of(config: Config, stage: Stage) -> int:
    """The seed that a stage draws from."""
    return config.simulate.seed if stage == "simulate" else config.training.seed


def provenance_of(config: Config, stage: Stage) -> Provenance:
    """Provenance of what a stage makes now; `simulate` knows its archive at the end alone."""
    return describe(
        stage=stage,
        config_hash=stage_hash(config, stage),
        code_hash=stage_code(stage),
        data_hash="" if stage == "simulate" else data_hash(config),
        seed=seed_of(config, stage),
    )


def require_replaceable(config: Config, stage: Stage, folder: Path) -> None:
    """Refuse to replace a finished run of another configuration.

    The light curves of each calibration have a folder of their own, and the simulator looks after
    its archive itself.

    Raises:
        ArtefactError: Names the keys that differ, and the two ways on.
    """
    made = read_seal(folder, stage)
    if made is None or stage in ("simulate", "calibrate"):
        return
    there, asked = (flatten(own) for own in (made["values"], stage_values(config, stage)))
    differ = [key for key in sorted(there.keys() | asked) if there.get(key) != asked.get(key)]
    if differ:
        named = ", ".join(
            f"{key} is {json.dumps(there.get(key))} there and {json.dumps(asked.get(key))} here"
            for key in differ[:_NAMED]
        )
        more = f", and {len(differ) - _NAMED} more" if len(differ) > _NAMED else ""
        raise ArtefactError(
            f"{folder}: holds a finished run of another configuration ({named}{more}). Keep both "
            "with runtime.out=FOLDER of your own, or replace that one with --overwrite."
        )


def up_to_date(config: Config, stage: Stage) -> bool:
    """Whether this code made what the stage left with this configuration from these data."""
    made = read_sidecar(config, stage)
    wanted = {
        "config_hash": stage_hash(config, stage),
        "code_so_far": code_so_far(stage),
        "built_on": built_on(config, stage),
    }
    if made is None or any(made.get(key) != value for key, value in wanted.items()):
        return False
    if not set(config.data.splits) <= set(made.get("splits", ())):
        return False
    if stage == "simulate":  # its archive may be gone, or lie elsewhere
        root = config.data.root
        return root.is_dir() and made.get("data_hash") == _archive_hash(root.resolve())
    return made.get("data_hash") == data_hash(config)


def narrowed(config: Config, stage: Stage) -> Config:
    """The configuration for what a stage asks of planets: `predict` may need test planets alone.

    Nothing is learned from training planets where the network and the priors are of another run,
    and none of them is judged.
    """
    if stage not in ("predict", "diagnose") or config.weights is None or config.prior is None:
        return config
    data = config.data.model_copy(update={"splits": ("test",)})
    return config.model_copy(update={"data": data})


def stages_before(config: Config, stage: Stage) -> tuple[Stage, ...]:
    """Stages to run first, in order, so that `stage` has what it reads; none when all is fresh.

    The archive itself is never simulated on the way: a missing one is an error with advice.
    """
    needed = stages_read(config, stage)
    stale = [name for name in needed if not up_to_date(config, name)]
    return needed[needed.index(stale[0]) :] if stale else ()


def require_stages_before(config: Config, stage: Stage) -> None:
    """Refuse to go on when an earlier stage is missing or stale.

    Raises:
        ArtefactError: Names the command to run first.
    """
    stale = stages_before(config, stage)
    if stale:
        raise ArtefactError(
            f"{stage_folder(config, stale[0])}: missing, or made with another configuration, code "
            "or archive, or before a stage that has run again since. "
            f"Run `spectramind {command_of(stale[0])}` with the same settings first."
        )
