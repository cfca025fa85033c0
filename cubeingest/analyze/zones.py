"""Zones that statistics are made of: polygons brought to the grid, or whole numbers in a raster on its lattice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.analyze.tables import need
from cubeingest.analyze.vectors import Features, read_features
from cubeingest.boxes import mapper, parse_crs
from cubeingest.errors import GridError
from cubeingest.grid import TilingGrid
from cubeingest.spec import Variable
from cubeingest.tile import TileReader, open_tile, read_header

if TYPE_CHECKING:
    import numpy.typing as npt
    from pyproj import CRS

MARGIN_DEGREES = 1.0
"""Around the grid, what of polygons is brought to it, too: their edges there are bent as those within."""

LEAP = 50
"""Times the length of other steps along an outline, of which there are hundreds."""

EDGE_PARTS = 256
"""Into how many parts, along its longer side, a polygon is cut where it is taken to another CRS: its edges are curves there."""

RASTERS = (".tif", ".tiff", ".vrt")

NO_ZONE = np.int64(np.iinfo(np.int64).min)

SHOWN = 3
"""Zones that a message names."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Zones:
    """Polygons in the grid's CRS. ``geometries`` are they in each turn of the globe in which they reach into the grid, ``owners`` of which zone each is.

    ``share`` is the part of each zone's area, in the grid's CRS, that lies within the grid.
    """

    n: int
    attributes: Mapping[str, Sequence[Any]]
    owners: npt.NDArray[np.int64]
    geometries: Array
    share: npt.NDArray[np.float64]


POLYGONS = "statistics of polygons"
"""What needs exactextract."""


def place_zones(grid: TilingGrid, features: Features, make_valid: bool) -> Zones:
    """Bring polygons to a grid. Raises :class:`GridError` for what is no sound polygon, unless ``make_valid`` mends it."""
    need("exactextract", POLYGONS)
    import shapely

    shapes = np.asarray(features.geometries)
    _refuse_others(features, shapes)
    invalid = np.flatnonzero(~shapely.is_valid(shapes))
    if invalid.size and not make_valid:
        named = "; ".join(
            f"{_name(features, i)}: {shapely.is_valid_reason(shapes[i])}" for i in invalid[:SHOWN].tolist()
        )
        more = f"; and {invalid.size - SHOWN} more" if invalid.size > SHOWN else ""
        raise GridError(
            f"{features.where} has polygons that are not sound ({named}{more}): mend them, or give --make-valid"
        )
    if invalid.size:
        shapes = shapes.copy()
        shapes[invalid] = [_polygonal(shapely.make_valid(s)) for s in shapes[invalid]]
    given, own = parse_crs(features.crs), parse_crs(grid.crs)
    held = np.ones(len(shapes))
    if not given.equals(own, ignore_axis_order=True):
        take = mapper(given, own)
        if given.is_geographic and not own.is_geographic:
            shapes, held = _cut_to_grid(shapes, grid, given, own)
        sides = np.nan_to_num(np.ptp(shapely.bounds(shapes).reshape(-1, 2, 2), axis=1).max(axis=1))
        shapes = shapely.segmentize(shapes, np.maximum(sides / EDGE_PARTS, 1e-12))
        shapes = shapely.transform(shapes, take, interleaved=False)
        lost = np.flatnonzero(~np.isfinite(shapely.bounds(shapes)).all(axis=1) & ~shapely.is_empty(shapes))
        if lost.size:
            raise GridError(f"{features.where}: {_name(features, int(lost[0]))} cannot be taken from {given.name} to the grid's {own.name}")  # fmt: skip
        torn = np.flatnonzero([_is_torn(s) for s in shapes])
        if torn.size:
            raise GridError(
                f"{features.where}: {_name(features, int(torn[0]))} goes over the edge of the grid's CRS {own.name}: cut it there into parts"
            )
    if own.is_geographic:
        edges = shapely.bounds(shapes)
        wide = np.flatnonzero(edges[:, 2] - edges[:, 0] > 360 + 1e-9)
        if wide.size:
            raise GridError(
                f"{features.where}: {_name(features, int(wide[0]))} is wider than 360 degrees: zones go round the globe at most once"
            )
    owners, geometries = [np.arange(len(shapes))], [shapes]
    box = shapely.box(*grid.bounds())
    if own.is_geographic:
        for turn in (-360.0, 360.0):
            moved = shapely.transform(shapes, lambda x, y, turn=turn: (x + turn, y), interleaved=False)
            there = np.flatnonzero(shapely.intersects(box, moved))
            owners.append(there)
            geometries.append(moved[there])
    owner, geometry = np.concatenate(owners), np.concatenate(geometries)
    # A zone across the seam lies within the grid in two turns.
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = np.bincount(owner, shapely.area(shapely.intersection(geometry, box)), len(shapes)) / shapely.area(
            shapes
        )
    kept = shapely.intersects(box, geometry)
    return Zones(
        len(shapes), features.attributes, owner[kept], geometry[kept], np.clip(np.nan_to_num(inside * held), 0, 1)
    )


