"""Planets that cannot be used are named, one sentence a kind; a stage that did nothing fails."""

from dataclasses import replace
from shutil import rmtree

import numpy as np
import polars as pl
import pytest
from tiny_archive import PLANETS, own_copy, write_2025, write_spectra_csv

from spectramind.calibrate.cache import LightCurveStore
from spectramind.errors import ConfigError, DataError
from spectramind.observation import LightCurves
from spectramind.provenance import describe
from spectramind.stages.calibrate import calibrate
from spectramind.stages.checks import require_inputs
from spectramind.stages.fit import fit
from spectramind.stages.light_curves import open_source

MADE_BY = describe(stage="fit", config_hash="", code_hash="", data_hash="", seed=None)
FIRST, SECOND = PLANETS["train"]
(TESTED,) = PLANETS["test"]
SHORT = LightCurves(
    planet_id=0,
    visit=0,
    airs_time_h=np.arange(3.0),
    airs_e=np.ones((3, 282), np.float32),
    airs_centroid=np.ones(3, np.float32),
    fgs1_time_h=np.arange(3.0),
    fgs1_e=np.ones(3, np.float32),
    fgs1_centroid=np.ones((3, 2), np.float32),
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_2025(tmp_path_factory.mktemp("archive") / "2025")


@pytest.fixture
def root(archive, tmp_path):
    """An archive with light curves of three exposures for every planet."""
    root = own_copy(archive, tmp_path / "archive", "train", "test", "test_star_info.csv",
                    "train_star_info.csv")  # fmt: skip
    for split, planets in PLANETS.items():
        for planet in planets:
            store(root).write(split, replace(SHORT, planet_id=planet), {})
    return root


@pytest.fixture
def config(of, root, tmp_path):
    return of(tmp_path / "out", f"data.root={root}", "data.level=lightcurves", "runtime.workers=1")


def store(root):
    return LightCurveStore(root / "lightcurves")


def forget(root, split, planet):
    store(root).keep(split, {(other, 0) for other in PLANETS[split] if other != planet})


def without_stars(root, split):
    """The table of the split with its header alone."""
    path = root / f"{split}_star_info.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")


def test_every_planet_that_can_be_used_leaves_nothing_to_say(config):
    source = open_source(config)
    assert source.problems == ()
    assert source.visits == {"train": {FIRST: 1, SECOND: 1}, "test": {TESTED: 1}}


def test_planets_without_light_curves_are_named(config, root):
    forget(root, "train", FIRST)
    forget(root, "test", TESTED)
    assert open_source(config).problems == (
        f"train: planet {FIRST} left out: no light curves. The stage `calibrate` says why.",
        f"test: planet {TESTED} left out: no light curves. The stage `calibrate` says why.",
    )


def test_labels_without_light_curves_are_kept_but_not_of_test_planets(config, root):
    """Of a planet whose folder is missing, and of one whose light curves could not be made."""
    both = open_source(config).labels
    rmtree(root / "train" / str(FIRST))
    forget(root, "train", FIRST)
    table = pl.read_csv(root / "train.csv")
    tested = table.head(1).with_columns(pl.lit(TESTED, pl.Int64).alias("planet_id"))
    (root / "train.csv").unlink()  # a link
    pl.concat([table, tested]).write_csv(root / "train.csv")
    for visits in ({SECOND: 1}, {}):
        source = open_source(config)
        assert source.visits["train"] == visits
        assert source.alone == 2 - len(visits)
        assert {planet: label.tolist() for planet, label in source.labels.items()} == {
            planet: both[planet].tolist() for planet in (FIRST, SECOND)
        }
        assert source.stars["train"][FIRST].period_d == 5.2
        forget(root, "train", SECOND)


def test_labels_without_light_curves_count_for_a_prior_but_not_of_test_planets(of, root, tmp_path):
    config = of(tmp_path / "out", f"data.root={root}", "data.name=kaggle", "weights=pretrained")
    (root / "train.csv").unlink()  # a link
    others = list(range(5000, 4998 + config.transit.spectrum.fewest_labels))
    write_spectra_csv(root / "train.csv", [*PLANETS["train"], *others[:-1], TESTED])
    with pytest.raises(ConfigError, match="too few labels to learn a prior over spectra"):
        require_inputs(config, ["predict"])
    write_spectra_csv(root / "train.csv", [*PLANETS["train"], *others])
    require_inputs(config, ["predict"])


def test_light_curves_of_planets_that_the_archive_does_not_know_are_named(config, root):
    store(root).write("test", replace(SHORT, planet_id=77), {})
    (sentence,) = open_source(config).problems
    assert sentence.startswith("test: planet 77 left out: light curves, but no folder and no row")


def test_a_fit_of_no_planet_at_all_is_an_error(config, root):
    without_stars(root, "test")
    with pytest.raises(DataError) as found:
        fit(config, config.runtime.out / "fit", MADE_BY)
    first, *others = str(found.value).splitlines()
    assert first.startswith("0 of 3 planets were fitted, so the next stages have nothing to work")
    assert len(others) == 4
    assert f"planet {TESTED}" in others[0]
    assert "exposures with flux: 3, at least 22" in others[1]


def test_a_calibration_of_no_visit_at_all_is_an_error(of, root, tmp_path):
    for signal in root.glob("*/*/*_signal_*.parquet"):
        signal.write_bytes(b"torn")
    config = of(tmp_path / "out", f"data.root={root}", "data.name=kaggle", "runtime.workers=1")
    with pytest.raises(DataError, match=r"^0 of 3 planets were calibrated(.|\n)*cannot be read"):
        calibrate(config, tmp_path / "out/calibrate", MADE_BY)
