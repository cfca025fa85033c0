"""Coastlines, from data that comes with the package, within a box of any CRS."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.boxes import Box, parse_crs

if TYPE_CHECKING:
    from pyproj import CRS
    from shapely import Polygon

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
        if holes[n]:
            rings[-1].append(points)
        else:
            rings.append([points])
    shapes = np.array([shapely.Polygon(outer, inner) for outer, *inner in rings], object)
    return tuple(_polygons(np.where(shapely.is_valid(shapes), shapes, shapely.make_valid(shapes))))


def land_within(bounds: Box, crs: str, pixels: int = 1000) -> list[Polygon]:
    """Land within ``bounds`` (left, bottom, right, top) of ``crs``, in its units, as simple as a picture of so many ``pixels`` allows.

    In a projected CRS the globe is cut where its map ends before anything is projected, so that nothing lies across the map; what
    has no place there is left out. On longitudes of any turn (0 to 360, say) land is where it belongs.
    """
    import shapely

    own = parse_crs(crs)
    left, bottom, right, top = bounds
    detail = max(right - left, top - bottom) / pixels
    if own.is_geographic:
        found = _cut(read_land(), bounds)
    else:
        views = _views(bounds, own)
        shapes = [p for view in views for p in _cut(read_land(), view, max(view[2] - view[0], view[3] - view[1]) / STEPS)]
        found = _cut_box(_projected(shapes, own), bounds)
    simple = shapely.simplify(np.array(found, object), detail / 2) if found else []
    return [p for p in _polygons(simple) if p.area > detail**2 / 4]


def coast_of(land: list[Polygon], bounds: Box, crs: str) -> list[Array]:
    """Lines of coast, each (n, 2), along :func:`land_within`, without the edges at which it was cut: at the bounds, and at the
    antimeridian.
    """
    left, bottom, right, top = bounds
    near = 1e-9 * max(right - left, top - bottom)
    geographic = parse_crs(crs).is_geographic
    lines: list[Array] = []
    for polygon in land:
        for ring in (polygon.exterior, *polygon.interiors):
            points = np.asarray(ring.coords)
            x, y = points.T
            cuts = [(x, left), (x, right), (y, bottom), (y, top)]
            if geographic:
                cuts += [(x, edge) for edge in (-540, -180, 180, 540)] + [(y, -90)]
            at = np.array([abs(values - edge) <= max(near, 1e-9) for values, edge in cuts])
            cut = (at[:, :-1] & at[:, 1:]).any(axis=0)
            for part in np.split(points, np.flatnonzero(cut) + 1) if cut.any() else [points]:
                if len(part) > 1:
                    lines.append(part)
    return lines


def _cut(polygons: Any, bounds: Box, step: float = 0.0) -> list[Polygon]:
    """Polygons of longitude and latitude within a box, in every turn of the globe that it reaches; edges no longer than ``step``."""
    import shapely

    out: list[Polygon] = []
    for turn in (-360.0, 0.0, 360.0):
        box = (bounds[0] - turn, bounds[1], bounds[2] - turn, bounds[3])
        if box[0] < 180 and box[2] > -180:
            for polygon in _cut_box(polygons, box):
                whole = shapely.segmentize(polygon, step) if step else polygon
                out.append(shapely.transform(whole, lambda p, turn=turn: p + (turn, 0)))
    return out


def _cut_box(polygons: Any, box: Box) -> list[Polygon]:
    import shapely

    tree = np.array(polygons, object)
    if not tree.size:
        return []
    edges = shapely.bounds(tree)
    near = (edges[:, 0] < box[2]) & (edges[:, 2] > box[0]) & (edges[:, 1] < box[3]) & (edges[:, 3] > box[1])
    return list(_polygons(shapely.intersection(tree[near], shapely.box(*box))))


def _polygons(shapes: Any) -> list[Polygon]:
    import shapely

    parts = shapely.get_parts(shapely.get_parts(np.array(shapes, object))) if len(shapes) else []
    return [p for p in parts if p.geom_type == "Polygon" and not p.is_empty]


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
    room = max(0.5, float(np.ptp(latitude)) / VIEW_POINTS * 2)
    south = -90.0 if poles[1] else max(-90.0, float(latitude.min()) - room)
    north = 90.0 if poles[0] else min(90.0, float(latitude.max()) + room)
    middle = _middle(crs, float(longitude[longitude.size // 2]))
    turned = middle + (longitude - middle + 180) % 360 - 180
    west, east = float(turned.min()) - 2 * room, float(turned.max()) + 2 * room
    if any(poles) or east - west > 350:
        west, east = middle - 180 + SEAM, middle + 180 - SEAM
    return [(max(west, middle - 180 + SEAM), south, min(east, middle + 180 - SEAM), north)]


def _middle(crs: CRS, seen: float) -> float:
    """The longitude that a map's seam is opposite to: the projection's own; of one that names none, one that was seen."""
    parameters = {} if crs.coordinate_operation is None else {p.name: p.value for p in crs.coordinate_operation.params}
    for name in ("Longitude of natural origin", "Longitude of false origin", "Longitude of origin", "Longitude of projection centre"):
        if name in parameters:
            return float(parameters[name])
    return seen


def _projected(polygons: list[Polygon], crs: CRS) -> list[Polygon]:
    """Polygons of longitude and latitude in a CRS, without points that have no place there; made sound."""
    import shapely
    from pyproj import Transformer

    project = Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    out: list[Polygon] = []
    for polygon in polygons:
        rings = []
        for ring in (polygon.exterior, *polygon.interiors):
            points = np.asarray(ring.coords)
            placed = np.stack(project.transform(points[:, 0], points[:, 1], errcheck=False), axis=1)
            placed = placed[np.isfinite(placed).all(axis=1)]
            rings.append(placed)
        if len(rings[0]) > 3:
            whole = shapely.Polygon(rings[0], [r for r in rings[1:] if len(r) > 3])
            out += _polygons([whole if whole.is_valid else shapely.make_valid(whole)])
    return out
