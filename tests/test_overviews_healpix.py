"""Overviews of HEALPix cells: each level is what the points give at its order; only what changed is made again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

import cubeingest as ci
import cubeingest.overviews.merging
import cubeingest.overviews.runs
from cubeingest import Cube
from cubeingest.aggregate import aggregate
from cubeingest.grid import HealpixGrid
from cubeingest.ledger import present_chunks
from cubeingest.look.globemaps import GlobeMap
from cubeingest.look.maps import read_map
from cubeingest.overviews import levels_of
from cubeingest.overviews.levels import levels_by_default, make_pyramid
from cubeingest.overviews.rules import rules_of
from cubeingest.spec import spec_from_yaml
from cubeingest.statistic import Statistic
from tests.test_point_cubes import healpix_cells, make_points, write_granules

Invoke = Callable[..., Any]

SPEC = """\
name: points
grid: {type: healpix, order: 5, region_order: 1, ellipsoid: WGS84}
axes: {cycle: {values: [22, 23]}}
points:
  href: granules/g_{cycle}.parquet
  coordinates: {x: lon, y: lat}
  columns: {h: height, s: sigma, t: time}
variables:
  n: {dtype: uint8, fill_value: 0, aggregate: count}
  h_n: {dtype: uint32, fill_value: 0, aggregate: {count: h}}
  h_min: {dtype: float32, fill_value: .nan, aggregate: {min: h}}
  h_mean: {dtype: float64, fill_value: .nan, aggregate: {mean: h}}
  h_w: {dtype: float64, fill_value: .nan, aggregate: {mean: h, weights: 1/s**2}}
  h_sigma: {dtype: float64, fill_value: .nan, aggregate: {sigma_of_mean: h, weights: 1/s**2}}
  h_var: {dtype: float64, fill_value: .nan, aggregate: {variance: h, ddof: 1}}
  h_q25: {dtype: float64, fill_value: .nan, aggregate: {quantile: h, q: 0.25}}
store: ./points.icechunk
"""

FEW = (
    SPEC.replace("ellipsoid: WGS84}", "ellipsoid: WGS84, regions: {ids: [3, 4, 17, 40, 41]}}")
    .replace("  h_sigma", "  kind: {dtype: int8, fill_value: -1, attrs: {flag_values: [0, 1, 2]}}\n  h_sigma")
    .replace("cycle: {values: [22, 23]}", "cycle: {values: [22]}")
)
"""Some regions only, and a variable that is filled from Python."""

MERGED = ("n", "h_n", "h_min", "h_mean", "h_w", "h_sigma", "h_var")


def make(folder: Path, text: str) -> Cube:
    (folder / "grid.yaml").write_text(text)
    return ci.init(folder / "grid.yaml")


def points_of(n: int, seed: int, south: float = -90.0) -> pd.DataFrame:
    """Points, a few of them without a height."""
    points = make_points(n, seed, south)
    points.loc[::11, "height"] = np.nan
    return points


@pytest.fixture(scope="module")
def points() -> dict[int, pd.DataFrame]:
    return {22: points_of(20_000, 1), 23: points_of(2_000, 2, 40)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, points: dict[int, pd.DataFrame]) -> Path:
    """A folder with a cube of some regions, and its overviews."""
    folder = tmp_path_factory.mktemp("made")
    write_granules(folder, points)
    cube = make(folder, FEW)
    assert not cube.ingest(variable=[*MERGED, "h_q25"]).failed
    assert not cube.ingest(source=kinds, variable="kind").failed
    assert not cube.overviews().failed
    return folder


@pytest.fixture
def cube(made: Path, tmp_path: Path) -> Cube:
    """A copy of it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return ci.open(tmp_path / "points.icechunk")


def kinds(area: Any, cycle: int) -> np.ndarray:
    """Classes of cells, some of which are missing."""
    return np.random.default_rng(int(area.id)).integers(-1, 3, area.shape).astype("int8")


