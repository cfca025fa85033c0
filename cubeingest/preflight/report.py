"""The preflight as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cubeingest.engine import Options, default_workers
from cubeingest.ingest import POINTS_AT_ONCE, current_ids, points_in, prepare
from cubeingest.mosaic import size_of, slot_shape
from cubeingest.plan import Plan, SlotPlan
from cubeingest.points import MEMORY_BYTES
from cubeingest.preflight.absent import find_absent
from cubeingest.preflight.blocks import BlocksReport, find_blocks
from cubeingest.preflight.cover import find_problems
from cubeingest.preflight.headers import Problem, find_mixed, read_headers
from cubeingest.preflight.sample import measure_rate
from cubeingest.remote import FETCH_BYTES
from cubeingest.selection import Selection
from cubeingest.spec import CubeSpec, storage_of
from cubeingest.storage import Storage, is_remote, public_href
from cubeingest.store import Store
from cubeingest.writer import PUT_BYTES

WORKER_BYTES = 150 * 2**20
"""Memory of a worker that has only imported what it needs (measured)."""

WARP_BYTES = 192 * 2**20
"""What GDAL's warper takes for itself by default, and the part of the source that it has at hand."""


@dataclass(frozen=True)
class PlanReport:
    """What an ingest would do, and what is wrong.

    ``bytes`` are those of the pixels that it would fill, ``bytes_to_read`` those of the tiles' files as they lie (None if not
    asked), ``absent`` the slots chosen that have neither tile nor pixels, ``unlisted`` those with pixels of tiles that the catalog has no more (they stay
    as they are). ``seconds`` is the time that ``workers`` processes of this machine would take by
    a measured sample of reading and encoding (None if not measured), without the store's own time. ``blocks`` says for how many slots
    there is nothing to decode (None without headers).
    """

    tasks: int
    slots: int
    skipped: int
    absent: int
    unlisted: int
    tiles: int
    bytes: int
    bytes_to_read: int | None
    memory_per_worker: int
    workers: int
    seconds: float | None
    headers_read: bool
    problems: tuple[Problem, ...]
    blocks: BlocksReport | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "tasks": self.tasks, "slots": self.slots, "skipped": self.skipped, "absent": self.absent, "unlisted": self.unlisted, "tiles": self.tiles,
            "bytes": self.bytes, "bytes_to_read": self.bytes_to_read, "memory_per_worker": self.memory_per_worker,
            "workers": self.workers, "seconds": None if self.seconds is None else round(self.seconds, 1),
            "headers_read": self.headers_read, "problems": [p.to_json() for p in self.problems],
            "blocks": None if self.blocks is None else self.blocks.to_json(),
        }  # fmt: skip


def preflight(store: Store, selection: Selection, redo: bool, headers: bool, options: Options) -> PlanReport:
    """Plan an ingest, prove that its tasks share no chunk, read the header of every tile in it, and measure a sample.

    Without ``headers`` no tile is opened: a plan of 100,000 tiles takes seconds then. Writes nothing.

    Raises :class:`CubeIngestError` for what would stop the ingest at once.
    """
    store = store.on(store.branch, store.tip)  # spec and ledger of one snapshot
    spec = store.spec
    prepared = prepare(store, selection, redo)
    plan = prepared.plan
    every = [p for task in plan.tasks for p in task.slots]
    plans = [p for p in every if spec.variable(p.slot.variable).aggregate is None]  # points have no headers
    problems = [Problem("misfit", None, public_href(m.href), m.message) for m in prepared.catalog.misplaced]
    problems += find_absent(spec, prepared.catalog)
    problems += [
        Problem("misfit", spec.grid.region_id(b.slot.iy, b.slot.ix), public_href(b.href), b.message)
        for b in prepared.blocked
    ]
    problems += [Problem("points", None, "", warning) for warning in prepared.catalog.warnings]
    rate = blocks = None
    if headers and plans:
        found = read_headers(spec, plans, prepared.catalog.headers)
        problems += find_mixed(spec, found)
        for slot in plans:
            problems += find_problems(spec, slot, found)
        rate = measure_rate(store, plans)
        blocks = find_blocks(spec, plans, found)
    work = size_of(spec, plan)
    count = options.workers or default_workers(len(plan.tasks), sum(n for _, n in work))
    hrefs = _hrefs(spec, every)
    return PlanReport(
        tasks=len(plan.tasks), slots=len(every), skipped=len(plan.skipped), absent=prepared.n_absent, unlisted=len(prepared.unlisted),
        tiles=len(hrefs),
        bytes=sum(n for _, n in work), bytes_to_read=_bytes_of(hrefs) if headers or not any(map(is_remote, hrefs)) else None,
        memory_per_worker=_memory(spec, plan), workers=count,
        seconds=sum(pixels for pixels, _ in work) / rate / min(count, max(1, len(plan.tasks))) if rate else None,
        headers_read=headers, problems=tuple(problems), blocks=blocks,
    )  # fmt: skip


def _hrefs(spec: CubeSpec, plans: Iterable[SlotPlan]) -> dict[str, Storage]:
    return {t.href: storage_of(spec.variable(p.slot.variable)) for p in plans for t in p.tiles}


def _bytes_of(hrefs: dict[str, Storage]) -> int:
    """Bytes of the files, as far as they are there."""
    return sum(found.size or 0 for found in current_ids(hrefs.items()).values() if found is not None)


def _memory(spec: CubeSpec, plan: Plan) -> int:
    """Two windows of the largest slot, what is kept of a row of blocks, chunks on their way to the store, and the worker itself.

    Of remote tiles two slots are at work at once, and ranges are in flight.
    """
    largest = 0
    remote = warps = False
    seen: set[tuple[str, tuple[int, ...]]] = set()
    for task in plan.tasks:
        size = tuple(s.stop - s.start for s in spec.grid.slices(task.iy, task.ix))
        for slot in task.slots:
            variable = spec.variable(slot.slot.variable)
            remote = remote or any(is_remote(tile.href) for tile in slot.tiles)
            if (variable.name, size) in seen:
                continue  # all that are of one size
            seen.add((variable.name, size))
            warps = warps or (variable.source is not None and variable.source.resampling is not None)
            shape = slot_shape(spec, variable, slot)
            rows = shape.y.stop - shape.y.start
            row_bytes = shape.n_pixels // rows * variable.np_dtype.itemsize
            largest = max(largest, min(rows, shape.window_rows) * row_bytes)
    one = 3 * largest + WARP_BYTES * warps
    points = max((points_in(task) for task in plan.tasks), default=0)
    if points:
        columns = len({name for v in spec.variables if v.aggregate is not None for name in v.aggregate.names})
        # Gathered, and put together; of two regions at a time.
        return WORKER_BYTES + PUT_BYTES + MEMORY_BYTES + 4 * min(points, POINTS_AT_ONCE) * 8 * (1 + columns) + one
    return WORKER_BYTES + PUT_BYTES + (2 * (one + FETCH_BYTES) if remote else one)
