"""HEALPix cells in the nested scheme: which lie where, and which share an area with a box or polygon; pure arithmetic.

Cell ids are int64 throughout. Longitudes and latitudes are geodetic, in degrees; an ellipsoid always goes with them, as the
same point lies in other cells on the sphere than on WGS84.

What shares an area with a box is settled in the plane of the HEALPix projection (Górski et al. 2005, The Astrophysical Journal
622, 759; Calabretta & Roukema 2007, MNRAS 381, 865), in which cells are squares that stand on a corner and the edges of a box
are straight too. Its unit here is half the diagonal of one of the twelve base cells: x is the longitude over 45 degrees where
|y| <= 1, and beyond that meridians run straight to the apex (odd x, y = ±2) of their quadrant.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.boxes import Box, check_polygon, finite, query_boxes
from cubeingest.errors import GridError, nearest
from cubeingest.extras import import_extra
from cubeingest.outlines import Array, polygons, sagitta

if TYPE_CHECKING:
    import numpy.typing as npt
    from shapely.geometry.base import BaseGeometry

ELLIPSOIDS = ("WGS84", "GRS80", "WGS72", "sphere")
"""Those that healpix-geo knows by name."""

MOST_ORDER = 29
"""Ids of a higher order would not fit into 64 bits."""

N_BASE = 12

ROUNDING = 1e-13
"""Of half the diagonal of a base cell, half a micrometre on the earth: a smaller overlap is none."""

ROUNDING_DEG = 1e-9
"""By which boxes around cells are grown before a polygon is held against them, far above what arithmetic is off by."""

COARSE_ORDER = 4
COARSE_POINTS = 32
FINE_POINTS = 8
"""Parts into which an edge of a cell is cut: a cell below ``COARSE_ORDER`` spans many degrees, and its edges bend."""

CELLS_AT_ONCE = 100_000

WORTH_THREADS = 50_000
"""Points from which on several threads find their cells: handing 100 points to them takes 0.3 ms, finding their cells 0.02."""

LONLAT = "EPSG:4326"


def check_ellipsoid(name: str) -> str:
    """``name`` itself. Raises :class:`GridError` for an ellipsoid that is not known."""
    if name not in ELLIPSOIDS:
        known = list(ELLIPSOIDS)
        raise GridError(f"no ellipsoid is named {name!r}{nearest(str(name), known)}: there are {', '.join(known)}")
    return name


def check_order(order: int) -> int:
    """``order`` itself. Raises :class:`GridError` for what is no refinement level of HEALPix."""
    if isinstance(order, bool) or not isinstance(order, int | np.integer) or not 0 <= order <= MOST_ORDER:
        raise GridError(f"order {order!r} is none of HEALPix: give a whole number from 0 to {MOST_ORDER}")
    return int(order)


def count_cells(order: int) -> int:
    """How many cells cover the globe at ``order``.

    >>> count_cells(6)
    49152
    """
    return N_BASE << 2 * check_order(order)


def cells_at(longitude: Any, latitude: Any, order: int, ellipsoid: str) -> npt.NDArray[np.int64]:
    """The cells that hold points, in the shape of ``longitude`` and ``latitude`` (broadcast); -1 where a point is not finite.

    Longitudes may be of any turn from -360 to 360. Coordinates kept as float32 have already been moved by up to a metre.

    Raises :class:`GridError` for a latitude beyond ±90 or a longitude beyond ±360.

    >>> cells_at([0.0, 360.0, float("nan")], [6.0, 6.0, 0.0], 3, "WGS84")
    array([304, 304,  -1])
    """
    nested = _nested(order, ellipsoid)
    x, y = np.broadcast_arrays(np.asarray(longitude, np.float64), np.asarray(latitude, np.float64))
    there = np.isfinite(x) & np.isfinite(y)
    out = np.full(x.shape, -1, np.int64)
    some_x, some_y = x[there], y[there]
    for what, values, most in (("latitude", some_y, 90), ("longitude", some_x, 360)):
        if values.size and np.abs(values).max() > most:
            worst = float(values[np.abs(values).argmax()])
            raise GridError(
                f"{what} {worst:g} lies beyond ±{most} degrees: points are longitude and latitude, in degrees"
            )
    if some_x.size:
        some_x = np.where(
            some_x == -360, 0.0, some_x
        )  # which healpix-geo alone would take for the end of a turn, not its beginning
        threads = 1 if some_x.size < WORTH_THREADS else 0  # 0: as many as there are cores
        out[there] = nested.lonlat_to_healpix(some_x, some_y, order, ellipsoid=ellipsoid, num_threads=threads).astype(
            np.int64
        )
    return out


def centres(cells: Any, order: int, ellipsoid: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Longitudes, from -180 to 180, and latitudes of the centres of ``cells``."""
    nested = _nested(order, ellipsoid)
    cells = _check_cells(cells, order)
    if not cells.size:
        return np.zeros(cells.shape), np.zeros(cells.shape)
    lon, lat = nested.healpix_to_lonlat(cells.ravel().astype(np.uint64), order, ellipsoid=ellipsoid)
    lon = np.where(lon > 180, lon - 360, lon)
    return lon.reshape(cells.shape), lat.reshape(cells.shape)


