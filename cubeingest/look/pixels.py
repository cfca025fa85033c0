"""The pixels of a quicklook: from overviews where the cube has them, else thinned from the full resolution, in bounded memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import GridError, StoreError
from cubeingest.ledger import EMPTY, NOTHING, read_states
from cubeingest.overviews import current_slots, levels_of
from cubeingest.spec import CubeSpec, Variable
from cubeingest.store import Store

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt

Array = np.ndarray[Any, Any]
Window = tuple[slice, slice]
"""Half-open pixels (y, x)."""

MAX_PIXELS = 2000
"""Pixels along the longer side of a picture: what a screen shows."""

MOST_SECONDS = 6.0
"""How long a picture may take to read from the full resolution, by the two figures below; beyond it is thinned further."""

LEAST_PIXELS = 200
"""Pixels along the longer side that a picture keeps all the same: with fewer it would show nothing, least of all if chunks are large."""

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
class Picture:
    """Pixels of a variable, thinned.

    ``pixels`` are in the variable's dtype, (y, x) in the order of the cube, with the fill value where there is nothing. Each stands for
    ``step`` × ``step`` pixels of the cube; all for its ``window``, which may reach past the grid's end by part of a step.
    ``note`` says how they were read; empty if there is nothing to say.
    """

    pixels: Array
    window: Window
    step: int
    note: str = ""


@dataclass(frozen=True)
class _Samples:
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

    def part(self, at: tuple[slice, slice]) -> _Samples:
        return _Samples(self.y[at[0]], self.x[at[1]])


class PixelReader:
    """Reads pictures of one snapshot of a cube; what is asked for again and again is read once."""

    def __init__(self, store: Store) -> None:
        self.store = store.on(store.branch, store.tip)
        self.spec = self.store.spec
        self._session = self.store.readonly()

    def read(
        self,
        variable: Variable,
        position: Mapping[str, int] | None = None,
        window: Window | None = None,
        max_pixels: int = MAX_PIXELS,
        longest: int | None = None,
    ) -> Picture:
        """As :func:`read_pixels`. ``longest`` is the longer side of a view that the window is only part of."""
        index = self._index(variable, position or {})
        window = self._window(window)
        longest = longest or max(s.stop - s.start for s in window)
        with self.store.asking():
            numbers = [n for n, (spec, _) in self._levels.items() if variable.name in {v.name for v in spec.variables}]
            if numbers and longest >= 2 * max_pixels:
                return self._from_overviews(variable, index, window, (longest // max_pixels).bit_length() - 1, numbers)
            return self._from_base(variable, index, window, -(-longest // max_pixels))

    def has_overviews(self, variable: Variable) -> bool:
        """Whether pictures of a variable come from overviews, but for what these lack."""
        with self.store.asking():
            return any(variable.name in {v.name for v in spec.variables} for spec, _ in self._levels.values())

    def _from_base(self, variable: Variable, index: tuple[int, ...], window: Window, step: int) -> Picture:
        source = _Array(self._session, variable.name, variable, index, self.spec.shape_of(variable)[-2:])
        finer, longest = step, max(s.stop - s.start for s in window)
        while step * LEAST_PIXELS < longest and source.seconds(_samples(window, step, source.shape_yx)) > MOST_SECONDS:
            step += max(1, step // 5)
        samples = _samples(window, step, source.shape_yx)
        notes = [f"every {_ordinal(step)} pixel"] * (step > 1)
        if step > finer or source.seconds(samples) > WORTH_SAYING_SECONDS:
            better = "sharp and quick" if step > finer else "quick"
            notes.append(f"read from the full resolution: `cubeingest overviews` makes it {better}")
        return Picture(source.read(samples), _covered(window, step), step, ", ".join(notes))

    def _from_overviews(
        self, variable: Variable, index: tuple[int, ...], window: Window, wanted: int, numbers: list[int]
    ) -> Picture:
        """Of 2 to the power of ``wanted`` pixels each; slots that the overviews do not hold as they are now come from the base."""
        number = max([n for n in numbers if n <= wanted] or [min(numbers)])
        step = 2 ** max(number, wanted)
        spec, path = self._levels[number]
        level = spec.variable(variable.name)
        coarse = _Array(self._session, path(variable.name), level, index, spec.shape_of(level)[-2:])
        y, x = (slice(s.start >> number, -(-s.stop >> number)) for s in window)
        longest = max(s.stop - s.start for s in window)
        while (
            step * LEAST_PIXELS < longest
            and coarse.seconds(_samples((y, x), step >> number, coarse.shape_yx)) > MOST_SECONDS
        ):
            step *= 2  # the cube has no level that is coarse enough
        pixels = coarse.read(_samples((y, x), step >> number, coarse.shape_yx))
        base = _Array(self._session, variable.name, variable, index, self.spec.shape_of(variable)[-2:])
        samples = _samples(window, step, base.shape_yx)
        behind = self._behind(variable, index)
        todo = []
        for iy, ix in np.argwhere(behind != NOTHING).tolist():
            at = samples.at(self.spec.grid.slices(iy, ix))
            if at[0].start < at[0].stop and at[1].start < at[1].stop:
                pixels[at] = variable.np_fill
                if behind[iy, ix] != EMPTY:
                    todo.append((at, samples.part(at)))
        if sum(base.seconds(part) for _, part in todo) > MOST_SECONDS:
            return self._from_base(variable, index, window, step)
        for at, part in todo:
            pixels[at] = base.read(part)
        note = f"from overview {number}" + (
            f", {len(todo)} region{'s' * (len(todo) > 1)} from the full resolution" if todo else ""
        )
        return Picture(pixels, _covered(window, step), step, note)

    @cached_property
    def _levels(self) -> dict[int, tuple[CubeSpec, Any]]:
        """Overviews by number: (the spec of its arrays, their path by variable)."""
        return {level.number: (level.spec, level.path) for level in levels_of(self._session, self.spec)}

    @cached_property
    def _slots_behind(self) -> dict[str, npt.NDArray[np.uint8]]:
        """By variable, the states of those slots that the overviews do not hold as they are now."""
        current, states = current_slots(self._session, self.spec), read_states(self._session, self.spec)
        return {name: np.where(held, NOTHING, states[name]) for name, held in current.items()}

    def _behind(self, variable: Variable, index: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        block = tuple(i // a.block for i, a in zip(index, self.spec.axes_of(variable), strict=True))
        behind: npt.NDArray[np.uint8] = self._slots_behind[variable.name][block]
        return behind

    def _index(self, variable: Variable, position: Mapping[str, int]) -> tuple[int, ...]:
        out = tuple(position.get(name, 0) for name in variable.axes)
        for i, axis in zip(out, self.spec.axes_of(variable), strict=True):
            if not 0 <= i < axis.size:
                raise GridError(
                    f"axis {axis.name!r} of {variable.name!r} has {axis.size} values, so no position {i}: the first is 0"
                )
        return out

    def _window(self, window: Window | None) -> Window:
        ny, nx = self.spec.grid.shape_yx
        y, x = window or (slice(0, ny), slice(0, nx))
        if not (0 <= y.start < y.stop <= ny and 0 <= x.start < x.stop <= nx):
            raise GridError(
                f"window y {y.start}:{y.stop}, x {x.start}:{x.stop} is not within the grid's {ny} x {nx} pixels"
            )
        return y, x


def read_pixels(
    store: Store,
    variable: Variable,
    position: Mapping[str, int] | None = None,
    window: Window | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Pixels of ``variable`` within a ``window`` of the grid (all of it by default), at a position on each axis (the first by default).

    Along its longer side the picture has about ``max_pixels``, from overviews less than twice as many. What would take long to
    read from the full resolution is thinned further, and the picture's note says so. Memory is a few chunks besides the
    picture. Raises :class:`GridError` for a position or window that there is not, :class:`StoreError` if pixels cannot be read.
    """
    return PixelReader(store).read(variable, position, window, max_pixels)


class _Array:
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

    def read(self, samples: _Samples) -> Array:
        """The samples, (y, x); the fill value where there is nothing."""
        import zarr

        out = np.full((len(samples.y), len(samples.x)), self._variable.np_fill)
        array = zarr.open_array(self._session.store, path=self._path, mode="r")
        try:
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

    def seconds(self, samples: _Samples) -> float:
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

    def _runs(self, samples: _Samples) -> Iterator[Window]:
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


def _samples(window: Window, step: int, shape_yx: tuple[int, int]) -> _Samples:
    """One pixel, near the middle, of every ``step`` × ``step`` pixels that a window touches; steps start at the grid's origin."""
    y, x = (
        range(s.start // step * step + min(step // 2, (n - 1) % step), min(-(-s.stop // step) * step, n), step)
        for s, n in zip(window, shape_yx, strict=True)
    )
    return _Samples(y, x)


def _covered(window: Window, step: int) -> Window:
    y, x = (slice(s.start // step * step, -(-s.stop // step) * step) for s in window)
    return y, x


def _slice(samples: range) -> slice:
    return slice(samples.start, samples.stop, samples.step)


def _ordinal(n: int) -> str:
    last = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{last}"
