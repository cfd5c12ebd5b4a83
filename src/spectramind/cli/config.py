"""`spectramind config`: show, freeze, compare and check configurations."""

from pathlib import Path
from typing import Annotated, Any

import typer

from spectramind.cli.call import Call, command
from spectramind.cli.words import PATH, Debug, Json, Overrides, Params, example_lines
from spectramind.errors import ConfigError

config_app = typer.Typer(no_args_is_help=True, help="Show, freeze and compare configurations.")

Check = Annotated[bool, typer.Option("--check", help="Fail if the file is stale.")]


def _write_or_check(call: Call, output: Path, text: str, *, check: bool) -> None:
    """Write a file that follows from the configuration, or refuse one that does not."""
    from spectramind.files import write_atomic

    if check:
        if not output.is_file() or output.read_text(encoding="utf-8") != text:
            raise ConfigError(
                f"{output}: differs from the composed configuration. "
                f"Write it anew with: spectramind {call.command} -o {output}"
            )
        call.finish(f"{output} is up to date", {"fresh": True}, as_json=False)
        return
    write_atomic(output, text.encode())
    call.outputs = (output,)
    call.finish(str(output), {}, as_json=False)


@config_app.command(
    "show",
    epilog=example_lines(
        "spectramind config show experiment=demo", "spectramind config show training"
    ),
)
def config_show(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY]... [KEY=VALUE]...", help="Sections to show; configuration."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the composed, validated configuration, or the sections that are named."""
    with command("config show", debug=debug) as call:
        from spectramind.config import dump, part, text_of

        words = overrides or []
        named = [word for word in words if "=" not in word and not word.startswith("~")]
        values = dump(call.load_config([word for word in words if word not in named]))
        shown = {name: part(values, name) for name in named} or values
        call.finish(text_of(shown).rstrip(), shown, as_json=as_json)


@config_app.command(
    "freeze",
    epilog=example_lines("spectramind config freeze experiment=demo -o params.yaml"),
)
def config_freeze(
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option("--output", "-o", **PATH, help="File to write.")] = Path(
        "params.yaml"
    ),
    check: Check = False,
    debug: Debug = False,
) -> None:
    """Write the configuration that DVC stages read."""
    with command("config freeze", debug=debug) as call:
        text = call.load_config(overrides or []).frozen()
        _write_or_check(call, output, text, check=check)


@config_app.command(
    "dvc",
    epilog=example_lines("spectramind config dvc experiment=demo -o dvc.yaml"),
)
def config_dvc(
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option("--output", "-o", **PATH, help="File to write.")] = Path(
        "dvc.yaml"
    ),
    check: Check = False,
    debug: Debug = False,
) -> None:
    """Write the stages as a DVC pipeline: what each runs, reads and writes."""
    with command("config dvc", debug=debug) as call:
        from spectramind.stages.dvc import pipeline_text

        text = pipeline_text(call.load_config(overrides or []), overrides or [])
        _write_or_check(call, output, text, check=check)


@config_app.command("diff", epilog=example_lines("spectramind config diff experiment=demo"))
def config_diff(
    overrides: Overrides = None,
    against: Annotated[
        Path | None,
        typer.Option(**PATH, help="Frozen file to compare with; default: the defaults."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the keys in which a configuration differs from the defaults or from a file."""
    with command("config diff", debug=debug) as call:
        from spectramind.config import dump, load, load_params
        from spectramind.settings import flatten

        mine = flatten(dump(call.load_config(overrides or [])))
        other = flatten(dump(load([]) if against is None else load_params(against)))
        changes = {
            key: {"from": other.get(key), "to": mine.get(key)}
            for key in sorted(mine.keys() | other.keys())
            if mine.get(key) != other.get(key)
        }
        lines = [f"{key}: {change['from']} -> {change['to']}" for key, change in changes.items()]
        call.finish("\n".join(lines) or "no difference", changes, as_json=as_json)


@config_app.command("hash", epilog=example_lines("spectramind config hash model=v50"))
def config_hash(overrides: Overrides = None, as_json: Json = False, debug: Debug = False) -> None:
    """Print the configuration hash of each stage."""
    with command("config hash", debug=debug) as call:
        from spectramind.stages.folders import STAGES
        from spectramind.stages.freshness import stage_hash

        config = call.load_config(overrides or [])
        hashes: dict[str, Any] = {stage: stage_hash(config, stage) for stage in STAGES}
        lines = "\n".join(f"{stage:15s} {value}" for stage, value in hashes.items())
        call.finish(lines, hashes, as_json=as_json)


@config_app.command(
    "validate",
    epilog=example_lines("spectramind config validate uq.corel=true"),
)
def config_validate(
    overrides: Overrides = None, params: Params = None, debug: Debug = False
) -> None:
    """Check keys, types and ranges; all faults at once."""
    with command("config validate", debug=debug) as call:
        call.load_config(overrides or [], params)
        call.finish("the configuration is valid", {"valid": True}, as_json=False)
