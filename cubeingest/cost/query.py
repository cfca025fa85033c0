"""What a read asks for, as a person says it: the grammar of ``cubeingest cost``, and positions along each dimension of the cube.

::

    pixel LON LAT [AXIS=VALUES]      one pixel, at all values of the axes or at those named
    map AXIS=VALUE                   every pixel at one value of each axis
    region W S E N [AXIS=VALUES]     the pixels within a box of longitudes and latitudes
    region ID [AXIS=VALUES]          those of one region
    scan                             everything
    AXIS=VALUES y=0:4000 x=100:300   any slice: pixels y 0 to 3999; what is not named is not restricted

``VALUES`` are labels: ``2000``, ``2000,2005`` or ``2000..2020`` (both ends included). Between terms is a blank or a comma.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cubeingest.boxes import finite, mapper, parse_crs, query_boxes
from cubeingest.cost.positions import Positions
from cubeingest.errors import GridError, nearest
from cubeingest.selection import positions_of
from cubeingest.steps import overlapped_chunks, to_fraction

if TYPE_CHECKING:
    from fractions import Fraction

    from cubeingest.spec import CubeSpec, Variable

LONLAT = "OGC:CRS84"

EXAMPLES = {
    "pixel": "pixel LON LAT, such as pixel -60.5 -3.2",
    "map": "map AXIS=VALUE, such as map year=2000",
    "region": "region W S E N, such as region -61 -4 -60 -3, or region ID",
    "scan": "scan",
}
"""How each kind of query is written."""


@dataclass(frozen=True)
class Query:
    """Positions along each dimension of the cube. ``text`` is what was asked."""

    text: str
    positions: Mapping[str, Positions]

    def along(self, variable: Variable) -> list[Positions]:
        """Positions along the dimensions of one variable."""
        return [self.positions[dim] for dim in variable.dims]


def parse_query(spec: CubeSpec, text: str) -> Query:
    """Read a query. Raises :class:`GridError` for what is none, or lies outside the cube."""
    kind, words, terms = _split(text)
    sizes = dict(zip(spec.grid.spatial_dims, spec.grid.spatial_shape, strict=True))
    positions = {axis.name: Positions(((0, axis.size),)) for axis in spec.grid.axes}
    in_space = {dim: Positions(((0, size),)) for dim, size in sizes.items()}
    names = short_names(spec)
    for name, values in terms.items():
        dim = names.get(name, name)
        if dim in positions:
            positions[dim] = _labelled(spec, dim, values)
        elif dim not in in_space:
            known = [*positions, *in_space]
            raise GridError(
                f"the cube has no dimension {name!r}{nearest(name, known)} (dimensions: {', '.join(known)})"
            )
        elif kind:
            raise GridError(f"{kind} says itself where: leave {name}= out, or write a slice without {kind!r}")
        else:
            in_space[dim] = _cells(dim, values, sizes[dim])
    if kind == "pixel":
        in_space = _pixel(spec, _numbers("pixel", words, 2))
    elif kind == "region":
        in_space = _region(spec, words)
    elif words:
        raise GridError(f"{kind} takes no {words[0]!r}: write {EXAMPLES[kind]}")
    if kind == "map":
        _check_one_each(spec, positions, terms)
    return Query(text, {**positions, **in_space})


def short_names(spec: CubeSpec) -> dict[str, str]:
    """``y`` and ``x`` for the dimensions of a grid of pixels, whatever they are called."""
    return dict(zip("yx", spec.grid.spatial_dims, strict=True)) if len(spec.grid.spatial_dims) == 2 else {}


def _split(text: str) -> tuple[str, list[str], dict[str, list[str]]]:
    """The kind of a query (empty for a slice), its words, and values by dimension."""
    kind, words, terms = "", [], {}
    for n, word in enumerate(text.split()):
        last = None
        for piece in filter(None, word.split(",")):
            name, equals, value = piece.partition("=")
            if equals:
                if not name or not value:
                    raise GridError(f"{piece!r} is not DIMENSION=VALUES, such as year=2000")
                if name in terms:
                    raise GridError(f"{name} is given twice: write all of its values at once, such as {name}=A,B")
                last = terms[name] = [value]
            elif last is not None:
                last.append(piece)
            elif n == 0 and not kind:
                kind = piece
            else:
                words.append(piece)
    if not kind and not terms:
        raise GridError(
            f"the query is empty: write {'; '.join(EXAMPLES.values())}; or a slice such as y=0:1000 x=0:1000"
        )
    if kind and kind not in EXAMPLES:
        hint = nearest(kind, list(EXAMPLES))
        raise GridError(
            f"no query {kind!r}{hint} (queries: {', '.join(EXAMPLES)}, or a slice such as y=0:1000 x=0:1000)"
        )
    if not kind and words:
        raise GridError(f"{words[0]!r} is not DIMENSION=VALUES, such as y=0:1000")
    return kind, words, terms


def _labelled(spec: CubeSpec, name: str, values: Iterable[str]) -> Positions:
    axis = spec.grid.axis(name)
    return Positions.each(i for text in values for i in positions_of(axis, text))


def _cells(dim: str, values: list[str], size: int) -> Positions:
    """``0:4000``, ``:4000``, ``4000:`` or one pixel (or cell of HEALPix)."""
    example = f"{dim}=0:{min(size, 1000)}"
    if len(values) > 1:
        raise GridError(f"{dim}={','.join(values)}: write one run, such as {example}")
    first, colon, last = values[0].partition(":")
    try:
        start = int(first) if first or not colon else 0
        stop = (int(last) if last else size) if colon else start + 1
    except ValueError:
        raise GridError(f"{dim}={values[0]}: write from and to, such as {example}") from None
    if not 0 <= start <= size or not 0 <= stop <= size:
        raise GridError(f"{dim}={values[0]} is outside the grid: along {dim} it has {size} (0 to {size - 1})")
    if start >= stop:
        raise GridError(f"{dim}={values[0]} is empty: the first comes before the last, which is not included")
    return Positions(((start, stop),))


def _numbers(kind: str, words: list[str], count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, words))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise GridError(f"{kind} {' '.join(words)}: write {EXAMPLES[kind]}")
    return numbers


def _pixel(spec: CubeSpec, lonlat: tuple[float, ...]) -> dict[str, Positions]:
    """Where a point lies; on an edge that two cells share, in the one with the higher index."""
    grid = spec.grid
    lon, lat = finite(lonlat)
    x, y = mapper(parse_crs(LONLAT), parse_crs(grid.crs))(lon, lat)
    (cell,) = grid.locate(np.array([x], np.float64), np.array([y], np.float64)).tolist()
    if cell < 0:
        raise GridError(f"the point {lon:g} {lat:g} is outside the grid, whose bounds are {grid.bounds()}")
    place = np.unravel_index(cell, grid.spatial_shape)
    return {dim: Positions.each([int(i)]) for dim, i in zip(grid.spatial_dims, place, strict=True)}


def _region(spec: CubeSpec, words: list[str]) -> dict[str, Positions]:
    """Cells of one region; or the pixels that a box of longitudes and latitudes truly overlaps, of HEALPix the regions that it does."""
    grid = spec.grid
    if len(words) == 1:
        return _of_regions(spec, [grid.region_index(words[0])])
    west, south, east, north = _numbers("region", words, 4)
    if spec.healpix is not None:
        return _of_regions(spec, grid.get_chunks_for_bbox((west, south, east, north), LONLAT), words)
    tiling = spec.tiling
    rows, columns = [], []
    for (left, bottom, right, top), _ in query_boxes((west, south, east, north), LONLAT, tiling.crs):
        ends = (bottom, top) if tiling.resolution_y > 0 else (top, bottom)
        y = _run(ends, tiling.origin_y, tiling.resolution_y, tiling.shape_yx[0])
        x = _run((left, right), tiling.origin_x, tiling.resolution_x, tiling.shape_yx[1])
        if y and x:
            rows.append((y.start, y.stop))
            columns.append((x.start, x.stop))
    if not rows:
        raise _outside(spec, words)
    return {tiling.dims_yx[0]: Positions.joined(rows), tiling.dims_yx[1]: Positions.joined(columns)}


def _run(ends: tuple[float, float], origin: Fraction, step: Fraction, size: int) -> range:
    """Pixels along one dimension that two edges, in CRS units, enclose or cut."""
    start, stop = ((to_fraction(v) - origin) / step for v in ends)
    return overlapped_chunks(start, stop, size, 1)


def _of_regions(spec: CubeSpec, places: list[tuple[int, int]], words: Sequence[str] = ()) -> dict[str, Positions]:
    """Cells of regions, which are one, or have one spatial dimension."""
    if not places:
        raise _outside(spec, words)
    slices = [spec.grid.slices(*place) for place in places]
    along = zip(*slices, strict=True)
    return {
        dim: Positions.joined((s.start, s.stop) for s in several)
        for dim, several in zip(spec.grid.spatial_dims, along, strict=True)
    }


def _outside(spec: CubeSpec, words: Sequence[str]) -> GridError:
    return GridError(f"region {' '.join(words)} overlaps nothing of the grid, whose bounds are {spec.grid.bounds()}")


def _check_one_each(spec: CubeSpec, positions: Mapping[str, Positions], terms: Mapping[str, object]) -> None:
    for axis in spec.grid.axes:
        if len(positions[axis.name]) > 1:
            given = "several values" if axis.name in terms else "no value"
            raise GridError(
                f"a map is at one value of each axis, and {axis.name} has {given}: write {axis.name}={axis.labels[0]}, or scan for all"
            )
