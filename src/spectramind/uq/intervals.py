"""Intervals on disk, beside mu and sigma."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int

from spectramind.artefacts import Kind, load_table, save_table
from spectramind.uq.calibration import Interval, IntervalKind

_INTERVALS = Kind("table of intervals", "spectramind predict")


def write_intervals(
    path: Path,
    planet_ids: Int[np.ndarray, " B"],
    intervals: Mapping[IntervalKind, Mapping[float, Interval]],
) -> None:
    """Write a table of one row per planet, kind and level.

    Columns: planet_id, kind, level, lower_1..lower_283, upper_1..upper_283.

    Args:
        path: File to write.
        planet_ids: Planets in the order of the rows of `intervals`.
        intervals: Lower and upper ends (B, 283) of each kind and level.
    """
    planets, frames = len(planet_ids), []
    for kind, levels in intervals.items():
        for level, (lower, upper) in levels.items():
            columns: dict[str, Any] = {"planet_id": planet_ids, "level": [level] * planets}
            columns["kind"] = [kind] * planets
            for name, ends in (("lower", lower), ("upper", upper)):
                values = ends.double().numpy()
                columns |= {f"{name}_{w + 1}": values[:, w] for w in range(values.shape[1])}
            frames.append(pl.DataFrame(columns))
    save_table(path, pl.concat(frames))


def read_intervals(path: Path, kind: IntervalKind) -> dict[float, Interval]:
    """Read the intervals of a kind that `write_intervals` wrote, in the planet order of the file.

    Raises:
        ArtefactError: If the file is missing or damaged.
    """
    table = load_table(path, _INTERVALS)
    own = table.filter(pl.col("kind") == kind)
    width = (table.width - 3) // 2
    return {
        level: (_ends(rows, "lower", width), _ends(rows, "upper", width))
        for (level,), rows in own.group_by("level", maintain_order=True)
    }


def _ends(rows: pl.DataFrame, name: str, width: int) -> Float[torch.Tensor, "B W"]:
    columns = [f"{name}_{w + 1}" for w in range(width)]
    return torch.from_numpy(rows.select(columns).to_numpy(order="c").copy())
