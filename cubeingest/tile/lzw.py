"""LZW blocks of a GeoTIFF on this disk, decoded by imagecodecs, which takes half of GDAL's time for it or less.

GDAL opens the file, says where its blocks lie, and reads whatever is unusual or broken.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.tile.blocks import BlockTable, block_table

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

SPAN_BYTES = 2**20
"""Blocks that follow one another in the file are read together, up to this many bytes."""

NO_PREDICTOR, HORIZONTAL = 1, 2
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")

Array = np.ndarray[Any, Any]


DECODERS = 2
"""Threads that decode: of a worker's two cores one would wait where decoding takes longer than encoding."""


@dataclass(frozen=True)
class Block:
    """Where a block lies in the file, and row and column of its first pixel."""

    offset: int
    length: int
    top: int
    left: int


class LzwReader:
    """Reads whole rows of blocks of one band."""

    def __init__(
        self, src: DatasetReader, band: int, file: int, table: BlockTable, threads: ThreadPoolExecutor
    ) -> None:
        self._file, self.table, self._shape, self._threads = file, table, (src.height, src.width), threads
        self._stored = np.dtype(src.dtypes[band - 1]).newbyteorder(table.byte_order)
        # GDAL gives the nodata value, or 0, for blocks that the file leaves out.
        self._absent = src.nodatavals[band - 1] or 0

    def read_into(self, out: Array, rows: slice, columns: slice) -> bool:
        """Fill ``out`` with ``rows``, which start at a row of blocks and end at one or at the file's end, and with ``columns``.

        ``out`` is in the band's dtype. False if a block cannot be read or is not what the file says: ``out`` holds nothing then.
        """
        height, width = self.table.block_shape_yx
        down = range(rows.start // height, -(-rows.stop // height))
        across = range(columns.start // width, -(-columns.stop // width))
        blocks = [
            Block(int(self.table.offsets[y, x]), int(self.table.lengths[y, x]), y * height, x * width)
            for y in down
            for x in across
        ]
        try:
            list(self._threads.map(lambda span: self._read_span(span, out, rows, columns), spans(blocks)))
        except (ValueError, OSError, RuntimeError):
            return False
        return True

    def _read_span(self, span: list[Block], out: Array, rows: slice, columns: slice) -> None:
        """Read blocks that lie next to one another in the file, and put them where they belong."""
        height, width = self.table.block_shape_yx
        in_place = width == out.shape[1] == self._shape[1] and self._stored.isnative and out.flags.c_contiguous
        start, stop = span[0].offset, span[-1].offset + span[-1].length
        encoded = memoryview(os.pread(self._file, stop - start, start))
        if len(encoded) < stop - start:
            raise OSError("the file ends before its blocks do")
        for block in span:
            target = out[
                block.top - rows.start : block.top - rows.start + height,
                max(0, block.left - columns.start) : block.left - columns.start + width,
            ]
            part = encoded[block.offset - start : block.offset - start + block.length]
            if not block.length:
                target[...] = self._absent
            elif in_place:
                self._decode(part, target)
            else:
                whole = np.empty((self._rows_from(block.top), width), self._stored)
                self._decode(part, whole)
                first = max(0, columns.start - block.left)
                target[...] = whole[: len(target), first : first + target.shape[1]]

    def _rows_from(self, top: int) -> int:
        """Rows that a block holds: a file's last strip is cut at its end, tiles are not."""
        height, width = self.table.block_shape_yx
        return min(height, self._shape[0] - top) if width == self._shape[1] else height

    def _decode(self, encoded: memoryview, out: Array) -> None:
        from imagecodecs import delta_decode, lzw_decode

        flat: Any = out.reshape(-1).view(np.uint8)
        decoded: Any = lzw_decode(encoded, out=flat)
        if decoded.size != out.nbytes:
            raise ValueError(f"a block has {decoded.size} bytes, expected {out.nbytes}")
        if self.table.predictor == HORIZONTAL:
            out[...] = delta_decode(out.astype(out.dtype.newbyteorder("="), copy=False), axis=1)


def spans(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Runs of blocks that follow one another closely, in the file as in order, of some MB at most; one that the file leaves
    out is in a run of its own.
    """
    span: list[Block] = []
    for block in blocks:
        if span:
            stop = span[-1].offset + span[-1].length
            follows = stop <= block.offset <= stop + 64 and block.length and span[-1].length
            if not follows or block.offset + block.length - span[0].offset > SPAN_BYTES:
                yield span
                span = []
        span.append(block)
    if span:
        yield span


@contextmanager
def open_lzw(src: DatasetReader, band: int, path: str | None) -> Iterator[LzwReader | None]:
    """A reader of one ``band`` of an open raster whose file is at ``path``; None where GDAL is to read it.

    It has been seen to decode the band's first block as GDAL does.
    """
    if path is None or src.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION") != "LZW":
        yield None
        return
    file = os.open(path, os.O_RDONLY)
    threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="cubeingest-decode")
    try:
        table = block_table(src, band, os.pread(file, 4, 0))
        usable = table is not None and (
            table.predictor == NO_PREDICTOR or (table.predictor == HORIZONTAL and src.dtypes[band - 1] in INTEGERS)
        )
        reader = LzwReader(src, band, file, table, threads) if table is not None and usable else None
        yield reader if reader is not None and _agrees(reader, src, band) else None
    finally:
        threads.shutdown()
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
