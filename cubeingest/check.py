"""Is a cube sound? Its ledger against its chunks, its arrays and coordinates against its spec, and what lies about it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.create import layout_of, write_template
from cubeingest.engine import EachSlot, Options, Progress, SlotResult, interrupts, open_pool
from cubeingest.ingest import current_ids
from cubeingest.ledger import DONE, EMPTY, NOTHING, VIRTUAL, Slot, read_records, read_states, read_virtual
from cubeingest.mosaic import size_of
from cubeingest.overviews import CellJob, Stage, base_name, check_cell, check_tasks, find_pyramid, write_pyramid
from cubeingest.plan import Plan, SlotPlan, Task, slot_labels
from cubeingest.spec import CELL_IDS, INTERNAL_GROUP, OVERVIEWS, CubeSpec, Variable, storage_of
from cubeingest.store import (
    ALLOWED_VARIABLE,
    MAIN,
    OWN_BRANCHES,
    Store,
    closed_to_this_user,
    declared,
    is_ancestor,
    is_split,
    read_runs,
)
from cubeingest.verify import VerifyJob, check_slot
from cubeingest.wording import counted

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt

REDO = "ingest it again: `cubeingest ingest --redo {where}`"
OVERVIEWS_AGAIN = "make them again: `cubeingest overviews`"
OVERVIEWS_ANEW = (
    "take the overviews away and make them again: `cubeingest overviews --levels 0`, `cubeingest overviews`"
)
REDO_IN_PYTHON = "compute it again: Cube.ingest(source=f, redo=True, ...) with its region, axes and variable"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, and what to do about it. ``slot`` is None for what concerns the whole cube."""

    kind: str
    message: str
    remedy: str
    slot: Slot | None = None

    def to_json(self, spec: CubeSpec) -> dict[str, Any]:
        where: dict[str, Any] = {}
        if self.slot is not None:
            where = {
                "region": spec.grid.region_id(self.slot.iy, self.slot.ix),
                "axes": slot_labels(spec, self.slot),
                "variable": self.slot.variable,
            }
        return {"kind": self.kind, **where, "message": self.message, "remedy": self.remedy}


@dataclass
class CheckReport:
    """``slots`` and ``chunks`` say how much was looked at; a cube without ``findings`` is sound, unless ``signum`` says that
    the reading was interrupted: then it is not known.
    """

    store: str
    snapshot: str
    deep: bool
    slots: int = 0
    chunks: int = 0
    findings: list[Finding] = field(default_factory=list)
    signum: int | None = None

    def to_json(self, spec: CubeSpec) -> dict[str, Any]:
        return {
            "store": self.store, "snapshot": self.snapshot, "sound": None if self.signum else not self.findings, "deep": self.deep,
            "slots": self.slots, "chunks": self.chunks, "findings": [f.to_json(spec) for f in self.findings],
        }  # fmt: skip

    @property
    def exit_code(self) -> int:
        if self.signum is not None:
            return 128 + self.signum
        return 1 if self.findings else 0


def check(
    store: Store, deep: bool, options: Options, on_progress: Callable[[Progress], None] = lambda _: None
) -> CheckReport:
    """Check a cube. No pixel is read, chunks are only listed; with ``deep`` every slot is read and compared with its record."""
    snapshot = store.tip
    store = store.on(store.branch, snapshot)
    spec, session = store.spec, store.readonly()
    report = CheckReport(store.uri, snapshot, deep)
    report.findings += _arrays(session, spec)
    report.findings += _repository(store)
    states = read_states(session, spec)
    report.findings += _references(store, session)
    for v in spec.variables:
        counts, outside = count_chunks(session, spec, v)
        report.chunks += int(counts.sum()) + outside
        report.slots += int(np.count_nonzero(states[v.name] != NOTHING))
        report.findings += _ledger(store, v, states[v.name], counts)
        if outside:
            report.findings.append(
                Finding(
                    "unowned",
                    f"{v.name} has {counted(outside, 'chunk')} outside its grid, in no region",
                    "something else wrote them: readers of the cube do not see them",
                )
            )
    if deep:
        _check_pixels(store, session, states, options, report, on_progress)
    return report


# ---- ledger and chunks ----------------------------------------------------------------------------------------


def count_chunks(session: icechunk.Session, spec: CubeSpec, v: Variable) -> tuple[npt.NDArray[np.int64], int]:
    """How many chunks (shards, where there are shards) each slot of a variable has, and how many lie in no slot."""
    from zarr.core.sync import sync

    shape = spec.slot_shape(v)
    counts = np.zeros(int(np.prod(shape)), np.int64)
    spans = [*(a.block for a in spec.axes_of(v)), *spec.grid.region_shape]
    missing = len(shape) - len(spans)  # one row of regions is no dimension of the array
    outside = 0

    async def collect() -> None:
        nonlocal outside
        async for batch in session.store.array_chunk_iterator(f"/{v.name}"):
            index = batch[0].astype(np.int64) * v.write_shape // spans
            index = np.insert(index, [len(v.axes)] * missing, 0, axis=1)
            inside = (index < shape).all(axis=1)
            outside += int(np.count_nonzero(~inside))
            counts[:] += np.bincount(np.ravel_multi_index(tuple(index[inside].T), shape), minlength=counts.size)

    sync(collect())
    return counts.reshape(shape), outside


