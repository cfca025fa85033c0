"""Points to cube, end to end: every cell holds what numpy makes of the points that lie in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from healpix_geo import nested

import cubeingest as ci
import cubeingest.ingest.points

HEAD = """\
name: points
grid: {type: healpix, order: 5, region_order: 1, ellipsoid: WGS84}
axes: {cycle: {values: [22, 23]}}
points:
  href: granules/g_{cycle}.parquet
  coordinates: {x: lon, y: lat}
  columns: {h: height, s: sigma, q: quality, t: time}
  filter: q == 0
variables:
"""
VARIABLES = """\
  n: {dtype: uint32, fill_value: 0, aggregate: count}
  h_min: {dtype: float32, fill_value: .nan, aggregate: {min: h}}
  h_max: {dtype: float32, fill_value: .nan, aggregate: {max: h}}
  h_mean: {dtype: float64, fill_value: .nan, aggregate: {mean: h, weights: 1/s**2}}
  h_sigma: {dtype: float64, fill_value: .nan, aggregate: {sigma_of_mean: h, weights: 1/s**2}}
  h_var: {dtype: float64, fill_value: .nan, aggregate: {variance: h, ddof: 1}}
  h_q25: {dtype: float64, fill_value: .nan, aggregate: {quantile: h, q: 0.25}}
  h_last: {dtype: float32, fill_value: .nan, aggregate: {last: h, by: t}}
store: ./points.icechunk
"""

FEW = """\
  n: {dtype: uint32, fill_value: 0, aggregate: count}
  h_mean: {dtype: float64, fill_value: .nan, aggregate: {mean: h, weights: 1/s**2}}
store: ./points.icechunk
"""

RASTER = (
    (
        HEAD.replace(
            "grid: {type: healpix, order: 5, region_order: 1, ellipsoid: WGS84}",
            "crs: EPSG:4326\ngrid: {origin: {x: -180, y: 90}, resolution: {x: 1, y: -1}, shape: {y: 180, x: 360}, region: {y: 50, x: 100}}",
        )
        + VARIABLES
    )
    .replace("fill_value: .nan,", "fill_value: .nan, chunks: {y: 10, x: 25},")
    .replace("fill_value: 0,", "fill_value: 0, chunks: {y: 10, x: 25},")
)
"""The same on a grid of pixels, whose last regions are partial."""


def make_points(n: int, seed: int, south: float = -90.0, north: float = 90.0) -> pd.DataFrame:
    """Heights at random places, evenly over the sphere between two latitudes, some of poor quality."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(np.sin(np.radians(south)), np.sin(np.radians(north)), n)
    return pd.DataFrame(
        {
            "lon": rng.uniform(-180, 180, n),
            "lat": np.degrees(np.arcsin(z)),
            "height": rng.normal(1000, 50, n).astype("f4"),
            "sigma": rng.uniform(0.1, 1, n).astype("f4"),
            "quality": (rng.random(n) < 0.2).astype("i1"),
            "time": rng.permutation(n),
        }
    )


def write_granules(folder: Path, points: dict[int, pd.DataFrame]) -> None:
    (folder / "granules").mkdir(exist_ok=True)
    for cycle, table in points.items():
        table.to_parquet(folder / "granules" / f"g_{cycle}.parquet")


def write_spec(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def points() -> dict[int, pd.DataFrame]:
    return {22: make_points(30_000, 1), 23: make_points(20_000, 2, -90, -50)}


def healpix_cells(table: pd.DataFrame, order: int = 5) -> np.ndarray:
    return nested.lonlat_to_healpix(table.lon.to_numpy(), table.lat.to_numpy(), order, ellipsoid="WGS84").astype(
        np.int64
    )


def expect(table: pd.DataFrame, cells: np.ndarray, n_cells: int) -> dict[str, np.ndarray]:
    """Every statistic of every cell, by numpy in a loop."""
    good = (table.quality == 0).to_numpy()
    table, cells = table[good], cells[good]
    out = {
        name: np.full(n_cells, np.nan) for name in ("h_min", "h_max", "h_mean", "h_sigma", "h_var", "h_q25", "h_last")
    }
    out["n"] = np.bincount(cells, minlength=n_cells)
    order = np.argsort(cells, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(cells[order])) + 1):
        c, h, s = cells[part[0]], table.height.to_numpy()[part].astype("f8"), table.sigma.to_numpy()[part].astype("f8")
        w = 1 / s**2
        out["h_min"][c], out["h_max"][c] = h.min(), h.max()
        out["h_mean"][c], out["h_sigma"][c] = np.average(h, weights=w), 1 / np.sqrt(w.sum())
        out["h_var"][c] = h.var(ddof=1) if h.size > 1 else np.nan
        out["h_q25"][c] = np.quantile(h, 0.25)
        out["h_last"][c] = h[np.argmax(table.time.to_numpy()[part])]
    return out


