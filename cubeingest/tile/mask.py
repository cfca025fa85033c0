"""A raster as a mask of regions.

It is read in windows, and the pixels in it that count are laid over the grid: on straight and parallel lattices by the edges of
rows and columns; else blocks of pixels are taken to the grid's CRS, and halved until each lies in one region, or is one pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.boxes import Mapper, mapper, parse_crs
from cubeingest.errors import TileError
from cubeingest.grid import TilingGrid
from cubeingest.outlines import polygons, sagitta, trace, unwrap
from cubeingest.remote import NOWHERE
from cubeingest.storage import public_href
from cubeingest.tile.header import clean, open_raster
from cubeingest.tile.pixels import Array, as_dtype, equals

if TYPE_CHECKING:
    import numpy.typing as npt
    from rasterio.io import DatasetReader

WINDOW_PIXELS = 2**22
"""Pixels of a mask that are held at once."""

EDGE_PX = 1e-6
"""What rounding to floats can do to an edge, in pixels, and more: an overlap below it is none."""

BLOCK_METRES = 1_000_000.0
"""Of a side of the blocks that are taken to another CRS first; the map of a larger one may be torn, or hold a pole."""

RADIUS = 6_378_137.0
"""Metres of the earth's."""

BLOCK_POINTS = 8
"""Parts into which an edge of a block is cut, and of a pixel that may lie in several regions."""

TEAR = 10
"""An outline with one step so many times its middle one is torn by an edge of the grid's CRS: only its points count."""

PAIRS_AT_ONCE = 200_000

ROWS_AT_ONCE = 20_000

Bools = np.ndarray[Any, np.dtype[np.bool_]]


def regions_of_mask(href: str, grid: TilingGrid) -> list[tuple[int, int]]:
    """Lattice places of the regions that share an area with a pixel, of the first band of a raster in any CRS, that counts.

    A pixel counts if it is neither 0, NaN nor nodata, and its mask, if there is one, shows it.

    Raises :class:`TileError` if it cannot be read, or has no CRS; :class:`GridError` if its CRS does not lead to the grid's.
    """
    from rasterio.errors import RasterioError

    with open_raster(href, NOWHERE) as src:
        if not src.crs:
            raise TileError(f"mask {public_href(href)!r} has no CRS, so nothing says where it lies: give it one")
        given, own = parse_crs(src.crs.to_wkt()), parse_crs(grid.crs)
        straight = not (src.transform.b or src.transform.d)
        lay = _Straight(src, grid) if straight and given.equals(own, ignore_axis_order=True) else _Bent(src, grid)
        try:
            for row, column, counts in _windows(src, lay):
                lay.take(row, column, counts)
                if lay.found.all():
                    break
        except (RasterioError, OSError) as e:
            raise TileError(f"mask {public_href(href)!r} cannot be read: {clean(e, href)}") from None
    return [(int(iy), int(ix)) for iy, ix in np.argwhere(lay.found)]


