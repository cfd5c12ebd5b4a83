"""White-light fit: FGS1 and AIRS-CH0 of all visits share one orbit.

Each of the 2 V series is modelled as

    flux(t) = [c_0 + sum_i c_i T_i(tau)] * [1 - hidden(z(t), k, u1, u2)]

with Gaussian priors on the orbit (star table), on limb darkening, on the clock difference and on
the drift coefficients c_1, c_2, ...; radius ratio and mid-transit time are free per visit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int
from scipy.ndimage import median_filter
from scipy.optimize import OptimizeResult, least_squares

from spectramind.instrument import wavelength_um
from spectramind.observation import Star
from spectramind.transit.binning import BinnedVisit
from spectramind.transit.flux import covered_gradients, covered_integrals, hidden_share, separation
from spectramind.transit.limb_darkening import quadratic_coefficients
from spectramind.transit.noise import Noise, estimate_noise
from spectramind.transit.settings import TransitConfig

ORBIT = ("period_d", "semi_major_axis_rs", "impact_parameter")
LIMB = ("u1_fgs1", "u2_fgs1", "u1_airs", "u2_airs")
VISIT = ("t0_h", "clock_h", "k_fgs1", "k_airs")
_SHARED = len(ORBIT) + len(LIMB)
_ROUNDS = 4  # fits with re-estimated noise and outliers
_FIRST_STEPS, _STEPS = 6, 60  # model evaluations of a start, of the final fit
_MAD = 1.4826
_FREE_T0_H, _FREE_K, _FREE_LEVEL = 24.0, 1.0, 1.0  # so wide that a prior only keeps a rank


@dataclass(frozen=True, eq=False)
class Prior:
    """Expected parameters of a star's planet: Gaussian centre and scatter."""

    centre: Float64[np.ndarray, " S"]  # in the order of ORBIT + LIMB
    scatter: Float64[np.ndarray, " S"]
    limb_darkening: Float64[np.ndarray, "283 2"]  # u1, u2 at each wavelength


@dataclass(frozen=True, eq=False)
class Series:
    """White light of one channel in one visit, and where its parameters stand."""

    time_h: Float64[np.ndarray, "T M"]  # M samples within each bin
    flux: Float64[np.ndarray, " T"]
    basis: Float64[np.ndarray, "T N"]  # Chebyshev polynomials of time, the first is 1
    noise: Noise
    used: Bool[np.ndarray, " T"]
    whitener: Float64[np.ndarray, "U T"]  # turns the noise of the used bins into unit noise
    limb: Int[np.ndarray, " 2"]  # columns of u1, u2
    clock: Int[np.ndarray, " C"]  # columns whose sum is the mid-transit time
    k: int
    baseline: slice


@dataclass(frozen=True, eq=False)
class WhiteFit:
    """Best parameters, their covariance, and what the residuals say."""

    names: tuple[str, ...]
    theta: Float64[np.ndarray, " K"]
    covariance: Float64[np.ndarray, "K K"]
    prior: Prior
    series: tuple[Series, ...]  # FGS1 and AIRS-CH0 of each visit in turn
    reduced_chi2: float  # against the noise measured from differences in time
    bounded: tuple[str, ...]  # parameters that ended at a bound

    def value(self, name: str) -> float:
        """One parameter by name."""
        return float(self.theta[self.names.index(name)])

    def columns(self, names: Sequence[str]) -> list[int]:
        """Where parameters stand in `theta`."""
        return [self.names.index(name) for name in names]

    def separation(
        self, series: Series, time_h: Float64[np.ndarray, "T M"]
    ) -> Float64[np.ndarray, "T M"]:
        """Separation of planet and star at times of a series' channel and visit."""
        return _separation(self.theta, series, time_h)

    def hidden(
        self, series: Series, time_h: Float64[np.ndarray, "T M"]
    ) -> Float64[np.ndarray, " T"]:
        """Share of the light that the planet hides, averaged over the M samples."""
        return _hidden(self.theta, series, time_h)

    def model(self, series: Series) -> Float64[np.ndarray, " T"]:
        """Baseline times transit at the bins of a series."""
        baseline = series.basis @ self.theta[series.baseline]
        return baseline * (1.0 - self.hidden(series, series.time_h))


