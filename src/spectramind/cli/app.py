"""Command line: `spectramind STAGE [KEY=VALUE ...]`.

Values come from the configuration only; options say how to run. stdout carries the result,
stderr the progress. Exit code 0 is done, 1 a data or run error, 2 one of usage or configuration.
Heavy imports stay inside the commands, so that `--help` answers at once.
"""

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Literal

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # both before torch loads: two OpenMP pools
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # spin, and large temporaries page-fault

import typer

from spectramind.cli.call import Options, command
from spectramind.cli.config import config_app
from spectramind.cli.words import (
    PATH,
    Debug,
    Deep,
    DryRun,
    Json,
    Multirun,
    Overrides,
    Overwrite,
    Params,
    Strict,
    example_lines,
)
from spectramind.errors import DataError
from spectramind.sentences import counted
from spectramind.stages.folders import Stage, command_of

_PROGRAM = "spectramind"
app = typer.Typer(
    name=_PROGRAM,
    help="Raw Ariel detector frames in, transmission spectra with honest error bars out.",
    epilog="Start with: spectramind run experiment=demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=Path(sys.argv[0]).stem == _PROGRAM,  # a shell completes programs, no modules
)
diagnose_app = typer.Typer(no_args_is_help=True, help="Metrics, figures and the dashboard.")
submission_app = typer.Typer(no_args_is_help=True, help="Work on submission files.")
app.add_typer(diagnose_app, name="diagnose", rich_help_panel=None)
app.add_typer(submission_app, name="submission")
app.add_typer(config_app, name="config")


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name may be no text in this locale
            stream.reconfigure(errors="backslashreplace")
    app()


def _print_version(wanted: bool) -> bool:
    if wanted:
        from spectramind import __version__

        typer.echo(__version__)
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options of the program itself; its help text stands at `app`."""


_STAGES: dict[Stage, tuple[str, ...]] = {  # summary and examples of each; `predict` stands below
    "simulate": (
        "Write a simulated archive in the challenge's on-disk layout, with its truth.",
        "spectramind simulate",
        "spectramind simulate simulate.train_planets=8",
    ),
    "calibrate": (
        "Turn raw frames into light curves, cached by settings and source files.",
        "spectramind calibrate data=kaggle data.root=DIR calibration.cache=true",
        "spectramind calibrate runtime.workers=8 --strict",
    ),
    "fit": (
        "Fit the transit of each planet: the first estimate of its spectrum.",
        "spectramind fit",
        "spectramind fit transit.bin_s=240",
    ),
    "train": (
        "Train the V50 network, in folds, on what the fit leaves.",
        "spectramind train model=v50 training=default",
        "spectramind train -m training.lr=1e-4,2e-4 uq.epistemic=ensemble,mc_dropout",
    ),
    "calibrate-temp": (
        "Fit the temperature out of fold, and conformal quantiles on untouched planets.",
        "spectramind calibrate-temp uq.temp_scale=true",
    ),
    "diagnose": (
        "Write one offline HTML page: score, provenance, spectra and coverage.",
        "spectramind diagnose dashboard diagnostics=dashboard",
    ),
}


def _stage_command(stage: Stage, summary: str, *examples: str) -> None:
    """Register the command of one stage; all take the same options."""
    group = diagnose_app if stage == "diagnose" else app
    name = command_of(stage).rpartition(" ")[2]

    @group.command(name, help=summary, epilog=example_lines(*examples))
    def run_it(
        overrides: Overrides = None,
        params: Params = None,
        multirun: Multirun = False,
        as_json: Json = False,
        dry_run: DryRun = False,
        strict: Strict = False,
        overwrite: Overwrite = False,
        debug: Debug = False,
    ) -> None:
        from spectramind.cli.stage import run_stage_command

        options = Options(
            params=params, multirun=multirun, as_json=as_json, dry_run=dry_run, strict=strict,
            overwrite=overwrite, debug=debug,
        )  # fmt: skip
        run_stage_command(stage, overrides or [], options)


for _stage, _words in _STAGES.items():
    _stage_command(_stage, *_words)


@app.command(
    epilog=example_lines("spectramind predict model=v50 uq.corel=true --out-csv submission.csv"),
)
def predict(
    overrides: Overrides = None,
    out_csv: Annotated[
        Path | None, typer.Option("--out-csv", **PATH, help="Also write the submission here.")
    ] = None,
    params: Params = None,
    multirun: Multirun = False,
    as_json: Json = False,
    dry_run: DryRun = False,
    strict: Strict = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Predict the spectra of the test planets and write the submission."""
    from spectramind.cli.stage import run_stage_command

    options = Options(
        params=params, multirun=multirun, as_json=as_json, dry_run=dry_run, strict=strict,
        overwrite=overwrite, debug=debug, out_csv=out_csv,
    )  # fmt: skip
    run_stage_command("predict", overrides or [], options)