def bounds(cell: int, order: int, ellipsoid: str) -> Box:
    """(left, bottom, right, top) of the smallest box of longitudes and latitudes around ``cell``.

    The left edge lies from -180 to 180, and the right one beyond 180 for a cell across the antimeridian. No cell goes
    round a pole: the four that touch one have a quarter of all longitudes each.

    >>> bounds(304, 3, "sphere")[::2]
    (-5.625, 5.625)
    """
    left, bottom, right, top = all_bounds([cell], order, ellipsoid)[0]
    return float(left), float(bottom), float(right), float(top)


def all_bounds(cells: Any, order: int, ellipsoid: str) -> npt.NDArray[np.float64]:
    """As :func:`bounds`, as rows of left, bottom, right and top."""
    nested = _nested(order, ellipsoid)
    cells = _check_cells(cells, order).ravel()
    if not cells.size:
        return np.zeros((0, 4))
    west, east = (45 * u for u in _longitudes(*_squares(cells, order), order))
    turn = np.where(west < -180, 360, np.where(west >= 180, -360, 0))
    _, lat = nested.vertices(cells.astype(np.uint64), order, ellipsoid=ellipsoid)
    return np.stack([west + turn, lat[:, 0], east + turn, lat[:, 2]], axis=1)


def outlines(cells: Any, order: int, ellipsoid: str, points_per_edge: int) -> list[npt.NDArray[np.float64]]:
    """Rings of ``cells``, each as rows of longitude and latitude, closed and against the clock, from the southern corner.

    Longitudes are continuous, so that those of a cell across the antimeridian exceed 180; a ring that touches a pole runs
    along it from one meridian to the other.
    """
    lon, lat = _edges(_check_cells(cells, order).ravel(), order, ellipsoid, points_per_edge)
    n = points_per_edge
    out = []
    for x, y in zip(lon, lat, strict=True):
        ring = np.stack([x.ravel(), y.ravel()], axis=-1)
        again = np.zeros(len(ring), bool)
        again[n + 1 :: n + 1] = (ring[n + 1 :: n + 1] == ring[n : -1 : n + 1]).all(axis=1)
        ring = ring[~again]
        out.append(ring if (ring[0] == ring[-1]).all() else np.concatenate([ring, ring[:1]]))
    return out


def latitudes(order: int, ellipsoid: str) -> npt.NDArray[np.float64]:
    """The latitudes of corners of cells from the south pole to the north pole, each once: evenly spaced in the plane of the projection.

    >>> latitudes(0, "sphere").round(3).tolist()
    [-90.0, -41.81, 0.0, 41.81, 90.0]
    """
    nested = _nested(order, ellipsoid)
    n = 1 << order
    i = np.arange(n)
    out = []
    for base in (8, 0):  # up the middle of a southern base cell, and of the northern one above it
        cells = nested.base_cell_coordinates_to_healpix(np.full(n, base), i, i, order)
        _, lat = nested.vertices(cells, order, ellipsoid=ellipsoid)
        out.append(lat[:, :2].ravel())
    found: npt.NDArray[np.float64] = np.concatenate([*out, [90.0]])
    return found


# ---- what shares an area with a box ---------------------------------------------------------------------------


