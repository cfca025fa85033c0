"""A raster as a mask of regions."""

from __future__ import annotations

import numpy as np

from cubeingest.errors import TileError
from cubeingest.grid import TilingGrid
from cubeingest.remote import NOWHERE
from cubeingest.storage import public_href
from cubeingest.tile.header import clean, load_rasterio, open_raster

CELLS = 8
"""Cells along a region's side in which a mask's largest value is looked for: footprints of cells are taken for straight-edged."""


def regions_of_mask(href: str, grid: TilingGrid) -> list[tuple[int, int]]:
    """Lattice places of the regions in which the first band of a raster, in any CRS, has a pixel neither 0 nor nodata.

    Raises :class:`TileError` if it cannot be read, or has no CRS.
    """
    load_rasterio()
    from affine import Affine
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError
    from rasterio.vrt import WarpedVRT

    ny, nx = grid.lattice_shape_yx
    ry, rx = grid.region_shape_yx
    transform = grid.affine() * Affine.scale(rx / CELLS, ry / CELLS)
    with open_raster(href, NOWHERE) as src:
        if not src.crs:
            raise TileError(f"mask {public_href(href)!r} has no CRS")
        found = np.zeros((ny, nx), bool)
        try:
            # Values below zero count too, so that largest and smallest are both asked for.
            for resampling in (Resampling.max, Resampling.min):
                with WarpedVRT(src, crs=grid.crs, transform=transform, width=nx * CELLS, height=ny * CELLS, resampling=resampling,
                               src_nodata=src.nodata, add_alpha=src.nodata is not None, nodata=src.nodata) as warped:  # fmt: skip
                    cells = np.ma.masked_invalid(warped.read(1, masked=True)).filled(0)
                found |= (cells != 0).reshape(ny, CELLS, nx, CELLS).any(axis=(1, 3))
        except (RasterioError, OSError) as e:
            raise TileError(f"mask {public_href(href)!r} cannot be read: {clean(e, href)}") from None
    return [(int(iy), int(ix)) for iy, ix in np.argwhere(found)]
