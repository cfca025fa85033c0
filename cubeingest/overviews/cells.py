"""Which cells of the overviews are to be made: those whose record says that they were made of something else than lies below them now.

Every slot has a **stamp**, a digest of its record. A cell's record names, as its sources, the stamps of all that it was made of: regions of
the cube at the first stage, cells of the stage before later. So whatever changes in the cube, exactly its ancestors can be told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from cubeingest.grid import Grid
from cubeingest.ledger import NOTHING, VIRTUAL, Record, Slot, read_records, read_states
from cubeingest.overviews.arrays import find_pyramid
from cubeingest.overviews.levels import Pyramid, Stage
from cubeingest.plan import SlotPlan
from cubeingest.selection import Chosen
from cubeingest.spec import OVERVIEWS, CubeSpec
from cubeingest.tile import SourceId

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt

Parts = tuple[SourceId, ...]
"""What a cell is made of: for each slot that it reads ``"iy,ix"``, or ``"iy,ix,variable"`` of another variable than its own, and a stamp."""


@dataclass(frozen=True, slots=True)
class CellPlan(SlotPlan):
    """A cell to make, of ``parts`` by ``method``. It ``is_blank`` if all that lies below is empty; ``referring`` is a record below whose chunks
    are references into tiles, if there is one.
    """

    parts: Parts = ()
    method: str = ""
    is_blank: bool = False
    referring: Record | None = None


@dataclass(frozen=True)
class Below:
    """What a stage reads: slots that are done, with their stamps; which of them are empty, and which refer to tiles."""

    stamps: Mapping[Slot, str]
    empty: frozenset[Slot] = frozenset()
    referring: Mapping[Slot, Record] = field(default_factory=dict)
    records: Mapping[Slot, Record] = field(default_factory=dict)


def read_slots(session: icechunk.Session, spec: CubeSpec, names: Iterable[str], layout: str) -> dict[Slot, Record]:
    """Records of all slots of a spec that are done, of the variables called ``names``."""
    states = read_states(session, spec)
    slots = [
        Slot(name, tuple(index[:-2]), index[-2], index[-1])
        for name in names
        for index in np.argwhere(states[name] != NOTHING).tolist()
    ]
    return read_records(session, slots, layout)


def read_base(session: icechunk.Session, pyramid: Pyramid, layout: str = "") -> Below:
    """The regions that are done, of the variables that have overviews."""
    return _below(read_slots(session, pyramid.base, [v.name for v in pyramid.variables], layout), stamp_of_region)


def read_cells(session: icechunk.Session, stage: Stage, layout: str = "") -> dict[Slot, Record]:
    """Records of the cells of a stage that have been made."""
    return read_slots(session, stage.spec, [v.name for v in stage.spec.variables], layout)


def read_below(session: icechunk.Session, pyramid: Pyramid, stage: Stage, layout: str = "") -> Below:
    """What a stage reads, as it is now."""
    if stage.number == 1:
        return read_base(session, pyramid, layout)
    return _below(read_cells(session, pyramid.stages[stage.number - 2], layout), stamp_of_cell)


def _below(records: Mapping[Slot, Record], stamp_of: Callable[[Record], str]) -> Below:
    return Below(
        {slot: stamp_of(record) for slot, record in records.items()},
        frozenset(slot for slot, r in records.items() if r.state == "empty"),
        {slot: r for slot, r in records.items() if r.how == VIRTUAL},
        records,
    )


def stamp_of_region(record: Record) -> str:
    """What tells a region's pixels from others: their checksum; of references what they refer to."""
    if record.checksum:
        return _digest([record.state, record.how, record.checksum])
    return stamp_of_parts(record.reading, record.sources)


def stamp_of_cell(record: Record) -> str:
    """What tells a cell from others: what it is made of, and how."""
    return stamp_of_parts(record.reading, record.sources)


def stamp_of_parts(reading: str, parts: Parts) -> str:
    """The stamp of a cell that is made of ``parts``."""
    return _digest([reading, *(f"{p.href} {p.size} {p.stamp}" for p in parts)])


def _digest(texts: list[str]) -> str:
    return xxhash.xxh3_64_hexdigest("\n".join(texts).encode())


def due_parts(pyramid: Pyramid, stage: Stage, stamps: Mapping[Slot, str]) -> dict[Slot, Parts]:
    """What each cell of a stage is to be made of; those below which nothing of their own variable is done are left out."""
    parts: dict[Slot, list[SourceId]] = defaultdict(list)
    rows, columns = _overlaps(pyramid.below(stage)[0].grid, stage.spec.grid)
    takers: dict[str, list[str]] = defaultdict(list)
    for name, rule in pyramid.rules.items():
        for needed in rule.needs:
            takers[needed].append(name)
    for slot in sorted(stamps):
        own = base_name(slot.variable)
        for name in takers[own]:
            whose = "" if name == own else f",{own}"
            part = SourceId(f"{slot.iy},{slot.ix}{whose}", None, stamps[slot])
            for iy in rows[slot.iy]:
                for ix in columns[slot.ix]:
                    parts[Slot(stage.name(name), slot.block, iy, ix)].append(part)
    return {cell: tuple(found) for cell, found in parts.items() if any(_is_own(part) for part in found)}


