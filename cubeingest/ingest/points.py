"""The work on one task of points: read those of its region once, aggregate them, and write each statistic into its slot."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock, Timer
from typing import Any

import numpy as np

from cubeingest.aggregate import Aggregated, aggregate
from cubeingest.engine import EachSlot, SlotResult, failed
from cubeingest.errors import CubeIngestError, TileError
from cubeingest.ingest.fill import IngestJob, write_slot
from cubeingest.ingest.function import FunctionSource
from cubeingest.ingest.registered import called
from cubeingest.mosaic import SlotShape, slot_shape, source_ids
from cubeingest.plan import SlotPlan, Task, hrefs_of
from cubeingest.points import CELL, GranuleRow, RegionReader
from cubeingest.spec import CubeSpec, PointSource, Variable
from cubeingest.storage import Storage, is_remote, public_href
from cubeingest.tile import SourceId
from cubeingest.windows import Lent
from cubeingest.writer import is_fill

POINTS_AT_ONCE = 2**24
"""Points of a region that are held at once: 17 million, some 600 MB with two columns while they are sorted. Of more, cells are aggregated part by
part, and the points read again for each part."""

POINT_BYTES = 100
"""To read and aggregate a point takes about as long as to decode and encode so many bytes of pixels."""

IDLE_SECONDS = 60
"""After which a process gives back what it has kept of granules for a run: longer than one region takes."""

BINS = 2**20
"""Runs of cells that points are counted by, to find such parts."""

Array = np.ndarray[Any, Any]
Functions = Mapping[str, Callable[..., Any]]
Read = Callable[[], Iterable[Mapping[str, Array]]]
"""Reads the points of a region, again each time: columns by name, with ``CELL``, the position in the region's flattened cells."""

Found = Mapping[tuple[int, ...], Aggregated] | CubeIngestError
"""One statistic for each position of the axis block that has points, or what is wrong with it."""


@dataclass(frozen=True)
class RegionStatistics:
    """What the points of a task come to, by variable, and which granules they are of."""

    found: Mapping[str, Found]
    sources: tuple[SourceId, ...]


def fill_task(job: IngestJob, task: Task) -> list[SlotResult]:
    """Fill the slots of a task, all of them statistics of points, from their granules."""
    try:
        statistics = aggregate_task(job.spec, task, job.run, job.functions)
    except CubeIngestError as e:
        return [failed(plan, str(e)) for plan in task.slots]
    return EachSlot(partial(_write_statistics, statistics))(job, (task,))


def _write_statistics(statistics: RegionStatistics, job: IngestJob, plan: SlotPlan) -> SlotResult:
    variable = job.spec.variable(plan.slot.variable)
    shape = slot_shape(job.spec, variable, plan)
    return write_slot(job, plan, shape, statistics_windows(statistics, variable, shape), statistics.sources)


# ---- reading --------------------------------------------------------------------------------------------------


def aggregate_task(spec: CubeSpec, task: Task, run: str, functions: Mapping[str, FunctionSource]) -> RegionStatistics:
    """Read the points of a task's region, once for all of its variables, and aggregate them. What is read of a granule is kept for as long
    as this process works for the same ``run``.

    Raises :class:`TileError` for a granule that cannot be read, or that is not as it was when its coordinates were read.
    """
    variables = [spec.variable(plan.slot.variable) for plan in task.slots]
    points = variables[0].points
    assert points is not None
    tiles = task.slots[0].tiles
    region = task.iy * spec.grid.lattice_shape_yx[1] + task.ix
    spans = [a.block_slice(b) for a, b in zip(spec.axes_of(variables[0]), task.block, strict=True)]
    rows: dict[tuple[int, ...], list[GranuleRow]] = {}
    for tile in tiles:
        within = tuple(i - s.start for i, s in zip(tile.position, spans, strict=True))
        rows.setdefault(within, []).append(GranuleRow(tile.href, tile.parts))
    names = sorted(frozenset().union(*(v.aggregate.names for v in variables if v.aggregate is not None)))
    with reading.of(run, spec, points) as held:
        sources = held.identify(task.slots[0], points.storage)
        scanned = {tile.href: tile.scanned for tile in tiles}
        for before, source in zip(scanned.values(), sources, strict=True):
            if before is not None and (before.size, before.stamp) != (source.size, source.stamp):
                raise TileError(CHANGED.format(public_href(source.href)))
        read = {at: partial(held.reader.points_of, own, region, names) for at, own in rows.items()}
        found = aggregate_positions(read, variables, called(functions))
        if held.identify(task.slots[0], points.storage) != sources:
            raise TileError(CHANGED.format(public_href(tiles[0].href)))
    return RegionStatistics(found, sources)


