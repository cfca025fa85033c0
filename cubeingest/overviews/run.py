"""Make what is missing or stale of a cube's overviews: stage by stage, each committed with its part of the ledger."""

from __future__ import annotations

import pickle
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cubeingest.engine import EachSlot, Interrupts, Merger, Options, Progress, SlotResult, interrupts, open_pool
from cubeingest.errors import GridError, StoreError
from cubeingest.mosaic import size_of
from cubeingest.overviews.arrays import drop_pyramid, find_pyramid, write_pyramid
from cubeingest.overviews.build import CellJob, make_cell
from cubeingest.overviews.cells import (
    Below,
    CellPlan,
    base_name,
    plan_cells,
    read_below,
    read_cells,
    stamp_of_parts,
)
from cubeingest.overviews.levels import Pyramid, Stage, levels_by_default, make_pyramid
from cubeingest.plan import Chosen, Plan, Selection, Task, choose, slot_labels
from cubeingest.spec import OVERVIEWS, CubeSpec
from cubeingest.store import Store, made_known

if TYPE_CHECKING:
    import icechunk


@dataclass
class OverviewReport:
    """What was done, in **cells**: pieces in which a few levels are made at once. planned = written + empty + skipped (as they should be
    already) + number failed, and after an interruption + unfinished. ``pixels`` were read. ``error`` says why the store failed after
    something was committed.
    """

    store: str
    branch: str
    levels: list[dict[str, Any]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
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
            "planned": self.planned, "written": self.written, "empty": self.empty, "skipped": self.skipped, "failed": self.failed,
            "unfinished": self.unfinished, "pixels": self.pixels, "seconds": round(self.seconds, 3),
            **({"error": self.error} if self.error else {}),
        }  # fmt: skip

    @property
    def exit_code(self) -> int:
        return 128 + self.signum if self.signum is not None else 1 if self.failed or self.error else 0


