"""Calibration of the error bars on held-out planets, kept as one small JSON file."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from spectramind.artefacts import Kind, load_json
from spectramind.errors import ConfigError, DataError
from spectramind.posterior import SpectrumPosterior
from spectramind.provenance import Provenance, write_sidecar
from spectramind.uq.conformal import conformal_half_widths, planets_needed, too_few
from spectramind.uq.temperature import fit_temperature, robust_temperature

_CALIBRATION = Kind("calibration of the error bars", "spectramind calibrate-temp")
IntervalKind = Literal["Gaussian", "conformal"]
Interval = tuple[Float[Tensor, "B W"], Float[Tensor, "B W"]]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Corrections of the error bars, and the planets they rest on.

    Attributes:
        temperature: Factor on sigma; 1 when `uq.temp_scale` is off.
        nll_temperature: sqrt(mean z^2) out of fold, whether applied or not.
        robust_temperature: the same from the median |z|, for comparison.
        temperature_planets: Out-of-fold planets with trusted fits, behind the temperatures.
        conformal_planets: Calibration planets behind the half-widths.
        half_widths: For each level the half-width in units of the scaled sigma, or None where
            the calibration planets are too few for the level.
    """

    temperature: float
    nll_temperature: float
    robust_temperature: float
    temperature_planets: int
    conformal_planets: int
    half_widths: Mapping[float, Float64[Tensor, " W"] | None]

    def apply(self, posterior: SpectrumPosterior) -> SpectrumPosterior:
        """Posterior of the network with sigma multiplied by the temperature."""
        return posterior.scaled(self.temperature)

    def elsewhere(self) -> "Calibration":
        """The same for an archive that it does not rest on: no half-width below the Gaussian one.

        Its planets are not exchangeable with the calibration planets, so that nothing guarantees
        what a narrower interval would hold.
        """
        half_widths = {
            level: None if own is None else own.clamp(min=gaussian_half_width(level))
            for level, own in self.half_widths.items()
        }
        return replace(self, half_widths=half_widths)

    def intervals(self, posterior: SpectrumPosterior, kind: IntervalKind) -> dict[float, Interval]:
        """Lower and upper end at each level; conformal ones where the planets suffice.

        Args:
            posterior: As returned by `apply`: the temperature is not applied again.
            kind: Gaussian quantiles, or the split-conformal half-widths.
        """
        if kind == "Gaussian":
            half_widths = {level: gaussian_half_width(level) for level in self.half_widths}
        else:
            known = {level: own for level, own in self.half_widths.items() if own is not None}
            half_widths = {level: own.to(posterior.sigma) for level, own in known.items()}
        return {level: posterior.interval(own) for level, own in half_widths.items()}

    def require_conformal(self) -> None:
        """Refuse conformal intervals of a level for which the calibration planets are too few.

        Raises:
            ConfigError: Names the level.
        """
        for level, half_width in self.half_widths.items():
            if half_width is None:
                raise ConfigError(too_few(self.conformal_planets, level))

    def write(self, path: Path, provenance: Provenance) -> None:
        """Write as JSON together with its provenance, atomically."""
        write_sidecar(
            path,
            provenance,
            temperature=self.temperature,
            nll_temperature=self.nll_temperature,
            robust_temperature=self.robust_temperature,
            temperature_planets=self.temperature_planets,
            conformal_planets=self.conformal_planets,
            half_widths=[
                {"level": level, "half_width": None if values is None else values.tolist()}
                for level, values in self.half_widths.items()
            ],
        )


def gaussian_half_width(level: float) -> float:
    """Half-width of the central interval of a normal, in sigma: Phi^-1((1 + level) / 2)."""
    return statistics.NormalDist().inv_cdf((1.0 + level) / 2.0)


def fit_calibration(
    oof: SpectrumPosterior,
    oof_depth: Float64[Tensor, "B W"],
    trusted: Bool[Tensor, " B"],
    calibration: SpectrumPosterior,
    calibration_depth: Float64[Tensor, "C W"],
    *,
    temp_scale: bool,
    levels: tuple[float, ...],
) -> Calibration:
    """Fit the temperature out of fold, then the conformal quantiles on untouched planets.

    The temperature sees the out-of-fold planets only, the quantiles the calibration planets
    only, after the temperature. A level for which the calibration planets are too few is kept
    as None: Gaussian intervals need no such planets, and conformal ones are refused when used.

    Args:
        oof: Out-of-fold posterior of the training planets, not yet scaled.
        oof_depth: Their true depths.
        trusted: Those of them whose fit is not flagged; the temperature rests on them, since a
            flagged fit has an error bar of another kind.
        calibration: Posterior of the planets set aside, not yet scaled.
        calibration_depth: Their true depths.
        temp_scale: Apply the temperature.
        levels: Coverage of the intervals.

    Raises:
        DataError: If posterior and depths differ in shape, trusted planets are fewer than two,
            or a value is not finite.
    """
    _same_shape(oof, oof_depth, "out-of-fold")
    _same_shape(calibration, calibration_depth, "calibration")
    sound, sound_depth = SpectrumPosterior(oof.mu[trusted], oof.sigma[trusted]), oof_depth[trusted]
    nll = fit_temperature(sound, sound_depth)
    temperature = nll if temp_scale else 1.0
    scaled = calibration.scaled(temperature)
    planets = len(calibration_depth)
    half_widths = {
        level: conformal_half_widths(scaled, calibration_depth, level)
        if planets >= planets_needed(level)
        else None
        for level in levels
    }
    robust = robust_temperature(sound, sound_depth)
    return Calibration(temperature, nll, robust, len(sound_depth), planets, half_widths)


def _same_shape(posterior: SpectrumPosterior, depth: Tensor, name: str) -> None:
    if posterior.mu.shape != depth.shape:
        raise DataError(
            f"{name} planets: posterior of shape {tuple(posterior.mu.shape)}, true depths of "
            f"shape {tuple(depth.shape)}, wanted the same (planets, wavelengths). Run "
            "`spectramind train` again: the spectra are of another archive."
        )


def read_calibration(path: Path) -> Calibration:
    """Read what `Calibration.write` has written.

    Raises:
        ArtefactError: If the file is missing, damaged or lacks a key.
    """
    stored = load_json(path, _CALIBRATION)
    try:
        calibration = _parse(stored)
    except (KeyError, TypeError, ValueError) as error:
        raise _CALIBRATION.damaged(path, f"{type(error).__name__} {error}") from error
    _require_factors(path, calibration)
    return calibration


def _require_factors(path: Path, calibration: Calibration) -> None:
    """Refuse factors on an error bar that are not positive and finite."""
    named = {
        "temperature": torch.tensor(calibration.temperature),
        **{
            f"half-width at level {level:g}": values
            for level, values in calibration.half_widths.items()
            if values is not None
        },
    }
    for name, values in named.items():
        bad = values[~(values.isfinite() & (values > 0.0))]
        if bad.numel():
            raise _CALIBRATION.damaged(path, f"the {name} is {bad[0]:g}, expected above 0")


def _parse(stored: Mapping[str, Any]) -> Calibration:
    return Calibration(
        temperature=float(stored["temperature"]),
        nll_temperature=float(stored["nll_temperature"]),
        robust_temperature=float(stored["robust_temperature"]),
        temperature_planets=int(stored["temperature_planets"]),
        conformal_planets=int(stored["conformal_planets"]),
        half_widths={
            float(row["level"]): None
            if row["half_width"] is None
            else torch.tensor(row["half_width"], dtype=torch.float64)
            for row in stored["half_widths"]
        },
    )
