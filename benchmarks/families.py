"""Light curves that share no code with the simulator or the fit: families of worlds, as files.

`write_world` leaves a folder for `data=lightcurves` (docs/lightcurves.md) and the true spectra.
Nothing of `spectramind.simulate` or `spectramind.transit` is imported: the transit is batman's,
limb darkening, drift, noise and stars are drawn here. Spectra are the labels of 2024 where they
are at hand, else smooth curves with random bands. Each family adds one thing to planets with
white noise; all but `own law` have a slow drift and the limb darkening of another law.

Half of the families were used while the fit was developed (DEVELOPED), on half no setting was
chosen (JUDGED). The halves were dealt before the work began. The second half was looked at
twice: at first the labels lay at wavelengths up to 0.14 um from their own. What it showed of
`steps` and `jitter` led to another search for noise in time. That was developed on `jumps` and
`lines`, which are like them and came later, and these two were looked at a third time.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import batman
import numpy as np
import xarray as xr
from jaxtyping import Float64
from scipy.optimize import lsq_linear

from spectramind.instrument import wavelength_um

LABELS_2024 = Path(__file__).parents[2] / "shared" / "data" / "2024" / "train_labels.csv"
DEVELOPED = (
    "own law", "power-2 law", "red noise", "ramp", "spot crossings", "columns", "jumps", "lines",
)  # fmt: skip
JUDGED = ("nonlinear law", "grey law", "steps", "jitter", "unequal visits")
FAMILIES = (*DEVELOPED, *JUDGED)
AIRS = 282  # scored columns
_WINDOW_H = 7.5
_CADENCE_H = {"FGS1": 24.0 / 3600.0, "AIRS-CH0": 120.0 / 3600.0}
_SAMPLES = 3  # of the transit in each exposure of AIRS-CH0
_WAVELENGTH_UM = wavelength_um()  # at which the labels are given
_FGS1_NOISE = 4.9e-4  # of an exposure [relative]
_AIRS_NOISE = (5.5e-4, 4.0e-3)  # of an exposure at the blue and the red end [relative]
_ELECTRONS = 1e7
_STAR_COLUMNS = "planet_id,Rs,Ms,Ts,Mp,e,P,sma,i"


@dataclass(frozen=True)
class Draw:
    """One planet: its random numbers and what the star table says."""

    rng: np.random.Generator
    period_d: float
    axis_rs: float
    impact: float
    temperature_k: float


@dataclass(frozen=True, eq=False)
class Noise:
    """What a family puts on a visit: relative flux of FGS1 and of AIRS-CH0."""

    fgs1: Float64[np.ndarray, " S"]
    airs: Float64[np.ndarray, "T 282"]


Grid = tuple[Float64[np.ndarray, " S"], Float64[np.ndarray, " T"]]  # times of both channels [h]


def write_world(
    family: str, folder: Path, *, labelled: int, test: int, seed: int
) -> tuple[list[int], Float64[np.ndarray, "P 283"]]:
    """Write the light curves, the star table and the labels of some planets.

    Args:
        family: One of FAMILIES.
        folder: Where the files go; it must not hold others.
        labelled: Planets in labels.csv.
        test: Planets without a label.
        seed: Of all draws; families of one seed have the same planets and spectra.

    Returns:
        The test planets and their true spectra.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spectra = draw_spectra(labelled + test, seed)
    rows, labels = [_STAR_COLUMNS], [",".join(["planet_id", *_wavelength_names()])]
    for index, depth in enumerate(spectra):
        planet_id = 1000 + index
        planet = _draw(seed, index)
        rows.append(_table_row(planet_id, planet))
        if index < labelled:
            labels.append(",".join([str(planet_id), *map(repr, depth.tolist())]))
        for visit in range(2 if family == "unequal visits" else 1):
            _write_visit(folder / f"{planet_id}_{visit}.nc", family, planet, depth)
    (folder / "stars.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    if labelled:
        (folder / "labels.csv").write_text("\n".join(labels) + "\n", encoding="utf-8")
    return [1000 + index for index in range(labelled, labelled + test)], spectra[labelled:]


def draw_spectra(count: int, seed: int) -> Float64[np.ndarray, "P 283"]:
    """True spectra: labels of 2024, without repetition, or curves of our own."""
    rng = np.random.default_rng([seed, 11])
    if not LABELS_2024.is_file():
        return np.stack([_made_up(rng) for _ in range(count)])
    with LABELS_2024.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))[1:]
    chosen = rng.permutation(len(rows))[:count]
    return np.array([[float(cell) for cell in rows[row][1:]] for row in chosen])


