"""The work on one slot: stream windows of pixels, those of its tiles or others, into its chunks, and record it."""

from __future__ import annotations

import pickle
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cubeingest.checksum import SlotChecksum
from cubeingest.engine import SlotResult, timestamp
from cubeingest.errors import TileError
from cubeingest.ingest.function import FunctionSource
from cubeingest.ledger import Record, write_record
from cubeingest.mosaic import SlotShape, read_ahead, slot_shape, source_ids
from cubeingest.plan import SlotPlan, hrefs_of, reading_of
from cubeingest.spec import CubeSpec, Variable
from cubeingest.storage import public_href
from cubeingest.tile import SourceId, storage_of
from cubeingest.windows import Lent, Memory
from cubeingest.writer import open_writer

if TYPE_CHECKING:
    import icechunk

MEMORY = Memory()
"""Of this process, for slots that are read in turn."""


@dataclass(frozen=True)
class IngestJob:
    """What a worker needs besides its slots. ``session`` is what to fork: the coordinator's fork, pickled, or a session of
    the worker's own; ``layout`` is :attr:`Store.layout_key`. Without a ``source`` the slots' tiles are, read as :attr:`Options.how` says.
    If they are read ``in_turn``, a process may take two slots at a time for the memory of one: it opens and reads the second when
    all of the first is read. ``functions`` are those that statistics of points name.
    """

    spec: CubeSpec
    session: bytes | icechunk.Session
    run: str
    layout: str
    source: FunctionSource | None = None
    how: str = ""
    in_turn: bool = False
    functions: Mapping[str, FunctionSource] = field(default_factory=dict)


def fill_slot(job: IngestJob, plan: SlotPlan) -> SlotResult:
    """Stream a slot's tiles into its chunks, in a fork of its own, and record it there.

    Raises :class:`TileError` for a tile that cannot be read, does not fit, or changes while it is read; then the fork is
    dropped, and with it all that was written.
    """
    variable = job.spec.variable(plan.slot.variable)
    shape = slot_shape(job.spec, variable, plan)
    sources = source_ids(plan, storage_of(variable))
    return write_slot(job, plan, shape, _windows_of_tiles(job, variable, plan, shape, sources), sources)


def _windows_of_tiles(
    job: IngestJob, variable: Variable, plan: SlotPlan, shape: SlotShape, sources: tuple[SourceId, ...]
) -> Generator[Lent]:
    memory = MEMORY if job.in_turn else None
    with read_ahead(job.spec, variable, plan, shape, sources=sources, memory=memory) as windows:
        yield from windows.lent()
    if source_ids(plan, storage_of(variable)) != sources:
        raise TileError(
            f"tile {public_href(hrefs_of(plan.tiles)[0])!r} changed while it was read: run the command again"
        )


def write_slot(
    job: IngestJob, plan: SlotPlan, shape: SlotShape, windows: Generator[Lent], sources: tuple[SourceId, ...]
) -> SlotResult:
    """Write ``windows``, all of ``shape.row_slices()`` in turn, into a fork, and record there that they came from ``sources``.

    What ``windows`` raises goes through; then the fork is dropped, and with it all that was written.
    """
    variable = job.spec.variable(plan.slot.variable)
    session = pickle.loads(job.session) if isinstance(job.session, bytes) else job.session.fork()
    checksum = SlotChecksum(variable, shape.block_shape)
    with open_writer(session, variable, job.layout) as writer, closing(windows):
        for rows, pixels, done in windows:
            checksum.update(pixels)
            writer.encode(shape.index(rows), pixels, done)
    state = "empty" if writer.is_empty else "done"
    reading = reading_of(job.spec, plan.slot, plan.tiles)
    record = Record(state, sources, checksum.hexdigest(), reading, timestamp(), job.run)
    write_record(session, plan.slot, record, plan.is_new, job.layout)
    return SlotResult(
        plan.slot, public_href(plan.tiles[0].href) if plan.tiles else "", state, pickle.dumps(session),
        n_bytes=shape.n_pixels * variable.np_dtype.itemsize, n_pixels=shape.n_pixels,
    )  # fmt: skip