def cover_box(bbox: Box, order: int, ellipsoid: str) -> npt.NDArray[np.int64]:
    """The cells that share an area with a box (west, south, east, north), sorted; west > east wraps.

    The edges of the box are meridians and parallels. Cells that only touch it do not count: an overlap of less than half a
    micrometre is none, but the cell at the middle of the box always counts.

    Raises :class:`GridError` for a box without area.

    >>> cover_box((-10, 50, 10, 60), 1, "WGS84")
    array([ 2, 13])
    """
    _nested(order, ellipsoid)
    _, ((left, bottom, right, top), _), _ = query_boxes(bbox, LONLAT, LONLAT)
    bottom, top = max(bottom, -90.0), min(top, 90.0)
    if bottom >= top:
        return np.zeros(0, np.int64)
    box = (left / 45, float(_heights(bottom, ellipsoid)), right / 45, float(_heights(top, ellipsoid)))
    cells, found = (
        np.arange(N_BASE, dtype=np.int64),
        [cells_at([(left + right) / 2], [(bottom + top) / 2], order, ellipsoid)],
    )
    for level in range(order + 1):
        x, y, quadrant = _squares(cells, level)
        meets = _meets(box, x, y, quadrant, level)
        within = meets & _is_within(box, x, y, quadrant, level)
        found.append(_descendants(cells[within], order - level))
        cells = cells[meets & ~within]
        if level < order:
            cells = _descendants(cells, 1)
    return _sorted_once([*found, cells])


def _meets(box: Box, x: Array, y: Array, quadrant: Array, level: int) -> npt.NDArray[np.bool_]:
    """Which squares share an area with a box of the plane, whose x are longitudes over 45 degrees.

    The points of a square lie less than half its diagonal from its centre, where distance is |dx| + |dy|.
    """
    left, bottom, right, top = box
    half = 2.0**-level - ROUNDING
    out = np.zeros(len(x), bool)
    for turn in (-8, 0, 8):
        low, high = max(bottom, -1.0), min(top, 1.0)
        if low < high:
            away_x = np.maximum(np.maximum(left + turn - x, x - right - turn), 0)
            out |= away_x + np.maximum(np.maximum(low - y, y - high), 0) < half
        for up in (1, -1):
            low, high = sorted((up * bottom, up * top))
            # The part of the box between two meridians and two parallels of a quadrant narrows towards the apex: at the distance
            # s from it, it spans the s-fold of what it spans at the foot of the quadrant.
            near, far = 2 - high, 2 - max(low, 1.0)
            if near >= far:
                continue
            first, last = np.maximum(left + turn - quadrant, -1), np.minimum(right + turn - quadrant, 1)
            east, down = x - quadrant, 2 - up * y
            with np.errstate(all="ignore"):
                places = [np.full(len(x), near), np.full(len(x), far), down, east / first, east / last]
            best = np.full(len(x), np.inf)
            for s in places:  # The distance is convex in s, and bends nowhere else.
                s = np.clip(np.where(np.isfinite(s), s, near), near, far)  # noqa: PLW2901
                away = np.maximum(np.maximum(s * first - east, east - s * last), 0) + np.abs(s - down)
                np.minimum(best, away, out=best)
            out |= (best < half) & (first < last) & (quadrant % 2 == 1)
    return out


def _is_within(box: Box, x: Array, y: Array, quadrant: Array, level: int) -> npt.NDArray[np.bool_]:
    """Which squares lie within a box of the plane, whole."""
    left, bottom, right, top = box
    half = 2.0**-level
    out: npt.NDArray[np.bool_] = (y - half >= bottom) & (y + half <= top)
    if right - left < 8:
        west, east = _longitudes(x, y, quadrant, level)
        out &= np.logical_or.reduce([(west >= left + turn) & (east <= right + turn) for turn in (-8, 0, 8)])
    return out


# ---- what shares an area with a polygon -----------------------------------------------------------------------


