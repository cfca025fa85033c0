"""A computation goes part by part: windows of whole chunks within one region, on the engine's pool, in bounded memory."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.analyze.methods import METHODS, STACKED
from cubeingest.analyze.quantity import Quantity, Reader
from cubeingest.engine import EachSlot, Options, Progress, SlotResult, interrupts, open_pool
from cubeingest.errors import GridError, StoreError
from cubeingest.grid import Grid, TilingGrid
from cubeingest.ledger import NOTHING, Slot, read_expected, read_states
from cubeingest.look import window_of_bbox
from cubeingest.plan import SlotPlan, Task
from cubeingest.selection import Selection, choose
from cubeingest.spec import CubeSpec
from cubeingest.store import Store
from cubeingest.wording import counted

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt

Window = tuple[slice, slice]
"""Half-open pixels (y, x) of the grid."""

PART_PIXELS = 4 * 2**20
"""Of a part, at most: what a worker gives back at once."""


THREADS = 2
"""Parts that one process works on at a time: one is read while another is computed."""

READERS_KEPT = 4
_readers: dict[tuple[bytes, str], Reader] = {}


PART_BYTES = 64 * 2**20
"""Of values that a part holds at once; two parts are worked on at a time."""

CHUNK_BYTES = 256 * 2**20
"""Of values that a part of one chunk may hold."""


@dataclass(frozen=True, slots=True)
class PartPlan(SlotPlan):
    """A part: some rows and columns of one region, at some positions of each axis."""

    y: slice = slice(0)
    x: slice = slice(0)
    index: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class PartJob:
    """What a worker needs besides a part. ``session`` is a readonly session, pickled."""

    spec: CubeSpec
    quantity: Quantity
    session: bytes

    def reader(self) -> Reader:
        """The reader of the job's snapshot, made once a process: arrays are opened once, and manifests read once."""
        key = self.session, repr(self.quantity)
        reader = _readers.get(key)
        if reader is None:
            if len(_readers) >= READERS_KEPT:
                _readers.clear()
            reader = _readers[key] = Reader(pickle.loads(self.session), self.spec, self.quantity)
        return reader


@dataclass(frozen=True)
class Where:
    """The pixels that a selection means: a window, and which regions (iy, ix) of it; None for all."""

    window: Window
    places: frozenset[tuple[int, int]] | None

    @property
    def shape_yx(self) -> tuple[int, int]:
        y, x = self.window
        return y.stop - y.start, x.stop - x.start


def refuse_parts(selection: Selection) -> None:
    """Raise :class:`GridError` for ``limit`` and ``part``: what is computed would be of less than it says."""
    if selection.part is not None or selection.limit is not None:
        raise GridError(
            "limit and part are for work that is done in several goes: select by bbox, region or axis values"
        )


def find_where(spec: CubeSpec, selection: Selection) -> Where:
    """The pixels that a selection means: those that its bbox touches, of whole regions that it names or its polygon overlaps. Of cells of HEALPix
    they are whole regions always, in one row.

    Raises :class:`GridError` for a selection that the cube does not have.
    """
    refuse_parts(selection)
    grid = spec.grid
    places = choose(spec, replace(selection, axes={})).places
    window = whole_window(grid)
    if selection.bbox is not None and isinstance(grid, TilingGrid):
        y, x = window_of_bbox(grid, selection.bbox)
        if x.stop > grid.shape_yx[1]:
            raise GridError(
                f"bbox {selection.bbox} goes past the edge where the grid's columns begin and end: ask for its two parts, one after the other"
            )
        window = y, x
    if places:
        parts = [grid.plane_slices(*p) for p in places]
        window = _common(window, _hull(parts))
    if places is not None and (not places or window[0].start >= window[0].stop or window[1].start >= window[1].stop):
        raise GridError("what is selected has nothing in common: no region is in all of its regions, bbox and polygon")
    return Where(window, places)


def whole_window(grid: Grid) -> Window:
    """All rows and columns of a grid."""
    rows, columns = grid.plane_shape_yx
    return slice(0, rows), slice(0, columns)


def _hull(parts: Sequence[Window]) -> Window:
    y, x = (slice(min(p[d].start for p in parts), max(p[d].stop for p in parts)) for d in (0, 1))
    return y, x


def _common(a: Window, b: Window) -> Window:
    y, x = (slice(max(m.start, n.start), min(m.stop, n.stop)) for m, n in zip(a, b, strict=True))
    return y, x


def plan_parts(
    spec: CubeSpec,
    quantity: Quantity,
    where: Where,
    whole: Sequence[str],
    most_pixels: int,
    filled: npt.NDArray[np.bool_] | None = None,
) -> Iterator[PartPlan]:
    """Parts that cover a window: each of whole chunks of one region (``where.window``'s and the array's ends excepted), not more
    than ``most_pixels``; chunks that have more are cut.

    Axes in ``whole`` are so in every part; of others a part has the selected positions of one axis block. Regions that are not
    ``filled`` (region rows, region columns) are left out.
    """
    grid = spec.grid
    along = [[quantity.positions[a]] if a in whole else quantity.blocks(grid.axis(a)) for a in quantity.axes]
    chunk = quantity.written(spec)
    name = quantity.columns[0].variable
    for place in _places(spec, where):
        if filled is not None and not filled[place]:
            continue
        window = _common(grid.plane_slices(*place), where.window)
        if window[0].start >= window[0].stop or window[1].start >= window[1].stop:
            continue
        for positions in itertools.product(*along):
            for y, x in cut(window, chunk, most_pixels):
                index = tuple(zip(quantity.axes, positions, strict=True))
                yield PartPlan(Slot(name, (), *place), (), y=y, x=x, index=index)


