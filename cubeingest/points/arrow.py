"""Columns of Arrow as arrays of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from cubeingest.errors import TileError
from cubeingest.points.model import Array


def why_no_number(kind: Any) -> str | None:
    """What a column of an Arrow type is instead of one number a point; None if it is that."""
    from pyarrow import types  # type: ignore[import-untyped]

    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind):
        return None
    if types.is_null(kind) or is_time(kind):
        return None
    return f"{str(kind)[:60]}, not a number"


def is_time(kind: Any) -> bool:
    """Whether an Arrow type is of times or days."""
    from pyarrow import types

    return bool(types.is_timestamp(kind) or types.is_date(kind))


def as_numbers(column: Any) -> Array:
    """An Arrow array as numpy's. Integers stay what they are unless some are null: then they are float64, with NaN. Times are seconds
    since 1970, as float64, to the microsecond.
    """
    from pyarrow import float64, int8, int64, timestamp, types

    kind = column.type
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    if is_time(kind):
        column = column.cast(timestamp("us", getattr(kind, "tz", None)), safe=False).cast(int64())
        seconds: Array = column.cast(float64(), safe=False).to_numpy(zero_copy_only=False) / 1e6
        return seconds
    if types.is_decimal(kind):
        column = column.cast(float64())
    elif column.null_count and not types.is_floating(kind):
        if types.is_integer(kind) and not are_exact(column.drop_null().to_numpy(zero_copy_only=False)):
            raise TileError("a column has nulls, and integers beyond 2**53, which float64 does not hold with them")
        column = (column.cast(int8()) if types.is_boolean(kind) else column).cast(float64(), safe=False)
    values: Array = column.to_numpy(zero_copy_only=False)
    return values


def are_exact(integers: Array) -> bool:
    """Whether float64 holds integers as they are."""
    return (
        integers.dtype.itemsize < 8
        or not integers.size
        or bool((integers <= 2**53).all() and (integers >= -(2**53)).all())
    )


def reason_of(error: Exception) -> str:
    """What a library says of a file, short and in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
