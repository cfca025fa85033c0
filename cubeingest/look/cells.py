"""Maps of regions that are small enough: for a terminal, for a notebook. Their cells tell of one region, or of several."""

from __future__ import annotations

import itertools
import math

import numpy as np

from cubeingest.grid import TilingGrid
from cubeingest.look.states import Counts

MOST_ROWS = 20
"""Lines that a map in a terminal takes at most."""

NOTEBOOK_CELLS_YX = (50, 80)
"""Cells that a map in a notebook has at most, if there are more regions than that: it takes 100 kB if no two that are side by side are alike."""


def shrink_counts(counts: Counts, grid: TilingGrid, columns: int, cells_in_line: int = 2) -> Counts:
    """Counts by region (iy, ix) as counts by cell of a map, north up, ``columns`` wide at most and ``MOST_ROWS`` lines of ``cells_in_line`` high.

    Cells are about as high as wide if a line has two of them. A region fills a whole number of cells, or a cell tells of several.
    """
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
