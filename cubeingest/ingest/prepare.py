"""What there is to do: catalog (or function), ledger and sources become a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import batched, chain
from typing import Any

import numpy as np

from cubeingest.catalog import REQUESTS_AT_ONCE, Catalog, TileRow, read_catalog
from cubeingest.errors import CubeIngestError
from cubeingest.ingest.function import FunctionSource
from cubeingest.ingest.granules import Blocked, settle_granules
from cubeingest.ledger import NOTHING, Record, Slot, read_records, read_states
from cubeingest.plan import (
    COMPUTED,
    Plan,
    held_slots,
    hrefs_of,
    is_in_part,
    make_plan,
    reading_of,
    slots_of,
    tiles_by_slot,
)
from cubeingest.selection import Chosen, Selection, choose
from cubeingest.spec import CubeSpec, Variable
from cubeingest.storage import Storage, is_remote
from cubeingest.store import Store
from cubeingest.tile import SourceId, source_id, storage_of

ASKED_TOGETHER = 64
"""Files of this machine whose size and time one thread asks for at once."""


@dataclass(frozen=True)
class Prepared:
    """A plan and what it rests on. ``n_absent`` counts the slots chosen that have neither tile nor pixels; ``unlisted`` are those that were filled
    from tiles which the catalog has no more, ``blocked`` those that cannot be made now.
    """

    chosen: Chosen
    catalog: Catalog
    plan: Plan
    records: Mapping[Slot, Record]
    expected: Mapping[str, Mapping[tuple[int, ...], Any]]
    n_absent: int = 0
    blocked: tuple[Blocked, ...] = ()
    unlisted: tuple[Slot, ...] = ()


def prepare(store: Store, selection: Selection, redo: bool = False) -> Prepared:
    """Read catalog and ledger, ask the sources of done slots whether they changed, and plan. Writes nothing."""
    spec = store.spec
    chosen = choose(spec, selection)
    catalog = read_catalog(spec, chosen.positions, [v.name for v in chosen.variables])
    tiles = tiles_by_slot(spec, chosen, catalog)
    session = store.readonly()
    states = read_states(session, spec)
    settled = settle_granules(spec, chosen, catalog, tiles, session, states)
    tiles = dict(settled.tiles)
    held = {s for s in tiles if states[s.variable][s.index] != NOTHING}
    records = {s: settled.records[s] for s in held & settled.records.keys()}
    records |= read_records(session, sorted(held - records.keys()))
    current = (
        {}
        if redo
        else current_ids(
            (h, storage_of(spec.variable(slot.variable))) for slot in records for h in hrefs_of(tiles[slot])
        )
    )
    plan = make_plan(spec, tiles, records, current, selection, redo, held)
    fed = tuple(v for v in chosen.variables if v.source is not None)
    known = tiles.keys() | {b.slot for b in settled.blocked}
    filled = chain.from_iterable(held_slots(spec, chosen, v.name, states[v.name]) for v in fed)
    without = [slot for slot in filled if slot not in known]
    made = read_records(session, without)
    misplaced = {m.href for m in catalog.misplaced}  # these are listed
    unlisted = tuple(
        slot
        for slot, record in made.items()
        if record.sources
        and not record.reading.startswith(COMPUTED)
        and is_in_part(spec, slot, selection.part)
        and misplaced.isdisjoint(source.href for source in record.sources)
    )
    n_absent = sum(1 for _ in slots_of(spec, replace(chosen, variables=fed))) - len(known) - len(without)
    return Prepared(
        chosen, catalog, plan, records, expected_slots(spec, chosen, catalog), n_absent, settled.blocked, unlisted
    )


def prepare_function(store: Store, selection: Selection, source: FunctionSource, redo: bool) -> Prepared:
    """Plan what a function is to fill: everything that is selected, but for what the same code has filled already, from the same if it says so."""
    spec = store.spec
    chosen = replace(choose(spec, selection), variables=tuple(spec.variable(name) for name in source.variables))
    slots = list(slots_of(spec, chosen))
    stamps = source.stamps_of(slots)
    rows: dict[Slot, tuple[TileRow, ...]] = {}
    for slot in slots if stamps is None else stamps:
        axes = spec.axes_of(spec.variable(slot.variable))
        position = tuple(b * a.block for a, b in zip(axes, slot.block, strict=True))
        rows[slot] = (TileRow(source.href, position, slot.iy, slot.ix, stamp="" if stamps is None else stamps[slot]),)
    session = store.readonly()
    states = read_states(session, spec)
    held = {s for s in rows if states[s.variable][s.index] != NOTHING}
    records = read_records(session, sorted(held))
    current = set() if redo else {s for s, r in records.items() if _is_same(spec, s, r, source, rows[s])}
    wanted = {slot: row for slot, row in rows.items() if slot not in current}
    plan = make_plan(spec, wanted, records, {}, selection, redo=True, held=held)
    skipped = tuple(s for s in sorted(current) if is_in_part(spec, s, selection.part))
    return Prepared(
        chosen,
        Catalog({}, chosen.positions),
        replace(plan, skipped=skipped),
        records,
        expected_slots(spec, chosen, None),
    )


def _is_same(spec: CubeSpec, slot: Slot, record: Record, source: FunctionSource, rows: tuple[TileRow, ...]) -> bool:
    """Whether a slot was filled by the same code, or from the same."""
    return record.reading == reading_of(spec, slot, rows) and record.sources == (source.id_of(rows[0]),)


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