def part_pixels(spec: CubeSpec, quantity: Quantity, whole: Sequence[str], method: str = "") -> int:
    """Pixels of a part, by what is held of each: the values of one axis block, or of a median or mode all of ``whole`` axes.

    It is one chunk at least, as long as that does not take more than ``CHUNK_BYTES``: what is cut is decoded several times.
    """
    held = 1
    for name in quantity.axes:
        blocks = quantity.blocks(spec.grid.axis(name))
        held *= len(quantity.positions[name]) if method in STACKED and name in whole else max(map(len, blocks))
    variable = spec.variable(quantity.columns[0].variable)
    as_stored = method in METHODS and not quantity.is_expression
    size = held * (
        variable.np_dtype.itemsize if as_stored else 8 * (1 + len(quantity.columns) * quantity.is_expression)
    )
    chunk = math.prod(quantity.written(spec))
    return max(1, min(PART_PIXELS, PART_BYTES // size), min(chunk, CHUNK_BYTES // size))


def _places(spec: CubeSpec, where: Where) -> Iterator[tuple[int, int]]:
    """Lattice places that a window touches, among those that are chosen, row by row."""
    grid = spec.grid
    rows, columns = (
        range(s.start // r, -(-s.stop // r)) for s, r in zip(where.window, grid.plane_region_yx, strict=True)
    )
    chosen = where.places
    yield from (p for p in itertools.product(rows, columns) if chosen is None or p in chosen)


def unfilled_windows(spec: CubeSpec, where: Where, filled: npt.NDArray[np.bool_]) -> list[Window]:
    """What is selected of the regions that :func:`plan_parts` leaves out, since nothing is there."""
    return [
        _common(where.window, spec.grid.plane_slices(*place)) for place in _places(spec, where) if not filled[place]
    ]


def cut(window: Window, chunk_yx: tuple[int, int], most_pixels: int) -> Iterator[Window]:
    """A window in parts of whole chunks, as wide as ``most_pixels`` allow, and then as high; chunks larger than that are cut in rows,
    and those of one row in columns.
    """
    (y, x), (cy, cx) = window, chunk_yx
    height, width = y.stop - y.start, x.stop - x.start
    if cy * min(cx, width) > most_pixels:
        rows, columns = max(1, most_pixels // min(cx, width)), cx if cy > 1 else max(1, min(cx, most_pixels))
    else:
        columns = cx * max(1, most_pixels // (cy * cx))
        rows = cy * max(1, most_pixels // (cy * min(columns, width)))
    for top, bottom in _steps(y, cy, min(rows, height + cy)):
        for left, right in _steps(x, cx, columns):
            yield slice(top, bottom), slice(left, right)


def _steps(along: slice, chunk: int, size: int) -> Iterator[tuple[int, int]]:
    """A run of pixels in steps of ``size``: whole chunks, or parts of one chunk."""
    start = along.start
    while start < along.stop:
        first = start // chunk * chunk
        stop = first + size // chunk * chunk if size >= chunk else min(start + size, first + chunk)
        yield start, min(stop, along.stop)
        start = stop


def n_pixels(parts: Sequence[PartPlan]) -> int:
    return sum(pixels_of(p) for p in parts)


def pixels_of(part: PartPlan) -> int:
    """Pixels that are read for a part, of all positions."""
    positions = int(np.prod([len(p) for _, p in part.index], dtype=int))
    return positions * int(part.y.stop - part.y.start) * int(part.x.stop - part.x.start)


@dataclass(frozen=True)
class _OnKeptThreads:
    """A worker function that runs on threads which stay. Each new one would keep its own share of freed memory: it came to 1 GB."""

    function: Callable[[Any, Any], SlotResult]

    def __call__(self, job: Any, plan: Any) -> SlotResult:
        return on_kept_thread(self.function, job, plan)


def on_kept_thread[T](function: Callable[..., T], *args: Any) -> T:
    """What a function returns, run on a thread that stays."""
    return _threads().submit(function, *args).result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, "cubeingest-part")


def run_parts(
    store: Store,
    function: Callable[[Any, Any], SlotResult],
    job: Any,
    parts: Sequence[PartPlan],
    n_bytes: int,
    options: Options,
    on_progress: Callable[[Progress], None],
) -> Iterator[SlotResult]:
    """Run a worker function over parts, here or on Dask; results as they are ready.

    Raises :class:`StoreError` for the first one that fails: without it, what is computed would be wrong.
    :class:`KeyboardInterrupt` if a signal ends it.
    """
    if not parts:
        return
    tasks = [Task((), (), p.slot.iy, p.slot.ix, (p,)) for p in parts]
    total = Progress(len(parts), n_pixels(parts))
    on_progress(total)
    with interrupts() as stop, open_pool(options.workers, options.scheduler, len(tasks), n_bytes, overlap=True) as pool:
        pool.prove(store, writes=False)
        for results in pool.run(EachSlot(_OnKeptThreads(function)), job, [(task,) for task in tasks], stop):
            for result in results:
                if result.error is not None:
                    stop.halted = True
                    raise StoreError(f"a part of {result.slot.variable!r} could not be computed: {result.error}")
                on_progress(Progress(total.n_slots, total.n_pixels, result))
                yield result
        if stop.signum is not None:
            raise KeyboardInterrupt


@dataclass(frozen=True)
class Gaps:
    """Slots that are read and that the cube does not hold: their pixels count as missing. ``by`` counts them by axis and label.

    ``absent`` ones have no tile, by the catalog as last read; ``pending`` ones have.
    """

    total: int = 0
    pending: int = 0
    absent: int = 0
    by: tuple[tuple[str, str, int, int], ...] = ()
    """(axis, label, slots that are not there, slots) for each label that lacks some."""

    def to_json(self) -> dict[str, Any]:
        return {"slots": self.total, "pending": self.pending, "absent": self.absent}

    def __str__(self) -> str:
        """One line for a person; empty if nothing is missing."""
        if not self.pending + self.absent:
            return ""
        each = [f"{axis} {label} lacks {'all' if n == of else f'{n} of'} {of}" for axis, label, n, of in self.by]
        more = f" and {len(each) - 4} more" if len(each) > 4 else ""
        where = f" ({', '.join(each[:4])}{more})" if each else ""
        kinds = [f"{n} {word}" for n, word in ((self.pending, "not ingested"), (self.absent, "without a tile")) if n]
        return f"{' and '.join(kinds)} of {counted(self.total, 'slot')}{where}: they count as missing"


@dataclass(frozen=True)
class Filled:
    """Which slots of a quantity's variables the cube holds: by variable (axis blocks..., region rows, region columns)."""

    spec: CubeSpec
    states: dict[str, npt.NDArray[np.uint8]]
    expected: dict[str, npt.NDArray[np.bool_]]

    def regions(self, quantity: Quantity) -> npt.NDArray[np.bool_]:
        """Regions (iy, ix) with a slot that is there."""
        out = np.zeros(self.spec.grid.lattice_shape_yx, bool)
        for name in quantity.variables:
            held = self.states[name] != NOTHING
            out |= held.any(axis=tuple(range(held.ndim - 2)))
        return out

    def gaps(self, quantity: Quantity, where: Where) -> Gaps:
        """What is missing of all that is selected."""
        spec = self.spec
        mask = np.zeros(spec.grid.lattice_shape_yx, bool)
        for place in _places(spec, where):
            mask[place] = spec.valid is None or place in spec.valid
        total = pending = absent = 0
        counts: dict[tuple[str, str], list[int]] = {}
        for name in quantity.variables:
            axes = spec.axes_of(spec.variable(name))
            blocks = [self._blocks(quantity, name, a.name) for a in axes]
            at = np.ix_(*blocks, *(range(n) for n in mask.shape))
            nothing = (self.states[name][at] == NOTHING) & mask
            waiting = self.expected[name][at] & nothing
            total += int(mask.sum()) * int(np.prod([len(b) for b in blocks], dtype=int))
            pending, absent = pending + int(waiting.sum()), absent + int((nothing & ~waiting).sum())
            for n, (axis, own) in enumerate(zip(axes, blocks, strict=True)):
                lacking = nothing.sum(axis=tuple(i for i in range(nothing.ndim) if i != n))
                of = int(mask.sum()) * int(np.prod([len(b) for i, b in enumerate(blocks) if i != n], dtype=int))
                for block, lacks in zip(own, lacking.tolist(), strict=True):
                    kept = counts.setdefault((axis.name, axis.block_label(block)), [0, 0])
                    kept[0], kept[1] = kept[0] + lacks, kept[1] + of
        several = {a.name for a in spec.grid.axes if a.n_blocks > 1}
        by = tuple((axis, label, n, of) for (axis, label), (n, of) in counts.items() if n and axis in several)
        return Gaps(total, pending, absent, by)

    def _blocks(self, quantity: Quantity, variable: str, axis: str) -> list[int]:
        size = self.spec.grid.axis(axis).block
        if axis == quantity.band_axis:
            columns = (c for c in quantity.columns if c.variable == variable)
            return sorted({c.position // size for c in columns if c.position is not None})
        return sorted({p // size for p in quantity.positions[axis]})


def read_filled(session: icechunk.Session, spec: CubeSpec, quantity: Quantity) -> Filled:
    """Which slots there are, from lists of chunks."""
    own = replace(spec, variables=tuple(spec.variable(n) for n in quantity.variables))
    return Filled(spec, read_states(session, own), read_expected(session, own))
