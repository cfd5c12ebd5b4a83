from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("batman")

from transit_world import default_config, draw_world, make_curves

from spectramind.calibrate.cache import LightCurveStore
from spectramind.errors import WriteError
from spectramind.provenance import describe
from spectramind.transit import fit as stage
from spectramind.transit.fit import FitReport, fit_archive
from spectramind.transit.store import fit_path, read_facts, read_fits


@pytest.fixture(scope="module")
def planets(tmp_path_factory):
    store = LightCurveStore(tmp_path_factory.mktemp("light_curves"))
    worlds = [draw_world(seed) for seed in (1, 2)]
    for world in worlds:
        store.write("train", make_curves(world), {})
    dark = make_curves(worlds[0])
    store.write("train", replace(dark, planet_id=5, fgs1_e=0 * dark.fgs1_e), {})
    stars = {1000 + world.seed: world.table for world in worlds}
    return SimpleNamespace(store=store, stars={**stars, 5: worlds[0].table}, worlds=worlds)


def _run(planets, out, *, stars=None, config_hash="one"):
    provenance = describe(stage="fit", config_hash=config_hash, data_hash="", seed=None)
    return fit_archive(
        planets.store, stars or planets.stars, default_config(),
        split="train", out=out, workers=1, provenance=provenance,
    )  # fmt: skip


def test_one_bad_planet_does_not_stop_the_others_and_a_second_run_reuses(planets, tmp_path):
    report = _run(planets, tmp_path)
    assert (report.done, report.cached, report.flagged) == (2, 0, 0)
    assert len(report.failures) == 1
    assert report.failures[0].startswith("planet 5, visit 0, FGS1: the light curve holds no")
    fits = read_fits(tmp_path, "train")
    assert list(fits) == [1001, 1002]
    for world in planets.worlds:
        fit = fits[1000 + world.seed]
        assert np.mean(((fit.depth - world.depth) / fit.sigma)[1:] ** 2) < 4.0
    path = fit_path(tmp_path, "train", 1001)
    before = path.read_bytes()
    assert read_facts(path)["config_hash"] == "one"
    assert _run(planets, tmp_path) == FitReport(0, 2, 0, report.failures)
    assert path.read_bytes() == before


def test_a_changed_star_setting_or_damaged_file_is_fitted_again(planets, tmp_path):
    only = {1001: planets.stars[1001]}
    assert _run(planets, tmp_path, stars=only).done == 1
    moved = {1001: replace(only[1001], period_d=1.001 * only[1001].period_d)}
    assert _run(planets, tmp_path, stars=moved).done == 1
    assert _run(planets, tmp_path, stars=moved, config_hash="two").done == 1
    fit_path(tmp_path, "train", 1001).write_bytes(b"torn")
    assert _run(planets, tmp_path, stars=moved, config_hash="two").done == 1
    assert _run(planets, tmp_path, stars=moved, config_hash="two").cached == 1


def test_other_code_fits_again(planets, tmp_path, monkeypatch):
    only = {1001: planets.stars[1001]}
    _run(planets, tmp_path, stars=only)
    monkeypatch.setattr(stage, "code_hash", lambda *parts: f"changed {parts}")
    assert _run(planets, tmp_path, stars=only).done == 1


def test_only_fits_of_this_run_remain(planets, tmp_path):
    """Planet 5 fails, 77 has no light curves, 1002 is not in the archive any more."""
    stars = {1001: planets.stars[1001], 5: planets.stars[5], 77: None}
    _run(planets, tmp_path, stars={1001: stars[1001]})
    made = fit_path(tmp_path, "train", 1001)
    for planet in (5, 77, 1002):
        fit_path(tmp_path, "train", planet).write_bytes(made.read_bytes())
    other = fit_path(tmp_path, "test", 1002)
    other.parent.mkdir()
    other.write_bytes(made.read_bytes())
    report = _run(planets, tmp_path, stars=stars)
    assert (report.done, report.cached, len(report.failures)) == (0, 1, 1)
    assert list(made.parent.iterdir()) == [made]
    assert other.exists()


def test_a_folder_that_cannot_be_written_ends_the_run(planets, tmp_path, monkeypatch):
    tried = []
    fit = stage.fit_planet
    monkeypatch.setattr(stage, "fit_planet", lambda *a: tried.append(1) or fit(*a))
    (tmp_path / "train").write_text("")
    with pytest.raises(WriteError, match=r"cannot be written \(File exists\)"):
        _run(planets, tmp_path, stars={k: planets.stars[k] for k in (1001, 1002)})
    assert len(tried) == 1


def test_a_fit_that_cannot_be_removed_is_a_sentence(planets, tmp_path):
    fit_path(tmp_path, "train", 3).mkdir(parents=True)
    with pytest.raises(WriteError, match=r"3.safetensors: cannot be written \(Is a directory\)"):
        _run(planets, tmp_path, stars={77: None})
