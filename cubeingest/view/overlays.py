"""What lies above the pixels of a tile: coastlines, and outlines of regions with their ids. Lines in pixels of the tile, as the screen has it."""

from __future__ import annotations

from typing import Any

import numpy as np

from cubeingest.boxes import mapper, parse_crs
from cubeingest.coast import coast_within
from cubeingest.errors import GridError
from cubeingest.grid import HealpixGrid, TilingGrid
from cubeingest.healpix import cells_at, outlines
from cubeingest.look.fields import parents_of
from cubeingest.view.lattice import EQUATOR_METRES, TILE, Lattice

Array = np.ndarray[Any, Any]

LEAST_REGION_PX = 6
"""Pixels of a region along a side below which no outline is drawn: nothing else would be seen."""

NAMED_REGION_PX = 56
"""Pixels of a region along a side from which on its id has room."""

LETTERS_PX = 60
"""Pixels to the side of its middle that an id takes at most: tiles beside that of its middle have their part of it."""

ROOM = 0.02
"""Of a tile around it, so that lines go on from one to the next."""

EDGE_POINTS = 12


def coast_of(lattice: Lattice, level: int, row: int, column: int) -> dict[str, Any]:
    """Coastlines of a tile; none where the CRS has no place for them."""
    left, bottom, right, top = lattice.bounds(level, row - ROOM, column - ROOM, 1 + 2 * ROOM)
    west, south, east, north = lattice.extent
    left, bottom, right, top = max(left, west), max(bottom, south), min(right, east), min(top, north)
    try:
        lines = coast_within((left, bottom, right, top), lattice.crs, 2 * TILE) if bottom < top and left < right else []
    except GridError:
        lines = []
    if lattice.name in ("north", "south"):
        lines = [part for line in lines for part in _this_side(line)]
    return {"lines": [_in_tile(lattice, level, row, column, line) for line in lines], "labels": []}


def regions_of(grid: TilingGrid | HealpixGrid, lattice: Lattice, level: int, row: int, column: int) -> dict[str, Any]:
    """Outlines of the regions of a tile, as far as they can be told apart, and ids where there is room for them."""
    if isinstance(grid, HealpixGrid):
        return _cells(grid, lattice, level, row, column)
    return _pixels(grid, lattice, level, row, column)


def _pixels(grid: TilingGrid, lattice: Lattice, level: int, row: int, column: int) -> dict[str, Any]:
    window = lattice.window(level, row, column)
    assert window is not None
    sizes = [r / 2**level for r in grid.region_shape_yx]
    if min(sizes) < LEAST_REGION_PX:
        return {"lines": [], "labels": []}
    start = (row * TILE << level), (column * TILE << level)
    # With those around it: their ids may reach into the tile.
    rows, columns = (
        range(max(0, s.start // r - 1), min(n, -(-s.stop // r) + 1))
        for s, r, n in zip(window, grid.region_shape_yx, grid.lattice_shape_yx, strict=True)
    )
    lines, labels = [], []
    for iy in rows:
        for ix in columns:
            y, x = grid.slices(iy, ix)
            (y0, y1), (x0, x1) = (
                tuple((edge - first) / 2**level for edge in (s.start, s.stop))
                for s, first in zip((y, x), start, strict=True)
            )
            y0, y1 = _screen(lattice, y0), _screen(lattice, y1)
            lines.append([x0, y0, x1, y0, x1, y1, x0, y1, x0, y0])
            middle = (x0 + x1) / 2, (y0 + y1) / 2
            if min(sizes) >= NAMED_REGION_PX and _is_seen(middle):
                labels.append([*(round(m, 1) for m in middle), grid.region_id(iy, ix)])
    return {"lines": [[round(v, 1) for v in line] for line in lines], "labels": labels}


def _cells(grid: HealpixGrid, lattice: Lattice, level: int, row: int, column: int) -> dict[str, Any]:
    lon, lat = lattice.places(level, row, column)
    places = grid.places_of(cells_at(lon[::4, ::4], lat[::4, ::4], grid.region_order, grid.ellipsoid))
    found, counts = np.unique(places[places >= 0], return_counts=True)
    if not found.size or np.median(counts) * 16 < LEAST_REGION_PX**2:
        return {"lines": [], "labels": []}
    rings = outlines(parents_of(grid)[found], grid.region_order, grid.ellipsoid, EDGE_POINTS)
    lines, labels = [], []
    for place, n, ring in zip(found.tolist(), counts.tolist(), rings, strict=True):
        if lattice.is_geographic:
            middle = lattice.origin_x + 180
            x = middle + (ring[:, 0] - middle + 180) % 360 - 180
            cut = np.ptp(x) > 180  # by the edge of the map: drawn on both of its sides
            turns = [np.where(x < middle, x + 360, x), np.where(x > middle, x - 360, x)] if cut else [x]
            points = [np.stack([t, ring[:, 1]], axis=1) for t in turns]
        else:
            points = [np.stack(mapper(parse_crs("OGC:CRS84"), parse_crs(lattice.crs))(*ring.T), axis=1)]
        own = [_in_tile(lattice, level, row, column, p) for p in points if np.isfinite(p).all()]
        lines += own
        at = np.argwhere(places == place).mean(axis=0) * 4
        if own and n * 16 >= NAMED_REGION_PX**2 * 0.9:
            labels.append([round(float(at[1]), 1), round(float(at[0]), 1), grid.region_id(0, place)])
    return {"lines": lines, "labels": labels}


def _is_seen(middle: tuple[float, float]) -> bool:
    """Whether a text around a place (x, y) reaches into the tile."""
    return -LETTERS_PX < middle[0] < TILE + LETTERS_PX and -LETTERS_PX / 4 < middle[1] < TILE + LETTERS_PX / 4


def _this_side(line: Array) -> list[Array]:
    """The parts of a line around a pole that lie on this side of the equator."""
    inside = np.hypot(line[:, 0], line[:, 1]) < EQUATOR_METRES
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8))).reshape(-1, 2)
    return [line[a:b] for a, b in edges.tolist() if b - a > 1]


def _screen(lattice: Lattice, y: float) -> float:
    """A row of a tile as the screen has it, the first at the top."""
    return y if lattice.north_up else TILE - y


def _in_tile(lattice: Lattice, level: int, row: int, column: int, line: Array) -> list[float]:
    """A line of CRS units, (n, 2), as x, y, x, y, ... in pixels of a tile."""
    x = ((line[:, 0] - lattice.origin_x) / lattice.step_x - (column * TILE << level)) / 2**level
    y = ((line[:, 1] - lattice.origin_y) / lattice.step_y - (row * TILE << level)) / 2**level
    y = y if lattice.north_up else TILE - y
    found: list[float] = np.stack([x, y], axis=1).round(1).ravel().tolist()
    return found
