"""LZW blocks of a GeoTIFF on this disk, decoded by imagecodecs, which takes half of GDAL's time for it or less.

GDAL opens the file, says where its blocks lie, and reads whatever is unusual or broken.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from threading import local
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.tile.blocks import BlockTable, block_table
from cubeingest.tile.pixels import as_dtype

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

SPAN_BYTES = 2**20
"""Blocks that follow one another in the file are read together, up to this many bytes."""

MAX_BLOCK_BYTES = 4 * 2**20
"""Larger blocks are left to GDAL, which holds one of them at a time."""

NO_PREDICTOR, HORIZONTAL = 1, 2
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")

Array = np.ndarray[Any, Any]


class LzwReader:
    """Reads whole rows of blocks of one band."""

    def __init__(
        self,
        src: DatasetReader,
        band: int,
        path: str,
        table: BlockTable,
        absent: np.generic,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._path, self.table, self._shape, self._threads = path, table, (src.height, src.width), threads
        self._stored = np.dtype(src.dtypes[band - 1]).newbyteorder(table.byte_order)
        self._absent = absent
        self._own = local()

    def read_into(self, out: Array, rows: slice, columns: slice) -> bool:
        """Fill ``out`` with ``rows``, which start at a row of blocks and end at one or at the file's end, and with ``columns``.

        ``out`` is in the band's dtype. False if a block cannot be read or is not what the file says: ``out`` holds nothing then.
        """
        height, width = self.table.block_shape_yx
        down = slice(rows.start // height, -(-rows.stop // height))
        across = slice(columns.start // width, -(-columns.stop // width))
        offsets: list[int] = self.table.offsets[down, across].ravel().tolist()
        lengths: list[int] = self.table.lengths[down, across].ravel().tolist()
        place = partial(self._place, out, rows, columns)
        if width == out.shape[1] == self._shape[1] and self._stored.isnative and out.flags.c_contiguous:
            place = partial(self._decode_in_place, out)

        def read(file: int, span: range) -> None:
            start, stop = offsets[span.start], offsets[span.stop - 1] + lengths[span.stop - 1]
            place(span, [offsets[i] - start for i in span], [lengths[i] for i in span], self._read(file, start, stop))

        try:
            file = os.open(self._path, os.O_RDONLY)
        except OSError:
            return False
        try:
            futures = [self._threads.submit(read, file, span) for span in spans(offsets, lengths)]
            wait(futures)  # also after a failure: nothing is written into ``out`` when somebody else fills it
        finally:
            os.close(file)
        for future in futures:
            error = future.exception()
            if error is not None and not isinstance(error, (ValueError, OSError, RuntimeError)):
                raise error
        return all(future.exception() is None for future in futures)

    def _read(self, file: int, start: int, stop: int) -> memoryview:
        """Bytes of the file, in memory that this thread uses again."""
        memory: bytearray = getattr(self._own, "memory", bytearray())
        if len(memory) < stop - start:
            memory = self._own.memory = bytearray(max(SPAN_BYTES, stop - start))
        view = memoryview(memory)[: stop - start]
        if os.preadv(file, [view], start) < stop - start:
            raise OSError("the file ends before its blocks do")
        return view

    def _decode_in_place(
        self, out: Array, span: range, offsets: list[int], lengths: list[int], encoded: memoryview
    ) -> None:
        """Blocks as wide as the band, which follow one another in ``out`` as they are numbered."""
        height = self.table.block_shape_yx[0]
        rows = out[span.start * height : span.stop * height]
        flat, size = rows.reshape(-1).view(np.uint8), height * out.shape[1] * out.itemsize
        for i, (offset, length) in enumerate(zip(offsets, lengths, strict=True)):
            if length:
                decode(encoded[offset : offset + length], flat[i * size : (i + 1) * size])
            else:
                rows[i * height : (i + 1) * height] = self._absent
        if any(lengths):  # a span has several blocks only if the file holds them all
            self._undo_predictor(rows)

    def _place(
        self,
        out: Array,
        rows: slice,
        columns: slice,
        span: range,
        offsets: list[int],
        lengths: list[int],
        encoded: memoryview,
    ) -> None:
        """Blocks of any width: each is decoded by itself, and what is wanted of it put in its place."""
        height, width = self.table.block_shape_yx
        across = slice(columns.start // width, -(-columns.stop // width))
        for i, offset, length in zip(span, offsets, lengths, strict=True):
            y, x = divmod(i, across.stop - across.start)
            top, left = (rows.start // height + y) * height, (across.start + x) * width
            first = max(0, left - columns.start)
            target = out[top - rows.start : top - rows.start + height, first : left - columns.start + width]
            if not length:
                target[...] = self._absent
                continue
            block = np.empty((self._rows_from(top), width), self._stored)
            decode(encoded[offset : offset + length], block.reshape(-1).view(np.uint8))
            block = block.astype(block.dtype.newbyteorder("="), copy=False)
            self._undo_predictor(block)
            skipped = max(0, columns.start - left)
            target[...] = block[: len(target), skipped : skipped + target.shape[1]]

    def _rows_from(self, top: int) -> int:
        """Rows that a block holds: a file's last strip is cut at its end, tiles are not."""
        height, width = self.table.block_shape_yx
        return min(height, self._shape[0] - top) if width == self._shape[1] else height

    def _undo_predictor(self, rows: Array) -> None:
        if self.table.predictor == HORIZONTAL:
            from imagecodecs import delta_decode

            rows[...] = delta_decode(rows, axis=1)


