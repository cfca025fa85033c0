"""Independent mode: a worker fills some regions and commits them by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import batched

from cubeingest.engine import Merger, SlotResult, Unit, explain, failed, slots_in
from cubeingest.errors import StoreError
from cubeingest.ingest.compute import fill_unit
from cubeingest.ingest.fill import IngestJob
from cubeingest.ingest.function import FunctionSource
from cubeingest.ingest.report import commit_message, commit_metadata
from cubeingest.ledger import are_as_planned
from cubeingest.plan import SlotPlan, Task
from cubeingest.store import Store

given_up: set[str] = set()
"""Runs of this process of which nothing more is to be committed: their threads may outlive them."""


@dataclass(frozen=True)
class CommitJob:
    """What a worker needs to commit by itself. ``store`` travels as a description: credentials come from each place's own
    environment.
    """

    store: Store
    run: str
    source: FunctionSource | None = None
    how: str = ""
    in_turn: bool = False
    functions: Mapping[str, FunctionSource] = field(default_factory=dict)


def fill_and_commit(job: CommitJob, unit: Unit) -> list[SlotResult]:
    """Fill the slots of a unit and commit those that succeeded, at once, on whatever the branch's tip is by then.

    A slot that somebody else has finished since the plan was made is dropped: its result has no ``snapshot``. If the commit
    fails, all of them have failed.
    """
    import icechunk

    plans = slots_in(unit)
    try:
        return _fill_and_commit(job, unit, plans)
    except (icechunk.IcechunkError, StoreError) as e:
        return [failed(p, explain(e), by_store=True) for p in plans]


def _fill_and_commit(job: CommitJob, unit: Unit, plans: list[SlotPlan]) -> list[SlotResult]:
    store, spec = job.store, job.store.spec
    session = store.writable()
    as_planned = are_as_planned(session, {p.slot: p.before for p in plans}, store.layout_key)
    before = {p.slot: p.before for p in plans if p.before is not None}
    new = {p.slot for p in plans if p.is_new}
    merger = Merger(store, job.run, before, new=new, base=session if as_planned else None)
    merger.check_layout(session)
    results = fill_unit(
        IngestJob(spec, session, job.run, store.layout_key, job.source, job.how, job.in_turn, job.functions), unit
    )
    merger.keep(results)
    bad = [r for r in results if r.error is not None]

    def check() -> None:
        if job.run in given_up:
            raise StoreError("the run was interrupted twice: this was not committed")

    try:
        snapshot = merger.commit(
            partial(commit_message, how=job.how),
            lambda kept: commit_metadata(spec, kept, job.run, merger.n_new(kept), job.how),
            check,
        )
    except StoreError as e:
        kept = {r.slot for r in merger.kept}
        return bad + [failed(p, str(e), by_store=True) for p in plans if p.slot in kept]
    return [*bad, *(replace(r, snapshot=snapshot) for r in merger.committed), *merger.lost]


def units_of(tasks: Iterable[Task], size: int) -> Iterator[Unit]:
    """Tasks in runs of ``size``: what one worker does between two commits."""
    return batched(tasks, size)
