"""Which class became which: a matrix of pixels and areas between two values of axes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cubeingest.analyze.areas import row_areas, says_how
from cubeingest.analyze.parts import (
    PART_PIXELS,
    Gaps,
    PartJob,
    PartPlan,
    find_where,
    n_pixels,
    pixels_of,
    plan_parts,
    read_filled,
    run_parts,
    unfilled_windows,
)
from cubeingest.analyze.quantity import Quantity, classes_of, find_quantity, is_missing
from cubeingest.analyze.tables import Rows
from cubeingest.engine import Options, Progress, SlotResult
from cubeingest.errors import GridError
from cubeingest.selection import Selection, find_positions
from cubeingest.spec import CubeSpec
from cubeingest.store import Store

MOST_CLASSES = 4096
"""Different values in one part, from which on they are no classes."""

Counts = dict[tuple[int, int], tuple[int, float]]
"""Pixels and km² by (class before, class after)."""


@dataclass(frozen=True)
class TransitionJob:
    """What a worker needs besides a part: positions by axis before, and after."""

    part: PartJob
    before: Mapping[str, tuple[int, ...]]
    after: Mapping[str, tuple[int, ...]]


def count_part(job: TransitionJob, plan: PartPlan) -> SlotResult:
    """Counts of one part, and what of it is missing in either (pixels, km²), in ``detail``."""
    reader = job.part.reader()
    spec = reader.spec
    variable = spec.variable(job.part.quantity.text)
    size = plan.y.stop - plan.y.start, plan.x.stop - plan.x.start
    before, after = (
        reader.read_raw(variable, p, plan.y, plan.x).reshape(size) for p in (job.before, job.after)
    )  # fmt: skip
    areas = row_areas(spec.tiling, plan.y)
    missing = is_missing(before, variable) | is_missing(after, variable)
    keys, classes = _keys(before, after)
    n = len(classes)
    if n > MOST_CLASSES:
        raise GridError(f"{variable.name!r} has more than {MOST_CLASSES} different values: it holds no classes")
    keys = np.where(missing, n * n, keys).ravel()
    pixels = np.bincount(keys, minlength=n * n + 1)
    weighed = np.bincount(keys, np.repeat(areas, size[1]), minlength=n * n + 1)
    found: Counts = {
        (int(classes[k // n]), int(classes[k % n])): (int(pixels[k]), float(weighed[k]))
        for k in np.flatnonzero(pixels[:-1]).tolist()
    }
    return SlotResult(plan.slot, "", "done", n_pixels=pixels_of(plan), detail=(found, int(pixels[-1]), float(weighed[-1])))  # fmt: skip


def _keys(
    before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(before, after) of each pixel as one number, and the classes whose positions it is made of."""
    if before.dtype.itemsize == 1:
        low = -128 if before.dtype.kind == "i" else 0
        classes = np.arange(low, low + 256)
        return (before.astype(np.int64) - low) * 256 + (after.astype(np.int64) - low), classes
    classes, at = np.unique(np.stack([before, after]), return_inverse=True)
    first, second = at.reshape(2, *before.shape)
    return first * len(classes) + second, classes


@dataclass
class TransitionReport:
    """Pixels and areas by (class before, class after). ``missing`` are pixels without a class in either, and their km²."""

    variable: str
    before: dict[str, str]
    after: dict[str, str]
    snapshot: str
    names: dict[int, str]
    gaps: Gaps
    note: str
    counts: Counts = field(default_factory=dict)
    missing: tuple[int, float] = (0, 0.0)

    @property
    def classes(self) -> list[int]:
        return sorted({c for pair in self.counts for c in pair})

    @property
    def changed(self) -> tuple[int, float]:
        """Pixels and km² whose class is another."""
        other = [v for (a, b), v in self.counts.items() if a != b]
        return sum(n for n, _ in other), sum(area for _, area in other)

    def name(self, value: int) -> str:
        return self.names.get(value, str(value))

    def rows(self) -> Rows:
        """One row for each pair of classes that there is."""
        pairs = sorted(self.counts)
        return {
            "from": [a for a, _ in pairs],
            "to": [b for _, b in pairs],
            "from_name": [self.name(a) for a, _ in pairs],
            "to_name": [self.name(b) for _, b in pairs],
            "pixels": [self.counts[p][0] for p in pairs],
            "area_km2": [self.counts[p][1] for p in pairs],
        }

    def to_json(self) -> dict[str, Any]:
        rows = self.rows()
        n, area = self.changed
        return {
            "variable": self.variable, "from": self.before, "to": self.after, "snapshot": self.snapshot,
            "transitions": [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)],
            "changed": {"pixels": n, "area_km2": area}, "missing": {"pixels": self.missing[0], "area_km2": self.missing[1]},
            "gaps": self.gaps.to_json(), "note": self.note,
        }  # fmt: skip


