"""A cube as files again: tiles → cube → tiles, bit for bit; mosaics, tables, running it again, and folders that do not suit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely

import cubeingest as ci
from cubeingest.cli.infer import infer  # noqa: F401  (the command that takes tiles back)
from cubeingest.errors import GridError, StoreError
from tests import test_blocks as blocks
from tests.conftest import Ran, World, write_tile

Invoke = Callable[..., Ran]
Make = Callable[[str], ci.Cube]


def filled(world: World) -> ci.Cube:
    cube = ci.init(world.spec_file)
    cube.ingest()
    return cube


def names(folder: Path, suffix: str = ".tif") -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob(f"*{suffix}")}


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read(1)


# ---- tiles → cube → tiles -------------------------------------------------------------------------------------


def test_tiles_come_back_bit_for_bit_under_their_names(world: World, tmp_path: Path) -> None:
    world.add_tile(2005, "20N_010E", np.full((100, 100), 255, np.uint8))
    report = filled(world).export(tmp_path / "out", name="{year}/{id}.tif")
    assert (report.planned, report.written, report.empty, report.absent, report.exit_code) == (7, 7, 1, 4, 0)
    expected = {
        f"{y}/{r}.tif"
        for y, rs in ((2000, "20N_000E 20N_010E 10N_000E 10N_010E 10N_020E"), (2005, "20N_000E 10N_020E"))
        for r in rs.split()
    }
    assert names(tmp_path / "out") == expected
    for name in expected:
        with rasterio.open(tmp_path / "tiles" / name) as tile, rasterio.open(tmp_path / "out" / name) as out:
            assert np.array_equal(tile.read(1), out.read(1))
            assert (tile.transform, tile.crs, tile.shape, tile.dtypes) == (
                out.transform,
                out.crs,
                out.shape,
                out.dtypes,
            )
            assert out.nodata == 255
            assert out.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert report.bytes == sum((tmp_path / "out" / n).stat().st_size for n in expected)


DTYPES = {
    False: {"bool": False, "int8": -128, "int16": -9999, "uint32": 0, "float32": float("nan")},
    True: {"uint8": 0, "uint16": 65535, "int64": -9999, "uint64": 3, "float16": float("nan"), "float64": -1e300},
}  # fmt: skip


@pytest.mark.parametrize("south_up", [False, True])
def test_every_dtype_comes_back_in_grids_of_either_direction(make_cube: Make, tmp_path: Path, south_up: bool) -> None:
    """With partial regions at both ends, chunks of several axis values, and tiles that cut regions."""
    fills = DTYPES[south_up]
    variables = "".join(
        f"  {dtype}: {{dtype: {dtype}, fill_value: {json.dumps(fill) if fill == fill else '.nan'}, chunks: {{band: 2, y: 20, x: 10}}}}\n"
        for dtype, fill in fills.items()
    )
    folder = tmp_path / str(south_up)
    spec = f"""\
name: made
crs: EPSG:32633
grid:
  origin: {{x: 500000, y: 4000000}}
  resolution: {{x: 10, y: {"10" if south_up else "-10"}}}
  shape: {{y: 50, x: 70}}
  region: {{y: 40, x: 40}}
axes: {{band: {{values: [red, nir, swir]}}}}
variables:
{variables}"""
    cube = ci.init(ci.read_spec(_write(tmp_path / "spec.yaml", spec)), folder / "cube")
    rng = np.random.default_rng(3)
    whole = {d: rng.integers(0, 2 if d == "bool" else 120, (3, 50, 70)).astype(d) for d in fills}
    for d, fill in fills.items():
        whole[d][:, 3:30, 5:50] = fill
        if whole[d].dtype.kind == "f":
            whole[d] += rng.random((3, 50, 70)).astype(d) * (whole[d] > 0)
    bands = ("red", "nir", "swir")

    def source(geobox: Any, band: str) -> dict[str, np.ndarray]:
        y, x = cube.grid.window(tuple(geobox.boundingbox))
        return {d: pixels[bands.index(band), y, x] for d, pixels in whole.items()}

    cube.ingest(source=source)
    for n, tile in enumerate((None, (30, 35))):
        out = folder / f"out{n}"
        cube.export(out, tile=tile)
        for d, pixels in whole.items():
            for i, band in enumerate(bands):
                found = np.full((50, 70), fills[d]).astype(d)
                for path in (out / d / band).glob("*.tif"):
                    with rasterio.open(path) as raster:
                        y, x = cube.grid.window(tuple(raster.bounds) if not south_up else _bounds(raster))
                        assert (raster.transform.e > 0) == south_up
                        found[y, x] = raster.read(1).astype(d)
                assert found.tobytes() == pixels[i].tobytes(), (d, band)
                with rasterio.open(out / f"{d}_{band}.vrt") as vrt:
                    assert np.array_equal(vrt.read(1), pixels[i], equal_nan=pixels.dtype.kind == "f")
                    assert vrt.transform == cube.grid.affine()


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _bounds(raster: Any) -> tuple[float, float, float, float]:
    t = raster.transform
    return t.c, t.f, t.c + raster.width * t.a, t.f + raster.height * t.e


EUROPE = (-20, 30, 40, 60)


@pytest.fixture(scope="module")
def coasts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ci.Cube]:
    """The demo's tiles of real coasts, and a cube of those of Europe."""
    from cubeingest.demo import cut_tiles

    folder = tmp_path_factory.mktemp("coasts")
    data = Path(ci.__file__).parent / "data"
    shutil.copyfile(data / "land.yaml", folder / "land.yaml")
    cut_tiles(data / "land.tif", ci.read_spec(folder / "land.yaml").grid, folder / "tiles")
    cube = ci.init(folder / "land.yaml")
    cube.ingest(bbox=EUROPE)
    return folder, cube


