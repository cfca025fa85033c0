"""A raster that is written: a tiled GeoTIFF, filled window by window in any order."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import StoreError

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.io import DatasetWriter

BLOCK = 512
"""Rows and columns of a block, where those of the windows that are written do not do."""

LARGEST_BLOCK = 2048

CACHE_MB = 64
"""What GDAL keeps of blocks that are not written yet."""


@dataclass(frozen=True)
class RasterForm:
    """What a raster is to be: its lattice, bands and nodata. ``affine`` may run south to north: the file runs north to south.

    ``block_yx`` is of what windows are made; blocks of the file are the same if a TIFF can have such.
    """

    shape_yx: tuple[int, int]
    n_bands: int
    dtype: np.dtype[Any]
    crs: str
    affine: Affine
    nodata: float | int | None
    block_yx: tuple[int, int]
    descriptions: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


class RasterFile:
    """A raster that is open for writing."""

    def __init__(self, dst: DatasetWriter, form: RasterForm) -> None:
        self._dst, self._form = dst, form

    def write(self, bands: Sequence[int], pixels: np.ndarray[Any, Any], row: int, column: int) -> None:
        """Put (band, y, x) at bands (counted from 0) and at the lattice's ``row`` and ``column``."""
        from rasterio.windows import Window

        height, width = pixels.shape[-2:]
        if self._form.affine.e > 0:
            row, pixels = self._form.shape_yx[0] - row - height, pixels[..., ::-1, :]
        self._dst.write(pixels, indexes=[b + 1 for b in bands], window=Window(column, row, width, height))


@contextmanager
def write_raster(path: Path, form: RasterForm) -> Iterator[RasterFile]:
    """A tiled, compressed GeoTIFF that is put into its place when it is whole; what was there before stays until then.

    Raises :class:`StoreError` if it cannot be written.
    """
    import rasterio
    from affine import Affine
    from rasterio.errors import RasterioError

    place = Path(os.path.realpath(path))
    making = place.with_name(f".{place.name[:50]}.{uuid.uuid4().hex[:12]}.part")
    a, (height, width) = form.affine, form.shape_yx
    if a.e > 0:
        a = Affine(a.a, a.b, a.c, a.d, -a.e, a.f + a.e * height)
    rows, columns = (n if n % 16 == 0 and n <= LARGEST_BLOCK else BLOCK for n in form.block_yx)
    kind = form.dtype.kind
    options: dict[str, Any] = {
        "driver": "GTiff", "height": height, "width": width, "count": form.n_bands, "crs": form.crs, "transform": a,
        "dtype": "uint8" if kind == "b" else form.dtype.name, "nodata": form.nodata, "tiled": True, "blockysize": rows,
        "blockxsize": columns, "compress": "deflate", "predictor": 3 if kind == "f" else 2, "interleave": "band", "bigtiff": "if_safer",
    }  # fmt: skip
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_MB), rasterio.open(making, "w", **options) as dst:
            for n, text in enumerate(form.descriptions, 1):
                dst.set_band_description(n, text)
            dst.update_tags(**form.tags)
            yield RasterFile(dst, form)
        making.replace(place)
    except (RasterioError, OSError) as e:
        raise StoreError(f"raster {str(path)!r} cannot be written: {' '.join(str(e).split())[:160]}") from e
    finally:
        with suppress(OSError):
            making.unlink()
