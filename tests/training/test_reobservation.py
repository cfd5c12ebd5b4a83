"""Training planets observed again: who donates, and whom the observations may teach."""

from dataclasses import replace

import numpy as np
import pytest
from default_sections import default_simulate, default_spectrum_prior

from spectramind.training import members, reobservation
from spectramind.training.data import feature_table, truth_of
from spectramind.training.features import PLANET_FEATURES
from spectramind.training.reobservation import Atmospheres, observe_again
from spectramind.transit.learning import Priors, first_priors, write_priors

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
def again(priors):
    def observe(fits, stars, *, name="with"):
        simulate = default_simulate()
        return observe_again(
            fits, stars, dict.fromkeys(fits, priors / name),
            Atmospheres(COUNT, simulate.population, simulate.atmosphere, 9), workers=1,
        )  # fmt: skip

    return observe


def test_flagged_and_starless_planets_donate_nothing(archive, again):
    fits, stars, _ = archive(4)
    flagged, starless, *usual = sorted(fits)
    fits[flagged] = replace(fits[flagged], reasons=("FGS1: no transit found.",))
    stars[starless] = None
    found = again(fits, stars)
    assert found is not None
    assert found.donor.tolist() == sorted(usual * COUNT)
    z = (found.depth - found.truth) / found.sigma
    assert 0.5 < np.mean(z**2) < 2.0
    assert again(fits, stars, name="without") is None


def test_join_takes_the_donors_series_and_no_other_planet(archive, again):
    fits, stars, labels = archive(5)
    found, table = again(fits, stars), feature_table(fits, stars)
    assert found is not None
    own = table.of(table.planet_ids[1:3])
    joined, truth = found.join(own, truth_of(labels, own.planet_ids))
    assert joined.planet_ids.tolist() == [*own.planet_ids, *np.repeat(own.planet_ids, COUNT)]
    for row, planet in enumerate(joined.planet_ids.tolist()):
        donor = own.planet_ids.tolist().index(planet)
        assert np.array_equal(joined.series[joined.curves[row]], own.series[donor])
    np.testing.assert_allclose(truth[2:].mean(1), joined.depth[2:].mean(1), rtol=0.02)


def test_a_member_learns_from_its_own_planets_alone(
    archive, again, model_config, training_config, provenance, tmp_path, monkeypatch
):
    """No observation of a planet that a member leaves out comes near it."""
    fits, stars, labels = archive(12)
    seen: list[set[int]] = []
    real = members.train_network

    def spy(network, sizes, training, validation, **rest):
        seen.append(set(training.planet_ids.tolist()))
        assert len(training.planet_ids) == len(seen[-1]) * (COUNT + 1)
        assert len(validation.planet_ids) == len(set(validation.planet_ids.tolist()))
        assert not seen[-1] & set(validation.planet_ids.tolist())
        return real(network, sizes, training, validation, **rest)

    monkeypatch.setattr(members, "train_network", spy)
    members.train_members(
        fits, stars, labels, others=again(fits, stars), start=None, model=model_config,
        training=training_config.model_copy(update={"epochs": 1}), epistemic="ensemble",
        mc_samples=3, device="cpu", devices=1, workers=1, logger="none", out=tmp_path,
        provenance=provenance,
    )  # fmt: skip
    folds = members.assign_folds(
        sorted(fits), folds=training_config.folds, seed=training_config.seed,
        calibration_fraction=training_config.calibration_fraction,
    )  # fmt: skip
    for fold, planets in enumerate(seen):
        assert not planets & set(folds.out_of_fold(fold).tolist())
        assert not planets & set(folds.calibration.tolist())


def test_planets_in_a_donors_place_scatter_in_size_and_mass(archive, again, monkeypatch):
    monkeypatch.setattr(reobservation, "_FAMILY", 1)
    fits, stars, _ = archive(40)
    found = again(fits, stars)
    assert found is not None
    own = np.array([fits[planet].white_depth for planet in found.donor.tolist()])
    level = np.log(found.truth[:, 1:].mean(1) / own)
    assert abs(level.mean()) < 0.05
    assert 0.11 < level.std() < 0.19
    column = PLANET_FEATURES.index("log_planet_mass")
    known = np.log10([stars[planet].planet_mass_mjup for planet in found.donor.tolist()])
    mass = (found.planet[:, column] - known) * np.log(10.0)
    assert 0.3 < mass.std() < 0.5
