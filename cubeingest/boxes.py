"""Query boxes: a box in one CRS as boxes in another, in every turn of the globe."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cubeingest.errors import GridError

if TYPE_CHECKING:
    from pyproj import CRS
    from shapely import Polygon
    from shapely.geometry.base import BaseGeometry

Box = tuple[float, float, float, float]
"""(left, bottom, right, top) in the units of some CRS."""

POLE_POINTS = 21
"""Points along an edge by which PROJ finds out whether a box holds a pole or the antimeridian; its cost grows with their square."""

Mapper = Callable[[Any, Any], tuple[Any, Any]]
"""From coordinates x and y to those of another CRS; not finite where a point has none there."""

EDGE_POINTS = 2001
"""Points along an edge of a box that is taken to another CRS. Edges become curves, whose extreme lies between points:
across a continent 51 points missed it by 25 m, these by centimetres."""


def query_boxes(bbox: Box, given_crs: str, own_crs: str) -> Iterator[tuple[Box, Polygon | None]]:
    """``bbox`` of ``given_crs`` as boxes in ``own_crs``, in every turn of the globe that a grid could hold.

    On longitudes a left edge greater than the right one wraps across the antimeridian. A box of another CRS has curved
    edges here: with its enclosing box comes its outline (None where it is the box, or is no simple polygon).

    Raises :class:`GridError` for a box that is empty, not finite or upside down, and for a CRS that is none.
    """
    left, bottom, right, top = finite(bbox)
    own, given = parse_crs(own_crs), parse_crs(given_crs)
    if given.is_geographic:
        left, right = _one_turn(left, right)
    if bottom >= top or left >= right:
        raise GridError(f"bbox {tuple(bbox)} has no area: give west south east north (left bottom right top)")
    turns = (-360, 0, 360) if own.is_geographic else (0,)
    if given.equals(own, ignore_axis_order=True):
        yield from (((left + turn, bottom, right + turn, top), None) for turn in turns)
        return
    for west, east in _turns(left, right) if given.is_geographic else [(left, right)]:
        box, outline = _transform_box((west, bottom, east, top), given, own)
        for turn in turns:
            yield (box[0] + turn, box[1], box[2] + turn, box[3]), outline if turn == 0 else None


def check_polygon(shape: BaseGeometry) -> None:
    """Raise :class:`GridError` for a shape without an area, or a polygon that is not sound."""
    import shapely

    if shape.is_empty or not shape.area > 0:
        raise GridError(f"the shape ({shape.geom_type}) has no area: give polygons")
    if not shape.is_valid:
        raise GridError(f"the polygon is not sound: {shapely.is_valid_reason(shape)}")


def read_polygon(what: Any, where: str = "polygon") -> BaseGeometry:
    """A shape from GeoJSON (text, or as plain data), or anything with ``__geo_interface__``; all polygons of a collection.

    Raises :class:`GridError` for what is none.
    """
    import shapely

    try:
        plain = getattr(what, "__geo_interface__", what)
        plain = json.loads(plain) if isinstance(plain, str) else plain
        shape = shapely.from_geojson(json.dumps(_with_geometry(plain)))
    except (shapely.errors.GEOSException, TypeError, ValueError) as e:
        raise GridError(f"{where} is not GeoJSON: {' '.join(str(e).split())[:120]}") from None
    parts = [p for p in _parts(shape) if p.geom_type == "Polygon"]
    if not parts:
        raise GridError(f"{where} holds no polygon")
    joined: BaseGeometry = shapely.union_all(parts)
    return joined


def _with_geometry(plain: Any) -> Any:
    """GeoJSON without the features whose geometry is null, which say that they lie nowhere."""
    if not isinstance(plain, dict):
        return plain
    if plain.get("type") == "Feature" and plain.get("geometry", "") is None:
        return {"type": "FeatureCollection", "features": []}
    if plain.get("type") == "FeatureCollection" and isinstance(plain.get("features"), list | tuple):
        return {**plain, "features": [f for f in plain["features"] if not (isinstance(f, dict) and f.get("geometry", "") is None)]}  # fmt: skip
    return plain


def _parts(shape: BaseGeometry) -> Iterator[BaseGeometry]:
    if hasattr(shape, "geoms"):
        for part in shape.geoms:
            yield from _parts(part)
    else:
        yield shape


def finite(values: tuple[Any, ...]) -> Any:
    """``values`` themselves. Raises :class:`GridError` if one is NaN or infinite."""
    if not all(math.isfinite(v) for v in values):
        raise GridError(f"{tuple(float(v) for v in values)} has a value that is not finite")
    return values


def parse_crs(text: str) -> CRS:
    """A CRS from its code or WKT. Raises :class:`GridError` for what is none."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_user_input(text)
    except CRSError:
        raise GridError(f"{text!r} is not a CRS: write an authority code such as EPSG:4326, or WKT") from None


def mapper(given: CRS, own: CRS) -> Mapper:
    """What takes points (x is easting or longitude) from one CRS to another. Raises :class:`GridError` if nothing leads there."""
    from pyproj import Transformer

    with _one_way(given, own):
        transformer = Transformer.from_crs(given, own, always_xy=True)

    def take(x: Any, y: Any) -> tuple[Any, Any]:
        with _one_way(given, own):
            x, y = transformer.transform(x, y)
        return x, y

    return take


@contextmanager
def _one_way(given: CRS, own: CRS) -> Iterator[None]:
    """Errors of PROJ and GEOS as a :class:`GridError`."""
    from pyproj.exceptions import ProjError
    from shapely.errors import GEOSException

    try:
        yield
    except (ProjError, GEOSException) as e:
        reason = " ".join(str(e).split())[:120]
        raise GridError(
            f"nothing leads from CRS {given.name!r} to {own.name!r}: one may be local, or of another body than the earth ({reason})"
        ) from None


def _one_turn(left: float, right: float) -> tuple[float, float]:
    """An interval of longitudes that starts from -180 to 180 and goes round at most once; left > right wraps."""
    if left > right:
        right += 360
    if right - left >= 360:
        return -180.0, 180.0
    turn = 360 * math.floor((left + 180) / 360)
    return left - turn, right - turn


def _transform_box(box: tuple[float, float, float, float], given: CRS, own: CRS) -> tuple[Box, Polygon | None]:
    """The enclosing box of ``box`` in another CRS, and its outline there, if that is a polygon without crossings.

    Raises :class:`GridError` if it cannot be taken there.
    """
    import shapely
    from pyproj import Transformer

    with _one_way(given, own):
        transformer = Transformer.from_crs(given, own, always_xy=True)
        left, bottom, right, top = finite(transformer.transform_bounds(*box, densify_pts=POLE_POINTS))
        ring = shapely.segmentize(shapely.box(*box), max(box[2] - box[0], box[3] - box[1]) / EDGE_POINTS)
        outline: Polygon = shapely.transform(ring, transformer.transform, interleaved=False)
    if own.is_geographic and left > right:
        right, outline = right + 360, shapely.Polygon()
    if not outline.is_valid or not outline.area > 0:
        return (left, bottom, right, top), None
    west, south, east, north = outline.bounds
    return (min(left, west), min(bottom, south), max(right, east), max(top, north)), outline


def _turns(left: float, right: float) -> list[tuple[float, float]]:
    """An interval of longitudes, of any turn, as intervals within -180 to 180."""
    out = []
    for turn in range(math.floor((left + 180) / 360), math.ceil((right + 180) / 360)):
        west, east = max(left - 360 * turn, -180.0), min(right - 360 * turn, 180.0)
        if west < east:
            out.append((west, east))
    return out
