"""A Python function as the source of a cube's pixels: what it is given, what it may return, and what is kept of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import cubeingest as ci
from cubeingest.engine import Progress
from cubeingest.errors import CatalogError, FunctionError
from cubeingest.ingest.returned import fit
from cubeingest.ledger import Record, read_records
from cubeingest.plan import slots_of
from cubeingest.selection import Selection, choose
from tests.conftest import GRID, Ran
from tests.test_bad_store import refused

Invoke = Callable[..., Ran]
Make = Callable[[str], ci.Cube]

NUMBER = "variables: {number: {dtype: int32, fill_value: -1, chunks: {y: 50, x: 50}}}\n"
YEARS = "axes: {year: {values: [2000, 2005]}}\n"
PLACE = np.arange(200)[:, np.newaxis] * 1000 + np.arange(250)
"""Row and column of each pixel as one number: what :func:`number` gives, by way of the geobox alone."""


def number(geobox: Any, **axes: int) -> np.ndarray:
    """PLACE, plus the axis values."""
    top, left = round((20 - geobox.affine.f) * 10), round(geobox.affine.c * 10)
    rows, columns = np.arange(top, top + geobox.shape[0]), np.arange(left, left + geobox.shape[1])
    return (rows[:, np.newaxis] * 1000 + columns + sum(axes.values())).astype("int32")


def labelled(geobox: Any, **axes: int) -> xr.DataArray:
    coords = {name: c.values for name, c in geobox.coords.items()}
    return xr.DataArray(number(geobox, **axes), coords=coords, dims=("latitude", "longitude"))


def is_sound(cube: ci.Cube) -> bool:
    return ci.open(cube.store.uri, cube.store.branch).check(deep=True).findings == []


def records(cube: ci.Cube) -> list[Record]:
    return list(read_records(cube.store.readonly(), slots_of(cube.spec, choose(cube.spec, Selection()))).values())


# ---- what it returns becomes the cube -------------------------------------------------------------------------


def test_array_fills_every_region_of_every_year(make_cube: Make) -> None:
    cube = make_cube(YEARS + NUMBER)
    assert (cube.status().pending, cube.status().absent) == (12, 0)
    seen: list[Progress] = []
    report = cube.ingest(source=number, on_progress=seen.append)
    assert (report.planned, report.written, report.failed, report.exit_code) == (12, 12, [], 0)
    assert report.bytes == 2 * 200 * 250 * 4
    assert sum(p.result is not None for p in seen) == seen[0].n_slots == 12
    held = cube.dataset()["number"]
    for year in (2000, 2005):
        assert np.array_equal(held.sel(year=year), PLACE + year)
    assert cube.status().done == 12
    assert len(cube.diff(cube.history()[-1].snapshot)) == 12
    check = cube.verify(sample=0.01)
    assert (check.checked, check.equal, check.different, check.missing) == (12, 12, [], [])
    assert is_sound(cube)
    (record, *_) = records(cube)
    assert (record.sources[0].href, record.reading) == ("python:tests.test_function.number", "computed")


def masked(g: Any) -> Any:
    return np.ma.MaskedArray(number(g).astype("int64"), mask=number(g) % 7 == 0)


def delayed(g: Any) -> Any:
    return dask.delayed(number)(g)


FORMS: dict[str, Callable[[Any], Any]] = {
    "an array": number,
    "of a narrower dtype": lambda g: np.full(g.shape, 7, "uint8"),
    "of booleans": lambda g: np.ones(g.shape, bool),
    "of wide integers that fit": lambda g: number(g).astype(">i8"),
    "laid out by columns": lambda g: np.asfortranarray(number(g)),
    "masked": masked,
    "lazy": lambda g: da.from_array(number(g), chunks=30),
    "delayed": delayed,
    "a dict": lambda g: {"number": number(g), "other": "ignored"},
    "a DataArray": labelled,
    "a DataArray with the columns first": lambda g: labelled(g).transpose(),
    "a DataArray whose rows run the other way": lambda g: labelled(g)[::-1],
    "a DataArray turned in every way": lambda g: labelled(g)[::-1, ::-1].transpose(),
    "a DataArray that calls them y and x": lambda g: labelled(g).rename(latitude="y", longitude="x"),
    "a DataArray without labels": lambda g: labelled(g).drop_vars(["latitude", "longitude"]),
    "a DataArray with one band": lambda g: labelled(g).expand_dims(band=[1]),
    "a DataArray labelled in float32": lambda g: labelled(g).assign_coords(longitude=labelled(g).longitude.astype("f4")),
    "a lazy DataArray": lambda g: labelled(g).chunk(latitude=30),
    "a lazy Dataset": lambda g: xr.Dataset({"number": labelled(g).chunk(), "other": 1}),
}  # fmt: skip


@pytest.mark.parametrize("f", FORMS.values(), ids=FORMS)
def test_what_it_may_return(make_cube: Make, f: Callable[[Any], Any]) -> None:
    cube = make_cube(NUMBER)
    assert cube.ingest(source=f, region=["y0_x1", "y1_x2"]).failed == []
    held = cube.dataset()["number"].values
    expected = PLACE.copy()
    if f in (FORMS["of a narrower dtype"], FORMS["of booleans"]):
        expected[...] = 7 if f is FORMS["of a narrower dtype"] else 1
    if f is masked:
        expected[expected % 7 == 0] = -1
    assert np.array_equal(held[:100, 100:200], expected[:100, 100:200])
    assert np.array_equal(held[100:, 200:], expected[100:, 200:])
    assert (held[100:, :200] == -1).all()


def test_grid_may_run_northward_under_names_of_its_own(tmp_path: Path) -> None:
    north = (
        GRID.replace("y: 20}", "y: 0}")
        .replace("y: -1/10", "y: 1/10")
        .replace("grid: {", "grid: {dims: {y: lat, x: lon}, ")
    )
    (tmp_path / "north.yaml").write_text(north + NUMBER)
    cube = ci.init(tmp_path / "north.yaml")

    def tenths(geobox: Any) -> Any:
        lat, lon = (c.values for c in geobox.coords.values())
        values = np.broadcast_to(np.floor(lat * 10).astype("int32")[:, np.newaxis], geobox.shape)
        return xr.DataArray(values, coords={"y": lat, "x": lon}, dims=("y", "x")).sortby(
            "y", ascending=geobox.affine.c == 0
        )

    assert cube.ingest(source=tenths).failed == []
    held = cube.dataset()["number"]
    assert held.dims == ("lat", "lon")
    assert (held == np.floor(held["lat"] * 10)).all()


# ---- several variables ----------------------------------------------------------------------------------------

THREE = """\
axes: {year: {values: [2000, 2005]}}
variables:
  height: {axes: [], dtype: float32, fill_value: nan, chunks: {y: 50, x: 50}}
  share: {dtype: float32, fill_value: nan, chunks: {y: 50, x: 50}}
  kind: {dtype: uint8, fill_value: 255, chunks: {y: 100, x: 100}, shards: {y: 100, x: 100}}
