"""Sorted points beyond what memory may hold, in files of the scratch folder that go with the process."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np

from cubeingest.points.model import Array, Columns
from cubeingest.remote import bound_bytes, scratch_file

SEGMENT_BYTES = 256 * 2**20
"""One file of sorted points. Few files are open, and the room of those that are longest out of use comes back file by file."""


class Segment:
    """A file into which columns are put one after the other, mapped into memory."""

    def __init__(self, size: int) -> None:
        self._stack = ExitStack()
        made = self._stack.enter_context(scratch_file(size))
        self.is_usable = made is not None
        self._used, self.size = 0, size
        if made is not None:
            self._map = mmap.mmap(made[0], size)

    def has_room(self, n: int) -> bool:
        return self._used + n <= self.size

    def put(self, values: Array) -> Array:
        """A copy of ``values`` that lies in the file. It keeps the file's room for as long as it is referred to."""
        copy = np.frombuffer(self._map, values.dtype, len(values), self._used)
        copy[:] = values
        copy.flags.writeable = False
        self._used += padded(values.nbytes)
        return copy

    def close(self) -> None:
        """Give the file up; its room comes back when nothing of it is used any more."""
        self._stack.close()


class Spill:
    """Segments, the oldest of which is given up where there is no room for another. Not for many threads at once."""

    def __init__(self) -> None:
        self._segments: dict[int, Segment] = {}
        self._number = 0

    def put(self, columns: Mapping[str, Array]) -> tuple[Columns | None, int, list[int]]:
        """Copies of columns in a file (None if there is no room at all), its number, and the numbers of files given up for it."""
        need = sum(padded(values.nbytes) for values in columns.values())
        dropped: list[int] = []
        if not self._segments or not self._segments[self._number].has_room(need):
            bound, size = bound_bytes(), max(SEGMENT_BYTES, need)
            if size > bound:
                return None, 0, dropped
            while self._segments and sum(s.size for s in self._segments.values()) + size > bound:
                dropped.append(self._drop_oldest())
            segment = Segment(size)
            if not segment.is_usable:
                segment.close()
                return None, 0, dropped
            self._number += 1
            self._segments[self._number] = segment
        segment = self._segments[self._number]
        return {name: segment.put(values) for name, values in columns.items()}, self._number, dropped

    def _drop_oldest(self) -> int:
        number = next(iter(self._segments))
        self._segments.pop(number).close()
        return number

    def close(self) -> None:
        while self._segments:
            self._drop_oldest()


def padded(n: int) -> int:
    """Bytes that a column of ``n`` takes: the next begins where numbers may."""
    return -(-n // 64) * 64
