"""Noise of a white-light series: white, plus a part that is correlated in time.

    K(t, t') = s^2 sigma^2 [delta(t, t') + ratio exp(-|t - t'| / tau)]

sigma is measured from differences in time; s, ratio and tau by restricted likelihood of the
residuals, so that a slow part which the fit has partly swallowed is not missed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.linalg import cho_solve, solve_triangular

_RATIOS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_TAUS_H = (0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Noise:
    """Noise of one series."""

    sigma: float  # white part
    ratio: float  # variance of the correlated part over that of the white one
    tau_h: float  # its correlation time [h]

    def covariance(self, time_h: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, "T T"]:
        """Covariance between times."""
        lag = np.abs(time_h[:, None] - time_h[None, :])
        shape = np.eye(time_h.size) + self.ratio * np.exp(-lag / self.tau_h)
        return self.sigma**2 * shape

    def whitener(self, time_h: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, "T T"]:
        """Matrix that turns this noise into independent unit noise."""
        lower = np.linalg.cholesky(self.covariance(time_h))
        return solve_triangular(lower, np.eye(time_h.size), lower=True)


def estimate_noise(
    residual: Float64[np.ndarray, " T"],
    jacobian: Float64[np.ndarray, "T K"],
    elsewhere: Float64[np.ndarray, "K K"],
    pull: Float64[np.ndarray, " K"],
    *,
    time_h: Float64[np.ndarray, " T"],
    sigma: float,
) -> Noise:
    """Most likely noise on a grid of ratio and tau, the parameters marginalised.

    Args:
        residual: Flux minus model at the current parameters.
        jacobian: Derivatives of the model.
        elsewhere: Information on the parameters from priors and from other series.
        pull: Gradient of this series at the current parameters; the others hold the balance.
        time_h: Times [h].
        sigma: White noise measured from differences in time.

    Returns:
        Noise with s^2 (never below 0.25 of the measured variance) inside its `sigma`.

    Source: Patterson and Thompson 1971 (restricted likelihood).
    """
    best, noise = -np.inf, Noise(sigma, 0.0, _TAUS_H[0])
    grid = [(ratio, tau) for ratio in _RATIOS for tau in (_TAUS_H if ratio else _TAUS_H[:1])]
    for ratio, tau in grid:
        candidate = Noise(sigma, ratio, tau)
        lower = np.linalg.cholesky(candidate.covariance(time_h))
        weighed = cho_solve((lower, True), np.column_stack([jacobian, residual]))
        own = jacobian.T @ weighed[:, :-1]
        information = own + elsewhere
        slope = weighed[:, :-1].T @ residual
        shift = np.linalg.solve(information, slope - pull)
        left = residual - jacobian @ shift
        spent = float(np.trace(np.linalg.solve(information, own)))
        freedom = max(residual.size - spent, 1.0)
        scale = max(float(left @ cho_solve((lower, True), left)) / freedom, 0.25)
        spread = 2.0 * np.sum(np.log(np.diag(lower))) + np.linalg.slogdet(information)[1]
        likelihood = -0.5 * (spread + freedom * np.log(scale))
        if likelihood > best:
            best, noise = likelihood, Noise(sigma * float(np.sqrt(scale)), ratio, tau)
    return noise
