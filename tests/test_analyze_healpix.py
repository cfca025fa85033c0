"""Cells of HEALPix along axes and at points, against numpy over the whole array."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from healpix_geo import nested
from hypothesis import given
from hypothesis import strategies as st

import cubeingest as ci
from cubeingest.analyze import reduction, to_table
from cubeingest.analyze.parts import cut
from cubeingest.errors import GridError, StoreError
from tests.conftest import Ran

Invoke = Callable[..., Ran]

ORDER, REGION_ORDER = 4, 1
IN_REGION = 4 ** (ORDER - REGION_ORDER)
YEARS = (1, 2, 3)

SPEC = """\
name: cells
grid: {type: healpix, order: 4, region_order: 1, ellipsoid: WGS84LAYOUT}
axes: {year: {values: [1, 2, 3]}, beam: {values: [day, night]}}
store: ./cells.icechunk
variables:
  h: {dtype: float32, fill_value: .nan, axes: [year], attrs: {units: m}}
  n: {dtype: uint16, fill_value: 65535, axes: [year, beam], chunks: {cells: 16, year: 1, beam: 1}}
"""
COMPACT = (3, 20, 21, 30, 47)
"""Regions of the compact layout."""


def parents_of(compact: bool) -> np.ndarray:
    return np.array(COMPACT) if compact else np.arange(12 * 4**REGION_ORDER)


def fill_h(area: Any, year: int) -> Any:
    """Some cells have no value; in a region of an odd id nothing is there in year 3."""
    if int(area.id) % 2 and year == 3:
        return None
    ids = area.cell_ids
    return np.where(ids % 7 == year, np.nan, ids * 0.5 + 1000 * year).astype("f4")


def fill_n(area: Any, year: int, beam: str) -> Any:
    ids = area.cell_ids
    return np.where(ids % 5 == year, 65535, ids % 11 + 20 * year + 100 * (beam == "night")).astype("u2")


@pytest.fixture(scope="module", params=["full", "compact"])
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube, filled but for region 20, of which year 2 of ``h`` is pending."""
    folder, compact = tmp_path_factory.mktemp("cells"), request.param == "compact"
    spec = folder / "cells.yaml"
    spec.write_text(SPEC.replace("LAYOUT", f", regions: {{ids: {list(COMPACT)}}}" if compact else ""))
    made = ci.init(spec)
    rest = [str(p) for p in parents_of(compact) if p != 20]
    made.ingest(source=fill_h, variable="h", region=rest)
    made.ingest(source=fill_h, variable="h", region="20", year=[1, 3])
    made.ingest(source=fill_n, variable="n")
    return folder / "cells.icechunk"


@pytest.fixture
def cube(template: Path, tmp_path: Path) -> ci.Cube:
    shutil.copytree(template, tmp_path / "cells.icechunk")
    return ci.open(tmp_path / "cells.icechunk")


def is_compact(cube: ci.Cube) -> bool:
    return cube.spec.healpix is not None and cube.spec.healpix.parents is not None


def ids_of(cube: ci.Cube) -> np.ndarray:
    return (parents_of(is_compact(cube))[:, np.newaxis] * IN_REGION + np.arange(IN_REGION)).ravel()


def expected_h(cube: ci.Cube) -> np.ndarray:
    """(year, cells) as float64, NaN where there is nothing."""
    ids = ids_of(cube)
    years = np.array(YEARS)[:, np.newaxis]
    out = np.where(ids % 7 == years, np.nan, (ids * 0.5 + 1000 * years).astype("f4").astype("f8"))
    region = ids // IN_REGION
    out[2, region % 2 == 1] = np.nan
    out[1, region == 20] = np.nan
    return out


def expected_n(cube: ci.Cube) -> np.ndarray:
    """(year, beam, cells)."""
    ids = ids_of(cube)
    years, beams = np.array(YEARS)[:, np.newaxis, np.newaxis], np.array([0, 100])[:, np.newaxis]
    return np.where(ids % 5 == years, np.nan, ids % 11 + 20.0 * years + beams)