def make_overviews(
    store: Store,
    selection: Selection,
    options: Options,
    n_levels: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> OverviewReport:
    """Make the overviews above what is selected that are missing or stale; with ``redo`` all of them. ``n_levels`` is how many there are to be: by default as
    many as there are, else what :func:`levels_by_default` says.

    Where their number changes, all are made anew. Raises :class:`GridError` for a number that cannot be, or variables
    that have none, :class:`StoreError` for what is wrong with the store.
    """
    started = time.monotonic()
    if store.at is not None:
        raise StoreError(f"snapshot {store.at} can only be read: open the cube without it")
    store = store.on(store.branch)
    spec = store.spec
    chosen = choose(spec, selection)
    there = find_pyramid(store.readonly(), spec)
    default = there.n_levels if there is not None else levels_by_default(spec.grid)
    pyramid = make_pyramid(spec, default if n_levels is None else n_levels)
    names = {v.name for v in pyramid.variables}
    without = [v.name for v in chosen.variables if v.name not in names]
    if without and (selection.variables or not names):
        raise GridError(f"{', '.join(without)} has no overviews: the spec says so (overviews: none)")
    report = OverviewReport(store.uri, store.branch)
    if pyramid.n_levels:
        _run(store, pyramid, chosen, options, report, on_progress)
    report.unfinished = report.planned - report.written - report.empty - report.skipped - len(report.failed)
    report.seconds = time.monotonic() - started
    return report


def _run(
    store: Store,
    pyramid: Pyramid,
    chosen: Chosen,
    options: Options,
    report: OverviewReport,
    on_progress: Callable[[Progress], None],
) -> None:
    run = uuid.uuid4().hex[:12]
    there = find_pyramid(store.readonly(), pyramid.base)
    if there is not None and there.n_levels != pyramid.n_levels:
        with made_known(store, run, "relevel"):  # nobody else may be filling what is taken away
            _prepare_arrays(store, pyramid, run, may_drop=True)
    with made_known(store, run), interrupts() as stop:
        _prepare_arrays(store, pyramid, run, stop.check_again)
        report.levels = [
            {"level": lv.number, "shape": list(lv.spec.grid.shape_yx), "group": lv.group} for lv in pyramid.levels
        ]
        report.variables = {v.name: m for v, m in _methods(pyramid)}
        total = _total(store, pyramid, chosen, options)
        on_progress(total)
        for stage in pyramid.stages:
            if stop.over or report.error:
                break
            try:
                _run_stage(store, pyramid, stage, chosen, options, report, run, stop, total, on_progress)
            except StoreError as e:
                if report.snapshot is None:
                    raise
                report.error = str(e)
        report.signum = stop.signum


def _methods(pyramid: Pyramid) -> list[tuple[Any, str]]:
    from cubeingest.overviews.halving import method_of

    return [(v, str(method_of(v))) for v in pyramid.variables]


def _prepare_arrays(
    store: Store, pyramid: Pyramid, run: str, check: Callable[[], None] = lambda: None, may_drop: bool = False
) -> None:
    """Commit the arrays that are lacking; all anew if the number of levels is another."""

    def build(session: icechunk.Session) -> bool:
        import zarr

        there = find_pyramid(session, pyramid.base)
        if there is not None and there == pyramid:
            return False
        root = zarr.open_group(session.store, mode="r+")
        if there is None and OVERVIEWS in root:
            raise StoreError(
                f"the cube holds a group {OVERVIEWS!r} that cubeingest did not make: move it elsewhere first"
            )
        if there is not None and there.n_levels != pyramid.n_levels:
            if not may_drop:
                raise StoreError(
                    f"somebody else has just given the cube {there.n_levels} levels of overviews: run the command again"
                )
            drop_pyramid(root, pyramid.base)
        write_pyramid(session.store, pyramid)
        return True

    names = ", ".join(v.name for v in pyramid.variables)
    details = {**_details(run), "levels": pyramid.n_levels}
    store.commit(build, lambda: f"{pyramid.n_levels} levels of overviews for {names}", lambda: details, check)


def _details(run: str) -> dict[str, Any]:
    from cubeingest import __version__

    return {"cubeingest": __version__, "action": OVERVIEWS, "run": run}


def _total(store: Store, pyramid: Pyramid, chosen: Chosen, options: Options) -> Progress:
    """All that there is to do, if nothing fails: each stage changes what the next one has to do."""
    session = store.readonly()
    below, n_cells, n_pixels = read_below(session, pyramid, pyramid.stages[0]), 0, 0
    for stage in pyramid.stages:
        held = read_cells(session, stage)
        plans, _ = plan_cells(pyramid, stage, below, held, chosen, options.redo)
        n_cells += len(plans)
        n_pixels += sum(pixels for pixels, _ in size_of(stage.spec, _plan(stage, plans)))
        stamps = {slot: stamp_of_parts(r.reading, r.sources) for slot, r in held.items()}
        below = Below({**stamps, **{p.slot: stamp_of_parts(p.method, p.parts) for p in plans}})
    return Progress(n_cells, n_pixels)


def _plan(stage: Stage, plans: list[CellPlan]) -> Plan:
    axes = {v.name: v.axes for v in stage.spec.variables}
    return Plan(tuple(Task(axes[p.slot.variable], p.slot.block, p.slot.iy, p.slot.ix, (p,)) for p in plans), ())


def _run_stage(
    store: Store,
    pyramid: Pyramid,
    stage: Stage,
    chosen: Chosen,
    options: Options,
    report: OverviewReport,
    run: str,
    stop: Interrupts,
    total: Progress,
    on_progress: Callable[[Progress], None],
) -> None:
    session = store.writable()
    layout = f"{store.layout_key}-{pyramid.n_levels}"
    below = read_below(session, pyramid, stage, layout)
    plans, n_current = plan_cells(pyramid, stage, below, read_cells(session, stage, layout), chosen, options.redo)
    report.planned += len(plans) + n_current
    report.skipped += n_current
    if not plans:
        return
    before = {p.slot: p.before for p in plans if p.before is not None}
    merger = Merger(store, run, before, new={p.slot for p in plans if p.is_new})
    merger.check_layout(session)
    job = CellJob(pyramid, stage.number, pickle.dumps(session.fork()), run, layout)
    plan = _plan(stage, plans)
    n_bytes = sum(n for _, n in size_of(stage.spec, plan))
    broken = ""
    with open_pool(options.workers, options.scheduler, len(plans), n_bytes) as pool:
        pool.prove(store)
        for results in pool.run(EachSlot(make_cell), job, [(task,) for task in plan.tasks], stop):
            merger.keep(results)
            for result in results:
                on_progress(Progress(total.n_slots, total.n_pixels, result))
                report.pixels += result.n_pixels
                if result.by_store:
                    broken = broken or result.error or ""
                elif result.error is not None:
                    report.failed.append(_failure(stage, result))
            if broken:
                break
            if merger.is_full:
                _commit(merger, stage, run, report, stop)
                merger.start()
    with suppress(StoreError) if broken else nullcontext():
        _commit(merger, stage, run, report, stop)
    if broken:
        raise StoreError(broken)


def _commit(merger: Merger, stage: Stage, run: str, report: OverviewReport, stop: Interrupts) -> None:
    if not merger.kept:
        return
    before = len(merger.committed), len(merger.lost)
    levels = f"{stage.first}" if stage.first == stage.last else f"{stage.first} to {stage.last}"
    snapshot = merger.commit(
        lambda kept: f"overviews: level {levels}, {len(kept)} cells",
        lambda kept: {**_details(run), "levels": [stage.first, stage.last], "cells": len(kept)},
        stop.check_again,
    )
    report.snapshot = snapshot or report.snapshot
    for result in merger.committed[before[0] :]:
        report.written += result.state == "done"
        report.empty += result.state == "empty"
    report.skipped += len(merger.lost) - before[1]


def _failure(stage: Stage, result: SlotResult) -> dict[str, Any]:
    spec: CubeSpec = stage.spec
    return {
        "cell": spec.grid.region_id(result.slot.iy, result.slot.ix), "levels": [stage.first, stage.last],
        "axes": slot_labels(spec, result.slot), "variable": base_name(result.slot.variable), "error": result.error,
    }  # fmt: skip
