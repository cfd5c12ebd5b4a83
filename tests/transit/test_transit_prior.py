from dataclasses import replace

import numpy as np
import pytest
import torch
from spectral_process import SURE, exponential
from transit_world import default_config

from spectramind.errors import DataError
from spectramind.observation import Star
from spectramind.transit.spectrum_learning import (
    _DOUBT,
    _best_amplitudes,
    _log_likelihood,
    learn_amplitudes,
    learn_spectrum_prior,
    with_doubt,
)
from spectramind.transit.spectrum_prior import (
    AMPLITUDES,
    SCALES,
    PriorOnDevice,
    SpectrumPrior,
    log_signal,
)

W = 283
STAR = Star(1.2, 1.1, 5800.0, 0.9, 0.0, 4.0, 9.0, 88.0)


def _prior(*, components=4, length=0.03) -> SpectrumPrior:
    rng = np.random.default_rng(11)
    x = np.linspace(0.0, 1.0, W - 1)
    waves = np.array([np.cos((i + 1) * np.pi * x + i) / (i + 1) for i in range(components)])
    first = rng.normal(size=(components, 1)) / np.arange(1, components + 1)[:, None]
    shape = np.append(-0.5, np.sin(7.0 * x))
    return SpectrumPrior(
        level=(0.012, 0.006),
        shape=shape - np.append(0.0, np.full(W - 1, shape[1:].mean())),
        components=np.concatenate([first, waves - waves.mean(1, keepdims=True)], axis=1),
        process=exponential(np.append(0.4, 0.3 + 0.1 * x), length),
        amplitude=(-1.0, 1.1, 0.5),
        planets=100,
        typical=(-9.5, 1.2),
        least=1e-7,
        shares=SURE,
    )


def _expected(prior, scale):
    """Expected ln amplitude of one planet."""
    return float(prior.log_amplitude(np.array([scale]))[0][0])


def _dense(prior, alpha, scale=1.0):
    """Mean and covariance of the spectrum for one amplitude, written out."""
    shape = np.einsum("kv,kw->vw", prior.components, prior.components) + scale**2 * prior.process
    level, spread = prior.level
    covariance = spread**2 + alpha**2 * shape + prior.least**2 * prior.process
    return level + alpha * prior.shape, covariance


def _likelihood(rng, prior, scale, *, sigma=(2e-4, 1e-4)):
    """A spectrum of the prior measured with correlated errors; its information and vector."""
    alpha = np.exp(_expected(prior, scale) + prior.amplitude[2] * rng.normal())
    mean, covariance = _dense(prior, alpha)
    spectrum = rng.multivariate_normal(mean, covariance, method="cholesky")
    error = np.diag(rng.uniform(*sorted(sigma), W) ** 2) + 2e-9  # a common error of 45 ppm
    information = np.linalg.inv(error)
    measured = rng.multivariate_normal(spectrum, error, method="cholesky")
    return spectrum, information, information @ measured


def _mixture(prior, information, vector, scale):
    """Posterior by dense Gaussians, one for each amplitude on the grid of -8..8 sigma."""
    steps = np.linspace(-8.0, 8.0, 33)
    means, covariances, evidence, logs = [], [], [], []
    for step in steps:
        log_alpha = _expected(prior, scale) + prior.amplitude[2] * step
        m, s = _dense(prior, np.exp(log_alpha))
        both = np.eye(W) + s @ information
        covariance = np.linalg.solve(both, s)
        left = vector - information @ m
        means.append(m + covariance @ left)
        covariances.append(covariance)
        fit = 0.5 * left @ covariance @ left - 0.5 * np.linalg.slogdet(both)[1]
        evidence.append(fit + vector @ m - 0.5 * m @ information @ m - 0.5 * step**2)
        logs.append(log_alpha)
    weight = np.exp(np.array(evidence) - max(evidence))
    weight /= weight.sum()
    mean = np.einsum("g,gw->w", weight, means)
    apart = np.array(means) - mean
    covariance = np.einsum("g,gvw->vw", weight, covariances)
    covariance += np.einsum("g,gv,gw->vw", weight, apart, apart)
    return mean, covariance, weight @ logs, weight


