"""Figures of the dashboard: a plot, the finding it shows, and the table behind it.

A plot is a Plotly figure as plain JSON. The colour names `@ink` and `@grid` stand for the page's
own colours, so that a figure follows the light or dark scheme.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Num

# Okabe and Ito 2008: told apart by all readers, colour-blind or not.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, INK, GRID = "#56B4E9", "#CC79A7", "@ink", "@grid"
POINTS = 2000  # at most this many on a curve

Cell = float | int | str
Plot = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Numbers of a figure, or of a section, as rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Figure:
    """One figure; the first digit of its number is that of its section."""

    number: str
    title: str
    finding: str  # caption, with computed numbers
    table: Table
    plot: Plot


def table(columns: Sequence[str], *values: Iterable[Any]) -> Table:
    """Table from columns of equal length."""
    rows = zip(*(_cells(column) for column in values), strict=True)
    return Table(tuple(columns), tuple(rows))


def short(values: Num[np.ndarray, "..."] | Sequence[Any], digits: int = 5) -> list[Any]:
    """Numbers rounded to some significant digits, for the page."""
    array = np.asarray(values, dtype=np.float64)
    magnitude = np.floor(np.log10(np.where(array == 0.0, 1.0, np.abs(array))))
    factor = 10.0 ** (digits - 1 - magnitude)
    return (np.round(array * factor) / factor).tolist()


def thinned(length: int) -> slice:
    """Every k-th point, so that a curve keeps at most `POINTS`."""
    return slice(None, None, max(1, -(-length // POINTS)))


def line(
    x: Any,  # noqa: ANN401 - numbers or words
    y: Any,  # noqa: ANN401
    name: str,
    color: str,
    *,
    dash: str = "solid",
    **more: Any,  # noqa: ANN401 - any Plotly property
) -> Plot:
    """A curve."""
    style = {"color": color, "width": 2, "dash": dash}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "name": name,
        "line": style,
        **more,
    }


def dots(x: Any, y: Any, name: str, color: str, *, symbol: str = "circle", **more: Any) -> Plot:  # noqa: ANN401
    """Points."""
    marker = {"color": color, "size": 6, "symbol": symbol}
    trace = {"type": "scatter", "mode": "markers", "x": x, "y": y, "name": name}
    return {**trace, "marker": marker, **more}


def band(
    x: list[float], lower: list[float], upper: list[float], name: str, color: str, opacity: float
) -> Plot:
    """A filled range, drawn as one closed curve."""
    return {
        "type": "scatter",
        "x": [*x, *reversed(x)],
        "y": [*upper, *reversed(lower)],
        "name": name,
        "fill": "toself",
        "fillcolor": _transparent(color, opacity),
        "line": {"width": 0, "color": color},
        "mode": "lines",
        "hoverinfo": "skip",
    }


def layout(x: str, y: str, *, height: int = 380, **more: Any) -> Plot:  # noqa: ANN401
    """Axes with titles, in the style of the page; keys such as `xaxis` add to the defaults."""
    base = {
        "height": height,
        "margin": {"l": 68, "r": 16, "t": 16, "b": 56},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"namelength": -1},
    }
    axes = {"xaxis": axis(x, **more.pop("xaxis", {})), "yaxis": axis(y, **more.pop("yaxis", {}))}
    return {**base, **axes, **more}


def axis(title: str, **more: Any) -> Plot:  # noqa: ANN401
    """One axis."""
    return {
        "title": {"text": title, "standoff": 12},
        "gridcolor": GRID,
        "zerolinecolor": GRID,
        "linecolor": GRID,
        "automargin": True,
        **more,
    }


def level_line(y: float, text: str, color: str = INK, **more: Any) -> Plot:  # noqa: ANN401
    """A horizontal reference line over the whole width, as a shape with its label."""
    style = {"color": color, "width": 1.5, "dash": "dash"}
    label = {"text": text, "textposition": "end", "font": {"color": color, "size": 11}}
    shape = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y}
    return {**shape, "line": style, "label": label, **more}


def _transparent(color: str, opacity: float) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _cells(column: Iterable[Any]) -> list[Cell]:
    values = list(column)
    if all(isinstance(value, str | int | np.integer) for value in values):
        return [value if isinstance(value, str) else int(value) for value in values]
    return short(values)
