"""A copy of a variable with other chunks: the same pixels, made anew only where the base has changed, verified, and refused where it cannot be."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import cubeingest as ci
from cubeingest.errors import GridError, StoreError
from cubeingest.rechunk import REGION_BYTES, region_for
from tests.conftest import Ran, World

Invoke = Callable[..., Ran]
Make = Callable[[str], ci.Cube]
SERIES = {"year": -1, "y": 25, "x": 20}


def filled(world: World) -> ci.Cube:
    cube = ci.init(world.spec_file)
    cube.ingest()
    return cube


def same(copy: Path, cube: ci.Cube, name: str = "cover") -> bool:
    a, b = ci.open(copy).dataset(), cube.dataset()
    return (
        all(np.array_equal(a[c], b[c]) for c in (name, *b[name].coords) if c != "spatial_ref")
        and a[name].dtype == b[name].dtype
    )


def test_copy_has_the_same_pixels_labels_and_attributes_in_other_chunks(world: World, tmp_path: Path) -> None:
    cube, to = filled(world), tmp_path / "series.icechunk"
    snapshot = cube.store.tip
    report = cube.rechunk("cover", SERIES, to)
    assert (report.ingest.written, report.ingest.empty, report.waiting, report.exit_code) == (
        5,
        1,
        0,
        0,
    )  # no tile there, and none expected
    assert same(to, cube)
    copy = ci.open(to)
    array = zarr.open_array(copy.store.readonly().store, path="cover", mode="r")
    assert array.chunks == (2, 25, 20)
    attrs = copy.dataset().attrs
    assert (attrs["rechunked_from"], attrs["rechunked_from_snapshot"], attrs["rechunked_from_variable"]) == (
        cube.store.uri,
        snapshot,
        "cover",
    )
    assert attrs["license"] == "CC0-1.0"
    assert copy.verify().equal == 6
    assert copy.check(deep=True).findings == []
    assert (copy.spec.variable("cover").fill_value, copy.grid.axis("year").block) == (255, 2)


def test_again_only_slots_whose_base_has_changed_are_made(world: World, tmp_path: Path) -> None:
    cube, to = filled(world), tmp_path / "series.icechunk"
    cube.rechunk("cover", SERIES, to)
    again = cube.rechunk("cover", SERIES, to)
    assert (again.ingest.written, again.ingest.skipped, again.ingest.snapshot) == (0, 6, None)
    world.add_tile(2005, "20N_000E")
    cube.ingest()
    report = cube.rechunk("cover", SERIES, to)
    assert (report.ingest.written, report.ingest.skipped) == (1, 5)
    assert same(to, cube)
    assert ci.open(to).dataset().attrs["rechunked_from_snapshot"] == cube.store.tip
    cube.ingest(redo=True)  # the same pixels
    assert cube.rechunk("cover", SERIES, to).ingest.skipped == 6
    assert cube.rechunk("cover", SERIES, to, redo=True).ingest.written == 5


def test_slots_wait_until_the_base_has_all_of_them(world: World, tmp_path: Path) -> None:
    cube, to = ci.init(world.spec_file), tmp_path / "series.icechunk"
    with pytest.raises(
        GridError, match="nothing can be copied yet: of 'cover' the cube holds nothing that is selected"
    ):
        cube.rechunk("cover", SERIES, to)
    assert not to.exists()
    cube.ingest(year=2000)
    report = cube.rechunk("cover", SERIES, to)
    assert (report.ingest.written, report.ingest.empty, report.waiting) == (
        3,
        1,
        2,
    )  # of 20N_000E and 10N_020E 2005 is pending
    status = ci.open(to).status()
    assert (status.done, status.empty, status.pending) == (3, 1, 2)
    cube.ingest()
    assert (cube.rechunk("cover", SERIES, to).ingest.written, cube.rechunk("cover", SERIES, to).waiting) == (2, 0)
    assert same(to, cube)


def test_selection_is_by_regions_of_the_cube_and_axis_blocks_of_the_copy(world: World, tmp_path: Path) -> None:
    cube, to = filled(world), tmp_path / "series.icechunk"
    assert cube.rechunk("cover", SERIES, to, region=["20N_000E", "10N_000E"]).ingest.written == 2
    with pytest.raises(GridError, match=r"year 2000 is part of the axis block 2000..2005"):
        cube.rechunk("cover", SERIES, tmp_path / "b", year=2000)
    assert cube.rechunk("cover", {"y": 20}, tmp_path / "c", year=2000, limit=2).ingest.planned == 2
    parts = [cube.rechunk("cover", SERIES, to, part=(k, 2)).ingest for k in (1, 2)]
    assert sum(p.planned for p in parts) == 6
    assert same(to, cube)


def test_regions_that_the_grid_is_restricted_from_are_empty_in_the_copy(world: World, tmp_path: Path) -> None:
    (world.folder / "valid.txt").write_text("20N_000E\n20N_010E\n")
    world.write_spec(("attrs:", "valid: {list: valid.txt}\nattrs:"))
    cube, to = filled(world), tmp_path / "series.icechunk"
    report = cube.rechunk("cover", {"year": 2, "y": 50, "x": 25}, to).ingest
    assert (report.written, report.empty) == (2, 4)
    assert ci.open(to).status().pending == 0
    assert same(to, cube)


def test_interrupted_copy_goes_on(world: World, tmp_path: Path) -> None:
    cube, to = filled(world), tmp_path / "series.icechunk"

    def stop(progress: Any) -> None:
        if progress.result is not None:
            os.kill(os.getpid(), signal.SIGINT)

    report = cube.rechunk("cover", SERIES, to, workers=1, on_progress=stop)
    assert report.exit_code == 130
    assert 0 < report.ingest.written < 5
    rest = cube.rechunk("cover", SERIES, to)
    assert rest.ingest.skipped >= report.ingest.written
    assert same(to, cube)


def test_axis_blocks_may_be_cut_and_joined_and_regions_smaller(
    make_cube: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From chunks of 2 x 3 axis values to others, floats with NaN, in regions of some chunks each."""
    cube = make_cube("""\
axes: {time: {start: 2000-01-01, stop: 2000-05-01, freq: MS}, my-band: {values: [red, nir, swir]}}
variables:
  other: {dtype: uint8, fill_value: 0, chunks: {y: 50, x: 50}}
  v: {dtype: float32, fill_value: .nan, chunks: {time: 2, my-band: 3, y: 50, x: 50}, attrs: {units: m}}
""")
    rng = np.random.default_rng(0)
    whole = {(m, b): rng.normal(size=(200, 250)).astype("float32") for m in range(1, 6) for b in ("red", "nir", "swir")}
    for pixels in whole.values():
        pixels[rng.random((200, 250)) < 0.2] = np.nan

    def source(geobox: Any, time: Any, my_band: str) -> np.ndarray:
        y, x = cube.grid.window(tuple(geobox.boundingbox))
        return whole[time.month, my_band][y, x]

    some = ["y0_x0", "y1_x2"]
    cube.ingest(source=source, variable="v", region=some)
    monkeypatch.setattr("cubeingest.rechunk.REGION_BYTES", 5 * 100 * 50 * 4)
    to = tmp_path / "copy"
    report = cube.rechunk("v", {"time": -1, "my-band": 1, "y": 25, "x": 50}, to, region=some)
    assert (report.region, report.ingest.written) == ({"y": 100, "x": 50}, 3 * 3)
    copy = ci.open(to)
    assert copy.dataset()["v"].dims == ("time", "my-band", "y", "x")
    assert np.array_equal(copy.dataset()["v"], cube.dataset()["v"], equal_nan=True)
    assert list(copy.spec.variables[0].attrs) == ["units"]
    assert copy.verify().equal == 9
    back = ci.open(to).rechunk(
        "v", {"time": 2, "my-band": -1, "y": 50, "x": 50}, tmp_path / "back", region=["y0_x0", "y0_x1", "y1_x4"]
    )
    assert back.exit_code == 0
    assert np.array_equal(ci.open(tmp_path / "back").dataset()["v"], cube.dataset()["v"], equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_regions_of_a_copy_are_whole_chunks_and_not_too_heavy(data: st.DataObject) -> None:
    chunk_y, chunk_x, depth = (data.draw(st.integers(1, 12)) for _ in range(3))
    spec = ci.read_spec(Path(__file__).parent.parent / "grids" / "glad-lclu.yaml")
    base = spec.variable("lclu")
    chunks = {"year": min(depth, 5), "y": chunk_y * 250, "x": chunk_x * 200}
    y, x = region_for(spec, base, chunks)
    assert y % chunks["y"] == x % chunks["x"] == 0
    assert y * x * chunks["year"] <= REGION_BYTES
    assert y <= 40_000
    assert x <= 40_000


def test_glads_series_take_regions_of_which_a_worker_can_hold_one(tmp_path: Path) -> None:
    spec = ci.read_spec(Path(__file__).parent.parent / "grids" / "glad-lclu.yaml")
    assert region_for(spec, spec.variable("lclu"), {"year": 5, "y": 250, "x": 250}) == (2000, 8000)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["cooperative", "independent"])
