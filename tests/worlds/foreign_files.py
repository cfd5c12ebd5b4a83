"""Files of light curves of other pipelines, as docs/lightcurves.md shows, and their star table."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr
from transit_world import World

from spectramind.instrument import wavelength_um

BOTH = ("time", "wavelength")
TABLE = "planet_id,Rs,Ms,Ts,Mp,e,P,sma,i"
WL = ",".join(f"wl_{i}" for i in range(1, 284))


def write_file(folder: Path, planet: int, curves, *, order=None, twice=False, fgs1=True) -> None:
    """One visit: wavelength columns in any order, with FGS1 or without."""
    order = np.arange(282) if order is None else order
    airs_time = curves.airs_time_h.copy()
    if twice:
        airs_time[7] = airs_time[6]
    channels = [
        ("FGS1", np.array([0.7]), curves.fgs1_time_h, curves.fgs1_e[:, None]),
        ("AIRS-CH0", wavelength_um()[1:][order], airs_time, curves.airs_e[:, order]),
    ]
    for name, um, time, flux in channels if fgs1 else channels[1:]:
        variables = {"flux_e": (BOTH, flux), "flux_err_e": (BOTH, np.sqrt(flux))}
        axes = {"time_h": ("time", time), "wavelength_um": ("wavelength", um)}
        xr.Dataset(variables, axes).to_netcdf(
            folder / f"{planet}_{curves.visit}.nc", group=name, mode="a", engine="h5netcdf"
        )


def write_stars(folder: Path, worlds: Mapping[int, World]) -> None:
    rows = [TABLE]
    for planet, world in worlds.items():
        s = world.table
        values = (s.radius_rsun, s.mass_msun, s.temperature_k, s.planet_mass_mjup, s.eccentricity,
                  s.period_d, s.semi_major_axis_rs, s.inclination_deg)  # fmt: skip
        rows.append(",".join([str(planet), *map(repr, map(float, values))]))
    (folder / "stars.csv").write_text("\n".join(rows) + "\n")


def write_labels(path: Path, worlds: Mapping[int, World], planets: Iterable[int]) -> None:
    path.parent.mkdir(exist_ok=True)
    rows = [f"{p},{','.join(map(repr, worlds[p].depth.tolist()))}" for p in planets]
    path.write_text("\n".join([f"planet_id,{WL}", *rows]) + "\n")
