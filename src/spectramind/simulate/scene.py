"""The noiseless star of one visit in each detector column: light times transit times gain."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from spectramind.instrument import AIRS, FGS1, SCORED_COLUMNS, Channel
from spectramind.simulate.population import Planet
from spectramind.simulate.star import StarLight, crossing_bump, separation, transit_flux
from spectramind.simulate.visit import Visit, stamps_h

_SUBSTEPS = 4  # at most so many evaluations of the transit within one merged exposure


@dataclass(frozen=True, eq=False)
class ChannelScene:
    """What reaches one detector; C columns, T read pairs."""

    channel: Channel
    time_h: Float64[np.ndarray, " T"]  # stamps, on the channel's clock [h]
    transit: Float64[np.ndarray, "T W"]  # relative flux; 1 (FGS1) or 282 wavelengths
    star_e_s: Float32[np.ndarray, "C T"]  # drift and edge faults included [e-/s]
    drift: Float32[np.ndarray, "C T"]  # gain, edge faults included
    modes: Float32[np.ndarray, "6 T"]


def build_scene(
    channel: Channel, planet: Planet, light: StarLight, depth: Float64[np.ndarray, " 283"],
    visit: Visit, merged: int,
) -> ChannelScene:  # fmt: skip
    """Light of one visit in one channel."""
    time = stamps_h(channel, merged)
    transit = mean_transit(channel, planet, light, depth, visit, merged)
    span = time[-1] - time[0]
    tau = (time - time[0]) / span if span > 0 else np.zeros(1)
    drift = visit.drift[channel.name].gain(tau, channel.columns)
    for change in visit.levels:
        drift *= change.gain(channel)
    drift[:, 0] *= visit.edge[channel.name][0]
    drift[:, -1] *= visit.edge[channel.name][1]
    if channel == FGS1:
        bright = np.full((channel.columns, 1), light.fgs1_e_s) * transit.T
    else:
        bright = light.airs_e_s[:, None] * on_detector(transit).T
    return ChannelScene(
        channel=channel,
        time_h=time,
        transit=transit,
        star_e_s=(bright * drift).astype(np.float32),
        drift=drift.astype(np.float32),
        modes=visit.modes[channel.name],
    )


def mean_transit(
    channel: Channel, planet: Planet, light: StarLight, depth: Float64[np.ndarray, " 283"],
    visit: Visit, merged: int,
) -> Float64[np.ndarray, "T W"]:  # fmt: skip
    """Relative flux at the channel's wavelengths, averaged over each merged exposure."""
    chosen = slice(0, 1) if channel == FGS1 else slice(1, None)
    offset_h = visit.clock_offset_s / 3600.0 if channel == AIRS else 0.0
    steps = min(merged, _SUBSTEPS)
    within = ((np.arange(steps) + 0.5) / steps - 0.5) * merged * channel.cadence_s / 3600.0
    time = (stamps_h(channel, merged)[:, None] + within[None, :]).ravel() + offset_h
    seen = depth * light.contamination * visit.undiluted()
    z = separation(time, visit.mid_time_h, planet.star)
    flux = transit_flux(z, seen[chosen], light.limb_darkening.at(chosen))
    if light.crossing_share > 0.0:
        bump = crossing_bump(time, visit.mid_time_h, planet.duration_h, light, seen)
        flux = flux + bump[:, chosen]
    return flux.reshape(-1, steps, flux.shape[1]).mean(1)


def on_detector(scored: Float64[np.ndarray, "T 282"]) -> Float64[np.ndarray, "T 356"]:
    """Spread the scored wavelengths over the detector; columns outside repeat the nearest."""
    before, after = SCORED_COLUMNS.start, AIRS.columns - SCORED_COLUMNS.stop
    return np.pad(scored[:, ::-1], ((0, 0), (before, after)), mode="edge")