def test_workers_make_the_same_copy(world: World, tmp_path: Path, mode: Any) -> None:
    cube, to = filled(world), tmp_path / "series.icechunk"
    assert cube.rechunk("cover", SERIES, to, workers=2, mode=mode).ingest.written == 5
    assert same(to, cube)


def test_command_says_what_it_did_and_what_cannot_be(world: World, invoke: Invoke) -> None:
    invoke("init", "grid.yaml")
    invoke("ingest")
    done = invoke("rechunk", "cover", "--chunks", "year=-1,y=25,x=20", "--to", "series.icechunk")
    assert done.code == 0, done.err
    assert "chunks year 2, y 25, x 20; regions of 100 x 100 pixels, 40.0 kB a worker" in done.err
    assert "5 written, 1 empty, 0 skipped, 0 failed of 6 slots" in done.out
    again = invoke("rechunk", "cover", "--chunks", "year=-1,y=25,x=20", "--to", "series.icechunk", "--json").json
    assert (again["skipped"], again["waiting"], again["chunks"]) == (6, 0, {"year": 2, "y": 25, "x": 20})
    assert invoke("verify", "--store", "series.icechunk").code == 0
    other = world.write_spec(("name: small", "name: other"))
    ci.init(other, world.folder / "other.icechunk")
    (world.folder / "file").touch()
    (world.folder / "full").mkdir()
    (world.folder / "full" / "x").touch()
    refused = {
        ("cover", "--chunks", "year=-1", "--to", "small.icechunk"): "is the cube itself",
        ("cover", "--chunks", "year=-1", "--to", "small.icechunk/copy"): "lies in the cube's own store",
        (
            "cover",
            "--chunks",
            "year=-1",
            "--to",
            "other.icechunk",
        ): "is another cube (other), not a copy of 'cover' of this one",
        ("cover", "--chunks", "year=1", "--to", "series.icechunk"): "is a copy whose layout differs",
        ("cover", "--chunks", "year=-1", "--to", "file"): "is a file",
        ("cover", "--chunks", "year=-1", "--to", "full"): "is not empty and not a cube",
        ("cover", "--chunks", "y=201", "--to", "n"): "y is 201, the cube has 200 along it",
        ("cover", "--chunks", "y=0", "--to", "n"): "y is 0",
        ("cover", "--chunks", "yaer=2", "--to", "n"): "unknown dimension 'yaer'; did you mean 'year'?",
        ("cover", "--chunks", "y=1,y=2", "--to", "n"): "y is there twice",
        ("cover", "--chunks", "y", "--to", "n"): "write lengths by dimension",
        ("covr", "--chunks", "y=50", "--to", "n"): "no variable 'covr'; did you mean 'cover'?",
        ("cover", "--chunks", "y=50", "--to", "n", "--yaer", "2000"): "did you mean --year?",
    }
    for arguments, message in refused.items():
        ran = invoke("rechunk", *arguments)
        assert (ran.code, ran.out) == (2, ""), arguments
        assert message in ran.err, ran.err
        assert len(ran.err.splitlines()) <= 2
    assert not (world.folder / "n").exists()
    with pytest.raises(StoreError, match="is the cube itself"):
        ci.open(world.store).rechunk("cover", SERIES, world.store)


