"""A sweep: one job for each combination of values, and the ranked table."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from spectramind.artefacts import Kind, load_json
from spectramind.cli.call import Call, Options
from spectramind.cli.progress import refuse_failures, run_up_to
from spectramind.config import Config, configs_folder, dump, from_tree, load_sweep
from spectramind.errors import ConfigError, DataError, SpectraMindError
from spectramind.files import write_json
from spectramind.provenance import utc_now
from spectramind.sentences import counted
from spectramind.stages.folders import SIDECAR, Stage
from spectramind.stages.freshness import narrowed

_JOB = Kind("record of a job", "spectramind train -m")
METRICS = "metrics.json"  # in the folder of each job of a sweep
_HYDRA_LOG = tuple(  # Hydra reports its jobs on stdout otherwise, where our table goes
    f"hydra.{logger}.handlers.console.stream=ext://sys.stderr"
    for logger in ("hydra_logging", "job_logging")
)


def sweep(call: Call, stage: Stage, overrides: Sequence[str], options: Options) -> None:
    """Hand the overrides to Hydra's own sweeper and rank what its jobs report."""
    if options.params is not None:
        raise ConfigError("--multirun sweeps over KEY=VALUE overrides; it cannot read --params.")
    if options.dry_run or options.out_csv is not None:
        raise ConfigError("--multirun cannot be combined with --dry-run or --out-csv.")
    words = load_sweep(overrides)
    folder = Path("multirun") / f"{stage}-{utc_now().replace(':', '').replace('+0000', '')}"
    _hydra_jobs(call, stage, words, folder, options)
    rows = [
        {"job": path.parent.name, **json.loads(path.read_text(encoding="utf-8"))}
        for path in sorted(folder.glob(f"*/{METRICS}"))
    ]
    rows.sort(key=lambda row: row.get("score", float("-inf")), reverse=True)
    call.outputs = (folder,)
    call.finish(_table(rows), {"jobs": rows, "folder": str(folder)}, as_json=options.as_json)
    failed = [row for row in rows if "error" in row]
    refuse_failures([failure for row in rows for failure in row.get("failures", ())], options)
    if failed:
        raise DataError(
            f"{len(failed)} of {counted(len(rows), 'job')} failed; see the table above."
        )


def _hydra_jobs(
    call: Call, stage: Stage, words: Sequence[str], folder: Path, options: Options
) -> None:
    @hydra.main(config_path=str(configs_folder()), config_name="config", version_base="1.3")
    def job(tree: DictConfig) -> None:
        runtime = HydraConfig.get()
        here = Path(runtime.runtime.output_dir)
        report: dict[str, Any] = {"overrides": list(runtime.overrides.task)}
        try:
            config = narrowed(from_tree(tree), stage)
            if stage == "train":
                _take_members(config, here)
            result, failures = run_up_to(call, config, stage, here / stage, options)
            report |= {**result.facts, "failures": failures}
        except SpectraMindError as error:
            report["error"] = str(error)
        write_json(here / METRICS, report)

    arguments = sys.argv
    sys.argv = [arguments[0], "--multirun", *words, f"hydra.sweep.dir={folder}", *_HYDRA_LOG]
    try:
        job()
    finally:
        sys.argv = arguments


def _take_members(config: Config, here: Path) -> None:
    """Begin with the networks of an earlier job that trained with the same settings.

    The stage keeps those whose key is that of its own, and trains all others.
    """
    for made in sorted(here.parent.glob(f"*/train/{SIDECAR}")):
        values = load_json(made, _JOB)["config"]
        if all(values[part] == dump(config)[part] for part in ("model", "training")):
            copytree(made.parent / "members", here / "train" / "members")
            return


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Jobs as lines, best first."""
    lines = [f"{'rank':>4s}  {'job':>3s}  {'score':>8s}  overrides"]
    for rank, row in enumerate(rows, start=1):
        unscored = "  failed" if "error" in row else "       -"
        value = f"{row['score']:8.4f}" if "score" in row else unscored
        words = " ".join(row["overrides"]) + (f"  ({row['error']})" if "error" in row else "")
        lines.append(f"{rank:4d}  {row['job']:>3s}  {value}  {words}")
    return "\n".join(lines)
