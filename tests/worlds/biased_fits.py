"""Synthetic fits with a known bias: what a network must be able to take out."""

from dataclasses import replace

import numpy as np

from spectramind.observation import Star, TransitFit, VisitFit

PARAMETERS = (
    "semi_major_axis_rs", "impact_parameter", "u1_fgs1", "u1_airs", "t0_h_0", "clock_h_0",
)  # fmt: skip


def make_visit(rng: np.random.Generator, visit: int, depth: np.ndarray, bins: int) -> VisitFit:
    def shape(count: int) -> tuple[np.ndarray, np.ndarray]:
        time_h = (np.arange(count) + 0.5) * 7.5 / count
        return time_h, np.clip((1.6 - np.abs(time_h - 3.7)) / 0.3, 0.0, 1.0)

    time_h, coarse = shape(60)
    fine_h, fine = shape(bins)
    model = (1.0 - coarse[:, None] * depth).astype(np.float32)
    fgs1_model = (1.0 - fine * depth[0]).astype(np.float32)
    noise = rng.normal(0.0, 1e-4, model.shape).astype(np.float32)
    return VisitFit(
        visit=visit,
        time_h=time_h,
        flux=model + noise,
        model=model,
        electrons=np.full(283, 1e8, np.float32),
        fgs1_time_h=fine_h,
        fgs1_flux=fgs1_model + rng.normal(0.0, 1e-4, bins).astype(np.float32),
        fgs1_model=fgs1_model,
        fgs1_centroid=rng.normal(0.0, 0.01, (bins, 2)).astype(np.float32),
    )


def make_fit(
    planet_id: int, *, bias: float, visits: int = 1, bins: int = 150
) -> tuple[TransitFit, np.ndarray]:
    """A fit whose depths lie `bias` sigma above a flat, slightly tilted truth."""
    rng = np.random.default_rng(planet_id)
    truth = rng.uniform(0.005, 0.02) * (1.0 + 1e-3 * rng.normal() * np.linspace(-1, 1, 283))
    sigma = 1e-4 * rng.uniform(0.8, 1.2) * np.linspace(1.0, 2.0, 283)
    depth = truth + sigma * (bias + rng.normal(size=283))
    fit = TransitFit(
        planet_id=planet_id,
        depth=depth,
        sigma=sigma,
        own_sigma=sigma,
        widening=np.ones(2),
        covariance=np.diag(sigma**2),
        scale=np.ones(2),
        level_sigma=0.0,
        information=np.diag(sigma**-2.0),
        vector=sigma**-2.0 * depth,
        measured_sigma=1.5 * sigma,
        parameter_names=PARAMETERS,
        parameters=np.array([10.0, 0.3, 0.4, 0.2, 3.7, 0.0]) + rng.normal(0.0, 0.01, 6),
        parameter_covariance=np.diag(rng.uniform(0.5e-4, 1e-4, 6)),
        limb_darkening=np.column_stack([np.linspace(0.4, 0.1, 283), np.full(283, 0.2)]),
        limb_pull=np.zeros(4),
        reduced_chi2=float(rng.uniform(0.9, 1.1)),
        reasons=(),
        visits=tuple(make_visit(rng, visit, depth, bins) for visit in range(visits)),
    )
    return fit, truth


def widen(fit: TransitFit, times: float) -> TransitFit:
    """The same fit, had something spoken against it that leaves residuals as they are."""
    return replace(
        fit, sigma=times * fit.sigma, covariance=times**2 * fit.covariance,
        widening=times * fit.widening,
    )  # fmt: skip


STAR = Star(1.2, 1.1, 5900.0, 0.9, 0.0, 5.2, 10.5, 88.5)
