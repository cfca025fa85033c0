"""How values along axes become one: mean, median, min, max, std, mode, count. Missing values take no part; float64 inside."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cubeingest.errors import GridError, nearest
from cubeingest.spec import CubeSpec, Variable

Array = np.ndarray[Any, Any]
Valid = npt.NDArray[np.bool_] | None
"""Where there are values; None: everywhere."""

Method = Literal["mean", "median", "min", "max", "std", "mode", "count"]
METHODS: tuple[Method, ...] = get_args(Method)

STACKED: tuple[Method, ...] = ("median", "mode")
"""Methods that need all values of a pixel at once; of others they are taken as they come."""

STRIP_PIXELS = 2**16
"""Pixels that are worked on at a time: what is held of them stays in a core's cache."""


def check_method(method: str, variable: Variable | None) -> Method:
    """``method``. Raises :class:`GridError` for one that is not known, or that would not be exact of a variable's integers."""
    for known in METHODS:
        if method == known:
            if variable is not None and variable.np_dtype.kind in "iu" and variable.np_dtype.itemsize == 8:
                raise GridError(
                    f"{variable.name!r} is {variable.dtype}, which float64 does not hold exactly: nothing is computed of it"
                )
            return known
    raise GridError(f"no method {method!r}{nearest(method, list(METHODS))} (methods: {', '.join(METHODS)})")


def result_dtype(method: Method, variable: Variable | None, n: int) -> np.dtype[Any]:
    """What a result is kept in: of min, max and mode the variable's own dtype; of mean, median and std float32 where that holds
    its values to 7 digits (8 and 16 bits, float32), else float64; counts in the smallest that holds ``n``.

    ``variable`` is None for an expression, whose results are float32 unless it reads more digits.
    """
    if method == "count":
        return np.dtype("uint8" if n < 255 else "uint16" if n < 65535 else "uint32")
    if variable is None:
        return np.dtype("float32")
    if method in ("min", "max", "mode"):
        return variable.np_dtype
    return np.dtype("float32" if is_short(variable) else "float64")


def is_short(variable: Variable) -> bool:
    """Whether float32 holds a variable's values to 7 digits."""
    return variable.np_dtype.itemsize <= 2 or variable.dtype == "float32"


def result_fill(method: Method, variable: Variable | None, dtype: np.dtype[Any]) -> Any:
    """What stands where no value was: the variable's own fill value where its dtype is kept, else NaN; a count is 0 there, and
    the largest number where nothing was counted at all.
    """
    if method == "count":
        return int(np.iinfo(dtype).max)
    if dtype.kind != "f":
        assert variable is not None
        return variable.np_fill.item()
    return variable.np_fill.item() if variable is not None and method in ("min", "max", "mode") else float("nan")


def units_of(method: Method, variable: Variable | None) -> str | None:
    if method == "count":
        return "1"
    return None if variable is None else variable.attrs.get("units")


Strip = tuple[slice, slice]
"""Some of an accumulator's rows and columns: it is worked on in strips, but its arrays are whole, since many small ones would lie about in memory."""


MOST_SMALL = 2**15
"""So many integers of 16 bits add up to what 32 bits hold."""


class Accumulator:
    """Takes values of the same pixels (y, x), position by position, and gives the result as float64, NaN where no value was."""

    def take(self, values: Array, valid: Valid, strip: Strip) -> None:
        """Values of a strip, of one more position."""
        raise NotImplementedError

    def result(self, strip: Strip) -> npt.NDArray[np.float64]:
        raise NotImplementedError


