"""What a page tells of a cube, gathered from the cube alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.axes import Axis
from cubeingest.boxes import Box, parse_crs
from cubeingest.grid import HealpixGrid, TilingGrid
from cubeingest.healpix import latitudes
from cubeingest.ingest import Failure
from cubeingest.ledger import Record, Slot, read_records
from cubeingest.look import seen_box
from cubeingest.page.commits import History, find_commits, gather_history, seconds_of
from cubeingest.page.packing import Texts, href_pattern, run_lengths
from cubeingest.plan import slot_labels
from cubeingest.selection import Selection
from cubeingest.spec import CubeSpec, Variable
from cubeingest.status import NOT_CHOSEN, STATES, read_slot_states
from cubeingest.store import Store

if TYPE_CHECKING:
    import numpy.typing as npt

OUTSIDE, FRESH, FAILED = "outside", "fresh", "failed"
"""States that only a page has: not selected (or not valid); finished in a run that goes on, and not committed yet; failed in it."""

CODES = (OUTSIDE, *STATES, FRESH, FAILED)
LETTERS = "odepanf"
"""States by their number in a page's arrays, and the letters that they are written as."""

HELD = tuple(CODES.index(name) for name in ("done", "empty"))
"""Of slots that the cube has something of."""

SHOWN = ("done", "empty", FRESH, FAILED, "pending", "absent")
"""Their order where they are listed."""

MAX_RECORDS = 50_000
"""Records that a page holds: some 80 bytes each. Without them it still says the state of each slot."""

MAX_SOURCES = 8
"""Sources of one slot that are named; the rest are counted."""

MAX_FAILURES = 300
"""Failures that are listed; the rest are counted."""

TABLE_ORDER = 8
"""Of the cells by whose corners a page knows latitudes, at least: between two of them it is off by less than a thousandth of a degree."""

MAX_MESSAGE, MAX_MESSAGES = 1000, 150_000
"""Characters of one message, and of all that are listed."""


@dataclass
class Run:
    """An ingest that the page follows. Times are seconds since 1970; ``rate`` is pixels a second, ``left`` seconds, or None if it cannot be said yet.

    ``outcome`` is empty while it goes on, then ``done``, ``failed`` (some slots), ``interrupted``, ``aborted`` or ``broken``.
    """

    started: float
    mode: str
    planned: int = 0
    finished: int = 0
    written: int = 0
    empty: int = 0
    skipped: int = 0
    failed: int = 0
    pixels: int = 0
    rate: float = 0.0
    left: float | None = None
    refresh: float = 0.0
    outcome: str = ""
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        left = None if self.left is None else round(self.left)
        return {**vars(self), "started": int(self.started), "left": left, "message": shorten(self.message)}


@dataclass
class VariableData:
    """What is told of one variable; arrays have the ledger's shape, and ``codes`` are places in ``CODES``.

    ``pictures`` are by the number of the frame (one set of axis blocks): how many pixels of the cube one of the picture stands for, along
    each side, and a data URI (the rows of which go from north to south). ``legend`` is that of the pictures: classes with their colours, or limits and a ramp.
    """

    variable: Variable
    codes: npt.NDArray[np.uint8]
    virtual: npt.NDArray[np.bool_] | None = None
    stale: npt.NDArray[np.bool_] | None = None
    records: dict[str, list[Any]] | None = None
    pictures: dict[int, tuple[int, str]] = field(default_factory=dict)
    legend: dict[str, Any] | None = None


