"""The stage `fit`: priors out of fold, resumption, and planets that cannot be fitted."""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

pytest.importorskip("batman")

from transit_world import World, default_config, draw_world, make_curves

from spectramind.diagnose.limb import limb_shift
from spectramind.errors import DataError, WriteError
from spectramind.observation import Star
from spectramind.provenance import describe
from spectramind.transit import stage, teaching
from spectramind.transit.priors import (
    deal_folds,
    first_priors,
    prior_path,
    priors_hash,
    read_priors,
    remove_other_priors,
    write_priors,
)
from spectramind.transit.stage import FitReport, fit_split
from spectramind.transit.store import (
    fit_path,
    read_fit,
    read_fits,
    read_header,
    read_index,
)
from spectramind.transit.teaching import learn_archive, learn_folds
from spectramind.transit.work import LearnedPriors, Work

LABELLED = tuple(range(1001, 1016))
LIMB_AIRS = 5  # u1 of AIRS-CH0 among orbit and limb darkening


@dataclass
class Planets:
    """Light curves in memory in place of a source."""

    worlds: dict[int, World]
    visits: dict[int, list] = field(default_factory=dict)
    read: list[int] = field(default_factory=list)  # planets whose curves were asked for
    torn: tuple[int, ...] = ()  # planets whose files are damaged, which their origin does not tell

    def curves(self, split, planet_id):
        assert split in ("train", "test")
        self.read.append(planet_id)
        if planet_id in self.torn or not self.visits[planet_id]:
            raise DataError(f"planet {planet_id}: its file is torn. Fetch it again.")
        return self.visits[planet_id]

    def origin(self, split, planet_id):
        assert split in ("train", "test")
        arrays = [own for visit in self.visits[planet_id] for own in (visit.airs_e, visit.fgs1_e)]
        return hashlib.sha256(b"".join(own.tobytes() for own in arrays)).hexdigest()

    @property
    def stars(self) -> dict[int, Star | None]:
        return {planet: world.table for planet, world in self.worlds.items()}

    @property
    def labels(self):
        return {planet: world.depth for planet, world in self.worlds.items()}

    def numbers(self, *planets):
        return {planet: max(len(self.visits[planet]), 1) for planet in planets}


@pytest.fixture(scope="module")
def planets():
    worlds = {1000 + seed: draw_world(seed) for seed in range(1, 16)}
    visits = {planet: [make_curves(world, factor=90)] for planet, world in worlds.items()}
    return Planets(worlds, visits)


@pytest.fixture(scope="module")
def config():
    """Ten labels, those of two folds of three, are enough to learn everything from."""
    return ten_labels(folds=3)


def ten_labels(*, folds):
    """Settings of quick fits, in which ten labels are enough to learn from."""
    return default_config(
        spectrum__fewest_labels=10, spectrum__folds=folds, spectrum__components=[2],
        spectrum__lengths_um=[0.03], passes=6, settled_ppm=1e3, bin_s=900.0,
        scan__starts=1, samples_per_bin=1, planets_per_batch=8,
    )  # fmt: skip


def work_of(planets, config, out, *, stars=None, config_hash="one", code_hash="k"):
    provenance = describe(
        stage="fit", config_hash=config_hash, code_hash=code_hash, data_hash="", seed=None
    )
    stars = planets.stars if stars is None else stars
    return Work(planets, stars, config, out, provenance, "cpu")


def learn(planets, config, out, labels):
    visits = planets.numbers(*LABELLED)
    return learn_folds(work_of(planets, config, out), labels, visits, workers=1)


@pytest.fixture(scope="module")
def learned(planets, config, tmp_path_factory):
    """Priors of the true labels: folder, and the file of each planet."""
    out = tmp_path_factory.mktemp("learned")
    return out, learn(planets, config, out, planets.labels)


