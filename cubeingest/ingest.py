"""Fill regions from their tiles, and account for every slot."""

from __future__ import annotations

import pickle
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from cubeingest.catalog import REQUESTS_AT_ONCE, Catalog, read_catalog
from cubeingest.engine import (
    KEPT_BYTES,
    Interrupts,
    Merger,
    Options,
    Progress,
    SlotResult,
    interrupts,
    open_pool,
    timestamp,
)
from cubeingest.errors import CubeIngestError, StoreError, TileError
from cubeingest.ledger import NOTHING, Record, Slot, read_records, read_states, write_record
from cubeingest.mosaic import read_ahead, size_of, slot_shape, source_ids
from cubeingest.plan import (
    Chosen,
    Plan,
    Selection,
    SlotPlan,
    Task,
    choose,
    hrefs_of,
    labels_of,
    make_plan,
    reading_of,
    slot_labels,
    slots_of,
    tiles_by_slot,
)
from cubeingest.spec import CubeSpec
from cubeingest.store import Store
from cubeingest.tile import SourceId, public_href, source_id
from cubeingest.writer import all_fill, open_writer

REGIONS_IN_METADATA = 8
"""Region ids named in a commit's metadata, which is copied with every later commit; the ledger has them all."""


@dataclass(frozen=True)
class IngestJob:
    """What a worker needs besides its task. ``fork`` is the coordinator's session, pickled."""

    spec: CubeSpec
    fork: bytes
    run: str


def fill_slot(job: IngestJob, task: Task, plan: SlotPlan) -> SlotResult:
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


# ---- the run --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    """A slot, or a tile that belongs to no slot (region None), that could not be ingested."""

    region: str | None
    axes: Mapping[str, str]
    variable: str
    href: str
    error: str

    def to_json(self) -> dict[str, Any]:
        return {
            "region": self.region,
            "axes": dict(self.axes),
            "variable": self.variable,
            "href": self.href,
            "error": self.error,
        }


@dataclass
class IngestReport:
    """What a run did, in slots: planned = written + empty + skipped + len(failed)."""

    store: str
    mode: str
    snapshot: str | None = None
    planned: int = 0
    written: int = 0
    empty: int = 0
    skipped: int = 0
    failed: list[Failure] = field(default_factory=list)
    bytes: int = 0
    seconds: float = 0.0
    signum: int | None = None
    aborted: bool = False
    error: str | None = None
    unfinished: int = 0

    def to_json(self) -> dict[str, Any]:
        out = {
            "store": self.store, "mode": self.mode, "snapshot": self.snapshot, "planned": self.planned, "written": self.written,
            "empty": self.empty, "skipped": self.skipped, "failed": [f.to_json() for f in self.failed], "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
        }  # fmt: skip
        if self.error:
            out["error"] = self.error
        if self.unfinished:
            out |= {
                "unfinished": self.unfinished,
                "interrupted": signal.Signals(self.signum).name if self.signum else None,
            }
        return out

    @property
    def exit_code(self) -> int:
        """The command line's: 0 done, 1 some failed, 2 aborted with nothing written, 130 or 143 interrupted."""
        if self.signum is not None:
            return 128 + self.signum
        if self.aborted and self.snapshot is None:
            return 2
        return 1 if self.failed or self.aborted else 0


@dataclass(frozen=True)
class Prepared:
    """A plan and what it rests on."""

    chosen: Chosen
    catalog: Catalog
    plan: Plan
    records: Mapping[Slot, Record]
    expected: Mapping[str, Mapping[tuple[int, ...], Any]]


def prepare(store: Store, selection: Selection, redo: bool = False) -> Prepared:
    """Read catalog and ledger, ask the sources of done slots whether they changed, and plan. Writes nothing."""
    spec = store.spec
    chosen = choose(spec, selection)
    catalog = read_catalog(spec, chosen.positions, [v.name for v in chosen.variables])
    tiles = tiles_by_slot(spec, chosen, catalog)
    session = store.readonly()
    states = read_states(session, spec)
    held = {s for s in tiles if states[s.variable][s.index] != NOTHING}
    records = read_records(session, sorted(held))
    current = {} if redo else current_ids(h for slot in records for h in hrefs_of(tiles[slot]))
    plan = make_plan(spec, tiles, records, current, selection, redo, held)
    return Prepared(chosen, catalog, plan, records, expected_slots(spec, chosen, catalog))


def current_ids(hrefs: Iterable[str]) -> dict[str, SourceId | None]:
    """Identity of each source as it is now; None for one that cannot be asked."""

    def ask(href: str) -> SourceId | None:
        try:
            return source_id(href)
        except (OSError, CubeIngestError):
            return None

    wanted = list(dict.fromkeys(hrefs))
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return dict(zip(wanted, pool.map(ask, wanted), strict=True))


def expected_slots(spec: CubeSpec, chosen: Chosen, catalog: Catalog) -> dict[str, dict[tuple[int, ...], Any]]:
    """For each axis block that the catalog was read for: where it has a tile, as (region rows, region columns)."""
    out: dict[str, dict[tuple[int, ...], Any]] = {}
    everywhere = Chosen(chosen.positions, None, chosen.variables)
    lattice = spec.grid.lattice_shape_yx
    for v in chosen.variables:
        if v.source is not None:
            out[v.name] = {}
    for slot in slots_of(spec, Chosen(chosen.positions, frozenset({(0, 0)}), chosen.variables)):
        if slot.variable in out:
            out[slot.variable][slot.block] = np.zeros(lattice, bool)
    for slot in tiles_by_slot(spec, everywhere, catalog):
        out[slot.variable][slot.block][slot.iy, slot.ix] = True
    return out