def _made_up(rng: np.random.Generator) -> Float64[np.ndarray, " 283"]:
    """A level, a slope, and bands of random place, width and depth."""
    level = np.exp(rng.uniform(np.log(8e-4), np.log(8e-3)))
    shape = 0.3 * rng.standard_normal() * np.log(_WAVELENGTH_UM / 2.5)
    for _ in range(rng.integers(2, 7)):
        centre, width = rng.uniform(1.9, 4.0), rng.uniform(0.03, 0.4)
        shape += rng.gamma(1.5) * np.exp(-0.5 * ((_WAVELENGTH_UM - centre) / width) ** 2)
    return level + np.exp(rng.normal(np.log(3e-5), 0.8)) * (shape - shape[1:].mean())


def _wavelength_names() -> list[str]:
    return [f"wl_{number}" for number in range(1, AIRS + 2)]


def _draw(seed: int, index: int) -> Draw:
    rng = np.random.default_rng([seed, 7, index])
    temperature = rng.uniform(4600.0, 6400.0)
    period = np.exp(rng.uniform(np.log(2.5), np.log(8.0)))
    axis = 4.2 * period ** (2 / 3) * (5500.0 / temperature) ** 0.8 * np.exp(0.1 * rng.normal())
    return Draw(rng, period, axis, rng.uniform(0.0, 0.75), temperature)


def _table_row(planet_id: int, planet: Draw) -> str:
    """The star table, which knows the orbit to some per cent."""
    rng = planet.rng
    axis = planet.axis_rs * (1.0 + 0.03 * rng.normal())
    impact = abs(planet.impact + 0.05 * rng.normal())
    radius = 0.9 * (planet.temperature_k / 5500.0) ** 1.5
    mass, jupiters = radius * np.exp(0.05 * rng.normal()), np.exp(rng.normal(-0.5, 0.6))
    tilt = np.degrees(np.arccos(min(impact / axis, 1.0)))
    cells = (
        planet_id, radius, mass, planet.temperature_k, jupiters, 0.0, planet.period_d, axis, tilt,
    )  # fmt: skip
    return ",".join(map(str, cells))


def _write_visit(
    path: Path, family: str, planet: Draw, depth: Float64[np.ndarray, " 283"]
) -> None:
    rng = planet.rng
    times: Grid = tuple(  # pyright: ignore[reportAssignmentType]
        np.arange(0.5 * step, _WINDOW_H, step) for step in _CADENCE_H.values()
    )
    middle = 0.5 * _WINDOW_H + rng.uniform(-0.6, 0.6)
    if family == "unequal visits":
        depth = depth * (1.0 + rng.normal(0.0, 0.004, 2))[(np.arange(AIRS + 1) > 0).astype(int)]
    law = LAWS.get(family, power_2)
    fgs1, airs = transit(planet, law, depth, middle, times)
    if family != "own law":
        drift = _drift(rng, times)
        fgs1, airs = fgs1 * (1.0 + drift.fgs1), airs * (1.0 + drift.airs)
    if family in NOISE:
        noise = NOISE[family](rng, times, middle, planet)
        fgs1, airs = fgs1 + noise.fgs1, airs + noise.airs
    for name, flux, time, noise, wavelength in (
        ("FGS1", fgs1[:, None], times[0], np.array([_FGS1_NOISE]), _WAVELENGTH_UM[:1]),
        ("AIRS-CH0", airs, times[1], np.geomspace(*_AIRS_NOISE, AIRS), _WAVELENGTH_UM[1:]),
    ):
        observed = _ELECTRONS * (flux + noise * rng.standard_normal(flux.shape))
        both = ("time", "wavelength")
        error = np.broadcast_to(_ELECTRONS * noise, flux.shape)
        variables = {"flux_e": (both, observed), "flux_err_e": (both, error)}
        axes = {"time_h": ("time", time), "wavelength_um": ("wavelength", wavelength)}
        xr.Dataset(variables, axes).to_netcdf(path, group=name, mode="a", engine="h5netcdf")


