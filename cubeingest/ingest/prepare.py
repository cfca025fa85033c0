"""What there is to do: catalog, ledger and sources become a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from cubeingest.catalog import REQUESTS_AT_ONCE, Catalog, read_catalog
from cubeingest.errors import CubeIngestError
from cubeingest.ledger import NOTHING, Record, Slot, read_records, read_states
from cubeingest.plan import Chosen, Plan, Selection, choose, hrefs_of, make_plan, slots_of, tiles_by_slot
from cubeingest.spec import CubeSpec
from cubeingest.storage import Storage
from cubeingest.store import Store
from cubeingest.tile import SourceId, source_id, storage_of


@dataclass(frozen=True)
class Prepared:
    """A plan and what it rests on."""

    chosen: Chosen
    catalog: Catalog
    plan: Plan
    records: Mapping[Slot, Record]
    expected: Mapping[str, Mapping[tuple[int, ...], Any]]


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
    current = (
        {}
        if redo
        else current_ids(
            (h, storage_of(spec.variable(slot.variable))) for slot in records for h in hrefs_of(tiles[slot])
        )
    )
    plan = make_plan(spec, tiles, records, current, selection, redo, held)
    return Prepared(chosen, catalog, plan, records, expected_slots(spec, chosen, catalog))


def current_ids(hrefs: Iterable[tuple[str, Storage]]) -> dict[str, SourceId | None]:
    """Identity of each source as it is now; None for one that cannot be asked."""

    def ask(item: tuple[str, Storage]) -> SourceId | None:
        try:
            return source_id(*item)
        except (OSError, CubeIngestError):
            return None

    wanted = dict(hrefs)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return dict(zip(wanted, pool.map(ask, wanted.items()), strict=True))


def expected_slots(spec: CubeSpec, chosen: Chosen, catalog: Catalog) -> dict[str, dict[tuple[int, ...], Any]]:
    """For each axis block that the catalog was read for: where it has a tile, as (region rows, region columns)."""
    out: dict[str, dict[tuple[int, ...], Any]] = {}
    everywhere = Chosen(chosen.positions, spec.valid, chosen.variables)
    lattice = spec.grid.lattice_shape_yx
    for v in chosen.variables:
        if v.source is not None:
            out[v.name] = {}
    for slot in slots_of(spec, Chosen(chosen.positions, frozenset({(0, 0)}), chosen.variables)):
        if slot.variable in out:
            out[slot.variable][slot.block] = np.zeros(lattice, bool)
    for slot in tiles_by_slot(spec, everywhere, catalog):
        out[slot.variable][slot.block][slot.iy, slot.ix] = True
    return out
