"""The arguments and options that commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer


def path_word(text: str | Path) -> Path:
    """A path among the arguments, or a default: verbatim, but for a leading `~`."""
    from spectramind.settings import user_path  # pydantic takes long to load

    try:
        return user_path(str(text))
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from error


PATH: dict[str, Any] = {"parser": path_word, "metavar": "PATH"}  # of every argument that is one
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Configuration, e.g. experiment=demo."),
]
Params = Annotated[
    Path | None,
    typer.Option("--params", **PATH, help="Frozen configuration in place of KEY=VALUE."),
]
Multirun = Annotated[
    bool, typer.Option("--multirun", "-m", help="Sweep over comma-separated values.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")]
Deep = Annotated[
    bool, typer.Option("--deep", help="Read all files of the archive; exit 1 if one is damaged.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 if anything is left out.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace finished runs of another configuration.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def example_lines(*lines: str) -> str:
    """The last line of a command's help."""
    return "Examples:  " + "   |   ".join(lines)