def decode(encoded: memoryview, out: Any) -> None:
    """Decode a block into bytes. Raises :class:`ValueError` if it has fewer, :class:`RuntimeError` if it is no LZW."""
    from imagecodecs import lzw_decode

    decoded: Any = lzw_decode(encoded, out=out)
    if decoded.size != out.size:
        raise ValueError(f"a block has {decoded.size} bytes, expected {out.size}")


def spans(offsets: list[int], lengths: list[int]) -> Iterator[range]:
    """Runs of blocks that follow one another closely, in the file as in order, of some MB at most; one that the file leaves
    out is a run of its own.
    """
    first = 0
    for i in range(1, len(offsets)):
        stop = offsets[i - 1] + lengths[i - 1]
        follows = stop <= offsets[i] <= stop + 64 and lengths[i] and lengths[i - 1]
        if not follows or offsets[i] + lengths[i] - offsets[first] > SPAN_BYTES:
            yield range(first, i)
            first = i
    if offsets:
        yield range(first, len(offsets))


def lzw_reader(src: DatasetReader, band: int, path: str | None, threads: ThreadPoolExecutor | None) -> LzwReader | None:
    """A reader of one ``band`` of an open raster whose file is at ``path``; None where GDAL is to read it.

    It has been seen to read a few blocks as GDAL does: the first and the last that the file holds, and one that it leaves out.
    """
    if path is None or threads is None or src.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION") != "LZW":
        return None
    dtype = src.dtypes[band - 1]
    if math.prod(src.block_shapes[band - 1]) * np.dtype(dtype).itemsize > MAX_BLOCK_BYTES:
        return None
    with open(path, "rb") as file:
        table = block_table(src, band, file.read(4))
    if table is None or not (table.predictor == NO_PREDICTOR or (table.predictor == HORIZONTAL and dtype in INTEGERS)):
        return None
    nodata = src.nodatavals[band - 1]  # which GDAL gives for blocks that the file leaves out; else 0
    absent = as_dtype(0 if nodata is None else nodata, np.dtype(dtype))
    if absent is None:
        return None
    reader = LzwReader(src, band, path, table, absent, threads)
    there, left_out = np.argwhere(table.lengths), np.argwhere(table.lengths == 0)
    proofs = [*there[:1], *there[-1:], *left_out[:1]]
    # Of a high strip GDAL makes blocks of one row, and tells the place of the first alone.
    is_split = table.block_shape_yx[0] == 1 and len(there) <= 1 < src.height
    return reader if not is_split and all(_agrees(reader, src, band, int(y), int(x)) for y, x in proofs) else None


def _agrees(reader: LzwReader, src: DatasetReader, band: int, y: int, x: int) -> bool:
    """Whether GDAL and ``reader`` read the same in the block at row ``y`` and column ``x`` of blocks."""
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    height, width = reader.table.block_shape_yx
    rows = slice(y * height, min((y + 1) * height, src.height))
    columns = slice(x * width, min((x + 1) * width, src.width))
    own = np.empty((rows.stop - rows.start, columns.stop - columns.start), src.dtypes[band - 1])
    try:
        theirs = src.read(band, window=Window.from_slices(rows, columns))
    except (OSError, RasterioError):
        return False
    return reader.read_into(own, rows, columns) and own.tobytes() == theirs.tobytes()
