"""Limb-darkening laws of the simulated stars: the simulator's own, and one of another family."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from spectramind.simulate.interpolation import chebyshev_nodes, lagrange

_POWERS = (0.0, 0.5, 1.0, 1.5, 2.0)  # of mu in the four-parameter law
_EXPONENT_NODES = 8


@dataclass(frozen=True, eq=False)
class LimbLaw:
    """Intensity I(mu) = sum_p w_p mu^p of the disc at W wavelengths, I(1) = 1."""

    powers: tuple[float, ...]  # increasing from 0
    weights: Float64[np.ndarray, "W P"]

    def at(self, chosen: slice) -> "LimbLaw":
        """The law at some of the wavelengths."""
        return LimbLaw(self.powers, self.weights[chosen])


def quadratic_guess(
    wavelength: Float64[np.ndarray, " W"], temperature_k: float
) -> tuple[Float64[np.ndarray, " W"], Float64[np.ndarray, " W"]]:
    """Quadratic coefficients u1, u2 about which both laws are built.

    u1 = 0.05 + 0.41 (5485 K / T)^1.6 exp(-(l - 0.7 um)/0.55 um); u2 by nodes in wavelength.

    Source: fitted by eye to PHOENIX coefficients at 0.70, 1.0 and 1.65 um of eight stars; an
    extrapolation beyond 1.65 um (assumption).
    """
    decay = np.exp(-(wavelength - 0.7) / 0.55)
    u1 = 0.05 + 0.41 * (5485.0 / temperature_k) ** 1.6 * decay
    blue = 0.18 + 5.2e-5 * (temperature_k - 5485.0)
    u2 = np.interp(wavelength, (0.7, 1.0, 1.65, 2.0, 3.9), (blue, 0.18, 0.26, 0.22, 0.15))
    return u1, u2


def own_law(
    wavelength: Float64[np.ndarray, " W"],
    temperature_k: float,
    *,
    scale: Float64[np.ndarray, " 2"],
    nonquadratic: float,
) -> LimbLaw:
    """The four-parameter law I(mu) = 1 - sum_n a_n (1 - mu^(n/2)), n = 1..4.

    A quadratic law plus c u1 p(mu), p = (1 - mu^(1/2)) - 1.5 (1 - mu) + 0.6 (1 - mu^(3/2)): a
    steeper fall at the limb, as model atmospheres show, that no quadratic law can follow.

    Args:
        wavelength: [um].
        temperature_k: Of the star [K].
        scale: Factors on u1 and u2.
        nonquadratic: c.

    Source: Claret 2000, equation 6 (the law); the coefficients are ours, see quadratic_guess.
    """
    u1, u2 = quadratic_guess(wavelength, temperature_k)
    u1, u2 = scale[0] * u1, scale[1] * u2
    steep = nonquadratic * u1
    a = np.stack([steep, u1 + 2 * u2 - 1.5 * steep, 0.6 * steep, -u2], axis=1)
    return four_parameter_law(a)


def four_parameter_law(a: Float64[np.ndarray, "W 4"]) -> LimbLaw:
    """The law of four coefficients. Source: Claret 2000, equation 6."""
    return LimbLaw(_POWERS, np.concatenate([1.0 - a.sum(1, keepdims=True), a], axis=1))


def foreign_law(
    wavelength: Float64[np.ndarray, " W"],
    temperature_k: float,
    *,
    scale: Float64[np.ndarray, " 2"],
    steepness: float,
) -> LimbLaw:
    """A power-2 law I(mu) = 1 - c (1 - mu^a), whose family shares no term with `own_law` but 1.

    The limb loses `steepness` times what it loses by the quadratic guess, c = steepness
    (u1 + u2), never more than all light. The whole disc loses as much light as by the guess,
    which gives a; about 0.6 at 0.7 um and 0.4 at 3.9 um for a star like the Sun.

    Args:
        wavelength: [um].
        temperature_k: Of the star [K].
        scale: Factors on u1 and u2.
        steepness: Loss at the limb over that of the quadratic guess, at least 1.

    Source: Hestroffer 1997 (the law); the coefficients are ours, see quadratic_guess.
    """
    u1, u2 = quadratic_guess(wavelength, temperature_k)
    u1, u2 = scale[0] * u1, scale[1] * u2
    lost = u1 / 3.0 + u2 / 6.0
    limb = np.minimum(steepness * (u1 + u2), 1.0)
    return power2_law(limb, 2.0 * lost / (limb - lost))


def power2_law(limb: Float64[np.ndarray, " W"], exponent: Float64[np.ndarray, " W"]) -> LimbLaw:
    """I(mu) = 1 - c (1 - mu^a), mu^a interpolated between nodes that all wavelengths share.

    Args:
        limb: c, the loss at the limb.
        exponent: a.
    """
    nodes = np.sort(chebyshev_nodes(exponent, _EXPONENT_NODES))
    shares = limb[:, None] * lagrange(exponent, nodes)
    return LimbLaw((0.0, *nodes.tolist()), np.concatenate([1.0 - limb[:, None], shares], axis=1))