def _ledger(
    store: Store, v: Variable, states: npt.NDArray[np.uint8], counts: npt.NDArray[np.int64]
) -> Iterator[Finding]:
    wrong = (
        ("lost", (states == DONE) & (counts == 0), "is recorded as done, but none of its chunks is there"),
        ("unrecorded", (states == NOTHING) & (counts > 0), "has chunks that no record speaks of"),
        ("not-empty", (states == EMPTY) & (counts > 0), "is recorded as empty, but has chunks"),
    )
    for kind, where, what in wrong:
        for index in np.argwhere(where).tolist():
            slot = Slot(v.name, tuple(index[:-2]), index[-2], index[-1])
            yield _of_slot(store, kind, slot, what)


def _of_slot(store: Store, kind: str, slot: Slot, what: str) -> Finding:
    spec = store.spec
    labels, region = slot_labels(spec, slot), spec.grid.region_id(slot.iy, slot.ix)
    branch = [] if store.branch == MAIN else [f"--branch {store.branch}"]
    axes = [f"--{a} {label}" for a, label in labels.items()]
    where = " ".join([*branch, f"--region {region}", *axes, f"--variable {slot.variable}"])
    name = " ".join([region, *labels.values(), slot.variable])
    remedy = REDO_IN_PYTHON if spec.variable(slot.variable).source is None else REDO.format(where=where)
    return Finding(kind, f"{name} {what}", remedy, slot)


# ---- arrays, coordinates, repository --------------------------------------------------------------------------


def _arrays(session: icechunk.Session, spec: CubeSpec) -> Iterator[Finding]:
    """The cube's arrays against those that ``init`` would make of its spec; attributes may have been added."""
    import zarr

    fresh = zarr.storage.MemoryStore()
    write_template(fresh, spec, "")
    pyramid = find_pyramid(session, spec)
    if pyramid is not None:
        write_pyramid(fresh, pyramid)
    wanted, there = zarr.open_group(fresh, mode="r"), zarr.open_group(session.store, mode="r")
    coordinates = (*spec.grid.dims, CELL_IDS)
    for path, array in sorted(dict(wanted.members(max_depth=None)).items()):
        if not isinstance(array, zarr.Array):
            continue
        is_coordinate = path.rpartition("/")[2] in coordinates
        kind = "coordinate" if is_coordinate else "ledger" if path.startswith(INTERNAL_GROUP) else "layout"
        if path not in there and path.endswith(f"/{VIRTUAL}"):
            continue  # a cube of an earlier version, which has no references
        of_overviews = f"/{OVERVIEWS}/" in f"/{path}"
        if path not in there or not isinstance(own := there[path], zarr.Array):
            lost = OVERVIEWS_AGAIN if of_overviews else "the cube is damaged: go back to a snapshot that has it"
            yield Finding(kind, f"the array {path!r} is missing", lost)
            continue
        differing = sorted(k for k, v in layout_of(array).items() if layout_of(own).get(k) != v)
        if differing:
            what = ", ".join(f"{k} {layout_of(own).get(k)!r} (by the spec {layout_of(array)[k]!r})" for k in differing)
            remedy = OVERVIEWS_ANEW if of_overviews else "something else changed it: go back to a snapshot before that"
            yield Finding(kind, f"the array {path!r} has {what}", remedy)
        elif is_coordinate and not np.array_equal(np.asarray(own[...]), np.asarray(array[...])):
            remedy = OVERVIEWS_ANEW if of_overviews else "go back to a snapshot where it is"
            yield Finding(kind, f"the coordinate {path!r} is not what the grid says", remedy)


def _repository(store: Store) -> Iterator[Finding]:
    if not is_split(store):
        yield Finding(
            "splitting",
            "the chunk index is not split as suits the spec, so commits get slower as the cube fills",
            "run `cubeingest init GRID.yaml --update` with the cube's spec",
        )
    for run in read_runs(store):
        if not run.is_alive:
            yield Finding(
                "dead-run", f"{run.what} by {run} was killed and left what it wrote", "remove that with `cubeingest gc`"
            )
    main = store.repo.lookup_branch(MAIN)
    for name in sorted(store.repo.list_branches()):
        if name == MAIN or name.startswith(OWN_BRANCHES):
            continue
        tip = store.repo.lookup_branch(name)
        if not is_ancestor(store, main, tip) and not is_ancestor(store, tip, main):
            yield Finding(
                "branch",
                f"branch {name!r} has left main and cannot be published; it keeps what only it holds",
                f"`cubeingest publish {name} --discard` gives it up",
            )


