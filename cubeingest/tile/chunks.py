"""Tiles whose blocks are a variable's chunks, byte for byte: what keeps one from being such, and where its blocks lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cubeingest.errors import TileError
from cubeingest.grid import TilingGrid
from cubeingest.remote import read_part
from cubeingest.spec import Variable, storage_of
from cubeingest.storage import public_href
from cubeingest.tile.blocks import BlockTable, block_table, fill_order
from cubeingest.tile.fit import Placement, Window, place
from cubeingest.tile.header import Header, clean, header_of, open_raster
from cubeingest.tile.pixels import Array, as_dtype, same

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

ADVICE = ". Ingest it without --virtual and --copy-blocks"
"""What to do with a tile that must be decoded."""

CODECS = {"": None, "ZSTD": "zstd"}
"""GDAL's names of how TIFFs are compressed, by the name of the Zarr v3 codec that every reader has for it."""


def why_no_variable(variable: Variable) -> str | None:
    """Why blocks of no tile can be chunks of a variable, or None."""
    codec = variable.compressor["name"] if variable.compressor else None
    if variable.aggregate is not None:
        return "it is a statistic of points"
    if variable.shards is not None:
        return "it has shards, each of which is many chunks and an index of them"
    if any(n != 1 for n in variable.chunks[:-2]):
        return f"its chunks span several values of {' and '.join(variable.axes)} ({variable.chunks})"
    if codec not in CODECS.values():
        return f"its chunks are compressed with {codec}: a TIFF's blocks may be zstd, or uncompressed"
    if variable.source is not None and variable.source.array is not None:
        return "its sources are no TIFFs (source.array)"
    return None


def why_not(header: Header, placement: Placement, variable: Variable) -> str | None:
    """Why a tile's blocks are not a variable's chunks, as far as its header tells; else None."""
    chunk = variable.chunks[-2:]
    dtype = header.dtypes[placement.band - 1]
    if placement.is_warped:
        return "it lies off the grid's lattice and is resampled"
    if placement.flipped:
        return "its rows run the other way than the grid's"
    if dtype != variable.dtype:
        return f"it is {dtype}, the variable is {variable.dtype}"
    if header.block_shape_yx != chunk:
        own, want = (" x ".join(map(str, shape)) for shape in (header.block_shape_yx, chunk))
        return f"its blocks are {own} pixels (y x x), the variable's chunks {want}"
    if any(part.start % size for part, size in zip(placement.window, chunk, strict=True)):
        y, x = (part.start for part in placement.window)
        return f"it begins at pixel {y}, {x} (y, x) of the grid, where no chunk of {chunk[0]} x {chunk[1]} begins"
    fill = variable.np_fill
    nodata = as_dtype(placement.nodata, variable.np_dtype)
    if nodata is None and not np.isnan(fill):
        return (
            f"it has no nodata, so valid pixels may equal the fill value {fill}, which only decoding shows (if {fill} means no data "
            f"there, say source.nodata: {fill})"
        )
    if nodata is not None and not same(nodata, fill):
        return f"its nodata {nodata} is not the fill value {fill}, to which it would have to be changed"
    return None


class BlockReader:
    """One open tile whose blocks, as far as its header tells, are chunks of ``variable``. ``read(start, n)`` gives bytes of its file."""

    def __init__(
        self,
        src: DatasetReader,
        header: Header,
        placement: Placement,
        variable: Variable,
        read: Callable[[int, int], bytes],
        copy: str | None,
    ) -> None:
        self.window = placement.window
        self._src, self._header, self._band, self._variable = src, header, placement.band, variable
        self._signature, self._read, self._copy = read(0, 4), read, copy

    def table(self, rows: range, columns: range) -> BlockTable:
        """Where some of the blocks lie. Raises :class:`TileError` if they are not chunks as they are."""
        table = block_table(self._src, self._band, self._signature, (rows, columns))
        if table is None:
            raise not_as_is(self._header.href, "it is no TIFF, or its blocks mix bands or parts of bytes")
        reason = self._why_not(table)
        if reason is not None:
            raise not_as_is(self._header.href, reason)
        return table

    def _why_not(self, table: BlockTable) -> str | None:
        variable = self._variable
        codec = variable.compressor["name"] if variable.compressor else None
        dtype = variable.np_dtype
        if table.compression not in CODECS or CODECS[table.compression] != codec:
            return f"its blocks are {table.compression or 'not compressed'}, the variable's chunks {codec or 'not compressed'}"
        if table.predictor != 1:
            return f"its blocks are written with predictor {table.predictor}, which no codec of Zarr undoes"
        if table.byte_order == ">" and dtype.itemsize > 1:
            return "its pixels are big-endian, a cube's are little-endian"
        if not table.compression and fill_order(self._src, self._signature, self._read) != 1:
            return "the bits of its bytes run the other way (TIFF's FillOrder), or its tags do not tell"
        n_bytes = int(np.prod(table.block_shape_yx)) * dtype.itemsize
        present = table.lengths > 0
        if not table.compression and (table.lengths[present] != n_bytes).any():
            return "its last strip is shorter than the others, a chunk is not"
        missing = self._header.nodata[self._band - 1]
        read_as = as_dtype(0 if missing is None else missing, dtype)
        if not present.all() and (read_as is None or not same(read_as, variable.np_fill)):
            return f"it leaves out blocks, which read as {read_as}, not as the fill value {variable.np_fill}"
        return None

    def pixels(self, row: int, column: int) -> Array:
        """What GDAL reads of one block, as far as the tile holds it. Raises :class:`TileError`."""
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as RasterWindow

        height, width = self._header.shape_yx
        tall, wide = self._header.block_shape_yx
        y, x = row * tall, column * wide
        window = RasterWindow(x, y, min(wide, width - x), min(tall, height - y))
        try:
            pixels: Array = self._src.read(self._band, window=window)
        except (RasterioError, OSError) as e:
            reason = clean(e, self._header.href, self._copy)
            raise TileError(f"tile {public_href(self._header.href)!r} cannot be read at row {y}: {reason}") from None
        return pixels


@contextmanager
def open_blocks(
    href: str,
    grid: TilingGrid,
    variable: Variable,
    band: int | None,
    expected: Window | None,
    copy: str | None,
) -> Iterator[BlockReader]:
    """Open a tile, prove that it fits (see :func:`place`) and that its header lets its blocks be chunks.

    It is read from ``copy``, where there is one on this disk. Raises :class:`TileError`, with the reason why they cannot.
    """
    storage = storage_of(variable)
    with open_raster(href, storage, copy) as src:
        header = header_of(href, src)
        placement = place(header, grid, variable, band, expected)
        reason = why_not(header, placement, variable)
        if reason is not None:
            raise not_as_is(href, reason)
        yield BlockReader(src, header, placement, variable, partial(read_part, copy or href, storage), copy)


def not_as_is(href: str, reason: str) -> TileError:
    """What is said of a tile that must be decoded."""
    return TileError(f"tile {public_href(href)!r} cannot be taken as it is: {reason}{ADVICE}")
