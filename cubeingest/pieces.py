"""What covers a slot: its tiles as pieces, each opened, proven and read in its own way.

A piece is one tile on the grid's lattice, one position of a labelled source, or all tiles of another lattice that are warped as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

import numpy as np

from cubeingest.catalog import TileRow
from cubeingest.plan import SlotPlan
from cubeingest.spec import CubeSpec, Variable, storage_of
from cubeingest.tile import (
    Header,
    WarpTile,
    Window,
    gdal_env,
    group_tiles,
    header_for,
    in_turns,
    labelled_header,
    open_array,
    open_tile,
    open_warped,
    place,
    reader_at,
)

OPEN_AT_ONCE = 128
"""Tiles of a slot that are kept open. If there are more, each is proven first, and opened again when its rows come: a region of
10,000 tiles would need more files than a process may open."""

DECODERS = 2
"""Threads that decode the LZW blocks of a slot: with one, it would be waited for where decoding takes longer than encoding."""

Array = np.ndarray[Any, Any]


class Reader(Protocol):
    """What reads windows of a piece; ``window`` is what it covers of the grid."""

    window: Window

    def read_into(self, out: Array, y: slice, x: slice) -> None: ...


Opener = Callable[[], AbstractContextManager[Reader]]


class Piece:
    """Part of a slot: ``window`` in the grid, at ``position`` of the slot's axis block. Opened when it is first read."""

    def __init__(self, position: tuple[int, ...], window: Window, opener: Opener) -> None:
        self.position, self.window = position, window
        self._opener = opener
        self._stack = ExitStack()
        self._reader: Reader | None = None

    def open(self) -> Reader:
        """The piece's reader, opened if it is not. Raises :class:`TileError`."""
        if self._reader is None:
            self._reader = self._stack.enter_context(self._opener())
        return self._reader

    def read_into(self, out: Array, y: slice, x: slice) -> None:
        """Fill ``out`` with grid rows ``y`` and columns ``x``, which ``window`` must hold. Raises :class:`TileError`."""
        self.open().read_into(out, y, x)

    def close(self) -> None:
        """Close the reader, if it is open."""
        self._reader = None
        self._stack.close()


@contextmanager
def open_pieces(
    spec: CubeSpec,
    variable: Variable,
    plan: SlotPlan,
    blocks: tuple[slice, ...],
    region: Window,
    copies: Mapping[str, str],
    by_gdal: bool,
) -> Iterator[list[Piece]]:
    """The pieces of a slot in order of precedence, all proven to fit. ``copies`` are copies of tiles on this disk, by href.

    ``blocks`` are the positions of the slot's axis block, ``region`` its window. ``by_gdal``: nothing but GDAL decodes rasters. Tiles that must be warped come where the first of
    their lattice stands.

    Raises :class:`TileError` for a tile that does not fit or cannot be opened.
    """
    with ExitStack() as stack:
        if plan.tiles:
            stack.enter_context(gdal_env(plan.tiles[0].href, storage_of(variable)))
        decoders = None
        if not by_gdal:
            decoders = stack.enter_context(ThreadPoolExecutor(DECODERS, thread_name_prefix="cubeingest-decode"))
        opener = _Opener(spec, variable, copies, stack, len(plan.tiles) <= OPEN_AT_ONCE, decoders)
        found = [
            (tuple(i - s.start for i, s in zip(t.position, blocks, strict=True)), what)
            for t in plan.tiles
            for what in opener.open(t, region)
        ]
        warped: dict[int, list[WarpTile]] = {}
        for position in {position for position, _ in found}:
            for group in group_tiles([w for p, w in found if p == position and isinstance(w, WarpTile)]):
                warped[id(group[0])] = group
        pieces = []
        for position, what in found:
            if not isinstance(what, WarpTile):
                pieces.append(_as_piece(position, what, stack))
            elif id(what) in warped and (window := _joint_window(warped[id(what)], region)) is not None:
                piece = Piece(position, window, partial(open_warped, warped[id(what)], spec.tiling, variable, window))
                stack.callback(piece.close)
                piece.open()
                pieces.append(piece)
        yield pieces


def _as_piece(position: tuple[int, ...], what: tuple[Window, Opener], stack: ExitStack) -> Piece:
    piece = Piece(position, *what)
    stack.callback(piece.close)
    return piece


