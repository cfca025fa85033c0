"""Versions instead of copies: three tiles are corrected, and both states of the cube stay readable for the price of three tiles.

    python versions.py islands        # 40 tiles, three of them wrong at first, a few seconds, and a picture

Archives like it: what is delivered again after an error was found, with `_v2` in its name and no word of which tiles differ.
`cubeingest tag v1` names the cube as it is. When tiles have changed, `cubeingest ingest` reads those and no others, `cubeingest
diff v1 v2` says which, and `--at v1` (in Python `cube.at("v1")`, `cube.dataset("v1")`) reads the cube as it was, for whoever has
published results that rest on it. The store holds each chunk once, however many versions share it.

The tiles are cut from a real land mask; that three of them were delivered upside down is made up.
"""

import sys
from pathlib import Path

import numpy as np
from _tiles import LAND_PER_DEGREE, fill_cube, folder_argument, read_land, write_tile
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from rasterio.transform import from_origin

import cubeingest as ci
from cubeingest.look import MISSING_COLOUR

SPEC = """\
name: islands
crs: EPSG:4326
grid:
  origin: {x: -12, y: 60}
  resolution: {x: 1/24, y: -1/24}
  shape: {y: 240, x: 384}                 # 60 N to 50 N, 12 W to 4 E
  region: {y: 48, x: 48}                  # 2 degrees: 5 x 8 regions, a tile each
  id: "{bottom:H02}{left:H003}"           # N54W006
variables:
  land:
    dtype: uint8
    fill_value: 255
    chunks: {y: 48, x: 48}
    attrs: {long_name: land in the cell, units: "%"}
    source:
      href: tiles/{id}.tif
      tiles: {glob: "tiles/*.tif"}
      nodata: 255
attrs: {source: "NOAA GLOBE 1.0 by way of the Python package global-land-mask 1.0.0"}
store: ./islands.icechunk
"""

LEFT, BOTTOM, RIGHT, TOP, STEP = -12, 50, 4, 60, 2
WRONG = ("N50W006", "N54W006", "N56W004")
"""Tiles that come upside down at first."""


def deliver(folder: Path, upside_down: tuple[str, ...], only: tuple[str, ...] = ()) -> None:
    """Write the tiles as their producer does: all, or ``only`` some of them."""
    percent = read_land(LEFT, BOTTOM, RIGHT, TOP)
    n = STEP * LAND_PER_DEGREE
    for bottom in range(BOTTOM, TOP, STEP):
        for left in range(LEFT, RIGHT, STEP):
            name = f"N{bottom:02}{'W' if left < 0 else 'E'}{abs(left):03}"
            if only and name not in only:
                continue
            y, x = (TOP - bottom - STEP) * LAND_PER_DEGREE, (left - LEFT) * LAND_PER_DEGREE
            pixels = percent[y : y + n, x : x + n]
            pixels = pixels[::-1] if name in upside_down else pixels
            write_tile(
                folder / "tiles" / f"{name}.tif", pixels, from_origin(left, bottom + STEP, 1 / 24, 1 / 24), nodata=255
            )


def land_area(cube: ci.Cube, version: str) -> float:
    """Square kilometres of land in a version."""
    land = cube.dataset(version)["land"].where(lambda v: v != 255)
    cell = (111.2 / LAND_PER_DEGREE) ** 2 * np.cos(np.radians(land["y"]))
    return float((land / 100 * cell).sum())


def draw(cube: ci.Cube, path: Path) -> None:
    """Both versions side by side, and what differs between them."""
    v1, v2 = (cube.dataset(version)["land"].values.astype(int) for version in ("v1", "v2"))
    change = v2 - v1
    figure = Figure(figsize=(15, 6.1), dpi=110, layout="constrained")
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    left, bottom, right, top = cube.grid.bounds()
    options = {"extent": (left, right, bottom, top), "aspect": 1 / np.cos(np.radians(55)), "interpolation": "nearest"}
    land = ListedColormap(["#c9dbe6", "#e6dcc0", "#b9b58c", "#6f8f5f"])
    norm = BoundaryNorm([0, 1, 50, 99, 101], 4)
    for axes, pixels, title in ((panels[0], v1, "v1"), (panels[1], v2, "v2")):
        axes.imshow(pixels, cmap=land, norm=norm, **options)
        axes.set_title(f"{title}: {land_area(cube, title):,.0f} km² of land", loc="left")
    steps = ListedColormap(["#9c3d54", "#dd8a90", MISSING_COLOUR, "#7fb3a6", "#1f6f6b"])
    panels[2].imshow(change, cmap=steps, norm=BoundaryNorm([-101, -50, -0.5, 0.5, 50, 101], 5), **options)
    panels[2].set_title(f"v2 - v1: {np.count_nonzero(change):,} of {change.size:,} pixels", loc="left")
    labels = ("land only in v1", "less land in v2", "same", "more land in v2", "land only in v2")
    panels[2].legend(
        handles=[Patch(color=steps(i), label=label) for i, label in enumerate(labels)], loc="upper left", fontsize=8
    )
    for row in cube.diff("v1", "v2"):
        west, south, east, north = cube.grid.bounds(cube.grid.region_id(row.slot.iy, row.slot.ix))
        for axes in panels:
            axes.add_patch(
                Rectangle((west, south), east - west, north - south, fill=False, edgecolor="#c2410c", linewidth=1.6)
            )
    figure.suptitle(
        "Three tiles were corrected: what was, what is, and where they differ", x=0.01, ha="left", fontsize=14
    )
    figure.savefig(path)


def main(folder: Path) -> ci.Cube:
    """Deliver the tiles, make v1, correct three, make v2; compare and draw."""
    store = folder / "islands.icechunk"
    tags = ci.open(store).store.repo.list_tags() if store.exists() else set()  # the script may be run again
    if "v1" not in tags:
        deliver(folder, upside_down=WRONG)
        cube = fill_cube(folder, SPEC)
        cube.tag("v1")
    else:
        cube = ci.open(store)
    if "v2" not in tags:
        deliver(folder, upside_down=(), only=WRONG)
        cube = fill_cube(folder, SPEC)
        cube.tag("v2")
    changes = cube.diff("v1", "v2")
    found = sorted(cube.grid.region_id(c.slot.iy, c.slot.ix) for c in changes)
    print(f"diff:   {', '.join(found)}")
    print(f"land:   {land_area(cube, 'v1'):,.0f} km2 in v1, {land_area(cube, 'v2'):,.0f} km2 in v2")
    if found != sorted(WRONG):
        sys.exit("the versions differ elsewhere too")
    draw(cube, folder / "versions.png")
    return cube


if __name__ == "__main__":
    main(folder_argument())