def test_real_tiles_come_back_and_make_the_same_cube_again(
    coasts: tuple[Path, ci.Cube], tmp_path: Path, invoke: Invoke
) -> None:
    """tiles → cube → export → infer → init → ingest → the same pixels."""
    folder, cube = coasts
    report = cube.export(tmp_path / "out", bbox=EUROPE, gti=True)
    written = names(tmp_path / "out" / "land")
    assert len(written) == report.written == 17
    for name in written:
        assert np.array_equal(read(folder / "tiles" / name), read(tmp_path / "out" / "land" / name))
    spec = invoke("infer", *sorted((tmp_path / "out" / "land").glob("*.tif")), cwd=tmp_path)
    assert spec.code == 0, spec.err
    again = ci.init(_write(tmp_path / "again.yaml", spec.out), tmp_path / "again.icechunk")
    assert again.ingest().exit_code == 0
    assert again.verify().exit_code == 0
    ds, was = again.dataset(), cube.dataset()["land"].sel(x=slice(-20, 40), y=slice(60, 30))
    (name,) = ds.data_vars
    assert np.array_equal(ds[name].values.squeeze(), was.values)
    assert np.array_equal(ds["y"], was["y"])
    assert np.array_equal(ds["x"], was["x"])


def test_mosaics_are_the_cube_for_gdal_wherever_it_is_opened_from(coasts: tuple[Path, ci.Cube], tmp_path: Path) -> None:
    _, cube = coasts
    report = cube.export(tmp_path / "a", bbox=(-20, 30, 0, 60), gti=True)
    assert report.mosaics == ["land.vrt", "land.gti.gpkg"]
    cube.export(tmp_path / "a", bbox=(0, 30, 40, 60), gti=True)
    shutil.move(tmp_path / "a", tmp_path / "b")
    expected = np.full(cube.grid.shape_yx, 255, "uint8")
    y, x = cube.grid.window((-20, 30, 40, 60))
    expected[y, x] = cube.dataset()["land"].values[y, x]
    drivers = []
    for name in report.mosaics:
        with rasterio.open(tmp_path / "b" / name) as mosaic:
            assert np.array_equal(mosaic.read(1), expected)
            assert (mosaic.transform, mosaic.crs.to_epsg(), mosaic.nodata) == (cube.grid.affine(), 4326, 255)
            drivers.append(mosaic.driver)
            assert mosaic.units == ("%",)
    assert drivers == ["VRT", "GTI"]


def test_index_of_a_grid_from_south_to_north_is_turned_round(make_cube: Make, tmp_path: Path) -> None:
    cube = ci.init(_write(tmp_path / "s.yaml", """\
name: up
crs: EPSG:3035
grid: {origin: {x: 4000000, y: 3000000}, resolution: {x: 25, y: 25}, shape: {y: 40, x: 30}, region: {y: 20, x: 30}}
variables: {v: {dtype: int16, fill_value: -1, chunks: {y: 20, x: 30}, attrs: {units: m, scale_factor: 0.1}}}
store: ./up.icechunk
"""))  # fmt: skip
    pixels = np.arange(1200, dtype="int16").reshape(40, 30)
    cube.ingest(source=lambda geobox: pixels[cube.grid.window(tuple(geobox.boundingbox))])
    cube.export(tmp_path / "out", gti=True)
    with rasterio.open(tmp_path / "out" / "v.gti.gpkg") as index:
        assert np.array_equal(index.read(1), pixels[::-1])
        assert (index.transform.f, index.transform.e, index.crs.to_epsg()) == (3001000, -25, 3035)
        assert index.scales == (0.1,)
    with rasterio.open(tmp_path / "out" / "v.vrt") as vrt:
        assert np.array_equal(vrt.read(1), pixels)
        assert vrt.scales == (0.1,)


