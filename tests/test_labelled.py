"""netCDF and Zarr sources as they are found: what their coordinates, calendars, grid mappings and packing mean.

Each cube equals what xarray decodes from the same file, or the file is refused with the reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cftime
import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr

import cubeingest as ci
from tests.test_sources import write_spec

RNG = np.random.default_rng(23)
LAT, LON = 1.95 - np.arange(20) * 0.1, 0.05 + np.arange(30) * 0.1
PIXELS = RNG.integers(0, 1000, (20, 30)).astype("int16")
TIME_CHUNKS = "{time: 1, y: 20, x: 30}"


def spec(folder: Path, source: str = "{file: t.nc, array: t}", **changes: str) -> Path:
    """A grid of 2 x 3 degrees, 10 pixels a degree, in one region."""
    small = {"origin": "{x: 0, y: 2}", "shape": "{y: 20, x: 30}", "region": "{y: 20, x: 30}", "chunks": "{y: 20, x: 30}"}  # fmt: skip
    return write_spec(folder, source, **(small | changes))


def write(path: Path, values: np.ndarray = PIXELS, attrs: dict[str, Any] | None = None, fill: Any = None, **coords: Any) -> Path:  # fmt: skip
    """A variable ``t``. ``coords`` of more than one value lie along a dimension of that name, in order, before lat and lon."""
    dims = tuple(name for name, v in coords.items() if np.ndim(v))
    spatial = {"lat": LAT, "lon": LON} | coords
    data = xr.DataArray(values, dims=(*dims, "lat", "lon"), coords=spatial, name="t", attrs=attrs or {})
    data.to_netcdf(path, engine="h5netcdf", encoding={"t": {} if fill is None else {"_FillValue": fill}})
    return path


def filled(path: Path) -> np.ndarray:
    cube = ci.init(path)
    report = cube.ingest(workers=1)
    assert report.failed == []
    return cube.dataset()["v"].values


def refusal(path: Path) -> str:
    report = ci.init(path).ingest(workers=1)
    assert report.written == 0
    return str(report.failed[0].error)


# ---- labels ---------------------------------------------------------------------------------------------------


def test_files_with_a_scalar_time_lie_where_it_says(tmp_path: Path) -> None:
    for month in (1, 2, 3):
        write(tmp_path / f"{9 - month}.nc", PIXELS + month, time=np.datetime64(f"2000-{month:02}-01", "ns"))
    axes = "{time: {start: 2000-01-01, stop: 2000-04-01, freq: MS}}"
    found = filled(spec(tmp_path, '{tiles: {glob: "*.nc"}, array: t}', axes=axes, chunks=TIME_CHUNKS))
    assert all(np.array_equal(found[i], PIXELS + i + 1) for i in range(3))
    assert (found[3] == -1).all()


def test_file_named_for_another_time_than_its_scalar_says_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "2001.nc", time=2000)
    path = spec(tmp_path, '{href: "{time}.nc", array: t, missing: absent}', axes="{time: {values: [2000, 2001]}}", chunks=TIME_CHUNKS)  # fmt: skip
    assert "time 2001 (it has 2000" in refusal(path)


@pytest.mark.parametrize("size_one", [False, True])
def test_file_that_nothing_gives_a_time_is_misplaced(tmp_path: Path, size_one: bool) -> None:
    data = xr.DataArray(PIXELS, dims=("lat", "lon"), coords={"lat": LAT, "lon": LON}, name="t")
    (data.expand_dims("time") if size_one else data).to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    path = spec(tmp_path, axes="{time: {values: [2000, 2001]}}", chunks=TIME_CHUNKS)
    cube = ci.init(path)
    assert "nothing says which time it is for" in str(cube.plan().problems[0].message)
    assert "nothing says which time it is for" in str(cube.ingest(workers=1).failed[0].error)
    assert (cube.dataset()["v"].values == -1).all()


def test_same_label_twice_is_named(tmp_path: Path) -> None:
    write(tmp_path / "t.nc", np.stack([PIXELS, PIXELS + 1, PIXELS]), time=[2000, 2001, 2000])
    text = refusal(spec(tmp_path, axes="{time: {values: [2000, 2001]}}", chunks=TIME_CHUNKS))
    assert "2 times the same label '2000' along 'time'" in text


@pytest.mark.parametrize(
    ("own", "values"),
    [
        (np.array([2001.0, 2000.0]), "[2000, 2001]"),
        (np.array([2001.0, 2000.0], "float32"), "[2000, 2001]"),
        (np.array([0.2, 0.1], "float32"), "[0.1, 0.2]"),
        (np.array([0.2, 0.1], "float32").astype("float64"), "[0.1, 0.2]"),
        (np.array([0.1 + 0.2, 0.1]), "[0.1, 0.3]"),
        (np.array([21, 20]), "[20.0, 21.0]"),
        (np.array([20000102, 20000101]), "[20000101, 20000102]"),
    ],
)
def test_numbers_match_as_numbers(tmp_path: Path, own: np.ndarray, values: str) -> None:
    write(tmp_path / "t.nc", np.stack([PIXELS, PIXELS + 1]), depth=own)
    found = filled(spec(tmp_path, axes=f"{{depth: {{values: {values}}}}}", chunks="{depth: 1, y: 20, x: 30}"))
    assert np.array_equal(found, np.stack([PIXELS + 1, PIXELS]))


@pytest.mark.parametrize(
    ("own", "values"),
    [([20000102.0], "[20000101, 20000103]"), ([2451545.5], "[2451545.4, 2451545.6]"), ([0.1001], "[0.1, 0.2]")],
)
def test_numbers_that_are_only_near_do_not_match(tmp_path: Path, own: list[float], values: str) -> None:
    write(tmp_path / "t.nc", PIXELS[np.newaxis], depth=own)
    text = refusal(spec(tmp_path, axes=f"{{depth: {{values: {values}}}}}", chunks="{depth: 1, y: 20, x: 30}"))
    assert "holds no depth of the cube" in text


# ---- calendars ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "times"),
    [
        ("start: 2000-02-27, stop: 2000-03-02, freq: D, calendar: noleap", [(2, 27), (2, 28), (3, 1), (3, 2)]),
        ("start: '2000-02-30T06:00', stop: '2000-03-01T00:00', freq: 6h, calendar: 360_day", [(2, 30, 6), (2, 30, 12), (2, 30, 18), (3, 1)]),
        ("start: 2000-01-31, stop: 2000-03-31, freq: ME, calendar: noleap", [(1, 31), (2, 28), (3, 31)]),
    ],
)  # fmt: skip
def test_freq_in_another_calendar_finds_the_days_and_hours_of_files(
    tmp_path: Path, axis: str, times: list[tuple[int, ...]]
) -> None:
    calendar = axis.rpartition(" ")[2]
    dates = xr.CFTimeIndex([cftime.datetime(2000, *t, calendar=calendar) for t in times])
    world = np.stack([PIXELS + i for i in range(len(times))])
    write(tmp_path / "t.nc", world, time=dates)
    found = filled(spec(tmp_path, axes=f"{{time: {{{axis}}}}}", chunks=TIME_CHUNKS))
    assert np.array_equal(found, world)


def test_times_as_fractions_of_days_are_what_they_were(tmp_path: Path) -> None:
    days = 60000 + np.arange(4) / 24
    world = np.stack([PIXELS + i for i in range(4)])
    data = xr.DataArray(world, dims=("time", "lat", "lon"), coords={"time": days, "lat": LAT, "lon": LON}, name="t")
    data.time.attrs |= {"units": "days since 1850-01-01", "calendar": "noleap"}
    data.to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    first = cftime.datetime(1850, 1, 1, calendar="noleap") + np.timedelta64(60000, "D").item()
    axis = f"start: '{first.isoformat()}', stop: '{first.isoformat()[:11]}03:00:00', freq: h, calendar: noleap"
    found = filled(spec(tmp_path, axes=f"{{time: {{{axis}}}}}", chunks=TIME_CHUNKS))
    assert np.array_equal(found, world)


@pytest.mark.parametrize(
    ("calendar", "what"), [("", "the standard calendar"), (", calendar: 360_day", "calendar 360_day")]
)
def test_dates_of_another_calendar_than_the_axis_are_refused(tmp_path: Path, calendar: str, what: str) -> None:
    dates = xr.CFTimeIndex([cftime.datetime(2000, m, 1, calendar="noleap") for m in (1, 2)])
    write(tmp_path / "t.nc", np.stack([PIXELS, PIXELS]), time=dates)
    axes = f"{{time: {{start: 2000-01-01, stop: 2000-02-01, freq: MS{calendar}}}}}"
    text = refusal(spec(tmp_path, axes=axes, chunks=TIME_CHUNKS))
    assert f"has time of calendar noleap, the axis 'time' is of {what}: declare calendar: noleap" in text


# ---- where it lies --------------------------------------------------------------------------------------------


def grid_of(folder: Path, lat: np.ndarray, lon: np.ndarray, origin: tuple[Any, Any], resolution: tuple[Any, Any], **more: str) -> Path:  # fmt: skip
    """A file with these coordinates, and the spec of a grid of the same shape."""
    shape = f"{{y: {len(lat)}, x: {len(lon)}}}"
    values = np.zeros((len(lat), len(lon)), "int16")
    values[1, 2] = 7
    data = xr.DataArray(values, dims=("lat", "lon"), coords={"lat": lat, "lon": lon}, name="t")
    data.to_netcdf(folder / "t.nc", engine="h5netcdf")
    texts = {k: f"{{x: {x!s}, y: {y!s}}}" for k, (x, y) in (("origin", origin), ("resolution", resolution))}
    return spec(folder, **texts, shape=shape, region=shape, chunks=shape, **more)


@pytest.mark.parametrize("off", [0.02, 0.2, 0.5])
def test_double_coordinates_off_by_part_of_a_small_pixel_are_refused(tmp_path: Path, off: float) -> None:
    lat, lon = 20 - 1e-4 * (np.arange(20) + 0.5), 170 + 1e-4 * (np.arange(30) + 0.5 + off)
    text = refusal(grid_of(tmp_path, lat, lon, (170, 20), ("1/10000", "-1/10000")))
    assert f"lies {off:.2g} px east of the grid" in text


def test_double_coordinates_on_a_lattice_of_no_round_numbers_are_accepted(tmp_path: Path) -> None:
    size, left, bottom = 0.00030799387843671866, -128.3875562194317, 22.428114227623333
    lat, lon = bottom + size * (np.arange(20) + 0.5), left + size * (np.arange(300) + 0.5)
    found = filled(grid_of(tmp_path, lat, lon, (left, bottom), (size, size)))
    assert found[1, 2] == 7
    assert found.sum() == 7


@pytest.mark.parametrize("n", [20, 24])
@pytest.mark.parametrize("as_double", [False, True])
def test_single_coordinates_of_a_global_grid_are_accepted(tmp_path: Path, n: int, as_double: bool) -> None:
    lat = (90 - (np.arange(180 * n) + 0.5) / n).astype("float32")[: 2 * n]
    lon = (-180 + (np.arange(360 * n) + 0.5) / n).astype("float32")
    if as_double:
        lat, lon = lat.astype("float64"), lon.astype("float64")
    assert filled(grid_of(tmp_path, lat, lon, (-180, 90), (f"1/{n}", f"-1/{n}")))[1, 2] == 7


def projected(epsg: int, **attrs: Any) -> xr.Dataset:
    x, y = 500_015 + 30.0 * np.arange(30), 5_000_000 - 15 - 30.0 * np.arange(20)
    return xr.Dataset({"t": (("y", "x"), PIXELS, attrs)}, coords={"y": y, "x": x}).rio.write_crs(epsg)


def test_projected_file_of_rioxarray_is_read(tmp_path: Path) -> None:
    projected(32631).to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    path = spec(tmp_path, origin="{x: 500000, y: 5000000}", resolution="{x: 30, y: -30}")
    path.write_text(path.read_text().replace("EPSG:4326", "EPSG:32631"))
    assert np.array_equal(filled(path), PIXELS)


def test_mapping_of_several_coordinates_without_wkt_is_read(tmp_path: Path) -> None:
    import pyproj

    cf = {k: v for k, v in pyproj.CRS(32631).to_cf().items() if k != "crs_wkt"}
    ds = projected(32631).drop_vars("spatial_ref")
    ds["utm"], ds["geo"] = ((), 0, cf), ((), 0, {"grid_mapping_name": "latitude_longitude"})
    ds["t"].attrs["grid_mapping"] = "geo: lat lon utm: y x"
    ds["t"].encoding = {}
    ds.to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    path = spec(tmp_path, origin="{x: 500000, y: 5000000}", resolution="{x: 30, y: -30}")
    path.write_text(path.read_text().replace("EPSG:4326", "EPSG:32631"))
    assert np.array_equal(filled(path), PIXELS)


def rotated(with_mapping: bool, units: str = "degrees", standard_name: bool = True) -> xr.Dataset:
    names = {"lat": {"standard_name": "grid_latitude"}, "lon": {"standard_name": "grid_longitude"}}
    coords = {
        f"r{n}": (f"r{n}", v, {"axis": a, "units": units} | (names[n] if standard_name else {}))
        for n, v, a in (("lat", LAT, "Y"), ("lon", LON, "X"))
    }
    mapping = {"grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0}  # fmt: skip
    attrs = {"grid_mapping": "rotated_pole"} if with_mapping else {}
    return xr.Dataset({"t": (("rlat", "rlon"), PIXELS, attrs), "rotated_pole": ((), 0, mapping)}, coords=coords)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rotated(True), 'is in CRS GEOGCRS["rotated_latitude_longitude"'),
        (lambda: rotated(False), "has no CRS"),
        (lambda: rotated(False, units="degrees_north"), "has no CRS"),
        (lambda: rotated(False, standard_name=False), "has no CRS"),
        (lambda: rotated(True).drop_vars("rotated_pole"), "but no variable 'rotated_pole'"),
        (lambda: rotated(True).assign(rotated_pole=0), "grid_mapping 'rotated_pole', which gives no CRS"),
    ],
)
def test_rotated_pole_is_not_taken_for_latitude_and_longitude(tmp_path: Path, make: Any, message: str) -> None:
    make().to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    assert message in refusal(spec(tmp_path))


@pytest.mark.parametrize(
    ("name", "attrs"),
    [
        ("lat", {"units": "degrees"}),
        ("v", {"axis": "Y", "units": "degrees_north"}),
        ("v", {"axis": "Y", "units": "degreeN"}),
        ("y", {"standard_name": "latitude"}),
    ],
)
def test_latitudes_are_known_by_standard_name_units_or_bare_name(tmp_path: Path, name: str, attrs: Any) -> None:
    data = xr.Dataset({"t": ((name, "lon"), PIXELS)}, coords={name: (name, LAT, attrs), "lon": LON})
    data.to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    assert np.array_equal(filled(spec(tmp_path)), PIXELS)


@pytest.mark.parametrize(
    ("mapping", "accepted"),
    [
        ({"grid_mapping_name": "latitude_longitude"}, True),
        ({"grid_mapping_name": "latitude_longitude", "semi_major_axis": 6378137.0, "inverse_flattening": 298.257223563}, True),
        ({"grid_mapping_name": "latitude_longitude", "earth_radius": 6371229.0}, False),
    ],
)  # fmt: skip
def test_latitudes_and_longitudes_are_wgs84_unless_another_figure_is_said(
    tmp_path: Path, mapping: dict[str, Any], accepted: bool
) -> None:
    ds = xr.Dataset({"t": (("lat", "lon"), PIXELS, {"grid_mapping": "crs"}), "crs": ((), 0, mapping)}, coords={"lat": LAT, "lon": LON})  # fmt: skip
    ds.to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    if accepted:
        assert np.array_equal(filled(spec(tmp_path)), PIXELS)
    else:
        assert "is in CRS" in refusal(spec(tmp_path))


def test_packed_coordinates_are_unpacked(tmp_path: Path) -> None:
    data = xr.DataArray(PIXELS, dims=("lat", "lon"), coords={"lat": LAT, "lon": LON}, name="t")
    packing = {"dtype": "int16", "scale_factor": 0.05}
    data.to_netcdf(tmp_path / "t.nc", engine="h5netcdf", encoding={"lat": packing, "lon": packing})
    assert np.array_equal(filled(spec(tmp_path)), PIXELS)


# ---- values ---------------------------------------------------------------------------------------------------


def holes(dtype: str = "int16") -> np.ndarray:
    values = PIXELS.astype(dtype)
    values[:5], values[5:10] = -9999, -32768
    return values


def decoded(folder: Path) -> np.ndarray:
    with xr.open_dataset(folder / "t.nc", engine="h5netcdf") as ds:
        return ds["t"].values


@pytest.mark.filterwarnings("ignore:variable 't' has multiple fill values")
@pytest.mark.parametrize("packed", [False, True])
def test_fill_value_and_missing_value_both_are_missing(tmp_path: Path, packed: bool) -> None:
    attrs = {"missing_value": np.int16(-9999)} | ({"scale_factor": np.float32(0.1)} if packed else {})
    write(tmp_path / "t.nc", holes(), attrs, fill=np.int16(-32768))
    found = filled(spec(tmp_path, dtype="float32", fill=".nan"))
    assert np.isnan(found[:10]).all()
    assert np.array_equal(found, decoded(tmp_path), equal_nan=True)


def test_missing_values_become_the_fill_value_and_valid_ones_equal_to_it_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "t.nc", holes(), {"missing_value": np.int16(-9999)}, fill=np.int16(-32768))
    found = filled(spec(tmp_path))
    assert (found[:10] == -1).all()
    assert np.array_equal(found[10:], PIXELS[10:])
    (tmp_path / "again").mkdir()
    write(tmp_path / "again" / "t.nc", np.where(PIXELS < 50, -1, holes()).astype("int16"), {"missing_value": np.int16(-9999)}, fill=np.int16(-32768))  # fmt: skip
    assert "has valid pixels equal to the fill value -1" in refusal(spec(tmp_path / "again"))


@pytest.mark.parametrize("packed", [False, True])
def test_nodata_of_the_spec_replaces_that_of_the_file_in_stored_units(tmp_path: Path, packed: bool) -> None:
    attrs = {"missing_value": np.int16(-9999)} | ({"scale_factor": np.float32(0.5)} if packed else {})
    write(tmp_path / "t.nc", holes(), attrs, fill=np.int16(-9999))
    plain = holes() * np.float32(0.5 if packed else 1)
    options = {"dtype": "float32", "fill": ".nan"}
    for nodata, missing in (("-32768", slice(5, 10)), ("none", slice(0, 0)), ("file", slice(0, 5))):
        folder = tmp_path / nodata
        folder.mkdir()
        (folder / "t.nc").symlink_to(tmp_path / "t.nc")
        expected = plain.copy()
        expected[missing] = np.nan
        found = filled(spec(folder, f"{{file: t.nc, array: t, nodata: {nodata}}}", **options))
        assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("said", ["true", "false"])
def test_unsigned_is_honoured(tmp_path: Path, said: str, packed: bool) -> None:
    values = (PIXELS.astype("int32") * 65).astype("uint16")
    values[:4] = 65535
    stored = values.view("int16") if said == "true" else values
    fill = np.int16(-1) if said == "true" else np.uint16(65535)
    attrs = {"_Unsigned": said} | ({"scale_factor": np.float32(0.5)} if packed else {})
    write(tmp_path / "t.nc", stored, attrs, fill=fill)
    kind = "uint16" if said == "true" else "int16"
    if not packed:
        other = "int16" if said == "true" else "uint16"
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "t.nc").symlink_to(tmp_path / "t.nc")
        assert f"is {kind}, variable 'v' is {other}" in refusal(spec(tmp_path / "other", dtype=other, fill="7"))
        found = filled(spec(tmp_path, dtype="int32", fill="-70000"))
        expected = values.astype("int32") if said == "true" else values.view("int16").astype("int32")
        expected[:4] = -70000
        assert np.array_equal(found, expected)
        return
    with np.errstate(over="ignore"):
        found = filled(spec(tmp_path, dtype="float32", fill=".nan"))
    expected = np.float32(0.5) * (values if said == "true" else values.view("int16"))
    expected[:4] = np.nan
    assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("stored", "packing"),
    [
        ("int16", {"scale_factor": 0.01, "add_offset": 273.15}),
        ("int16", {"add_offset": np.float32(273.15)}),
        ("int16", {"scale_factor": np.float32(0.01), "add_offset": np.float32(273.15)}),
        ("uint8", {"scale_factor": np.float32(0.01)}),
        ("int32", {"scale_factor": np.float32(0.01), "add_offset": np.float32(1)}),
        ("float32", {"scale_factor": 0.3, "add_offset": 7.0}),
    ],
)
def test_packed_values_equal_those_of_xarray(tmp_path: Path, stored: str, packing: dict[str, Any]) -> None:
    write(tmp_path / "t.nc", (PIXELS % 200).astype(stored), packing, fill=np.dtype(stored).type(3))
    expected = decoded(tmp_path)
    assert np.array_equal(filled(spec(tmp_path, dtype="float64", fill=".nan")), expected, equal_nan=True)
    if np.dtype(stored).itemsize <= 2:  # single precision tells 65536 values apart
        (tmp_path / "single").mkdir()
        (tmp_path / "single" / "t.nc").symlink_to(tmp_path / "t.nc")
        found = filled(spec(tmp_path / "single", dtype="float32", fill=".nan"))
        assert np.array_equal(found, expected.astype("float32"), equal_nan=True)


def test_value_that_rounding_makes_the_fill_value_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "t.nc", np.full_like(PIXELS, 1), {"scale_factor": 1.0, "add_offset": -10000 + 1e-9})
    assert "has valid pixels equal to the fill value -9999.0" in refusal(spec(tmp_path, dtype="float32", fill="-9999"))


def test_nodata_that_no_boolean_can_be_leaves_the_true_ones(tmp_path: Path) -> None:
    write(tmp_path / "t.nc", PIXELS > 500)
    found = filled(spec(tmp_path, "{file: t.nc, array: t, nodata: 255}", dtype="uint8", fill="255"))
    assert np.array_equal(found, PIXELS > 500)


def test_packing_of_no_number_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "t.nc", PIXELS, {"scale_factor": "a tenth"})
    assert "has scale_factor 'a tenth', expected one number" in refusal(spec(tmp_path, dtype="float32"))


def test_zarr_with_packing_a_mapping_and_a_scalar_time_is_read_alike(tmp_path: Path) -> None:
    data = xr.DataArray(PIXELS * 0.1, dims=("lat", "lon"), coords={"lat": LAT, "lon": LON, "time": 2001}, name="t")
    packing = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": np.int16(-1)}
    data.rio.write_crs(4326).to_dataset().to_zarr(tmp_path / "t.zarr", consolidated=False, encoding={"t": packing})
    path = spec(tmp_path, "{file: t.zarr, array: t}", axes="{time: {values: [2000, 2001]}}", chunks=TIME_CHUNKS, dtype="float64", fill=".nan")  # fmt: skip
    found = filled(path)
    with xr.open_zarr(tmp_path / "t.zarr", consolidated=False) as ds:
        assert np.array_equal(found[1], ds["t"].values)
    assert np.isnan(found[0]).all()
