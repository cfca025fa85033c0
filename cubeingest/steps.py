"""One dimension of a lattice: places along even steps, in exact arithmetic. Places are counted in pixels from the origin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

ROUNDING_PX = Fraction(1, 10**6)
"""What rounding to floats can do to an edge, in pixels, and more: an overlap below it is none."""


SAFE_PX = 1e8
"""Pixels from the origin up to which floats place an edge to better than a thousandth of the tolerance."""


def to_fraction(value: float | str | Fraction) -> Fraction:
    """The rational that a person meant: ``0.1`` is one tenth, ``"1/4000"`` is exact.

    Raises :class:`ValueError` for what is not a finite number.
    """
    if isinstance(value, Fraction | int):
        return Fraction(value)
    return Fraction(repr(value) if isinstance(value, float) else value)


def named_edge(origin: Fraction, resolution: Fraction) -> Fraction:
    """The whole number that an edge is named by if it is at most half a pixel away: where pixels stand for points, as in SRTM, edges lie
    half a pixel outside the degree.
    """
    whole = Fraction(round(origin))
    return whole if abs(origin - whole) <= abs(resolution) / 2 and abs(resolution) < 1 else origin


def snap(place: Fraction) -> Fraction:
    """A place in pixels; on the lattice if only rounding to floats keeps it off."""
    nearest_edge = Fraction(round(place))
    return nearest_edge if abs(place - nearest_edge) < ROUNDING_PX else place


def overlapped_chunks(start: Fraction, stop: Fraction, size: int, chunk: int) -> range:
    """Chunk indices that the open interval (start, stop), in pixels, overlaps within an array of ``size``."""
    start, stop = max(snap(start), Fraction(0)), min(snap(stop), Fraction(size))
    if start >= stop:
        return range(0)
    return range(math.floor(start / chunk), math.ceil(stop / chunk))


def near_places(places: Sequence[float], tolerance_px: Fraction) -> list[int] | None:
    """Places given as floats, on whole pixels; None if floats leave a doubt whether they lie there within the tolerance.

    Exact arithmetic, which then decides, takes ten times as long.
    """
    whole = [round(p) if abs(p) < SAFE_PX else None for p in places]
    if any(w is None or abs(p - w) > tolerance_px / 2 for p, w in zip(places, whole, strict=True)):
        return None
    return [w for w in whole if w is not None]


def centres(origin: Fraction, step: Fraction, start: int, stop: int) -> npt.NDArray[np.float64]:
    """Centres of the pixels ``start`` to ``stop`` (excluded), each rounded once from the exact value."""
    # origin + (i + 1/2) step as (first + i * by) / denominator: Python divides integers of any size correctly rounded.
    denominator = math.lcm(origin.denominator, (step / 2).denominator)
    by = int(step * denominator)
    first = int((origin + step / 2) * denominator)
    values = (n / denominator for n in range(first + start * by, first + stop * by, by))
    return np.fromiter(values, dtype=np.float64, count=max(0, stop - start))
