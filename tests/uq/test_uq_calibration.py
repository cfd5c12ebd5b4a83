"""The calibration file: what it corrects, what it refuses, and that it survives a round trip."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError

from spectramind.artefacts import save_json
from spectramind.errors import ArtefactError, ConfigError, DataError
from spectramind.posterior import SpectrumPosterior
from spectramind.provenance import describe
from spectramind.uq.calibration import fit_calibration, gaussian_half_width, read_calibration
from spectramind.uq.settings import UQConfig

UQ = Path(__file__).parents[2] / "configs" / "uq" / "default.yaml"
PROVENANCE = describe(
    stage="calibrate-temp", config_hash="c", code_hash="k", data_hash="d", seed=1
)

ALL = torch.ones(50, dtype=torch.bool)


def draw(planets, seed, claimed=0.5e-4):
    generator = torch.Generator().manual_seed(seed)
    mu = 0.01 + 0.001 * torch.rand(planets, 283, generator=generator, dtype=torch.float64)
    noise = torch.randn(planets, 283, generator=generator, dtype=torch.float64)
    return SpectrumPosterior(mu, torch.full_like(mu, claimed)), mu + 1e-4 * noise


def fitted(planets=39, levels=(0.68, 0.9), *, temp_scale=True):
    return fit_calibration(
        *draw(50, 0), ALL, *draw(planets, 1), temp_scale=temp_scale, levels=levels
    )


def settings(**changes):
    return UQConfig(**{**yaml.safe_load(UQ.read_text()), **changes})


def test_the_committed_values_are_valid():
    assert settings().levels == (0.68, 0.9)


@pytest.mark.parametrize("levels", [[], [0.9, 0.68], [0.5, 0.5], [0.0], [1.0]])
def test_levels_must_increase_inside_0_and_1(levels):
    with pytest.raises(ValidationError, match=r"levels"):
        settings(levels=levels)


def test_temperature_then_quantiles():
    calibration = fitted()
    assert calibration.temperature == pytest.approx(2.0, rel=0.03)
    assert (calibration.temperature_planets, calibration.conformal_planets) == (50, 39)
    assert calibration.half_widths[0.68].mean() == pytest.approx(1.0, rel=0.1)
    assert calibration.half_widths[0.9].mean() == pytest.approx(1.645, rel=0.1)


def test_a_flagged_planet_does_not_widen_the_others():
    posterior, depth = draw(50, 0)
    lost = depth.clone()
    lost[7] += 1e-2
    words = {"temp_scale": True, "levels": (0.9,)}
    held = draw(39, 1)
    named, silent = ALL.clone(), ALL
    named[7] = False
    flagged = fit_calibration(posterior, lost, named, *held, **words)
    unflagged = fit_calibration(posterior, lost, silent, *held, **words)
    assert flagged.temperature == pytest.approx(2.0, rel=0.03)
    assert flagged.temperature_planets == 49
    assert unflagged.temperature > 5.0


def test_elsewhere_no_conformal_interval_is_narrower_than_the_gaussian_one():
    calibration = fitted(planets=12, levels=(0.68, 0.9, 0.99))
    borrowed, least = calibration.elsewhere(), gaussian_half_width(0.9)
    before, after = (own.half_widths[0.9] for own in (calibration, borrowed))
    assert (before < least).any()
    assert (before > least).any()
    assert torch.equal(after, before.clamp(min=least))
    assert borrowed.half_widths[0.99] is None
    assert borrowed.temperature == calibration.temperature


def test_calibration_planets_do_not_touch_the_temperature():
    first = fitted()
    other = fit_calibration(
        *draw(50, 0), ALL, *draw(39, 2, claimed=9e-4), temp_scale=True, levels=(0.9,)
    )
    assert other.temperature == first.temperature
    assert other.half_widths[0.9].mean() < 0.2


def test_without_temperature_sigma_stays_and_the_quantiles_take_over():
    calibration = fitted(temp_scale=False)
    posterior, _ = draw(3, 5)
    assert torch.equal(calibration.apply(posterior).sigma, posterior.sigma)
    assert calibration.nll_temperature == pytest.approx(2.0, rel=0.03)
    with_temperature = fitted()
    torch.testing.assert_close(
        calibration.half_widths[0.9],
        with_temperature.half_widths[0.9] * with_temperature.temperature,
    )


def test_gaussian_intervals_hold_their_probability():
    calibration, (posterior, _) = fitted(), draw(3, 5)
    intervals = calibration.intervals(posterior, "Gaussian")
    normal = torch.distributions.Normal(posterior.mu, posterior.sigma)
    for level, (lower, upper) in intervals.items():
        torch.testing.assert_close(
            normal.cdf(upper) - normal.cdf(lower), torch.full_like(lower, level)
        )
    assert gaussian_half_width(0.9) == pytest.approx(1.6448536269514722, rel=1e-12)


def test_conformal_intervals_use_the_half_widths():
    calibration, (posterior, _) = fitted(), draw(3, 5)
    lower, upper = calibration.intervals(posterior, "conformal")[0.9]
    torch.testing.assert_close(upper - lower, 2 * calibration.half_widths[0.9] * posterior.sigma)
    torch.testing.assert_close((upper + lower) / 2, posterior.mu)


def test_too_few_planets_stop_conformal_intervals_only():
    calibration, (posterior, _) = fitted(planets=4), draw(3, 5)
    assert calibration.half_widths[0.68] is not None
    assert calibration.half_widths[0.9] is None
    assert set(calibration.intervals(posterior, "Gaussian")) == {0.68, 0.9}
    assert set(calibration.intervals(posterior, "conformal")) == {0.68}
    fitted().require_conformal()
    with pytest.raises(
        ConfigError, match=r"level 0\.9 needs at least 9 calibration planets, got 4\. Raise"
    ):
        calibration.require_conformal()


@pytest.mark.parametrize("planets", [4, 39])
def test_round_trip(tmp_path, planets):
    calibration = fitted(planets)
    path = tmp_path / "stage" / "calibration.json"
    calibration.write(path, PROVENANCE)
    assert json.loads(path.read_text())["stage"] == "calibrate-temp"
    read = read_calibration(path)
    assert read.temperature == calibration.temperature
    assert read.robust_temperature == calibration.robust_temperature
    assert read.conformal_planets == planets
    for level, half_width in calibration.half_widths.items():
        stored = read.half_widths[level]
        assert (stored is None) == (half_width is None)
        assert stored is None or torch.equal(stored, half_width)


def test_missing_file_names_the_command(tmp_path):
    with pytest.raises(
        ArtefactError,
        match=r"calibration\.json: no calibration of the error bars there\. Run `spectramind "
        r"calibrate-temp` first\.",
    ):
        read_calibration(tmp_path / "calibration.json")


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff\xfe"])
def test_damaged_file(tmp_path, content):
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"calibration\.json: is no whole calibration of the "):
        read_calibration(path)


def stored(**other: object) -> dict[str, object]:
    """What the file holds, but for some values."""
    return {
        "temperature": 1.2, "nll_temperature": 1.2, "robust_temperature": 1.1,
        "temperature_planets": 9, "conformal_planets": 9,
        "half_widths": [{"level": 0.5, "half_width": [0.7] * 283}],
    } | other  # fmt: skip


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"temperature": "warm"}, "ValueError"),
        ({"half_widths": None}, "TypeError"),
        ({"half_widths": [{}]}, "KeyError 'level'"),
        ({"temperature": -1.0}, "the temperature is -1, expected above 0"),
        ({"temperature": 0}, "the temperature is 0, expected above 0"),
        ({"temperature": "nan"}, "the temperature is nan, expected above 0"),
        ({"temperature": "inf"}, "the temperature is inf, expected above 0"),
        (
            {"half_widths": [{"level": 0.5, "half_width": [0.7] * 282 + [-0.1]}]},
            r"the half-width at level 0\.5 is -0\.1, expected above 0",
        ),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path, other, why):
    path = tmp_path / "calibration.json"
    save_json(path, stored())
    assert read_calibration(path).temperature == 1.2
    save_json(path, stored(**other))
    with pytest.raises(ArtefactError, match=f"error bars: {why}"):
        read_calibration(path)


@pytest.mark.parametrize("name", ["out-of-fold", "calibration"])
def test_shapes_must_agree(name):
    good, (posterior, depth) = draw(12, 1), draw(12, 2)
    bad = SpectrumPosterior(posterior.mu[:5], posterior.sigma[:5]), depth
    trusted = torch.ones(12, dtype=torch.bool)
    pair = (*bad, trusted, *good) if name == "out-of-fold" else (*good, trusted, *bad)
    with pytest.raises(
        DataError,
        match=rf"{name} planets: posterior of shape \(5, 283\), true depths of shape \(12, 283\), "
        r"wanted the same \(planets, wavelengths\)\. Run `spectramind train` again",
    ):
        fit_calibration(*pair, temp_scale=True, levels=(0.68,))
