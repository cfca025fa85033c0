"""Tiles off the grid's lattice: the cube equals one warp of the whole mosaic, whatever the regions, windows and tiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.warp import reproject

import cubeingest as ci
from cubeingest import mosaic
from cubeingest.tile import warp
from cubeingest.tile.warp import kernel_scales
from tests.conftest import write_tile

LEFT, TOP, SIZE, STEP = 400_000, 5_000_000, 600, 30
"""A mosaic of 2 x 2 tiles of 600 pixels of 30 m in UTM zone 31."""

MARGIN = 500

SPEC = """\
name: warped
crs: {crs}
grid:
  origin: {origin}
  resolution: {resolution}
  shape: {{y: 500, x: 700}}
  region: {{y: 250, x: 350}}
variables:
  v:
    dtype: {dtype}
    fill_value: {fill}
    chunks: {{y: 50, x: 70}}
    source: {{tiles: {{glob: "tiles/*.tif"}}{more}}}
store: ./cube.icechunk
"""


def whole(dtype: str) -> np.ndarray:
    """Blocks of classes with noise and a hole of nodata (0)."""
    rng = np.random.default_rng(3)
    base = rng.integers(1, 200, (2 * SIZE // 8, 2 * SIZE // 8)).repeat(8, 0).repeat(8, 1)
    pixels = np.clip(base + rng.normal(0, 3, base.shape), 1, 250).astype(dtype)
    pixels[300:420, 500:700] = 0
    return pixels


def cut(folder: Path, pixels: np.ndarray, nodata: float | None = 0, **profile: Any) -> None:
    for i in range(2):
        for j in range(2):
            part = pixels[i * SIZE : (i + 1) * SIZE, j * SIZE : (j + 1) * SIZE]
            left, top = LEFT + j * SIZE * STEP, TOP - i * SIZE * STEP
            write_tile(folder / "tiles" / f"{i}{j}.tif", part, left, top, STEP, crs="EPSG:32631", nodata=nodata, tiled=True,
                       blockxsize=128, blockysize=128, **profile)  # fmt: skip


def write_spec(
    folder: Path,
    resampling: str | None,
    dtype: str = "uint8",
    fill: Any = 0,
    crs: str = "EPSG:4326",
    origin: str = "{x: 3/2, y: 452/10}",
    resolution: str = "{x: 1/1500, y: -1/1500}",
    more: str = "",
) -> Path:
    key = "" if resampling is None else f", resampling: {resampling}"
    path = folder / "grid.yaml"
    path.write_text(SPEC.format(crs=crs, origin=origin, resolution=resolution, dtype=dtype, fill=fill, more=key + more))
    return path


def warp_whole(
    spec: Path, pixels: np.ndarray, resampling: str, nodata: float | None = 0, dtype: str | None = None
) -> np.ndarray:
    """What GDAL makes of the mosaic in one piece, with an exact transformation, our width of kernel, and an empty margin."""
    grid = ci.read_spec(spec).grid
    out = np.zeros(grid.shape_yx, dtype or pixels.dtype)
    header = _header(pixels)
    pixels = np.pad(pixels, MARGIN)
    y, x = kernel_scales(header, grid)
    scales = {"XSCALE": repr(x), "YSCALE": repr(y)} if resampling in ("bilinear", "cubic", "lanczos") else {}
    reproject(pixels.astype(out.dtype), out, src_transform=from_origin(LEFT - MARGIN * STEP, TOP + MARGIN * STEP, STEP, STEP),
              src_crs="EPSG:32631", dst_transform=grid.affine(), dst_crs=grid.crs, src_nodata=nodata, dst_nodata=nodata, resampling=Resampling[resampling], tolerance=0, **scales)  # fmt: skip
    return out


def _header(pixels: np.ndarray) -> Any:
    from rasterio.crs import CRS

    from cubeingest.tile import Header

    t = (STEP, 0.0, LEFT, 0.0, -STEP, TOP)
    return Header("", CRS.from_epsg(32631), t, pixels.shape, (pixels.dtype.name,), (0,), (1, 1))  # type: ignore[arg-type]


def ingested(spec: Path, **more: Any) -> tuple[ci.Cube, np.ndarray]:
    cube = ci.init(spec)
    report = cube.ingest(**more)
    assert report.failed == []
    return cube, cube.dataset()["v"].values


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "average", "mode", "max"])
def test_regions_are_as_one_warp_of_the_whole_mosaic(
    tmp_path: Path, resampling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic, "WINDOW_BYTES", 350 * 50)  # windows of one chunk row
    pixels = whole("uint8")
    cut(tmp_path, pixels)
    spec = write_spec(tmp_path, resampling)
    cube, found = ingested(spec)
    expected = warp_whole(spec, pixels, resampling)
    assert np.count_nonzero(expected) > 100_000
    assert np.array_equal(found, expected)
    assert cube.verify().exit_code == 0
    assert cube.ingest().skipped == 4


@pytest.mark.parametrize("resampling", ["bilinear", "average"])
def test_coarser_grid_running_north_in_another_projection(tmp_path: Path, resampling: str) -> None:
    """Integers averaged into floats keep their fractions."""
    pixels = whole("uint8")
    cut(tmp_path, pixels)
    spec = write_spec(tmp_path, resampling, "float32", ".nan", "EPSG:3035", "{x: 3665000, y: 2443000}", "{x: 110, y: 110}")  # fmt: skip
    _, found = ingested(spec)
    expected = warp_whole(spec, pixels, resampling, dtype="float32")
    expected[expected == 0] = np.nan
    assert np.isfinite(expected).sum() > 50_000
    assert np.array_equal(found, expected, equal_nan=True)
    assert (found[np.isfinite(found)] % 1 != 0).any()


def test_tiles_without_nodata_leave_what_they_do_not_cover(tmp_path: Path) -> None:
    """Zero is data here; beyond the tiles, and where one is missing, is the fill value."""
    pixels = whole("uint8")
    cut(tmp_path, pixels, nodata=None)
    (tmp_path / "tiles" / "01.tif").unlink()
    spec = write_spec(tmp_path, "nearest", fill=255)
    _, found = ingested(spec)
    marked = pixels.astype("int16") + 1
    marked[:SIZE, SIZE:] = 0
    expected = warp_whole(spec, marked, "nearest") - 1
    assert (expected == 0).any()
    assert (found[expected == -1] == 255).all()
    assert np.array_equal(found[expected >= 0], expected[expected >= 0])


def test_nodata_of_the_spec_overrides_that_of_the_files(tmp_path: Path) -> None:
    pixels = whole("uint8")
    cut(tmp_path, pixels, nodata=None)
    spec = write_spec(tmp_path, "bilinear", more=", nodata: 0")
    _, found = ingested(spec)
    assert np.array_equal(found, warp_whole(spec, pixels, "bilinear"))


def test_valid_pixel_that_would_read_as_missing_fails_its_region(tmp_path: Path) -> None:
    pixels = whole("uint8")
    pixels[pixels == 7] = 8
    pixels[600:608, 600:608] = 7
    cut(tmp_path, pixels)
    report = ci.init(write_spec(tmp_path, "nearest", fill=7)).ingest()
    assert report.written == 3
    assert "valid pixels equal to the fill value 7" in report.failed[0].error


def test_tile_that_fits_the_lattice_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(1, 200, (500, 700), dtype=np.uint8)
    write_tile(tmp_path / "tiles" / "a.tif", pixels, 1.5, 45.2, 1 / 1500)
    _, found = ingested(write_spec(tmp_path, "cubic"))
    assert np.array_equal(found, pixels)


def test_tile_moved_by_half_a_pixel_is_interpolated(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).normal(0, 1, (500, 700)).astype("float32")
    half = 0.5 / 1500
    write_tile(tmp_path / "tiles" / "a.tif", pixels, 1.5 + half, 45.2, 1 / 1500)
    _, found = ingested(write_spec(tmp_path, "bilinear", "float32", ".nan"))
    assert np.allclose(found[:, 1:], (pixels[:, 1:] + pixels[:, :-1]) / 2, atol=1e-4)


def test_zones_side_by_side_meet_without_a_gap_and_the_first_wins(tmp_path: Path) -> None:
    """Two UTM zones over the meridian between them: each alone is as GDAL warps it, and z31 comes first by name."""
    spec = write_spec(tmp_path, "nearest", origin="{x: 59/10, y: 452/10}")
    grid = ci.read_spec(spec).grid
    expected = np.zeros(grid.shape_yx, np.uint8)
    for zone, epsg, left, columns in ((32, 32632, 240_000, 2000), (31, 32631, 720_000, 1000)):
        pixels = np.random.default_rng(zone).integers(1, 250, (1600, columns), dtype=np.uint8)
        write_tile(tmp_path / "tiles" / f"z{zone}.tif", pixels, left, 5_012_000, 30, crs=f"EPSG:{epsg}", nodata=0)
        one = np.zeros(grid.shape_yx, np.uint8)
        reproject(pixels, one, src_transform=from_origin(left, 5_012_000, 30, 30), src_crs=f"EPSG:{epsg}", dst_transform=grid.affine(),
                  dst_crs=grid.crs, src_nodata=0, dst_nodata=0, tolerance=0)  # fmt: skip
        expected = np.where(one > 0, one, expected)
    _, found = ingested(spec)
    assert np.array_equal(found, expected)
    assert (expected[:, 50:650] > 0).all()


def test_rotated_tile_is_warped(tmp_path: Path) -> None:
    pixels = whole("uint8")[:SIZE, :SIZE]
    turned = Affine.translation(LEFT + 9000, TOP - 9000) * Affine.rotation(20) * Affine.scale(STEP, -STEP)
    write_tile(tmp_path / "tiles" / "a.tif", pixels, 0, 0, nodata=0, crs="EPSG:32631", transform=turned)
    spec = write_spec(tmp_path, "nearest")
    grid = ci.read_spec(spec).grid
    expected = np.zeros(grid.shape_yx, np.uint8)
    reproject(pixels, expected, src_transform=turned, src_crs="EPSG:32631", dst_transform=grid.affine(), dst_crs=grid.crs, src_nodata=0,
              dst_nodata=0, tolerance=0)  # fmt: skip
    _, found = ingested(spec)
    assert np.array_equal(found, expected)


def test_overviews_are_ignored(tmp_path: Path) -> None:
    pixels = whole("uint8")
    cut(tmp_path, pixels)
    for path in (tmp_path / "tiles").iterdir():
        with rasterio.open(path, "r+") as tile:
            tile.build_overviews([2, 4, 8], Resampling.nearest)
            for level in (2, 4, 8):  # what an average of overviews would show
                assert level in tile.overviews(1)
    spec = write_spec(tmp_path, "average", resolution="{x: 1/200, y: -1/200}")
    _, found = ingested(spec)
    assert np.array_equal(found, warp_whole(spec, pixels, "average"))


def test_without_the_key_a_misfit_is_refused_and_the_key_named(tmp_path: Path) -> None:
    cut(tmp_path, whole("uint8"))
    report = ci.init(write_spec(tmp_path, None)).ingest()
    assert report.written == 0
    assert len(report.failed) == 4
    assert report.failed[0].error.endswith("expected EPSG:4326, or set source.resampling")


def test_damaged_tile_fails_the_regions_that_it_feeds(tmp_path: Path) -> None:
    """GDAL's mosaics can read past a source that fails; here nothing of it may pass for pixels."""
    pixels = whole("uint8")
    cut(tmp_path, pixels)
    bad = tmp_path / "tiles" / "00.tif"
    content = bad.read_bytes()
    bad.write_bytes(content[: len(content) // 2])
    cube = ci.init(write_spec(tmp_path, "bilinear"))
    report = cube.ingest()
    regions = {f.region for f in report.failed}
    assert "y0_x0" in regions
    assert all("00.tif" in f.error for f in report.failed)
    cut(tmp_path, pixels)
    assert cube.ingest().failed == []
    assert np.array_equal(cube.dataset()["v"].values, warp_whole(tmp_path / "grid.yaml", pixels, "bilinear"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resampling": "bilinar"}, "source.resampling: 'bilinar' is none; did you mean 'bilinear'?"),
        ({"resampling": "nearest", "more": ", array: v"}, "source.array: does not go with resampling"),
    ],
)
def test_spec_refuses(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "tiles").mkdir()
    with pytest.raises(ci.SpecError, match="source") as caught:
        ci.read_spec(write_spec(tmp_path, **changes))
    assert message in str(caught.value)


def test_many_lattices_in_one_region_are_told_apart(tmp_path: Path) -> None:
    """Tiles of two pixel sizes and phases, in shuffled order of names, each on top of those after it."""
    spec = write_spec(tmp_path, "nearest")
    grid = ci.read_spec(spec).grid
    rng = np.random.default_rng(5)
    layers: Sequence[tuple[str, float, float]] = (("a", 30, 0), ("b", 45, 0), ("c", 30, 11), ("d", 30, 300))
    expected = np.zeros(grid.shape_yx, np.uint8)
    made = {}
    for name, step, shift in layers:
        pixels = rng.integers(1, 250, (300, 300), dtype=np.uint8)
        left, top = LEFT + 3000 + shift, TOP - 3000 - shift
        write_tile(tmp_path / "tiles" / f"{name}.tif", pixels, left, top, step, crs="EPSG:32631", nodata=0)
        one = np.zeros(grid.shape_yx, np.uint8)
        reproject(pixels, one, src_transform=from_origin(left, top, step, step), src_crs="EPSG:32631", dst_transform=grid.affine(),
                  dst_crs=grid.crs, src_nodata=0, dst_nodata=0, tolerance=0)  # fmt: skip
        made[name] = one
    for name in ("c", "b", "d", "a"):  # a and d are one lattice, which stands where a stands
        expected = np.where(made[name] > 0, made[name], expected)
    _, found = ingested(spec)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "lanczos", "average"])
