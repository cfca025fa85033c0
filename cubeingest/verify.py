"""Read the cube back and compare it with its sources, window by window; with its own record where a function made it."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.catalog import read_catalog
from cubeingest.checksum import SlotChecksum
from cubeingest.engine import EachSlot, Options, Progress, SlotResult, Unit, failed, interrupts, open_pool
from cubeingest.errors import CubeIngestError, GridError, TileError
from cubeingest.ingest import (
    FunctionSource,
    RegionStatistics,
    aggregate_task,
    functions_of,
    reading,
    settle_granules,
    statistics_windows,
    stored_checksum,
    why_unreadable,
)
from cubeingest.ledger import COPIED, NOTHING, VIRTUAL, Slot, read_records, read_states
from cubeingest.mosaic import SlotShape, read_ahead, size_of, slot_shape, source_ids
from cubeingest.plan import COMPUTED, Plan, SlotPlan, is_in_part, make_plan, slot_labels, slots_of, tiles_by_slot
from cubeingest.selection import Selection, choose
from cubeingest.spec import CubeSpec, Variable
from cubeingest.storage import public_href
from cubeingest.store import Store
from cubeingest.tile import storage_of

if TYPE_CHECKING:
    import icechunk

NO_TILE = "it has no tile in the catalog any more, nor a record of a function that made it"


@dataclass(frozen=True)
class VerifyJob:
    """What a worker needs besides its task. ``session`` is a readonly session, pickled; ``run`` is what granules are kept for."""

    spec: CubeSpec
    session: bytes
    sample: float = 1.0
    run: str = ""
    functions: Mapping[str, FunctionSource] = field(default_factory=dict)


def compare_unit(job: VerifyJob, unit: Unit) -> list[SlotResult]:
    """Compare the slots of a unit with their sources: statistics of points by task, since their granules are read once for all of them."""
    out: list[SlotResult] = []
    for task in unit:
        if job.spec.variable(task.slots[0].slot.variable).aggregate is None or not task.slots[0].tiles:
            out += EachSlot(compare_slot)(job, (task,))
            continue
        try:
            statistics = aggregate_task(job.spec, task, job.run, job.functions)
        except CubeIngestError as e:
            out += [failed(plan, str(e)) for plan in task.slots]
            continue
        out += EachSlot(partial(_compare_statistics, statistics))(job, (task,))
    return out


def _compare_statistics(statistics: RegionStatistics, job: VerifyJob, plan: SlotPlan) -> SlotResult:
    variable = job.spec.variable(plan.slot.variable)
    shape = slot_shape(job.spec, variable, plan)
    windows = ((rows, pixels) for rows, pixels, _ in statistics_windows(statistics, variable, shape))
    return _compare_windows(job, plan, variable, shape, windows)


def compare_slot(job: VerifyJob, plan: SlotPlan) -> SlotResult:
    """Count the pixels in which the cube differs from a slot's tiles; of some windows only if a sample is asked for.

    Of a slot that a function made, which has none, all pixels are compared with its record (see :func:`check_slot`).
    Raises ``TileError`` if a source cannot be read any more.
    """
    import icechunk

    if not plan.tiles:
        try:
            return check_slot(job, plan)
        except icechunk.IcechunkError as e:
            if not _is_lost(e):
                raise
            return SlotResult(plan.slot, _maker_of(plan), "different")
    spec = job.spec
    variable = spec.variable(plan.slot.variable)
    shape = slot_shape(spec, variable, plan)
    rows = list(shape.row_slices())
    if job.sample < 1:
        # The same windows for the same slot each time, at least one of each.
        count = max(1, round(job.sample * len(rows)))
        rows = sorted(Random(str(plan.slot)).sample(rows, count), key=lambda r: r.start)
    sources = source_ids(plan, storage_of(variable))
    with read_ahead(spec, variable, plan, shape, rows, sources, by_gdal=True) as windows:
        return _compare_windows(job, plan, variable, shape, windows)


def _compare_windows(
    job: VerifyJob,
    plan: SlotPlan,
    variable: Variable,
    shape: SlotShape,
    windows: Iterable[tuple[slice, np.ndarray[Any, Any]]],
) -> SlotResult:
    """Count the pixels in which the cube differs from ``windows`` of a slot."""
    import icechunk
    import zarr

    array = zarr.open_array(pickle.loads(job.session).store, path=variable.name, mode="r")
    different = compared = 0
    for part, pixels in windows:
        compared += pixels.size
        try:
            held = np.asarray(array[shape.index(part)])
        except icechunk.IcechunkError as e:
            if not _is_lost(e):
                raise
            different += pixels.size
            continue
        unequal = held != pixels
        if variable.np_dtype.kind == "f":
            unequal &= ~(np.isnan(held) & np.isnan(pixels))
        different += int(np.count_nonzero(unequal))
    return SlotResult(
        plan.slot,
        public_href(plan.tiles[0].href),
        "different" if different else "equal",
        n_pixels=compared,
        detail=different,
    )


def check_slot(job: VerifyJob, plan: SlotPlan) -> SlotResult:
    """Whether a slot's pixels, read from the cube, have the checksum of its record: ``equal`` or ``different``.

    Of blocks that were copied, their bytes are looked at. What is only referred to has no checksum: it is read, which Icechunk
    refuses where a tile has changed; that raises :class:`TileError`.
    """
    import icechunk
    import zarr

    variable = job.spec.variable(plan.slot.variable)
    session, shape = pickle.loads(job.session), slot_shape(job.spec, variable, plan)
    how = plan.before.how if plan.before is not None else ""
    if how == COPIED:
        found = stored_checksum(session, variable, shape)
    else:
        array = zarr.open_array(session.store, path=variable.name, mode="r")
        checksum = SlotChecksum(variable, shape.block_shape)
        for rows in shape.row_slices():
            try:
                checksum.update(np.asarray(array[shape.index(rows)]))
            except icechunk.IcechunkError as e:
                if how != VIRTUAL or plan.before is None:
                    raise
                raise TileError(why_unreadable(plan.before, e)) from None
        found = "" if how == VIRTUAL else checksum.hexdigest()
    same = plan.before is not None and found == plan.before.checksum
    return SlotResult(plan.slot, _maker_of(plan), "equal" if same else "different", n_pixels=shape.n_pixels)


def _maker_of(plan: SlotPlan) -> str:
    """Href of the function that made a slot."""
    return plan.before.sources[0].href if plan.before is not None and plan.before.sources else ""


def _is_lost(error: icechunk.IcechunkError) -> bool:
    """Whether the cube has lost what lay there, or what it refers to is another by now."""
    import icechunk

    kinds = icechunk.ErrorKind
    return error.kind in (kinds.OBJECT_NOT_FOUND, kinds.CHUNK_NOT_FOUND, kinds.VIRTUAL_CHUNK_MODIFIED)


@dataclass
class VerifyReport:
    """Slots compared. ``missing`` are slots the ledger has but whose sources cannot be read, with the reason.

    A row of ``different`` says in how many ``pixels``; None if that is not known, of a slot that a function made.
    """

    checked: int = 0
    equal: int = 0
    different: list[dict[str, Any]] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)
    signum: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {"checked": self.checked, "equal": self.equal, "different": self.different, "missing": self.missing}

    @property
    def exit_code(self) -> int:
        if self.signum is not None:
            return 128 + self.signum
        return 1 if self.different or self.missing else 0


def verify(
    store: Store,
    selection: Selection,
    options: Options,
    sample: float = 1.0,
    on_progress: Callable[[Progress], None] = lambda _: None,
    only: Collection[Slot] | None = None,
) -> VerifyReport:
    """Compare every done slot of a selection, or those of them in ``only``, with its sources; ``sample`` is the fraction of
    windows to compare. Slots that a function made are read whole, and compared with the checksums in their records.

    Raises :class:`GridError` for a sample that is not above 0 and at most 1.
    """
    if not 0 < sample <= 1:
        raise GridError(f"sample is {sample}: it must be above 0 and at most 1")
    store = store.on(store.branch, store.tip)  # spec and pixels of one snapshot
    spec = store.spec
    chosen = choose(spec, selection)
    session = store.readonly()
    states = read_states(session, spec)
    done = [s for s in slots_of(spec, chosen) if states[s.variable][s.index] != NOTHING and (only is None or s in only)]
    catalog = read_catalog(spec, chosen.positions, [v.name for v in chosen.variables])
    tiles = tiles_by_slot(spec, chosen, catalog)
    settled = settle_granules(spec, chosen, catalog, tiles, session, states)
    tiles = dict(settled.tiles)
    # Of what a function made, and of statistics of points that are gone, the record alone tells.
    alone = {
        s: r for s, r in read_records(session, done).items() if r.reading.startswith(COMPUTED) or tiles.get(s) == ()
    }
    known = {s: () if s in alone else tiles[s] for s in done if s in alone or s in tiles}
    plan = make_plan(spec, known, alone, {}, selection, redo=True)
    report = VerifyReport()
    planned = {p.slot for t in plan.tasks for p in t.slots}
    if selection.limit is None:
        unknown = {(m.variable, m.position): m.message for m in catalog.misplaced}
        blocked = {b.slot: b.message for b in settled.blocked}
        for slot in done:
            if slot not in planned and (selection.part is None or is_in_part(spec, slot, selection.part)):
                report.missing.append(
                    _row(
                        spec,
                        slot,
                        "",
                        error=blocked.get(slot) or unknown.get((slot.variable, slot.block), NO_TILE),
                    )
                )
    if plan.tasks:
        functions = functions_of(spec.variable(p.slot.variable) for task in plan.tasks for p in task.slots if p.tiles)
        job = VerifyJob(spec, pickle.dumps(session), sample, uuid.uuid4().hex, functions)
        with reading.until_end(job.run):
            _compare(store, job, plan, options, report, on_progress)
    return report


def _compare(
    store: Store,
    job: VerifyJob,
    plan: Plan,
    options: Options,
    report: VerifyReport,
    on_progress: Callable[[Progress], None],
) -> None:
    work = size_of(job.spec, plan)
    total = Progress(plan.n_slots, sum(pixels for pixels, _ in work))
    on_progress(total)
    with (
        interrupts() as stop,
        open_pool(options.workers, options.scheduler, len(plan.tasks), sum(n for _, n in work)) as pool,
    ):
        pool.prove(store, writes=False)
        for results in pool.run(compare_unit, job, [(task,) for task in plan.tasks], stop):
            for result in results:
                on_progress(Progress(total.n_slots, total.n_pixels, result))
                if result.error is not None:
                    report.missing.append(_row(job.spec, result.slot, result.href, error=result.error))
                    continue
                report.checked += 1
                report.equal += result.state == "equal"
                if result.state == "different":
                    report.different.append(_row(job.spec, result.slot, result.href, pixels=result.detail))
        report.signum = stop.signum


def _row(spec: CubeSpec, slot: Slot, href: str, **more: Any) -> dict[str, Any]:
    return {
        "region": spec.grid.region_id(slot.iy, slot.ix),
        "axes": slot_labels(spec, slot),
        "variable": slot.variable,
        "href": public_href(href),
        **more,
    }
