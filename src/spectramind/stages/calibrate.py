"""Stage `calibrate`: frames to light curves, in the content-addressed store."""

from pathlib import Path
from typing import TYPE_CHECKING

from spectramind.archive.layout import open_archive
from spectramind.archive.opening import open_data
from spectramind.calibrate.chain import calibrate_archive
from spectramind.provenance import Provenance
from spectramind.sentences import counted
from spectramind.stages.folders import store_folder
from spectramind.stages.light_curves import open_source
from spectramind.stages.result import Result, require_some

if TYPE_CHECKING:
    from spectramind.config import Config


def calibrate(config: "Config", folder: Path, provenance: Provenance) -> Result:
    """Turn frames into light curves in the content-addressed store."""
    archive, splits = open_data(config.data), config.data.splits
    there = sum(len(archive.planets(split)) for split in splits)
    if config.data.level == "lightcurves":
        return _there_already(config, folder, there)
    problems = tuple(text for split in splits for text in archive.problems(split))
    report = calibrate_archive(
        open_archive(config.data.root),
        config.calibration,
        store=store_folder(config),
        splits=splits,
        workers=config.runtime.workers,
        provenance=provenance,
    )
    lost = tuple(
        f"{split} planet {planet}, visit {visit}: {why}"
        for split, planet, visit, why in report.failures
    )
    require_some(report.done + report.cached, there, "calibrated", (*problems, *lost))
    return Result(
        summary=(
            f"calibrated {counted(report.done, 'visit')}, {report.cached} from the cache -> "
            f"{store_folder(config)}; {100 * report.masked_fraction:.2f} % pixels masked"
        ),
        outputs=(store_folder(config),),
        facts={
            "calibrated": report.done,
            "cached": report.cached,
            "masked_fraction": report.masked_fraction,
        },
        failures=problems + lost,
    )


def _there_already(config: "Config", folder: Path, expected: int) -> Result:
    """Light curves that the archive holds."""
    source = open_source(config)
    planets = sum(len(own) for own in source.visits.values())
    require_some(planets, expected, "calibrated", source.problems)
    folder.mkdir(parents=True, exist_ok=True)
    return Result(
        summary=f"the archive holds light curves of {counted(planets, 'planet')} already",
        outputs=(config.data.root,),
        facts={"planets": planets},
        failures=source.problems,
    )
