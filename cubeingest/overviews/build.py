"""The work on one cell: read it window by window, halve it, write that; and halve again what was written, level by level."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from threading import Semaphore
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from cubeingest.checksum import SlotChecksum
from cubeingest.engine import SlotResult, timestamp
from cubeingest.errors import TileError
from cubeingest.ingest import why_unreadable
from cubeingest.ledger import Record, Slot, write_record
from cubeingest.mosaic import SlotShape, slot_shape
from cubeingest.overviews.cells import CellPlan, base_name
from cubeingest.overviews.halving import halve
from cubeingest.overviews.levels import Level, Pyramid, Stage
from cubeingest.overviews.merging import coarser_cells
from cubeingest.plan import SlotPlan
from cubeingest.spec import Variable
from cubeingest.store import delete_present, open_array
from cubeingest.windows import Lent, Memory, Windows
from cubeingest.writer import WindowEncoder, open_writer

if TYPE_CHECKING:
    import icechunk

BLOCKS_WAITING = 1
"""Rows of chunks of a level that may wait to be encoded: what makes them is quicker than what encodes them if many classes lie side by side."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class CellJob:
    """What a worker needs besides its cells. ``session`` is the coordinator's fork, pickled; ``layout`` the store's ``layout_key``."""

    pyramid: Pyramid
    stage: int
    session: bytes
    run: str
    layout: str


def make_cell(job: CellJob, plan: SlotPlan) -> SlotResult:
    """Make all levels of a stage in one cell (a :class:`CellPlan`), in a fork of its own, and record it there.

    Raises :class:`TileError` if what lies below refers to a tile that cannot be read any more.
    """
    import icechunk

    assert isinstance(plan, CellPlan)
    stage = job.pyramid.stages[job.stage - 1]
    cell = stage.spec.variable(plan.slot.variable)
    shape = slot_shape(stage.spec, cell, plan)
    session = pickle.loads(job.session)
    levels = job.pyramid.levels[stage.first - 1 : stage.last]
    name = base_name(cell.name)
    checksum = CellChecksum()
    try:
        if plan.is_blank:
            _clear(session, levels, name, stage, plan, checksum)
            is_empty = True
        else:
            fill = _fill if stage.spec.healpix is None else _fill_cells
            is_empty = fill(job, session, levels, name, shape, plan, checksum)
    except icechunk.IcechunkError as e:
        if plan.referring is None:
            raise
        raise TileError(why_unreadable(plan.referring, e)) from None
    state = "empty" if is_empty else "done"
    record = Record(state, plan.parts, checksum.hexdigest(), plan.method, timestamp(), job.run)
    write_record(session, plan.slot, record, plan.is_new, job.layout)
    return SlotResult(
        plan.slot, "", state, pickle.dumps(session),
        n_bytes=shape.n_pixels * cell.np_dtype.itemsize, n_pixels=shape.n_pixels,
    )  # fmt: skip


def _fill(
    job: CellJob,
    session: icechunk.Session,
    levels: tuple[Level, ...],
    name: str,
    shape: SlotShape,
    plan: CellPlan,
    checksum: CellChecksum,
) -> bool:
    """Make a cell's levels; whether there is nothing but fill value in them."""
    stage = job.pyramid.stages[job.stage - 1]
    path = job.pyramid.below(stage)[1][name]
    rows: _LevelRows | None = None
    with ExitStack() as stack:
        writers = []
        for level in reversed(levels):
            variable = array_of(level, name)
            writer = stack.enter_context(open_writer(session, variable, job.layout))
            writers.append(writer)
            rows = _LevelRows(variable, plan.method, cell_index(level, stage, plan.slot), writer, checksum, rows)
        assert rows is not None, "a stage makes at least one level"
        with _windows(session, path, levels[0].spec.variable(name), shape, job.layout) as windows:
            for _, pixels, done in windows:
                rows.take(pixels)
                done()
        rows.finish()
    return all(writer.is_empty for writer in writers)


def _fill_cells(
    job: CellJob,
    session: icechunk.Session,
    levels: tuple[Level, ...],
    name: str,
    shape: SlotShape,
    plan: CellPlan,
    checksum: CellChecksum,
) -> bool:
    """As :func:`_fill`, of HEALPix cells: what is made of some of them is small enough to be held."""
    stage = job.pyramid.stages[job.stage - 1]
    made = coarser_cells(session, job.pyramid, stage, name, shape.index(shape.space[0]), job.layout)
    is_empty = True
    for level, cells in zip(levels, made, strict=True):
        variable = array_of(level, name)
        with open_writer(session, variable, job.layout) as writer:
            writer.encode(cell_index(level, stage, plan.slot), cells)
        checksum.update(variable, cells)
        is_empty &= writer.is_empty
    return is_empty


def array_of(level: Level, name: str) -> Variable:
    """A level's variable, called as its array is in the store."""
    return replace(level.spec.variable(name), name=level.path(name))


def cell_index(level: Level, stage: Stage, cell: Slot) -> tuple[slice, ...]:
    """Where a cell of a stage lies in the arrays of one of its levels: slices by dimension."""
    axes = stage.spec.axes_of(stage.spec.variable(cell.variable))
    blocks = (a.block_slice(b) for a, b in zip(axes, cell.block, strict=True))
    return (*blocks, *level.spec.grid.slices(cell.iy, cell.ix))