def points_in(task: Task) -> int:
    """Points that a task reads, at most."""
    tiles = task.slots[0].tiles if task.slots else ()
    return sum(p.count if p.count >= 0 else max(p.stop - p.start, 0) for tile in tiles for p in tile.parts)


CHANGED = "granule {!r} changed during the run: run the command again"


class Held:
    """What a process keeps for a run: a reader of points, and what its remote granules are."""

    def __init__(self, reader: RegionReader) -> None:
        self.reader = reader
        self.users = 0
        self.idle_since = 0.0
        self._remote: dict[str, SourceId] = {}

    def identify(self, plan: SlotPlan, storage: Storage) -> tuple[SourceId, ...]:
        """Identity of each of a slot's granules, in order. One that is remote is asked once: it is fetched whole then, and read from the copy.

        Raises :class:`TileError` for one that is not there.
        """
        unknown = tuple(t for t in plan.tiles if t.href not in self._remote)
        found = dict(zip(hrefs_of(unknown), source_ids(replace(plan, tiles=unknown), storage), strict=True))
        self._remote |= {href: source for href, source in found.items() if is_remote(href)}
        return tuple({**self._remote, **found}[href] for href in hrefs_of(plan.tiles))


class Reading:
    """The readers of points of the runs that this process works for. Several may go on at once, in threads, or on one cluster."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[str, Held] = {}
        self._timer: Timer | None = None

    @contextmanager
    def of(self, run: str, spec: CubeSpec, points: PointSource) -> Iterator[Held]:
        """The run's reader, which stays as it is for as long as it is in use, and some time longer."""
        with self._lock:
            held = self._held.setdefault(run, Held(RegionReader(points, spec.grid)))
            held.users += 1
        try:
            yield held
        finally:
            with self._lock:
                held.users -= 1
                held.idle_since = time.monotonic()
                self._arm()

    @contextmanager
    def until_end(self, run: str) -> Iterator[None]:
        """Give back in the end what this process keeps for a run."""
        try:
            yield
        finally:
            with self._lock:
                held = self._held.get(run)
                if held is not None and not held.users:
                    del self._held[run]
                    held.reader.close()

    def _arm(self) -> None:
        """Look later whether something is idle; a worker of a cluster does not hear of a run's end."""
        if self._timer is None:
            self._timer = Timer(IDLE_SECONDS, self._sweep)
            self._timer.daemon = True
            self._timer.start()

    def _sweep(self) -> None:
        with self._lock:
            self._timer = None
            for run, held in list(self._held.items()):
                if not held.users and time.monotonic() - held.idle_since >= IDLE_SECONDS:
                    del self._held[run]
                    held.reader.close()
            if self._held:
                self._arm()


reading = Reading()


# ---- aggregating ----------------------------------------------------------------------------------------------


def aggregate_positions(
    read: Mapping[tuple[int, ...], Read], variables: Sequence[Variable], functions: Functions
) -> dict[str, Found]:
    """The statistics of some variables at each position, from what is read there. A variable that cannot be had costs no other.

    Raises what reading raises.
    """
    found: dict[str, dict[tuple[int, ...], Aggregated]] = {v.name: {} for v in variables}
    wrong: dict[str, TileError] = {}
    for position, batches in read.items():
        gathered: dict[str, list[Aggregated]] = {v.name: [] for v in variables}
        for cells, columns in _parts(batches):
            wanted = [v for v in variables if v.name not in wrong]
            for v, one in zip(wanted, _aggregate(cells, columns, wanted, functions), strict=True):
                if isinstance(one, TileError):
                    wrong[v.name] = one
                else:
                    gathered[v.name].append(one)
        for name, parts in gathered.items():
            if parts:
                found[name][position] = Aggregated(
                    *(np.concatenate(a) for a in zip(*((p.cells, p.values) for p in parts), strict=True))
                )
    return {**found, **wrong}


def _aggregate(
    cells: Array, columns: Mapping[str, Array], variables: Sequence[Variable], functions: Functions
) -> list[Aggregated | TileError]:
    statistics = [v.aggregate for v in variables if v.aggregate is not None]
    assert len(statistics) == len(variables)
    try:
        return list(aggregate(cells, columns, statistics, functions))
    except ValueError as e:
        if len(variables) == 1:
            return [TileError(f"{statistics[0].text} cannot be taken: {e}")]
    return [one for v in variables for one in _aggregate(cells, columns, [v], functions)]


