"""Tiles off the grid's lattice, resampled onto it by GDAL's warper, a few rows at a time.

Whatever the region or the window, a pixel comes out the same, so that there is no seam: tiles of one lattice are warped as one mosaic,
the transformation is exact (GDAL's approximation depends on where a window ends), and the width of the kernel is fixed (GDAL would
take it from the window).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np

from cubeingest.boxes import parse_crs
from cubeingest.errors import TileError
from cubeingest.grid import TOLERANCE_PX, TilingGrid
from cubeingest.remote import gdal_path
from cubeingest.spec import Variable, storage_of
from cubeingest.storage import public_href
from cubeingest.tile.fit import Placement, Window
from cubeingest.tile.header import Header, clean, gdal_env
from cubeingest.tile.pixels import Array, NodataMap

if TYPE_CHECKING:
    from rasterio.vrt import WarpedVRT

EXACT_PX = 1e-9
"""What the transformation may be off by, in pixels of the source. Zero would say so, but rasterio's WarpedVRT fails on it."""

INTERPOLATING = {"bilinear": 1, "cubic": 2, "cubic_spline": 2, "lanczos": 3}
"""Kernels whose width follows the ratio of pixel sizes, and their radius in pixels, of the source or the grid, whichever are larger."""

BLOCK_PX = 512 * 128
"""Pixels of a block of rasterio's WarpedVRT, for each of which GDAL reads what it needs of the source at once."""

SOURCE_PX = 2**24
"""Pixels of the source that are read at once."""

METRES_A_DEGREE = 111_320.0

MARGIN_PX = 16
"""Pixels, of the source and of the grid, of empty margin: twice the radius of the widest kernel, and room for what a degree of
longitude shrinks by from one end of the grid to the other."""

WORKING_DTYPES = {"bool": "uint8", "float16": "float32"}
"""What GDAL computes in, for the dtypes that it does not have."""


@dataclass(frozen=True)
class WarpTile:
    """A tile that is to be warped: what it says of itself, how it is read, and its copy on this disk if there is one."""

    header: Header
    placement: Placement
    copy: str | None = None

    @property
    def path(self) -> str:
        return self.copy or gdal_path(self.header.href)


def group_tiles(tiles: Sequence[WarpTile]) -> list[list[WarpTile]]:
    """Tiles by lattice: CRS, pixel size, phase, dtype, band and nodata. Order is kept, within groups and of their first tiles."""
    groups: list[list[WarpTile]] = []
    for tile in tiles:
        for group in groups:
            if _is_mosaic(group[0], tile):
                group.append(tile)
                break
        else:
            groups.append([tile])
    return groups


def _is_mosaic(first: WarpTile, tile: WarpTile) -> bool:
    """Whether two tiles are windows of one raster."""
    a, b = first.header, tile.header
    same = (
        a.crs == b.crs
        and a.dtypes[first.placement.band - 1] == b.dtypes[tile.placement.band - 1]
        and repr(first.placement.nodata) == repr(tile.placement.nodata)
    )
    if not same or a.transform[1] or a.transform[3] or b.transform[1] or b.transform[3]:
        return same and a.transform == b.transform
    for i, n in ((0, 1), (4, 0)):
        if abs(b.transform[i] / a.transform[i] - 1) * max(a.shape_yx[n], b.shape_yx[n]) > TOLERANCE_PX:
            return False
    return all(abs(off - round(off)) <= TOLERANCE_PX for off in _offset(a, b))


def _offset(a: Header, b: Header) -> tuple[float, float]:
    """(rows, columns) from the first pixel of ``a`` to that of ``b``."""
    return (b.transform[5] - a.transform[5]) / a.transform[4], (b.transform[2] - a.transform[2]) / a.transform[0]


