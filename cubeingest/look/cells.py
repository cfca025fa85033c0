"""Maps of regions that are small enough: for a terminal, for a notebook. Their cells tell of one region, or of several."""

from __future__ import annotations

import itertools
import math

import numpy as np

from cubeingest.boxes import Box
from cubeingest.grid import Grid, HealpixGrid, TilingGrid
from cubeingest.healpix import cells_at
from cubeingest.look.fields import box_of
from cubeingest.look.states import Counts

MOST_ROWS = 20
"""Lines that a map in a terminal takes at most."""

NOTEBOOK_CELLS_YX = (50, 80)
"""Cells that a map in a notebook has at most, if there are more regions than that: it takes 100 kB if no two that are side by side are alike."""


BASE_DEGREES = 58.6
"""The side of a square as large as one of the twelve base cells."""


def shrink_counts(counts: Counts, grid: Grid, columns: int, cells_in_line: int = 2) -> Counts:
    """Counts by region (iy, ix) as counts by cell of a map, north up, ``columns`` wide at most and ``MOST_ROWS`` lines of ``cells_in_line`` high.

    Cells are about as high as wide if a line has two of them. A region fills a whole number of cells, or a cell tells of several; regions of HEALPix
    cells are on a map of longitudes and latitudes, and each fills those cells of the map that it has a point in.
    """
    if isinstance(grid, HealpixGrid):
        box = seen_box(grid, counts)
        wide, high = box[2] - box[0], (box[3] - box[1]) * cells_in_line / 2
        scale = min(columns / wide, MOST_ROWS * cells_in_line / high)
        return spread_counts(counts, grid, box, (max(1, round(high * scale)), max(1, round(wide * scale))))
    assert isinstance(grid, TilingGrid)
    ny, nx = grid.lattice_shape_yx
    (ry, rx), most_rows = grid.region_shape_yx, MOST_ROWS * cells_in_line
    tall = ry * abs(float(grid.resolution_y)) / (rx * float(grid.resolution_x)) * cells_in_line / 2
    scale = min(columns / nx, most_rows / (ny * tall))
    rows, places = _parts(ny, _size(ny, scale * tall, most_rows)), _parts(nx, _size(nx, scale, columns))
    north_up = counts if grid.resolution_y < 0 else {kind: lattice[::-1] for kind, lattice in counts.items()}
    return _summed(north_up, rows, places)


def thin_counts(counts: Counts) -> Counts:
    """Counts by region (iy, ix), of too many, as counts by cell of a map of ``NOTEBOOK_CELLS_YX`` at most; in the order of the grid, each cell of as many regions
    as the others, but for one.
    """
    ny, nx = next(iter(counts.values())).shape
    if ny * nx <= math.prod(NOTEBOOK_CELLS_YX):
        return counts
    rows, places = (_parts(n, min(n, most)) for n, most in zip((ny, nx), NOTEBOOK_CELLS_YX, strict=True))
    return _summed(counts, rows, places)


def seen_box(grid: HealpixGrid, counts: Counts) -> Box:
    """The box of longitudes and latitudes around the regions of a grid that is restricted to some, else around those that have something to tell of."""
    if grid.parents is not None:
        return box_of(grid)
    told = sum(n.astype(bool) for kind, n in counts.items() if kind != "absent")
    return box_of(grid, {(0, ix) for ix in np.flatnonzero(told).tolist()})


def spread_counts(counts: Counts, grid: HealpixGrid, box: Box, shape_yx: tuple[int, int]) -> Counts:
    """Counts by region of HEALPix cells as counts by cell of a map of longitudes and latitudes, north up: the sum of all regions with a point in it."""
    (rows, columns), side = shape_yx, region_degrees(grid)
    # So many points along each side of a cell of the map that no region lies between them.
    n = max(1, math.ceil(2 * max((box[2] - box[0]) / columns, (box[3] - box[1]) / rows) / side))
    lon = box[0] + (box[2] - box[0]) * (np.arange(columns * n) + 0.5) / (columns * n)
    lat = box[3] - (box[3] - box[1]) * (np.arange(rows * n) + 0.5) / (rows * n)
    out = {kind: np.zeros(shape_yx, np.int64) for kind in counts}
    for row in range(rows):
        x, y = np.meshgrid((lon + 180) % 360 - 180, lat[row * n : (row + 1) * n])
        places = grid.places_of(cells_at(x, y, grid.region_order, grid.ellipsoid))
        cell = np.broadcast_to(np.arange(columns * n) // n, places.shape)
        at, ix = np.divmod(np.unique((cell * grid.n_regions + places)[places >= 0]), grid.n_regions)
        for kind, lattice in counts.items():
            out[kind][row] = np.bincount(at, lattice[0, ix], columns).astype(np.int64)
    return out


def region_degrees(grid: HealpixGrid) -> float:
    """The side of a region, about, in degrees."""
    side: float = BASE_DEGREES / 2**grid.region_order
    return side


def _summed(counts: Counts, rows: list[slice], places: list[slice]) -> Counts:
    return {
        kind: np.array([[lattice[y, x].sum() for x in places] for y in rows], np.int64)
        for kind, lattice in counts.items()
    }


def _size(n: int, scale: float, most: int) -> int:
    """Cells for ``n`` regions: a whole number for each as long as there is room for one."""
    each = math.floor(scale)
    return min(most, n * each) if each >= 1 else max(1, min(most, round(n * scale)))


def _parts(n: int, cells: int) -> list[slice]:
    """The regions of each cell, at least one."""
    edges = [i * n // cells for i in range(cells + 1)]
    return [slice(a, max(a + 1, b)) for a, b in itertools.pairwise(edges)]
