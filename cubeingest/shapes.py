"""The regions of a grid that share an area with a polygon.

The polygon stays where it was drawn: its edges are straight in its own CRS, and parts of it may lie where the grid's CRS has no
place for them. So the outlines of regions are brought there, whole blocks of regions at first, and those near the polygon's
edge are halved until each is one region.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.boxes import EDGE_POINTS, Mapper, check_polygon, mapper, parse_crs
from cubeingest.errors import GridError
from cubeingest.outlines import Array, polygons, sagitta, trace, unwrap
from cubeingest.steps import ROUNDING_PX

if TYPE_CHECKING:
    import numpy.typing as npt
    from pyproj import CRS
    from shapely.geometry.base import BaseGeometry

LONLAT = "OGC:CRS84"

POINTS = 32
"""Parts into which an edge of a block is cut at first."""

MOST_POINTS = 2048

GOOD_PX = 0.01
"""How far, in pixels, the outline of a region may lie from where it is."""

SMALLEST = 1 / 64
"""Of a region's side: where a part of it has no place in the polygon's CRS, parts down to this are looked at."""

POINTS_AT_ONCE = 500_000

TRIP = 1e-4
"""What a point that goes to and fro may be off by, in radii of the earth: several ways lead between some datums, and differ."""

RADIUS = 6.4e6
"""Metres."""


def regions_within(
    shape: BaseGeometry, given_crs: str, own_crs: str, edges_yx: tuple[Array, Array], pixel_yx: tuple[float, float]
) -> list[tuple[int, int]]:
    """(iy, ix) of the regions that share an area with ``shape``, which is in ``given_crs``, row by row.

    ``edges_yx`` are the edges of rows and columns of regions, in ``own_crs``, in the order of their indices; ``pixel_yx`` the
    sizes of pixels. An overlap of less than a millionth of a pixel is none.

    Raises :class:`GridError` for what has no area, is no sound polygon, or cannot be taken there.
    """
    import shapely

    check_polygon(shape)
    own, given = parse_crs(own_crs), parse_crs(given_crs)
    try:
        if not given.equals(own, ignore_axis_order=True) and not given.is_geographic:
            shape, given = _on_the_globe(shape, given), parse_crs(LONLAT)
        search = _Search(shape, given, own, edges_yx, pixel_yx)
        return [(int(iy), int(ix)) for iy, ix in np.argwhere(search.run())]
    except shapely.errors.GEOSException as e:
        raise GridError(f"the polygon cannot be laid over the grid: {' '.join(str(e).split())[:160]}") from None


def _on_the_globe(shape: BaseGeometry, crs: CRS) -> BaseGeometry:
    """A shape of a projected CRS in longitudes, whole across the antimeridian, and latitudes."""
    import shapely

    left, bottom, right, top = shape.bounds
    dense = shapely.segmentize(shape, max(right - left, top - bottom) / EDGE_POINTS)
    to = mapper(crs, parse_crs(LONLAT))
    middle = float(np.asarray(to(shape.representative_point().x, shape.representative_point().y)[0]))
    if not np.isfinite(middle):
        raise GridError("the polygon has points that are nowhere on the earth")

    def take(x: Any, y: Any) -> tuple[Any, Any]:
        x, y = to(x, y)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise GridError("the polygon has points that are nowhere on the earth")
        return middle + (x - middle + 180) % 360 - 180, y

    return shapely.make_valid(shapely.transform(dense, take, interleaved=False))


@dataclass(frozen=True)
class _Traced:
    """Blocks in the polygon's plane. ``whole`` says whose outline is to be trusted; ``there`` which of its points have a place."""

    x: Array
    y: Array
    whole: npt.NDArray[np.bool_]
    there: npt.NDArray[np.bool_]

    @cached_property
    def error(self) -> npt.NDArray[np.float64]:
        """How far an outline may lie from its curve; 0 for one that is not to be trusted."""
        out = np.zeros(len(self.x))
        out[self.whole] = sagitta(self.x[self.whole], self.y[self.whole])
        return out

    def part(self, which: Array) -> _Traced:
        return _Traced(self.x[which], self.y[which], self.whole[which], self.there[which])