def assert_holds(ds: Any, cycle: int, expected: dict[str, np.ndarray]) -> None:
    found = ds.sel(cycle=cycle)
    for name in {"n", "h_min", "h_max", "h_last"} & set(ds):
        np.testing.assert_array_equal(
            found[name].values.ravel(), expected[name].astype(found[name].dtype), err_msg=name
        )
    for name in {"h_mean", "h_sigma", "h_var", "h_q25"} & set(ds):
        np.testing.assert_allclose(found[name].values.ravel(), expected[name], rtol=1e-12, atol=1e-13, err_msg=name)


def test_healpix_cube_holds_the_statistics_of_the_points_in_each_cell(
    tmp_path: Path, points: dict[int, pd.DataFrame]
) -> None:
    write_granules(tmp_path, points)
    cube = ci.init(write_spec(tmp_path, HEAD + VARIABLES))
    report = cube.ingest()
    assert not report.failed
    assert report.written == report.planned
    ds = cube.dataset()
    for cycle, table in points.items():
        assert_holds(ds, cycle, expect(table, healpix_cells(table), 12 * 4**5))
    assert cube.verify().exit_code == 0
    assert cube.check().findings == []
    status = cube.status()
    assert status.pending == 0
    assert status.done + status.absent == status.total == 8 * 2 * 48
    again = cube.ingest()
    assert (again.written, again.skipped) == (0, report.written)


@pytest.mark.slow
def test_raster_cube_holds_the_statistics_of_the_points_in_each_pixel(
    tmp_path: Path, points: dict[int, pd.DataFrame]
) -> None:
    points[22].loc[:3, ["lon", "lat"]] = [[180.0, 0.0], [-180.0, -90.0], [0.0, 90.0], [10.0, 10.0]]  # on edges
    write_granules(tmp_path, points)
    cube = ci.init(write_spec(tmp_path, RASTER))
    assert not cube.ingest().failed
    ds = cube.dataset()
    for cycle, table in points.items():
        column = np.floor((table.lon.to_numpy() + 180) % 360).astype(int)
        row = np.minimum(np.floor(90 - table.lat.to_numpy()), 179).astype(int)
        assert_holds(ds, cycle, expect(table, row * 360 + column, 180 * 360))
    assert cube.verify().exit_code == 0


def test_xdggs_opens_the_cube_and_finds_cells(tmp_path: Path, points: dict[int, pd.DataFrame], xdggs: Any) -> None:
    write_granules(tmp_path, points)
    cube = ci.init(write_spec(tmp_path, HEAD + FEW))
    cube.ingest(cycle=23)
    ds = xdggs.decode(cube.dataset(), convention="zarr", index_kind="moc")
    assert ds.dggs.grid_info.level == 5
    at = ds.dggs.sel_latlon(np.array([-80.0]), np.array([20.0]))
    cell = int(nested.lonlat_to_healpix(np.array([20.0]), np.array([-80.0]), 5, ellipsoid="WGS84")[0])
    expected = expect(points[23], healpix_cells(points[23]), 12 * 4**5)
    assert int(at["n"].sel(cycle=23).item()) == expected["n"][cell] > 0


