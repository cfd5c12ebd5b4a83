"""The simulator beside published and real statistics of the challenge data."""

from dataclasses import dataclass
from typing import Any

from reports.markdown import grid, measured

RANKS = (5, 25, 50, 75, 95)  # quantiles [%]


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


def verdict(row: Row, value: float) -> str:
    """Whether a value lies in the accepted range: yes, NO, or - where none is stated."""
    if row.low is None or row.high is None:
        return "-"
    return "yes" if row.low <= value <= row.high else "NO"


def table(result: dict[str, Any]) -> str:
    """Every statistic, real and simulated."""
    head = ("statistic", "real", "simulated", "accepted", "within", "source")
    rows = [_cells(row, result[row.key]) for row in ROWS]
    facts = f"{result['planets']:,} planets, seed {result['seed']}. {measured(result)}"
    return f"{grid(head, rows)}\n\n{facts}"


def _cells(row: Row, value: float) -> tuple[str, ...]:
    accepted = "-" if row.low is None else f"{row.low:.6g} to {row.high:.6g}"
    return (
        row.key, f"{row.real:.6g}", f"{value:.6g}", accepted, verdict(row, value), row.source,
    )  # fmt: skip
