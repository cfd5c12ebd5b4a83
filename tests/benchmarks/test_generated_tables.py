"""Figures of the pages are written from the stored results, and what cannot be is said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tables

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Results of two benchmarks, and a page that shows them."""
    folder = tmp_path / "docs" / "results"
    folder.mkdir(parents=True)
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", folder)
    simulate = {"s_per_visit": 21.94, "peak_gb": 1.061, "seed": 5, "date": "2026-01-02T00:00:00"}
    (folder / "simulate.json").write_text(json.dumps(simulate))
    (folder / "v50.json").write_text(json.dumps({"sim2025": {"gain": 0.0125, "share": 0.284}}))
    (tmp_path / "README.md").write_text(
        "Gain <!-- value: v50.sim2025.gain as +.3f -->0.9<!-- end -->.\n"
        "<!-- table: simulate -->\nold\n<!-- end -->\nBelow.\n"
    )
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["tables.py", *arguments])
    tables.main()


def test_a_check_names_what_is_stale_and_changes_nothing(results, monkeypatch, capsys):
    before = (results / "README.md").read_text()
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--check")
    assert ended.value.code == 1
    assert (results / "README.md").read_text() == before
    assert capsys.readouterr().err == (
        "README.md, line 1, `value: v50.sim2025.gain as +.3f`: the page does not say what the "
        "stored result says.\n"
        "README.md, line 2, `table: simulate`: the page does not say what the stored result "
        "says.\n"
        "Write them anew: python benchmarks/tables.py\n"
    )


def test_pages_are_rewritten_and_then_stand(results, monkeypatch):
    run(monkeypatch)
    assert (results / "README.md").read_text() == (
        "Gain <!-- value: v50.sim2025.gain as +.3f -->+0.013<!-- end -->.\n"
        "<!-- table: simulate -->\n"
        "| figure | value | wanted |\n| --- | --- | --- |\n"
        "| simulate one visit | 21.94 s | <= 40 |\n"
        "| peak memory of the process | 1.061 GB | <= 2 |\n\n"
        "Seed 5. Measured on 2026-01-02: load not recorded.\n<!-- end -->\nBelow.\n"
    )
    run(monkeypatch, "--check")


@pytest.mark.usefixtures("results")
def test_a_share_has_a_blank_before_its_sign():
    assert tables.value_of("v50.sim2025.share as .0%", "here") == "28 %"


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<!-- table: simulate -->\nold", "p.md, line 1, `table: simulate`: the block is"),
        (
            "<!-- table: simulate -->\n<!-- value: v50.a as d -->1<!-- end -->",
            "the block is not closed. Write <!-- end --> behind it.",
        ),
        ("<!-- chart: simulate --><!-- end -->", "there is no such mark. Write `table: NAME` or"),
        ("<!-- table: scan --><!-- end -->", "no benchmark `scan` has both a report and a resu"),
        ("<!-- table: simulate/x --><!-- end -->", "reports/simulate.py makes no `x`. It has: "),
        ("<!-- table: v50 --><!-- end -->", "docs/results/v50.json has no 'planets'. Run benchm"),
        ("<!-- value: v50.a as .1f --><!-- end -->", "docs/results/v50.json has no `v50.a`. Run"),
        ("<!-- value: scan.a as .1f --><!-- end -->", "there is no scan.json in docs/results. Ru"),
        ("<!-- value: v50.sim2025 as d --><!-- end -->", "not one number with a format. Write `v"),
        ("<!-- value: v50.sim2025.gain --><!-- end -->", "not one number with a format. Write `v"),
    ],
)  # fmt: skip
def test_a_mark_that_cannot_be_filled_is_refused(text, sentence):
    with pytest.raises(SystemExit) as ended:
        tables.rewritten(text, "p.md")
    assert sentence in str(ended.value)


def test_tables_are_made_without_heavy_imports():
    reports = ", ".join(f"reports.{path.stem}" for path in BENCHMARKS.glob("reports/[!_]*.py"))
    code = f"import sys, tables, {reports}; print({{'torch', 'numpy'}} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
