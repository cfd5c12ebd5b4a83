"""What a running command says: opening and closing lines, stages run first, failures."""

from collections.abc import Sequence
from pathlib import Path

from spectramind.cli.call import Call, Options
from spectramind.config import Config
from spectramind.errors import DataError
from spectramind.sentences import counted
from spectramind.stages.checks import device_of, require_inputs
from spectramind.stages.folders import Stage, command_of, stage_folder
from spectramind.stages.freshness import (
    data_hash,
    require_replaceable,
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
    call.device = device_of(config, stage)
    call.config_hash = stage_hash(config, stage)
    call.seed = seed_of(config, stage)
    if stage == "predict" and config.uq.corel:
        call.say(NOT_RELATIONAL)
    call.say(
        f"{command_of(stage)}: configuration {call.config_hash}, seed {call.seed}, "
        f"device {call.device}"
    )


def run_up_to(
    call: Call, config: Config, stage: Stage, folder: Path, options: Options
) -> tuple[Result, list[str]]:
    """Run a stage into its folder, after those before it that are stale.

    With frozen parameters DVC runs the stages before, so stale ones are refused.

    Returns:
        The result of the stage, and a sentence for each planet left out on the way.
    """
    stale = require_start(config, stage, folder, options)
    results = []
    trains = "train" in (*stale, stage) or options.params is not None
    check_labels(call, config, (*stale, stage)[0], trains=trains)
    for own in (*stale, stage):
        first = own != stage
        if first:
            call.say(f"{command_of(own)}: missing or stale, running it first")
        announce(call, config, own)
        where = stage_folder(config, own) if first else folder
        result = run_stage(config, own, where, overwrite=options.overwrite)
        call.data_hash, call.outputs = data_hash(config), result.outputs
        if first:
            call.say(f"{command_of(own)}: {result.summary}")
        report_failures(call, result.failures)
        results.append(result)
    return results[-1], [sentence for result in results for sentence in result.failures]


def require_start(
    config: Config, stage: Stage, folder: Path, options: Options
) -> tuple[Stage, ...]:
    """Refuse what a stage would stumble over later.

    Returns:
        The stages that have to run before it, in order.
    """
    if options.params is None:
        stale = stages_before(config, stage)
    else:
        require_stages_before(config, stage)
        stale = ()
    require_inputs(config, (*stale, stage), options.out_csv)
    if not options.overwrite:
        for own in stale:
            require_replaceable(config, own, stage_folder(config, own))
        require_replaceable(config, stage, folder)
    return stale


def check_labels(call: Call, config: Config, stage: Stage, *, trains: bool) -> None:
    """Before the first long stages: say, or if a network is to be trained refuse, bad labels.

    Raises:
        DataError: If labels cannot teach the network that this command or pipeline trains.
    """
    if config.weights is not None or stage not in ("calibrate", "fit"):
        return
    from spectramind.stages.train import require_labels  # loads torch

    try:
        require_labels(config)
    except DataError as error:
        if trains:
            raise
        call.say(f"note: {error} Until then nothing can be trained.")


def report_failures(call: Call, failures: Sequence[str]) -> None:
    """A table of what was left out or mended, and why."""
    if failures:
        call.say(f"{counted(len(failures), 'note')} on what is left out or doubted:")
    for number, sentence in enumerate(failures, start=1):
        call.say(f"{number:4d}  {sentence}")


def refuse_failures(failures: Sequence[str], options: Options) -> None:
    """With `--strict`, whatever was left out or doubted is an error.

    Raises:
        DataError: If there are any.
    """
    if failures and options.strict:
        noted = counted(len(failures), "note")
        raise DataError(f"--strict is set, and there is something left out or doubted ({noted}).")
