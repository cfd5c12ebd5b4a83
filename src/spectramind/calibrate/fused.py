"""The fused chain: light curves of a channel without ever building its frames.

Every step after the cosmic rays is linear in the pixels, so dead pixels, apertures, foreground
and centroids are one sparse matrix of weights, (sums, pixels). `kernel` walks each pixel's
series once and adds it, weighted, to the sums it belongs to. `reference` is the specification.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int
from scipy.sparse import coo_array, csc_array

from spectramind.calibrate.background import (
    Aperture,
    choose_aperture,
    smoothing_width,
)
from spectramind.calibrate.cosmic import sampled_pairs
from spectramind.calibrate.curves import (
    FULL_SCALE,
    ChannelCurves,
    Survey,
    label,
    read_ratio,
    trace_gains,
    usable_pixels,
)
from spectramind.calibrate.kernel import address_of, extract, remove_foreground, survey
from spectramind.calibrate.masks import required_donors
from spectramind.calibrate.settings import CalibrationConfig
from spectramind.observation import DetectorMaps, Frames


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Usable pixels as the kernel wants them: addresses of the counts and plain coefficients."""

    places: Int[np.ndarray, " P"]  # flat detector index
    counts: list[np.ndarray]  # keeps the memory behind `address` alive
    address: Int[np.ndarray, " P"]
    charge: Float64[np.ndarray, "P 6"]  # ascending polynomial of the count [e-]
    dark: Float64[np.ndarray, " P"]  # [e-/s]
    inverse_flat: Float64[np.ndarray, " P"]
    read_s: tuple[float, float]


def calibrate_channel(
    frames: Frames, maps: DetectorMaps, config: CalibrationConfig
) -> ChannelCurves:
    """Light curves of one channel; equal to `reference.calibrate_channel` within 1e-6.

    Raises:
        DataError: If too few usable pixels are left to fill a dead one, to find the star or to
            measure the foreground.
    """
    where = label(frames)
    usable, hot = usable_pixels(frames, maps, config)
    pixels = _pixels(frames, maps, config, usable)
    look = _survey_detector(frames, config, pixels)
    aperture = choose_aperture(frames.channel, config, look.signal_e, usable, where)
    gains = np.ones(aperture.curves)
    if config.dead_pixels == "zero_weight":
        gains = trace_gains(look, usable, aperture, where)
    weights = _weights(aperture, usable, gains, where, inpaint=config.dead_pixels == "inpaint")
    threshold = np.full(usable.shape, np.inf)
    if config.cosmic_rays:
        threshold = config.cosmic_sigma * look.noise_e
    sums, hits, largest = _extract_sums(
        pixels, (aperture.sums, frames.time_h.size), weights, threshold
    )
    summed = aperture.flux >= 0
    if config.dead_pixels == "zero_weight":
        summed &= usable
    width = smoothing_width(frames.time_h, config.foreground_smooth_s)
    flux, level, centroid = _remove_foreground(sums, aperture, summed, gains, width)
    used = aperture.used.ravel()[pixels.places]
    return ChannelCurves(
        flux_e=flux,
        centroid=centroid,
        foreground_e=level.mean(1),
        read_ratio=read_ratio(look, usable),
        pixels=int(aperture.used.sum()),
        masked=int((aperture.used & ~usable).sum()),
        hot=hot,
        cosmic_rays=int(hits[used].sum()),
        full_scale=int((largest[used] == FULL_SCALE).sum()),
    )


def _pixels(
    frames: Frames,
    maps: DetectorMaps,
    config: CalibrationConfig,
    usable: Bool[np.ndarray, "Y X"],
) -> _Pixels:
    kept = np.flatnonzero(usable.flat[frames.pixels])
    column = frames.pixels[kept] % frames.channel.columns
    kept = kept[np.argsort(column, kind="stable")]  # column by column: a sum stays in the cache
    places = frames.pixels[kept].astype(np.int64)
    counts = [np.ascontiguousarray(frames.reads[index]) for index in kept.tolist()]
    # The kernel follows raw addresses: the archive's promise of whole pairs is vital here.
    assert all(series.size == 2 * frames.time_h.size for series in counts)
    linear = np.tile([[0.0], [1.0], [0.0], [0.0], [0.0], [0.0]], kept.size)
    if config.linearity:
        linear = maps.linear_corr.reshape(6, -1)[:, places]
    scale, offset = (1.0 / frames.gain, frames.offset_e) if config.adc else (1.0, 0.0)
    return _Pixels(
        places=places,
        counts=counts,
        address=np.array([address_of(series) for series in counts], dtype=np.int64),
        charge=_of_counts(linear, scale, offset),
        dark=maps.dark.ravel()[places] if config.dark else np.zeros(kept.size),
        inverse_flat=1.0 / maps.flat.ravel()[places] if config.flat else np.ones(kept.size),
        read_s=frames.read_s,
    )