def test_overviews_of_files_are_made_as_the_cubes_own(make_cube: Make, tmp_path: Path) -> None:
    cube = ci.init(_write(tmp_path / "s.yaml", """\
name: big
crs: EPSG:4326
grid: {origin: {x: 0, y: 0}, resolution: {x: 1/100, y: -1/100}, shape: {y: 600, x: 700}, region: {y: 600, x: 700}}
variables:
  classes: {dtype: uint8, fill_value: 0, chunks: {y: 100, x: 100}, attrs: {flag_values: [1, 2], flag_meanings: a b, flag_colors: "#ff0000 #00ff00"}}
  height: {dtype: float32, fill_value: .nan, chunks: {y: 100, x: 100}, attrs: {units: m, long_name: height above sea}}
store: ./big.icechunk
"""))  # fmt: skip
    rng = np.random.default_rng(1)
    made = {
        "classes": rng.integers(0, 3, (600, 700), dtype="uint8"),
        "height": rng.normal(size=(600, 700)).astype("float32"),
    }
    cube.ingest(source=lambda geobox: made)
    cube.overviews(levels=1)
    cube.export(tmp_path / "out")
    for name in made:
        with rasterio.open(tmp_path / "out" / name / "y0_x0.tif", overview_level=0) as raster:
            assert np.array_equal(raster.read(1), cube.dataset(level=1)[name], equal_nan=True)
    with rasterio.open(tmp_path / "out" / "classes" / "y0_x0.tif") as raster:
        assert [raster.colormap(1)[v] for v in (1, 2)] == [(255, 0, 0, 255), (0, 255, 0, 255)]
        assert raster.tags(1) == {"flag_values": "1 2", "flag_meanings": "a b"}
    with rasterio.open(tmp_path / "out" / "height" / "y0_x0.tif") as raster:
        assert (raster.units, raster.descriptions) == (("m",), ("height above sea",))


# ---- running it again -----------------------------------------------------------------------------------------


def test_again_only_what_changed_is_written_and_what_is_gone_is_taken_away(world: World, tmp_path: Path) -> None:
    cube = filled(world)
    out = tmp_path / "out"
    cube.tag("v1")
    assert cube.export(out).written == 7
    before = {n: (out / n).stat().st_mtime_ns for n in names(out)}
    assert (cube.export(out).written, cube.export(out).current) == (0, 7)
    world.add_tile(2000, "20N_000E")
    world.add_tile(2005, "10N_020E", np.full((100, 50), 255, np.uint8))
    cube.ingest()
    report = cube.export(out)
    assert (report.written, report.current, report.removed, report.empty) == (1, 5, 1, 1)
    assert {n for n in before if not (out / n).exists() or (out / n).stat().st_mtime_ns != before[n]} == {"cover/2000/20N_000E.tif", "cover/2005/10N_020E.tif"}  # fmt: skip
    assert np.array_equal(read(out / "cover" / "2000" / "20N_000E.tif"), world.read_tile(2000, "20N_000E"))
    back = cube.at("v1").export(out)
    assert (back.written, back.current) == (2, 5)
    with rasterio.open(out / "cover_2005.vrt") as vrt:
        assert np.array_equal(vrt.read(1), cube.at("v1").dataset()["cover"].sel(year=2005))


def test_redone_slots_of_the_same_pixels_are_not_written_again(world: World, tmp_path: Path) -> None:
    cube = filled(world)
    cube.export(tmp_path / "out")
    cube.ingest(redo=True)
    assert cube.export(tmp_path / "out").current == 7


def test_interrupted_export_leaves_whole_files_and_goes_on(world: World, tmp_path: Path) -> None:
    cube = filled(world)
    out = tmp_path / "out"

    def stop(progress: Any) -> None:
        if progress.result is not None:
            os.kill(os.getpid(), signal.SIGINT)

    report = cube.export(out, workers=1, on_progress=stop)
    assert (report.signum, report.exit_code) == (signal.SIGINT, 130)
    assert 0 < report.written < 7
    assert report.unfinished == 7 - report.written
    for name in names(out):
        year, region = Path(name).parts[1], Path(name).stem
        assert np.array_equal(read(out / name), world.read_tile(int(year), region))
    assert cube.export(out).current >= report.written
    assert len(names(out)) == 7


def test_what_a_killed_export_left_is_swept_and_a_running_ones_is_not(world: World, tmp_path: Path) -> None:
    from cubeingest.export.scratch import SCRATCH, scratch_folder

    cube = filled(world)
    out = tmp_path / "out"
    killed = out / SCRATCH / "0123456789ab"  # its lock file is there, but nobody holds it
    killed.mkdir(parents=True)
    killed.with_suffix(".lock").touch()
    (killed / "half.part").write_bytes(b"half")
    with scratch_folder(out) as running:
        (running / "other.part").touch()
        cube.export(out)
        assert [p.name for p in (out / SCRATCH).rglob("*.part")] == ["other.part"]
    assert not (out / SCRATCH).exists()


