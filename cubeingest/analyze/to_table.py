"""A reduction of HEALPix cells computed into a table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cubeingest.analyze.computing import Computing, ReduceReport, count_values, is_missing, plan_reduction, results_of
from cubeingest.analyze.reduction import Reduction
from cubeingest.analyze.tables import TABLES, check_output, free_name, write_parts
from cubeingest.axes import Axis
from cubeingest.engine import Options, Progress
from cubeingest.errors import StoreError
from cubeingest.healpix import centres
from cubeingest.selection import Selection
from cubeingest.spec import CELL_IDS
from cubeingest.store import Store

Array = np.ndarray[Any, Any]

OWN_COLUMNS = (CELL_IDS, "lon", "lat", "value", "geometry")
"""Of a table of cells."""

ROWS_AT_ONCE = 2**18
"""Rows of such a table that are made at a time: in memory a row is some hundred bytes, a cell that waits for it twelve."""


def reduce_to_table(
    store: Store,
    selection: Selection,
    reduction: Reduction,
    path: Path,
    options: Options,
    on_progress: Callable[[Progress], None],
) -> ReduceReport:
    """Cells that have a value, in the order of the cube; of several sets of values of other axes one after another."""
    if path.suffix.lower() not in TABLES:
        raise StoreError(
            f"output {str(path)!r} has suffix {path.suffix!r}: cells of HEALPix are written as {', '.join(TABLES)}, or computed into a variable, which "
            "`cubeingest show map` draws"
        )
    check_output(path, TABLES, "table")
    computing = plan_reduction(store, selection, reduction)
    labels = computing.bands.labels
    report = ReduceReport(
        reduction, computing.store.tip, computing.where.window, computing.gaps, output=str(path), bands=labels, is_cells=True
    )  # fmt: skip
    report.pixels = report.missing = computing.unfilled * len(labels)
    found: list[list[tuple[Array, Array]]] = [[] for _ in labels]
    for bands, plan, values in results_of(computing, options, on_progress):
        count_values(report, reduction, values)
        for n, row in zip(bands, values[:, 0], strict=True):
            there = np.flatnonzero(~is_missing(row, reduction))
            found[n].append((there + plan.x.start, row[there]))
    write_parts(path, _rows_of_cells(computing, found), ("lon", "lat"))
    return report


def _rows_of_cells(computing: Computing, found: Sequence[list[tuple[Array, Array]]]) -> Iterator[dict[str, Any]]:
    """Rows of a table, ``ROWS_AT_ONCE`` at most. ``found`` has for each band (positions of cells, values), in any order, which are taken from it."""
    spec, rest = computing.store.spec, computing.reduction.rest
    grid = spec.healpix
    assert grid is not None
    names = {a: free_name(a, OWN_COLUMNS) for a in rest}
    positions = itertools.product(*(computing.reduction.quantity.positions[a] for a in rest))
    for parts, at in zip(found, positions, strict=True):
        parts.sort(key=lambda part: int(part[0][0]) if part[0].size else -1)
        cells = np.concatenate([np.empty(0, np.int64), *(c for c, _ in parts)])
        values = np.concatenate([np.empty(0, computing.reduction.dtype), *(v for _, v in parts)])
        parts.clear()
        labels = {names[a]: _axis_value(spec.grid.axis(a), p) for a, p in zip(rest, at, strict=True)}
        for start in range(0, max(1, cells.size), ROWS_AT_ONCE):
            ids = grid.ids_at(cells[start : start + ROWS_AT_ONCE])
            lon, lat = centres(ids, grid.order, grid.ellipsoid)
            same = {name: np.full(ids.size, label) for name, label in labels.items()}
            yield {CELL_IDS: ids, "lon": lon, "lat": lat, **same, "value": values[start : start + ROWS_AT_ONCE]}


def _axis_value(axis: Axis, position: int) -> int | float | str:
    """Numbers as they are, all else as its label."""
    value = axis.values[position]
    return axis.labels[position] if axis.is_dates or not isinstance(value, int | float) else value
