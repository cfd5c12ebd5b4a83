"""Write a synthetic archive: frames or light curves, tables, and the truth beside them.

```
ROOT/train.csv  {train,test}_star_info.csv  adc_info.csv  axis_info.parquet  wavelengths.csv
ROOT/sample_submission.csv
ROOT/<split>/<planet>/<channel>_signal_<visit>.parquet
ROOT/<split>/<planet>/<channel>_calibration_<visit>/{dark,dead,flat,linear_corr,read}.parquet
ROOT/lightcurves/...                    instead of the planets' folders at level "lightcurves"
ROOT/truth/test.csv                     the hidden labels
ROOT/truth/<split>/<planet>_<visit>.npz pointing modes and noiseless transit of each channel
ROOT/truth/<split>/<planet>.json        written last: the planet is complete when this exists
ROOT/simulation.json                    hash of settings and code, provenance
```
"""

import functools
import io
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import UInt16

from spectramind.artefacts import Kind, load_json, save_json
from spectramind.calibrate.cache import LightCurveStore
from spectramind.errors import ArtefactError
from spectramind.files import alone, remove_leftovers, write_atomic
from spectramind.instrument import AIRS, FGS1, Channel
from spectramind.parallel import Shown, results
from spectramind.provenance import Provenance, digest, write_sidecar
from spectramind.simulate.curves import draw_curves
from spectramind.simulate.detector import Pixels, converter, draw_pixels, foreground, raw_counts
from spectramind.simulate.population import SPLITS, stream
from spectramind.simulate.scene import build_scene, mean_transit
from spectramind.simulate.settings import SimulateConfig
from spectramind.simulate.systems import System, draw_systems
from spectramind.simulate.tables import write_columns, write_tables
from spectramind.simulate.visit import Visit, draw_visit

Level = Literal["frames", "lightcurves"]
MARKER = "simulation.json"
ARCHIVE = Kind("record of a simulated archive", "spectramind simulate")
_TRUTH = Kind("truth of a planet", "spectramind simulate")
_MAPS = ("dark", "dead", "flat", "linear_corr", "read")


@dataclass(frozen=True)
class SimulationReport:
    """What a run wrote."""

    planets: int
    visits: int
    reused: int  # planets that were complete already


def simulate_archive(
    config: SimulateConfig,
    *,
    root: Path,
    level: Level,
    workers: int,
    device: torch.device,
    provenance: Provenance,
) -> SimulationReport:
    """Write an archive; complete planets of the same settings and code are kept.

    A planet depends on (seed, split, index) and the settings, not on how many planets or
    workers there are. One process at a time writes there.

    Args:
        config: What to simulate.
        root: Folder of the archive.
        level: Raw frames, or calibrated light curves in the store `root/lightcurves`.
        workers: Processes.
        device: Where the chord integral of all spectra is computed.
        provenance: Written to `simulation.json`.

    Raises:
        ArtefactError: If `root` holds an archive of other settings or code, or cannot be written,
            or another process writes there.
    """
    with _alone(root):
        settings = config.model_dump(mode="json", exclude={"train_planets", "test_planets"})
        code = provenance.code_hash
        made_from = digest({"level": level, "code": code, **settings})
        _claim(root, made_from, code, config)
        with device:
            systems = {split: draw_systems(config, split) for split in SPLITS}
        write_sidecar(
            root / MARKER,
            provenance,
            made_from=made_from,
            code=code,
            train_planets=config.train_planets,
            test_planets=config.test_planets,
        )
        write_tables(root, systems, config)
        work = functools.partial(
            write_planet, config=config, root=root, level=level, made_from=made_from
        )
        everyone = [system for split in SPLITS for system in systems[split]]
        reused, shown = 0, Shown("simulate", "planets")
        try:
            for _, kept in results(work, everyone, workers=workers, shown=shown):
                reused += kept
        finally:
            remove_leftovers(root, "")  # of an earlier run or a worker of this one that was killed
    visits = sum(system.planet.visits for system in everyone)
    return SimulationReport(planets=len(everyone), visits=visits, reused=reused)


