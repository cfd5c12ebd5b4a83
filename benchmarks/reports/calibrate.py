"""Calibration of one visit beside other chains."""

from typing import Any

from reports.markdown import Figure, figures, measured

FIGURES = (
    Figure("read and calibrate one visit, one core", "s_per_visit", "s"),
    Figure("over the bare decode of the same columns", "over_decode", "", "<= 1.6"),
    Figure("the hosts' full chain over it", "speedup_vs_host"),
    Figure("the hosts' default chain (linearity off) over it", "speedup_vs_host_default"),
    Figure("a vectorised numpy chain over it", "speedup_vs_vectorised"),
    Figure("the hosts' full chain, one visit", "host_s", "s"),
    Figure("largest error of the light curves, relative", "max_rel_error", "", "<= 1e-6"),
    Figure("peak memory of the process", "peak_gb", "GB", "<= 1.2"),
    Figure("that of the hosts' full chain", "host_peak_gb", "GB"),
    Figure("1,100 planets with one visit each, one process", "hours_1100", "h"),
)


def table(result: dict[str, Any]) -> str:
    """Times of all chains over this one's, its memory and its error."""
    return f"{figures(result, FIGURES)}\n\nSeed {result['seed']}. {measured(result)}"
