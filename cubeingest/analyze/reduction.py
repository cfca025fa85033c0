"""A reduction: one value of each pixel from those along axes (a mean over years, a median over dates), window by window, and as a variable."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cubeingest.analyze.methods import (
    STACKED,
    STRIP_PIXELS,
    Method,
    Strip,
    check_method,
    is_short,
    make_accumulator,
    reduce_stack,
    refuse_unknown_axes,
    result_dtype,
    result_fill,
    to_result,
    units_of,
)
from cubeingest.analyze.quantity import Index, Quantity, Reader, find_quantity, is_classes, is_scaled, to_floats
from cubeingest.selection import Selection
from cubeingest.spec import CLASS_ATTRS, CubeSpec, Variable

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Reduction:
    """What is computed: ``method`` of a quantity over axes, and what it becomes.

    ``rest`` are the axes that are left.
    """

    quantity: Quantity
    method: Method
    over: tuple[str, ...]
    dtype: np.dtype[Any]
    fill: Any

    @property
    def rest(self) -> tuple[str, ...]:
        return tuple(a for a in self.quantity.axes if a not in self.over)

    @property
    def title(self) -> str:
        """``mean of ndvi over year``."""
        return f"{self.method} of {self.quantity.text} over {', '.join(self.over)}"


def find_reduction(
    spec: CubeSpec, selection: Selection, method: str, over: Sequence[str], expression: str | None
) -> Reduction:
    """What a command means. Raises :class:`GridError` for what the cube does not have."""
    quantity = find_quantity(spec, selection, expression)
    axes = tuple(dict.fromkeys(over))
    refuse_unknown_axes(spec, quantity.axes, axes, quantity.text)
    variable = None if quantity.is_expression else spec.variable(quantity.text)
    for name in quantity.variables:
        known = check_method(method, spec.variable(name))
    of = None if variable is None or is_scaled(variable, spec) else variable
    n = int(np.prod([len(quantity.positions[a]) for a in axes]))
    dtype = result_dtype(known, of, n)
    if of is None and dtype == np.float32 and not all(is_short(spec.variable(c.variable)) for c in quantity.columns):
        dtype = np.dtype(np.float64)
    return Reduction(quantity, known, axes, dtype, result_fill(known, of, dtype))


def compute_window(reader: Reader, reduction: Reduction, index: Index, y: slice, x: slice) -> Array:
    """(rest axes..., y, x) of some rows and columns. Every chunk is read once, if the rows are whole chunks."""
    work = _stacked if reduction.method in STACKED else _streamed
    return work(reader, reduction, index, y, x)


def _streamed(reader: Reader, reduction: Reduction, index: Index, y: slice, x: slice) -> Array:
    """Axis block by axis block, so that memory does not grow with the number of values."""
    quantity, spec = reduction.quantity, reader.spec
    lengths = tuple(len(index[a]) for a in reduction.rest)
    size = y.stop - y.start, x.stop - x.start
    strips = list(_strips(size))
    n = math.prod(len(index[a]) for a in reduction.over)
    raw = np.dtype(np.float64) if quantity.is_expression else spec.variable(quantity.text).np_dtype
    dtype = np.dtype(np.float64) if is_scaled(spec.variable(quantity.columns[0].variable), spec) else raw
    accumulators = {at: make_accumulator(reduction.method, size, dtype, n) for at in np.ndindex(*lengths)}
    blocks = {a: [index[a]] if a in reduction.rest else quantity.blocks(spec.grid.axis(a)) for a in quantity.axes}
    for positions in itertools.product(*blocks.values()):
        values, valid = reader.read(dict(zip(blocks, positions, strict=True)), y, x)
        for at in np.ndindex(*values.shape[:-2]):
            rest = tuple(i for i, a in zip(at, quantity.axes, strict=True) if a in reduction.rest)
            for strip in strips:
                accumulators[rest].take(values[at][strip], None if valid is None else valid[at][strip], strip)
    out = np.empty((*lengths, *size), reduction.dtype)
    for (at, accumulator), strip in itertools.product(accumulators.items(), strips):
        out[at][strip] = to_result(accumulator.result(strip), reduction.dtype, reduction.fill)
    return out


def _strips(shape_yx: tuple[int, int]) -> Iterator[Strip]:
    """Some whole rows at a time, or a part of one that is longer (all cells of HEALPix are one row)."""
    height, width = shape_yx
    rows, columns = max(1, STRIP_PIXELS // max(1, width)), min(STRIP_PIXELS, max(1, width))
    for top, left in itertools.product(range(0, height, rows), range(0, width, columns)):
        yield slice(top, min(top + rows, height)), slice(left, min(left + columns, width))


def _stacked(reader: Reader, reduction: Reduction, index: Index, y: slice, x: slice) -> Array:
    """All values of the pixels at once: as they are stored, and strip by strip as float64."""
    quantity, spec = reduction.quantity, reader.spec
    size = y.stop - y.start, x.stop - x.start
    rest = [quantity.axes.index(a) for a in reduction.rest]
    over = [quantity.axes.index(a) for a in reduction.over]
    order = (*over, *rest, len(quantity.axes), len(quantity.axes) + 1)
    lengths = tuple(len(index[a]) for a in reduction.rest)
    raw = _read_stack(reader, quantity, index, y, x)
    out = np.empty((*lengths, *size), reduction.dtype)
    for strip in _strips(size):
        if quantity.is_expression:
            floats = raw[(..., *strip)].astype(np.float64)
        else:
            floats = to_floats(raw[(..., *strip)], spec.variable(quantity.text), spec)
        stack = floats.transpose(order).reshape(-1, *lengths, *(s.stop - s.start for s in strip))
        out[(..., *strip)] = to_result(reduce_stack(reduction.method, stack), reduction.dtype, reduction.fill)
    return out


def _read_stack(reader: Reader, quantity: Quantity, index: Index, y: slice, x: slice) -> Array:
    """(axes..., y, x): a variable as stored, or an expression as float64; read axis block by axis block."""
    axes = [reader.spec.grid.axis(a) for a in quantity.axes]
    dtype = np.dtype(np.float64) if quantity.is_expression else reader.spec.variable(quantity.text).np_dtype
    out = np.empty((*(len(index[a.name]) for a in axes), y.stop - y.start, x.stop - x.start), dtype)
    by_axis = []
    for axis in axes:
        runs: dict[int, list[int]] = {}
        for n, position in enumerate(index[axis.name]):
            runs.setdefault(position // axis.block, []).append(n)
        by_axis.append(list(runs.values()))
    for places in itertools.product(*by_axis):
        at = tuple(slice(p[0], p[-1] + 1) for p in places)
        part = {a.name: index[a.name][s] for a, s in zip(axes, at, strict=True)}
        if quantity.is_expression:
            out[at] = reader.read_floats(part, y, x)
        else:
            out[at] = reader.read_raw(reader.spec.variable(quantity.text), part, y, x)
    return out


def result_variable(spec: CubeSpec, reduction: Reduction, name: str = "") -> Variable:
    """A result as a variable: its dtype and fill value, chunks as its first input has them, attributes that say how it was made."""
    quantity = reduction.quantity
    first = spec.variable(quantity.columns[0].variable)
    kept = [n for n, d in enumerate(first.dims) if d in reduction.rest or d in spec.grid.spatial_dims]
    return replace(
        first, name=name or reduction.method, dtype=reduction.dtype.name, fill_value=reduction.fill, axes=reduction.rest,
        dims=(*reduction.rest, *spec.grid.spatial_dims), chunks=tuple(first.chunks[n] for n in kept),
        shards=None if first.shards is None else tuple(first.shards[n] for n in kept),
        attrs=result_attrs(spec, reduction), source=None, aggregate=None, points=None, overviews=None,
    )  # fmt: skip


def result_attrs(spec: CubeSpec, reduction: Reduction) -> dict[str, Any]:
    """Attributes of a result: CF's ``cell_methods``, units, and what its classes are called where it has the same."""
    quantity = reduction.quantity
    variable = None if quantity.is_expression else spec.variable(quantity.text)
    said = {"mean": "mean", "median": "median", "min": "minimum", "max": "maximum", "std": "standard_deviation", "mode": "mode", "count": "sum"}  # fmt: skip
    title = str(variable.attrs.get("long_name", variable.name)) if variable is not None else quantity.text
    what = "number of values" if reduction.method == "count" else reduction.method
    attrs: dict[str, Any] = {
        "long_name": f"{what} of {title} over {', '.join(reduction.over)}",
        "cell_methods": " ".join(f"{axis}:" for axis in reduction.over) + f" {said[reduction.method]}",
    }
    units = units_of(reduction.method, variable)
    if units is not None:
        attrs["units"] = units
    if reduction.method == "std":
        attrs["cell_methods"] += " (ddof 0)"
    if variable is not None and reduction.method in ("mode", "min", "max") and is_classes(variable):
        attrs |= {k: variable.attrs[k] for k in CLASS_ATTRS if k in variable.attrs}
    return attrs
