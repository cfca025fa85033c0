"""A raster that is written: a tiled GeoTIFF of several bands, filled window by window in any order, by GDAL.

What comes in rows, one band at a time, becomes a COG instead, see ``cog``.
"""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import StoreError
from cubeingest.tile.blocks import block_table

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.io import DatasetWriter

BLOCK = 512
"""Rows and columns of a block, at most, and where the windows that are written have no common divisor that would do."""

LEAST_BLOCK = 128

ZLEVEL = 1
"""GDAL's own, 6, took seven times as long for means of classes in float32, and made them no smaller; nor did a predictor for floats."""

CACHE_MB = 64
"""What GDAL keeps of blocks that are not written yet."""


NOT_WHOLE = "not all of it is on the disk, which may be full"

Written = tuple[list[int], Any, int]
"""Bands (counted from 1) and window of what was written, and its checksum."""


@dataclass(frozen=True)
class RasterForm:
    """What a raster is to be: its lattice, bands and nodata. ``affine`` may run south to north: the file runs north to south.

    ``step_yx``: windows start at multiples of it, along y and x. Blocks that divide it are compressed when they are written; if there
    are none, the file is first written as it is, and compressed at the end.
    """

    shape_yx: tuple[int, int]
    n_bands: int
    dtype: np.dtype[Any]
    crs: str
    affine: Affine
    nodata: float | int | None
    step_yx: tuple[int, int]
    descriptions: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


class RasterFile:
    """A raster that is open for writing."""

    def __init__(self, dst: DatasetWriter, form: RasterForm) -> None:
        self._dst, self._form = dst, form
        self.written: list[Written] = []

    def write(self, bands: Sequence[int], pixels: np.ndarray[Any, Any], row: int, column: int) -> None:
        """Put (band, y, x) at bands (counted from 0) and at the lattice's ``row`` and ``column``."""
        from rasterio.windows import Window

        height, width = pixels.shape[-2:]
        if self._form.affine.e > 0:
            row, pixels = self._form.shape_yx[0] - row - height, pixels[..., ::-1, :]
        window, indexes = Window(column, row, width, height), [b + 1 for b in bands]
        self._dst.write(pixels, indexes=indexes, window=window)
        self.written.append((indexes, window, _checksum(pixels, self._dst.dtypes[0])))


@contextmanager
def write_raster(path: Path, form: RasterForm) -> Iterator[RasterFile]:
    """A tiled, compressed GeoTIFF that is put into its place when it is whole; what was there before stays until then.

    Raises :class:`StoreError` if it cannot be written.
    """
    import rasterio
    import rasterio.shutil
    from affine import Affine
    from rasterio.errors import RasterioError

    place = Path(os.path.realpath(path))
    making = place.with_name(f".{place.name[:50]}.{uuid.uuid4().hex[:12]}.part")
    a, (height, width) = form.affine, form.shape_yx
    if a.e > 0:
        a = Affine(a.a, a.b, a.c, a.d, -a.e, a.f + a.e * height)
    steps = form.step_yx
    # Of a file that is turned round, windows end at multiples of it, counted from the last row.
    turned = a is not form.affine and height % steps[0] != 0
    blocks = [None if turned and n == 0 else block_of(step) for n, step in enumerate(steps)]
    kind = form.dtype.kind
    options: dict[str, Any] = {
        "driver": "GTiff", "height": height, "width": width, "count": form.n_bands, "crs": form.crs, "transform": a,
        "dtype": "uint8" if kind == "b" else form.dtype.name, "nodata": form.nodata, "tiled": True, "blockysize": blocks[0] or BLOCK,
        "blockxsize": blocks[1] or BLOCK, "interleave": "band", "bigtiff": "if_safer",
    }  # fmt: skip
    packed = {"compress": "deflate", "zlevel": ZLEVEL, "predictor": 1 if kind == "f" else 2, "num_threads": "all_cpus"}
    at_once = None not in blocks
    try:
        with (
            rasterio.Env(GDAL_CACHEMAX=CACHE_MB),
            rasterio.open(making, "w", **options, **(packed if at_once else {})) as dst,
        ):
            for n, text in enumerate(form.descriptions, 1):
                dst.set_band_description(n, text)
            dst.update_tags(**form.tags)
            file = RasterFile(dst, form)
            yield file
        if not at_once:
            loose = making.replace(making.with_suffix(".loose"))
            _check_whole(loose, [])
            with rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
                rasterio.shutil.copy(
                    loose, making, driver="GTiff", tiled=True, bigtiff="if_safer", interleave="band", **packed
                )
        _check_whole(making, file.written)
        making.replace(place)
    except (RasterioError, OSError) as e:
        raise StoreError(f"raster {str(path)!r} cannot be written: {' '.join(str(e).split())[:160]}") from e
    finally:
        for left in (making, making.with_suffix(".loose")):
            with suppress(OSError):
                left.unlink()


def _checksum(pixels: np.ndarray[Any, Any], dtype: str) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels.astype(dtype, copy=False)).view(np.uint8).data)


def _check_whole(path: Path, written: Sequence[Written]) -> None:
    """Raise :class:`OSError` if a block of a GeoTIFF is not on the disk, or what was written is not read back: GDAL says nothing of what a full
    disk did not take.
    """
    import rasterio
    from rasterio.errors import RasterioError

    with path.open("rb") as file:
        signature, size = file.read(4), path.stat().st_size
    with rasterio.open(path) as src:
        for band in range(1, src.count + 1):
            table = block_table(src, band, signature)
            assert table is not None, "it was written as a TIFF whose bands lie apart"
            if not table.lengths.all() or (table.offsets + table.lengths > size).any():
                raise OSError(NOT_WHOLE)
        for indexes, window, checksum in written:
            try:
                pixels = src.read(indexes, window=window)
            except RasterioError:
                raise OSError(NOT_WHOLE) from None
            if _checksum(pixels, src.dtypes[0]) != checksum:
                raise OSError(NOT_WHOLE)


def block_of(step: int) -> int | None:
    """The side of blocks that windows which start at multiples of ``step`` never cut: a multiple of 16, as TIFF wants it; None if there is none."""
    return next((n for n in range(BLOCK, LEAST_BLOCK - 1, -16) if step % n == 0), None)
