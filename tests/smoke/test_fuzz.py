"""Damaged files of every kind end in a sentence or in the same submission."""

import random
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny_run import LIGHT_CURVES, TINY, spectramind

SUBMISSION = "artefacts/predict/submission.csv"
FILES = 40  # damaged, one after the other
SEED = 13
# What nobody reads again, and the hidden labels, which only the score knows.
UNREAD = ("diagnose", "logs", "truth", "sample_", ".lock", "predict/", "-metrics", ".csv.json")
WORDS = (*TINY, *LIGHT_CURVES)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A flipped bit, a cut, a hole, a repeated part, something else, or nothing."""
    at = draw.randrange(max(len(content), 1))
    return draw.choice(
        [
            content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :],
            content[:at],
            content[:at] + bytes(min(64, len(content) - at)) + content[at + 64 :],
            content[:at] + content,
            b"\xff\xfe\x00 no text",
            b"",
        ]
    )


def readable(run: Path) -> dict[tuple[str, str], list[Path]]:
    """Every file that a stage may read, archive included, by folder and ending."""
    kinds = defaultdict(list)
    for path in sorted((run / "artefacts").rglob("*")):
        if path.is_file() and not any(part in str(path) for part in UNREAD):
            kinds[str(path.parent.relative_to(run)).rstrip("0123456789"), path.suffix].append(path)
    return kinds


def differ(found: pl.DataFrame, wanted: pl.DataFrame) -> bool:
    """By more than the rounding of a planet that is fitted alone."""
    return not np.allclose(found.to_numpy(), wanted.to_numpy(), rtol=1e-6, atol=0.0)


@pytest.mark.slow
def test_damaged_files_change_nothing_in_silence(light_curves, tmp_path):
    run, draw = tmp_path / "run", random.Random(SEED)
    wanted = pl.read_csv(light_curves / SUBMISSION)
    for number in range(FILES):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(light_curves, run)
        kinds = readable(run)
        assert len(kinds) > 10
        path = draw.choice(kinds[draw.choice(sorted(kinds))])
        path.write_bytes(damaged(path.read_bytes(), draw))
        (run / SUBMISSION).unlink()
        done = spectramind(run, "predict", *WORDS, check=False)
        named = f"file {number}, {path.relative_to(run)}: {done.stderr[-600:]}"
        if done.exit_code == 0:  # an archive with another digit is another archive, and said so
            again = "simulate" in path.parts and "running it first" in done.stderr
            assert again or not differ(pl.read_csv(run / SUBMISSION), wanted), named
        else:
            assert done.exit_code in (1, 2), named
            assert "error: " in done.stderr, named
