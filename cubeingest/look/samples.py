"""Evenly spaced pixels of one array: what they cost to read, and reading them, in bounded memory and only from chunks that are there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import StoreError
from cubeingest.spec import Variable

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt

Array = np.ndarray[Any, Any]
Window = tuple[slice, slice]
"""Half-open pixels (y, x)."""

CHUNK_SECONDS, BYTES_PER_SECOND = 0.0005, 1e9
"""What one chunk costs to fetch, and how quickly chunks are decoded, both on two cores."""

WORTH_SAYING_SECONDS = 2.0
"""From which on a picture's note speaks of overviews."""

LIST_FROM = 3000
"""Chunks that a picture could need from which on those that are there are listed first; asking for each that is not takes a tenth of a
millisecond, and a list of millions more than a second."""

MOST_BYTES = 64 * 2**20
"""Of decoded chunks that are in memory at a time, but at least one."""

LISTED_AT_ONCE = 50_000
"""Chunks of a list that are in memory at a time."""


@dataclass(frozen=True)
class Samples:
    """Which pixels of an array are read: along y and x, evenly spaced, all within the array."""

    y: range
    x: range

    def at(self, window: Window) -> tuple[slice, slice]:
        """Positions among the samples of those that lie in a window of the array."""
        (y0, y1), (x0, x1) = (
            tuple(len(range(r.start, min(max(edge, r.start), r.stop), r.step)) for edge in (s.start, s.stop))
            for r, s in zip((self.y, self.x), window, strict=True)
        )
        return slice(y0, y1), slice(x0, x1)

    def part(self, at: tuple[slice, slice]) -> Samples:
        return Samples(self.y[at[0]], self.x[at[1]])


def place_samples(window: Window, step: int, shape_yx: tuple[int, int]) -> Samples:
    """One pixel, near the middle, of every ``step`` × ``step`` pixels that a window touches; steps start at the grid's origin."""
    y, x = (
        range(s.start // step * step + min(step // 2, (n - 1) % step), min(-(-s.stop // step) * step, n), step)
        for s, n in zip(window, shape_yx, strict=True)
    )
    return Samples(y, x)


class SparseArray:
    """One axis position of an array in the cube, read thinned, and only from chunks that are there."""

    def __init__(
        self,
        session: icechunk.Session,
        path: str,
        variable: Variable,
        index: tuple[int, ...],
        shape_yx: tuple[int, ...],
    ) -> None:
        self.shape_yx = shape_yx[0], shape_yx[1]
        self._session, self._path, self._variable, self._index = session, path, variable, index
        self._stored_yx = variable.write_shape[-2:]

    def read(self, samples: Samples) -> Array:
        """The samples, (y, x); the fill value where there is nothing."""
        import zarr

        out = np.full((len(samples.y), len(samples.x)), self._variable.np_fill)
        try:
            array = zarr.open_array(self._session.store, path=self._path, mode="r")
            for window in itertools.chain.from_iterable(map(self._bites, self._runs(samples))):
                at = samples.at(window)
                part = samples.part(at)
                if not (len(part.y) and len(part.x)):
                    continue
                where: Any = (*self._index, _slice(part.y), _slice(part.x))
                out[at] = array[where]
        except (RuntimeError, ValueError) as e:
            raise StoreError(
                f"pixels of {self._variable.name!r} cannot be read: {' '.join(str(e).split())[:160]} (`cubeingest check --deep` finds where)"
            ) from e
        return out

    def seconds(self, samples: Samples) -> float:
        """About how long it takes to read the samples."""
        inner = self._variable.chunks
        rows, columns = (self._places(r, c) for r, c in zip((samples.y, samples.x), self._stored_yx, strict=True))
        stored = rows.size * columns.size
        within = [self._places(r, c).size for r, c in zip((samples.y, samples.x), inner[-2:], strict=True)]
        each = CHUNK_SECONDS + math.prod(inner) * self._variable.np_dtype.itemsize / BYTES_PER_SECOND
        most = within[0] * within[1] * each
        if stored < LIST_FROM and most < WORTH_SAYING_SECONDS:
            return most  # as if all were there: not worth a look
        return most * int(self._present[np.ix_(rows, columns)].sum()) / max(1, stored)

    def _runs(self, samples: Samples) -> Iterator[Window]:
        """Windows that hold all samples that are there: runs of stored chunks, each within one row of them."""
        (sy, sx), (ny, nx) = self._stored_yx, self.shape_yx
        rows, columns = self._places(samples.y, sy), self._places(samples.x, sx)
        is_listed = "_present" in self.__dict__ or len(rows) * len(columns) >= LIST_FROM
        for row in rows.tolist():
            held = columns[self._present[row, columns]] if is_listed else columns
            if not held.size:
                continue
            wide = np.searchsorted(columns, held)  # columns without a sample do not end a run
            for run in np.split(held, np.flatnonzero(np.diff(wide) > 1) + 1):
                y, x = (
                    slice(row * sy, min((row + 1) * sy, ny)),
                    slice(int(run[0]) * sx, min((int(run[-1]) + 1) * sx, nx)),
                )
                yield y, x

    def _bites(self, window: Window) -> Iterator[Window]:
        """Parts of a run that are read at once: whole chunks that are not much in memory together, since they are decoded side by side."""
        (cy, cx), (y, x) = self._variable.chunks[-2:], window
        size = math.prod(self._variable.chunks) * self._variable.np_dtype.itemsize
        most = max(1, MOST_BYTES // size)
        columns = min(most, -(-(x.stop - x.start) // cx))
        rows = max(1, most // columns)
        for top in range(y.start, y.stop, rows * cy):
            for left in range(x.start, x.stop, columns * cx):
                yield slice(top, min(top + rows * cy, y.stop)), slice(left, min(left + columns * cx, x.stop))

    @staticmethod
    def _places(samples: range, size: int) -> npt.NDArray[np.int64]:
        """Indices of the stored chunks along one dimension that hold a sample."""
        return np.unique(np.arange(samples.start, samples.stop, samples.step) // size)

    @cached_property
    def _present(self) -> npt.NDArray[np.bool_]:
        """Which stored chunks there are at this axis position, over chunk rows and columns; a bit of memory for each at a time."""
        from zarr.core.sync import sync

        found = np.zeros([-(-n // c) for n, c in zip(self.shape_yx, self._stored_yx, strict=True)], bool)
        leading = np.array([i // c for i, c in zip(self._index, self._variable.write_shape, strict=False)], np.int64)

        async def collect() -> None:
            chunks = self._session.store.array_chunk_iterator(f"/{self._path}", batch_size=LISTED_AT_ONCE)
            async for batch in chunks:
                coordinates = batch[0]
                here = coordinates[(coordinates[:, : leading.size] == leading).all(axis=1)]
                found[here[:, -2], here[:, -1]] = True

        sync(collect())
        return found


def _slice(samples: range) -> slice:
    return slice(samples.start, samples.stop, samples.step)
