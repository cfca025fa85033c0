"""The tiles of one slot become its pixels: a stream of windows of whole chunk rows, from top index to bottom.

Memory is bounded by the window, not by the tile or the region. Windows are read ahead in a thread of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import numpy as np

from cubeingest.errors import TileError
from cubeingest.pieces import Piece, open_pieces, overlap
from cubeingest.plan import Plan, SlotPlan, hrefs_of
from cubeingest.remote import NOWHERE, SourceId, fetched, source_id
from cubeingest.spec import CubeSpec, Variable
from cubeingest.storage import Storage, is_remote, public_href
from cubeingest.tile import Window, header_for, place, storage_of
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
    """Where a slot lies in its variable's array: slices by dimension (axes, then y, x), and rows a window."""

    axes: tuple[slice, ...]
    y: slice
    x: slice
    window_rows: int

    @property
    def block_shape(self) -> tuple[int, ...]:
        return tuple(s.stop - s.start for s in self.axes)

    @property
    def n_pixels(self) -> int:
        return math.prod(self.block_shape) * int(self.y.stop - self.y.start) * int(self.x.stop - self.x.start)

    def row_slices(self) -> Iterator[slice]:
        """Grid rows of each window in turn."""
        for start in range(self.y.start, self.y.stop, self.window_rows):
            yield slice(start, min(start + self.window_rows, self.y.stop))


def slot_shape(spec: CubeSpec, variable: Variable, plan: SlotPlan) -> SlotShape:
    """Where ``plan``'s slot lies, and how many rows to take at a time."""
    y, x = spec.grid.slices(plan.slot.iy, plan.slot.ix)
    axes = tuple(a.block_slice(b) for a, b in zip(spec.axes_of(variable), plan.slot.block, strict=True))
    written_rows = variable.write_shape[-2]
    positions = int(np.prod([s.stop - s.start for s in axes]))
    row_bytes = positions * (x.stop - x.start) * variable.np_dtype.itemsize
    rows = written_rows * max(1, WINDOW_BYTES // (row_bytes * written_rows))
    return SlotShape(axes, y, x, rows)


def size_of(spec: CubeSpec, plan: Plan) -> list[tuple[int, int]]:
    """(pixels, bytes) of each slot that a plan fills."""
    out = []
    for task in plan.tasks:
        for slot in task.slots:
            variable = spec.variable(slot.slot.variable)
            pixels = slot_shape(spec, variable, slot).n_pixels
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
) -> Iterator[Windows]:
    """Stream a slot's windows, the next one being read while the caller works on this one.

    ``rows`` restricts the stream to some of ``shape.row_slices()``. ``sources`` is what :func:`source_ids` said just now, if
    the caller knows. Remote tiles of which much is read are fetched before the first window. Every tile is opened, and proven to fit,
    before the first window is given.

    Raises :class:`TileError` for a tile that does not fit or cannot be read.
    """
    stop = Event()
    wanted = list(shape.row_slices()) if rows is None else rows
    buffers = _Buffers(shape, wanted, variable)
    windows = Windows(_read(spec, variable, plan, shape, wanted, sources, stop, buffers), buffers)
    try:
        yield windows
    finally:
        stop.set()
        windows.close()


Lent = tuple[slice, Array, Callable[[], None]]
"""(grid rows, pixels, what to call when the pixels are not needed any more). Pixels have shape (axis positions..., rows,
columns), in the variable's dtype."""


class Windows:
    """A slot's windows from top index to bottom, read by a thread as long as there are buffers for them.

    GDAL's options are bound to a thread, so opening, reading and closing all happen in this one. It does not keep the
    process from ending.
    """

    def __init__(self, windows: Generator[Lent], buffers: _Buffers) -> None:
        self._windows, self._buffers = windows, buffers
        self._ready: SimpleQueue[Lent | BaseException | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="cubeingest-read", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for lent in self._windows:
                self._ready.put(lent)
            self._ready.put(None)
        except BaseException as e:  # noqa: BLE001  (raised again where the windows are used)
            self._ready.put(e)

    def lent(self) -> Iterator[Lent]:
        """The windows, each with what gives its pixels back; there are two at most that are not given back."""
        while (item := self._ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def __iter__(self) -> Iterator[tuple[slice, Array]]:
        """(grid rows, pixels); the pixels hold until the next are asked for."""
        for part, pixels, give_back in self.lent():
            yield part, pixels
            give_back()

    def close(self) -> None:
        """Wait until what is being read is read, and the tiles are closed."""
        self._buffers.close()
        self._thread.join()


class _Buffers:
    """Two windows' worth of memory, which is taken and given back."""

    def __init__(self, shape: SlotShape, rows: list[slice], variable: Variable) -> None:
        height = max((r.stop - r.start for r in rows), default=0)
        self._shape = (*shape.block_shape, height, shape.x.stop - shape.x.start)
        self._dtype = variable.np_dtype
        self._free: SimpleQueue[Array | None] = SimpleQueue()
        self._made = 0

    def take(self) -> Array | None:
        """Wait for one that is free; None after :meth:`close`."""
        if self._made < 2 and self._free.empty():
            self._made += 1
            return np.empty(self._shape, self._dtype)
        return self._free.get()

    def give_back(self, buffer: Array) -> None:
        self._free.put(buffer)

    def close(self) -> None:
        self._made = 2
        self._free.put(None)


def _read(
    spec: CubeSpec,
    variable: Variable,
    plan: SlotPlan,
    shape: SlotShape,
    rows: list[slice],
    sources: Sequence[SourceId] | None,
    stop: Event,
    buffers: _Buffers,
) -> Generator[Lent]:
    wanted = _worth_fetching(spec, variable, plan, shape, rows, sources)
    with ExitStack() as stack:
        copies = stack.enter_context(fetched(wanted, storage_of(variable), stop))
        pieces = stack.enter_context(open_pieces(spec, variable, plan, shape.axes, (shape.y, shape.x), copies))
        for part in rows:
            buffer = buffers.take()
            if buffer is None or stop.is_set():
                return
            pixels = buffer[..., : part.stop - part.start, :]
            _paint(pixels, part, shape.x, pieces, variable)
            for piece in pieces:
                if piece.window[0].stop <= part.stop:
                    piece.close()
            yield part, pixels, partial(buffers.give_back, buffer)


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
            window = tile.expected or place(header_for(variable, href), spec.grid, variable, tile.band).window
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
