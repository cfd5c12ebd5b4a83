"""A diagnostic must pass a good model and fail a bad one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spectramind.diagnose.alerts import (
    alert_bias,
    alert_blown,
    alert_coverage,
    alert_limb,
    alert_provenance,
    alert_score,
    alert_sigma,
    alert_time,
    alert_white,
    grade,
)
from spectramind.diagnose.evidence import judged
from spectramind.diagnose.limb import limb_shift
from spectramind.diagnose.reliability import coverage_p_value
from spectramind.diagnose.residuals import residual_power
from spectramind.diagnose.scorecard import Score
from spectramind.posterior import SpectrumPosterior


def verdicts(evidence):
    known = judged(evidence)
    power = residual_power(known.z[:, 1:])
    return {
        "sigma": alert_sigma(known),
        "bias": alert_bias(known),
        "coverage": alert_coverage(known),
        "blown": alert_blown(known),
        "white": alert_white(power),
    }


def states(evidence):
    return {name: alert.state for name, alert in verdicts(evidence).items()}


@pytest.mark.parametrize("correlated", [0.0, 0.5])
def test_a_calibrated_model_passes(make_evidence, correlated):
    assert set(states(make_evidence(correlated=correlated)).values()) == {"pass"}


@pytest.mark.parametrize(("planets", "coverage"), [(24, ("warn", "fail")), (100, ("fail",))])
def test_over_confident_by_two_fails(make_evidence, planets, coverage):
    found = states(make_evidence(planets, claimed=0.5))
    assert found["sigma"] == "fail"
    assert found["coverage"] in coverage


def test_under_confident_by_three_fails(make_evidence):
    assert states(make_evidence(claimed=3.0))["sigma"] == "fail"


def test_biased_by_two_sigma_fails(make_evidence):
    found = states(make_evidence(bias=2.0))
    assert found["bias"] == "fail"
    assert found["coverage"] == "fail"


def test_shuffled_channels_fail(make_evidence, rng):
    good = make_evidence()
    order = torch.from_numpy(rng.permutation(283))
    mixed = SpectrumPosterior(good.predicted.mu[:, order], good.predicted.sigma)
    bad = make_evidence(predicted=mixed, truth=good.truth, intervals={0.9: mixed.interval(1.6449)})
    assert states(bad)["sigma"] == "fail"


def test_fgs1_alone_is_watched(make_evidence):
    evidence = make_evidence(correlated=0.0)
    evidence.predicted.sigma[:, 0] *= 0.3
    alert = alert_sigma(judged(evidence))
    assert alert.state == "fail"
    assert "too small for FGS1" in alert.message


def test_one_blown_planet_fails_and_is_named(make_evidence):
    evidence = make_evidence()
    evidence.predicted.mu[5] += 1e-3
    alert = alert_blown(judged(evidence))
    assert alert.state == "fail"
    assert alert.message.endswith("1 of 24 planets have an rms z above 5: 1005")


def test_red_residuals_warn(make_evidence):
    evidence = make_evidence()
    evidence.predicted.mu.add_(1e-4 * torch.sin(torch.arange(283.0, dtype=torch.float64) / 5.0))
    assert states(evidence)["white"] == "warn"


def test_conformal_intervals_are_judged_by_their_own_law(make_evidence):
    """A coverage of 68 % where 90 % is wanted says less when few planets calibrated it."""
    p_values = [coverage_p_value(0.68, 24, 0.9, calibration_planets=n) for n in (9, 99, 9999)]
    assert p_values[0] > 3.0 * p_values[1] > 3.0 * p_values[2]
    good = make_evidence(correlated=0.0)
    message = {}
    for planets in (9, 9999):
        narrow = {0.9: good.predicted.interval(0.7)}
        known = judged(replace(good, intervals=narrow, calibration_planets=planets))
        message[planets] = alert_coverage(known)
    assert message[9999].state == "fail"
    assert message[9].state != "fail"
    assert message[9].message.startswith(
        "split-conformal (9 calibration planets) intervals do not hold"
    )


def test_without_truth_the_out_of_fold_planets_are_judged(make_evidence):
    known = judged(make_evidence(known=False))
    assert (known.held_out, known.planets) == (False, 60)
    assert states(make_evidence(known=False))["sigma"] == "pass"
    assert states(make_evidence(known=False, claimed=0.5))["sigma"] == "fail"


@pytest.mark.parametrize(
    ("planets", "shift", "state"),
    [(40, 0.2, "pass"), (40, 2.1, "warn"), (40, -2.1, "warn"), (5, 1.5, "pass"), (5, 2.1, "warn")],
)
def test_limb_darkening_of_a_whole_archive_is_watched(rng, planets, shift, state):
    pulls = rng.normal(0.0, 0.3, (planets, 4))
    pulls[:, 2] += shift - np.median(pulls[:, 2])
    pulls[0, 1] = 90.0  # of one planet, which is no archive
    alert = alert_limb(limb_shift(pulls.tolist()))
    assert alert.state == state
    assert ("the law of limb darkening" in alert.message) == (state == "warn")
    assert alert.message.startswith(f"u1 of AIRS-CH0 lies {shift:+.1f} prior scatters") or (
        state == "pass"
    )


def test_limb_darkening_of_no_planet_is_not_far():
    assert not limb_shift([]).far
    assert "0 planets" in limb_shift([]).sentence


@pytest.mark.parametrize(("p_value", "state"), [(0.06, "pass"), (0.04, "warn"), (0.0009, "fail")])
def test_grades(p_value, state):
    assert grade(p_value) == state


def scored(value):
    return Score(2025, max(value, 0.0), value, value, np.full(4, value))


@pytest.mark.parametrize(
    ("v50", "fit", "state"),
    [(0.5, 0.4, "pass"), (0.4, 0.5, "warn"), (-0.1, -0.5, "fail"), (0.1, None, "pass")],
)
def test_score_against_the_fit_and_the_naive_guess(v50, fit, state):
    assert alert_score(scored(v50), None if fit is None else scored(fit)).state == state


def test_provenance_of_two_commits_or_changed_code_warns(provenance):
    clean = [provenance("fit"), provenance("train")]
    assert alert_provenance(clean).state == "pass"
    mixed = alert_provenance([*clean, provenance("predict", sha="b" * 40)])
    assert (mixed.state, "2 commits" in mixed.message) == ("warn", True)
    dirty = alert_provenance([*clean, provenance("predict", dirty=True)])
    assert (dirty.state, dirty.message.endswith(": predict")) == ("warn", True)


def test_run_time_limit():
    assert alert_time({"fit": 3600.0}).state == "pass"
    assert alert_time({"fit": 20000.0, "train": 20000.0}).state == "fail"
