"""A run: hand out the work, commit what comes back, and account for every slot."""

from __future__ import annotations

import pickle
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from cubeingest.engine import (
    Interrupts,
    Merger,
    Options,
    Progress,
    SlotResult,
    interrupts,
    open_pool,
)
from cubeingest.errors import CatalogError, GridError, StoreError
from cubeingest.ingest.compute import fill_unit
from cubeingest.ingest.fill import IngestJob
from cubeingest.ingest.function import FunctionSource, SourceFunction, function_source
from cubeingest.ingest.independent import CommitJob, fill_and_commit, given_up, units_of
from cubeingest.ingest.materialize import MATERIALIZED, prepare_references
from cubeingest.ingest.places import prepare_blocks
from cubeingest.ingest.points import POINT_BYTES, points_in, reading
from cubeingest.ingest.prepare import Prepared, prepare, prepare_function, variables_to_compute
from cubeingest.ingest.registered import functions_of
from cubeingest.ingest.report import (
    Failure,
    IngestReport,
    commit_message,
    commit_metadata,
    failure_of,
)
from cubeingest.ledger import COPIED, VIRTUAL, Slot, read_records
from cubeingest.mosaic import size_of
from cubeingest.plan import Plan, is_in_part, labels_of, slot_labels
from cubeingest.selection import Selection, choose
from cubeingest.spec import CubeSpec
from cubeingest.storage import is_remote, public_href
from cubeingest.store import Store, made_known, newest_of_run
from cubeingest.wording import counted

UNIT_BYTES = 4 * 2**20
"""Pixels, about, of small tasks that a worker is given at once. One by one, each waits some 10 ms for Dask's messages."""

NAMED = 3
"""Regions that a warning names."""

TASKS_IN_UNIT = 32
UNITS_AT_LEAST = 256
"""Tasks are not put together to fewer units than this, so that all workers have enough to do until the end."""


def ingest(
    store: Store,
    selection: Selection,
    options: Options,
    on_progress: Callable[[Progress], None] = lambda _: None,
    function: SourceFunction | None = None,
) -> IngestReport:
    """Ingest what is selected and not done, from tiles or from what a function returns.

    Cooperatively, workers write into forks and one commit holds it all; independently, each worker commits what it has
    finished. Raises :class:`CubeIngestError` for what is wrong before any work; a tile that fails is in the report.
    """
    started = time.monotonic()
    store.refuse_at()
    store = store.on(store.branch)  # with the spec as it is now: somebody may have updated it
    spec = store.spec
    prepared, source = _prepare(store, selection, options, function)
    plan, run = prepared.plan, uuid.uuid4().hex[:12]
    if options.how in (VIRTUAL, COPIED):
        store = prepare_blocks(store, plan, options.how)
    report = IngestReport(store.uri, options.mode, branch=store.branch, how=options.how, skipped=len(plan.skipped))
    report.warnings = (*prepared.catalog.warnings, *_warn_of_unlisted(spec, prepared.unlisted))
    report.failed += [
        Failure(None, labels_of(spec, m.variable, m.position), m.variable, public_href(m.href), m.message)
        for m in prepared.catalog.misplaced
    ]
    report.failed += [
        Failure(
            spec.grid.region_id(b.slot.iy, b.slot.ix),
            slot_labels(spec, b.slot),
            b.slot.variable,
            public_href(b.href),
            b.message,
        )
        for b in prepared.blocked
        if is_in_part(spec, b.slot, selection.part)
    ]
    report.planned = plan.n_slots + report.skipped + len(report.failed)
    report.aborted = options.on_error == "abort" and bool(report.failed)
    if not report.aborted:
        before = {p.slot: p.before for t in plan.tasks for p in t.slots if p.before is not None}
        new = {p.slot for t in plan.tasks for p in t.slots if p.is_new}
        merger = Merger(store, run, before, prepared.expected, new, whole=options.on_error == "abort")
        if plan.tasks:
            with made_known(store, run):
                # From now on nobody collects garbage or extends the cube; what they did before is seen here.
                merger.start()
                merger.check_layout(store.readonly())
                _go(store, plan, source, options, merger, report, on_progress)
        else:
            with interrupts() as stop:
                _commit(merger, report, stop)
    report.unfinished = report.planned - report.written - report.empty - report.skipped - len(report.failed)
    report.seconds = time.monotonic() - started
    return report