@pytest.mark.parametrize("sigma", [(2e-4, 1e-4), (3e-2, 1e-2)], ids=["strong", "weak"])
def test_posterior_equals_the_mixture_of_dense_gaussians(rng, sigma):
    prior, scales = replace(_prior(), least=2e-5), [-7.0, -8.5]
    cases = [_likelihood(rng, prior, scale, sigma=sigma) for scale in scales]
    information, vector = (torch.tensor(np.stack([case[i] for case in cases])) for i in (1, 2))
    device = PriorOnDevice(prior, torch.device("cpu"))
    found = device.posterior(information, vector, torch.tensor(scales, dtype=torch.float64))
    for b, (_, own, pull) in enumerate(cases):
        mean, covariance, log_amplitude, weight = _mixture(prior, own, pull, scales[b])
        sigma_found = np.sqrt(np.diag(covariance))
        assert (weight > 0.02).sum() > 1  # no single amplitude decides
        assert np.abs(found.mean[b].numpy() - mean).max() < 1e-4 * sigma_found.min()
        unit = np.outer(sigma_found, sigma_found)
        assert np.abs((found.covariance[b].numpy() - covariance) / unit).max() < 1e-4
        assert float(found.log_amplitude[b]) == pytest.approx(log_amplitude, abs=1e-5)


def test_fgs1_is_tied_to_the_bands_by_the_components_alone():
    long = _prior(length=1.0)
    wanted = _dense(replace(long, least=0.0), 1.0)[1] - long.level[1] ** 2
    np.testing.assert_allclose(long.covariance(), wanted)
    tied = long.components[:, 0] @ long.components[:, 1:]
    np.testing.assert_allclose(long.covariance()[0, 1:], tied, atol=1e-12)


def test_posterior_without_data_is_the_prior():
    prior, scale = _prior(), -7.5
    device = PriorOnDevice(prior, torch.device("cpu"))
    nothing = torch.zeros(1, W, W).double(), torch.zeros(1, W).double()
    found = device.posterior(*nothing, torch.tensor([scale], dtype=torch.float64))
    mean, covariance, *_ = _mixture(prior, np.zeros((W, W)), np.zeros(W), scale)
    np.testing.assert_allclose(found.mean[0], mean, rtol=1e-9)
    np.testing.assert_allclose(found.covariance[0], covariance, rtol=1e-6, atol=1e-12)
    assert float(found.log_amplitude[0]) == pytest.approx(_expected(prior, scale))


def test_posterior_of_a_planet_knows_nothing_of_its_neighbours(rng):
    prior, scales = _prior(), [-7.0, -8.0, -9.0]
    cases = [_likelihood(rng, prior, scale) for scale in scales]
    information, vector = (torch.tensor(np.stack([case[i] for case in cases])) for i in (1, 2))
    scale = torch.tensor(scales, dtype=torch.float64)
    device = PriorOnDevice(prior, torch.device("cpu"))
    order = torch.tensor([2, 0, 1])
    found = device.posterior(information, vector, scale)
    turned = device.posterior(information[order], vector[order], scale[order])
    np.testing.assert_allclose(turned.mean, found.mean[order], rtol=1e-9)
    np.testing.assert_allclose(turned.covariance, found.covariance[order], rtol=1e-6, atol=1e-14)
    alone = device.posterior(information[1:2], vector[1:2], scale[1:2])
    np.testing.assert_allclose(alone.mean, found.mean[1:2], rtol=1e-9)


def test_spectra_of_the_prior_lie_within_their_posterior(rng):
    prior = _prior()
    scales = rng.uniform(-9.0, -7.0, 12)
    cases = [_likelihood(rng, prior, scale) for scale in scales]
    spectra, information, vector = (np.stack(part) for part in zip(*cases, strict=True))
    found = PriorOnDevice(prior, torch.device("cpu")).posterior(
        torch.tensor(information), torch.tensor(vector), torch.tensor(scales)
    )
    error = spectra - found.mean.numpy()
    z = error / found.covariance.diagonal(dim1=-2, dim2=-1).sqrt().numpy()
    assert 0.6 < np.mean(z**2) < 1.6
    measured = np.linalg.solve(information, vector[..., None])[..., 0]
    assert np.mean(error**2) < 0.5 * np.mean((measured - spectra) ** 2)


