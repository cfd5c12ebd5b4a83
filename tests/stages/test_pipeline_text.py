"""The text of `dvc.yaml` for other runs than the demo."""

import pytest
import yaml

from spectramind.stages.dvc import pipeline_text
from spectramind.stages.folders import STAGES

REAL = ("data.name=kaggle", "data.root=/data/ariel 2025")


def test_the_head_says_the_words_that_wrote_it(of):
    head = pipeline_text(of("out", *REAL), REAL).splitlines()[:2]
    words = "data.name=kaggle 'data.root=/data/ariel 2025'"
    assert head[0] == f"# Written by: spectramind config dvc {words}"
    assert head[1] == f"# `params.yaml` is written by: spectramind config freeze {words}"


@pytest.mark.parametrize(("name", "level"), [("kaggle", "frames"), ("lightcurves",) * 2])
def test_an_archive_that_is_there_is_read_and_not_simulated(of, name, level):
    config = of("out", f"data.name={name}", f"data.level={level}", "data.root=/data/ariel")
    stages = yaml.safe_load(pipeline_text(config, []))["stages"]
    assert tuple(stages) == STAGES[1:]
    assert all(entry["deps"][0] == "/data/ariel" for entry in stages.values())
    assert "out/simulate" not in str(stages)


def test_a_simulated_archive_elsewhere_is_what_simulate_leaves(of):
    stages = yaml.safe_load(pipeline_text(of("out", "data.root=big/archive"), []))["stages"]
    assert [*stages["simulate"]["outs"][0], *stages["simulate"]["outs"][1]] == [
        "big/archive", "out/simulate",
    ]  # fmt: skip
    assert stages["calibrate"]["deps"][0] == "big/archive"
