"""What a running command says: opening and closing lines, stages run first, failures."""

from collections.abc import Sequence
from pathlib import Path

from spectramind.cli.call import Call, Options
from spectramind.config import Config
from spectramind.errors import DataError
from spectramind.stages.folders import Stage, command_of, stage_folder
from spectramind.stages.freshness import (
    data_hash,
    require_stages_before,
    seed_of,
    stage_hash,
    stages_before,
)
from spectramind.stages.result import Result
from spectramind.stages.runner import run_stage
from spectramind.uq.settings import NOT_RELATIONAL


def announce(call: Call, config: Config, stage: Stage) -> None:
    """The opening line of a stage, and what the debug log says of it."""
    from spectramind.training.device import resolve_device

    call.device = resolve_device(config.runtime.device).type
    call.config_hash = stage_hash(config, stage)
    call.seed = seed_of(config, stage)
    if stage == "predict" and config.uq.corel:
        call.say(NOT_RELATIONAL)
    call.say(
        f"{command_of(stage)}: configuration {call.config_hash}, seed {call.seed}, "
        f"device {call.device}"
    )


def announced(call: Call, config: Config, stage: Stage, folder: Path) -> Result:
    """Say what runs, run it, and note for the debug log what it was made from."""
    announce(call, config, stage)
    result = run_stage(config, stage, folder)
    call.data_hash = data_hash(config)
    call.outputs = result.outputs
    return result


def bring_up_to_date(
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
        result = announced(call, config, earlier, stage_folder(config, earlier))
        call.say(f"{command_of(earlier)}: {result.summary}")
        report_failures(call, result.failures)
        failures += result.failures
    return failures


def report_failures(call: Call, failures: Sequence[str]) -> None:
    """A table of what failed and why."""
    if failures:
        call.say(f"{len(failures)} failed, the others went on:")
    for number, sentence in enumerate(failures, start=1):
        call.say(f"{number:4d}  {sentence}")


def strict(failures: Sequence[str], options: Options) -> None:
    """With `--strict`, planets that were left out are an error.

    Raises:
        DataError: If there are any.
    """
    if failures and options.strict:
        raise DataError(f"{len(failures)} failed (listed above) and --strict is set.")