def mosaic_xml(tiles: Sequence[WarpTile], margin_yx: tuple[int, int]) -> str:
    """A GDAL VRT of tiles of one lattice, the first on top, with a margin of so many empty pixels.

    Where their nodata is unknown, a second band, alpha, says where there is a tile.
    """
    from rasterio.dtypes import dtype_rev, typename_fwd

    first = tiles[0]
    origin = first.header
    offsets = [tuple(round(v) for v in _offset(origin, t.header)) for t in tiles]
    top, left = min(r for r, _ in offsets) - margin_yx[0], min(c for _, c in offsets) - margin_yx[1]
    height = max(r + t.header.shape_yx[0] for (r, _), t in zip(offsets, tiles, strict=True)) - top + margin_yx[0]
    width = max(c + t.header.shape_yx[1] for (_, c), t in zip(offsets, tiles, strict=True)) - left + margin_yx[1]
    a, b, c, d, e, f = origin.transform
    transform = (c + left * a + top * b, a, b, f + left * d + top * e, d, e)
    dtype = typename_fwd[dtype_rev[origin.dtypes[first.placement.band - 1]]]
    nodata = first.placement.nodata
    sources, covers = [], []
    for (row, column), tile in reversed(list(zip(offsets, tiles, strict=True))):
        rows, columns = tile.header.shape_yx
        block = tile.header.block_shape_yx
        common = (
            f'<SourceFilename relativeToVRT="0">{escape(tile.path)}</SourceFilename><OpenOptions><OOI key="OVERVIEW_LEVEL">NONE</OOI></OpenOptions><SourceBand>{tile.placement.band}</SourceBand>'
            f'<SourceProperties RasterXSize="{columns}" RasterYSize="{rows}" DataType="{dtype}" BlockXSize="{block[1]}" '
            f'BlockYSize="{block[0]}"/><SrcRect xOff="0" yOff="0" xSize="{columns}" ySize="{rows}"/>'
            f'<DstRect xOff="{column - left}" yOff="{row - top}" xSize="{columns}" ySize="{rows}"/>'
        )
        value = "" if nodata is None else f"<NODATA>{nodata!r}</NODATA>"
        sources.append(f"<ComplexSource>{common}{value}</ComplexSource>")
        covers.append(
            f"<ComplexSource>{common}<ScaleOffset>255</ScaleOffset><ScaleRatio>0</ScaleRatio></ComplexSource>"
        )
    bands = f"<NoDataValue>{nodata!r}</NoDataValue>" if nodata is not None else ""
    xml = f'<VRTRasterBand dataType="{dtype}" band="1">{bands}{"".join(sources)}</VRTRasterBand>'
    if nodata is None:
        xml += (
            f'<VRTRasterBand dataType="Byte" band="2"><ColorInterp>Alpha</ColorInterp>{"".join(covers)}</VRTRasterBand>'
        )
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{escape(origin.crs.to_wkt())}</SRS>'
        f"<GeoTransform>{', '.join(map(repr, transform))}</GeoTransform>{xml}</VRTDataset>"
    )


class WarpReader:
    """Reads windows of a warped mosaic as the cube wants them: its dtype, what no tile covers is fill value."""

    def __init__(
        self,
        open_vrt: Callable[[Window], WarpedVRT],
        window: Window,
        side_px: int | None,
        tiles: Sequence[WarpTile],
        variable: Variable,
    ) -> None:
        self.window = window
        self._open_vrt, self._side_px, self._tiles, self._variable = open_vrt, side_px, tiles, variable
        href = tiles[0].header.href
        self._dtype = np.dtype(WORKING_DTYPES.get(variable.dtype, variable.dtype))
        self._map = NodataMap(href, self._dtype, tiles[0].placement.nodata, variable)
        self._whole = open_vrt(window) if side_px is None else None

    def close(self) -> None:
        if self._whole is not None:
            self._whole.close()

    def read_into(self, out: Array, y: slice, x: slice) -> None:
        """Fill ``out`` with grid rows ``y`` and columns ``x``, which ``window`` must hold.

        Raises :class:`TileError` if a tile cannot be read there, or the result has valid pixels equal to the fill value.
        """
        from rasterio.errors import RasterioError

        try:
            if self._whole is not None:
                self._put(out, *self._read(self._whole, y, x))
                return
            step = self._side_px or 1
            for top in range(y.start, y.stop, step):
                for left in range(x.start, x.stop, step):
                    part = slice(top, min(top + step, y.stop)), slice(left, min(left + step, x.stop))
                    with self._open_vrt(part) as warped:
                        target = out[top - y.start : part[0].stop - y.start, left - x.start : part[1].stop - x.start]
                        self._put(target, *warped.read())
        except (RasterioError, OSError) as e:
            names = ", ".join(repr(public_href(t.header.href)) for t in self._tiles[:3])
            more = f" and {len(self._tiles) - 3} more" if len(self._tiles) > 3 else ""
            raise TileError(
                f"one of the tiles {names}{more} cannot be read (cut short or damaged?): "
                f"{clean(e, self._tiles[0].header.href, self._tiles[0].copy)}"
            ) from None

    def _read(self, warped: WarpedVRT, y: slice, x: slice) -> Array:
        from rasterio.windows import Window as RasterWindow

        top, left = self.window[0].start, self.window[1].start
        rows, columns = slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left)
        both: Array = warped.read(window=RasterWindow.from_slices(rows, columns))
        return both

    def _put(self, out: Array, pixels: Array, alpha: Array) -> None:
        missing = alpha == 0
        self._map.refuse_fill(pixels, missing)
        out[...] = pixels
        out[missing] = self._variable.np_fill


