"""Stage `train`: the network in folds, and what it predicts out of fold."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from spectramind.archive.layout import open_archive, stars_of
from spectramind.archive.submission import fit_posterior, read_spectra
from spectramind.diagnose.scoring import challenge_score, depths_of
from spectramind.observation import Star, TransitFit
from spectramind.provenance import Provenance
from spectramind.stages.folders import OUT_OF_FOLD, run_folder, stage_folder
from spectramind.stages.result import Result
from spectramind.training.augmentation import Atmospheres, Donors, find_donors
from spectramind.training.members import train_members
from spectramind.transit.store import fit_path, read_fits, read_index

if TYPE_CHECKING:
    from spectramind.config import Config


def train(config: "Config", folder: Path, provenance: Provenance) -> Result:
    """Train the network in folds; score what it predicts out of fold against the fit alone."""
    archive = open_archive(config.data.root)
    labels = archive.labels("train")
    known = set(labels.planet_ids.tolist())
    everyone = read_fits(stage_folder(config, "fit"), "train")
    fits = {planet: fit for planet, fit in everyone.items() if planet in known}
    stars, _ = stars_of(archive, "train", fits)
    donors = donors_of(config, fits, stars)
    report = train_members(
        fits,
        stars,
        labels,
        donors=donors,
        model=config.model,
        training=config.training,
        start=None if config.training.start is None else run_folder(config.training.start),
        epistemic=config.uq.epistemic,
        mc_samples=config.uq.mc_samples,
        device=config.runtime.device,
        devices=config.runtime.devices,
        workers=config.runtime.workers,
        logger=config.runtime.logger,
        out=folder,
        provenance=provenance,
    )
    planets, posterior = read_spectra(folder / OUT_OF_FOLD)
    truth = depths_of(labels, planets)
    metric = config.diagnostics.metric
    network = challenge_score(metric, archive.year, truth, posterior, labels)
    alone = challenge_score(metric, archive.year, truth, fit_posterior(fits, planets), labels)
    facts = {
        "members": len(report.members),
        "planets": len(planets),
        "score": network["score"],
        "fit_score": alone["score"],
        "gain": network["score"] - alone["score"],
    }
    return Result(
        summary=(
            f"trained {len(report.members)} members -> {folder}; out of fold the score is "
            f"{facts['score']:.4f}, that of the fit alone {facts['fit_score']:.4f}"
        ),
        outputs=(folder,),
        facts=facts,
        failures=tuple(
            f"train planet {planet}: has no label, so nothing was learned from it. Add it to the "
            "archive's table of labels."
            for planet in everyone
            if planet not in known
        ),
    )


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
        {p: (fit_path(folder, "train", p), Path(index[p].priors)) for p in fits},
        Atmospheres(count, simulate.population, simulate.atmosphere, config.training.seed),
    )
