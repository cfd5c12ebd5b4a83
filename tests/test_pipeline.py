import pytest

from spectramind.config import load
from spectramind.errors import ArtefactError, DataError
from spectramind.pipeline import _FUNCTIONS, Result, run_stage


@pytest.fixture
def config(tmp_path):
    return load([f"runtime.out={tmp_path}", "data.level=lightcurves"])


def test_a_stage_that_fails_is_not_called_done(config, tmp_path, monkeypatch):
    folder = tmp_path / "simulate"
    monkeypatch.setitem(_FUNCTIONS, "simulate", lambda _c, _f: Result("made", ()))
    run_stage(config, "simulate", folder)
    assert (folder / "stage.json").is_file()

    def fail(_config, _folder):
        raise DataError("planet 1: is damaged. Fetch it again.")

    monkeypatch.setitem(_FUNCTIONS, "simulate", fail)
    with pytest.raises(DataError, match="planet 1: is damaged"):
        run_stage(config, "simulate", folder)
    assert not (folder / "stage.json").exists()


def test_two_runs_of_a_stage_do_not_share_a_folder(config, tmp_path, monkeypatch):
    folder = tmp_path / "fit"

    def second(inner_config, inner_folder):
        with pytest.raises(ArtefactError, match=r"another process is running `spectramind fit`"):
            run_stage(inner_config, "fit", inner_folder)
        raise DataError("planet 1: stop here. Go on.")

    monkeypatch.setitem(_FUNCTIONS, "fit", second)
    with pytest.raises(DataError, match="stop here"):
        run_stage(config, "fit", folder)
