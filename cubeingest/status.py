"""How far a cube is: counts of slots by state, from the cube alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.ledger import DONE, EMPTY, NOTHING, read_expected, read_states, read_virtual
from cubeingest.overviews import current_slots, levels_of
from cubeingest.plan import is_in_part, slots_of
from cubeingest.selection import Chosen, Selection, choose
from cubeingest.spec import CubeSpec
from cubeingest.store import Store, declared

if TYPE_CHECKING:
    import numpy.typing as npt

STATES = ("done", "empty", "pending", "absent")
PENDING, ABSENT = STATES.index("pending"), STATES.index("absent")

COUNTED = 50_000
"""Slots of which it is still looked up whether overviews are of their pixels as they are now: that reads every record, 2 seconds for so many."""

NOT_CHOSEN = 255
"""Of a slot that is outside the selection."""


@dataclass(frozen=True)
class Status:
    """Slots by state; ``by`` has the same counts by axis and label. done + empty + pending + absent = total.

    ``virtual`` are those of the done ones whose chunks are references to tiles. ``levels`` are those of the cube's overviews; ``current`` and
    ``stale`` count slots that are done or empty, in variables that have overviews: whether those are of their pixels as they are now. They are None
    in a cube of so many slots that counting them would take long.
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
    levels: int = 0
    current: int | None = 0
    stale: int | None = 0

    def to_json(self) -> dict[str, Any]:
        overviews = {"levels": self.levels, "current": self.current, "stale": self.stale}
        return {
            "store": self.store, "snapshot": self.snapshot, "total": self.total, "done": self.done, "empty": self.empty,
            "pending": self.pending, "absent": self.absent, "virtual": self.virtual,
            "overviews": overviews if self.levels else None, "by": self.by,
        }  # fmt: skip


@dataclass(frozen=True)
class SlotStates:
    """The state of every slot of one snapshot, by variable: a position in ``STATES``, or ``NOT_CHOSEN``.

    ``virtual`` are those of the done ones whose chunks are references to tiles; it has no variables if the cube has never had any.
    ``current`` are those of the done or empty ones that the cube's overviews hold as they are now; it has the variables with overviews,
    or none if there are more than ``COUNTED`` such slots.
    """

    spec: CubeSpec
    snapshot: str
    chosen: Chosen
    states: dict[str, npt.NDArray[np.uint8]]
    virtual: dict[str, npt.NDArray[np.bool_]]
    current: dict[str, npt.NDArray[np.bool_]]
    levels: int


def read_slot_states(store: Store, selection: Selection) -> SlotStates:
    """The state of each slot of a selection: ``pending`` has a tile (or its variable no source, as a function is to fill it) and no
    pixels, ``absent`` neither.

    Raises :class:`GridError` for a selection that the cube does not have.
    """
    store = store.on(store.branch, store.tip)  # spec and pixels of one snapshot
    spec = store.spec
    chosen = choose(spec, selection)
    session = store.readonly()
    states, expected = read_states(session, spec), read_expected(session, spec)
    virtual = read_virtual(session, spec) if declared(store.repo) else {}
    n_filled = sum(int(np.count_nonzero(held != NOTHING)) for held in states.values())
    fresh = current_slots(session, spec) if n_filled <= COUNTED else {}
    found, held, current = {}, {}, {}
    for v in chosen.variables:
        selected = _mask(store, chosen, selection, v.name)
        without = np.where(expected[v.name], PENDING, ABSENT)
        every = np.select([states[v.name] == DONE, states[v.name] == EMPTY], [0, 1], without)
        found[v.name] = np.where(selected, every, NOT_CHOSEN).astype(np.uint8)
        if virtual:
            held[v.name] = virtual[v.name] & selected
        if v.name in fresh:
            current[v.name] = fresh[v.name] & selected & (states[v.name] != NOTHING)
    n_levels = len(levels_of(session, spec))
    return SlotStates(spec, session.snapshot_id, chosen, found, held, current, n_levels)


def read_status(store: Store, selection: Selection) -> Status:
    """Count the slots of a selection by state, as :func:`read_slot_states` tells it."""
    return count_states(store.uri, read_slot_states(store, selection))


def count_states(uri: str, slots: SlotStates) -> Status:
    """Slots counted by state, all and by axis."""
    counts = dict.fromkeys(STATES, 0)
    by: dict[str, dict[str, dict[str, int]]] = {
        a.name: {a.block_label(b): dict.fromkeys(STATES, 0) for b in slots.chosen.blocks(a)}
        for a in slots.spec.grid.axes
    }
    there = 0
    for v in slots.chosen.variables:
        for n, name in enumerate(STATES):
            hits = slots.states[v.name] == n
            counts[name] += int(np.count_nonzero(hits))
            for i, axis in enumerate(slots.spec.axes_of(v)):
                per_block = np.count_nonzero(hits, axis=tuple(j for j in range(hits.ndim) if j != i))
                for b in slots.chosen.blocks(axis):
                    by[axis.name][axis.block_label(b)][name] += int(per_block[b])
        if v.name in slots.current:
            there += int(np.count_nonzero(slots.states[v.name] < PENDING))
    n_virtual, n_current = (
        sum(int(np.count_nonzero(held)) for held in which.values()) for which in (slots.virtual, slots.current)
    )
    is_counted = bool(slots.current) or not slots.levels
    return Status(
        uri, slots.snapshot, sum(counts.values()), **counts, by=by, virtual=n_virtual, levels=slots.levels,
        current=n_current if is_counted else None, stale=there - n_current if is_counted else None,
    )  # fmt: skip


def _mask(store: Store, chosen: Chosen, selection: Selection, variable: str) -> npt.NDArray[np.bool_]:
    spec = store.spec
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
