"""An archive of former code in the stage's own folder, which can be made again, gives way."""

import pytest

from spectramind.artefacts import save_json
from spectramind.errors import WriteError
from spectramind.provenance import describe
from spectramind.simulate.writer import SimulationReport
from spectramind.stages import simulate as stage

MADE = describe(stage="simulate", config_hash="-", code_hash="now", data_hash="", seed=1)


@pytest.fixture
def folder(tmp_path):
    """The stage's folder with an archive of former code."""
    root = tmp_path / "out" / "simulate"
    for name in ("train/7/signal.parquet", "truth/train/7.json", "train.csv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("former")
    save_json(root / "simulation.json", {"code": "former"})
    return root


@pytest.fixture
def found(monkeypatch):
    """What the simulator finds in the folder of the archive."""
    names = []

    def simulator(*_, root, **__):
        names.extend(sorted(path.name for path in root.iterdir()))
        return SimulationReport(planets=1, visits=1, reused=0)

    monkeypatch.setattr(stage, "simulate_archive", simulator)
    return names


def test_former_code(of, folder, found, capsys):
    stage.simulate(of(folder.parent), folder, MADE)
    assert found == []
    assert "simulate holds a damaged archive, or one of other code" in capsys.readouterr().err


def test_a_damaged_mark(of, folder, found, capsys):
    (folder / "simulation.json").write_text("{")
    stage.simulate(of(folder.parent), folder, MADE)
    assert found == []
    assert "it is made anew" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["now", None])
def test_the_same_code_or_no_archive_of_ours(of, folder, found, code):
    (folder / "simulation.json").unlink()
    if code is not None:
        save_json(folder / "simulation.json", {"code": code})
    stage.simulate(of(folder.parent), folder, MADE)
    assert {"train", "train.csv", "truth"} < {*found, "simulation.json"}


def test_an_archive_elsewhere_is_left_to_the_simulator_to_refuse(of, folder, found, tmp_path):
    stage.simulate(of(tmp_path / "other", f"data.root={folder}"), tmp_path / "other", MADE)
    assert "train" in found
    stage.simulate(of(folder.parent, f"data.root={tmp_path}"), folder, MADE)
    assert (folder / "train").is_dir()


def test_what_cannot_be_removed_is_named_and_the_mark_stays(of, folder, monkeypatch):
    def refuse(path):
        raise OSError(13, "Permission denied", str(path))

    monkeypatch.setattr(stage.shutil, "rmtree", refuse)
    with pytest.raises(WriteError, match=r"simulate/tr\w+: cannot be written \(Permission denied"):
        stage.simulate(of(folder.parent), folder, MADE)
    assert (folder / "simulation.json").exists()