def _cut_to_grid(shapes: Array, grid: TilingGrid, given: CRS, own: CRS) -> tuple[Array, Array]:
    """Polygons of longitudes and latitudes cut to where a projected grid lies, each in one turn of the globe, and what share of each is left."""
    import shapely
    import shapely.affinity
    from pyproj import Transformer

    west, south, east, north = Transformer.from_crs(own, given, always_xy=True).transform_bounds(
        *grid.bounds(), densify_pts=201
    )
    if not np.isfinite([west, south, east, north]).all():
        return shapes, np.ones(len(shapes))
    margin = MARGIN_DEGREES
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    boxes = [
        shapely.box(max(w - margin, -180), max(south - margin, -90), min(e + margin, 180), min(north + margin, 90))
        for w, e in spans
    ]
    near = shapely.union_all(boxes)
    cut = []
    for shape in shapes:
        parts = [shapely.intersection(shapely.affinity.translate(shape, turn), near) for turn in (-360.0, 0.0, 360.0)]
        cut.append(_polygonal(shapely.union_all(parts)))
    with np.errstate(invalid="ignore", divide="ignore"):
        held = np.nan_to_num(shapely.area(cut) / shapely.area(shapes))
    return np.asarray(cut), np.minimum(held, 1)


def _is_torn(shape: Any) -> bool:
    """Whether an outline leaps from one edge of a projection to the other: one step is as long as a good part of the whole, and far longer than the others."""
    import shapely

    for ring in shapely.get_rings(shape):
        steps = np.hypot(*np.diff(shapely.get_coordinates(ring), axis=0).T)
        if steps.size and steps.max() > LEAP * np.median(steps) and steps.max() > steps.sum() / 8:
            return True
    return False


def _refuse_others(features: Features, shapes: Array) -> None:
    import shapely

    others = np.flatnonzero(~np.isin(shapely.get_type_id(shapes), (3, 6)))
    if others.size:
        kind = shapes[others[0]].geom_type
        raise GridError(f"{features.where}: {_name(features, int(others[0]))} is a {kind}: zones are polygons")


def _name(features: Features, i: int) -> str:
    """``zone 3 ('Yosemite')``: its number from 0, and the first text that is said of it."""
    texts = (v[i] for v in features.attributes.values() if isinstance(v[i], str))
    text = next(texts, None)
    return f"zone {i}" + (f" ({text!r})" if text else "")


def _polygonal(shape: Any) -> Any:
    import shapely

    parts = [p for p in shapely.get_parts(shapely.get_parts(shape)) if p.geom_type == "Polygon"]
    return shapely.union_all(parts)


def read_zones(path: Path, layer: str | None = None) -> Features | Path:
    """Polygons of a file, or the absolute path of a raster of zones. Raises :class:`GridError` for what cannot be read."""
    if path.suffix.lower() not in RASTERS:
        return read_features(path, layer)
    if not path.is_file():
        raise GridError(f"there is no file {str(path)!r}")
    return path.resolve()


def check_zone_raster(path: Path, grid: TilingGrid) -> None:
    """Raise :class:`TileError` for a raster that is not on the cube's lattice, :class:`GridError` for one of no whole numbers."""
    for dtype in read_header(str(path)).dtypes:
        if np.dtype(dtype).kind not in "iu":
            raise GridError(f"{str(path)!r} is {dtype}: zones are whole numbers")
    with _open_zones(path, grid):
        pass  # it is proven to fit