def of_points(table: pd.DataFrame, order: int, statistics: dict[str, Statistic]) -> dict[str, np.ndarray]:
    """Each statistic of the points in every cell of an order, NaN where it has none."""
    columns = {"h": table.height.to_numpy(), "s": table.sigma.to_numpy(), "t": table.time.to_numpy()}
    found = aggregate(healpix_cells(table, order), columns, [*statistics.values()])
    out = {name: np.full(12 * 4**order, np.nan) for name in statistics}
    for name, one in zip(statistics, found, strict=True):
        out[name][one.cells] = one.values
    return out


def assert_levels(cube: Cube, table: pd.DataFrame, cycle: int) -> int:
    """All levels of merged variables are what the points give; how many levels there are."""
    statistics = {name: s for name in MERGED if (s := cube.spec.variable(name).aggregate) is not None}
    levels = levels_of(cube.store.readonly(), cube.spec)
    for level in levels:
        grid = level.spec.grid
        assert isinstance(grid, HealpixGrid)
        assert grid.order == cube.grid.order - level.number  # type: ignore[attr-defined]
        wanted = of_points(table, grid.order, statistics)
        found = cube.dataset(level=level.number).sel(cycle=cycle)
        for name, cells in wanted.items():
            held = cells[grid.cell_ids()]
            if name in ("n", "h_n"):
                np.testing.assert_array_equal(found[name], np.nan_to_num(held).astype(int), err_msg=name)
            elif name == "h_min":
                np.testing.assert_array_equal(found[name], held.astype("f4"), err_msg=name)
            else:
                np.testing.assert_allclose(found[name], held, rtol=1e-12, err_msg=name)
    return len(levels)


def test_every_level_is_what_the_points_give_at_its_order(
    tmp_path: Path, points: dict[int, pd.DataFrame], xdggs: Any
) -> None:
    write_granules(tmp_path, points)
    text = SPEC.replace("order: 5, region_order: 1", "order: 4, region_order: 0")
    cube = make(tmp_path, text.replace("aggregate:", "chunks: {cycle: 2, cells: 64}, aggregate:"))
    assert not cube.ingest().failed
    report = cube.overviews()
    assert (report.failed, report.exit_code) == ([], 0)
    assert report.planned == report.written + report.empty == 7
    assert report.variables == dict.fromkeys(MERGED, "merged")
    assert [*report.without] == ["h_q25"]
    assert "quantile of all points does not follow" in report.without["h_q25"]
    assert [lv["order"] for lv in report.levels] == [3, 2, 1, 0]
    for cycle, table in points.items():
        assert assert_levels(cube, table, cycle) == 4
    assert "h_q25" not in cube.dataset(level=1)
    # Counts of more points than the cube's own dtype holds.
    assert cube.dataset(level=4)["n"].dtype == np.uint64
    assert int(cube.dataset(level=4)["n"].max()) > 255
    whole = xdggs.decode(cube.dataset(level=1), convention="zarr", index_kind="moc")
    assert whole.dggs.grid_info.level == 3
    status = cube.status()
    assert (status.levels, status.stale) == (4, 0)
    assert cube.check(deep=True).findings == []
    again = cube.overviews()
    assert (again.written, again.skipped, again.snapshot) == (0, report.planned, None)