@app.command(
    epilog=example_lines(
        "spectramind run experiment=demo", "spectramind run data=kaggle data.root=DIR"
    ),
)
def run(
    overrides: Overrides = None,
    params: Params = None,
    as_json: Json = False,
    strict: Strict = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Run all stages in order and print the score, the output paths and the time."""
    from spectramind.cli.stage import run_all_command

    options = Options(
        params=params, as_json=as_json, strict=strict, overwrite=overwrite, debug=debug
    )
    run_all_command(overrides or [], options)


@app.command(
    epilog=example_lines(
        "spectramind score outputs/submission.csv",
        "spectramind score s.csv --solution truth.csv --naive 2025",
    ),
)
def score(
    submission: Annotated[Path, typer.Argument(**PATH, help="Submission file, 567 columns.")],
    overrides: Overrides = None,
    solution: Annotated[
        Path | None,
        typer.Option(**PATH, help="True spectra; default: truth/test.csv of data.root."),
    ] = None,
    year: Annotated[
        int | None, typer.Option(help="Metric of 2024 or 2025; default: that of the archive.")
    ] = None,
    naive: Annotated[
        str | None,
        typer.Option(
            metavar="2024|2025|FILE",
            help="Guess that scores 0: as published, or of a file of training labels; default: "
            "of the archive's.",
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a submission with the challenge's metric."""
    with command("score", debug=debug) as call:
        from spectramind.cli.score import score_submission

        config = call.load_config(overrides or [])
        facts = score_submission(config, submission, solution=solution, year=year, naive=naive)
        call.finish(facts["summary"], facts, as_json=as_json)


@app.command(
    epilog=example_lines(
        "spectramind export --out spectra.nc --samples 100",
        "spectramind export --out likelihood.nc --kind likelihood",
        "spectramind export --out spectra --stage predict",
    ),
)
def export(
    overrides: Overrides = None,
    out: Annotated[
        Path,
        typer.Option(**PATH, help="FILE.nc for all planets, or a folder for one ECSV per planet."),
    ] = Path("outputs/spectra.nc"),
    stage: Annotated[
        Literal["fit", "predict"],
        typer.Option(help="fit: the transit fit's, with covariance; predict: the network's."),
    ] = "fit",
    kind: Annotated[
        Literal["posterior", "likelihood"],
        typer.Option(
            help="likelihood: what light alone says, for a retrieval with its own prior."
        ),
    ] = "posterior",
    samples: Annotated[
        int, typer.Option(min=0, help="Draws from each posterior, in netCDF files of the fits.")
    ] = 0,
    debug: Debug = False,
) -> None:
    """Write spectra for retrieval codes, as netCDF or ECSV."""
    with command("export", debug=debug) as call:
        from spectramind.cli.export import export_spectra

        config = call.load_config(overrides or [])
        call.outputs = export_spectra(config, out, stage=stage, kind=kind, samples=samples)
        call.finish(
            f"{counted(len(call.outputs), 'file')} -> {out}", {"out": str(out)}, as_json=False
        )


@app.command(
    epilog=example_lines(
        "spectramind inspect 1016721840", "spectramind inspect 1016721840 --json"
    ),
)
def inspect(
    planet_id: Annotated[int, typer.Argument(help="Planet of either split.")],
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(**PATH, help="Figure to write: .png, .pdf or .svg.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show one planet's fit: parameters, noise, verdict, and a figure."""
    with command("inspect", debug=debug) as call:
        from spectramind.cli.inspect import inspect_planet

        table, facts, figure = inspect_planet(call.load_config(overrides or []), planet_id, out)
        call.outputs = (figure,)
        call.finish(f"{table}\n{figure}", facts | {"figure": str(figure)}, as_json=as_json)


@submission_app.command(
    "validate",
    epilog=example_lines(
        "spectramind submission validate submission.csv --sample sample_submission.csv"
    ),
)
def submission_validate(
    submission: Annotated[Path, typer.Argument(**PATH, help="Submission file.")],
    sample: Annotated[
        Path | None,
        typer.Option(**PATH, help="The archive's sample_submission.csv, for its planets."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check a submission file: columns, planets, signs, numbers."""
    with command("submission validate", debug=debug) as call:
        from spectramind.archive.submission import validate_submission

        problems = validate_submission(submission, sample)
        if problems:
            raise DataError("\n".join(problems))
        facts = {"valid": True, "submission": str(submission)}
        call.finish(f"{submission}: valid submission", facts, as_json=as_json)


@app.command(
    epilog=example_lines(
        "spectramind doctor data=kaggle data.root=DIR",
        "spectramind doctor --deep data=kaggle data.root=DIR runtime.workers=8",
    ),
)
def doctor(
    overrides: Overrides = None, deep: Deep = False, as_json: Json = False, debug: Debug = False
) -> None:
    """Say what is installed, which device is used, and whether the archive is found."""
    with command("doctor", debug=debug) as call:
        from spectramind.cli.doctor import examine

        config = call.load_config(overrides or [])
        findings, damaged = examine(config), ()
        if deep:
            from spectramind.cli.deep import faults  # loads the readers

            damaged = faults(config)
            findings["faults"] = len(damaged)
        width = max(map(len, findings))
        lines = "\n".join(f"{name:{width}s}  {value}" for name, value in findings.items())
        call.finish(lines, findings, as_json=as_json)
        if damaged:
            raise DataError("\n".join(damaged))
