"""Cut the world's land mask at 30 arc-seconds into 10-degree tiles with GLAD's names, and write a spec for them.

    pip install global-land-mask rasterio
    python glad_names_full_30s.py land-30s              # 463 tiles of 1200 x 1200 px, 2.4 MB; needs 1 GB of memory
    cd land-30s
    cubeingest init land-30s.yaml && cubeingest ingest

The mask is NOAA's GLOBE elevation model, version 1.0, where it is not ocean; lakes and the Caspian Sea count as land.
A tile is named by its top-left corner: `70N_180W.tif`. Those that hold only ocean are left out, as GLAD's are.
"""

import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

TILE_DEGREES = 10
TILE_PIXELS = 1200
SPEC = """\
name: land-30s
crs: EPSG:4326
grid:
  origin: {x: -180, y: 90}
  resolution: {x: 1/120, y: -1/120}
  shape: {y: 21600, x: 43200}
  region: {y: 1200, x: 1200}
  id: "{top:02H}_{left:03H}"
variables:
  land:
    dtype: uint8
    fill_value: 255
    chunks: {y: 1200, x: 1200}
    attrs: {long_name: land (1) or sea (0), flag_values: [0, 1], flag_meanings: sea land}
    source:
      href: "{id}.tif"
      tiles: {list: tiles.txt}
attrs: {source: "NOAA GLOBE 1.0 by way of the Python package global-land-mask 1.0.0"}
store: ./land-30s.icechunk
"""


def tile_name(left: int, top: int) -> str:
    """File name of the tile whose top-left corner is at (left, top) in degrees."""
    return f"{abs(top):02d}{'S' if top < 0 else 'N'}_{abs(left):03d}{'W' if left < 0 else 'E'}.tif"


def cut_mask(folder: Path) -> list[str]:
    """Write the tiles (uint8: 1 land, 0 sea, nodata 255), `tiles.txt` and `land-30s.yaml`; return the tiles' names."""
    folder.mkdir(parents=True, exist_ok=True)
    # Row 0 is in the north, column 0 at 180° W, True is ocean. The package's `lat` and `lon` are the pixels' north and
    # west edges, so pixel [0, 0] has its outer corner at exactly 90° N, 180° W.
    path = distribution("global-land-mask").locate_file("global_land_mask/globe_combined_mask_compressed.npz")
    with np.load(str(path)) as arrays:
        ocean = arrays["mask"]
    profile = {"driver": "GTiff", "width": TILE_PIXELS, "height": TILE_PIXELS, "count": 1, "dtype": "uint8"}
    profile |= {"nodata": 255, "crs": "EPSG:4326", "compress": "deflate"}
    profile |= {"tiled": True, "blockxsize": 240, "blockysize": 240}
    names = []
    for row, top in enumerate(range(90, -90, -TILE_DEGREES)):
        for column, left in enumerate(range(-180, 180, TILE_DEGREES)):
            y, x = row * TILE_PIXELS, column * TILE_PIXELS
            land = ~ocean[y : y + TILE_PIXELS, x : x + TILE_PIXELS]
            if not land.any():
                continue
            names.append(tile_name(left, top))
            transform = from_origin(left, top, TILE_DEGREES / TILE_PIXELS, TILE_DEGREES / TILE_PIXELS)
            with rasterio.open(folder / names[-1], "w", transform=transform, **profile) as tile:
                tile.write(land.astype(np.uint8), 1)
    (folder / "tiles.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    (folder / "land-30s.yaml").write_text(SPEC, encoding="utf-8")
    return names


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(f"usage: python {sys.argv[0]} FOLDER")
    print(f"{len(cut_mask(Path(sys.argv[1])))} tiles in {sys.argv[1]}")
