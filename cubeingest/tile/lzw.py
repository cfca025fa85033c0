"""LZW blocks of a GeoTIFF on this disk, decoded by imagecodecs, which takes half of GDAL's time for it or less.

GDAL opens the file, says where its blocks lie, and reads whatever is unusual or broken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.tile.blocks import BlockTable, block_table

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

SPAN_BYTES = 4 * 2**20
"""Blocks that follow one another in the file are read together, up to this many bytes."""

NO_PREDICTOR, HORIZONTAL = 1, 2
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")

Array = np.ndarray[Any, Any]


class LzwReader:
    """Reads whole rows of blocks of one band. For one thread."""

    def __init__(self, src: DatasetReader, band: int, file: int, table: BlockTable) -> None:
        self._file, self.table, self._shape = file, table, (src.height, src.width)
        self._stored = np.dtype(src.dtypes[band - 1]).newbyteorder(table.byte_order)
        # GDAL gives the nodata value, or 0, for blocks that the file leaves out.
        self._absent = src.nodatavals[band - 1] or 0

    def read_into(self, out: Array, rows: slice, columns: slice) -> bool:
        """Fill ``out`` with ``rows``, which start at a row of blocks and end at one or at the file's end, and with ``columns``.

        ``out`` is in the band's dtype. False if a block cannot be read or is not what the file says: ``out`` holds nothing then.
        """
        try:
            self._read_into(out, rows, columns)
        except (ValueError, OSError, RuntimeError):
            return False
        return True

    def _read_into(self, out: Array, rows: slice, columns: slice) -> None:
        height, width = self.table.block_shape_yx
        down = slice(rows.start // height, -(-rows.stop // height))
        across = slice(columns.start // width, -(-columns.stop // width))
        in_place = width == out.shape[1] == self._shape[1] and self._stored.isnative and out.flags.c_contiguous
        for (y, x), encoded in self._encoded(down, across):
            top, left = y * height, x * width
            target = out[
                top - rows.start : top - rows.start + height,
                max(0, left - columns.start) : left - columns.start + width,
            ]
            if encoded is None:
                target[...] = self._absent
            elif in_place:
                self._decode(encoded, target)
            else:
                block = np.empty((self._rows_of(y), width), self._stored)
                self._decode(encoded, block)
                first = max(0, columns.start - left)
                target[...] = block[: len(target), first : first + target.shape[1]]

    def _rows_of(self, y: int) -> int:
        """Rows that a block holds: a file's last strip is cut at its end, tiles are not."""
        height, width = self.table.block_shape_yx
        return min(height, self._shape[0] - y * height) if width == self._shape[1] else height

    def _decode(self, encoded: memoryview, out: Array) -> None:
        from imagecodecs import delta_decode, lzw_decode

        flat: Any = out.reshape(-1).view(np.uint8)
        decoded: Any = lzw_decode(encoded, out=flat)
        if decoded.size != out.nbytes:
            raise ValueError(f"a block has {decoded.size} bytes, expected {out.nbytes}")
        if self.table.predictor == HORIZONTAL:
            out[...] = delta_decode(out.astype(out.dtype.newbyteorder("="), copy=False), axis=1)

    def _encoded(self, down: slice, across: slice) -> Iterator[tuple[tuple[int, int], memoryview | None]]:
        """(row and column of a block, its bytes or None if the file leaves it out), read in spans."""
        columns = across.stop - across.start
        offsets: list[int] = self.table.offsets[down, across].ravel().tolist()
        lengths: list[int] = self.table.lengths[down, across].ravel().tolist()
        span, start = memoryview(b""), 0
        for i, (offset, length) in enumerate(zip(offsets, lengths, strict=True)):
            place = down.start + i // columns, across.start + i % columns
            if not length:
                yield place, None
                continue
            if not start <= offset <= offset + length <= start + len(span):
                stop = _span_stop(offsets, lengths, i)
                span, start = memoryview(os.pread(self._file, stop - offset, offset)), offset
                if len(span) < stop - offset:
                    raise OSError("the file ends before its blocks do")
            yield place, span[offset - start : offset - start + length]


def _span_stop(offsets: list[int], lengths: list[int], first: int) -> int:
    """Where the blocks that follow block ``first`` closely, in the file as in order, end."""
    stop = offsets[first] + lengths[first]
    for offset, length in zip(offsets[first + 1 :], lengths[first + 1 :], strict=True):
        if not stop <= offset <= stop + 64 or offset + length - offsets[first] > SPAN_BYTES:
            break
        stop = offset + length
    return stop


@contextmanager
def open_lzw(src: DatasetReader, band: int, path: str | None) -> Iterator[LzwReader | None]:
    """A reader of one ``band`` of an open raster whose file is at ``path``; None where GDAL is to read it.

    It has been seen to decode the band's first block as GDAL does.
    """
    if path is None or src.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION") != "LZW":
        yield None
        return
    file = os.open(path, os.O_RDONLY)
    try:
        table = block_table(src, band, os.pread(file, 4, 0))
        usable = table is not None and (
            table.predictor == NO_PREDICTOR or (table.predictor == HORIZONTAL and src.dtypes[band - 1] in INTEGERS)
        )
        reader = LzwReader(src, band, file, table) if table is not None and usable else None
        yield reader if reader is not None and _agrees(reader, src, band) else None
    finally:
        os.close(file)


def _agrees(reader: LzwReader, src: DatasetReader, band: int) -> bool:
    """Whether GDAL and ``reader`` read the same in a block that the file holds."""
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    present = np.argwhere(reader.table.lengths)
    if not len(present):
        return True
    height, width = reader.table.block_shape_yx
    y, x = (int(i) for i in present[0])
    rows = slice(y * height, min((y + 1) * height, src.height))
    columns = slice(x * width, min((x + 1) * width, src.width))
    own = np.empty((rows.stop - rows.start, columns.stop - columns.start), src.dtypes[band - 1])
    try:
        theirs = src.read(band, window=Window.from_slices(rows, columns))
    except (OSError, RasterioError):
        return False
    return reader.read_into(own, rows, columns) and own.tobytes() == theirs.tobytes()
