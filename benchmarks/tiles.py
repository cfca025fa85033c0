"""Tiles to measure with: class rasters of real size, patchy like land cover, with noise like a classifier's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

PATCH = 16
"""Pixels along the side of a patch of one class, before noise."""
NOISE = 0.06
"""Share of pixels that stray to a neighbouring class: it sets how well the raster compresses (about 4:1)."""
LAYOUTS = {
    "blocks": {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"},
    "strips": {"tiled": False, "blockysize": 1, "compress": "lzw"},
}
CHUNK = 1000
"""Pixels along the side of a chunk of the cube."""
SPEC = """\
name: benchmark
crs: EPSG:4326
grid:
  origin: {{x: 0, y: 10}}
  resolution: {{x: 10/{size}, y: -10/{size}}}
  shape: {{y: {size}, x: {width}}}
  region: {{y: {size}, x: {size}}}
  id: "{{top:02H}}_{{left:03H}}"
variables:
  cover:
    dtype: uint8
    fill_value: 255
    chunks: {{y: {chunk}, x: {chunk}}}
    source: {{href: "{layout}/{{id}}.tif"}}
store: ./{layout}.icechunk
"""


def write_spec(folder: Path, layout: str, size: int, count: int) -> Path:
    """The spec of a row of ``count`` tiles of ``size`` x ``size`` pixels and 10 degrees in ``folder/layout``."""
    file = folder / f"{layout}.yaml"
    file.write_text(SPEC.format(size=size, width=size * count, chunk=CHUNK, layout=layout))
    return file


def write_class_tile(
    path: Path, size: int, left: float, top: float, degrees: float, layout: str, seed: int = 0
) -> Path:
    """Write a uint8 GeoTIFF of ``size`` x ``size`` pixels over ``degrees`` x ``degrees``, in rows of 1000 pixels at a time."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff", "count": 1, "dtype": "uint8", "width": size, "height": size, "crs": "EPSG:4326", "nodata": 255,
        "transform": from_origin(left, top, degrees / size, degrees / size), **LAYOUTS[layout],
    }  # fmt: skip
    rows = 1000 - 1000 % PATCH
    with rasterio.open(path, "w", **profile) as tile:
        for start in range(0, size, rows):
            n = min(rows, size - start)
            patches = rng.integers(0, 120, (-(-n // PATCH), -(-size // PATCH)), dtype=np.uint8)
            pixels = np.repeat(np.repeat(patches, PATCH, 0), PATCH, 1)[:n, :size]
            stray = rng.random((n, size), dtype=np.float32) < NOISE
            tile.write(
                pixels + stray.astype(np.uint8) * rng.integers(1, 8, (n, 1), dtype=np.uint8),
                1,
                window=Window(0, start, size, n),
            )
    return path
