"""Catalog and ledger become disjoint tasks. Pure: nothing here reads a file or a store."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cubeingest.catalog import Catalog, TileRow
from cubeingest.ledger import NOTHING, Record, Slot
from cubeingest.selection import Chosen, Selection
from cubeingest.spec import CubeSpec, Variable
from cubeingest.tile import SourceId

PYTHON = "python:"
"""What the href of a source that is a Python function starts with; the rest is its module and name."""

COMPUTED = "computed"
"""How such a source is read, as kept in a slot's record."""


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """One slot to fill. ``tiles`` are in order: where they overlap, the first with data there wins.

    ``is_new`` says that the ledger holds nothing there yet; ``before`` is its record when the
    plan was made.
    """

    slot: Slot
    tiles: tuple[TileRow, ...]
    is_new: bool = True
    before: Record | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """The unit of work: one region at one axis block, all variables with the same axes; all of them statistics of points, or none."""

    axes: tuple[str, ...]
    block: tuple[int, ...]
    iy: int
    ix: int
    slots: tuple[SlotPlan, ...]


@dataclass(frozen=True)
class Plan:
    """Tasks to run, and the slots that need none since they are done from the same source."""

    tasks: tuple[Task, ...]
    skipped: tuple[Slot, ...]

    @property
    def n_slots(self) -> int:
        return sum(len(t.slots) for t in self.tasks)


def slots_of(spec: CubeSpec, chosen: Chosen) -> Iterable[Slot]:
    """Every slot that is chosen, whether there is a tile for it or not."""
    ny, nx = spec.grid.lattice_shape_yx
    places = sorted(chosen.places) if chosen.places is not None else list(itertools.product(range(ny), range(nx)))
    for v in chosen.variables:
        for block in itertools.product(*(chosen.blocks(a) for a in spec.axes_of(v))):
            for iy, ix in places:
                yield Slot(v.name, block, iy, ix)


def held_slots(spec: CubeSpec, chosen: Chosen, name: str, states: npt.NDArray[np.uint8]) -> list[Slot]:
    """Slots of a variable that are chosen, and done or empty by their ``states``, as the ledger has them."""
    held = np.zeros(states.shape, bool)
    axes = spec.axes_of(spec.variable(name))
    held[np.ix_(*(chosen.blocks(a) for a in axes), *(range(n) for n in states.shape[len(axes) :]))] = True
    found = np.argwhere(held & (states != NOTHING)).tolist()
    return [
        Slot(name, tuple(block), iy, ix)
        for *block, iy, ix in found
        if chosen.places is None or (iy, ix) in chosen.places
    ]


