import pytest

from spectramind.config import load
from spectramind.errors import DataError
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
