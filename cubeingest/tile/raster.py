"""A raster on the grid's own lattice: its pixels, a few rows at a time.

A tile is never held whole, and none of its blocks is decoded twice.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import TileError
from cubeingest.grid import TilingGrid
from cubeingest.remote import local_path
from cubeingest.spec import Variable, storage_of
from cubeingest.storage import is_remote, public_href
from cubeingest.tile.fit import Placement, Window, place
from cubeingest.tile.header import Header, clean, header_of, open_raster
from cubeingest.tile.lzw import LzwReader, lzw_reader
from cubeingest.tile.pixels import Array, NodataMap

if TYPE_CHECKING:
    from rasterio.io import DatasetReader


class TileReader:
    """Reads windows of one open tile as the cube wants them: its dtype, its row order, nodata become fill value."""

    def __init__(
        self,
        src: DatasetReader,
        header: Header,
        placement: Placement,
        variable: Variable,
        lzw: LzwReader | None = None,
        copy: str | None = None,
    ) -> None:
        self.header, self.placement, self.window = header, placement, placement.window
        self._src, self._lzw, self._copy = src, lzw, copy
        self._dtype = np.dtype(header.dtypes[placement.band - 1])
        self._map = NodataMap(header.href, self._dtype, placement.nodata, variable)
        self._kept: tuple[tuple[int, int, int], Array] | None = None

    def read_into(self, out: Array, y: slice, x: slice) -> None:
        """Fill ``out`` with grid rows ``y`` and columns ``x``, which the tile must hold.

        Raises :class:`TileError` if the file cannot be read there, or holds valid pixels equal to the fill value.
        """
        top, left = self.window[0].start, self.window[1].start
        rows, columns = slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left)
        view = out
        if self.placement.flipped:
            height = self.header.shape_yx[0]
            rows, view = slice(height - rows.stop, height - rows.start), out[::-1]
        target = view if self._dtype == out.dtype else np.empty(view.shape, self._dtype)
        self._read_rows(target, rows, columns)
        self._map.apply(target, view)

    def _read_rows(self, out: Array, rows: slice, columns: slice) -> None:
        """Read tile rows so that each row of blocks is decoded once: the part that is not asked for yet is kept."""
        height, block = self.header.shape_yx[0], self.header.block_shape_yx[0]
        row = rows.start
        pieces: list[tuple[int, int, bool]] = []  # start, stop, whether these are whole rows of blocks
        while row < rows.stop:
            first = row - row % block
            last = min(first + block, height)
            if row == first and last <= rows.stop:
                last = rows.stop if rows.stop == height else rows.stop - rows.stop % block
                pieces.append((row, last, True))
            else:
                last = min(last, rows.stop)
                pieces.append((row, last, False))
            row = last
        if self.placement.flipped:
            pieces.reverse()
        # What was kept last time first, before another partial row of blocks replaces it.
        for start, stop, whole in sorted(pieces, key=lambda p: not self._keeps(p[0] // block, columns)):
            part = out[start - rows.start : stop - rows.start]
            if whole:
                self._read(part, slice(start, stop), columns)
                continue
            first = start - start % block
            if not self._keeps(start // block, columns):
                shape = min(block, height - first), columns.stop - columns.start
                old = None if self._kept is None else self._kept[1]
                kept = old if old is not None and old.shape == shape else _own_memory(shape, self._dtype)
                self._kept = None  # until this one is read
                self._read(kept, slice(first, first + len(kept)), columns)
                self._kept = (start // block, columns.start, columns.stop), kept
            assert self._kept is not None
            part[...] = self._kept[1][start - first : stop - first]

    def _keeps(self, block_row: int, columns: slice) -> bool:
        return self._kept is not None and self._kept[0] == (block_row, columns.start, columns.stop)

    def _read(self, out: Array, rows: slice, columns: slice) -> None:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as RasterWindow

        window = RasterWindow.from_slices(rows, columns)
        target = (
            out if out.strides[0] > 0 and out.flags.aligned and out.strides[1] == out.itemsize else np.empty_like(out)
        )
        try:
            if self._lzw is None or not self._lzw.read_into(target, rows, columns):
                self._src.read(self.placement.band, window=window, out=target)
        except (RasterioError, OSError) as e:
            raise TileError(
                f"tile {public_href(self.header.href)!r} cannot be read at rows {rows.start}:{rows.stop} "
                f"(cut short or damaged?): {clean(e, self.header.href, self._copy)}"
            ) from None
        if target is not out:
            out[...] = target


def _own_memory(shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """Memory that goes back to the system with the tile. From malloc, tens of megabytes would stay with each thread that has read one."""
    return np.frombuffer(mmap.mmap(-1, max(1, math.prod(shape) * dtype.itemsize)), dtype, math.prod(shape)).reshape(
        shape
    )


@contextmanager
def open_tile(
    href: str,
    grid: TilingGrid,
    variable: Variable,
    band: int | None = None,
    expected: Window | None = None,
    copy: str | None = None,
    decoders: ThreadPoolExecutor | None = None,
) -> Iterator[TileReader]:
    """Open a tile, prove that it fits (see :func:`place`), and give a reader of its pixels.

    They are read from ``copy``, where there is one on this disk. LZW is decoded in ``decoders``; without, by GDAL as all else.
    """
    with open_raster(href, storage_of(variable), copy) as src:
        header = header_of(href, src)
        placement = place(header, grid, variable, band, expected)
        path = copy or (None if is_remote(href) else local_path(href))
        lzw = lzw_reader(src, placement.band, path, decoders)
        yield TileReader(src, header, placement, variable, lzw, copy)
