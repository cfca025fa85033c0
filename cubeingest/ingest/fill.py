"""The work on one slot: stream its tiles into its chunks, and record it."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np

from cubeingest.engine import SlotResult, timestamp
from cubeingest.errors import TileError
from cubeingest.ledger import Record, write_record
from cubeingest.mosaic import read_ahead, slot_shape, source_ids
from cubeingest.plan import SlotPlan, hrefs_of, reading_of
from cubeingest.spec import CubeSpec
from cubeingest.storage import public_href
from cubeingest.writer import all_fill, open_writer


@dataclass(frozen=True)
class IngestJob:
    """What a worker needs besides its slots. ``fork`` is the coordinator's session, pickled."""

    spec: CubeSpec
    fork: bytes
    run: str


def fill_slot(job: IngestJob, plan: SlotPlan) -> SlotResult:
    """Stream a slot's tiles into its chunks, in a fork of its own, and record it there.

    Raises :class:`TileError` for a tile that cannot be read, does not fit, or changes while it is read; then the fork is
    dropped, and with it all that was written.
    """
    import xxhash

    spec, slot = job.spec, plan.slot
    variable = spec.variable(slot.variable)
    session = pickle.loads(job.fork)
    shape = slot_shape(spec, variable, plan)
    sources = source_ids(plan)
    hashes = [xxhash.xxh3_64() for _ in range(int(np.prod(shape.block_shape)))]
    empty = True
    with open_writer(session, variable, plan.is_new) as writer, read_ahead(spec, variable, plan, shape) as windows:
        for rows, pixels in windows:
            for position, digest in zip(np.ndindex(shape.block_shape), hashes, strict=True):
                digest.update(np.ascontiguousarray(pixels[position]).data)
            empty = empty and all_fill(pixels, variable)
            writer.write((*shape.axes, rows, shape.x), pixels)
    if source_ids(plan) != sources:
        raise TileError(
            f"tile {public_href(hrefs_of(plan.tiles)[0])!r} changed while it was read: run the command again"
        )
    state = "empty" if empty else "done"
    write_record(
        session, slot, Record(state, sources, checksum(hashes), reading_of(variable, plan.tiles), timestamp(), job.run)
    )
    return SlotResult(
        slot, public_href(plan.tiles[0].href), state, pickle.dumps(session),
        n_bytes=shape.n_pixels * variable.np_dtype.itemsize, n_pixels=shape.n_pixels,
    )  # fmt: skip


def checksum(hashes: list[Any]) -> str:
    """xxh3-64 of a slot's pixels in C order; of several axis positions, the hash of their hashes."""
    import xxhash

    if len(hashes) == 1:
        return str(hashes[0].hexdigest())
    return str(xxhash.xxh3_64_hexdigest(b"".join(h.digest() for h in hashes)))