def _is_own(part: SourceId) -> bool:
    """Whether a part is of the cell's own variable."""
    return part.href.count(",") == 1


def _place_of(part: SourceId) -> tuple[int, int]:
    """Row and column of the slot that a part names."""
    iy, ix, *_ = part.href.split(",")
    return int(iy), int(ix)


def plan_cells(
    pyramid: Pyramid, stage: Stage, below: Below, held: Mapping[Slot, Record], chosen: Chosen, redo: bool
) -> tuple[list[CellPlan], int]:
    """The cells of a stage to make, and how many are as they should be, of those above what is chosen."""
    is_chosen = _chosen_cells(pyramid, stage, chosen)
    rows, columns = _overlaps(stage.spec.grid, pyramid.below(stage)[0].grid)
    plans, n_current = [], 0
    for cell, parts in sorted(due_parts(pyramid, stage, below.stamps).items()):
        if not is_chosen(cell):
            continue
        record, method = held.get(cell), pyramid.methods[base_name(cell.variable)]
        if record is not None and not redo and (record.reading, record.sources) == (method, parts):
            n_current += 1
            continue
        name = _name_below(pyramid, stage, cell.variable)
        slots = [Slot(name, cell.block, *_place_of(p)) for p in parts if _is_own(p)]
        referring = next((below.referring[s] for s in slots if s in below.referring), None)
        # What has no record, or one that cannot be read, may have pixels.
        is_blank = len(slots) == len(rows[cell.iy]) * len(columns[cell.ix]) and all(s in below.empty for s in slots)
        plans.append(CellPlan(cell, (), record is None, record, parts, method, is_blank, referring))
    return plans, n_current


def base_name(variable: str) -> str:
    """The base's variable, of one as a stage calls it."""
    return variable.partition(f"/{OVERVIEWS}/")[0]


def _name_below(pyramid: Pyramid, stage: Stage, name: str) -> str:
    base = base_name(name)
    return base if stage.number == 1 else pyramid.stages[stage.number - 2].name(base)


def _chosen_cells(pyramid: Pyramid, stage: Stage, chosen: Chosen) -> Callable[[Slot], bool]:
    blocks = {a.name: set(chosen.blocks(a)) for a in pyramid.base.grid.axes}
    names = {v.name for v in chosen.variables}
    places = None if chosen.places is None else set(chosen.places)
    for s in pyramid.stages[: stage.number] if places is not None else ():
        rows, columns = _overlaps(pyramid.below(s)[0].grid, s.spec.grid)
        places = {(y, x) for iy, ix in places or () for y in rows[iy] for x in columns[ix]}

    def is_chosen(cell: Slot) -> bool:
        name = base_name(cell.variable)
        in_blocks = all(b in blocks[a] for a, b in zip(pyramid.base.variable(name).axes, cell.block, strict=True))
        return name in names and in_blocks and (places is None or (cell.iy, cell.ix) in places)

    return is_chosen


def _overlaps(grid: Grid, other: Grid) -> tuple[list[range], list[range]]:
    """For each row, and column, of regions of a grid: the rows, and columns, of another's (of the same pixels) that it shares pixels with."""
    out = [[range(1)]] * (2 - len(grid.spatial_shape))  # of cells along one dimension: one row
    for n, region, cell in zip(grid.spatial_shape, grid.region_shape, other.region_shape, strict=True):
        out.append([range(a // cell, (min(a + region, n) - 1) // cell + 1) for a in range(0, n, region)])
    return out[0], out[1]


# ---- what is current ------------------------------------------------------------------------------------------


def current_slots(session: icechunk.Session, spec: CubeSpec) -> dict[str, npt.NDArray[np.bool_]]:
    """Whether all overviews above a slot have been made of its pixels as they are now, by variable (those that have overviews); True also where
    nothing is done. Empty if the cube has no overviews.
    """
    pyramid = find_pyramid(session, spec)
    if pyramid is None:
        return {}
    current = {v.name: np.ones(spec.slot_shape(v), bool) for v in pyramid.variables}
    below = read_base(session, pyramid)
    for stage in pyramid.stages:
        held = read_cells(session, stage)
        for cell, parts in due_parts(pyramid, stage, below.stamps).items():
            record, name = held.get(cell), base_name(cell.variable)
            made_of = record.sources if record is not None and record.reading == pyramid.methods[name] else ()
            for part in set(parts) ^ set(made_of):  # that it lacks, or should not be made of any more
                rows, columns = _regions_below(pyramid, stage, *_place_of(part))
                here: tuple[int | slice, ...] = (*cell.block, rows, columns)
                current[name][here] = False
        below = _below(held, stamp_of_cell)
    return current


def _regions_below(pyramid: Pyramid, stage: Stage, iy: int, ix: int) -> tuple[slice, slice]:
    """Rows and columns of the base's regions below what a stage reads at (iy, ix)."""
    rows, columns = range(iy, iy + 1), range(ix, ix + 1)
    for s in reversed(pyramid.stages[: stage.number - 1]):
        by_row, by_column = _overlaps(s.spec.grid, pyramid.below(s)[0].grid)
        rows = range(by_row[rows.start].start, by_row[rows.stop - 1].stop)
        columns = range(by_column[columns.start].start, by_column[columns.stop - 1].stop)
    return slice(rows.start, rows.stop), slice(columns.start, columns.stop)
