"""Pictures of how far a cube is, and of what differs between two snapshots: a small map for each axis value."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cubeingest.changes import SlotChange, count_changes
from cubeingest.look.fields import field_of
from cubeingest.look.panels import MOST_PANELS, Kind, Panel, draw_panels
from cubeingest.sketch import CHANGE_COLOURS, STATE_COLOURS
from cubeingest.spec import CubeSpec, Variable
from cubeingest.status import ABSENT, PENDING, STATES, SlotStates
from cubeingest.wording import counted

Counts = Mapping[str, np.ndarray[Any, np.dtype[np.int64]]]
"""How many slots of each kind, by kind."""

KINDS = (*STATES, "virtual")
"""Kinds of slots that a status picture tells apart; done ones that refer to tiles are the last."""

SUMMARIES = ("done", "part", "pending", "empty", "absent")
"""What may hold for all slots of a region together."""

CHANGES = ("added", "changed", "removed", "reread")


def picture_status(slots: SlotStates) -> np.ndarray[Any, Any]:
    """Draw the state of each slot, one small map for each variable and axis block. Returns their axes, an object array (rows, columns)."""
    spec = slots.spec
    held = {name: kinds_of(slots, name) for name in slots.states}
    places = [(v, block) for v in slots.chosen.variables for block in _chosen_blocks(slots, v)]
    counts = {k: sum(int((kinds == n).sum()) for kinds in held.values()) for n, k in enumerate(KINDS)}
    total, finished = sum(counts.values()), sum(counts[k] for k in ("done", "empty", "virtual"))
    panels = [
        Panel(_title(spec, v, block), _share(held[v.name][block]), held[v.name][block])
        for v, block in places[:MOST_PANELS]
    ]
    share = f"{percent_of(finished, total)} done or empty" if total else "nothing selected"
    wanted = total - counts["absent"]
    remark = f"of {counted(total, 'slot')}" + (
        f"; {percent_of(finished, wanted)} of those that have a tile" if counts["absent"] and wanted else ""
    )
    stale = sum(int(((slots.states[v] < PENDING) & ~held_now).sum()) for v, held_now in slots.current.items())
    note = (
        f"snapshot {slots.snapshot}"
        + _left_out(spec, places)
        + f"; overviews of {counted(stale, 'slot is', 'slots are')} stale" * bool(stale)
    )
    kinds = [Kind(k, STATE_COLOURS[k], counts[k], 0.6 if k == "absent" else 0.9) for k in KINDS]
    seen = np.logical_or.reduce([_is_seen(found).any(axis=tuple(range(found.ndim - 2))) for found in held.values()])
    return draw_panels(field_of(spec.grid, _places(seen)), panels, kinds, f"{spec.name}: {share}", remark, note)


def picture_changes(spec: CubeSpec, changes: Sequence[SlotChange], older: str, newer: str) -> np.ndarray[Any, Any]:
    """Draw which slots differ between two snapshots, one small map for each variable and axis block that has any."""
    counts = count_changes(changes)
    found: dict[tuple[str, tuple[int, ...]], np.ndarray[Any, np.dtype[np.uint8]]] = {}
    for c in changes:
        key = (c.slot.variable, c.slot.block)
        lattice = found.setdefault(key, np.full(spec.grid.lattice_shape_yx, 255, np.uint8))
        lattice[c.slot.iy, c.slot.ix] = CHANGES.index(c.change)
    order = {v.name: n for n, v in enumerate(spec.variables)}
    places = [(spec.variable(name), block) for name, block in sorted(found, key=lambda key: (order[key[0]], key[1]))]
    panels = [
        Panel(_title(spec, v, block), f"{int((found[v.name, block] < 255).sum()):,}", found[v.name, block])
        for v, block in places[:MOST_PANELS]
    ]
    if not panels:
        panels = [Panel("no slot differs", "", np.full(spec.grid.lattice_shape_yx, 255, np.uint8))]
    kinds = [Kind(name, CHANGE_COLOURS[name], counts[name]) for name in CHANGES]
    n = len(changes)
    title = f"{spec.name}: {counted(n, 'slot')} differ{'s' * (n == 1)}"
    seen = np.logical_or.reduce([lattice < 255 for lattice in found.values()]) if found else np.zeros(1, bool)
    return draw_panels(
        field_of(spec.grid, _places(seen)),
        panels,
        kinds,
        title,
        f"from {older} to {newer}",
        _left_out(spec, places).lstrip("; "),
    )


def _is_seen(kinds: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Slots that a picture is about: selected, and with something in them or to come; else all that are selected."""
    seen: np.ndarray[Any, np.dtype[np.bool_]] = (kinds < len(KINDS)) & (kinds != ABSENT)
    return seen if seen.any() else kinds < len(KINDS)


