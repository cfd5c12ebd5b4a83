import pytest

from spectramind.errors import ArtefactError, ConfigError, DataError
from spectramind.stages import runner
from spectramind.stages.folders import STAGES
from spectramind.stages.runner import run_all, run_stage


def test_a_stage_that_fails_is_not_called_done(of, run, monkeypatch):
    folder = run / "simulate"
    assert (folder / "stage.json").is_file()

    def fail(*_):
        raise DataError("planet 1: is damaged. Fetch it again.")

    monkeypatch.setattr(runner, "_function", lambda _: fail)
    with pytest.raises(DataError, match="planet 1: is damaged"):
        run_stage(of(run), "simulate", folder)
    assert not (folder / "stage.json").exists()


@pytest.mark.parametrize(
    ("stage", "word", "refused"),
    [
        (
            "simulate",
            "data.name=kaggle",
            (ConfigError, "data=kaggle: `simulate` writes simulated"),
        ),
        ("calibrate", "data.root=/typo", (DataError, "data.root=/typo: is not a folder")),
    ],
)
def test_a_command_that_cannot_begin_leaves_what_is_done(of, run, stage, word, refused):
    seal = run / stage / "stage.json"
    before = seal.read_bytes()
    with pytest.raises(refused[0], match=refused[1]):
        run_stage(of(run, word), stage, run / stage)
    assert seal.read_bytes() == before


def test_two_runs_of_a_stage_do_not_share_a_folder(of, tmp_path, monkeypatch):
    folder = tmp_path / "simulate"

    def second(inner_config, inner_folder, _provenance):
        with pytest.raises(ArtefactError, match=r"another process is running `spectramind sim"):
            run_stage(inner_config, "simulate", inner_folder)
        raise DataError("planet 1: stop here. Go on.")

    monkeypatch.setattr(runner, "_function", lambda _: second)
    with pytest.raises(DataError, match="stop here"):
        run_stage(of(tmp_path), "simulate", folder)


def test_a_finished_run_of_another_configuration_stays(of, run):
    """Unless asked to replace it; nothing before it is replaced either."""
    seals = {path: path.read_bytes() for path in run.rglob("stage.json")}
    for word, stage, key in (
        ("training.lr=1e-3", "train", "training.lr is 0.0002 there and 0.001 here"),
        ("transit.bin_s=300", "predict", "transit.bin_s is 120.0 there and 300.0 here"),
    ):
        other = of(run, word)
        with pytest.raises(ArtefactError, match=rf"{stage}: holds a finished .*{key}\)\. Keep"):
            run_stage(other, stage, run / stage)
        with pytest.raises(ArtefactError, match="holds a finished run of another configuration"):
            run_all(other, lambda *_: None, lambda *_: None)
    assert {path: path.read_bytes() for path in run.rglob("stage.json")} == seals
    run_stage(other, "fit", run / "elsewhere")
    run_stage(other, "fit", run / "fit", overwrite=True)
    assert (run / "fit/stage.json").read_bytes() != seals[run / "fit/stage.json"]


def test_what_changes_no_configuration_is_replaced_as_before(of, run):
    config = of(run)
    for stage in STAGES[1:]:
        run_stage(config, stage, run / stage)
    calibrated = of(run, "calibration.cosmic_sigma=9")
    run_stage(calibrated, "calibrate", run / "calibrate")  # its light curves lie beside the others
