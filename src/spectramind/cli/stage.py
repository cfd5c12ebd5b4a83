"""How a stage command runs: once, as a dry run, or as a sweep; and all stages in a row."""

from collections.abc import Sequence
from pathlib import Path

from spectramind.cli.call import Call, Options, command
from spectramind.cli.progress import (
    announce,
    check_labels,
    refuse_failures,
    report_failures,
    require_start,
    run_up_to,
)
from spectramind.config import Config
from spectramind.sentences import counted
from spectramind.stages.checks import device_of, require_inputs
from spectramind.stages.folders import (
    Stage,
    command_of,
    publish_submission,
    stage_folder,
    stages_of,
)
from spectramind.stages.freshness import (
    data_hash,
    narrowed,
    seed_of,
    stage_hash,
    stage_values,
    up_to_date,
)
from spectramind.stages.result import Result
from spectramind.stages.runner import run_all


def run_stage_command(stage: Stage, overrides: Sequence[str], options: Options) -> None:
    """Run one stage as the command line asks for it."""
    with command(command_of(stage), debug=options.debug) as call:
        if options.multirun:
            from spectramind.cli.sweep import sweep  # Hydra's launcher is needed here alone

            sweep(call, stage, overrides, options)
            return
        config = narrowed(call.load_config(overrides, options.params), stage)
        if options.dry_run:
            _show_plan(call, config, stage, options)
            return
        result, failures = run_up_to(call, config, stage, stage_folder(config, stage), options)
        if options.out_csv is not None:
            publish_submission(config, options.out_csv)
            call.outputs = (*call.outputs, options.out_csv)
        call.finish(
            f"{result.summary} ({call.seconds():.1f} s)",
            {**result.facts, "outputs": [str(path) for path in call.outputs]},
            as_json=options.as_json,
        )
        refuse_failures(failures, options)


def run_all_command(overrides: Sequence[str], options: Options) -> None:
    """Run every stage in order."""
    with command("run", debug=options.debug) as call:
        config = narrowed(call.load_config(overrides, options.params), "diagnose")
        failures: list[str] = []
        outputs: list[Path] = []

        def conclude(stage: Stage, result: Result) -> None:
            call.data_hash = data_hash(config)
            kept = "up to date, " if result.kept else ""
            call.say(f"{stage}: {kept}{result.summary}; {call.seconds():.0f} s so far")
            report_failures(call, result.failures)
            failures.extend(result.failures)
            outputs.extend(result.outputs)

        def begin(stage: Stage) -> None:
            check_labels(call, config, stage, trains=True)
            announce(call, config, stage)

        require_inputs(config, stages_of(config))
        result = run_all(config, begin, conclude, overwrite=options.overwrite)
        call.outputs = tuple(outputs)
        lines = [result.summary, *(str(path) for path in outputs)]
        lines.append(f"all stages took {call.seconds():.0f} s")
        call.finish("\n".join(lines), result.facts, as_json=options.as_json)
        refuse_failures(failures, options)


def _show_plan(call: Call, config: Config, stage: Stage, options: Options) -> None:
    """Print what a stage would do, after the same checks."""
    stale = require_start(config, stage, stage_folder(config, stage), options)
    call.device = device_of(config, stage)
    call.config_hash, call.seed = stage_hash(config, stage), seed_of(config, stage)
    plan = {
        "stage": stage,
        "config_hash": call.config_hash,
        "values": stage_values(config, stage),
        "seed": call.seed,
        "device": call.device,
        "workers": config.runtime.workers,
        "data_root": str(config.data.root),
        "splits": list(config.data.splits),
        "runs_first": list(stale),
        "would_write": str(stage_folder(config, stage)),
        "up_to_date": not stale and up_to_date(config, stage),
    }
    shown = {
        "stage": command_of(stage),
        "configuration": f"{call.config_hash} (values: spectramind config show)",
        "seed": call.seed,
        "device": f"{call.device}, {counted(config.runtime.workers, 'worker')}",
        "archive": plan["data_root"],
        "planets of": " and ".join(config.data.splits),
        "runs first": ", ".join(map(command_of, stale)) or "nothing",
        "writes": plan["would_write"],
        "result there": "up to date; it would be made again" if plan["up_to_date"] else "none",
    }
    lines = [f"{name:15s}{value}" for name, value in shown.items()]
    call.finish(
        "\n".join([*lines, "nothing has been done: leave --dry-run out to run it"]),
        plan,
        as_json=options.as_json,
        state="dry run",
    )
