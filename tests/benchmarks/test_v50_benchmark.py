"""The judge of the network: scales from others, and an interval that means something."""

import numpy as np
import pytest
import torch
from biased_fits import STAR, make_fit

from observed import Observed
from parts import with_transformer, without_fgs1, without_graph, without_readout
from spectramind import config
from spectramind.model.network import V50
from spectramind.observation import Labels
from spectramind.training.store import SIZES
from v50 import Answers, _gain, _scale

COUNT = 40


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    made = {planet: make_fit(planet, bias=0.0) for planet in range(1, COUNT + 1)}
    labels = Labels(np.array(list(made)), np.stack([truth for _, truth in made.values()]))
    fits = {planet: fit for planet, (fit, _) in made.items()}
    stars = dict.fromkeys(fits, STAR)
    return Observed(fits, {}, stars, labels, tmp_path_factory.mktemp("none") / "priors")


def answers(school, factor):
    fits = school.train
    sigma = np.stack([fits[planet].sigma for planet in sorted(fits)])
    mu = np.stack([fits[planet].depth for planet in sorted(fits)])
    return Answers(np.array(sorted(fits)), mu, sigma / factor)


def test_scale_finds_what_sigma_lacks(school):
    """Errors three times as large as claimed; twice as large for FGS1 alone."""
    claimed = answers(school, np.append(2.0, np.full(282, 3.0)))
    factor = _scale(claimed, claimed, school)
    shrunk = np.sqrt((COUNT * 9.0 + 10.0) / (COUNT + 10.0))  # towards 1, by ten planets
    assert abs(factor[:, 1:].mean() / shrunk - 1.0) < 0.03
    assert abs(factor[:, 0].mean() / 2.0 - 1.0) < 0.3
    stranger = Answers(np.array([999]), claimed.mu[:1], claimed.sigma[:1])
    assert abs(_scale(stranger, claimed, school)[0, 5] / shrunk - 1.0) < 0.03


def test_no_planet_scales_itself(school):
    """One planet is absurdly wrong: its own factor does not know of it, all others' may."""
    claimed = answers(school, np.ones(283))
    claimed.mu[4] += 1.0
    factor = _scale(claimed, claimed, school)[:, 7]
    assert factor[4] < 1.1
    assert np.sum(factor > 100.0) >= COUNT // 2


def test_interval_of_the_gain_covers_and_shrinks():
    rng = np.random.default_rng(0)
    few, many = rng.normal(0.01, 0.05, 100), rng.normal(0.01, 0.05, 1600)
    found = [_gain(gain) for gain in (few, many)]
    widths = [one["gain_high95"] - one["gain_low95"] for one in found]
    assert widths[0] / widths[1] == pytest.approx(4.0, rel=0.25)
    assert widths[0] == pytest.approx(2 * 1.96 * few.std() / 10.0, rel=0.1)


def test_parts_are_out_or_replaced():
    model = config.load(["experiment=cpu"]).model
    torch.manual_seed(0)
    whole = V50(model, SIZES)
    sizes = [sum(p.numel() for p in one.fgs1.parameters()) for one in (
        whole, with_transformer(model, SIZES)
    )]  # fmt: skip
    assert sizes[1] / sizes[0] == pytest.approx(1.0, rel=0.05)
    series, mask = torch.randn(2, 1, SIZES.series, 64), torch.ones(2, 1, 64, dtype=torch.bool)
    assert not without_fgs1(model, SIZES).fgs1(series, mask).any()
    nodes, planet = torch.randn(1, 283, SIZES.nodes), torch.randn(1, SIZES.planet)
    alone = without_graph(model, SIZES)
    before = alone.spectrum(nodes, planet)
    nodes[:, 100:] += 1.0
    torch.testing.assert_close(alone.spectrum(nodes, planet)[:, :100], before[:, :100])
    assert not without_readout(model, SIZES).readout(torch.randn(2, 283, 8), planet).any()