def test_each_fold_learns_from_the_labels_of_the_others(planets, config, learned):
    out, own = learned
    folds = deal_folds(LABELLED, 3, config.spectrum.seed)
    assert own.own == {planet: prior_path(out, fold) for planet, fold in folds.items()}
    assert sorted(folds.values()) == [0] * 5 + [1] * 5 + [2] * 5
    assert read_priors(prior_path(out, None)).spectrum.planets == 15
    assert read_priors(prior_path(out, None)).known.planets == 15
    for fold in (0, 1, 2):
        priors = read_priors(prior_path(out, fold))
        others = [planets.worlds[p].depth[1:].mean() for p in LABELLED if folds[p] != fold]
        assert priors.spectrum.planets == priors.known.planets == 10
        assert priors.spectrum.level[0] == pytest.approx(np.mean(others), rel=1e-9)
        assert priors.unknown.planets == 0


def _wrong(planets, changed):
    """Labels with one planet's spectrum upside down and twice as deep."""
    label = planets.labels[changed]
    return planets.labels | {changed: 2.0 * (2.0 * label.mean() - label)}


def test_a_planet_never_sees_its_own_label(planets, config, learned, tmp_path):
    folds = deal_folds(LABELLED, 3, config.spectrum.seed)
    changed = LABELLED[3]
    other = next(planet for planet in LABELLED if folds[planet] != folds[changed])
    mate = next(p for p in LABELLED if folds[p] == folds[changed] and p != changed)
    _, own = learned
    again = learn(planets, config, tmp_path, _wrong(planets, changed))
    assert priors_hash(again.own[changed]) == priors_hash(own.own[changed])
    assert priors_hash(again.own[other]) != priors_hash(own.own[other])
    fits = {}
    for name, learned_priors in (("true", own), ("changed", again)):
        work = work_of(planets, config, tmp_path / name)
        visits = planets.numbers(changed, other, mate)
        report = fit_split(work, "train", visits, learned_priors, workers=1)
        assert (report.done, report.failures) == (3, ())
        fits[name] = read_fits(tmp_path / name, "train")
    for planet in (changed, mate):
        np.testing.assert_array_equal(fits["true"][planet].depth, fits["changed"][planet].depth)
        np.testing.assert_array_equal(fits["true"][planet].sigma, fits["changed"][planet].sigma)
    assert np.abs(fits["true"][other].depth - fits["changed"][other].depth).max() > 1e-7


@pytest.fixture(scope="module")
def fit(planets, config, plain, tmp_path_factory):
    """The fit of one planet, trusted however coarse."""
    out = tmp_path_factory.mktemp("fit")
    run(planets, config, out, plain, 1001)
    return replace(read_fit(fit_path(out, "train", 1001)), reasons=())


@pytest.fixture
def one_fit_for_all(fit, monkeypatch):
    """Where only files matter, planets have the fit of one, and labels teach nothing."""
    monkeypatch.setattr(teaching, "learn_from", lambda *_: [])
    monkeypatch.setattr(
        stage,
        "fit_planets",
        lambda batch, *_: [replace(fit, planet_id=planet.planet_id) for planet in batch],
    )


@pytest.mark.usefixtures("one_fit_for_all")
def test_curves_are_read_once_and_in_a_second_run_never(planets, config, tmp_path):
    watched = Planets(planets.worlds, planets.visits)
    few = {planet: planets.labels[planet] for planet in LABELLED[:2]}
    visits = planets.numbers(*few, LABELLED[2])
    for expected, read in (
        (FitReport(3, 0, 0, ()), [1001, 1002, 1003]),
        (FitReport(0, 3, 0, ()), []),
    ):
        watched.read.clear()
        own = learn(watched, config, tmp_path, few)
        work = work_of(watched, config, tmp_path)
        assert fit_split(work, "train", visits, own, workers=1) == expected
        assert sorted(watched.read) == read


