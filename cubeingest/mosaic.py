"""The tiles of one slot become its pixels: a stream of windows of whole chunk rows, from top index to bottom.

Memory is bounded by the window, not by the tile or the region. Windows are read ahead in a thread of their own.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import Any

import numpy as np

from cubeingest.errors import TileError
from cubeingest.pieces import Piece, open_pieces, overlap
from cubeingest.plan import Plan, SlotPlan, hrefs_of
from cubeingest.remote import NOWHERE, SourceId, fetched, source_id
from cubeingest.spec import CubeSpec, Variable
from cubeingest.storage import Storage, is_remote, public_href
from cubeingest.tile import Window, header_for, place, storage_of
from cubeingest.windows import Lent, Memory, Windows
from cubeingest.writer import is_fill

WINDOW_BYTES = 32 * 2**20
"""What a window is filled up to, in whole chunk rows; it is never less than one. Two are held at a time. Below about
8 MB the cost of a call shows, above this only the memory grows."""

WHOLE_BYTES = 32 * 2**20
"""Remote tiles up to this size are fetched whole whatever is read of them."""

WHOLE_SHARE = 0.5
"""Larger ones are if at least this part of their pixels is read; else their windows are read where they are."""

ASKED_AT_ONCE = 16
"""Threads that ask what a slot's sources are."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SlotShape:
    """Where a slot lies in its variable's array: slices by dimension, of axes and of space, and rows a window.

    Rows are positions along the first spatial dimension: rows of pixels, or cells.
    """

    axes: tuple[slice, ...]
    space: tuple[slice, ...]
    window_rows: int

    @property
    def y(self) -> slice:
        """The rows."""
        return self.space[0]

    @property
    def x(self) -> slice:
        """Columns of pixels."""
        return self.space[1]

    @property
    def across(self) -> tuple[int, ...]:
        """Shape of one row: (columns,) of pixels, () of cells."""
        return tuple(s.stop - s.start for s in self.space[1:])

    def index(self, rows: slice) -> tuple[slice, ...]:
        """Where some of the rows lie in the array."""
        return (*self.axes, rows, *self.space[1:])

    @property
    def block_shape(self) -> tuple[int, ...]:
        return tuple(s.stop - s.start for s in self.axes)

    @property
    def n_pixels(self) -> int:
        return int(math.prod(self.block_shape) * math.prod(s.stop - s.start for s in self.space))

    def row_slices(self) -> Iterator[slice]:
        """Grid rows of each window in turn."""
        for start in range(self.y.start, self.y.stop, self.window_rows):
            yield slice(start, min(start + self.window_rows, self.y.stop))


