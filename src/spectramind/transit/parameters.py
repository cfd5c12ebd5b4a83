"""What all wavelengths of a planet share, as one vector: orbit, limb darkening, times, drift."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from spectramind.transit.drift import chebyshev

ORBIT = 3  # ln P [d], ln a [stellar radii], b^2: smooth where the planet crosses the centre
LIMB = 6  # shifts of u1, u2 for FGS1, for AIRS-CH0, and of AIRS-CH0 along the spectrum
FIXED = ORBIT + LIMB
TIMES = 2  # mid-transit time of AIRS-CH0 and FGS1 clock minus AIRS-CH0 clock [h]
OFFSETS = 3  # depth of this visit minus the planet's: FGS1, AIRS-CH0, along its spectrum
LOCAL = 7  # of one wavelength: depth, ln P, ln a, b^2, mid-transit time, u1, u2


@dataclass(frozen=True)
class Layout:
    """Where the shared parameters of a planet with V visits stand; I x J drift terms."""

    visits: int
    time_order: int  # I: highest Chebyshev order in time
    wavelength_terms: int  # J: orders 0..J-1 along the spectrum

    @property
    def drift_terms(self) -> int:
        """Drift coefficients of one visit, FGS1 and AIRS-CH0."""
        return self.time_order * (1 + self.wavelength_terms)

    @property
    def size(self) -> int:
        """Number of shared parameters."""
        return FIXED + self.visits * (TIMES + OFFSETS + self.drift_terms)

    def first(self, visit: int) -> int:
        """Where the parameters of a visit begin: times, offsets, drift of FGS1, of AIRS-CH0."""
        return FIXED + visit * (TIMES + OFFSETS + self.drift_terms)

    def times(self, visit: int) -> slice:
        """Mid-transit time and clock difference."""
        return slice(self.first(visit), self.first(visit) + TIMES)

    def offsets(self, visit: int) -> slice:
        """Depth offsets of FGS1, of AIRS-CH0 and of AIRS-CH0 along the spectrum."""
        return slice(self.times(visit).stop, self.times(visit).stop + OFFSETS)

    def drift(self, visit: int) -> slice:
        """FGS1 coefficients over time, then AIRS-CH0 ones, wavelength running fastest."""
        return slice(self.offsets(visit).stop, self.offsets(visit).stop + self.drift_terms)

    def split(self, shared: Float64[Tensor, "B N"], place: Float64[Tensor, " W"]) -> "Shared":
        """The vector by meaning."""
        count = len(shared)
        own = shared[:, FIXED:].reshape(count, self.visits, -1)
        mid, clock, fgs1, airs, colour = own[..., : TIMES + OFFSETS, None].unbind(-2)
        limb = shared[:, ORBIT:FIXED].reshape(count, 3, 2)
        along = limb[:, None, 1] + place[1:, None] * limb[:, None, 2]
        drift = own[..., TIMES + OFFSETS :]
        return Shared(
            orbit=shared[:, :ORBIT],
            limb=torch.cat([limb[:, :1], along], dim=1),
            mid_time_h=torch.cat([mid + clock, mid], dim=-1),
            offset=torch.cat([fgs1, airs + place[1:] * colour], dim=-1),
            drift_fgs1=drift[..., : self.time_order],
            drift_airs=drift[..., self.time_order :].unflatten(-1, (self.time_order, -1)),
        )

    def design(self, place: Float64[Tensor, " W"]) -> Float64[Tensor, "V W L N"]:
        """Derivatives of the local parameters of each wavelength by the shared ones.

        The local parameters are those of `LOCAL` and the drift T_1..T_I.
        """
        terms = chebyshev(place[1:], self.wavelength_terms - 1)
        design = torch.zeros(
            self.visits, len(place), LOCAL + self.time_order, self.size, dtype=place.dtype
        ).to(place.device)
        for visit, rows in enumerate(design):
            for i in range(ORBIT):
                rows[:, 1 + i, i] = 1.0
            mid = self.times(visit).start
            rows[:, 4, mid] = 1.0
            rows[0, 4, mid + 1] = 1.0
            for i in range(2):
                rows[0, 5 + i, ORBIT + i] = 1.0
                rows[1:, 5 + i, ORBIT + 2 + i] = 1.0
                rows[1:, 5 + i, ORBIT + 4 + i] = place[1:]
            rows[0, 0, self.offsets(visit).start] = 1.0
            rows[1:, 0, self.offsets(visit).start + 1] = 1.0
            rows[1:, 0, self.offsets(visit).start + 2] = place[1:]
            first = self.drift(visit).start
            for i in range(self.time_order):
                rows[0, LOCAL + i, first + i] = 1.0
                start = first + self.time_order + i * self.wavelength_terms
                rows[1:, LOCAL + i, start : start + self.wavelength_terms] = terms
        return design


@dataclass(frozen=True, eq=False)
class Shared:
    """The shared parameters by meaning."""

    orbit: Float64[Tensor, "B 3"]  # ln P [d], ln a [stellar radii], b^2
    limb: Float64[Tensor, "B W 2"]  # u1, u2 minus their expectation
    mid_time_h: Float64[Tensor, "B V 2"]  # on the clocks of FGS1 and of AIRS-CH0 [h]
    offset: Float64[Tensor, "B V W"]  # of the depth
    drift_fgs1: Float64[Tensor, "B V I"]
    drift_airs: Float64[Tensor, "B V I J"]
