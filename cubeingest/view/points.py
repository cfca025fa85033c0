"""The values of a variable over all its axes at one point of a lattice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.analyze.series import read_pixel
from cubeingest.healpix import cells_at
from cubeingest.look import Attributes
from cubeingest.look.colours import Colours
from cubeingest.look.palette import hex_of
from cubeingest.selection import Selection
from cubeingest.spec import Variable
from cubeingest.view.lattice import Lattice
from cubeingest.view.snapshots import Snapshot

if TYPE_CHECKING:
    import numpy.typing as npt

MOST_CHUNKS = 1500
"""That a series may take; of a longer one evenly spaced values are read."""

MOST_VALUES = 20_000
"""That a page can draw; of more, evenly spaced ones are read."""


def find_pixel(lattice: Lattice, x: float, y: float) -> tuple[int, int] | None:
    """(row, column) of the pixel of a lattice that holds a point in CRS units; None outside."""
    row, column = (y - lattice.origin_y) / lattice.step_y, (x - lattice.origin_x) / lattice.step_x
    if not (0 <= row < lattice.shape_yx[0] and 0 <= column < lattice.shape_yx[1]):
        return None
    return math.floor(row), math.floor(column)


def place_of(lattice: Lattice, x: float, y: float) -> dict[str, float | None]:
    """Longitude and latitude of a point in CRS units."""
    lon, lat = (float(v) for v in lattice.lonlat(np.float64(x), np.float64(y)))
    return {"lon": None, "lat": None} if math.isnan(lon) or math.isnan(lat) else {"lon": lon, "lat": lat}


def read_point(
    snapshot: Snapshot, lattice: Lattice, variable: Variable, x: float, y: float, colours: Colours
) -> dict[str, Any]:
    """What the cube holds at a point in CRS units, as plain data: ``values`` in the order of the axes, None where there is nothing."""
    where: dict[str, Any] = {"x": x, "y": y, **place_of(lattice, x, y)}
    chosen, note = _chosen(snapshot, variable)
    labels = {a: [snapshot.spec.grid.axis(a).labels[i] for i in chosen[a]] for a in variable.axes}
    told = Attributes(variable)
    common = {
        "snapshot": snapshot.id, "variable": variable.name, "title": told.title, "units": told.units,
        "axes": [{"name": a, "labels": labels[a]} for a in variable.axes], "notes": [note] if note else [],
    }  # fmt: skip
    if snapshot.spec.healpix is None:
        found = _of_pixels(snapshot, lattice, variable, x, y, labels)
    else:
        found = _of_cells(snapshot, variable, where, labels)
    if found is None:
        return {**common, "where": where, "outside": True, "values": [], "pending": [], "classes": {}}
    values, pending, more = found
    scale = 1.0 if snapshot.spec.cf_fill else told.scale
    offset = 0.0 if snapshot.spec.cf_fill else told.offset
    stored = values.ravel()
    shown = stored * scale + offset if (scale, offset) != (1.0, 0.0) and not told.names else stored
    return {
        **common, "where": {**where, **more}, "outside": False, "pending": np.flatnonzero(pending.ravel()).tolist(),
        "values": [None if not math.isfinite(v) else v for v in shown.tolist()],
        "classes": _classes(told, colours, stored),
    }  # fmt: skip


Found = tuple["npt.NDArray[np.float64]", "npt.NDArray[np.bool_]", dict[str, Any]]


def _of_pixels(
    snapshot: Snapshot, lattice: Lattice, variable: Variable, x: float, y: float, labels: dict[str, list[str]]
) -> Found | None:
    at = find_pixel(lattice, x, y)
    if at is None:
        return None
    values, pending = _read(snapshot, variable, labels, *at)
    grid = snapshot.spec.tiling
    iy, ix = (p // r for p, r in zip(at, grid.region_shape_yx, strict=True))
    return values, pending, {"row": at[0], "column": at[1], "region": grid.region_id(iy, ix)}


def _of_cells(
    snapshot: Snapshot, variable: Variable, where: dict[str, Any], labels: dict[str, list[str]]
) -> Found | None:
    grid = snapshot.spec.healpix
    assert grid is not None
    if where["lon"] is None:
        return None
    cells = cells_at(np.array([where["lon"]]), np.array([where["lat"]]), grid.order, grid.ellipsoid)
    position = int(grid.positions_of(cells)[0])
    if position < 0:
        return None
    values, pending = _read(snapshot, variable, labels, 0, position)
    more = {"cell": int(cells[0]), "region": grid.region_id(0, position // grid.cells_in_region)}
    return values, pending, more


def _read(
    snapshot: Snapshot, variable: Variable, labels: dict[str, list[str]], row: int, column: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    selection = Selection({a: tuple(v) for a, v in labels.items()}, variables=(variable.name,))
    with snapshot.store.asking():
        return read_pixel(snapshot.session, snapshot.spec, snapshot.states, selection, row, column)


def _chosen(snapshot: Snapshot, variable: Variable) -> tuple[dict[str, list[int]], str]:
    """Positions on each axis that are read: all, or of the longest axis as many as do not take long."""
    axes = snapshot.spec.axes_of(variable)
    chosen = {a.name: list(range(a.size)) for a in axes}
    blocks = {a.name: a.n_blocks for a in axes}
    note = ""
    if math.prod(blocks.values()) > MOST_CHUNKS:
        longest = max(axes, key=lambda a: blocks[a.name])
        others = math.prod(n for name, n in blocks.items() if name != longest.name)
        step = math.ceil(blocks[longest.name] / max(1, MOST_CHUNKS // others)) * longest.block
        chosen[longest.name] = chosen[longest.name][::step]
        note = f"one in {step:,} values of {longest.name}: all would take {math.prod(blocks.values()):,} chunks"
    if math.prod(map(len, chosen.values())) > MOST_VALUES:
        name = max(chosen, key=lambda a: len(chosen[a]))
        others = math.prod(len(v) for a, v in chosen.items() if a != name)
        step = math.ceil(len(chosen[name]) / max(1, MOST_VALUES // others))
        note = f"one in {step:,} values of {name}: there are {math.prod(a.size for a in axes):,} in all"
        chosen[name] = chosen[name][::step]
    return chosen, note


def _classes(told: Attributes, colours: Colours, stored: npt.NDArray[np.float64]) -> dict[str, dict[str, str]]:
    """Name and colour of the classes that occur, by value as JSON writes it."""
    if colours.kind != "classes":
        return {}
    out = {}
    for value in sorted({float(v) for v in stored if math.isfinite(v)}):
        own = int(value) if value.is_integer() else value
        rgb = colours.paint(np.array([[own]]).astype(told.variable.np_dtype))[0, 0, :3]
        name = told.names.get(own, "")
        out[f"{own}"] = {"name": name, "colour": hex_of((int(rgb[0]), int(rgb[1]), int(rgb[2])))}
    return out
