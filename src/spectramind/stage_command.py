"""How a stage command runs: once, as a dry run, or as a sweep; and all stages in a row."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from spectramind.artefacts import (
    command_of,
    data_hash,
    require_stages_before,
    seed_of,
    stage_folder,
    stages_before,
)
from spectramind.command import Call, Options, execute
from spectramind.config import (
    Config,
    Stage,
    configs_folder,
    from_tree,
    load_sweep,
    stage_hash,
    stage_values,
)
from spectramind.errors import ConfigError, DataError, SpectraMindError
from spectramind.pipeline import Result, publish_submission, run_all, run_stage
from spectramind.provenance import utc_now, write_json
from spectramind.uq.calibration import NOT_RELATIONAL

METRICS = "metrics.json"  # in the folder of each job of a sweep
_HYDRA_LOG = tuple(  # Hydra reports its jobs on stdout otherwise, where our table goes
    f"hydra.{logger}.handlers.console.stream=ext://sys.stderr"
    for logger in ("hydra_logging", "job_logging")
)


def run_stage_command(stage: Stage, overrides: Sequence[str], options: Options) -> None:
    """Run one stage as the command line asks for it."""

    def body(call: Call) -> None:
        if options.multirun:
            _sweep(call, stage, overrides, options)
            return
        config = call.load_config(overrides, options.params)
        if options.dry_run:
            _dry_run(call, config, stage, options)
            return
        earlier = _bring_up_to_date(call, config, stage, options)
        result = _announced(call, config, stage, stage_folder(config, stage))
        if options.out_csv is not None:
            publish_submission(config, options.out_csv)
            call.outputs = (*call.outputs, options.out_csv)
        _report_failures(call, result.failures)
        call.finish(
            f"{result.summary} ({call.seconds():.1f} s)",
            {**result.facts, "outputs": [str(path) for path in call.outputs]},
            as_json=options.as_json,
        )
        _strict([*earlier, *result.failures], options)

    execute(command_of(stage), body, debug=options.debug)


def run_all_command(overrides: Sequence[str], options: Options) -> None:
    """Run every stage in order."""

    def body(call: Call) -> None:
        config = call.load_config(overrides, options.params)
        failures: list[str] = []
        outputs: list[Path] = []

        def conclude(stage: Stage, result: Result) -> None:
            call.data_hash = data_hash(config)
            call.say(f"{stage}: {result.summary}; {call.seconds():.0f} s so far")
            _report_failures(call, result.failures)
            failures.extend(result.failures)
            outputs.extend(result.outputs)

        result = run_all(config, lambda stage: _open(call, config, stage), conclude)
        call.outputs = tuple(outputs)
        lines = [result.summary, *(str(path) for path in outputs)]
        lines.append(f"all stages took {call.seconds():.0f} s")
        call.finish("\n".join(lines), result.facts, as_json=options.as_json)
        _strict(failures, options)

    execute("run", body, debug=options.debug)


def _open(call: Call, config: Config, stage: Stage) -> None:
    """The opening line of a stage, and what the debug log says of it."""
    call.config_hash = stage_hash(config, stage)
    call.seed = seed_of(config, stage)
    if stage == "predict" and config.uq.corel:
        call.say(NOT_RELATIONAL)
    call.say(
        f"{command_of(stage)}: configuration {call.config_hash}, seed {call.seed}, "
        f"device {call.device}"
    )


def _announced(call: Call, config: Config, stage: Stage, folder: Path) -> Result:
    _open(call, config, stage)
    result = run_stage(config, stage, folder)
    call.data_hash = data_hash(config)
    call.outputs = result.outputs
    return result


def _bring_up_to_date(
    call: Call, config: Config, stage: Stage, options: Options
) -> tuple[str, ...]:
    """Run stale stages before this one; with frozen parameters DVC does that, so refuse.

    Returns:
        A sentence for each planet that these stages left out.
    """
    failures: tuple[str, ...] = ()
    if options.params is not None:
        require_stages_before(config, stage)
        return failures
    for earlier in stages_before(config, stage):
        call.say(f"{command_of(earlier)}: missing or stale, running it first")
        result = _announced(call, config, earlier, stage_folder(config, earlier))
        call.say(f"{command_of(earlier)}: {result.summary}")
        _report_failures(call, result.failures)
        failures += result.failures
    return failures


def _dry_run(call: Call, config: Config, stage: Stage, options: Options) -> None:
    stale = stages_before(config, stage)
    plan = {
        "stage": stage,
        "config_hash": stage_hash(config, stage),
        "values": stage_values(config, stage),
        "data_root": str(config.data.root),
        "runs_first": list(stale),
        "would_write": str(stage_folder(config, stage)),
    }
    text = json.dumps(plan, indent=1)
    call.finish(text, plan, as_json=options.as_json)


def _report_failures(call: Call, failures: Sequence[str]) -> None:
    """A table of what failed and why."""
    if failures:
        call.say(f"{len(failures)} failed, the others went on:")
    for number, sentence in enumerate(failures, start=1):
        call.say(f"{number:4d}  {sentence}")


def _strict(failures: Sequence[str], options: Options) -> None:
    if failures and options.strict:
        raise DataError(f"{len(failures)} failed (listed above) and --strict is set.")


def _sweep(call: Call, stage: Stage, overrides: Sequence[str], options: Options) -> None:
    """Hand the overrides to Hydra's own sweeper and rank what its jobs report."""
    if options.params is not None:
        raise ConfigError("--multirun sweeps over KEY=VALUE overrides; it cannot read --params.")
    if options.dry_run or options.out_csv is not None:
        raise ConfigError("--multirun cannot be combined with --dry-run or --out-csv.")
    load_sweep(overrides)
    folder = Path("multirun") / f"{stage}-{utc_now().replace(':', '').replace('+0000', '')}"
    _hydra_jobs(call, stage, overrides, folder, options)
    rows = [
        {"job": path.parent.name, **json.loads(path.read_text())}
        for path in sorted(folder.glob(f"*/{METRICS}"))
    ]
    rows.sort(key=lambda row: row.get("score", float("-inf")), reverse=True)
    call.outputs = (folder,)
    call.finish(_table(rows), {"jobs": rows, "folder": str(folder)}, as_json=options.as_json)
    failed = [row for row in rows if "error" in row]
    _strict([failure for row in rows for failure in row.get("failures", ())], options)
    if failed:
        raise DataError(f"{len(failed)} of {len(rows)} jobs failed; see the table above.")


