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

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cubeingest.boxes import finite, mapper, parse_crs, query_boxes
from cubeingest.errors import GridError, nearest
from cubeingest.plan import positions_of
from cubeingest.steps import overlapped_chunks, snap, to_fraction

if TYPE_CHECKING:
    import numpy.typing as npt

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
    """Positions along each dimension of the cube, in order, each once. ``text`` is what was asked."""

    text: str
    positions: Mapping[str, npt.NDArray[np.int64]]

    def along(self, variable: Variable) -> list[npt.NDArray[np.int64]]:
        """Positions along the dimensions of one variable."""
        return [self.positions[dim] for dim in variable.dims]


def parse_query(spec: CubeSpec, text: str) -> Query:
    """Read a query. Raises :class:`GridError` for what is none, or lies outside the cube."""
    kind, words, terms = _split(text)
    positions = {axis.name: np.arange(axis.size) for axis in spec.grid.axes}
    in_space = dict(zip(spec.grid.dims_yx, map(np.arange, spec.grid.shape_yx), strict=True))
    names = {"y": spec.grid.dims_yx[0], "x": spec.grid.dims_yx[1]}
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
            in_space[dim] = _pixels(dim, values, len(in_space[dim]))
    if kind == "pixel":
        in_space = _pixel(spec, _numbers("pixel", words, 2))
    elif kind == "region":
        in_space = _region(spec, words)
    elif words:
        raise GridError(f"{kind} takes no {words[0]!r}: write {EXAMPLES[kind]}")
    if kind == "map":
        _check_one_each(spec, positions, terms)
    return Query(text, {**positions, **in_space})


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


def _labelled(spec: CubeSpec, name: str, values: Iterable[str]) -> npt.NDArray[np.int64]:
    axis = spec.grid.axis(name)
    return np.array(sorted({i for text in values for i in positions_of(axis, text)}), np.int64)


def _pixels(dim: str, values: list[str], size: int) -> npt.NDArray[np.int64]:
    """``0:4000``, ``:4000``, ``4000:`` or one pixel."""
    if len(values) > 1:
        raise GridError(f"{dim}={','.join(values)}: pixels are one run, such as {dim}=0:{min(size, 1000)}")
    first, colon, last = values[0].partition(":")
    try:
        start = int(first) if first or not colon else 0
        stop = (int(last) if last else size) if colon else start + 1
    except ValueError:
        raise GridError(f"{dim}={values[0]}: write pixels from and to, such as {dim}=0:{min(size, 1000)}") from None
    if not 0 <= start <= size or not 0 <= stop <= size:
        raise GridError(f"{dim}={values[0]} is outside the grid, which has {size} pixels along {dim} (0 to {size - 1})")
    if start >= stop:
        raise GridError(f"{dim}={values[0]} is empty: the first pixel comes before the last, which is not included")
    return np.arange(start, stop)


def _numbers(kind: str, words: list[str], count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, words))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise GridError(f"{kind} {' '.join(words)}: write {EXAMPLES[kind]}")
    return numbers


def _pixel(spec: CubeSpec, lonlat: tuple[float, ...]) -> dict[str, npt.NDArray[np.int64]]:
    """Where a point lies; on an edge that two pixels share, in the one with the higher index."""
    grid = spec.grid
    lon, lat = lonlat
    x, y = finite(mapper(parse_crs(LONLAT), parse_crs(grid.crs))(*finite((lon, lat))))
    left = grid.bounds()[0]
    if parse_crs(grid.crs).is_geographic:
        x = left + (x - left) % 360 if not left <= x < grid.bounds()[2] else x
    row = math.floor(snap((to_fraction(float(y)) - grid.origin_y) / grid.resolution_y))
    column = math.floor(snap((to_fraction(float(x)) - grid.origin_x) / grid.resolution_x))
    if not (0 <= row < grid.shape_yx[0] and 0 <= column < grid.shape_yx[1]):
        raise GridError(f"the point {lon:g} {lat:g} is outside the grid, whose bounds are {grid.bounds()}")
    return dict(zip(grid.dims_yx, (np.array([row]), np.array([column])), strict=True))


def _region(spec: CubeSpec, words: list[str]) -> dict[str, npt.NDArray[np.int64]]:
    """Pixels of one region, or those that a box of longitudes and latitudes truly overlaps."""
    grid = spec.grid
    if len(words) == 1:
        slices = grid.slices(*grid.region_index(words[0]))
        return {dim: np.arange(s.start, s.stop) for dim, s in zip(grid.dims_yx, slices, strict=True)}
    west, south, east, north = _numbers("region", words, 4)
    rows, columns = set[int](), set[int]()
    for box, _ in query_boxes((west, south, east, north), LONLAT, grid.crs):
        left, bottom, right, top = (to_fraction(v) for v in box)
        y0, y1 = ((v - grid.origin_y) / grid.resolution_y for v in (top, bottom)[:: -1 if grid.resolution_y > 0 else 1])
        x0, x1 = ((v - grid.origin_x) / grid.resolution_x for v in (left, right))
        along_y, along_x = (
            overlapped_chunks(y0, y1, grid.shape_yx[0], 1),
            overlapped_chunks(x0, x1, grid.shape_yx[1], 1),
        )
        if along_y and along_x:
            rows.update(along_y)
            columns.update(along_x)
    if not rows:
        raise GridError(f"region {' '.join(words)} overlaps no pixel of the grid, whose bounds are {grid.bounds()}")
    return dict(zip(grid.dims_yx, (np.array(sorted(rows)), np.array(sorted(columns))), strict=True))


def _check_one_each(
    spec: CubeSpec, positions: Mapping[str, npt.NDArray[np.int64]], terms: Mapping[str, object]
) -> None:
    for axis in spec.grid.axes:
        if len(positions[axis.name]) > 1:
            given = "several values" if axis.name in terms else "no value"
            raise GridError(
                f"a map is at one value of each axis, and {axis.name} has {given}: write {axis.name}={axis.labels[0]}, or scan for all"
            )