def _labels(rng, prior, count):
    scale = rng.uniform(-9.5, -6.5, count)
    spectra = []
    for own in scale:
        alpha = np.exp(_expected(prior, own) + prior.amplitude[2] * rng.normal())
        spectra.append(rng.multivariate_normal(*_dense(prior, alpha), method="cholesky"))
    return np.array(spectra), scale


@pytest.fixture(scope="module")
def learned():
    rng = np.random.default_rng(3)
    true = _prior()
    labels, scale = _labels(rng, true, 200)
    config = default_config(spectrum__components=[2, 8], spectrum__lengths_um=[0.03, 0.3]).spectrum
    return true, labels, scale, learn_spectrum_prior(labels, scale.tolist(), config)


def _relative(prior):
    """Second moments of shapes for unit amplitude, the mean over AIRS-CH0 taken out."""
    out = np.eye(W)
    out[:, 1:] -= 1.0 / (W - 1)
    shape = out @ (prior.covariance() + np.outer(prior.shape, prior.shape)) @ out.T
    return shape / np.trace(shape[1:, 1:])


def test_prior_that_labels_were_drawn_from_is_learned(learned):
    true, labels, _, found = learned
    assert found.planets == 200
    expected = _relative(true)
    off = np.linalg.norm(_relative(found) - expected) / np.linalg.norm(expected)
    assert off < 0.2
    assert len(found.components) == 8
    assert found.amplitude[1] == pytest.approx(true.amplitude[1], abs=0.12)
    assert found.amplitude[2] == pytest.approx(true.amplitude[2], rel=0.2)
    level = labels[:, 1:].mean(1)
    assert found.level == pytest.approx((level.mean(), 2.0 * level.std()))


def test_amplitude_of_the_learned_prior_is_that_of_the_labels(learned):
    """Amplitude times shape is what labels show; either alone has a free unit."""
    true, _, _, found = learned
    expected, own = (
        _expected(p, -8.0)
        + 0.5 * np.log(np.trace((p.covariance() + np.outer(p.shape, p.shape))[1:, 1:]))
        for p in (true, found)
    )
    assert own == pytest.approx(expected, abs=0.12)


def test_left_out_labels_prefer_the_prior_they_were_drawn_from(learned):
    true, _, _, found = learned
    labels, scale = _labels(np.random.default_rng(8), true, 40)
    best = _log_likelihood(true, labels, scale, 1e-6).sum()
    learned_from_few = _log_likelihood(found, labels, scale, 1e-6).sum()
    wrong = _log_likelihood(_prior(length=0.3), labels, scale, 1e-6).sum()
    assert best > learned_from_few > wrong
    shifted = _log_likelihood(true, labels, scale + 1.5, 1e-6).sum()
    assert best > shifted + 20.0


def test_best_amplitude_is_that_of_the_spectrum(rng):
    true = _prior()
    scale = np.full(20, -8.0)
    log_alpha = _expected(true, -8.0) + true.amplitude[2] * rng.normal(size=20)
    shapes = np.stack(
        [
            rng.multivariate_normal(*_dense(true, np.exp(own)), method="cholesky")
            for own in log_alpha
        ]
    )
    shapes -= shapes[:, 1:].mean(axis=1, keepdims=True)
    found = _best_amplitudes(true, shapes, scale, np.full(20, _expected(true, -8.0)))
    assert np.abs(found - log_alpha).max() < 0.25


def test_best_amplitude_stays_at_the_expected_one_where_that_is_sure(rng):
    prior = replace(_prior(), amplitude=(-1.0, 1.1, 1e-3))
    expected = _expected(prior, -8.0)
    shapes = np.stack([rng.multivariate_normal(*_dense(prior, np.exp(expected + 0.5)))])
    shapes -= shapes[:, 1:].mean(axis=1, keepdims=True)
    for start in (expected - 0.5, expected + 0.5):
        found = _best_amplitudes(prior, shapes, np.array([-8.0]), np.array([start]))
        assert found[0] == pytest.approx(expected, abs=0.026)  # half a step of the search


