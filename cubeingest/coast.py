"""Coastlines, from data that comes with the package, within a box of any CRS."""

from __future__ import annotations

from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.boxes import Box, mapper, parse_crs

if TYPE_CHECKING:
    from pyproj import CRS
    from shapely import LineString, Polygon

Array = np.ndarray[Any, Any]

VIEW_POINTS = 41
"""Points along and across a box by which the longitudes and latitudes that it shows are found."""

SEAM = 1e-6
"""Degrees that are left out where the globe is cut, so that neither side is taken for the other."""

STEPS = 400
"""Parts of a view's extent that edges of land are cut into, so that they bend as they should."""


@cache
def read_land() -> tuple[Polygon, ...]:
    """Land as polygons of longitude (-180 to 180) and latitude: Natural Earth, 1:50 million; Antarctica reaches the pole."""
    import shapely

    with (files("cubeingest") / "data" / "coast.npz").open("rb") as file, np.load(file) as data:
        ends = np.cumsum(data["sizes"])
        firsts, moves, holes = data["firsts"], data["moves"].astype(np.int32), data["holes"]
        scale, offset = data["scale"], data["offset"]
    rings: list[list[Array]] = []
    for n, end in enumerate(ends):
        start = end - n - 1  # each ring has one move less than points
        own = moves[(ends[n - 1] - n if n else 0) : start]
        points = np.concatenate([firsts[n : n + 1], firsts[n] + np.cumsum(own, axis=0)]) * scale + offset
        points[points[:, 1] < -89.99, 1] = -90.0
        points[abs(points[:, 0]) > 179.9999, 0] = np.sign(points[abs(points[:, 0]) > 179.9999, 0]) * 180.0
        if holes[n]:
            rings[-1].append(points)
        else:
            rings.append([points])
    shapes = np.array([shapely.Polygon(outer, inner) for outer, *inner in rings], object)
    return tuple(_parts(np.where(shapely.is_valid(shapes), shapes, shapely.make_valid(shapes)), "Polygon"))


@cache
def read_coast() -> tuple[LineString, ...]:
    """Lines of coast: the edges of land without those along the antimeridian and at the pole, at which it was cut."""
    import shapely

    lines = []
    for polygon in read_land():
        for ring in (polygon.exterior, *polygon.interiors):
            points = np.asarray(ring.coords)
            at = np.stack([points[:, 0] == -180, points[:, 0] == 180, points[:, 1] == -90])
            lines += _pieces(points, ~(at[:, :-1] & at[:, 1:]).any(axis=0))
    return tuple(shapely.linestrings(line) for line in lines)


def land_within(bounds: Box, crs: str, pixels: int = 1000) -> list[Polygon]:
    """Land within ``bounds`` (left, bottom, right, top) of ``crs``, in its units, as simple as a picture of so many ``pixels`` allows.

    In a projected CRS the globe is cut where its map ends before anything is projected, so that nothing lies across the map; what
    has no place there is left out. On longitudes of any turn (0 to 360, say) land is where it belongs.
    """
    import shapely

    own, detail = parse_crs(crs), _detail(bounds, pixels)
    if own.is_geographic:
        found = _cut(read_land(), bounds)
    else:
        shapes = [p for view in _views(bounds, own) for p in _cut(read_land(), view, _detail(view, STEPS))]
        found = _within([_sound(p) for p in _projected(shapes, own)], bounds)
    simple = shapely.simplify(np.array(found, object), detail / 2) if found else []
    return [p for p in _parts(simple, "Polygon") if p.area > detail**2 / 4]


def coast_within(bounds: Box, crs: str, pixels: int = 1000) -> list[Array]:
    """Lines of coast within ``bounds``, each (n, 2), as :func:`land_within` gives land."""
    import shapely

    own, detail = parse_crs(crs), _detail(bounds, pixels)
    if own.is_geographic:
        found = _cut(read_coast(), bounds)
    else:
        lines = []
        for view in _views(bounds, own):
            for line in _projected(_cut(read_coast(), view, _detail(view, STEPS)), own):
                points = np.asarray(line.coords)
                there = np.isfinite(points).all(axis=1)
                lines += _pieces(points, there[:-1] & there[1:])
        found = _within([shapely.linestrings(line) for line in lines], bounds)
    simple = shapely.simplify(np.array(found, object), detail / 2) if found else []
    return [np.asarray(line.coords) for line in _parts(simple, "LineString") if line.length > 3 * detail]


def _detail(bounds: Box, parts: int) -> float:
    return max(bounds[2] - bounds[0], bounds[3] - bounds[1]) / parts


def _pieces(points: Array, kept: Array) -> list[Array]:
    """A line without some of its segments, as lines."""
    if kept.all():
        return [points]
    ends = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(np.int8)))
    return [points[a : b + 1] for a, b in ends.reshape(-1, 2).tolist()]