@pytest.mark.parametrize("step", [1 / 20, 1 / 7])
def test_tiles_whose_edges_are_those_of_regions_leave_no_seam(tmp_path: Path, resampling: str, step: float) -> None:
    """A kernel at a region's edge looks into the next tile, which feeds that region with nothing else."""
    n = round(3 / step)
    pixels = np.random.default_rng(2).normal(0, 1, (2 * n, 3 * n)).astype("float32")
    for layout in ("tiles", "whole"):
        folder = tmp_path / layout
        folder.mkdir()
        text = write_spec(folder, resampling, "float32", ".nan", origin="{x: 0, y: 6}", resolution="{x: 1/10, y: -1/10}").read_text()  # fmt: skip
        text = text.replace("{y: 500, x: 700}", "{y: 60, x: 90}").replace("{y: 250, x: 350}", "{y: 30, x: 30}")
        (folder / "grid.yaml").write_text(text.replace("{y: 50, x: 70}", "{y: 30, x: 30}"))
    write_tile(tmp_path / "whole/tiles/a.tif", pixels, 0, 6, step)
    for i in range(2):
        for j in range(3):
            part = pixels[i * n : (i + 1) * n, j * n : (j + 1) * n]
            write_tile(tmp_path / f"tiles/tiles/{i}{j}.tif", part, 3 * j, 6 - 3 * i, step)
    cube, found = ingested(tmp_path / "tiles/grid.yaml")
    _, expected = ingested(tmp_path / "whole/grid.yaml")
    # Corners of tiles are floats of their own, which single precision shows in its last bit.
    assert np.allclose(found, expected, rtol=0, atol=1e-6, equal_nan=True)
    assert cube.status().total == 6


