"""A map of regions that is small enough for a terminal."""

from __future__ import annotations

import itertools
import math

import numpy as np

from cubeingest.grid import TilingGrid
from cubeingest.look.states import Counts

MOST_ROWS = 20
"""Lines that a map takes at most."""


def shrink_counts(counts: Counts, grid: TilingGrid, columns: int, cells_in_line: int = 2) -> Counts:
    """Counts by region (iy, ix) as counts by cell of a map, north up, ``columns`` wide at most and ``MOST_ROWS`` lines of ``cells_in_line`` high.

    Cells are about as high as wide if a line has two of them. A region fills a whole number of cells, or a cell tells of several.
    """
    ny, nx = grid.lattice_shape_yx
    (ry, rx), most_rows = grid.region_shape_yx, MOST_ROWS * cells_in_line
    tall = ry * abs(float(grid.resolution_y)) / (rx * float(grid.resolution_x)) * cells_in_line / 2
    scale = min(columns / nx, most_rows / (ny * tall))
    rows, places = _parts(ny, _size(ny, scale * tall, most_rows)), _parts(nx, _size(nx, scale, columns))
    out = {}
    for kind, lattice in counts.items():
        north_up = lattice if grid.resolution_y < 0 else lattice[::-1]
        out[kind] = np.array([[north_up[y, x].sum() for x in places] for y in rows], np.int64)
    return out


def _size(n: int, scale: float, most: int) -> int:
    """Cells for ``n`` regions: a whole number for each as long as there is room for one."""
    each = math.floor(scale)
    return min(most, n * each) if each >= 1 else max(1, min(most, round(n * scale)))


def _parts(n: int, cells: int) -> list[slice]:
    """The regions of each cell, at least one."""
    edges = [i * n // cells for i in range(cells + 1)]
    return [slice(a, max(a + 1, b)) for a, b in itertools.pairwise(edges)]
