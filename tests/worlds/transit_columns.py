"""Small batches for the tests of the transit engine, and an independent model of them."""

import numpy as np
import torch
from numpy.polynomial.chebyshev import chebvander
from torch import Tensor

from spectramind.transit.columns import Columns
from spectramind.transit.flux import transit_flux
from spectramind.transit.linear import Linear
from spectramind.transit.parameters import Layout
from spectramind.transit.white import SharedPrior

WINDOW_H = 7.5


def small_batch(rng, *, planets=2, visits=2, columns=5, bins=40, samples=3, noise=1e-4) -> Columns:
    """Times, weights and limb darkening; `log_flux` is zero."""
    middle = (np.arange(bins) + 0.5) / bins * WINDOW_H
    within = ((np.arange(samples) + 0.5) / samples - 0.5) * WINDOW_H / bins
    time = np.broadcast_to((middle[:, None] + within), (planets, visits, 2, bins, samples)).copy()
    time[:, :, 0] += 0.01  # the clock's own bins
    first, last = middle[0], middle[-1]
    tau = 2.0 * (time.mean(-1) - first) / (last - first) - 1.0
    weight = rng.uniform(0.5, 2.0, (planets, visits, columns, bins)) / noise**2
    place = np.append(0.0, np.linspace(-1.0, 1.0, columns - 1))
    limb = np.broadcast_to([0.2, 0.25], (planets, columns, 2)) + 0.03 * rng.normal(
        size=(planets, columns, 2)
    )
    arrays = (time, tau, np.zeros_like(weight), weight, place, limb)
    return Columns(*(torch.tensor(array) for array in arrays))


def truth(rng, layout: Layout, *, planets=2, columns=5, drift=0.0):
    """Depths and shared parameters of transits near the middle of the window."""
    depth = rng.uniform(0.01, 0.012, (planets, 1)) * rng.uniform(0.95, 1.05, (planets, columns))
    shared = np.zeros((planets, layout.size))
    shared[:, 0] = np.log(rng.uniform(3.5, 4.5, planets))
    shared[:, 1] = np.log(rng.uniform(9.0, 10.0, planets))
    shared[:, 2] = rng.uniform(0.1, 0.3, planets)
    shared[:, 3:9] = 0.02 * rng.normal(size=(planets, 6))
    for visit in range(layout.visits):
        start = layout.times(visit).start
        shared[:, start] = rng.uniform(3.3, 4.2, planets)
        shared[:, start + 1] = 0.01 * rng.normal(size=planets)
        own = layout.drift(visit)
        shared[:, own] = drift * rng.normal(size=(planets, own.stop - own.start))
    return torch.tensor(depth), torch.tensor(shared)


def reference_curves(batch: Columns, layout: Layout, depth, shared):
    """log(transit) + log(drift), written out parameter by parameter, without any table.

    The depth offset of a visit enters the depth itself.
    """
    planets, visits, columns, bins = batch.log_flux.shape
    result = torch.zeros(planets, visits, columns, bins, dtype=torch.float64)
    for b in range(planets):
        period, axis, impact2 = shared[b, 0].exp(), shared[b, 1].exp(), shared[b, 2]
        for v in range(visits):
            own = shared[b, layout.first(v) :]
            mid, clock, offsets = own[0], own[1], own[2:5]
            drift = own[5 : 5 + layout.drift_terms]
            orders, terms = layout.time_order, layout.wavelength_terms
            for w in range(columns):
                channel, limb = (0, shared[b, 3:5]) if w == 0 else (1, shared[b, 5:7])
                offset = offsets[channel]
                if w > 0:
                    offset = offset + batch.place[w] * offsets[2]
                    limb = limb + batch.place[w] * shared[b, 7:9]
                u1, u2 = batch.limb[b, w] + limb
                t = batch.time_h[b, v, channel] - mid - (clock if w == 0 else 0.0)
                phase = 2.0 * np.pi * t / (24.0 * period)
                z = (axis**2 * phase.sin() ** 2 + impact2 * phase.cos() ** 2).sqrt()
                k = (depth[b, w] + offset).sqrt()
                flux = transit_flux(z, k, u1, u2).mean(-1)
                in_time = torch.tensor(chebvander(batch.tau[b, v, channel].numpy(), orders)).T[1:]
                gain = torch.ones(bins, dtype=torch.float64)
                for i in range(orders):
                    if w == 0:
                        gain = gain + drift[i] * in_time[i]
                        continue
                    for j in range(terms):
                        along = np.cos(j * np.arccos(float(batch.place[w])))
                        gain = gain + drift[orders + i * terms + j] * in_time[i] * along
                result[b, v, w] = flux.log() + gain.log()
    return result


def with_flux(batch: Columns, log_flux) -> Columns:
    return Columns(batch.time_h, batch.tau, log_flux, batch.weight, batch.place, batch.limb)


def own_light_curves(
    batch: Columns, layout: Layout, depth, shared, *, star: Tensor | float = 0.0
) -> Columns:
    """The batch with noise-free light curves of `Linear`'s own model, with levels of the star."""
    curves = Linear(batch, layout).curves(depth, shared)
    return with_flux(batch, curves.log_transit + curves.log_gain + star)


def wide_prior(shared, layout: Layout) -> SharedPrior:
    """Prior about `shared` as wide as the settings' one, times wide open."""
    scatter = np.full(layout.size, 0.01)
    scatter[:3], scatter[3:9] = (0.01, 0.1, 0.1), 0.1
    for visit in range(layout.visits):
        scatter[layout.times(visit)] = (24.0, 0.01)
        scatter[layout.offsets(visit)] = 2e-5
    precision = torch.diag(torch.tensor(scatter) ** -2.0)
    return SharedPrior(shared.clone(), precision.expand(len(shared), -1, -1).clone())