def read_zone_raster(path: Path, grid: TilingGrid, y: slice, x: slice) -> npt.NDArray[np.int64]:
    """(y, x) of zones in rows and columns of the grid; ``NO_ZONE`` where the raster has nodata, or does not reach."""
    out = np.full((y.stop - y.start, x.stop - x.start), NO_ZONE)
    with _open_zones(path, grid) as tile:
        rows, columns = (
            slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip((y, x), tile.window, strict=True)
        )
        if rows.start < rows.stop and columns.start < columns.stop:
            inside = out[rows.start - y.start : rows.stop - y.start, columns.start - x.start : columns.stop - x.start]
            pixels = np.empty(inside.shape, np.int64)
            tile.read_into(pixels, rows, columns)
            inside[...] = pixels
    return out


def _open_zones(path: Path, grid: TilingGrid) -> AbstractContextManager[TileReader]:
    dims = grid.dims_yx
    zones = Variable("zones", "int64", int(NO_ZONE), (), dims, grid.region_shape_yx, None, None, {}, None)
    return open_tile(str(path), grid, zones)


def cover_cells(
    geometries: Sequence[bytes], bounds: tuple[float, float, float, float], shape_yx: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """(polygon, cell, fraction covered) of each pixel that a polygon (WKB) touches; cells count row by row from the upper left.

    ``bounds`` are (left, bottom, right, top) of the raster of ``shape_yx``. Fractions are exact.
    """
    found = _extract(geometries, bounds, {"": np.broadcast_to(np.uint8(0), shape_yx)}, ["cell_id", "coverage"])
    polygon = np.repeat(np.arange(len(found)), [len(f["cell_id"]) for f in found])
    return polygon, _joined(found, "cell_id", np.int64), _joined(found, "coverage", np.float64)


def sum_planes(
    geometries: Sequence[bytes], bounds: tuple[float, float, float, float], planes: Sequence[Array]
) -> tuple[Array, Array]:
    """Of each plane (y, x; NaN is missing) and polygon: (plane, polygon, of count, sum, min, max), and pixels of each polygon.

    A third of the time that the cells themselves take, each covered pixel of which is 16 bytes.
    """
    rasters = {f"p{n}": plane for n, plane in enumerate(planes)} | {"all": np.zeros(planes[0].shape, np.uint8)}
    ops = ["count", "sum", "min", "max"]
    found = _extract(geometries, bounds, rasters, ops)
    rows = [[[f[f"p{n}_{op}"] for op in ops] for f in found] for n in range(len(planes))]
    return np.array(rows, float), np.array([f["all_count"] for f in found], float)


def _extract(
    geometries: Sequence[bytes], bounds: tuple[float, float, float, float], planes: Mapping[str, Array], ops: list[str]
) -> list[dict[str, Any]]:
    """What exactextract says of each polygon."""
    exactextract = need("exactextract", POLYGONS)
    raster = need("exactextract.raster", POLYGONS)
    feature = need("exactextract.feature", POLYGONS)

    class Polygon(feature.Feature):  # type: ignore[misc, name-defined]
        def __init__(self, wkb: bytes) -> None:
            super().__init__()
            self.wkb = wkb

        def geometry(self) -> bytes:
            return self.wkb

        def fields(self) -> list[str]:
            return []

    class Polygons(feature.FeatureSource):  # type: ignore[misc, name-defined]
        def count(self) -> int:
            return len(geometries)

        def __iter__(self) -> Any:
            return map(Polygon, geometries)

        def srs_wkt(self) -> None:
            return None

    rasters = [raster.NumPyRasterSource(plane, *bounds, name=name or None) for name, plane in planes.items()]
    return [f["properties"] for f in exactextract.exact_extract(rasters, Polygons(), ops)]


def _joined(found: Sequence[Mapping[str, Any]], name: str, dtype: Any) -> Array:
    return np.concatenate([np.asarray(f[name], dtype) for f in found]) if found else np.empty(0, dtype)
