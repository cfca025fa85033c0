"""Tiles to measure with: rasters of real size that compress as real ones do, dense or mostly ocean.

Classes (uint8) are patchy like land cover, with noise like a classifier's; fields (int16, float32) are smooth with a little
noise, of the precision that people keep (a unit, and 1/512). Of an ocean tile 70 % is nodata, in large connected areas.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from affine import Affine

PATCH = 16
"""Pixels along the side of a patch of one class, before noise, and of a step of the coastline."""
NOISE = 0.06
"""Share of class pixels that stray to a neighbouring class: it sets how well the raster compresses (about 4:1)."""
OCEAN = 0.7
"""Share of an ocean tile that is nodata."""
DEGREES = 10
"""Side of a tile."""
LAYOUTS = {
    "blocks": {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"},
    "strips": {"tiled": False, "blockysize": 1, "compress": "lzw"},
    "zstd": {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd"},
}
PREDICTORS = {"int16": 2, "float32": 3}
"""What people write fields in blocks with. Strips and classes are written without one."""
FILLS = {"uint8": 255, "int16": -32768, "float32": -9999.0}
CHUNK = 1000
"""Pixels along the side of a chunk of the cube."""
SAME_PIXELS = 8000
"""Side from which on the tiles of a row are copies of one another: only that each is read matters then."""


@dataclass(frozen=True)
class Input:
    """One kind of tile, by name: ``strips``, ``blocks-int16``, ``zstd-float32-ocean``."""

    name: str

    @property
    def layout(self) -> str:
        return self.name.partition("-")[0]

    @property
    def dtype(self) -> str:
        return next((d for d in FILLS if d in self.name), "uint8")

    @property
    def fill(self) -> float:
        return FILLS[self.dtype]

    @property
    def ocean(self) -> bool:
        return self.name.endswith("-ocean")

    def side(self, size: int) -> int:
        """Pixels along the side of its tiles: fields take half of ``size``, so that a float32 tile has as many bytes as one of classes."""
        return size if self.dtype == "uint8" else size // 2

    @property
    def profile(self) -> dict[str, Any]:
        """Creation options: blocks that hold no data are left out of a file, strips are not."""
        options = dict(LAYOUTS[self.layout])
        if options["tiled"]:
            options |= {"predictor": PREDICTORS.get(self.dtype, 1), "sparse_ok": self.ocean}
        return {**options, "bigtiff": "if_safer"}


INPUTS = [f"{layout}{kind}{cover}" for layout in LAYOUTS for kind in ("", "-int16", "-float32") for cover in ("", "-ocean")]  # fmt: skip


def tile_name(i: int) -> str:
    """File name of the tile in column ``i`` of a row, as global tile sets name theirs."""
    return f"10N_{DEGREES * i:03d}E.tif"


def tile_transform(i: int, side: int) -> Affine:
    return north_up(DEGREES * i, DEGREES, DEGREES / side)


def north_up(left: float, top: float, resolution: float) -> Affine:
    from affine import Affine

    return Affine(resolution, 0, left, 0, -resolution, top)


def write_row(folder: Path, kind: Input, side: int, count: int) -> list[Path]:
    """Tiles ``kind.name/10N_000E.tif`` and so on in ``folder``; those of this size that are there are kept."""
    import rasterio

    tiles = [folder / kind.name / tile_name(i) for i in range(count)]
    for i, tile in enumerate(tiles):
        if not _is_there(tile, side):
            if i and side >= SAME_PIXELS:
                shutil.copyfile(tiles[0], tile)
                with rasterio.open(tile, "r+") as copy:
                    copy.transform = tile_transform(i, side)
            else:
                write_tile(tile, kind, side, tile_transform(i, side), seed=i)
    return tiles


def _is_there(path: Path, side: int) -> bool:
    if not path.exists():
        return False
    import rasterio

    with rasterio.open(path) as tile:
        return bool(tile.shape == (side, side))


def write_class_tile(
    path: Path, size: int, left: float, top: float, degrees: float, layout: str, seed: int = 0
) -> Path:
    """Write a uint8 GeoTIFF of ``size`` x ``size`` pixels over ``degrees`` x ``degrees``."""
    return write_tile(path, Input(layout), size, north_up(left, top, degrees / size), seed)


def write_tile(path: Path, kind: Input, side: int, transform: Affine, seed: int = 0) -> Path:
    """Write a GeoTIFF of ``side`` x ``side`` pixels, about 1000 rows at a time. A half-written file has another name."""
    import rasterio
    from rasterio.windows import Window

    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff", "count": 1, "dtype": kind.dtype, "width": side, "height": side, "crs": "EPSG:4326",
        "nodata": kind.fill, "transform": transform, **kind.profile,
    }  # fmt: skip
    land = _land(side, seed) if kind.ocean else None
    rows = 1000 - 1000 % PATCH
    part = path.with_suffix(".part")
    with rasterio.open(part, "w", **profile) as tile:
        for start in range(0, side, rows):
            n = min(rows, side - start)
            pixels = _classes(rng, n, side) if kind.dtype == "uint8" else _field(rng, start, n, side, kind.dtype)
            if land is not None:
                patches = land[start // PATCH : -(-(start + n) // PATCH)]
                pixels[~_spread(patches, n, side)] = kind.fill
            tile.write(pixels, 1, window=Window(0, start, side, n))
    part.rename(path)
    return path


def _spread(patches: np.ndarray[Any, Any], rows: int, columns: int) -> np.ndarray[Any, Any]:
    return np.repeat(np.repeat(patches, PATCH, 0), PATCH, 1)[:rows, :columns]


def _classes(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray[Any, Any]:
    patches = rng.integers(0, 120, (-(-rows // PATCH), -(-columns // PATCH)), dtype=np.uint8)
    stray = rng.random((rows, columns), dtype=np.float32) < NOISE
    strays = stray.astype(np.uint8) * rng.integers(1, 8, (rows, 1), dtype=np.uint8)
    return np.asarray(_spread(patches, rows, columns) + strays)


def _field(rng: np.random.Generator, start: int, rows: int, columns: int, dtype: str) -> np.ndarray[Any, Any]:
    """Hills of 300 and 3000 pixels, and noise: metres as int16, degrees in steps of 1/512 as float32."""
    y = np.arange(start, start + rows, dtype=np.float32)[:, np.newaxis]
    x = np.arange(columns, dtype=np.float32)
    field = 700 * np.sin(y / 500) * np.cos(x / 450) + 120 * np.sin(y / 43) * np.sin(x / 51)
    field += rng.standard_normal((rows, columns), dtype=np.float32) * 1.5
    if dtype == "int16":
        return np.asarray(np.round(field).astype(np.int16))
    return np.asarray(np.round(field * (512 / 50)) / 512, dtype=np.float32)


def _land(side: int, seed: int) -> np.ndarray[Any, Any]:
    """Where there is land, a value a patch: what rises highest of a few broad waves, so that its coasts are long but its areas large."""
    rng = np.random.default_rng([seed, 1])
    n = -(-side // PATCH)
    y, x = np.mgrid[0:n, 0:n].astype(np.float32) / n
    height = np.zeros((n, n), np.float32)
    for octave in range(1, 6):
        for _ in range(3):
            angle, phase = rng.uniform(0, 2 * np.pi, 2)
            along = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
            height += np.sin(2 * np.pi * octave**1.5 * along + np.float32(phase)) / octave
    return np.asarray(height > np.quantile(height, OCEAN))
