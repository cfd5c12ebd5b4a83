"""What each part of the network is worth: trained without it, two seeds each.

    spectramind fit experiment=ablation       once: simulated planets and their fits
    python benchmarks/ablation.py             all variants; stores ablation.json; trainings that
                                              are done stay in artefacts, so that it can go on
    python benchmarks/ablation.py --only "no readout" --seeds 1     one of them, not stored
    python benchmarks/ablation.py --steps     time of a training step without each part; stores it
    python benchmarks/ablation.py --stored    the last full run again

Every variant learns from the same planets, each observed again with other atmospheres, at
reduced size (experiment=ablation), and is judged on the same held-out planets with trusted fits
that nothing learned from. Gain: 2025 score above the fit's, mean over planets and seeds. `apart`
is what it differs by from the network with all parts, planet by planet, with the error of that
mean over planets; the seeds' own scatter shows in `gains`.

A planet that is observed again keeps its light curves: their residuals then know nothing of the
new noise, and FGS1 cannot help but with what orbit and detector do. So what reads light curves
is also tried on own observations alone, and differs there by `apart` from that network, as does
`without the fit`, which starts from the training planets' mean spectrum and sees light curves
that no fit has cleaned.

`seconds` of a training hold whatever else went on: observations are drawn once for all variants,
by the first. So steps are timed by themselves, forward and backward of one batch on one core,
variants in turn, the median over rounds. The last line is JSON.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

import fitless
import parts
from fitless import fitless_table
from grading import scores_by_planet
from quiet import Machine
from reports.ablation import OWN, WHOLE, table
from spectramind import config as configuration
from spectramind.archive.layout import open_archive
from spectramind.archive.opening import stars_of
from spectramind.closure import code_hash
from spectramind.config import Config
from spectramind.diagnose.metrics import naive_statistics
from spectramind.files import write_json
from spectramind.instrument import WAVELENGTHS
from spectramind.model.network import V50, Batch, FeatureSizes
from spectramind.model.settings import LossConfig, ModelConfig
from spectramind.parallel import Shown, results
from spectramind.provenance import digest
from spectramind.stages.folders import stage_folder
from spectramind.stages.train import donors_of
from spectramind.training.augmentation import Donors, RenewedBatches, Reobservations
from spectramind.training.data import (
    Batches,
    FeatureTable,
    Samples,
    Scaling,
    feature_table,
)
from spectramind.training.device import seeded
from spectramind.training.module import Place, TrainingData, train_network
from spectramind.training.store import SIZES
from spectramind.transit.store import read_fits

# Whose code a variant depends on.
TRAINING = ("spectramind.training.members", "spectramind.training.augmentation")

RESULT = Path(__file__).parents[1] / "docs" / "results" / "ablation.json"
JUDGED, STOPPING, SPLIT_SEED = 300, 60, 2027  # planets, and the seed that deals them
SEEDS = (1, 2)
WARM_UP = 3  # rounds of steps that are not counted
WORKERS = os.cpu_count() or 1
CPU = torch.device("cpu")
Build = Callable[[ModelConfig, FeatureSizes], V50]


@dataclass(frozen=True)
class Variant:
    """Overrides of experiment=ablation, and how the network is built."""

    overrides: tuple[str, ...] = ()
    build: Build = parts.whole
    fit: bool = True  # False: frames only
    beside: str = "all parts"  # what it is held against


ALONE = ("training.reobserved=0", "training.epochs=30", "training.early_stop_patience=6")
VARIANTS = {
    WHOLE: Variant(),
    "no FGS1 encoder": Variant(build=parts.without_fgs1),
    "transformer for Mamba": Variant(build=parts.with_transformer),
    "bidirectional Mamba": Variant(("model.encoders.fgs1.bidirectional=true",)),
    "no graph": Variant(build=parts.without_graph),
    "no adjacent edges": Variant(("model.encoders.airs.edge_types=[molecule,detector]",)),
    "no molecule edges": Variant(("model.encoders.airs.edge_types=[adjacent,detector]",)),
    "no detector edges": Variant(("model.encoders.airs.edge_types=[adjacent,molecule]",)),
    "rgcn for gat": Variant(("model.encoders.airs.gnn_type=rgcn",)),
    "no readout": Variant(build=parts.without_readout),
    "masked stage first": Variant(("training.curriculum.masked.epochs=1",)),
    "contrastive stage first": Variant(("training.curriculum.contrastive.epochs=1",)),
    "smoothness prior": Variant(("model.loss.smooth_l2_weight=0.1",)),
    "FFT prior": Variant(("model.loss.fft_suppress_weight=0.05",)),
    "negativity prior": Variant(("model.loss.negativity_weight=1",)),
    "asymmetry guardrail": Variant(("model.loss.asymmetry_weight=0.1",)),
    "band coherence": Variant(("model.loss.coherence_weight=0.1",)),
    OWN: Variant(ALONE),
    "own, no FGS1 encoder": Variant(ALONE, parts.without_fgs1, beside=OWN),
    "own, transformer": Variant(ALONE, parts.with_transformer, beside=OWN),
    "own, masked stage first": Variant(
        (*ALONE, "training.curriculum.masked.epochs=10"), beside=OWN
    ),
    "own, contrastive stage first": Variant(
        (*ALONE, "training.curriculum.contrastive.epochs=10"), beside=OWN
    ),
    "own, without the fit": Variant(ALONE, fit=False, beside=OWN),
}


TIMED = (
    WHOLE, "no FGS1 encoder", "transformer for Mamba", "bidirectional Mamba", "rgcn for gat",
    "no readout",
)  # fmt: skip


class KeptDonors(Donors):
    """Donors whose observations of an epoch are drawn once a process, for all variants."""

    def observe(self, epoch: int, *, workers: int) -> Reobservations:
        """New observations of every donor, or those of the same epoch again."""
        if (self.key, epoch) not in _OBSERVED:
            _OBSERVED[self.key, epoch] = super().observe(epoch, workers=workers)
        return _OBSERVED[self.key, epoch]


_OBSERVED: dict[tuple[str, int], Reobservations] = {}


@dataclass(frozen=True, eq=False)
class School:
    """Planets with fits: those that teach, stop the training, and judge."""

    table: FeatureTable
    truth: Float64[np.ndarray, "B 283"]
    donors: Donors
    teach: np.ndarray
    stop: np.ndarray
    judge: np.ndarray

    def of(self, planets: np.ndarray) -> tuple[FeatureTable, Float64[np.ndarray, "K 283"]]:
        """Rows of some planets."""
        return self.table.of(planets), self.truth[np.searchsorted(self.table.planet_ids, planets)]


class Judgement(NamedTuple):
    """How one training ended."""

    gain: list[float]  # over the fit, a planet
    seconds: float


def main() -> None:
    """Run, or re-print, the benchmark."""
    parser = argparse.ArgumentParser(description="What each part of the network is worth.")
    parser.add_argument("--only", action="append", choices=VARIANTS, help="this variant")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="so many seeds")
    parser.add_argument("--steps", action="store_true", help="time of a training step alone")
    parser.add_argument("--stored", action="store_true", help="print the last full run")
    arguments = parser.parse_args()
    stored = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    names, seeds = arguments.only or list(VARIANTS), SEEDS[: arguments.seeds]
    if arguments.stored:
        result = stored
    elif arguments.steps:
        state = Machine.now()
        result = stored | {"steps": measure_steps(TIMED) | state.stored()}
        state.store_times(RESULT, result)
    else:
        state = Machine.now()
        result = stored | measure(names, seeds) | state.stored()
        if arguments.only is None and seeds == SEEDS:
            write_json(RESULT, result)
    print(table(result))
    print(json.dumps(result))


def measure(names: list[str], seeds: tuple[int, ...]) -> dict[str, Any]:
    """Train and judge every variant, each on one core."""
    config = configuration.load(["experiment=ablation"])
    school = open_school(config)
    done = stage_folder(config, "train").parent / "ablation"
    found: dict[tuple[str, int], Judgement] = {}
    task, tasks = partial(remembered, school, done), [(n, seed) for seed in seeds for n in names]
    for item, judgement in results(task, tasks, workers=WORKERS, shown=Shown("ablation", "fits")):
        found[item] = judgement
        print(*item, f"{np.mean(judgement.gain):+.4f}", flush=True)
    return {
        "fit": float(fit_scores(school, config).mean()),
        "rows": rows_of(found, names, seeds),
        "planets": len(school.judge),
        "teachers": len(school.teach),
        "atmospheres": config.training.reobserved,
        "seeds": list(seeds),
    }


def measure_steps(names: tuple[str, ...], rounds: int = 40, size: int = 32) -> dict[str, Any]:
    """Milliseconds of a step of each variant, median over rounds in which each has its turn."""
    torch.set_num_threads(1)
    tasks = {}
    for name in names:
        config = configuration.load(["experiment=ablation", *VARIANTS[name].overrides])
        with seeded(SEEDS[0], CPU):
            network = VARIANTS[name].build(config.model, SIZES)
            batch, truth = _random_batch(size, config.transit.fgs1_bins)
        tasks[name] = partial(_step_ms, network, batch, truth, config.model.loss)
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + WARM_UP):
        for name, step in tasks.items():
            milliseconds = step()
            if turn >= WARM_UP:
                found[name].append(milliseconds)
    return {
        "ms": {name: round(float(np.median(own)), 1) for name, own in found.items()},
        "planets": size,
        "rounds": rounds,
        "seed": SEEDS[0],
    }


def _random_batch(size: int, bins: int) -> tuple[Batch, Tensor]:
    """Planets of one visit at full length: how long a step takes does not rest on their values."""
    depth = 0.01 + 1e-4 * torch.randn(size, WAVELENGTHS, dtype=torch.float64)
    batch = Batch(
        nodes=torch.randn(size, WAVELENGTHS, SIZES.nodes),
        series=torch.randn(size, 1, SIZES.series, bins),
        mask=torch.ones(size, 1, bins, dtype=torch.bool),
        planet=torch.randn(size, SIZES.planet),
        depth=depth, sigma=torch.full_like(depth, 1e-4), own_sigma=torch.full_like(depth, 1e-4),
        asymmetry=torch.randn(size, WAVELENGTHS),
    )  # fmt: skip
    return batch, depth + 1e-4


def _step_ms(network: V50, batch: Batch, truth: Tensor, loss: LossConfig) -> float:
    start = time.perf_counter()
    network.zero_grad()
    network.loss(batch, truth, loss).backward()
    return 1e3 * (time.perf_counter() - start)


def rows_of(
    found: dict[tuple[str, int], Judgement], names: list[str], seeds: tuple[int, ...]
) -> dict[str, dict[str, Any]]:
    """Means over planets and seeds, and how far apart from the network a variant stands beside."""
    rows = {}
    gains = {
        name: np.array([found[name, seed].gain for seed in seeds]) for name in names
    }  # (S, P)
    for name, own in gains.items():
        rows[name] = {
            "gain": float(own.mean()),
            "gains": own.mean(1).tolist(),
            "error": _error(own.mean(0)),
            "seconds": [found[name, seed].seconds for seed in seeds],
        }
        beside = VARIANTS[name].beside
        if beside in gains and beside != name:
            apart = (own - gains[beside]).mean(0)
            rows[name] |= {
                "beside": beside, "apart": float(apart.mean()), "apart_error": _error(apart),
            }  # fmt: skip
    return rows


def open_school(config: Config) -> School:
    """Fits of experiment=ablation; judges are trusted planets that nothing else sees."""
    archive = open_archive(config.data.root)
    fits = read_fits(stage_folder(config, "fit"), "train")
    stars = stars_of(archive, "train", fits)
    donors = donors_of(config, fits, stars)
    assert donors is not None
    table = feature_table(fits, stars)
    order = np.random.default_rng(SPLIT_SEED).permutation(table.planet_ids)
    trusted = [planet for planet in order[:JUDGED].tolist() if not fits[planet].reasons]
    teach = np.sort(order[JUDGED + STOPPING :])
    return School(
        table, archive.labels().of(table.planet_ids).depth,
        KeptDonors(**vars(donors.of(teach))), teach=teach, stop=np.sort(order[JUDGED:][:STOPPING]),
        judge=np.sort(trusted),
    )  # fmt: skip


def remembered(school: School, folder: Path, task: tuple[str, int]) -> Judgement:
    """How a variant of this code ended from one seed; trained where that is not known yet."""
    name, seed = task
    config = configuration.load(["experiment=ablation", *VARIANTS[name].overrides])
    code = [Path(own.__file__).read_text() for own in (parts, fitless)]
    data = sha256(school.table.nodes.tobytes() + school.truth.tobytes()).hexdigest()
    asked = [config.model.model_dump(mode="json"), config.training.model_dump(mode="json")]
    key = digest([name, seed, code_hash(*TRAINING), *code, school.donors.key, data, *asked])
    path = folder / f"{key}.json"
    if path.is_file():
        known = json.loads(path.read_text())
        return Judgement(known["gain"], known["seconds"])
    judgement = judge(school, task)
    write_json(path, {"variant": name, "seed": seed, **judgement._asdict()})
    return judgement


def judge(school: School, task: tuple[str, int]) -> Judgement:
    """Train a variant from one seed and grade it."""
    torch.set_num_threads(1)
    name, seed = task
    variant = VARIANTS[name]
    config = configuration.load(["experiment=ablation", *variant.overrides])
    base = fit_scores(school, config)
    if not variant.fit:
        table = fitless_table(school.table, school.teach, school.truth, config)
        school = replace(school, table=table)
    start = time.monotonic()
    network, scaling = taught(school, config, seed, variant.build)
    seconds = time.monotonic() - start
    judges, truth = school.of(school.judge)
    mu, sigma = answer(network, scaling.batch(judges))
    gain = scores(mu, sigma, truth, school, config) - base
    return Judgement(gain.tolist(), round(seconds, 1))


def _error(gain: Float64[np.ndarray, " P"]) -> float:
    """Of the mean over planets."""
    return float(gain.std() / np.sqrt(len(gain)))


def taught(
    school: School, config: Config, seed: int, build: Build = parts.whole
) -> tuple[V50, Scaling]:
    """A network that has learned from the teachers, of the epoch that suits `stop` best."""
    teach, truth = school.of(school.teach)
    scaling, size = Scaling.of(teach), config.training.batch_size
    if config.training.reobserved:
        training = RenewedBatches(
            teach, truth, scaling, school.donors, size=size, seed=seed, workers=1
        )
    else:
        training = Batches(Samples.of(teach, truth, scaling), size=size, seed=seed)
    validation = Batches(Samples.of(*school.of(school.stop), scaling), size=size, seed=None)
    with seeded(seed, CPU), tempfile.TemporaryDirectory() as folder:
        network = build(config.model, SIZES)
        place = Place(CPU, 1, "none", Path(folder), Path(folder), bar=False, precision="32-true")
        trained = train_network(
            network, TrainingData(training, validation), member=f"seed {seed}",
            loss=config.model.loss, config=config.training, seed=seed, place=place,
        )  # fmt: skip
    network.load_state_dict(trained.weights)
    return network.eval(), scaling


def answer(network: V50, batch: Batch) -> tuple[Float64[np.ndarray, "P 283"], ...]:
    """Mu and sigma of all planets of a batch."""
    with torch.inference_mode():
        answers = [network(batch[rows]) for rows in torch.arange(len(batch)).split(50)]
    mu, sigma = (torch.cat([getattr(a, name) for a in answers]) for name in ("mu", "sigma"))
    return mu.numpy(), sigma.numpy()


def fit_scores(school: School, config: Config) -> Float64[np.ndarray, " P"]:
    """Scores of the judges by the fit alone."""
    judges, truth = school.of(school.judge)
    return scores(judges.depth, judges.sigma, truth, school, config)


def scores(
    mu: Float64[np.ndarray, "P 283"],
    sigma: Float64[np.ndarray, "P 283"],
    truth: Float64[np.ndarray, "P 283"],
    school: School,
    config: Config,
) -> Float64[np.ndarray, " P"]:
    """2025 score of each planet, the naive guess that of the teachers."""
    naive = naive_statistics(school.of(school.teach)[1])
    return scores_by_planet(mu, sigma, truth, naive, config.diagnostics.metric)


if __name__ == "__main__":
    main()
