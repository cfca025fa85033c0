"""What is panned over: pixels in rows and columns of some CRS, cut into tiles at every zoom. Pure arithmetic.

At level n a pixel of a tile stands for 2**n pixels of the lattice along each side, from the lattice's own origin, as in overviews; so tile (row, column)
of level n has the pixels from ``row * TILE << n`` on. A grid of pixels is its own lattice; cells of HEALPix are seen on views of the globe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.boxes import Box, mapper, parse_crs
from cubeingest.grid import Grid, HealpixGrid, TilingGrid
from cubeingest.look.fields import Places, box_of
from cubeingest.look.globe import LONLAT, choose_globe
from cubeingest.look.samples import Window
from cubeingest.sketch import aspect_of

if TYPE_CHECKING:
    import numpy.typing as npt

TILE = 256
"""Pixels along a side of a tile."""

CELL_DEGREES = 58.6
"""The side of a base cell of HEALPix, about."""

DEGREE_METRES = 111_195.0

WGS84 = 4326
"""EPSG code of longitudes and latitudes on WGS 84."""

EQUATOR_METRES, POLAR_METRES = 9.03e6, 9.1e6
"""From a pole to the equator, and to where the map ends, in equal areas."""

LIKE_SQUARE = 1.1
"""How much longer along y a pixel may have to be drawn for it to be drawn as a square."""


@dataclass(frozen=True)
class Lattice:
    """``shape_yx`` pixels of ``step_x`` by ``step_y`` (signed) units of ``crs``, from the outer corner (``origin_x``, ``origin_y``) of pixel [0, 0].

    ``aspect`` is how much longer along y a pixel is drawn than along x.
    """

    name: str
    title: str
    crs: str
    origin_x: float
    origin_y: float
    step_x: float
    step_y: float
    shape_yx: tuple[int, int]
    aspect: float = 1.0

    @property
    def is_geographic(self) -> bool:
        return bool(parse_crs(self.crs).is_geographic)

    @property
    def is_lonlat(self) -> bool:
        """Whether x and y are longitude and latitude as everybody has them: degrees from Greenwich, WGS 84."""
        return self.is_geographic and parse_crs(self.crs).to_epsg() == WGS84

    @property
    def north_up(self) -> bool:
        """Whether the first row is the topmost."""
        return self.step_y < 0

    @property
    def top_level(self) -> int:
        """The level at which all of it is one tile."""
        return max(0, math.ceil(math.log2(max(self.shape_yx) / TILE)))

    @property
    def extent(self) -> Box:
        """(left, bottom, right, top) of all of it, in CRS units."""
        rows, columns = self.shape_yx
        xs = [self.origin_x, self.origin_x + columns * self.step_x]
        ys = [self.origin_y, self.origin_y + rows * self.step_y]
        return min(xs), min(ys), max(xs), max(ys)

    def window(self, level: int, row: int, column: int) -> Window | None:
        """The pixels of a tile, as far as there are any; None for a tile that there is not."""
        if not 0 <= level <= self.top_level or row < 0 or column < 0:
            return None
        size = TILE << level
        y, x = (
            slice(min(i * size, n), min((i + 1) * size, n)) for i, n in zip((row, column), self.shape_yx, strict=True)
        )
        return None if y.start >= y.stop or x.start >= x.stop else (y, x)

    def bounds(self, level: int, row: float, column: float, size: float = 1.0) -> Box:
        """(left, bottom, right, top) of a tile in CRS units, whole also where it reaches past the lattice; of ``size`` tiles along a side."""
        pixels = TILE << level
        xs = [self.origin_x + c * pixels * self.step_x for c in (column, column + size)]
        ys = [self.origin_y + r * pixels * self.step_y for r in (row, row + size)]
        return min(xs), min(ys), max(xs), max(ys)

    def lonlat(self, x: Any, y: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Longitudes (from -180 to 180) and latitudes of points in CRS units; NaN where a point has none."""
        lon, lat = (np.asarray(v, np.float64) for v in (x, y))
        if not self.is_lonlat:
            lon, lat = (
                np.asarray(v, np.float64) for v in mapper(parse_crs(self.crs), parse_crs("OGC:CRS84"))(lon, lat)
            )
        there = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) <= 90)
        if self.name in ("north", "south"):
            there &= (lat > 0) == (self.name == "north")
        lon, lat = np.where(there, lon, np.nan), np.where(there, lat, np.nan)
        return (lon + 180) % 360 - 180, lat

    def places(self, level: int, row: int, column: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Longitudes and latitudes of the centres of a tile's pixels, (``TILE``, ``TILE``), in the order of the lattice."""
        at = (np.arange(TILE) + 0.5) * 2**level
        x = self.origin_x + ((column * TILE << level) + at) * self.step_x
        y = self.origin_y + ((row * TILE << level) + at) * self.step_y
        return self.lonlat(*np.meshgrid(x, y))

    def square_metres(self, level: int, row: int) -> float:
        """Of a pixel of a tile, about."""
        area = abs(self.step_x * self.step_y) * 4.0**level
        if not self.is_geographic:
            return area
        _, bottom, _, top = self.bounds(level, row, 0)
        middle = (max(-90.0, bottom) + min(90.0, top)) / 2
        return float(area * DEGREE_METRES**2 * max(0.01, math.cos(math.radians(middle))))

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "title": self.title, "crs": crs_text(self.crs), "geographic": self.is_lonlat,
            "origin": [self.origin_x, self.origin_y], "step": [self.step_x, self.step_y], "shape": list(self.shape_yx),
            "top": self.top_level, "tile": [round(TILE * self.aspect), TILE],
        }  # fmt: skip


