"""Light curves for the tests of the fit, made with batman and none of the fit's own code.

Limb darkening follows a four-parameter law, gain drifts as in ExoSim 2, noise is that of two
2025 planets (photons and read noise); merged exposures stand for `simulate.cadence_factor`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from spectramind.instrument import wavelength_um
from spectramind.observation import LightCurves, Star, TransitFit
from spectramind.transit.fit import fit_planets
from spectramind.transit.priors import first_priors
from spectramind.transit.settings import TransitConfig
from spectramind.transit.start import prepare

CONFIG = Path(__file__).parents[2] / "configs" / "transit" / "default.yaml"


def default_config(**changes) -> TransitConfig:
    values = yaml.safe_load(CONFIG.read_text())
    for path, value in changes.items():
        group, _, key = path.partition("__")
        if key:
            values[group][key] = value
        else:
            values[group] = value
    return TransitConfig(**values)


def fit_alone(curves, star, config, priors=None) -> TransitFit:
    """Fit of one planet, by the settings' priors unless others are given."""
    planet = prepare(curves, star, config)
    (fit,) = fit_planets([planet], first_priors(config) if priors is None else priors, config)
    return fit


def level_error(fit: TransitFit, depth: np.ndarray) -> float:
    """Error of the AIRS-CH0 mean depth in units of its own sigma."""
    sigma = np.sqrt(fit.covariance[1:, 1:].mean())
    return float((fit.depth - depth)[1:].mean() / sigma)


def named(fit: TransitFit) -> dict[str, float]:
    return dict(zip(fit.parameter_names, fit.parameters.tolist(), strict=True))


@dataclass
class World:
    """Truth of one synthetic planet."""

    star: Star  # the true one
    table: Star  # as in the star table
    depth: np.ndarray
    t0_h: float
    clock_h: float
    seed: int


def draw_world(seed: int, *, partial: bool = False) -> World:
    rng = np.random.default_rng(seed)
    period = rng.uniform(2.9, 7.5)
    a = np.clip(10.5 * (period / 5.2) ** (2 / 3) * rng.lognormal(0.0, 0.2), 5.0, 20.0)
    b = min(abs(rng.normal(0.0, 0.35)), 0.85)
    temperature = rng.normal(5850.0, 400.0)
    star = _star(period, a, b, temperature)
    table = _star(
        period * (1 + 0.01 * rng.normal()),
        a * (1 + 0.06 * rng.normal()),
        abs(b + 0.1 * rng.normal()),
        temperature,
    )
    base = np.exp(rng.normal(np.log(0.012), 0.5))
    x = np.linspace(0.0, 1.0, 282)
    bumps = sum(
        rng.uniform(0, 200e-6) * np.exp(-0.5 * ((x - rng.uniform()) / rng.uniform(0.02, 0.1)) ** 2)
        for _ in range(4)
    )
    depth = np.concatenate([[base + rng.normal(0, 200e-6)], base + bumps])
    t0 = rng.choice([0.6, 6.9]) if partial else rng.uniform(3.2, 4.3)
    return World(star, table, depth, t0, rng.normal(0, 10.0 / 3600.0), seed)


def _star(period, a, b, temperature):
    return Star(1.2, 1.1, temperature, 0.9, 0.0, period, a, np.degrees(np.arccos(min(b / a, 1.0))))


def nonlinear_law(wavelength: float, temperature: float) -> list[float]:
    """Four-parameter coefficients that fall with wavelength and temperature."""
    t = (temperature - 5800.0) / 1000.0
    if wavelength < 1.0:
        return [0.55 + 0.05 * t, 0.10, 0.28 - 0.25 * t, -0.20 + 0.05 * t]
    s = 2.0 / wavelength
    return [0.60 * s**0.4, -0.40 * s, 0.35 * s, -0.13 * s]


