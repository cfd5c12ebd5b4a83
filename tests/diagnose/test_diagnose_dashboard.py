"""The dashboard as a file: complete, offline, escaped, and the same numbers in JSON."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from dark_fits import without

from spectramind.config import load
from spectramind.diagnose.figures import POINTS, short, table, thinned
from spectramind.diagnose.metrics import gains, score_2024, score_2025
from spectramind.diagnose.report import write_dashboard
from spectramind.diagnose.scorecard import Yardstick
from spectramind.diagnose.spectra import ranked
from spectramind.errors import ArtefactError, ConfigError, DataError
from spectramind.observation import NOT_MEASURED, Labels
from spectramind.posterior import SpectrumPosterior
from spectramind.stages import diagnose as stage


class Page(HTMLParser):
    """Tags, scripts and ids of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.ids = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            assert attributes["id"] not in self.ids
            self.ids.add(attributes["id"])
        if tag == "script":
            self.scripts.append((attributes.get("type"), ""))

    def handle_data(self, data):
        if self.lasttag == "script" and self.scripts:
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)

    def handle_endtag(self, tag):
        if tag == "script":
            self.lasttag = ""


def test_one_plotly_bundle_no_network_and_small(dashboard):
    report, text, _ = dashboard
    assert len(re.findall(r"plotly\.js v\d", text)) == 1
    assert report.html.stat().st_size < 12e6
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")


def test_policy_allows_exactly_the_two_scripts(dashboard):
    _, text, _ = dashboard
    page = Page(text)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv"))
    code = [body for kind, body in page.scripts if kind is None]
    hashes = [base64.b64encode(hashlib.sha256(c.encode()).digest()).decode() for c in code]
    assert len(code) == 2
    assert policy.startswith("default-src 'none'")
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert "http" not in policy


def test_every_figure_has_a_name_a_finding_a_table_and_a_plot(dashboard):
    _, text, _ = dashboard
    page = Page(text)
    figures = [a for tag, a in page.tags if tag == "figure"]
    assert len(figures) >= 15
    for attributes in figures:
        assert attributes["role"] == "img"
        number = attributes["aria-labelledby"].removeprefix("caption-")
        assert f"caption-{number}" in page.ids
        assert f"plot-{number}" in page.ids
        article = text[text.index(f'id="figure-{number}"') :].split("</article>")[0]
        caption = re.search(r"<figcaption[^>]*>(.*?)</figcaption>", article).group(1)
        assert re.search(r"\d", caption.removeprefix(f"<b>Figure {number}.</b>"))
        assert article.count("<details>") == 1
        assert article.count("<tr>") >= 3
    links = {a["href"][1:] for tag, a in page.tags if tag == "a"}
    assert links <= page.ids


def test_figure_numbers_begin_with_their_section(dashboard):
    _, text, _ = dashboard
    for section in re.findall(r'<section id="section-(\d)">(.*?)</section>', text, re.S):
        for number in re.findall(r'id="figure-(\d+)"', section[1]):
            assert number[0] == section[0]


def test_plots_are_small(dashboard):
    _, text, _ = dashboard
    plots = [json.loads(body) for kind, body in Page(text).scripts if kind == "application/json"]
    for trace in (trace for plot in plots for trace in plot["data"]):
        assert len(trace["x"]) <= POINTS
        assert len(trace["x"]) == len(trace["y"])


def test_same_numbers_in_json(dashboard):
    report, text, stored = dashboard
    assert stored["score"]["V50"]["total"] == report.headline.total
    assert f"<dd>{report.headline.total:.4f}</dd>" in text
    assert set(stored["figures"]) == set(re.findall(r'id="figure-(\d+)"', text))
    assert [a["state"] for a in stored["alerts"]] == [a.state for a in report.alerts]
    for figure in stored["figures"].values():
        assert all(len(row) == len(figure["columns"]) for row in figure["rows"])
    shown = stored["figures"]["301"]
    assert len(shown["rows"]) == 283
    assert shown["rows"][0][0] == 0.7


