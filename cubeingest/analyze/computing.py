"""A reduction about to run on one snapshot: its parts, what of its input is missing, its results as they are ready, and what is said of them."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cubeingest.analyze.parts import (
    Gaps,
    PartJob,
    PartPlan,
    Where,
    find_where,
    n_pixels,
    part_pixels,
    pixels_of,
    plan_parts,
    read_filled,
    run_parts,
    unfilled_windows,
)
from cubeingest.analyze.reduction import Reduction, compute_window
from cubeingest.engine import Options, Progress, SlotResult
from cubeingest.grid import CELLS
from cubeingest.selection import Selection
from cubeingest.spec import CubeSpec
from cubeingest.store import Store

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ReduceJob:
    """What a worker needs besides a part."""

    part: PartJob
    reduction: Reduction


def reduce_part(job: ReduceJob, plan: PartPlan) -> SlotResult:
    """The result of one part, in ``detail``: (rest axes..., y, x)."""
    found = compute_window(job.part.reader(), job.reduction, dict(plan.index), plan.y, plan.x)
    return SlotResult(plan.slot, "", "done", n_pixels=pixels_of(plan), detail=(plan, found))


@dataclass(frozen=True)
class Bands:
    """The bands of a result: one for each set of values of the axes that are left, in order."""

    labels: tuple[dict[str, str], ...]
    places: Mapping[tuple[tuple[str, int], ...], int]

    def at(self, plan: PartPlan, rest: Sequence[str]) -> list[int]:
        """Bands that a part's result holds, in its order."""
        index = dict(plan.index)
        return [
            self.places[tuple(zip(rest, positions, strict=True))]
            for positions in itertools.product(*(index[a] for a in rest))
        ]


def _bands(spec: CubeSpec, reduction: Reduction) -> Bands:
    labels, places = [], {}
    rest = reduction.rest
    for n, positions in enumerate(itertools.product(*(reduction.quantity.positions[a] for a in rest))):
        labels.append({a: spec.grid.axis(a).labels[i] for a, i in zip(rest, positions, strict=True)})
        places[tuple(zip(rest, positions, strict=True))] = n
    return Bands(tuple(labels), places)


@dataclass
class ReduceReport:
    """What was computed, and what of it was not there."""

    reduction: Reduction
    snapshot: str
    window: tuple[slice, slice]
    gaps: Gaps
    pixels: int = 0
    missing: int = 0
    is_cells: bool = False
    output: str = ""
    bands: tuple[dict[str, str], ...] = ()
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        y, x = ([s.start, s.stop] for s in self.window)
        r = self.reduction
        return {
            "method": r.method, "of": r.quantity.text, "over": list(r.over), "snapshot": self.snapshot,
            "window": {CELLS: x} if self.is_cells else {"y": y, "x": x}, "dtype": r.dtype.name, "fill_value": _plain(r.fill),
            "ddof": 0 if r.method == "std" else None, "bands": list(self.bands), "pixels": self.pixels, "missing": self.missing,
            "gaps": self.gaps.to_json(), "output": self.output, "warnings": self.warnings,
        }  # fmt: skip


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


@dataclass(frozen=True)
class Computing:
    """A reduction that is about to run on one snapshot: parts, and what is missing."""

    store: Store
    reduction: Reduction
    where: Where
    bands: Bands
    parts: tuple[PartPlan, ...]
    gaps: Gaps
    job: ReduceJob
    unfilled: int
    """Pixels of regions in which there is nothing, and which no part is of."""


def plan_reduction(store: Store, selection: Selection, reduction: Reduction) -> Computing:
    """Parts of a reduction, and what of its input is missing. Reads only the ledger."""
    store = store.on(store.branch, store.tip)  # spec and pixels of one snapshot
    spec, quantity = store.spec, reduction.quantity
    where = find_where(spec, selection)
    session = store.readonly()
    filled = read_filled(session, spec, quantity)
    parts = plan_parts(
        spec,
        quantity,
        where,
        reduction.over,
        part_pixels(spec, quantity, reduction.over, reduction.method),
        filled.regions(quantity),
    )
    job = ReduceJob(PartJob(spec, quantity, pickle.dumps(session)), reduction)
    gaps = filled.gaps(quantity, where)
    empty = unfilled_windows(spec, where, filled.regions(quantity))
    unfilled = sum((y.stop - y.start) * (x.stop - x.start) for y, x in empty)
    return Computing(store, reduction, where, _bands(spec, reduction), tuple(parts), gaps, job, unfilled)


def results_of(
    computing: Computing, options: Options, on_progress: Callable[[Progress], None]
) -> Iterator[tuple[list[int], PartPlan, Array]]:
    """(bands, part, (band, y, x)) of each part, as they are ready."""
    reduction, spec = computing.reduction, computing.store.spec
    size = 8 if reduction.quantity.is_expression else spec.variable(reduction.quantity.text).np_dtype.itemsize
    n_bytes = n_pixels(computing.parts) * size * max(1, len(reduction.quantity.columns))
    for result in run_parts(
        computing.store, reduce_part, computing.job, computing.parts, n_bytes, options, on_progress
    ):
        plan, found = result.detail
        yield computing.bands.at(plan, reduction.rest), plan, found.reshape(-1, *found.shape[-2:])


def is_missing(found: Array, reduction: Reduction) -> Array:
    """Where a result has no value."""
    missing: Array = found == reduction.fill
    return missing | np.isnan(found) if found.dtype.kind == "f" else missing


def count_values(report: ReduceReport, reduction: Reduction, found: Array) -> None:
    """Take a part of a result into the report's counts."""
    report.pixels += found.size
    report.missing += int(np.count_nonzero(is_missing(found, reduction)))
