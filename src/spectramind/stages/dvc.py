"""The stages as a DVC pipeline: the text of `dvc.yaml`, made from what each depends on."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from spectramind.closure import PACKAGE, closure
from spectramind.config import Config
from spectramind.stages.folders import (
    Stage,
    command_of,
    module_of,
    stage_folder,
    stages_of,
)
from spectramind.stages.freshness import SCORED, STAGE_KEYS, stages_read

_HEAD = """\
# Written by: spectramind config dvc{words}
# `params.yaml` is written by: spectramind config freeze{words}
"""
_SOURCE = Path("src")  # where the package lies in the repository


def pipeline_text(config: Config, overrides: Sequence[str]) -> str:
    """The `dvc.yaml` of a run with these settings, whose values are frozen in `params.yaml`.

    Args:
        config: The whole configuration.
        overrides: The words that it was composed from.
    """
    stages = {stage: _entry(config, stage) for stage in stages_of(config)}
    head = _HEAD.format(words="".join(f" {shlex.quote(word)}" for word in overrides))
    return head + yaml.safe_dump({"stages": stages}, sort_keys=False)


def _entry(config: Config, stage: Stage) -> dict[str, Any]:
    folder = str(stage_folder(config, stage))
    options = {
        "simulate": {"cache": False},  # as large as the challenge's archive
        "calibrate": {"cache": False, "persist": True},  # its store is a cache by itself
    }
    outs = dict.fromkeys([str(config.data.root), folder] if stage == "simulate" else [folder])
    entry: dict[str, Any] = {
        "cmd": f"python -m spectramind {command_of(stage)} --params params.yaml",
        "deps": [*_read_by(config, stage), *_code(stage)],
        "params": list(STAGE_KEYS[stage]),
        "outs": [{out: options[stage]} if stage in options else out for out in outs],
    }
    if stage in SCORED:
        entry["metrics"] = [{f"{folder}-metrics.json": {"cache": False}}]
    return entry


def _read_by(config: Config, stage: Stage) -> list[str]:
    """What a stage reads: archive and folders before it, but of the light curves `fit` alone."""
    if stage == "simulate":
        return []
    folders = [
        str(stage_folder(config, own))
        for own in stages_read(config, stage)
        if own != "calibrate" or stage == "fit"
    ]
    return [str(config.data.root), *folders]


def _code(stage: Stage) -> list[str]:
    """The code of a stage, each file by name: a folder would hold what Python leaves there too."""
    names = (path.relative_to(PACKAGE.parent) for path in closure(module_of(stage)))
    return sorted((_SOURCE / name).as_posix() for name in names)