@pytest.mark.slow
def test_killed_export_leaves_no_half_file(tmp_path: Path) -> None:
    cube = ci.init(_write(tmp_path / "s.yaml", """\
name: many
crs: EPSG:4326
grid: {origin: {x: 0, y: 0}, resolution: {x: 1/100, y: -1/100}, shape: {y: 2000, x: 8000}, region: {y: 500, x: 500}}
variables: {v: {dtype: float64, fill_value: .nan, chunks: {y: 500, x: 500}}}
store: ./many.icechunk
"""))  # fmt: skip
    cube.ingest(source=lambda geobox: np.random.default_rng(int(geobox.boundingbox.left * 7)).random((500, 500)))
    out = tmp_path / "out"
    for n in (1, 20, 40):
        process = subprocess.Popen([sys.executable, "-m", "cubeingest", "export", "--store", cube.store.uri, "--output", out], stdout=subprocess.DEVNULL)  # fmt: skip
        deadline = time.monotonic() + 60
        while len(names(out)) < n and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.wait()
        pixels = cube.dataset()["v"]
        for name in names(out):
            with rasterio.open(out / name) as raster:
                y, x = cube.grid.window(tuple(raster.bounds))
                assert np.array_equal(raster.read(1), pixels[y, x])
    assert cube.export(out).planned == len(names(out)) == 64


