"""Overviews of HEALPix cells: level n has cells of order - n, down to one cell a region, made in runs of regions that lie one after another.

Runs are counted by position, so that those of some regions only are as full as those of the whole globe. Nothing is made of cells of
several regions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cubeingest.errors import GridError
from cubeingest.grid import HealpixGrid
from cubeingest.spec import Variable

READ_CELLS = 4**10
"""Cells (1 million) that a run of the first stage has at most, if it is more than one region: all of it is made again after a change of one."""

TOGETHER = 4**3
"""Regions, or runs of the stage before, that are put together at most: a cell's record names them all."""

LEAST_CELLS = 4**3
"""Cells of a run at the coarsest level that is made of it, at least, as long as there may be a next stage: a run has chunks of its own there, which
may not be tiny.
"""

CHUNK_CELLS = 4**8
"""Cells of a chunk at most: half a megabyte of float64."""


@dataclass(frozen=True)
class RegionRuns(HealpixGrid):
    """A grid of HEALPix cells whose regions are put ``together``, so many that follow one another; the last run may be shorter."""

    together: int = 1

    @property
    def _n_cells(self) -> int:
        n = self._n_parents if self.parents is None else len(self.parents)
        return n * self.cells_in_region

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        return (self._n_cells,)

    @property
    def region_shape(self) -> tuple[int, ...]:
        """Cells of a run."""
        return (self.cells_in_region * self.together,)

    @property
    def lattice_shape_yx(self) -> tuple[int, int]:
        """One row of runs."""
        return 1, -(-self._n_cells // self.region_shape[0])

    def region_id(self, iy: int, ix: int) -> str:
        """The ids of a run's first and last region."""
        if iy != 0 or not 0 <= ix < self.lattice_shape_yx[1]:
            raise GridError(f"no run of regions at row {iy}, column {ix}: there is one row of {self.n_regions}")
        (cells,) = self.slices(iy, ix)
        first, last = (self.parent(i // self.cells_in_region) for i in (cells.start, cells.stop - 1))
        return str(first) if first == last else f"{first}..{last}"

    def slices(self, iy: int, ix: int) -> tuple[slice, ...]:
        (size,) = self.region_shape
        return (slice(ix * size, min((ix + 1) * size, self._n_cells)),)


def most_levels_of_cells(grid: HealpixGrid) -> int:
    """The level at which a region is one cell."""
    return grid.order - grid.region_order


def plan_runs(grid: HealpixGrid, n_levels: int) -> list[tuple[int, int, tuple[int, int]]]:
    """(first level, last level, (1, cells of a run of the level that is read)) of each stage."""
    out = []
    done, together = 0, min(TOGETHER, max(1, READ_CELLS // grid.cells_in_region))
    while done < n_levels:
        cells = together * grid.cells_in_region >> 2 * done
        last = done + 1
        while last < n_levels and cells >> 2 * (last + 1 - done) >= LEAST_CELLS:
            last += 1
        out.append((done + 1, last, (1, cells)))
        done, together = last, together * TOGETHER
    return out


def runs_at(grid: HealpixGrid, number: int, run: int) -> RegionRuns:
    """The grid of a level, in runs of ``run`` of its cells."""
    order = grid.order - number
    each = 4 ** (order - grid.region_order)
    return RegionRuns(order, grid.region_order, grid.ellipsoid, grid.parents, grid.axes, run // each)


def cells_at_level(variable: Variable, grid: RegionRuns) -> Variable:
    """A variable as a level of ``grid`` has it. Counts and sums of whole numbers are 64 bits wide, whatever they are in the cube (and by whatever rule the
    level is made: the spec may come to say another).
    """
    chunk = min(*grid.region_shape, *grid.spatial_shape, CHUNK_CELLS)
    statistic, dtype = variable.aggregate, variable.np_dtype
    is_sum = statistic is not None and statistic.kind in ("count", "sum")
    wide = {"i": "int64", "u": "uint64"}.get(dtype.kind, dtype.name) if is_sum else dtype.name
    return replace(variable, dtype=wide, chunks=(*variable.chunks[:-1], chunk), shards=None, source=None)