def test_copy_never_mixes_versions_without_a_word(world: World, tmp_path: Path) -> None:
    """What is of another version than its attribute says is told, or refused where the base lacks it."""
    to, cube = tmp_path / "series.icechunk", ci.init(world.spec_file)
    cube.ingest(region="20N_000E")
    cube.tag("v1")
    cube.ingest()
    cube.rechunk("cover", SERIES, to)
    with pytest.raises(StoreError, match=r"holds 4 slots \(.*of another version of the cube"):
        cube.at("v1").rechunk("cover", SERIES, to)
    assert same(to, cube)
    for year in (2000, 2005):
        world.add_tile(year, "20N_000E")
        world.add_tile(year, "10N_000E")
    cube.ingest()
    cube.rechunk("cover", SERIES, to, region="20N_000E")
    assert ci.open(to).dataset().attrs["rechunked_from_snapshot"] == "several"
    cube.rechunk("cover", SERIES, to)
    assert ci.open(to).dataset().attrs["rechunked_from_snapshot"] == cube.store.tip
    assert same(to, cube)


def test_copy_grows_with_the_cube_where_none_of_its_chunks_crosses_the_end(world: World, tmp_path: Path) -> None:
    cube, to = filled(world), tmp_path / "grown.icechunk"
    cube.rechunk("cover", {"y": 25}, to)
    cube.extend(year=2010)
    report = cube.rechunk("cover", {"y": 25}, to)
    assert report.ingest.written == 0
    assert ci.open(to).grid.axis("year").labels == ("2000", "2005", "2010")
    assert same(to, cube)


def test_small_chunks_of_large_regions_are_planned_at_once(tmp_path: Path) -> None:
    spec = ci.read_spec("glad-lclu")
    assert region_for(spec, spec.variables[0], {"year": 5, "y": 1, "x": 1})[0] > 1
