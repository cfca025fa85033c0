"""Sums over runs of numbers that are the same to the bit in whatever order the numbers of a run stand.

Each number is cut into parts that are added without rounding (J. Demmel, H. D. Nguyen, "Fast reproducible floating-point
summation", 2013), and only the few totals are rounded. Runs lie one after the other: ``starts`` says where each begins, and none is empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def reduce_runs(ufunc: np.ufunc, values: Array, starts: Array) -> Array:
    """One number a run, of a ``ufunc`` that no order of values matters to."""
    return np.asarray(ufunc.reduceat(values, starts)) if starts.size else np.empty(0, values.dtype)


def total(parts: list[Array]) -> Array:
    """The sums, of what :func:`sum_parts` gives: rounded here, and nowhere before."""
    return np.asarray(parts[0] + (parts[1] + parts[2]))


def sum_parts(values: Array, starts: Array, counts: Array) -> list[Array]:
    """Three numbers a run whose sum is the sum of its values; each is exact, so that no order of values can matter.

    Every value is cut at a bit that the run's greatest value and count fix, such that the upper parts add up within 53 bits;
    then the rests once more, and of long runs a third time. Left out is less than 2**-56 of the greatest value.
    """
    if not starts.size:
        return [np.empty(0)] * 3
    greatest = np.maximum.reduceat(np.abs(values), starts)
    odd: Any = 0.0
    if not np.isfinite(greatest).all():
        finite = np.isfinite(values)
        odd = np.add.reduceat(np.where(finite, 0.0, values), starts)
        values = np.where(finite, values, 0.0)
        greatest = np.maximum.reduceat(np.abs(values), starts)
    exponent = np.frexp(greatest)[1].astype(np.int64)
    bits = np.frexp(counts.astype(np.float64))[1].astype(np.int64)
    unit: Any = 1.0
    if (exponent + bits).max() > 1022:
        huge = exponent + bits > 1022
        unit = np.where(huge, 2.0**64, 1.0)
        values = values * np.repeat(1 / unit, counts)
        exponent = exponent - 64 * huge
    parts: list[Array] = []
    for fold in range(3):
        if fold == 2 and bits.max() <= 16:
            parts.append(np.zeros(starts.size))
            break
        ruler = np.repeat(np.ldexp(1.5, np.maximum(exponent + bits, -1022)), counts)
        upper = values + ruler
        upper -= ruler
        part = np.add.reduceat(upper, starts)
        parts.append(part * unit if fold < 2 else np.where(bits > 16, part * unit, 0.0))
        values = values - upper
        exponent = exponent + bits - 52
    parts[0] = parts[0] + odd
    return parts


def sum_integers(values: Array, starts: Array, cells: Array) -> Array:
    """Sums of int64, exact. Raises :class:`ValueError` for one beyond int64, which names the cell that the run is of."""
    sums = reduce_runs(np.add, values, starts)
    if not values.size or max(abs(int(values.min())), abs(int(values.max()))) * values.size < 2**63:
        return sums
    upper, lower = reduce_runs(np.add, values >> 32, starts), reduce_runs(np.add, values & 0xFFFFFFFF, starts)
    upper = upper + (lower >> 32)
    beyond = (upper < -(2**31)) | (upper >= 2**31)
    if beyond.any():
        raise ValueError(
            f"the sum of integers in cell {cells[np.argmax(beyond)]} is beyond int64: sum them as floats, as in 'h * 1.0'"
        )
    return sums