@pytest.mark.slow
def test_workers_write_the_same_files(world: World, tmp_path: Path) -> None:
    cube = filled(world)
    assert cube.export(tmp_path / "one", workers=1).written == cube.export(tmp_path / "two", workers=2).written == 7
    for name in names(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_regions_that_refer_to_tiles_are_exported_as_long_as_these_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    blocks.write_tiles(tmp_path)
    cube = ci.init(blocks.write_spec(tmp_path), tmp_path / "cube")
    assert cube.ingest(virtual=True).written == 4
    (variable,) = (v.name for v in cube.spec.variables)
    assert cube.export(tmp_path / "out").written == 4
    assert cube.export(tmp_path / "out").current == 4
    for name in names(tmp_path / "out" / variable):
        assert np.array_equal(read(tmp_path / "out" / variable / name), read(tmp_path / "tiles" / name))
    blocks.tile(tmp_path, "2000/y0_x0.tif", blocks.pixels_of((64, 64), seed=8))
    report = cube.export(tmp_path / "again")
    assert (report.written, report.exit_code) == (3, 1)
    assert [f["files"] for f in report.failed] == [[f"{variable}/2000/y0_x0.tif"]]
    assert "a tile that the cube refers to has changed" in report.failed[0]["error"]


# ---- what is selected, and what files are called --------------------------------------------------------------


def test_selection_names_and_tiles_of_other_sizes(world: World, tmp_path: Path) -> None:
    cube = filled(world)
    report = cube.export(
        tmp_path / "a", year=2000, region="20N_000E", tile=(55, 75), name="t_{variable}_{year:05d}_{id}.tiff"
    )
    assert (report.written, report.planned) == (4, 4)
    assert names(tmp_path / "a", ".tiff") == {f"t_cover_02000_y{y}_x{x}.tiff" for y in (0, 1) for x in (0, 1)}
    whole = cube.dataset()["cover"].sel(year=2000).values
    assert np.array_equal(read(tmp_path / "a" / "t_cover_02000_y1_x1.tiff"), whole[55:110, 75:150])
    assert (
        cube.export(tmp_path / "b", year=2000, tile=(50, 50)).planned == 5 * 4 - 2
    )  # edges are whole degrees: ids stay
    assert "cover/2000/15N_010E.tif" in names(tmp_path / "b")
    assert cube.export(tmp_path / "c", limit=2).planned == 2
    parts = [cube.export(tmp_path / "d", part=(k, 3)).planned for k in (1, 2, 3)]
    assert sum(parts) == len(names(tmp_path / "d")) == 7


def test_variables_without_axes_have_files_of_their_own(make_cube: Make, tmp_path: Path) -> None:
    cube = make_cube("""\
axes: {time: {start: 2000-01-01, stop: 2000-02-01, freq: MS}}
variables:
  a: {dtype: int16, fill_value: -1, chunks: {y: 50, x: 50}}
  b: {dtype: int16, fill_value: -1, chunks: {y: 50, x: 50}, axes: []}
""")
    cube.ingest(source=lambda geobox, time=None: np.full(geobox.shape, 1, "int16"), variable="a", region="y0_x0")
    cube.ingest(source=lambda geobox: np.full(geobox.shape, 2, "int16"), variable="b", region="y0_x0")
    report = cube.export(tmp_path / "out")
    assert names(tmp_path / "out") == {"a/2000-01-01/y0_x0.tif", "a/2000-02-01/y0_x0.tif", "b/y0_x0.tif"}
    assert report.pending == 15
    assert sorted(report.mosaics) == ["a_2000-01-01.vrt", "a_2000-02-01.vrt", "b.vrt"]
    cube.export(tmp_path / "m", variable="a", name="{time:%Y/%m}/{id}.tif")
    assert names(tmp_path / "m") == {"2000/01/y0_x0.tif", "2000/02/y0_x0.tif"}
    with pytest.raises(GridError, match=r"\{time\} is not known of variable 'b'"):
        cube.export(tmp_path / "m", name="{variable}{time}{id}.tif")


# ---- tables ---------------------------------------------------------------------------------------------------


def test_table_has_each_pixel_that_holds_data_as_a_row(world: World, tmp_path: Path) -> None:
    pixels = world.pixels("20N_000E")
    pixels[5:40] = 255
    world.add_tile(2000, "20N_000E", pixels)
    cube = filled(world)
    out = tmp_path / "out"
    report = cube.export(out, format="parquet")
    assert names(out, ".parquet") == {
        f"{r}.parquet" for r in ("20N_000E", "20N_010E", "10N_000E", "10N_010E", "10N_020E")
    }
    assert (report.written, report.absent, report.mosaics) == (5, 1, [])
    ds = cube.dataset().sel(x=slice(0, 10), y=slice(20, 10))
    frame = ds["cover"].to_dataframe()["cover"]
    expected = frame[frame != 255].reset_index()
    found = pq.read_table(out / "20N_000E.parquet")
    assert found.column_names == ["year", "x", "y", "geometry", "cover"]
    for name in ("year", "x", "y", "cover"):
        assert np.array_equal(found[name].to_numpy(), expected[name].to_numpy()), name
    points = shapely.from_wkb(found["geometry"].to_pylist()[:50])
    assert np.array_equal(shapely.get_x(points), found["x"].to_numpy()[:50])
    geo = json.loads(found.schema.metadata[b"geo"])
    assert (geo["version"], geo["primary_column"], geo["columns"]["geometry"]["geometry_types"]) == (
        "1.1.0",
        "geometry",
        ["Point"],
    )
    assert geo["columns"]["geometry"]["crs"]["id"] == {"authority": "EPSG", "code": 4326}
    count, mean = duckdb.sql(f"SELECT count(*), avg(cover) FROM '{out}/*.parquet' WHERE year = 2000").fetchall()[0]
    whole = cube.dataset()["cover"].sel(year=2000).values
    assert (count, mean) == ((whole != 255).sum(), pytest.approx(whole[whole != 255].mean()))
    assert cube.export(out, format="parquet").current == 5
    world.add_tile(2005, "10N_020E")
    cube.ingest()
    assert cube.export(out, format="parquet").written == 1


def test_variables_of_the_same_axes_share_rows_and_are_null_where_they_have_none(
    make_cube: Make, tmp_path: Path
) -> None:
    cube = make_cube("""\
axes: {band: {values: [red, nir]}}
variables:
  a: {dtype: int16, fill_value: -1, chunks: {band: 2, y: 50, x: 50}}
  b: {dtype: float32, fill_value: .nan, chunks: {band: 2, y: 100, x: 50}}
  c: {dtype: bool, fill_value: false, chunks: {y: 50, x: 50}, axes: []}
""")

    def source(geobox: Any, band: str) -> Any:
        a, b = np.full((100, 100), -1, "int16"), np.full((100, 100), np.nan, "float32")
        a[0, 0], b[0, 0], b[99, 1], a[60, 60] = 5, 0.5, 1.5, 7 if band == "nir" else -1
        return {"a": a, "b": b}

    cube.ingest(source=source, variable=["a", "b"], region="y0_x0")
    cube.ingest(source=lambda geobox: np.eye(100, dtype=bool), variable="c", region="y0_x0")
    cube.export(tmp_path / "out", format="parquet")
    assert names(tmp_path / "out", ".parquet") == {"band/y0_x0.parquet", "static/y0_x0.parquet"}
    rows = pq.read_table(tmp_path / "out" / "band" / "y0_x0.parquet", columns=["band", "a", "b"]).to_pylist()
    assert [tuple(r.values()) for r in rows] == [
        ("red", 5, 0.5), ("red", None, 1.5), ("nir", 5, 0.5), ("nir", 7, None), ("nir", None, 1.5),
    ]  # fmt: skip
    static = pq.read_table(tmp_path / "out" / "static" / "y0_x0.parquet")
    assert (static.num_rows, sum(static["c"].to_pylist())) == (10_000, 100)


# ---- what cannot be -------------------------------------------------------------------------------------------


def test_files_of_others_are_never_overwritten(world: World, tmp_path: Path) -> None:
    cube = filled(world)
    foreign = write_tile(tmp_path / "out" / "cover" / "2000" / "20N_000E.tif", np.ones((3, 3), np.uint8), 0, 0)
    kept = foreign.read_bytes()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"20N_000E.tif' would be overwritten, but this cube did not make it"):
        cube.export(tmp_path / "out")
    assert foreign.read_bytes() == kept
    assert names(tmp_path / "out", "") == {"cover", "cover/2000", "cover/2000/20N_000E.tif", "notes.txt"}
    foreign.unlink()
    cube.export(tmp_path / "out")
    with pytest.raises(
        StoreError, match=r"holds 'cover 2000 20N_000E \(0:100, 0:100\)', which 'cover 2000 20N_000E \(0:50, 0:50\)'"
    ):
        cube.export(tmp_path / "out", tile=(50, 50))
    other = ci.init(world.spec_file, tmp_path / "other.icechunk")
    other.ingest()
    with pytest.raises(StoreError, match="and 6 others would be overwritten"):
        other.export(tmp_path / "out")
    (tmp_path / "v" / "cover_2000.vrt").parent.mkdir()
    (tmp_path / "v" / "cover_2000.vrt").write_text("<VRTDataset/>")
    with pytest.raises(StoreError, match=r"cover_2000\.vrt' would be overwritten"):
        cube.export(tmp_path / "v")
    assert names(tmp_path / "v") == set()


