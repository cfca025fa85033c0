"""Points are read from files of every kind as they are there, and each region gets its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from cubeingest.errors import ExtraError, TileError
from cubeingest.points import (
    EVERY_RUN,
    GranuleRow,
    Part,
    RegionReader,
    Run,
    csvfile,
    hdf5,
    parquet,
    region,
    rows_by_region,
    scan_granule,
    spill,
)
from tests.pointfiles import (
    Boxes,
    Chosen,
    Healpix,
    Source,
    a_track,
    in_regions,
    read_part,
    read_runs,
    some_points,
    write_as,
    write_csv,
    write_hdf5,
    write_parquet,
)
from tests.website import Site, scratch_folder, site

__all__ = ["scratch_folder", "site"]

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".h5", ".nc")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parquet, hdf5, csvfile, region):
        monkeypatch.setattr(module, "BATCH_POINTS", 128)
    monkeypatch.setattr(csvfile, "BLOCK_BYTES", 8192)
    monkeypatch.setattr(region, "STRETCH_POINTS", 100)


def same(got: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert set(got) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(got[name], values, strict=True)


# ---- readers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("start", "stop"), [(0, None), (0, 1), (1500, 2500), (2500, 2500)])
def test_part_of_a_run_is_what_was_written(tmp_path: Path, suffix: str, start: int, stop: int | None) -> None:
    points = some_points(2500)
    href = write_as(suffix, tmp_path, points)
    (run,) = read_runs(href, Source())
    assert run.n_points == 2500
    got = read_part(href, Source(), run.name, start, stop, ("i", "h"))
    if suffix.startswith(".csv"):
        points["h"] = points["h"].astype(np.float64)
    if start == stop:
        assert [len(v) for v in got.values()] == [0] * 4
    else:
        part = slice(start, stop)
        same(got, {"x": points["lon"][part], "y": points["lat"][part], "i": points["i"][part], "h": points["h"][part]})


def test_large_row_group_is_a_run_and_small_ones_are_one_together(tmp_path: Path, small_batches: None) -> None:
    href = write_parquet(tmp_path / "a.parquet", some_points(1000), rows=300)
    assert read_runs(href, Source()) == [Run("0", 300), Run("1", 300), Run("2", 300), Run("3", 100)]
    href = write_parquet(tmp_path / "b.parquet", some_points(200), rows=50)
    assert read_runs(href, Source()) == [Run("0..1", 100), Run("2..3", 100)]


def test_float32_coordinates_become_float64(tmp_path: Path) -> None:
    points = some_points(10)
    href = write_as(".h5", tmp_path, {**points, "lon": points["lon"].astype("f4")})
    got = read_part(href, Source(), "", 0, None, ())
    assert got["x"].dtype == np.float64
    assert np.array_equal(got["x"], points["lon"].astype("f4"))


@pytest.mark.parametrize("kind", ["wkb", "large_wkb", "big-endian", "struct"])
def test_geometry_of_points_gives_coordinates(tmp_path: Path, kind: str) -> None:
    points = some_points(50)
    shapes = shapely.points(points["lon"], points["lat"])
    if kind == "struct":
        column: Any = pa.StructArray.from_arrays([points["lon"], points["lat"]], ["x", "y"])
    else:
        packed = shapely.to_wkb(shapes, byte_order=0 if kind == "big-endian" else 1).tolist()
        packed[3] = None if kind == "big-endian" else packed[3]
        column = pa.array(packed, pa.large_binary() if kind == "large_wkb" else pa.binary())
    pq.write_table(pa.table({"geometry": column, "h": points["h"]}), tmp_path / "a.geoparquet")
    got = read_part(
        str(tmp_path / "a.geoparquet"), Source("geometry.x", "geometry.y", columns={"h": "h"}), "0", 5, 50, ("h",)
    )
    same(got, {"x": points["lon"][5:], "y": points["lat"][5:], "h": points["h"][5:]})
    if kind == "big-endian":
        assert np.isnan(
            read_part(str(tmp_path / "a.geoparquet"), Source("geometry.x", "geometry.y"), "0", 0, 5, ())["x"][3]
        )


def test_geometry_that_is_no_point_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"geometry": [shapely.box(0, 0, 1, 1).wkb]}), tmp_path / "a.parquet")
    with pytest.raises(TileError, match="holds a Polygon: only points"):
        read_part(str(tmp_path / "a.parquet"), Source("geometry.x", "geometry.y"), "0", 0, None, ())


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_missing_integer_makes_its_column_float(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".csv":
        path.write_text("lon,lat,i,h\n1,2,7,\n3,4,,1.5\n")
    else:
        pq.write_table(pa.table({"lon": [1, 3], "lat": [2, 4], "i": [7, None], "h": [None, 1.5]}), path)
    got = read_part(str(path), Source(), read_runs(str(path), Source())[0].name, 0, None, ("i", "h"))
    same(
        got,
        {"x": np.array([1.0, 3]), "y": np.array([2.0, 4]), "i": np.array([7, np.nan]), "h": np.array([np.nan, 1.5])},
    )


def test_csv_column_that_only_begins_as_integers_is_float(tmp_path: Path, small_batches: None) -> None:
    points = {"lon": np.zeros(5000), "lat": np.zeros(5000), "i": np.arange(5000), "h": np.arange(5000, dtype=object)}
    points["h"][4999] = 0.5
    got = read_part(write_csv(tmp_path / "a.csv", points), Source(), "", 0, None, ("i", "h"))
    same({n: got[n] for n in "ih"}, {"i": points["i"], "h": points["h"].astype(np.float64)})


def test_hdf5_fill_value_scale_and_valid_range_are_applied(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values, attrs in (
            ("lon", np.array([1, 2, 3, 1e20], "f4"), {"_FillValue": np.float32(1e20)}),
            ("lat", np.array([1, 2, 3, 4.0]), {}),
            ("q", np.array([0, 1, 127, 1], "i1"), {"_FillValue": np.array([127], "i1")}),
            ("id", np.array([2**60 + 1, 2, 3, 4]), {"_FillValue": np.int64(-1), "valid_min": 3}),
            ("h", np.array([3.4028235e38, -999, 5, 2e4], "f4"), {"_FillValue": np.float32(3.4028235e38), "missing_value": -999.0, "valid_range": np.array([-1e3, 1e4], "f4")}),
            ("p", np.array([10, -5, 0, 3], "i2"), {"scale_factor": 0.1, "add_offset": 1.0, "_FillValue": np.int16(-5), "units": "m"}),
        ):  # fmt: skip
            file[name] = values
            file[name].attrs.update(attrs)
    names = ("q", "id", "h", "p")
    got = read_part(str(tmp_path / "a.h5"), Source(columns={n: n for n in names}), "", 0, None, names)
    same(got, {
        "x": np.array([1, 2, 3, np.nan]), "y": np.array([1, 2, 3, 4.0]), "q": np.array([0, 1, np.nan, 1]),
        "id": np.array([2**60 + 1, 2, 3, 4]), "h": np.array([np.nan, np.nan, 5, np.nan], "f4"),
        "p": np.array([10, np.nan, 0, 3]) * 0.1 + 1,
    })  # fmt: skip


def test_netcdf_of_its_own_library_is_read(tmp_path: Path) -> None:
    import xarray as xr

    points = some_points(30)
    points["h"][4] = np.nan
    ds = xr.Dataset({name: ("point", values) for name, values in points.items()})
    ds.to_netcdf(
        tmp_path / "a.nc",
        engine="h5netcdf",
        encoding={"h": {"dtype": "i2", "scale_factor": 0.001, "_FillValue": -32768}},
    )
    got = read_part(str(tmp_path / "a.nc"), Source(), "", 0, None, ("i", "h"))
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as expected:
        np.testing.assert_allclose(got["h"], expected.h.values, rtol=1e-6)
        assert np.array_equal(got["x"], expected.lon.values)


def test_group_that_a_granule_lacks_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_hdf5(path, {"gt1l/land": some_points(30), "gt2r/land": some_points(20, 1), "gt3l": {"other": np.zeros(3)}})
    source = Source("land/lon", "land/lat", columns={"h": "land/h"}, groups=("gt1l", "gt1r", "gt2r", "gt3l"))
    assert read_runs(str(path), source) == [Run("gt1l", 30), Run("gt2r", 20)]
    same(
        read_part(str(path), source, "gt2r", 0, None, ("h",)),
        {"x": some_points(20, 1)["lon"], "y": some_points(20, 1)["lat"], "h": some_points(20, 1)["h"]},
    )
    with pytest.raises(
        TileError,
        match=r"has none of the groups 'gt1x' with 'land/lon' in it; did you mean 'gt1l'\? \(groups: gt1l, gt2r, gt3l\)",
    ):
        read_runs(str(path), Source("land/lon", "land/lat", groups=("gt1x",)))


# ---- what cannot be read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_granule_without_points_has_no_footprint(tmp_path: Path, suffix: str) -> None:
    if suffix.startswith(".csv"):
        href = write_csv(tmp_path / f"a{suffix}", {n: v[:0] for n, v in some_points(1).items()})
    else:
        href = write_as(suffix, tmp_path, {n: v[:0] for n, v in some_points(1).items()})
    footprint = scan_granule(href, Source(), Boxes())
    assert (footprint.n_points, len(footprint.region)) == (0, 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_column_is_named_with_the_nearest(tmp_path: Path, suffix: str) -> None:
    href = write_as(suffix, tmp_path, some_points(3))
    what = "dataset" if suffix in (".h5", ".nc") else "column"
    with pytest.raises(TileError, match=rf"points{suffix}' has no {what} 'lom'; did you mean 'lon'\?"):
        scan_granule(href, Source(x="lom"), Boxes())
    run = read_runs(href, Source())[0].name
    with pytest.raises(TileError, match=rf"points{suffix}' has no {what} 'hh'; did you mean 'h'\?"):
        read_part(href, Source(columns={"h": "hh"}), run, 0, None, ("h",))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_text_is_refused(tmp_path: Path, suffix: str) -> None:
    if suffix in (".h5", ".nc"):
        href = write_hdf5(tmp_path / f"a{suffix}", {"": {**some_points(3), "h": np.array([b"a", b"b", b"c"])}})
    else:
        (tmp_path / "t.csv").write_text("lon,lat,h\n1,2,a\n3,4,b\n")
        href = str(tmp_path / f"a{suffix}")
        if suffix == ".parquet":
            pq.write_table(pa.table({"lon": [1], "lat": [2], "h": ["a"]}), href)
        else:
            href = write_as(suffix, tmp_path, {"lon": np.zeros(2), "lat": np.zeros(2), "h": np.array(["a", "b"])})
    with pytest.raises(TileError, match=r"'h' is .*: only numbers"):
        read_part(href, Source(), read_runs(href, Source())[0].name, 0, None, ("h",))


def test_text_in_a_coordinate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("lon,lat\n1,2\nx,4\n")
    with pytest.raises(TileError, match=r"a.csv' cannot be read: .*invalid value 'x'"):
        scan_granule(str(tmp_path / "a.csv"), Source(), Boxes())


def test_dataset_of_another_shape_is_refused(tmp_path: Path) -> None:
    href = write_hdf5(tmp_path / "a.h5", {"g": {**some_points(3), "h": np.zeros(4), "i": np.zeros((3, 2))}})
    source = Source(groups=("g",))
    with pytest.raises(TileError, match=r"a.h5', group 'g', dataset 'h' has 4 values for 3 points"):
        read_part(href, source, "g", 0, None, ("h",))
    with pytest.raises(TileError, match=r"group 'g', dataset 'i' has shape \(3, 2\): one number a point"):
        read_part(href, source, "g", 0, None, ("i",))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("damage", ["empty", "noise", "cut"])
def test_damaged_granule_is_named(tmp_path: Path, suffix: str, damage: str) -> None:
    path = Path(write_as(suffix, tmp_path, some_points(3000)))
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "noise": bytes(range(256)) * 40, "cut": whole[: len(whole) // 2]}[damage])
    with pytest.raises(TileError, match=rf"granule '.*points{suffix}'"):
        read_part(str(path), Source(), "" if suffix != ".parquet" else "0..2", 0, 3000, ("i", "h"))


def test_hdf5_chunk_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, values in some_points(1000).items():
            file.create_dataset(name, data=values, chunks=(100,), compression="gzip", fletcher32=True)
        at = file["h"].id.get_chunk_info(3).byte_offset
    content = bytearray(path.read_bytes())
    content[at + 5] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(TileError, match=r"a.h5', dataset 'h' cannot be read at 0:1000"):
        read_part(str(path), Source(), "", 0, None, ("h",))
    assert len(read_part(str(path), Source(), "", 0, 300, ("h",))["h"]) == 300


def test_parquet_page_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(some_points(5000)), path, compression="zstd", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(0).column(3)
    content = bytearray(path.read_bytes())
    for i in range(column.data_page_offset + 60, column.data_page_offset + 400):
        content[i] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(TileError, match=r"granule '.*a.parquet' cannot be read"):
        read_part(str(path), Source(), "0", 0, None, ("h",))
    assert len(read_part(str(path), Source(), "0", 0, None, ("i",))["i"]) == 5000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_granule_that_has_become_shorter_is_noticed(tmp_path: Path, suffix: str) -> None:
    href = write_as(suffix, tmp_path, some_points(3000))
    rows = rows_by_region([(href, scan_granule(href, Source(), Boxes()))])
    run = read_runs(href, Source())[0].name
    write_as(suffix, tmp_path, some_points(300))
    with pytest.raises(TileError, match=rf"points{suffix}'.*(again|can be read)"):
        read_part(href, Source(), run, 0, 3000, ())
    if not suffix.startswith(".csv"):
        with RegionReader(Source(), Boxes()) as reader, pytest.raises(TileError, match="run the command again"):
            read_all(reader, rows, ("i",))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".h5"])
def test_missing_library_says_what_to_install(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    href = write_as(suffix, tmp_path, some_points(3))
    for module in ("h5py", "pyarrow", "pyarrow.csv", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExtraError, match=r"needs (h5py|pyarrow): pip install 'cubeingest\[points\]'"):
        read_runs(href, Source())


def test_column_within_a_struct_is_found_and_others_are_named(tmp_path: Path) -> None:
    nested = pa.StructArray.from_arrays([pa.array([1.5, 2.5]), pa.array([3, 4])], ["a", "b"])
    stamps = pa.array([1, 2], pa.timestamp("s"))
    pq.write_table(pa.table({"lon": [1, 2], "lat": [3, 4], "s": nested, "t": stamps, "l": [[1], [2]], "d": pa.array([1, 2]).cast(pa.decimal128(30, 3)), "e": pa.nulls(2), "o": [True, None]}), tmp_path / "a.parquet")  # fmt: skip
    href, names = str(tmp_path / "a.parquet"), {"a": "s.a", "d": "d", "e": "e", "o": "o", "t": "t"}
    got = read_part(href, Source(columns=names), "0", 0, None, tuple(names))
    same(
        {n: got[n] for n in names},
        {
            "a": np.array([1.5, 2.5]),
            "d": np.array([1.0, 2]),
            "e": np.full(2, np.nan),
            "o": np.array([1, np.nan]),
            "t": np.array([1.0, 2]),
        },
    )
    for path, message in (
        ("s.c", r"has no column 's.c'.*\(it has a, b\)"), ("lon.c", "has no column 'lon.c': 'lon' is int64"), ("s", "'s' is struct.*, not a number"),
        ("l", "'l' is list.*, not a number"),
    ):  # fmt: skip
        with pytest.raises(TileError, match=message):
            read_part(href, Source(columns={"h": path}), "0", 0, None, ("h",))


def test_old_netcdf_says_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "a.nc").write_bytes(b"CDF\x01" + bytes(100))
    with pytest.raises(TileError, match="it is netCDF 3: convert it with nccopy -k nc4"):
        read_runs(str(tmp_path / "a.nc"), Source())


def test_granule_that_is_not_there_or_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TileError, match=r"granule '.*a.h5' is not there"):
        read_runs(str(tmp_path / "a.h5"), Source())
    with pytest.raises(TileError, match=r"'.*a.las' is of no known kind: its name must end in .parquet"):
        read_runs(str(tmp_path / "a.las"), Source())
    with pytest.raises(TileError, match="is not opened"):
        read_runs("simplecache::s3://b/a.h5", Source())


# ---- coordinates ------------------------------------------------------------------------------------------------


def scan_of(tmp_path: Path, lon: list[float], lat: list[float], locator: Any = None, **source: Any) -> Any:
    href = write_parquet(tmp_path / "a.parquet", {"lon": np.array(lon), "lat": np.array(lat)})
    return scan_granule(href, Source(**source), locator or Boxes())


def test_points_without_coordinates_and_outside_are_counted(tmp_path: Path) -> None:
    nan, inf = np.nan, np.inf
    found = scan_of(tmp_path, [5, nan, 5, inf, 5, 50], [5, 5, nan, 5, -inf, 5], Boxes(0, 30, 1, (30, 30), 10))
    assert (found.n_points, found.n_invalid, found.n_outside) == (6, 4, 1)
    assert found.count.tolist() == [1]


@pytest.mark.parametrize("crs", ["OGC:CRS84", "EPSG:4326"])
@pytest.mark.parametrize("grid", [Boxes(), Boxes(crs="EPSG:3857", left=-2e7, top=2e7, step=1e5, shape_yx=(400, 400))])
def test_latitude_past_the_pole_is_refused(tmp_path: Path, crs: str, grid: Boxes) -> None:
    with pytest.raises(
        TileError, match=r"a.parquet', 0: latitude 112.3 at point 1 \(longitude 10\): are x and y swapped\?"
    ):
        scan_of(tmp_path, [0, 10], [5, 112.3], grid, crs=crs)
    with pytest.raises(TileError, match=r"latitude -9999 at point 0 .*: is it a fill value, or in another CRS\?"):
        scan_of(tmp_path, [0, 10], [-9999, 2], grid, crs=crs)
    with pytest.raises(TileError, match=r"longitude 360.5 at point 1 lies outside -360..360"):
        scan_of(tmp_path, [0, 360.5], [5, 5], grid, crs=crs)


def test_latitude_that_was_rounded_past_the_pole_is_the_pole(tmp_path: Path) -> None:
    assert scan_of(tmp_path, [0, 0], [90 + 1e-9, -90 - 1e-9], Healpix()).count.sum() == 2


def test_longitudes_of_both_ways_of_counting_are_taken(tmp_path: Path) -> None:
    points = scan_of(tmp_path, [190, -170, -360, 0, 360], [10, 10, 0, 0, 0], Healpix())
    assert sorted(points.count.tolist()) == [2, 3]


def test_points_in_another_crs_are_taken_to_the_grids(tmp_path: Path) -> None:
    points = some_points(500, around=(-170, -80, 170, -65))
    x, y = Transformer.from_crs("OGC:CRS84", "EPSG:3031", always_xy=True).transform(points["lon"], points["lat"])
    polar = Boxes(-3e6, 3e6, 1e5, (60, 60), 10, "EPSG:3031")
    ours = scan_of(tmp_path, points["lon"], points["lat"], polar)
    theirs = scan_of(tmp_path, x, y, polar, crs="EPSG:3031")
    assert ours.region.tolist() == theirs.region.tolist()
    assert ours.count.tolist() == theirs.count.tolist()
    assert ours.count.sum() == 500


def test_points_beyond_a_projection_lie_outside(tmp_path: Path) -> None:
    found = scan_of(tmp_path, [0, 0], [-90, 10], Boxes(-2e7, 2e7, 1e6, (40, 40), 10, "EPSG:3857"))
    assert (found.n_invalid, found.n_outside, found.count.tolist()) == (0, 1, [1])


# ---- a region's points ------------------------------------------------------------------------------------------


def read_all(
    reader: RegionReader, rows: Mapping[int, tuple[GranuleRow, ...]], names: tuple[str, ...]
) -> dict[int, Any]:
    out = {}
    for number, own in rows.items():
        batches = list(reader.points_of(own, number, names))
        if batches:
            out[number] = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
    return out


def compare(got: Mapping[int, Any], expected: Mapping[int, Any]) -> None:
    assert sorted(got) == sorted(expected)
    for number, points in expected.items():
        order, other = np.argsort(got[number]["i"], kind="stable"), np.argsort(points["i"], kind="stable")
        same({k: v[order] for k, v in got[number].items()}, {k: v[other] for k, v in points.items()})


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", ["scattered", "track"])
@pytest.mark.parametrize("room", ["memory", "disk", "little", "none"])
def test_every_region_gets_its_points_wherever_they_are_kept(
    tmp_path: Path,
    suffix: str,
    shape: str,
    room: str,
    small_batches: None,
    scratch_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spill, "SEGMENT_BYTES", 20_000)
    monkeypatch.setenv(
        "CUBEINGEST_SCRATCH_BYTES", {"memory": "0", "disk": "100000000", "little": "45000", "none": "0"}[room]
    )
    points = (some_points if shape == "scattered" else a_track)(3000)
    points["h"] = points["h"].astype(np.float64)
    points["lon"][5], points["lat"][70] = np.nan, np.nan
    expected = in_regions(points, Boxes(), ("i", "h"))
    if suffix.startswith(".csv"):
        points = {
            n: v if n == "i" else np.array([repr(x) if x == x else "" for x in v.tolist()]) for n, v in points.items()
        }
        rows = [",".join(points), *(",".join(map(str, row)) for row in zip(*points.values(), strict=True))]
        import gzip

        text = "\n".join(rows).encode()
        (tmp_path / f"a{suffix}").write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
        href = str(tmp_path / f"a{suffix}")
    else:
        href = write_as(suffix, tmp_path, points)
    footprint = scan_granule(href, Source(), Boxes())
    assert footprint.n_invalid == 2
    rows_of = rows_by_region([(href, footprint)])
    with RegionReader(Source(), Boxes(), 2**28 if room == "memory" else 10_000) as reader:
        compare(read_all(reader, rows_of, ("i", "h")), expected)
        compare(read_all(reader, rows_of, ("i", "h")), expected)
    assert list(scratch_folder.iterdir()) == []


@pytest.mark.parametrize("suffix", [".parquet", ".h5"])
@pytest.mark.parametrize("shape", ["scattered", "track"])
def test_filter_keeps_what_it_is_true_for(tmp_path: Path, suffix: str, shape: str, small_batches: None) -> None:
    points = (some_points if shape == "scattered" else a_track)(2000)
    points["q"] = np.arange(2000) % 3
    points["h"][::7] = np.nan
    href = write_as(suffix, tmp_path, points)
    chosen = Chosen(frozenset(("q", "h")), lambda q, h: (q == 1) & (h > 0))
    source = Source(columns={n: n for n in "ihq"}, filter=chosen)
    rows = rows_by_region([(href, scan_granule(href, source, Healpix()))])
    kept = (points["q"] == 1) & (points["h"] > 0)
    with RegionReader(source, Healpix()) as reader:
        compare(read_all(reader, rows, ("i",)), in_regions({n: v[kept] for n, v in points.items()}, Healpix(), ("i",)))


def test_filter_that_keeps_nothing_gives_nothing(tmp_path: Path) -> None:
    href = write_parquet(tmp_path / "a.parquet", some_points(100))
    for answer in (lambda: False, lambda: np.False_, lambda: np.zeros(()), lambda: np.full(100, np.nan)):
        source = Source(filter=Chosen(frozenset(), answer))
        rows = rows_by_region([(href, scan_granule(href, source, Boxes()))])
        with RegionReader(source, Boxes()) as reader:
            assert read_all(reader, rows, ("h",)) == {}


def test_whole_runs_give_a_region_its_points(tmp_path: Path) -> None:
    hrefs = [write_as(s, tmp_path, some_points(500, i), str(i)) for i, s in enumerate(SUFFIXES)]
    rows = tuple(GranuleRow(href, (Part(EVERY_RUN, 0, -1, -1),)) for href in hrefs)
    expected = [in_regions(some_points(500, i), Boxes(), ("i",)) for i in range(len(SUFFIXES))]
    with RegionReader(Source(), Boxes()) as reader:
        for number in range(72):
            got = list(reader.points_of(rows, number, ("i",)))
            mine = [e[number] for e in expected if number in e]
            assert sum(len(b["i"]) for b in got) == sum(len(m["i"]) for m in mine)
            assert np.array_equal(np.concatenate([b["cell"] for b in got]), np.concatenate([m["cell"] for m in mine]))


def test_batches_are_bounded_and_hold_many_pieces(tmp_path: Path, small_batches: None) -> None:
    here = (1, 1, 2, 2)
    hrefs = [
        write_hdf5(tmp_path / f"{i}.h5", {"": some_points(n, i, here)}) for i, n in enumerate([1000, 5, 5, 5, 0, 200])
    ]
    rows = rows_by_region([(href, scan_granule(href, Source(), Boxes())) for href in hrefs])
    with RegionReader(Source(), Boxes()) as reader:
        sizes = [len(b["cell"]) for own in rows.values() for b in reader.points_of(own, next(iter(rows)), ("i",))]
    assert sum(sizes) == 1215
    assert max(sizes) < 2 * 128
    assert min(sizes[:-1]) >= 128


def test_what_is_given_to_one_region_cannot_be_changed_for_the_next(tmp_path: Path) -> None:
    href = write_parquet(tmp_path / "a.parquet", some_points(100, around=(1, 1, 2, 2)))
    ((number, rows),) = rows_by_region([(href, scan_granule(href, Source(), Boxes()))]).items()
    with RegionReader(Source(), Boxes()) as reader:
        (batch,) = reader.points_of(rows, number, ("h",))
        with pytest.raises(ValueError, match="read-only"):
            batch["h"][0] = 7


@pytest.mark.parametrize("suffix", [".parquet", ".h5", ".csv"])
def test_many_threads_get_what_one_does(
    tmp_path: Path, suffix: str, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "SEGMENT_BYTES", 20_000)
    monkeypatch.setenv("CUBEINGEST_SCRATCH_BYTES", "45000")
    monkeypatch.setattr(region, "OPEN_AT_ONCE", 1)
    names = ("i", "h")
    hrefs = [
        write_as(suffix, tmp_path, points, str(n))
        for n, points in enumerate([some_points(900), a_track(900), some_points(900, 4)])
    ]
    rows = rows_by_region([(href, scan_granule(href, Source(), Boxes())) for href in hrefs])
    with RegionReader(Source(), Boxes()) as reader:
        expected = read_all(reader, rows, names)
    with RegionReader(Source(), Boxes(), 20_000) as reader, ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda one: (one, read_all(reader, {one: rows[one]}, names)[one]), [*rows, *rows])
        for number, points in found:
            same(points, expected[number])


def test_parquet_is_decoded_once_whatever_the_regions(
    tmp_path: Path, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    href = write_parquet(tmp_path / "a.parquet", some_points(2000), rows=500)
    rows = rows_by_region([(href, scan_granule(href, Source(), Boxes()))])
    read: list[str] = []
    plain = parquet.ParquetGranule.batches

    def counted(self: Any, run: str, *rest: Any) -> Iterator[Any]:
        read.append(run)
        return plain(self, run, *rest)

    monkeypatch.setattr(parquet.ParquetGranule, "batches", counted)
    with RegionReader(Source(), Boxes()) as reader:
        read_all(reader, rows, ("i",))
    assert sorted(read) == ["0", "1", "2", "3"]


# ---- elsewhere --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_remote_granule_is_fetched_once_to_scan_and_once_to_read(tmp_path: Path, site: Site, suffix: str) -> None:
    points = some_points(2000)
    points["h"] = points["h"].astype(np.float64)
    url = site.put(f"/points{suffix}", Path(write_as(suffix, tmp_path, points)).read_bytes())
    rows = rows_by_region([(url, scan_granule(url, Source(), Boxes()))])
    ranges = site.count("GET")
    with RegionReader(Source(), Boxes()) as reader:
        compare(read_all(reader, rows, ("i", "h")), in_regions(points, Boxes(), ("i", "h")))
    assert site.count("GET") == 2 * ranges


def test_remote_granule_without_room_on_the_disk_is_read_in_memory(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBEINGEST_SCRATCH_BYTES", "0")
    for suffix in SUFFIXES:
        url = site.put(f"/points{suffix}", Path(write_as(suffix, tmp_path, some_points(2000))).read_bytes())
        assert scan_granule(url, Source(), Boxes()).n_points == 2000


def test_remote_granule_that_is_not_there_is_named_without_its_secrets(site: Site) -> None:
    with pytest.raises(TileError, match=r"granule 'http://[^?]*/no.h5' is not there"):
        scan_granule(f"{site.url}/no.h5?key=secret", Source(), Boxes())


# ---- any points in any grid -------------------------------------------------------------------------------------

EDGES = (-180.0, -90.0, -30.0, 0.0, 30.0, 90.0, 180.0)
LON = st.one_of(st.sampled_from(EDGES), st.floats(-180, 180), st.just(np.nan), st.floats(180, 360), st.just(np.inf))
LAT = st.one_of(st.sampled_from((-90.0, -60.0, -30.0, 0.0, 30.0, 60.0, 90.0)), st.floats(-90, 90), st.just(np.nan))
GRIDS = st.one_of(
    st.builds(
        Boxes, st.sampled_from((-180.0, -10.0, 0.0, 3.7)), st.sampled_from((90.0, 10.3, 30.0)), st.sampled_from((1.0, 0.25, 7.5)),
        st.tuples(st.integers(1, 180), st.integers(1, 360)), st.integers(1, 60),
    ),
    st.builds(Healpix, st.integers(5, 29), st.integers(0, 5)),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.lists(st.tuples(LON, LAT), max_size=60), grid=GRIDS, is_hdf5=st.booleans(), repeats=st.integers(1, 5))
def test_no_point_is_missed_and_none_is_found_twice(
    folder: Path, where: list[tuple[float, float]], grid: Any, is_hdf5: bool, repeats: int
) -> None:
    places = np.array(where, float).reshape(-1, 2).repeat(repeats, axis=0)
    points = {"lon": places[:, 0], "lat": places[:, 1], "i": np.arange(len(places))}
    href = write_hdf5(folder / "a.h5", {"": points}) if is_hdf5 else write_parquet(folder / "a.parquet", points, 7)
    lost = ~np.isfinite(places).all(axis=1)
    points = {**points, "lon": np.where(lost, np.nan, points["lon"]), "lat": np.where(lost, np.nan, points["lat"])}
    footprint = scan_granule(href, Source(), grid)
    expected = in_regions(points, grid, ("i",))
    assert footprint.n_invalid == lost.sum()
    assert footprint.n_invalid + footprint.n_outside + footprint.count.sum() == len(places)
    rows = rows_by_region([(href, footprint)])
    assert sorted(rows) == sorted(expected)
    for number, own in rows.items():
        assert sum(part.count for row in own for part in row.parts) == len(expected[number]["i"])
    with RegionReader(Source(), grid) as reader:
        compare(read_all(reader, rows, ("i",)), expected)
    os.unlink(href)