def _alone(root: Path) -> AbstractContextManager[None]:
    """Hold the archive for this process, however it is reached; the lock lies beside it."""
    place = root.resolve()
    return alone(
        place.with_name(f".{place.name}.archive.lock"),
        f"{root}: another process is simulating there. Wait for it, or point data.root at "
        "another folder.",
    )


def _claim(root: Path, made_from: str, code: str, config: SimulateConfig) -> None:
    """Check that `root` is empty or holds an archive made alike, not of more planets."""
    marker = root / MARKER
    if not marker.exists():
        if (root / "train.csv").exists() or (root / "train_labels.csv").exists():
            raise ArtefactError(
                f"{root}: holds an archive that the simulator did not write (no {MARKER}). "
                "Point data.root at an empty folder."
            )
        return
    try:
        known = load_json(marker, ARCHIVE)
    except ArtefactError as error:
        raise ArtefactError(f"{error} Remove the folder {root} before.") from error
    found, planets = known["made_from"], (known["train_planets"], known["test_planets"])
    wanted = (config.train_planets, config.test_planets)
    fewer = any(want < have for want, have in zip(wanted, planets, strict=True))
    if found != made_from or fewer:
        reason = "of more planets" if found == made_from else "of other settings"
        if known.get("code") != code:
            reason = "made by other code of the simulator"
        raise ArtefactError(
            f"{root}: holds an archive {reason} (hash {found}, {planets[0]} + {planets[1]} "
            f"planets; asked for hash {made_from}, {wanted[0]} + {wanted[1]}). Remove the folder "
            "or point data.root at another one."
        )


def write_planet(
    system: System, *, config: SimulateConfig, root: Path, level: Level, made_from: str
) -> bool:
    """Write all visits of one planet, its truth last; True if it was complete already."""
    planet = system.planet
    mark = root / "truth" / planet.split / f"{planet.planet_id}.json"
    if _is_complete(mark, system, root, level, made_from):
        return True
    facts = []
    for number in range(planet.visits):
        visit = draw_visit(
            config.seed, planet, number, config.cadence_factor, config.effects, config.visit
        )
        write = _write_frames if level == "frames" else _write_curves
        hits = write(system, visit, config, root)
        write_atomic(
            mark.with_name(f"{planet.planet_id}_{number}.npz"), _series(system, visit, config)
        )
        facts.append(visit_truth(visit, hits))
    save_json(mark, {"made_from": made_from, **system_truth(system, config), "visits": facts})
    return False


def _is_complete(mark: Path, system: System, root: Path, level: Level, made_from: str) -> bool:
    if not mark.exists():
        return False
    try:
        known = load_json(mark, _TRUTH)
    except ArtefactError:  # damaged: the planet is simulated again
        return False
    planet = system.planet
    needed = [mark.with_name(f"{planet.planet_id}_{v}.npz") for v in range(planet.visits)]
    if level == "frames":
        needed += _signal_files(system, root)
    else:
        stem = root / "lightcurves" / planet.split / str(planet.planet_id)
        needed += [stem / f"visit_{v}.json" for v in range(planet.visits)]
    return known.get("made_from") == made_from and all(path.exists() for path in needed)


def _signal_files(system: System, root: Path) -> list[Path]:
    folder = root / system.planet.split / str(system.planet.planet_id)
    return [
        path
        for visit in range(system.planet.visits)
        for channel in (FGS1, AIRS)
        for path in (
            folder / f"{channel.name}_signal_{visit}.parquet",
            *(
                folder / f"{channel.name}_calibration_{visit}" / f"{name}.parquet"
                for name in _MAPS
            ),
        )
    ]