@contextmanager
def open_warped(
    tiles: Sequence[WarpTile], grid: TilingGrid, variable: Variable, window: Window
) -> Iterator[WarpReader]:
    """A reader of tiles of one lattice (see :func:`group_tiles`), resampled onto ``window`` of the grid."""
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError
    from rasterio.vrt import WarpedVRT

    source = variable.source
    assert source is not None
    assert source.resampling is not None
    first = tiles[0]
    nodata = first.placement.nodata
    options: dict[str, Any] = {"init_dest_nodata": False, "INIT_DEST": "0"}  # alpha says what is there
    if source.resampling in INTERPOLATING:
        scales = kernel_scales(first.header, grid)
        options |= {"YSCALE": repr(scales[0]), "XSCALE": repr(scales[1])}
    ratio = math.prod(_ratios(first.header, grid))
    side_px = None if SOURCE_PX * ratio >= BLOCK_PX else max(1, math.isqrt(int(SOURCE_PX * ratio)))
    with gdal_env(first.header.href, storage_of(variable)):
        try:
            with rasterio.open(mosaic_xml(tiles, margins(first.header, grid))) as mosaic:

                def open_vrt(part: Window) -> WarpedVRT:
                    y, x = part
                    return WarpedVRT(
                        mosaic, crs=grid.crs, transform=grid.affine(y.start, x.start), width=x.stop - x.start,
                        height=y.stop - y.start, resampling=Resampling[source.resampling], src_nodata=nodata,
                        add_alpha=nodata is not None, src_alpha=0 if nodata is not None else 2, tolerance=EXACT_PX,
                        dtype=WORKING_DTYPES.get(variable.dtype, variable.dtype), **options,
                    )  # fmt: skip

                reader = WarpReader(open_vrt, window, side_px, tiles, variable)
                try:
                    yield reader
                finally:
                    reader.close()
        except RasterioError as e:
            raise TileError(
                f"tile {public_href(first.header.href)!r} cannot be warped to the grid: {clean(e, first.header.href, first.copy)}"
            ) from None


def kernel_reach(header: Header, grid: TilingGrid, resampling: str) -> tuple[float, float]:
    """(x, y) in units of the source's CRS: how far from a pixel an interpolating kernel looks; 0 for others."""
    radius = INTERPOLATING.get(resampling, 0)
    scale_y, scale_x = kernel_scales(header, grid)
    a, b, _, d, e, _ = header.transform
    return radius / scale_x * math.hypot(a, d), radius / scale_y * math.hypot(b, e)


def in_turns(tile: WarpTile, grid: TilingGrid) -> list[WarpTile]:
    """A tile, and if its CRS has longitudes, the same a turn of the globe further on each side where that may be asked for."""
    crs = parse_crs(tile.header.crs.to_wkt())
    if not crs.is_geographic:
        return [tile]
    west, _, east, _ = grid.bounds() if parse_crs(grid.crs).is_geographic else (-180.0, 0.0, 180.0, 0.0)
    a, b, c, d, e, f = tile.header.transform
    out = []
    for turn in (0.0, -360.0, 360.0):
        header = replace(tile.header, transform=(a, b, c + turn, d, e, f))
        left, _, right, _ = header.bounds
        if turn == 0 or (left < east and right > west):
            out.append(replace(tile, header=header))
    return out


def margins(header: Header, grid: TilingGrid) -> tuple[int, int]:
    """(y, x) pixels of empty margin that a mosaic needs: a few of the grid's, and the widest kernel.

    At the end of a raster GDAL keeps or drops a pixel that is partly outside depending on the window. Where a margin follows, it does
    not.
    """
    y, x = (math.ceil(MARGIN_PX / ratio) + MARGIN_PX for ratio in _ratios(header, grid))
    return y, x


def kernel_scales(header: Header, grid: TilingGrid) -> tuple[float, float]:
    """(y, x) by how much smaller a source's pixel is than the grid's, at most 1: how far an interpolating kernel is widened.

    Compared at the grid's middle latitude, whatever the tile, so that all regions have the same kernel.
    """
    y, x = _ratios(header, grid)
    return min(1.0, y), min(1.0, x)


def _ratios(header: Header, grid: TilingGrid) -> tuple[float, float]:
    """(y, x) size of a source's pixel over that of the grid's, at the grid's middle latitude."""
    _, bottom, _, top = grid.bounds()
    latitude = (bottom + top) / 2 if parse_crs(grid.crs).is_geographic else 0.0
    a, b, _, d, e, _ = header.transform
    own = _metres(header.crs.to_wkt(), math.hypot(b, e), math.hypot(a, d), latitude)
    other = _metres(grid.crs, float(abs(grid.resolution_y)), float(grid.resolution_x), latitude)
    return own[0] / other[0], own[1] / other[1]


def _metres(crs: str, size_y: float, size_x: float, latitude: float) -> tuple[float, float]:
    parsed = parse_crs(crs)
    if parsed.is_geographic:
        return size_y * METRES_A_DEGREE, size_x * METRES_A_DEGREE * max(0.1, math.cos(math.radians(latitude)))
    unit: Any = parsed.axis_info[0].unit_conversion_factor if parsed.axis_info else 1.0
    return size_y * unit, size_x * unit
