"""References become chunks of the cube's own: the same bytes, copied from where they lie."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from cubeingest.catalog import Catalog
from cubeingest.checksum import BlocksChecksum
from cubeingest.engine import SlotResult, timestamp
from cubeingest.errors import CubeIngestError, TileError
from cubeingest.ingest.chunks import ChunkIndex, Chunks, indices_in
from cubeingest.ingest.fill import IngestJob
from cubeingest.ingest.prepare import Prepared
from cubeingest.ledger import COPIED, VIRTUAL, Record, read_records, read_virtual, write_record
from cubeingest.mosaic import slot_shape
from cubeingest.plan import Plan, SlotPlan, Task, is_in_part, slots_of
from cubeingest.selection import Selection, choose
from cubeingest.spec import Variable
from cubeingest.storage import public_href
from cubeingest.store import ALLOWED_VARIABLE, Store
from cubeingest.tile import source_id, storage_of

if TYPE_CHECKING:
    import icechunk

MATERIALIZED: Literal["materialized"] = "materialized"
"""How :attr:`Options.how` names what this module does."""

HELD_BYTES = 16 * 2**20
"""What is held before it is handed to the store."""


def prepare_references(store: Store, selection: Selection) -> Prepared:
    """Plan what of a selection is references, from the cube alone. Writes nothing."""
    spec, session = store.spec, store.readonly()
    chosen = choose(spec, selection)
    virtual = read_virtual(session, spec)
    slots = sorted(
        s
        for s in slots_of(spec, chosen)
        if virtual[s.variable][s.index] and (selection.part is None or is_in_part(spec, s, selection.part))
    )
    records = {s: r for s, r in read_records(session, slots).items() if r.how == VIRTUAL}
    tasks: dict[tuple[object, ...], Task] = {}
    for slot, record in records.items():
        axes = spec.variable(slot.variable).axes
        task = tasks.setdefault((axes, slot.block, slot.iy, slot.ix), Task(axes, slot.block, slot.iy, slot.ix, ()))
        plan = SlotPlan(slot, (), is_new=False, before=record)
        tasks[axes, slot.block, slot.iy, slot.ix] = replace(task, slots=(*task.slots, plan))
    chosen_tasks = tuple(tasks.values())[: selection.limit]
    return Prepared(chosen, Catalog({}, chosen.positions), Plan(chosen_tasks, ()), records, {})


def materialize_slot(job: IngestJob, plan: SlotPlan) -> SlotResult:
    """Copy what a slot's references mean into chunks, in a fork of its own, and record it there.

    Raises :class:`TileError` if a source is gone or not what the record says; then the fork is dropped.
    """
    import icechunk

    record, variable = plan.before, job.spec.variable(plan.slot.variable)
    assert record is not None, "only what is recorded is planned"
    shape = slot_shape(job.spec, variable, plan)
    session = pickle.loads(job.session) if isinstance(job.session, bytes) else job.session.fork()
    chunks, checksum = Chunks(session, variable, job.layout), BlocksChecksum()
    _refuse_changed(variable, record)
    batch: dict[ChunkIndex, bytes] = {}
    held = 0
    taken = chunks.take(indices_in(shape, variable))
    while True:
        try:
            index, content = next(taken)
        except StopIteration:
            break
        except icechunk.IcechunkError as e:
            raise TileError(why_unreadable(record, e)) from None
        checksum.update(index, content)
        batch[index] = content
        held += len(content)
        if held > HELD_BYTES:
            chunks.put(batch)
            batch, held = {}, 0
    chunks.put(batch)
    _refuse_changed(variable, record)
    done = Record(record.state, record.sources, checksum.hexdigest(), record.reading, timestamp(), job.run, COPIED)
    write_record(session, plan.slot, done, plan.is_new, job.layout)
    return SlotResult(
        plan.slot, record.sources[0].href, record.state, pickle.dumps(session),
        n_bytes=shape.n_pixels * variable.np_dtype.itemsize, n_pixels=shape.n_pixels,
    )  # fmt: skip


def _refuse_changed(variable: Variable, record: Record) -> None:
    for source in record.sources:
        try:
            now = source_id(source.href, storage_of(variable))
        except FileNotFoundError:
            raise TileError(
                f"tile {public_href(source.href)!r}, which the cube refers to, is not there any more"
            ) from None
        except (OSError, CubeIngestError) as e:
            raise TileError(
                f"tile {public_href(source.href)!r}, which the cube refers to, cannot be asked: {e}"
            ) from None
        if now != source:
            raise TileError(
                f"tile {public_href(source.href)!r} is another than the cube refers to: ingest it again with --redo"
            )


def why_unreadable(record: Record, error: icechunk.IcechunkError) -> str:
    """Why what a reference means cannot be had, in plain words."""
    import icechunk

    from cubeingest.store import reason_of

    tiles = ", ".join(repr(s.href) for s in record.sources[:3])
    if error.kind == icechunk.ErrorKind.VIRTUAL_CHUNK_MODIFIED:
        return f"a tile that the cube refers to has changed ({tiles}): ingest it again with --redo"
    if error.kind == icechunk.ErrorKind.UNAUTHORIZED_VIRTUAL_CHUNK_CONTAINER:
        return f"this user has not let the cube read tiles that it refers to ({tiles}): name their folder in ${ALLOWED_VARIABLE}"
    return f"a tile that the cube refers to cannot be read ({tiles}): {reason_of(error)}"
