"""A look at a raster that nobody has declared yet: header, band names, a sample of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cubeingest.errors import TileError
from cubeingest.remote import NOWHERE
from cubeingest.storage import public_href
from cubeingest.tile.header import Header, clean, header_of, load_rasterio, open_raster
from cubeingest.tile.pixels import Array


@dataclass(frozen=True)
class Survey:
    """A raster's header, the names of its bands (None where it has none), and a sample of its pixels (bands, y, x), which may be empty."""

    header: Header
    band_names: tuple[str | None, ...]
    pixels: Array


def read_survey(href: str, side_px: int = 0) -> Survey:
    """Open a raster; with ``side_px`` read a piece of its middle too, of about that many pixels squared. Raises :class:`TileError`."""
    load_rasterio()
    from rasterio.errors import RasterioError
    from rasterio.windows import Window as RasterWindow

    with open_raster(href, NOWHERE) as src:
        header = header_of(href, src)
        # A strip is decoded whole: of wide ones fewer rows.
        rows = min(src.height, side_px, max(1, side_px**2 * 4 // header.block_shape_yx[1]) if side_px else 0)
        columns = min(src.width, side_px)
        window = RasterWindow((src.width - columns) // 2, (src.height - rows) // 2, columns, rows)
        try:
            pixels = src.read(window=window) if side_px else np.empty((src.count, 0, 0), src.dtypes[0])
        except (RasterioError, OSError) as e:
            raise TileError(
                f"tile {public_href(href)!r} cannot be read (cut short or damaged?): {clean(e, href)}"
            ) from None
        return Survey(header, tuple(src.descriptions), pixels)