def batman_flux(time_h, world, depth, wavelength, *, law="nonlinear", u=None):
    import batman

    p = batman.TransitParams()
    p.t0, p.per, p.a = 0.0, world.star.period_d, world.star.semi_major_axis_rs
    p.inc, p.ecc, p.w, p.rp = world.star.inclination_deg, 0.0, 90.0, float(np.sqrt(depth))
    p.limb_dark = law
    p.u = list((u or nonlinear_law)(wavelength, world.star.temperature_k))
    t = np.ascontiguousarray(time_h.ravel() / 24.0)
    options = {} if law == "quadratic" else {"fac": 4e-3}
    flux = batman.TransitModel(p, t, **options).light_curve(p)
    return np.asarray(flux).reshape(time_h.shape)


def drift(rng, tau, columns, amplitude):
    a, b = rng.uniform(-1, 1, 6), rng.uniform(-1, 1, 6)
    z = np.outer(np.polyval(a, tau), np.polyval(b, np.linspace(0, 1, columns)))
    return 1.0 + amplitude * z / (z.max() - z.min())


def make_curves(
    world: World, *, factor=45, visit=0, noise=1.0, drift_amplitude=0.02, law="nonlinear", u=None,
    t0_h=None,
) -> LightCurves:  # fmt: skip
    rng = np.random.default_rng([world.seed, visit])
    t0 = world.t0_h if t0_h is None else t0_h
    wavelength = wavelength_um()
    airs_t = (np.arange(5625 // factor) + 0.5) * 4.8 * factor / 3600.0
    fgs1_t = (np.arange(67500 // factor) + 0.5) * 0.4 * factor / 3600.0
    parts = max(1, factor // 15)
    spread = (np.arange(parts) + 0.5) / parts - 0.5
    samples = airs_t[:, None] + spread * 4.8 * factor / 3600.0 - t0
    nodes = np.linspace(0, 281, 6).astype(int)
    levels = np.array([world.depth[1:].min() * 0.999, world.depth[1:].max() * 1.001])
    transit = np.empty((airs_t.size, 282))
    grid = np.empty((nodes.size, levels.size, airs_t.size))
    for i, node in enumerate(nodes):
        for j, level in enumerate(levels):
            grid[i, j] = batman_flux(
                samples, world, level, wavelength[1 + node], law=law, u=u
            ).mean(-1)
    x = (world.depth[1:] - levels[0]) / (levels[1] - levels[0])
    for w in range(282):
        i = min(np.searchsorted(nodes, w, side="right") - 1, nodes.size - 2)
        share = (w - nodes[i]) / (nodes[i + 1] - nodes[i])
        rows = (1 - share) * grid[i] + share * grid[i + 1]
        transit[:, w] = (1 - x[w]) * rows[0] + x[w] * rows[1]
    level = 130e3 * np.exp(-3.3 * np.linspace(0, 1, 282) ** 1.2)
    airs = level * transit * drift(rng, airs_t / 7.5, 282, drift_amplitude)
    table_t = np.linspace(0.0, 7.5, 1501)
    table = batman_flux(table_t - t0 - world.clock_h, world, world.depth[0], 0.7, law=law, u=u)
    fgs1 = 260e3 * np.interp(fgs1_t, table_t, table)
    fgs1 = fgs1 * drift(rng, fgs1_t / 7.5, 32, drift_amplitude)[:, 16]
    airs_noise = np.sqrt((airs * 1.1 + 32 * 190.0) / factor)
    airs = airs + noise * rng.normal(size=airs.shape) * airs_noise
    fgs1 = fgs1 + noise * rng.normal(size=fgs1.shape) * fgs1 * 0.0021 / np.sqrt(factor)
    return LightCurves(
        planet_id=1000 + world.seed,
        visit=visit,
        airs_time_h=airs_t,
        airs_e=airs.astype(np.float32),
        airs_centroid=np.full(airs_t.size, 15.5, dtype=np.float32),
        fgs1_time_h=fgs1_t,
        fgs1_e=fgs1.astype(np.float32),
        fgs1_centroid=rng.normal(16.0, 0.01, (fgs1_t.size, 2)).astype(np.float32),
    )
