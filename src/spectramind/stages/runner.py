"""How stages run: one alone or all in order, each sealed with `stage.json`, one at a time.

A stage reads the artefacts of earlier stages under `runtime.out`, writes its own folder and,
last of all, `stage.json` with its provenance.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

from spectramind.config import Config, dump
from spectramind.files import alone, unwritable, write_json
from spectramind.provenance import Provenance, write_sidecar
from spectramind.stages.checks import device_of, require_data
from spectramind.stages.folders import (
    SIDECAR,
    Stage,
    command_of,
    module_of,
    read_sidecar,
    stage_folder,
    stages_of,
)
from spectramind.stages.freshness import (
    SCORED,
    built_on,
    code_so_far,
    data_hash,
    forget_data_hash,
    provenance_of,
    require_replaceable,
    stage_values,
    up_to_date,
)
from spectramind.stages.result import Result

StageFunction = Callable[[Config, Path, Provenance], Result]


def run_stage(config: Config, stage: Stage, folder: Path, *, overwrite: bool = False) -> Result:
    """Run one stage into a folder and seal it with `stage.json`.

    Args:
        config: The whole configuration.
        stage: Which one.
        folder: Where its products go.
        overwrite: Replace a finished run of another configuration.

    Raises:
        ConfigError: If the stage is not for these data.
        ArtefactError: If the folder holds a finished run of another configuration.
    """
    require_data(config, stage)
    start = time.monotonic()
    with _alone(stage, folder):
        if not overwrite:
            require_replaceable(config, stage, folder)
        provenance = provenance_of(config, stage)
        origin = {"code_so_far": code_so_far(stage), "built_on": built_on(config, stage)}
        _unseal(folder)
        result = _function(stage)(config, folder, provenance)
        if stage == "simulate":
            forget_data_hash()
            provenance = replace(provenance, data_hash=data_hash(config))
        seconds = round(time.monotonic() - start, 3)
        _seal(config, stage, folder, result, provenance, **origin, seconds=seconds)
    return result


def run_all(
    config: Config,
    announce: Callable[[Stage], None],
    conclude: Callable[[Stage, Result], None],
    *,
    overwrite: bool = False,
) -> Result:
    """All stages in order, the archive included where it is a simulated one; fresh ones are kept.

    Args:
        config: The whole configuration.
        announce: Called before each stage that runs.
        conclude: Called with the result of each stage.
        overwrite: Replace finished runs of another configuration.

    Returns:
        The result of the last stage.
    """
    if not overwrite:
        for stage in stages_of(config):  # before anything is computed
            require_replaceable(config, stage, stage_folder(config, stage))
    for stage in stages_of(config):
        if up_to_date(config, stage):
            result = _kept(config, stage)
        else:
            announce(stage)
            folder = stage_folder(config, stage)
            result = run_stage(config, stage, folder, overwrite=overwrite)
        conclude(stage, result)
    return result


def _kept(config: Config, stage: Stage) -> Result:
    """What an earlier run of a fresh stage did."""
    made = read_sidecar(config, stage)
    assert made is not None  # it is fresh
    outputs = tuple(Path(path) for path in made["outputs"])
    return Result(made["summary"], outputs, made["facts"], tuple(made["failures"]), kept=True)


def _function(stage: Stage) -> StageFunction:
    """The function of a stage; its file is loaded when it runs, for some take seconds to load."""
    name = module_of(stage)
    return getattr(import_module(name), name.rpartition(".")[2])


def _seal(
    config: Config, stage: Stage, folder: Path, result: Result, made: Provenance, **facts: object
) -> None:
    """Write what the stage leaves beside its products: metrics, then `stage.json`."""
    if stage in SCORED:
        write_json(folder.with_name(f"{stage}-metrics.json"), {**asdict(made), **result.facts})
    write_sidecar(
        folder / SIDECAR,
        made,
        **facts,
        run=secrets.token_hex(8),  # tells this run from one that seals the same
        command=command_of(stage),
        device=device_of(config, stage),
        outputs=[str(path) for path in result.outputs],
        summary=result.summary,
        facts=dict(result.facts),
        failures=list(result.failures),
        state="done",
        config=dump(config),
        values=stage_values(config, stage),
        splits=list(config.data.splits),
    )


def _alone(stage: Stage, folder: Path) -> AbstractContextManager[None]:
    """Hold the stage's folder for this process; the lock vanishes with it.

    `calibrate` needs none: its store locks single visits, so several processes may share it.
    """
    if stage == "calibrate":
        return nullcontext()
    return alone(
        folder.with_name(f".{stage}.lock"),
        f"{folder}: another process is running `spectramind {command_of(stage)}` there. "
        "Wait for it, or give this run its own runtime.out.",
    )


def _unseal(folder: Path) -> None:
    """Remove the mark of an earlier run, so that a run that fails leaves no stage called done."""
    try:
        (folder / SIDECAR).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder / SIDECAR, error) from error
