"""Training planets observed again: who donates, whom the observations may teach, and when."""

from dataclasses import replace

import numpy as np
import pytest
from default_sections import default_simulate, default_spectrum_prior

from spectramind import config
from spectramind.errors import ConfigError
from spectramind.stages.folders import stage_folder
from spectramind.stages.train import donors_of
from spectramind.training import augmentation, members
from spectramind.training.augmentation import Atmospheres, RenewedBatches, find_donors
from spectramind.training.data import Scaling, feature_table
from spectramind.training.features import NODE_FEATURES, PLANET_FEATURES
from spectramind.training.members import Recipe, Runtime, TrainingPlanets
from spectramind.training.predict import Epistemic
from spectramind.transit.priors import Priors, first_priors, write_priors
from spectramind.transit.store import IndexRow, fit_path, write_fit, write_index

COUNT = 3


@pytest.fixture(scope="module")
def priors(tmp_path_factory):
    """A file of priors with, and one without a prior over spectra."""
    folder = tmp_path_factory.mktemp("priors")
    transit, spectrum = default_spectrum_prior()
    first = first_priors(transit)
    write_priors(folder / "with", Priors(first.known, first.unknown, spectrum), {})
    write_priors(folder / "without", first, {})
    return folder


@pytest.fixture
def donors_among(priors, tmp_path):
    def find(fits, stars, *, name="with", count=COUNT, seed=9):
        simulate = default_simulate()
        for planet, fit in fits.items():
            write_fit(tmp_path / f"{planet}", fit, {})
        places = {planet: (tmp_path / f"{planet}", priors / name) for planet in fits}
        drawn = Atmospheres(count, simulate.population, simulate.atmosphere, seed)
        return find_donors(fits, stars, places, drawn)

    return find


def test_flagged_and_starless_planets_donate_nothing(archive, donors_among):
    fits, stars, _ = archive(4)
    flagged, starless, *usual = sorted(fits)
    fits[flagged] = replace(fits[flagged], reasons=("FGS1: no transit found.",))
    stars[starless] = None
    donors = donors_among(fits, stars)
    found = donors.observe(0, workers=1)
    assert found.donor.tolist() == sorted(usual * COUNT)
    z = (found.depth - found.truth) / found.sigma
    assert 0.5 < np.mean(z**2) < 2.0
    table, _ = found.join(feature_table(fits, stars), np.ones((4, 283)))
    np.testing.assert_array_equal(table.own_sigma, table.sigma)
    told = found.nodes[..., NODE_FEATURES.index("log_sigma")]
    np.testing.assert_allclose(told, np.log10(found.sigma), rtol=1e-6)
    message = (
        r"training\.reobserved=3: none of 4 .* 1 have a flagged fit, 1 no row in the star table.*"
        r"Set training\.reobserved=0"
    )
    with pytest.raises(ConfigError, match=message):
        donors_among(fits, stars, name="without")


def test_a_run_observes_its_fits_again_where_asked_to(archive, priors, tmp_path):
    fits, stars, _ = archive(3)
    asked = config.load([f"runtime.out={tmp_path}", "training.reobserved=2"])
    folder = stage_folder(asked, "fit")
    for planet, fit in fits.items():
        write_fit(fit_path(folder, "train", planet), fit, {})
    rows = [IndexRow(planet, (), (), priors / "with", origin="") for planet in sorted(fits)]
    write_index(folder, "train", rows)
    donors = donors_of(asked, fits, stars)
    assert donors is not None
    assert donors.observe(0, workers=1).donor.tolist() == sorted([*fits] * 2)
    unasked = config.load([f"runtime.out={tmp_path}", "training.reobserved=0"])
    assert donors_of(unasked, fits, stars) is None


def test_every_epoch_sees_other_spectra_and_the_same_epoch_the_same(archive, donors_among):
    fits, stars, _ = archive(2)
    donors = donors_among(fits, stars)
    first, second, again = (donors.observe(epoch, workers=1) for epoch in (0, 1, 0))
    assert not np.isclose(first.truth[:, None], second.truth[None], rtol=1e-6).all(-1).any()
    for name, values in vars(first).items():
        assert np.array_equal(values, getattr(again, name), equal_nan=True)


def test_the_key_follows_all_that_is_drawn(archive, donors_among):
    fits, stars, _ = archive(3)
    key = donors_among(fits, stars).key
    assert donors_among(fits, stars).key == key
    assert donors_among(fits, stars, count=COUNT + 1).key != key
    assert donors_among(fits, stars, seed=10).key != key
    planet = min(fits)
    fits[planet] = replace(fits[planet], information=2.0 * fits[planet].information)
    assert donors_among(fits, stars).key != key


