"""Calibrate one visit, or an archive: planets in parallel, resumable, one fault at a time."""

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spectramind.archive.fingerprint import fingerprint
from spectramind.archive.layout import Archive, Split
from spectramind.calibrate.cache import LightCurveStore
from spectramind.calibrate.curves import ChannelCurves
from spectramind.calibrate.fused import calibrate_channel
from spectramind.calibrate.settings import CalibrationConfig
from spectramind.errors import DataError
from spectramind.instrument import AIRS, FGS1, SCORED_COLUMNS, Channel
from spectramind.observation import LightCurves
from spectramind.parallel import Outcome, Shown, each
from spectramind.provenance import Provenance, write_sidecar

Facts = dict[str, Any]


class VisitKey(NamedTuple):
    """Which visit of which planet."""

    split: Split
    planet_id: int
    visit: int


class Failure(NamedTuple):
    """A visit that could not be calibrated, and the sentence that says why."""

    split: Split
    planet_id: int
    visit: int
    sentence: str


@dataclass(frozen=True)
class CalibrationReport:
    """What a run over an archive did."""

    done: int  # visits calibrated now
    cached: int  # visits that were there already
    failures: tuple[Failure, ...]
    masked_fraction: float  # of the pixels used, over all good visits; 0 if there is none
    cosmic_ray_fraction: float  # of the values used, over all good visits; 0 if there is none
    bytes: int  # of the light curves in the store
    seconds: float


def calibrate_archive(
    archive: Archive,
    config: CalibrationConfig,
    *,
    store: Path,
    splits: tuple[Split, ...],
    workers: int,
    provenance: Provenance,
) -> CalibrationReport:
    """Light curves of all planets; what is there and made of the same files is kept.

    A visit that fails is listed in the report and the others go on. Killed at any moment, the
    next run resumes; two runs at once share the work. A store belongs to one archive: at the end
    it holds the visits that this run made or found, and of these splits no others.

    Raises:
        ArtefactError: If the store cannot be written (every visit would fail alike).
    """
    start = time.monotonic()
    curves = LightCurveStore(store)
    visits = visits_of(archive, splits)
    task = partial(_calibrate_into, archive, config, curves, provenance)
    outcomes = list(each(task, visits, workers=workers, shown=Shown("calibrate", "visits")))
    good = {outcome.item for outcome in outcomes if outcome.error is None}
    for split in splits:
        curves.keep(split, {(one.planet_id, one.visit) for one in good if one.split == split})
    curves.write_index()
    report = _report(outcomes, curves, time.monotonic() - start)
    write_sidecar(store / "provenance.json", provenance, **asdict(report))
    return report


def visits_of(archive: Archive, splits: tuple[Split, ...]) -> list[VisitKey]:
    """Every visit of every planet that has a folder."""
    return [
        VisitKey(split, planet_id, visit)
        for split in splits
        for planet_id in archive.planets(split)
        for visit in archive.visits(split, planet_id)
    ]


def calibrate_visit(
    archive: Archive, split: Split, planet_id: int, visit: int, config: CalibrationConfig
) -> tuple[LightCurves, Facts]:
    """Light curves of one visit and what was met on the way.

    Returns:
        The curves, AIRS-CH0 in the order of the scored wavelengths, and facts that JSON can hold.

    Raises:
        DataError: If a file is missing, damaged or contradicts another one.
    """
    airs_time_h, airs = _channel(archive, VisitKey(split, planet_id, visit), AIRS, config)
    fgs1_time_h, fgs1 = _channel(archive, VisitKey(split, planet_id, visit), FGS1, config)
    curves = LightCurves(
        planet_id=planet_id,
        visit=visit,
        airs_time_h=airs_time_h,
        airs_e=airs.flux_e[::-1].T.astype(np.float32),
        airs_centroid=airs.centroid[:, 0].astype(np.float32),
        fgs1_time_h=fgs1_time_h,
        fgs1_e=fgs1.flux_e[0].astype(np.float32),
        fgs1_centroid=fgs1.centroid.astype(np.float32),
    )
    _check_finite(curves)
    return curves, {"AIRS-CH0": _facts(airs), "FGS1": _facts(fgs1)}


