"""What the how-to pages speak of: small real tiles of Europe, cubes of them in several states, a bucket.

As in :mod:`tests.doc_setups`, which has these too: each function makes something in a page's folder, and returns what to add to the environment.
"""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.windows import from_bounds

import cubeingest as ci

ROOT = Path(__file__).parent.parent
LAND = ROOT / "cubeingest" / "data" / "land.tif"

EUROPE = """\
name: europe
crs: EPSG:4326
grid:
  origin: {x: -20, y: 70}
  resolution: {x: 1/24, y: -1/24}
  shape: {y: 960, x: 1440}
  region: {y: 240, x: 240}
  id: "{top:02H}_{left:03H}"
axes:
  year: {values: [2000, 2005]}
variables:
  land:
    dtype: uint8
    fill_value: 255
    chunks: {year: 1, y: 120, x: 120}
    attrs: {long_name: land in the cell, units: "%"}
    source:
      href: tiles/{year}/{id}.tif
      tiles: {glob: "tiles/{year}/*.tif"}
store: ./europe.icechunk
"""
"""4 x 6 regions of 10 degrees; one of them is open sea."""

SUNK = "50N_000E"
"""In 2005 its northern half is sea, so that years differ. Made up."""


def tiles(folder: Path) -> dict[str, str]:
    """The tiles of both years in ``tiles/``, and no spec."""
    shutil.copytree(_tiles(), folder / "tiles")
    return {}


def europe_tiles(folder: Path) -> dict[str, str]:
    """The tiles, and their spec as ``grid.yaml``."""
    (folder / "grid.yaml").write_text(EUROPE, encoding="utf-8")
    return tiles(folder)


def europe(folder: Path) -> dict[str, str]:
    """A cube of them, which commands in the folder are about, with the year 2000 ingested."""
    europe_tiles(folder)
    cube = ci.init(folder / "grid.yaml")
    assert cube.ingest(workers=1, year=2000).exit_code == 0
    (folder / ".cubeingest").write_text("europe.icechunk", encoding="utf-8")
    return {}


def europe_bucket(folder: Path) -> dict[str, str]:
    """The tiles on disk, and an empty bucket ``my-bucket`` on an S3 server."""
    from tests.doc_setups import open_s3

    return {**tiles(folder), **open_s3("my-bucket")}


@functools.cache
def _tiles() -> Path:
    """Cut from the land mask, without those of open sea."""
    from tests.doc_setups import kept_folder

    folder = kept_folder() / "europe"
    with rasterio.open(LAND) as source:
        for left in range(-20, 40, 10):
            for top in range(70, 30, -10):
                pixels = source.read(1, window=from_bounds(left, top - 10, left + 10, top, source.transform))
                name = f"{top:02}N_{abs(left):03}{'W' if left < 0 else 'E'}"
                if not pixels.any():
                    continue
                for year in (2000, 2005):
                    if year == 2005 and name == SUNK:
                        pixels[:120] = 0
                    _write_tile(folder / str(year) / f"{name}.tif", pixels, left, top)
    return folder


def _write_tile(path: Path, pixels: NDArray[np.uint8], left: int, top: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {
        "driver": "GTiff",
        "dtype": "uint8",
        "crs": "EPSG:4326",
        "compress": "deflate",
        "nodata": 255,
        "count": 1,
    }
    height, width = pixels.shape
    with rasterio.open(
        path, "w", height=height, width=width, transform=from_origin(left, top, 1 / 24, 1 / 24), **options
    ) as tile:
        tile.write(pixels, 1)