class _Search:
    """Blocks are rows of (v0, v1, u0, u1): places along the rows (v) and columns (u) of regions, whole numbers on their edges."""

    def __init__(
        self, shape: BaseGeometry, given: CRS, own: CRS, edges_yx: tuple[Array, Array], pixel_yx: tuple[float, float]
    ) -> None:
        import shapely

        self.shape, self.boundary = shape, shape.boundary
        shapely.prepare(self.shape)
        shapely.prepare(self.boundary)
        self.edges, self.pixel = edges_yx, [abs(p) for p in pixel_yx]
        self.found = np.zeros([len(e) - 1 for e in edges_yx], bool)
        same = given.equals(own, ignore_axis_order=True)
        self.turns = not same or own.is_geographic
        self.to: Mapper | None = None if same else mapper(own, given)
        self.back: Mapper | None = None if same or own.is_geographic else mapper(given, own)
        self.poles = self._find_poles()
        if self.back is not None:
            self.allowed = TRIP * RADIUS / own.axis_info[0].unit_conversion_factor

    def run(self) -> npt.NDArray[np.bool_]:
        blocks = self._start()
        while len(blocks):
            rows = POINTS_AT_ONCE // (4 * (POINTS + 1))
            left = [self._look(blocks[i : i + rows]) for i in range(0, len(blocks), rows)]
            blocks = _halves(np.concatenate(left))
        return self.found

    def _start(self) -> Array:
        """The whole grid, cut where a pole is, so that it lies at corners."""
        ny, nx = self.found.shape
        cuts = [{0.0, float(ny)}, {0.0, float(nx)}]
        for x, y, _ in self.poles:
            for k, value in ((0, y), (1, x)):
                edges, places = self.edges[k], np.arange(len(self.edges[k]), dtype=float)
                order = slice(None) if edges[0] < edges[-1] else slice(None, None, -1)
                if min(edges[0], edges[-1]) < value < max(edges[0], edges[-1]):
                    cuts[k].add(float(np.interp(value, edges[order], places[order])))
        (v, u) = (sorted(c) for c in cuts)
        return np.array([(*a, *b) for a in itertools.pairwise(v) for b in itertools.pairwise(u)])

    def _find_poles(self) -> list[tuple[float, float, float]]:
        """(x, y, latitude) of the poles that are points of the grid's CRS."""
        if self.back is None:
            return []
        x, y = self.back(np.zeros(2), np.array([90.0, -90.0]))
        return [(float(a), float(b), lat) for a, b, lat in zip(x, y, (90.0, -90.0), strict=True) if np.isfinite(a) and np.isfinite(b)]  # fmt: skip

    # ---- one round --------------------------------------------------------------------------------------------

    def _look(self, blocks: Array) -> Array:
        """Settle those of ``blocks`` that can be; the others come back, to be halved."""
        import shapely

        region = np.floor((blocks[:, ::2] + blocks[:, 1::2]) / 2).astype(int)
        single = ((blocks[:, ::2] >= region) & (blocks[:, 1::2] <= region + 1)).all(axis=1)
        open_ = ~(single & self.found[region[:, 0], region[:, 1]])
        blocks, region, single = blocks[open_], region[open_], single[open_]
        if not len(blocks):
            return blocks
        traced = self._trace(blocks, POINTS)
        near, inside = np.zeros(len(blocks), bool), np.zeros(len(blocks), bool)
        for turn, which in self._meeting(traced):
            outlines = polygons(traced.x[which] + turn, traced.y[which])
            near[which] |= shapely.dwithin(self.boundary, outlines, traced.error[which])
            inside[which] |= shapely.contains_xy(self.shape, traced.x[which, 0, 0] + turn, traced.y[which, 0, 0])
        for v0, v1, u0, u1 in blocks[traced.whole & ~near & inside]:
            self.found[int(v0) : int(np.ceil(v1)), int(u0) : int(np.ceil(u1))] = True
        decide = np.flatnonzero(traced.whole & near & single)
        hit = decide[self._decide(blocks[decide], traced.part(decide))]
        self.found[region[hit, 0], region[hit, 1]] = True
        broken = ~traced.whole & single
        hit = np.flatnonzero(broken)[self._any_point(traced.part(broken))]
        self.found[region[hit, 0], region[hit, 1]] = True
        small = (blocks[:, 1::2] - blocks[:, ::2] <= SMALLEST).all(axis=1)
        done = np.where(traced.whole, ~near | single, single & (small | ~traced.there.any(axis=(1, 2))))
        rest: Array = blocks[~done]
        return rest

    def _meeting(self, traced: _Traced) -> Any:
        """(turn in degrees, indices) of the sound outlines whose enclosing box meets that of the shape in that turn."""
        left, bottom, right, top = self.shape.bounds
        index = np.flatnonzero(traced.whole)
        x, y, off = traced.x[index], traced.y[index], traced.error[index]
        x0, x1, y0, y1 = x.min((1, 2)) - off, x.max((1, 2)) + off, y.min((1, 2)) - off, y.max((1, 2)) + off
        rows = (y0 <= top) & (y1 >= bottom)
        if not rows.any():
            return
        first, last = np.ceil((left - x1[rows].max()) / 360), np.floor((right - x0[rows].min()) / 360)
        for k in range(int(first), int(last) + 1) if self.turns else [0]:
            which = rows & (x0 + 360 * k <= right) & (x1 + 360 * k >= left)
            if which.any():
                yield 360.0 * k, index[which]

    def _decide(self, blocks: Array, traced: _Traced, n: int = POINTS) -> npt.NDArray[np.bool_]:
        """Which blocks, each within one region, share an area with the shape; of rough outlines, finer ones are made."""
        import shapely

        out = np.zeros(len(blocks), bool)
        for turn, which in self._meeting(traced):
            out[which] |= shapely.intersects(self.shape, polygons(traced.x[which] + turn, traced.y[which]))
        if n >= MOST_POINTS:
            return out
        corners = self._corners(blocks)
        pixels = 2 * ((corners[2] - corners[0]) / self.pixel[1] + (corners[3] - corners[1]) / self.pixel[0])
        length = np.hypot(np.diff(traced.x), np.diff(traced.y)).sum(axis=(1, 2))
        rough = np.flatnonzero(traced.whole & (traced.error / 4 * pixels > GOOD_PX * length))
        rows = POINTS_AT_ONCE // (16 * n)
        for i in range(0, len(rough), rows):
            some = rough[i : i + rows]
            finer = self._trace(blocks[some], 4 * n)
            out[some] = np.where(finer.whole, self._decide(blocks[some], finer, 4 * n), out[some])
        return out

    def _any_point(self, traced: _Traced) -> npt.NDArray[np.bool_]:
        """Which blocks have a point, of their outline, within the shape."""
        import shapely

        out = np.zeros(len(traced.x), bool)
        left, _, right, _ = self.shape.bounds
        x, y = np.where(traced.there, traced.x, np.nan), np.where(traced.there, traced.y, np.nan)
        if not traced.there.any():
            return out
        first, last = (left - np.nanmax(x)) / 360, (right - np.nanmin(x)) / 360
        for k in range(int(np.ceil(first)), int(np.floor(last)) + 1):
            out |= shapely.contains_xy(self.shape, x + 360 * k, y).any(axis=(1, 2))
        return out

    # ---- outlines ---------------------------------------------------------------------------------------------

    def _corners(self, blocks: Array) -> Array:
        """Rows of left, bottom, right and top, in the grid's CRS, without a millionth of a pixel on each side."""
        sides = []
        for k in (0, 1):
            places = np.arange(len(self.edges[k]), dtype=float)
            ends = np.sort(np.interp(blocks[:, 2 * k : 2 * k + 2], places, self.edges[k]), axis=1)
            sides.append(ends + float(ROUNDING_PX) * self.pixel[k] * np.array([1, -1]))
        return np.array([sides[1][:, 0], sides[0][:, 0], sides[1][:, 1], sides[0][:, 1]])

    def _trace(self, blocks: Array, n: int) -> _Traced:
        """The outlines of blocks where the polygon is."""
        import shapely

        corners = self._corners(blocks)
        if self.to is None:
            x, y = trace(corners.T, 1)
            return _Traced(x, y, np.ones(len(x), bool), np.ones(x.shape, bool))
        own_x, own_y = trace(corners.T, n)
        x, y = (np.asarray(v) for v in self.to(own_x, own_y))
        there = np.isfinite(x) & np.isfinite(y)
        middle = (corners[0] + corners[2]) / 2, (corners[1] + corners[3]) / 2
        middle_x, middle_y = (np.asarray(v) for v in self.to(*middle))
        whole = np.isfinite(middle_x) & np.isfinite(middle_y)
        if self.back is not None:
            there &= self._comes_back(own_x, own_y, x, y)
            whole &= self._comes_back(*middle, middle_x, middle_y)
        self._mend_poles(own_x, own_y, x, y)
        x = unwrap(x)
        whole &= there.all(axis=(1, 2))
        with np.errstate(invalid="ignore"):
            whole &= np.abs(x[:, 0, 0] - x[:, -1, -1]) < 1
        index = np.flatnonzero(whole)
        outlines = polygons(x[index], y[index])
        near = x[index, 0, 0] + (middle_x[index] - x[index, 0, 0] + 180) % 360 - 180
        holds = shapely.is_valid(outlines) & np.logical_or.reduce([shapely.contains_xy(outlines, near + t, middle_y[index]) for t in (-360, 0, 360)])  # fmt: skip
        whole[index[~holds]] = False
        return _Traced(x, y, whole, there)

    def _comes_back(self, own_x: Array, own_y: Array, x: Array, y: Array) -> npt.NDArray[np.bool_]:
        assert self.back is not None
        back_x, back_y = self.back(x, y)
        with np.errstate(invalid="ignore"):
            near: npt.NDArray[np.bool_] = np.hypot(back_x - own_x, back_y - own_y) < self.allowed
        return near

    def _mend_poles(self, own_x: Array, own_y: Array, x: Array, y: Array) -> None:
        """Let an outline with a corner at a pole go up one meridian to it, and down the other."""
        for pole_x, pole_y, latitude in self.poles:
            at = (np.abs(own_x - pole_x) < 4 * float(ROUNDING_PX) * self.pixel[1]) & (
                np.abs(own_y - pole_y) < 4 * float(ROUNDING_PX) * self.pixel[0]
            )
            for end, inner in ((0, 1), (-1, -2)):
                k, edge = np.nonzero(at[:, :, end])
                x[k, edge, end] = x[k, edge, inner]
                y[k, edge, end] = latitude


def _halves(blocks: Array) -> Array:
    """Each block as two or four, cut at an edge of regions where it holds several, else in the middle."""
    for k in (0, 2):
        first, last = blocks[:, k], blocks[:, k + 1]
        middle = (first + last) / 2
        edge = np.clip(np.round(middle), np.floor(first) + 1, np.ceil(last) - 1)
        inside = (edge > first) & (edge < last)
        cut = np.where(inside, edge, middle)
        # A side of one region is cut only where the other is one too.
        other = blocks[:, 3 - k] - blocks[:, 2 - k]
        keep = ~inside & (other > 1) & (last - first <= 1)
        low, high = blocks.copy(), blocks[~keep].copy()
        low[~keep, k + 1] = cut[~keep]
        high[:, k] = cut[~keep]
        blocks = np.concatenate([low, high])
    return blocks
