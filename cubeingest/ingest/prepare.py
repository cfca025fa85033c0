"""What there is to do: catalog (or function), ledger and sources become a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import batched, chain
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.catalog import REQUESTS_AT_ONCE, Catalog, TileRow, read_catalog
from cubeingest.errors import CubeIngestError
from cubeingest.ingest.function import FunctionSource
from cubeingest.ledger import NOTHING, Record, Slot, read_records, read_states
from cubeingest.plan import Chosen, Plan, Selection, choose, hrefs_of, make_plan, slots_of, tiles_by_slot
from cubeingest.spec import CubeSpec, Variable
from cubeingest.storage import Storage, is_remote
from cubeingest.store import Store
from cubeingest.tile import SourceId, source_id, storage_of

if TYPE_CHECKING:
    import icechunk

ASKED_TOGETHER = 64
"""Files of this machine whose size and time one thread asks for at once."""


@dataclass(frozen=True)
class Prepared:
    """A plan and what it rests on. ``n_absent`` counts the slots chosen that have no tile."""

    chosen: Chosen
    catalog: Catalog
    plan: Plan
    records: Mapping[Slot, Record]
    expected: Mapping[str, Mapping[tuple[int, ...], Any]]
    n_absent: int = 0


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
    left = left_by_granules(spec, chosen, catalog, tiles, session, states)
    tiles, records, held = {**tiles, **left.tiles}, {**records, **left.records}, held | left.tiles.keys()
    current = (
        {}
        if redo
        else current_ids(
            (h, storage_of(spec.variable(slot.variable))) for slot in records for h in hrefs_of(tiles[slot])
        )
    )
    plan = make_plan(spec, tiles, records, current, selection, redo, held)
    fed = tuple(v for v in chosen.variables if v.source is not None)
    n_absent = sum(1 for _ in slots_of(spec, replace(chosen, variables=fed))) - len(tiles) + len(left.tiles)
    return Prepared(chosen, catalog, plan, records, expected_slots(spec, chosen, catalog), n_absent)


@dataclass(frozen=True)
class Left:
    """Slots that no granule has points in, but that were done from granules which are there still."""

    tiles: Mapping[Slot, tuple[TileRow, ...]]
    records: Mapping[Slot, Record]


def left_by_granules(
    spec: CubeSpec,
    chosen: Chosen,
    catalog: Catalog,
    tiles: Mapping[Slot, tuple[TileRow, ...]],
    session: icechunk.Session,
    states: Mapping[str, Any],
) -> Left:
    """What a granule that is another by now has left behind: it is to be aggregated again, of no points. A granule that is not listed any more
    leaves what is done as it is, as a tile does.
    """
    variables = tuple(v for v in chosen.variables if v.aggregate is not None and v.source is not None)
    lost = [
        s
        for s in slots_of(spec, replace(chosen, variables=variables))
        if s not in tiles and states[s.variable][s.index] != NOTHING
    ]
    records = read_records(session, lost)
    found: dict[Slot, tuple[TileRow, ...]] = {}
    for slot, record in records.items():
        axes = spec.axes_of(spec.variable(slot.variable))
        position = tuple(b * a.block for a, b in zip(axes, slot.block, strict=True))
        rows = tuple(TileRow(s.href, position, slot.iy, slot.ix) for s in record.sources if s.href in catalog.granules)
        if rows:
            found[slot] = rows
    return Left(found, {slot: records[slot] for slot in found})


def prepare_function(store: Store, selection: Selection, source: FunctionSource, redo: bool = False) -> Prepared:
    """Plan what a function is to fill: everything that is selected, but for what the same code has filled already."""
    spec = store.spec
    chosen = replace(choose(spec, selection), variables=tuple(spec.variable(name) for name in source.variables))
    rows: dict[Slot, tuple[TileRow, ...]] = {}
    for slot in slots_of(spec, chosen):
        axes = spec.axes_of(spec.variable(slot.variable))
        position = tuple(b * a.block for a, b in zip(axes, slot.block, strict=True))
        rows[slot] = (TileRow(source.href, position, slot.iy, slot.ix),)
    session = store.readonly()
    states = read_states(session, spec)
    held = {s for s in rows if states[s.variable][s.index] != NOTHING}
    records = read_records(session, sorted(held))
    plan = make_plan(spec, rows, records, {source.href: source.id}, selection, redo, held)
    return Prepared(chosen, Catalog({}, chosen.positions), plan, records, expected_slots(spec, chosen, None))


def variables_to_compute(spec: CubeSpec, selection: Selection) -> tuple[Variable, ...]:
    """What a function fills: the variables that are named, else those that have no source of tiles, else all."""
    variables = choose(spec, selection).variables
    if selection.variables:
        return variables
    return tuple(v for v in variables if v.source is None) or variables


def current_ids(hrefs: Iterable[tuple[str, Storage]]) -> dict[str, SourceId | None]:
    """Identity of each source as it is now; None for one that cannot be asked."""

    def ask(items: tuple[tuple[str, Storage], ...]) -> list[tuple[str, SourceId | None]]:
        return [(href, _ask(href, storage)) for href, storage in items]

    wanted = dict(hrefs)
    # Files of this machine are asked so quickly that handing each to a thread would take longer.
    several = 1 if any(map(is_remote, wanted)) else ASKED_TOGETHER
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return dict(chain.from_iterable(pool.map(ask, batched(wanted.items(), several))))


def _ask(href: str, storage: Storage) -> SourceId | None:
    try:
        return source_id(href, storage)
    except (OSError, CubeIngestError):
        return None


def expected_slots(spec: CubeSpec, chosen: Chosen, catalog: Catalog | None) -> dict[str, dict[tuple[int, ...], Any]]:
    """For each axis block that the catalog was read for: where it has a tile, as (region rows, region columns).

    A variable without a source, which a function fills, is expected in every valid region. With no catalog, nothing is said of others.
    """
    variables = tuple(v for v in chosen.variables if catalog is not None or v.source is None)
    valid = np.full(spec.grid.lattice_shape_yx, spec.valid is None)
    if spec.valid:
        valid[tuple(np.array(sorted(spec.valid)).T)] = True
    everywhere = {v.name for v in variables if v.source is None}
    out: dict[str, dict[tuple[int, ...], Any]] = {v.name: {} for v in variables}
    for slot in slots_of(spec, Chosen(chosen.positions, frozenset({(0, 0)}), variables)):
        out[slot.variable][slot.block] = valid & (slot.variable in everywhere)
    if catalog is not None:
        for slot in tiles_by_slot(spec, Chosen(chosen.positions, spec.valid, variables), catalog):
            out[slot.variable][slot.block][slot.iy, slot.ix] = True
    return out