@pytest.mark.usefixtures("one_fit_for_all")
def test_priors_are_learned_anew_where_anything_that_taught_them_changes(
    planets, config, tmp_path
):
    few = {planet: planets.labels[planet] for planet in LABELLED[:3]}

    def learned(planets=planets, labels=few, **changes):
        work = work_of(planets, config, tmp_path, **changes)
        found = learn_folds(work, labels, planets.numbers(*labels), workers=1)
        return bool(found.binned)

    assert learned()
    assert not learned()
    assert learned(labels=few | {1001: 1.01 * few[1001]})
    assert learned(labels={planet: few[planet] for planet in LABELLED[:2]})
    assert learned()
    brighter = [replace(planets.visits[1001][0], fgs1_e=2.0 * planets.visits[1001][0].fgs1_e)]
    assert learned(planets=Planets(planets.worlds, planets.visits | {1001: brighter}))
    assert learned(code_hash="changed")
    assert learned(config_hash="two")
    assert learned()
    star = planets.worlds[1001].table
    assert learned(stars=planets.stars | {1001: replace(star, period_d=1.001 * star.period_d)})
    assert learned()
    prior_path(tmp_path, 0).write_bytes(b"torn")
    assert learned()
    prior_path(tmp_path, None).unlink()
    assert learned()
    assert not learned()


@pytest.mark.usefixtures("one_fit_for_all")
def test_the_index_says_what_the_fits_say(planets, config, learned, tmp_path):
    _, own = learned
    fit_split(
        work_of(planets, config, tmp_path), "train", planets.numbers(1001, 1002), own, workers=1
    )
    index = read_index(tmp_path, "train")
    assert list(index) == [1001, 1002]
    for planet, row in index.items():
        path = fit_path(tmp_path, "train", planet)
        reasons, _, facts = read_header(path)
        assert row.reasons == reasons == read_fit(path).reasons
        assert row.origin == facts["origin"]
        assert row.priors == own.own[planet]


def test_priors_of_other_stars_show_in_the_pull_of_limb_darkening(planets, config, tmp_path):
    """Twelve planets with priors that are right, and with u1 of AIRS-CH0 three scatters off."""
    numbers = planets.numbers(*LABELLED[:12])
    for off, far in ((0.0, False), (0.3, True)):
        first = first_priors(config)
        mean, covariance = first.known.mean.copy(), first.known.covariance.copy()
        mean[LIMB_AIRS] += off
        covariance[3:, 3:] = np.diag(np.full(6, 0.1**2))
        known = replace(first.known, mean=mean, covariance=covariance)
        out = tmp_path / str(off)
        write_priors(prior_path(out, None), replace(first, known=known), {})
        learned = LearnedPriors(prior_path(out, None))
        fit_split(work_of(planets, config, out), "test", numbers, learned, workers=1)
        pulls = [row.limb_pull for row in read_index(out, "test").values()]
        shift = limb_shift(pulls)
        assert shift.far == far, pulls
    assert (shift.name, shift.distance < 0.0) == ("u1 of AIRS-CH0", True)
    fit = read_fits(out, "test")[LABELLED[0]]
    assert pulls[0] == tuple(fit.limb_pull)


@pytest.mark.usefixtures("one_fit_for_all")
def test_the_index_names_the_priors_of_now_wherever_the_folder_lies(
    planets, config, plain, tmp_path
):
    """Kept fits, too: after a move, and with priors of the same values elsewhere."""
    (tmp_path / "old" / "priors").mkdir(parents=True)
    inside = tmp_path / "old" / "priors" / "all.safetensors"
    inside.write_bytes(plain.read_bytes())
    assert run(planets, config, tmp_path / "old", inside, 1001).done == 1
    (tmp_path / "old").rename(tmp_path / "new")
    moved = tmp_path / "new" / "priors" / "all.safetensors"
    assert read_index(tmp_path / "new", "train")[1001].priors == moved
    assert run(planets, config, tmp_path / "new", plain, 1001).cached == 1
    assert read_index(tmp_path / "new", "train")[1001].priors == plain


def test_priors_that_say_something_else_under_the_same_name_are_read_again(
    planets, config, tmp_path
):
    path = tmp_path / "all.safetensors"
    depths = []
    for offset in (0.02, 0.4):
        write_priors(path, first_priors(default_config(prior__limb_darkening=offset)), {})
        run(planets, config, tmp_path, path, 1001)
        depths.append(read_fit(fit_path(tmp_path, "train", 1001)).sigma)
    assert np.abs(depths[1] / depths[0] - 1.0).max() > 1e-3


