import pytest

from spectramind.config import load
from spectramind.errors import ArtefactError, DataError
from spectramind.stages import runner
from spectramind.stages.result import Result
from spectramind.stages.runner import run_stage


@pytest.fixture
def config(tmp_path):
    return load([f"runtime.out={tmp_path}", "data.level=lightcurves"])


def test_a_stage_that_fails_is_not_called_done(config, tmp_path, monkeypatch):
    folder = tmp_path / "simulate"
    monkeypatch.setattr(runner, "_function", lambda _: lambda *_: Result("made", ()))
    run_stage(config, "simulate", folder)
    assert (folder / "stage.json").is_file()

    def fail(*_):
        raise DataError("planet 1: is damaged. Fetch it again.")

    monkeypatch.setattr(runner, "_function", lambda _: fail)
    with pytest.raises(DataError, match="planet 1: is damaged"):
        run_stage(config, "simulate", folder)
    assert not (folder / "stage.json").exists()


def test_two_runs_of_a_stage_do_not_share_a_folder(config, tmp_path, monkeypatch):
    folder = tmp_path / "simulate"

    def second(inner_config, inner_folder, _provenance):
        with pytest.raises(ArtefactError, match=r"another process is running `spectramind sim"):
            run_stage(inner_config, "simulate", inner_folder)
        raise DataError("planet 1: stop here. Go on.")

    monkeypatch.setattr(runner, "_function", lambda _: second)
    with pytest.raises(DataError, match="stop here"):
        run_stage(config, "simulate", folder)