@pytest.mark.slow
def test_levels_of_some_regions_are_made_in_stages_and_windows(
    cube: Cube, points: dict[int, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_stage = {n: cube.dataset(level=n).load() for n in (1, 2, 3)}
    monkeypatch.setattr(cubeingest.overviews.runs, "TOGETHER", 2)
    monkeypatch.setattr(cubeingest.overviews.runs, "LEAST_CELLS", 16)
    monkeypatch.setattr(cubeingest.overviews.merging, "MERGED_CELLS", 64)
    assert [(s.first, s.last, s.spec.grid.n_regions) for s in make_pyramid(cube.spec, 3).stages] == [(1, 2, 3), (3, 3, 2)]  # fmt: skip
    assert not cube.overviews(levels=3, workers=1).failed
    assert assert_levels(cube, points[22], 22) == 3
    for n, ds in one_stage.items():
        np.testing.assert_array_equal(cube.dataset(level=n)["kind"], ds["kind"])
    assert cube.check(deep=True).findings == []
    cube.ingest(region="17", variable="h_n", redo=True)  # the same again
    assert cube.status().stale == 0
    cube.ingest(source=lambda area, cycle: kinds(area, cycle)[::-1], region="41", variable="kind", redo=True)
    assert cube.status().stale == 1
    report = cube.overviews(workers=1)
    assert (report.written, report.failed) == (2, [])
    assert cube.status().stale == 0


def test_cells_filled_from_python_go_by_the_rule_of_the_spec(cube: Cube) -> None:
    below = cube.dataset()["kind"].values
    for n in (1, 2, 3, 4):
        found = cube.dataset(level=n)["kind"].values
        for children, value in zip(below.reshape(-1, 4), found.ravel(), strict=True):
            held = children[children >= 0]
            counts = np.bincount(held, minlength=3)
            assert (value == -1) if not held.size else (counts[value] == counts.max())
        below = found


def test_xdggs_opens_each_level_by_itself(cube: Cube, xdggs: Any) -> None:
    grid = cube.grid
    assert isinstance(grid, HealpixGrid)
    for n in (1, 4):
        ds = xdggs.decode(cube.dataset(level=n), convention="zarr")
        assert ds.dggs.grid_info.level == 5 - n
        ids = np.unique(grid.cell_ids() >> 2 * n)
        np.testing.assert_array_equal(ds.cell_ids, ids)
        lon, lat = ds.dggs.cell_centers().longitude.values, ds.dggs.cell_centers().latitude.values
        at = ds.dggs.sel_latlon(lat[:3], lon[:3])
        np.testing.assert_array_equal(at["n"], ds["n"][..., :3])
    with pytest.raises(ci.CubeIngestError, match=r"no level 5 \(levels: 1, 2, 3, 4\)"):
        cube.dataset(level=5)


def test_any_reader_finds_the_levels(cube: Cube) -> None:
    from zarr_cm import multiscales

    root = zarr.open_group(cube.store.readonly().store, mode="r")
    for group in (root, root["overviews"]):
        attrs = group.attrs.asdict()
        multiscales.validate_group_metadata({"zarr_format": 3, "node_type": "group", "attributes": attrs})
        for entry in attrs["multiscales"]["layout"]:
            assert entry["asset"] in group
    assert "dggs" in root.attrs
    assert "dggs" not in root["overviews"].attrs


def test_only_what_takes_a_changed_variable_is_made_again(cube: Cube, tmp_path: Path) -> None:
    """A mean takes the counts beside it."""
    other = points_of(20_000, 1)
    other.loc[other.index % 5 == 0, "height"] = np.nan
    write_granules(tmp_path, {22: other})
    cube = ci.init(tmp_path / "grid.yaml", update=True)  # which is beside these granules
    cube.ingest(region="17", variable="h_n", redo=True)
    assert cube.status().stale == 3  # h_n, h_mean, h_var of one region
    report = cube.overviews()
    assert (report.written, report.skipped) == (3, 5)
    assert cube.status().stale == 0
    assert cube.check(deep=True).findings == []


def test_axis_that_grows_lengthens_the_levels(cube: Cube, points: dict[int, pd.DataFrame]) -> None:
    before = cube.dataset(level=2).load()
    cube.extend(cycle=23)
    assert cube.dataset(level=2).sizes["cycle"] == 2
    cube.ingest(cycle=23, variable=list(MERGED))
    assert cube.status().stale == 7  # points of one region
    assert not cube.overviews(cycle=23).failed
    assert assert_levels(cube, points[22], 22) == assert_levels(cube, points[23], 23) == 4
    assert cube.dataset(level=2).sel(cycle=[22]).drop_vars("kind").equals(before.drop_vars("kind"))
    assert cube.check(deep=True).findings == []


def test_damaged_level_is_found(cube: Cube) -> None:
    session = cube.store.writable()
    array = zarr.open_array(session.store, path="overviews/2/h_mean", mode="r+")
    array[0, 3] = 7.0
    session.commit("damage")
    (finding,) = cube.check(deep=True).findings
    assert finding.kind == "overview"
    assert "h_mean 22 cell 3..41" in finding.message


def test_number_of_levels_and_rules_of_the_spec(cube: Cube, tmp_path: Path, invoke: Invoke) -> None:
    with pytest.raises(
        ci.CubeIngestError, match="levels is 5: of cells of order 5 in regions of order 1 there are at most 4"
    ):
        cube.overviews(levels=5)
    with pytest.raises(ci.CubeIngestError, match="h_q25 has no overviews: the quantile of all points"):
        cube.overviews(variable="h_q25")
    done = invoke("overviews", "--store", cube.store.uri, "--levels", "2")
    assert "h_q25 has no levels: the quantile of all points does not follow" in done.out
    assert "the coarsest 80 cells of order 3" in " ".join(done.out.split())
    assert len(levels_of(cube.store.readonly(), cube.spec)) == 2
    text = FEW.replace("aggregate: {count: h}", "aggregate: {count: h}, overviews: none")
    text = text.replace("aggregate: count", "aggregate: count, overviews: max")
    (tmp_path / "grid.yaml").write_text(text.replace("q: 0.25}", "q: 0.25}, overviews: max"))
    cube = ci.init(tmp_path / "grid.yaml", update=True)
    report = cube.overviews()
    assert report.variables == {
        **dict.fromkeys(("h_min", "h_w", "h_sigma"), "merged"),
        "kind": "mode",
        "n": "max",
        "h_q25": "max",
    }
    assert report.without["h_n"] == "the spec says so (overviews: none)"
    assert report.without["h_mean"] == "it takes 'h_n' of each cell, which is not merged (overviews: none in the spec)"
    assert "h_mean" not in cube.dataset(level=1)
    base = cube.dataset()["h_q25"].values
    np.testing.assert_array_equal(cube.dataset(level=1)["h_q25"], np.fmax.reduce(base.reshape(1, -1, 4), axis=-1))
    largest = cube.dataset()["n"].values.reshape(1, -1, 16).max(-1)
    np.testing.assert_array_equal(cube.dataset(level=2)["n"], largest)
    assert cube.check(deep=True).findings == []
    taken = invoke("overviews", "--store", cube.store.uri, "--levels", "0", "--json")
    assert taken.json["levels"] == []
    assert levels_of(cube.store.readonly(), cube.spec) == ()


def test_what_a_level_cannot_hold_fails_alone_and_stays_stale(tmp_path: Path, points: dict[int, pd.DataFrame]) -> None:
    write_granules(tmp_path, points)
    start, stop = FEW.index("  h_n:"), FEW.index("store:")
    held = healpix_cells(points[22], 1)[points[22].height.notna()]
    own = f"""\
  h_sum: {{dtype: float16, fill_value: .nan, aggregate: {{sum: h}}}}
  h_n: {{dtype: uint16, fill_value: {(held == 17).sum()}, aggregate: {{sum: h * 0 + 1}}}}
"""
    cube = make(tmp_path, FEW[:start] + own + FEW[stop:])
    assert not cube.ingest(region="17").failed
    report = cube.overviews()
    assert (report.written, report.exit_code) == (1, 1)
    errors = {f["variable"]: f["error"] for f in report.failed}
    assert {(f["cell"], *f["levels"]) for f in report.failed} == {("3..41", 1, 4)}
    assert "which dtype float16 of variable 'h_sum' cannot hold: make a new cube with a wider dtype" in errors["h_sum"]
    assert "the fill value of variable 'h_n', which means that there are no points" in errors["h_n"]
    assert cube.status().stale == 2
    assert int(cube.dataset(level=4)["n"].sum()) == (healpix_cells(points[22], 1) == 17).sum()


@pytest.mark.slow
def test_workers_in_other_processes_make_the_same(cube: Cube, points: dict[int, pd.DataFrame]) -> None:
    report = cube.overviews(redo=True, workers=2)
    assert (report.written, report.failed) == (8, [])
    assert assert_levels(cube, points[22], 22) == 4


def test_region_emptied_takes_its_cells_away(cube: Cube) -> None:
    blank = {"source": lambda area, cycle: np.full(area.shape, -1, "int8"), "variable": "kind", "redo": True}
    cube.ingest(**blank)  # type: ignore[arg-type]
    report = cube.overviews()
    assert (report.written, report.empty) == (0, 1)
    assert present_chunks(cube.store.readonly(), "/overviews/1/kind") == []
    assert cube.check(deep=True).findings == []


MAPPED = """\
name: mapped
grid: {type: healpix, order: 10, region_order: 0, ellipsoid: WGS84}
variables:
  v: {dtype: uint8, fill_value: 0, chunks: {cells: 65536}, overviews: max}
store: ./mapped.icechunk
"""


def test_map_whose_pixels_span_many_cells_shows_a_level_and_stale_regions_as_they_are(tmp_path: Path) -> None:
    """Of every four cells the last is the greatest, and the region that is stale would show another value in most of its cells."""
    cube = make(tmp_path, MAPPED)
    cube.ingest(source=lambda area: (area.cell_ids % 4 + 1).astype("uint8"), region=["0", "5"], workers=1)
    view = read_map(cube.store, cube.select())
    assert isinstance(view, GlobeMap)
    assert (view.overview, set(np.unique(view.shown))) == (0, {0, 1, 2, 3, 4})
    assert "one of about" in view.own_note
    cube.overviews(workers=1)
    view = read_map(cube.store, cube.select())
    assert isinstance(view, GlobeMap)
    assert view.overview > 0
    assert view.own_note.startswith(f"from overview {view.overview}, cells of order {10 - view.overview}")
    assert set(np.unique(view.shown)) == {0, 4}
    cube.ingest(source=lambda area: np.full(area.shape, 9, "uint8"), region="5", redo=True, workers=1)
    view = read_map(cube.store, cube.select())
    assert isinstance(view, GlobeMap)
    assert "1 region from the full resolution" in view.own_note
    assert set(np.unique(view.shown)) == {0, 4, 9}


@pytest.mark.parametrize(("order", "region_order"), [(5, 5), (6, 2), (10, 3), (12, 6), (14, 6), (16, 5)])
@pytest.mark.parametrize("some", [False, True])
def test_runs_cover_every_level_with_whole_chunks(order: int, region_order: int, some: bool) -> None:
    text = SPEC.replace("order: 5, region_order: 1", f"order: {order}, region_order: {region_order}")
    if some:
        text = text.replace("ellipsoid: WGS84}", "ellipsoid: WGS84, regions: {ids: [0, 1, 2, 7, 11, 100]}}")
    spec = spec_from_yaml(text, "grid.yaml", "")
    grid = spec.healpix
    assert grid is not None
    assert levels_by_default(grid) == order - region_order
    pyramid = make_pyramid(spec, order - region_order)
    assert [lv.number for lv in pyramid.levels] == list(range(1, order - region_order + 1))
    for stage in pyramid.stages:
        below = pyramid.below(stage)[0].grid
        n_cells = grid.spatial_shape[0]
        for lv in pyramid.levels[stage.first - 1 : stage.last]:
            runs, variable = lv.spec.grid, lv.spec.variables[0]
            assert runs.spatial_shape == (n_cells // 4**lv.number,)
            assert runs.n_regions == stage.spec.grid.n_regions
            ends = [0, *(runs.slices(0, ix)[0].stop for ix in range(runs.n_regions))]
            assert ends[-1] == runs.spatial_shape[0]
            assert all(end % variable.chunks[-1] == 0 for end in ends[:-1])
            assert runs.n_regions == 1 or variable.chunks[-1] >= 64 or lv.number == order - region_order
        assert stage.spec.grid.region_shape[0] % below.region_shape[0] == 0
        assert stage.spec.grid.region_shape[0] // below.region_shape[0] <= 64


def test_statistics_of_pixels_are_not_merged() -> None:
    text = SPEC.replace(
        "grid: {type: healpix, order: 5, region_order: 1, ellipsoid: WGS84}",
        "crs: EPSG:4326\ngrid: {origin: {x: 0, y: 0}, resolution: {x: 1, y: -1}, shape: {y: 8, x: 8}, region: {y: 8, x: 8}}",
    ).replace("aggregate:", "chunks: {y: 8, x: 8}, aggregate:")
    rules, without = rules_of(spec_from_yaml(text, "grid.yaml", ""))
    assert {rule.method for rule in rules.values()} == {"mean", "mode"}
    assert without == {}
