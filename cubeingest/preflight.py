"""What an ingest would do and what would go wrong, found from headers before anything is written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cubeingest.catalog import REQUESTS_AT_ONCE
from cubeingest.errors import CubeIngestError
from cubeingest.ingest import Prepared, prepare
from cubeingest.mosaic import size_of, slot_shape
from cubeingest.plan import Selection, SlotPlan
from cubeingest.remote import FETCH_BYTES
from cubeingest.spec import CubeSpec
from cubeingest.storage import is_remote, public_href
from cubeingest.store import Store
from cubeingest.tile import place, read_header, storage_of

WORKER_BYTES = 150 * 2**20
"""Memory of a worker that has only imported what it needs (measured)."""


@dataclass(frozen=True)
class Problem:
    """One finding. ``kind`` is ``misfit`` (a tile that would fail), ``overlap`` or ``gap``."""

    kind: str
    region: str | None
    href: str
    message: str

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "region": self.region, "href": self.href, "message": self.message}


@dataclass(frozen=True)
class PlanReport:
    """Tasks that an ingest would run, pixel bytes it would fill, bytes a worker would need, and what is wrong."""

    tasks: int
    slots: int
    skipped: int
    bytes: int
    memory_per_worker: int
    problems: tuple[Problem, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "tasks": self.tasks, "slots": self.slots, "skipped": self.skipped, "bytes": self.bytes,
            "memory_per_worker": self.memory_per_worker, "problems": [p.to_json() for p in self.problems],
        }  # fmt: skip


def preflight(store: Store, selection: Selection, redo: bool = False) -> PlanReport:
    """Plan an ingest and read the header of every tile in it. Writes nothing.

    Raises :class:`CubeIngestError` for what would stop the ingest at once.
    """
    store = store.on(store.branch, store.tip)  # spec and ledger of one snapshot
    spec = store.spec
    prepared = prepare(store, selection, redo)
    plans = [p for task in prepared.plan.tasks for p in task.slots]
    problems = [Problem("misfit", None, public_href(m.href), m.message) for m in prepared.catalog.misplaced]
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        for found in pool.map(lambda p: _problems(spec, p), plans):
            problems += found
    work = size_of(spec, prepared.plan)
    return PlanReport(
        tasks=len(prepared.plan.tasks), slots=len(plans), skipped=len(prepared.plan.skipped), bytes=sum(n for _, n in work),
        memory_per_worker=_memory(spec, prepared), problems=tuple(problems),
    )  # fmt: skip


def _problems(spec: CubeSpec, plan: SlotPlan) -> list[Problem]:
    """Misfits of a slot's tiles; overlaps among them, and pixels of the region that none covers."""
    variable = spec.variable(plan.slot.variable)
    region = spec.grid.region_id(plan.slot.iy, plan.slot.ix)
    out: list[Problem] = []
    windows: dict[tuple[int, ...], list[tuple[str, Any]]] = {}
    for tile in plan.tiles:
        try:
            placement = place(
                read_header(tile.href, storage_of(variable)), spec.grid, variable, tile.band, tile.expected
            )
        except CubeIngestError as e:
            out.append(Problem("misfit", region, public_href(tile.href), str(e)))
            continue
        windows.setdefault(tile.position, []).append((tile.href, placement.window))
    y, x = spec.grid.slices(plan.slot.iy, plan.slot.ix)
    for placed in windows.values():
        covered = 0
        for i, (href, window) in enumerate(placed):
            covered += _area(window, (y, x))
            for other, earlier in placed[:i]:
                shared = _area(window, (y, x), earlier)
                if shared:
                    message = f"shares {shared} pixels with {public_href(other)!r}, which comes first and wins"
                    out.append(Problem("overlap", region, public_href(href), message))
                    covered -= shared
        gap = (y.stop - y.start) * (x.stop - x.start) - covered
        if gap > 0 and not any(p.kind == "misfit" for p in out):
            out.append(
                Problem(
                    "gap",
                    region,
                    public_href(placed[0][0]),
                    f"{gap} pixels of the region have no tile: they stay fill value",
                )
            )
    return out


def _area(*windows: Any) -> int:
    area = 1
    for dim in (0, 1):
        area *= max(0, min(w[dim].stop for w in windows) - max(w[dim].start for w in windows))
    return area


def _memory(spec: CubeSpec, prepared: Prepared) -> int:
    """Two windows of the largest slot, what is kept of a row of blocks, and the worker itself.

    Of remote tiles two slots are at work at once, and ranges are in flight.
    """
    largest = 0
    remote = False
    for task in prepared.plan.tasks:
        for plan in task.slots:
            variable = spec.variable(plan.slot.variable)
            remote = remote or any(is_remote(tile.href) for tile in plan.tiles)
            shape = slot_shape(spec, variable, plan)
            rows = shape.y.stop - shape.y.start
            row_bytes = shape.n_pixels // rows * variable.np_dtype.itemsize
            largest = max(largest, min(rows, shape.window_rows) * row_bytes)
    return WORKER_BYTES + (2 * (3 * largest + FETCH_BYTES) if remote else 3 * largest)
