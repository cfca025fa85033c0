"""Satellite tiles of two UTM zones, a file for each band, resampled onto one geographic grid.

    pip install --no-deps xarray-spatial==0.5.3        # 2 MB: only for its pictures
    python sentinel_utm.py patagonia                   # 3 tiles of 4 bands, a few seconds, and a picture

Archives like it: Sentinel-2 (MGRS tiles in the zone's own projection, a file a band), Landsat scenes, HLS, Sentinel-1 RTC.
Without `resampling` a tile that is off the grid's lattice is refused; with it, it is warped onto the grid, so that regions meet without
a seam. Where tiles overlap the first by name wins, pixel by pixel, where it has data. The band is in the name: `{band}` in
`tiles` makes it an axis of the cube. (A file with all bands: `bands: {axis: band}`, see one_big_raster.py.)

The image is real, 2 x 3 km of Patagonia in zone 19. Its east is warped into zone 20 here, as if the border ran
through the picture, so tiles of both zones meet. Contains modified Copernicus Sentinel data; from xarray-spatial (MIT).
"""

from pathlib import Path

import numpy as np
import rasterio
from _tiles import fill_cube, folder_argument, packaged, write_tile
from matplotlib.figure import Figure
from rasterio.transform import from_origin
from rasterio.warp import reproject, transform_geom

import cubeingest as ci

SPEC = """\
name: patagonia
crs: EPSG:4326
grid:
  origin: {x: -67.664, y: -47.8445}
  resolution: {x: 1/7500, y: -1/11000}    # about 10 m here, both ways
  shape: {y: 220, x: 320}
  region: {y: 110, x: 160}
axes:
  band: {values: [B02, B03, B04, B08]}
variables:
  reflectance:
    dtype: uint16
    fill_value: 0
    chunks: {band: 1, y: 55, x: 80}
    attrs: {long_name: reflectance times 10000}
    source:
      tiles: {glob: "tiles/*_{band}_10m.tif"}
      resampling: bilinear
      nodata: 0
attrs: {source: "contains modified Copernicus Sentinel data, by way of the Python package xarray-spatial 0.5.3"}
store: ./patagonia.icechunk
"""

BANDS = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
ZONE_19, ZONE_20 = "EPSG:32719", "EPSG:32720"
LEFT, TOP, STEP = 600_000, 4_700_020, 10
"""Upper left corner of the image and its pixel in metres, in zone 19."""

NORTH, SOUTH, EAST = (slice(0, 120), slice(0, 170)), (slice(100, 200), slice(0, 170)), (slice(0, 200), slice(140, 300))
"""Rows and columns that become tiles. They overlap; the last is the one that is warped into zone 20."""


def cut_tiles(folder: Path) -> list[Path]:
    """Two tiles in zone 19 and one in zone 20, each a file a band; those of the first band."""
    for band, name in BANDS.items():
        with rasterio.open(packaged("xarray-spatial", f"xrspatial/datasets/sentinel-2/{name}_band.nc")) as image:
            pixels = image.read(1).astype("uint16")
        for tile, (y, x) in (("T19GFH", NORTH), ("T19GFG", SOUTH)):
            corner = from_origin(LEFT + x.start * STEP, TOP - y.start * STEP, STEP, STEP)
            write_tile(folder / "tiles" / f"{tile}_{band}_10m.tif", pixels[y, x], corner, ZONE_19, nodata=0)
        y, x = EAST
        corner = from_origin(LEFT + x.start * STEP, TOP - y.start * STEP, STEP, STEP)
        warped, there = reproject(pixels[y, x], src_crs=ZONE_19, src_transform=corner, src_nodata=0, dst_crs=ZONE_20, dst_nodata=0, dst_resolution=STEP)  # fmt: skip
        write_tile(folder / "tiles" / f"T20GJM_{band}_10m.tif", warped[0], there, ZONE_20, nodata=0)
    return sorted((folder / "tiles").glob("*_B02_*"))


def draw(cube: ci.Cube, tiles: list[Path], path: Path) -> None:
    """Near infrared as red (plants), red as green, green as blue; the tiles' outlines by zone."""
    bands = cube.dataset()["reflectance"].sel(band=["B08", "B04", "B03"]).transpose("y", "x", "band").values
    low, high = np.percentile(bands[bands.all(axis=2)], [1, 99], axis=0)
    picture = np.where(bands.all(axis=2, keepdims=True), np.clip((bands - low) / (high - low), 0, 1), 0.9)
    left, bottom, right, top = cube.grid.bounds()
    axes = Figure(figsize=(11, 7.9), dpi=130, layout="constrained").add_subplot()
    axes.imshow(picture, extent=(left, right, bottom, top), aspect=1 / np.cos(np.radians(top)), interpolation="nearest")
    axes.autoscale(False)
    for tile in tiles:
        with rasterio.open(tile) as source:
            west, south, east, north = source.bounds
            ring = [[west, north], [east, north], [east, south], [west, south], [west, north]]
            outline = transform_geom(source.crs, "EPSG:4326", {"type": "Polygon", "coordinates": [ring]})[
                "coordinates"
            ][0]
        zone = tile.name[1:3]
        axes.plot(
            *zip(*outline, strict=True),
            color={"19": "#ffd23f", "20": "#3fd2ff"}[zone],
            linewidth=1.6,
            label=f"{tile.name[:6]}, zone {zone}",
        )
    axes.legend(loc="lower right")
    axes.ticklabel_format(useOffset=False)
    axes.set_title("Sentinel-2, near infrared, red, green: tiles of two UTM zones in one geographic grid", loc="left")
    axes.figure.savefig(path)


def main(folder: Path) -> ci.Cube:
    """Cut the tiles into ``folder``, make the cube of them, draw it."""
    tiles = cut_tiles(folder)
    cube = fill_cube(folder, SPEC)
    draw(cube, tiles, folder / "sentinel_utm.png")
    return cube


if __name__ == "__main__":
    main(folder_argument())
