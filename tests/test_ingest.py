"""The main job, against what rasterio reads from the same tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr

import cubeingest as ci
from tests.conftest import Ran, World


def test_cube_equals_what_rasterio_reads(world: World) -> None:
    """The oracle pastes tiles by hand from their file names, and knows nothing of our grid code."""
    cube = ci.init(world.spec_file)
    report = cube.ingest()
    assert (report.written, report.empty, report.skipped, report.failed) == (7, 0, 0, [])
    oracle = np.full((2, 200, 250), 255, np.uint8)
    for t, year in enumerate((2000, 2005)):
        for path in (world.folder / "tiles" / str(year)).glob("*.tif"):
            top, left = int(path.stem[:2]), int(path.stem[4:7])
            pixels = world.read_tile(year, path.stem)
            y, x = (20 - top) * 10, left * 10
            oracle[t, y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    assert np.array_equal(cube.dataset()["cover"].values, oracle)


def test_ingest_works_straight_after_init_with_no_other_argument(world: World, run: Callable[..., Ran]) -> None:
    assert run("init", "grid.yaml").code == 0
    done = run("ingest", "--year", 2000, "--json")
    assert done.code == 0
    report = done.json
    assert (report["planned"], report["written"], report["skipped"], report["failed"]) == (5, 5, 0, [])
    assert report["mode"] == "cooperative"
    assert report["bytes"] == 4 * 100 * 100 + 100 * 50
    assert run("status", "--json").json["by"]["year"]["2000"] == {"done": 5, "empty": 0, "pending": 0, "absent": 1}


def test_second_run_does_no_work_and_says_so(world: World, invoke: Callable[..., Ran]) -> None:
    invoke("init", "grid.yaml")
    first = invoke("ingest", "--json").json
    tip = ci.open(world.store).store.tip
    again = invoke("ingest", "--json")
    assert again.code == 0
    assert (again.json["written"], again.json["skipped"], again.json["snapshot"]) == (0, 7, None)
    assert ci.open(world.store).store.tip == tip == first["snapshot"]
    assert "7 skipped" in invoke("ingest").out


def test_changed_source_is_ingested_again(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest()
    new = world.pixels("20N_000E")
    world.add_tile(2000, "20N_000E", new)
    report = cube.ingest()
    assert (report.written, report.skipped) == (1, 6)
    assert np.array_equal(cube.dataset()["cover"].sel(year=2000)[:100, :100].values, new)


def test_slot_whose_tile_has_left_the_catalog_stays_and_is_named(world: World, invoke: Callable[..., Ran]) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest()
    listed = world.folder / "tiles" / "2000.txt"
    names = [n for n in listed.read_text().splitlines() if not n.startswith("20N_000E")]
    listed.write_text("\n".join(names))
    before = cube.dataset().compute()
    plan = cube.plan(redo=True)
    assert (plan.slots, plan.absent, plan.unlisted) == (6, 5, 1)
    assert cube.status().absent == plan.absent
    assert "1 is done from what the catalog has no more" in invoke("plan", "--store", world.store).out
    for redo in (False, True):
        warnings = cube.ingest(redo=redo).warnings
        assert len(warnings) == 1
        assert warnings[0].startswith("1 slot is done from tiles that the catalog has no more (20N_000E)")
    assert cube.dataset().identical(before)
    assert cube.status().done == 7
    assert cube.plan(year=2005).unlisted == cube.plan(region="10N_000E").unlisted == 0
    n = [cube.ingest(part=(k, 2)).warnings for k in (1, 2)]
    assert sorted(map(len, n)) == [0, 1]


def test_tile_that_cannot_be_placed_any_more_has_not_left_the_catalog(world: World) -> None:
    world.write_spec(("href: tiles/{year}/{id}.tif\n      tiles: {list: \"tiles/{year}.txt\"}", 'tiles: {glob: "tiles/{year}/*.tif"}'))  # fmt: skip
    cube = ci.init(world.spec_file)
    cube.ingest()
    (world.folder / "tiles/2000/20N_000E.tif").write_text("no raster")
    report = cube.ingest()
    assert len(report.failed) == 1
    assert report.warnings == ()
    assert cube.plan().unlisted == 0
    (world.folder / "tiles/2000/20N_000E.tif").unlink()
    assert cube.plan().unlisted == 1


def test_slot_that_a_function_filled_is_not_said_to_have_lost_its_tile(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(source=_ones, region="10N_000E", year=2005)
    assert cube.plan().unlisted == 0
    assert cube.ingest().warnings == ()


def _ones(geobox: Any, year: int) -> Any:
    return np.ones(geobox.shape, np.uint8)


def test_redo_forces(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest()
    report = cube.ingest(redo=True, region="20N_000E")
    assert (report.written, report.skipped) == (2, 0)


def test_all_fill_tile_is_empty_not_missing(world: World) -> None:
    world.add_tile(2000, "20N_020E", np.full((100, 50), 255, np.uint8))
    cube = ci.init(world.spec_file)
    report = cube.ingest(year=2000)
    assert (report.written, report.empty) == (5, 1)
    assert cube.status(year=2000).empty == 1
    assert cube.ingest(year=2000).skipped == 6


def test_tile_that_becomes_empty_clears_what_was_there(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(year=2000)
    world.add_tile(2000, "20N_000E", np.full((100, 100), 255, np.uint8))
    report = cube.ingest(year=2000)
    assert (report.written, report.empty, report.skipped) == (0, 1, 4)
    assert (cube.dataset()["cover"].sel(year=2000)[:100, :100].values == 255).all()
    status = cube.status(year=2000)
    assert (status.done, status.empty) == (4, 1)


@pytest.mark.parametrize("commit_every", [None, 2])
def test_commits_once_or_every_n_tasks(world: World, commit_every: int | None) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(commit_every=commit_every)
    assert [c.message for c in cube.history()] == (
        ["ingest 7 slots", "init small"]
        if commit_every is None
        else ["ingest 1 slot", *["ingest 2 slots"] * 3, "init small"]
    )
    assert cube.status().done == 7


def test_readers_find_coordinates_crs_and_transform(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest()
    ds = xr.open_zarr(cube.store.readonly().store, consolidated=False)
    assert list(ds["year"].values) == [2000, 2005]
    assert ds["cover"].dtype == np.uint8
    assert ds["y"].values[0] == 19.95
    assert ds["x"].values[-1] == 24.95
    assert ds.rio.crs.to_epsg() == 4326
    assert tuple(ds["cover"].rio.transform())[:6] == (0.1, 0.0, 0.0, 0.0, -0.1, 20.0)
    assert ds["spatial_ref"].attrs["GeoTransform"] == "0.0 0.1 0.0 20.0 0.0 -0.1"
    assert ds.rio.bounds() == (0.0, 0.0, 25.0, 20.0)