Law = Callable[[float, Float64[np.ndarray, " W"]], tuple[str, Float64[np.ndarray, "W C"]]]


def quadratic(
    temperature_k: float, wavelength_um: Float64[np.ndarray, " W"]
) -> tuple[str, Float64[np.ndarray, "W 2"]]:
    """Coefficients near those that the fit expects (numbers of ExoTiC-LD for a star of 5500 K)."""
    place = np.log([0.7, 1.0, 1.65, 2.0, 3.9])
    warm = (temperature_k - 5485.0) / 1000.0
    first = np.interp(np.log(wavelength_um), place, [0.46, 0.31, 0.12, 0.095, 0.055])
    second = np.interp(np.log(wavelength_um), place, [0.18, 0.19, 0.29, 0.25, 0.16])
    return "quadratic", np.stack([first * (1.0 - 0.15 * warm), second], axis=1)


def power_2(
    temperature_k: float, wavelength_um: Float64[np.ndarray, " W"]
) -> tuple[str, Float64[np.ndarray, "W 2"]]:
    """I(mu) = 1 - c (1 - mu^alpha). Source: Hestroffer 1997; c falls with wavelength."""
    warm = (temperature_k - 5500.0) / 1000.0
    strength = 0.30 + 0.38 * (0.7 / wavelength_um) ** 0.9 - 0.05 * warm
    alpha = 0.32 + 0.38 * (0.7 / wavelength_um) ** 0.7
    return "power2", np.stack([strength, alpha], axis=1)


def nonlinear(
    temperature_k: float, wavelength_um: Float64[np.ndarray, " W"]
) -> tuple[str, Float64[np.ndarray, "W 4"]]:
    """Four terms in sqrt(mu). Source: Claret 2000, the form; the numbers are made up."""
    warm, blue = (temperature_k - 5500.0) / 1000.0, (0.7 / wavelength_um) ** 0.8
    terms = (0.55 - 0.1 * warm, -0.25 + 0.5 * blue, 0.05 - 0.35 * blue, 0.02 + 0.05 * blue)
    columns = [np.broadcast_to(term, wavelength_um.shape) for term in terms]
    return "nonlinear", np.stack(columns, axis=1)


def grey(
    temperature_k: float, wavelength_um: Float64[np.ndarray, " W"]
) -> tuple[str, Float64[np.ndarray, "W 4"]]:
    """Planck's law at optical depth mu of a grey atmosphere, T^4 = 3/4 Teff^4 (tau + 2/3)."""
    mu = np.linspace(0.02, 1.0, 60)
    optical, weight = np.polynomial.laguerre.laggauss(24)
    temperature = temperature_k * (0.75 * (optical * mu[:, None] + 2.0 / 3.0)) ** 0.25
    terms = 1.0 - np.stack([mu ** (0.5 * k) for k in range(1, 5)], axis=1)
    rows = []
    for um in wavelength_um:
        source = 1.0 / np.expm1(14387.77 / (um * temperature))  # c2 of Planck's law [um K]
        intensity = source @ weight
        intensity = intensity / intensity[-1]
        rows.append(lsq_linear(terms, 1.0 - intensity).x)
    return "nonlinear", np.array(rows)


LAWS: dict[str, Law] = {"own law": quadratic, "nonlinear law": nonlinear, "grey law": grey}


def transit(
    planet: Draw, law: Law, depth: Float64[np.ndarray, " 283"], middle_h: float, times: Grid
) -> tuple[Float64[np.ndarray, " S"], Float64[np.ndarray, "T 282"]]:
    """Relative flux of both channels without noise, by batman."""
    name, coefficients = law(planet.temperature_k, _WAVELENGTH_UM)
    parameters = batman.TransitParams()
    parameters.t0, parameters.per = middle_h / 24.0, planet.period_d
    parameters.a, parameters.ecc, parameters.w = planet.axis_rs, 0.0, 90.0
    parameters.inc = float(np.degrees(np.arccos(planet.impact / planet.axis_rs)))
    parameters.limb_dark = name
    series = []
    for column, (value, own) in enumerate(zip(depth, coefficients, strict=True)):
        parameters.rp, parameters.u = float(np.sqrt(value)), own.tolist()
        if column < 2:  # the grid of times is that of all columns of a channel
            step = list(_CADENCE_H.values())[column]
            model = batman.TransitModel(
                parameters, times[column] / 24.0, max_err=0.5, supersample_factor=_SAMPLES,
                exp_time=step / 24.0,
            )  # fmt: skip
        series.append(model.light_curve(parameters))
    return series[0], np.stack(series[1:], axis=1)


