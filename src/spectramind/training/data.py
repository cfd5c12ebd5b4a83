"""Features of many planets as tensors, scaled by the training planets of one fold."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64
from torch import Tensor

from spectramind.errors import DataError
from spectramind.model.network import Batch
from spectramind.observation import Labels, Star, TransitFit, named
from spectramind.robust import MAD_TO_SIGMA
from spectramind.training.features import NODE_FEATURES, planet_features

_KNEE = 3.0  # scaled features grow as their logarithm beyond about this many deviations


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Unscaled features and fits of planets, padded to the longest series.

    A planet and its observations with other atmospheres share light curves; there are D of them.
    """

    planet_ids: Int64[np.ndarray, " B"]
    nodes: Float32[np.ndarray, "B W F"]
    series: Float32[np.ndarray, "D V C L"]
    mask: Bool[np.ndarray, "D V L"]
    curves: Int64[np.ndarray, " B"]  # row of series and mask of each planet
    planet: Float32[np.ndarray, "B P"]
    depth: Float64[np.ndarray, "B W"]
    sigma: Float64[np.ndarray, "B W"]
    own_sigma: Float64[np.ndarray, "B W"]  # before anything widened it

    @property
    def asymmetry(self) -> Float32[np.ndarray, "B W"]:
        """Mean residual at ingress minus that at egress [standard errors]."""
        ingress, egress = (NODE_FEATURES.index(name) for name in ("ingress", "egress"))
        return self.nodes[..., ingress] - self.nodes[..., egress]

    def of(self, planet_ids: Int[np.ndarray, " K"]) -> "FeatureTable":
        """The rows of these planets, in their order."""
        rows = np.searchsorted(self.planet_ids, planet_ids)
        kept, curves = np.unique(self.curves[rows], return_inverse=True)
        return FeatureTable(
            self.planet_ids[rows], self.nodes[rows], self.series[kept], self.mask[kept], curves,
            self.planet[rows], self.depth[rows], self.sigma[rows], self.own_sigma[rows],
        )  # fmt: skip


def feature_table(
    fits: Mapping[int, TransitFit], stars: Mapping[int, Star | None]
) -> FeatureTable:
    """Features of all planets, planets in increasing order.

    Raises:
        DataError: If there is no planet, or a planet has no star entry or no usable fit.
    """
    if not fits:
        raise DataError(
            "fits: there is no fitted planet. Run `spectramind fit` and look at what failed."
        )
    planets = sorted(fits)
    lost = [planet for planet in planets if planet not in stars]
    if lost:
        raise DataError(
            f"star table: no row of {named(lost)}, which the fit has. Add what is missing to the "
            "star table, or fit the archive anew."
        )
    made = [planet_features(fits[planet], stars[planet]) for planet in planets]
    visits = max(len(one.series) for one in made)
    length = max(1, *(series.shape[1] for one in made for series in one.series))
    series = np.zeros((len(made), visits, made[0].series[0].shape[0], length), dtype=np.float32)
    mask = np.zeros((len(made), visits, length), dtype=bool)
    for row, one in enumerate(made):
        for visit, (channels, known) in enumerate(zip(one.series, one.masks, strict=True)):
            series[row, visit, :, : len(known)] = np.where(known, channels, 0.0)
            mask[row, visit, : len(known)] = known
    return FeatureTable(
        np.array(planets, dtype=np.int64),
        np.stack([one.nodes for one in made]),
        series,
        mask,
        np.arange(len(made)),
        np.stack([one.planet for one in made]),
        np.stack([fits[planet].depth for planet in planets]),
        np.stack([fits[planet].sigma for planet in planets]),
        np.stack([fits[planet].own_sigma for planet in planets]),
    )


def require_depths(labels: Labels) -> None:
    """Refuse labels that cannot be transit depths.

    Raises:
        DataError: If one is not between 0 and 1.
    """
    wrong = ~((labels.depth > 0.0) & (labels.depth < 1.0))
    if wrong.any():
        row, wavelength = np.argwhere(wrong)[0]
        raise DataError(
            f"labels: planet {labels.planet_ids[row]} has {labels.depth[row, wavelength]:g} in "
            f"wl_{wavelength + 1}, expected a transit depth between 0 and 1. Correct the label "
            "file."
        )


