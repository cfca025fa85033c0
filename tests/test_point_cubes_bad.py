"""Points, specs and functions that do not fit: each is named, costs only what it must, and can be mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cubeingest as ci
from tests.conftest import Ran

Invoke = Callable[..., Ran]

HEAD = """\
name: bad
grid: {type: healpix, order: 4, region_order: 1, ellipsoid: WGS84}
axes: {cycle: {values: [1, 2]}}
points:
  tiles: {glob: "granules/{cycle}_*.parquet"}
  coordinates: {x: lon, y: lat}
  columns: {h: height, w: weight, k: number, t: time}
  filter: k < 1000
variables:
"""
COUNT = "  n: {dtype: uint32, fill_value: 0, aggregate: count}\n"
MEAN = "  mean: {dtype: float64, fill_value: .nan, aggregate: {mean: h, weights: w}}\n"
STORE = "store: ./bad.icechunk\n"
ALL = HEAD + COUNT + MEAN + STORE


def make_points(seed: int, west: float = 0, east: float = 80, n: int = 60) -> pd.DataFrame:
    """Points of the northern tropics and beyond, in few regions."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "lon": rng.uniform(west, east, n), "lat": rng.uniform(5, 35, n), "height": rng.normal(0, 9, n), "weight": rng.uniform(1, 2, n),
            "number": rng.integers(1, 9, n), "time": np.arange(n),
        }
    )  # fmt: skip


def write(folder: Path, name: str, table: pd.DataFrame) -> Path:
    path = folder / "granules" / f"{name}.parquet"
    path.parent.mkdir(exist_ok=True)
    table.to_parquet(path)
    return path


def make(folder: Path, text: str = ALL, **tables: pd.DataFrame) -> ci.Cube:
    """A cube of a spec, beside granules by name: ``_1_a`` is ``1_a.parquet``."""
    for name, table in tables.items():
        write(folder, name.removeprefix("_"), table)
    (folder / "grid.yaml").write_text(text)
    return ci.init(folder / "grid.yaml")


def counts(cube: ci.Cube, cycle: int = 1) -> np.ndarray:
    return cube.dataset()["n"].sel(cycle=cycle).values


def regions_of(cube: ci.Cube, table: pd.DataFrame) -> int:
    grid = cube.grid
    cells = grid.locate(table.lon.to_numpy(), table.lat.to_numpy())
    return np.unique(grid.regions_of(cells)).size


# ---- granules -------------------------------------------------------------------------------------------------


def test_damaged_granule_is_named_and_once_mended_costs_only_its_regions(tmp_path: Path, invoke: Invoke) -> None:
    good, broken = make_points(1), make_points(2, 0, 30)
    cube = make(tmp_path, _1_a=good)
    path = write(tmp_path, "1_b", broken)
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    ran = invoke("ingest", "--json", "--workers", "1", "--store", tmp_path / "bad.icechunk", cwd=tmp_path)
    assert ran.code == 1
    assert {f["href"] for f in ran.json["failed"]} == {str(path)}
    assert "1_b.parquet' cannot be opened" in ran.json["failed"][0]["error"]
    assert "1_b.parquet" in ran.err
    assert ran.json["written"] == 2 * regions_of(cube, good)
    assert counts(cube).sum() == len(good)
    path.write_bytes(whole)
    report = cube.ingest(workers=1)
    touched = regions_of(cube, broken)
    assert 0 < touched < regions_of(cube, good)
    assert (report.written, len(report.failed)) == (2 * touched, 0)
    assert report.skipped == 2 * (regions_of(cube, good) - touched)
    assert counts(cube).sum() == len(good) + len(broken)
    assert cube.verify().exit_code == 0


def test_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    cube = make(tmp_path, _1_a=make_points(1).rename(columns={"height": "heights"}), _1_b=make_points(2))
    report = cube.ingest(workers=1)
    assert report.exit_code == 1
    assert "no column 'height'; did you mean 'heights'?" in report.failed[0].error
    assert "1_a.parquet" in report.failed[0].error


@pytest.mark.parametrize("name", ["lon", "lat"])
def test_points_without_a_place_are_left_out_and_counted(tmp_path: Path, name: str) -> None:
    table = make_points(1)
    table.loc[:2, name] = [np.nan, np.inf, -np.inf]
    cube = make(tmp_path, _1_a=table)
    report = cube.ingest(workers=1)
    assert report.exit_code == 0
    assert any("3 points without finite coordinates left out, in" in w for w in report.warnings)
    assert counts(cube).sum() == len(table) - 3


def test_swapped_coordinates_fail_where_they_cannot_be_latitudes(tmp_path: Path) -> None:
    table = make_points(1, 100, 140).rename(columns={"lon": "lat", "lat": "lon"})
    report = make(tmp_path, _1_a=table, _1_b=make_points(2)).ingest(workers=1)
    assert report.exit_code == 1
    assert report.written > 0
    assert "are x and y swapped?" in report.failed[0].error
    assert "1_a.parquet" in report.failed[0].error


