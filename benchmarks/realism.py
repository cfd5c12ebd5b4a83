"""Compare the simulator with published and real statistics of the challenge data.

    python benchmarks/realism.py [--quick | --stored]

Prints a table, writes docs/results/realism.{md,json} on a full run, and ends with one JSON line.
The 2025 labels are not public here: rows marked 2024 quote the easier 2024 labels for scale and
are not expected to match.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from spectramind.files import write_atomic, write_json
from spectramind.instrument import AIRS, FGS1, Channel, to_scored, wavelength_um
from spectramind.provenance import git_state, utc_now
from spectramind.simulate.detector import converter, draw_pixels, foreground, raw_counts
from spectramind.simulate.population import stream
from spectramind.simulate.scene import ChannelScene, build_scene
from spectramind.simulate.settings import SimulateConfig
from spectramind.simulate.systems import System, draw_systems
from spectramind.simulate.visit import draw_visit

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
FULL, QUICK = 1100, 300  # planets
PAIRS = 400  # read pairs of the noise measurement, at full cadence
RANKS = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Row:
    """One statistic: what the real data say and how near the simulator has to be."""

    key: str
    real: float
    source: str
    low: float | None = None  # accepted range of the simulated value; None: shown only
    high: float | None = None


LABELS_2025 = "2025 train labels, hosts' constants"
PLOT_2025 = "2025 labels, read off published plots"
SHAPE_2025 = "2025, 4th place's PCA"
LABELS_2024 = "2024 train labels (another, flatter population)"
TABLE = "2025 star table"
SAMPLE = "two public 2025 planets"
ROWS = (
    Row("label_mean_ppm", 14_689, LABELS_2025, 13_500, 15_900),
    Row("label_std_ppm", 10_661, LABELS_2025, 8_700, 12_600),
    Row("label_mean_ppm", 2_552, LABELS_2024),
    Row("label_std_ppm", 1_724, LABELS_2024),
    Row("within_planet_std_p50_ppm", 90, PLOT_2025, 40, 130),
    Row("within_planet_std_p95_ppm", 166, LABELS_2024),
    Row("peak_to_peak_p50_ppm", 94, LABELS_2024),
    Row("fgs1_above_airs_share", 0.5, "2025: both signs are usual", 0.1, 0.6),
    Row("pca_1", 0.760, LABELS_2024),
    Row("pca_2", 0.944, LABELS_2024),
    Row("pca_3", 0.976, LABELS_2024),
    Row("pca_4", 0.989, LABELS_2024),
    Row("pca_5", 0.994, LABELS_2024),
    Row("pca_6", 0.996, LABELS_2024),
    Row("pca_7", 0.993, SHAPE_2025, 0.985, 0.9995),
    Row("pca_8", 0.9984, LABELS_2024),
    *(
        Row(f"{name}_p{rank}", value, TABLE, value * (1 - width), value * (1 + width))
        for name, width, values in (
            ("Rs", 0.06, (0.80, 0.97, 1.23, 1.45, 1.90)),
            ("Ms", 0.05, (0.75, 0.94, 1.10, 1.25, 1.43)),
            ("Ts", 0.03, (4823, 5571, 5887, 6230, 6521)),
            ("Mp", 0.30, (0.19, 0.59, 0.94, 1.65, 5.95)),
            ("P", 0.06, (3.00, 3.95, 5.20, 6.34, 7.40)),
            ("sma", 0.08, (6.28, 8.65, 10.5, 12.8, 16.3)),
            ("T14", 0.12, (2.37, 3.08, 3.72, 4.44, 5.79)),
        )
        for rank, value in zip(RANKS, values, strict=True)
    ),
    Row("b_p50", 0.27, TABLE, 0.18, 0.32),
    Row("b_p95", 0.66, TABLE, 0.55, 0.77),
    Row("corr_lnRs_Ts", 0.73, TABLE, 0.63, 0.83),
    Row("corr_P_sma", 0.64, TABLE, 0.54, 0.74),
    Row("fgs1_electrons_p50", 243_900, SAMPLE + " (220,500 and 267,300)", 220_500, 276_000),
    Row("airs_2.1um_electrons_p50", 132_000, SAMPLE + " (117,000 and 147,000)", 117_000, 147_000),
    Row("airs_3.9um_electrons_p50", 4_800, SAMPLE + " (4,100 and 5,500)", 4_000, 5_700),
    Row("airs_noise_over_poisson_min", 1.06, SAMPLE, 0.98, 1.10),
    Row("airs_noise_over_poisson_max", 1.45, SAMPLE, 1.25, 1.75),
    Row("fgs1_noise_over_poisson", 1.07, SAMPLE + ", aperture unknown", 1.0, 1.2),
    Row("airs_odd_even_ratio", 46.06, "planet 342072318", 45.9, 46.2),
    Row("fgs1_odd_even_ratio", 2.001, "planet 342072318", 1.99, 2.01),
)


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
    linear = sum(corr[n] * signal**n for n in range(6))
    dark = pixels.dark.ravel()
    return linear[0::2] - dark * how.first_s, linear[1::2] - dark * how.second_s


def verdict(row: Row, value: float) -> str:
    """Whether a value lies in the accepted range: yes, NO, or - where none is stated."""
    if row.low is None or row.high is None:
        return "-"
    return "yes" if row.low <= value <= row.high else "NO"


def as_table(found: dict[str, float]) -> str:
    """The comparison as a Markdown table."""
    lines = [
        "| statistic | real | simulated | accepted | within | source |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        value = found[row.key]
        accepted = "-" if row.low is None else f"{row.low:.6g} to {row.high:.6g}"
        cells = (row.key, f"{row.real:.6g}", f"{value:.6g}", accepted, verdict(row, value))
        lines.append(f"| {' | '.join(cells)} | {row.source} |")
    return "\n".join(lines)


def main() -> None:
    """Run, or re-print the stored full run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} planets, nothing written")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    options = parser.parse_args()
    stored = RESULTS / "realism.json"
    if options.stored:
        record = json.loads(stored.read_bytes())
    else:
        planets = QUICK if options.quick else FULL
        sha, dirty = git_state()
        record = {
            "date": utc_now(), "seed": load_config(planets).seed, "git_sha": sha,
            "git_dirty": dirty, "planets": planets, **measure(planets),
        }  # fmt: skip
    table = as_table(record)
    head = f"{record['planets']} planets, seed {record['seed']}, {record['date']}"
    print(f"{head}, git {record['git_sha'][:12]}\n\n{table}\n")
    if not (options.quick or options.stored):
        text = f"# Simulator against real statistics\n\n`python benchmarks/realism.py`: {head}.\n"
        write_atomic(RESULTS / "realism.md", f"{text}\n{table}\n".encode())
        write_json(stored, record)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