@dataclass(frozen=True, eq=False)
class Centre:
    """Median and spread of each feature of one kind."""

    median: Float32[np.ndarray, " F"]
    spread: Float32[np.ndarray, " F"]

    @classmethod
    def of(cls, values: Float32[np.ndarray, "N F"]) -> "Centre":
        """Median and robust standard deviation, over rows that are known.

        A feature without spread, or never known, keeps the spread 1.
        """
        if not len(values):
            return cls(*(make(values.shape[1], np.float32) for make in (np.zeros, np.ones)))
        known = np.isfinite(values).any(0)
        filled = np.where(known, values, 0.0)
        median = np.nanmedian(filled, axis=0)
        spread = MAD_TO_SIGMA * np.nanmedian(np.abs(filled - median), axis=0)
        return cls(median.astype(np.float32), np.where(spread > 0, spread, 1.0).astype(np.float32))

    def scale(self, values: Float32[np.ndarray, "*B F"]) -> Float32[np.ndarray, "*B F"]:
        """K asinh((x - median) / spread / k): linear to about k = 3, logarithmic beyond.

        Unknown values (NaN) become 0, the typical one.
        """
        scaled = _KNEE * np.arcsinh((values - self.median) / self.spread / _KNEE)
        return np.where(np.isnan(scaled), np.float32(0.0), scaled).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Scaling:
    """Scaling of all features; made from the training planets of one fold."""

    nodes: Centre
    series: Centre
    planet: Centre

    @classmethod
    def of(cls, table: FeatureTable) -> "Scaling":
        """Statistics over the planets of the table."""
        series = table.series.transpose(0, 1, 3, 2)[table.mask]
        nodes = table.nodes.reshape(-1, table.nodes.shape[-1])
        return cls(Centre.of(nodes), Centre.of(series), Centre.of(table.planet))

    def scaled(self, table: FeatureTable) -> "Scaled":
        """Scaled features of all planets of the table."""
        series = self.series.scale(table.series.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
        arrays = (self.nodes.scale(table.nodes), series, table.mask, table.curves)
        fits = (table.depth, table.sigma, table.own_sigma, table.asymmetry)
        others = (self.planet.scale(table.planet), *fits)
        return Scaled(*(torch.from_numpy(np.ascontiguousarray(a)) for a in (*arrays, *others)))

    def batch(self, table: FeatureTable) -> Batch:
        """Scaled features of all planets of the table as one batch."""
        return self.scaled(table)[torch.arange(len(table.planet_ids))]

    def to_json(self) -> dict[str, dict[str, list[float]]]:
        """Plain numbers, exact."""
        parts = {"nodes": self.nodes, "series": self.series, "planet": self.planet}
        return {
            name: {"median": part.median.tolist(), "spread": part.spread.tolist()}
            for name, part in parts.items()
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Scaling":
        """The scaling that `to_json` described; KeyError or ValueError if it did not."""
        parts = [
            Centre(*(np.array(value[name][key], dtype=np.float32) for key in ("median", "spread")))
            for name in ("nodes", "series", "planet")
        ]
        return cls(*parts)


@dataclass(frozen=True, eq=False)
class Scaled:
    """Scaled features of planets, some with shared light curves; rows of it make a `Batch`."""

    nodes: Float[Tensor, "B W F"]
    series: Float[Tensor, "D V C L"]
    mask: Bool[Tensor, "D V L"]
    curves: Int[Tensor, " B"]  # row of series and mask of each planet
    planet: Float[Tensor, "B P"]
    depth: Float64[Tensor, "B W"]
    sigma: Float64[Tensor, "B W"]
    own_sigma: Float64[Tensor, "B W"]
    asymmetry: Float[Tensor, "B W"]

    def __len__(self) -> int:
        return len(self.depth)

    def __getitem__(self, rows: Int[Tensor, " K"]) -> Batch:
        """The planets of these rows, each with a copy of its light curves."""
        curves = self.curves[rows]
        return Batch(
            self.nodes[rows], self.series[curves], self.mask[curves], self.planet[rows],
            self.depth[rows], self.sigma[rows], self.own_sigma[rows], self.asymmetry[rows],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Samples:
    """Planets to learn from, one per row: scaled features and true depths."""

    features: Batch | Scaled
    truth: Float64[Tensor, "B W"]
    planet_ids: Int64[np.ndarray, " B"]

    @classmethod
    def of(
        cls, table: FeatureTable, truth: Float64[np.ndarray, "B W"], scaling: Scaling
    ) -> "Samples":
        """The planets of a table with their true spectra."""
        return cls(scaling.scaled(table), torch.from_numpy(truth), table.planet_ids)


class Batches:
    """Batches of planets, in an order that seed and epoch decide; without a seed, as they come."""

    def __init__(self, samples: Samples, *, size: int, seed: int | None) -> None:
        self.own = samples
        self.planets = len(samples.planet_ids)  # rows per epoch
        self.size = size
        self.seed = seed
        self.epoch: Callable[[], int] = _first  # the trainer puts its own here

    def samples(self, epoch: int) -> Samples:  # noqa: ARG002 - others have samples for each
        """The planets of an epoch."""
        return self.own

    def __len__(self) -> int:
        return -(-self.planets // self.size)

    def __iter__(self) -> Iterator[tuple[Batch, Tensor, list[int]]]:
        """Features, true depths and planet ids of each batch."""
        epoch = self.epoch()
        samples = self.samples(epoch)
        rows = torch.arange(self.planets)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, epoch])
            rows = torch.from_numpy(order.permutation(self.planets))
        for part in rows.split(self.size):
            planets = samples.planet_ids[part.numpy()].tolist()
            yield samples.features[part], samples.truth[part], planets


def _first() -> int:
    return 0
