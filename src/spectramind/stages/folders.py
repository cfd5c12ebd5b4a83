"""Names and places of what the stages leave on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from spectramind.artefacts import Kind, load_json
from spectramind.errors import ArtefactError
from spectramind.files import write_atomic
from spectramind.provenance import digest

if TYPE_CHECKING:
    from spectramind.config import Config

Stage = Literal["simulate", "calibrate", "fit", "train", "calibrate-temp", "predict", "diagnose"]
STAGES: tuple[Stage, ...] = get_args(Stage)
OF_TRAINING: tuple[Stage, ...] = ("train", "calibrate-temp")  # needless with borrowed weights
SIDECAR = "stage.json"  # of each stage's folder, written last
OUT_OF_FOLD = "oof.parquet"  # train: spectra of training planets by members that never saw them
CALIBRATION_PLANETS = "calibration.parquet"  # train: spectra of the planets set aside
CALIBRATION = "calibration.json"  # calibrate-temp
SPECTRA = "spectra.parquet"  # predict
INTERVALS = "intervals.parquet"  # predict
SUBMISSION = "submission.csv"  # predict
EXPORT = "spectra.nc"  # fit and predict: spectra for retrieval codes, of foreign light curves
PRETRAINED = Path("pretrained")  # in place of another run's folder, or of its priors
SHIPPED = Path(__file__).resolve().parents[1] / PRETRAINED  # laid out like `runtime.out`
HIDDEN_LABELS = "truth/test.csv"  # of a simulated archive


def stages_of(config: "Config") -> tuple[Stage, ...]:
    """The stages of a run.

    An archive is simulated only where `data` asks for a simulated one, and nothing is trained
    where `weights` names the network of another run.
    """
    left_out = () if config.data.name == "sim" else ("simulate",)
    if config.weights is not None:
        left_out += OF_TRAINING
    return tuple(stage for stage in STAGES if stage not in left_out)


def stage_folder(config: "Config", stage: Stage) -> Path:
    """Output folder of a stage."""
    return config.runtime.out / stage


def command_of(stage: Stage) -> str:
    """The words of the command line that run a stage."""
    return "diagnose dashboard" if stage == "diagnose" else stage


def module_of(stage: Stage) -> str:
    """The module of this package that holds a stage; its function has the module's own name."""
    return f"spectramind.stages.{stage.replace('-', '_')}"


def store_folder(config: "Config") -> Path:
    """Folder of the light curves, addressed by the calibration settings that made them."""
    if config.data.level == "lightcurves":
        return config.data.root / "lightcurves"
    settings = config.calibration.model_dump(mode="json", exclude={"cache"})
    return stage_folder(config, "calibrate") / digest(settings)


def run_folder(named: Path) -> Path:
    """The `runtime.out` of another run; `pretrained` is what `make pretrained` has left."""
    return SHIPPED if named == PRETRAINED else named


def read_sidecar(config: "Config", stage: Stage) -> dict[str, Any] | None:
    """What `stage.json` of a stage says; None where it is missing or damaged: run it again."""
    return read_seal(stage_folder(config, stage), stage)


def read_seal(folder: Path, stage: Stage) -> dict[str, Any] | None:
    """What `stage.json` in a folder of a stage says; None where it is missing or damaged."""
    kind = Kind("record of a stage", f"spectramind {command_of(stage)}")
    try:
        return load_json(folder / SIDECAR, kind)
    except ArtefactError:
        return None


def publish_submission(config: "Config", path: Path) -> None:
    """Copy the submission of the `predict` stage, and its provenance, to where the user wants."""
    folder = stage_folder(config, "predict")
    write_atomic(path, (folder / SUBMISSION).read_bytes())
    write_atomic(path.with_name(f"{path.name}.json"), (folder / SIDECAR).read_bytes())