def star_prior(
    star: Star | None, white_share: Float64[np.ndarray, " 282"], config: TransitConfig
) -> Prior:
    """Prior from the star table, or a wide one for an unknown star."""
    unknown = config.unknown_star
    scatter = config.prior
    if star is None:
        temperature, widening = unknown.temperature_k, unknown.widening
        orbit = [unknown.period_d, unknown.semi_major_axis_rs, unknown.impact_parameter]
    else:
        temperature, widening = star.temperature_k, 1.0
        impact = star.semi_major_axis_rs * np.cos(np.radians(star.inclination_deg))
        orbit = [star.period_d, star.semi_major_axis_rs, float(impact)]
    limb = quadratic_coefficients(temperature, wavelength_um())
    centre = np.array([*orbit, *limb[0], *(white_share @ limb[1:])])
    width = [
        scatter.period * orbit[0],
        scatter.semi_major_axis * orbit[1],
        scatter.impact_parameter,
        *[scatter.limb_darkening] * 4,
    ]
    return Prior(centre, widening * np.array(width), limb)


def fit_white(visits: Sequence[BinnedVisit], prior: Prior, config: TransitConfig) -> WhiteFit:
    """Fit the white light of all visits: several starts, then outliers and noise in turn."""
    problem = _Problem(visits, prior, config)
    starts = [problem.solve(start, _FIRST_STEPS).x for start in _starts(visits, prior, problem)]
    costs = [float(np.sum(problem.residuals(start) ** 2)) for start in starts]
    theta = starts[int(np.argmin(costs))]
    measured = [series.noise.sigma for series in problem.series]
    for _ in range(_ROUNDS):
        result = problem.solve(theta, _STEPS)
        theta, before = result.x, problem.series
        problem.series = _reweighted(problem, theta, measured)
        if all(
            np.array_equal(a.used, b.used) for a, b in zip(before, problem.series, strict=True)
        ):
            break
    result = problem.solve(theta, _STEPS)
    return _summarise(problem, result, measured)


