"""How far a cube is: counts of slots by state, from the cube alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.ledger import DONE, EMPTY, NOTHING, read_expected, read_states, read_virtual
from cubeingest.plan import Chosen, Selection, choose, is_in_part, slots_of
from cubeingest.spec import CubeSpec
from cubeingest.store import Store, declared

if TYPE_CHECKING:
    import numpy.typing as npt

STATES = ("done", "empty", "pending", "absent")


@dataclass(frozen=True)
class Status:
    """Slots by state; ``by`` has the same counts by axis and label. done + empty + pending + absent = total.

    ``virtual`` are those of the done ones whose chunks are references to tiles.
    """

    store: str
    snapshot: str
    total: int
    done: int
    empty: int
    pending: int
    absent: int
    by: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    virtual: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "store": self.store, "snapshot": self.snapshot, "total": self.total, "done": self.done, "empty": self.empty,
            "pending": self.pending, "absent": self.absent, "virtual": self.virtual, "by": self.by,
        }  # fmt: skip


def read_status(store: Store, selection: Selection) -> Status:
    """Count the slots of a selection: ``pending`` has a tile (or its variable no source, as a function is to fill it) and no
    pixels, ``absent`` neither.

    Raises :class:`GridError` for a selection that the cube does not have.
    """
    store = store.on(store.branch, store.tip)  # spec and pixels of one snapshot
    spec = store.spec
    chosen = choose(spec, selection)
    session = store.readonly()
    states, expected = read_states(session, spec), read_expected(session, spec)
    virtual = read_virtual(session, spec) if declared(store.repo) else {}
    n_virtual = 0
    counts = dict.fromkeys(STATES, 0)
    by: dict[str, dict[str, dict[str, int]]] = {
        a.name: {a.block_label(b): dict.fromkeys(STATES, 0) for b in chosen.blocks(a)} for a in spec.grid.axes
    }
    for v in chosen.variables:
        axes = spec.axes_of(v)
        selected = selected_slots(spec, chosen, selection, v.name)
        n_virtual += int(np.count_nonzero(virtual[v.name] & selected)) if virtual else 0
        for name, where in slots_by_state(states[v.name], expected[v.name]).items():
            hits = where & selected
            counts[name] += int(np.count_nonzero(hits))
            for i, axis in enumerate(axes):
                per_block = np.count_nonzero(hits, axis=tuple(j for j in range(hits.ndim) if j != i))
                for b in chosen.blocks(axis):
                    by[axis.name][axis.block_label(b)][name] += int(per_block[b])
    return Status(store.uri, session.snapshot_id, sum(counts.values()), **counts, by=by, virtual=n_virtual)


def slots_by_state(states: npt.NDArray[np.uint8], expected: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.bool_]]:
    """Where a variable's slots are in each of ``STATES``, from what the ledger has and what the catalog has."""
    nothing = states == NOTHING
    return {
        "done": states == DONE,
        "empty": states == EMPTY,
        "pending": nothing & expected,
        "absent": nothing & ~expected,
    }


def selected_slots(spec: CubeSpec, chosen: Chosen, selection: Selection, variable: str) -> npt.NDArray[np.bool_]:
    """Where a variable's slots are part of a selection."""
    v = spec.variable(variable)
    mask = np.zeros(spec.slot_shape(v), bool)
    blocks = [list(chosen.blocks(a)) for a in spec.axes_of(v)]
    lattice = np.ones(spec.grid.lattice_shape_yx, bool)
    if chosen.places is not None:
        lattice[...] = False
        if chosen.places:
            lattice[tuple(np.array(sorted(chosen.places)).T)] = True
    mask[np.ix_(*blocks, *(range(n) for n in lattice.shape))] = lattice
    if selection.part is not None:
        for slot in slots_of(spec, chosen):
            if slot.variable == variable and not is_in_part(spec, slot, selection.part):
                mask[slot.index] = False
    return mask