def test_source_is_read_in_parts_where_much_of_it_makes_a_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = whole("uint8")
    cut(tmp_path, pixels)
    spec = write_spec(tmp_path, "average", "float32", ".nan", resolution="{x: 1/200, y: -1/200}")
    _, expected = ingested(spec)
    monkeypatch.setattr(warp, "SOURCE_PX", 5_000)
    found = ci.init(spec, tmp_path / "other")
    assert found.ingest().failed == []
    assert np.array_equal(found.dataset()["v"].values, expected, equal_nan=True)


def test_integers_of_64_bits_are_not_warped(tmp_path: Path) -> None:
    pixels = np.full((100, 100), 2**60 + 1, "int64")
    write_tile(tmp_path / "tiles" / "a.tif", pixels, LEFT, TOP, STEP, crs="EPSG:32631")
    report = ci.init(write_spec(tmp_path, "nearest", "int64", 0)).ingest()
    assert report.written == 0
    assert "rounds above 2**53" in report.failed[0].error


@pytest.mark.parametrize("nodata", ["70000", "3.5", ".nan"])
def test_nodata_that_no_pixel_can_have_is_none(tmp_path: Path, nodata: str) -> None:
    pixels = whole("uint8")
    cut(tmp_path, pixels, nodata=None)
    spec = write_spec(tmp_path, "nearest", "int16", -1, more=f", nodata: {nodata}")
    _, found = ingested(spec)
    marked = warp_whole(spec, pixels.astype("int16") + 1, "nearest") - 1
    assert np.array_equal(found, marked)