class _Problem:
    """Residuals and Jacobian of the joint fit as functions of one parameter vector."""

    def __init__(self, visits: Sequence[BinnedVisit], prior: Prior, config: TransitConfig) -> None:
        self.config, self.prior = config, prior
        order = len(config.baseline.scatter)
        names, centre, scatter = [*ORBIT, *LIMB], [*prior.centre], [*prior.scatter]
        lower = [0.05, 1.2, -2.0, -0.5, -0.5, -0.5, -0.5]
        upper = [1e3, 200.0, 2.0, 1.2, 1.2, 1.2, 1.2]
        margin = config.scan.margin_h + 1.0
        for visit in visits:
            names += [f"{name}_{visit.visit}" for name in VISIT]
            centre += [float(visit.airs_time_h.mean()), 0.0, 0.1, 0.1]
            scatter += [_FREE_T0_H, config.prior.clock_s / 3600.0, _FREE_K, _FREE_K]
            lower += [float(visit.airs_time_h[0]) - margin, -0.5, 1e-4, 1e-4]
            upper += [float(visit.airs_time_h[-1]) + margin, 0.5, 0.5, 0.5]
        self.physical = len(names)
        for visit in visits:
            for channel in ("fgs1", "airs"):
                names += [f"{channel}_c{i}_{visit.visit}" for i in range(order + 1)]
                centre += [1.0] + [0.0] * order
                scatter += [_FREE_LEVEL, *config.baseline.scatter]
                lower += [0.5] + [-1.0] * order
                upper += [2.0] + [1.0] * order
        self.names = tuple(names)
        self.centre, self.scatter = np.array(centre), np.array(scatter)
        self.bounds = (np.array(lower), np.array(upper))
        self.series = tuple(
            self._series(visit, number, channel, order)
            for number, visit in enumerate(visits)
            for channel in range(2)
        )

    def _series(self, visit: BinnedVisit, number: int, channel: int, order: int) -> Series:
        own = _SHARED + number * len(VISIT)
        first = self.physical + (2 * number + channel) * (order + 1)
        time = visit.airs_time_h if channel else visit.fgs1_time_h
        centres = visit.scaled(time)
        flux = visit.airs_white if channel else visit.fgs1
        noise = Noise(visit.airs_noise if channel else visit.fgs1_noise, 0.0, 1.0)
        used = np.abs(flux - without_spikes(flux)) <= self.config.outlier_sigma * noise.sigma
        return Series(
            time_h=sample_times(time, visit.width_h, self.config.samples_a_bin),
            flux=flux,
            basis=np.polynomial.chebyshev.chebvander(centres, order),
            noise=noise,
            used=used,
            whitener=_whitener(noise, time, used),
            limb=len(ORBIT) + 2 * channel + np.arange(2),
            clock=np.array([own]) if channel else np.array([own, own + 1]),
            k=own + (3 if channel else 2),
            baseline=slice(first, first + order + 1),
        )

    def solve(self, theta: Float64[np.ndarray, " K"], steps: int) -> OptimizeResult:
        """Least squares from `theta`, in at most `steps` evaluations."""
        inside = np.clip(theta, self.bounds[0] + 1e-9, self.bounds[1] - 1e-9)
        return least_squares(
            self.residuals, inside, jac=self.jacobian, bounds=self.bounds,  # pyright: ignore[reportArgumentType]
            x_scale="jac", max_nfev=steps, xtol=1e-9, ftol=1e-9, gtol=1e-9,
        )  # fmt: skip

    def residuals(self, theta: Float64[np.ndarray, " K"]) -> Float64[np.ndarray, " R"]:
        """Model minus flux in units of the noise, then parameters minus priors."""
        data = [
            series.whitener @ (self.model(theta, series) - series.flux) for series in self.series
        ]
        return np.concatenate([*data, (theta - self.centre) / self.scatter])

    def jacobian(self, theta: Float64[np.ndarray, " K"]) -> Float64[np.ndarray, "R K"]:
        """Derivatives of `residuals`."""
        data = [series.whitener @ self.derivatives(theta, series) for series in self.series]
        return np.concatenate([*data, np.diag(1.0 / self.scatter)])

    def model(self, theta: Float64[np.ndarray, " K"], series: Series) -> Float64[np.ndarray, " T"]:
        """Baseline times transit of one series."""
        return (series.basis @ theta[series.baseline]) * (
            1.0 - _hidden(theta, series, series.time_h)
        )

    def derivatives(
        self, theta: Float64[np.ndarray, " K"], series: Series
    ) -> Float64[np.ndarray, "T K"]:
        """Derivatives of `model` by all parameters."""
        z = _separation(theta, series, series.time_h)
        u1, u2 = theta[series.limb]
        integrals = covered_integrals(z, theta[series.k]).mean(axis=-1)
        by_z, by_k = covered_gradients(z, theta[series.k])
        hidden = hidden_share(integrals, u1, u2)
        total = np.pi * (1.0 - u1 / 3.0 - u2 / 6.0)
        change = np.zeros((theta.size, hidden.size))
        change[:3], by_t0 = self._orbit_changes(theta, series, z, hidden_share(by_z, u1, u2))
        change[series.clock] = by_t0
        change[series.k] = hidden_share(by_k, u1, u2).mean(axis=-1)
        change[series.limb[0]] = (hidden * np.pi / 3.0 - integrals[1]) / total
        change[series.limb[1]] = (hidden * np.pi / 6.0 - integrals[2]) / total
        jacobian = -(series.basis @ theta[series.baseline])[:, None] * change.T
        jacobian[:, series.baseline] = series.basis * (1.0 - hidden)[:, None]
        return jacobian

    def _orbit_changes(
        self,
        theta: Float64[np.ndarray, " K"],
        series: Series,
        z: Float64[np.ndarray, "T M"],
        by_z: Float64[np.ndarray, "T M"],
    ) -> tuple[Float64[np.ndarray, "3 T"], Float64[np.ndarray, " T"]]:
        """Chain rule through z^2 = a^2 sin^2(phi) + b^2 cos^2(phi): period, a, b; then t0."""
        period, a, b = theta[:3]
        phase = 2.0 * np.pi * (series.time_h - theta[series.clock].sum()) / (24.0 * period)
        sine, cosine = np.sin(phase), np.cos(phase)
        scaled = by_z / np.where(np.isfinite(z), np.maximum(z, 1e-9), np.inf)
        by_phase = scaled * (a**2 - b**2) * sine * cosine
        changes = [-by_phase * phase / period, scaled * a * sine**2, scaled * b * cosine**2]
        by_t0 = -by_phase * 2.0 * np.pi / (24.0 * period)
        return np.stack(changes).mean(axis=-1), by_t0.mean(axis=-1)


