"""Part of a grid: for good by `valid` (a raster, a polygon, a list of ids), or for one command by box, polygon or ids.

    python land_only.py south-america             # 3 cubes of one raster, a few seconds, and a picture

Data sets like it: all that is made on land only, of one country, or of the regions in which something is. `valid` leaves regions out of a
grid for good: nothing plans, counts or checks the others, and a full ingest is complete without them. It is computed once, by
`init`, and kept in the cube. A selection is for one command: `--bbox W S E N`, `--polygon FILE`, `--region ID`; what earlier commands did is
skipped by later ones. All longitudes and latitudes are in WGS 84, whatever the grid's own CRS.
"""

import json
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from _tiles import fill_cube, folder_argument, read_land, write_tile
from matplotlib.patches import Patch, Rectangle
from rasterio.transform import from_origin

import cubeingest as ci
from cubeingest.look import save_picture

SPEC = """\
name: south-america
crs: EPSG:4326
grid:
  origin: {x: -85, y: 15}
  resolution: {x: 1/24, y: -1/24}
  shape: {y: 1680, x: 1200}             # 15 N to 55 S, 85 W to 35 W
  region: {y: 120, x: 120}              # 5 degrees: 14 x 10 regions
  id: "{top:02H}_{left:03H}"
variables:
  land:
    dtype: uint8
    fill_value: 255
    chunks: {y: 120, x: 120}
    attrs: {long_name: land in the cell, units: "%", colormap: {0: "#c9dbe6", 100: "#5b7f4f"}}
    source: {file: land.tif}
valid: {raster: mask.tif}               # regions in which a pixel is neither 0 nor nodata
attrs: {source: "NOAA GLOBE 1.0 by way of the Python package global-land-mask 1.0.0"}
store: ./land.icechunk
"""

OTHERS = {
    "chile": "valid: {geojson: chile.json}",  # regions that share an area with the polygon
    "ids": "valid: {list: ids.txt}",  # regions by their ids, one a line
}
"""Two more cubes by the same spec but for `valid`, and `store`."""

CHILE = [(-70.4, -18.3), (-69.5, -17.6), (-68.5, -20.0), (-67.0, -23.0), (-68.5, -25.0), (-69.8, -33.0), (-71.0, -38.0), (-71.5, -46.0),
         (-73.0, -50.5), (-68.4, -52.4), (-66.5, -55.0), (-70.0, -55.9), (-75.5, -51.0), (-75.6, -46.5), (-73.9, -41.5), (-73.6, -37.0), (-71.5, -32.0)]  # fmt: skip
"""Roughly, for the sake of an example."""

AMAZON = [(-79, -5), (-70, 2), (-50, 1), (-48, -3), (-60, -12), (-70, -14)]
STEPS: dict[str, dict[str, Any]] = {
    "by box": {"bbox": (-76, -56, -64, -40)},
    "by polygon": {"polygon": {"type": "Polygon", "coordinates": [[*AMAZON, AMAZON[0]]]}},
    "by ids": {"region": ["05S_040W", "10S_040W", "10S_045W"]},
    "the rest": {},
}
"""Four runs that fill one cube: each does what it was asked for and is not done yet."""

COLOURS = ("#d1495b", "#2e8b57", "#edae49", "#7d8ca3")


def write_masks(folder: Path) -> None:
    """The raster of the cube, and what `valid` may be: a coarse mask, a polygon, a list."""
    with as_file(files("cubeingest") / "data" / "land.tif") as raster:
        shutil.copyfile(raster, folder / "land.tif")
    land = read_land(-85, -55, -35, 15).reshape(140, 12, 100, 12).max(axis=(1, 3))
    mask = (land > 0).astype("uint8")  # half a degree; it need not be on the grid's lattice, nor in its CRS
    write_tile(folder / "mask.tif", mask, from_origin(-85, 15, 0.5, 0.5))
    polygon = {"type": "Polygon", "coordinates": [[*CHILE, CHILE[0]]]}
    (folder / "chile.json").write_text(json.dumps(polygon), encoding="utf-8")
    (folder / "ids.txt").write_text("# regions of north-east Brazil\n05S_040W\n10S_040W\n", encoding="utf-8")


def main(folder: Path) -> ci.Cube:
    """Make a cube of each kind of `valid` in ``folder``, fill that of land step by step, draw it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_masks(folder)
    for name, valid in OTHERS.items():
        print(f"--- {valid}")
        spec = SPEC.replace("valid: {raster: mask.tif}", valid).replace("land.icechunk", f"{name}.icechunk")
        cube = fill_cube(folder, spec)
        print(
            f"        {len(cube.regions())} of {cube.grid.n_regions} regions: {', '.join(r['id'] for r in cube.regions())}"
        )
    print("--- valid: {raster: mask.tif}, in four runs")
    (folder / "grid.yaml").write_text(SPEC, encoding="utf-8")
    cube = ci.init(folder / "grid.yaml")
    filled: dict[str, str] = {}
    for (how, selection), colour in zip(STEPS.items(), COLOURS, strict=True):
        report = cube.ingest(**selection)
        print(f"{how}: {report.written} slots written, {report.skipped} done already")
        filled = {r["id"]: colour for r in cube.regions(**selection)} | filled
    check = cube.verify()
    print(f"verify: {check.equal} of {check.checked} slots equal their tiles")
    draw(cube, filled, folder / "land_only.png")
    return cube


def draw(cube: ci.Cube, filled: dict[str, str], path: Path) -> None:
    """Which run filled which region."""
    axes = cube.show_map("land")
    for region, colour in filled.items():
        left, bottom, right, top = cube.grid.bounds(region)
        axes.add_patch(
            Rectangle(
                (left, bottom),
                right - left,
                top - bottom,
                facecolor=colour + "50",
                edgecolor=colour,
                linewidth=1.2,
                zorder=4,
            )
        )
    patches = [Patch(facecolor=c + "80", edgecolor=c, label=how) for how, c in zip(STEPS, COLOURS, strict=True)]
    axes.legend(handles=patches, title="filled", loc="upper right").set_zorder(5)
    axes.set_xlabel(
        f"{len(filled)} of {cube.grid.n_regions} regions are valid: those with land", loc="left", fontsize=9
    )
    save_picture(axes, path)


if __name__ == "__main__":
    main(folder_argument())
