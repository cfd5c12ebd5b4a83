"""How a prior over spectra is learned: from labels, and its amplitudes from light curves too."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64

from spectramind.errors import DataError
from spectramind.transit.settings import SpectrumConfig
from spectramind.transit.spectrum_prior import AMPLITUDES, FLOORS, SpectrumPrior

_SHIFTS = np.linspace(-4.0, 4.0, 33)  # of the mean ln amplitude, tried on an archive [scatters]
_WIDTHS = np.geomspace(0.25, 4.0, 17)  # of the scatter, tried on an archive [scatters]
_BELIEF = 1.0  # scatter of ln of that width beforehand
_SEARCH = np.linspace(-2.0, 2.0, 81)  # [ln]
_PASSES = 12  # amplitudes and shapes in turn
_HELD_OUT = 5  # every fifth planet judges
_SMALLEST = 1e-8  # amplitude of a flat spectrum [(Rp/Rs)^2]
_LEAST_SCATTER = 0.1  # of ln amplitude
_EVEN = np.full(len(FLOORS), 1.0 / len(FLOORS))
_DOUBT = 0.1  # that shapes of other planets fit no better than any floor says
_ROUNDS = 30  # of expectation-maximisation
_TURNS = 3  # amplitudes and floors in turn


def learn_spectrum_prior(
    labels: Float64[np.ndarray, "N 283"],
    log_scale: Sequence[float],
    config: SpectrumConfig,
) -> SpectrumPrior:
    """Prior from known spectra.

    Args:
        labels: Depths (Rp/Rs)^2 of the training planets.
        log_scale: `log_signal` of each.
        config: Section `transit.spectrum`.

    Raises:
        DataError: If there are fewer labels than `config.fewest_labels`.
    """
    if len(labels) < config.fewest_labels:
        raise DataError(
            f"{len(labels)} labelled planets, transit.spectrum.fewest_labels asks for "
            f"{config.fewest_labels} to learn a prior over spectra from. Label more planets, "
            "lower the key, or name a trained prior with prior=FILE."
        )
    scale = np.asarray(log_scale)
    judges = np.arange(len(labels)) % _HELD_OUT == 0
    best, chosen, shares = -np.inf, (config.components[0], config.lengths_um[0]), _EVEN
    for components in config.components:
        if components > len(labels) // 4:
            continue
        for length in config.lengths_um:
            trial = _learn(labels[~judges], scale[~judges], components, length, config.rest)
            evidence = np.stack(
                [
                    _log_likelihood(replace(trial, floor=floor), labels[judges], scale[judges])
                    for floor in FLOORS
                ],
                axis=1,
            )
            own = _learn_shares(evidence, _EVEN)
            likelihood = float(_mixed(evidence, own).sum())
            if likelihood > best:
                best, chosen, shares = likelihood, (components, length), own
    return _with_shares(_learn(labels, scale, *chosen, config.rest), shares)


def _learn_shares(
    evidence: Float64[np.ndarray, "N F"], expected: Float64[np.ndarray, " F"]
) -> Float64[np.ndarray, " F"]:
    """Shares of planets with each floor that make them most likely, one as expected among them."""
    shares = expected
    for _ in range(_ROUNDS):
        weight = np.exp(evidence - evidence.max(1, keepdims=True)) * shares
        total = (weight / weight.sum(1, keepdims=True)).sum(0) + expected
        shares = total / total.sum()
    return shares


def _mixed(
    evidence: Float64[np.ndarray, "N F"], shares: Float64[np.ndarray, " F"]
) -> Float64[np.ndarray, " N"]:
    """Log evidence of planets whose floor is one of several."""
    high = evidence.max(1)
    return high + np.log(np.exp(evidence - high[:, None]) @ shares)


def with_doubt(prior: SpectrumPrior) -> SpectrumPrior:
    """A prior for planets of another archive: its shapes may not be theirs."""
    return _with_shares(prior, (1.0 - _DOUBT) * prior.shares + _DOUBT * _EVEN)


def _with_shares(prior: SpectrumPrior, shares: Float64[np.ndarray, " F"]) -> SpectrumPrior:
    """A prior with these shares, and their mean floor to begin with."""
    return replace(prior, shares=shares, floor=float(shares @ FLOORS))


def learn_amplitudes(
    prior: SpectrumPrior, evidence: Float64[np.ndarray, "N F G"], known: Bool[np.ndarray, " N"]
) -> SpectrumPrior:
    """A prior's floor and amplitudes as an archive's own light curves have them, without labels.

    The mean of ln amplitude and its scatter are those that make the planets most likely, for stars
    of the table and others apart; so are the shares of planets with each floor.

    Args:
        prior: Whose shapes are kept.
        evidence: Of each of `FLOORS` and each amplitude of the grid, by planet.
        known: Whether a planet's star is in the table.
    """
    parts = (evidence[known], evidence[~known])
    found = [_shift_and_width(own, prior.shares) for own in parts]
    shares = _learn_shares(np.concatenate([floors for *_, floors in found]), prior.shares)
    (shift, width, _), (other, broad, _) = found
    constant, exponent, scatter = prior.amplitude
    mean, spread = prior.typical
    return replace(
        _with_shares(prior, shares),
        amplitude=(float(constant + shift * scatter), exponent, float(width * scatter)),
        typical=(float(mean + other * spread), float(broad * spread)),
    )


def _shift_and_width(
    evidence: Float64[np.ndarray, "N F G"], expected: Float64[np.ndarray, " F"]
) -> tuple[float, float, Float64[np.ndarray, "N F"]]:
    """How ln amplitudes are distributed, in scatters of the prior, whatever the floors.

    Returns:
        Shift of the mean, factor on the scatter, and the evidence of each planet and floor.
    """
    steps = AMPLITUDES.numpy()
    log = -0.5 * ((steps - _SHIFTS[:, None, None]) / _WIDTHS[:, None]) ** 2  # (S, D, G)
    log -= np.log(np.exp(log).sum(-1, keepdims=True).clip(1e-300))
    high = evidence.max((1, 2), keepdims=True)
    likely = np.einsum("nfg,sdg->nfsd", np.exp(evidence - high), np.exp(log)) + 1e-300
    belief = -0.5 * (np.log(_WIDTHS) / _BELIEF) ** 2 - 0.5 * _SHIFTS[:, None] ** 2
    shares = expected
    for _ in range(_TURNS):
        total = np.log(np.einsum("nfsd,f->nsd", likely, shares)).sum(0) + belief
        shift, width = np.unravel_index(total.argmax(), total.shape)
        floors = np.log(likely[:, :, shift, width]) + high[:, :, 0]
        shares = _learn_shares(floors, expected)
    return float(_SHIFTS[shift]), float(_WIDTHS[width]), floors


def _learn(
    labels: Float64[np.ndarray, "N 283"],
    scale: Float64[np.ndarray, " N"],
    components: int,
    length_um: float,
    rest: float,
) -> SpectrumPrior:
    level = labels[:, 1:].mean(axis=1)
    shapes = labels - level[:, None]
    amplitude = np.log(np.maximum(shapes[:, 1:].std(axis=1), _SMALLEST))
    usual = amplitude
    known = np.isfinite(scale)
    line = np.column_stack([np.ones(known.sum()), scale[known]])
    prior = None
    for _ in range(_PASSES):
        coefficient, *_ = np.linalg.lstsq(line, amplitude[known], rcond=None)
        left_over = amplitude[known] - line @ coefficient if known.any() else amplitude
        scatter = max(float(np.std(left_over)), _LEAST_SCATTER)
        unit = shapes / np.exp(amplitude)[:, None]
        mean = unit.mean(axis=0)
        _, singular, vectors = np.linalg.svd(unit - mean, full_matrices=False)
        kept = vectors[:components]
        left = (unit - mean) - ((unit - mean) @ kept.T) @ kept
        prior = SpectrumPrior(
            level=(float(level.mean()), float(2.0 * level.std())),
            shape=mean,
            components=kept * (singular[:components] / np.sqrt(len(unit)))[:, None],
            process=left.std(axis=0),
            length_um=length_um,
            amplitude=(float(coefficient[0]), float(coefficient[1]), scatter),
            planets=len(labels),
            typical=(float(amplitude.mean()), max(float(amplitude.std()), _LEAST_SCATTER)),
            rest=rest,
            shares=_EVEN,
        )
        amplitude = _best_amplitudes(prior, shapes, scale, usual)
        amplitude += (usual - amplitude).mean()  # shapes of unit amplitude keep the same size
    assert prior is not None
    return prior


def _best_amplitudes(
    prior: SpectrumPrior,
    shapes: Float64[np.ndarray, "N 283"],
    scale: Float64[np.ndarray, " N"],
    start: Float64[np.ndarray, " N"],
) -> Float64[np.ndarray, " N"]:
    """Most likely ln amplitude of each spectrum, searched around its size."""
    tried = start[:, None] + _SEARCH
    likelihood = _amplitude_likelihood(prior, shapes, tried)
    expected, scatter = prior.log_amplitude(scale)
    likelihood -= 0.5 * ((tried - expected[:, None]) / scatter[:, None]) ** 2
    return np.take_along_axis(tried, likelihood.argmax(1)[:, None], axis=1)[:, 0]


def _amplitude_likelihood(
    prior: SpectrumPrior,
    shapes: Float64[np.ndarray, "N 283"],
    log_amplitude: Float64[np.ndarray, "N G"],
) -> Float64[np.ndarray, "N G"]:
    """Log likelihood of each shape for each amplitude."""
    lower = np.linalg.cholesky(prior.covariance())
    both = np.linalg.solve(lower, np.vstack([shapes, prior.shape]).T)
    data, mean = both[:, :-1], both[:, -1]
    factor = np.exp(-log_amplitude)
    square = (data**2).sum(0)[:, None] * factor**2
    square += (mean @ mean) - 2.0 * (mean @ data)[:, None] * factor
    size = shapes.shape[1]
    return -0.5 * square - size * log_amplitude - np.log(np.diag(lower)).sum()


def _log_likelihood(
    prior: SpectrumPrior, labels: Float64[np.ndarray, "N 283"], scale: Float64[np.ndarray, " N"]
) -> Float64[np.ndarray, " N"]:
    """Log likelihood of left-out labels, the amplitude marginalised."""
    shapes = labels - labels[:, 1:].mean(axis=1, keepdims=True)
    expected, scatter = prior.log_amplitude(scale)
    steps = np.linspace(-4.0, 4.0, 161)
    tried = expected[:, None] + scatter[:, None] * steps
    terms = _amplitude_likelihood(prior, shapes, tried) - 0.5 * steps**2
    highest = terms.max(axis=1)
    return highest + np.log(np.exp(terms - highest[:, None]).sum(axis=1))