def test_too_few_labels_leave_the_settings_priors(planets, config, tmp_path):
    few = {planet: planets.labels[planet] for planet in LABELLED[:2]}
    own = learn(planets, config, tmp_path, few)
    assert set(own.own) == set(few)
    for path in {*own.own.values(), own.everyone}:
        priors = read_priors(path)
        assert priors.spectrum is None
        assert priors.known.planets == 0
        np.testing.assert_array_equal(
            priors.known.covariance, first_priors(config).known.covariance
        )


@pytest.mark.usefixtures("one_fit_for_all")
def test_a_labelled_planet_that_cannot_be_read_teaches_nothing(planets, config, tmp_path):
    torn = Planets(planets.worlds, planets.visits | {1002: []})
    few = {planet: planets.labels[planet] for planet in (1001, 1002, 1003)}
    assert set(learn(torn, config, tmp_path, few).binned) == {1001, 1003}


@pytest.mark.usefixtures("one_fit_for_all")
def test_a_labelled_planet_teaches_as_soon_as_it_can_be_read(planets, config, tmp_path):
    """Its light curves are made again and are what they were, and so is their origin."""
    few = {planet: planets.labels[planet] for planet in (1001, 1002, 1003)}
    for torn, read, learned in (
        ((1001, 1002), [1001, 1002, 1003], {1003}),
        ((1001, 1002), [1001, 1002], set()),
        ((1001,), [1001, 1002, 1001, 1002, 1003], {1002, 1003}),
        ((1001,), [1001], set()),
        ((), [1001, 1001, 1002, 1003], {1001, 1002, 1003}),
        ((), [], set()),
    ):
        damaged = Planets(planets.worlds, planets.visits, torn=torn)
        assert set(learn(damaged, config, tmp_path, few).binned) == learned
        assert damaged.read == read


def test_only_named_priors_remain(tmp_path):
    """Not the ones of more folds than there are now; one of another run in their folder may."""
    paths = [prior_path(tmp_path, fold) for fold in (None, 0, 1, 2)]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "priors")
    remove_other_priors(tmp_path, {tmp_path / "link" / paths[2].name, tmp_path / "elsewhere"})
    assert list(paths[0].parent.iterdir()) == [paths[2]]


@pytest.fixture(scope="module")
def plain(config, tmp_path_factory):
    """A file of the settings' priors."""
    path = tmp_path_factory.mktemp("plain") / "all.safetensors"
    write_priors(path, first_priors(config), {})
    return path


def run(planets, config, out, plain, *numbers, **changes):
    work = work_of(planets, config, out, **changes)
    return fit_split(work, "train", planets.numbers(*numbers), LearnedPriors(plain), workers=1)


def test_one_bad_planet_does_not_stop_the_others_and_a_second_run_reuses(
    planets, config, plain, tmp_path
):
    dark = planets.visits[1003][0]
    dark = [replace(dark, fgs1_e=0 * dark.fgs1_e)]
    bad = Planets(planets.worlds, planets.visits | {1003: dark, 1004: []})
    config = config.model_copy(update={"samples_per_bin": 3, "passes": 6})
    report = run(bad, config, tmp_path, plain, 1001, 1002, 1003, 1004)
    assert (report.done, report.cached, report.flagged) == (2, 0, 0)
    assert report.failures[0].startswith("planet 1003, visit 0, FGS1: the light curve holds no")
    assert report.failures[1] == "planet 1004: its file is torn. Fetch it again."
    fits = read_fits(tmp_path, "train")
    assert list(fits) == [1001, 1002]
    for planet, fit in fits.items():
        error = (fit.depth - planets.worlds[planet].depth) / fit.sigma
        assert np.mean(error[1:] ** 2) < 1.6
    path = fit_path(tmp_path, "train", 1001)
    before = path.read_bytes()
    assert read_header(path).facts["config_hash"] == "one"
    again = run(bad, config, tmp_path, plain, 1001, 1002, 1003, 1004)
    assert again == FitReport(0, 2, 0, report.failures)
    assert path.read_bytes() == before


