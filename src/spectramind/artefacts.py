"""Where the artefacts of each stage lie, what they were made from, and whether they are fresh."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from spectramind.archive.fingerprint import archive_hash
from spectramind.archive.layout import open_archive
from spectramind.calibrate.cache import LightCurveStore
from spectramind.config import STAGES, Config, Stage, dump, stage_hash
from spectramind.errors import ArtefactError
from spectramind.provenance import Provenance, code_hash, describe, digest

SIDECAR = "stage.json"  # of each stage's folder, written last
OUT_OF_FOLD = "oof.parquet"  # train: spectra of training planets by members that never saw them
CALIBRATION_PLANETS = "calibration.parquet"  # train: spectra of the planets set aside
CALIBRATION = "calibration.json"  # calibrate-temp
SPECTRA = "spectra.parquet"  # predict
INTERVALS = "intervals.parquet"  # predict
SUBMISSION = "submission.csv"  # predict
PRETRAINED = Path("pretrained")  # in place of another run's folder, or of its priors
SHIPPED = Path(__file__).resolve().parent / PRETRAINED  # laid out like `runtime.out`
HIDDEN_LABELS = "truth/test.csv"  # of a simulated archive
# Files of another run that say what a stage takes from it; a prior may be a file of its own.
_BORROWED: dict[Stage, tuple[str, ...]] = {
    "fit": ("fit/priors/all.safetensors",),
    "train": ("train/members/*.json",),
    "predict": ("train/members/*.json", f"calibrate-temp/{CALIBRATION}"),
}
# Packages and modules whose code a stage's result depends on, beyond those of earlier stages.
# The `deps` of dvc.yaml are the same.
STAGE_CODE: dict[Stage, tuple[str, ...]] = {
    "simulate": ("simulate", "spectroscopy.py", "instrument.py"),
    "calibrate": ("archive", "calibrate", "instrument.py", "observation.py"),
    "fit": ("transit",),
    "train": ("model", "posterior.py", "simulate", "spectroscopy.py", "training"),
    "calibrate-temp": ("uq",),
    "predict": ("archive", "model", "training", "uq"),
    "diagnose": ("assessment.py", "diagnose"),
}


def stage_folder(config: Config, stage: Stage) -> Path:
    """Output folder of a stage."""
    return config.runtime.out / stage


def command_of(stage: Stage) -> str:
    """The words of the command line that run a stage."""
    return "diagnose dashboard" if stage == "diagnose" else stage


def store_folder(config: Config) -> Path:
    """Folder of the light curves, addressed by the calibration settings that made them."""
    if config.data.level == "lightcurves":
        return config.data.root / "lightcurves"
    settings = dump(config)["calibration"]
    del settings["cache"]
    return stage_folder(config, "calibrate") / digest(settings)


def light_curve_store(config: Config) -> LightCurveStore:
    """The store that `fit` reads."""
    return LightCurveStore(store_folder(config))


@cache
def _archive_hash(root: Path) -> str:
    return archive_hash(root)


def stage_code_hash(stage: Stage) -> str:
    """Hash of the code that a stage's result depends on, earlier stages included."""
    first = 0 if stage == "simulate" else 1
    stages = STAGES[first : STAGES.index(stage) + 1]
    return code_hash(*sorted({part for name in stages for part in STAGE_CODE[name]}))


def run_folder(named: Path) -> Path:
    """The `runtime.out` of another run; `pretrained` is what `make pretrained` has left."""
    return SHIPPED if named == PRETRAINED else named


def borrowed_hash(config: Config, stage: Stage) -> str:
    """Hash of what a stage and those before it take from other runs; empty where they do not."""
    named: dict[Stage, Path | None] = {
        "fit": config.prior, "train": config.training.start, "predict": config.weights,
    }  # fmt: skip
    seen = hashlib.sha256()
    before = STAGES[: STAGES.index(stage) + 1]
    taken: dict[Stage, Path] = {
        own: run_folder(run) for own, run in named.items() if run and own in before
    }
    for own, run in taken.items():
        files = [path for pattern in _BORROWED[own] for path in sorted(run.glob(pattern))]
        for path in files or [run]:
            seen.update(path.read_bytes() if path.is_file() else b"not there")
    return seen.hexdigest()[:16] if taken else ""


def data_hash(config: Config) -> str:
    """Hash of the archive at `data.root`; see `archive.fingerprint`.

    Raises:
        DataError: If there is no archive.
    """
    if config.data.name == "lightcurves":
        from spectramind.archive.foreign import open_foreign  # xarray takes a second to import

        open_foreign(config.data.root)
    else:
        open_archive(config.data.root)
    return _archive_hash(config.data.root)


def forget_data_hash() -> None:
    """Hash the archive anew: it has been written."""
    _archive_hash.cache_clear()


def seed_of(config: Config, stage: Stage) -> int:
    """The seed that a stage draws from."""
    return config.simulate.seed if stage == "simulate" else config.training.seed


def provenance_of(config: Config, stage: Stage) -> Provenance:
    """Provenance of what a stage makes now."""
    return describe(
        stage=stage,
        config_hash=stage_hash(config, stage),
        data_hash="" if stage == "simulate" else data_hash(config),
        seed=seed_of(config, stage),
    )


def read_sidecar(config: Config, stage: Stage) -> dict[str, Any] | None:
    """What `stage.json` of a stage says; None where it is missing or damaged: run it again."""
    try:
        return json.loads((stage_folder(config, stage) / SIDECAR).read_text())
    except (OSError, json.JSONDecodeError):
        return None


def up_to_date(config: Config, stage: Stage) -> bool:
    """Whether this code made the stage's folder with this configuration from these data."""
    made = read_sidecar(config, stage)
    wanted = {
        "config_hash": stage_hash(config, stage),
        "code_hash": stage_code_hash(stage),
        "borrowed_hash": borrowed_hash(config, stage),
    }
    if made is None or any(made.get(key) != value for key, value in wanted.items()):
        return False
    return stage == "simulate" or made.get("data_hash") == data_hash(config)


def stages_before(config: Config, stage: Stage) -> tuple[Stage, ...]:
    """Stages to run first, in order, so that `stage` has what it reads; none when all is fresh.

    The archive itself is never simulated on the way: a missing one is an error with advice.
    """
    if stage == "simulate":
        return ()
    needed: tuple[Stage, ...] = STAGES[1 : STAGES.index(stage)]
    if stage == "predict" and config.weights is not None:
        needed = tuple(name for name in needed if name not in ("train", "calibrate-temp"))
    stale = [name for name in needed if not up_to_date(config, name)]
    return needed[needed.index(stale[0]) :] if stale else ()


def require_stages_before(config: Config, stage: Stage) -> None:
    """Refuse to go on when an earlier stage is missing or stale.

    Raises:
        ArtefactError: Names the command to run first.
    """
    stale = stages_before(config, stage)
    if stale:
        raise ArtefactError(
            f"{stage_folder(config, stale[0])}: missing, or made with another configuration or "
            f"archive. Run `spectramind {command_of(stale[0])}` with the same settings first."
        )
