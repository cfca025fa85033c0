"""The directories of a TIFF as bytes: tags are written into them, and read from them, classic (offsets of 32 bits) or big (64).

Format: TIFF 6.0 and BigTIFF, little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

Tag = tuple[int, int, bytes]
"""(TIFF type, count, content), little endian."""

ASCII, SHORT, LONG, DOUBLE, LONG8 = 2, 3, 4, 12, 16
"""TIFF types: texts, whole numbers of 16, 32 and 64 bits without sign, float64."""

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
"""Bytes of one value, by TIFF type."""


def directory_size(tags: Mapping[int, Tag], big: bool) -> int:
    """Bytes of a directory and of what it refers to; blocks do not count."""
    inline = 8 if big else 4
    entries = 16 + 20 * len(tags) if big else 6 + 12 * len(tags)
    return _even(entries) + sum(_even(len(c)) for _, _, c in tags.values() if len(c) > inline)


def write_directory(tags: Mapping[int, Tag], start: int, following: int, big: bool) -> bytes:
    """A directory that lies at ``start``, with what it refers to after it; the next one lies at ``following`` (0: there is none)."""
    inline, count, entry, pointer = (8, "<Q", "<HHQ", "<Q") if big else (4, "<H", "<HHI", "<I")
    entries = [struct.pack(count, len(tags))]
    place = start + _even(16 + 20 * len(tags) if big else 6 + 12 * len(tags))
    further = []
    for tag, (type_, length, content) in sorted(tags.items()):
        entries.append(struct.pack(entry, tag, type_, length))
        if len(content) <= inline:
            entries.append(content.ljust(inline, b"\0"))
            continue
        entries.append(struct.pack(pointer, place))
        further.append(content.ljust(_even(len(content)), b"\0"))
        place += len(further[-1])
    entries.append(struct.pack(pointer, following))
    head = b"".join(entries)
    return b"".join([head.ljust(_even(len(head)), b"\0"), *further])


def doubles(*values: float) -> Tag:
    """A tag of float64 numbers."""
    return DOUBLE, len(values), np.array(values, "<f8").tobytes()


def read_tags(content: bytes) -> Iterator[tuple[int, Tag]]:
    """Tags of the first directory of a classic little-endian TIFF."""
    order, version, start = struct.unpack_from("<2sHI", content)
    assert (order, version) == (b"II", 42), "GDAL has written another kind of TIFF"
    (count,) = struct.unpack_from("<H", content, start)
    for n in range(count):
        entry = start + 2 + 12 * n
        tag, type_, length = struct.unpack_from("<HHI", content, entry)
        size = SIZES[type_] * length
        place = entry + 8 if size <= 4 else struct.unpack_from("<I", content, entry + 8)[0]
        yield tag, (type_, length, content[place : place + size])


def end_of_blocks(path: Path) -> int | None:
    """Where in a file the last block of its first directory ends, in bytes; None for a file that does not say."""
    try:
        with path.open("rb") as file:
            order, version = struct.unpack("<2sH", file.read(4))
            if order != b"II" or version not in (42, 43):
                return None
            big = version == 43
            head, count, entry, inline = ("<4xQ", "<Q", "<HHQ", 8) if big else ("<I", "<H", "<HHI", 4)
            (start,) = _unpack(file, head)
            file.seek(start)
            (n,) = _unpack(file, count)
            entries = [(*_unpack(file, entry), file.read(inline)) for _ in range(n)]
            last: dict[int, int] = {}  # by tag, the entry of the last block
            for tag, type_, length, content in entries:
                if tag not in (324, 325) or not length:
                    continue
                size = SIZES[type_]
                if length * size > inline:
                    (place,) = struct.unpack("<Q" if big else "<I", content)
                    file.seek(place + (length - 1) * size)
                    own = file.read(size)
                else:
                    own = content[(length - 1) * size : length * size]
                last[tag] = int.from_bytes(own, "little")
            return last[324] + last[325]
    except (OSError, struct.error, KeyError):
        return None


def _unpack(file: IO[bytes], form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _even(n: int) -> int:
    """TIFF wants what is referred to at even places."""
    return n + n % 2