# ---- references -----------------------------------------------------------------------------------------------


def _references(store: Store, session: icechunk.Session) -> Iterator[Finding]:
    """Slots that refer to tiles which are gone, or others by now."""
    spec = store.spec
    if not declared(store.repo):
        return
    virtual = read_virtual(session, spec)
    slots = [Slot(v, tuple(i[:-2]), i[-2], i[-1]) for v, where in virtual.items() for i in np.argwhere(where).tolist()]
    if slots and (closed := closed_to_this_user(store.repo)):
        yield Finding(
            "access",
            f"references into {', '.join(closed)} cannot be read: this user has not let the cube do so",
            f'export {ALLOWED_VARIABLE}="{" ".join(closed)}"',
        )
    records = read_records(session, slots)
    wanted = ((s.href, storage_of(spec.variable(slot.variable))) for slot, r in records.items() for s in r.sources)
    now = current_ids(wanted)
    for slot, record in records.items():
        if record.how != VIRTUAL:
            yield _of_slot(store, "record", slot, "is marked as references to tiles, but its record says otherwise")
        for source in record.sources:
            if now[source.href] != source:
                what = "is not there, or cannot be asked" if now[source.href] is None else "is another by now"
                yield _of_slot(store, "reference", slot, f"refers to {source.href!r}, which {what}")


# ---- pixels ---------------------------------------------------------------------------------------------------


def _check_pixels(
    store: Store,
    session: icechunk.Session,
    states: dict[str, npt.NDArray[np.uint8]],
    options: Options,
    report: CheckReport,
    on_progress: Callable[[Progress], None],
) -> None:
    spec = store.spec
    index = {v: np.argwhere(s != NOTHING).tolist() for v, s in states.items()}
    known = {finding.slot for finding in report.findings}
    slots = [Slot(v, tuple(i[:-2]), i[-2], i[-1]) for v, found in index.items() for i in found]
    slots = [slot for slot in slots if slot not in known]
    records = read_records(session, slots)
    report.findings += [
        _of_slot(store, "record", slot, "has a record that cannot be read") for slot in slots if slot not in records
    ]
    if closed_to_this_user(store.repo):  # which is said once
        records = {slot: r for slot, r in records.items() if r.how != VIRTUAL}
    plans = [SlotPlan(slot, (), before=records[slot]) for slot in slots if slot in records]
    tasks = [Task((), p.slot.block, p.slot.iy, p.slot.ix, (p,)) for p in plans]
    work = size_of(spec, Plan(tuple(tasks), ()))
    pyramid = find_pyramid(session, spec)
    cells = [] if pyramid is None else [(stage, list(check_tasks(session, stage))) for stage in pyramid.stages]
    n_pixels = sum(pixels for pixels, _ in work)
    total = Progress(len(plans) + sum(len(found) for _, found in cells), n_pixels * (4 if cells else 3) // 3)
    on_progress(total)
    packed = pickle.dumps(session)
    with (
        interrupts() as stop,
        open_pool(options.workers, options.scheduler, len(tasks), sum(n for _, n in work)) as pool,
    ):
        pool.prove(store, writes=False)
        for results in pool.run(EachSlot(check_slot), VerifyJob(spec, packed), [(t,) for t in tasks], stop):
            for result in results:
                on_progress(Progress(total.n_slots, total.n_pixels, result))
                if result.error is not None:
                    report.findings.append(
                        _of_slot(store, "unreadable", result.slot, f"cannot be read: {result.error}")
                    )
                elif result.state == "different":
                    what = "holds other pixels than its record says"
                    report.findings.append(_of_slot(store, "changed", result.slot, what))
        for stage, found in cells:
            assert pyramid is not None
            job = CellJob(pyramid, stage.number, packed, "", "")
            for results in pool.run(EachSlot(check_cell), job, [(t,) for t in found], stop):
                for result in results:
                    on_progress(Progress(total.n_slots, total.n_pixels, result))
                    if result.error is not None or result.state == "different":
                        report.findings.append(_of_cell(stage, result))
        report.signum = stop.signum


def _of_cell(stage: Stage, result: SlotResult) -> Finding:
    name, region = base_name(result.slot.variable), stage.spec.grid.region_id(result.slot.iy, result.slot.ix)
    where = " ".join([name, *slot_labels(stage.spec, result.slot).values(), f"cell {region}"])
    what = f"cannot be read: {result.error}" if result.error else "hold other pixels than was recorded"
    message = f"overviews {stage.first} to {stage.last} of {where} {what}"
    return Finding("overview", message, f"make them again: `cubeingest overviews --redo --variable {name}`")
