"""Reductions along axes: what numpy says of the whole cube, through files, pictures and back into the cube."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import cubeingest as ci
from cubeingest.analyze import METHODS
from cubeingest.analyze.methods import make_accumulator, reduce_stack
from cubeingest.analyze.parts import cut
from cubeingest.errors import GridError, StoreError
from tests.analysis import Seasons, copy_seasons, seasons
from tests.conftest import Ran

__all__ = ["seasons"]

Invoke = Callable[..., Ran]


def oracle(method: str, stack: np.ndarray) -> np.ndarray:
    """The same by numpy, or one by one, along the first dimension."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        if method == "count":
            return np.count_nonzero(~np.isnan(stack), axis=0).astype(float)
        if method != "mode":
            return {"mean": np.nanmean, "median": np.nanmedian, "min": np.nanmin, "max": np.nanmax, "std": np.nanstd}[
                method
            ](stack, axis=0)
    out = np.full(stack.shape[1:], np.nan)
    for at in np.ndindex(*out.shape):
        found, counts = np.unique(stack[:, *at][~np.isnan(stack[:, *at])], return_counts=True)
        if found.size:
            out[at] = found[counts.argmax()]  # the first of the most frequent is the least
    return out


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as src:
        found, nodata = src.read().astype(float), src.nodata
    return np.where(found == nodata, np.nan, found)


@pytest.mark.parametrize("method", METHODS)
def test_a_reduction_is_what_numpy_says(seasons: Seasons, tmp_path: Path, method: str) -> None:
    path = tmp_path / "out.tif"
    report = seasons.cube.compute(method, over="year", variable="refl", output=path)
    some = (..., slice(80, 120), slice(190, 250)) if method == "mode" else ...
    np.testing.assert_allclose(read(path)[some], oracle(method, seasons.refl[some]), rtol=1e-6)
    assert report.to_json()["gaps"] == {"slots": 18, "pending": 1, "absent": 0}
    assert report.pixels == 2 * 200 * 250
    with rasterio.open(path) as src:
        assert (src.crs.to_epsg(), src.transform.c, src.transform.f) == (4326, 0, 20)
        assert src.descriptions == (f"{method} band red", f"{method} band nir")
        assert src.tags()["SOURCE"].endswith(seasons.cube.store.tip)
        assert src.profile["tiled"]


@pytest.mark.parametrize("method", METHODS)
def test_a_reduction_of_an_expression_of_bands(seasons: Seasons, tmp_path: Path, method: str) -> None:
    path = tmp_path / "out.tif"
    seasons.cube.compute(
        method, over=["year"], expr="(nir - red) / (nir + red)", variable="refl", output=path, year="2000..2005"
    )
    some = (..., slice(80, 120), slice(190, 250)) if method == "mode" else ...
    np.testing.assert_allclose(read(path)[0][some], oracle(method, seasons.ndvi[:2][some]), rtol=1e-6)


