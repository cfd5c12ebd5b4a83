"""Changes of the level in time that no polynomial follows: ramp, correlated noise, steps."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from spectramind.instrument import AIRS, FGS1, WINDOW_H, Channel
from spectramind.simulate.series import averaged, correlated
from spectramind.simulate.settings import Effects, Range, VisitConfig

_CHANNELS = (FGS1, AIRS)


@dataclass(frozen=True, eq=False)
class LevelChange:
    """One cause: gain 1 + sum_k colour_k(column) series_k(t), K terms, by channel name."""

    cause: str  # the switch of `simulate.effects`
    series: dict[str, Float64[np.ndarray, "K T"]]  # means over the exposures
    colour: dict[str, Float64[np.ndarray, "K C"]]

    def gain(self, channel: Channel) -> Float64[np.ndarray, "C T"]:
        """Gain of each column in each exposure."""
        return 1.0 + self.colour[channel.name].T @ self.series[channel.name]


def draw_levels(
    rng: Callable[[str], np.random.Generator], merged: int, effects: Effects, config: VisitConfig
) -> tuple[LevelChange, ...]:
    """Changes of one visit whose switch is on.

    Args:
        rng: Random stream of a name; each cause and channel has its own.
        merged: Read pairs of an exposure.
        effects: Switches.
        config: Ranges.
    """
    drawn = []
    if effects.ramp:
        drawn.append(_ramp(rng, merged, config))
    if effects.red_noise:
        drawn.append(_red_noise(rng("red noise"), merged, config))
    if effects.steps:
        drawn.append(_steps(rng, merged, config))
    return tuple(drawn)


def _ramp(
    rng: Callable[[str], np.random.Generator], merged: int, config: VisitConfig
) -> LevelChange:
    """A exp(-t/tau) from the start of the visit; A has either sign, each channel its own ramp."""
    series, colour = {}, {}
    for channel in _CHANNELS:
        own = rng(f"ramp {channel.name}")
        time_h = _log_uniform(own, config.ramp_time_h)
        full = np.exp(-_time_h() / time_h)[None, :]
        series[channel.name] = averaged(full, channel, merged)
        colour[channel.name] = _coloured(own, 1, config.ramp_amplitude, channel, config)
    return LevelChange("ramp", series, colour)


def _steps(
    rng: Callable[[str], np.random.Generator], merged: int, config: VisitConfig
) -> LevelChange:
    """The level changes at once and for good, in both channels at the same times."""
    shared = rng("steps")
    fewest, most = config.step_count
    times_h = shared.uniform(0.0, WINDOW_H, int(shared.integers(fewest, most + 1)))
    full = (_time_h()[None, :] >= times_h[:, None]).astype(np.float64)
    series = {channel.name: averaged(full, channel, merged) for channel in _CHANNELS}
    colour = {
        channel.name: _coloured(
            rng(f"steps {channel.name}"), len(times_h), config.step_size, channel, config
        )
        for channel in _CHANNELS
    }
    return LevelChange("steps", series, colour)


def _red_noise(rng: np.random.Generator, merged: int, config: VisitConfig) -> LevelChange:
    """Ornstein-Uhlenbeck noise of the same rms in all columns.

    Both channels share one series. FGS1 adds one of its own, and AIRS-CH0 cos(p) s1 + sin(p) s2
    with a phase p that grows along the columns: neighbours vary alike, the ends with the
    correlation cos(p_last - p_first).
    """
    rms, time_h = (_log_uniform(rng, r) for r in (config.red_noise_rms, config.red_noise_time_h))
    share = rng.uniform(*config.red_noise_common_share)
    turn = rng.uniform(*config.red_noise_turn_rad)
    full = np.stack([correlated(rng, 3600.0 * time_h) for _ in range(4)])
    phase = turn * np.linspace(0.0, 1.0, AIRS.columns)
    none, common = np.zeros(AIRS.columns), np.full(AIRS.columns, np.sqrt(share))
    own = rms * np.sqrt(1.0 - share)
    airs = np.stack([rms * common, own * np.cos(phase), own * np.sin(phase), none])
    fgs1 = np.array([rms * np.sqrt(share), 0.0, 0.0, own])[:, None]
    return LevelChange(
        "red_noise",
        {channel.name: averaged(full, channel, merged) for channel in _CHANNELS},
        {FGS1.name: np.repeat(fgs1, FGS1.columns, axis=1), AIRS.name: airs},
    )


def _coloured(
    rng: np.random.Generator, count: int, size: Range, channel: Channel, config: VisitConfig
) -> Float64[np.ndarray, "K C"]:
    """Sizes of either sign, log-uniform; on AIRS-CH0 they change linearly along the columns."""
    sizes = np.array([_log_uniform(rng, size) for _ in range(count)])
    sizes *= rng.choice([-1.0, 1.0], count)
    slope = rng.uniform(-config.level_colour, config.level_colour, count) * (channel == AIRS)
    along = np.linspace(-1.0, 1.0, channel.columns)
    return sizes[:, None] * (1.0 + slope[:, None] * along[None, :])


def _log_uniform(rng: np.random.Generator, limits: Range) -> float:
    low, high = limits
    return float(low * (high / low) ** rng.random())


def _time_h() -> Float64[np.ndarray, " N"]:
    """Time of each read pair of FGS1 from the start of the visit [h]."""
    return FGS1.cadence_s * np.arange(FGS1.pairs) / 3600.0
