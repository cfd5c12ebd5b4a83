"""How a prior over spectra is learned: from labels, and its amplitudes from light curves too."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from spectramind.errors import DataError
from spectramind.instrument import wavelength_um
from spectramind.transit.settings import SpectrumConfig
from spectramind.transit.spectrum_prior import (
    AMPLITUDES,
    LENGTH_UM,
    SCALES,
    SpectrumPrior,
    plain_correlation,
)

_SHIFTS = np.linspace(-4.0, 4.0, 33)  # of the mean ln amplitude, tried on an archive [scatters]
_WIDTHS = np.geomspace(0.25, 4.0, 17)  # of the scatter, tried on an archive [scatters]
_BELIEF = 1.0  # scatter of ln of that width beforehand
_SEARCH = np.linspace(-2.0, 2.0, 81)  # [ln]
_PASSES = 12  # amplitudes and shapes in turn
_FOLDS = 5  # of labels, each judged by what the others teach
_SMALLEST = 1e-8  # amplitude of a flat spectrum [(Rp/Rs)^2]
_LEAST_SCATTER = 0.1  # of ln amplitude
_USUAL = np.array([0.05, 0.15, 0.5, 0.2, 0.07, 0.025, 0.005])  # shares of `SCALES` beforehand
_SURE = np.eye(len(SCALES))[SCALES.index(1.0)]
_SHRUNK = 0.01  # share of the process that is as strong at one wavelength as at another
_DOUBT = 0.07  # of unit amplitude, by which shapes of another archive's planets are off anywhere
_ROUGHER = 3.0  # factor on the process that every planet of another archive has
_ROUNDS = 30  # of expectation-maximisation
_TURNS = 3  # amplitudes and scales in turn


def learn_spectrum_prior(
    labels: Float64[np.ndarray, "N 283"],
    log_scale: Sequence[float],
    config: SpectrumConfig,
) -> SpectrumPrior:
    """Prior from known spectra.

    Number of components and length of the process are those with which left-out labels, as light
    curves would see them, are most likely.

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
    counts = [own for own in config.components if own <= len(labels) // 4]
    best, chosen = -np.inf, None
    for components in counts or config.components[:1]:
        trials = _Trials.of(labels, scale, components, config)
        for length in config.lengths_um:
            likelihood = trials.likelihood(length, config.noise).sum()
            if likelihood > best:
                best, chosen = likelihood, (trials, length)
    assert chosen is not None  # there is a length
    trials, length = chosen
    evidence = [trials.likelihood(length, config.noise, sure) for sure in np.eye(len(SCALES))]
    prior = _learn(labels, scale, len(trials.priors[0].components), config)
    shares = _learn_shares(np.stack(evidence, axis=1), _USUAL)
    return replace(prior, process=_localised(trials.left, length), shares=shares)


@dataclass(frozen=True, eq=False)
class _Trials:
    """Priors that did not see one fold of the labels each, and what they leave of that fold."""

    labels: Float64[np.ndarray, "N 283"]
    scale: Float64[np.ndarray, " N"]
    priors: list[SpectrumPrior]
    left: Float64[np.ndarray, "N 283"]  # of the shapes of unit amplitude

    @classmethod
    def of(
        cls,
        labels: Float64[np.ndarray, "N 283"],
        scale: Float64[np.ndarray, " N"],
        components: int,
        config: SpectrumConfig,
    ) -> "_Trials":
        """Of so many components."""
        priors, left = [], np.empty_like(labels)
        for out in _folds(len(labels)):
            prior = _learn(labels[~out], scale[~out], components, config)
            left[out] = _remainder(prior, labels[out], scale[out])
            priors.append(prior)
        return cls(labels, scale, priors, left)

    def likelihood(
        self, length_um: float, noise: float, shares: Float64[np.ndarray, " C"] = _SURE
    ) -> Float64[np.ndarray, " N"]:
        """Log likelihood of each label by a prior that did not see it."""
        found = np.empty(len(self.labels))
        for out, prior in zip(_folds(len(self.labels)), self.priors, strict=True):
            own = replace(prior, process=_localised(self.left[~out], length_um), shares=shares)
            found[out] = _log_likelihood(own, self.labels[out], self.scale[out], noise)
        return found


def _folds(count: int) -> list[Bool[np.ndarray, " N"]]:
    """Which labels each fold holds."""
    return [np.arange(count) % _FOLDS == fold for fold in range(_FOLDS)]


def _remainder(
    prior: SpectrumPrior, labels: Float64[np.ndarray, "N 283"], scale: Float64[np.ndarray, " N"]
) -> Float64[np.ndarray, "N 283"]:
    """Shapes of unit amplitude without the mean shape and without what components can follow."""
    shapes = _shapes(labels)
    amplitude = _best_amplitudes(prior, shapes, scale, _sizes(shapes))
    unit = shapes / np.exp(amplitude)[:, None] - prior.shape
    followed, _ = np.linalg.qr(prior.components.T)
    return unit - (unit @ followed) @ followed.T


def _localised(
    left: Float64[np.ndarray, "N 283"], length_um: float
) -> Float64[np.ndarray, "283 283"]:
    """Covariance of spectra, that of wavelengths far from one another taken for chance.

    Source: Houtekamer and Mitchell 2001, for ensembles of few members.
    """
    wavelength = wavelength_um()
    near = np.exp(-0.5 * ((wavelength[:, None] - wavelength) / length_um) ** 2)
    near[0, 1:] = near[1:, 0] = 0.0
    own = near * (left.T @ left) / len(left)
    everywhere = np.trace(own) / len(own) * plain_correlation()
    return (1.0 - _SHRUNK) * own + _SHRUNK * everywhere


def _learn_shares(
    evidence: Float64[np.ndarray, "N C"], expected: Float64[np.ndarray, " C"]
) -> Float64[np.ndarray, " C"]:
    """Shares of planets with each scale that make them most likely, one as expected among them."""
    shares = expected
    for _ in range(_ROUNDS):
        weight = np.exp(evidence - evidence.max(1, keepdims=True)) * shares
        total = (weight / weight.sum(1, keepdims=True)).sum(0) + expected
        shares = total / total.sum()
    return shares


def with_doubt(prior: SpectrumPrior) -> SpectrumPrior:
    """A prior for planets of another archive: its shapes may not be theirs, nor so smooth.

    What they are off by is smooth over `LENGTH_UM`. FGS1 lies many such lengths from AIRS-CH0, and
    errors of independent lengths add up as in a random walk.
    """
    doubt = plain_correlation()
    doubt[0, 0] = (wavelength_um()[1:].min() - wavelength_um()[0]) / LENGTH_UM
    process = prior.process + _DOUBT**2 * doubt
    return replace(prior, process=process, shares=_USUAL, least=_ROUGHER * prior.least)


def learn_amplitudes(
    prior: SpectrumPrior, evidence: Float64[np.ndarray, "N C G"], known: Bool[np.ndarray, " N"]
) -> SpectrumPrior:
    """A prior's process and amplitudes as an archive's own light curves have them, without labels.

    The mean of ln amplitude and its scatter are those that make the planets most likely, for stars
    of the table and others apart; so are the shares of planets with each scale of the process.

    Args:
        prior: Whose shapes are kept.
        evidence: Of each of `SCALES` and each amplitude of the grid, by planet.
        known: Whether a planet's star is in the table.
    """
    parts = (evidence[known], evidence[~known])
    found = [_shift_and_width(own, prior.shares) for own in parts]
    shares = _learn_shares(np.concatenate([scales for *_, scales in found]), prior.shares)
    (shift, width, _), (other, broad, _) = found
    constant, exponent, scatter = prior.amplitude
    mean, spread = prior.typical
    return replace(
        prior,
        shares=shares,
        amplitude=(float(constant + shift * scatter), exponent, float(width * scatter)),
        typical=(float(mean + other * spread), float(broad * spread)),
    )


def _shift_and_width(
    evidence: Float64[np.ndarray, "N C G"], expected: Float64[np.ndarray, " C"]
) -> tuple[float, float, Float64[np.ndarray, "N C"]]:
    """How ln amplitudes are distributed, in scatters of the prior, whatever the scales.

    Returns:
        Shift of the mean, factor on the scatter, and the evidence of each planet and scale.
    """
    steps = AMPLITUDES.numpy()
    log = -0.5 * ((steps - _SHIFTS[:, None, None]) / _WIDTHS[:, None]) ** 2  # (S, D, G)
    log -= np.log(np.exp(log).sum(-1, keepdims=True).clip(1e-300))
    high = evidence.max((1, 2), keepdims=True)
    likely = np.einsum("nkg,sdg->nksd", np.exp(evidence - high), np.exp(log)) + 1e-300
    belief = -0.5 * (np.log(_WIDTHS) / _BELIEF) ** 2 - 0.5 * _SHIFTS[:, None] ** 2
    shares = expected
    for _ in range(_TURNS):
        total = np.log(np.einsum("nksd,k->nsd", likely, shares)).sum(0) + belief
        shift, width = np.unravel_index(total.argmax(), total.shape)
        scales = np.log(likely[:, :, shift, width]) + high[:, :, 0]
        shares = _learn_shares(scales, expected)
    return float(_SHIFTS[shift]), float(_WIDTHS[width]), scales


def _shapes(labels: Float64[np.ndarray, "N 283"]) -> Float64[np.ndarray, "N 283"]:
    """Without their level."""
    return labels - labels[:, 1:].mean(axis=1, keepdims=True)


def _sizes(shapes: Float64[np.ndarray, "N 283"]) -> Float64[np.ndarray, " N"]:
    """Logarithm of their scatter over AIRS-CH0."""
    return np.log(np.maximum(shapes[:, 1:].std(axis=1), _SMALLEST))


def _learn(
    labels: Float64[np.ndarray, "N 283"],
    scale: Float64[np.ndarray, " N"],
    components: int,
    config: SpectrumConfig,
) -> SpectrumPrior:
    """The prior, its process that of the same labels."""
    level, shapes = labels[:, 1:].mean(axis=1), _shapes(labels)
    amplitude = _sizes(shapes)
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
            process=_localised(left, config.lengths_um[0]),
            amplitude=(float(coefficient[0]), float(coefficient[1]), scatter),
            planets=len(labels),
            typical=(float(amplitude.mean()), max(float(amplitude.std()), _LEAST_SCATTER)),
            least=config.least * float(np.exp(amplitude.mean())),
            shares=_SURE,
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
    prior: SpectrumPrior,
    labels: Float64[np.ndarray, "N 283"],
    scale: Float64[np.ndarray, " N"],
    noise: float,
) -> Float64[np.ndarray, " N"]:
    """Log likelihood of labels, the amplitude marginalised, with `noise` on every depth.

    Of the noise, which is white, the mean over all its draws is taken.
    """
    values, vectors = np.linalg.eigh(prior.covariance())
    shapes, mean = _shapes(labels) @ vectors, prior.shape @ vectors
    expected, scatter = prior.log_amplitude(scale)
    steps = np.linspace(-4.0, 4.0, 81)
    factor = np.exp(expected[:, None] + scatter[:, None] * steps)[..., None]
    variance = factor**2 * values.clip(0.0) + noise**2
    square = ((shapes[:, None] - factor * mean) ** 2 + noise**2) / variance
    terms = -0.5 * (square + np.log(variance)).sum(-1) - 0.5 * steps**2
    highest = terms.max(axis=1)
    return highest + np.log(np.exp(terms - highest[:, None]).sum(axis=1))
