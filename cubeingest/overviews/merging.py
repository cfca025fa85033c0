"""The work on one run of regions of HEALPix cells: all levels of a stage, from the cells of the level that is read.

Statistics are merged in float64 (whole numbers in int64) from level to level, and only what is written is rounded to what the variable holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.coarser import merge_cells
from cubeingest.errors import TileError
from cubeingest.overviews.halving import halve, leave_fill
from cubeingest.overviews.levels import Pyramid, Stage
from cubeingest.overviews.rules import MERGED
from cubeingest.spec import Variable
from cubeingest.statistic import Statistic
from cubeingest.store import open_array
from cubeingest.writer import is_fill

if TYPE_CHECKING:
    import icechunk

FAN = 4
"""Cells that one of the next coarser order is made of: they follow one another."""

MERGED_CELLS = 2**17
"""Cells of a variable that are merged at a time: what is reckoned on the way stays small, some 20 MB."""

Array = np.ndarray[Any, Any]


def coarser_cells(
    session: icechunk.Session, pyramid: Pyramid, stage: Stage, name: str, index: tuple[slice, ...], layout: str
) -> list[Array]:
    """The cells of a variable at each level of a stage, finest first, above ``index`` (slices of axes, then of the cells that are read).

    Raises :class:`TileError` for what the variable cannot hold.
    """
    levels = pyramid.levels[stage.first - 1 : stage.last]
    variables = [level.spec.variable(name) for level in levels]
    below, paths = pyramid.below(stage)
    arrays = {n: open_array(session, paths[n], "r+", layout) for n in pyramid.rules[name].needs}
    *axes, cells = index
    lengths = [s.stop - s.start for s in axes]
    n_cells = cells.stop - cells.start
    out = [np.empty((*lengths, n_cells // FAN**k), v.np_dtype) for k, v in enumerate(variables, 1)]
    whole = FAN ** len(levels)
    piece = whole * max(1, MERGED_CELLS // (whole * math.prod(lengths)))
    window = math.lcm(piece, *(below.variable(n).write_shape[-1] for n in arrays))  # no chunk is read twice
    for start in range(0, n_cells, window):
        read = {
            n: np.asarray(array[(*axes, slice(cells.start + start, cells.start + min(start + window, n_cells)))])
            for n, array in arrays.items()
        }
        for at in range(start, min(start + window, n_cells), piece):
            part = {n: values[..., at - start : at - start + piece] for n, values in read.items()}
            if pyramid.rules[name].method == MERGED:
                made = _merged(pyramid, name, {n: below.variable(n) for n in read}, part, variables)
            else:
                made = _halved(part[name], variables, pyramid.rules[name].method)
            for k, (level, found) in enumerate(zip(out, made, strict=True), 1):
                level[..., at // FAN**k : at // FAN**k + found.shape[-1]] = found
    return out


def _halved(cells: Array, variables: Sequence[Variable], method: str) -> Iterator[Array]:
    """Level upon level, each of the one before as it is stored. Four cells are taken as two rows of two."""
    for variable in variables:
        four = cells.reshape(*cells.shape[:-1], -1, 2)
        cells = halve(four, variable, method)[..., 0]
        yield cells


def _merged(
    pyramid: Pyramid,
    name: str,
    stored: Mapping[str, Variable],
    cells: Mapping[str, Array],
    variables: Sequence[Variable],
) -> Iterator[Array]:
    """Level upon level of a statistic, none of them made of what was rounded."""
    statistics = {n: _statistic(pyramid.base.variable(n)) for n in cells}
    gone = {n: _missing(values, stored[n]) for n, values in cells.items()}
    for variable in variables:
        try:
            found = {n: merge_cells(s, pyramid.rules[n].needs, cells, gone, FAN) for n, s in statistics.items()}
        except ValueError as e:
            raise TileError(str(e)) from None
        cells, gone = ({n: pair[i] for n, pair in found.items()} for i in (0, 1))
        yield _fit(cells[name], gone[name], variable)


def _statistic(variable: Variable) -> Statistic:
    assert variable.aggregate is not None, f"{variable.name!r} is merged, but no statistic"
    return variable.aggregate


def _missing(values: Array, variable: Variable) -> Array:
    missing = is_fill(values, variable)
    return missing | np.isnan(values) if values.dtype.kind == "f" else missing


def _fit(values: Array, gone: Array, variable: Variable) -> Array:
    """Merged values in a level's dtype. Raises :class:`TileError` for numbers that it cannot hold, and for a count or sum that is the fill value."""
    statistic = _statistic(variable)
    with np.errstate(over="ignore"):
        fitted = values.astype(variable.np_dtype)
    if variable.np_dtype.kind == "f":
        bad = np.isinf(fitted) & np.isfinite(values)
        if bad.any():
            raise TileError(
                f"{statistic.text} is {values[bad][0].item()!r} in {np.count_nonzero(bad)} coarser cells, which dtype {variable.dtype} of variable "
                f"{variable.name!r} cannot hold: make a new cube with a wider dtype"
            )
    if statistic.kind not in ("count", "sum"):
        leave_fill(fitted, values, variable)
    elif variable.fill_value != 0 and (is_fill(fitted, variable) & ~gone).any():
        raise TileError(
            f"{statistic.text} is {variable.fill_value!r} in coarser cells, the fill value of variable {variable.name!r}, which means that there are no "
            "points: make a new cube with another fill_value"
        )
    fitted[gone] = variable.np_fill
    return fitted
