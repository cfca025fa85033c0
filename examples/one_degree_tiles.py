"""Tiles of 1 degree, named by their lower left corner, into regions of 10 degrees; where there is only sea there is no tile.

    python one_degree_tiles.py sunda        # 582 tiles, a few seconds, and a picture

Archives like it: ALOS World 3D and Copernicus DEM (1 degree), ESA WorldCover and the ETH canopy height (3 degrees).
A region is what one task fills and what the ledger counts, so it should be worth a task: 100 small tiles rather than one.
`source.tile` says how large a tile is, `source.id` how it is called, and `tiles` which there are. What no tile covers keeps the
fill value; `plan` counts it as gaps.
"""

from pathlib import Path

from _tiles import LAND_PER_DEGREE, fill_cube, folder_argument, read_land, write_tile
from rasterio.transform import from_origin

import cubeingest as ci
from cubeingest.look import draw_edges, save_picture

SPEC = """\
name: sunda
crs: EPSG:4326
grid:
  origin: {x: 90, y: 10}
  resolution: {x: 1/24, y: -1/24}
  shape: {y: 480, x: 1440}                # 10 N to 10 S, 90 E to 150 E
  region: {y: 240, x: 240}                # 10 degrees: 2 x 6 regions
variables:
  land:
    dtype: uint8
    fill_value: 255
    chunks: {y: 120, x: 120}
    attrs: {long_name: land in the cell, units: "%", colormap: {0: "#a9cbdc", 100: "#5b7f4f"}}
    source:
      href: "tiles/{id}.tif"
      tiles: {glob: "tiles/*.tif"}
      tile: {y: 24, x: 24}                # 1 degree: 100 tiles a region
      id: "{bottom:H02}{left:H003}"       # N00E099, S01E100
attrs: {source: "NOAA GLOBE 1.0 by way of the Python package global-land-mask 1.0.0"}
store: ./sunda.icechunk
"""

LEFT, BOTTOM, RIGHT, TOP = 90, -10, 150, 10


def cut_tiles(folder: Path) -> int:
    """Write a tile for each degree that has land, called by its lower left corner; how many."""
    land = read_land(LEFT, BOTTOM, RIGHT, TOP)
    n = LAND_PER_DEGREE
    written = 0
    for bottom in range(BOTTOM, TOP):
        for left in range(LEFT, RIGHT):
            y, x = (TOP - bottom - 1) * n, (left - LEFT) * n
            pixels = land[y : y + n, x : x + n]
            if pixels.any():
                name = f"{'S' if bottom < 0 else 'N'}{abs(bottom):02}E{left:03}.tif"
                write_tile(folder / "tiles" / name, pixels, from_origin(left, bottom + 1, 1 / n, 1 / n))
                written += 1
    return written


def main(folder: Path) -> ci.Cube:
    """Cut the tiles into ``folder``, make the cube of them, draw it."""
    n = cut_tiles(folder)
    cube = fill_cube(folder, SPEC)
    axes = cube.show_map("land")
    axes.set_xlabel(
        f"Land in {n} tiles of 1 degree, {cube.grid.n_regions} regions of 10; grey: no tile, fill value",
        loc="left",
        fontsize=9,
    )
    draw_edges(axes, cube.grid, "#000000a0")
    save_picture(axes, folder / "one_degree_tiles.png")
    return cube


if __name__ == "__main__":
    main(folder_argument())
