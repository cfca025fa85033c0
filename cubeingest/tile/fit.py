"""Does a tile fit the grid and the variable, and where does it lie?"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from cubeingest.boxes import query_boxes
from cubeingest.errors import GridError, TileError
from cubeingest.grid import TOLERANCE_PX, TilingGrid
from cubeingest.spec import Variable
from cubeingest.storage import public_href
from cubeingest.tile.header import Header
from cubeingest.tile.pixels import as_dtype

Window = tuple[slice, slice]
"""Half-open (y, x) pixel slices in the grid."""


@dataclass(frozen=True)
class Placement:
    """A tile proven to fit: where it lies on the lattice (it may reach past the grid's ends), and how to read it.

    A tile that ``is_warped`` lies off the lattice and is to be resampled; its window is what encloses it there.
    """

    window: Window
    flipped: bool
    band: int
    nodata: float | int | None
    is_warped: bool = False


def place(
    header: Header, grid: TilingGrid, variable: Variable, band: int | None = None, expected: Window | None = None
) -> Placement:
    """Prove that a tile fits the grid and the variable, and say where it lies.

    ``expected`` is the window that its name stands for, if it has one: then a tile on the lattice must be just that, except that
    it may stop at the grid's end or reach past it. ``band`` counts from 1; None means the only one.

    Raises :class:`TileError` naming the tile, what it has, and what was expected.
    """
    tile = f"tile {public_href(header.href)!r}"
    window, is_warped = _locate(tile, header, grid, variable)
    if expected is not None and not is_warped:
        _check_expected(tile, window, expected, grid)
    if band is None:
        if len(header.dtypes) != 1:
            raise TileError(
                f"{tile} has {len(header.dtypes)} bands, expected one: say which with source.band or source.bands"
            )
        band = 1
    if band > len(header.dtypes):
        raise TileError(f"{tile} has no band {band}: it has {len(header.dtypes)}")
    if header.has_mask:
        raise TileError(
            f"{tile} has a mask band, which is not read, so masked pixels would count as data: burn it in as nodata"
        )
    dtype = np.dtype(header.dtypes[band - 1])
    if not _widens(dtype, variable.np_dtype):
        raise TileError(
            f"{tile} is {dtype.name}, variable {variable.name!r} is {variable.dtype}: not every value would survive; "
            f"declare {_common(dtype, variable.np_dtype)} in the spec"
        )
    if is_warped and dtype.kind in "ui" and dtype.itemsize == 8:
        raise TileError(
            f"{tile} is {dtype.name} and off the lattice: GDAL warps through float64, which rounds above 2**53"
        )
    flipped = (header.transform[4] > 0) != (grid.resolution_y > 0)
    return Placement(window, flipped, band, _nodata(header, variable, dtype, band), is_warped)


def _locate(tile: str, header: Header, grid: TilingGrid, variable: Variable) -> tuple[Window, bool]:
    """A tile's window, and whether it must be resampled to get there."""
    try:
        _check_crs(tile, header, grid)
        return _lattice_window(tile, header, grid), False
    except TileError as error:
        if not header.crs:
            raise
        if variable.source is None or variable.source.array is not None:
            raise
        if variable.source.resampling is None:
            raise TileError(f"{error}, or set source.resampling") from None
    return _enclosing_window(tile, header, grid), True


def _enclosing_window(tile: str, header: Header, grid: TilingGrid) -> Window:
    """Whole pixels of the grid, and one more on each side, round a tile in another CRS; empty if it lies elsewhere."""
    left, bottom, right, top = (float(v) for v in header.bounds)
    rows: list[float] = []
    columns: list[float] = []
    try:
        boxes = [box for box, _ in query_boxes((left, bottom, right, top), header.crs.to_wkt(), grid.crs)]
    except GridError as error:
        raise TileError(f"{tile} cannot be placed in {grid.crs}: {error}") from None
    for x0, y0, x1, y1 in boxes:
        span_x = [(v - float(grid.origin_x)) / float(grid.resolution_x) for v in (x0, x1)]
        span_y = sorted((v - float(grid.origin_y)) / float(grid.resolution_y) for v in (y0, y1))
        if span_x[1] > 0 and span_x[0] < grid.shape_yx[1] and span_y[1] > 0 and span_y[0] < grid.shape_yx[0]:
            rows += span_y
            columns += span_x
    if not rows:
        return slice(0, 0), slice(0, 0)
    y, x = (
        slice(max(0, math.floor(min(v)) - 1), min(n, math.ceil(max(v)) + 1))
        for v, n in zip((rows, columns), grid.shape_yx, strict=True)
    )
    return y, x


def _check_crs(tile: str, header: Header, grid: TilingGrid) -> None:
    if not header.crs:
        raise TileError(f"{tile} has no CRS, expected {grid.crs}")
    from pyproj import CRS

    if header.crs.to_string() == grid.crs:
        return
    given = CRS.from_wkt(header.crs.to_wkt())
    if not given.equals(CRS.from_user_input(grid.crs), ignore_axis_order=True):
        raise TileError(f"{tile} is in CRS {header.crs.to_string()[:80]}, expected {grid.crs}")


def _lattice_window(tile: str, header: Header, grid: TilingGrid) -> Window:
    a, b, _, d, e, _ = header.transform
    if b or d:
        raise TileError(f"{tile} is rotated or sheared (transform {header.transform}): warp it to the grid first")
    if a < 0:
        raise TileError(f"{tile} has columns that run east to west (pixel size x {a!r}): flip it first")
    for dim, size, own, n in (("x", a, grid.resolution_x, 1), ("y", abs(e), abs(grid.resolution_y), 0)):
        drift = header.shape_yx[n] * (Fraction(size) / own - 1)
        if abs(drift) > TOLERANCE_PX:
            raise TileError(
                f"{tile} has pixel size {size!r} along {dim}, expected {float(own)!r}: over its {header.shape_yx[n]} pixels "
                f"that is {float(abs(drift)):.3g} px off (allowed {float(TOLERANCE_PX):g})"
            )
    try:
        return grid.lattice_window(header.bounds)
    except GridError as error:
        points = "; if its pixels stand for points, move the grid's origin by half a pixel"
        hint = points if re.search(r" 0\.5 px|^0\.5 px", str(error)) else ""
        raise TileError(f"{tile} lies {error}: check its transform{hint}") from None


def _check_expected(tile: str, window: Window, expected: Window, grid: TilingGrid) -> None:
    for dim, own, want, n in zip(grid.dims_yx, window, expected, grid.shape_yx, strict=True):
        if own.start == want.start and min(own.stop, n) == min(want.stop, n):
            continue
        if own.stop - own.start != want.stop - want.start:
            raise TileError(
                f"{tile} has {own.stop - own.start} pixels along {dim}, its place in the grid has {want.stop - want.start}: "
                "check source.tile, and source.overlap if tiles share pixels"
            )
        raise TileError(
            f"{tile} lies at {dim} {own.start}:{own.stop}, but by its name it belongs at {dim} {want.start}:{want.stop}"
        )


def _widens(own: np.dtype[Any], to: np.dtype[Any]) -> bool:
    """Whether every value of ``own`` is a value of ``to``. Numpy calls int64 to float64 safe, though it rounds."""
    if own.kind in "iu" and to.kind == "f":
        return int(np.iinfo(own).bits) - (own.kind == "i") <= int(np.finfo(to).nmant) + 1
    return np.can_cast(own, to, "safe")


def _common(own: np.dtype[Any], other: np.dtype[Any]) -> str:
    both = np.promote_types(own, other)
    return f"dtype {both.name}" if _widens(own, both) and _widens(other, both) else "a dtype that holds both"


def _nodata(header: Header, variable: Variable, dtype: np.dtype[Any], band: int) -> float | int | None:
    """The nodata that holds, or None where there is none or the tile's dtype cannot hold it."""
    source = variable.source
    given = header.nodata[band - 1] if source is None or source.nodata == "file" else source.nodata
    kept = None if given is None or isinstance(given, str) else as_dtype(given, dtype)
    return None if kept is None else kept.item()