def _windows(src: DatasetReader, lay: _Straight | _Bent) -> Iterator[tuple[int, int, Bools]]:
    """First row and column of each window that may add to what is found, and which of its pixels count; none without any."""
    from rasterio.enums import MaskFlags
    from rasterio.windows import Window

    block_rows, block_columns = src.block_shapes[0]
    columns = min(src.width, max(1, WINDOW_PIXELS // block_rows // block_columns) * block_columns)
    columns = min(columns, WINDOW_PIXELS)
    rows = max(1, min(block_rows, WINDOW_PIXELS // columns))
    rows = min(src.height, rows * max(1, WINDOW_PIXELS // (rows * columns)))
    nodata = as_dtype(src.nodata, np.dtype(src.dtypes[0]))
    masked = MaskFlags.per_dataset in src.mask_flag_enums[0]
    for row in range(0, src.height, rows):
        for column in range(0, src.width, columns):
            height, width = min(rows, src.height - row), min(columns, src.width - column)
            if not lay.may_add(slice(row, row + height), slice(column, column + width)):
                continue
            window = Window(column, row, width, height)
            pixels = src.read(1, window=window)
            counts = pixels != 0
            if pixels.dtype.kind in "fc":
                counts &= ~np.isnan(pixels)
            if nodata is not None:
                counts &= ~equals(pixels, nodata)
            if masked and counts.any():
                counts &= src.read_masks(1, window=window) > 0
            if counts.any():
                yield row, column, counts


class _Straight:
    """A mask whose rows and columns run as the grid's do."""

    def __init__(self, src: DatasetReader, grid: TilingGrid) -> None:
        self.found = np.zeros(grid.lattice_shape_yx, bool)
        t, (edges_y, edges_x) = src.transform, grid.region_edges
        pixel = min(abs(t.e), abs(grid.resolution_y)), min(abs(t.a), abs(grid.resolution_x))
        turns = (-360, 0, 360) if parse_crs(grid.crs).is_geographic else (0,)
        self.rows = _spans(t.f, t.e, src.height, edges_y, EDGE_PX * float(pixel[0]))
        self.columns = [_spans(t.c, t.a, src.width, edges_x + turn, EDGE_PX * float(pixel[1])) for turn in turns]

    def may_add(self, rows: slice, columns: slice) -> bool:
        iy, _ = _within(self.rows, rows)
        if not len(iy):
            return False
        return any(
            len(ix) and not self.found[np.ix_(iy, ix)].all() for ix in (_within(c, columns)[0] for c in self.columns)
        )

    def take(self, row: int, column: int, counts: Bools) -> None:
        iy, spans_y = _within(self.rows, slice(row, row + counts.shape[0]))
        for spans in self.columns:
            ix, spans_x = _within(spans, slice(column, column + counts.shape[1]))
            if len(iy) and len(ix):
                first, second = ((spans_y - row, 0), (spans_x - column, 1))[:: 1 if len(iy) < counts.shape[0] else -1]
                hit = _any_along(_any_along(counts, *first), *second)
                self.found[np.ix_(iy, ix)] |= hit


def _spans(origin: float, step: float, n: int, edges: Array, tolerance: float) -> Array:
    """First and last (excluded) pixel, of ``n`` from ``origin``, that each part between two ``edges`` shares a length with."""
    low, high = np.minimum(edges[:-1], edges[1:]) + tolerance, np.maximum(edges[:-1], edges[1:]) - tolerance
    start, stop = ((v - origin) / step for v in ((low, high) if step > 0 else (high, low)))
    out: Array = np.clip(np.stack([np.floor(start), np.ceil(stop)], axis=1), 0, n).astype(np.int64)
    return out


def _within(spans: Array, part: slice) -> tuple[Array, Array]:
    """Indices of the spans that share pixels with ``part``, and what they share."""
    cut = np.clip(spans, part.start, part.stop)
    index = np.flatnonzero(cut[:, 0] < cut[:, 1])
    return index, cut[index]


def _any_along(values: Bools, spans: Array, axis: int) -> Bools:
    """For each span along an axis whether it holds any that is true."""
    padded = np.concatenate([values, np.zeros_like(values.take([0], axis))], axis)  # since a span may end at the last
    out: Bools = np.logical_or.reduceat(padded, spans.ravel(), axis).take(range(0, 2 * len(spans), 2), axis)
    return out


class _Bent:
    """A mask in another CRS than the grid, or one that is rotated."""

    def __init__(self, src: DatasetReader, grid: TilingGrid) -> None:
        self.found = np.zeros(grid.lattice_shape_yx, bool)
        given, own = parse_crs(src.crs.to_wkt()), parse_crs(grid.crs)
        self.to: Mapper = mapper(given, own)
        self.transform = src.transform
        self.turns = (-360, 0, 360) if own.is_geographic else (0,)
        self.edges = grid.region_edges
        unit = given.axis_info[0].unit_conversion_factor * (RADIUS if given.is_geographic else 1)
        t = self.transform
        size = max(np.hypot(t.a, t.d), np.hypot(t.b, t.e)) * unit
        self.largest = 2 ** int(np.clip(np.floor(np.log2(max(BLOCK_METRES / size, 1))), 0, 10))
        self.points = (
            BLOCK_POINTS if self.largest > BLOCK_POINTS else 4 * BLOCK_POINTS
        )  # pixels of a degree have curved edges

    def may_add(self, rows: slice, columns: slice) -> bool:
        """By blocks of the window, before it is read."""
        step = self.largest
        c, r = np.meshgrid(np.arange(columns.start, columns.stop, step), np.arange(rows.start, rows.stop, step))
        boxes = np.stack([c, r, np.minimum(c + step, columns.stop), np.minimum(r + step, rows.stop)], -1).reshape(-1, 4)
        return any(
            self._open(self._places(boxes[i : i + ROWS_AT_ONCE])).any() for i in range(0, len(boxes), ROWS_AT_ONCE)
        )

    def take(self, row: int, column: int, counts: Bools) -> None:
        """From the largest blocks with pixels that count to the pixels themselves."""
        pyramid = [counts]
        while 2 ** (len(pyramid) - 1) < self.largest:
            pyramid.append(_coarser(pyramid[-1]))
        todo = np.argwhere(pyramid[-1])
        for level in range(len(pyramid) - 1, -1, -1):
            size, left = 2**level, []
            for i in range(0, len(todo), ROWS_AT_ONCE):
                some = todo[i : i + ROWS_AT_ONCE]
                start, stop = some * size, np.minimum((some + 1) * size, counts.shape)
                boxes = np.stack(
                    [column + start[:, 1], row + start[:, 0], column + stop[:, 1], row + stop[:, 0]], axis=1
                )
                left.append(some[self._settle(boxes, is_pixel=level == 0)])
            if not level:
                return
            todo = (
                np.concatenate([2 * np.concatenate(left) + d for d in ((0, 0), (0, 1), (1, 0), (1, 1))])
                if left
                else todo
            )
            finer = pyramid[level - 1]
            todo = todo[(todo < finer.shape).all(axis=1)]
            todo = todo[finer[todo[:, 0], todo[:, 1]]]

    def _settle(self, boxes: Array, is_pixel: bool) -> Bools:
        """Mark the regions of ``boxes`` that lie in one each; which of the others are left to be halved."""
        traced = self._places(boxes)
        open_ = self._open(traced)
        turn, each = np.argmax(traced.inside, axis=0), np.arange(len(boxes))
        one = open_ & traced.inside.any(axis=0) & (traced.meets.sum(axis=0) == 1)
        at = traced.first[turn, each][one]
        self.found[at[:, 0], at[:, 1]] = True
        left: Bools = open_ & ~one
        if is_pixel:
            for k in range(len(self.turns)):
                self._shared(boxes, traced, k, left & traced.meets[k])
            torn = boxes[left & ~traced.whole]
            for i in range(0, len(torn), ROWS_AT_ONCE // BLOCK_POINTS):
                self._points(torn[i : i + ROWS_AT_ONCE // BLOCK_POINTS])
        return left

    def _open(self, traced: _Places) -> Bools:
        """Which blocks may lie in a region that is not found yet. Of many regions, one is taken to be open."""
        out: Bools = traced.somewhere & ~traced.whole
        missing = np.pad(np.cumsum(np.cumsum(~self.found, 0), 1), ((1, 0), (1, 0)))
        for first, last, meets in zip(traced.first, traced.last, traced.meets, strict=True):
            y0, x0, y1, x1 = first[:, 0], first[:, 1], last[:, 0] + 1, last[:, 1] + 1
            n = missing[y1, x1] - missing[y0, x1] - missing[y1, x0] + missing[y0, x0]
            out |= meets & (n > 0)
        return out

    def _shared(self, boxes: Array, traced: _Places, k: int, which: Bools) -> None:
        """Mark each region that shares an area with the outline of one of the pixels ``which``."""
        import shapely

        index = np.flatnonzero(which)
        first, extent = traced.first[k, index], traced.last[k, index] - traced.first[k, index] + 1
        n = extent.prod(axis=1)
        for some in np.split(np.arange(len(index)), np.flatnonzero(np.diff(np.cumsum(n) // PAIRS_AT_ONCE)) + 1):
            if not len(some):
                continue
            pair = np.repeat(some, n[some])
            within = np.arange(len(pair)) - np.repeat(np.cumsum(n[some]) - n[some], n[some])
            iy, ix = first[pair, 0] + within // extent[pair, 1], first[pair, 1] + within % extent[pair, 1]
            new = ~self.found[iy, ix]
            pair, iy, ix = pair[new], iy[new], ix[new]
            outlines = polygons(traced.x[index[some]] + self.turns[k], traced.y[index[some]])
            outlines = shapely.make_valid(outlines)
            shapely.prepare(outlines)
            cells = shapely.box(*self._shrunk(iy, ix))
            hit = shapely.intersects(outlines[pair - some[0]], cells)
            self.found[iy[hit], ix[hit]] = True

    def _shrunk(self, iy: Array, ix: Array) -> tuple[Array, Array, Array, Array]:
        (y, x), out = self.edges, []
        for edges, i in ((x, ix), (y, iy)):
            low, high = np.minimum(edges[i], edges[i + 1]), np.maximum(edges[i], edges[i + 1])
            little = EDGE_PX * (high - low) * 1e-3
            out.append((low + little, high - little))
        return out[0][0], out[1][0], out[0][1], out[1][1]

    def _points(self, boxes: Array) -> None:
        """Mark the regions of points within pixels whose outline is torn, or lies partly nowhere."""
        n = 2 * BLOCK_POINTS
        t = (np.arange(n) + 0.5) / n
        c = (boxes[:, :1] + t)[:, np.newaxis, :] + np.zeros((1, n, 1))
        r = (boxes[:, 1:2] + t)[:, :, np.newaxis] + np.zeros((1, 1, n))
        x, y = self.to(*(self.transform @ (c.ravel(), r.ravel())))
        for turn in self.turns:
            iy, ix = _place(np.asarray(y), self.edges[0]), _place(np.asarray(x) + turn, self.edges[1])
            there = (iy >= 0) & (ix >= 0)
            self.found[iy[there], ix[there]] = True

    def _places(self, boxes: Array) -> _Places:
        """Boxes of the mask's pixels (left, top, right, bottom), where the grid is."""
        c, r = trace(boxes.astype(float), self.points)
        x, y = (np.asarray(v) for v in self.to(*(self.transform @ (c, r))))
        if len(self.turns) > 1:
            x = unwrap(x)
        return _Places(x, y, self.turns, self.edges)


class _Places:
    """Outlines in the grid's plane, and the regions in whose rows and columns they lie.

    ``first`` and ``last`` have, for each turn and outline, (row, column) of regions; ``meets`` says where there are any, ``inside``
    where one region holds the outline. Those that are not ``whole`` are torn, or have points that are nowhere.
    """

    def __init__(self, x: Array, y: Array, turns: tuple[int, ...], edges_yx: tuple[Array, Array]) -> None:
        self.x, self.y = x, y
        finite = np.isfinite(x) & np.isfinite(y)
        there = finite.all(axis=(1, 2))
        self.somewhere: Bools = finite.any(axis=(1, 2))
        x, y = np.where(there[:, np.newaxis, np.newaxis], x, 0), np.where(there[:, np.newaxis, np.newaxis], y, 0)
        steps = np.hypot(np.diff(x), np.diff(y))
        usual = np.median(steps, axis=2) + EDGE_PX * steps.sum(axis=(1, 2))[:, np.newaxis]
        self.whole: Bools = there & (steps.max(axis=2) <= TEAR * usual).all(axis=1)
        off = sagitta(x, y)
        bounds = [(v.min((1, 2)) - off, v.max((1, 2)) + off) for v in (y, x)]
        first, last, meets, inside = [], [], [], []
        for turn in turns:
            spans = [_regions_between(low + t, high + t, e) for (low, high), t, e in zip(bounds, (0, turn), edges_yx, strict=True)]  # fmt: skip
            first.append(np.stack([s[0] for s in spans], axis=1))
            last.append(np.stack([s[1] for s in spans], axis=1))
            meets.append(self.whole & spans[0][2] & spans[1][2])
            inside.append(self.whole & spans[0][3] & spans[1][3])
        self.first, self.last, self.meets, self.inside = (np.array(v) for v in (first, last, meets, inside))


def _regions_between(low: Array, high: Array, edges: Array) -> tuple[Array, Array, Bools, Bools]:
    """First and last of the parts between ``edges`` that intervals share a length with, whether there are any, and whether one holds all."""
    n = len(edges) - 1
    if edges[0] > edges[-1]:
        last, first, meets, inside = _regions_between(low, high, edges[::-1])
        return n - 1 - first, n - 1 - last, meets, inside
    little = EDGE_PX * (high - low)
    first = np.searchsorted(edges, low + little, side="right") - 1
    last = np.searchsorted(edges, high - little, side="left") - 1
    meets = (last >= 0) & (first < n)
    return np.clip(first, 0, n - 1), np.clip(last, 0, n - 1), meets, (first == last) & meets


def _place(values: Array, edges: Array) -> npt.NDArray[np.int64]:
    """The part between ``edges`` in which each value lies, or -1."""
    n, rising = len(edges) - 1, edges[0] < edges[-1]
    with np.errstate(invalid="ignore"):
        at = np.searchsorted(edges if rising else edges[::-1], values, side="right") - 1
    at = np.where((at < 0) | (at >= n) | ~np.isfinite(values), -1, at)
    return at if rising else np.where(at < 0, -1, n - 1 - at)


def _coarser(counts: Bools) -> Bools:
    """Whether any of each 2 x 2 is true."""
    rows, columns = counts.shape
    padded = np.pad(counts, ((0, rows % 2), (0, columns % 2)))
    out: Bools = padded.reshape((rows + 1) // 2, 2, (columns + 1) // 2, 2).any(axis=(1, 3))
    return out