@contextmanager
def _windows(
    session: icechunk.Session, path: str, variable: Variable, shape: SlotShape, layout: str
) -> Iterator[Iterable[Lent]]:
    """The windows of a cell, the next being read while the caller works on this one."""
    from zarr.core.buffer import default_buffer_prototype

    array = open_array(session, path, "r+", layout)
    of_numpy = default_buffer_prototype().nd_buffer.from_numpy_array

    def read(windows: Windows) -> Generator[Lent]:
        for rows in shape.row_slices():
            size = (*shape.block_shape, rows.stop - rows.start, shape.x.stop - shape.x.start)
            taken = windows.take(size, variable.np_dtype)
            if taken is None:
                return
            pixels, give_back = taken
            array.get_basic_selection((*shape.axes, rows, shape.x), out=of_numpy(pixels))
            yield rows, pixels, give_back

    windows = Windows(read, Memory())
    try:
        yield windows.lent()
    finally:
        windows.close()


def row_parts(variable: Variable, index: tuple[slice, ...]) -> Iterator[tuple[slice, ...]]:
    """An index of an array, a row of chunks at a time."""
    n = len(variable.axes)
    rows, step = index[n], variable.chunks[n]
    for start in range(rows.start, rows.stop, step):
        yield (*index[:n], slice(start, min(start + step, rows.stop)), *index[n + 1 :])


class CellChecksum:
    """The checksum of a cell: the hash of those of its levels, each fed from top to bottom."""

    def __init__(self) -> None:
        self._levels: dict[str, SlotChecksum] = {}

    def update(self, variable: Variable, rows: Array) -> None:
        """Take the next (axis positions..., rows, columns), or (axis positions..., cells), of a level, whose array is ``variable``."""
        if variable.name not in self._levels:
            self._levels[variable.name] = SlotChecksum(variable, rows.shape[: len(variable.axes)])
        self._levels[variable.name].update(rows)

    def hexdigest(self) -> str:
        digests = sorted(f"{name} {checksum.hexdigest()}" for name, checksum in self._levels.items())
        return str(xxhash.xxh3_64_hexdigest("\n".join(digests).encode()))


class _LevelRows:
    """One level of a cell, from top to bottom: rows are halved as they come, written a row of chunks at a time, and handed on."""

    def __init__(
        self,
        variable: Variable,
        method: str,
        index: tuple[slice, ...],
        writer: WindowEncoder,
        checksum: CellChecksum,
        coarser: _LevelRows | None,
    ) -> None:
        self._variable, self._method, self._writer, self._coarser = variable, method, writer, coarser
        self._checksum = checksum
        self._index, self._next_row = index, index[-2].start
        self._odd: Array | None = None
        self._block: Array | None = None
        self._n_held = 0
        self._waiting = Semaphore(BLOCKS_WAITING)

    def take(self, below: Array) -> None:
        """Rows of the level below; they may change afterwards."""
        if self._odd is not None and below.shape[-2]:
            self._halve(np.concatenate([self._odd, below[..., :1, :]], axis=-2))
            self._odd, below = None, below[..., 1:, :]
        even = below.shape[-2] // 2 * 2
        if even < below.shape[-2]:
            self._odd = below[..., even:, :].copy()
        self._halve(below[..., :even, :])

    def finish(self) -> None:
        """There are no more rows."""
        if self._odd is not None:
            odd, self._odd = self._odd, None
            self._halve(odd)
        if self._n_held:
            self._write()
        if self._coarser is not None:
            self._coarser.finish()

    def _halve(self, below: Array) -> None:
        """Put rows of the level below, an even number but for the last, into a row of chunks of this one; it is written when it is full."""
        *lengths, _, columns = (s.stop - s.start for s in self._index)
        while below.shape[-2]:
            if self._block is None:
                left = self._index[-2].stop - self._next_row
                self._block = np.empty((*lengths, min(self._variable.chunks[-2], left), columns), below.dtype)
            n = min(-(-below.shape[-2] // 2), self._block.shape[-2] - self._n_held)
            here = self._block[..., self._n_held : self._n_held + n, :]
            halve(below[..., : 2 * n, :], self._variable, self._method, here)
            self._n_held += n
            below = below[..., 2 * n :, :]
            if self._n_held == self._block.shape[-2]:
                self._write()

    def _write(self) -> None:
        assert self._block is not None
        assert self._n_held == self._block.shape[-2], "the rows of a cell do not fill it"
        block, self._block, self._n_held = self._block, None, 0
        at = (*self._index[:-2], slice(self._next_row, self._next_row + block.shape[-2]), self._index[-1])
        self._waiting.acquire()
        self._writer.encode(at, block, self._waiting.release)
        self._next_row += block.shape[-2]
        self._checksum.update(self._variable, block)
        if self._coarser is not None:
            self._coarser.take(block)


def _clear(
    session: icechunk.Session,
    levels: tuple[Level, ...],
    name: str,
    stage: Stage,
    plan: SlotPlan,
    checksum: CellChecksum,
) -> None:
    """Take away what a cell has in its levels, where only fill value is to be."""
    for level in levels:
        variable = array_of(level, name)
        metadata: Any = open_array(session, variable.name).metadata
        index = cell_index(level, stage, plan.slot)
        spans = [range(s.start // c, -(-s.stop // c)) for s, c in zip(index, variable.chunks, strict=True)]
        places = itertools.product(*spans)
        delete_present(session.store, [f"{variable.name}/{metadata.encode_chunk_key(p)}" for p in places])
        for part in row_parts(variable, index):
            checksum.update(variable, np.full([s.stop - s.start for s in part], variable.np_fill))