class Mean(Accumulator):
    """Sums are float64; of integers of 8 and 16 bits they are integers, which hold them as exactly and take half the time."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], n: int) -> None:
        is_small = dtype.kind in "iu" and dtype.itemsize <= 2 and n <= MOST_SMALL
        self.total = np.zeros(shape, np.int32 if is_small else np.float64)
        self.count = np.zeros(shape, np.uint16 if n <= MOST_SMALL else np.uint32)

    def take(self, values: Array, valid: Valid, strip: Strip) -> None:
        if valid is None:
            self.total[strip] += values
            self.count[strip] += 1
            return
        self.total[strip] += np.where(valid, values, values.dtype.type(0))
        self.count[strip] += valid

    def result(self, strip: Strip) -> npt.NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.total[strip] / self.count[strip])


class Count(Accumulator):
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = np.zeros(shape, np.uint32)

    def take(self, values: Array, valid: Valid, strip: Strip) -> None:
        self.count[strip] += 1 if valid is None else valid

    def result(self, strip: Strip) -> npt.NDArray[np.float64]:
        return self.count[strip].astype(np.float64)


class Extreme(Accumulator):
    def __init__(self, shape: tuple[int, ...], least: bool) -> None:
        self._pick: Callable[..., Any] = np.fmin if least else np.fmax
        self.kept = np.full(shape, np.nan)

    def take(self, values: Array, valid: Valid, strip: Strip) -> None:
        kept = self.kept[strip]
        self._pick(kept, values if valid is None else np.where(valid, values, np.nan), out=kept)

    def result(self, strip: Strip) -> npt.NDArray[np.float64]:
        return self.kept[strip]


class Std(Accumulator):
    """Standard deviation with ddof 0, by Welford's updates: no difference of large sums."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.mean, self.squares, self.count = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.uint32)

    def take(self, values: Array, valid: Valid, strip: Strip) -> None:
        mean, count = self.mean[strip], self.count[strip]
        count += 1 if valid is None else valid
        from_mean = values - mean
        if valid is not None:
            from_mean[~valid] = 0
        mean += from_mean / np.maximum(count, 1)
        self.squares[strip] += from_mean * (values - mean if valid is None else np.where(valid, values - mean, 0))

    def result(self, strip: Strip) -> npt.NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.sqrt(self.squares[strip] / self.count[strip]))


def make_accumulator(method: Method, shape: tuple[int, ...], dtype: np.dtype[Any], n: int) -> Accumulator:
    """What takes ``n`` values of each pixel, which are of ``dtype``."""
    if method == "mean":
        return Mean(shape, dtype, n)
    if method == "std":
        return Std(shape)
    if method == "count":
        return Count(shape)
    return Extreme(shape, method == "min")


def reduce_stack(method: Method, stack: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Median or mode of float64 values (n, ...) along their first dimension; NaN is missing. Of values that are as frequent, the least."""
    ordered = np.sort(stack, axis=0)  # NaN goes last
    n = np.count_nonzero(~np.isnan(ordered), axis=0)
    if method == "median":
        low, high = (np.maximum(k, 0)[np.newaxis] for k in ((n - 1) // 2, n // 2 - (n == len(stack)) * (n < 1)))
        high = np.minimum(high, len(stack) - 1)
        middle = (np.take_along_axis(ordered, low, 0) + np.take_along_axis(ordered, high, 0))[0] / 2
        return np.where(n > 0, middle, np.nan)
    best, kept, run = np.where(n > 0, 1, 0), ordered[0].copy(), np.ones(n.shape, np.int64)
    for before, value in itertools.pairwise(ordered):
        run = np.where(value == before, run + 1, 1)
        longer = (run > best) & ~np.isnan(value)
        best, kept = np.where(longer, run, best), np.where(longer, value, kept)
    return np.asarray(kept, np.float64)


def to_result(values: npt.NDArray[np.float64], dtype: np.dtype[Any], fill: Any) -> Array:
    """Results as they are kept: NaN becomes the fill value."""
    missing = np.isnan(values)
    with np.errstate(invalid="ignore", over="ignore"):
        out = values.astype(dtype)
    if out.dtype.kind == "f":
        missing |= np.isinf(out) & np.isfinite(values)
    if missing.any():
        out[missing] = fill
    return out


def refuse_unknown_axes(spec: CubeSpec, axes: tuple[str, ...], over: tuple[str, ...], text: str) -> None:
    """Raise :class:`GridError` for axes that are not there to be computed over, and for none."""
    if not over:
        raise GridError(f"over which axis? {text!r} has {', '.join(axes) or 'none'}")
    for name in over:
        if name not in axes:
            has = f"{text!r} has no axis {name!r}{nearest(name, list(axes))} (axes: {', '.join(axes) or 'none'})"
            is_space = spec.healpix is None and name in spec.grid.spatial_dims
            raise GridError(f"{has}; space is gone over by `compute zonal`" if is_space else has)
