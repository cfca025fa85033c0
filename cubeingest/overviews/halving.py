"""Four pixels become one: how a level of overviews is made of the one below.

Pixels that hold the fill value, or NaN, are missing: they do not count, and a pixel is missing only if all that it is made of are. A mean that
happens to be the fill value becomes the value next to it. Of booleans none is missing: false would be, in most masks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cubeingest.spec import CLASS_ATTRS, Variable

Array = np.ndarray[Any, Any]

STRIP_PIXELS = 2**18
"""Pixels that are halved at a time: what is made of them on the way stays in the processor's cache."""


def method_of(variable: Variable) -> str | None:
    """How a variable's overviews are made; None if it has none.

    What the spec says; else ``mode`` for what looks like classes (attributes that name flags or colours, booleans, integers of 64 bits, and of 8
    bits without ``units``) and ``mean`` for the rest.
    """
    if variable.overviews is not None:
        return None if variable.overviews == "none" else variable.overviews
    dtype = variable.np_dtype
    classes = any(name in variable.attrs for name in CLASS_ATTRS) or dtype.kind == "b"
    is_field = dtype.kind == "f" or dtype.itemsize in (2, 4) or (dtype.itemsize == 1 and "units" in variable.attrs)
    return "mean" if is_field and not classes else "mode"


def halve(pixels: Array, variable: Variable, method: str, out: Array | None = None) -> Array:
    """Every two rows and columns of ``pixels`` (..., rows, columns) become one, in ``out`` if that is given; an odd last one stands for itself.

    ``mode``: the value that most have, of several the one further to the top, then left. ``mean``: of integers rounded to the nearest, halves to
    the even one. ``min``, ``max``. ``nearest``: the upper left pixel, missing or not.
    """
    rows, columns = pixels.shape[-2:]
    if out is None:
        out = np.empty((*pixels.shape[:-2], -(-rows // 2), -(-columns // 2)), pixels.dtype)
    if method == "nearest":
        out[...] = pixels[..., ::2, ::2]
        return out
    step = 2 * max(1, STRIP_PIXELS // (2 * columns * math.prod(pixels.shape[:-2])))
    for start in range(0, rows, step):
        strip = _even(pixels[..., start : start + step, :], variable)
        # Copies that lie close together: every step below runs over them at the memory's pace.
        four = np.stack([strip[..., i::2, j::2] for i in (0, 1) for j in (0, 1)])
        missing = _missing(four, variable)
        here = out[..., start // 2 : (start + step) // 2, :]
        if missing is not None and missing.all():
            here[...] = variable.np_fill
        else:
            here[...] = _KERNELS[method](four, missing, variable)
    return out


def _even(pixels: Array, variable: Variable) -> Array:
    """With an even number of rows and columns; what is added does not count."""
    rows, columns = (n % 2 for n in pixels.shape[-2:])
    if not rows and not columns:
        return pixels
    around = [(0, 0)] * (pixels.ndim - 2) + [(0, rows), (0, columns)]
    if variable.np_dtype.kind == "b":
        return np.pad(pixels, around, mode="edge")
    return np.pad(pixels, around, constant_values=variable.np_fill)


def _missing(four: Array, variable: Variable) -> Array | None:
    """Where pixels are missing, or None if none is."""
    fill = variable.np_fill
    missing: Array | None = None
    if variable.np_dtype.kind == "b":
        return None
    if not np.isnan(fill):
        missing = four == fill
    if variable.np_dtype.kind == "f":
        nan = np.isnan(four)
        missing = nan if missing is None else missing | nan
    return missing if missing is not None and missing.any() else None


def _mode(four: Array, missing: Array | None, variable: Variable) -> Array:
    a, b, c, d = four
    ab, ac, ad, bc, bd, cd = a == b, a == c, a == d, b == c, b == d, c == d
    if missing is None:
        found: Array = np.where(ab | ac | ad, a, np.where(bc | bd, b, np.where(cd, c, a)))
        return found
    best: Array = np.full_like(a, variable.np_fill)
    most = np.full(a.shape, -1, np.int8)
    for value, gone, same in zip(four, missing, ((ab, ac, ad), (ab, bc, bd), (ac, bc, cd), (ad, bd, cd)), strict=True):
        # How many others have the same value; one that is missing loses against all.
        votes = same[0].view(np.int8) + same[1].view(np.int8) + same[2].view(np.int8)
        votes -= gone.view(np.int8) * np.int8(4)
        more = votes > most
        np.copyto(best, value, where=more)
        np.copyto(most, votes, where=more)
    return best


def _mean(four: Array, missing: Array | None, variable: Variable) -> Array:
    dtype = variable.np_dtype
    wide = np.dtype(np.float64 if dtype.kind == "f" or dtype.itemsize > 2 else np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        # Quarters of the widest type, since the sum of four might not fit; that changes no digit.
        unit = wide.type(0.25 if dtype == wide else 1)
        parts = four * unit if dtype == wide else four
        if missing is None:
            mean = parts.sum(axis=0, dtype=wide)
            mean /= 4 * unit
        else:
            mean = np.where(missing, wide.type(0), parts).sum(axis=0, dtype=wide)
            mean /= np.maximum(4 - missing.sum(axis=0, dtype=np.int8), 1) * unit
        out: Array = (np.rint(mean) if dtype.kind != "f" else mean).astype(dtype)
    leave_fill(out, mean, variable)
    return out if missing is None else _filled(out, missing, variable)


def leave_fill(out: Array, mean: Array, variable: Variable) -> None:
    """Move means that are the fill value, which would make data of them missing, to the value next to it on the side of the exact mean."""
    fill = variable.np_fill
    hit = out == fill
    if not hit.any():
        return
    if variable.np_dtype.kind == "f":
        lower, upper = np.nextafter(fill, fill.dtype.type(-np.inf)), np.nextafter(fill, fill.dtype.type(np.inf))
    else:
        ends, value = np.iinfo(variable.np_dtype), int(fill)
        lower, upper = (
            fill.dtype.type(v if ends.min <= v <= ends.max else 2 * value - v) for v in (value - 1, value + 1)
        )
    out[hit] = np.where(mean[hit] < fill, lower, upper)


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
