"""Points that a source function returns, as a table, become the statistics of one region."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import CubeIngestError, FunctionError, nearest
from cubeingest.grid import Grid
from cubeingest.ingest.points import RegionStatistics, aggregate_positions, statistics_windows
from cubeingest.mosaic import SlotShape
from cubeingest.points import CELL, Placer, is_chosen
from cubeingest.spec import PointSource, Variable

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]


def is_table(returned: object) -> bool:
    """Whether a function returned a pandas DataFrame."""
    return type(returned).__name__ in ("DataFrame", "GeoDataFrame") and hasattr(returned, "columns")


def aggregate_table(
    table: pd.DataFrame,
    variables: Sequence[Variable],
    grid: Grid,
    at: tuple[int, int],
    functions: Mapping[str, Callable[..., Any]],
) -> dict[str, Array | FunctionError | None]:
    """The pixels of each of ``variables`` in the region at lattice row and column ``at``: statistics of the points in ``table`` that lie there.

    Columns are called as the spec's ``points`` call them: its ``coordinates``, and of ``columns`` either the name or what it stands for. Points elsewhere
    are left out. Raises :class:`FunctionError` for a table that does not fit.
    """
    other = [v.name for v in variables if v.points is None]
    if other:
        raise FunctionError(
            f"returned a table of points for {', '.join(other)}: only variables with `aggregate` are statistics of points; return arrays"
        )
    points = variables[0].points
    assert points is not None
    x, y = (_column(table, name).astype(np.float64) for name in (points.x, points.y))
    try:
        cells, _ = Placer(points.crs, grid).place(x, y, 0, "the table that it returned")
    except CubeIngestError as e:
        raise FunctionError(str(e)) from None
    region = at[0] * grid.lattice_shape_yx[1] + at[1]
    inside = np.flatnonzero(cells >= 0)
    inside = inside[grid.regions_of(cells[inside]) == region]
    columns = _columns(table, points, variables, inside)
    if points.filter is not None:
        kept = is_chosen(points.filter, columns, inside.size)
        inside, columns = inside[kept], {name: column[kept] for name, column in columns.items()}
    batch = {CELL: grid.cells_within(region, cells[inside]), **columns}
    found = aggregate_positions({(): lambda: [batch]} if inside.size else {}, variables, functions)
    space = grid.slices(*at)
    shape = SlotShape((), space, space[0].stop - space[0].start)
    out: dict[str, Array | FunctionError | None] = {}
    for v in variables:
        try:
            out[v.name] = next(statistics_windows(RegionStatistics(found, ()), v, shape))[1] if found[v.name] else None
        except CubeIngestError as e:
            out[v.name] = FunctionError(str(e))
    return out


def _columns(
    table: pd.DataFrame, points: PointSource, variables: Sequence[Variable], inside: Array
) -> dict[str, Array]:
    names = frozenset().union(*(v.aggregate.names for v in variables if v.aggregate is not None))
    names |= points.filter.names if points.filter is not None else frozenset()
    spelt = {name: name if name in table.columns else points.columns[name] for name in names}
    return {name: _column(table, column)[inside] for name, column in spelt.items()}


def _column(table: pd.DataFrame, name: str) -> Array:
    if name not in table.columns:
        known = [str(c) for c in table.columns]
        raise FunctionError(
            f"returned a table without the column {name!r}{nearest(name, known)} (columns: {', '.join(known[:20])})"
        )
    column = table[name].to_numpy()
    if column.dtype.kind not in "biufM":
        raise FunctionError(f"returned a table whose column {name!r} holds {table[name].dtype}, expected numbers")
    return column
