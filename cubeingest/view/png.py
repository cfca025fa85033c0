"""Small PNGs, quickly: of up to 256 colours with a palette (https://www.w3.org/TR/png-3/)."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

LEVEL = 3
"""Of zlib: what is sent to the same machine, or through a tunnel, shall be small, but not wait for it."""

PALETTE, RGBA = 3, 6
"""Kinds of pixels."""


def encode_png(rgba: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of pixels (rows, columns, 4)."""
    rows, columns = rgba.shape[:2]
    packed = np.ascontiguousarray(rgba).view(np.uint32)[..., 0]
    colours, places = np.unique(packed, return_inverse=True)
    if colours.size > 256:
        return _file(rows, columns, RGBA, np.ascontiguousarray(rgba).reshape(rows, -1))
    table = colours.view(np.uint8).reshape(-1, 4)
    more = [(b"PLTE", table[:, :3].tobytes()), (b"tRNS", table[:, 3].tobytes())]
    return _file(rows, columns, PALETTE, places.reshape(rows, columns).astype(np.uint8), *more)


def _file(rows: int, columns: int, kind: int, lines: npt.NDArray[np.uint8], *more: tuple[bytes, bytes]) -> bytes:
    head = struct.pack(">IIBBBBB", columns, rows, 8, kind, 0, 0, 0)
    unfiltered = np.zeros((rows, lines.shape[1] + 1), np.uint8)
    unfiltered[:, 1:] = lines
    parts = [(b"IHDR", head), *more, (b"IDAT", zlib.compress(unfiltered.tobytes(), LEVEL)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
