"""Which overviews a cube may have, and in what pieces they are made. Pure arithmetic on a spec.

Level n has pixels of 2**n base pixels a side, from the same origin; a last row or column that the base does not fill is kept. Levels are made in
**stages**: a stage reads one level (the first one the cube itself) in **cells**, and makes the next few levels of each cell in one go.
Cells of the first stage are regions, or as many together as are divisible often enough. What is other for HEALPix cells, of which the stages' cells are
runs of regions, is in ``runs``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from cubeingest.errors import GridError
from cubeingest.grid import Grid, HealpixGrid, TilingGrid
from cubeingest.overviews.rules import Rule, rules_of
from cubeingest.overviews.runs import cells_at_level, most_levels_of_cells, plan_runs, runs_at
from cubeingest.spec import OVERVIEWS, CubeSpec, Variable

LAYOUT = 1
"""Version of how stages, cells and chunks follow from a spec. Raised when they follow otherwise: then overviews of before are not used, and made anew."""

COARSEST_SIDE = 1024
"""Pixels along the longer side that the coarsest level has at most, if nobody says how many levels there are to be."""

CELL_SIDE = 256
"""Pixels of a cell at the coarsest level that is made of it, at least: a cell has chunks of its own there, which may not be tiny."""

STAGE_LEVELS = 3
"""Levels that a stage makes at least, as long as no more than ``UNITS`` regions, or the smallest cell that ``CELL_SIDE`` allows, are put together
for it along a side. With fewer, more is written and read again between stages; with more, a change of one region makes many again.
"""

UNITS = 2

LATER_CELL = 8192
"""Pixels of a cell of the later stages along each side: of GLAD's, one is a twenty-fourth of a region."""

CHUNK_SIDES = (256, 2048)
"""Chunks of overviews have a side as near as can be to the base's, but not less and not more than this: they are for looking."""


@dataclass(frozen=True)
class Level:
    """One level. ``spec`` is the cube's, with this level's grid, whose regions are the cells that it is made in, and the variables that
    have overviews.
    """

    number: int
    spec: CubeSpec

    @property
    def group(self) -> str:
        """Path of the group that holds the level's variables and coordinates."""
        return f"{OVERVIEWS}/{self.number}"

    def path(self, variable: str) -> str:
        """Path of a variable's array at this level."""
        return f"{self.group}/{variable}"


@dataclass(frozen=True)
class Stage:
    """Levels ``first`` to ``last``, made from the level below ``first`` (0 is the base) in cells of ``cell_yx`` pixels of that (of HEALPix: one row).

    ``spec`` is the cube's, with the grid that is read and the cells as its regions. A variable's name there is that of its records in
    the ledger, so that the cells are slots like others.
    """

    number: int
    first: int
    last: int
    cell_yx: tuple[int, int]
    spec: CubeSpec

    def name(self, variable: str) -> str:
        """What a variable's cells are called in the ledger."""
        return f"{variable}/{OVERVIEWS}/{self.number}"


@dataclass(frozen=True)
class Pyramid:
    """All levels of a cube, finest first, if it has ``n_levels``; of the variables called ``only``, if it is given."""

    base: CubeSpec
    n_levels: int
    only: tuple[str, ...] | None = None

    @cached_property
    def rules(self) -> dict[str, Rule]:
        """How the overviews of each variable that has any are made."""
        rules, _ = rules_of(self.base)
        names = {name for name in rules if self.only is None or name in self.only}
        return {name: rule for name, rule in rules.items() if names.issuperset((name, *rule.needs))}

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """The base's variables that have overviews."""
        return tuple(v for v in self.base.variables if v.name in self.rules)

    @cached_property
    def methods(self) -> dict[str, str]:
        """How the overviews of each are made, in a word."""
        return {name: rule.method for name, rule in self.rules.items()}

    @cached_property
    def _steps(self) -> list[tuple[int, int, tuple[int, int]]]:
        """(first level, last level, cell) of each stage."""
        if self.base.healpix is not None:
            return plan_runs(self.base.healpix, self.n_levels)
        out: list[tuple[int, int, tuple[int, int]]] = []
        done = 0
        unit = self.base.tiling.region_shape_yx
        while done < self.n_levels:
            shape = _shape(self.base.tiling, done)
            n, cell = _stage(shape, unit, self.n_levels - done)
            out.append((done + 1, done + n, cell))
            done += n
            unit = (LATER_CELL, LATER_CELL)
        return out

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        out = []
        for first, last, cell in self._steps:
            for number in range(first, last + 1):
                grid, variables = self._at_level(number, cell, number - first + 1)
                out.append(Level(number, replace(self.base, grid=grid, variables=variables, store=None)))
        return tuple(out)

    def _at_level(self, number: int, cell: tuple[int, int], steps: int) -> tuple[Grid, tuple[Variable, ...]]:
        """Grid and variables of a level that is made of cells in so many steps."""
        if self.base.healpix is not None:
            runs = runs_at(self.base.healpix, number, cell[1] >> 2 * steps)
            return runs, tuple(cells_at_level(v, runs) for v in self.variables)
        grid = _level_grid(self.base.tiling, number, (cell[0] >> steps, cell[1] >> steps))
        return grid, tuple(_at_level(v, grid) for v in self.variables)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        out = []
        for i, (first, last, cell) in enumerate(self._steps, 1):
            below = self.base if first == 1 else self.levels[first - 2].spec
            names = {v.name: f"{v.name}/{OVERVIEWS}/{i}" for v in self.variables}
            healpix = self.base.healpix
            grid = _with_regions(below.tiling, cell) if healpix is None else runs_at(healpix, first - 1, cell[1])
            variables = tuple(replace(below.variable(name), name=new) for name, new in names.items())
            out.append(Stage(i, first, last, cell, replace(below, grid=grid, variables=variables)))
        return tuple(out)

    def below(self, stage: Stage) -> tuple[CubeSpec, dict[str, str]]:
        """What a stage reads: the spec whose regions make up its cells, and the path of each variable's array."""
        if stage.first == 1:
            return self.base, {v.name: v.name for v in self.variables}
        level = self.levels[stage.first - 2]
        return level.spec, {v.name: level.path(v.name) for v in self.variables}


