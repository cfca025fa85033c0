"""Tiles of points that share a row and a column with their neighbours, as SRTM's 3601 x 3601 do.

    python srtm_overlap.py norden           # 24 tiles of 121 x 121 points, a few seconds, and a picture

Archives like it: SRTM, NASADEM, ASTER GDEM (3601 points a degree), their water masks (SRTMSWBD), many national elevation models.
A value belongs to a point, not to a cell, and points lie on both edges of a degree: N60E010 has those at 60 N and 61 N, at 10 E
and 11 E. As rasters they are pixels about the points, so that a tile reaches half a pixel beyond its degree, and the grid's
origin lies half a pixel outside the first point. `source.tile` is the step from tile to tile, `overlap` the rows
and columns that a tile has beyond it, in the south and east. Those are not read: each point is in the cube once, from the tile that begins there.
"""

from pathlib import Path

import numpy as np
from _tiles import LAND_PER_DEGREE, fill_cube, folder_argument, read_land, write_tile
from rasterio.transform import from_origin

import cubeingest as ci
from cubeingest.look import save_picture

SPEC = """\
name: norden
crs: EPSG:4326
grid:
  origin: {x: -1/48, y: 3361/48}          # half a pixel outside of the points at 0 E and 70 N
  resolution: {x: 1/24, y: -1/24}
  shape: {y: 480, x: 720}                 # those at 50 N and 30 E would be the next tiles'
  region: {y: 240, x: 240}                # 10 degrees: 4 tiles
variables:
  land:
    dtype: uint8
    fill_value: 255
    chunks: {y: 120, x: 120}
    attrs: {long_name: land about the point, units: "%", colormap: ["#c9dbe6", "#8fae77", "#5b7f4f"]}
    source:
      href: "points/{id}.tif"
      tiles: {glob: "points/*.tif"}
      tile: {y: 120, x: 120}              # from one tile to the next: 5 degrees
      overlap: {y: 1, x: 1}               # a tile has 121 x 121 points
      id: "{bottom:H02}{left:H003}"       # N60E010: its point in the lower left
attrs: {source: "NOAA GLOBE 1.0 by way of the Python package global-land-mask 1.0.0"}
store: ./norden.icechunk
"""

LEFT, BOTTOM, RIGHT, TOP, STEP = 0, 50, 30, 70, 5


def read_points() -> np.ndarray:
    """Percentage of land in the four cells about each point: (481, 721), from 70 N to 50 N and 0 E to 30 E, both included."""
    land = read_land(LEFT - 1, BOTTOM - 1, RIGHT + 1, TOP + 1).astype("uint16")
    n = LAND_PER_DEGREE
    four = land[:-1, :-1] + land[1:, :-1] + land[:-1, 1:] + land[1:, 1:]
    return (four[n - 1 : -(n - 1), n - 1 : -(n - 1)] / 4).round().astype("uint8")


def cut_tiles(folder: Path, points: np.ndarray) -> int:
    """Write tiles of 5 degrees with the points on all their edges; how many."""
    n, size = LAND_PER_DEGREE, LAND_PER_DEGREE * STEP
    names = [(bottom, left) for bottom in range(BOTTOM, TOP, STEP) for left in range(LEFT, RIGHT, STEP)]
    for bottom, left in names:
        y, x = (TOP - bottom - STEP) * n, (left - LEFT) * n
        corner = from_origin(
            left - 1 / 48, bottom + STEP + 1 / 48, 1 / 24, 1 / 24
        )  # half a pixel outside of the first point
        write_tile(
            folder / "points" / f"N{bottom:02}E{left:03}.tif", points[y : y + size + 1, x : x + size + 1], corner
        )
    return len(names)


def main(folder: Path) -> ci.Cube:
    """Cut the tiles into ``folder``, make the cube of them, draw it."""
    n = cut_tiles(folder, read_points())
    cube = fill_cube(folder, SPEC)
    axes = cube.show_map("land")
    axes.set_xlabel(f"{n} tiles of 121 x 121 points; on the red lines, neighbours share theirs", loc="left", fontsize=9)
    for latitude in range(BOTTOM + STEP, TOP, STEP):
        axes.axhline(latitude, color="#b03a2e", linewidth=0.8, zorder=4)
    for longitude in range(LEFT + STEP, RIGHT, STEP):
        axes.axvline(longitude, color="#b03a2e", linewidth=0.8, zorder=4)
    save_picture(axes, folder / "srtm_overlap.png")
    return cube


if __name__ == "__main__":
    main(folder_argument())
