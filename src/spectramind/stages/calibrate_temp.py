"""Stage `calibrate-temp`: temperature out of fold, conformal quantiles on untouched planets."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from spectramind.archive.opening import open_data
from spectramind.archive.submission import read_spectra
from spectramind.provenance import Provenance
from spectramind.sentences import counted
from spectramind.stages.folders import (
    CALIBRATION,
    CALIBRATION_PLANETS,
    OUT_OF_FOLD,
    stage_folder,
)
from spectramind.stages.result import Result
from spectramind.transit.priors import refuse_own_labels
from spectramind.transit.store import read_index
from spectramind.uq.calibration import fit_calibration

if TYPE_CHECKING:
    from spectramind.config import Config


def calibrate_temp(config: "Config", folder: Path, provenance: Provenance) -> Result:
    """Fit the temperature out of fold and the conformal quantiles on untouched planets."""
    labels = open_data(config.data).labels()
    trained = stage_folder(config, "train")
    oof_ids, oof = read_spectra(trained / OUT_OF_FOLD)
    fits = read_index(stage_folder(config, "fit"), "train")
    kept_ids, kept = read_spectra(trained / CALIBRATION_PLANETS)
    judged = [*oof_ids.tolist(), *kept_ids.tolist()]
    refuse_own_labels({planet: fits[planet].priors for planet in judged}, labels)
    calibration = fit_calibration(
        oof,
        torch.from_numpy(labels.of(oof_ids).depth),
        torch.tensor([not fits[planet].reasons for planet in oof_ids.tolist()]),
        kept,
        torch.from_numpy(labels.of(kept_ids).depth),
        temp_scale=config.uq.temp_scale,
        levels=config.uq.levels,
    )
    path = folder / CALIBRATION
    calibration.write(path, provenance)
    return Result(
        summary=(
            f"temperature {calibration.temperature:.3f} from "
            f"{counted(calibration.temperature_planets, 'planet')} out of fold with trusted fits, "
            f"conformal quantiles from {counted(len(kept_ids), 'untouched planet')} -> {path}"
        ),
        outputs=(path,),
        facts={"temperature": calibration.temperature, "planets": calibration.temperature_planets},
    )