def _places(lattice: np.ndarray[Any, Any]) -> set[tuple[int, int]] | None:
    """Lattice places (iy, ix) of a mask; None for none."""
    return {(iy, ix) for iy, ix in np.argwhere(lattice).tolist()} or None


def kinds_of(slots: SlotStates, variable: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """For each slot of a variable the position in ``KINDS``; 255 outside the selection."""
    states = slots.states[variable]
    if variable not in slots.virtual:
        return states
    return np.where(slots.virtual[variable] & (states == 0), KINDS.index("virtual"), states).astype(np.uint8)


def count_by_region(slots: SlotStates) -> Counts:
    """How many slots of each kind each region has, (iy, ix), over all variables and axis values of the selection."""
    out = {k: np.zeros(slots.spec.grid.lattice_shape_yx, np.int64) for k in KINDS}
    for name in slots.states:
        kinds = kinds_of(slots, name)
        for n, k in enumerate(KINDS):
            out[k] += (kinds == n).sum(axis=tuple(range(kinds.ndim - 2)))
    return out


def _chosen_blocks(slots: SlotStates, variable: Variable) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(slots.chosen.blocks(axis) for axis in slots.spec.axes_of(variable)))


def _title(spec: CubeSpec, variable: Variable, block: tuple[int, ...]) -> str:
    labels = [axis.block_label(b) for axis, b in zip(spec.axes_of(variable), block, strict=True)]
    return ", ".join([variable.name] * (len(spec.variables) > 1 or not labels) + labels)


def _share(kinds: np.ndarray[Any, Any]) -> str:
    """How many of a panel's slots hold what there is."""
    total = int((kinds != 255).sum())
    finished = sum(int((kinds == KINDS.index(k)).sum()) for k in ("done", "empty", "virtual"))
    return f"{finished:,} of {total:,}"


def percent_of(part: int, whole: int) -> str:
    """A share that is 100 % or 0 % only if it is."""
    share = 100 * part / whole
    shown = 0.1 if 0 < share < 0.1 else 99.9 if 99.9 < share < 100 else share
    return f"{shown:.1f}".removesuffix(".0") + " %"


def _left_out(spec: CubeSpec, places: Sequence[tuple[Variable, tuple[int, ...]]]) -> str:
    rest = places[MOST_PANELS:]
    if not rest:
        return ""
    first, last = (_title(spec, *rest[n]) for n in (0, -1))
    return f"; {len(rest):,} more are not shown, from {first} to {last}: select some"


def share_done(counts: Counts) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The share that is done or empty, of what there are tiles for."""
    finished = counts["done"] + counts["virtual"] + counts["empty"]
    share: np.ndarray[Any, np.dtype[np.float64]] = finished / (finished + counts["pending"]).clip(1)
    return share


def summarise(counts: Counts) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Of counts by kind, the position in ``SUMMARIES`` of what holds for them together; 255 where there are none.

    ``done`` if none is pending, ``part`` if some are, ``pending`` if none is done, ``empty`` if all that are done are empty.
    """
    full = counts["done"] + counts["virtual"]
    finished, pending = full + counts["empty"], counts["pending"]
    order = [pending + finished == 0, finished == 0, pending > 0, full == 0]
    out = np.select(
        order, [SUMMARIES.index(k) for k in ("absent", "pending", "part", "empty")], SUMMARIES.index("done")
    )
    return np.where(pending + finished + counts["absent"] == 0, 255, out).astype(np.uint8)
