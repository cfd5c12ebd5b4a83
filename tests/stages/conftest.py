"""Stages with nothing in them, and the smallest archive."""

from copy import deepcopy

import pytest
import yaml

from spectramind.config import dump, load, validate
from spectramind.stages import runner
from spectramind.stages.folders import STAGES, stage_folder
from spectramind.stages.result import Result

ARCHIVE = ("axis_info.parquet", "wavelengths.csv", "adc_info.csv")  # what tells its year


@pytest.fixture(scope="session")
def defaults():
    return dump(load([]))


@pytest.fixture
def of(defaults):
    """The configuration of a run in a folder; composed once, which takes half a second."""

    def configured(out, *words):
        values = deepcopy(defaults)
        for word in (f"runtime.out={out}", f"data.root={out}/simulate", *words):
            key, _, value = word.partition("=")
            *sections, last = key.split(".")
            place = values
            for section in sections:
                place = place[section]
            place[last] = yaml.safe_load(value)
        return validate(values)

    return configured


@pytest.fixture
def write_archive():
    """Write files by which an archive is known, with this text in them."""

    def write(root, text="one"):
        root.mkdir(parents=True, exist_ok=True)
        for name in ARCHIVE:
            (root / name).write_text(text)

    return write


@pytest.fixture
def empty_stages(monkeypatch, write_archive):
    """Every stage does nothing, but that `simulate` writes an archive of its seed."""

    def simulate(config, *_):
        write_archive(config.data.root, str(config.simulate.seed))
        return Result("made", ())

    def other(*_):
        return Result("made", ())

    monkeypatch.setattr(runner, "_function", lambda s: simulate if s == "simulate" else other)


@pytest.fixture
def run(tmp_path, of, empty_stages):  # noqa: ARG001 - they take the place of the real ones
    """Folder of a run of empty stages, all done."""
    config = of(tmp_path / "out")
    for stage in STAGES:
        runner.run_stage(config, stage, stage_folder(config, stage))
    return tmp_path / "out"
