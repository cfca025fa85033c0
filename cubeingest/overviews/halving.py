"""Four pixels become one: how a level of overviews is made of the one below.

Pixels that hold the fill value, or NaN, are missing: they do not count, and a pixel is missing only if all that it is made of are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cubeingest.spec import CLASS_ATTRS, Variable

Array = np.ndarray[Any, Any]


def method_of(variable: Variable) -> str | None:
    """How a variable's overviews are made; None if it has none.

    What the spec says; else ``mode`` for what looks like classes (attributes that name flags or colours, booleans, integers of 8 or 64 bits)
    and ``mean`` for the rest.
    """
    if variable.overviews is not None:
        return None if variable.overviews == "none" else variable.overviews
    classes = any(name in variable.attrs for name in CLASS_ATTRS)
    is_field = variable.np_dtype.kind == "f" or variable.np_dtype.itemsize in (2, 4)
    return "mean" if is_field and not classes else "mode"


def halve(pixels: Array, variable: Variable, method: str) -> Array:
    """Every two rows and columns of ``pixels`` (..., rows, columns) become one; an odd last one stands for itself.

    ``mode``: the value that most have, of several the one further to the top, then left. ``mean``: of integers rounded to the nearest, halves to
    the even one. ``min``, ``max``. ``nearest``: the upper left pixel, missing or not.
    """
    if method == "nearest":
        corner: Array = pixels[..., ::2, ::2].copy()
        return corner
    rows, columns = pixels.shape[-2:]
    if rows % 2 or columns % 2:
        even = [(0, 0)] * (pixels.ndim - 2) + [(0, rows % 2), (0, columns % 2)]
        pixels = np.pad(pixels, even, constant_values=variable.np_fill)
    # Copies that lie close together: every step below runs over them at the memory's pace.
    four = np.stack([pixels[..., i::2, j::2] for i in (0, 1) for j in (0, 1)])
    missing = _missing(four, variable)
    if missing is not None and missing.all():
        return np.full(four.shape[1:], variable.np_fill, four.dtype)
    out: Array = _KERNELS[method](four, missing, variable)
    return out


def _missing(four: Array, variable: Variable) -> Array | None:
    """Where pixels are missing, or None if none is."""
    fill = variable.np_fill
    missing: Array | None = None
    if not np.isnan(fill):
        missing = four == fill
    if variable.np_dtype.kind == "f":
        nan = np.isnan(four)
        missing = nan if missing is None else missing | nan
    return missing if missing is not None and missing.any() else None


def _mode(four: Array, missing: Array | None, variable: Variable) -> Array:
    a, b, c, d = four
    out: Array = np.where((a == b) | (a == c) | (a == d), a, np.where((b == c) | (b == d), b, np.where(c == d, c, a)))
    if missing is not None:
        nothing = missing.all(axis=0)
        some = missing.any(axis=0) & ~nothing
        out[some] = _votes(four[:, some], missing[:, some])
        out[nothing] = variable.np_fill
    return out


def _votes(four: Array, missing: Array) -> Array:
    """The mode of each column of (4, n) values, of which some are missing."""
    votes = ((four[:, np.newaxis] == four) & ~missing).sum(axis=1, dtype=np.int8)
    votes[missing] = 0
    found: Array = np.take_along_axis(four, votes.argmax(axis=0)[np.newaxis], 0)[0]
    return found


def _mean(four: Array, missing: Array | None, variable: Variable) -> Array:
    dtype = variable.np_dtype
    wide = np.dtype(np.float64 if dtype.kind == "f" or dtype.itemsize > 2 else np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        if missing is None:
            mean = four.sum(axis=0, dtype=wide)
            mean *= 0.25
        else:
            total = np.where(missing, wide.type(0), four).sum(axis=0, dtype=wide)
            count = 4 - missing.sum(axis=0, dtype=np.int8)
            mean = total / np.maximum(count, 1).astype(wide)
        if dtype.kind != "f":
            np.rint(mean, out=mean)
        out: Array = mean.astype(dtype)
    return out if missing is None else _filled(out, missing, variable)


def _extreme(ufunc: Any) -> Any:
    def reduce(four: Array, missing: Array | None, variable: Variable) -> Array:
        if missing is None:
            out: Array = ufunc.reduce(four, axis=0)
            return out
        # A missing pixel takes the value of one that is not, which changes neither the least nor the greatest.
        first = (~missing).argmax(axis=0)[np.newaxis]
        held = np.where(missing, np.take_along_axis(four, first, 0), four)
        return _filled(ufunc.reduce(held, axis=0), missing, variable)

    return reduce


def _filled(out: Array, missing: Array, variable: Variable) -> Array:
    out[missing.all(axis=0)] = variable.np_fill
    return out


_KERNELS = {"mode": _mode, "mean": _mean, "min": _extreme(np.minimum), "max": _extreme(np.maximum)}