def count_transitions(
    store: Store,
    selection: Selection,
    before: Mapping[str, str],
    after: Mapping[str, str],
    options: Options,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> TransitionReport:
    """Count what became of each class between two values of axes (``{"year": "2000"}``), with true areas of pixels.

    Raises :class:`GridError` for a variable of no integers, for axes of which more than one value is left, and for what the cube does not have.
    """
    store = store.on(store.branch, store.tip)
    spec = store.spec
    quantity = find_quantity(spec, selection)
    variable = spec.variable(quantity.text)
    if variable.np_dtype.kind not in "iub":
        raise GridError(f"{variable.name!r} is {variable.dtype}: only whole numbers are classes")
    first, second = (_ends(spec, quantity, ends) for ends in (before, after))
    if first == second:
        raise GridError(f"from and to are the same ({_text(before)})")
    both = {a: tuple(sorted({*first[a], *second[a]})) for a in quantity.axes}
    quantity = replace(quantity, positions=both)
    where = find_where(spec, selection)
    session = store.readonly()
    filled = read_filled(session, spec, quantity)
    parts = list(plan_parts(spec, quantity, where, quantity.axes, PART_PIXELS, filled.regions(quantity)))
    job = TransitionJob(PartJob(spec, quantity, pickle.dumps(session)), first, second)
    labels = [{a: spec.tiling.axis(a).labels[p[0]] for a, p in ends.items()} for ends in (first, second)]
    gaps = filled.gaps(quantity, where)
    report = TransitionReport(
        variable.name, labels[0], labels[1], store.tip, classes_of(variable), gaps, says_how(spec.tiling)
    )
    n_bytes = n_pixels(parts) * variable.np_dtype.itemsize
    for result in run_parts(store, count_part, job, parts, n_bytes, options, on_progress):
        found, n, area = result.detail
        for pair, (pixels, weighed) in found.items():
            had = report.counts.get(pair, (0, 0.0))
            report.counts[pair] = had[0] + pixels, had[1] + weighed
        report.missing = report.missing[0] + n, report.missing[1] + area
    for y, x in unfilled_windows(spec, where, filled.regions(quantity)):
        width = x.stop - x.start
        area = float(row_areas(spec.tiling, y).sum()) * width
        report.missing = report.missing[0] + (y.stop - y.start) * width, report.missing[1] + area
    return report


def _text(ends: Mapping[str, str]) -> str:
    return ", ".join(f"{a}={v}" for a, v in ends.items())


def _ends(spec: CubeSpec, quantity: Quantity, ends: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """One position of each axis."""
    for given in ends:
        if given not in quantity.axes:
            raise GridError(f"{quantity.text!r} has no axis {given!r} (axes: {', '.join(quantity.axes) or 'none'})")
    out: dict[str, tuple[int, ...]] = {}
    for name in quantity.axes:
        axis = spec.tiling.axis(name)
        positions = find_positions(axis, [ends[name]]) if name in ends else quantity.positions[name]
        if len(positions) != 1:
            labels = ", ".join(axis.labels[p] for p in positions[:4])
            raise GridError(
                f"{name} has {len(positions)} values here ({labels}, ...): say one, --{name} {axis.labels[0]}"
            )
        out[name] = positions
    return out