def _hydra_jobs(
    call: Call, stage: Stage, overrides: Sequence[str], folder: Path, options: Options
) -> None:
    @hydra.main(config_path=str(configs_folder()), config_name="config", version_base="1.3")
    def job(tree: DictConfig) -> None:
        runtime = HydraConfig.get()
        here = Path(runtime.runtime.output_dir)
        report: dict[str, Any] = {"overrides": list(runtime.overrides.task)}
        try:
            config = from_tree(tree)
            earlier = _bring_up_to_date(call, config, stage, options)
            result = _announced(call, config, stage, here / stage)
            report |= {**result.facts, "failures": [*earlier, *result.failures]}
        except SpectraMindError as error:
            report["error"] = str(error)
        write_json(here / METRICS, report)

    arguments = sys.argv
    sys.argv = [arguments[0], "--multirun", *overrides, f"hydra.sweep.dir={folder}", *_HYDRA_LOG]
    try:
        job()
    finally:
        sys.argv = arguments


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Jobs as lines, best first."""
    lines = [f"{'rank':>4s}  {'job':>3s}  {'score':>8s}  overrides"]
    for rank, row in enumerate(rows, start=1):
        unscored = "  failed" if "error" in row else "       -"
        value = f"{row['score']:8.4f}" if "score" in row else unscored
        words = " ".join(row["overrides"]) + (f"  ({row['error']})" if "error" in row else "")
        lines.append(f"{rank:4d}  {row['job']:>3s}  {value}  {words}")
    return "\n".join(lines)
