"""A reduction computed into a file: a GeoTIFF, or a picture of it; of cells of HEALPix a table."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cubeingest.analyze.parts import (
    Gaps,
    PartJob,
    PartPlan,
    Where,
    find_where,
    n_pixels,
    part_pixels,
    pixels_of,
    plan_parts,
    read_filled,
    run_parts,
    unfilled_windows,
)
from cubeingest.analyze.reduction import Reduction, compute_window, result_variable
from cubeingest.analyze.tables import TABLES, check_output, free_name, write_parts
from cubeingest.axes import Axis
from cubeingest.engine import Options, Progress, SlotResult
from cubeingest.errors import GridError, StoreError
from cubeingest.grid import CELLS
from cubeingest.healpix import centres
from cubeingest.look import MapView, Picture, check_file, picture_map, read_colours, save_picture
from cubeingest.selection import Selection
from cubeingest.spec import CELL_IDS, CubeSpec
from cubeingest.store import Store
from cubeingest.tile import BLOCK, RasterForm, write_raster

Array = np.ndarray[Any, Any]

OWN_COLUMNS = (CELL_IDS, "lon", "lat", "value", "geometry")
"""Of a table of cells."""

ROWS_AT_ONCE = 2**18
"""Rows of such a table that are made at a time: in memory a row is some hundred bytes, a cell that waits for it twelve."""

PICTURE_PIXELS = 1600
"""Along the longer side of a picture of a result."""


@dataclass(frozen=True)
class ReduceJob:
    """What a worker needs besides a part."""

    part: PartJob
    reduction: Reduction


def reduce_part(job: ReduceJob, plan: PartPlan) -> SlotResult:
    """The result of one part, in ``detail``: (rest axes..., y, x)."""
    found = compute_window(job.part.reader(), job.reduction, dict(plan.index), plan.y, plan.x)
    return SlotResult(plan.slot, "", "done", n_pixels=pixels_of(plan), detail=(plan, found))


@dataclass(frozen=True)
class Bands:
    """The bands of a result: one for each set of values of the axes that are left, in order."""

    labels: tuple[dict[str, str], ...]
    places: Mapping[tuple[tuple[str, int], ...], int]

    def at(self, plan: PartPlan, rest: Sequence[str]) -> list[int]:
        """Bands that a part's result holds, in its order."""
        index = dict(plan.index)
        return [
            self.places[tuple(zip(rest, positions, strict=True))]
            for positions in itertools.product(*(index[a] for a in rest))
        ]


def _bands(spec: CubeSpec, reduction: Reduction) -> Bands:
    labels, places = [], {}
    rest = reduction.rest
    for n, positions in enumerate(itertools.product(*(reduction.quantity.positions[a] for a in rest))):
        labels.append({a: spec.grid.axis(a).labels[i] for a, i in zip(rest, positions, strict=True)})
        places[tuple(zip(rest, positions, strict=True))] = n
    return Bands(tuple(labels), places)


@dataclass
class ReduceReport:
    """What was computed, and what of it was not there."""

    reduction: Reduction
    snapshot: str
    window: tuple[slice, slice]
    gaps: Gaps
    pixels: int = 0
    missing: int = 0
    is_cells: bool = False
    output: str = ""
    bands: tuple[dict[str, str], ...] = ()
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        y, x = ([s.start, s.stop] for s in self.window)
        r = self.reduction
        return {
            "method": r.method, "of": r.quantity.text, "over": list(r.over), "snapshot": self.snapshot,
            "window": {CELLS: x} if self.is_cells else {"y": y, "x": x}, "dtype": r.dtype.name, "fill_value": _plain(r.fill),
            "ddof": 0 if r.method == "std" else None, "bands": list(self.bands), "pixels": self.pixels, "missing": self.missing,
            "gaps": self.gaps.to_json(), "output": self.output, "warnings": self.warnings,
        }  # fmt: skip


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


@dataclass(frozen=True)
class Computing:
    """A reduction that is about to run on one snapshot: parts, and what is missing."""

    store: Store
    reduction: Reduction
    where: Where
    bands: Bands
    parts: tuple[PartPlan, ...]
    gaps: Gaps
    job: ReduceJob
    unfilled: int
    """Pixels of regions in which there is nothing, and which no part is of."""


def plan_reduction(store: Store, selection: Selection, reduction: Reduction) -> Computing:
    """Parts of a reduction, and what of its input is missing. Reads only the ledger."""
    store = store.on(store.branch, store.tip)  # spec and pixels of one snapshot
    spec, quantity = store.spec, reduction.quantity
    where = find_where(spec, selection)
    session = store.readonly()
    filled = read_filled(session, spec, quantity)
    parts = plan_parts(
        spec,
        quantity,
        where,
        reduction.over,
        part_pixels(spec, quantity, reduction.over, reduction.method),
        filled.regions(quantity),
    )
    job = ReduceJob(PartJob(spec, quantity, pickle.dumps(session)), reduction)
    gaps = filled.gaps(quantity, where)
    empty = unfilled_windows(spec, where, filled.regions(quantity))
    unfilled = sum((y.stop - y.start) * (x.stop - x.start) for y, x in empty)
    return Computing(store, reduction, where, _bands(spec, reduction), tuple(parts), gaps, job, unfilled)


def _results(
    computing: Computing, options: Options, on_progress: Callable[[Progress], None]
) -> Iterator[tuple[list[int], PartPlan, Array]]:
    """(bands, part, (band, y, x)) of each part, as they are ready."""
    reduction, spec = computing.reduction, computing.store.spec
    size = 8 if reduction.quantity.is_expression else spec.variable(reduction.quantity.text).np_dtype.itemsize
    n_bytes = n_pixels(computing.parts) * size * max(1, len(reduction.quantity.columns))
    for result in run_parts(
        computing.store, reduce_part, computing.job, computing.parts, n_bytes, options, on_progress
    ):
        plan, found = result.detail
        yield computing.bands.at(plan, reduction.rest), plan, found.reshape(-1, *found.shape[-2:])