def _separation(
    theta: Float64[np.ndarray, " K"], series: Series, time_h: Float64[np.ndarray, "T M"]
) -> Float64[np.ndarray, "T M"]:
    return separation(
        time_h,
        t0_h=float(theta[series.clock].sum()),
        period_d=float(theta[0]),
        semi_major_axis_rs=float(theta[1]),
        impact_parameter=float(theta[2]),
    )


def _hidden(
    theta: Float64[np.ndarray, " K"], series: Series, time_h: Float64[np.ndarray, "T M"]
) -> Float64[np.ndarray, " T"]:
    z = _separation(theta, series, time_h)
    integrals = covered_integrals(z, float(theta[series.k])).mean(axis=-1)
    return hidden_share(integrals, *theta[series.limb])


def without_spikes(flux: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, " T"]:
    """Running median of three, also at the ends: monotone parts stay, single spikes go."""
    return median_filter(flux, size=3, mode="mirror")


def sample_times(
    time_h: Float64[np.ndarray, " T"], width_h: float, samples: int
) -> Float64[np.ndarray, "T M"]:
    """Times spread evenly over each bin, at which the model is averaged [h]."""
    return time_h[:, None] + width_h * ((np.arange(samples) + 0.5) / samples - 0.5)


def _starts(
    visits: Sequence[BinnedVisit], prior: Prior, problem: _Problem
) -> list[Float64[np.ndarray, " K"]]:
    """First guesses, best first: for each impact parameter the best mid-transit times."""
    scan = problem.config.scan
    found = []
    for impact in (abs(prior.centre[2]), *scan.impact_parameters):
        theta = problem.centre.copy()
        theta[2] = impact
        gain = 0.0
        for number, visit in enumerate(visits):
            t0, depth_ratio, visit_gain = _scan_visit(visit, theta, problem)
            own = _SHARED + number * len(VISIT)
            theta[own] = t0
            theta[[own + 2, own + 3]] = np.clip(0.1 * np.sqrt(depth_ratio), 0.005, 0.45)
            gain += visit_gain
        found.append((gain, theta))
    found.sort(key=lambda pair: -pair[0])
    return [theta for _, theta in found[: scan.starts]]