def _parts(read: Read) -> Iterator[tuple[Array, dict[str, Array]]]:
    """The points of a region, (cells, columns): all at once, or if they are more than ``POINTS_AT_ONCE`` those of one run of cells after another."""
    held: list[Mapping[str, Array]] = []
    n = 0
    for batch in read():
        held.append(batch)
        n += batch[CELL].size
        if n > POINTS_AT_ONCE:
            break
    else:
        if held:
            yield _joined(held)
        return
    held.clear()
    edges = _edges(read)
    for low, high in itertools.pairwise(edges):
        for batch in read():
            inside = np.flatnonzero((batch[CELL] >= low) & (batch[CELL] < high))
            if inside.size:
                held.append({name: column[inside] for name, column in batch.items()})
        if held:
            yield _joined(held)
        held.clear()


def _edges(read: Read) -> list[int]:
    """Cells between which there are no more points than may be held at once, or one run of cells that has more."""
    counts = np.zeros(BINS, np.int64)
    last = max((int(batch[CELL].max(initial=0)) for batch in read()), default=0)
    width = -(-(last + 1) // BINS)
    for batch in read():
        counts += np.bincount(batch[CELL] // width, minlength=BINS)
    edges, held = [0], 0
    for place in np.flatnonzero(counts).tolist():
        n = int(counts[place])
        if held and held + n > POINTS_AT_ONCE:
            edges.append(place * width)
            held = 0
        held += n
    return [*edges, last + 1]


def _joined(batches: Sequence[Mapping[str, Array]]) -> tuple[Array, dict[str, Array]]:
    columns = {
        name: np.concatenate([b[name] for b in batches]) if len(batches) > 1 else batches[0][name]
        for name in batches[0]
    }
    return columns.pop(CELL), columns


# ---- into the variable ----------------------------------------------------------------------------------------


def statistics_windows(statistics: RegionStatistics, variable: Variable, shape: SlotShape) -> Generator[Lent]:
    """A variable's cells, window by window. Raises :class:`TileError` for values that the variable cannot hold."""
    found = statistics.found[variable.name]
    if isinstance(found, CubeIngestError):
        raise found
    fitted = {at: _fit(a, variable) for at, a in found.items()}
    row = math.prod(shape.across)
    for rows in shape.row_slices():
        low, high = (row * (end - shape.y.start) for end in (rows.start, rows.stop))
        pixels = np.full((*shape.block_shape, high - low), variable.np_fill, variable.np_dtype)
        for at, (cells, values) in fitted.items():
            part = slice(*np.searchsorted(cells, (low, high)).tolist())
            pixels[at][cells[part] - low] = values[part]
        yield rows, pixels.reshape(*shape.block_shape, rows.stop - rows.start, *shape.across), _nothing


def _nothing() -> None:
    """What to do with windows that are not needed any more: they are dropped."""


def _fit(found: Aggregated, variable: Variable) -> tuple[Array, Array]:
    """Cells and their statistic in the variable's dtype; what a function says is NaN is none. Raises :class:`TileError` for numbers that it cannot hold, and for the fill value, which means no points."""
    assert variable.aggregate is not None
    dtype, what = variable.np_dtype, variable.aggregate.text
    cells, values = found.cells, found.values
    if variable.aggregate.kind == "function" and (none := np.isnan(values)).any():
        cells, values = cells[~none], values[~none]
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = values.astype(dtype)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        bad = ~((values >= limits.min) & (values <= limits.max) & (values == np.floor(values)))
    else:
        bad = np.isinf(fitted) & np.isfinite(values)
    if bad.any():
        raise TileError(
            f"{what} is {values[bad][0].item()!r} in {np.count_nonzero(bad)} cells or more, which dtype {dtype.name} of variable {variable.name!r} "
            "cannot hold: make a new cube with a wider dtype"
        )
    means_nothing = variable.aggregate.kind in ("count", "sum") and variable.fill_value == 0
    if not means_nothing and not np.isnan(variable.np_fill):
        filled = is_fill(fitted, variable)
        if filled.any():
            raise TileError(
                f"{what} is {variable.fill_value!r} in {np.count_nonzero(filled)} cells, the fill value of variable {variable.name!r}, which means that "
                "there are no points: make a new cube with another fill_value, such as NaN"
            )
    return cells, fitted
