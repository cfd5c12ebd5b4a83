"""The dashboard: findings of all sections, written as one offline HTML file and as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from spectramind.diagnose import charts, page
from spectramind.diagnose.alerts import (
    Alert,
    alert_bias,
    alert_blown,
    alert_coverage,
    alert_limb,
    alert_provenance,
    alert_score,
    alert_sigma,
    alert_time,
    alert_white,
)
from spectramind.diagnose.evidence import Evidence, Judged, arrays, judged
from spectramind.diagnose.figures import Figure, Table
from spectramind.diagnose.limb import limb_shift
from spectramind.diagnose.metrics import Naive
from spectramind.diagnose.page import Section
from spectramind.diagnose.residuals import ResidualPower, residual_power
from spectramind.diagnose.scorecard import Score, Yardstick
from spectramind.diagnose.settings import DiagnosticsConfig
from spectramind.diagnose.spectra import (
    light_curve_figure,
    ranked,
    spectrum_figure,
    write_picture,
)
from spectramind.files import write_atomic, write_json
from spectramind.observation import NOT_MEASURED

_PROVENANCE = (
    "stage", "config_hash", "data_hash", "git_sha", "git_dirty", "version", "seed", "created",
)  # fmt: skip
FIT_ALONE = "transit fit"  # among the scores, where the truth of held-out planets is known
_SEVERITY = ("fail", "warn", "pass")
_NO_TRUTH = (
    "The true spectra of the predicted planets are not known here (the challenge keeps them), so "
    "everything below judges training planets, out of fold. The temperature was fitted on these "
    "very planets: with uq.temp_scale=true the mean z² of those with trusted fits is 1 by "
    "construction."
)
_NO_SCORE = (
    "No true spectrum is known here: not of the predicted planets, and nothing was trained, so no "
    "training planet is judged out of fold either. Nothing is scored, and no error bar is checked."
)


@dataclass(frozen=True)
class DashboardReport:
    """Files of a dashboard, its scores and its verdicts."""

    html: Path | None  # None when diagnostics.export_html is off
    json: Path
    picture: Path
    scores: Mapping[str, Score]  # headline first; none where no truth is known
    held_out: bool
    alerts: tuple[Alert, ...]

    @property
    def headline(self) -> Score | None:
        """The network's score, of held-out planets where their truth is known."""
        return next(iter(self.scores.values()), None)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All files written."""
        files = (self.json, self.picture)
        return files if self.html is None else (self.html, *files)


@dataclass(frozen=True, eq=False)
class _Verdict:
    """What planets with a known truth say of the error bars."""

    judged: Judged
    naive: Naive
    scores: Mapping[str, Score]  # the first one is the headline
    power: ResidualPower | None

    @property
    def headline(self) -> Score:
        return next(iter(self.scores.values()))


@dataclass(frozen=True, eq=False)
class _Findings:
    """Results that several sections show."""

    evidence: Evidence
    config: DiagnosticsConfig
    verdict: _Verdict | None  # None where no truth is known
    shown: Int[np.ndarray, " P"]  # rows of the predicted planets that are drawn


def write_dashboard(evidence: Evidence, config: DiagnosticsConfig, out: Path) -> DashboardReport:
    """Diagnose a run and write dashboard.json, spectra.png and, if wanted, dashboard.html.

    Args:
        evidence: Results of the stages.
        config: What to show.
        out: Folder to write into.

    Returns:
        Paths, scores and verdicts.

    Raises:
        ArtefactError: If a file cannot be written.
        DataError: If a prediction holds negative values, which the metric refuses.
    """
    findings = _find(evidence, config)
    verdict, alerts = findings.verdict, _alerts(findings)
    sections = _sections(findings, alerts)
    html = out / "dashboard.html" if config.export_html else None
    scores = {} if verdict is None else verdict.scores
    held_out = verdict is not None and verdict.judged.held_out
    report = DashboardReport(
        html, out / "dashboard.json", out / "spectra.png", scores, held_out, alerts
    )
    write_json(report.json, _as_json(findings, report, sections))
    write_picture(evidence, findings.shown, report.picture)
    if html is not None:
        judged_on = (
            "Nothing is judged: no true spectrum is known."
            if verdict is None
            else f"Judged on {verdict.judged.name}."
        )
        write_atomic(html, page.render(_cards(findings), judged_on, alerts, sections).encode())
    return report


def _find(evidence: Evidence, config: DiagnosticsConfig) -> _Findings:
    verdict = _judge(evidence, config)
    if verdict is None or not verdict.judged.held_out:
        quality = -np.median(arrays(evidence.predicted)[1], axis=1)
    else:
        quality = verdict.headline.planets
    return _Findings(evidence, config, verdict, ranked(quality, config.planets))


def _judge(evidence: Evidence, config: DiagnosticsConfig) -> _Verdict | None:
    known = judged(evidence)
    if known is None:
        return None
    assert evidence.naive is not None
    yardstick = Yardstick(config.metric, evidence.year, evidence.naive)
    scores: dict[str, Score] = {}
    if known.held_out:
        scores["V50"] = yardstick.score(known.depth, evidence.predicted)
        scores[FIT_ALONE] = yardstick.score(known.depth, evidence.fit)
    if evidence.oof is not None:
        own = evidence.oof
        scores["V50 out of fold"] = yardstick.score(own.labels.depth, own.posterior)
    power = residual_power(known.z[:, 1:]) if config.fft_residuals else None
    return _Verdict(known, evidence.naive, scores, power)


def _alerts(findings: _Findings) -> tuple[Alert, ...]:
    evidence, verdict = findings.evidence, findings.verdict
    own = () if verdict is None else _verdict_alerts(verdict)
    shift = limb_shift([fit.limb_pull.tolist() for fit in evidence.fits])
    alerts = (
        *own,
        alert_limb(shift),
        alert_provenance(evidence.provenance),
        alert_time(evidence.stage_seconds),
    )
    return tuple(sorted(alerts, key=lambda alert: _SEVERITY.index(alert.state)))


def _verdict_alerts(verdict: _Verdict) -> tuple[Alert, ...]:
    known = verdict.judged
    white = () if verdict.power is None else (alert_white(verdict.power),)
    return (
        alert_score(verdict.headline, verdict.scores.get(FIT_ALONE)),
        alert_sigma(known),
        alert_bias(known),
        alert_coverage(known),
        alert_blown(known),
        *white,
    )


def _sections(findings: _Findings, alerts: tuple[Alert, ...]) -> tuple[Section, ...]:
    evidence, verdict = findings.evidence, findings.verdict
    score: tuple[Section, ...] = (Section("2", "Score", (_NO_SCORE,)),)
    error_bars: tuple[Section, ...] = ()
    if verdict is not None:
        score = (_score_section(findings, verdict),)
        error_bars = (
            _calibration_section(evidence, verdict),
            _residual_section(evidence, verdict),
        )
    return (
        _provenance_section(evidence),
        Section("1", "Alerts", (), (), (), alerts),
        *score,
        _spectra_section(findings),
        *error_bars,
        Section("9", "Reproduce", ("This command makes the dashboard again.",
                                   page.Command(evidence.command))),
    )  # fmt: skip


def _provenance_section(evidence: Evidence) -> Section:
    stages = Table(
        _PROVENANCE, tuple(tuple(str(row[k]) for k in _PROVENANCE) for row in evidence.provenance)
    )
    text = "Every artefact carries these marks; equal hashes mean equal inputs and settings."
    figures = (charts.stage_figure(evidence.stage_seconds),) if evidence.stage_seconds else ()
    return Section("0", "Provenance", (text,), figures, (("Stages", stages),))


def _score_section(findings: _Findings, verdict: _Verdict) -> Section:
    metric, year = findings.config.metric, findings.evidence.year
    constants = (
        f"every point weighs 1; ideal error {metric.airs_sigma_true:g}"
        if year == 2024
        else f"FGS1 weighs {metric.fgs_weight:g}, each AIRS-CH0 point 1; ideal errors "
        f"{metric.fgs1_sigma_true:g} and {metric.airs_sigma_true:g}"
    )
    text = (
        f"Metric of the {year} challenge: {constants}; naive guess "
        f"{verdict.naive.mean:.6f} ± {verdict.naive.sigma:.6f}."
    )
    missing = () if findings.evidence.truth is not None else (_NO_TRUTH,)
    figures = (
        charts.score_figure(verdict.scores),
        charts.planet_score_figure(verdict.judged, verdict.headline),
    )
    return Section("2", "Score", (*missing, text), figures)


def _spectra_section(findings: _Findings) -> Section:
    evidence, shown, verdict = findings.evidence, findings.shown, findings.verdict
    held_out = verdict is not None and verdict.judged.held_out
    text, kind = "From the worst over the median to the best score.", ("worst", "best")
    if not held_out:
        text = "From the largest to the smallest claimed sigma; the truth is not known."
        kind = ("least certain", "most certain")
    figures: list[Figure] = []
    for index, row in enumerate(shown):
        place = {0: kind[0], len(shown) - 1: kind[1]}.get(index, f"number {index + 1}")
        rank = f"{place} of the {len(shown)} shown"
        if verdict is not None and held_out:
            rank += f", score {verdict.headline.planets[row]:.3f}"
        figures.append(spectrum_figure(evidence, int(row), f"{301 + index}", rank))
    fits = {fit.planet_id: fit for fit in evidence.fits}
    drawn = [int(evidence.planet_ids[row]) for row in shown]
    curves = [fits[planet] for planet in drawn if planet in fits]
    figures += [light_curve_figure(fit, f"{361 + i}") for i, fit in enumerate(curves[:3])]
    doubts = _doubts(evidence)
    lost = sum(why == NOT_MEASURED for _, why in doubts.rows)
    trust = (
        f"{len(doubts.rows)} of {len(evidence.planet_ids)} spectra are not to be trusted; {lost} "
        "of them are of planets that were not measured."
    )
    tables = (("Not to be trusted", doubts),) if doubts.rows else ()
    return Section("3", "Spectra", (text, trust), tuple(figures), tables)


def _doubts(evidence: Evidence) -> Table:
    """Why not to trust a spectrum, of each predicted planet that is not trusted."""
    reasons = {fit.planet_id: "; ".join(fit.reasons) for fit in evidence.fits}
    found = [(str(p), reasons.get(int(p), NOT_MEASURED)) for p in evidence.planet_ids]
    return Table(("planet", "why"), tuple((planet, why) for planet, why in found if why))


def _calibration_section(evidence: Evidence, verdict: _Verdict) -> Section:
    known = verdict.judged
    others: dict[str, np.ndarray] = {}
    missing = () if known.held_out else (_NO_TRUTH,)
    if known.held_out:
        mu, sigma = arrays(evidence.fit)
        others["transit fit"] = (known.depth - mu) / sigma
        if evidence.oof is not None:
            mu, sigma = arrays(evidence.oof.posterior)
            others["V50 out of fold"] = (evidence.oof.labels.depth - mu) / sigma
    um = evidence.wavelength_um
    text = (
        "Envelopes count planets, not points: the wavelengths of one planet are correlated. They "
        "are exact for one wavelength and generous for averages over wavelengths."
    )
    figures = (
        charts.coverage_figure(known, others),
        charts.wavelength_coverage_figure(known, um),
        charts.pit_figure(known),
        charts.z2_figure(known, um),
        charts.width_figure(known, um),
    )
    tables = ((f"{known.interval_method} intervals, by channel", charts.quality_table(known)),)
    return Section("4", "Calibration", (*missing, text), figures, tables)


def _residual_section(evidence: Evidence, verdict: _Verdict) -> Section:
    known, um, power = verdict.judged, evidence.wavelength_um, verdict.power
    texts = () if power else ("Figure 501 is off: diagnostics.fft_residuals=false.",)
    first = () if power is None else (charts.power_figure(power, known.planets),)
    return Section(
        "5",
        "Residuals",
        texts,
        (*first, charts.correlation_figure(known, um), charts.error_figure(known, um)),
    )


def _cards(findings: _Findings) -> tuple[tuple[str, str], ...]:
    verdict, evidence = findings.verdict, findings.evidence
    if verdict is None:
        doubted = len(_doubts(evidence).rows)
        return (
            ("planets predicted", str(len(evidence.planet_ids))),
            ("not to be trusted", str(doubted)),
        )
    headline = verdict.headline
    cards = [
        (f"score, {headline.year} metric", f"{headline.total:.4f}"),
        ("FGS1", f"{headline.fgs1:.3f}"),
        ("AIRS-CH0", f"{headline.airs:.3f}"),
    ]
    if FIT_ALONE in verdict.scores:
        cards.append(("transit fit alone", f"{verdict.scores[FIT_ALONE].total:.4f}"))
    cards.append(("planets judged", str(verdict.judged.planets)))
    return tuple(cards)


def _as_json(
    findings: _Findings, report: DashboardReport, sections: tuple[Section, ...]
) -> dict[str, Any]:
    figures = [figure for section in sections for figure in section.figures]
    verdict = findings.verdict
    return {
        "metric": findings.evidence.year,
        "score": {
            name: {"total": item.total, "fgs1": item.fgs1, "airs": item.airs}
            for name, item in report.scores.items()
        },
        "judged": None
        if verdict is None
        else {
            "planets": verdict.judged.planets,
            "held_out": verdict.judged.held_out,
            "intervals": verdict.judged.interval_method,
        },
        "alerts": [vars(alert) for alert in report.alerts],
        "figures": {
            figure.number: {
                "title": figure.title,
                "finding": figure.finding,
                "columns": figure.table.columns,
                "rows": figure.table.rows,
            }
            for figure in figures
        },
        "tables": {
            name: {"columns": values.columns, "rows": values.rows}
            for section in sections
            for name, values in section.tables
        },
        "stage_seconds": dict(findings.evidence.stage_seconds),
        "command": findings.evidence.command,
    }
