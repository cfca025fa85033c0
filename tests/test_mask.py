"""A raster as a mask of regions: every region that shares an area with a pixel that counts, and no other; by brute force."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction as F
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.transform import from_origin
from rasterio.windows import Window

import cubeingest as ci
from cubeingest.grid import TilingGrid
from cubeingest.tile import regions_of_mask
from tests.conftest import write_tile

GRID = TilingGrid("EPSG:4326", F(0), F(20), F(1, 10), F(-1, 10), (200, 250), (100, 100))
"""2 x 3 regions of ten degrees, the last column half as wide."""

UTM = TilingGrid("EPSG:32631", F(300_000), F(5_300_000), F(1000), F(-1000), (400, 400), (100, 100))


def straight(grid: TilingGrid, mask: np.ndarray, transform: Affine) -> set[tuple[int, int]]:
    """Pixel by pixel, for one of an upright mask in the grid's CRS."""
    out = set()
    for r, c in np.argwhere(mask):
        x = sorted((transform.c + c * transform.a, transform.c + (c + 1) * transform.a))
        y = sorted((transform.f + r * transform.e, transform.f + (r + 1) * transform.e))
        for iy, ix in np.ndindex(grid.lattice_shape_yx):
            left, bottom, right, top = (float(v) for v in grid._exact_bounds(*grid.slices(iy, ix)))
            little = 1e-7
            if x[0] < right - little and x[1] > left + little and y[0] < top - little and y[1] > bottom + little:
                out.add((iy, ix))
    return out


@pytest.mark.parametrize("flip", [(1, 1), (1, -1), (-1, 1)])
def test_every_region_that_shares_an_area_with_a_pixel_is_found(tmp_path: Path, flip: tuple[int, int]) -> None:
    """Masks that end anywhere, with pixels finer and coarser than regions, and on the edges of regions."""
    rng = np.random.default_rng(5)
    for k in range(40):
        height, width = (int(v) for v in rng.integers(1, 30, 2))
        size = float(rng.choice([0.05, 0.1, 0.13, 0.5, 1, 4, 8]))
        left, top = float(rng.uniform(-3, 26)), float(rng.uniform(0.5, 23))
        if k % 3 == 0:
            left, top = round(left / size) * size, round(top / size) * size
        mask = (rng.random((height, width)) < rng.choice([0.02, 0.3, 1])).astype(np.uint8)
        transform = Affine(size * flip[0], 0, left, 0, -size * flip[1], top)
        path = write_tile(tmp_path / "m.tif", mask, 0, 0, transform=transform)
        assert set(regions_of_mask(str(path), GRID)) == straight(GRID, mask, transform), k


def test_mask_of_longitudes_reaches_a_grid_from_0_to_360(tmp_path: Path) -> None:
    grid = TilingGrid("EPSG:4326", F(0), F(90), F(1), F(-1), (180, 360), (90, 90))
    mask = np.zeros((180, 360), np.uint8)
    mask[10, 5] = 1
    path = write_tile(tmp_path / "m.tif", mask, -180, 90, 1.0)
    assert regions_of_mask(str(path), grid) == [(0, 2)]


def by_outlines(grid: TilingGrid, mask: np.ndarray, transform: Affine, crs: str) -> tuple[set[Any], set[Any]]:
    """Regions within the outline of a pixel that counts, a little smaller; and a little larger."""
    to = Transformer.from_crs(crs, grid.crs, always_xy=True)
    held, close = set(), set()
    regions = {
        at: shapely.box(*(float(v) for v in grid._exact_bounds(*grid.slices(*at))))
        for at in np.ndindex(grid.lattice_shape_yx)
    }
    for r, c in np.argwhere(mask):
        ring = shapely.segmentize(shapely.box(c, r, c + 1, r + 1), 1 / 50)
        outline = shapely.transform(ring, lambda p: np.stack(to.transform(*(transform @ p.T)), axis=1))
        if not outline.is_valid:
            continue
        little = 1e-3 * np.sqrt(outline.area)
        for at, region in regions.items():
            if outline.distance(region) < little:
                close.add(at)
                if outline.buffer(-little).intersects(region):
                    held.add(at)
    return held, close


