"""Where the blocks of a GeoTIFF lie in its file, and how they are encoded: what it takes to read them without GDAL.

Source: TIFF 6.0, and the items of GDAL's metadata domain ``TIFF`` of its GTiff driver.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from rasterio.io import DatasetReader

FILL_ORDER = 266
"""The tag of that name."""

TAGS_BYTES = 8192
"""What is read to find it: hundreds of tags, of which a TIFF has some twenty."""


@dataclass(frozen=True)
class BlockTable:
    """The blocks (tiles or strips) of one band of a TIFF, each of which holds pixels of that band alone.

    ``offsets`` and ``lengths`` are in bytes, of shape (rows of blocks, columns of blocks); a length of 0 means that the file leaves that
    block out. ``compression`` is GDAL's name (LZW, DEFLATE, ZSTD, ...), empty for none; ``predictor`` is TIFF's (1: none).
    """

    compression: str
    predictor: int
    byte_order: Literal["<", ">"]
    block_shape_yx: tuple[int, int]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


def block_table(
    src: DatasetReader, band: int, signature: bytes, part: tuple[range, range] | None = None
) -> BlockTable | None:
    """The blocks of one ``band`` (from 1) of an open raster; ``signature`` is how its file begins (4 bytes).

    With ``part`` only of those rows and columns of blocks, whose first are then the table's first.
    None for what is no TIFF, whose blocks mix bands, or whose pixels do not fill whole bytes.
    """
    byte_orders: dict[bytes, Literal["<", ">"]] = {b"II*\0": "<", b"II+\0": "<", b"MM\0*": ">", b"MM\0+": ">"}
    structure = src.tags(ns="IMAGE_STRUCTURE")
    mixed = src.count > 1 and structure.get("INTERLEAVE") != "BAND"
    if (
        src.driver != "GTiff"
        or signature not in byte_orders
        or mixed
        or "NBITS" in src.tags(band, ns="IMAGE_STRUCTURE")
    ):
        return None
    rows, columns = src.block_shapes[band - 1]
    part = part or (range(-(-src.height // rows)), range(-(-src.width // columns)))
    return BlockTable(
        structure.get("COMPRESSION", ""), int(structure.get("PREDICTOR", 1)), byte_orders[signature], (rows, columns),
        _items(src, band, "BLOCK_OFFSET", part), _items(src, band, "BLOCK_SIZE", part),
    )  # fmt: skip


def _items(src: Any, band: int, name: str, part: tuple[range, range]) -> npt.NDArray[np.int64]:
    rows, columns = part
    items = (src.get_tag_item(f"{name}_{x}_{y}", "TIFF", bidx=band) for y in rows for x in columns)
    return np.fromiter((int(item or 0) for item in items), np.int64, len(rows) * len(columns)).reshape(
        len(rows), len(columns)
    )


def fill_order(src: DatasetReader, signature: bytes, read: Callable[[int, int], bytes]) -> int | None:
    """The order of bits in the bytes of an open TIFF's blocks: 1, or 2 for the other way round, which GDAL undoes and does not tell.

    ``read(start, n)`` gives bytes of the file, or as many as it has. None if its tags cannot be read. Source: TIFF 6.0, BigTIFF.
    """
    order, big = "<" if signature[:2] == b"II" else ">", b"+" in signature
    number, size = ("Q", 20) if big else ("H", 12)
    start = int(src.get_tag_item("IFD_OFFSET", "TIFF", bidx=1) or 0)
    tags = read(start, TAGS_BYTES)
    first = struct.calcsize(number)
    if not start or len(tags) < first:
        return None
    (n,) = struct.unpack_from(order + number, tags)
    if len(tags) < first + n * size:
        return None
    for at in range(first, first + n * size, size):
        if struct.unpack_from(order + "H", tags, at)[0] == FILL_ORDER:
            return int(struct.unpack_from(order + "H", tags, at + (12 if big else 8))[0])
    return 1
