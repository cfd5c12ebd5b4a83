"""Training of an ensemble: members of all folds, and the spectra of planets they never saw."""

import hashlib
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float64, Int64

from spectramind.archive.submission import write_spectra
from spectramind.artefacts import save_json
from spectramind.errors import ArtefactError
from spectramind.files import unwritable, write_atomic
from spectramind.model.likelihood import robust_nll
from spectramind.model.network import V50
from spectramind.model.settings import ModelConfig
from spectramind.observation import Labels, Star, TransitFit
from spectramind.parallel import Shown, results
from spectramind.posterior import SpectrumPosterior
from spectramind.provenance import Provenance, digest
from spectramind.training.augmentation import Donors, RenewedBatches
from spectramind.training.data import (
    Batches,
    FeatureTable,
    Samples,
    Scaling,
    feature_table,
    require_depths,
)
from spectramind.training.ddp import require_devices
from spectramind.training.device import Precision, precision, resolve_device, seeded
from spectramind.training.folds import FOLDS, Folds, assign_folds, write_folds
from spectramind.training.loggers import require_logger
from spectramind.training.module import Place, TrainingData, train_network
from spectramind.training.out_of_memory import advise_when_out_of_memory
from spectramind.training.predict import Epistemic, predict
from spectramind.training.settings import LoggerKind, TrainingConfig
from spectramind.training.store import (
    RUN,
    SIZES,
    Member,
    is_finished,
    member_name,
    read_member,
    remove_others,
    write_member,
)
from spectramind.training.warm_start import WarmStart, read_warm_start

Slot = tuple[int, int]  # fold and seed number of a member
_UNSEEN = Shown("train", "members", silent=True)  # each member is reported when it is there
_UNFINISHED = "unfinished"  # folder of checkpoints of members in training


@dataclass(frozen=True)
class TrainingReport:
    """What a training run did.

    Likelihoods are robust, out of fold, means over planets and wavelengths [nat].
    """

    members: tuple[str, ...]
    reused: int  # members of an earlier run with the same settings and data
    best_epochs: tuple[int, ...]  # 0: no epoch was better than the network at the start
    planets: int
    calibration_planets: int
    fit_nll: float
    v50_nll: float
    seconds: float


@dataclass(frozen=True, eq=False)
class TrainingPlanets:
    """The labelled planets of a training run."""

    fits: Mapping[int, TransitFit]
    stars: Mapping[int, Star | None]  # None where the archive has no star table
    labels: Labels  # of at least the planets with a fit
    donors: Donors | None  # planets that every epoch observes again with other atmospheres


@dataclass(frozen=True)
class Recipe:
    """What to train, and how."""

    model: ModelConfig  # architecture and loss
    training: TrainingConfig  # folds, optimiser and stopping
    epistemic: Epistemic  # how the members' spread is measured at prediction
    start: Path | None  # `runtime.out` of the run whose weights training starts from


@dataclass(frozen=True)
class Runtime:
    """Where a training runs; none of it changes the result but for rounding and dropout."""

    device: str  # auto | cpu | cuda
    devices: int  # processes that train a member together
    # Processes that train members beside one another on a CPU; with logger=mlflow, whose
    # database takes one writer, members still come one by one.
    workers: int
    logger: LoggerKind  # csv (files in `logs`) | tensorboard | mlflow (both there) | none