def _joint_window(tiles: list[WarpTile], region: Window) -> Window | None:
    """The part of ``region`` that encloses all ``tiles``, or None."""
    parts = [part for t in tiles if (part := overlap(t.placement.window, region)) is not None]
    if not parts:
        return None
    y, x = (slice(min(p[i].start for p in parts), max(p[i].stop for p in parts)) for i in (0, 1))
    return y, x


class _Opener:
    """Opens the tiles of one slot, or looks only at their headers if they are too many to ``keep`` open."""

    def __init__(
        self,
        spec: CubeSpec,
        variable: Variable,
        copies: Mapping[str, str],
        stack: ExitStack,
        keep: bool,
        decoders: ThreadPoolExecutor | None,
    ) -> None:
        self.spec, self.variable, self.copies, self.stack, self.keep = spec, variable, copies, stack, keep
        self.decoders = decoders
        self.source = variable.source
        self._arrays: dict[str, tuple[Any, Header]] = {}

    def open(self, tile: TileRow, region: Window) -> list[WarpTile] | list[tuple[Window, Opener]]:
        """A tile that must be warped; or the windows that are taken of it in ``region``, and what opens their reader."""
        grid, variable, copy = self.spec.tiling, self.variable, self.copies.get(tile.href)
        if self.source is not None and self.source.array is not None:
            reader = self._labelled(tile, self.source.array)
            return self._turned(tile, region, reader.window, _opened(reader))
        opener = partial(open_tile, tile.href, grid, variable, tile.band, tile.expected, copy, self.decoders)
        if self.keep and (self.source is None or self.source.resampling is None):
            reader = self.stack.enter_context(opener())
            return self._turned(tile, region, reader.window, _opened(reader))
        header = header_for(variable, tile.href, copy)
        placement = place(header, grid, variable, tile.band, tile.expected)
        if placement.is_warped:
            return in_turns(WarpTile(header, placement, copy), grid)
        return self._turned(tile, region, placement.window, opener)

    def _turned(self, tile: TileRow, region: Window, window: Window, opener: Opener) -> list[tuple[Window, Opener]]:
        """What is used of a tile in a region, in every turn of the globe that has some of it there; at least one, to be proven."""
        out: list[tuple[Window, Opener]] = []
        for turned in [window] if tile.expected is not None else self.spec.tiling.turns(window):
            used = _cropped(turned, tile.cell)
            step = turned[1].start - window[1].start
            if overlap(used, region) is not None:
                out.append((used, partial(_shifted, opener, step) if step else opener))
        return out or [(_cropped(window, tile.cell), opener)]

    def _labelled(self, tile: TileRow, array: str) -> Reader:
        """A source in which an axis lies feeds many positions, and is opened once."""
        if tile.href not in self._arrays:
            data = self.stack.enter_context(open_array(tile.href, array, self.copies.get(tile.href)))
            self._arrays[tile.href] = data, labelled_header(tile.href, data)
        data, header = self._arrays[tile.href]
        placement = place(header, self.spec.tiling, self.variable, None, tile.expected)
        return reader_at(data, header, placement, self.variable, self.spec.axes_of(self.variable), tile.position)


class _ShiftedReader:
    """A reader whose window lies so many columns further on."""

    def __init__(self, reader: Reader, columns: int) -> None:
        y, x = reader.window
        self.window = y, slice(x.start + columns, x.stop + columns)
        self._reader, self._columns = reader, columns

    def read_into(self, out: Array, y: slice, x: slice) -> None:
        self._reader.read_into(out, y, slice(x.start - self._columns, x.stop - self._columns))


@contextmanager
def _shifted(opener: Opener, columns: int) -> Iterator[Reader]:
    with opener() as reader:
        yield _ShiftedReader(reader, columns)


def _opened(reader: Reader) -> Opener:
    """An opener of what is open already, and is closed by others."""
    return lambda: nullcontext(reader)


def _cropped(window: Window, cell: Window | None) -> Window:
    return window if cell is None else overlap(window, cell) or (slice(0, 0), slice(0, 0))


def overlap(a: Window, b: Window) -> Window | None:
    """What two windows share, or None."""
    y = slice(max(a[0].start, b[0].start), min(a[0].stop, b[0].stop))
    x = slice(max(a[1].start, b[1].start), min(a[1].stop, b[1].stop))
    return (y, x) if y.start < y.stop and x.start < x.stop else None
