"""Read the cube back and compare it with its sources, window by window."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from cubeingest.catalog import read_catalog
from cubeingest.engine import EachSlot, Options, Progress, SlotResult, interrupts, open_pool
from cubeingest.errors import GridError
from cubeingest.ledger import NOTHING, Slot, read_states
from cubeingest.mosaic import read_ahead, size_of, slot_shape, source_ids
from cubeingest.plan import (
    Plan,
    Selection,
    SlotPlan,
    choose,
    is_in_part,
    make_plan,
    slot_labels,
    slots_of,
    tiles_by_slot,
)
from cubeingest.spec import CubeSpec
from cubeingest.storage import public_href
from cubeingest.store import Store
from cubeingest.tile import storage_of


@dataclass(frozen=True)
class VerifyJob:
    """What a worker needs besides its task. ``session`` is a readonly session, pickled."""

    spec: CubeSpec
    session: bytes
    sample: float


def compare_slot(job: VerifyJob, plan: SlotPlan) -> SlotResult:
    """Count the pixels in which the cube differs from a slot's tiles; of some windows only if a sample is asked for.

    Raises ``TileError`` if a source cannot be read any more.
    """
    import icechunk
    import zarr

    spec = job.spec
    variable = spec.variable(plan.slot.variable)
    array = zarr.open_array(pickle.loads(job.session).store, path=variable.name, mode="r")
    shape = slot_shape(spec, variable, plan)
    rows = list(shape.row_slices())
    if job.sample < 1:
        # The same windows for the same slot each time, at least one of each.
        count = max(1, round(job.sample * len(rows)))
        rows = sorted(Random(str(plan.slot)).sample(rows, count), key=lambda r: r.start)
    sources = source_ids(plan, storage_of(variable))
    different = compared = 0
    with read_ahead(spec, variable, plan, shape, rows, sources) as windows:
        for part, pixels in windows:
            compared += pixels.size
            try:
                held = np.asarray(array[(*shape.axes, part, shape.x)])
            except icechunk.IcechunkError as e:
                if e.kind not in (icechunk.ErrorKind.OBJECT_NOT_FOUND, icechunk.ErrorKind.CHUNK_NOT_FOUND):
                    raise
                # the cube has lost what lay there
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


@dataclass
class VerifyReport:
    """Slots compared. ``missing`` are slots the ledger has but whose sources cannot be read, with the reason."""

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
    windows to compare.

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
    plan = make_plan(spec, {s: tiles[s] for s in done if s in tiles}, {}, {}, selection)
    report = VerifyReport()
    planned = {p.slot for t in plan.tasks for p in t.slots}
    if selection.limit is None:
        unknown = {(m.variable, m.position): m.message for m in catalog.misplaced}
        for slot in done:
            if slot not in planned and (selection.part is None or is_in_part(spec, slot, selection.part)):
                report.missing.append(
                    _row(
                        spec,
                        slot,
                        "",
                        error=unknown.get((slot.variable, slot.block), "its tile is no longer in the catalog"),
                    )
                )
    if plan.tasks:
        _compare(store, VerifyJob(spec, pickle.dumps(session), sample), plan, options, report, on_progress)
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
        for results in pool.run(EachSlot(compare_slot), job, [(task,) for task in plan.tasks], stop):
            for result in results:
                on_progress(Progress(total.n_slots, total.n_pixels, result))
                if result.error is not None:
                    report.missing.append(_row(job.spec, result.slot, result.href, error=result.error))
                    continue
                report.checked += 1
                report.equal += not result.detail
                if result.detail:
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