def _scan_visit(
    visit: BinnedVisit, theta: Float64[np.ndarray, " K"], problem: _Problem
) -> tuple[float, float, float]:
    """Best mid-transit time for a given orbit: a template of k = 0.1 beside a free baseline.

    Returns:
        Mid-transit time [h], depth over that of the template, and the gain in chi^2.
    """
    scan, time = problem.config.scan, visit.airs_time_h
    grid = np.arange(time[0] - scan.margin_h, time[-1] + scan.margin_h, scan.step_h)
    z = separation(
        time[None, :] - grid[:, None],
        t0_h=0.0, period_d=theta[0], semi_major_axis_rs=theta[1], impact_parameter=theta[2],
    )  # fmt: skip
    table_z = np.linspace(0.0, 1.1, 200)
    table = hidden_share(covered_integrals(table_z, 0.1), *theta[len(ORBIT) + 2 : _SHARED])
    shape = np.interp(z, table_z, table, right=0.0)
    order = min(3, len(problem.config.baseline.scatter))
    basis, _ = np.linalg.qr(np.polynomial.chebyshev.chebvander(visit.tau, order))
    shape = shape - (shape @ basis) @ basis.T
    power = np.sum(shape**2, axis=1)
    weights = np.array([visit.airs_noise, visit.fgs1_noise]) ** -2.0
    drop = -weights[0] * without_spikes(visit.airs_white)
    drop -= weights[1] * without_spikes(visit.fgs1)
    strong = power > 1e-6 * power.max()
    amplitude = np.where(strong, shape @ drop / np.where(strong, power, 1.0), 0.0)
    amplitude = np.maximum(amplitude / weights.sum(), 0.0)
    gain = amplitude**2 * power * weights.sum()
    best = int(np.argmax(gain))
    return float(grid[best]), float(amplitude[best]), float(gain[best])


def _reweighted(
    problem: _Problem, theta: Float64[np.ndarray, " K"], measured: Sequence[float]
) -> tuple[Series, ...]:
    """Series with bins rejected and the noise estimated again, from the residuals."""
    changed = []
    limit = problem.config.outlier_sigma
    whole = problem.jacobian(theta)
    information = whole.T @ whole
    for series, sigma in zip(problem.series, measured, strict=True):
        residual = series.flux - problem.model(theta, series)
        robust = max(_MAD * float(np.median(np.abs(residual[series.used]))), sigma)
        used = np.abs(residual) <= limit * robust
        jacobian = problem.derivatives(theta, series)
        own = series.whitener @ jacobian
        time = series.time_h.mean(axis=1)[used]
        noise = estimate_noise(
            residual[used],
            jacobian[used],
            information - own.T @ own,
            own.T @ (series.whitener @ residual),
            time_h=time,
            sigma=sigma,
        )
        whitener = _whitener(noise, series.time_h.mean(axis=1), used)
        changed.append(replace(series, used=used, noise=noise, whitener=whitener))
    return tuple(changed)


def _whitener(
    noise: Noise, time_h: Float64[np.ndarray, " T"], used: Bool[np.ndarray, " T"]
) -> Float64[np.ndarray, "U T"]:
    whitener = np.zeros((int(used.sum()), used.size))
    whitener[:, used] = noise.whitener(time_h[used])
    return whitener


def _summarise(problem: _Problem, result: OptimizeResult, measured: Sequence[float]) -> WhiteFit:
    theta = result.x
    jacobian = problem.jacobian(theta)
    covariance = np.linalg.inv(jacobian.T @ jacobian)
    chi2 = 0.0
    for series, sigma in zip(problem.series, measured, strict=True):
        residual = (problem.model(theta, series) - series.flux)[series.used]
        chi2 += float(np.sum((residual / sigma) ** 2))
    bins = sum(int(series.used.sum()) for series in problem.series)
    spent = np.trace(covariance @ (jacobian[: -theta.size].T @ jacobian[: -theta.size]))
    bounded = [n for n, hit in zip(problem.names, result.active_mask, strict=True) if hit]
    return WhiteFit(
        names=problem.names,
        theta=theta,
        covariance=covariance,
        prior=problem.prior,
        series=problem.series,
        reduced_chi2=chi2 / max(bins - float(spent), 1.0),
        bounded=tuple(bounded),
    )