def cover_shape(shape: BaseGeometry, order: int, ellipsoid: str) -> npt.NDArray[np.int64]:
    """The cells that share an area with ``shape`` (polygons of longitudes and latitudes), sorted.

    Edges are straight in longitude and latitude, as GeoJSON has it; longitudes may be of any turn, and a shape across the
    antimeridian may go on beyond ±180 or be given in two parts. No cell that shares an area with the shape is missing. Cells
    that only touch it are there too, and such as lie nearer to it than the bend of their edges between two points: a
    thousandth of a cell, or so.

    Raises :class:`GridError` for what has no area or is no sound polygon.
    """
    import shapely

    _nested(order, ellipsoid)
    check_polygon(shape)
    finite(shape.bounds)
    shapely.prepare(shape)
    cells, found = np.arange(N_BASE, dtype=np.int64), []
    for level in range(order + 1):
        meets, within = np.zeros(len(cells), bool), np.zeros(len(cells), bool)
        grown = all_bounds(cells, level, ellipsoid) + ROUNDING_DEG * np.array([-1, -1, 1, 1])
        for turn, which in _turns(shape, grown[:, 0], grown[:, 2]):
            box = grown[which]
            around = shapely.box(box[:, 0] + turn, box[:, 1], box[:, 2] + turn, box[:, 3])
            meets[which] |= shapely.intersects(shape, around)
            within[which] |= shapely.covers(shape, around)
        found.append(_descendants(cells[within], order - level))
        cells = cells[meets & ~within]
        if level < order:
            cells = _descendants(cells, 1)
    parts = [cells[i : i + CELLS_AT_ONCE] for i in range(0, len(cells), CELLS_AT_ONCE)]
    found += [part[_touches(shape, part, order, ellipsoid)] for part in parts]
    return _sorted_once(found)


def _touches(shape: BaseGeometry, cells: Array, order: int, ellipsoid: str) -> npt.NDArray[np.bool_]:
    """Which cells share a point with ``shape``, or come as near to it as their outline may be off."""
    import shapely

    lon, lat = _edges(cells, order, ellipsoid, COARSE_POINTS if order < COARSE_ORDER else FINE_POINTS)
    error = sagitta(lon, lat) + ROUNDING_DEG
    out = np.zeros(len(cells), bool)
    for turn, which in _turns(shape, lon.min(axis=(1, 2)) - error, lon.max(axis=(1, 2)) + error):
        out[which] |= shapely.dwithin(shape, polygons(lon[which] + turn, lat[which]), error[which])
    return out


def _turns(shape: BaseGeometry, west: Array, east: Array) -> list[tuple[float, Array]]:
    """(degrees to add, which of the intervals then reach the longitudes of ``shape``)."""
    if not len(west):
        return []
    left, _, right, _ = shape.bounds
    out = []
    for k in range(math.ceil((left - east.max()) / 360), math.floor((right - west.min()) / 360) + 1):
        which = np.flatnonzero((west + 360 * k <= right) & (east + 360 * k >= left))
        if len(which):
            out.append((360.0 * k, which))
    return out


# ---- cells in the plane, and on the globe ---------------------------------------------------------------------


def _squares(cells: Array, order: int) -> tuple[Array, Array, Array]:
    """Where in the plane the centres of cells are: x, y, and the x of the middle of the base cell that they are of."""
    from healpix_geo import nested  # type: ignore[import-untyped]

    if not len(cells):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    base, i, j = (v.astype(np.int64) for v in nested.healpix_to_base_cell_coordinates(cells.astype(np.uint64), order))
    row, side = base // 4, 2.0**-order
    middle = 2.0 * (base % 4) + (row != 1)
    return middle + (i - j) * side, 1.0 - row - 1.0 + (i + j + 1) * side, middle


def _longitudes(x: Array, y: Array, quadrant: Array, level: int) -> tuple[Array, Array]:
    """The longitudes, over 45 degrees, between which squares lie: their extremes are at corners."""
    half = 2.0**-level
    west, east = np.full(len(x), np.inf), np.full(len(x), -np.inf)
    for dx, dy in ((-half, 0), (half, 0), (0, -half), (0, half)):
        down = 2 - np.abs(y + dy)  # From the apex, which has no longitude: that is why the others must do.
        with np.errstate(divide="ignore", invalid="ignore"):
            at = np.where(down < 1, quadrant + (x + dx - quadrant) / down, x + dx)
        west, east = np.fmin(west, at), np.fmax(east, at)
    return west, east