def test_longitudes_from_0_to_360_are_those_from_minus_180(tmp_path: Path) -> None:
    found = []
    for name, add in (("west", 0), ("east", 360)):
        folder = tmp_path / name
        folder.mkdir()
        table = make_points(1, -60, 0)
        table["lon"] += add
        cube = make(folder, _1_a=table)
        cube.ingest(workers=1)
        found.append(cube.dataset().load())
    assert found[0]["n"].sum() == 60
    assert found[0].equals(found[1])


def test_granule_without_points_feeds_nothing(tmp_path: Path) -> None:
    cube = make(tmp_path, _1_a=make_points(1).iloc[:0], _2_a=make_points(2))
    report = cube.ingest(workers=1)
    assert report.exit_code == 0
    assert (counts(cube, 1).sum(), counts(cube, 2).sum()) == (0, 60)
    assert cube.status(cycle=1).absent == cube.status(cycle=1).total


def test_region_that_the_filter_empties_is_empty_and_one_without_a_granule_absent(tmp_path: Path) -> None:
    table = make_points(1)
    cube = make(tmp_path, _1_a=table.assign(number=1000))
    report = cube.ingest(workers=1)
    assert (report.written, report.empty) == (0, 2 * regions_of(cube, table))
    status = cube.status(cycle=1)
    assert (status.empty, status.absent, status.pending) == (report.empty, status.total - report.empty, 0)
    again = cube.ingest(workers=1)
    assert (again.empty, again.skipped) == (0, report.empty)


# ---- values ---------------------------------------------------------------------------------------------------


def test_negative_weights_cost_their_variable_alone(tmp_path: Path) -> None:
    table = make_points(1)
    table.loc[3, "weight"] = -1
    cube = make(tmp_path, _1_a=table)
    report = cube.ingest(workers=1)
    assert {f.variable for f in report.failed} == {"mean"}
    assert len(report.failed) == 1
    assert "weights 'w' are negative or infinite at 1 point" in report.failed[0].error
    assert counts(cube).sum() == len(table)


def test_points_of_no_weight_do_not_count_but_in_the_count(tmp_path: Path) -> None:
    table = make_points(1)
    cube = make(tmp_path, _1_a=table.assign(weight=0.0))
    report = cube.ingest(workers=1)
    assert report.exit_code == 0
    assert cube.dataset()["mean"].sel(cycle=1).isnull().all()
    assert counts(cube).sum() == len(table)


def test_sum_that_the_dtype_cannot_hold_is_refused(tmp_path: Path) -> None:
    total = "  total: {dtype: int32, fill_value: -1, aggregate: {sum: k * 1000000000}}\n"
    cube = make(tmp_path, HEAD + COUNT + total + STORE, _1_a=make_points(1))
    report = cube.ingest(workers=1)
    assert {f.variable for f in report.failed} == {"total"}
    assert (
        "which dtype int32 of variable 'total' cannot hold: make a new cube with a wider dtype"
        in report.failed[0].error
    )
    assert counts(cube).sum() == 60


def test_sum_of_integers_beyond_int64_is_refused(tmp_path: Path) -> None:
    total = "  total: {dtype: int64, fill_value: -1, aggregate: {sum: k}}\n"
    table = make_points(1).assign(number=2**62, lon=10.0, lat=10.0)
    cube = make(tmp_path, HEAD.replace("  filter: k < 1000\n", "") + COUNT + total + STORE, _1_a=table)
    report = cube.ingest(workers=1)
    assert {f.variable for f in report.failed} == {"total"}
    assert "is beyond int64: sum them as floats, as in 'h * 1.0'" in report.failed[0].error


def test_statistic_equal_to_the_fill_value_is_refused(tmp_path: Path) -> None:
    least = "  least: {dtype: int16, fill_value: 0, aggregate: {min: k}}\n"
    cube = make(tmp_path, HEAD + COUNT + least + STORE, _1_a=make_points(1).assign(number=0))
    report = cube.ingest(workers=1)
    assert {f.variable for f in report.failed} == {"least"}
    assert "is 0 in" in report.failed[0].error
    assert "the fill value of variable 'least', which means that there are no points" in report.failed[0].error


# ---- the catalog file -----------------------------------------------------------------------------------------


def test_catalog_of_another_grid_is_refused(tmp_path: Path, invoke: Invoke) -> None:
    make(tmp_path, ALL, _1_a=make_points(1)).plan()
    assert (tmp_path / "bad.catalog.parquet").exists()
    text = ALL.replace("order: 4, region_order: 1", "order: 4, region_order: 2").replace(
        "bad.icechunk", "other.icechunk"
    )
    (tmp_path / "grid.yaml").write_text(text)
    ran = invoke("init", "grid.yaml", cwd=tmp_path)
    assert ran.code == 0
    assert "the catalog could not be read, ingest will try again" in " ".join(ran.err.split())
    ran = invoke("ingest", cwd=tmp_path)
    assert ran.code == 2
    message = " ".join(ran.err.split())
    assert "is for another grid or source" in message
    assert "move it away, and it is made anew, or name another file for this grid" in message


