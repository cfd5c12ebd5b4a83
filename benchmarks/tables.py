"""Write the measured figures of README.md and docs/ from the results in docs/results.

    python benchmarks/tables.py            rewrite what is marked
    python benchmarks/tables.py --check    exit 1 where a page says something else

Two kinds of marks, which no reader of the rendered page sees:

    <!-- table: accuracy/sim2025 -->       what `reports.accuracy.sim2025` makes of accuracy.json;
    <!-- end -->                           without a part it is that module's `table`

    <!-- value: v50.sim2025.fit as .4f -->0.7251<!-- end -->     one number, in Python's format
"""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reports.markdown import number

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
END = "<!-- end -->"
MARK = re.compile(r"<!-- (?P<kind>\w+): (?P<what>.+?) -->")


def main() -> None:
    """Rewrite or check all pages."""
    parser = argparse.ArgumentParser(description="Figures of the pages from docs/results.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if stale")
    arguments = parser.parse_args()
    stale = []
    for page in pages():
        before = page.read_text()
        after, changed = rewritten(before, page.relative_to(ROOT).as_posix())
        stale += changed
        if changed and not arguments.check:
            page.write_text(after)
    for sentence in stale:
        print(sentence, file=sys.stderr)
    if stale and arguments.check:
        print("Write them anew: python benchmarks/tables.py", file=sys.stderr)
        raise SystemExit(1)


def pages() -> list[Path]:
    """Every page that may show figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rewritten(text: str, name: str) -> tuple[str, list[str]]:
    """The page with every marked block made anew, and a sentence for each that was stale."""
    parts, changed, done = [], [], 0
    for mark in MARK.finditer(text):
        line = text.count("\n", 0, mark.start()) + 1
        where = f"{name}, line {line}, `{mark['kind']}: {mark['what']}`"
        block = block_of(mark, where)
        close = text.find(END, mark.end())
        following = MARK.search(text, mark.end())
        if close < 0 or (following and following.start() < close):
            raise SystemExit(f"{where}: the block is not closed. Write {END} behind it.")
        old = text[mark.end() : close]
        if old != block:
            changed.append(f"{where}: the page does not say what the stored result says.")
        parts += [text[done : mark.end()], block]
        done = close
    return "".join([*parts, text[done:]]), changed


def block_of(mark: re.Match[str], where: str) -> str:
    """What stands between a mark and its end."""
    match mark["kind"]:
        case "table":
            return f"\n{table_of(mark['what'], where)}\n"
        case "value":
            return value_of(mark["what"], where)
    raise SystemExit(
        f"{where}: there is no such mark. Write `table: NAME` or `value: KEY as .2f`."
    )


def table_of(what: str, where: str) -> str:
    """The table of a benchmark, or a part of it."""
    name, _, part = what.partition("/")
    makers = makers_of(name, where)
    if (part or "table") not in makers:
        raise SystemExit(
            f"{where}: reports/{name}.py makes no `{part}`. It has: {', '.join(sorted(makers))}."
        )
    try:
        return makers[part or "table"](result_of(name, where))
    except KeyError as missing:
        raise SystemExit(
            f"{where}: docs/results/{name}.json has no {missing}. Run benchmarks/{name}.py again."
        ) from missing


def makers_of(name: str, where: str) -> dict[str, Callable[[dict[str, Any]], str]]:
    """The functions of a benchmark's report that make a table."""
    known = sorted(path.stem for path in (Path(__file__).parent / "reports").glob("*.py"))
    if name not in known or not (RESULTS / f"{name}.json").exists():
        raise SystemExit(
            f"{where}: no benchmark `{name}` has both a report and a result. Write its table "
            f"into benchmarks/reports/{name}.py and run benchmarks/{name}.py once."
        )
    module = importlib.import_module(f"reports.{name}")
    return {
        own: maker
        for own, maker in vars(module).items()
        if getattr(maker, "__module__", "") == module.__name__ and not own.startswith("_")
    }


def value_of(what: str, where: str) -> str:
    """One number of a result."""
    path, _, form = what.partition(" as ")
    name, *keys = path.split(".")
    value: Any = result_of(name, where)
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise SystemExit(
                f"{where}: docs/results/{name}.json has no `{path}`. Run benchmarks/{name}.py "
                "again, or name a key that it has."
            )
        value = value[key]
    if isinstance(value, dict | list) or not form:
        raise SystemExit(f"{where}: not one number with a format. Write `value: KEY as .2f`.")
    return number(value, form)


def result_of(name: str, where: str) -> dict[str, Any]:
    """The stored result of a benchmark."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        raise SystemExit(f"{where}: there is no {path.name} in docs/results. Run its benchmark.")
    return json.loads(path.read_text())


if __name__ == "__main__":
    main()
