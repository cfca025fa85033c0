"""Grids of pixels: where each pixel, chunk and region lies, in exact arithmetic.

Geography is kept as rationals (:class:`fractions.Fraction`) and becomes a float once, at the last step, so the
same edge computed from two sides is the same number. Pixel indices are integers and half-open.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.axes import Axis
from cubeingest.boxes import finite, mapper, parse_crs, query_boxes
from cubeingest.errors import GridError
from cubeingest.grid.base import Grid
from cubeingest.ids import IdTemplate
from cubeingest.shapes import regions_within
from cubeingest.steps import centres, named_edge, near_places, overlapped_chunks, snap, to_fraction

if TYPE_CHECKING:
    import numpy.typing as npt
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

Bounds = tuple[float, float, float, float]
"""(left, bottom, right, top) in CRS units, outer edges of pixels."""
ExactBounds = tuple[Fraction, Fraction, Fraction, Fraction]

TOLERANCE_PX = Fraction(1, 100)
"""How far, in pixels, an edge may lie from the lattice. Float noise of published tiles is below 1e-6 px and
a real shift is at least a tenth, so anything between would do."""


@dataclass(frozen=True)
class TilingGrid(Grid):
    """A cube's lattice: CRS, affine, shape, and the regions that it is cut into.

    ``origin`` is the outer corner of pixel [0, 0]; ``resolution`` the signed pixel size (``resolution_y > 0``:
    rows run south to north). Shapes are (y, x) in pixels. The last row and column of regions may be partial.

    >>> grid = TilingGrid(
    ...     crs="EPSG:4326", origin_x=Fraction(-180), origin_y=Fraction(80),
    ...     resolution_x=Fraction(1, 4000), resolution_y=Fraction(-1, 4000),
    ...     shape_yx=(560000, 1440000), region_shape_yx=(40000, 40000),
    ...     id_template="{top:02H}_{left:03H}", axes=(Axis("year", (2000, 2005)),))
    >>> grid.region("70N_180W", year=2000)
    {'year': slice(0, 1, None), 'y': slice(40000, 80000, None), 'x': slice(0, 40000, None)}
    """

    crs: str
    origin_x: Fraction
    origin_y: Fraction
    resolution_x: Fraction
    resolution_y: Fraction
    shape_yx: tuple[int, int]
    region_shape_yx: tuple[int, int]
    id_template: str = "y{iy}_x{ix}"
    dims_yx: tuple[str, str] = ("y", "x")
    axes: tuple[Axis, ...] = ()

    def __post_init__(self) -> None:
        if self.resolution_x <= 0 or self.resolution_y == 0:
            raise GridError(
                f"resolution is (x {self.resolution_x}, y {self.resolution_y}): x must be above 0 and y not 0"
            )
        for dim, n, r in zip(self.dims_yx, self.shape_yx, self.region_shape_yx, strict=True):
            if n < 1 or not 1 <= r <= n:
                raise GridError(f"region {dim} is {r} of {n} pixels: it must be between 1 and the grid's shape")
        self.ids  # noqa: B018  (checked when made)

    # ---- size -------------------------------------------------------------------------------------------

    @property
    def spatial_dims(self) -> tuple[str, ...]:
        return self.dims_yx

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        return self.shape_yx

    @property
    def region_shape(self) -> tuple[int, ...]:
        return self.region_shape_yx

    @property
    def layout(self) -> dict[str, Any]:
        return {
            "origin": {"x": str(self.origin_x), "y": str(self.origin_y)},
            "resolution": {"x": str(self.resolution_x), "y": str(self.resolution_y)},
            "shape": dict(zip("yx", self.shape_yx, strict=True)),
            "region": dict(zip("yx", self.region_shape_yx, strict=True)),
            "id": self.id_template,
            "dims": dict(zip("yx", self.dims_yx, strict=True)),
        }

    @property
    def lattice_shape_yx(self) -> tuple[int, int]:
        """Number of regions along y and x."""
        return (
            -(-self.shape_yx[0] // self.region_shape_yx[0]),
            -(-self.shape_yx[1] // self.region_shape_yx[1]),
        )

    # ---- ids --------------------------------------------------------------------------------------------

    @cached_property
    def ids(self) -> IdTemplate:
        """How region ids are written and read."""
        ry, rx = self.region_shape_yx
        y = named_edge(self.origin_y, self.resolution_y)
        x = named_edge(self.origin_x, self.resolution_x)
        return IdTemplate(self.id_template, y, ry * self.resolution_y, x, rx * self.resolution_x)

    def region_id(self, iy: int, ix: int) -> str:
        """The id of the region in lattice row ``iy`` and column ``ix``.

        Raises :class:`GridError` if the lattice has no such place.
        """
        ny, nx = self.lattice_shape_yx
        if not (0 <= iy < ny and 0 <= ix < nx):
            raise GridError(f"no region at row {iy}, column {ix}: the grid has {ny} rows and {nx} columns of regions")
        return self.ids.write(iy, ix)

    def find_region(self, region_id: str) -> tuple[int, int] | None:
        """As :meth:`region_index`, but None for an id that this grid does not have."""
        index = self.ids.read(region_id)
        ny, nx = self.lattice_shape_yx
        return index if index is not None and 0 <= index[0] < ny and 0 <= index[1] < nx else None

    # ---- regions ----------------------------------------------------------------------------------------

    def slices(self, iy: int, ix: int) -> tuple[slice, slice]:
        """Half-open pixel slices (y, x) of the region at lattice row ``iy``, column ``ix``."""
        (ny, nx), (ry, rx) = self.shape_yx, self.region_shape_yx
        return slice(iy * ry, min((iy + 1) * ry, ny)), slice(ix * rx, min((ix + 1) * rx, nx))

    def region(self, where: Any, /, **axes: object) -> dict[str, slice]:
        """The slices of one region, ready for ``Dataset.to_zarr(region=...)`` or ``isel``.

        ``where`` is a region id, or anything with ``.rio.bounds()`` (a rioxarray object) whose bounds are those
        of a whole region. Axis values are given by name; an axis that is not named is not restricted.
        A value inside an axis block of several is refused, since it is part of a chunk.

        >>> grid = TilingGrid("EPSG:4326", Fraction(0), Fraction(0), Fraction(1), Fraction(1), (4, 6), (2, 3))
        >>> grid.region("y1_x0")
        {'y': slice(2, 4, None), 'x': slice(0, 3, None)}

        Raises :class:`GridError` if there is no such region or axis value, or the bounds are not a region's.
        """
        if isinstance(where, str):
            y, x = self.slices(*self.region_index(where))
        else:
            self._check_crs(where.rio.crs)
            y, x = self._region_of_bounds(where.rio.bounds())
        return {**self._axis_slices(axes), self.dims_yx[0]: y, self.dims_yx[1]: x}

    def _check_crs(self, crs: Any) -> None:
        from pyproj import CRS

        if crs is not None and not CRS.from_wkt(crs.to_wkt()).equals(
            CRS.from_user_input(self.crs), ignore_axis_order=True
        ):
            raise GridError(f"the object is in CRS {crs.to_string()[:80]}, the grid in {self.crs}: reproject it first")

    def _region_of_bounds(self, bounds: Bounds) -> tuple[slice, slice]:
        y, x = self.window(bounds)
        index = (y.start // self.region_shape_yx[0], x.start // self.region_shape_yx[1])
        if self.slices(*index) != (y, x):
            raise GridError(
                f"bounds {bounds} are pixels y {y.start}:{y.stop}, x {x.start}:{x.stop}, which is not a whole region "
                f"(region {self.ids.write(*index)!r} is y {self.slices(*index)[0].start}:{self.slices(*index)[0].stop}, "
                f"x {self.slices(*index)[1].start}:{self.slices(*index)[1].stop}): use window() for parts"
            )
        return y, x

    def exact_bounds(self, region_id: str) -> ExactBounds:
        """(left, bottom, right, top) of a region as rationals."""
        return self._exact_bounds(*self.slices(*self.region_index(region_id)))

    def _exact_bounds(self, y: slice, x: slice) -> ExactBounds:
        y0, y1 = (self.origin_y + i * self.resolution_y for i in (y.start, y.stop))
        x0, x1 = (self.origin_x + i * self.resolution_x for i in (x.start, x.stop))
        return x0, min(y0, y1), x1, max(y0, y1)

    def bounds(self, region_id: str | None = None) -> Bounds:
        """(left, bottom, right, top) of a region, or of the whole grid, in CRS units, each rounded once."""
        if region_id is None:
            exact = self._exact_bounds(slice(0, self.shape_yx[0]), slice(0, self.shape_yx[1]))
        else:
            exact = self.exact_bounds(region_id)
        left, bottom, right, top = (float(v) for v in exact)
        return left, bottom, right, top

    def affine(self, y_start: int = 0, x_start: int = 0) -> Affine:
        """The affine of the pixel lattice whose pixel [0, 0] is at (``y_start``, ``x_start``), as floats."""
        from affine import Affine

        x = self.origin_x + x_start * self.resolution_x
        y = self.origin_y + y_start * self.resolution_y
        return Affine(float(self.resolution_x), 0.0, float(x), 0.0, float(self.resolution_y), float(y))

    def geobox(self, region_id: str | None = None) -> GeoBox:
        """The odc-geo GeoBox of a region, or of the whole grid."""
        from odc.geo.geobox import GeoBox

        if region_id is None:
            return GeoBox(self.shape_yx, self.affine(), self.crs)
        y, x = self.slices(*self.region_index(region_id))
        return GeoBox((y.stop - y.start, x.stop - x.start), self.affine(y.start, x.start), self.crs)

    def area(self, region_id: str) -> GeoBox:
        """The region's GeoBox."""
        return self.geobox(region_id)

    # ---- bounds to pixels -------------------------------------------------------------------------------

    def window(self, bounds: Bounds | ExactBounds, tolerance_px: Fraction = TOLERANCE_PX) -> tuple[slice, slice]:
        """Pixel slices (y, x) of ``bounds``, which must lie on the lattice and within the grid.

        Raises :class:`GridError` that says by how many pixels, and in which direction, an edge is off.
        """
        y, x = self.lattice_window(bounds, tolerance_px)
        (ny, nx) = self.shape_yx
        if y.start < 0 or x.start < 0 or y.stop > ny or x.stop > nx:
            raise GridError(
                f"bounds {tuple(float(b) for b in bounds)} reach outside the grid, whose bounds are {self.bounds()}"
            )
        return y, x

    def lattice_window(
        self, bounds: Bounds | ExactBounds, tolerance_px: Fraction = TOLERANCE_PX
    ) -> tuple[slice, slice]:
        """As :meth:`window`, but the pixels may lie outside the grid (negative, or past its shape)."""
        left, bottom, right, top = (Fraction(b) for b in finite(bounds))
        y0, y1 = (top, bottom) if self.resolution_y < 0 else (bottom, top)
        if left >= right or bottom >= top:
            raise GridError(
                f"bounds {tuple(float(b) for b in bounds)} are empty or in the wrong order (left, bottom, right, top)"
            )
        ox, oy, rx, ry = self._floats
        places = ((float(left) - ox) / rx, (float(right) - ox) / rx, (float(y0) - oy) / ry, (float(y1) - oy) / ry)
        near = near_places(places, tolerance_px)
        if near is not None:
            return slice(near[2], near[3]), slice(near[0], near[1])
        edges = {
            ("x", "left"): (left - self.origin_x) / self.resolution_x,
            ("x", "right"): (right - self.origin_x) / self.resolution_x,
            ("y", "start"): (y0 - self.origin_y) / self.resolution_y,
            ("y", "stop"): (y1 - self.origin_y) / self.resolution_y,
        }
        for (dim, _), place in edges.items():
            off = place - round(place)
            if abs(off) > tolerance_px:
                raise GridError(f"{_offset_text(self, dim, off)} of the grid (allowed {float(tolerance_px):g} px)")
        x_start, x_stop, y_start, y_stop = (round(v) for v in edges.values())
        return slice(y_start, y_stop), slice(x_start, x_stop)

    @cached_property
    def _floats(self) -> tuple[float, float, float, float]:
        return float(self.origin_x), float(self.origin_y), float(self.resolution_x), float(self.resolution_y)

    @cached_property
    def turn_px(self) -> int | None:
        """Pixels of one turn of the globe along x, if longitudes run in whole pixels round it; else None."""
        pixels = 360 / self.resolution_x
        return int(pixels) if self._is_geographic and pixels.denominator == 1 else None

    def turns(self, window: tuple[slice, slice]) -> list[tuple[slice, slice]]:
        """A window in every turn of the globe in which it overlaps the grid: of a raster from 0 to 360 degrees, and of one from -180."""
        y, x = window
        steps = (0,) if self.turn_px is None else (0, -self.turn_px, self.turn_px)
        found = [(y, slice(x.start + step, x.stop + step)) for step in steps]
        return [(y, x) for y, x in found if x.start < self.shape_yx[1] and x.stop > 0]

    # ---- points to pixels -------------------------------------------------------------------------------

    def locate(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """The pixel that holds each point, as ``row * columns + column``; -1 for one outside the grid or not finite.

        Edges are those of the lattice, each rounded once. A point on one belongs to the pixel of the higher index, on the grid's last edge to the
        last pixel; longitudes are taken in the turn of the globe that the grid lies in.

        >>> grid = TilingGrid("EPSG:4326", Fraction(0), Fraction(0), Fraction(1), Fraction(1), (4, 6), (2, 3))
        >>> grid.locate(np.array([0.5, 365.0, 7.0]), np.array([0.0, 2.5, 1.0])).tolist()
        [0, 17, -1]
        """
        rows_at, columns_at = self._edges
        if self._is_geographic:
            left, _, right, _ = self.bounds()
            x = np.where(x >= right, x - 360, np.where(x < left, x + 360, x))
            x = np.where((x < left) & (right - left < 360) & (x + 360 == right), right, x)
        column = _place(x, columns_at)
        row = _place(-y, -rows_at) if self.resolution_y < 0 else _place(y, rows_at)
        return np.where((row >= 0) & (column >= 0), row * self.shape_yx[1] + column, -1)

    def regions_of(self, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        row, column = np.divmod(cells, self.shape_yx[1])
        (ry, rx), nx = self.region_shape_yx, self.lattice_shape_yx[1]
        regions: npt.NDArray[np.int64] = row // ry * nx + column // rx
        return regions

    def cells_within(self, region: int, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        y, x = self.slices(*divmod(region, self.lattice_shape_yx[1]))
        row, column = np.divmod(cells, self.shape_yx[1])
        within: npt.NDArray[np.int64] = (row - y.start) * (x.stop - x.start) + column - x.start
        return within

    @cached_property
    def _is_geographic(self) -> bool:
        return bool(parse_crs(self.crs).is_geographic)

    @cached_property
    def _edges(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Edges of rows and columns of pixels in CRS units, each rounded once."""
        y, x = (
            centres(origin - step / 2, step, 0, n + 1)
            for origin, step, n in zip(
                (self.origin_y, self.origin_x), (self.resolution_y, self.resolution_x), self.shape_yx, strict=True
            )
        )
        return y, x

    # ---- queries ----------------------------------------------------------------------------------------

    def get_chunks_for_bbox(
        self,
        bbox: tuple[float, float, float, float],
        crs: str | None = None,
        chunk_shape_yx: tuple[int, int] | None = None,
    ) -> list[tuple[int, int]]:
        """(iy, ix) of the chunks that ``bbox`` truly overlaps, row by row.

        Chunks are of ``chunk_shape_yx`` pixels; of a region's shape if that is not given (Open Climate Risk's case,
        where the two are the same).
        """
        shape = chunk_shape_yx or self.region_shape_yx
        found: set[tuple[int, int]] = set()
        for box, outline in query_boxes(bbox, crs or self.crs, self.crs):
            left, bottom, right, top = (to_fraction(v) for v in box)
            y0, y1 = (top, bottom) if self.resolution_y < 0 else (bottom, top)
            rows = overlapped_chunks(
                (y0 - self.origin_y) / self.resolution_y,
                (y1 - self.origin_y) / self.resolution_y,
                self.shape_yx[0],
                shape[0],
            )
            columns = overlapped_chunks(
                (left - self.origin_x) / self.resolution_x,
                (right - self.origin_x) / self.resolution_x,
                self.shape_yx[1],
                shape[1],
            )
            places = itertools.product(rows, columns)
            found.update(places if outline is None else self._within(outline, places, shape))
        return sorted(found)

    def get_chunks_for_shape(self, shape: BaseGeometry, crs: str | None = None) -> list[tuple[int, int]]:
        """(iy, ix) of the regions that share an area with a shapely polygon, row by row; in the grid's CRS, or in ``crs``.

        Raises :class:`GridError` for a shape without an area, one that is not sound, or one that cannot be taken there.
        """
        pixel = float(self.resolution_y), float(self.resolution_x)
        return regions_within(shape, crs or self.crs, self.crs, self.region_edges, pixel)

    @cached_property
    def region_edges(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Outer edges of the rows of regions, and of the columns, in CRS units, each rounded once."""
        y, x = (
            np.array([float(origin + min(i * r, n) * step) for i in range(-(-n // r) + 1)])
            for origin, step, n, r in zip(
                (self.origin_y, self.origin_x),
                (self.resolution_y, self.resolution_x),
                self.shape_yx,
                self.region_shape_yx,
                strict=True,
            )
        )
        return y, x

    def _within(
        self, outline: BaseGeometry, places: Iterable[tuple[int, int]], shape_yx: tuple[int, int]
    ) -> Iterator[tuple[int, int]]:
        """Those of ``places`` whose chunk shares an area with ``outline``."""
        import shapely

        shapely.prepare(outline)
        for iy, ix in places:
            y = slice(iy * shape_yx[0], min((iy + 1) * shape_yx[0], self.shape_yx[0]))
            x = slice(ix * shape_yx[1], min((ix + 1) * shape_yx[1], self.shape_yx[1]))
            chunk = shapely.box(*(float(v) for v in self._exact_bounds(y, x)))
            if shapely.intersects(outline, chunk) and not shapely.touches(outline, chunk):
                yield iy, ix

    def region_at(self, x: float, y: float, crs: str | None = None) -> str:
        """Id of the region that holds the point; on a shared edge, the one with the higher index.

        ``x`` and ``y`` are in the grid's CRS, or in ``crs`` (x is easting or longitude).

        Raises :class:`GridError` if the point is outside the grid.
        """
        if crs is not None:
            x, y = mapper(parse_crs(crs), parse_crs(self.crs))(x, y)
        finite((x, y))
        left, _, right, _ = self.bounds()
        if self._is_geographic and not left <= x < right:
            x = left + (x - left) % 360
        row = math.floor(snap((to_fraction(float(y)) - self.origin_y) / self.resolution_y))
        column = math.floor(snap((to_fraction(float(x)) - self.origin_x) / self.resolution_x))
        if not (0 <= row < self.shape_yx[0] and 0 <= column < self.shape_yx[1]):
            raise GridError(f"the point x {x}, y {y} is outside the grid, whose bounds are {self.bounds()}")
        return self.ids.write(row // self.region_shape_yx[0], column // self.region_shape_yx[1])

    def coordinate(self, dim: str, part: slice | None = None) -> npt.NDArray[np.float64]:
        """Pixel centres along the y or x dimension ``dim`` as float64, each rounded once from the exact value."""
        if dim not in self.dims_yx:
            raise GridError(f"{dim!r} is not a spatial dimension of the grid ({', '.join(self.dims_yx)})")
        is_y = dim == self.dims_yx[0]
        origin, step = (self.origin_y, self.resolution_y) if is_y else (self.origin_x, self.resolution_x)
        start, stop, _ = (part or slice(None)).indices(self.shape_yx[0 if is_y else 1])
        return centres(origin, step, start, stop)

    def _repr_html_(self) -> str:
        """A table and a small map, for notebooks."""
        from cubeingest.sketch import describe_grid

        return describe_grid(self)


def _offset_text(grid: TilingGrid, dim: str, off: Fraction) -> str:
    """``0.31 px east`` for an offset of so many pixels along increasing index."""
    east_or_north = (off > 0) == ((grid.resolution_x if dim == "x" else grid.resolution_y) > 0)
    words = ("east", "west") if dim == "x" else ("north", "south")
    return f"{float(abs(off)):.3g} px {words[0] if east_or_north else words[1]}"


def _place(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Between which ascending, even ``edges`` each value lies, the last one included; -1 for none."""
    n = edges.size - 1
    with np.errstate(invalid="ignore"):
        inside = (values >= edges[0]) & (values <= edges[-1])
        guess = (np.where(inside, values, edges[0]) - edges[0]) * (n / (edges[-1] - edges[0]))
    place = np.minimum(guess.astype(np.int64), n - 1)
    place -= inside & (values < edges[place])  # the guess is rounded
    place += inside & (values >= edges[place + 1]) & (place < n - 1)
    return np.where(inside, place, -1)