@dataclass(frozen=True, eq=False)
class _Run:
    """Everything that the members of one training run share."""

    table: FeatureTable
    truth: Float64[np.ndarray, "B W"]
    donors: Donors | None
    folds: Folds
    recipe: Recipe
    runtime: Runtime
    device: torch.device
    precision: Precision
    out: Path
    provenance: Provenance
    data: str  # hash of features and labels
    warm_start: WarmStart | None

    @property
    def training(self) -> TrainingConfig:
        """Folds, optimiser and stopping."""
        return self.recipe.training

    @property
    def model(self) -> ModelConfig:
        """Architecture and loss."""
        return self.recipe.model

    @property
    def slots(self) -> list[Slot]:
        """Fold and seed number of each member."""
        chosen = self.training
        return [(fold, seed) for fold in range(chosen.folds) for seed in range(chosen.seeds)]

    def key(self, fold: int, seed: int) -> str:
        """Hash of all that the weights of a member depend on."""
        settings = [part.model_dump(mode="json") for part in (self.model, self.training)]
        start = [] if (first := self.start_of(fold, seed)) is None else [first.key]
        code = self.provenance.code_hash
        return digest([*settings, code, self.data, start, fold, seed])

    def start_of(self, fold: int, seed: int) -> Member | None:
        """The member of another run whose weights a member starts from, if there is one.

        Raises:
            ConfigError: If all of them learned from planets that judge this member.
        """
        if self.warm_start is None:
            return None
        unseen = [self.folds.calibration, self.folds.out_of_fold(fold)]
        index = self.slots.index((fold, seed))
        return self.warm_start.member_for(np.concatenate(unseen), index)

    def read(self, fold: int, seed: int) -> Member:
        """A member that this run trained or found.

        Raises:
            ArtefactError: If it is damaged, or another run has written it since.
        """
        folder, name = self.out / "members", member_name(fold, seed)
        member = read_member(folder, name, self.model)
        if member.key != self.key(fold, seed):
            raise ArtefactError(
                f"{folder / name}.json: was written by another training run meanwhile, with key "
                f"{member.key} instead of {self.key(fold, seed)}. Wait until that run has ended, "
                "then run `spectramind train` again, or point runtime.out at another folder."
            )
        return member


def train_members(
    planets: TrainingPlanets,
    recipe: Recipe,
    runtime: Runtime,
    *,
    out: Path,
    provenance: Provenance,
) -> TrainingReport:
    """Train one member per fold and seed, and predict every training planet unseen.

    Writes into `out`: members/*.safetensors and *.json, oof.parquet (each planet by the members
    of the fold that left it out), calibration.parquet (the calibration planets by all members),
    folds.parquet, training_log.csv and, last, train.json. Members that are there already with
    the same settings, code and data are kept; damaged ones are trained anew.

    Args:
        planets: What is learned from; each member has its own part of it.
        recipe: What to train, and how.
        runtime: Where to train.
        out: Output folder.
        provenance: Stored with every member and the run.

    Raises:
        DataError: If planets are too few or data cannot be trained on.
        ConfigError: If devices or logger are absent or the settings contradict each other.
        ArtefactError: If `out` cannot be written, or another run writes into it.
    """
    started = time.monotonic()
    passes = recipe.epistemic.passes(recipe.model)
    run = _prepare(planets, recipe, runtime, out, provenance)
    reused = _train_missing(run)
    members = [run.read(*slot) for slot in run.slots]
    nlls = _write_results(run, members, passes)
    report = TrainingReport(
        members=tuple(member.name for member in members),
        reused=reused,
        best_epochs=tuple(member.best_epoch for member in members),
        planets=len(run.table.planet_ids),
        calibration_planets=len(run.folds.calibration),
        fit_nll=nlls[0],
        v50_nll=nlls[1],
        seconds=time.monotonic() - started,
    )
    facts = {key: value for key, value in asdict(report).items() if key not in _NOT_RESULT}
    made = {**asdict(provenance), "epistemic": recipe.epistemic.method, "precision": run.precision}
    save_json(out / RUN, {**made, **facts})
    return report


def _prepare(
    planets: TrainingPlanets, recipe: Recipe, runtime: Runtime, out: Path, provenance: Provenance
) -> _Run:
    """Check what is asked for, turn the planets into features and deal them into folds."""
    training, device = recipe.training, resolve_device(runtime.device)
    require_devices(device, runtime.devices, batch_size=training.batch_size)
    require_logger(runtime.logger)
    table = feature_table(planets.fits, planets.stars)
    labels = planets.labels.of(table.planet_ids)
    require_depths(labels)
    folds = assign_folds(
        table.planet_ids,
        folds=training.folds,
        calibration_fraction=training.calibration_fraction,
        seed=training.seed,
    )
    return _Run(
        table, labels.depth, planets.donors, folds, recipe, runtime, device,
        precision(device, amp=training.amp), out, provenance,
        _hash(table, labels.depth, planets.donors),
        None if recipe.start is None else read_warm_start(recipe.start, recipe.model),
    )  # fmt: skip


_NOT_RESULT = ("reused", "seconds")


