"""Compare the simulator with published and real statistics of the challenge data.

    python benchmarks/realism.py [--quick | --stored]

Prints a table, writes docs/results/realism.json on a full run, and ends with one JSON line.
The 2025 labels are not public here: rows marked 2024 quote the easier 2024 labels for scale and
are not expected to match.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import yaml

from quiet import Machine
from reports.realism import RANKS, ROWS, table
from spectramind.files import write_json
from spectramind.instrument import AIRS, FGS1, Channel, to_scored, wavelength_um
from spectramind.simulate.detector import converter, draw_pixels, foreground, raw_counts
from spectramind.simulate.population import stream
from spectramind.simulate.scene import ChannelScene, build_scene
from spectramind.simulate.settings import SimulateConfig
from spectramind.simulate.systems import System, draw_systems
from spectramind.simulate.visit import draw_visit

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs" / "results" / "realism.json"
FULL, QUICK = 1100, 300  # planets
PAIRS = 400  # read pairs of the noise measurement, at full cadence


def load_config(planets: int) -> SimulateConfig:
    """The committed settings at full cadence, for so many training planets."""
    values = yaml.safe_load((ROOT / "configs" / "simulate" / "default.yaml").read_text())
    values |= {"train_planets": planets, "test_planets": 0, "cadence_factor": 1}
    return SimulateConfig(**values)


def measure(planets: int) -> dict[str, float]:
    """Every statistic of `ROWS` on a simulated population and one simulated visit."""
    config = load_config(planets)
    systems = draw_systems(config, "train")
    found = label_statistics(systems) | star_statistics(systems) | light_statistics(systems)
    found |= noise_statistics(systems[0], config)
    return {row.key: round(float(found[row.key]), 5) for row in ROWS}


def label_statistics(systems: list[System]) -> dict[str, float]:
    """Depths, their spread within a planet, and the PCA of mean-removed AIRS spectra."""
    depth = 1e6 * np.array([s.depth for s in systems])
    airs = depth[:, 1:]
    shape = airs - airs.mean(1, keepdims=True)
    power = np.linalg.svd(shape - shape.mean(0), compute_uv=False) ** 2
    spread = np.percentile(airs.std(1), (50, 95))
    return {
        "label_mean_ppm": depth.mean(),
        "label_std_ppm": depth.std(),
        "within_planet_std_p50_ppm": spread[0],
        "within_planet_std_p95_ppm": spread[1],
        "peak_to_peak_p50_ppm": np.median(np.ptp(depth, axis=1)),
        "fgs1_above_airs_share": (depth[:, 0] > airs.mean(1)).mean(),
    } | {f"pca_{k}": power[:k].sum() / power.sum() for k in range(1, 9)}


def star_statistics(systems: list[System]) -> dict[str, float]:
    """Quantiles and correlations of the star table that is written."""
    names = {
        "Rs": "radius_rsun",
        "Ms": "mass_msun",
        "Ts": "temperature_k",
        "Mp": "planet_mass_mjup",
        "P": "period_d",
        "sma": "semi_major_axis_rs",
        "i": "inclination_deg",
    }
    table = {
        short: np.array([getattr(s.planet.table, name) for s in systems])
        for short, name in names.items()
    }
    table["T14"] = np.array([s.planet.duration_h for s in systems])
    table["b"] = table["sma"] * np.cos(np.radians(table["i"]))
    found = {
        f"{name}_p{rank}": value
        for name, values in table.items()
        for rank, value in zip(RANKS, np.percentile(values, RANKS), strict=True)
    }
    found["corr_lnRs_Ts"] = np.corrcoef(np.log(table["Rs"]), table["Ts"])[0, 1]
    found["corr_P_sma"] = np.corrcoef(table["P"], table["sma"])[0, 1]
    return found


def light_statistics(systems: list[System]) -> dict[str, float]:
    """Electrons of one exposure: FGS1, and AIRS columns at 2.1 and 3.895 um."""
    airs = to_scored(np.array([s.light.airs_e_s for s in systems])) * AIRS.exposure_s
    blue = int(np.argmin(abs(wavelength_um()[1:] - 2.1)))
    return {
        "fgs1_electrons_p50": np.median([s.light.fgs1_e_s * FGS1.exposure_s for s in systems]),
        "airs_2.1um_electrons_p50": np.median(airs[:, blue]),
        "airs_3.9um_electrons_p50": np.median(airs[:, -1]),
    }


def noise_statistics(system: System, config: SimulateConfig) -> dict[str, float]:
    """Noise over Poisson and the ratio of the two reads, from raw counts at full cadence."""
    visit = draw_visit(config.seed, system.planet, 0, 1, config.effects, config.visit)
    found = {}
    for channel, name in ((AIRS, "airs"), (FGS1, "fgs1")):
        scene = build_scene(channel, system.planet, system.light, system.depth, visit, 1)
        reads = linear_reads(system, channel, scene, config)
        bright = np.argsort(reads[1].mean(0))[-round(0.03 * channel.pixels) :]
        found[f"{name}_odd_even_ratio"] = reads[1][:, bright].sum() / reads[0][:, bright].sum()
        frames = (reads[1] - reads[0]).reshape(-1, *channel.shape)
        if channel == FGS1:
            flux = frames[:, 10:22, 10:22].sum((1, 2))[:, None]
        else:
            flux = to_scored(frames[:, 8:24].sum(1))
        noise = np.diff(flux, axis=0).std(0) / np.sqrt(2.0 * flux.mean(0))
        smooth = np.convolve(noise, np.ones(20) / 20, "valid") if channel == AIRS else noise
        found[f"{name}_noise_over_poisson_min"] = smooth.min()
        found[f"{name}_noise_over_poisson_max"] = smooth.max()
        found[f"{name}_noise_over_poisson"] = smooth.mean()
    return found


def linear_reads(
    system: System, channel: Channel, scene: ChannelScene, config: SimulateConfig
) -> tuple[np.ndarray, np.ndarray]:
    """First and second reads of the first exposures, linear, dark subtracted [e-], (T, P)."""
    planet, effects, detector = system.planet, config.effects, config.detector
    cut = ChannelScene(
        channel,
        scene.time_h[1 : PAIRS + 1],
        scene.transit[1 : PAIRS + 1],
        np.ascontiguousarray(scene.star_e_s[:, 1 : PAIRS + 1]),
        np.ascontiguousarray(scene.drift[:, 1 : PAIRS + 1]),
        np.ascontiguousarray(scene.modes[:, 1 : PAIRS + 1]),
    )
    pixels = draw_pixels(config.seed, planet.split, channel, effects, detector)
    how = converter(channel, 1, effects, detector)
    sky = foreground(config.seed, planet, channel, effects, detector)
    rng = stream(config.seed, planet.split, planet.index, f"reads {channel.name}")
    counts, _ = raw_counts(cut, pixels, sky, how, rng, detector)
    signal = counts.T / how.gain + how.offset_e
    corr = pixels.linear_corr.reshape(6, -1)
    linear = np.polynomial.polynomial.polyval(signal, corr, tensor=False)
    dark = pixels.dark.ravel()
    return linear[0::2] - dark * how.first_s, linear[1::2] - dark * how.second_s


def main() -> None:
    """Run, or re-print the stored full run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} planets, nothing written")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    options = parser.parse_args()
    if options.stored:
        record = json.loads(RESULT.read_bytes())
    else:
        state, planets = Machine.now(), QUICK if options.quick else FULL
        record = state.stored() | {
            "seed": load_config(planets).seed, "planets": planets, **measure(planets),
        }  # fmt: skip
        if not options.quick:
            write_json(RESULT, record)
    print(table(record))
    print(json.dumps(record))


if __name__ == "__main__":
    main()
