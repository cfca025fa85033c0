"""The work on one slot: stream its tiles into its chunks, and record it."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cubeingest.checksum import SlotChecksum
from cubeingest.engine import SlotResult, timestamp
from cubeingest.errors import TileError
from cubeingest.ledger import Record, write_record
from cubeingest.mosaic import read_ahead, slot_shape, source_ids
from cubeingest.plan import SlotPlan, hrefs_of, reading_of
from cubeingest.spec import CubeSpec
from cubeingest.storage import public_href
from cubeingest.tile import storage_of
from cubeingest.writer import all_fill, open_writer

if TYPE_CHECKING:
    import icechunk


@dataclass(frozen=True)
class IngestJob:
    """What a worker needs besides its slots. ``session`` is what to fork: the coordinator's fork, pickled, or a session of
    the worker's own; ``layout`` is :attr:`Store.layout_key`.
    """

    spec: CubeSpec
    session: bytes | icechunk.Session
    run: str
    layout: str


def fill_slot(job: IngestJob, plan: SlotPlan) -> SlotResult:
    """Stream a slot's tiles into its chunks, in a fork of its own, and record it there.

    Raises :class:`TileError` for a tile that cannot be read, does not fit, or changes while it is read; then the fork is
    dropped, and with it all that was written.
    """
    spec, slot = job.spec, plan.slot
    variable = spec.variable(slot.variable)
    session = pickle.loads(job.session) if isinstance(job.session, bytes) else job.session.fork()
    shape = slot_shape(spec, variable, plan)
    storage = storage_of(variable)
    sources = source_ids(plan, storage)
    checksum = SlotChecksum(variable, shape.block_shape)
    empty = True
    with (
        open_writer(session, variable, job.layout) as writer,
        read_ahead(spec, variable, plan, shape, sources=sources) as windows,
    ):
        for rows, pixels in windows:
            checksum.update(pixels)
            empty = empty and all_fill(pixels, variable)
            writer.write((*shape.axes, rows, shape.x), pixels)
    if source_ids(plan, storage) != sources:
        raise TileError(
            f"tile {public_href(hrefs_of(plan.tiles)[0])!r} changed while it was read: run the command again"
        )
    state = "empty" if empty else "done"
    reading = reading_of(variable, plan.tiles)
    record = Record(state, sources, checksum.hexdigest(), reading, timestamp(), job.run)
    write_record(session, slot, record, plan.is_new, job.layout)
    return SlotResult(
        slot, public_href(plan.tiles[0].href), state, pickle.dumps(session),
        n_bytes=shape.n_pixels * variable.np_dtype.itemsize, n_pixels=shape.n_pixels,
    )  # fmt: skip
