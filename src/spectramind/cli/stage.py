"""How a stage command runs: once, as a dry run, or as a sweep; and all stages in a row."""

import json
from collections.abc import Sequence
from pathlib import Path

from spectramind.cli.call import Call, Options, execute
from spectramind.cli.progress import announce, announced, bring_up_to_date, report_failures, strict
from spectramind.config import Config
from spectramind.stages.folders import Stage, command_of, publish_submission, stage_folder
from spectramind.stages.freshness import data_hash, stage_hash, stage_values, stages_before
from spectramind.stages.result import Result
from spectramind.stages.runner import run_all


def run_stage_command(stage: Stage, overrides: Sequence[str], options: Options) -> None:
    """Run one stage as the command line asks for it."""

    def body(call: Call) -> None:
        if options.multirun:
            from spectramind.cli.sweep import sweep  # Hydra's launcher is needed here alone

            sweep(call, stage, overrides, options)
            return
        config = call.load_config(overrides, options.params)
        if options.dry_run:
            _dry_run(call, config, stage, options)
            return
        earlier = bring_up_to_date(call, config, stage, options)
        result = announced(call, config, stage, stage_folder(config, stage))
        if options.out_csv is not None:
            publish_submission(config, options.out_csv)
            call.outputs = (*call.outputs, options.out_csv)
        report_failures(call, result.failures)
        call.finish(
            f"{result.summary} ({call.seconds():.1f} s)",
            {**result.facts, "outputs": [str(path) for path in call.outputs]},
            as_json=options.as_json,
        )
        strict([*earlier, *result.failures], options)

    execute(command_of(stage), body, debug=options.debug)


def run_all_command(overrides: Sequence[str], options: Options) -> None:
    """Run every stage in order."""

    def body(call: Call) -> None:
        config = call.load_config(overrides, options.params)
        failures: list[str] = []
        outputs: list[Path] = []

        def conclude(stage: Stage, result: Result) -> None:
            call.data_hash = data_hash(config)
            kept = "up to date, " if result.kept else ""
            call.say(f"{stage}: {kept}{result.summary}; {call.seconds():.0f} s so far")
            report_failures(call, result.failures)
            failures.extend(result.failures)
            outputs.extend(result.outputs)

        result = run_all(config, lambda stage: announce(call, config, stage), conclude)
        call.outputs = tuple(outputs)
        lines = [result.summary, *(str(path) for path in outputs)]
        lines.append(f"all stages took {call.seconds():.0f} s")
        call.finish("\n".join(lines), result.facts, as_json=options.as_json)
        strict(failures, options)

    execute("run", body, debug=options.debug)


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