def _channel(
    archive: Archive, visit: VisitKey, channel: Channel, config: CalibrationConfig
) -> tuple[np.ndarray, ChannelCurves]:
    """Read and calibrate one channel; the counts are let go before the next one is read."""
    maps = archive.detector_maps(*visit, channel)
    frames = archive.frames(*visit, channel, read_pixels(channel))
    return frames.time_h, calibrate_channel(frames, maps, config)


def read_pixels(channel: Channel) -> np.ndarray:
    """Flat indices of the pixels worth reading: all rows, of AIRS-CH0 only scored columns."""
    places = np.arange(channel.pixels).reshape(channel.shape)
    return places[:, SCORED_COLUMNS].ravel() if channel == AIRS else places.ravel()


def _facts(curves: ChannelCurves) -> Facts:
    mean_e = curves.flux_e.mean(1)
    return {
        "electrons": float(np.median(curves.flux_e.sum(0))),  # whole channel [e-/exposure]
        "electrons_max": float(mean_e.max()),  # brightest light curve [e-/exposure]
        "electrons_min": float(mean_e.min()),  # faintest light curve [e-/exposure]
        "foreground": float(curves.foreground_e.mean()),  # [e-/exposure/pixel]
        "read_ratio": curves.read_ratio,
        "pixels": curves.pixels,
        "masked": curves.masked,
        "hot": curves.hot,
        "cosmic_rays": curves.cosmic_rays,
        "values": curves.pixels * curves.flux_e.shape[1],
        "full_scale": curves.full_scale,
    }


def _check_finite(curves: LightCurves) -> None:
    series = {
        "AIRS-CH0 flux": curves.airs_e,
        "AIRS-CH0 centroid": curves.airs_centroid,
        "FGS1 flux": curves.fgs1_e,
        "FGS1 centroid": curves.fgs1_centroid,
    }
    for name, values in series.items():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise DataError(
                f"planet {curves.planet_id}, visit {curves.visit}: {bad} of {values.size} values "
                f"of the {name} are not finite, expected none. The frames show no star or the "
                "maps are wrong; fetch both again."
            )


def _calibrate_into(
    archive: Archive,
    config: CalibrationConfig,
    store: LightCurveStore,
    provenance: Provenance,
    visit: VisitKey,
) -> tuple[bool, Facts]:
    """Whether the visit was there already, and its facts."""
    files = [*archive.visit_files(*visit), *archive.shared_files(visit.split)]
    origin = {
        "config_hash": provenance.config_hash,
        "code": provenance.code_hash,
        "source": fingerprint(files, archive.root),
    }
    make = partial(calibrate_visit, archive, *visit, config)
    if config.cache:
        cached = store.ensure(*visit, origin, make)
    else:
        store.write(visit.split, *make(), origin)
        cached = False
    return cached, store.facts(*visit)


def _report(
    outcomes: list[Outcome[VisitKey, tuple[bool, Facts]]], store: LightCurveStore, seconds: float
) -> CalibrationReport:
    good = [outcome.value for outcome in outcomes if outcome.value is not None]
    channels = [channel for _, facts in good for channel in facts.values()]
    cached = sum(was_there for was_there, _ in good)
    failures = tuple(
        sorted(Failure(*o.item, str(o.error)) for o in outcomes if o.error is not None)
    )
    return CalibrationReport(
        done=len(good) - cached,
        cached=cached,
        failures=failures,
        masked_fraction=_share(channels, "masked", "pixels"),
        cosmic_ray_fraction=_share(channels, "cosmic_rays", "values"),
        bytes=store.size(),
        seconds=seconds,
    )


def _share(channels: list[Facts], part: str, whole: str) -> float:
    total = sum(channel[whole] for channel in channels)
    return sum(channel[part] for channel in channels) / total if total else 0.0