def _of_counts(
    linear: Float64[np.ndarray, "6 P"], scale: float, offset: float
) -> Float64[np.ndarray, "P 6"]:
    """Coefficients of the polynomial p(scale * count + offset) in powers of the count.

    Horner's rule on polynomials: times (scale * count + offset), plus the next coefficient.
    """
    charge = np.zeros((linear.shape[1], 6))
    for coefficient in linear[::-1]:
        lower = charge[:, :-1].copy()
        charge *= offset
        charge[:, 1:] += scale * lower
        charge[:, 0] += coefficient
    return charge


def _survey_detector(frames: Frames, config: CalibrationConfig, pixels: _Pixels) -> Survey:
    found = np.zeros((4, frames.channel.pixels))
    found[:, pixels.places] = survey(
        pixels.address,
        frames.time_h.size,
        sampled_pairs(frames.time_h.size),
        pixels.charge,
        pixels.dark,
        pixels.read_s,
        pixels.inverse_flat,
        1.0 / frames.gain if config.adc else 1.0,
    )
    return Survey(*found.reshape(4, *frames.channel.shape))


def _weights(
    aperture: Aperture,
    usable: Bool[np.ndarray, "Y X"],
    gains: Float64[np.ndarray, " C"],
    where: str,
    *,
    inpaint: bool,
) -> csc_array:
    """Sparse (sums, pixels): C fluxes, C foreground means, then one first moment an axis."""
    rows, columns = np.nonzero((aperture.flux >= 0) & usable)
    flux = aperture.flux[rows, columns]
    entries = [_light(aperture, flux, np.stack([rows, columns]), gains[flux], rows, columns)]
    if inpaint:
        for row, column in np.argwhere((aperture.flux >= 0) & ~usable).tolist():
            found = required_donors(usable, row, column, across=aperture.across, where=where)
            y, x, weight = map(np.array, zip(*found, strict=True))
            curve = np.full(weight.size, aperture.flux[row, column])
            place = np.tile([[row], [column]], weight.size)
            entries.append(_light(aperture, curve, place, weight, y, x))
    outer = np.nonzero((aperture.foreground >= 0) & usable)
    curve = aperture.foreground[outer]
    members = np.bincount(curve, minlength=aperture.curves)
    pixel = np.ravel_multi_index(outer, usable.shape)
    entries.append((aperture.curves + curve, pixel, 1.0 / members[curve]))
    sums, pixel, weight = (np.concatenate(part) for part in zip(*entries, strict=True))
    return csc_array(coo_array((weight, (sums, pixel)), shape=(aperture.sums, usable.size)))


def _light(
    aperture: Aperture,
    curve: Int[np.ndarray, " N"],
    place: Int[np.ndarray, "2 N"],
    weight: Float64[np.ndarray, " N"],
    rows: Int[np.ndarray, " N"],
    columns: Int[np.ndarray, " N"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries of pixels (rows, columns) whose light counts at `place`: flux and moments."""
    first = 2 * aperture.curves
    pixel = rows * aperture.flux.shape[1] + columns
    sums = [curve] + [np.full_like(curve, first + k) for k in range(len(aperture.moments))]
    weights = [weight] + [weight * place[axis] for axis in aperture.moments]
    return np.concatenate(sums), np.tile(pixel, len(sums)), np.concatenate(weights)


def _extract_sums(
    pixels: _Pixels,
    shape: tuple[int, int],
    weights: csc_array,
    threshold: Float64[np.ndarray, "Y X"],
) -> tuple[Float64[np.ndarray, "N T"], Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Weighted sums, and for each usable pixel the cosmic rays and the largest count."""
    sums = np.zeros(shape)
    hits, largest = np.zeros((2, pixels.places.size), dtype=np.int64)
    extract(
        pixels.address,
        shape[1],
        pixels.charge,
        pixels.dark * (pixels.read_s[1] - pixels.read_s[0]),
        pixels.inverse_flat,
        threshold.ravel()[pixels.places],
        pixels.places,
        weights.indptr.astype(np.int64),
        weights.indices.astype(np.int64),
        weights.data,
        sums,
        hits,
        largest,
    )
    return sums, hits, largest


def _remove_foreground(
    sums: Float64[np.ndarray, "N T"],
    aperture: Aperture,
    summed: Bool[np.ndarray, "Y X"],
    gains: Float64[np.ndarray, " C"],
    width: int,
) -> tuple[Float64[np.ndarray, "C T"], Float64[np.ndarray, "C T"], Float64[np.ndarray, "T K"]]:
    """Flux, foreground of one pixel and centroid; the foreground leaves `sums` in place."""
    curve, places = aperture.flux[summed], np.nonzero(summed)
    pixels, *moved = (
        gains * np.bincount(curve, weights, aperture.curves)
        for weights in (None, *(places[axis] for axis in aperture.moments))
    )
    remove_foreground(sums, pixels, np.stack(moved), width // 2)
    flux, level, moments = np.split(sums, [aperture.curves, 2 * aperture.curves])
    return flux, level, (moments / flux.sum(0)).T