@pytest.mark.usefixtures("one_fit_for_all")
def test_what_a_fit_depends_on_makes_it_anew(planets, config, plain, tmp_path):
    def done(**changes):
        report = run(changes.pop("planets", planets), config, tmp_path,
                     changes.pop("prior", plain), 1001, **changes)  # fmt: skip
        assert report.done + report.cached == 1
        return bool(report.done)

    assert done()
    assert not done()
    star = planets.worlds[1001].table
    moved = {1001: replace(star, period_d=1.001 * star.period_d)}
    assert done(stars=moved)
    assert done()
    assert done(config_hash="two")
    curves = planets.visits[1001][0]
    brighter = {1001: [replace(curves, fgs1_e=np.float32(1.1) * curves.fgs1_e)]}
    assert done(planets=Planets(planets.worlds, brighter))
    assert done()
    other = tmp_path / "other.safetensors"
    write_priors(other, first_priors(default_config(prior__period=0.02)), {})
    assert done(prior=other)
    assert not done(prior=other)
    assert done()
    fit_path(tmp_path, "train", 1001).write_bytes(b"torn")
    assert done()
    assert not done()
    assert done(code_hash="changed")


@pytest.mark.usefixtures("one_fit_for_all")
def test_a_planet_whose_equations_cannot_be_solved_is_named(
    planets, config, plain, tmp_path, monkeypatch
):
    """Batches with it are taken apart, so that the others do not share its fate."""
    fit = stage.fit_planets
    tried = []

    def refuse(batch, *rest):
        tried.append([planet.planet_id for planet in batch])
        if 1002 in tried[-1]:
            raise torch.linalg.LinAlgError("not positive-definite")
        return fit(batch, *rest)

    monkeypatch.setattr(stage, "fit_planets", refuse)
    report = run(planets, config, tmp_path, plain, 1001, 1002, 1003)
    assert tried == [[1001, 1002, 1003], [1001], [1002], [1003]]
    assert report.done == 2
    (failure,) = report.failures
    assert failure == (
        "planet 1002: the equations of its fit have no solution (not positive-definite). "
        "Look at its light curves, or leave it out."
    )
    assert list(read_fits(tmp_path, "train")) == [1001, 1003]


@pytest.mark.usefixtures("one_fit_for_all")
def test_a_fit_that_holds_no_numbers_is_a_failure(planets, config, plain, tmp_path, monkeypatch):
    fit = stage.fit_planets

    def spoil(batch, *rest):
        return [
            replace(own, sigma=np.nan * own.sigma) if own.planet_id == 1002 else own
            for own in fit(batch, *rest)
        ]

    monkeypatch.setattr(stage, "fit_planets", spoil)
    report = run(planets, config, tmp_path, plain, 1001, 1002, 1003)
    (failure,) = report.failures
    assert failure.startswith("planet 1002: the equations of its fit have no solution (its depths")
    assert list(read_fits(tmp_path, "train")) == [1001, 1003]


def test_a_planet_whose_evidence_cannot_be_solved_teaches_nothing(
    planets, config, tmp_path, monkeypatch
):
    teach = teaching.learn_from

    def refuse(batch, *rest):
        if any(planet.planet_id == 1002 for planet in batch):
            raise np.linalg.LinAlgError("Singular matrix")
        return teach(batch, *rest)

    monkeypatch.setattr(teaching, "learn_from", refuse)
    few = {planet: planets.labels[planet] for planet in (1001, 1002, 1003)}
    learn(planets, config, tmp_path, few)
    assert read_priors(prior_path(tmp_path, None)).known.planets == 0