def _colour(rng: np.random.Generator, spread: float) -> Float64[np.ndarray, " 283"]:
    """Strength along the spectrum, about 1: a slope and a bend."""
    place = np.append(-1.5, np.linspace(-1.0, 1.0, AIRS))
    return 1.0 + spread * (rng.normal() * place + 0.5 * rng.normal() * (place**2 - 0.5))


def _coloured(
    series: Callable[[np.ndarray], np.ndarray], colour: np.ndarray, times: Grid
) -> Noise:
    return Noise(colour[0] * series(times[0]), series(times[1])[:, None] * colour[1:])


def _drift(rng: np.random.Generator, times: Grid) -> Noise:
    """A slow gain drift: a parabola and part of a wave, of any strength."""
    size = np.exp(rng.uniform(np.log(2e-4), np.log(3e-3)))
    slope, bend, wave = rng.normal(size=3)
    period, phase = rng.uniform(9.0, 20.0), rng.uniform(0.0, 2.0 * np.pi)

    def series(time: np.ndarray) -> np.ndarray:
        tau = 2.0 * time / _WINDOW_H - 1.0
        swing = np.sin(2.0 * np.pi * time / period + phase)
        return size * (slope * tau + 0.5 * bend * tau**2 + 0.5 * wave * swing)

    return _coloured(series, _colour(rng, 0.3), times)


def _correlated(rng: np.random.Generator, tau_h: float) -> Callable:
    """One realisation of an Ornstein-Uhlenbeck process of unit scatter, for any times."""
    step = 0.1 * min(tau_h, 0.5)
    grid = np.arange(-1.0, _WINDOW_H + 1.0, step)
    keep = np.exp(-step / tau_h)
    kicks = rng.standard_normal(grid.size) * np.sqrt(1.0 - keep**2)
    value, path = rng.standard_normal(), []
    for kick in kicks:
        value = keep * value + kick
        path.append(value)
    return lambda time: np.interp(time, grid, path)


def red_noise(rng: np.random.Generator, times: Grid, middle_h: float, planet: Draw) -> Noise:  # noqa: ARG001
    """30 to 600 ppm, from minutes to hours, mostly common to all wavelengths."""
    size = np.exp(rng.uniform(np.log(3e-5), np.log(6e-4)))
    walk = _correlated(rng, np.exp(rng.uniform(np.log(0.1), np.log(1.5))))
    return _coloured(lambda time: size * walk(time), _colour(rng, 0.2), times)


def columns(rng: np.random.Generator, times: Grid, middle_h: float, planet: Draw) -> Noise:  # noqa: ARG001
    """Red noise of its own in each block of columns."""
    size = np.exp(rng.uniform(np.log(2e-4), np.log(1e-3)))
    tau = np.exp(rng.uniform(np.log(0.2), np.log(1.0)))
    edges = np.sort(rng.choice(np.arange(10, AIRS - 10), 9, replace=False))
    blocks = np.searchsorted(edges, np.arange(AIRS), side="right")
    walks = [_correlated(rng, tau) for _ in range(len(edges) + 2)]
    airs = np.stack([size * walks[block](times[1]) for block in blocks], axis=1)
    return Noise(0.3 * size * walks[-1](times[0]), airs)


def ramp(rng: np.random.Generator, times: Grid, middle_h: float, planet: Draw) -> Noise:  # noqa: ARG001
    """An exponential settling at the start of the visit."""
    size = rng.choice([-1.0, 1.0]) * np.exp(rng.uniform(np.log(3e-4), np.log(3e-3)))
    tau = np.exp(rng.uniform(np.log(0.3), np.log(1.5)))
    return _coloured(lambda time: size * np.exp(-time / tau), _colour(rng, 0.3), times)