@pytest.mark.parametrize(("grid", "crs", "size", "left", "top", "turned"), [
    (UTM, "EPSG:4326", 0.13, -2.0, 49.0, 0), (UTM, "EPSG:4326", 2.0, -11.0, 61.0, 0), (UTM, "EPSG:4326", 0.9, -30.0, 89.0, 0),
    (UTM, "EPSG:32631", 15_000, 250_000, 5_100_000, 30), (UTM, "EPSG:3035", 30_000, 3_400_000, 2_900_000, 0),
    (GRID, "EPSG:3857", 90_000, -100_000, 2_600_000, 0), (GRID, "EPSG:4326", 0.7, 8.0, 12.0, 45),
    (TilingGrid("EPSG:3413", F(-1_000_000), F(1_000_000), F(5000), F(-5000), (400, 400), (90, 90)), "EPSG:4326", 2.0, 100.0, 90.0, 0),
])  # fmt: skip
def test_pixels_of_another_crs_or_of_a_turned_raster_find_their_regions(
    tmp_path: Path, grid: TilingGrid, crs: str, size: float, left: float, top: float, turned: float
) -> None:
    rng = np.random.default_rng(8)
    transform = Affine.translation(left, top) * Affine.rotation(turned) * Affine.scale(size, -size)
    for share in (0.003, 0.02, 0.3):
        mask = (rng.random((30, 40)) < share).astype(np.uint8)
        mask[7, 9] = 1
        path = write_tile(tmp_path / "m.tif", mask, 0, 0, crs=crs, transform=transform)
        held, close = by_outlines(grid, mask, transform, crs)
        assert held <= set(regions_of_mask(str(path), grid)) <= close


@pytest.mark.slow
def test_mask_of_the_world_finds_regions_of_projected_grids(tmp_path: Path) -> None:
    """Most of its pixels lie where those have no place. Oracle: the pixel under each point of a region."""
    rng = np.random.default_rng(7)
    t = np.linspace(0.001, 0.999, 50)
    for grid in (UTM, TilingGrid("EPSG:3035", F(3_000_000), F(3_000_000), F(1000), F(-1000), (900, 900), (100, 100))):
        for size, share in ((1.0, 0.1), (0.25, 0.02)):
            mask = (rng.random((int(180 / size), int(360 / size))) < share).astype(np.uint8)
            path = write_tile(tmp_path / "m.tif", mask, -180, 90, size)
            held = set()
            for at in np.ndindex(grid.lattice_shape_yx):
                x0, y0, x1, y1 = (float(v) for v in grid._exact_bounds(*grid.slices(*at)))
                x, y = np.meshgrid(x0 + t * (x1 - x0), y0 + t * (y1 - y0))
                lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
                if mask[((90 - lat) / size).astype(int), ((lon + 180) / size).astype(int)].any():
                    held.add(at)
            found = set(regions_of_mask(str(path), grid))
            assert held <= found
            assert len(found - held) <= 0.1 * grid.n_regions


def test_zero_nan_nodata_and_masked_pixels_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    ones = np.ones((200, 250), np.float32)
    ones[:, :100] = np.nan
    ones[:100] = 7
    write_tile(path, ones, 0, 20, nodata=7)
    assert regions_of_mask(str(path), GRID) == [(1, 1), (1, 2)]
    write_tile(path, ones[:, ::-1], 0, 20, nodata=np.nan)
    assert regions_of_mask(str(path), GRID) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    alpha = np.zeros((200, 250), np.uint8)
    alpha[150, 150] = 255
    write_tile(path, np.stack([np.ones_like(alpha)] * 3 + [alpha]), 0, 20, photometric="RGB", alpha="YES")
    assert regions_of_mask(str(path), GRID) == [(1, 1)]
    write_tile(path, np.ones((200, 250), np.uint8), 0, 20)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as src:
        src.write_mask(alpha)
    assert regions_of_mask(str(path), GRID) == [(1, 1)]


def test_mask_in_a_local_crs_is_refused(tmp_path: Path) -> None:
    path = write_tile(tmp_path / "m.tif", np.ones((9, 9), np.uint8), 0, 20, crs='LOCAL_CS["a survey",UNIT["metre",1]]')
    with pytest.raises(ci.GridError, match="nothing leads from CRS 'a survey' to"):
        regions_of_mask(str(path), GRID)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4258"])
def test_memory_does_not_grow_with_the_mask(tmp_path: Path, crs: str) -> None:
    """24,000 x 24,000 pixels, of which a corner counts, on the lattice and off it: 576 MB of them."""
    n = 24_000
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": n, "width": n, "crs": crs, "sparse_ok": True,
               "transform": from_origin(0, 20, 20 / n, 20 / n), "tiled": True, "compress": "deflate"}  # fmt: skip
    with rasterio.open(tmp_path / "m.tif", "w", **profile) as out:
        out.write(np.ones((256, 256), np.uint8), 1, window=Window(0, 0, 256, 256))
    code = (
        "import resource, sys; from tests.test_mask import GRID; from cubeingest.tile import regions_of_mask\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert regions_of_mask(sys.argv[1], GRID) == [(0, 0)]\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.tif")], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) * (1 if sys.platform == "darwin" else 1024) < 200 * 2**20
