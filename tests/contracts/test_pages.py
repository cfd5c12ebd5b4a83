"""Every measured figure of the pages comes from a stored result; none is copied by hand."""

import re
from pathlib import Path

import pytest

import tables

ROOT = Path(__file__).parents[2]
PAGES = tables.pages()
HASH = re.compile(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{7,40}\b")
# A time, an amount of memory, a share, a ratio, a score to four digits, or an error of one.
FIGURE = re.compile(
    r"\d ?(?:ms|s|seconds|min|minutes|h|hours|ppm|[MG]i?B|%)(?!\w)|\dx\b|[ (+-]0\.\d{4}\b"
    r"|\d ± \d|\d times (?:as|faster|slower|less|more)\b"
)
GIVEN = (  # settings, definitions and arithmetic: true without a measurement
    "95 % bootstrap interval", "9 for 90 %", "19 for\n95 %",  # levels
    "a 9 % ingress", "the brightest 3 % of the pixels",  # rules of the code
    "(depth by 15 %) and mass (by 40 %)", "P scatters by 1 %, a/Rs by 6 %",  # settings
    "(0.1 s)", "AIRS-CH0 4.6 s", "FGS1 0.2 s", "4.5 s. Shot",  # exposure times of the instrument
    "0.83 GB (3 x 4 bytes x 135,000 x 512)",
)  # fmt: skip


def by_hand(text):
    """A page without what is generated, without code and without what is given."""
    text = re.sub(r"<!-- (?:table|value):.*?<!-- end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub("|".join(map(re.escape, GIVEN)), "", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_figures_are_those_of_the_stored_results(page):
    _, stale = tables.rewritten(page.read_text(), page.name)
    assert stale == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_figure_is_copied_by_hand(page):
    assert FIGURE.findall(by_hand(page.read_text())) == []


def test_what_is_given_stands_on_a_page():
    pages = "".join(page.read_text() for page in PAGES)
    assert [phrase for phrase in GIVEN if phrase not in pages] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_page_quotes_a_commit(page):
    assert HASH.findall(page.read_text()) == []


def test_every_result_is_shown_somewhere():
    shown = {
        mark["what"].partition("/")[0]
        for page in PAGES
        for mark in tables.MARK.finditer(page.read_text())
        if mark["kind"] == "table"
    }
    stored = list((ROOT / "docs" / "results").iterdir())
    assert {path.suffix for path in stored} == {".json"}
    assert {path.stem for path in stored} == shown


@pytest.mark.parametrize(
    "line",
    ["it takes 240 ms", "a gain of +0.0119 over it", "(0.7095 of the fit)", "fell to 33.2 ppm",
     "apart by 0.1 ± 0.2", "64 times as fast", "43x the hosts", "takes 3.2 s", "needs 1.1 GB",
     "in 2.5 hours", "wins by 7 %"],
)  # fmt: skip
def test_a_copied_figure_is_noticed(line):
    assert FIGURE.search(by_hand(f"so {line}."))
    assert not FIGURE.search(by_hand(f"<!-- value: a.b as d -->{line}<!-- end -->"))