@dataclass
class PageData:
    """What a page tells: all of it is plain data but for the spec. ``levels`` are those of the cube's overviews."""

    spec: CubeSpec
    store: str
    branch: str
    snapshot: str
    variables: list[VariableData]
    history: History
    texts: Texts = field(default_factory=Texts)
    failures: list[Failure] = field(default_factory=list)
    coast: dict[str, Any] | None = None
    run: Run | None = None
    notes: list[str] = field(default_factory=list)
    levels: int = 0

    @cached_property
    def bounds(self) -> Box:
        """What its map shows, in CRS units: all of a grid; of one of HEALPix cells the part around the regions that it is restricted to, or that
        have something in them or to come.
        """
        if self.spec.healpix is None:
            return self.spec.grid.bounds()
        told = [(v.codes > CODES.index(OUTSIDE)) & (v.codes != CODES.index("absent")) for v in self.variables]
        return seen_box(self.spec.healpix, {"told": sum(t.sum(axis=tuple(range(t.ndim - 2))) for t in told)})

    def counts(self) -> dict[str, int]:
        """Slots by state, over all variables; the states of a run only where there are such."""
        return _count([v.codes for v in self.variables])

    def counts_by(self) -> dict[str, dict[str, dict[str, int]]]:
        """The same by axis and label of each axis block."""
        out: dict[str, dict[str, dict[str, int]]] = {}
        for axis in self.spec.grid.axes:
            having = [v for v in self.variables if axis.name in v.variable.axes]
            places = [v.variable.axes.index(axis.name) for v in having]
            rows = {
                axis.block_label(b): _count(
                    [np.take(v.codes, [b], axis=i) for v, i in zip(having, places, strict=True)]
                )
                for b in range(axis.n_blocks)
            }
            out[axis.name] = {label: counts for label, counts in rows.items() if sum(counts.values())}
        return out

    def listed_failures(self) -> list[Failure]:
        """Those that are listed, their texts as long as all of them leave room for."""
        listed = self.failures[:MAX_FAILURES]
        room = min(MAX_MESSAGE, MAX_MESSAGES // max(1, len(listed)))
        return [replace(f, href=shorten(f.href, room), error=shorten(f.error, room)) for f in listed]

    def to_json(self) -> dict[str, Any]:
        """As ``decode.js`` reads it."""
        from cubeingest import __version__

        spec = self.spec
        return {
            "name": spec.name, "store": self.store, "branch": self.branch, "snapshot": self.snapshot, "version": __version__,
            "at": int(time.time()), "attrs": {str(k): str(v) for k, v in spec.attrs.items()},
            "grid": grid_json(spec.tiling) if spec.healpix is None else cells_json(spec.healpix, self.bounds),
            "axes": [axis_json(axis) for axis in spec.grid.axes],
            "letters": dict(zip(LETTERS, CODES, strict=True)),
            "variables": [self._variable_json(v) for v in self.variables],
            "commits": self.history.pack(self.texts),
            "texts": self.texts.pack(),
            "failures": [f.to_json() for f in self.listed_failures()], "failed": len(self.failures),
            "coast": self.coast, "run": None if self.run is None else self.run.to_json(), "notes": self.notes,
        }  # fmt: skip

    def _variable_json(self, data: VariableData) -> dict[str, Any]:
        v = data.variable
        names = [a.name for a in self.spec.grid.axes]
        flags = {"virtual": data.virtual, "stale": data.stale}
        return {
            "name": v.name, "dtype": v.dtype, "long_name": str(v.attrs.get("long_name", "")), "units": str(v.attrs.get("units", "")),
            "axes": [names.index(name) for name in v.axes],
            "states": run_lengths(data.codes, LETTERS),
            **{k: run_lengths(flag.astype(np.uint8), "-x") for k, flag in flags.items() if flag is not None and flag.any()},
            "records": data.records, "pictures": data.pictures, "legend": data.legend,
        }  # fmt: skip


def _count(arrays: Iterable[npt.NDArray[np.uint8]]) -> dict[str, int]:
    total = np.zeros(len(CODES), int)
    for codes in arrays:
        total += np.bincount(np.ravel(codes), minlength=len(CODES))
    found = dict(zip(CODES, total.tolist(), strict=True))
    return {name: n for name, n in found.items() if name in STATES or (n and name != OUTSIDE)}


def shorten(text: str, length: int = MAX_MESSAGE) -> str:
    """A text of so many characters at most, with an ellipsis where it has been cut."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def axis_json(axis: Axis) -> dict[str, Any]:
    """Labels of its blocks; those of their first values too, of which pictures are, where blocks have several."""
    blocks = range(axis.n_blocks)
    first = {"first": list(axis.labels[:: axis.block])} if axis.block > 1 else {}
    return {"name": axis.name, "labels": [axis.block_label(b) for b in blocks], **first}


def grid_json(grid: TilingGrid) -> dict[str, Any]:
    """The lattice: edges of rows and columns of regions, in CRS units and in pixels, and what ids are put together from."""
    ny, nx = grid.lattice_shape_yx
    (ry, rx), (py, px) = grid.region_shape_yx, grid.shape_yx
    rows = [min(i * ry, py) for i in range(ny + 1)]
    columns = [min(i * rx, px) for i in range(nx + 1)]
    return {
        "crs": grid.crs, "geographic": parse_crs(grid.crs).is_geographic, "dims": list(grid.dims_yx),
        "y": [float(grid.origin_y + i * grid.resolution_y) for i in rows],
        "x": [float(grid.origin_x + i * grid.resolution_x) for i in columns],
        "rows": rows, "columns": columns, "ids": grid.ids.pieces((ny, nx)),
    }  # fmt: skip


def cells_json(grid: HealpixGrid, bounds: Box) -> dict[str, Any]:
    """A grid of HEALPix cells: regions by their ids, the box that is shown, and latitudes from pole to pole, evenly spaced in the plane of the projection, by
    which the script finds out where a region lies.
    """
    table = latitudes(max(TABLE_ORDER, grid.region_order), grid.ellipsoid)
    return {
        "crs": grid.crs, "geographic": True, "dims": list(grid.spatial_dims), "order": grid.region_order, "cells": grid.cells_in_region,
        "parents": None if grid.parents is None else list(grid.parents), "box": list(bounds), "latitudes": table.round(6).tolist(),
    }  # fmt: skip


def gather(store: Store, selection: Selection, records: bool = True) -> PageData:
    """All that the cube itself knows of a selection, at one snapshot; the ledger's records only by request, and up to ``MAX_RECORDS``.

    Raises :class:`GridError` for a selection that the cube does not have, :class:`StoreError` for a store that does not answer.
    """
    store = store.on(store.branch, store.tip)
    slots = read_slot_states(store, selection)
    variables = []
    for v in slots.chosen.variables:
        found = slots.states[v.name]
        codes = np.where(found == NOT_CHOSEN, 0, found + 1).astype(np.uint8)
        current = slots.current.get(v.name)
        stale = None if current is None else _is_held(codes) & ~current
        variables.append(VariableData(v, codes, slots.virtual.get(v.name), stale))
    store = store.on(store.branch, slots.snapshot)
    data = PageData(
        slots.spec, store.uri, store.branch, slots.snapshot, variables, gather_history(store), levels=slots.levels
    )
    if records:
        _add_records(store, data)
    return data


def _add_records(store: Store, data: PageData) -> None:
    slots = {v.variable.name: list(_held(v)) for v in data.variables}
    n = sum(map(len, slots.values()))
    if n > MAX_RECORDS:
        data.notes.append(
            f"{n:,} slots are done: their sources, checksums and commits are left out, as a page holds {MAX_RECORDS:,}. A page of fewer "
            "(with --region, --bbox or values of an axis) has them."
        )
        return
    found = read_records(store.readonly(), itertools.chain.from_iterable(slots.values()), store.layout_key)
    commits = find_commits(store, data.history, found)
    for v in data.variables:
        v.records = pack_records(data.spec, slots[v.variable.name], found, commits, data.texts)


def _held(data: VariableData) -> Iterable[Slot]:
    """Slots that hold something, in the order of the arrays."""
    for index in np.argwhere(_is_held(data.codes)).tolist():
        yield Slot(data.variable.name, tuple(index[:-2]), index[-2], index[-1])


def _is_held(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    return np.isin(codes, HELD)


def pack_records(
    spec: CubeSpec, slots: list[Slot], records: Mapping[Slot, Record], commits: Mapping[Slot, int], texts: Texts
) -> dict[str, list[Any]]:
    """Columns of the records of ``slots``, in their order; None throughout for one that cannot be read.

    ``href``, ``size`` and ``stamp`` hold a value for a slot of one source, else a list; ``sources`` how many there are where not all are
    named.
    """
    numbers = {axis.name: n for n, axis in enumerate(spec.grid.axes)}
    names = ("href", "size", "stamp", "checksum", "reading", "how", "time", "run", "commit")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    more: dict[str, int] = {}
    for row, slot in enumerate(slots):
        record = records.get(slot)
        if record is None:
            for column in columns.values():
                column.append(None)
            continue
        region = spec.grid.region_id(slot.iy, slot.ix)
        labels = {numbers[name]: label for name, label in slot_labels(spec, slot).items()}
        named = record.sources[:MAX_SOURCES]
        if len(record.sources) > len(named):
            more[str(row)] = len(record.sources)
        values = {
            "href": _one_or_list([texts.number(href_pattern(s.href, region, labels)) for s in named]),
            "size": _one_or_list([s.size for s in named]),
            "stamp": _one_or_list([s.stamp for s in named]),
            "checksum": record.checksum, "reading": texts.number(record.reading), "how": texts.number(record.how),
            "time": seconds_of(record.time), "run": texts.number(record.run), "commit": commits.get(slot),
        }  # fmt: skip
        for name, column in columns.items():
            column.append(values[name])
    return {**columns, "sources": [more]}


def _one_or_list(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values
