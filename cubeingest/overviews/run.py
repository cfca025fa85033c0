"""Make what is missing or stale of a cube's overviews: stage by stage, each committed with its part of the ledger."""

from __future__ import annotations

import pickle
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from cubeingest.engine import EachSlot, Merger, Options, Progress, SlotResult, interrupts, open_pool
from cubeingest.errors import GridError, StoreError
from cubeingest.ledger import Record, Slot
from cubeingest.mosaic import size_of
from cubeingest.overviews.arrays import (
    drop_pyramid,
    find_pyramid,
    has_overviews,
    is_complete,
    pyramid_id,
    write_pyramid,
)
from cubeingest.overviews.build import CellJob, make_cell
from cubeingest.overviews.cells import (
    Below,
    CellPlan,
    base_name,
    plan_cells,
    read_below,
    read_cells,
    stamp_of_cell,
    stamp_of_parts,
)
from cubeingest.overviews.levels import Pyramid, Stage, levels_by_default, make_pyramid
from cubeingest.overviews.rules import rules_of
from cubeingest.plan import Plan, Task, slot_labels
from cubeingest.selection import Chosen, Selection, choose
from cubeingest.spec import OVERVIEWS, CubeSpec
from cubeingest.store import Store, made_known
from cubeingest.wording import counted

if TYPE_CHECKING:
    import icechunk


PASSES = 3
"""How often cells are made that another run has made of an older cube meanwhile."""


@dataclass
class OverviewReport:
    """What was done, in **cells**: pieces in which a few levels are made at once. planned = written + empty + skipped (as they should be
    already) + number failed, and + unfinished after an interruption, or where others kept making the same of an older cube. ``pixels`` were read. ``without`` says why
    variables have none. ``error`` says why the store failed after
    something was committed.
    """

    store: str
    branch: str
    levels: list[dict[str, Any]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)
    snapshot: str | None = None
    planned: int = 0
    written: int = 0
    empty: int = 0
    skipped: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    pixels: int = 0
    seconds: float = 0.0
    unfinished: int = 0
    signum: int | None = None
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "store": self.store, "branch": self.branch, "snapshot": self.snapshot, "levels": self.levels, "variables": self.variables,
            "without": self.without,
            "planned": self.planned, "written": self.written, "empty": self.empty, "skipped": self.skipped, "failed": self.failed,
            "unfinished": self.unfinished, "pixels": self.pixels, "seconds": round(self.seconds, 3),
            **({"error": self.error} if self.error else {}),
        }  # fmt: skip

    @property
    def exit_code(self) -> int:
        return (
            128 + self.signum if self.signum is not None else 1 if self.failed or self.error or self.unfinished else 0
        )