"""


def test_dataset_fills_several_variables_and_each_task_is_one_call(make_cube: Make, tmp_path: Path) -> None:
    cube = make_cube(THREE)
    (tmp_path / "calls").mkdir()

    def f(geobox: Any, year: int | None = None) -> Any:
        (tmp_path / "calls" / f"{year}-{uuid4()}").touch()
        if year is None:
            return number(geobox)
        share = (labelled(geobox) % 100 / 100 + year).astype("float32")
        return xr.Dataset({"share": share, "kind": (labelled(geobox) % 200).astype("uint8"), "other": share})

    report = cube.ingest(source=f)
    assert (report.planned, report.written, report.failed) == (30, 30, [])
    calls = [p.name.partition("-")[0] for p in (tmp_path / "calls").iterdir()]
    assert {name: calls.count(name) for name in calls} == {"None": 6, "2000": 6, "2005": 6}
    ds = cube.dataset()
    assert np.array_equal(ds["height"].values, PLACE.astype("float32"))
    assert np.array_equal(ds["kind"].sel(year=2005), PLACE % 200)
    assert np.array_equal(ds["share"].sel(year=2005), (PLACE % 100 / 100 + 2005).astype("float32"))
    assert cube.verify().equal == 30
    assert is_sound(cube)


def test_variable_that_is_missing_fails_and_the_others_go_on(make_cube: Make) -> None:
    cube = make_cube(THREE)
    report = cube.ingest(
        source=lambda g, year: {"share": number(g), "kimd": None}, variable=["share", "kind"], year=2000
    )
    assert (report.written, len(report.failed)) == (6, 6)
    assert {f.variable for f in report.failed} == {"kind"}
    assert report.failed[0].error == "returned no variable 'kind'; did you mean 'kimd'? (returned: share, kimd)"
    only = cube.ingest(source=lambda g, year: number(g) % 9, variable="kind", year=2000, region="y0_x0")
    assert only.written == 1
    both = cube.ingest(source=lambda g, year: number(g), variable=["share", "kind"], year=2005, limit=1)
    assert "returned one ndarray for 2 variables (share, kind): return a Dataset or a dict" in both.failed[0].error
    assert both.planned == 2


# ---- what it is given -----------------------------------------------------------------------------------------


def test_axis_values_are_plain_python(make_cube: Make) -> None:
    cube = make_cube(
        "axes: {day: {start: 2000-01-31, stop: 2000-02-29, freq: ME}, band-name: {values: [red, nir]}, depth: {values: [0.5, 1.5]}}\n"
        + NUMBER.replace("chunks: {", "chunks: {band-name: 1, ")
    )
    calls = []

    def f(geobox: Any, **axes: Any) -> None:
        calls.append(axes)

    assert cube.ingest(source=f, region="y0_x0").empty == 8
    assert [sorted(c) for c in calls] == [["band_name", "day", "depth"]] * 8
    assert {type(v) for c in calls for v in c.values()} == {datetime, str, float}
    assert {c["day"] for c in calls} == {datetime(2000, 1, 31), datetime(2000, 2, 29)}
    assert {(c["band_name"], c["depth"]) for c in calls} == {("red", 0.5), ("red", 1.5), ("nir", 0.5), ("nir", 1.5)}


def test_axis_block_of_several_values_is_stacked(make_cube: Make) -> None:
    cube = make_cube("axes: {year: {start: 2000, stop: 2004}}\n" + NUMBER.replace("chunks: {", "chunks: {year: 3, "))

    def f(geobox: Any, year: int) -> Any:
        if year == 2003 and geobox.affine.c == 0:
            return number(geobox)[:-1]
        return None if year == 2001 else number(geobox, year=year)

    report = cube.ingest(source=f)
    assert (report.planned, report.written, len(report.failed)) == (12, 10, 2)
    assert report.failed[0].error == "year 2003: returned shape (99, 100) for 'number', expected (100, 100) (y, x)"
    assert report.failed[0].axes == {"year": "2003..2004"}
    held = cube.dataset()["number"]
    assert np.array_equal(held.sel(year=2002), PLACE + 2002)
    assert (held.sel(year=2001) == -1).all()
    assert (held.sel(year=2004)[:, :100] == -1).all()
    assert np.array_equal(held.sel(year=2004)[:, 100:], PLACE[:, 100:] + 2004)
    assert is_sound(cube)


def test_region_for_which_it_returns_nothing_is_empty(make_cube: Make) -> None:
    cube = make_cube(NUMBER)
    cube.ingest(source=number)
    report = cube.ingest(source=lambda g: None if g.affine.c == 0 else number(g))
    assert (report.written, report.empty) == (4, 2)
    assert (cube.status().done, cube.status().empty) == (4, 2)
    assert (cube.dataset()["number"].values[:, :100] == -1).all()
    assert cube.verify().equal == 6
    assert is_sound(cube)


# ---- what does not fit fails one region -----------------------------------------------------------------------


class Panic(BaseException):
    """As a library written in Rust raises it."""


def fails(g: Any) -> Any:
    raise ValueError("first line\nsecond line")


def panics(g: Any) -> Any:
    raise Panic("unreachable")


def with_nan(g: Any) -> Any:
    out = np.zeros(g.shape)
    out[3, 4:7] = np.nan
    return out


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "transposed": (lambda g: np.zeros((100, 99), int), r"returned shape (100, 99) for 'number', expected (100, 100) (y, x)"),
    "3-D": (lambda g: number(g)[None], "returned shape (1, 100, 100)"),
    "a number": (lambda g: np.float64(1), "returned shape ()"),
    "a list": (lambda g: number(g).tolist(), "returned list for 'number', expected a numpy array, a DataArray"),
    "shifted": (lambda g: labelled(g).assign_coords(longitude=labelled(g).longitude + 0.05),
                "returned labels 10.1 to 20 along 'longitude', 0.5 px off the region's 10.05 to 19.95 (allowed 0.01)"),
    "another region's": (lambda g: labelled(g.pad(1)[2:102, 1:101]), "1 px off the region's"),
    "labelled with NaN": (lambda g: labelled(g).assign_coords(longitude=np.full(100, np.nan)), "nan px off"),
    "labelled with text": (lambda g: labelled(g).assign_coords(longitude=[str(i) for i in range(100)]), "returned labels of dtype <U2"),
    "with other dimensions": (lambda g: labelled(g).rename(latitude="a"), "returned dimensions (a 100, longitude 100), expected (y, x)"),
    "with three bands": (lambda g: labelled(g).expand_dims(band=3), "returned dimensions (band 3, latitude 100, longitude 100)"),
    "objects": (lambda g: number(g).astype(object), "returned dtype object, which is no number: variable 'number' is int32"),
    "text": (lambda g: number(g).astype(str), "which is no number"),
    "dates": (lambda g: number(g).astype("M8[s]"), "which is no number"),
    "complex": (lambda g: number(g) * 1j, "returned dtype complex128, which is no number"),
    "whole floats": (lambda g: np.zeros(g.shape), "returned float64: variable 'number' is int32: round and convert it with .astype('int32')"),
    "NaN": (with_nan, "returned float64 with 3 NaN, which no integer is: put the fill value there, variable 'number' is int32"),
    "too large": (lambda g: np.where(number(g) == 4150, 2**40, -5), "from -5 to 1099511627776: variable 'number' is int32, which holds -2147483648 to"),
    "an error": (fails, "ValueError: first line second line (test_function.py, line "),
    "a panic": (panics, "Panic: unreachable (test_function.py, line "),
    "an exit": (lambda g: sys.exit(3), "SystemExit: 3"),
    "an error of a cube": (lambda g: ci.open("/nowhere"), "no cube at '/nowhere'"),
    "a lazy error": (dask.delayed(fails), "ValueError: first line"),
    "a class": (lambda g: int, "returned type for 'number'"),
}  # fmt: skip


@pytest.mark.parametrize(("f", "reason"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_fails_its_region_only(make_cube: Make, f: Callable[[Any], Any], reason: str) -> None:
    cube = make_cube(NUMBER)

    def there(geobox: Any) -> Any:
        return f(geobox) if (geobox.affine.c, geobox.affine.f) == (10, 20) else number(geobox)

    report = cube.ingest(source=there, region=["y0_x0", "y0_x1", "y0_x2"])
    assert (report.planned, report.written, report.exit_code) == (3, 2, 1)
    (failure,) = report.failed
    assert (failure.region, failure.variable) == ("y0_x1", "number")
    assert failure.href == "python:tests.test_function.test_what_does_not_fit_fails_its_region_only.<locals>.there"
    assert reason in failure.error
    assert "\n" not in failure.error
    held = cube.dataset()["number"].values[:100]
    assert np.array_equal(held[:, :100], PLACE[:100, :100])
    assert (held[:, 100:200] == -1).all()
    assert (cube.status().done, cube.status().pending) == (2, 4)


def test_first_failure_aborts_if_asked(make_cube: Make) -> None:
    cube = make_cube(NUMBER)
    report = cube.ingest(
        source=lambda g: number(g) if g.affine.c == 0 else None if g.affine.c == 10 else 1 / 0, on_error="abort"
    )
    assert (report.exit_code, report.snapshot, cube.status().pending) == (2, None, 6)


MOST, LEAST = 2**63 - 1, -(2**63)


@pytest.mark.parametrize(("values", "dtype", "kept"), [
    ([0, 255], "uint8", [0, 255]), ([0, 256], "uint8", "from 0 to 256"), ([-1, 3], "uint8", "from -1 to 3"),
    (np.array([2**64 - 1], "u8"), "int64", "from 18446744073709551615"), ([0, 1], "bool", [False, True]), ([0, 2], "bool", "holds 0 to 1"),
    ([True, False], "int16", [1, 0]), ([True, False], "float32", [1.0, 0.0]), ([0.0], "bool", "returned float64:"),
    ([2**24, -(2**24)], "float32", [2.0**24, -(2.0**24)]), ([2**24 + 1], "float32", "1 value that float32 cannot hold, such as 16777217"),
    ([2**24 + 2, 2**40], "float32", [2**24 + 2, 2**40]), ([LEAST], "float32", [-(2.0**63)]), ([LEAST, MOST], "float64", "1 value"), ([70000], "float16", "1 value"),
    (np.array([2**64 - 1], "u8"), "float64", "1 value that float64"), ([1.1, np.nan, np.inf], "float32", [np.float32(1.1), np.nan, np.inf]),
    ([1e300, -1e39, 1.0], "float32", "returned float64 with 2 values beyond 3.403e+38"), (np.array([1.5], "f4"), "float64", [1.5]),
])  # fmt: skip
def test_dtypes_are_changed_only_where_nothing_is_lost(values: Any, dtype: str, kept: Any) -> None:
    variable = some_variable(dtype)
    if isinstance(kept, str):
        with pytest.raises(FunctionError, match=re.escape(kept)):
            fit(np.array(values), variable)
        return
    out = fit(np.array(values), variable)
    assert out.dtype == variable.np_dtype
    assert np.array_equal(out, np.array(kept, dtype), equal_nan=out.dtype.kind == "f")


def some_variable(dtype: str) -> Any:
    from dataclasses import replace

    from cubeingest.spec import read_spec

    return replace(read_spec("glad-lclu").variables[0], name="v", dtype=dtype, fill_value=0)


def test_nan_is_data_unless_it_is_the_fill_value(make_cube: Make) -> None:
    text = "variables: {{v: {{dtype: float32, fill_value: {}, chunks: {{y: 100, x: 100}}}}}}\n"
    nan = lambda g: np.full(g.shape, np.nan)  # noqa: E731
    cube = make_cube(text.format("-1"))
    assert (cube.ingest(source=nan).written, cube.status().done) == (6, 6)
    assert is_sound(cube)
    (Path(cube.store.uri).parent / "nan.yaml").write_text(GRID + text.format("nan"))
    assert (
        ci.init(Path(cube.store.uri).parent / "nan.yaml", Path(cube.store.uri).parent / "nan").ingest(source=nan).empty
        == 6
    )


# ---- what is wrong before any work ----------------------------------------------------------------------------


def test_what_is_no_source_function_is_refused(make_cube: Make) -> None:
    cube = make_cube(YEARS + NUMBER)
    tip = cube.store.tip
    with pytest.raises(FunctionError, match=r"source is 'a\.tif', expected a function f\(geobox, \*\*axes\)"):
        cube.ingest(source="a.tif")  # type: ignore[arg-type]
    with pytest.raises(
        FunctionError, match=r"<lambda>\(geobox\) cannot be called as f\(geobox, year=\), which is how number"
    ):
        cube.ingest(source=lambda geobox: None)
    lock = Lock()
    locked = lambda g, year: lock and None  # noqa: E731
    with pytest.raises(FunctionError, match=r"cannot be sent to workers: TypeError: cannot pickle .*use workers=1"):
        cube.ingest(source=locked, workers=2)
    big = np.zeros(2**27, "uint8")
    with pytest.raises(FunctionError, match=r"captures 128 MB, which would be sent with every task \(allowed 64\)"):
        cube.ingest(source=lambda g, year: big, workers=2)
    assert cube.store.tip == tip
    assert cube.ingest(source=locked).empty == 12


def test_cube_with_nothing_but_computed_variables_has_no_tiles_to_ingest(make_cube: Make, invoke: Invoke) -> None:
    cube = make_cube(NUMBER)
    with pytest.raises(
        CatalogError, match=r"no source is given for number, .*compute it in Python with Cube\.ingest\(source=f\)"
    ):
        cube.ingest()
    refused(invoke("ingest", "--store", cube.store.uri), "no source is given for number")
    assert cube.plan().tasks == 0
