"""What the stages hand to one another: which planets, which fold, which temperature, which visit.

Each test computes a product of a finished run again, from the files that it should come from.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from tiny_run import LIGHT_CURVES, TINY, spectramind

from spectramind import config as configuration
from spectramind.archive.layout import open_archive
from spectramind.archive.opening import stars_of
from spectramind.archive.submission import read_spectra, read_submission
from spectramind.archive.tables import read_labels
from spectramind.calibrate.cache import LightCurveStore
from spectramind.diagnose.scorecard import Yardstick, naive_guess
from spectramind.posterior import SpectrumPosterior
from spectramind.provenance import describe
from spectramind.stages.folders import command_of
from spectramind.training.data import feature_table
from spectramind.training.folds import read_folds
from spectramind.training.predict import predict
from spectramind.training.store import member_names, read_member, write_member
from spectramind.transit.priors import label_hash, read_priors
from spectramind.transit.store import fit_path, read_fit, read_fits, read_index
from spectramind.uq.calibration import read_calibration
from spectramind.uq.conformal import conformal_half_widths
from spectramind.uq.temperature import fit_temperature


@pytest.fixture(scope="module")
def run(light_curves, tmp_path_factory):
    """The artefacts of a run whose members, trained on so few planets, are told apart by hand."""
    folder = shutil.copytree(light_curves, tmp_path_factory.mktemp("wiring") / "run")
    members = folder / "artefacts/train/members"
    made = describe(stage="train", config_hash="", code_hash="", data_hash="", seed=1)
    for number, name in enumerate(member_names(members)):
        member, random = read_member(members, name, None), torch.Generator().manual_seed(number)
        with torch.no_grad():
            for weight in member.network.parameters():
                weight += 0.02 * torch.randn(weight.shape, generator=random)
        write_member(members, member, made)
    for stage in ("train", "calibrate-temp", "predict", "diagnose"):
        spectramind(folder, *command_of(stage).split(), *TINY, *LIGHT_CURVES)
    return folder / "artefacts"


@pytest.fixture(scope="module")
def labels(run):
    return read_labels(run / "simulate/train.csv")


@pytest.fixture(scope="module")
def calibration(run):
    return read_calibration(run / "calibrate-temp/calibration.json")


@pytest.fixture(scope="module")
def network(run):
    """What some members say of planets of a split, from their fits."""
    archive = open_archive(run / "simulate")
    names = member_names(run / "train/members")
    members = {name: read_member(run / "train/members", name, None) for name in names}

    def say(split, planets, fold=None):
        fits = {planet: read_fit(fit_path(run / "fit", split, planet)) for planet in planets}
        table = feature_table(fits, stars_of(archive, split, fits))
        own = [m for name, m in members.items() if fold is None or name.startswith(f"fold{fold}")]
        return predict(own, table, passes=0, device=torch.device("cpu"), seed=1)

    return say


def same(found, wanted):
    return all(
        np.allclose(getattr(found, name), getattr(wanted, name), rtol=1e-12, atol=0.0)
        for name in ("mu", "sigma")
    )


def test_the_run_has_what_the_others_need(run):
    """Priors over spectra, two visits, flagged planets in and out of the calibration set."""
    folds, index = read_folds(run / "train/folds.parquet"), read_index(run / "fit", "train")
    assert all(read_priors(row.priors).spectrum is not None for row in index.values())
    flagged = {planet for planet, row in index.items() if row.reasons}
    aside = set(folds.calibration.tolist())
    assert flagged & aside
    assert flagged - aside
    assert len(index) - len(flagged) > 10
    visits = [len(fit.visits) for fit in read_fits(run / "fit", "train").values()]
    assert 0 < visits.count(2) < len(visits)


def test_no_planet_is_fitted_with_priors_that_know_its_label(run, labels):
    index, taught = read_index(run / "fit", "train"), set()
    for planet, label in labels.by_planet().items():
        priors = read_priors(index[planet].priors)
        assert planet not in priors.taught_by
        taught |= priors.taught_by.items()
        assert not priors.know(planet, label)
    assert taught == {(planet, label_hash(own)) for planet, own in labels.by_planet().items()}
    for row in read_index(run / "fit", "test").values():
        assert read_priors(row.priors).taught_by.keys() == labels.by_planet().keys()


def test_priors_of_this_archive_are_refused_by_fit(light_curves, tmp_path):
    run = shutil.copytree(light_curves, tmp_path / "run")
    words = (*TINY, *LIGHT_CURVES, "prior=artefacts/fit/priors/all.safetensors", "--overwrite")
    done = spectramind(run, "fit", *words, check=False)
    assert done.exit_code == 2, done.stderr
    assert "was learned from the label of planets " in done.stderr


@pytest.mark.parametrize("stage", ["train", "calibrate-temp"])
def test_fits_that_know_their_own_label_judge_nothing(light_curves, tmp_path, stage):
    run = shutil.copytree(light_curves, tmp_path / "run")
    everyone = run / "artefacts/fit/priors/all.safetensors"
    for path in everyone.parent.glob("without-*"):
        shutil.copy(everyone, path)
    done = spectramind(run, stage, *TINY, *LIGHT_CURVES, check=False)
    assert done.exit_code == 1
    assert "these priors were learned from the label of planet" in done.stderr


def test_visits_and_channels_keep_what_is_their_own(run):
    """Time, place of the star and mid-transit of each visit, counts of each channel."""
    store = LightCurveStore(run / "simulate/lightcurves")
    for planet, fit in read_fits(run / "fit", "train").items():
        parameters = dict(zip(fit.parameter_names, fit.parameters, strict=True))
        for visit in fit.visits:
            curves = store.read("train", planet, visit.visit)
            place = np.interp(visit.fgs1_time_h, curves.fgs1_time_h, curves.fgs1_centroid[:, 0])
            assert np.corrcoef(place, visit.fgs1_centroid[:, 0])[0, 1] > 0.9
            dip = 1.0 - visit.model[:, 1:].mean(1)
            if dip[[0, -1]].max() < 0.1 * dip.max():  # the visit holds the whole transit
                middle = np.average(visit.time_h, weights=dip)
                assert abs(middle - parameters[f"t0_h_{visit.visit}"]) < 0.1
            for flux, bins, electrons in (
                (curves.fgs1_e, len(visit.time_h), visit.electrons[0]),
                (curves.airs_e[:, 100], len(visit.time_h), visit.electrons[101]),
            ):
                assert electrons == pytest.approx(np.median(flux) * len(flux) / bins, rel=0.2)


def test_out_of_fold_spectra_are_those_of_the_fold_that_left_them_out(run, network):
    folds = read_folds(run / "train/folds.parquet")
    planets, found = read_spectra(run / "train/oof.parquet")
    for fold in range(2):
        own = folds.out_of_fold(fold)
        rows = np.isin(planets, own)
        wanted = network("train", own.tolist(), fold)
        assert same(SpectrumPosterior(found.mu[rows], found.sigma[rows]), wanted)


def test_calibration_planets_are_predicted_by_all_members(run, network):
    planets, found = read_spectra(run / "train/calibration.parquet")
    assert same(found, network("train", planets.tolist()))
    assert not same(found, network("train", planets.tolist(), fold=0))
    assert planets.tolist() == read_folds(run / "train/folds.parquet").calibration.tolist()


def test_the_temperature_is_that_of_trusted_planets_out_of_fold(run, labels, calibration):
    index = read_index(run / "fit", "train")
    planets, oof = read_spectra(run / "train/oof.parquet")
    trusted = torch.tensor([not index[planet].reasons for planet in planets.tolist()])
    truth = torch.from_numpy(labels.of(planets).depth)
    sound = SpectrumPosterior(oof.mu[trusted], oof.sigma[trusted])
    wanted = fit_temperature(sound, truth[trusted])
    assert calibration.temperature == pytest.approx(wanted, rel=1e-9)
    assert wanted != pytest.approx(fit_temperature(oof, truth), rel=1e-3)


def test_half_widths_are_those_of_the_planets_set_aside(run, labels, calibration):
    planets, found = read_spectra(run / "train/calibration.parquet")
    scaled = found.scaled(calibration.temperature)
    truth = torch.from_numpy(labels.of(planets).depth)
    wanted = conformal_half_widths(scaled, truth, 0.5)
    torch.testing.assert_close(calibration.half_widths[0.5], wanted)


def test_predictions_carry_the_temperature_once(run, network, calibration):
    planets, found = read_spectra(run / "predict/spectra.parquet")
    wanted = network("test", planets.tolist()).scaled(calibration.temperature)
    assert abs(calibration.temperature - 1.0) > 0.01  # `same` would see less
    assert same(found, wanted)
    again, submitted = read_submission(run / "predict/submission.csv")
    assert again.tolist() == planets.tolist()
    assert same(submitted, found)


def test_the_dashboard_shows_out_of_fold_spectra_with_the_temperature(run, labels, calibration):
    planets, oof = read_spectra(run / "train/oof.parquet")
    shown = json.loads((run / "diagnose/dashboard.json").read_text())["score"]["V50 out of fold"]
    metric = configuration.load([*TINY, *LIGHT_CURVES]).diagnostics.metric
    naive = naive_guess(metric, labels)
    yardstick, truth = Yardstick(metric, 2025, naive), labels.of(planets).depth
    scaled = yardstick.score(truth, oof.scaled(calibration.temperature)).total
    assert shown["total"] == pytest.approx(scaled, abs=1e-9)
    assert scaled != pytest.approx(yardstick.score(truth, oof).total, abs=1e-4)