def _stepped(drawn: Sequence[tuple[float, float]]) -> Callable[[np.ndarray], np.ndarray]:
    """Jumps as a function of time, from when they come [h] and their sizes."""
    return lambda time: np.sum([size * (time > when) for when, size in drawn], axis=0)


def _waving(
    rng: np.random.Generator, most: int, size: tuple[float, float], period_h: tuple[float, float]
) -> Callable[[np.ndarray], np.ndarray]:
    """One to so many waves of any phase as a function of time, within these bounds."""
    drawn = [
        (
            np.exp(rng.uniform(*np.log(size))),
            np.exp(rng.uniform(*np.log(period_h))),
            rng.uniform(0.0, 2.0 * np.pi),
        )
        for _ in range(rng.integers(1, most + 1))
    ]
    return lambda time: np.sum(
        [high * np.sin(2.0 * np.pi * time / per + phase) for high, per, phase in drawn], axis=0
    )


def steps(rng: np.random.Generator, times: Grid, middle_h: float, planet: Draw) -> Noise:  # noqa: ARG001
    """One or two jumps of the flux at any time."""
    drawn = [
        (rng.uniform(0.5, _WINDOW_H - 0.5), rng.normal(0.0, 6e-4))
        for _ in range(rng.integers(1, 3))
    ]
    return _coloured(_stepped(drawn), _colour(rng, 0.4), times)


def jitter(rng: np.random.Generator, times: Grid, middle_h: float, planet: Draw) -> Noise:  # noqa: ARG001
    """One or two lines of a swinging telescope."""
    series = _waving(rng, 2, (5e-5, 5e-4), (0.25, 1.5))
    return _coloured(series, _colour(rng, 0.5), times)


def jumps(rng: np.random.Generator, times: Grid, middle_h: float, planet: Draw) -> Noise:  # noqa: ARG001
    """One to three jumps of the flux, of any size."""
    drawn = [
        (
            rng.uniform(0.3, _WINDOW_H - 0.3),
            rng.choice([-1.0, 1.0]) * np.exp(rng.uniform(np.log(1e-4), np.log(1.5e-3))),
        )
        for _ in range(rng.integers(1, 4))
    ]
    return _coloured(_stepped(drawn), _colour(rng, 0.3), times)


def lines(rng: np.random.Generator, times: Grid, middle_h: float, planet: Draw) -> Noise:  # noqa: ARG001
    """One to three waves of the flux, of any frequency."""
    series = _waving(rng, 3, (4e-5, 8e-4), (0.2, 2.0))
    return _coloured(series, _colour(rng, 0.3), times)


def spot_crossings(rng: np.random.Generator, times: Grid, middle_h: float, planet: Draw) -> Noise:
    """Bumps within the transit, a flare at any time, and granulation."""
    half = 12.0 * planet.period_d / np.pi / planet.axis_rs * np.sqrt(1.0 - planet.impact**2)
    bumps = [
        (
            middle_h + rng.uniform(-0.8, 0.8) * half,
            np.exp(rng.uniform(np.log(0.08), np.log(0.3))),
            np.exp(rng.uniform(np.log(1e-4), np.log(6e-4))),
        )
        for _ in range(rng.integers(1, 3))
    ]
    flare, peak = rng.uniform(0.0, _WINDOW_H), np.exp(rng.uniform(np.log(1e-4), np.log(1e-3)))
    fading = rng.uniform(0.05, 0.4)
    walk, size = _correlated(rng, 0.1), rng.uniform(2e-5, 8e-5)

    def series(time: np.ndarray) -> np.ndarray:
        bump = np.sum([s * np.exp(-0.5 * ((time - t) / w) ** 2) for t, w, s in bumps], axis=0)
        after = np.where(time > flare, np.exp(-(time - flare).clip(0.0) / fading), 0.0)
        return bump + peak * after + size * walk(time)

    return _coloured(series, np.append(1.8, np.linspace(1.2, 0.7, AIRS)), times)


NOISE = {
    "red noise": red_noise, "columns": columns, "ramp": ramp, "steps": steps, "jitter": jitter,
    "spot crossings": spot_crossings, "unequal visits": ramp, "jumps": jumps, "lines": lines,
}  # fmt: skip


def names(families: Sequence[str]) -> str:
    """As a sentence has them."""
    return ", ".join(f"`{family}`" for family in families)