def levels_by_default(grid: Grid) -> int:
    """As many as it takes for the longer side to have no more than ``COARSEST_SIDE`` pixels; of HEALPix cells, for a region to be one."""
    if isinstance(grid, HealpixGrid):
        return most_levels_of_cells(grid)
    assert isinstance(grid, TilingGrid)
    return max(0, math.ceil(math.log2(max(grid.shape_yx) / COARSEST_SIDE)))


def make_pyramid(spec: CubeSpec, n_levels: int) -> Pyramid:
    """The pyramid of a cube. Raises :class:`GridError` if there are not so many levels."""
    most = most_levels(spec.grid)
    if not 0 <= n_levels <= most and spec.healpix is not None:
        raise GridError(
            f"levels is {n_levels}: of cells of order {spec.healpix.order} in regions of order {spec.healpix.region_order} there are at most {most}, "
            "the last of which has one cell a region"
        )
    if not 0 <= n_levels <= most:
        raise GridError(
            f"levels is {n_levels}: of {' x '.join(map(str, spec.tiling.shape_yx))} pixels there are at most {most}, the last of which is one pixel"
        )
    return Pyramid(spec, n_levels)


def most_levels(grid: Grid) -> int:
    """The level that is one pixel; of HEALPix cells, that at which a region is one."""
    if isinstance(grid, HealpixGrid):
        return most_levels_of_cells(grid)
    assert isinstance(grid, TilingGrid)
    return (max(grid.shape_yx) - 1).bit_length()


def _shape(grid: TilingGrid, number: int) -> tuple[int, int]:
    ny, nx = grid.shape_yx
    return -(-ny >> number), -(-nx >> number)


def _level_grid(base: TilingGrid, number: int, region_yx: tuple[int, int]) -> TilingGrid:
    size = 2**number
    scaled = replace(
        base, resolution_x=base.resolution_x * size, resolution_y=base.resolution_y * size, shape_yx=_shape(base, number),
        region_shape_yx=(1, 1), id_template="y{iy}_x{ix}",
    )  # fmt: skip
    return _with_regions(scaled, region_yx)


def _with_regions(grid: TilingGrid, region_yx: tuple[int, int]) -> TilingGrid:
    (ry, rx), (ny, nx) = region_yx, grid.shape_yx
    return replace(grid, region_shape_yx=(min(ry, ny), min(rx, nx)), id_template="y{iy}_x{ix}")


def _stage(shape: tuple[int, int], unit: tuple[int, int], n_left: int) -> tuple[int, tuple[int, int]]:
    """How many levels a stage makes, and its cells: units, or so many of them together that they can be halved often enough."""
    for at_least in range(min(STAGE_LEVELS, n_left), 0, -1):
        cells = [_cell(n, size, at_least) for n, size in zip(shape, unit, strict=True)]
        if all(c <= max(UNITS * u, CELL_SIDE << at_least) for c, u in zip(cells, unit, strict=True)):
            break
    most = n_left
    for n, cell in zip(shape, cells, strict=True):
        if cell < n:
            most = min(most, max(k for k in range(at_least, n_left + 1) if cell % 2**k == 0 and cell >> k >= CELL_SIDE))
    # One cell that spans the whole side is as long as it takes: its end is cut as the array's is.
    whole = [c if c < n else -(-n // 2**most) * 2**most for c, n in zip(cells, shape, strict=True)]
    return most, (whole[0], whole[1])


def _cell(n: int, unit: int, levels: int) -> int:
    """Units together along a side that can be halved ``levels`` times, or span all of it."""
    cell = unit
    while cell < n and (cell % 2**levels or cell >> levels < CELL_SIDE):
        cell *= 2
    return cell


def _at_level(variable: Variable, grid: TilingGrid) -> Variable:
    chunks = (*variable.chunks[:-2], *_chunk_sides(variable, grid))
    return replace(variable, chunks=chunks, shards=None, source=None)


def _chunk_sides(variable: Variable, grid: TilingGrid) -> Iterator[int]:
    sizes = zip(variable.chunks[-2:], grid.shape_yx, grid.region_shape_yx, grid.lattice_shape_yx, strict=True)
    for chunk, n, cell, n_cells in sizes:
        target = min(max(chunk, CHUNK_SIDES[0]), CHUNK_SIDES[1])
        if n_cells == 1:
            yield min(target, n)
        else:
            yield min(_divisors(cell), key=lambda d: abs(math.log(d / target)))


def _divisors(n: int) -> Iterator[int]:
    for d in range(1, math.isqrt(n) + 1):
        if n % d == 0:
            yield d
            yield n // d
