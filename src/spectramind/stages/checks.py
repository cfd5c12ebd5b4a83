"""What can be refused before a stage computes anything: files and devices that it will ask for."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spectramind.errors import ArtefactError, ConfigError, DataError
from spectramind.files import require_writable
from spectramind.stages.folders import (
    CALIBRATION,
    OF_TRAINING,
    Stage,
    command_of,
    run_folder,
)
from spectramind.stages.freshness import data_hash

if TYPE_CHECKING:
    from spectramind.config import Config

_ON_DEVICE: tuple[Stage, ...] = ("simulate", "fit", "train", "predict")  # the others: on the CPU
_OF_TEST: tuple[Stage, ...] = ("predict", "diagnose")


def device_of(config: "Config", stage: Stage) -> str:
    """The device that a stage computes on: cpu or cuda.

    Raises:
        ConfigError: If a GPU is asked for and none is seen.
    """
    from spectramind.training.device import resolve_device  # torch takes seconds to import

    device = resolve_device(config.runtime.device).type
    return device if stage in _ON_DEVICE else "cpu"


def require_inputs(config: "Config", stages: Sequence[Stage], out_csv: Path | None = None) -> None:
    """Refuse what stages would stumble over later.

    Args:
        config: The whole configuration.
        stages: That will run, in order.
        out_csv: Where the submission is to be copied.

    Raises:
        ConfigError: If the data are not for these stages, or a device or a run is not there.
        DataError: If there is no archive, or no planet in it to predict.
        ArtefactError: If a file of another run is missing or damaged, or one cannot be written.
    """
    for stage in stages:
        require_data(config, stage)
        device_of(config, stage)
    require_writable(config.runtime.out)
    if out_csv is not None:
        if out_csv.is_dir():
            raise ConfigError(f"--out-csv {out_csv}: is a folder. Name a file in it.")
        require_writable(out_csv)
    if "simulate" in stages:
        require_writable(config.data.root)
    else:
        data_hash(config)
    if "fit" in stages and config.prior is not None:
        _require_prior(config.prior)
    if "train" in stages:
        _require_training(config)
    if "predict" in stages:
        _require_predictable(config, simulated="simulate" in stages)


def require_data(config: "Config", stage: Stage) -> None:
    """Refuse a stage that is not for these data.

    Raises:
        ConfigError: Says which data it is for.
    """
    if stage == "simulate" and config.data.name != "sim":
        raise ConfigError(
            f"data={config.data.name}: `simulate` writes simulated archives only. Use data=sim."
        )
    _require_splits(config, stage)


def _require_splits(config: "Config", stage: Stage) -> None:
    """Refuse a stage whose planets `data.splits` leaves out."""
    learns = (
        stage in OF_TRAINING
        or (stage == "diagnose" and config.weights is None)
        or (stage == "fit" and config.prior is None)
    )
    for split, needed in (("train", learns), ("test", stage in _OF_TEST)):
        if needed and split not in config.data.splits:
            or_borrow = ", or name a prior" if stage == "fit" else ""
            raise ConfigError(
                f"`{command_of(stage)}` needs planets of {split}, which data.splits leaves out. "
                f"Add {split} to it{or_borrow}."
            )


def _require_predictable(config: "Config", *, simulated: bool) -> None:
    """Refuse what `predict` could not use: a run without networks, an archive without planets."""
    from spectramind.archive.opening import open_data  # polars takes half a second to import

    if config.weights is not None:
        calibration = f"calibrate-temp/{CALIBRATION}"
        _require_run("weights", config.weights, "train/train.json", calibration)
    if simulated:  # the archive is not there yet
        return
    archive = open_data(config.data)
    if not archive.expected():
        raise DataError(
            f"{archive.root}: holds no planet to predict. Those are the test planets of the "
            "challenge, and of light curves of other pipelines the planets without a row in "
            "labels.csv."
        )
    if config.weights is not None and config.prior is None:
        from spectramind.stages.predict import require_prior  # loads torch

        tested = archive.expected() - set(archive.planets("train"))
        labelled = set(archive.labels().planet_ids.tolist()) - tested
        fewest = config.transit.spectrum.fewest_labels
        require_prior(config, over_spectra=len(labelled) >= fewest)


def _require_prior(named: Path) -> None:
    from spectramind.stages.fit import prior_file
    from spectramind.transit.priors import read_prior_facts

    try:
        read_prior_facts(prior_file(named))
    except ArtefactError as error:
        raise ArtefactError(f"prior={named}: {error}") from error


def _require_training(config: "Config") -> None:
    from spectramind.training.ddp import require_devices
    from spectramind.training.device import resolve_device
    from spectramind.training.loggers import require_logger
    from spectramind.training.predict import Epistemic

    runtime, batch_size = config.runtime, config.training.batch_size
    require_devices(resolve_device(runtime.device), runtime.devices, batch_size=batch_size)
    require_logger(runtime.logger)
    Epistemic(config.uq.epistemic, config.uq.mc_samples).passes(config.model)
    if config.training.start is not None:
        _require_run("training.start", config.training.start, "train/folds.parquet")


def _require_run(key: str, named: Path, *files: str) -> None:
    """Refuse a run that lacks networks or one of these files."""
    run = run_folder(named)
    lacking = [file for file in files if not (run / file).is_file()]
    if not list(run.glob("train/members/*.safetensors")):
        lacking = ["train/members/*.safetensors", *lacking]
    if lacking:
        raise ArtefactError(
            f"{key}={named}: {run} lacks {' and '.join(lacking)}, so no training has ended there. "
            f"Name the runtime.out of a run that has, or set {key}=null."
        )
