"""What differs between two snapshots of a cube, in regions: slots that one has and the other not, or has from elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from cubeingest.errors import SpecError, StoreError
from cubeingest.ledger import NOTHING, Record, Slot, read_records, read_states
from cubeingest.plan import slot_labels
from cubeingest.spec import CubeSpec, find_growth
from cubeingest.store import LEDGER, Store

Change = Literal["added", "removed", "changed", "reread"]
"""``changed``: other pixels. ``reread``: the same pixels, recorded anew (the source's date changed, or it was redone)."""


@dataclass(frozen=True)
class SlotChange:
    """One slot that differs."""

    slot: Slot
    change: Change

    def to_json(self, spec: CubeSpec) -> dict[str, Any]:
        return {
            "region": spec.grid.region_id(self.slot.iy, self.slot.ix),
            "axes": slot_labels(spec, self.slot),
            "variable": self.slot.variable,
            "change": self.change,
        }


def read_changes(store: Store, older: str, newer: str) -> list[SlotChange]:
    """Slots whose state or record differs between two snapshots of the same cube, in the order of the grid.

    Records are read only where both have one that Icechunk's own record of changes does not rule out.
    One may be the other grown since, by axis values, an area or variables: then the smaller has nothing in the slots that it lacks.
    Raises :class:`StoreError` if either holds no cube, or the layouts differ otherwise.
    """
    before, after = store.on(at=older), store.on(at=newer)
    if not (_is_grown(before.spec, after.spec) or _is_grown(after.spec, before.spec)):
        raise StoreError(f"the cubes at {older} and {newer} have different layouts: slots cannot be compared")
    old, new = before.readonly(), after.readonly()
    states = read_states(old, before.spec), read_states(new, after.spec)
    out: list[SlotChange] = []
    both: list[Slot] = []
    for v in after.spec.variables:
        if v.name not in states[0]:  # added since, by `compute --into`
            out += [SlotChange(slot, "added") for slot in _slots(v.name, states[1][v.name] != NOTHING)]
            continue
        shape = tuple(np.maximum(*(s[v.name].shape for s in states)))
        had, has = (_padded(s[v.name] != NOTHING, shape) for s in states)
        out += [SlotChange(slot, "added") for slot in _slots(v.name, has & ~had)]
        out += [SlotChange(slot, "removed") for slot in _slots(v.name, had & ~has)]
        both += _slots(v.name, had & has & _touched(store, older, newer, v.name, had.shape))
    for name in states[0].keys() - states[1].keys():
        out += [SlotChange(slot, "removed") for slot in _slots(name, states[0][name] != NOTHING)]
    first, second = read_records(old, both), read_records(new, both)
    for slot in both:
        a, b = first.get(slot), second.get(slot)
        if a == b and a is not None:
            continue  # (two that cannot be read were written anew, or Icechunk would not have named them)
        same = a is not None and b is not None and _are_alike(a, b)
        out.append(SlotChange(slot, "reread" if same else "changed"))
    return sorted(out, key=lambda c: c.slot)


def spec_of_both(store: Store, older: str, newer: str) -> CubeSpec:
    """The spec of that one of two snapshots which is the other grown, so that it has the slots of both."""
    before, after = store.on(at=older).spec, store.on(at=newer).spec
    return after if _is_grown(before, after) else before


def _are_alike(a: Record, b: Record) -> bool:
    """Whether two records speak of the same pixels. Those of references have no checksum, those of copied blocks another
    kind: then the sources tell, and how they were read.
    """
    if a.how == b.how and a.checksum:
        return (a.checksum, a.state) == (b.checksum, b.state)
    return (a.state, a.sources, a.reading) == (b.state, b.sources, b.reading)


def _is_grown(old: CubeSpec, new: CubeSpec) -> bool:
    """Whether two layouts are the same, or the second is the first grown, maybe by variables."""
    names = {v.name for v in old.variables}
    try:
        find_growth(old, replace(new, variables=tuple(v for v in new.variables if v.name in names)))
    except SpecError:
        return False
    return True


def _padded(where: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    out = np.zeros(shape, bool)
    out[tuple(slice(n) for n in where.shape)] = where
    return out


def count_changes(changes: Iterable[SlotChange]) -> dict[str, int]:
    """How many slots by change, all four always there."""
    counts = Counter(c.change for c in changes)
    return {name: counts[name] for name in ("added", "removed", "changed", "reread")}


def _slots(variable: str, where: np.ndarray[Any, Any]) -> list[Slot]:
    return [Slot(variable, tuple(i[:-2]), i[-2], i[-1]) for i in np.argwhere(where).tolist()]


def _touched(
    store: Store, older: str, newer: str, variable: str, shape: tuple[int, ...]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where a record was written between two snapshots; everywhere, if Icechunk cannot say (another branch, or expired)."""
    import icechunk

    touched = np.zeros(shape, bool)
    try:
        diff = store.repo.diff(from_snapshot_id=older, to_snapshot_id=newer)
    except icechunk.IcechunkError:
        return ~touched
    written = diff.updated_chunks.get(f"/{LEDGER}/{variable}/record", [])
    if written:
        touched[tuple(np.array(written).T)] = True
    return touched