def test_it_says_which_spectra_not_to_trust(make_evidence, settings, tmp_path):
    whole = make_evidence(4)
    _, second, third, fourth = whole.fits
    fits = [replace(second, reasons=("Visit 0: odd.", "b lies off.")), third, fourth]
    report = write_dashboard(replace(whole, fits=fits), settings(planets=1), tmp_path)
    table = json.loads(report.json.read_text())["tables"]["Not to be trusted"]
    assert table["rows"] == [["1000", NOT_MEASURED], ["1001", "Visit 0: odd.; b lies off."]]
    text = report.html.read_text()
    assert "2 of 4 spectra are not to be trusted; 1 of them" in text
    assert "<td>Visit 0: odd.; b lies off.</td>" in text
    trusted = write_dashboard(make_evidence(2), settings(export_html=False), tmp_path / "good")
    assert "Not to be trusted" not in json.loads(trusted.json.read_text())["tables"]


def test_score_is_that_of_the_challenge(make_evidence, settings, tmp_path):
    evidence, config = make_evidence(), settings(export_html=False, planets=1)
    report = write_dashboard(evidence, config, tmp_path)
    found = gains(
        evidence.truth.depth, evidence.predicted.mu.numpy(),
        sigma=evidence.predicted.sigma.numpy(), naive=evidence.naive,
        sigma_true=config.metric.sigma_true(283),
    )  # fmt: skip
    expected = score_2025(found, fgs_weight=config.metric.fgs_weight)
    assert report.headline.total == pytest.approx(expected, rel=1e-12)
    assert report.html is None
    assert [path.name for path in report.outputs] == ["dashboard.json", "spectra.png"]
    assert not (tmp_path / "dashboard.html").exists()


def test_an_archive_of_2024_is_scored_by_the_metric_of_2024(make_evidence, settings, tmp_path):
    evidence, config = make_evidence(year=2024), settings(planets=1)
    report = write_dashboard(evidence, config, tmp_path)
    found = gains(
        evidence.truth.depth, evidence.predicted.mu.numpy(),
        sigma=evidence.predicted.sigma.numpy(), naive=evidence.naive,
        sigma_true=config.metric.airs_sigma_true,
    )  # fmt: skip
    expected = score_2024(found)
    assert report.headline.total == expected
    (alert,) = (alert for alert in report.alerts if alert.name == "Score")
    assert alert.message.startswith(f"score {expected:.4f} (2024 metric)")
    stored = json.loads(report.json.read_text())
    assert stored["metric"] == 2024
    v50 = stored["score"]["V50"]
    assert v50["total"] == expected
    gain, ideal = found
    assert v50["fgs1"] == pytest.approx(gain[:, 0].sum() / ideal[:, 0].sum())
    assert stored["figures"]["201"]["title"] == "Score by the metric of 2024"
    assert stored["figures"]["201"]["rows"][1][1] == pytest.approx(expected, abs=1e-5)
    shares = [row[2] for row in stored["figures"]["202"]["rows"]]
    assert np.mean(shares) == pytest.approx(expected, abs=1e-4)
    page = report.html.read_text()
    assert f"<dd>{expected:.4f}</dd><dt>score, 2024 metric</dt>" in page
    assert "Metric of the 2024 challenge: every point weighs 1; ideal error 1e-05;" in page
    assert "2025 metric" not in page


@pytest.mark.parametrize("known", [True, False])
def test_facts_of_the_stage_are_the_scores_of_the_dashboard(
    known, make_evidence, settings, tmp_path, monkeypatch
):
    """Nothing is scored twice; the fit alone only where the dashboard does not show it."""
    evidence = make_evidence(known=known)
    report = write_dashboard(evidence, settings(export_html=False, planets=1), tmp_path)
    if known:
        monkeypatch.setattr(Yardstick, "score", lambda *_: pytest.fail("scored twice"))
        fit = report.scores["transit fit"].total
    else:
        monkeypatch.setattr(stage, "read_fits", lambda *_: {})
        monkeypatch.setattr(stage, "fit_posterior", lambda *_: evidence.oof.posterior)
        fit = report.headline.total
    facts = stage._facts(load([]), evidence, report)
    assert facts["score"] == report.headline.total
    assert facts["fit_score"] == fit
    assert facts["gain"] == report.headline.total - fit
    assert facts["planets"] == (24 if known else 60)
    assert facts["held_out"] is known


