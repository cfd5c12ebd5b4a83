"""Every measured figure of the pages comes from a stored result; none is copied by hand."""

import re
from pathlib import Path

import pytest

import tables

ROOT = Path(__file__).parents[2]
PAGES = tables.pages()
HASH = re.compile(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{7,40}\b")
# A time, an amount of memory, a score to four digits, or an error of one.
FIGURE = re.compile(r"\d (?:ms|min|minutes|ppm)\b|[ (+-]0\.\d{4}\b|\d ± \d|\d times as fast")


def by_hand(text):
    """A page without what is generated and without code."""
    text = re.sub(r"<!-- (?:table|value):.*?<!-- end -->", "", text, flags=re.DOTALL)
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_figures_are_those_of_the_stored_results(page):
    _, stale = tables.rewritten(page.read_text(), page.name)
    assert stale == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_figure_is_copied_by_hand(page):
    assert FIGURE.findall(by_hand(page.read_text())) == []


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
     "apart by 0.1 ± 0.2", "64 times as fast"],
)  # fmt: skip
def test_a_copied_figure_is_noticed(line):
    assert FIGURE.search(by_hand(f"so {line}."))
    assert not FIGURE.search(by_hand(f"<!-- value: a.b as d -->{line}<!-- end -->"))
