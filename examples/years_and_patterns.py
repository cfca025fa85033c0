"""A pattern for each year, because each year's files are called differently; tiles of open sea that do not exist.

    python years_and_patterns.py antilles        # 2 years, 3 degrees a tile, a few seconds, and a picture

Archives like it: ESA WorldCover (v100/2020, v200/2021), Hansen's forest change, and all that has changed its version between years.
`source.href` is a pattern for each value of one axis; `{id}` is the region's own id, here the tile's lower left
corner. Nothing lists which tiles there are, so every region is expected, and `missing: absent` says that a file that is not there
is no error: the region is `absent` in that year, unlike one that could not be read.

The classes are cut from a real land mask by a rule that differs by year, as WorldCover's algorithm does: of what seems to
have changed, nothing has.
"""

from pathlib import Path

import numpy as np
from _tiles import LAND_PER_DEGREE, fill_cube, folder_argument, read_land, write_tile
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rasterio.transform import from_origin

import cubeingest as ci
from cubeingest.look import MISSING_COLOUR, draw_edges

SPEC = """\
name: antilles
crs: EPSG:4326
grid:
  origin: {x: -87, y: 27}
  resolution: {x: 1/24, y: -1/24}
  shape: {y: 432, x: 648}                 # 27 N to 9 N, 87 W to 60 W
  region: {y: 72, x: 72}                  # 3 degrees: 6 x 9 regions, a tile each
  id: "{bottom:H02}{left:H003}"           # N18W078
axes:
  year: {values: [2020, 2021]}
variables:
  cover:
    dtype: uint8
    fill_value: 0
    chunks: {year: 1, y: 72, x: 72}
    attrs: {long_name: cover, flag_values: [10, 60, 80], flag_meanings: land coast water, flag_colors: "#4f7942 #e0a030 #b5d3e4"}
    source:
      href:
        2020: v100/2020/map/Cover_2020_v100_{id}_Map.tif
        2021: v200/2021/map/Cover_2021_v200_{id}_Map.tif
      missing: absent                     # no tile over open sea
      nodata: 0
attrs: {source: "NOAA GLOBE 1.0 by way of the Python package global-land-mask 1.0.0"}
store: ./antilles.icechunk
"""

LEFT, BOTTOM, RIGHT, TOP, STEP = -87, 9, -60, 27, 3
LAND, COAST, WATER = 10, 60, 80
RULES = {2020: ("v100", 40), 2021: ("v200", 0)}
"""Version, and the percentage of land beyond which a cell is no longer water."""


def cut_tiles(folder: Path) -> dict[int, int]:
    """Write the tiles of both years that are not all water; how many by year."""
    percent = read_land(LEFT, BOTTOM, RIGHT, TOP)
    n = STEP * LAND_PER_DEGREE
    written = dict.fromkeys(RULES, 0)
    for year, (version, least) in RULES.items():
        cover = np.select([percent == 100, percent > least], [LAND, COAST], WATER).astype("uint8")
        for bottom in range(BOTTOM, TOP, STEP):
            for left in range(LEFT, RIGHT, STEP):
                y, x = (TOP - bottom - STEP) * LAND_PER_DEGREE, (left - LEFT) * LAND_PER_DEGREE
                pixels = cover[y : y + n, x : x + n]
                if (pixels != WATER).any():
                    name = f"{version}/{year}/map/Cover_{year}_{version}_N{bottom:02}W{-left:03}_Map.tif"
                    write_tile(folder / name, pixels, from_origin(left, bottom + STEP, 1 / 24, 1 / 24), nodata=0)
                    written[year] += 1
    return written


def draw(cube: ci.Cube, path: Path) -> None:
    """Both years, one above the other; regions without a tile are grey."""
    colours = {LAND: "#4f7942", COAST: "#e0a030", WATER: "#b5d3e4"}
    ranks = np.zeros(256, int)
    ranks[list(colours)] = range(1, 4)
    left, bottom, right, top = cube.grid.bounds()
    figure = Figure(figsize=(11, 14.5), dpi=110, layout="constrained")
    counts = cube.status().by["year"]
    for axes, (year, cover) in zip(figure.subplots(2, 1), cube.dataset()["cover"].groupby("year"), strict=True):
        axes.imshow(ranks[cover.values.squeeze()], cmap=ListedColormap([MISSING_COLOUR, *colours.values()]), vmin=0, vmax=3, extent=(left, right, bottom, top))  # fmt: skip
        draw_edges(axes, cube.grid)
        version, least = RULES[year]
        count = counts[str(year)]
        axes.set_title(
            f"{year}, {version}: coast from {least + 4} % land; {count['done']} tiles, {count['absent']} absent",
            loc="left",
        )
    axes.legend(handles=[Patch(color=c, label=n) for n, c in zip(("land", "coast", "water"), colours.values(), strict=True)], loc="lower left")  # fmt: skip
    figure.savefig(path)


def main(folder: Path) -> ci.Cube:
    """Cut the tiles into ``folder``, make the cube of them, draw it."""
    cut_tiles(folder)
    cube = fill_cube(folder, SPEC)
    draw(cube, folder / "years_and_patterns.png")
    return cube


if __name__ == "__main__":
    main(folder_argument())