def test_tile_at_another_place_than_its_name_says_is_refused(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(1, 200, (250, 350), dtype=np.uint8)
    write_tile(tmp_path / "tiles" / "y0_x0.tif", pixels, 1.5 + 350 / 1500, 45.2 - 250 / 1500, 1 / 1500)
    spec = write_spec(tmp_path, "nearest")
    spec.write_text(spec.read_text().replace("source: {", 'source: {href: "tiles/{id}.tif", '))
    report = ci.init(spec).ingest()
    assert (report.written, report.empty) == (0, 0)
    assert "by its name it belongs at y 0:250" in report.failed[0].error


def test_another_kernel_makes_the_slots_anew(tmp_path: Path) -> None:
    pixels = whole("uint8")
    cut(tmp_path, pixels)
    cube, _ = ingested(write_spec(tmp_path, "nearest"))
    again = ci.init(write_spec(tmp_path, "mode"), update=True)
    assert again.ingest().skipped == 0
    assert np.array_equal(again.dataset()["v"].values, warp_whole(tmp_path / "grid.yaml", pixels, "mode"))
    assert cube.ingest().written == 0


GLOBE = """\
name: globe
crs: EPSG:4326
grid: {{origin: {{x: {west}, y: 60}}, resolution: {{x: 1/2, y: -1/2}}, shape: {{y: 240, x: 720}}, region: {{y: 120, x: 120}}}}
variables: {{v: {{dtype: int16, fill_value: -1, chunks: {{y: 60, x: 60}}, source: {{file: {file}{more}}}}}}}
store: ./cube.icechunk
"""


@pytest.mark.parametrize("west", [-180, 0])
@pytest.mark.parametrize("kind", ["tif", "nc", "warped"])
def test_longitudes_from_0_to_360_and_from_180_west_are_the_same_places(tmp_path: Path, west: int, kind: str) -> None:
    """A raster of the one kind fills a grid of the other, whole."""
    import xarray as xr

    own = 0 if west else -180
    n = 2 if kind != "warped" else 4
    pixels = np.random.default_rng(4).integers(0, 1000, (120 * n, 360 * n)).astype("int16")
    lon = own + (np.arange(360 * n) + 0.5) / n
    if kind == "nc":
        coords = {"lat": 60 - (np.arange(120 * n) + 0.5) / n, "lon": lon}
        xr.DataArray(pixels, dims=("lat", "lon"), coords=coords, name="t").to_netcdf(tmp_path / "t.nc", engine="h5netcdf")  # fmt: skip
    else:
        write_tile(tmp_path / "t.tif", pixels, own, 60, 1 / n)
    more = {"nc": ", array: t", "warped": ", resampling: nearest"}.get(kind, "")
    (tmp_path / "grid.yaml").write_text(GLOBE.format(west=west, file="t.nc" if kind == "nc" else "t.tif", more=more))
    cube, found = ingested(tmp_path / "grid.yaml")
    assert cube.status().done == 12
    there = cube.dataset()["x"].values
    columns = np.floor((there - own) % 360 * n + 1e-9).astype(int)
    rows = np.arange(240) * n // 2 + (1 if kind == "warped" else 0)
    expected = pixels[rows][:, columns]
    if kind == "warped":  # centres lie between four pixels: GDAL takes the one to the lower right
        assert np.count_nonzero(found == expected) > 0.99 * found.size
    else:
        assert np.array_equal(found, expected)
    assert (found >= 0).all()
    assert [p for p in cube.plan(redo=True).problems if p.kind == "gap"] == []


def test_archive_that_is_larger_than_the_grid_is_no_failure(tmp_path: Path) -> None:
    """A tile elsewhere is not used; if all are elsewhere, plan and status say that there is none."""
    pixels = whole("uint8")
    cut(tmp_path, pixels)
    write_tile(tmp_path / "tiles" / "far.tif", pixels[:SIZE, :SIZE], LEFT, TOP - 900_000, STEP, crs="EPSG:32631", nodata=0)  # fmt: skip
    spec = write_spec(tmp_path, "nearest")
    cube, found = ingested(spec)
    assert np.array_equal(found, warp_whole(spec, pixels, "nearest"))
    for i in ("00", "01", "10", "11"):
        (tmp_path / "tiles" / f"{i}.tif").unlink()
    assert [p.kind for p in cube.plan().problems] == ["none"]
