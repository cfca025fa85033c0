"""The tiles of one slot become its pixels: a stream of windows of whole chunk rows, from top index to bottom.

Memory is bounded by the window, not by the tile or the region. Windows are read ahead in a thread of their own.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import numpy as np

from cubeingest.errors import TileError
from cubeingest.plan import Plan, SlotPlan, hrefs_of
from cubeingest.remote import NOWHERE, SourceId, fetched, source_id
from cubeingest.spec import CubeSpec, Variable
from cubeingest.storage import Storage, is_remote, public_href
from cubeingest.tile import TileReader, Window, open_tile, place, read_header, storage_of
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
) -> Iterator[Iterator[tuple[slice, Array]]]:
    """Stream (grid rows, pixels) of a slot, the next window being read while the caller works on this one.

    ``rows`` restricts the stream to some of ``shape.row_slices()``. ``sources`` is what :func:`source_ids` said just now, if
    the caller knows. Remote tiles of which much is read are fetched before the first window. Pixels have shape (axis positions..., rows,
    columns), in the variable's dtype; the array is used again two windows later. Every tile is opened, and proven to fit,
    before the first window is given.

    Raises :class:`TileError` for a tile that does not fit or cannot be read.
    """
    stop = Event()
    wanted = list(shape.row_slices()) if rows is None else rows
    thread = _Reader(_read(spec, variable, plan, shape, wanted, sources, stop), stop)
    try:
        yield thread.stream()
    finally:
        thread.close()


class _Reader:
    """A thread that takes the next of ``windows`` while the last one is worked on.

    GDAL's options are bound to a thread, so opening, reading and closing all happen in this one. It does not keep the
    process from ending.
    """

    def __init__(self, windows: Generator[tuple[slice, Array]], stop: Event) -> None:
        self._windows, self._stop = windows, stop
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._ready: SimpleQueue[tuple[slice, Array] | BaseException | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="cubeingest-read", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._wanted.get():
            try:
                self._ready.put(next(self._windows, None))
            except BaseException as e:  # noqa: BLE001  (raised again where the windows are used)
                self._ready.put(e)
        self._windows.close()

    def stream(self) -> Iterator[tuple[slice, Array]]:
        """The windows, one asked for ahead."""
        self._wanted.put(True)
        while (item := self._ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            self._wanted.put(True)
            yield item

    def close(self) -> None:
        """Wait until it has read what it is at, and the tiles are closed; a fetch is broken off."""
        self._stop.set()
        self._wanted.put(False)
        self._thread.join()


def _read(
    spec: CubeSpec,
    variable: Variable,
    plan: SlotPlan,
    shape: SlotShape,
    rows: list[slice],
    sources: Sequence[SourceId] | None,
    stop: Event,
) -> Generator[tuple[slice, Array]]:
    height = max((r.stop - r.start for r in rows), default=0)
    buffers = [
        np.empty((*shape.block_shape, height, shape.x.stop - shape.x.start), variable.np_dtype) for _ in range(2)
    ]
    wanted = _worth_fetching(spec, variable, plan, shape, rows, sources)
    with ExitStack() as stack:
        copies = stack.enter_context(fetched(wanted, storage_of(variable), stop))
        readers = [
            (tuple(i - s.start for i, s in zip(t.position, shape.axes, strict=True)),
             stack.enter_context(open_tile(t.href, spec.grid, variable, t.band, t.expected, copies.get(t.href))))
            for t in plan.tiles
        ]  # fmt: skip
        for n, part in enumerate(rows):
            pixels = buffers[n % 2][..., : part.stop - part.start, :]
            _paint(pixels, part, shape.x, readers, variable)
            yield part, pixels


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
            window = tile.expected or place(read_header(href, storage), spec.grid, variable, tile.band).window
            parts = (_overlap(window, (part, shape.x)) for part in rows)
            if sum(_area(p) for p in parts if p is not None) < WHOLE_SHARE * _area(window):
                continue
        out[href] = source
    return out


def _area(window: Window) -> int:
    return math.prod(s.stop - s.start for s in window)


def _paint(
    pixels: Array, y: slice, x: slice, readers: list[tuple[tuple[int, ...], TileReader]], variable: Variable
) -> None:
    """Fill one window from every tile that overlaps it; where tiles overlap, the first with data there wins."""
    painted: dict[tuple[int, ...], list[Window]] = {}
    covered = {position for position, r in readers if _overlap(r.placement.window, (y, x)) == (y, x)}
    if len(covered) < math.prod(pixels.shape[:-2]) or len(readers) != len(covered):
        pixels[...] = variable.np_fill
    for position, reader in readers:
        part = _overlap(reader.placement.window, (y, x))
        if part is None:
            continue
        target = pixels[position][
            part[0].start - y.start : part[0].stop - y.start, part[1].start - x.start : part[1].stop - x.start
        ]
        before = painted.setdefault(position, [])
        if any(_overlap(part, other) for other in before):
            fresh = np.empty(target.shape, target.dtype)
            reader.read_into(fresh, *part)
            np.copyto(target, fresh, where=is_fill(target, variable))
        else:
            reader.read_into(target, *part)
        before.append(part)


def _overlap(a: Window, b: Window) -> Window | None:
    y = slice(max(a[0].start, b[0].start), min(a[0].stop, b[0].stop))
    x = slice(max(a[1].start, b[1].start), min(a[1].stop, b[1].stop))
    return (y, x) if y.start < y.stop and x.start < x.stop else None