def test_too_few_labels_are_refused(rng):
    config = default_config().spectrum
    labels = rng.uniform(0.01, 0.02, (config.fewest_labels - 1, W))
    with pytest.raises(
        DataError,
        match=r"19 labelled planets, transit\.spectrum\.fewest_labels asks for 20 to learn a "
        r"prior over spectra from\. Label more planets, lower the key, or name a trained prior "
        r"with prior=FILE\.",
    ):
        learn_spectrum_prior(labels, [0.0] * len(labels), config)


def test_signal_is_the_annulus_of_one_scale_height():
    depth, radius = 0.0144, 1.2 * 6.957e8
    temperature = 5800.0 * np.sqrt(1.0 / (2.0 * 9.0))
    mass_kg, newton = 0.9 * 1.89813e27, 6.6743e-11
    gravity = newton * mass_kg / (np.sqrt(depth) * radius) ** 2
    height = 1.380649e-23 * temperature / (2.3 * 1.66054e-27 * gravity)
    annulus = ((0.12 * radius + height) ** 2 - (0.12 * radius) ** 2) / radius**2
    assert log_signal(STAR, depth) == pytest.approx(np.log(annulus), abs=0.01)
    assert np.isnan(log_signal(None, depth))
    assert np.isfinite(log_signal(STAR, 0.0))


def test_an_archive_teaches_amplitudes_without_labels(rng):
    """Planets a scatter brighter, twice as different from one another, of a stronger process."""
    prior, steps = _prior(), AMPLITUDES.numpy()
    true = 1.0 + 2.0 * rng.normal(size=60)
    sharp = -0.5 * ((steps - true[:, None]) / 0.3) ** 2
    likely = SCALES.index(4.0)
    evidence = sharp[:, None, :] + 6.0 * (np.arange(len(SCALES)) == likely)[:, None]
    found = learn_amplitudes(with_doubt(prior), evidence, np.ones(60, dtype=bool))
    constant, exponent, scatter = prior.amplitude
    assert found.amplitude[0] == pytest.approx(constant + scatter, abs=0.5 * scatter)
    assert found.amplitude[1] == exponent
    assert found.amplitude[2] == pytest.approx(2.0 * scatter, rel=0.3)
    assert found.typical == pytest.approx(prior.typical)  # no planet of an unknown star
    assert found.shares.argmax() == likely
    assert found.shares.sum() == pytest.approx(1.0)
    assert 2.0 < found.scale < 5.0


def test_shapes_have_unit_size_however_alike_the_labels_are(rng):
    """All amplitudes are equal: no planet says how much of a spectrum is amplitude."""
    wave = np.sin(np.linspace(0.0, 9.0, 283) + rng.uniform(0.0, 6.0, (60, 1)))
    labels = 0.01 + 1e-4 * wave + 1e-5 * rng.standard_normal((60, 283))
    prior = learn_spectrum_prior(labels, [0.0] * 60, default_config().spectrum)
    assert prior.typical[0] == pytest.approx(np.log(1e-4 / np.sqrt(2.0)), abs=0.3)
    assert np.sqrt(np.diag(prior.covariance()).mean()) == pytest.approx(1.0, abs=0.3)


def test_an_unknown_star_has_the_amplitude_of_the_population():
    prior = _prior()
    mean, scatter = prior.log_amplitude(np.array([np.nan, -8.0]))
    assert (mean[0], scatter[0]) == prior.typical
    assert (mean[1], scatter[1]) == (_expected(prior, -8.0), prior.amplitude[2])


def _light(prior, rng, bump):
    """Likelihoods of spectra of the prior with bumps of this size beside, and the truth."""
    lower = np.linalg.cholesky(prior.covariance())
    shapes = prior.shape + rng.normal(size=(6, W)) @ lower.T
    depth = 0.012 + np.exp(prior.typical[0]) * shapes
    depth[:, 60:75] += bump
    depth[:, 180:200] -= bump
    seen = depth + 5e-5 * rng.normal(size=depth.shape)
    information = torch.eye(W, dtype=torch.float64).expand(6, -1, -1) / 5e-5**2
    return information, torch.tensor(seen) / 5e-5**2, depth


