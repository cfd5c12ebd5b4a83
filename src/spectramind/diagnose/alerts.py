"""Verdicts on a run: pass, warn or fail, each with its number, its bound and its figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from spectramind.diagnose.evidence import Judged
from spectramind.diagnose.limb import LimbShift
from spectramind.diagnose.reliability import (
    bias_p_value,
    coverage_p_value,
    covered,
    z2_p_value,
)
from spectramind.diagnose.residuals import ResidualPower
from spectramind.diagnose.scorecard import Score

State = Literal["pass", "warn", "fail"]

WARN_P = 0.05
FAIL_P = 0.001
RUN_LIMIT_S = 9 * 3600.0  # a challenge notebook may run this long
CHANNELS = (("FGS1", slice(0, 1)), ("AIRS-CH0", slice(1, None)))
_BLOWN_Z = 5.0  # a planet whose channel-averaged rms z exceeds this has failed


@dataclass(frozen=True)
class Alert:
    """One verdict."""

    name: str
    state: State
    message: str
    figure: str  # number of the figure, or of the section, that shows it


def grade(p_value: float) -> State:
    """Verdict of a p-value: fail below 0.001, warn below 0.05."""
    if p_value < FAIL_P:
        return "fail"
    return "warn" if p_value < WARN_P else "pass"


def alert_sigma(judged: Judged) -> Alert:
    """Whether mean z^2 is one in both channels; four means that sigma is half its true size."""
    z = judged.z
    p_values = {name: min(1.0, 2.0 * z2_p_value(z[:, part])) for name, part in CHANNELS}
    worst = min(p_values, key=lambda name: p_values[name])
    values = {name: float(np.mean(z[:, part] ** 2)) for name, part in CHANNELS}
    side = "too small" if values[worst] > 1.0 else "too large"
    state = grade(p_values[worst])
    verdict = "agrees with the errors" if state == "pass" else f"is {side} for {worst}"
    message = (
        f"sigma {verdict}: mean z² is {values['FGS1']:.2f} for FGS1 and "
        f"{values['AIRS-CH0']:.2f} for AIRS-CH0 (1 when right; p = {p_values[worst]:.2g}, "
        f"{judged.planets} {judged.name})"
    )
    return Alert("Size of sigma", state, message, "404")


def alert_bias(judged: Judged) -> Alert:
    """Whether mean z is zero in both channels."""
    z = judged.z
    p_values = {name: min(1.0, 2.0 * bias_p_value(z[:, part])) for name, part in CHANNELS}
    worst = min(p_values, key=lambda name: p_values[name])
    values = {name: float(z[:, part].mean()) for name, part in CHANNELS}
    state = grade(p_values[worst])
    verdict = "no common offset" if state == "pass" else f"a common offset of {worst}"
    message = (
        f"{verdict}: mean z is {values['FGS1']:+.2f} for FGS1 and {values['AIRS-CH0']:+.2f} for "
        f"AIRS-CH0 (0 when right; p = {p_values[worst]:.2g})"
    )
    return Alert("Bias", state, message, "403")


def alert_coverage(judged: Judged) -> Alert:
    """Whether the intervals have the coverage they claim, at each level and in both channels."""
    tests = []
    for level, (lower, upper) in judged.intervals.items():
        inside = covered(judged.depth, lower, upper)
        for name, part in CHANNELS:
            share = float(inside[:, part].mean())
            p_value = coverage_p_value(
                share, judged.planets, level, calibration_planets=judged.calibration_planets
            )
            tests.append((p_value, level, name, share))
    p_value, level, name, share = min(tests)
    p_value = min(1.0, p_value * len(tests))
    state = grade(p_value)
    verdict = "hold" if state == "pass" else "do not hold"
    message = (
        f"{judged.interval_method} intervals {verdict}: farthest off is {name} at "
        f"{100 * level:g}%, where {share:.1%} of the truth lies inside (p = {p_value:.2g} "
        f"after {len(tests)} tests)"
    )
    return Alert("Coverage", state, message, "401")


def alert_blown(judged: Judged) -> Alert:
    """Whether the whole spectrum of any planet is many sigma off."""
    rms = np.sqrt(np.mean(judged.z**2, axis=1))
    blown = judged.planet_ids[rms > _BLOWN_Z]
    expected = 2.0 * stats.norm.sf(_BLOWN_Z)
    p_value = float(stats.binom.sf(len(blown) - 1, judged.planets, expected))
    if not len(blown):
        message = f"no planet of {judged.planets} has an rms z above {_BLOWN_Z:g}"
    else:
        names = ", ".join(str(planet) for planet in blown[:10])
        message = (
            f"{len(blown)} of {judged.planets} planets have an rms z above {_BLOWN_Z:g}: {names}"
        )
    return Alert("Failed planets", grade(p_value), message, "202")


def alert_score(v50: Score, fit: Score | None) -> Alert:
    """Whether the score is above that of the naive guess, and of the transit fit alone."""
    message = f"score {v50.total:.4f} ({v50.year} metric)"
    if float(v50.planets.mean()) <= 0.0:
        return Alert("Score", "fail", f"{message}: not better than the naive guess", "201")
    if fit is None:
        return Alert("Score", "pass", f"{message}, above the naive guess (0)", "201")
    gain = float(v50.planets.mean() - fit.planets.mean())
    state: State = "pass" if gain >= 0.0 else "warn"
    return Alert("Score", state, f"{message}, {gain:+.4f} against the transit fit alone", "201")


def alert_limb(shift: LimbShift) -> Alert:
    """Whether limb darkening lies where the priors expect it; warns, never fails."""
    return Alert("Limb darkening", "warn" if shift.far else "pass", shift.sentence, "1")


def alert_white(power: ResidualPower) -> Alert:
    """Whether the residuals are white over wavelength; warns, never fails."""
    state: State = "pass" if power.p_value >= WARN_P else "warn"
    ratio = float(power.power.max())
    message = (
        f"highest residual power is {ratio:.1f} times white noise, at a period of "
        f"{power.strongest_period:.0f} channels (p = {power.p_value:.2g})"
    )
    if state == "warn":
        message += "; errors are correlated, so treat sigma of neighbours as shared"
    return Alert("White residuals", state, message, "501")


def alert_provenance(rows: Sequence[Mapping[str, Any]]) -> Alert:
    """Whether all stages ran from one clean commit."""
    commits = {str(row["git_sha"]) for row in rows}
    dirty = [str(row["stage"]) for row in rows if row["git_dirty"]]
    if len(commits) > 1:
        message = f"the stages come from {len(commits)} commits; run `dvc repro` to renew them"
    elif dirty:
        message = f"code differed from its commit in: {', '.join(dirty)}"
    else:
        return Alert("Provenance", "pass", f"all {len(rows)} stages from one clean commit", "0")
    return Alert("Provenance", "warn", message, "0")


def alert_time(stage_seconds: Mapping[str, float]) -> Alert:
    """Whether the whole run stays within the time limit of the challenge."""
    total = sum(stage_seconds.values())
    state: State = "pass" if total <= RUN_LIMIT_S else "fail"
    message = f"all stages took {total:.0f} s of the {RUN_LIMIT_S:.0f} s a challenge run may take"
    return Alert("Run time", state, message, "001")