# ---- specs ----------------------------------------------------------------------------------------------------

WRONG = {
    "points without coordinates": ("  coordinates: {x: lon, y: lat}\n", "", r"points\.coordinates: is missing"),
    "coordinates without y": ("{x: lon, y: lat}", "{x: lon}", r"points\.coordinates\.y: is missing"),
    "a key of points that is none": ("  filter:", "  filtre:", r"points: unknown key 'filtre'; did you mean 'filter'\?"),
    "aggregate without points": (HEAD[HEAD.index("points:") : HEAD.index("variables:")], "", r"variables\.n\.aggregate: there are no points"),
    "quantile without q": ("{mean: h, weights: w}", "{quantile: h}", r"variables\.mean\.aggregate: statistic 'quantile' of 'h' needs 'q'"),
    "a column that is none": ("{mean: h, weights: w}", "{mean: tt}", r"\.aggregate: no column 'tt' among those of points; did you mean 't'\?"),
    "a column of the filter that is none": ("filter: k < 1000", "filter: kk < 1", r"points\.filter: .*there is no column 'kk'.*did you mean 'k'\?"),
    "mean into whole numbers": ("dtype: float64, fill_value: .nan", "dtype: uint8, fill_value: 0", r"variables\.mean\.dtype: a mean is no whole number"),
    "a source on cells": ("aggregate: count", "source: {href: '{id}.tif'}", r"variables\.n\.source: tiles are for grids of pixels"),
    "an ellipsoid that is none": ("WGS84", "WGS48", r"grid.*no ellipsoid is named 'WGS48'; did you mean 'WGS84'\?"),
    "regions smaller than cells": ("region_order: 1", "region_order: 5", r"grid.*region_order"),
    "a statistic that is none": ("{mean: h, weights: w}", "{meen: h}", r"got none; did you mean 'mean'\?"),
    "a key of a statistic that is none": ("{mean: h, weights: w}", "{mean: h, weight: w}", r"no key 'weight'; did you mean 'weights'\?"),
    "regions in hrefs": ('tiles: {glob: "granules/{cycle}_*.parquet"}', 'href: "{cycle}_{id}.parquet"', r"points\.href: points are found where they lie"),
    "granules of no cycle": ("{cycle}_*", "*", r"points: nothing names the axis 'cycle'"),
    "a catalog that is no Parquet": ("  filter:", "  catalog: c.csv\n  filter:", r"points\.catalog: is a file \.parquet, or none"),
    "a name of its own": ("h: height,", "cell: height,", r"points\.columns: 'cell' cannot be a column's name"),
    "another crs on cells": ("name: bad", "name: bad\ncrs: EPSG:3031", r"crs EPSG:4326, which is the default"),
    "a group twice": ("  filter:", "  groups: [a, a]\n  filter:", r"points\.groups: a, a names one twice"),
    "source and aggregate": ("aggregate: count", "aggregate: count, source: {href: a.tif}", r"variables\.n"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_key_is_named(tmp_path: Path, case: str) -> None:
    old, new, message = WRONG[case]
    assert old in ALL
    (tmp_path / "grid.yaml").write_text(ALL.replace(old, new))
    with pytest.raises(ci.SpecError, match=message):
        ci.read_spec(tmp_path / "grid.yaml")


# ---- functions ------------------------------------------------------------------------------------------------

BARE = ALL.replace('  tiles: {glob: "granules/{cycle}_*.parquet"}\n', "")
"""Points that only a function gives."""


def test_table_that_lacks_a_column_fails_its_region_and_names_the_nearest(tmp_path: Path) -> None:
    def f(region: Any, cycle: int) -> pd.DataFrame:
        return make_points(cycle).rename(columns={"lon": "lons"})

    report = make(tmp_path, BARE).ingest(source=f, cycle=1, region="1", workers=1)
    assert report.exit_code == 1
    assert "returned a table without the column 'lon'; did you mean 'lons'?" in report.failed[0].error


def test_function_that_is_not_registered_is_named(tmp_path: Path) -> None:
    text = HEAD + "  spread: {dtype: float64, fill_value: .nan, aggregate: {function: spread_of, of: h}}\n" + STORE
    cube = make(tmp_path, text, _1_a=make_points(1))
    with pytest.raises(ci.FunctionError, match=r"by function 'spread_of', which is not registered.*register_statistic"):
        cube.ingest(workers=1)
    with pytest.raises(ci.FunctionError, match="expected a function of the values of one cell"):
        ci.register_statistic("spread_of", 3)  # type: ignore[arg-type]