def lattices_of(grid: Grid, places: Places | None = None) -> list[Lattice]:
    """What a grid is looked at on, the one that suits its regions at ``places`` (all by default) first."""
    if isinstance(grid, TilingGrid):
        return [_of_pixels(grid)]
    assert isinstance(grid, HealpixGrid)
    globe = choose_globe(box_of(grid, places))
    crosses = globe.kind == "plain" and (globe.bounds[0] < -180 or globe.bounds[2] > 180)
    polar = [_polar(grid, "north"), _polar(grid, "south")]
    found = [_plain(grid, round(globe.middle) if crosses else 0), *polar]
    first = "plain" if globe.kind != "polar" else "north" if "lat_0=90" in globe.crs else "south"
    return sorted(found, key=lambda lattice: lattice.name != first)


def _of_pixels(grid: TilingGrid) -> Lattice:
    step_x, step_y = float(grid.resolution_x), float(grid.resolution_y)
    aspect = aspect_of(grid.bounds(), grid.crs) * abs(step_y / step_x)
    aspect = 1.0 if 1 / LIKE_SQUARE < aspect < LIKE_SQUARE else min(max(aspect, 0.125), 8.0)
    origin = float(grid.origin_x), float(grid.origin_y)
    return Lattice("grid", "the grid of the cube", grid.crs, *origin, step_x, step_y, grid.shape_yx, aspect)


def _plain(grid: HealpixGrid, middle: float) -> Lattice:
    """Longitudes and latitudes, with pixels no larger than cells."""
    n = TILE << max(0, math.ceil(math.log2(360 / (CELL_DEGREES / 2**grid.order) / TILE)))
    return Lattice("plain", "longitude, latitude", LONLAT, middle - 180.0, 90.0, 360 / n, -360 / n, (n // 2, n))


def _polar(grid: HealpixGrid, side: str) -> Lattice:
    """The surroundings of a pole in equal areas."""
    metres = CELL_DEGREES / 2**grid.order * DEGREE_METRES
    n = TILE << max(0, math.ceil(math.log2(2 * POLAR_METRES / metres / TILE)))
    crs = f"+proj=laea +lat_0={90 if side == 'north' else -90} +lon_0=0 +datum=WGS84 +units=m +no_defs"
    step = 2 * POLAR_METRES / n
    return Lattice(side, f"{side} pole", crs, -POLAR_METRES, POLAR_METRES, step, -step, (n, n))


def crs_text(crs: str) -> str:
    """A CRS as people call it."""
    if crs.startswith("+proj=laea"):
        return "Lambert azimuthal equal area"
    return crs if len(crs) <= 24 else str(parse_crs(crs).name)
