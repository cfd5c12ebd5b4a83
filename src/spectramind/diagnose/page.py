"""The HTML page: sections, figures and tables as one file without any network access."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

from plotly.offline import get_plotlyjs

from spectramind.diagnose.alerts import Alert
from spectramind.diagnose.figures import Cell, Figure, Table

_MARK = {"pass": "✓", "warn": "!", "fail": "✕"}


@dataclass(frozen=True)
class Command:
    """A paragraph that is a command line."""

    text: str


@dataclass(frozen=True)
class Section:
    """One section; its number is the first digit of its figures."""

    number: str
    title: str
    paragraphs: tuple[str | Command, ...]
    figures: tuple[Figure, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()
    alerts: tuple[Alert, ...] = ()


def render(
    cards: Sequence[tuple[str, str]],
    judged: str,
    alerts: Sequence[Alert],
    sections: Sequence[Section],
) -> str:
    """The whole page.

    Scripts are allowed by their hash only and every address is forbidden, so that neither a
    name in the data nor the page itself can load or send anything.

    Args:
        cards: Label and value of the headline numbers, most important first.
        judged: A sentence on the planets behind them.
        alerts: Verdicts, counted in the header.
        sections: In reading order.
    """
    plotly, script = get_plotlyjs(), _asset("dashboard.js")
    hashes = " ".join(f"'sha256-{_sha256(text)}'" for text in (plotly, script))
    return Template(_asset("dashboard.html")).substitute(
        policy=(
            f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
            "img-src data: blob:; base-uri 'none'; form-action 'none'"
        ),
        style=_asset("dashboard.css"),
        cards="".join(_card(label, value) for label, value in cards),
        judged=escape(judged),
        verdict=_verdict(alerts),
        navigation="".join(
            f'<a href="#section-{s.number}"><b>{s.number}</b> {escape(s.title)}</a>'
            for s in sections
        ),
        sections="".join(_section(section) for section in sections),
        plotly=plotly,
        script=script,
    )


def _asset(name: str) -> str:
    return files("spectramind.diagnose").joinpath(name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _card(label: str, value: str) -> str:
    return f'<div class="card"><dd>{escape(value)}</dd><dt>{escape(label)}</dt></div>'


def _verdict(alerts: Sequence[Alert]) -> str:
    states = [alert.state for alert in alerts]
    return "".join(
        f'<a class="chip {state}" href="#section-1"><span aria-hidden="true">{_MARK[state]}</span>'
        f" {states.count(state)} {state}</a>"
        for state in ("fail", "warn", "pass")
        if state in states
    )


def _section(section: Section) -> str:
    head = f'<h2><span class="number">{section.number}</span>{escape(section.title)}</h2>'
    body = "".join(_paragraph(text) for text in section.paragraphs)
    alerts = "".join(_alert(alert) for alert in section.alerts)
    listed = f'<ul class="alerts">{alerts}</ul>' if alerts else ""
    tables = "".join(
        f"<h3>{escape(name)}</h3>{_table(values, name)}" for name, values in section.tables
    )
    figures = "".join(_figure(figure) for figure in section.figures)
    return (
        f'<section id="section-{section.number}">{head}{body}{listed}{tables}{figures}</section>'
    )


def _paragraph(text: str | Command) -> str:
    if isinstance(text, Command):
        return f'<pre tabindex="0"><code>{escape(text.text)}</code></pre>'
    return f"<p>{escape(text)}</p>"


def _alert(alert: Alert) -> str:
    kind = "section" if len(alert.figure) == 1 else "figure"
    return (
        f'<li class="{alert.state}"><span class="mark"><span aria-hidden="true">'
        f"{_MARK[alert.state]}</span> {alert.state}</span><div><strong>{escape(alert.name)}"
        f"</strong><p>{escape(alert.message)}</p></div>"
        f'<a href="#{kind}-{alert.figure}">{kind} {alert.figure}</a></li>'
    )


def _figure(figure: Figure) -> str:
    number, caption = figure.number, f"caption-{figure.number}"
    plot = json.dumps(figure.plot, separators=(",", ":"), allow_nan=False)
    plot = plot.replace("<", "\\u003c")  # nothing in the data can close the script element
    return (
        f'<article id="figure-{number}"><h3>{escape(figure.title)}</h3>'
        f'<figure role="img" aria-labelledby="{caption}">'
        f'<div class="plot" data-plot="plot-{number}"></div>'
        f'<figcaption id="{caption}"><b>Figure {number}.</b> {escape(figure.finding)}'
        f"</figcaption></figure><details><summary>Data of figure {number}</summary>"
        f"{_table(figure.table, f'Data of figure {number}')}</details>"
        f'<script type="application/json" id="plot-{number}">{plot}</script></article>'
    )


def _table(table: Table, name: str) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in table.rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(value: Cell) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"<td>{escape(text)}</td>"