def test_a_reduction_over_all_axes_of_a_window(seasons: Seasons, tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    report = seasons.cube.compute("max", over=["year", "band"], variable="refl", output=path, bbox=(3.05, 4, 12, 11))
    inside = seasons.refl[..., 90:160, 30:120]
    np.testing.assert_array_equal(read(path)[0], oracle("max", inside.reshape(-1, 70, 90)))
    assert report.window == (slice(90, 160), slice(30, 120))
    with rasterio.open(path) as src:
        assert src.bounds == pytest.approx((3, 4, 12, 11))


def test_regions_that_are_not_selected_are_nodata(seasons: Seasons, tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    seasons.cube.compute("mean", over="year", variable="height", output=path, region=["y0_x0", "y1_x1"])
    expected = oracle("mean", seasons.height)[:, :200]
    expected[:100, 100:] = expected[100:, :100] = np.nan
    np.testing.assert_allclose(read(path)[0], expected, rtol=1e-6)


def test_large_values_keep_their_deviation(seasons: Seasons, tmp_path: Path) -> None:
    """Of 10,000 with a deviation of 3, float32 sums of squares would say anything."""
    path = tmp_path / "out.tif"
    seasons.cube.compute("std", over="year", variable="height", output=path)
    np.testing.assert_allclose(read(path)[0], oracle("std", seasons.height), rtol=1e-4, atol=1e-6)


def test_parts_smaller_than_a_chunk_give_the_same(
    seasons: Seasons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of chunks that span so much that one is too much for memory."""
    before = seasons.cube.transitions({"year": 2000}, {"year": 2005}, variable="cover")
    for name in ("PART_PIXELS", "PART_BYTES", "CHUNK_BYTES"):
        monkeypatch.setattr(f"cubeingest.analyze.parts.{name}", 9000)
    monkeypatch.setattr("cubeingest.analyze.transitions.PART_PIXELS", 777)
    for method in ("mean", "median"):
        seasons.cube.compute(method, over="year", variable="refl", output=tmp_path / "out.tif")
        np.testing.assert_allclose(read(tmp_path / "out.tif"), oracle(method, seasons.refl), rtol=1e-6)
    rows = seasons.cube.zonal("zone", ["sum"], variable="cover", year=2000).rows()
    expected = [np.nansum(seasons.cover[0][seasons.zone == z]) for z in range(5)]
    assert rows["sum"] == pytest.approx(expected)
    after = seasons.cube.transitions({"year": 2000}, {"year": 2005}, variable="cover")
    assert {k: v[0] for k, v in after.counts.items()} == {k: v[0] for k, v in before.counts.items()}


@pytest.mark.slow
def test_processes_compute_the_same(seasons: Seasons, tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    seasons.cube.compute("median", over="year", variable="refl", output=path, workers=2)
    np.testing.assert_allclose(read(path), oracle("median", seasons.refl), rtol=1e-6)


def test_rows_that_run_north_are_written_north_up(make_cube: Callable[[str], ci.Cube], tmp_path: Path) -> None:
    text = "axes: {year: {values: [1, 2]}}\nvariables: {v: {dtype: int16, fill_value: -1, chunks: {y: 50, x: 50}}}\n"
    cube = make_cube(text)
    up = tmp_path / "up.yaml"
    up.write_text(
        (tmp_path / "made.yaml").read_text().replace("y: -1/10}", "y: 1/10}").replace("{x: 0, y: 20}", "{x: 0, y: 0}")
    )
    other = ci.init(up, tmp_path / "up.icechunk")

    def f(geobox: Any, year: int) -> np.ndarray:
        rows = np.floor(geobox.coords["latitude"].values * 10).astype("int16")
        return np.broadcast_to(rows[:, np.newaxis] + year, geobox.shape)

    for c, name in ((cube, "down.tif"), (other, "up.tif")):
        c.ingest(source=f)
        c.compute("mean", over="year", output=tmp_path / name)
    with rasterio.open(tmp_path / "down.tif") as a, rasterio.open(tmp_path / "up.tif") as b:
        np.testing.assert_array_equal(a.read(), b.read())
        assert a.transform == b.transform


def test_a_picture_of_a_result(seasons: Seasons, tmp_path: Path) -> None:
    seasons.cube.compute("mode", over="year", variable="cover", output=tmp_path / "mode.png")
    assert (tmp_path / "mode.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(GridError, match=r"one result, not 2: say which \(--band red\)"):
        seasons.cube.compute("mean", over="year", variable="refl", output=tmp_path / "mean.png")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"over": "yeer", "variable": "refl"}, "no axis 'yeer'; did you mean 'year'"),
    ({"over": "y", "variable": "refl"}, "space is gone over by `compute zonal`"),
    ({"over": "band", "variable": "cover"}, r"'cover' has no axis 'band' \(axes: year\)"),
    ({"over": "year"}, "which variable"),
    ({"over": "band", "expr": "nir - red", "variable": "refl"}, "has no axis 'band'"),
    ({"over": "year", "expr": "nir - rad"}, "rad.*did you mean 'red'"),
    ({"over": "year", "expr": "__import__('os').system('true')"}, "expr|expected|cannot|not"),
    ({"over": "year", "expr": "refl + red"}, "mixes variables"),
    ({"over": "year", "expr": "refl + cover"}, "they must have the same"),
    ({"over": "year", "expr": "1 + 1"}, "names no variable"),
    ({"over": "year", "variable": "refl", "limit": 3}, "select by bbox"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_what_cannot_be_computed_is_refused(
    seasons: Seasons, tmp_path: Path, words: dict[str, Any], message: str
) -> None:
    with pytest.raises(GridError, match=message):
        seasons.cube.compute("mean", output=tmp_path / "o.tif", **words)
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_are_refused_first(seasons: Seasons, tmp_path: Path) -> None:
    for name, message in (("o.nc", "suffix '.nc'"), ("none/o.tif", "there is no folder"), (".", "suffix")):
        with pytest.raises(StoreError, match=message):
            seasons.cube.compute("mean", over="year", variable="refl", output=tmp_path / name)
    with pytest.raises(GridError, match="no method 'avg'"):
        seasons.cube.compute("avg", over="year", variable="refl", output=tmp_path / "o.tif")
    with pytest.raises(GridError, match="say where the result goes"):
        seasons.cube.compute("mean", over="year", variable="refl")


# ---- into the cube --------------------------------------------------------------------------------------------


def test_a_result_becomes_a_variable(seasons: Seasons, tmp_path: Path) -> None:
    seasons = copy_seasons(seasons, tmp_path)
    cube, before = seasons.cube, seasons.cube.store.tip
    first = cube.compute("mean", over="year", variable="refl", into="refl_mean", region=["y0_x0", "y1_x2"])
    assert (first.added, first.source, first.run.written) == (True, before, 4 // 2)
    rest = cube.compute("mean", over="year", variable="refl", into="refl_mean")
    assert (rest.added, rest.source, rest.run.skipped, rest.run.written) == (False, before, 2, 4)
    ds = ci.open(cube.store.uri).dataset()
    np.testing.assert_allclose(ds.refl_mean.values, oracle("mean", seasons.refl), rtol=1e-6)
    assert ds.refl_mean.attrs["cell_methods"] == "year: mean"
    assert ds.refl_mean.attrs["cubeingest_compute"]["snapshot"] == before
    assert ds.refl_mean.encoding["grid_mapping"] == "spatial_ref"
    again = ci.open(cube.store.uri)
    assert again.check(deep=True).findings == []
    assert again.verify(variable="refl_mean").to_json()["equal"] == 6
    assert {(c.slot.variable, c.change) for c in again.diff(before)} == {("refl_mean", "added")}
    assert len(again.diff(before)) == 6
    back = again.diff("main", before)
    assert {(c.slot.variable, c.change) for c in back} == {("refl_mean", "removed")}
    assert len(back) == 6
    assert len(again.show_diff("main", before).ravel()) == 1
    for name in ("refl", "height", "cover", "zone"):
        np.testing.assert_array_equal(ds[name].values, cube.at(before).dataset()[name].values)
    # What it was computed from changes: it says so, and --redo follows.
    cube.ingest(source=lambda geobox, **axes: np.full(geobox.shape, 7, "uint16"), variable="refl", year=2000, region="y0_x0", redo=True)  # fmt: skip
    stale = cube.compute("mean", over="year", variable="refl", into="refl_mean")
    assert (stale.changed, stale.run.written, stale.source) == (1, 0, before)
    anew = cube.compute("mean", over="year", variable="refl", into="refl_mean", redo=True)
    assert (anew.run.written, anew.source != before) == (6, True)
    now = np.array(seasons.refl)
    now[0, :, :100, :100] = 7
    np.testing.assert_allclose(ci.open(cube.store.uri).dataset().refl_mean.values, oracle("mean", now), rtol=1e-6)


def test_an_expression_becomes_a_variable_with_an_axis_left(seasons: Seasons, tmp_path: Path) -> None:
    seasons = copy_seasons(seasons, tmp_path)
    seasons.cube.compute(
        "max", over="year", expr="nir - red", variable="refl", into="most", bbox=(0, 12, 6, 20)
    )  # its region, whole
    found = ci.open(seasons.cube.store.uri).dataset().most
    assert found.dims == ("y", "x")
    expected = oracle("max", seasons.refl[:, 1] - seasons.refl[:, 0])
    expected[100:], expected[:, 100:] = np.nan, np.nan
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)


def test_a_variable_that_was_made_otherwise_is_left(seasons: Seasons, tmp_path: Path) -> None:
    cube = copy_seasons(seasons, tmp_path).cube
    with pytest.raises(GridError, match="that `compute` did not make: choose another name"):
        cube.compute("mean", over="year", variable="refl", into="cover")
    cube.compute("mean", over="year", variable="cover", into="made", region="y0_x0")
    tip = cube.store.tip
    with pytest.raises(GridError, match=re.escape('was made otherwise (method: "mean" -> "max")')):
        cube.compute("max", over="year", variable="cover", into="made")
    with pytest.raises(ci.SpecError, match="cannot be a variable's name"):
        cube.compute("max", over="year", variable="cover", into="year")
    with pytest.raises(StoreError, match="can only be read"):
        cube.at(tip).compute("max", over="year", variable="cover", into="other")
    assert ci.open(cube.store.uri).store.tip == tip


def test_a_variable_is_not_added_beside_an_ingest(seasons: Seasons, tmp_path: Path) -> None:
    from cubeingest.store import made_known

    cube = copy_seasons(seasons, tmp_path).cube
    with made_known(cube.store, "a" * 12), pytest.raises(StoreError, match="an ingest is running"):
        cube.compute("mean", over="year", variable="refl", into="made")
    assert "made" not in {v.name for v in ci.open(cube.store.uri).spec.variables}


# ---- arithmetic -----------------------------------------------------------------------------------------------

STACKS = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.sampled_from([np.nan, 1, 2, 3, 1e8, -2.5]))  # fmt: skip


@given(STACKS)
@settings(deadline=None)
def test_any_values_are_reduced_as_numpy_does(stack: np.ndarray) -> None:
    for method in METHODS:
        if method in ("median", "mode"):
            found = reduce_stack(method, stack)
        else:
            every = slice(None)
            accumulator = make_accumulator(method, stack.shape[1:], stack.dtype, len(stack))
            for values in stack:
                missing = np.isnan(values)
                accumulator.take(np.where(missing, 5, values), ~missing if missing.any() else None, every)
            found = accumulator.result(every)
        np.testing.assert_allclose(found, oracle(method, stack), rtol=1e-12, atol=1e-7)


@given(st.tuples(*(st.integers(0, 60) for _ in range(4))), st.tuples(st.integers(1, 20), st.integers(1, 20)), st.integers(1, 900))  # fmt: skip
def test_parts_cover_a_window_once_and_keep_to_chunks(
    edges: tuple[int, ...], chunk: tuple[int, int], most: int
) -> None:
    window = slice(min(edges[:2]), max(edges[:2]) + 1), slice(min(edges[2:]), max(edges[2:]) + 1)
    seen = np.zeros((62, 62), int)
    for part in cut(window, chunk, most):
        seen[part] += 1
        size = [s.stop - s.start for s in part]
        assert size[0] * size[1] <= max(most, size[1]), "one row of a chunk is the least"
        if chunk[0] * chunk[1] <= most:
            for s, c, w in zip(part, chunk, window, strict=True):
                assert s.start in (w.start, s.start // c * c)
                assert s.stop in (w.stop, s.stop // c * c)
    assert (seen[window] == 1).all()
    assert seen.sum() == seen[window].size


# ---- the command ----------------------------------------------------------------------------------------------


def test_the_command_says_what_it_did(seasons: Seasons, tmp_path: Path, invoke: Invoke) -> None:
    store = ("--store", seasons.cube.store.uri)
    done = invoke("compute", "std", "--over", "year", "--variable", "height", "-o", "s.tif", *store, cwd=tmp_path)
    assert (done.code, done.out) == (0, "s.tif\n")
    assert "std of height over year (ddof 0): 200 x 250 pixels, float32" in done.err
    assert "1 not ingested of 18 slots (year 2010 lacks 1 of 6): they count as missing" in done.err
    done = invoke("compute", "mean", "--over", "year", "--variable", "refl", "--band", "red", "-o", "m.tif", "--json", *store, cwd=tmp_path)  # fmt: skip
    assert done.json["gaps"] == {"slots": 18, "pending": 1, "absent": 0}
    assert done.json["bands"] == [{"band": "red"}]
    done = invoke("compute", "mean", "--over", "year", *store, cwd=tmp_path)
    assert (done.code, "say where the result goes" in done.err) == (2, True)
    done = invoke("compute", "mean", "--over", "year", "--expr", "nir-rad", "-o", "m.tif", *store, cwd=tmp_path)
    assert (done.code, "did you mean 'red'" in done.err) == (2, True)
    done = invoke("compute", "mean", "--over", "year", "--yaer", "2000", "-o", "m.tif", *store, cwd=tmp_path)
    assert (done.code, "did you mean --year" in done.err) == (2, True)


def test_the_command_adds_a_variable(seasons: Seasons, tmp_path: Path, invoke: Invoke) -> None:
    cube = copy_seasons(seasons, tmp_path).cube
    words = ("compute", "mode", "--over", "year", "--variable", "cover", "--into", "usual", "--store", cube.store.uri)
    done = invoke(*words, "--region", "y0_x0", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "usual: 1 written, 0 empty, 0 there already, 0 failed of 1 slot, from snapshot" in done.out
    assert "your file does not have it" in done.err
    done = invoke(*words, "--json", cwd=tmp_path)
    assert (done.json["added"], done.json["ingest"]["written"], done.json["ingest"]["skipped"]) == (False, 5, 1)
    found = ci.open(cube.store.uri)
    assert found.spec.variable("usual").attrs["flag_meanings"] == "water forest bare_soil"
    assert found.spec.grid == cube.grid


# ---- other cubes ----------------------------------------------------------------------------------------------


def test_dates_and_numbers_are_axes_too(make_cube: Callable[[str], ci.Cube], tmp_path: Path) -> None:
    """A chunk spans all dates; of the other axis each value is its own."""
    cube = make_cube(
        "axes: {time: {start: 2000-01-01, stop: 2000-06-01, freq: MS}, level: {values: [0.5, 10.0]}}\n"
        "variables: {t: {dtype: int16, fill_value: -999, chunks: {time: 6, y: 50, x: 50}}}\n"
    )

    def f(geobox: Any, time: Any, level: float) -> np.ndarray:
        return np.full(geobox.shape, -999 if time.month == 4 else round(time.month * level), "int16")

    cube.ingest(source=f)
    cube.compute("mean", over="time", time="2000-02..2000-05", level=10.0, output=tmp_path / "o.tif")
    np.testing.assert_allclose(read(tmp_path / "o.tif"), np.full((1, 200, 250), (20 + 30 + 50) / 3), rtol=1e-6)
    cube.compute("mean", over="time", into="t_mean")
    found = ci.open(cube.store.uri).dataset().t_mean
    assert found.dims == ("level", "y", "x")
    again = cube.compute("mean", over="time", into="t_mean")  # there are two variables now
    assert again.to_json()["ingest"]["skipped"] == 12
    np.testing.assert_allclose(found.values[1], (10 + 20 + 30 + 50 + 60) / 5)
    assert cube.series(3.0, 4.0, variable="t", level=10.0).values[0, :, 0].tolist()[:3] == [10, 20, 30]


def test_stored_values_are_scaled_as_readers_see_them(make_cube: Callable[[str], ci.Cube], tmp_path: Path) -> None:
    cube = make_cube(
        "cf_fill: true\naxes: {year: {values: [1, 2]}}\nvariables: {t: {dtype: int16, fill_value: -1, chunks: {y: 50, x: 50}, "
        "attrs: {scale_factor: 0.1, add_offset: 5}}}\n"
    )
    cube.ingest(source=lambda geobox, year: np.full(geobox.shape, year * 10, "int16"))
    assert float(cube.dataset().t.mean()) == pytest.approx(6.5)
    for method, value in (("mean", 6.5), ("max", 7.0), ("median", 6.5)):
        cube.compute(method, over="year", output=tmp_path / "o.tif")
        np.testing.assert_allclose(read(tmp_path / "o.tif"), np.full((1, 200, 250), value), rtol=1e-6)


@pytest.mark.slow
def test_processes_fill_a_variable_with_shards(seasons: Seasons, tmp_path: Path) -> None:
    cube = copy_seasons(seasons, tmp_path).cube
    report = cube.compute("median", over="year", variable="height", into="usual", workers=2, redo=True)
    assert report.to_json()["ingest"]["written"] == 6
    assert cube.spec.variable("usual").shards == (100, 100)
    expected = np.where(np.isnan(oracle("median", seasons.height)), np.nan, oracle("median", seasons.height))
    np.testing.assert_allclose(ci.open(cube.store.uri).dataset().usual.values, expected, rtol=1e-6)
    report = cube.zonal("zone", ["sum"], variable="usual", workers=2)
    totals = [np.nansum(expected[seasons.zone == z]) for z in range(5)]
    assert report.rows()["sum"] == pytest.approx(totals, rel=1e-6)
