"""What differs between visits: times, clock, pointing, defocus, gain, levels, edge frames."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from spectramind.instrument import AIRS, FGS1, WINDOW_H, Channel, wavelength_um
from spectramind.simulate.levels import LevelChange, draw_levels
from spectramind.simulate.population import Planet, stream
from spectramind.simulate.series import averaged, correlated
from spectramind.simulate.settings import Effects, VisitConfig


@dataclass(frozen=True)
class GainDrift:
    """Polynomials of g(t, x) = 1 + A z / (max z - min z), z = (sum a tau^i)(sum b xi^j)."""

    amplitude: float  # 0 switches the drift off
    time: tuple[float, ...]
    column: tuple[float, ...]

    def gain(self, tau: Float64[np.ndarray, " T"], columns: int) -> Float64[np.ndarray, "C T"]:
        """Gain of each column at times tau in [0, 1]; columns are normalised to [0, 1].

        Source: ExoSim 2, addGainDrift (Mugnai et al. 2025); z is scaled, not centred.
        """
        xi = np.linspace(0.0, 1.0, columns)
        along = np.polynomial.polynomial.polyval(tau, self.time)
        across = np.polynomial.polynomial.polyval(xi, self.column)
        z = across[:, None] * along[None, :]
        if self.amplitude == 0.0:
            return np.ones_like(z)
        return 1.0 + self.amplitude * z / (z.max() - z.min())


@dataclass(frozen=True, eq=False)
class Visit:
    """Truth of one visit; pointing series at the written cadence, in pixels from nominal."""

    visit: int
    mid_time_h: float  # on the FGS1 clock
    clock_offset_s: float  # AIRS time stamps run behind FGS1 by this
    partial: bool
    dilution: tuple[float, float]  # share of the depth lost at the first and last wavelength
    drift: dict[str, GainDrift]  # by channel name
    edge: dict[str, tuple[float, float]]  # share of light in the first and last exposure
    levels: tuple[LevelChange, ...]
    modes: dict[str, Float32[np.ndarray, "6 T"]]  # see pointing_modes

    def pointing(self, channel: Channel) -> Float32[np.ndarray, "2 T"]:
        """Row and column offset of the star [pixel]."""
        return self.modes[channel.name][1:3]

    def undiluted(self) -> Float64[np.ndarray, " 283"]:
        """Share of the depth that is seen: what is lost is a straight line in ln wavelength."""
        first, last = self.dilution
        along = np.log(wavelength_um() / wavelength_um()[0])
        return 1.0 - (first + (last - first) * along / along[-1])


def draw_visit(
    seed: int, planet: Planet, visit: int, merged: int, effects: Effects, config: VisitConfig
) -> Visit:
    """Draw one visit; each quantity has its own random stream, whatever the switches say."""

    def rng(name: str) -> np.random.Generator:
        return stream(seed, planet.split, planet.index, name, visit)

    partial, mid_time = _mid_time(rng("timing"), planet, effects, config)
    offset = float(config.clock_offset_s * rng("clock").normal())
    first, last = rng("dilution").uniform(*config.dilution, 2)
    drifts, edges = {}, {}
    for channel in (FGS1, AIRS):
        drifts[channel.name] = _drift(rng(f"drift {channel.name}"), effects, config)
        edges[channel.name] = _edge(rng(f"edge {channel.name}"), effects, config)
    return Visit(
        visit=visit,
        mid_time_h=mid_time,
        clock_offset_s=offset if effects.clock_offset else 0.0,
        partial=partial,
        dilution=(float(first), float(last)) if effects.visit_dilution else (0.0, 0.0),
        drift=drifts,
        edge=edges,
        levels=draw_levels(rng, merged, effects, config),
        modes=pointing_modes(rng("pointing"), merged, effects, config),
    )


def _mid_time(
    rng: np.random.Generator, planet: Planet, effects: Effects, config: VisitConfig
) -> tuple[bool, float]:
    is_partial = rng.random() < config.partial_probability and effects.partial_transits
    side, offset = rng.choice([-1.0, 1.0]), rng.uniform(-1.0, 1.0)
    outside = rng.uniform(*config.partial_share) * planet.duration_h
    slack = (WINDOW_H - planet.duration_h) / 2.0
    if is_partial:
        return True, float(WINDOW_H / 2.0 + side * (slack + outside))
    mid_time = WINDOW_H / 2.0 + float(offset) * min(
        config.mid_time_scatter_h, max(slack, 0.0) / 2.0
    )
    return planet.is_partial(mid_time), mid_time


def _drift(rng: np.random.Generator, effects: Effects, config: VisitConfig) -> GainDrift:
    time = rng.uniform(-1.0, 1.0, config.gain_drift_time_order + 1)
    column = rng.uniform(-1.0, 1.0, config.gain_drift_column_order + 1)
    low, high = config.gain_drift_amplitude
    amplitude = low * (high / low) ** rng.random()
    return GainDrift(
        float(amplitude) if effects.gain_drift else 0.0,
        tuple(time.tolist()),
        tuple(column.tolist()),
    )


def _edge(rng: np.random.Generator, effects: Effects, config: VisitConfig) -> tuple[float, float]:
    faulty = rng.random(2) < config.edge_frame_probability
    loss = rng.uniform(*config.edge_frame_loss, 2)
    share = np.where(faulty & effects.bad_edge_frames, 1.0 - loss, 1.0)
    return float(share[0]), float(share[1])


def pointing_modes(
    rng: np.random.Generator, merged: int, effects: Effects, config: VisitConfig
) -> dict[str, Float32[np.ndarray, "6 T"]]:
    """Series 1, y, x, y^2/2, x^2/2 and defocus of one pointing history, by channel.

    Drawn at the full FGS1 cadence, then averaged over the exposures of each channel.
    """
    pairs = FGS1.pairs
    jitter = [config.jitter_rms_pixel * correlated(rng, config.jitter_time_s) for _ in range(2)]
    white = config.jitter_rms_pixel * rng.standard_normal((2, pairs))
    y, x = (np.array(jitter) + white) * np.sqrt(0.5) * effects.jitter
    width = config.defocus_rms * correlated(rng, config.defocus_time_s) * effects.defocus
    full = np.stack([np.ones(pairs), y, x, 0.5 * y**2, 0.5 * x**2, width])
    return {
        channel.name: averaged(full, channel, merged).astype(np.float32)
        for channel in (FGS1, AIRS)
    }


def stamps_h(channel: Channel, merged: int) -> Float64[np.ndarray, " T"]:
    """Middle of each merged read pair on the channel's own clock [h]."""
    native = channel.cadence_s * np.arange(channel.pairs) + 0.15
    return native.reshape(-1, merged).mean(1) / 3600.0
