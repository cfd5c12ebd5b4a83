"""The transit fit beside a batman + scipy loop."""

from typing import Any

from reports.markdown import Figure, figures, measured

FIGURES = (
    Figure("whole fit of a planet", "s_per_planet", "s", "<= 1.0"),
    Figure("batman + scipy, its white light alone, one start", "batman_white_s_per_planet", "s"),
    Figure("white light alone, four starts, outliers", "white_s_per_planet", "s"),
    Figure("batman + scipy over white light alone", "speedup_white"),
    Figure("largest distance of the two [sigma]", "white_distance_sigma"),
    Figure("largest error of the flux against batman", "max_flux_error_vs_batman", "", "<= 1e-6"),
    Figure("peak memory of the process", "peak_gb", "GB", "<= 1.5"),
)


def table(result: dict[str, Any]) -> str:
    """Seconds, memory and the error of the flux."""
    head = f"{result['planets']} planets, {result['visits']} visits at full cadence, one thread"
    return f"{figures(result, FIGURES)}\n\n{head}, seed {result['seed']}. {measured(result)}"
