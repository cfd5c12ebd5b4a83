"""The stages as a DVC pipeline: the text of `dvc.yaml`, made from what each depends on."""

from pathlib import Path
from typing import Any

import yaml

from spectramind.closure import PACKAGE, closure
from spectramind.config import Config
from spectramind.stages.folders import STAGES, Stage, command_of, module_of, stage_folder
from spectramind.stages.freshness import SCORED, STAGE_KEYS

_HEAD = """\
# The demo pipeline. Written by: spectramind config dvc experiment=demo
# `params.yaml` is written by: spectramind config freeze experiment=demo
"""
_SOURCE = Path("src")  # where the package lies in the repository


def pipeline_text(config: Config) -> str:
    """The `dvc.yaml` of a run with these settings, whose values are frozen in `params.yaml`."""
    stages = {stage: _entry(config, stage) for stage in STAGES}
    return _HEAD + yaml.safe_dump({"stages": stages}, sort_keys=False)


def _entry(config: Config, stage: Stage) -> dict[str, Any]:
    folder = str(stage_folder(config, stage))
    options = {
        "simulate": {"cache": False},  # as large as the challenge's archive
        "calibrate": {"cache": False, "persist": True},  # its store is a cache by itself
    }
    entry: dict[str, Any] = {
        "cmd": f"python -m spectramind {command_of(stage)} --params params.yaml",
        "deps": [*(str(stage_folder(config, own)) for own in _read_by(stage)), *_code(stage)],
        "params": list(STAGE_KEYS[stage]),
        "outs": [{folder: options[stage]} if stage in options else folder],
    }
    if stage in SCORED:
        entry["metrics"] = [{f"{folder}-metrics.json": {"cache": False}}]
    return entry


def _read_by(stage: Stage) -> tuple[Stage, ...]:
    """Stages whose folder a stage reads: all before it, but of the light curves `fit` alone."""
    before = STAGES[: STAGES.index(stage)]
    return tuple(own for own in before if own != "calibrate" or stage == "fit")


def _code(stage: Stage) -> list[str]:
    """The code of a stage: its modules, and a package in one word where it needs all of it."""
    files = closure(module_of(stage))
    whole = [
        folder
        for folder in sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
        if folder != PACKAGE and _sources(folder) <= files
    ]
    outer = [folder for folder in whole if not any(other in folder.parents for other in whole)]
    alone = [path for path in files if not any(folder in path.parents for folder in outer)]
    return [
        (_SOURCE / path.relative_to(PACKAGE.parent)).as_posix()
        for path in sorted([*outer, *alone])
    ]


def _sources(folder: Path) -> set[Path]:
    """Files of a package, compiled ones left out."""
    return {
        path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"
    }
