"""Each effect that real archives have: at its size when on, without a trace when off."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from sampled_archive import sampled_archive

from spectramind.calibrate.cache import LightCurveStore
from spectramind.instrument import AIRS, FGS1, to_scored, wavelength_um
from spectramind.simulate.population import draw_planet
from spectramind.simulate.scene import build_scene, mean_transit
from spectramind.simulate.systems import draw_systems
from spectramind.simulate.visit import draw_visit, stamps_h

FORMER = Path(__file__).with_name("former_archive.json")
MERGED = 225
NEW = ("visit_dilution", "foreign_limb_darkening", "ramp", "red_noise", "steps")
SMALL = {"train_planets": 2, "test_planets": 0, "cadence_factor": 1125}
OTHER_RANGES = {
    "star": {"foreign_steepness": (1.5, 1.6)},
    "visit": {
        "dilution": (0.1, 0.2),
        "ramp_amplitude": (0.1, 0.2),
        "ramp_time_h": (3.0, 4.0),
        "red_noise_rms": (0.1, 0.2),
        "red_noise_time_h": (3.0, 4.0),
        "red_noise_common_share": (0.3, 0.4),
        "red_noise_turn_rad": (2.0, 3.0),
        "step_count": (5, 6),
        "step_size": (0.1, 0.2),
        "level_colour": 1.0,
    },
}


def observed(config, index=0, number=0):
    """Planet and visit of some settings."""
    planet = draw_planet(1, "train", index, 0.0, config.population)
    return planet, draw_visit(1, planet, number, MERGED, config.effects, config.visit)


def only_level(config, index=0):
    """The one change of level of a visit."""
    (change,) = observed(config, index)[1].levels
    return change


def test_with_the_new_switches_off_the_archive_is_the_former_one(make_settings):
    """Samples written by the code before these effects existed; counts may round otherwise."""
    now = sampled_archive(make_settings(**SMALL))
    former = json.loads(FORMER.read_bytes())
    assert now.keys() == former.keys()
    for name, values in now.items():
        exact = name.endswith(("label", "star"))
        np.testing.assert_allclose(
            values.ravel(),
            former[name],
            rtol=1e-9 if exact else 1e-6,
            atol=1.0 if name.endswith("counts") else 0.0,
            err_msg=name,
        )


def test_ranges_of_effects_that_are_off_change_no_bit(make_settings):
    default = sampled_archive(make_settings(**SMALL))
    other = sampled_archive(make_settings(**SMALL, **OTHER_RANGES))
    for name, values in default.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.parametrize("switch", NEW)
def test_a_switch_leaves_all_other_draws_alone(switch, make_settings):
    _, off = observed(make_settings())
    planet, on = observed(make_settings(effects={switch: True}))
    assert (off.mid_time_h, off.clock_offset_s) == (on.mid_time_h, on.clock_offset_s)
    assert (off.drift, off.edge) == (on.drift, on.edge)
    np.testing.assert_array_equal(off.modes["FGS1"], on.modes["FGS1"])
    assert off.dilution == (0.0, 0.0)
    assert off.levels == ()
    assert (on.dilution != off.dilution) == (switch == "visit_dilution")
    assert [change.cause for change in on.levels] == [switch] * (switch in NEW[2:])
    before, after = (
        draw_systems(make_settings(effects={switch: on}, **SMALL), "train")[0]
        for on in (False, True)
    )
    np.testing.assert_array_equal(before.depth, after.depth)
    assert planet == observed(make_settings())[0]


def test_each_visit_loses_up_to_a_percent_of_the_depth_grey_and_coloured(make_settings):
    config = make_settings(effects={"visit_dilution": True})
    lost = np.array(
        [1.0 - observed(config, i, number)[1].undiluted() for i in range(60) for number in (0, 1)]
    )
    assert lost.min() >= 0.0
    assert 0.009 < lost.max() <= 0.01
    grey, colour = lost.mean(1), lost[:, -1] - lost[:, 0]
    assert grey.std() > 0.001
    assert 0.003 < colour.std() < 0.006
    assert abs(np.corrcoef(lost[::2, 100], lost[1::2, 100])[0, 1]) < 0.4
    steps = np.diff(lost[0]) / np.diff(np.log(wavelength_um()))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_the_transit_is_diluted_and_the_label_is_not(make_settings):
    on = make_settings(
        effects={"visit_dilution": True, "clock_offset": False}, visit={"dilution": (0.01, 0.01)}
    )
    off = make_settings(effects={"clock_offset": False})
    (system,) = draw_systems(on.model_copy(update={"train_planets": 1}), "train")
    flux = {}
    for name, config in (("on", on), ("off", off)):
        _, visit = observed(config)
        flux[name] = mean_transit(AIRS, system.planet, system.light, system.depth, visit, MERGED)
    deep = flux["off"].min(0) < 1.0 - 1e-4
    ratio = (1.0 - flux["on"].min(0)) / (1.0 - flux["off"].min(0))
    np.testing.assert_allclose(ratio[deep], 0.99, atol=2e-3)
    assert system.depth[1:].mean() == pytest.approx(system.planet.depth, rel=5e-3)


def test_the_gain_drifts_by_five_percent_where_asked(make_settings):
    config = make_settings(
        effects={"bad_edge_frames": False}, visit={"gain_drift_amplitude": (0.05, 0.05)}
    )
    (system,) = draw_systems(config.model_copy(update={"train_planets": 1}), "train")
    _, visit = observed(config)
    scene = build_scene(AIRS, system.planet, system.light, system.depth, visit, MERGED)
    assert np.ptp(scene.drift) == pytest.approx(0.05, rel=1e-5)


def test_a_ramp_starts_at_its_amplitude_and_falls_by_e_in_its_time(make_settings):
    config = make_settings(
        effects={"ramp": True},
        visit={"ramp_amplitude": (1e-3, 1e-3), "ramp_time_h": (0.5, 0.5), "level_colour": 0.4},
    )
    signs, colours = set(), []
    for index in range(12):
        change = only_level(config, index)
        middle = change.gain(AIRS)[177:179].mean(0) - 1.0
        np.testing.assert_allclose(
            np.log(abs(middle)), np.log(1e-3) - stamps_h(AIRS, MERGED) / 0.5, atol=0.02
        )
        fgs1 = change.gain(FGS1) - 1.0
        np.testing.assert_array_equal(fgs1[0], fgs1[-1])
        ends = (change.gain(AIRS)[[0, -1], 0] - 1.0) / middle[0]
        np.testing.assert_allclose(ends.mean(), 1.0, rtol=5e-3)
        colours.append(ends[1] - 1.0)
        signs |= {(channel, np.sign(change.gain(channel)[5, 0] - 1.0)) for channel in (FGS1, AIRS)}
    assert len(signs) == 4
    assert 0.1 < np.ptp(colours) / 2 <= 0.41


def test_the_star_and_the_sky_follow_the_level(make_settings):
    on, off = (make_settings(effects={"ramp": ramp, "steps": ramp}) for ramp in (True, False))
    (system,) = draw_systems(on.model_copy(update={"train_planets": 1}), "train")
    for channel in (FGS1, AIRS):
        _, visit = observed(on)
        changed, plain = (
            build_scene(
                channel, system.planet, system.light, system.depth, observed(config)[1], MERGED
            )
            for config in (on, off)
        )
        gain = np.prod([change.gain(channel) for change in visit.levels], axis=0)
        assert np.ptp(gain) > 1e-4
        np.testing.assert_allclose(changed.star_e_s / plain.star_e_s, gain, rtol=1e-6)
        np.testing.assert_allclose(changed.drift / plain.drift, gain, rtol=1e-6)


def red_noise(make_settings, **visit):
    """Series of 60 visits, each channel; AIRS-CH0 at its two ends."""
    ranges = {
        "red_noise_rms": (3e-4, 3e-4),
        "red_noise_time_h": (0.2, 0.2),
        **{f"red_noise_{key}": (value, value) for key, value in visit.items()},
    }
    config = make_settings(effects={"red_noise": True}, visit=ranges)
    series = []
    for index in range(60):
        change = only_level(config, index)
        fgs1 = (change.gain(FGS1)[0] - 1.0).reshape(AIRS.pairs // MERGED, -1).mean(1)
        series.append([fgs1, *(change.gain(AIRS)[[0, -1]] - 1.0)])
    return np.array(series).transpose(1, 0, 2)


def test_red_noise_has_its_rms_and_its_memory(make_settings):
    series = red_noise(make_settings, common_share=0.5, turn_rad=1.0)
    np.testing.assert_allclose(series.std((1, 2)), 3e-4 * 0.77, rtol=0.1)  # means of 0.3 h
    wide = make_settings(effects={"red_noise": True}, visit={"red_noise_rms": (3e-4, 3e-4)})
    slow = wide.model_copy(
        update={"visit": wide.visit.model_copy(update={"red_noise_time_h": (1.0, 1.0)})}
    )
    gain = np.array([only_level(slow, i).gain(FGS1)[0] - 1.0 for i in range(60)])
    assert gain.std() == pytest.approx(3e-4, rel=0.1)
    step = 40  # exposures of FGS1 in one hour
    later = np.mean(gain[:, step:] * gain[:, :-step]) / np.mean(gain**2)
    assert later == pytest.approx(np.exp(-1.0), abs=0.12)


def test_red_noise_is_shared_by_the_channels_and_smooth_in_colour(make_settings):
    def correlation(series):
        return np.corrcoef(series.reshape(3, -1))

    common = correlation(red_noise(make_settings, common_share=1.0, turn_rad=1.5))
    np.testing.assert_allclose(common, 1.0, atol=1e-9)
    own = correlation(red_noise(make_settings, common_share=0.0, turn_rad=1.0))
    assert abs(own[0, 1]) < 0.15
    assert own[1, 2] == pytest.approx(np.cos(1.0), abs=0.12)
    half = correlation(red_noise(make_settings, common_share=0.5, turn_rad=0.0))
    assert half[0, 1] == pytest.approx(0.5, abs=0.12)
    assert half[1, 2] == pytest.approx(1.0)


def test_steps_are_sudden_and_stay(make_settings):
    visit = {"step_count": (2, 2), "step_size": (1e-3, 1e-3), "level_colour": 0.4}
    config = make_settings(effects={"steps": True}, visit=visit)
    for index in range(8):
        change = only_level(config, index)
        for channel in (FGS1, AIRS):
            series = change.series[channel.name]
            assert series.shape[0] == 2
            assert np.all(np.diff(series) >= 0.0)
            assert ((series > 0.0) & (series < 1.0)).sum(1).max() <= 1  # amid one exposure
            size = change.colour[channel.name]
            np.testing.assert_allclose(abs(size.mean(1)), 1e-3)
            assert np.ptp(size, axis=1).max() <= 0.8e-3
        np.testing.assert_allclose(
            change.series["FGS1"].mean(1), change.series["AIRS-CH0"].mean(1), rtol=1e-9
        )


def test_number_size_and_time_of_steps_fill_their_ranges(make_settings):
    config = make_settings(effects={"steps": True})
    drawn = [only_level(config, index) for index in range(30)]
    sizes = [abs(change.colour["FGS1"][:, 0]) for change in drawn]
    before = np.concatenate([1.0 - change.series["FGS1"].mean(1) for change in drawn])
    np.testing.assert_allclose(np.percentile(before, [5, 50, 95]), [0.05, 0.5, 0.95], atol=0.15)
    assert {len(size) for size in sizes} == {1, 2, 3}
    every = np.concatenate(sizes)
    assert 1e-4 <= every.min() < 3e-4
    assert 1e-3 < every.max() <= 2e-3


def test_an_archive_holds_the_effects_and_their_truth(tmp_path, write_archive):
    changes = {"train_planets": 1, "test_planets": 0, "cadence_factor": MERGED}
    silent = {"shot_noise": False, "read_noise": False}
    for name, on in (("off", False), ("on", True)):
        effects = silent | dict.fromkeys(("ramp", "red_noise", "steps"), on)
        write_archive(tmp_path / name, level="lightcurves", effects=effects, **changes)
    (mark,) = (tmp_path / "on" / "truth" / "train").glob("*.json")
    planet = int(mark.stem)
    curves = {
        name: LightCurveStore(tmp_path / name / "lightcurves").read("train", planet, 0)
        for name in ("off", "on")
    }
    with np.load(mark.with_name(f"{planet}_0.npz")) as truth:
        gain = np.prod(
            [
                1.0 + truth[f"AIRS-CH0_{cause}_colour"].T @ truth[f"AIRS-CH0_{cause}_series"]
                for cause in ("ramp", "red_noise", "steps")
            ],
            axis=0,
        )
    ratio = curves["on"].airs_e / curves["off"].airs_e
    np.testing.assert_allclose(ratio, to_scored(gain.T), rtol=1e-5)
    with np.load(tmp_path / "off" / "truth" / "train" / f"{planet}_0.npz") as plain:
        assert not [name for name in plain if name.endswith(("series", "colour"))]
    facts = json.loads(mark.read_bytes())
    assert facts["visits"][0]["dilution"] == [0.0, 0.0]
    assert np.shape(facts["limb_darkening"]["weights"]) == (283, 5)


@pytest.mark.parametrize(
    ("section", "key", "value", "sentence"),
    [
        ("visit", "dilution", (0.0, 1.5), "dilution.1\n.*less than or equal to 1"),
        ("visit", "ramp_amplitude", (0.0, 1e-3), "ramp_amplitude.0\n.*greater than 0"),
        ("visit", "ramp_time_h", (2.0, 1.0), r"ramp_time_h is \[2.0, 1.0\], expected the smaller"),
        ("visit", "red_noise_rms", (1e-4, 0.9), "red_noise_rms.1\n.*less than or equal to 0.5"),
        ("visit", "red_noise_common_share", (-0.1, 1.0), "common_share.0\n.*or equal to 0"),
        ("visit", "step_count", (0, 2), "step_count.0\n.*greater than or equal to 1"),
        ("visit", "step_count", (3, 1), r"step_count is \[3, 1\], expected the smaller number"),
        ("visit", "gain_drift_amplitude", (0.0, 0.05), "amplitude.0\n.*greater than 0"),
        ("visit", "level_colour", 2.0, "level_colour\n.*less than or equal to 1"),
        ("star", "foreign_steepness", (0.5, 1.0), "steepness.0\n.*greater than or equal to 1"),
        ("effects", "ramp", "yes", "ramp\n.*valid boolean"),
    ],
)
def test_settings_that_mean_nothing_are_refused(section, key, value, sentence, make_settings):
    with pytest.raises(ValidationError, match=sentence):
        make_settings(**{section: {key: value}})