def _prepare(
    store: Store, selection: Selection, options: Options, function: SourceFunction | None
) -> tuple[Prepared, FunctionSource | None]:
    spec = store.spec
    if function is not None and options.how:
        raise GridError("a function returns pixels: blocks can only be taken from tiles")
    if options.how == MATERIALIZED:
        return prepare_references(store, selection), None
    if function is None:
        _refuse_without_source(spec, selection)
        return prepare(store, selection, options.redo), None
    source = function_source(function, variables_to_compute(spec, selection))
    if options.scheduler is not None or (options.workers or 1) > 1:
        source.packed  # noqa: B018  (refused here rather than when workers have been started)
    return prepare_function(store, selection, source, options.redo), source


def _refuse_without_source(spec: CubeSpec, selection: Selection) -> None:
    """Refuse to read tiles of variables that have none, if they were named or there are no others."""
    chosen = choose(spec, selection).variables
    without = [v.name for v in chosen if v.source is None]
    if without and (selection.variables or len(without) == len(chosen)):
        raise CatalogError(
            f"no source is given for {', '.join(without)}, so there are no tiles to ingest: compute it in Python with "
            "Cube.ingest(source=f), or add a source to the spec with `cubeingest init --update`"
        )


def _warn_of_unlisted(spec: CubeSpec, left: Sequence[Slot]) -> Iterable[str]:
    """One line for all slots whose tiles have left the catalog."""
    if left:
        names = list(dict.fromkeys(spec.grid.region_id(s.iy, s.ix) for s in left))
        what = "tiles" if spec.points is None else "granules"
        shown = ", ".join(names[:NAMED]) + ", ..." * (len(names) > NAMED)
        yield (
            f"{counted(len(left), 'slot is', 'slots are')} done from {what} that the catalog has no more ({shown}): what the cube holds there "
            "stays as it is"
        )


def _go(
    store: Store,
    plan: Plan,
    source: FunctionSource | None,
    options: Options,
    merger: Merger,
    report: IngestReport,
    on_progress: Callable[[Progress], None],
) -> None:
    alone = options.mode == "independent"
    with interrupts(drains=alone) as stop:
        commit = partial(_commit, merger, report, stop)
        take = partial(_take_committed, report) if alone else merger.keep
        try:
            _work(store, plan, source, options, merger, report, on_progress, stop, take, commit)
        except StoreError as e:
            _stop_after_commit(report, e, commit if options.on_error == "keep" and merger.kept else None)
        except Exception:
            if options.on_error == "keep" and merger.kept:
                commit()  # what was finished before is not lost with the rest
            raise
        if alone:
            _settle(merger, plan, report, stop)
        try:
            if not report.aborted:
                commit()
        except StoreError as e:
            _stop_after_commit(report, e)
        report.signum = stop.signum