def _train_missing(run: _Run) -> int:
    """Train the members that are not there yet; returns how many were."""
    folder = run.out / "members"
    missing = [
        slot
        for slot in run.slots
        if not is_finished(folder, member_name(*slot), run.model, run.key(*slot))
    ]
    try:
        if missing:
            (run.out / RUN).unlink(missing_ok=True)
        remove_others(folder, [member_name(*slot) for slot in run.slots])
    except OSError as error:
        raise unwritable(run.out, error) from error
    started, beside = time.monotonic(), _processes(run, missing)
    for done, ((fold, seed), note) in enumerate(_trained(run, missing), start=1):
        spent = time.monotonic() - started
        rounds, begun = -(-len(missing) // beside), -(-done // beside)
        left = spent / begun * (rounds - begun)
        print(  # noqa: T201
            f"train: fold {fold + 1} of {run.training.folds}, seed {seed + 1} of "
            f"{run.training.seeds}: {note}; {spent:.0f} s, about {left:.0f} s left",
            file=sys.stderr,
        )
    if (run.out / _UNFINISHED).is_dir():
        shutil.rmtree(run.out / _UNFINISHED)
    return len(run.slots) - len(missing)


def _trained(run: _Run, slots: list[Slot]) -> Iterator[tuple[Slot, str]]:
    """Train members one after another, or on a CPU several at a time; yields each with a note."""
    workers, devices = run.runtime.workers, run.runtime.devices
    processes = _processes(run, slots)
    if processes < 2:
        for slot in slots:
            yield slot, _train_member(run, *slot, workers=max(workers // devices, 1), bar=True)
        return
    threads = max(torch.get_num_threads() // processes, 1)
    task = partial(_train_beside_others, run, threads, max(workers // processes, 1))
    yield from results(task, slots, workers=processes, shown=_UNSEEN)


def _processes(run: _Run, slots: list[Slot]) -> int:
    """How many members are trained at a time."""
    alone = run.device.type != "cpu" or run.runtime.devices > 1 or run.runtime.logger == "mlflow"
    return 1 if alone else min(run.runtime.workers, len(slots))


def _train_beside_others(run: _Run, threads: int, workers: int, slot: Slot) -> str:
    torch.set_num_threads(threads)
    return _train_member(run, *slot, workers=workers, bar=False)


def _train_member(run: _Run, fold: int, seed: int, *, workers: int, bar: bool) -> str:
    """Train and write one member; returns what to say about it."""
    name, chosen, key = member_name(fold, seed), run.training, run.key(fold, seed)
    inside, held = run.folds.split(
        fold, validation_fraction=chosen.validation_fraction, seed=chosen.seed
    )
    start = run.start_of(fold, seed)
    scaling = Scaling.of(run.table.of(inside)) if start is None else start.scaling
    seeds = np.random.SeedSequence([chosen.seed, fold, seed]).generate_state(3).tolist()
    place = Place(
        run.device, run.runtime.devices, run.runtime.logger, run.out / "logs",
        run.out / _UNFINISHED / f"{name}-{key}-{run.precision}", bar, run.precision,
    )  # fmt: skip
    if not place.resume_folder.is_dir():
        _remove_logs(place.log_folder / name)  # of an earlier training
    with seeded(seeds[0], run.device):
        network = V50(run.model, SIZES)
        if start is not None:
            network.load_state_dict(start.network.state_dict())
        with advise_when_out_of_memory(f"{name}, its planets", chosen):
            data = TrainingData(
                _training_batches(run, inside, scaling, seed=seeds[1], workers=workers),
                Batches(_samples(run, held, scaling), size=chosen.batch_size, seed=None),
            )
        trained = train_network(
            network, data,
            member=name, loss=run.model.loss, config=chosen, seed=seeds[2], place=place,
        )  # fmt: skip
    network.load_state_dict(trained.weights)
    best, history = trained.best_epoch, trained.history
    member = Member(name, key, run.model, network, scaling, best, history)
    write_member(run.out / "members", member, run.provenance)
    gain = _nll(run, held, _fits(run, held)) - history[best].validation_nll
    return (
        f"best epoch {best} of {len(history) - 1}, validation likelihood "
        f"{gain:+.3f} nat against the fit"
    )


def _remove_logs(folder: Path) -> None:
    try:
        if folder.is_dir():
            shutil.rmtree(folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def _training_batches(
    run: _Run, planets: Int64[np.ndarray, " K"], scaling: Scaling, *, seed: int, workers: int
) -> Batches:
    """Batches of a member's training planets and, with donors, of their new observations."""
    size = run.training.batch_size
    if run.donors is None:
        return Batches(_samples(run, planets, scaling), size=size, seed=seed)
    return RenewedBatches(
        *_of(run, planets), scaling, run.donors, size=size, seed=seed, workers=workers
    )


def _samples(run: _Run, planets: Int64[np.ndarray, " K"], scaling: Scaling) -> Samples:
    return Samples.of(*_of(run, planets), scaling)


def _of(
    run: _Run, planets: Int64[np.ndarray, " K"]
) -> tuple[FeatureTable, Float64[np.ndarray, "K W"]]:
    """Features and true spectra of some planets."""
    return run.table.of(planets), run.truth[np.searchsorted(run.table.planet_ids, planets)]


def _write_results(run: _Run, members: list[Member], passes: int) -> tuple[float, float]:
    """Write tables and log; returns the out-of-fold likelihood of the fit and of V50."""
    folds = run.folds
    planets, posterior = _out_of_fold(run, members, passes)
    write_spectra(run.out / "oof.parquet", planets, posterior)
    aside = run.table.of(folds.calibration)
    calibration = predict(members, aside, passes=passes, device=run.device, seed=run.training.seed)
    write_spectra(run.out / "calibration.parquet", aside.planet_ids, calibration)
    write_folds(run.out / FOLDS, folds)
    log = pl.DataFrame(list(_log_rows(members)))
    write_atomic(run.out / "training_log.csv", log.write_csv().encode())
    return _nll(run, planets, _fits(run, planets)), _nll(run, planets, posterior)


def _fits(run: _Run, planets: Int64[np.ndarray, " K"]) -> SpectrumPosterior:
    """Spectra of some planets as the fit has them."""
    table = run.table.of(planets)
    return SpectrumPosterior(torch.from_numpy(table.depth), torch.from_numpy(table.sigma))


def _nll(run: _Run, planets: Int64[np.ndarray, " K"], spectra: SpectrumPosterior) -> float:
    """Robust likelihood of the true spectra of some planets, the mean over planets [nat]."""
    _, truth = _of(run, planets)
    loss, unit = run.model.loss, _fits(run, planets).sigma
    nll = robust_nll(
        spectra, torch.from_numpy(truth), unit=unit,
        z_clip=loss.z_clip, fgs1_weight=loss.fgs1_weight,
    )  # fmt: skip
    return float(nll.mean())


def _out_of_fold(
    run: _Run, members: list[Member], passes: int
) -> tuple[Int64[np.ndarray, " N"], SpectrumPosterior]:
    """Each planet outside the calibration set, by the members of its own fold."""
    planets, parts = [], []
    for fold in range(run.training.folds):
        own = [m for m, slot in zip(members, run.slots, strict=True) if slot[0] == fold]
        left_out = run.folds.out_of_fold(fold)
        planets.append(left_out)
        table, seed = run.table.of(left_out), run.training.seed
        parts.append(predict(own, table, passes=passes, device=run.device, seed=seed))
    order = np.argsort(np.concatenate(planets))
    return np.concatenate(planets)[order], SpectrumPosterior(
        torch.cat([part.mu for part in parts])[order],
        torch.cat([part.sigma for part in parts])[order],
    )


def _log_rows(members: list[Member]) -> Iterator[dict[str, str | float | None]]:
    for member in members:
        for epoch in member.history:
            yield {"member": member.name, **epoch._asdict()}


def _hash(table: FeatureTable, truth: Float64[np.ndarray, "B W"], donors: Donors | None) -> str:
    """Hash of features and labels, bit by bit, and of what the donors' observations rest on."""
    seen = hashlib.sha256(b"" if donors is None else donors.key.encode())
    for array in (*vars(table).values(), truth):
        seen.update(f"{array.shape}{array.dtype}".encode())
        seen.update(np.ascontiguousarray(array).tobytes())
    return seen.hexdigest()