def test_what_priors_say_counts_and_not_who_wrote_them(archive, tmp_path):
    """Learned again they are the same; other ones of the same name are read anew."""
    fits, stars, _ = archive(2)
    simulate = default_simulate()
    drawn = Atmospheres(COUNT, simulate.population, simulate.atmosphere, 9)
    for planet, fit in fits.items():
        write_fit(tmp_path / f"{planet}", fit, {})
    places = {planet: (tmp_path / f"{planet}", tmp_path / "priors") for planet in fits}
    transit, spectrum = default_spectrum_prior()
    first = first_priors(transit)

    def found(spectrum, created):
        priors = Priors(first.known, first.unknown, spectrum)
        write_priors(tmp_path / "priors", priors, {"created": created})
        donors = find_donors(fits, stars, places, drawn)
        return donors.key, donors.observe(0, workers=1)

    key, seen = found(spectrum, "today")
    again = found(spectrum, "tomorrow")
    assert again[0] == key
    np.testing.assert_array_equal(again[1].depth, seen.depth)
    other = found(replace(spectrum, process=0.01 * spectrum.process), "tomorrow")
    assert other[0] != key
    np.testing.assert_array_equal(other[1].truth, seen.truth)
    assert not np.allclose(other[1].sigma, seen.sigma, rtol=1e-6)


def test_batches_hold_the_planets_and_what_was_seen_of_them(archive, donors_among):
    """Series of the donor, spectra of its size; a planet that donates nothing comes alone."""
    fits, stars, labels = archive(5)
    lonely = sorted(fits)[2]
    stars[lonely] = None
    table = feature_table(fits, stars)
    own = table.of(table.planet_ids[1:3])
    truth, scaling = labels.of(own.planet_ids).depth, Scaling.of(own)
    batches = RenewedBatches(
        own, truth, scaling, donors_among(fits, stars), size=2, seed=0, workers=1
    )
    donor = own.planet_ids[0]
    assert len(batches) == 3
    seen = batches.samples(0)
    assert seen.planet_ids.tolist() == [donor, lonely, *[donor] * COUNT]
    for row, planet in enumerate(seen.planet_ids.tolist()):
        place = own.planet_ids.tolist().index(planet)
        series = scaling.scaled(own).series[place]
        assert np.array_equal(seen.features.series[seen.features.curves[row]], series)
    np.testing.assert_allclose(seen.truth[2:].mean(1), seen.features.depth[2:].mean(1), rtol=0.02)
    batches.epoch = lambda: 1
    renewed = np.concatenate([rows.numpy() for _, rows, _ in batches])
    assert not np.isin(seen.truth[2:].numpy(), renewed).any()
    assert np.isin(truth, renewed).all()


def test_a_member_learns_from_its_own_planets_alone(
    archive, donors_among, model_config, training_config, provenance, tmp_path, monkeypatch
):
    """No observation of a planet that a member leaves out comes near it."""
    fits, stars, labels = archive(12)
    seen: list[set[int]] = []
    real = members.train_network

    def spy(network, data, **rest):
        parts = (data.training, data.validation)
        taught, held = (one.samples(0).planet_ids.tolist() for one in parts)
        seen.append(set(taught))
        assert len(taught) == len(seen[-1]) * (COUNT + 1)
        assert len(held) == len(set(held))
        assert not seen[-1] & set(held)
        return real(network, data, **rest)

    monkeypatch.setattr(members, "train_network", spy)
    training = training_config.model_copy(update={"epochs": 1})
    members.train_members(
        TrainingPlanets(fits, stars, labels, donors_among(fits, stars)),
        Recipe(model_config, training, Epistemic("ensemble", 3), start=None),
        Runtime("cpu", devices=1, workers=1, logger="none"),
        out=tmp_path, provenance=provenance,
    )  # fmt: skip
    folds = members.assign_folds(
        sorted(fits), folds=training_config.folds, seed=training_config.seed,
        calibration_fraction=training_config.calibration_fraction,
    )  # fmt: skip
    for fold, planets in enumerate(seen):
        assert not planets & set(folds.out_of_fold(fold).tolist())
        assert not planets & set(folds.calibration.tolist())


def test_planets_in_a_donors_place_scatter_in_size_and_mass(archive, donors_among, monkeypatch):
    monkeypatch.setattr(augmentation, "_FAMILY", 1)
    fits, stars, _ = archive(40)
    found = donors_among(fits, stars).observe(0, workers=1)
    own = np.array([fits[planet].white_depth for planet in found.donor.tolist()])
    level = np.log(found.truth[:, 1:].mean(1) / own)
    assert abs(level.mean()) < 0.05
    assert 0.11 < level.std() < 0.19
    column = PLANET_FEATURES.index("log_planet_mass")
    known = np.log10([stars[planet].planet_mass_mjup for planet in found.donor.tolist()])
    mass = (found.planet[:, column] - known) * np.log(10.0)
    assert 0.3 < mass.std() < 0.5