def _work(
    store: Store,
    plan: Plan,
    source: FunctionSource | None,
    options: Options,
    merger: Merger,
    report: IngestReport,
    on_progress: Callable[[Progress], None],
    stop: Interrupts,
    take: Callable[[Iterable[SlotResult]], None],
    commit: Callable[[], None],
) -> None:
    spec = store.spec
    work = size_of(spec, plan)
    total = Progress(plan.n_slots, sum(pixels for pixels, _ in work))
    on_progress(replace(total, planned=tuple(p.slot for task in plan.tasks for p in task.slots)))
    alone = options.mode == "independent"
    function = fill_and_commit if alone else fill_unit
    remote = any(is_remote(tile.href) for task in plan.tasks[:1] for slot in task.slots for tile in slot.tiles)
    # Of remote tiles one is fetched while another is encoded; of others the next is begun when one has been read.
    overlap, in_turn = source is None, source is None and not remote and options.scheduler is None
    functions = functions_of(spec.variable(p.slot.variable) for task in plan.tasks for p in task.slots)
    job = (
        CommitJob(store, merger.run, source, options.how, in_turn, functions)
        if alone
        else IngestJob(
            spec,
            pickle.dumps(store.writable().fork()),
            merger.run,
            store.layout_key,
            source,
            options.how,
            in_turn,
            functions,
        )
    )
    n_bytes = 0 if options.how == VIRTUAL else sum(n for _, n in work)  # references take no time to write
    n_bytes += POINT_BYTES * sum(map(points_in, plan.tasks))
    units = list(units_of(plan.tasks, unit_size(options, len(plan.tasks), n_bytes, remote)))
    with (
        reading.until_end(merger.run),
        open_pool(options.workers, options.scheduler, len(units), n_bytes, overlap) as pool,
    ):
        pool.prove(store)
        since_commit = 0
        broken = ""
        for results in pool.run(function, job, units, stop):
            since_commit += 1
            take(results)
            for result in results:
                on_progress(Progress(total.n_slots, total.n_pixels, result))
                if result.by_store:
                    broken = broken or result.error or ""
                elif result.error is not None:
                    report.failed.append(failure_of(spec, result))
            report.aborted = options.on_error == "abort" and bool(report.failed)
            stop.halted = report.aborted or bool(broken)
            if stop.halted and not alone:
                break  # otherwise what is running commits by itself, and is waited for
            if not alone and (since_commit == options.commit_every or merger.is_full):
                commit()
                merger.start()
                since_commit = 0
        if broken:
            raise StoreError(broken)


def unit_size(options: Options, n_tasks: int, n_bytes: int, remote: bool = False) -> int:
    """How many tasks a worker is given at once: what it commits in independent mode; else one, or several small ones."""
    if options.mode == "independent":
        return options.commit_every or 1
    if options.commit_every is not None or remote or not n_tasks:
        return 1
    return max(1, min(TASKS_IN_UNIT, n_tasks // UNITS_AT_LEAST, UNIT_BYTES * n_tasks // max(1, n_bytes)))


def _stop_after_commit(report: IngestReport, error: StoreError, commit: Callable[[], None] | None = None) -> None:
    """A store that fails after something was committed ends the run with a report of that; before, it is an error.

    ``commit`` commits what was finished before the failure, if the store still takes it.
    """
    if commit is not None:
        with suppress(StoreError):
            commit()
    if report.snapshot is None:
        raise error
    report.aborted, report.error = True, str(error)


def _commit(merger: Merger, report: IngestReport, stop: Interrupts) -> None:
    before = len(merger.committed), len(merger.lost)
    spec = merger.store.spec
    snapshot = merger.commit(
        partial(commit_message, how=report.how),
        lambda kept: commit_metadata(spec, kept, merger.run, merger.n_new(kept), report.how),
        stop.check_again,
    )
    report.snapshot = snapshot or report.snapshot
    for result in merger.committed[before[0] :]:
        report.add(result)
    report.skipped += len(merger.lost) - before[1]


def _take_committed(report: IngestReport, results: Iterable[SlotResult]) -> None:
    """Count what a worker has committed by itself."""
    for result in results:
        if result.error is not None:
            continue
        if result.snapshot is None:
            report.skipped += 1
        else:
            report.add(result)
            report.snapshot = result.snapshot


def _settle(merger: Merger, plan: Plan, report: IngestReport, stop: Interrupts) -> None:
    """After an independent run: look in the cube what became of slots whose worker did not come to say it, and which commit was the last.

    The one that was heard of last need not be: of two that are made at a time either may be told first.
    """
    if stop.again:
        given_up.add(merger.run)
    if report.snapshot is not None:
        with suppress(StoreError):
            report.snapshot = newest_of_run(merger.store, merger.run) or report.snapshot
    left = {p.slot for t in plan.tasks for p in t.slots} - report.counted
    if not left:
        return
    spec, store = merger.store.spec, merger.store
    found = {s: r for s, r in read_records(store.readonly(), sorted(left)).items() if r.run == merger.run}
    for slot, record in found.items():
        report.add(SlotResult(slot, "", record.state))
        report.snapshot = report.snapshot or store.tip
    names = {(spec.grid.region_id(s.iy, s.ix), tuple(slot_labels(spec, s).values()), s.variable) for s in found}
    report.failed = [f for f in report.failed if (f.region, tuple(f.axes.values()), f.variable) not in names]
