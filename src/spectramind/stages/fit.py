"""Stage `fit`: priors learned from labelled planets, then a spectrum for every planet."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from spectramind.archive.layout import Split
from spectramind.diagnose.limb import limb_shift
from spectramind.errors import ConfigError
from spectramind.observation import named
from spectramind.provenance import Provenance
from spectramind.sentences import counted
from spectramind.stages.folders import EXPORT, PRETRAINED, SHIPPED
from spectramind.stages.light_curves import Source, open_source
from spectramind.stages.result import Result, require_some
from spectramind.training.device import resolve_device
from spectramind.transit.own_scale import scale_by_labels, words
from spectramind.transit.priors import Priors, prior_path, read_priors, remove_other_priors
from spectramind.transit.spectra import spectra_of_fits
from spectramind.transit.stage import fit_split
from spectramind.transit.store import read_index
from spectramind.transit.teaching import learn_archive, learn_folds
from spectramind.transit.work import LearnedPriors, Work

if TYPE_CHECKING:
    from spectramind.config import Config


def fit(config: "Config", folder: Path, provenance: Provenance) -> Result:
    """Learn priors from labelled planets, then fit every planet that has light curves."""
    source = open_source(config)
    device = resolve_device(config.runtime.device)
    workers = 1 if device.type == "cuda" else config.runtime.workers
    work: dict[Split, Work] = {
        split: Work(source.curves, stars, config.transit, folder, provenance, str(device))
        for split, stars in source.stars.items()
    }
    lent = None if config.prior is None else prior_file(config.prior)
    if lent is not None:
        _require_unknown(config, source, read_priors(lent))
    learned = _learn(source, lent, work, workers)
    after: dict[Split, int] = {"train": len(source.visits["test"]), "test": 0}
    reports = [
        fit_split(
            work[split], split, source.visits[split], learned, workers=workers, later=after[split]
        )
        for split in config.data.splits
    ]
    remove_other_priors(folder, {learned.everyone, *learned.own.values()})
    priors = read_priors(learned.everyone)
    failures = (*source.problems, *[text for report in reports for text in report.failures])
    done = sum(report.done + report.cached for report in reports)
    require_some(done, sum(map(len, source.visits.values())), "fitted", failures)
    scale = scale_by_labels(folder, config.data.splits, source.labels, config.transit.spectrum)
    flagged = sum(report.flagged for report in reports)
    outputs = [folder]
    if source.for_retrieval:
        from spectramind.archive.export import write_export  # xarray takes a second to import

        spectra = spectra_of_fits(folder, kind="posterior", samples=0)
        outputs += write_export(spectra, provenance, folder / EXPORT)
    return Result(
        summary=(
            f"fitted {counted(done, 'planet')} -> {folder}; {flagged} flagged; "
            f"{_prior_words(priors, source.alone if lent is None else 0)}{words(scale)}"
            f"{_limb_words(folder, config)}"
        ),
        outputs=tuple(outputs),
        facts={
            "planets": done,
            "flagged": flagged,
            "labels": _labels_behind(priors),
            "scale": list(scale),
        },
        failures=failures,
    )


def _learn(
    source: Source, lent: Path | None, work: Mapping[Split, Work], workers: int
) -> LearnedPriors:
    """Priors of every planet.

    They come in folds where labels of fitted planets teach: those are enough by themselves, or
    make enough together with labels of planets without light curves.
    """
    fewest, alone = work["train"].config.spectrum.fewest_labels, source.alone
    measured, later = len(source.labels) - alone, sum(map(len, source.visits.values()))
    if lent is None and (measured >= fewest or alone < fewest <= measured + alone):
        visits = source.visits["train"]
        return learn_folds(work["train"], source.labels, visits, workers=workers, later=later)
    return learn_archive(work, source.visits, lent, source.labels, workers=workers, later=later)


def _require_unknown(config: "Config", source: Source, priors: Priors) -> None:
    """Refuse priors that were learned from planets of this archive, which they would judge.

    Raises:
        ConfigError: If they were.
    """
    planets = [planet for own in source.visits.values() for planet in own]
    known = [planet for planet in planets if priors.know(planet, source.labels.get(planet))]
    if known:
        raise ConfigError(
            f"prior={config.prior}: was learned from the label of {named(known)}, whose fit "
            "would know its own label. Leave `prior` out, so that each planet is judged by "
            "priors of others, or take priors of other planets."
        )


def _limb_words(folder: Path, config: "Config") -> str:
    """What is said where limb darkening of test planets is not what the priors expect."""
    rows = read_index(folder, "test") if "test" in config.data.splits else {}
    shift = limb_shift([row.limb_pull for row in rows.values()])
    return f"; {shift.sentence}" if shift.far else ""


def _labels_behind(priors: Priors) -> int:
    return 0 if priors.spectrum is None else priors.spectrum.planets


def _prior_words(priors: Priors, alone: int) -> str:
    words = "too few labels for a prior over spectra, so each wavelength stands alone"
    if priors.spectrum is not None:
        words = f"prior over spectra from {counted(priors.spectrum.planets, 'label')}"
        if alone:
            words += f", {alone} of them of planets without light curves"
    if priors.known.gave_up or priors.unknown.gave_up:
        words += (
            "; limb darkening differs between planets by more than `transit.prior` can believe: "
            "something in these light curves is not modelled, and wide priors stand"
        )
    return words


def prior_file(named: Path) -> Path:
    """The file that `prior` names; `pretrained` is what `make pretrained` has left."""
    return prior_path(SHIPPED / "fit", None) if named == PRETRAINED else named
