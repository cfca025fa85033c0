"""Fill new variables from Python: land area and nearness to land, from a land mask that came into the same cube as tiles.

    python computed.py computed           # Europe at 1/24 degree: 12 regions, a few seconds, and a picture

`near_land` is called once for each region with its geobox. It reads the cube itself, a little more than its region, and
returns both variables. Run it again: nothing is done; change a line of it: it is computed anew.
"""

import shutil
import sys
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

import cubeingest as ci
from cubeingest.look import save_picture

SPEC = """\
name: europe
crs: EPSG:4326
grid:
  origin: {x: -12, y: 72}
  resolution: {x: 1/24, y: -1/24}
  shape: {y: 864, x: 1152}
  region: {y: 288, x: 288}
variables:
  land:
    {dtype: uint8, fill_value: 255, chunks: {y: 144, x: 144}, attrs: {long_name: land in the cell, units: "%"}, source: {file: land.tif}}
  area:
    {dtype: float32, fill_value: .nan, chunks: {y: 144, x: 144}, attrs: {long_name: land area of the cell, units: km2}}
  nearby:
    {dtype: float32, fill_value: .nan, chunks: {y: 144, x: 144}, attrs: {long_name: land within half a degree, units: "%", colormap: YlGn, valid_range: [0, 100]}}
attrs: {source: "NOAA GLOBE 1.0 by way of the Python package global-land-mask 1.0.0"}
store: ./europe.icechunk
"""

NEAR_CELLS = 12
"""Half a degree, in cells."""

EARTH_RADIUS_KM = 6371.0088


def near_land(geobox, store):
    """Both variables of one region; None where there is no land near."""
    wide = geobox.pad(NEAR_CELLS)
    latitude, longitude = (c.values for c in wide.coords.values())
    land = ci.open(store).dataset()["land"]
    land = land.reindex(
        y=latitude, x=longitude, method="nearest"
    ).values  # beyond the grid's ends it goes on as it ends
    percent = np.where(land == 255, 0, land).astype("float64")
    if not percent.any():
        return None
    # Sums over squares of 2 n + 1 cells, as differences of running sums.
    n = 2 * NEAR_CELLS + 1
    sums = np.pad(percent, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    nearby = (sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]) / n**2
    own = slice(NEAR_CELLS, -NEAR_CELLS)
    cell = (EARTH_RADIUS_KM * np.radians(1 / 24)) ** 2 * np.cos(np.radians(latitude[own]))
    return {"area": percent[own, own] / 100 * cell[:, np.newaxis], "nearby": nearby}


def main(folder: Path) -> ci.Cube:
    """Make the cube in ``folder``, bring in the mask, compute the rest, draw a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    with as_file(files("cubeingest") / "data" / "land.tif") as raster:
        shutil.copyfile(raster, folder / "land.tif")
    (folder / "europe.yaml").write_text(SPEC, encoding="utf-8")
    cube = ci.init(folder / "europe.yaml")
    print(f"tiles:    {cube.ingest().written} slots written")
    report = cube.ingest(source=partial(near_land, store=cube.store.uri))  # with workers=2 if it took longer
    print(
        f"computed: {report.written} slots written, {report.empty} empty, {report.skipped} skipped, {len(report.failed)} failed"
    )
    print(f"verify:   {cube.verify().equal} slots are what was read and computed")
    print(f"{float(cube.dataset()['area'].sum()) / 1e6:.2f} million km2 of land")
    save_picture(cube.show_map("nearby"), folder / "nearby.png")
    return cube


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(f"usage: python {sys.argv[0]} FOLDER")
    main(Path(sys.argv[1]))