def test_planets_of_one_and_of_two_visits_are_fitted(planets, config, plain, tmp_path):
    world = planets.worlds[1002]
    second = make_curves(world, factor=90, visit=1, t0_h=world.t0_h + 0.3)
    both = Planets(planets.worlds, planets.visits | {1002: [*planets.visits[1002], second]})
    assert run(both, config, tmp_path, plain, 1001, 1002, 1003).done == 3
    counts = {p: len(fit.visits) for p, fit in read_fits(tmp_path, "train").items()}
    assert counts == {1001: 1, 1002: 2, 1003: 1}


@pytest.mark.usefixtures("one_fit_for_all")
def test_only_fits_of_this_run_remain(planets, config, plain, tmp_path):
    """Planet 1005 fails and 1002 is not in the archive any more."""
    run(planets, config, tmp_path, plain, 1001)
    made = fit_path(tmp_path, "train", 1001)
    for planet in (1005, 1002):
        fit_path(tmp_path, "train", planet).write_bytes(made.read_bytes())
    other = fit_path(tmp_path, "test", 1002)
    other.parent.mkdir()
    other.write_bytes(made.read_bytes())
    torn = Planets(planets.worlds, planets.visits | {1005: []})
    report = run(torn, config, tmp_path, plain, 1001, 1005)
    assert (report.done, report.cached, len(report.failures)) == (0, 1, 1)
    assert sorted(made.parent.iterdir()) == [made, made.with_name("index.parquet")]
    assert other.exists()


def test_a_flagged_planet_is_counted_fresh_and_cached(planets, plain, tmp_path):
    strict = default_config(failure__bins=20, bin_s=900.0)
    for expected in (FitReport(1, 0, 1, ()), FitReport(0, 1, 1, ())):
        assert run(planets, strict, tmp_path, plain, 1001) == expected
    assert read_fit(fit_path(tmp_path, "train", 1001)).reasons


def test_a_folder_that_cannot_be_written_ends_the_run(planets, config, plain, tmp_path):
    (tmp_path / "train").write_text("")
    with pytest.raises(WriteError, match=r"cannot be written \((File exists|Not a directory)\)"):
        run(planets, config, tmp_path, plain, 1001)


def test_a_fit_that_cannot_be_removed_is_a_sentence(planets, config, plain, tmp_path):
    fit_path(tmp_path, "train", 3).mkdir(parents=True)
    with pytest.raises(WriteError, match=r"3.safetensors: cannot be written \(Is a directory\)"):
        run(planets, config, tmp_path, plain)


def test_an_archive_teaches_without_labels_and_only_once(planets, config, tmp_path):
    """Limb darkening and orbits are its own; a borrowed prior lends its spectra alone."""
    reads = []

    class Counted(Planets):
        def curves(self, split, planet_id):
            reads.append(planet_id)
            return super().curves(split, planet_id)

    counted = Counted(planets.worlds, planets.visits)
    first = first_priors(config)
    lent = tmp_path / "lent.safetensors"
    strange = replace(first.known, mean=np.full(9, 0.4))
    write_priors(lent, replace(first, known=strange), {})
    work = work_of(counted, config, tmp_path / "fit")
    visits = {"train": {}, "test": planets.numbers(*LABELLED[:6])}
    learned = learn_archive({"train": work, "test": work}, visits, lent, {}, workers=1)
    priors = read_priors(learned.everyone)
    assert priors.known.planets == 6
    assert priors.noise.visits == 6
    assert np.abs(priors.known.mean[3:]).max() < 0.15
    assert sorted(set(reads)) == sorted(LABELLED[:6])
    reads.clear()
    learn_archive({"train": work, "test": work}, visits, lent, {}, workers=1)
    assert reads == []


def test_too_few_planets_leave_the_wide_priors(planets, config, tmp_path):
    work = work_of(planets, config, tmp_path / "fit")
    visits = {"train": {}, "test": planets.numbers(*LABELLED[:4])}
    learned = learn_archive({"train": work, "test": work}, visits, None, {}, workers=1)
    priors, first = read_priors(learned.everyone), first_priors(config)
    np.testing.assert_array_equal(priors.known.covariance, first.known.covariance)
    np.testing.assert_array_equal(priors.noise.belief, first.noise.belief)
    assert priors.spectrum is None