def test_same_evidence_gives_the_same_bytes(make_evidence, settings, tmp_path):
    evidence = make_evidence()
    first = write_dashboard(evidence, settings(planets=1), tmp_path / "a")
    second = write_dashboard(evidence, settings(planets=1), tmp_path / "b")
    for one, other in zip(first.outputs, second.outputs, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_picture_is_a_png(dashboard):
    report, _, _ = dashboard
    content = report.picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 20_000


def test_strings_are_escaped(make_evidence, settings, tmp_path):
    evil = '</script><img src=x onerror="alert(1)">'
    evidence = make_evidence(command=evil, stage_seconds={evil: 1.0})
    text = write_dashboard(evidence, settings(planets=1), tmp_path).html.read_text()
    assert evil not in text
    assert "<img" not in text.replace(text[text.index("plotly.js v") :], "")
    assert "&lt;/script&gt;&lt;img" in text


def test_without_truth_it_says_so(make_evidence, settings, tmp_path):
    report = write_dashboard(make_evidence(known=False), settings(planets=2), tmp_path)
    text, stored = report.html.read_text(), json.loads(report.json.read_text())
    assert not report.held_out
    assert "The true spectra of the predicted planets are not known here" in text
    assert set(stored["score"]) == {"V50 out of fold"}
    assert "truth [ppm]" not in stored["figures"]["301"]["columns"]


def test_limb_darkening_of_flagged_planets_counts_too(make_evidence, settings, tmp_path):
    evidence = make_evidence(known=False, oof=None, naive=None)
    pull = np.array([0.0, 0.0, 0.0, 7.0])
    far = [replace(fit, limb_pull=pull, reasons=("u2 is far.",)) for fit in evidence.fits]
    assert len(far) > 1
    report = write_dashboard(replace(evidence, fits=far), settings(planets=2), tmp_path)
    (alert,) = (alert for alert in report.alerts if alert.name == "Limb darkening")
    assert alert.state == "warn"
    assert alert.message.startswith("u2 of AIRS-CH0 lies +7.0 prior scatters")


def test_without_any_truth_it_shows_what_it_can_and_scores_nothing(
    make_evidence, settings, tmp_path
):
    evidence = make_evidence(known=False, oof=None, naive=None)
    report = write_dashboard(evidence, settings(planets=2), tmp_path)
    text, stored = report.html.read_text(), json.loads(report.json.read_text())
    assert report.headline is None
    assert (stored["score"], stored["judged"]) == ({}, None)
    assert "No true spectrum is known here" in text
    assert "Nothing is judged: no true spectrum is known." in text
    assert f"<dd>{len(evidence.planet_ids)}</dd><dt>planets predicted</dt>" in text
    assert {"301", "302", "361", "362"} <= set(stored["figures"])
    assert not [number for number in stored["figures"] if number[0] in "245"]
    assert {alert.name for alert in report.alerts} == {"Limb darkening", "Provenance", "Run time"}
    page = Page(text)
    assert {a["href"][1:] for tag, a in page.tags if tag == "a"} <= page.ids
    facts = stage._facts(load([]), evidence, report)
    assert facts == {"planets": len(evidence.planet_ids), "held_out": False}
    assert "none of which can be scored" in stage._found(facts, report)


def test_wavelengths_without_light_curves_are_named_and_not_drawn(
    make_evidence, settings, tmp_path
):
    evidence = make_evidence(1)
    (fit,), dark = evidence.fits, np.arange(283) % 4 == 0
    lost = without(fit, dark)
    report = write_dashboard(replace(evidence, fits=[lost]), settings(planets=1), tmp_path)
    figures = json.loads(report.json.read_text())["figures"]
    assert "71 of 283 wavelengths were not measured, FGS1 among them" in figures["301"]["finding"]
    assert "FGS1 was not measured" in figures["361"]["finding"]
    assert {row[0] for row in figures["361"]["rows"]} == {"AIRS-CH0"}
    shown = [row[2] for row in figures["361"]["rows"]]
    flux = fit.visits[0].flux[:, ~dark].mean(1)
    np.testing.assert_allclose(shown, flux[thinned(len(flux))], atol=6e-5)


def test_fft_residuals_off_leaves_its_figure_out(make_evidence, settings, tmp_path):
    report = write_dashboard(make_evidence(), settings(fft_residuals=False, planets=1), tmp_path)
    assert "501" not in json.loads(report.json.read_text())["figures"]
    assert "Figure 501 is off: diagnostics.fft_residuals=false." in report.html.read_text()
    assert "White residuals" not in {alert.name for alert in report.alerts}


@pytest.mark.parametrize("planets", [1, 2])
def test_a_handful_of_planets(make_evidence, settings, tmp_path, planets):
    report = write_dashboard(make_evidence(planets), settings(), tmp_path)
    assert len(re.findall(r'id="figure-30\d"', report.html.read_text())) == planets


@pytest.mark.parametrize("name", ["shap", "umap", "gnn_explain"])
def test_what_is_not_built_is_refused(settings, name):
    with pytest.raises(
        ConfigError,
        match=rf"diagnostics\.{name}: true is not part of this version, wanted false\. Set "
        rf"diagnostics\.{name}=false\.",
    ):
        settings(**{name: True})


def test_labels_of_other_planets_are_refused(make_evidence):
    depth = make_evidence().truth.depth
    with pytest.raises(
        DataError,
        match=r"diagnose: labels of 24 planets that are not the 24 predicted ones in the same "
        r"order\. Run `spectramind predict` again on this archive\.",
    ):
        make_evidence(truth=Labels(np.arange(24), depth))


def test_posteriors_of_another_archive_are_refused(make_evidence):
    few = SpectrumPosterior(torch.ones(3, 283), torch.ones(3, 283))
    with pytest.raises(
        DataError,
        match=r"diagnose: transit fits of shape \(3, 283\), wanted \(24, 283\) \(planets, "
        r"wavelengths\)\. Run `spectramind predict` again",
    ):
        make_evidence(fit=few)


def test_unwritable_folder(make_evidence, settings, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ArtefactError, match=r"cannot be written \(.*\)\. Free disk space"):
        write_dashboard(make_evidence(), settings(), blocked)


@pytest.mark.parametrize(("total", "planets"), [(24, 6), (24, 3), (5, 6), (2, 2), (1, 4), (7, 7)])
def test_ranked_shows_worst_median_and_best(rng, total, planets):
    quality = rng.permutation(total).astype(float)
    rows = ranked(quality, planets)
    count = min(planets, total)
    assert len(set(rows.tolist())) == count
    assert np.all(np.diff(quality[rows]) > 0)
    if count > 1:
        assert (quality[rows[0]], quality[rows[-1]]) == (0, total - 1)
    if count > 2:
        assert total // 2 in quality[rows]


def test_numbers_are_shortened_not_changed():
    assert short([0.0, 123456.789, -1.23456789e-9]) == [0.0, 123460.0, -1.2346e-9]
    assert table(("a", "b"), ["x", "y"], [1, 2]).rows == (("x", 1), ("y", 2))


@pytest.mark.parametrize("length", [1, POINTS, POINTS + 1, 11250])
def test_thinned_curves_keep_their_shape(length):
    kept = np.arange(length)[thinned(length)]
    assert 1 <= len(kept) <= POINTS
    assert kept[0] == 0