def slot_shape(spec: CubeSpec, variable: Variable, plan: SlotPlan) -> SlotShape:
    """Where ``plan``'s slot lies, and how many rows to take at a time."""
    axes = tuple(a.block_slice(b) for a, b in zip(spec.axes_of(variable), plan.slot.block, strict=True))
    written_rows = variable.write_shape[len(axes)]
    shape = SlotShape(axes, spec.grid.slices(plan.slot.iy, plan.slot.ix), written_rows)
    row_bytes = math.prod((*shape.block_shape, *shape.across)) * variable.np_dtype.itemsize
    return replace(shape, window_rows=written_rows * max(1, WINDOW_BYTES // (row_bytes * written_rows)))


def size_of(spec: CubeSpec, plan: Plan) -> list[tuple[int, int]]:
    """(pixels, bytes) of each slot that a plan fills."""
    variables = {v.name: (v, spec.axes_of(v)) for v in spec.variables}
    out = []
    for task in plan.tasks:  # there may be a million slots, for which slices of each would take a minute
        in_region = math.prod(s.stop - s.start for s in spec.grid.slices(task.iy, task.ix))
        for slot in task.slots:
            variable, axes = variables[slot.slot.variable]
            spans = (a.block_slice(b) for a, b in zip(axes, slot.slot.block, strict=True))
            pixels = in_region * math.prod(s.stop - s.start for s in spans)
            out.append((pixels, pixels * variable.np_dtype.itemsize))
    return out


def source_ids(plan: SlotPlan, storage: Storage = NOWHERE) -> tuple[SourceId, ...]:
    """Identity of each of a slot's sources, in order. Raises :class:`TileError` for one that is not there."""
    hrefs = hrefs_of(plan.tiles)
    if sum(map(is_remote, hrefs)) < 2:
        return tuple(_identify(href, storage) for href in hrefs)
    with ThreadPoolExecutor(min(ASKED_AT_ONCE, len(hrefs))) as pool:
        return tuple(pool.map(_identify, hrefs, [storage] * len(hrefs)))


def _identify(href: str, storage: Storage) -> SourceId:
    try:
        return source_id(href, storage)
    except FileNotFoundError:
        raise TileError(f"tile {public_href(href)!r} is not there") from None
    except OSError as e:
        raise TileError(f"tile {public_href(href)!r} cannot be reached: {e.strerror or e}") from e


@contextmanager
def read_ahead(
    spec: CubeSpec,
    variable: Variable,
    plan: SlotPlan,
    shape: SlotShape,
    rows: list[slice] | None = None,
    sources: Sequence[SourceId] | None = None,
    memory: Memory | None = None,
    by_gdal: bool = False,
) -> Iterator[Windows]:
    """Stream a slot's windows, the next one being read while the caller works on this one.

    ``rows`` restricts the stream to some of ``shape.row_slices()``. ``sources`` is what :func:`source_ids` said just now, if
    the caller knows. Remote tiles of which much is read are fetched before the first window. Every tile is opened, and proven to fit,
    before the first window is given. ``memory`` is what several slots share that are to be read in turn.
    ``by_gdal``: nothing but GDAL decodes rasters, for those who check what an ingest has read.

    Raises :class:`TileError` for a tile that does not fit or cannot be read.
    """
    stop = Event()
    wanted = list(shape.row_slices()) if rows is None else rows
    windows = Windows(partial(_read, spec, variable, plan, shape, wanted, sources, stop, by_gdal), memory or Memory())
    try:
        yield windows
    finally:
        stop.set()
        windows.close()


def _read(
    spec: CubeSpec,
    variable: Variable,
    plan: SlotPlan,
    shape: SlotShape,
    rows: list[slice],
    sources: Sequence[SourceId] | None,
    stop: Event,
    by_gdal: bool,
    windows: Windows,
) -> Generator[Lent]:
    height = max((r.stop - r.start for r in rows), default=0)
    size = (*shape.block_shape, height, shape.x.stop - shape.x.start)
    wanted = _worth_fetching(spec, variable, plan, shape, rows, sources)
    with ExitStack() as stack:
        copies = stack.enter_context(fetched(wanted, storage_of(variable), stop))
        pieces = stack.enter_context(open_pieces(spec, variable, plan, shape.axes, (shape.y, shape.x), copies, by_gdal))
        for part in rows:
            taken = windows.take(size, variable.np_dtype)
            if taken is None:
                return
            pixels = taken[0][..., : part.stop - part.start, :]
            _paint(pixels, part, shape.x, pieces, variable)
            for piece in pieces:
                if piece.window[0].stop <= part.stop:
                    piece.close()
            yield part, pixels, taken[1]


def _worth_fetching(
    spec: CubeSpec,
    variable: Variable,
    plan: SlotPlan,
    shape: SlotShape,
    rows: list[slice],
    sources: Sequence[SourceId] | None,
) -> Mapping[str, SourceId]:
    """A slot's remote sources, by href, of which so much is read that all of it may as well come at once."""
    tiles = {t.href: t for t in reversed(plan.tiles)}
    if not any(map(is_remote, tiles)):
        return {}
    storage = storage_of(variable)
    out = {}
    for href, source in zip(hrefs_of(plan.tiles), sources or source_ids(plan, storage), strict=True):
        if not is_remote(href) or source.size is None:
            continue
        if source.size > WHOLE_BYTES:
            tile = tiles[href]
            window = tile.expected or place(header_for(variable, href), spec.tiling, variable, tile.band).window
            parts = (overlap(window, (part, shape.x)) for part in rows)
            if sum(_area(p) for p in parts if p is not None) < WHOLE_SHARE * _area(window):
                continue
        out[href] = source
    return out


def _area(window: Window) -> int:
    return math.prod(s.stop - s.start for s in window)


def _paint(pixels: Array, y: slice, x: slice, pieces: Sequence[Piece], variable: Variable) -> None:
    """Fill one window from every piece that overlaps it; where pieces overlap, the first with data there wins."""
    painted: dict[tuple[int, ...], list[Window]] = {}
    covered = {piece.position for piece in pieces if overlap(piece.window, (y, x)) == (y, x)}
    if len(covered) < math.prod(pixels.shape[:-2]):
        pixels[...] = variable.np_fill
    for piece in pieces:
        part = overlap(piece.window, (y, x))
        if part is None:
            continue
        target = pixels[piece.position]
        before = painted.setdefault(piece.position, [])
        kept = []
        for shared in (overlap(part, other) for other in before):
            if shared is not None:
                view = target[_within(shared, (y, x))]
                kept.append((view, view.copy()))
        piece.read_into(target[_within(part, (y, x))], *part)
        for view, earlier in kept:
            np.copyto(view, earlier, where=~is_fill(earlier, variable))
        before.append(part)


def _within(part: Window, whole: Window) -> Window:
    """``part`` counted from the first pixel of ``whole``."""
    y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(part, whole, strict=True))
    return y, x