def _write_frames(
    system: System, visit: Visit, config: SimulateConfig, root: Path
) -> dict[str, int]:
    """Write the frames of one visit; cosmic-ray hits by channel."""
    planet, hits = system.planet, {}
    folder = root / planet.split / str(planet.planet_id)
    for channel in (FGS1, AIRS):
        pixels = draw_pixels(config.seed, planet.split, channel, config.effects, config.detector)
        _write_maps(folder / f"{channel.name}_calibration_{visit.visit}", channel, pixels)
        counts, hits[channel.name] = raw_counts(
            build_scene(channel, planet, system.light, system.depth, visit, config.cadence_factor),
            pixels,
            foreground(config.seed, planet, channel, config.effects, config.detector),
            converter(channel, config.cadence_factor, config.effects, config.detector),
            stream(config.seed, planet.split, planet.index, f"reads {channel.name}", visit.visit),
            config.detector,
        )
        write_columns(folder / f"{channel.name}_signal_{visit.visit}.parquet", _by_pixel(counts))
    return hits


def _by_pixel(counts: UInt16[np.ndarray, "P R"]) -> pl.DataFrame:
    """One column per pixel, cut from one series: so many conversions would take longer."""
    every, reads = pl.Series(counts.ravel()), counts.shape[1]
    return pl.DataFrame([
        every.slice(i * reads, reads).alias(f"column_{i}") for i in range(len(counts))
    ])  # fmt: skip


def _write_maps(folder: Path, channel: Channel, pixels: Pixels) -> None:
    columns = [f"column_{i}" for i in range(channel.columns)]
    for name in _MAPS:
        values = getattr(pixels, name).reshape(-1, channel.columns)
        write_columns(folder / f"{name}.parquet", pl.DataFrame(values, schema=columns))


def _write_curves(
    system: System, visit: Visit, config: SimulateConfig, root: Path
) -> dict[str, int]:
    """Write the light curves of one visit; no cosmic rays at this level."""
    curves = draw_curves(system, visit, config)
    LightCurveStore(root / "lightcurves").write(
        system.planet.split, curves, {"origin": "simulated without frames"}
    )
    return {FGS1.name: 0, AIRS.name: 0}


def _series(system: System, visit: Visit, config: SimulateConfig) -> bytes:
    """Pointing modes, noiseless relative transit and changes of level of each channel, npz."""
    arrays: dict[str, np.ndarray] = {}
    for channel in (FGS1, AIRS):
        arrays[f"{channel.name}_modes"] = visit.modes[channel.name]
        arrays[f"{channel.name}_transit"] = mean_transit(
            channel, system.planet, system.light, system.depth, visit, config.cadence_factor
        ).astype(np.float32)
        for change in visit.levels:
            arrays[f"{channel.name}_{change.cause}_series"] = change.series[channel.name]
            arrays[f"{channel.name}_{change.cause}_colour"] = change.colour[channel.name]
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def system_truth(system: System, config: SimulateConfig) -> dict[str, Any]:
    """Truth of planet, atmosphere, star and foreground as JSON values."""
    planet, light = system.planet, system.light
    sky = {
        channel.name: foreground(
            config.seed, planet, channel, config.effects, config.detector
        ).tolist()
        for channel in (FGS1, AIRS)
    }
    return {
        "planet": asdict(planet) | {"duration_h": planet.duration_h},
        "atmosphere": asdict(system.atmosphere),
        "depth": system.depth.tolist(),
        "limb_darkening": {
            "powers": light.limb_darkening.powers,
            "weights": light.limb_darkening.weights.tolist(),
        },
        "fgs1_e_s": light.fgs1_e_s,
        "airs_e_s": light.airs_e_s.tolist(),
        "contamination": light.contamination.tolist(),
        "spot_crossing_share": light.crossing_share,
        "spot_crossing_phase": light.crossing_phase,
        "foreground_e_s": sky,
    }


def visit_truth(visit: Visit, hits: dict[str, int]) -> dict[str, Any]:
    """Truth of one visit as JSON values; the pointing series are in the npz file."""
    return {
        "visit": visit.visit,
        "mid_time_h": visit.mid_time_h,
        "clock_offset_s": visit.clock_offset_s,
        "partial": visit.partial,
        "dilution": list(visit.dilution),
        "gain_drift": {name: asdict(drift) for name, drift in visit.drift.items()},
        "edge_share": {name: list(edge) for name, edge in visit.edge.items()},
        "cosmic_ray_hits": hits,
    }