def tiles_by_slot(spec: CubeSpec, chosen: Chosen, catalog: Catalog) -> dict[Slot, tuple[TileRow, ...]]:
    """The catalog's tiles, in order, for each chosen slot that has any."""
    out: dict[Slot, list[TileRow]] = {}
    for v in chosen.variables:
        sizes = [a.block for a in spec.axes_of(v)]
        for row in catalog.rows.get(v.name, ()):
            if chosen.places is not None and (row.iy, row.ix) not in chosen.places:
                continue
            block = tuple(i // size for i, size in zip(row.position, sizes, strict=True))
            out.setdefault(Slot(v.name, block, row.iy, row.ix), []).append(row)
    return {slot: tuple(rows) for slot, rows in out.items()}


def is_in_part(spec: CubeSpec, slot: Slot, part: tuple[int, int] | None) -> bool:
    """Whether a slot falls to part k of n, by a hash of its region and axis values that no later run changes; all do without a ``part``."""
    if part is None:
        return True
    variable = spec.variable(slot.variable)
    labels = [a.block_label(b) for a, b in zip(spec.axes_of(variable), slot.block, strict=True)]
    key = "/".join([*labels, spec.grid.region_id(slot.iy, slot.ix)])
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % part[1] == part[0] - 1


def make_plan(
    spec: CubeSpec,
    tiles: Mapping[Slot, tuple[TileRow, ...]],
    records: Mapping[Slot, Record],
    current: Mapping[str, SourceId | None],
    selection: Selection,
    redo: bool = False,
    held: Collection[Slot] = (),
) -> Plan:
    """Tasks for the slots that have tiles and are not done from just those sources.

    ``current`` gives the identity, now, of the sources of slots that have a record (None if it cannot be had: such a
    slot is planned, and the worker will say why it cannot be read). ``held`` are slots for which the cube may hold pixels,
    also where their record cannot be read.
    """
    todo: dict[tuple[tuple[str, ...], bool, tuple[int, ...], int, int], list[SlotPlan]] = {}
    skipped = []
    for slot, rows in sorted(tiles.items()):
        if not is_in_part(spec, slot, selection.part):
            continue
        record = records.get(slot)
        if record is not None and not redo and _is_current(spec, slot, rows, record, current):
            skipped.append(slot)
            continue
        variable = spec.variable(slot.variable)
        key = (variable.axes, variable.aggregate is not None, slot.block, slot.iy, slot.ix)
        todo.setdefault(key, []).append(SlotPlan(slot, rows, slot not in held, record))
    tasks = [Task(axes, block, iy, ix, tuple(slots)) for (axes, _, block, iy, ix), slots in sorted(todo.items())]
    if selection.limit is not None:
        tasks = tasks[: selection.limit]
    prove_disjoint(spec, tasks)
    return Plan(tuple(tasks), tuple(skipped))


def _is_current(
    spec: CubeSpec, slot: Slot, rows: tuple[TileRow, ...], record: Record, current: Mapping[str, SourceId | None]
) -> bool:
    same_sources = record.sources == tuple(current.get(h) for h in hrefs_of(rows))
    return same_sources and record.reading == reading_of(spec, slot, rows)


def reading_of(spec: CubeSpec, slot: Slot, rows: Collection[TileRow]) -> str:
    """How a slot's tiles are read: bands, nodata and the like, as kept in its record; it starts with ``COMPUTED`` where a function is its source."""
    variable = spec.variable(slot.variable)
    points = variable.points.reading_of(variable.aggregate) if variable.points and variable.aggregate else ""
    if any(row.href.startswith(PYTHON) for row in rows):
        return f"{COMPUTED}; {points}" if points else COMPUTED
    if points:
        return points + _places_in_block(spec, variable, rows)
    source = variable.source
    bands = sorted({row.band or 1 for row in rows})
    parts = [f"band {','.join(map(str, bands))}", f"nodata {'file' if source is None else source.nodata}"]
    if source is not None:
        parts += [f"{k} {v}" for k, v in (("array", source.array), ("resampling", source.resampling)) if v is not None]
        parts += [f"overlap {','.join(map(str, source.overlap_yx))}"] * any(source.overlap_yx)
    return "; ".join(parts)


def _places_in_block(spec: CubeSpec, variable: Variable, rows: Collection[TileRow]) -> str:
    """Which granule is for which value of an axis block, if blocks have several: the same granules otherwise spread are other statistics."""
    axes = spec.axes_of(variable)
    if all(a.block == 1 for a in axes):
        return ""
    places = [tuple(i % a.block for i, a in zip(row.position, axes, strict=True)) for row in rows]
    return f"; spread {hashlib.blake2b(repr(places).encode(), digest_size=8).hexdigest()}"


def hrefs_of(rows: Iterable[TileRow]) -> tuple[str, ...]:
    """Hrefs of a slot's tiles, each once, in order."""
    return tuple(dict.fromkeys(r.href for r in rows))


def prove_disjoint(spec: CubeSpec, tasks: Iterable[Task]) -> None:
    """Check that no two tasks write the same chunk (shard, where there are shards).

    Nothing below would: when two forks hold the same chunk, Icechunk keeps the last one merged, without an error.
    """
    owner: dict[Slot, Task] = {}
    checked: set[str] = set()
    for task in tasks:
        for plan in task.slots:
            other = owner.setdefault(plan.slot, task)
            if other is not task:
                raise AssertionError(f"two tasks would write slot {plan.slot}")
            if plan.slot.variable not in checked:
                checked.add(plan.slot.variable)
                _prove_aligned(spec, spec.variable(plan.slot.variable))


def _prove_aligned(spec: CubeSpec, v: Variable) -> None:
    """Region and block edges are chunk edges, so that distinct slots hold distinct chunks."""
    for axis, written in zip(spec.axes_of(v), v.write_shape, strict=False):
        if axis.n_blocks > 1 and axis.block % written:
            raise AssertionError(f"{v.name}: axis block {axis.block} of {axis.name!r} cuts chunks of {written}")
    n_axes = len(v.axes)
    for n, r, written in zip(spec.grid.spatial_shape, spec.grid.region_shape, v.write_shape[n_axes:], strict=True):
        if n > r and r % written:
            raise AssertionError(f"{v.name}: regions of {r} pixels cut chunks of {written}")


def slot_labels(spec: CubeSpec, slot: Slot) -> dict[str, str]:
    """``{"year": "2000"}``: the labels of a slot's axis blocks."""
    axes = spec.axes_of(spec.variable(slot.variable))
    return {a.name: a.block_label(b) for a, b in zip(axes, slot.block, strict=True)}


def labels_of(spec: CubeSpec, variable: str, position: tuple[int, ...]) -> dict[str, str]:
    axes = spec.axes_of(spec.variable(variable))
    return {a.name: a.labels[i] for a, i in zip(axes, position, strict=True)}