def make_overviews(
    store: Store,
    selection: Selection,
    options: Options,
    n_levels: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> OverviewReport:
    """Make the overviews above what is selected that are missing or stale; with ``redo`` all of them. ``n_levels`` is how many there are to be: by default as
    many as there are, else what :func:`levels_by_default` says; 0 takes them away.

    Where their number changes, all are made anew. Raises :class:`GridError` for a number that cannot be, a selection that goes on less than that
    needs, or variables that have none, :class:`StoreError` for what is wrong with the store.
    """
    started = time.monotonic()
    store.refuse_at()
    if selection.limit is not None or selection.part is not None:
        raise GridError("overviews are not made in parts: select by region, axes or variable")
    store = store.on(store.branch)
    spec = store.spec
    session = store.readonly()
    there = find_pyramid(session, spec)
    default = there.n_levels if there is not None else levels_by_default(spec.grid)
    pyramid = make_pyramid(spec, default if n_levels is None else n_levels)
    is_other = has_overviews(session) and (there is None or there.n_levels != pyramid.n_levels)
    if is_other and selection != Selection():
        raise GridError("all overviews are to be made anew, since their levels are others: leave the selection out")
    work = _Work(store, pyramid, choose(spec, selection), options, is_other, on_progress)
    _, reasons = rules_of(spec)
    without = {v.name: reasons[v.name] for v in work.chosen.variables if v.name in reasons}
    if without and (selection.variables or not pyramid.variables):
        raise GridError("; ".join(f"{name} has no overviews: {why}" for name, why in without.items()))
    work.report.without = without
    if pyramid.n_levels:
        work.run()
    elif is_other:
        with made_known(store, work.id, "relevel"):
            work.report.snapshot = _drop(store, work.id)
    report = work.report
    report.unfinished = report.planned - report.written - report.empty - report.skipped - len(report.failed)
    report.seconds = time.monotonic() - started
    return report


def _drop(store: Store, run: str) -> str | None:
    def build(session: icechunk.Session) -> bool:
        import zarr

        drop_pyramid(zarr.open_group(session.store, mode="r+"), store.spec)
        return True

    return store.commit(build, lambda: "overviews are taken away", lambda: _details(run))


def _details(run: str) -> dict[str, Any]:
    from cubeingest import __version__

    return {"cubeingest": __version__, "action": OVERVIEWS, "run": run}


class _Work:
    """One run: what it is to do, and what came of it."""

    def __init__(
        self,
        store: Store,
        pyramid: Pyramid,
        chosen: Chosen,
        options: Options,
        is_other: bool,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.store, self.pyramid, self.chosen, self.options = store, pyramid, chosen, options
        self.on_progress, self._is_other = on_progress, is_other
        self.id = uuid.uuid4().hex[:12]
        self.layout = f"{store.layout_key}-{pyramid.n_levels}"
        self.report = OverviewReport(store.uri, store.branch)
        self._read: dict[tuple[str, int], Below] = {}
        self._n_lost = 0

    def run(self) -> None:
        self.total, n_bytes = self._look_ahead()
        self.on_progress(self.total)
        options = self.options
        # Nothing is changed before the workers are known to be there.
        with (
            interrupts() as stop,
            open_pool(options.workers, options.scheduler, self.total.n_slots, n_bytes) as pool,
        ):
            self.stop, self.pool = stop, pool
            pool.prove(self.store)
            if self._is_other:
                with made_known(self.store, self.id, "relevel"):  # nobody else may be filling what is taken away
                    self._prepare_arrays()
            with made_known(self.store, self.id):
                self._prepare_arrays()
                self._describe()
                self._make()
            self.report.signum = stop.signum

    def _describe(self) -> None:
        self.report.levels = [
            {"level": lv.number, "shape": list(lv.spec.grid.spatial_shape), "group": lv.group, **_order_of(lv.spec)}
            for lv in self.pyramid.levels
        ]
        self.report.variables = dict(self.pyramid.methods)

    def _prepare_arrays(self) -> None:
        """Commit the arrays that are lacking; all anew if this run is to change their number."""
        pyramid = self.pyramid

        def build(session: icechunk.Session) -> bool:
            import zarr

            there = find_pyramid(session, pyramid.base)
            if there == pyramid and is_complete(session, pyramid):
                return False
            root = zarr.open_group(session.store, mode="r+")
            is_own = has_overviews(session)
            if OVERVIEWS in root and not is_own:
                raise StoreError(
                    f"the cube holds a group {OVERVIEWS!r} that cubeingest did not make: move it elsewhere first"
                )
            if is_own and (there is None or there.n_levels != pyramid.n_levels):
                if not self._is_other:
                    raise StoreError("somebody else has just given the cube other overviews: run the command again")
                drop_pyramid(root, pyramid.base)
            write_pyramid(session.store, pyramid)
            return True

        message = f"{counted(pyramid.n_levels, 'level')} of overviews for {', '.join(pyramid.methods)}"
        details = {**_details(self.id), "levels": pyramid.n_levels}
        self.store.commit(build, lambda: message, lambda: details, self.stop.check_again)

    def _look_ahead(self) -> tuple[Progress, int]:
        """All that there is to do, if nothing fails, and the bytes to read: each stage changes what the next one has to do."""
        session = self.store.readonly()
        is_there = find_pyramid(session, self.pyramid.base) == self.pyramid and is_complete(session, self.pyramid)
        below = self._below(session, self.pyramid.stages[0])
        n_cells = n_pixels = n_bytes = 0
        for stage in self.pyramid.stages:
            held = self._cells(session, stage) if is_there else {}
            plans, _ = plan_cells(self.pyramid, stage, below, held, self.chosen, self.options.redo)
            sizes = size_of(stage.spec, _plan(stage, plans))
            n_cells += len(plans)
            n_pixels, n_bytes = n_pixels + sum(pixels for pixels, _ in sizes), n_bytes + sum(n for _, n in sizes)
            stamps = {slot: stamp_of_cell(r) for slot, r in held.items()}
            below = Below({**stamps, **{p.slot: stamp_of_parts(p.method, p.parts) for p in plans}})
        return Progress(n_cells, n_pixels), n_bytes

    def _below(self, session: icechunk.Session, stage: Stage) -> Below:
        """What a stage reads; kept, since an idle run would read the same snapshot's ledger three times."""
        key = session.snapshot_id, stage.number
        if key not in self._read:
            self._read = {k: v for k, v in self._read.items() if k[0] == key[0]}
            self._read[key] = read_below(session, self.pyramid, stage, self.layout)
        return self._read[key]

    def _cells(self, session: icechunk.Session, stage: Stage) -> Mapping[Slot, Record]:
        """Records of a stage's cells; if there is a next stage, what that reads."""
        if stage.number == len(self.pyramid.stages):
            return read_cells(session, stage, self.layout)
        return self._below(session, self.pyramid.stages[stage.number]).records

    def _make(self) -> None:
        """Stage by stage; once more what another run that had read an older cube has made meanwhile."""
        for n in range(PASSES):
            self._n_lost = 0
            for stage in self.pyramid.stages:
                if self.stop.over or self.report.error:
                    return
                try:
                    self._make_stage(stage, is_first=not n)
                except StoreError as e:
                    if self.report.snapshot is None:
                        raise
                    self.report.error = str(e)
            if not self._n_lost:
                return
            if n + 1 < PASSES:
                self.report.planned -= self._n_lost  # they are planned again

    def _make_stage(self, stage: Stage, is_first: bool) -> None:
        session = self.store.writable()
        below = self._below(session, stage)
        held = self._cells(session, stage)
        plans, n_current = plan_cells(self.pyramid, stage, below, held, self.chosen, self.options.redo and is_first)
        self.report.planned += len(plans) + (n_current if is_first else 0)
        self.report.skipped += n_current if is_first else 0
        if not plans:
            return
        before = {p.slot: p.before for p in plans if p.before is not None}
        is_same = partial(self._refuse_other, pyramid_id(session))
        merger = Merger(
            self.store, self.id, before, new={p.slot for p in plans if p.is_new}, layout=self.layout, also=is_same
        )
        merger.check_layout(session)
        job = CellJob(self.pyramid, stage.number, pickle.dumps(session.fork()), self.id, self.layout)
        units = [(task,) for task in _plan(stage, plans).tasks]
        broken = ""
        for results in self.pool.run(EachSlot(make_cell), job, units, self.stop):
            merger.keep(results)
            broken = broken or self._take(stage, results)
            if broken:
                break
            if merger.is_full:
                self._commit(merger, stage)
                merger.start()
        with suppress(StoreError) if broken else nullcontext():
            self._commit(merger, stage)
        if broken:
            raise StoreError(broken)

    def _take(self, stage: Stage, results: list[SlotResult]) -> str:
        """Count results; why the store failed, if it did."""
        broken = ""
        for result in results:
            self.on_progress(Progress(self.total.n_slots, self.total.n_pixels, result))
            self.report.pixels += result.n_pixels
            if result.by_store:
                broken = broken or result.error or ""
            elif result.error is not None:
                self.report.failed.append(_failure(stage, result))
        return broken

    def _refuse_other(self, was: str, session: icechunk.Session) -> None:
        if pyramid_id(session) != was:
            raise StoreError(
                f"the overviews of {self.store.uri!r} were made anew by somebody else during this run: run the command again"
            )

    def _commit(self, merger: Merger, stage: Stage) -> None:
        if not merger.kept:
            return
        before = len(merger.committed), len(merger.lost)
        levels = f"level {stage.first}" if stage.first == stage.last else f"levels {stage.first} to {stage.last}"
        snapshot = merger.commit(
            lambda kept: f"overviews: {levels}, {counted(len(kept), 'cell')}",
            lambda kept: {**_details(self.id), "levels": [stage.first, stage.last], "cells": len(kept)},
            self.stop.check_again,
        )
        self.report.snapshot = snapshot or self.report.snapshot
        for result in merger.committed[before[0] :]:
            self.report.written += result.state == "done"
            self.report.empty += result.state == "empty"
        self._n_lost += len(merger.lost) - before[1]


def _plan(stage: Stage, plans: list[CellPlan]) -> Plan:
    axes = {v.name: v.axes for v in stage.spec.variables}
    return Plan(tuple(Task(axes[p.slot.variable], p.slot.block, p.slot.iy, p.slot.ix, (p,)) for p in plans), ())


def _order_of(spec: CubeSpec) -> dict[str, int]:
    return {} if spec.healpix is None else {"order": spec.healpix.order}


def _failure(stage: Stage, result: SlotResult) -> dict[str, Any]:
    spec: CubeSpec = stage.spec
    return {
        "cell": spec.grid.region_id(result.slot.iy, result.slot.ix), "levels": [stage.first, stage.last],
        "axes": slot_labels(spec, result.slot), "variable": base_name(result.slot.variable), "error": result.error,
    }  # fmt: skip