@pytest.mark.parametrize("bump", [0.0, 4e-4])
def test_shapes_that_no_label_had_are_noticed_and_sigma_holds_them(rng, bump):
    process = exponential(np.full(W, 0.01), 0.03)
    prior = replace(_prior(), process=process, typical=(-9.5, 0.3))
    information, vector, depth = _light(prior, rng, bump)
    scale = torch.full((6,), float("nan"), dtype=torch.float64)
    device = PriorOnDevice(with_doubt(prior), torch.device("cpu"))
    found = device.posterior(information, vector, scale)
    surprise = device.surprise(information, vector, found.log_amplitude)
    bare = PriorOnDevice(prior, torch.device("cpu")).posterior(information, vector, scale)
    z2, without = (
        np.mean((own.mean.numpy() - depth) ** 2 / own.covariance.diagonal(dim1=1, dim2=2).numpy())
        for own in (found, bare)
    )
    if bump:
        assert (surprise > 6.0).all()
        assert z2 < 1.6 < 3.0 < without
        assert (found.scale > 4.0).all()
    else:
        assert (surprise.abs() < 4.0).all()
        assert 0.5 < z2 < 1.5
        assert (found.scale < 2.0).all()


def test_the_scale_of_a_planet_is_the_root_mean_square_by_its_evidence(rng):
    prior = replace(_prior(), amplitude=(-1.0, 1.1, 1e-6), shares=np.full(len(SCALES), 1 / 7))
    _, information, vector = _likelihood(rng, prior, -7.0)
    alpha, evidence = np.exp(_expected(prior, -7.0)), []
    for scale in SCALES:
        mean, covariance = _dense(prior, alpha, scale)
        both = np.eye(W) + covariance @ information
        left = vector - information @ mean
        fit = left @ np.linalg.solve(both, covariance @ left) - np.linalg.slogdet(both)[1]
        evidence.append(0.5 * fit)
    share = np.exp(np.array(evidence) - max(evidence))
    wanted = np.sqrt(share @ np.square(SCALES) / share.sum())
    found = PriorOnDevice(prior, torch.device("cpu")).posterior(
        torch.tensor(information)[None], torch.tensor(vector)[None], torch.tensor([-7.0]).double()
    )
    assert float(found.scale[0]) == pytest.approx(wanted, rel=1e-4)
    assert abs(wanted - prior.scale) > 0.5  # the light has said something


def test_planets_of_another_archive_may_differ_at_any_wavelength():
    """FGS1 the most: AIRS-CH0 begins twelve lengths of the doubt away from it."""
    prior = _prior()
    doubted = with_doubt(prior)
    assert doubted.least > 2.0 * prior.least
    more = np.diag(doubted.process - prior.process)
    assert more[1:] == pytest.approx(_DOUBT**2)
    assert more[0] == pytest.approx(12.5 * _DOUBT**2, rel=0.02)
    np.linalg.cholesky(doubted.process)
    assert doubted.shares.sum() == pytest.approx(1.0)
    assert (doubted.shares > 0.0).all()


def test_what_components_leave_is_learned_where_it_is():
    """A rough red half beside a smooth blue one, both of the same strength."""
    rng = np.random.default_rng(5)
    spectra = np.zeros((60, W))
    spectra[:, 1:142] = 0.3 * np.cos(np.linspace(0.0, 6.0, 141) + rng.uniform(0, 7, (60, 1)))
    spectra[:, 142:] = 0.2 * rng.standard_normal((60, 141))
    config = default_config(spectrum__components=[0], spectrum__lengths_um=[0.1]).spectrum
    found = learn_spectrum_prior(0.01 + 1e-4 * spectra, [np.nan] * 60, config).process
    size = np.sqrt(np.diag(found))
    near = np.diag(found, 1) / size[1:] / size[:-1]
    assert near[2:140].min() > 0.9
    assert abs(np.median(near[142:])) < 0.1
