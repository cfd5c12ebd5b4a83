"""The stage: a transit fit of every planet, one file each, made again only when needed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from spectramind.calibrate.cache import LightCurveStore
from spectramind.errors import ArtefactError, DataError
from spectramind.observation import LightCurves, Star, TransitFit, VisitFit
from spectramind.parallel import each
from spectramind.provenance import Provenance, code_hash, digest
from spectramind.transit.binning import BinnedVisit, bin_visit
from spectramind.transit.combine import combine_visits
from spectramind.transit.depths import Spectrum, fit_depths
from spectramind.transit.settings import TransitConfig
from spectramind.transit.store import fit_path, read_facts, read_fit, remove_others, write_fit
from spectramind.transit.verdict import judge, widened
from spectramind.transit.white import LIMB, ORBIT, VISIT, Series, WhiteFit, fit_white, star_prior


@dataclass(frozen=True)
class FitReport:
    """What a run of the stage did with the planets of one split."""

    done: int  # fitted now
    cached: int  # found, made with the same settings from the same light curves
    flagged: int  # of done and cached, fits that are not trusted
    failures: tuple[str, ...]  # a sentence for each planet without a fit


def fit_archive(
    store: LightCurveStore,
    stars: Mapping[int, Star | None],
    config: TransitConfig,
    *,
    split: str,
    out: Path,
    workers: int,
    provenance: Provenance,
) -> FitReport:
    """Fit every planet of both `stars` and `store`; one that fails does not stop the others.

    At the end `OUT/SPLIT` holds the fits that this run made or found, and no others.

    Args:
        store: Calibrated light curves.
        stars: Rows of the star table by planet; None for a star in no table.
        config: Section `transit`.
        split: "train" or "test".
        out: Folder of the stage; files go to `OUT/SPLIT/PLANET.safetensors`.
        workers: Processes.
        provenance: Stored with each fit.

    Raises:
        WriteError: If `out` cannot be written.
    """
    task = partial(_fit_stored, store, config, split, out, provenance)
    planets = [(planet, stars[planet]) for planet in store.planets(split) if planet in stars]
    done = cached = flagged = 0
    failures = []
    for outcome in each(task, planets, workers=workers, label=f"fit {split}"):
        if outcome.value is None:
            failures.append((outcome.item[0], str(outcome.error)))
            continue
        found, suspicious = outcome.value
        cached += found
        done += not found
        flagged += suspicious
    failed = {planet for planet, _ in failures}
    remove_others(out, split, [planet for planet, _ in planets if planet not in failed])
    return FitReport(done, cached, flagged, tuple(text for _, text in sorted(failures)))


def fit_planet(
    visits: Sequence[LightCurves], star: Star | None, config: TransitConfig
) -> TransitFit:
    """White-light fit of all visits, depths at each wavelength, residuals and a verdict.

    Raises:
        DataError: If there is no visit, or one of them cannot be fitted at all.
    """
    if not visits:
        raise DataError("The planet has no visit with light curves. Calibrate it first.")
    binned = [bin_visit(curves, config) for curves in visits]
    share = np.mean([visit.white_share for visit in binned], axis=0)
    white = fit_white(binned, star_prior(star, share, config), config)
    limb = _limb_darkening(white)
    spectra = [
        fit_depths(
            visit,
            z=white.separation(series, series.time_h),
            used=series.used,
            white_model=white.model(series),
            white_transit=1.0 - white.hidden(series, series.time_h),
            k_white=white.value(f"k_airs_{visit.visit}"),
            limb=limb[1:],
            config=config,
        )
        for visit, series in zip(binned, white.series[1::2], strict=True)
    ]
    combined = combine_visits(white, binned, spectra)
    reasons = judge(white, binned, combined, star, config.failure)
    depth, sigma = _filled(combined.depth, combined.sigma, config.failure.depth_scatter)
    physical = len(ORBIT) + len(LIMB) + len(VISIT) * len(binned)
    sign = np.ones(physical)
    sign[ORBIT.index("impact_parameter")] = np.copysign(1.0, white.value("impact_parameter"))
    return TransitFit(
        planet_id=visits[0].planet_id,
        depth=depth,
        sigma=widened(sigma, reasons, config.failure),
        parameter_names=white.names[:physical],
        parameters=sign * white.theta[:physical],
        parameter_covariance=np.outer(sign, sign) * white.covariance[:physical, :physical],
        limb_darkening=limb,
        reduced_chi2=white.reduced_chi2,
        reasons=reasons,
        visits=tuple(
            _products(visit, white, number, spectrum)
            for number, (visit, spectrum) in enumerate(zip(binned, spectra, strict=True))
        ),
    )


def _limb_darkening(white: WhiteFit) -> Float64[np.ndarray, "283 2"]:
    """Prior of each wavelength, moved by what the white light of its channel asks for."""
    first = len(ORBIT)
    fitted = white.theta[first : first + len(LIMB)]
    moved = fitted - white.prior.centre[first:]
    limb = white.prior.limb_darkening.copy()
    limb[0] += moved[:2]
    limb[1:] += moved[2:]
    return limb


def _filled(
    depth: Float64[np.ndarray, " 283"], sigma: Float64[np.ndarray, " 283"], scatter: float
) -> tuple[Float64[np.ndarray, " 283"], Float64[np.ndarray, " 283"]]:
    """Wavelengths without flux get the mean depth of the others and a sigma that says so."""
    measured = np.isfinite(sigma)
    weight = np.where(measured, sigma, np.inf) ** -2.0
    mean = float(weight[1:] @ np.where(measured, depth, 0.0)[1:] / weight[1:].sum())
    return np.where(measured, depth, mean), np.where(measured, sigma, scatter)


def _products(visit: BinnedVisit, white: WhiteFit, number: int, spectrum: Spectrum) -> VisitFit:
    """Residual products of one visit for the network and the figures."""
    fgs1 = white.series[2 * number]
    flux = np.column_stack(
        [visit.fgs1 / _baseline(white, fgs1, fgs1.basis), visit.airs / spectrum.baseline]
    )
    hidden = np.column_stack([white.hidden(fgs1, fgs1.time_h), spectrum.hidden])
    order = fgs1.basis.shape[1] - 1
    fine_basis = np.polynomial.chebyshev.chebvander(visit.scaled(visit.fine_time_h), order)
    return VisitFit(
        visit=visit.visit,
        time_h=visit.airs_time_h,
        flux=flux.astype(np.float32),
        model=(1.0 - hidden).astype(np.float32),
        fgs1_time_h=visit.fine_time_h,
        fgs1_flux=(visit.fine_fgs1 / _baseline(white, fgs1, fine_basis)).astype(np.float32),
        fgs1_model=(1.0 - white.hidden(fgs1, visit.fine_time_h[:, None])).astype(np.float32),
        fgs1_centroid=visit.fine_centroid.astype(np.float32),
    )


def _baseline(
    white: WhiteFit, series: Series, basis: Float64[np.ndarray, "L N"]
) -> Float64[np.ndarray, " L"]:
    return basis @ white.theta[series.baseline]


def _fit_stored(
    store: LightCurveStore,
    config: TransitConfig,
    split: str,
    out: Path,
    provenance: Provenance,
    item: tuple[int, Star | None],
) -> tuple[bool, bool]:
    """Fit one planet unless its file is up to date; (was it there, is it flagged)."""
    planet_id, star = item
    visits = [store.read(split, planet_id, number) for number in store.visits(split, planet_id)]
    path = fit_path(out, split, planet_id)
    origin = _origin(visits, star, provenance)
    if path.exists() and _holds(path, origin):
        return True, bool(read_fit(path).reasons)
    fit = fit_planet(visits, star, config)
    write_fit(path, fit, {**{k: str(v) for k, v in asdict(provenance).items()}, "origin": origin})
    return False, bool(fit.reasons)


def _origin(visits: Sequence[LightCurves], star: Star | None, provenance: Provenance) -> str:
    """Hash of all that a fit depends on: settings, code, star and light curves."""
    curves = hashlib.sha256()
    for visit in visits:
        for array in (visit.airs_time_h, visit.airs_e, visit.fgs1_time_h, visit.fgs1_e,
                      visit.fgs1_centroid):  # fmt: skip
            curves.update(np.ascontiguousarray(array).tobytes())
    return digest(
        {
            "config": provenance.config_hash,
            "code": code_hash("transit"),
            "star": None if star is None else asdict(star),
            "visits": [visit.visit for visit in visits],
            "light_curves": curves.hexdigest(),
        }
    )


def _holds(path: Path, origin: str) -> bool:
    try:
        return read_facts(path).get("origin") == origin
    except ArtefactError:  # a damaged file is made anew
        return False