def _cut(shapes: Any, bounds: Box, step: float = 0.0) -> list[Any]:
    """Shapes of longitude and latitude within a box, in every turn of the globe that it reaches; edges no longer than ``step``."""
    import shapely

    out: list[Any] = []
    for turn in (-360.0, 0.0, 360.0):
        box = (bounds[0] - turn, bounds[1], bounds[2] - turn, bounds[3])
        if box[0] < 180 and box[2] > -180:
            found = np.array(_within(shapes, box), object)
            found = shapely.segmentize(found, step) if step and found.size else found
            out += list(shapely.transform(found, partial(_shifted, turn)) if turn else found)
    return out


def _shifted(turn: float, points: Array) -> Array:
    moved: Array = points + np.array([turn, 0.0])
    return moved


def _within(shapes: Any, box: Box) -> list[Any]:
    """Parts of polygons, or of lines, within a box."""
    import shapely

    every = np.array(shapes, object)
    if not every.size:
        return []
    kind = "LineString" if every[0].geom_type == "LineString" else "Polygon"
    edges = shapely.bounds(every)
    near = (edges[:, 0] < box[2]) & (edges[:, 2] > box[0]) & (edges[:, 1] < box[3]) & (edges[:, 3] > box[1])
    inside = (edges[:, 0] >= box[0]) & (edges[:, 2] <= box[2]) & (edges[:, 1] >= box[1]) & (edges[:, 3] <= box[3])
    return [*_parts(every[inside], kind), *_parts(shapely.intersection(every[near & ~inside], shapely.box(*box)), kind)]


def _parts(shapes: Any, kind: str) -> list[Any]:
    """The single shapes of a kind in (collections of) shapes."""
    import shapely

    parts = shapely.get_parts(shapely.get_parts(np.array(shapes, object))) if len(shapes) else []
    return [p for p in parts if p.geom_type == kind and not p.is_empty]


def _views(bounds: Box, crs: CRS) -> list[Box]:
    """Longitudes and latitudes that a box of a projected CRS shows, cut where the map ends."""
    from pyproj import Transformer

    left, bottom, right, top = bounds
    geographic = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    x, y = np.meshgrid(np.linspace(left, right, VIEW_POINTS), np.linspace(bottom, top, VIEW_POINTS))
    longitude, latitude = geographic.transform(x.ravel(), y.ravel(), errcheck=False)
    shown = np.isfinite(longitude) & np.isfinite(latitude)
    if not shown.any():
        return []
    longitude, latitude = longitude[shown], latitude[shown]
    pole_x, pole_y = geographic.transform([0.0, 0.0], [90.0, -90.0], direction="INVERSE", errcheck=False)
    poles = [left <= px <= right and bottom <= py <= top for px, py in zip(pole_x, pole_y, strict=True)]
    # A pole that is not shown may have no place, or many: land is cut before it.
    room = max(0.5, float(np.ptp(latitude)) / VIEW_POINTS * 2)
    south = -90.0 if poles[1] else max(-89.0, float(latitude.min()) - room)
    north = 90.0 if poles[0] else min(89.0, float(latitude.max()) + room)
    middle = _middle(crs, float(longitude[longitude.size // 2]))
    turned = middle + (longitude - middle + 180) % 360 - 180
    west, east = float(turned.min()) - 2 * room, float(turned.max()) + 2 * room
    if any(poles) or east - west > 350:
        west, east = middle - 180 + SEAM, middle + 180 - SEAM
    return [(max(west, middle - 180 + SEAM), south, min(east, middle + 180 - SEAM), north)]


def _middle(crs: CRS, seen: float) -> float:
    """The longitude that a map's seam is opposite to: the projection's own; of one that names none, one that was seen."""
    parameters = {} if crs.coordinate_operation is None else {p.name: p.value for p in crs.coordinate_operation.params}
    for name in (
        "Longitude of natural origin",
        "Longitude of false origin",
        "Longitude of origin",
        "Longitude of projection centre",
    ):
        if name in parameters:
            return float(parameters[name])
    return seen


def _projected(shapes: list[Any], crs: CRS) -> list[Any]:
    """Shapes of longitude and latitude in a CRS; points that have no place there are not finite."""
    import shapely

    project = mapper(parse_crs("OGC:CRS84"), crs)
    return list(shapely.transform(np.array(shapes, object), project, interleaved=False)) if shapes else []


def _sound(polygon: Polygon) -> Any:
    """A polygon without the points that are not finite, and without crossings."""
    import shapely

    rings = [np.asarray(ring.coords) for ring in (polygon.exterior, *polygon.interiors)]
    finite = [ring[np.isfinite(ring).all(axis=1)] for ring in rings]
    if len(finite[0]) < 4:
        return shapely.Polygon()
    whole = shapely.Polygon(finite[0], [ring for ring in finite[1:] if len(ring) > 3])
    return whole if whole.is_valid else shapely.MultiPolygon(_parts([shapely.make_valid(whole)], "Polygon"))
