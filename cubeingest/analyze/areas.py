"""Areas of pixels in square kilometres: exact on the ellipsoid where the grid is of longitudes and latitudes."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cubeingest.boxes import parse_crs
from cubeingest.grid import TilingGrid

SQUARE_METRES = 1e6
"""Of a square kilometre."""


def row_areas(grid: TilingGrid, y: slice) -> npt.NDArray[np.float64]:
    """Area in km² of one pixel of each row.

    Of longitudes and latitudes: what parallels and meridians cut out of the CRS's ellipsoid, by the closed formula of the authalic
    latitude (Snyder, Map Projections, 1987, equation 3-12). Of a projection: pixel width times height, in its units.
    """
    metres, body = _measures(grid.crs)
    if body is None:
        return np.full(y.stop - y.start, abs(float(grid.resolution_x * grid.resolution_y)) * metres / SQUARE_METRES)
    a, b, radians = body
    edges = float(grid.origin_y) + np.arange(y.start, y.stop + 1) * float(grid.resolution_y)
    # A parallel beyond a pole bounds nothing.
    below = _zone(np.clip(edges * radians, -math.pi / 2, math.pi / 2), math.sqrt(max(0.0, 1 - (b / a) ** 2)))
    width = float(grid.resolution_x) * radians
    return np.asarray(np.abs(np.diff(below)) * width * b**2 / 2 / SQUARE_METRES)


@lru_cache(maxsize=8)
def _measures(crs_text: str) -> tuple[float, tuple[float, float, float] | None]:
    """Square metres of a projection's square unit, and None; or of longitudes and latitudes the ellipsoid's half axes and radians of a unit."""
    crs = parse_crs(crs_text)
    if not crs.is_geographic:
        return math.prod(axis.unit_conversion_factor for axis in crs.axis_info[:2]), None
    ellipsoid, radians = crs.ellipsoid, crs.axis_info[0].unit_conversion_factor
    if ellipsoid is None:
        return 1.0, (6378137.0, 6356752.314245179, radians)
    return 1.0, (ellipsoid.semi_major_metre, ellipsoid.semi_minor_metre, radians)


def _zone(latitude: npt.NDArray[np.float64], e: float) -> npt.NDArray[np.float64]:
    """Twice the area between the equator and latitudes (radians), for a radian of longitude and a semi-minor axis of 1."""
    sine = np.sin(latitude)
    curved = sine if e == 0 else np.arctanh(e * sine) / e
    return np.asarray(sine / (1 - (e * sine) ** 2) + curved)


def says_how(grid: TilingGrid) -> str:
    """One line on how areas are meant."""
    crs = parse_crs(grid.crs)
    if crs.is_geographic:
        return f"areas are of pixels on the ellipsoid {crs.ellipsoid.name if crs.ellipsoid else 'WGS 84'}"
    return f"areas are pixel areas in the projection {crs.name}, true only where it keeps areas"
