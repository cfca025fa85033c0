"""Statistics of points whose granules have changed: what catalog and ledger together say must be done again, and what must not be touched."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cubeingest.catalog import Catalog, TileRow
from cubeingest.ledger import Record, Slot, read_records
from cubeingest.plan import held_slots
from cubeingest.selection import Chosen
from cubeingest.spec import CubeSpec

if TYPE_CHECKING:
    import icechunk


@dataclass(frozen=True)
class Blocked:
    """A slot that is left as it is, since a granule that feeds it cannot be read."""

    slot: Slot
    href: str
    message: str


@dataclass(frozen=True)
class Settled:
    """What is to be planned: ``tiles`` by slot (none: the slot holds statistics of points that are no longer there), and ``blocked`` slots, which are not.
    ``records`` are those of all slots of statistics that are done.
    """

    tiles: Mapping[Slot, tuple[TileRow, ...]]
    blocked: tuple[Blocked, ...]
    records: Mapping[Slot, Record]


def settle_granules(
    spec: CubeSpec,
    chosen: Chosen,
    catalog: Catalog,
    tiles: Mapping[Slot, tuple[TileRow, ...]],
    session: icechunk.Session,
    states: Mapping[str, Any],
) -> Settled:
    """Settle what the catalog alone does not tell of statistics of points.

    A slot that was done from a granule, or that one is known to feed, is blocked while that granule cannot be read: made of the others, good statistics
    would give way to worse. A slot that is done, but in which no granule has points any more, is to be made again, of none, as long as there are granules
    for its axis values at all.
    """
    names = [v.name for v in chosen.variables if v.aggregate is not None and v.source is not None]
    done = [slot for name in names for slot in held_slots(spec, chosen, name, states[name])]
    if not names or not (done or catalog.blocked):
        return Settled(tiles, (), {})
    records = read_records(session, done)
    blocked = {slot: b for slot, record in records.items() if (b := _by_record(slot, record, catalog)) is not None}
    for slot in {*(s for s in tiles if s.variable in names), *done} - blocked.keys() if catalog.blocked else ():
        for position in _positions(spec, slot):
            if (position, slot.iy, slot.ix) in catalog.blocked:
                blocked[slot] = Blocked(slot, *catalog.blocked[position, slot.iy, slot.ix])
                break
    left = (s for s in done if s not in tiles and any(p in catalog.listed for p in _positions(spec, s)))
    settled = {**tiles, **dict.fromkeys(left, ())}
    return Settled(
        {slot: rows for slot, rows in settled.items() if slot not in blocked},
        tuple(blocked[s] for s in sorted(blocked)),
        records,
    )


def _positions(spec: CubeSpec, slot: Slot) -> list[tuple[int, ...]]:
    """Axis positions of a slot's axis block."""
    axes = spec.axes_of(spec.variable(slot.variable))
    spans = (a.block_slice(b) for a, b in zip(axes, slot.block, strict=True))
    return list(itertools.product(*(range(s.start, s.stop) for s in spans)))


def _by_record(slot: Slot, record: Record, catalog: Catalog) -> Blocked | None:
    """Whether a slot was made of a granule that cannot be read now."""
    for source in record.sources:
        if source.href in catalog.broken:
            return Blocked(slot, source.href, catalog.broken[source.href])
    return None