def ingest(
    store: Store, selection: Selection, options: Options, on_progress: Callable[[Progress], None] = lambda _: None
) -> IngestReport:
    """Ingest what is selected and not done, cooperatively: workers write into forks, one commit holds it all.

    Raises :class:`CubeIngestError` for what is wrong before any work; a tile that fails is in the report.
    """
    started = time.monotonic()
    spec = store.spec
    prepared = prepare(store, selection, options.redo)
    plan, run = prepared.plan, uuid.uuid4().hex[:12]
    report = IngestReport(store.uri, "cooperative", skipped=len(plan.skipped))
    report.failed += [
        Failure(None, labels_of(spec, m.variable, m.position), m.variable, public_href(m.href), m.message)
        for m in prepared.catalog.misplaced
    ]
    report.planned = plan.n_slots + report.skipped + len(report.failed)
    merger = Merger(store, spec, prepared.records, prepared.expected)
    report.aborted = options.on_error == "abort" and bool(report.failed)
    if not report.aborted:
        with interrupts() as stop:
            commit = partial(_commit, merger, spec, run, report, stop)
            try:
                _work(store, plan, run, options, merger, report, on_progress, stop, commit)
            except StoreError as e:
                _stop_after_commit(report, e)
            except Exception:
                if options.on_error == "keep" and merger.kept:
                    commit()  # what was finished before is not lost with the rest
                raise
            try:
                if not report.aborted:
                    commit()
            except StoreError as e:
                _stop_after_commit(report, e)
            report.signum = stop.signum
    report.unfinished = report.planned - report.written - report.empty - report.skipped - len(report.failed)
    report.seconds = time.monotonic() - started
    return report


def _work(
    store: Store,
    plan: Plan,
    run: str,
    options: Options,
    merger: Merger,
    report: IngestReport,
    on_progress: Callable[[Progress], None],
    stop: Interrupts,
    commit: Callable[[], None],
) -> None:
    spec = store.spec
    if not plan.tasks:
        return
    work = size_of(spec, plan)
    total = Progress(plan.n_slots, sum(pixels for pixels, _ in work))
    on_progress(total)
    job = IngestJob(spec, pickle.dumps(store.writable().fork()), run)
    with open_pool(options.workers, options.scheduler, len(plan.tasks), sum(n for _, n in work)) as pool:
        pool.prove(store)
        since_commit = 0
        for _, results in pool.run(fill_slot, job, plan.tasks, stop):
            since_commit += 1
            merger.keep(results)
            for result in results:
                if result.error is not None:
                    report.failed.append(_failure(spec, result))
                on_progress(Progress(total.n_slots, total.n_pixels, result))
            if options.on_error == "abort" and report.failed:
                report.aborted = True
                break
            if since_commit == options.commit_every or merger.kept_bytes > KEPT_BYTES:
                commit()
                since_commit = 0


def _stop_after_commit(report: IngestReport, error: StoreError) -> None:
    """A store that fails after something was committed ends the run with a report of that; before, it is an error."""
    if report.snapshot is None:
        raise error
    report.aborted, report.error = True, str(error)


def _commit(merger: Merger, spec: CubeSpec, run: str, report: IngestReport, stop: Interrupts) -> None:
    before = len(merger.committed), len(merger.lost)
    snapshot = merger.commit(_message, lambda kept: _metadata(spec, kept, run), stop.check_again)
    report.snapshot = snapshot or report.snapshot
    for result in merger.committed[before[0] :]:
        report.written += result.state == "done"
        report.empty += result.state == "empty"
        report.bytes += result.n_bytes
    report.skipped += len(merger.lost) - before[1]


def _message(results: list[SlotResult]) -> str:
    return f"ingest {len(results)} slots" if results else "read the catalog"


def _metadata(spec: CubeSpec, results: list[SlotResult], run: str) -> dict[str, Any]:
    """Short: it is rewritten with every later commit. Which slot came from which run, the ledger says."""
    from cubeingest import __version__

    regions = sorted({(r.slot.iy, r.slot.ix) for r in results})
    axes: dict[str, set[str]] = {}
    for result in results:
        for name, label in slot_labels(spec, result.slot).items():
            axes.setdefault(name, set()).add(label)
    return {
        "cubeingest": __version__,
        "action": "ingest" if results else "catalog",
        "run": run,
        "written": sum(r.state == "done" for r in results),
        "empty": sum(r.state == "empty" for r in results),
        "variables": sorted({r.slot.variable for r in results}),
        "axes": {name: sorted(labels)[:REGIONS_IN_METADATA] for name, labels in axes.items()},
        "n_regions": len(regions),
        "regions": [spec.grid.region_id(*p) for p in regions[:REGIONS_IN_METADATA]],
    }


def _failure(spec: CubeSpec, result: SlotResult) -> Failure:
    slot = result.slot
    assert result.error is not None
    return Failure(
        spec.grid.region_id(slot.iy, slot.ix),
        slot_labels(spec, slot),
        slot.variable,
        public_href(result.href),
        result.error,
    )
