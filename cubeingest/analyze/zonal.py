"""Statistics of zones at each set of axis values: polygons with exact coverage of pixels, or zones that are a variable of the cube.

Parts of a zone are put together exactly: sums weighted by coverage are added up; for quantiles its values are kept.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.analyze.areas import row_areas, says_how
from cubeingest.analyze.parts import (
    Filled,
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
)
from cubeingest.analyze.quantity import Quantity, Reader, classes_of, find_quantity, given_variables
from cubeingest.analyze.statistics import DEFAULT, PLAIN, STATISTICS, Sums, ZonalReport, quantile_of
from cubeingest.analyze.vectors import Features
from cubeingest.analyze.zones import (
    NO_ZONE,
    Zones,
    check_zone_raster,
    cover_cells,
    place_zones,
    read_zone_raster,
    sum_planes,
)
from cubeingest.engine import Options, Progress, SlotResult
from cubeingest.errors import GridError
from cubeingest.grid import TilingGrid
from cubeingest.ledger import NOTHING
from cubeingest.selection import Selection
from cubeingest.spec import CubeSpec
from cubeingest.store import Store, open_array

if TYPE_CHECKING:
    import numpy.typing as npt

Array = np.ndarray[Any, Any]

MOST_CLASSES = 4096


@dataclass(frozen=True, slots=True)
class ZonePart(PartPlan):
    """A part with the polygons that reach into it: their zones, and WKB."""

    zones: tuple[int, ...] = ()
    shapes: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class ZonalJob:
    """What a worker needs besides a part. ``plain``: no more than count, sum, min and max is wanted, of polygons.

    ``pixels`` are zones that are no polygons: the name of a variable, or the path of a raster on the cube's lattice.
    """

    part: PartJob
    quantiles: bool
    classes: bool
    plain: bool = False
    pixels: str | Path | None = None


def zonal_part(job: ZonalJob, plan: ZonePart) -> SlotResult:
    """By zone, the sums of one part, in ``detail``."""
    reader = job.part.reader()
    if job.plain:
        return SlotResult(plan.slot, "", "done", n_pixels=pixels_of(plan), detail=_plain_sums(reader, job, plan))
    spec, quantity = reader.spec, job.part.quantity
    shape = plan.y.stop - plan.y.start, plan.x.stop - plan.x.start
    zone, cell, coverage = _cells(job, reader, plan, shape)
    if (np.diff(zone) < 0).any():  # zones that are pixels, or lie in several turns
        order = np.argsort(zone, kind="stable")
        zone, cell, coverage = zone[order], cell[order], coverage[order]
    starts = _starts(zone)
    keys = zone[starts]
    at = np.repeat(np.arange(len(keys)), np.diff(starts, append=zone.size))
    areas = coverage * row_areas(spec.tiling, plan.y)[cell // shape[1]]
    index = dict(plan.index)
    lengths = tuple(len(index[a]) for a in quantity.axes)
    n, each = len(keys), int(np.prod(lengths, dtype=int))
    out = {name: np.zeros((each, n)) for name in ("count", "total", "area")}
    least, most = np.full((each, n), np.nan), np.full((each, n), np.nan)
    kept: dict[int, list[tuple[int, Array, Array]]] = {}
    classes: list[tuple[int, Array, Array, Array, Array]] = []
    blocks = _blocks(reader, quantity, index, plan, lengths) if n else ()
    for place, plane in ((p, v) for places, planes in blocks for p, v in zip(places, planes, strict=True)):
        values = plane.ravel()[cell]
        there = ~np.isnan(values)
        own, weights = (at, coverage) if there.all() else (at[there], coverage[there])
        values = values if own is at else values[there]
        out["count"][place] = np.bincount(own, weights, n)
        out["total"][place] = np.bincount(own, weights * values, n)
        out["area"][place] = np.bincount(own, areas if own is at else areas[there], n)
        starts = _starts(own)
        present = own[starts]
        if present.size:
            least[place, present] = np.minimum.reduceat(values, starts)
            most[place, present] = np.maximum.reduceat(values, starts)
        if job.quantiles and present.size:
            for k, part, weight in zip(present.tolist(), np.split(values, starts[1:]), np.split(weights, starts[1:]), strict=True):  # fmt: skip
                kept.setdefault(k, []).append((place, part, weight))
        if job.classes:
            classes.append((place, *_class_sums(own, values, weights, areas if own is at else areas[there])))
    detail = (keys, out, least, most, kept, classes, np.bincount(at, coverage, n), plan)
    return SlotResult(plan.slot, "", "done", n_pixels=pixels_of(plan), detail=detail)


def _plain_sums(reader: Reader, job: ZonalJob, plan: ZonePart) -> Any:
    """As :func:`zonal_part`, by exactextract's own sums of the planes of one axis block after another."""
    quantity, index = job.part.quantity, dict(plan.index)
    lengths = tuple(len(index[a]) for a in quantity.axes)
    each = int(np.prod(lengths, dtype=int))
    keys, at = np.unique(np.asarray(plan.zones, np.int64), return_inverse=True)
    out = {name: np.zeros((each, len(keys))) for name in ("count", "total", "area")}
    least, most, covered = np.full((each, len(keys)), np.nan), np.full((each, len(keys)), np.nan), np.zeros(len(keys))
    turn = slice(None, None, -1 if reader.spec.tiling.resolution_y > 0 else 1)
    for places, planes in _blocks(reader, quantity, index, plan, lengths):
        sums, pixels = sum_planes(plan.shapes, _bounds(reader.spec.tiling, plan), [p[turn] for p in planes])
        covered = np.bincount(at, pixels, len(keys))
        for place, found in zip(places, sums, strict=True):
            out["count"][place] = np.bincount(at, found[:, 0], len(keys))
            out["total"][place] = np.bincount(at, found[:, 1], len(keys))
            for kept, pick, column in ((least, np.fmin, 2), (most, np.fmax, 3)):
                pick.at(kept[place], at, found[:, column])
    return keys, out, least, most, {}, [], covered, plan


