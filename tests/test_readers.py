"""What other tools find in a cube: coordinates, CRS, conventions."""

from __future__ import annotations

import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
import zarr
import zarr_cm
from pyproj import CRS

import cubeingest as ci
from tests.conftest import World


@pytest.fixture
def cube(world: World) -> ci.Cube:
    return ci.init(world.spec_file)


def test_group_passes_the_published_validators_of_its_conventions(cube: ci.Cube) -> None:
    attrs = zarr.open_group(cube.store.readonly().store, mode="r").attrs.asdict()
    assert zarr_cm.detect_revisions(attrs) == {"proj": "r3", "spatial": "r3"}
    zarr_cm.validate_many(attrs, ["proj", "spatial"])
    assert {c["name"] for c in attrs["zarr_conventions"]} == {"proj", "spatial"}
    assert attrs["proj:code"] == "EPSG:4326"
    assert attrs["spatial:transform"] == [0.1, 0.0, 0.0, 0.0, -0.1, 20.0]


def test_grid_mapping_is_cf_with_wkt_and_gdal_transform(cube: ci.Cube) -> None:
    ds = xr.open_zarr(cube.store.readonly().store, consolidated=False, decode_coords=False)
    assert ds["cover"].attrs["grid_mapping"] == "spatial_ref"
    attrs = ds["spatial_ref"].attrs
    assert CRS.from_wkt(attrs["crs_wkt"]).to_epsg() == 4326
    assert attrs["grid_mapping_name"] == "latitude_longitude"
    assert [float(v) for v in attrs["GeoTransform"].split()] == [0.0, 0.1, 0.0, 20.0, 0.0, -0.1]
    assert ds["y"].attrs["standard_name"] == "latitude"
    assert ds["x"].attrs["units"] == "degrees_east"


def test_integers_stay_integers_unless_cf_fill_asks(world: World) -> None:
    plain = ci.init(world.write_spec())
    array = zarr.open_array(plain.store.readonly().store, path="cover", mode="r")
    assert array.fill_value == 255
    assert "_FillValue" not in array.attrs
    masked = ci.init(
        world.write_spec(("name: small", "name: small\ncf_fill: true")), store=world.folder / "cf.icechunk"
    )
    assert zarr.open_array(masked.store.readonly().store, path="cover", mode="r").attrs["_FillValue"] is not None
    ds = xr.open_zarr(masked.store.readonly().store, consolidated=False)
    assert ds["cover"].dtype == np.float32
    assert bool(ds["cover"].isnull().all())


def test_projected_grid_south_up_with_dates_opens_with_labels(world: World) -> None:
    spec = world.write_spec(
        ("crs: EPSG:4326", "crs: EPSG:32631"),
        ("origin: {x: 0, y: 20}", "origin: {x: 300000, y: 5000000}"),
        ("resolution: {x: 1/10, y: -1/10}", "resolution: {x: 10, y: 10}"),
        ('id: "{top:02H}_{left:03H}"', "dims: {y: northing, x: easting}"),
        ("year: {values: [2000, 2005]}", "time: {start: 2000-01-01, stop: 2000-03-01, freq: MS}"),
        ("chunks: {year: 1, y: 50", "chunks: {time: 1, y: 50"),
        ("tiles/{year}/{id}.tif", "tiles/{time:%Y%m}/{id}.tif"),
        ("tiles/{year}.txt", "tiles/{time:%Y%m}.txt"),
    )
    cube = ci.init(spec)
    ds = xr.open_zarr(cube.store.readonly().store, consolidated=False)
    assert [str(t)[:10] for t in ds["time"].values] == ["2000-01-01", "2000-02-01", "2000-03-01"]
    assert ds["northing"].values[:2].tolist() == [5000005.0, 5000015.0]
    assert ds["easting"].attrs["standard_name"] == "projection_x_coordinate"
    assert ds.rio.crs.to_epsg() == 32631
    assert tuple(ds["cover"].rio.transform())[:6] == (10.0, 0.0, 300000.0, 0.0, 10.0, 5000000.0)
    assert cube.status(time="2000-02").total == 6


def test_datetime_axis_is_stored_without_a_warning_and_compressor_is_as_declared(world: World) -> None:
    spec = world.write_spec(
        ("fill_value: 255", "fill_value: 255\n    compressor: {name: blosc, cname: lz4, clevel: 5}")
    )
    cube = ci.init(spec)
    array = zarr.open_array(cube.store.readonly().store, path="cover", mode="r")
    assert type(array.compressors[0]).__name__ == "BloscCodec"


def test_no_consolidated_metadata_is_written(cube: ci.Cube) -> None:
    assert zarr.open_group(cube.store.readonly().store, mode="r").metadata.consolidated_metadata is None


def test_labels_of_a_date_axis_select(world: World) -> None:
    spec = world.write_spec(
        ("year: {values: [2000, 2005]}", "time: {values: [1700-01-01, 1999-12-31, 2200-01-01]}"),
        ("year: 1, y: 50", "time: 1, y: 50"),
        ("tiles/{year}/{id}.tif", "tiles/{time:%Y}/{id}.tif"),
        ("tiles/{year}.txt", "tiles/{time:%Y}.txt"),
    )
    cube = ci.init(spec)
    times = cube.dataset()["time"]
    assert [str(t)[:10] for t in times.values] == ["1700-01-01", "1999-12-31", "2200-01-01"]
    assert times.encoding["units"] == "seconds since 1970-01-01"
    assert cube.status(time=times.values[0]).total == cube.status(time=times.values[:1]).total == 6


def test_dates_that_readers_cannot_show_are_refused(world: World) -> None:
    with pytest.raises(ci.SpecError, match="dates must lie in the years 1678 to 2261"):
        ci.read_spec(world.write_spec(("{values: [2000, 2005]}", "{values: [1500-01-01]}")))


@pytest.mark.parametrize("attrs", ["attrs: {_FillValue: 255}", "attrs: {grid_mapping: crs}"])
def test_attributes_that_would_undo_the_conventions_are_refused(world: World, attrs: str) -> None:
    with pytest.raises(ci.SpecError, match="is written by cubeingest itself"):
        ci.read_spec(world.write_spec(("    source:", f"    {attrs}\n    source:")))


def test_empty_selection_is_refused_and_does_not_mean_everything(world: World) -> None:
    cube = ci.init(world.spec_file)
    with pytest.raises(ci.GridError, match="the selection of region is empty"):
        cube.ingest(region=[])
