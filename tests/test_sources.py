"""Sources that are not one tile a region: each cube equals what numpy pastes from what rasterio or xarray reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr

import cubeingest as ci
from cubeingest import pieces
from tests.conftest import write_tile

RNG = np.random.default_rng(11)


def write_spec(folder: Path, source: str, **changes: str) -> Path:
    """A grid of 20 x 30 degrees, 10 pixels a degree, in regions of 10 x 10 degrees."""
    parts = {
        "origin": "{x: 0, y: 20}", "resolution": "{x: 1/10, y: -1/10}", "shape": "{y: 200, x: 300}", "region": "{y: 100, x: 100}",
        "axes": "{}", "variables": "", "dtype": "int16", "fill": "-1", "chunks": "{y: 50, x: 50}", "more": "",
    } | changes  # fmt: skip
    path = folder / "grid.yaml"
    path.write_text(
        f"name: world\ncrs: EPSG:4326\ngrid:\n  origin: {parts['origin']}\n  resolution: {parts['resolution']}\n"
        f"  shape: {parts['shape']}\n  region: {parts['region']}\naxes: {parts['axes']}\nvariables:\n"
        f"  v:\n    dtype: {parts['dtype']}\n    fill_value: {parts['fill']}\n    chunks: {parts['chunks']}\n    source: {source}\n"
        f"{parts['more']}store: ./cube.icechunk\n"
    )
    return path


def ingested(spec: Path, variable: str = "v") -> tuple[ci.Cube, np.ndarray]:
    cube = ci.init(spec)
    report = cube.ingest()
    assert report.failed == []
    assert cube.verify().exit_code == 0
    assert cube.ingest().written == 0
    return cube, cube.dataset()[variable].values


def some(*shape: int, dtype: str = "int16") -> np.ndarray:
    return RNG.integers(0, 1000, shape).astype(dtype)


# ---- many tiles in a region -----------------------------------------------------------------------------------


@pytest.mark.parametrize("open_at_once", [128, pytest.param(3, marks=pytest.mark.slow)])
def test_hundred_tiles_of_a_degree_fill_a_region_of_ten(
    tmp_path: Path, open_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "OPEN_AT_ONCE", open_at_once)
    world = some(200, 300)
    for bottom in range(20):
        for left in range(30):
            if (bottom, left) == (3, 7):
                world[160:170, 70:80] = -1
                continue
            y = 200 - (bottom + 1) * 10
            write_tile(tmp_path / "tiles" / f"N{bottom:02}E{left:03}.tif", world[y : y + 10, left * 10 : left * 10 + 10], left, bottom + 1)  # fmt: skip
    source = (
        '{href: "tiles/{id}.tif", tiles: {glob: "tiles/*.tif"}, tile: {y: 10, x: 10}, id: "{bottom:H02}{left:H003}"}'
    )
    cube, found = ingested(write_spec(tmp_path, source))
    assert np.array_equal(found, world)
    gaps = [p for p in cube.plan(redo=True).problems if p.kind == "gap"]
    assert [(p.region, p.message) for p in gaps] == [
        ("y1_x0", "100 pixels of the region have no tile: they stay fill value")
    ]


def test_tiles_named_by_their_corner_that_share_a_row_of_points(tmp_path: Path) -> None:
    """As SRTM: 11 points for 10 steps, edges half a step outside the degree. A pixel comes from the tile that it is named in."""
    world = some(201, 301)
    for bottom in range(20):
        for left in range(30):
            y, x = 200 - (bottom + 1) * 10, left * 10
            pixels = world[y : y + 11, x : x + 11].copy()
            pixels[-1, :], pixels[:, -1] = 5000 + bottom, 6000 + left  # what the neighbour says is not taken
            write_tile(tmp_path / "srtm" / f"N{bottom:02}E{left:03}.tif", pixels, left - 0.05, bottom + 1.05)
    source = '{href: "srtm/{id}.tif", tiles: {glob: "srtm/*.tif"}, tile: {y: 10, x: 10}, overlap: {y: 1, x: 1}, id: "{bottom:H02}{left:H003}"}'
    _, found = ingested(write_spec(tmp_path, source, origin="{x: -1/20, y: 401/20}"))
    assert np.array_equal(found, world[:200, :300])


def test_of_tiles_that_overlap_by_headers_the_first_listed_with_data_wins(tmp_path: Path) -> None:
    a, b = some(60, 60), some(60, 60)
    a[20:40, 50:] = -1
    write_tile(tmp_path / "b.tif", b, 5, 20, nodata=-1)
    write_tile(tmp_path / "a.tif", a, 0, 20, nodata=-1)
    (tmp_path / "tiles.txt").write_text("a.tif\nb.tif\n")
    cube, found = ingested(write_spec(tmp_path, "{tiles: {list: tiles.txt}}"))
    expected = np.full((200, 300), -1, "int16")
    expected[:60, 50:110] = b
    expected[:60, :60] = np.where(a == -1, expected[:60, :60], a)
    assert np.array_equal(found, expected)
    overlaps = [p for p in cube.plan(redo=True).problems if p.kind == "overlap"]
    assert len(overlaps) == 1
    assert "600 pixels" in overlaps[0].message


def test_tile_off_the_chunks_edges_feeds_every_region_it_reaches(tmp_path: Path) -> None:
    pixels = some(77, 133)
    write_tile(tmp_path / "a.tif", pixels, 3.3, 14.1)
    _, found = ingested(write_spec(tmp_path, "{file: a.tif}"))
    expected = np.full((200, 300), -1, "int16")
    expected[59:136, 33:166] = pixels
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", ["vrt", "gti"])
def test_mosaic_of_gdal_is_one_source(tmp_path: Path, kind: str) -> None:
    world = some(200, 300)
    boxes = [(y, x) for y in range(0, 200, 100) for x in range(0, 300, 150)]
    names = [str(tmp_path / "t" / f"{y}_{x}.tif") for y, x in boxes]
    for (y, x), name in zip(boxes, names, strict=True):
        write_tile(Path(name), world[y : y + 100, x : x + 150], x / 10, 20 - y / 10)
    if kind == "vrt":
        parts = "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">t/{Path(name).name}</SourceFilename><SourceBand>1</SourceBand>'
            f'<SrcRect xOff="0" yOff="0" xSize="150" ySize="100"/><DstRect xOff="{x}" yOff="{y}" xSize="150" ySize="100"/></SimpleSource>'
            for (y, x), name in zip(boxes, names, strict=True)
        )
        (tmp_path / "all.vrt").write_text(
            '<VRTDataset rasterXSize="300" rasterYSize="200"><SRS>EPSG:4326</SRS><GeoTransform>0, 0.1, 0, 20, 0, -0.1</GeoTransform>'
            f'<VRTRasterBand dataType="Int16" band="1">{parts}</VRTRasterBand></VRTDataset>'
        )
    else:
        features = [
            {"type": "Feature", "properties": {"location": name}, "geometry": {"type": "Polygon", "coordinates": [
                [[x / 10, 20 - y / 10], [x / 10 + 15, 20 - y / 10], [x / 10 + 15, 10 - y / 10], [x / 10, 10 - y / 10], [x / 10, 20 - y / 10]]]}}
            for (y, x), name in zip(boxes, names, strict=True)
        ]  # fmt: skip
        import json

        (tmp_path / "index.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        (tmp_path / "all.gti").write_text(
            f"<GDALTileIndexDataset><IndexDataset>{tmp_path / 'index.geojson'}</IndexDataset><LocationField>location</LocationField>"
            "<ResX>0.1</ResX><ResY>0.1</ResY><DataType>Int16</DataType></GDALTileIndexDataset>"
        )
    _, found = ingested(write_spec(tmp_path, f"{{file: all.{kind}}}"))
    assert np.array_equal(found, world)


# ---- bands and variables --------------------------------------------------------------------------------------


def test_file_for_each_band_and_file_with_all_bands_give_the_same_cube(tmp_path: Path) -> None:
    world = some(4, 200, 300)
    write_tile(tmp_path / "all.tif", world, 0, 20)
    for name, pixels in zip(("B02", "B03", "B04", "B08"), world, strict=True):
        write_tile(tmp_path / f"{name}.tif", pixels, 0, 20)
    axes = "{band: {values: [B02, B03, B04, B08]}}"
    for chunks in ("{band: 1, y: 50, x: 50}", "{band: 4, y: 50, x: 50}"):
        (tmp_path / "cube.icechunk").exists() and __import__("shutil").rmtree(tmp_path / "cube.icechunk")
        _, found = ingested(write_spec(tmp_path, '{href: "{band}.tif"}', axes=axes, chunks=chunks))
        assert np.array_equal(found, world)
        __import__("shutil").rmtree(tmp_path / "cube.icechunk")
        _, found = ingested(write_spec(tmp_path, "{file: all.tif, bands: {axis: band}}", axes=axes, chunks=chunks))
        assert np.array_equal(found, world)


def test_time_band_y_x_beside_a_static_variable_of_another_dtype_and_chunking(tmp_path: Path) -> None:
    months = ("2000-01-01", "2000-02-01", "2000-03-01")
    world, height = some(3, 2, 200, 300), RNG.normal(0, 1, (200, 300)).astype("float32")
    for month, bands in zip(months, world, strict=True):
        write_tile(tmp_path / f"{month[:7]}.tif", bands, 0, 20)
    write_tile(tmp_path / "height.tif", height, 0, 20)
    more = "  height:\n    dtype: float32\n    fill_value: .nan\n    axes: []\n    chunks: {y: 100, x: 25}\n    source: {file: height.tif}\n"
    axes = "{time: {start: 2000-01-01, stop: 2000-03-01, freq: MS}, band: {values: [red, nir]}}"
    source = '{href: "{time:%Y-%m}.tif", bands: {axis: band}}'
    spec = write_spec(tmp_path, source, axes=axes, chunks="{time: 1, band: 2, y: 50, x: 50}", more=more)
    cube, found = ingested(spec)
    ds = cube.dataset()
    assert ds["v"].dims == ("time", "band", "y", "x")
    assert np.array_equal(found, world)
    assert ds["height"].dims == ("y", "x")
    assert np.array_equal(ds["height"].values, height)
    assert np.array_equal(ds["v"].sel(time="2000-02", band="nir").values[0], world[1, 1])
    assert cube.status(time="2000-02").total == 6 + 6


@pytest.mark.parametrize("tiles", ['{glob: "*.tif"}', "{list: list.txt}"])
def test_name_that_can_be_read_in_two_ways_asks_for_what_settles_it(tmp_path: Path, tiles: str) -> None:
    write_tile(tmp_path / "max_t_2m.tif", some(200, 300), 0, 20)
    (tmp_path / "list.txt").write_text("max_t_2m.tif\n")
    axes = "{stat: {values: [max, max_t, min]}, level: {values: [t_2m, 2m]}}"
    spec = write_spec(tmp_path, f'{{href: "{{stat}}_{{level}}.tif", tiles: {tiles}}}', axes=axes)
    with pytest.raises(ci.CatalogError, match=r"can be read in two ways .*stat max, level t_2m; or stat max_t, level 2m.*source.tiles.table"):  # fmt: skip
        ci.init(spec).plan()
    (tmp_path / "t.csv").write_text("href,stat,level\nmax_t_2m.tif,max_t,2m\n")
    spec = write_spec(tmp_path, "{tiles: {table: t.csv}}", axes=axes)
    assert ci.init(spec, tmp_path / "other").ingest().written == 6


# ---- netCDF, HDF5, Zarr ---------------------------------------------------------------------------------------


def labelled(values: np.ndarray, dims: tuple[str, ...] = ("lat", "lon"), south_up: bool = False, **coords: Any) -> xr.DataArray:  # fmt: skip
    lat = 19.95 - np.arange(200) * 0.1
    if south_up:
        lat, values = lat[::-1], values[..., ::-1, :]
    spatial = {dims[-2]: lat.astype("float32"), dims[-1]: (0.05 + np.arange(300) * 0.1).astype("float32")}
    return xr.DataArray(values, dims=dims, coords=spatial | coords, name="t")


@pytest.mark.parametrize("kind", ["nc", "zarr"])
@pytest.mark.parametrize("south_up", [False, True])
def test_axis_within_a_file_is_found_by_its_labels(tmp_path: Path, kind: str, south_up: bool) -> None:
    world = some(4, 200, 300)
    times = np.array(["1999-12-01", "2000-01-01", "2000-02-01", "2000-03-01"], "datetime64[ns]")
    ds = labelled(world, ("time", "lat", "lon"), south_up, time=times).to_dataset()
    if kind == "nc":
        ds.to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    else:
        ds.to_zarr(tmp_path / "t.zarr", consolidated=False)
    axes = "{time: {start: 2000-01-01, stop: 2000-04-01, freq: MS}}"
    source = f"{{file: t.{kind}, array: t}}"
    cube, found = ingested(write_spec(tmp_path, source, axes=axes, chunks="{time: 2, y: 50, x: 50}"))
    assert np.array_equal(found[:3], world[1:])
    assert (found[3] == -1).all()  # the file holds nothing of April
    assert cube.status(time="2000-03..2000-04").done == 6


def test_file_a_year_with_its_months_in_another_calendar(tmp_path: Path) -> None:
    import cftime

    world = some(2, 3, 200, 300)
    for year, pixels in zip((2000, 2001), world, strict=True):
        times = [cftime.DatetimeNoLeap(year, month, 28) for month in (1, 2, 3)]
        labelled(pixels, ("time", "lat", "lon"), time=times).to_netcdf(tmp_path / f"{year}.nc", engine="h5netcdf")
    dates = ", ".join(f"{y}-{m:02}-28" for y in (2000, 2001) for m in (1, 2, 3))
    axes = f"{{time: {{values: [{dates}], calendar: noleap}}}}"
    spec = write_spec(tmp_path, '{tiles: {glob: "*.nc"}, array: t}', axes=axes, chunks="{time: 1, y: 50, x: 50}")
    cube, found = ingested(spec)
    assert np.array_equal(found, world.reshape(6, 200, 300))
    assert cube.dataset()["time"].dt.calendar == "noleap"
    assert np.array_equal(cube.dataset()["v"].sel(time="2001-02").values[0], world[1, 1])
    assert cube.status(time="2001").done == 18


def test_packed_values_are_unpacked_into_floats_and_refused_for_integers(tmp_path: Path) -> None:
    world = RNG.integers(-500, 500, (200, 300)) / 10
    world[:10] = np.nan
    packing = {"t": {"dtype": "int16", "scale_factor": 0.1, "add_offset": 5.0, "_FillValue": -999}}
    labelled(world).to_netcdf(tmp_path / "t.nc", engine="h5netcdf", encoding=packing)
    with xr.open_dataset(tmp_path / "t.nc") as ds:
        expected = ds["t"].values
    _, found = ingested(write_spec(tmp_path, "{file: t.nc, array: t}", dtype="float32", fill=".nan"))
    assert np.allclose(found, expected, atol=1e-5, equal_nan=True)
    assert np.isnan(found[:10]).all()
    report = ci.init(write_spec(tmp_path, "{file: t.nc, array: t}"), tmp_path / "other").ingest()
    assert "is float32, variable 'v' is int16" in report.failed[0].error


def test_nodata_of_a_labelled_source_becomes_the_fill_value(tmp_path: Path) -> None:
    world = some(200, 300)
    world[5:9] = 7
    labelled(world).to_netcdf(tmp_path / "t.nc", engine="h5netcdf", encoding={"t": {"_FillValue": np.int16(7)}})
    _, found = ingested(write_spec(tmp_path, "{file: t.nc, array: t}"))
    assert np.array_equal(found, np.where(world == 7, -1, world))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a: a.rename("other"), "has no variable 't' (variables: other)"),
        (lambda a: a.assign_coords(lat=a.lat + 0.03), "lies 0.3 px north of the grid"),
        (lambda a: a.assign_coords(lat=a.lat.values**2), "uneven steps along 'lat'"),
        (lambda a: a.drop_vars("lon"), "has no coordinate 'lon'"),
        (lambda a: a.rename(lat="u"), "which is y is not to be told"),
        (lambda a: a.expand_dims(level=[1, 2]), "no axis called 'level', along which it has 2 values"),
        (lambda a: a.expand_dims(member=2), "has no labels along member"),
        (lambda a: a.astype("float64"), "is float64, variable 'v' is int16"),
    ],
)
def test_labelled_source_that_does_not_fit_is_named_with_the_reason(tmp_path: Path, make: Any, message: str) -> None:
    make(labelled(some(200, 300))).to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    report = ci.init(write_spec(tmp_path, "{file: t.nc, array: t}")).ingest()
    assert report.written == 0
    assert message in report.failed[0].error
    assert "t.nc" in report.failed[0].error


def test_file_that_is_no_netcdf_or_is_cut_short_costs_its_slots(tmp_path: Path) -> None:
    good = some(200, 300)
    for name in ("a", "b", "c"):
        labelled(good).to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
    (tmp_path / "b.nc").write_bytes((tmp_path / "b.nc").read_bytes()[:50_000])
    (tmp_path / "c.nc").write_text("not a file of that kind")
    axes = "{run: {values: [a, b, c]}}"
    report = ci.init(
        write_spec(tmp_path, '{href: "{run}.nc", array: t}', axes=axes, chunks="{run: 1, y: 50, x: 50}")
    ).ingest()
    assert report.written == 6
    assert {f.axes["run"] for f in report.failed} == {"b", "c"}
    assert all("cannot be opened by xarray" in f.error or "cannot be read" in f.error for f in report.failed)


def test_overviews_of_a_cog_are_not_what_is_read(tmp_path: Path) -> None:
    world = some(200, 300)
    path = write_tile(tmp_path / "a.tif", world, 0, 20, tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(path, "r+") as tile:
        tile.build_overviews([2, 4], rasterio.enums.Resampling.average)
    _, found = ingested(write_spec(tmp_path, "{file: a.tif}"))
    assert np.array_equal(found, world)