def _bounds(grid: TilingGrid, plan: PartPlan) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) of a part in CRS units."""
    ys, xs = (
        [float(origin + i * step) for i in (s.start, s.stop)]
        for origin, step, s in ((grid.origin_y, grid.resolution_y, plan.y), (grid.origin_x, grid.resolution_x, plan.x))
    )
    return xs[0], min(ys), xs[1], max(ys)


def _starts(ordered: Array) -> npt.NDArray[np.int64]:
    """Where each run of equal numbers begins."""
    return np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1)) if ordered.size else np.empty(0, np.int64)


def _class_sums(own: Array, values: Array, weights: Array, areas: Array) -> tuple[Array, Array, Array, Array]:
    """(zone's place, class, pixels, km²) of each pair that there is."""
    names, at = np.unique(values, return_inverse=True)
    if names.size > MOST_CLASSES or (names != np.floor(names)).any():
        raise GridError("values are no classes: they are not whole, or too many")
    key = own * names.size + at
    pairs, back = np.unique(key, return_inverse=True)
    return pairs // max(1, names.size), names[pairs % max(1, names.size)], np.bincount(back, weights), np.bincount(back, areas)  # fmt: skip


def _cells(job: ZonalJob, reader: Reader, plan: ZonePart, shape: tuple[int, int]) -> tuple[Array, Array, Array]:
    """(zone, cell of the part row by row, fraction covered) of each pixel in a zone."""
    grid = reader.spec.tiling
    if isinstance(job.pixels, Path):
        raw = read_zone_raster(job.pixels, grid, plan.y, plan.x).ravel()
        cell = np.flatnonzero(raw != NO_ZONE)
        return raw[cell], cell, np.ones(cell.size)
    if job.pixels is not None:
        variable = reader.spec.variable(job.pixels)
        array = open_array(pickle.loads(job.part.session), variable.name)
        first = [slice(0, 1)] * len(variable.axes)
        raw = np.asarray(array[(*first, plan.y, plan.x)]).ravel()
        cell = np.flatnonzero(raw != variable.np_fill)
        return raw[cell].astype(np.int64), cell, np.ones(cell.size)
    polygon, cell, coverage = cover_cells(plan.shapes, _bounds(grid, plan), shape)
    if grid.resolution_y > 0:  # cells count from the north, rows from the south
        cell = (shape[0] - 1 - cell // shape[1]) * shape[1] + cell % shape[1]
    return np.asarray(plan.zones, np.int64)[polygon], cell, coverage


def _blocks(
    reader: Reader, quantity: Quantity, index: Mapping[str, tuple[int, ...]], plan: PartPlan, lengths: tuple[int, ...]
) -> Iterator[tuple[list[int], list[Array]]]:
    """Places along all axes, and (y, x) as float64 for each, of one axis block after another; each chunk is read once."""
    along = []
    for name in quantity.axes:
        size = reader.spec.tiling.axis(name).block
        groups = itertools.groupby(range(len(index[name])), key=lambda n, name=name, size=size: index[name][n] // size)  # type: ignore[misc]
        along.append([tuple(g) for _, g in groups])
    for places in itertools.product(*along):
        part = {a: tuple(index[a][p] for p in group) for a, group in zip(quantity.axes, places, strict=True)}
        block = reader.read_floats(part, plan.y, plan.x)
        every = list(np.ndindex(*block.shape[:-2]))
        found = [tuple(group[k] for group, k in zip(places, at, strict=True)) for at in every]
        yield [int(np.ravel_multi_index(p, lengths)) if lengths else 0 for p in found], [block[at] for at in every]


# ---- the whole of it ------------------------------------------------------------------------------------------


def zonal(
    store: Store,
    selection: Selection,
    zones: Features | str | Path,
    statistics: Sequence[str] = DEFAULT,
    expression: str | None = None,
    by_class: bool = False,
    make_valid: bool = False,
    options: Options | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> ZonalReport:
    """Statistics of a variable, or of an expression, in each zone: polygons, values of a variable of the cube (its name), or of a
    raster on the cube's lattice (its path).

    Raises :class:`GridError` for zones that are not sound and for what the cube does not have.
    """
    for name in statistics:
        if name not in STATISTICS:
            quantile_of(name)
    store = store.on(store.branch, store.tip)
    spec = store.spec
    if isinstance(zones, str):
        selection = _beside_zones(spec, selection, zones)
    elif isinstance(zones, Path):
        check_zone_raster(zones, spec.tiling)
    quantity = find_quantity(spec, selection, expression)
    variable = None if quantity.is_expression else spec.variable(quantity.text)
    where = find_where(spec, selection)
    session = store.readonly()
    filled = read_filled(session, spec, quantity)
    needs = any(name == "median" or name not in STATISTICS for name in statistics)
    is_plain = isinstance(zones, Features) and not by_class and set(statistics) <= PLAIN
    pixels = None if isinstance(zones, Features) else zones
    job = ZonalJob(PartJob(spec, quantity, pickle.dumps(session)), needs, by_class, is_plain, pixels)
    most = part_pixels(spec, quantity, quantity.axes)
    if isinstance(zones, Features):
        placed = place_zones(spec.tiling, zones, make_valid)
        parts, gaps = _parts_of_polygons(spec, quantity, where, placed, filled, most)
        keys, attributes, share = list(range(placed.n)), placed.attributes, placed.share
    else:
        parts = [_with_zones(p) for p in plan_parts(spec, quantity, where, quantity.axes, most)]
        gaps = filled.gaps(quantity, where)
        keys, attributes, share = [], {}, None
    labels = {a: tuple(spec.tiling.axis(a).labels[p] for p in quantity.positions[a]) for a in quantity.axes}
    names = {} if variable is None else classes_of(variable)
    report = ZonalReport(
        quantity, labels, tuple(statistics), store.tip, keys, attributes, share, gaps, says_how(spec.tiling), by_class, names
    )  # fmt: skip
    if isinstance(zones, str):
        own = find_quantity(spec, Selection(variables=(zones,)))
        text = str(read_filled(session, spec, own).gaps(own, where))
        report.notes += [f"zones are of {zones!r}: {text}"] if text else []
    elif share is not None and (selection.bbox or selection.regions or selection.polygon is not None):
        report.notes.append("zones are cut to what is selected, of which in_cube does not speak")
    size = 8 if variable is None else variable.np_dtype.itemsize
    unfilled = _Unfilled(spec, quantity, filled)
    for result in run_parts(store, zonal_part, job, parts, n_pixels(parts) * size, options or Options(), on_progress):
        _add(report, unfilled, result.detail)
    if not isinstance(zones, Features):
        report.keys = sorted(report.zones)
    return report


def _beside_zones(spec: CubeSpec, selection: Selection, zones: str) -> Selection:
    """What is selected without the variable that holds zones, which must have one value of each axis."""
    variable = spec.variable(zones)
    if variable.np_dtype.kind not in "iub":
        raise GridError(f"{zones!r} is {variable.dtype}: zones are whole numbers")
    for axis in spec.axes_of(variable):
        if axis.size > 1:
            raise GridError(f"{zones!r} has several values of {axis.name}: zones must be the same at all of them")
    if selection.variables:
        return selection
    return replace(selection, variables=tuple(v.name for v in given_variables(spec) if v.name != zones))


def _with_zones(part: PartPlan, zones: tuple[int, ...] = (), shapes: tuple[bytes, ...] = ()) -> ZonePart:
    return ZonePart(part.slot, (), y=part.y, x=part.x, index=part.index, zones=zones, shapes=shapes)


def _parts_of_polygons(
    spec: CubeSpec, quantity: Quantity, where: Where, zones: Zones, filled: Filled, most: int
) -> tuple[list[ZonePart], Gaps]:
    """Parts that polygons reach into, with those; and what of the regions there is missing."""
    import shapely

    if not zones.geometries.size:
        return [], Gaps()
    grid = spec.tiling
    tree = shapely.STRtree(zones.geometries)
    packed = shapely.to_wkb(zones.geometries)
    hull = _window_of(grid, shapely.total_bounds(zones.geometries), where)
    out, places = [], set()
    for part in plan_parts(spec, quantity, replace(where, window=hull), quantity.axes, most):
        hits = sorted(tree.query(shapely.box(*_bounds(grid, part)), predicate="intersects").tolist())
        if hits:
            places.add((part.slot.iy, part.slot.ix))
            out.append(_with_zones(part, tuple(int(zones.owners[i]) for i in hits), tuple(packed[i] for i in hits)))
    gaps = filled.gaps(quantity, Where(hull, frozenset(places))) if places else Gaps()
    return out, gaps


def _window_of(grid: Any, bounds: Array, where: Where) -> tuple[slice, slice]:
    """Whole pixels that a box in the grid's CRS touches, within a window."""
    left, bottom, right, top = bounds.tolist()
    ys = sorted((v - float(grid.origin_y)) / float(grid.resolution_y) for v in (bottom, top))
    xs = [(v - float(grid.origin_x)) / float(grid.resolution_x) for v in (left, right)]
    y, x = (
        slice(max(w.start, min(int(np.floor(a)), w.stop)), min(w.stop, max(int(np.ceil(b)), w.start)))
        for (a, b), w in zip((ys, xs), where.window, strict=True)
    )
    return y, x


class _Unfilled:
    """Which values of the axes a region lacks."""

    def __init__(self, spec: CubeSpec, quantity: Quantity, filled: Filled) -> None:
        out: Any = None
        for name in quantity.variables:
            held = filled.states[name] != NOTHING
            if quantity.band_axis is not None:
                n = spec.variable(name).axes.index(quantity.band_axis)
                size = spec.tiling.axis(quantity.band_axis).block
                wanted = sorted({(c.position or 0) // size for c in quantity.columns})
                held = np.take(held, wanted, axis=n).all(axis=n)
            blocks = [[p // spec.tiling.axis(a).block for p in quantity.positions[a]] for a in quantity.axes]
            lattice = ~held[np.ix_(*blocks, *(range(n) for n in held.shape[-2:]))]
            out = lattice if out is None else out | lattice
        self._lattice = out.reshape(-1, *out.shape[-2:])

    def at(self, iy: int, ix: int) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = self._lattice[:, iy, ix]
        return found


def _add(report: ZonalReport, unfilled: _Unfilled, detail: Any) -> None:
    """Put a part's sums to those of its zones."""
    keys, out, least, most, kept, classes, coverage, plan = detail
    lacks = unfilled.at(plan.slot.iy, plan.slot.ix)
    for n, key in enumerate(keys.tolist()):
        sums = report.zones.get(key)
        if sums is None:
            shape = out["count"].shape[0]
            empty = [np.zeros(shape) for _ in range(4)]
            sums = report.zones[key] = Sums(
                empty[0], empty[1], empty[2], np.full(shape, np.nan), np.full(shape, np.nan), not_ingested=empty[3]
            )
        sums.count += out["count"][:, n]
        sums.total += out["total"][:, n]
        sums.area += out["area"][:, n]
        sums.least = np.fmin(sums.least, least[:, n])
        sums.most = np.fmax(sums.most, most[:, n])
        assert sums.not_ingested is not None
        sums.not_ingested += np.where(lacks, coverage[n], 0.0)
        sums.kept += kept.get(n, [])
    for place, own, values, pixels, areas in classes:
        for k, c, n, area in zip(own.tolist(), values.tolist(), pixels.tolist(), areas.tolist(), strict=True):
            mine = report.zones[int(keys[k])].classes
            had = mine.get((place, int(c)), (0.0, 0.0))
            mine[place, int(c)] = had[0] + n, had[1] + area
