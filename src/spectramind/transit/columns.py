"""Planets side by side: binned light curves, padded to arrays that one computation can take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from spectramind.transit.binning import BinnedVisit, difference_noise
from spectramind.transit.settings import TransitConfig

_QUIETEST = 1e-8  # noise of a bin where the flux has none, relative


@dataclass(frozen=True, eq=False)
class Columns:
    """B planets of V visits in T bins (M samples each); W columns, column 0 is FGS1."""

    time_h: Float64[Tensor, "B V 2 T M"]  # at FGS1 and at AIRS-CH0 [h]
    tau: Float64[Tensor, "B V 2 T"]  # middles of the bins, -1..1 over a visit
    log_flux: Float64[Tensor, "B V W T"]  # of the median flux
    weight: Float64[Tensor, "B V W T"]  # inverse variance of `log_flux`; 0: not measured
    place: Float64[Tensor, " W"]  # along the spectrum, -1..1; 0 for FGS1
    limb: Float64[Tensor, "B W 2"]  # expected u1, u2

    @property
    def depths(self) -> int:
        """Number of columns W."""
        return self.log_flux.shape[2]

    def keep(self, used: Bool[Tensor, "B V W T"]) -> "Columns":
        """The same columns without the values that are not used."""
        return replace(self, weight=torch.where(used, self.weight, 0.0))

    def every(self, step: int) -> "Columns":
        """The same columns with every so many time bins only."""
        return replace(
            self, time_h=self.time_h[..., ::step, :], tau=self.tau[..., ::step],
            log_flux=self.log_flux[..., ::step], weight=self.weight[..., ::step],
        )  # fmt: skip

    def to(self, device: torch.device) -> "Columns":
        """The same columns on another device."""
        return Columns(**{name: value.to(device) for name, value in vars(self).items()})

    def scaled(self, variance: Float64[Tensor, "B V W"]) -> "Columns":
        """The same columns with the noise variance of each column multiplied."""
        return replace(self, weight=self.weight / variance[..., None])


def make_columns(
    planets: Sequence[Sequence[BinnedVisit]],
    limb: Float64[np.ndarray, "B 283 2"],
    config: TransitConfig,
) -> Columns:
    """Planets with equally many visits, every wavelength a column.

    Args:
        planets: Visits of each planet.
        limb: Expected limb darkening of each planet.
        config: Section `transit`.
    """
    spectra = [[np.column_stack([v.fgs1, v.airs]) for v in visits] for visits in planets]
    lit = [[np.append(v.has_fgs1, v.lit) for v in visits] for visits in planets]
    place = np.append(0.0, np.linspace(-1.0, 1.0, limb.shape[1] - 1))
    return _padded(planets, spectra, lit, place, limb, config)


def make_white_columns(
    planets: Sequence[Sequence[BinnedVisit]],
    limb: Float64[np.ndarray, "B 283 2"],
    config: TransitConfig,
) -> Columns:
    """Planets with equally many visits, two columns: FGS1 and the sum over AIRS-CH0."""
    spectra = [[np.column_stack([v.fgs1, v.airs_white]) for v in visits] for visits in planets]
    share = np.stack([np.mean([v.white_share for v in visits], axis=0) for visits in planets])
    white = np.einsum("bw,bwl->bl", share, limb[:, 1:])
    lit = [[np.array([v.has_fgs1, True]) for v in visits] for visits in planets]
    return _padded(planets, spectra, lit, np.zeros(2), np.stack([limb[:, 0], white], 1), config)


def _padded(
    planets: Sequence[Sequence[BinnedVisit]],
    spectra: Sequence[Sequence[Float64[np.ndarray, "_ W"]]],  # each visit has its own bins
    lit: Sequence[Sequence[Bool[np.ndarray, " W"]]],
    place: Float64[np.ndarray, " W"],
    limb: Float64[np.ndarray, "B W 2"],
    config: TransitConfig,
) -> Columns:
    planet_count, visits = len(planets), len(planets[0])
    bins = max(visit.airs_time_h.size for own in planets for visit in own)
    time = np.zeros((planet_count, visits, 2, bins, config.samples_per_bin))
    tau = np.zeros((planet_count, visits, 2, bins))
    flux = np.zeros((planet_count, visits, place.size, bins))
    weight = np.zeros_like(flux)
    within = (np.arange(config.samples_per_bin) + 0.5) / config.samples_per_bin - 0.5
    for b, own in enumerate(planets):
        for v, visit in enumerate(own):
            count = visit.airs_time_h.size
            series = np.log(np.maximum(spectra[b][v].T, 1e-3))
            flux[b, v, :, :count] = series
            noise = np.where(lit[b][v], np.maximum(difference_noise(series), _QUIETEST), np.inf)
            weight[b, v, :, :count] = (noise**-2.0)[:, None]
            for channel, middle in enumerate((visit.fgs1_time_h, visit.airs_time_h)):
                time[b, v, channel, :count] = middle[:, None] + visit.width_h * within
                time[b, v, channel, count:] = middle[-1]
                tau[b, v, channel, :count] = visit.scaled(middle)
    arrays = (time, tau, flux, weight, place, limb)
    return Columns(*(torch.tensor(array, dtype=torch.float64) for array in arrays))
