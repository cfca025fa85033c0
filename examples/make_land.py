"""Make `land.tif`, the raster of `cubeingest demo`: the percentage of land in each cell of 1/24 degree, 80° N to 60° S.

    python make_land.py [land.tif]      needs numpy, rasterio, global-land-mask 1.0.0; 1.7 GB of memory and 15 s

Source: the 30-arc-second ocean mask of NOAA's GLOBE elevation model, as packed in `global-land-mask`. Its array is
(21600, 43200) bool, row 0 in the north, column 0 at 180° W, True = ocean; pixel [i, j] covers latitude 90 - (i + 1)/120
to 90 - i/120 and longitude -180 + j/120 to -180 + (j + 1)/120. The package's own `lat` and `lon` are the north and west
*edges* of the pixels, not their centres. GLOBE's manual, section 5.B.iii, says the same of the lattice:
https://www.ngdc.noaa.gov/mgg/topo/report/s5/s5Biii.html. Lakes and the Caspian Sea count as land.
"""

import hashlib
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

MASK_FILE = "global_land_mask/globe_combined_mask_compressed.npz"
MASK_SHA256 = "ef089657594dcdd5bff443b96a24e6fa094fa65fd08c6cd1d7c8368ed6bcbeeb"
# Of land.tif's pixels: the file's own bytes vary with libtiff and libzstd.
PIXELS_SHA256 = "e6aa360212cb407fe3a4cec2ef68fd3fc7357f4000e324b4bbd5b6f603c5627e"

SOURCE_PER_DEGREE = 120
LAND_PER_DEGREE = 24  # 5 x 5 source pixels a cell, each exactly 4 %; a 10-degree tile is 240 px, a legal TIFF block
TOP, BOTTOM = 80, -60  # GLAD's rows of tiles
NODATA = 255  # unused


def read_land_mask() -> NDArray[np.bool_]:
    """Return the mask of land (True) as a (21600, 43200) array, north up, from 180° W."""
    path = distribution("global-land-mask").locate_file(MASK_FILE)  # importing the package would load it a second time
    with Path(str(path)).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != MASK_SHA256:
        raise ValueError(
            f"mask {str(path)!r} has SHA-256 {digest}, expected {MASK_SHA256}: install global-land-mask 1.0.0"
        )
    with np.load(str(path)) as arrays:
        ocean: NDArray[np.bool_] = arrays["mask"]
    return np.logical_not(ocean, out=ocean)


def reduce_to_percent(land: NDArray[np.bool_], factor: int) -> NDArray[np.uint8]:
    """Percentage of True in each factor x factor block of pixels; exact where factor**2 divides 100."""
    rows = sum((land[i::factor].view(np.uint8) for i in range(1, factor)), start=land[::factor].astype(np.uint8))
    cells = sum((rows[:, j::factor] for j in range(1, factor)), start=rows[:, ::factor].astype(np.uint16))
    return np.rint(cells * (100 / factor**2)).astype(np.uint8)


def write_land(path: str, percent: NDArray[np.uint8]) -> None:
    """Write the GeoTIFF, one block a 10-degree tile. Of the codecs tried, zstd was the smallest (deflate: + 12 %)."""
    height, width = percent.shape
    transform = from_origin(-180, TOP, 1 / LAND_PER_DEGREE, 1 / LAND_PER_DEGREE)
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": "uint8", "nodata": NODATA}
    profile |= {"crs": "EPSG:4326", "transform": transform, "compress": "zstd", "zstd_level": 22}
    profile |= {"tiled": True, "blockxsize": 240, "blockysize": 240}
    with rasterio.open(path, "w", **profile) as dst:
        dst.write(percent, 1)
        dst.set_band_description(1, "land")
        dst.units = ("%",)


def main(path: str) -> None:
    """Make the raster and check it, pixel for pixel, against the known sum."""
    rows = slice((90 - TOP) * SOURCE_PER_DEGREE, (90 - BOTTOM) * SOURCE_PER_DEGREE)
    percent = reduce_to_percent(read_land_mask()[rows], SOURCE_PER_DEGREE // LAND_PER_DEGREE)
    write_land(path, percent)
    with rasterio.open(path) as src:
        digest = hashlib.sha256(src.read(1).tobytes()).hexdigest()
    if digest != PIXELS_SHA256:
        raise ValueError(f"pixels of {path!r} have SHA-256 {digest}, expected {PIXELS_SHA256}")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["land.tif"]))
