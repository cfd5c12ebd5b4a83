"""Which pixels are used, and what stands in for those that are not."""

import numpy as np
from jaxtyping import Bool, Float, Float64

from spectramind.errors import DataError

_CLIP_ROUNDS = 5
Donors = list[tuple[int, int, float]]  # row, column, weight


def hot_pixels(
    dark: Float64[np.ndarray, "Y X"], dead: Bool[np.ndarray, "Y X"], sigma: float
) -> Bool[np.ndarray, "Y X"]:
    """Pixels whose dark current stands out: iterated clip at median +- sigma * std.

    Dead pixels are left out of the statistics and are never called hot.

    Source: host calibration notebook of the challenge, `sigma_clip(dark, sigma=5, maxiters=5)`;
    differs in leaving out dead pixels, and in that only high dark current counts.
    """
    kept = ~dead
    for _ in range(_CLIP_ROUNDS):
        centre, spread = np.median(dark[kept]), np.std(dark[kept])
        clipped = kept & (np.abs(dark - centre) <= sigma * spread)
        if np.array_equal(clipped, kept):
            break
        kept = clipped
    return ~dead & ~kept & (dark > np.median(dark[kept]))


def donors(usable: Bool[np.ndarray, "Y X"], row: int, column: int, *, across: bool) -> Donors:
    """Pixels and weights (sum 1) whose signal stands in for an unusable pixel.

    The nearest usable pixels on both sides along the dispersion, weighted by the inverse of
    their distance (linear interpolation); with `across`, the mean of that and of the same along
    the column. A side without a usable pixel gives way to the other one.

    Returns:
        Row, column and weight of each donor; empty if the row (and column) has none.
    """
    along = [(row, x, weight) for x, weight in _line_donors(usable[row], column)]
    if not across:
        return along
    down = [(y, column, weight) for y, weight in _line_donors(usable[:, column], row)]
    sides = [side for side in (along, down) if side]
    return [(y, x, weight / len(sides)) for side in sides for y, x, weight in side]


def _line_donors(usable: Bool[np.ndarray, " N"], position: int) -> list[tuple[int, float]]:
    places = np.flatnonzero(usable)
    before, after = places[places < position], places[places > position]
    if not before.size or not after.size:
        return [(int(side), 1.0) for side in (*before[-1:], *after[:1])]
    left, right = int(before[-1]), int(after[0])
    span = right - left
    return [(left, (right - position) / span), (right, (position - left) / span)]


def inpaint(
    image: Float[np.ndarray, "Y X *T"],
    usable: Bool[np.ndarray, "Y X"],
    wanted: Bool[np.ndarray, "Y X"],
    *,
    across: bool,
    where: str,
) -> Float[np.ndarray, "Y X *T"]:
    """Copy of an image (or cube) with the wanted but unusable pixels filled from their donors.

    Raises:
        DataError: If a wanted pixel has no donor.
    """
    filled = image.copy()
    for row, column in np.argwhere(wanted & ~usable).tolist():
        filled[row, column] = sum(
            weight * image[y, x]
            for y, x, weight in required_donors(usable, row, column, across=across, where=where)
        )
    return filled


def required_donors(
    usable: Bool[np.ndarray, "Y X"], row: int, column: int, *, across: bool, where: str
) -> Donors:
    """As `donors`, for a pixel that must have some.

    Raises:
        DataError: If there is none.
    """
    found = donors(usable, row, column, across=across)
    if not found:
        raise DataError(
            f"{where}: row {row} has no usable pixel from which column {column} could be filled. "
            "Fetch the calibration files again, or set calibration.hot_mask=false if it is on."
        )
    return found