def test_compact_layout_holds_some_regions_and_their_cell_ids(
    tmp_path: Path, points: dict[int, pd.DataFrame], xdggs: Any
) -> None:
    write_granules(tmp_path, points)
    text = (HEAD + FEW).replace("ellipsoid: WGS84}", "ellipsoid: WGS84, regions: {bbox: [-180, -90, 180, -60]}}")
    cube = ci.init(write_spec(tmp_path, text))
    cube.ingest()
    assert cube.grid.n_regions < 20
    ds = cube.dataset()
    ids = ds.cell_ids.values
    assert ids.size == cube.grid.n_regions * 256
    for cycle, table in points.items():
        expected = expect(table, healpix_cells(table), 12 * 4**5)
        assert_holds(ds, cycle, {name: values[ids] for name, values in expected.items()})
    decoded = xdggs.decode(ds, convention="zarr")
    np.testing.assert_array_equal(decoded.cell_ids.values, ids)
    kept = json.loads(cube.spec.to_json())["document"]["grid"]["regions"]
    assert kept == {"ids": list(cube.grid.parents)}  # type: ignore[attr-defined]
    assert ci.init(write_spec(tmp_path, text)).grid == cube.grid


def test_region_with_more_points_than_may_be_held_is_aggregated_in_parts(
    tmp_path: Path, points: dict[int, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cubeingest.ingest.points, "POINTS_AT_ONCE", 40)
    write_granules(tmp_path, points)
    cube = ci.init(write_spec(tmp_path, HEAD + FEW))
    cube.ingest(workers=1, cycle=23)
    assert_holds(cube.dataset(), 23, expect(points[23], healpix_cells(points[23]), 12 * 4**5))


def test_axis_block_of_several_values_is_one_task(tmp_path: Path, points: dict[int, pd.DataFrame]) -> None:
    write_granules(tmp_path, points)
    text = (HEAD + FEW).replace("aggregate:", "chunks: {cycle: 2, cells: 64}, aggregate:")
    cube = ci.init(write_spec(tmp_path, text))
    report = cube.ingest()
    assert not report.failed
    for cycle, table in points.items():
        assert_holds(cube.dataset(), cycle, expect(table, healpix_cells(table), 12 * 4**5))
    assert cube.verify().exit_code == 0


@pytest.mark.parametrize("mode", ["cooperative", pytest.param("independent", marks=pytest.mark.slow)])
def test_workers_in_other_processes_write_the_same(tmp_path: Path, points: dict[int, pd.DataFrame], mode: Any) -> None:
    write_granules(tmp_path, points)
    cube = ci.init(write_spec(tmp_path, HEAD + FEW))
    report = cube.ingest(workers=2, mode=mode, cycle=23, commit_every=3)
    assert not report.failed
    assert report.written
    assert_holds(cube.dataset(), 23, expect(points[23], healpix_cells(points[23]), 12 * 4**5))


def write_atl06(path: Path, beams: dict[str, pd.DataFrame]) -> None:
    """A granule in ATL06's layout: one group of datasets a beam."""
    with h5py.File(path, "w") as file:
        for beam, table in beams.items():
            group = file.create_group(f"{beam}/land_ice_segments")
            for name, column in (
                ("longitude", "lon"),
                ("latitude", "lat"),
                ("h_li", "height"),
                ("h_li_sigma", "sigma"),
            ):
                data = group.create_dataset(name, data=table[column].to_numpy(), chunks=(1000,), compression="gzip")
                if name == "h_li":
                    data.attrs["_FillValue"] = np.float32(3.4028235e38)
            group["atl06_quality_summary"] = table.quality.to_numpy()
            group["delta_time"] = table.time.to_numpy().astype("f8")


ATL06 = """\
  href: granules/ATL06_{cycle}.h5
  groups: [gt1l, gt1r, gt2l]
  coordinates: {x: land_ice_segments/longitude, y: land_ice_segments/latitude}
  columns:
    h: land_ice_segments/h_li
    s: land_ice_segments/h_li_sigma
    q: land_ice_segments/atl06_quality_summary
    t: land_ice_segments/delta_time
  filter: q == 0
"""


def test_beams_of_hdf5_granules_are_read_and_missing_heights_left_out(tmp_path: Path) -> None:
    """A beam that a granule lacks is skipped; the fill value of a dataset is no height."""
    start, stop = HEAD.index("  href:"), HEAD.index("variables:")
    spec = HEAD[:start] + ATL06 + HEAD[stop:] + FEW
    spec = spec.replace("aggregate: count", "aggregate: {count: h}")
    (tmp_path / "granules").mkdir()
    tables = {c: [make_points(5_000, c * 10 + k, -90, -60) for k in range(2)] for c in (22, 23)}
    for cycle, (one, other) in tables.items():
        one.loc[::7, "height"] = np.float32(3.4028235e38)
        write_atl06(tmp_path / "granules" / f"ATL06_{cycle}.h5", {"gt1l": one, "gt2l": other})
    cube = ci.init(write_spec(tmp_path, spec))
    assert not cube.ingest().failed
    for cycle, both in tables.items():
        joined = pd.concat(both, ignore_index=True)
        joined = joined[joined.height < 1e30]
        assert_holds(cube.dataset(), cycle, expect(joined, healpix_cells(joined), 12 * 4**5))


FROM_PYTHON = """\
name: computed
grid: {type: healpix, order: 5, region_order: 1}
axes: {cycle: {values: [22, 23]}}
points:
  coordinates: {x: lon, y: lat}
  columns: {h: height, q: quality}
  filter: q == 0
variables:
  n: {dtype: uint32, fill_value: 0, aggregate: {count: h}}
  spread: {dtype: float64, fill_value: .nan, aggregate: {function: spread, of: h}}
  order_of: {dtype: int32, fill_value: -1}
store: ./computed.icechunk
"""


def test_function_gives_points_of_a_region_as_a_table(tmp_path: Path) -> None:
    """Those that lie elsewhere are left out; a function that is registered makes a statistic of its own."""
    table = make_points(3_000, 5)

    def observe(region: Any, cycle: int) -> pd.DataFrame | None:
        return None if region.id == "7" else table

    ci.register_statistic("spread", spread)
    cube = ci.init(write_spec(tmp_path, FROM_PYTHON))
    report = cube.ingest(source=observe, variable=["n", "spread"])
    assert not report.failed
    assert report.empty == 4
    good = table[table.quality == 0]
    cells = healpix_cells(good, 5)
    good, cells = good[cells >> 8 != 7], cells[cells >> 8 != 7]
    ds = cube.dataset()
    np.testing.assert_array_equal(ds.n.sel(cycle=22).values, np.bincount(cells, minlength=12 * 4**5))
    wide = good.height.astype("f8").groupby(cells).agg(lambda h: h.max() - h.min())
    found = ds.spread.sel(cycle=23).values
    np.testing.assert_array_equal(found[wide.index], wide.to_numpy())
    assert np.isnan(np.delete(found, wide.index)).all()


def spread(values: np.ndarray) -> float:
    return float(values[-1] - values[0])


def test_function_returns_cells_of_a_healpix_region(tmp_path: Path) -> None:
    def number(region: Any, cycle: int) -> np.ndarray:
        _, lat = region.centres()
        assert region.bounds[1] <= lat.min() <= lat.max() <= region.bounds[3]
        return region.cell_ids.astype("int32")

    cube = ci.init(write_spec(tmp_path, FROM_PYTHON))
    assert not cube.ingest(source=number, variable="order_of").failed
    np.testing.assert_array_equal(cube.dataset().order_of.sel(cycle=22).values, np.arange(12 * 4**5))
    assert cube.verify().exit_code == 0


def test_cube_of_points_is_extended_and_only_the_new_cycle_is_read(tmp_path: Path) -> None:
    text = HEAD.replace("order: 5, region_order: 1", "order: 4, region_order: 1").replace("[22, 23]", "[22]") + FEW
    points = {22: make_points(2_000, 1), 23: make_points(2_000, 2)}
    write_granules(tmp_path, points)
    cube = ci.init(write_spec(tmp_path, text))
    first = cube.ingest()
    before = cube.dataset().h_mean.sel(cycle=22).values
    cube.extend(cycle=23)
    second = cube.ingest()
    assert (second.skipped, second.written) == (first.written, first.written)
    np.testing.assert_array_equal(cube.dataset().h_mean.sel(cycle=22).values, before)
    assert_holds(cube.dataset(), 23, expect(points[23], healpix_cells(points[23], 4), 12 * 4**4))
    assert cube.check().findings == []


def test_granule_that_changes_is_aggregated_again_and_only_its_regions(tmp_path: Path) -> None:
    text = HEAD.replace("order: 5, region_order: 1", "order: 4, region_order: 1") + FEW
    points = {22: make_points(2_000, 1), 23: make_points(2_000, 2)}
    write_granules(tmp_path, points)
    cube = ci.init(write_spec(tmp_path, text))
    first = cube.ingest()
    points[23] = make_points(500, 3, 50, 90)
    write_granules(tmp_path, {23: points[23]})
    again = cube.ingest()
    assert 0 < again.written < first.written // 2
    assert again.empty > 0
    assert again.written + again.empty == again.skipped == first.written // 2
    assert_holds(cube.dataset(), 23, expect(points[23], healpix_cells(points[23], 4), 12 * 4**4))
    assert cube.ingest().written == 0
    assert cube.check().findings == []
    assert cube.verify().exit_code == 0


def test_another_statistic_or_filter_is_taken_over_and_its_slots_are_aggregated_again(tmp_path: Path) -> None:
    text = HEAD.replace("order: 5, region_order: 1", "order: 3, region_order: 0").replace("[22, 23]", "[22]") + FEW
    table = make_points(500, 1)
    write_granules(tmp_path, {22: table})
    cube = ci.init(write_spec(tmp_path, text))
    cube.ingest()
    other = text.replace("{mean: h, weights: 1/s**2}", "{mean: h}")
    with pytest.raises(ci.StoreError, match=r"aggregate: \"mean of h weighted by 1/s\*\*2\" -> \"mean of h\""):
        ci.init(write_spec(tmp_path, other))
    cube = ci.init(write_spec(tmp_path, other), update=True)
    report = cube.ingest()
    assert (report.written, report.skipped) == (12, 12)
    good = table[table.quality == 0]
    means = good.height.astype("f8").groupby(healpix_cells(good, 3)).mean()
    found = cube.dataset().h_mean.sel(cycle=22).values
    np.testing.assert_allclose(found[means.index], means, rtol=1e-12)
    cube = ci.init(write_spec(tmp_path, other.replace("q == 0", "q <= 1")), update=True)
    assert cube.ingest().written == 24
    assert cube.dataset().n.sum() == len(table)


def test_slots_whose_granules_have_all_left_stay_and_those_that_hold_none_are_not_named(tmp_path: Path) -> None:
    """Two granules of a cycle in two regions: one leaves, and its region becomes empty; then the other, which is the last of its cycle."""
    text = HEAD.replace("href: granules/g_{cycle}.parquet", 'tiles: {glob: "granules/g_{cycle}_*.parquet"}').replace(
        "filter: q == 0", ""
    )
    folder = tmp_path / "granules"
    folder.mkdir()
    south, north = make_points(50, 3, -90, -80), make_points(50, 4, 80, 90)
    south.to_parquet(folder / "g_22_1.parquet")
    south.to_parquet(folder / "g_23_1.parquet")
    north.to_parquet(folder / "g_23_2.parquet")
    cube = ci.init(
        write_spec(tmp_path, text + "  n: {dtype: uint32, fill_value: 0, aggregate: count}\nstore: ./points.icechunk\n")
    )
    cube.ingest()
    done = cube.status(cycle=23).done
    (folder / "g_23_2.parquet").unlink()
    first = cube.ingest()
    assert (first.warnings, first.empty) == ((), cube.status().empty)
    assert first.empty > 0
    (folder / "g_23_1.parquet").unlink()
    second = cube.ingest()
    left = done - first.empty
    assert second.warnings[0].startswith(f"{left} slots are done from granules that the catalog has no more")
    assert (second.written, cube.plan().unlisted, cube.status(cycle=23).done) == (0, left, left)