def _edges(cells: Array, order: int, ellipsoid: str, n: int) -> tuple[Array, Array]:
    """Points along the edges of cells as longitudes and latitudes of shape (k, 4, n + 1), corners twice.

    At a pole each of the two edges that meet there has the longitude of the meridian that it runs along.
    """
    nested = _nested(order, ellipsoid)
    if n < 1:
        raise GridError(f"points_per_edge is {n!r}: give 1 or more")
    if not len(cells):
        return np.zeros((0, 4, n + 1)), np.zeros((0, 4, n + 1))
    lon, lat = nested.vertices(cells.astype(np.uint64), order, ellipsoid=ellipsoid, step=n)
    box = all_bounds(cells, order, ellipsoid)
    middle = (box[:, :1] + box[:, 2:3]) / 2
    # A corner on the edge of the box may be off it by rounding, never by more.
    lon = np.clip(middle + (lon - middle + 180) % 360 - 180, box[:, :1], box[:, 2:3])
    which = np.arange(4)[:, np.newaxis] * n + np.arange(n + 1)
    lon, lat = lon[:, which % (4 * n)], lat[:, which % (4 * n)]
    for edge, end, inner in ((1, -1, -2), (2, 0, 1), (3, -1, -2), (0, 0, 1)):
        k = np.abs(lat[:, edge, end]) > 90 - ROUNDING_DEG
        lon[k, edge, end] = lon[k, edge, inner] if n > 1 else box[k, 2 if edge in {0, 1} else 0]
        lat[k, edge, end] = np.copysign(90.0, lat[k, edge, end])
    return lon, lat


def _heights(latitude: Any, ellipsoid: str) -> npt.NDArray[np.float64]:
    """The y of latitudes in the plane.

    It follows from the sine of the authalic latitude (Snyder 1987, Map Projections: A Working Manual, eq. 3-11 and 3-12), whose
    distance from 1 is worked out without a difference of nearly equal numbers, so that it is exact next to the poles as well.
    """
    from healpix_geo.ellipsoid import resolve  # type: ignore[import-untyped]

    latitude = np.asarray(latitude, np.float64)
    short = 2 * np.sin(np.radians(90 - np.abs(latitude)) / 2) ** 2  # 1 - sin
    sine = 1 - short
    if (inverse := resolve(check_ellipsoid(ellipsoid)).get("inverse_flattening")) is not None:
        flattening = 1 / inverse
        e2 = flattening * (2 - flattening)
        e = math.sqrt(e2)
        whole = 1 + (1 - e2) * math.atanh(e) / e
        missing = short * (1 + e2 * sine) / (1 - e2 * sine**2) + (1 - e2) * np.arctanh(e * short / (1 - e2 * sine)) / e
        short = missing / whole
    y = np.where(short >= 1 / 3, 1.5 * (1 - short), 2 - np.sqrt(3 * short))
    signed: npt.NDArray[np.float64] = np.copysign(y, latitude)
    return signed


def _descendants(cells: Array, levels: int) -> npt.NDArray[np.int64]:
    """All cells ``levels`` orders finer that lie in ``cells``."""
    out: npt.NDArray[np.int64] = (
        (cells[:, np.newaxis] * 4**levels + np.arange(4**levels)).ravel() if len(cells) else cells
    )
    return out


def _sorted_once(parts: list[Array]) -> npt.NDArray[np.int64]:
    """Ids of all parts; ``numpy.unique`` took 10 s for the 12.6 million cells of order 10, which are sorted all but one."""
    cells = np.sort(np.concatenate(parts), kind="stable")
    once: npt.NDArray[np.int64] = cells[np.concatenate([[True], cells[1:] != cells[:-1]])] if len(cells) else cells
    return once


def _check_cells(cells: Any, order: int) -> npt.NDArray[np.int64]:
    """Raises :class:`GridError` for an id that no cell of ``order`` has."""
    cells = np.asarray(cells)
    if cells.size and cells.dtype.kind not in "iu":
        raise GridError(f"cell ids are whole numbers, got {cells.dtype}")
    if cells.size and not (cells.min() >= 0 and cells.max() < count_cells(order)):
        wrong = int(cells.min() if cells.min() < 0 else cells.max())
        raise GridError(f"no cell of order {order} has the id {wrong}: they run from 0 to {count_cells(order) - 1}")
    out: npt.NDArray[np.int64] = cells.astype(np.int64)
    return out


def _nested(order: int, ellipsoid: str) -> Any:
    """What healpix-geo has for the nested scheme. Raises :class:`ExtraError` if it is not installed, :class:`GridError` for what it does not know."""
    check_order(order)
    check_ellipsoid(ellipsoid)
    return import_extra("healpix_geo.nested", "points", "a grid of HEALPix cells")
