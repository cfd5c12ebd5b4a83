"""Stage `train`: the network in folds, and what it predicts out of fold."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from spectramind.archive.opening import PlanetArchive, open_data, stars_of
from spectramind.archive.submission import fit_posterior, read_spectra
from spectramind.diagnose.scorecard import Score, Yardstick, naive_guess
from spectramind.errors import DataError
from spectramind.observation import Labels, Star, TransitFit, named
from spectramind.provenance import Provenance
from spectramind.sentences import counted
from spectramind.stages.folders import OUT_OF_FOLD, run_folder, stage_folder
from spectramind.stages.result import Result
from spectramind.training.augmentation import Atmospheres, Donors, find_donors
from spectramind.training.folds import assign_folds
from spectramind.training.members import Recipe, Runtime, TrainingPlanets, train_members
from spectramind.training.predict import Epistemic
from spectramind.transit.priors import refuse_own_labels
from spectramind.transit.store import fit_path, read_fits, read_index

if TYPE_CHECKING:
    from spectramind.config import Config


def train(config: "Config", folder: Path, provenance: Provenance) -> Result:
    """Train the network in folds; score what it predicts out of fold against the fit alone."""
    archive = open_data(config.data)
    labels = _labels_of(archive)
    yardstick = Yardstick(
        config.diagnostics.metric, archive.year, naive_guess(config.diagnostics.metric, labels)
    )
    known = set(labels.planet_ids.tolist())
    everyone = read_fits(stage_folder(config, "fit"), "train")
    fits = {planet: fit for planet, fit in everyone.items() if planet in known}
    index = read_index(stage_folder(config, "fit"), "train")
    refuse_own_labels({planet: index[planet].priors for planet in fits}, labels)
    stars = stars_of(archive, "train", fits)
    report = train_members(
        TrainingPlanets(fits, stars, labels, donors_of(config, fits, stars)),
        _recipe(config),
        _runtime(config),
        out=folder,
        provenance=provenance,
    )
    planets, network, alone = _scores(yardstick, labels, fits, folder / OUT_OF_FOLD)
    return Result(
        summary=(
            f"trained {counted(len(report.members), 'member')} -> {folder}; out of fold the score "
            f"is {network.total:.4f}, that of the fit alone {alone.total:.4f}"
        ),
        outputs=(folder,),
        facts={
            "members": len(report.members),
            "planets": planets,
            "score": network.total,
            "fit_score": alone.total,
            "gain": network.total - alone.total,
        },
        failures=tuple(_unlabelled(everyone.keys() - known)),
    )


def require_labels(config: "Config") -> None:
    """Refuse an archive whose labels cannot teach a network, before hours of other stages.

    Raises:
        DataError: If labels are missing, damaged, or too few for the folds or to be scored.
    """
    archive, training = open_data(config.data), config.training
    labels = _labels_of(archive)
    labelled = set(labels.planet_ids.tolist()) & set(archive.planets("train"))
    assign_folds(
        sorted(labelled),
        folds=training.folds,
        calibration_fraction=training.calibration_fraction,
        seed=training.seed,
    )
    naive_guess(config.diagnostics.metric, labels)


def _labels_of(archive: PlanetArchive) -> Labels:
    labels = archive.labels()
    if not labels.planet_ids.size:
        raise DataError(
            f"{archive.root}: has no true spectrum of a training planet, from which a network "
            f"could learn. They come as {archive.label_table.name}, a row for each planet. "
            "Without any, predict with weights=pretrained prior=pretrained."
        )
    return labels


def _unlabelled(planets: set[int]) -> list[str]:
    return [
        f"train: {named(sorted(planets))} without a label, so nothing was learned there. Add "
        "them to the archive's table of labels."
    ][: len(planets)]


def _recipe(config: "Config") -> Recipe:
    start = config.training.start
    return Recipe(
        config.model,
        config.training,
        Epistemic(config.uq.epistemic, config.uq.mc_samples),
        None if start is None else run_folder(start),
    )


def _runtime(config: "Config") -> Runtime:
    chosen = config.runtime
    return Runtime(chosen.device, chosen.devices, chosen.workers, chosen.logger)


def _scores(
    yardstick: Yardstick, labels: Labels, fits: Mapping[int, TransitFit], out_of_fold: Path
) -> tuple[int, Score, Score]:
    """Number of planets predicted out of fold; the network's score on them and the fit's."""
    planets, posterior = read_spectra(out_of_fold)
    depth = labels.of(planets).depth
    alone = yardstick.score(depth, fit_posterior(fits, planets))
    return len(planets), yardstick.score(depth, posterior), alone


def donors_of(
    config: "Config", fits: Mapping[int, TransitFit], stars: Mapping[int, Star | None]
) -> Donors | None:
    """Training planets to see with other atmospheres, where `training.reobserved` asks for it."""
    count, simulate = config.training.reobserved, config.simulate
    if count == 0:
        return None
    folder = stage_folder(config, "fit")
    index = read_index(folder, "train")
    return find_donors(
        fits,
        stars,
        {p: (fit_path(folder, "train", p), index[p].priors) for p in fits},
        Atmospheres(count, simulate.population, simulate.atmosphere, config.training.seed),
    )