def test_disk_that_is_full_is_said_in_one_line(world: World, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    world.add_tile(2000, "10N_010E", rng.integers(0, 255, (100, 100), dtype=np.uint8))
    filled(world)
    code = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (6000, -1)); from cubeingest.cli import main; main()"  # fmt: skip
    command = [sys.executable, "-c", code, "export", "--store", world.store, "--output", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: cannot write into '{tmp_path}/out': File too large (")
    assert done.stderr.count("\n") == 1
    for name in names(tmp_path / "out"):
        assert np.array_equal(read(tmp_path / "out" / name), world.read_tile(int(Path(name).parts[1]), Path(name).stem))
    assert ci.open(world.store).export(tmp_path / "out").planned == len(names(tmp_path / "out"))


def test_command_says_what_it_did_and_what_cannot_be(world: World, invoke: Invoke) -> None:
    invoke("init", "grid.yaml")
    nothing = invoke("export", "--output", "out")
    assert nothing.code == 2
    assert "nothing to export: of 12 tiles selected 7 are pending, 5 absent, 0 empty" in nothing.err
    assert not (world.folder / "out").exists()
    invoke("ingest")
    done = invoke("export", "--output", "out", "--year", 2000, "--gti")
    assert done.code == 0, done.err
    assert "5 written of 5 files in" in done.out
    assert "left out, since the cube has nothing there: 1 absent" in done.out
    assert "mosaics: cover_2000.vrt, cover_2000.gti.gpkg" in done.out
    again = invoke("export", "--output", "out", "--json")
    assert (again.json["written"], again.json["current"]) == (2, 5)
    assert invoke("export", "--output", "t", "--format", "parquet", "--json").json["written"] == 5
    (world.folder / "file").touch()
    refused = {
        ("--output", "file"): "'file' is a file: name a folder",
        ("--output", "file/out"): "cannot write into",
        ("--output", "small.icechunk/out"): "lies in the cube's own store",
        ("--output", "s3://a/b"): "must be a folder of this machine",
        ("--output", "o", "--tile", "0,10"): "tile y is 0 pixels",
        ("--output", "o", "--tile", "10"): "write rows and columns",
        ("--output", "o", "--name", "{id}"): "must end with .tif",
        ("--output", "o", "--name", "x.tif"): "does not name {id}",
        ("--output", "o", "--name", "../{id}.tif"): "leads out of the output folder",
        ("--output", "o", "--name", "{id}.tif"): "would be the file of both 'cover 2000",
        ("--output", "o", "--name", "{yaer}{id}.tif"): "did you mean 'year'?",
        ("--output", "o", "--name", "{id"): "not a valid pattern",
        ("--output", "o", "--format", "parquet", "--gti"): "gti is an index of rasters",
        ("--output", "o", "--yaer", "2000"): "no such option: --yaer; did you mean --year?",
    }
    for arguments, message in refused.items():
        ran = invoke("export", *arguments)
        assert (ran.code, ran.out) == (2, ""), arguments
        assert message in ran.err, ran.err
        assert len(ran.err.splitlines()) <= 2
    assert not (world.folder / "o").exists()


def test_cells_of_healpix_are_refused_in_one_line(world: World, invoke: Invoke) -> None:
    spec = "name: cells\ngrid: {type: healpix, order: 4, region_order: 0}\nvariables: {v: {dtype: float32, fill_value: .nan}}\n"
    cube = ci.init(_write(world.folder / "cells.yaml", spec), world.folder / "cells.icechunk")
    refused = {
        ("export", "--output", "out"): "cells of HEALPix are no raster: format parquet writes them as tables",
        ("export", "--output", "out", "--format", "parquet", "--tile", "10,10"): "each file has one region",
        ("rechunk", "v", "--chunks", "cells=256", "--to", "copy.icechunk"): "this is for grids of pixels only",
    }
    for command, message in refused.items():
        ran = invoke(*command, "--store", cube.store.uri)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert message in ran.err
    assert not (world.folder / "out").exists()
    assert not (world.folder / "copy.icechunk").exists()


def test_mosaics_follow_their_tiles_also_when_there_are_none_left(world: World, tmp_path: Path) -> None:
    cube = filled(world)
    out = tmp_path / "out"
    cube.export(out, gti=True)
    for region in ("20N_000E", "10N_020E"):
        world.add_tile(2005, region, np.full((100, 50 if region == "10N_020E" else 100), 255, np.uint8))
    world.add_tile(2000, "20N_000E")
    cube.ingest()
    assert cube.export(out).mosaics == ["cover_2000.vrt", "cover_2000.gti.gpkg"]
    assert names(out, ".vrt") | names(out, ".gpkg") == {"cover_2000.vrt", "cover_2000.gti.gpkg"}
    for name in ("cover_2000.vrt", "cover_2000.gti.gpkg"):
        assert np.array_equal(read(out / name), cube.dataset()["cover"].sel(year=2000))


# ---- folders that were used before ----------------------------------------------------------------------------


def test_table_of_other_axis_values_is_refused_and_stays(world: World, tmp_path: Path) -> None:
    cube = filled(world)
    out = tmp_path / "out"
    assert cube.export(out, format="parquet", year=2000).written == 5
    kept = {n: (out / n).read_bytes() for n in names(out, ".parquet")}
    for years in ({"year": 2005}, {}):  # of 2005 some regions have nothing, which would be taken away
        with pytest.raises(StoreError, match=r"holds 'cover year=2000 .*name another output folder"):
            cube.export(out, format="parquet", **years)
    assert kept == {n: (out / n).read_bytes() for n in names(out, ".parquet")}
    assert cube.export(out, format="parquet", year=2000).current == 5


def test_regions_that_became_empty_are_taken_away_also_if_nothing_else_is_selected(
    world: World, tmp_path: Path
) -> None:
    cube = filled(world)
    out = tmp_path / "out"
    cube.export(out)
    for region, width in (("20N_000E", 100), ("10N_020E", 50)):
        world.add_tile(2005, region, np.full((100, width), 255, np.uint8))
    cube.ingest()
    report = cube.export(out, year=2005)
    assert (report.planned, report.removed, report.mosaics, report.exit_code) == (0, 2, [], 0)
    assert names(out / "cover" / "2005") == set()
    assert not (out / "cover_2005.vrt").exists()
    with pytest.raises(GridError, match="nothing to export"):
        cube.export(out, year=2005)


def test_part_in_which_nothing_lies_is_a_report_of_zeros(world: World, tmp_path: Path) -> None:
    cube = filled(world)
    reports = [cube.export(tmp_path / "out", year=2005, part=(k, 9)) for k in range(1, 10)]
    assert sum(r.planned for r in reports) == 2
    assert [r.exit_code for r in reports] == [0] * 9


def test_names_with_what_gdal_takes_for_a_document_are_written_otherwise(make_cube: Make, tmp_path: Path) -> None:
    cube = make_cube("""\
axes: {sort: {values: ["<5"]}}
variables: {a: {dtype: uint8, fill_value: 0, chunks: {y: 50, x: 50}}}
""")
    cube.ingest(source=lambda geobox, sort: np.ones(geobox.shape, "uint8"), region="y0_x0")
    assert (cube.export(tmp_path / "out").written, cube.export(tmp_path / "out").current) == (1, 1)
    assert names(tmp_path / "out") == {"a/_5/y0_x0.tif"}
    with pytest.raises(StoreError, match="has '<' in its path"):
        cube.export(tmp_path / "<out")


@pytest.mark.parametrize("tile", [5, (2.5, 3), (5,), "ab"])
def test_tile_that_is_no_size_is_refused(world: World, tmp_path: Path, tile: Any) -> None:
    with pytest.raises(GridError, match="is no size: give pixels as"):
        filled(world).export(tmp_path / "out", tile=tile)


def test_mosaics_of_one_name_are_refused(make_cube: Make, tmp_path: Path) -> None:
    cube = make_cube("""\
axes: {year: {values: [2000, 2005]}}
variables:
  cover: {dtype: uint8, fill_value: 0, chunks: {y: 50, x: 50}}
  COVER_2000: {dtype: uint8, fill_value: 0, chunks: {y: 50, x: 50}, axes: []}
""")
    cube.ingest(source=lambda geobox, year: np.ones(geobox.shape, "uint8"), variable="cover", region="y0_x0")
    cube.ingest(source=lambda geobox: np.ones(geobox.shape, "uint8"), variable="COVER_2000", region="y0_x0")
    out = tmp_path / "out"
    with pytest.raises(GridError, match=r"the mosaic of both 'cover year=2000' and 'COVER_2000': .* --variable"):
        cube.export(out)
    assert not out.exists()
    cube.export(out, variable="cover", gti=True)
    if sys.platform == "linux":
        (out / "cover_2000.vrt").rename(out / "COVER_2000.vrt")  # as where letters' case does not count
    kept = (out / "COVER_2000.vrt").read_bytes()
    with pytest.raises(StoreError, match=r"is the mosaic of something else, which that of 'COVER_2000' would"):
        cube.export(out, variable="COVER_2000")
    assert (out / "COVER_2000.vrt").read_bytes() == kept
    assert cube.export(tmp_path / "other", variable="COVER_2000").mosaics == ["COVER_2000.vrt"]


def test_mosaic_of_booleans_is_true_where_there_is_nothing_if_that_is_the_fill_value(
    make_cube: Make, tmp_path: Path
) -> None:
    cube = make_cube("variables: {b: {dtype: bool, fill_value: true, chunks: {y: 50, x: 50}}}\n")
    cube.ingest(source=lambda geobox: np.eye(100, dtype=bool), region="y0_x0")
    cube.ingest(source=lambda geobox: np.full(geobox.shape, True), region="y0_x1")
    cube.export(tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "b.vrt") as vrt:
        assert np.array_equal(vrt.read(1), cube.dataset()["b"])
        assert vrt.nodata is None
    with pytest.raises(GridError, match="gti cannot say that 'b' is true where there are no tiles"):
        cube.export(tmp_path / "out", gti=True)


def test_what_gdal_noted_beside_a_file_goes_with_it(world: World, tmp_path: Path) -> None:
    cube = filled(world)
    out = tmp_path / "out"
    cube.export(out)
    beside = [f"cover/{n}.tif{s}" for n in ("2000/20N_000E", "2005/10N_020E") for s in (".aux.xml", ".ovr", ".msk")]
    for name in (*beside, "cover/2000/10N_000E.tif.aux.xml", "cover_2000.vrt.aux.xml"):
        (out / name).write_text("<PAMDataset/>")
    assert cube.export(out).current == 7
    assert all((out / name).exists() for name in (*beside, "cover_2000.vrt.aux.xml"))
    world.add_tile(2000, "20N_000E")
    world.add_tile(2005, "10N_020E", np.full((100, 50), 255, np.uint8))
    cube.ingest()
    cube.export(out)
    assert [n for n in (*beside, "cover_2000.vrt.aux.xml") if (out / n).exists()] == []
    assert (out / "cover" / "2000" / "10N_000E.tif.aux.xml").exists()


@pytest.mark.parametrize("size", [100, 600])
def test_half_files_are_made_anew(make_cube: Make, tmp_path: Path, size: int) -> None:
    cube = ci.init(_write(tmp_path / "s.yaml", f"""\
name: one
crs: EPSG:4326
grid: {{origin: {{x: 0, y: 0}}, resolution: {{x: 1/100, y: -1/100}}, shape: {{y: {size}, x: {size}}}, region: {{y: {size}, x: {size}}}}}
variables: {{v: {{dtype: float32, fill_value: .nan, chunks: {{y: 100, x: 100}}, attrs: {{units: m}}}}}}
store: ./one.icechunk
"""))  # fmt: skip
    pixels = np.random.default_rng(0).random((size, size)).astype("float32")
    cube.ingest(source=lambda geobox: pixels)
    out, path = tmp_path / "out", tmp_path / "out" / "v" / "y0_x0.tif"
    cube.export(out)
    whole = path.read_bytes()
    for n in (len(whole) - 1, len(whole) // 2):
        os.truncate(path, n)
        assert cube.export(out).written == 1
        assert path.read_bytes() == whole
    for n in (whole.index(b"<GDALMetadata>") + 50, 300):
        os.truncate(path, n)
        with pytest.raises(StoreError, match=r"it cannot be read: .* delete it"):
            cube.export(out)
        path.write_bytes(whole)


def test_crs_that_geotiff_cannot_hold_is_refused(tmp_path: Path) -> None:
    cube = ci.init(_write(tmp_path / "s.yaml", """\
name: rotated
crs: "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +datum=WGS84"
grid: {origin: {x: -10, y: 10}, resolution: {x: 0.5, y: -0.5}, shape: {y: 40, x: 40}, region: {y: 40, x: 40}}
variables: {v: {dtype: float32, fill_value: .nan, chunks: {y: 20, x: 20}}}
store: ./rotated.icechunk
"""))  # fmt: skip
    cube.ingest(source=lambda geobox: np.ones((40, 40), "float32"))
    with pytest.raises(GridError, match=r"GeoTIFF cannot hold this CRS: .*ob_tran"):
        cube.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert cube.export(tmp_path / "out", format="parquet").written == 1