# ---- at points ------------------------------------------------------------------------------------------------


def test_values_at_points_are_those_of_the_cells_that_hold_them(cube: ci.Cube) -> None:
    rng = np.random.default_rng(5)
    lon, lat = rng.uniform(-180, 360, 200), np.degrees(np.arcsin(rng.uniform(-1, 1, 200)))
    if is_compact(cube):  # some that lie within, too
        inside = nested.healpix_to_lonlat(rng.choice(ids_of(cube), 100).astype("u8"), ORDER, ellipsoid="WGS84")
        lon, lat = np.concatenate([lon, inside[0]]), np.concatenate([lat, inside[1]])
    found = cube.series(lon, lat, variable="h")
    cells = nested.lonlat_to_healpix(lon % 360, lat, ORDER, ellipsoid="WGS84").astype("i8")
    ids = ids_of(cube)
    at = np.searchsorted(ids, cells).clip(max=ids.size - 1)
    held = ids[at] == cells
    expected = np.where(held, expected_h(cube)[:, at], np.nan).T
    assert np.array_equal(found.values, expected, equal_nan=True)
    assert np.array_equal(found.outside, ~held)
    assert is_compact(cube) == bool(found.outside.any())
    pending = np.zeros(expected.shape, bool)
    pending[:, 1] = cells // IN_REGION == 20
    assert np.array_equal(found.pending[held], pending[held])
    assert found.gaps.pending == (1 if (cells // IN_REGION == 20)[held].any() else 0)


def test_several_axes_and_an_expression_at_points(cube: ci.Cube) -> None:
    lon, lat = nested.healpix_to_lonlat(ids_of(cube)[::37].astype("u8"), ORDER, ellipsoid="WGS84")
    both = cube.series(lon, lat, variable="n", beam="night", year="2..3")
    assert np.array_equal(both.values, expected_n(cube)[1:, 1:, ::37].transpose(2, 0, 1), equal_nan=True)
    ratio = cube.series(lon, lat, variable="n", expr="(night - day) / (night + day)")
    day, night = expected_n(cube)[:, 0, ::37], expected_n(cube)[:, 1, ::37]
    assert np.allclose(ratio.values.T, (night - day) / (night + day), rtol=1e-15, equal_nan=True)


@pytest.mark.parametrize(("lon", "lat"), [(0.0, 90.5), (float("nan"), 0.0), (0.0, float("inf")), (float("inf"), 1.0)])
def test_points_beyond_a_pole_or_not_finite_are_outside(cube: ci.Cube, lon: float, lat: float) -> None:
    inside = nested.healpix_to_lonlat(ids_of(cube)[:1].astype("u8"), ORDER, ellipsoid="WGS84")
    found = cube.series([lon, float(inside[0][0])], [lat, float(inside[1][0])], variable="h")
    assert found.outside.tolist() == [True, False]
    assert np.isnan(found.values[0]).all()
    assert "1 of 2 points outside the cube" in found.warnings[0]


def test_longitudes_more_than_once_round_are_the_same_places(cube: ci.Cube) -> None:
    lon, lat = nested.healpix_to_lonlat(ids_of(cube)[::11].astype("u8"), ORDER, ellipsoid="WGS84")
    found = [cube.series(lon + turn, lat, variable="h").values for turn in (0, 360, -720, 1080)]
    assert all(np.array_equal(found[0], other, equal_nan=True) for other in found)


def test_each_chunk_is_read_once_for_points(cube: ci.Cube, monkeypatch: pytest.MonkeyPatch) -> None:
    from cubeingest.analyze.quantity import Reader

    asked: list[tuple[int, int]] = []
    read = Reader.read_raw

    def counting(self: Any, variable: Any, index: Any, y: slice, x: slice) -> Any:
        asked.append((x.start // 16, (x.stop - 1) // 16))
        return read(self, variable, index, y, x)

    monkeypatch.setattr(Reader, "read_raw", counting)
    lon, lat = nested.healpix_to_lonlat(ids_of(cube)[:100].astype("u8"), ORDER, ellipsoid="WGS84")
    cube.series(lon, lat, variable="n", year=1, beam="day")
    assert sorted(asked) == [(i, i) for i in range(7)]


# ---- along axes -----------------------------------------------------------------------------------------------

METHODS: dict[str, Callable[..., Any]] = {
    "mean": np.nanmean, "median": np.nanmedian, "min": np.nanmin, "max": np.nanmax, "std": np.nanstd,
}  # fmt: skip


@pytest.mark.parametrize(
    "method", ["median", *(pytest.param(m, marks=pytest.mark.slow) for m in ("mean", "min", "max", "std"))]
)
@pytest.mark.filterwarnings("ignore:All-NaN", "ignore:Mean of empty", "ignore:Degrees of freedom")
def test_result_as_a_variable_is_numpys(cube: ci.Cube, method: str) -> None:
    report = cube.compute(method, "year", variable="h", into="r")
    assert report.run.failed == []
    assert report.gaps.pending == 1
    found = cube.dataset()["r"]
    assert found.dims == ("cells",)
    assert cube.spec.variable("r").axes == ()
    expected = METHODS[method](expected_h(cube), axis=0)
    assert np.allclose(found.values, expected.astype(found.dtype), rtol=1e-6, equal_nan=True)
    assert cube.verify(variable="r").different == []
    again = cube.compute(method, "year", variable="h", into="r")
    assert (again.run.written, again.run.failed, again.added) == (0, [], False)
    assert cube.check().findings == []


def test_other_axes_stay_in_front(cube: ci.Cube) -> None:
    cube.compute("max", "year", variable="n", into="most")
    found = cube.dataset()["most"]
    assert found.dims == ("beam", "cells")
    assert np.array_equal(found.values, np.nanmax(expected_n(cube), axis=0))
    assert cube.spec.variable("most").chunks == (1, 16)


@pytest.mark.slow
def test_other_regions_are_filled_by_the_same_command_later(cube: ci.Cube) -> None:
    cube.compute("count", "year", variable="h", into="c", region=["3", "30"])
    assert cube.status(variable="c").done == 2
    cube.compute("count", "year", variable="h", into="c")
    assert cube.status(variable="c").pending == 0
    assert np.array_equal(cube.dataset()["c"].values, np.isfinite(expected_h(cube)).sum(axis=0))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_table_has_the_cells_that_have_a_value(cube: ci.Cube, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mean{suffix}"
    report = cube.compute("mean", "year", variable="h", output=path)
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": pd.read_csv, ".parquet": pd.read_parquet, ".json": lambda p: pd.DataFrame(json.loads(p.read_text())),
    }  # fmt: skip
    table = readers[suffix](path)
    means = np.nanmean(expected_h(cube), axis=0)
    held = np.isfinite(means)
    ids = ids_of(cube)[held]
    assert np.array_equal(table.cell_ids, ids)
    assert np.allclose(table.value, means[held], rtol=1e-6)
    lon, lat = nested.healpix_to_lonlat(ids.astype("u8"), ORDER, ellipsoid="WGS84")
    assert np.allclose(np.exp(1j * np.radians(table.lon)), np.exp(1j * np.radians(lon)))
    assert np.allclose(table.lat, lat)
    assert (report.pixels, report.missing) == (ids_of(cube).size, int((~held).sum()))
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        geo = json.loads(pq.read_schema(path).metadata[b"geo"])
        assert geo["primary_column"] == "geometry"


def test_table_of_several_results_names_them(cube: ci.Cube, tmp_path: Path) -> None:
    cube.compute("min", "year", variable="n", output=tmp_path / "t.csv", region="20")
    table = pd.read_csv(tmp_path / "t.csv")
    here = ids_of(cube) // IN_REGION == 20
    for k, beam in enumerate(("day", "night")):
        own = table[table.beam == beam]
        assert np.array_equal(own.cell_ids, ids_of(cube)[here])
        assert np.array_equal(own.value, np.nanmin(expected_n(cube)[:, k, here], axis=0))
    assert list(table) == ["cell_ids", "lon", "lat", "beam", "value"]


def test_box_means_the_regions_that_it_touches(cube: ci.Cube, tmp_path: Path) -> None:
    lon, lat = nested.healpix_to_lonlat(np.array([30 * IN_REGION], "u8"), ORDER, ellipsoid="WGS84")
    west, south = (float(lon[0]) + 180) % 360 - 180, float(lat[0])
    cube.compute("mean", "year", variable="h", output=tmp_path / "t.csv", bbox=(west, south, west + 0.01, south + 0.01))
    regions = set(pd.read_csv(tmp_path / "t.csv").cell_ids // IN_REGION)
    assert regions == {int(i) for i in cube.regions(bbox=(west, south, west + 0.01, south + 0.01)) for i in [i["id"]]}
    assert 30 in regions


@pytest.mark.slow
def test_table_in_several_parts_is_the_same(cube: ci.Cube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = []
    for n, rows in enumerate((2**18, 37)):
        monkeypatch.setattr(to_table, "ROWS_AT_ONCE", rows)
        for suffix in (".csv", ".json", ".parquet"):
            cube.compute("max", "year", variable="n", output=tmp_path / f"{n}{suffix}")
        tables.append(
            [
                pd.read_csv(tmp_path / f"{n}.csv"),
                pd.DataFrame(json.loads((tmp_path / f"{n}.json").read_text())),
                pd.read_parquet(tmp_path / f"{n}.parquet").drop(columns="geometry"),
            ]
        )
    for one, other in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert len(tables[0][0]) == 2 * ids_of(cube).size


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_table_without_rows_has_its_columns(cube: ci.Cube, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    assert cube.compute("mean", "year", variable="h", year=3, region="3", output=path).missing == IN_REGION
    if suffix == ".json":
        assert json.loads(path.read_text()) == []
        return
    table = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert list(table)[:4] == ["cell_ids", "lon", "lat", "value"]
    assert len(table) == 0


def test_a_fill_value_that_is_a_number_is_no_value(tmp_path: Path) -> None:
    """Min, max and mode keep a variable's own, also of floats; and axes may have the names of our columns."""
    (tmp_path / "c.yaml").write_text(
        "name: c\ngrid: {type: healpix, order: 2, region_order: 0}\naxes: {value: {values: [1, 2]}, geometry: {values: [a, b]}}\n"
        "store: ./c.icechunk\nvariables: {v: {dtype: float32, fill_value: -9999}}\n"
    )
    made = ci.init(tmp_path / "c.yaml")
    made.ingest(source=_half)
    for method in ("min", "max", "mode", "mean", "count"):
        report = made.compute(method, "value", output=tmp_path / f"{method}.parquet")
        table = pd.read_parquet(tmp_path / f"{method}.parquet")
        assert list(table) == ["cell_ids", "lon", "lat", "geometry_", "value", "geometry"]
        if method != "count":
            assert report.missing == report.pixels // 2 == len(table)
            assert (table.cell_ids % 2 == 0).all()
            assert set(table.value) <= {1.0, 1.5, 2.0}
        else:
            assert sorted(set(table.value)) == [0, 2]
    rows = made.series(45.0, 10.0).rows()
    assert (rows["value_"], rows["geometry"]) == ([1, 1, 2, 2], ["a", "b", "a", "b"]) or rows["value_"] == [
        "1",
        "1",
        "2",
        "2",
    ]


def _half(area: Any, value: int, geometry: str) -> np.ndarray:
    return np.where(area.cell_ids % 2, -9999, value).astype("f4")


def test_refused_values_leave_no_variable(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "name: c\ngrid: {type: healpix, order: 2, region_order: 0}\naxes: {year: {values: [1, 2]}, beam: {values: [a, b]}}\n"
        "store: ./c.icechunk\nvariables: {v: {dtype: float32, fill_value: .nan, chunks: {year: 2, beam: 1, cells: 16}}}\n"
    )
    made = ci.init(tmp_path / "c.yaml")
    with pytest.raises(GridError, match="part of the axis block"):
        made.compute("max", "beam", year=1, into="most")
    assert [v.name for v in ci.open(made.store.uri).spec.variables] == ["v"]


@given(height=st.integers(0, 40), width=st.integers(0, 90_000), most=st.sampled_from([1, 7, 1000, 2**16]))
def test_strips_hold_each_pixel_once_and_no_more_than_asked(height: int, width: int, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reduction, "STRIP_PIXELS", max(most, width // 50 + 1))
        strips = list(reduction._strips((height, width)))
        assert all((y.stop - y.start) * (x.stop - x.start) <= reduction.STRIP_PIXELS for y, x in strips)
    seen = np.zeros((height, width), np.uint8)
    for strip in strips:
        seen[strip] += 1
    assert (seen == 1).all()


# ---- what is wrong --------------------------------------------------------------------------------------------


def test_what_cells_cannot_be_is_said_in_one_line(cube: ci.Cube, tmp_path: Path, invoke: Invoke) -> None:
    for name in ("o.tif", "o.png"):
        with pytest.raises(
            StoreError, match=r"cells of HEALPix are written as \.csv, \.json, \.parquet, or computed into"
        ):
            cube.compute("mean", "year", variable="h", output=tmp_path / name)
    with pytest.raises(GridError, match=r"'h' has no axis 'cells' \(axes: year\)$"):
        cube.compute("mean", "cells", variable="h", into="r")
    zones = tmp_path / "z.geojson"
    zones.write_text('{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}')
    for call in (
        lambda: cube.zonal(zones, variable="h"),
        lambda: cube.transitions({"year": 1, "beam": "day"}, {"year": 2, "beam": "day"}, variable="n"),
    ):
        with pytest.raises(GridError, match="for grids of pixels only"):
            call()
    assert list(tmp_path.glob("o.*")) == []


def test_command_line(cube: ci.Cube, tmp_path: Path, invoke: Invoke) -> None:
    lon, lat = nested.healpix_to_lonlat(np.array([30 * IN_REGION], "u8"), ORDER, ellipsoid="WGS84")
    uri = cube.store.uri
    ran = invoke("compute", "series", "--variable", "h", "--at", lon[0], lat[0], "--store", uri, "--json")
    assert [r["value"] for r in ran.json["rows"]] == [
        v if np.isfinite(v) else None for v in expected_h(cube)[:, ids_of(cube) == 30 * IN_REGION].ravel()
    ]
    out = tmp_path / "m.parquet"
    ran = invoke("compute", "mean", "--variable", "h", "--over", "year", "-o", out, "--store", uri)
    assert (ran.code, ran.out.strip()) == (0, str(out))
    assert f"mean of h over year: {ids_of(cube).size:,} cells, float32; " in ran.err
    ran = invoke(
        "compute", "mean", "--variable", "h", "--over", "year", "-o", out, "--store", uri, "--json", "--region", "3"
    )
    assert ran.json["window"] == {"cells": [(0 if is_compact(cube) else 3) * IN_REGION, (1 if is_compact(cube) else 4) * IN_REGION]}  # fmt: skip
    assert ran.json["pixels"] == IN_REGION


@pytest.mark.parametrize(
    ("n", "chunk", "most"), [(100, 10, 1000), (100, 10, 25), (100, 64, 10), (100, 64, 64), (7, 64, 3)]
)
def test_a_row_of_cells_is_cut_in_parts_that_are_no_larger_than_asked(n: int, chunk: int, most: int) -> None:
    parts = list(cut((slice(0, 1), slice(3, n)), (1, chunk), most))
    assert [i for _, x in parts for i in range(x.start, x.stop)] == list(range(3, n))
    assert all(x.stop - x.start <= max(most, 1) for _, x in parts)
    assert {(y.start, y.stop) for y, _ in parts} == {(0, 1)}
    if most >= chunk:
        assert all(x.start % chunk == 0 or x.start == 3 for _, x in parts)