def reduce_to_file(
    store: Store,
    selection: Selection,
    reduction: Reduction,
    path: Path,
    options: Options,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> ReduceReport:
    """Compute a reduction into a GeoTIFF, or a picture of it (``.png``, ``.svg``), part by part; of cells of HEALPix into a table of those that
    have a value (``.csv``, ``.json``, or ``.parquet`` with their centres as GeoParquet).

    Raises :class:`GridError` for a selection that the cube does not have or several bands in one picture, :class:`StoreError` for a
    file that cannot be written.
    """
    if store.spec.healpix is not None:
        return _reduce_to_table(store, selection, reduction, path, options, on_progress)
    suffix = path.suffix.lower()
    if suffix not in (".tif", ".tiff", ".png", ".svg"):
        raise StoreError(f"output {str(path)!r} has suffix {path.suffix!r}: write .tif, or .png or .svg for a picture")
    is_picture = suffix in (".png", ".svg")
    if is_picture:
        check_file(path)
    else:
        check_output(path, (".tif", ".tiff"), "raster")
    computing = plan_reduction(store, selection, reduction)
    report = ReduceReport(
        reduction, computing.store.tip, computing.where.window, computing.gaps, output=str(path), bands=computing.bands.labels
    )  # fmt: skip
    report.pixels = report.missing = computing.unfilled * len(computing.bands.labels)
    if is_picture:
        _picture(computing, report, path, options, on_progress)
    else:
        _raster(computing, report, path, options, on_progress)
    return report


def _reduce_to_table(
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
    for bands, plan, values in _results(computing, options, on_progress):
        _count(report, reduction, values)
        for n, row in zip(bands, values[:, 0], strict=True):
            there = np.flatnonzero(~_is_missing(row, reduction))
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


def _is_missing(found: Array, reduction: Reduction) -> Array:
    missing: Array = found == reduction.fill
    return missing | np.isnan(found) if found.dtype.kind == "f" else missing


def _count(report: ReduceReport, reduction: Reduction, found: Array) -> None:
    report.pixels += found.size
    report.missing += int(np.count_nonzero(_is_missing(found, reduction)))


def _raster(
    computing: Computing,
    report: ReduceReport,
    path: Path,
    options: Options,
    on_progress: Callable[[Progress], None],
) -> None:
    spec, reduction, (y, x) = computing.store.spec, computing.reduction, computing.where.window
    labels = computing.bands.labels
    form = RasterForm(
        shape_yx=computing.where.shape_yx, n_bands=len(labels), dtype=reduction.dtype, crs=spec.tiling.crs,
        affine=spec.tiling.affine(y.start, x.start), nodata=reduction.fill,
        descriptions=tuple(" ".join([reduction.method, *(f"{a} {v}" for a, v in label.items())]) for label in labels),
        tags={"TITLE": reduction.title, "SOURCE": f"{spec.name}, snapshot {computing.store.tip}", **({"DDOF": "0"} if reduction.method == "std" else {})},
        step_yx=_step(computing),
    )  # fmt: skip
    with write_raster(path, form) as raster:
        for bands, plan, found in _results(computing, options, on_progress):
            _count(report, reduction, found)
            raster.write(bands, found, plan.y.start - y.start, plan.x.start - x.start)


def _step(computing: Computing) -> tuple[int, int]:
    """The largest number of rows, and of columns, of which all parts' first rows and columns are multiples; of one part its own."""
    y, x = computing.where.window
    firsts = [[p.y.start - y.start for p in computing.parts], [p.x.start - x.start for p in computing.parts]]
    rows, columns = (math.gcd(*found) or BLOCK for found in firsts)
    return rows, columns


def _picture(
    computing: Computing,
    report: ReduceReport,
    path: Path,
    options: Options,
    on_progress: Callable[[Progress], None],
) -> None:
    spec, reduction, (y, x) = computing.store.spec, computing.reduction, computing.where.window
    if len(computing.bands.labels) > 1:
        names = ", ".join(f"--{a} {spec.tiling.axis(a).labels[0]}" for a in reduction.rest)
        raise GridError(f"a picture shows one result, not {len(computing.bands.labels)}: say which ({names})")
    step = max(1, -(-max(computing.where.shape_yx) // PICTURE_PIXELS))
    shape = tuple(-(-n // step) for n in computing.where.shape_yx)
    pixels = np.full(shape, reduction.fill, reduction.dtype)
    for _, plan, found in _results(computing, options, on_progress):
        _count(report, reduction, found)
        tops, lefts = (-(s.start - w.start) % step for s, w in zip((plan.y, plan.x), (y, x), strict=True))
        thin = found[0, tops::step, lefts::step]
        top, left = ((s.start - w.start + step - 1) // step for s, w in zip((plan.y, plan.x), (y, x), strict=True))
        pixels[top : top + thin.shape[0], left : left + thin.shape[1]] = thin
    variable = result_variable(spec, reduction)
    note = f"every {step}th pixel along each side" if step > 1 else ""
    colours = read_colours(variable, pixels)
    notes = tuple(t for t in (str(computing.gaps), note) if t)
    picture = Picture(
        pixels, (slice(y.start, y.start + shape[0] * step), slice(x.start, x.start + shape[1] * step)), step, note
    )
    view = MapView(
        spec, computing.store.tip, variable, computing.bands.labels[0], computing.where.window, picture, colours, notes=notes
    )  # fmt: skip
    report.warnings += colours.warnings
    save_picture(picture_map(view), path)
