"""Overviews: each level is what plain numpy makes of the one below; only what changed is made again."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

import cubeingest as ci
from cubeingest import Cube
from cubeingest.ledger import present_chunks
from cubeingest.overviews import current_slots, halving, levels_of
from cubeingest.overviews.levels import levels_by_default, make_pyramid
from cubeingest.spec import spec_from_yaml

Invoke = Callable[..., Any]

GRID = """\
name: made
crs: EPSG:4326
grid: {origin: {x: 0, y: 40}, resolution: {x: 1/100, y: -1/100}, shape: {y: 2052, x: 4500}, region: {y: 1024, x: 2048}}
axes: {year: {values: [2000, 2001]}}
variables:
  cover: {dtype: uint8, fill_value: 255, chunks: {y: 256, x: 256}}
store: ./made.icechunk
"""
"""3 x 3 regions, the last row 4 pixels high: cells of the first stage are two regions high."""

FIELD = "  height: {dtype: int16, fill_value: -1, chunks: {y: 512, x: 512}, axes: []}\n"


def make(folder: Path, *changes: tuple[str, str]) -> Cube:
    text = GRID
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "grid.yaml").write_text(text)
    return ci.init(folder / "grid.yaml")


def classes(geobox: Any, year: int = 2000) -> np.ndarray:
    """Blobs of a few classes, and gaps."""
    rows, columns = geobox.shape
    rng = np.random.default_rng([round(geobox.affine.c * 100), round(geobox.affine.f * 100) + 10**6, year])
    small = rng.integers(0, 6, (rows // 3 + 1, columns // 3 + 1), dtype=np.uint8)
    pixels = small.repeat(3, 0).repeat(3, 1)[:rows, :columns]
    pixels[: rows // 3, : columns // 2] = 255
    return pixels


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cube whose year 2000 is done, with its overviews."""
    folder = tmp_path_factory.mktemp("made")
    cube = make(folder)
    cube.ingest(source=classes, year=2000)
    cube.overviews()
    return folder


@pytest.fixture
def cube(made: Path, tmp_path: Path) -> Cube:
    """A copy of it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return ci.open(tmp_path / "made.icechunk")


def expected(base: np.ndarray, cube: Cube, name: str, n: int) -> np.ndarray:
    """Level n of a whole array, each level made of the one below it at once."""
    variable = cube.spec.variable(name)
    for _ in range(n):
        base = halving.halve(base, variable, str(halving.method_of(variable)))
    return base


def assert_levels(cube: Cube, name: str) -> int:
    """All levels of a variable are what they should be; how many there are."""
    base = cube.dataset()[name].values
    levels = levels_of(cube.store.readonly(), cube.spec)
    for level in levels:
        np.testing.assert_array_equal(cube.dataset(level=level.number)[name], expected(base, cube, name, level.number))
    return len(levels)


def test_every_level_is_what_numpy_makes_of_the_one_below(tmp_path: Path) -> None:
    cube = make(tmp_path, ("store:", FIELD + "store:"))
    cube.ingest(source=classes, variable="cover", year=2000)
    cube.ingest(source=lambda g: classes(g).astype("int16") * 7, variable="height")
    report = cube.overviews(levels=5)
    assert (report.failed, report.planned, report.exit_code) == ([], report.written + report.empty, 0)
    assert report.variables == {"cover": "mode", "height": "mean"}
    assert assert_levels(cube, "cover") == assert_levels(cube, "height") == 5
    assert (cube.dataset(level=1)["cover"].sel(year=2001) == 255).all()  # not ingested
    assert cube.check(deep=True).findings == []


@pytest.mark.slow
def test_shards_axis_blocks_other_names_and_rows_that_run_north(tmp_path: Path) -> None:
    cube = make(
        tmp_path,
        ("crs: EPSG:4326", "crs: EPSG:32633"),
        ("{x: 1/100, y: -1/100}", "{x: 30, y: 30}"),
        ("region: {y: 1024, x: 2048}}", "region: {y: 1024, x: 2048}, dims: {y: north, x: east}}"),
        ("year: {values: [2000, 2001]}", "time: {values: [2001-01-01, 2002-01-01, 2003-01-01]}"),
        ("dtype: uint8, fill_value: 255, chunks: {y: 256, x: 256}",
         "dtype: float32, fill_value: .nan, chunks: {time: 2, y: 128, x: 256}, shards: {time: 2, y: 512, x: 512}"),
    )  # fmt: skip
    cube.ingest(source=lambda g, time: np.where(classes(g) == 255, np.nan, classes(g, time.year) / 7).astype("float32"))
    report = cube.overviews(levels=5)
    assert (report.failed, report.variables) == ([], {"cover": "mean"})
    assert assert_levels(cube, "cover") == 5
    level = cube.dataset(level=5)
    assert level["cover"].dims == ("time", "north", "east")
    assert float(level.north[1] - level.north[0]) == 30 * 32
    assert zarr.open_array(cube.store.readonly().store, path="overviews/1/cover").chunks[0] == 2


def test_update_of_attributes_reaches_the_levels(cube: Cube, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID.replace("fill_value: 255,", "fill_value: 255, attrs: {long_name: cover},"))
    cube = ci.init(tmp_path / "grid.yaml", update=True)
    assert [cube.dataset(level=n)["cover"].attrs["long_name"] for n in (0, 1, 3)] == ["cover"] * 3
    assert cube.overviews().written == 0


def test_levels_have_coordinates_and_crs_of_their_own(cube: Cube) -> None:
    for n in (1, 2, 3):
        ds = cube.dataset(level=n)
        assert ds.sizes == {"year": 2, "y": -(-2052 // 2**n), "x": -(-4500 // 2**n)}
        assert ds.rio.crs == "EPSG:4326"
        assert ds.rio.transform().almost_equals(cube.grid.affine() * cube.grid.affine().scale(2**n))
        assert float(ds.x[0]) == pytest.approx(0.005 * 2**n)
    with pytest.raises(ci.CubeIngestError, match=r"no level 4 \(levels: 1, 2, 3\)"):
        cube.dataset(level=4)


def test_any_reader_finds_the_levels(cube: Cube) -> None:
    from zarr_cm import multiscales

    store = cube.store.readonly().store
    root = zarr.open_group(store, mode="r")
    for group, first in ((root, "cover"), (root["overviews"], "1")):
        attrs = group.attrs.asdict()
        multiscales.validate_group_metadata({"zarr_format": 3, "node_type": "group", "attributes": attrs})
        layout = attrs["multiscales"]["layout"]
        assert layout[0]["asset"] == first
        for entry, derived in itertools.pairwise([*layout, None]):
            node = group[entry["asset"]]
            array = node if isinstance(node, zarr.Array) else node["cover"]
            assert list(array.shape[-2:]) == entry["spatial:shape"]
            if derived is not None:
                assert derived["derived_from"] == entry["asset"]
                assert derived["transform"]["scale"] == [2, 2]
    tree = xr.open_datatree(store, group="overviews", engine="zarr", consolidated=False)
    assert set(tree.children) == {"1", "2", "3"}
    assert int(tree["2/cover"].isel(year=0, y=300, x=300)) == int(cube.dataset(level=2)["cover"][0, 300, 300])


def test_gdal_opens_a_level_as_a_raster(cube: Cube, tmp_path: Path) -> None:
    store = cube.store.readonly().store
    plain = tmp_path / "plain.zarr"

    async def export() -> None:
        async for key in store.list_prefix("overviews/2/"):
            file = plain / key.removeprefix("overviews/2/")
            file.parent.mkdir(parents=True, exist_ok=True)
            value = await store.get(key, default_buffer_prototype())
            assert value is not None
            file.write_bytes(value.to_bytes())

    sync(export())
    with rasterio.open(f'ZARR:"{plain}":/cover:0') as level:
        assert level.transform.almost_equals(cube.grid.affine() * cube.grid.affine().scale(4))
        assert (level.crs.to_epsg(), level.nodata) == (4326, 255)
        np.testing.assert_array_equal(level.read(1), cube.dataset(level=2)["cover"][0])


def test_only_ancestors_of_what_changed_are_made_again(cube: Cube, invoke: Invoke) -> None:
    first = cube.overviews(levels=5)
    cells = {(s.number, s.spec.grid.n_regions) for s in make_pyramid(cube.spec, 5).stages}
    assert cells == {(1, 6), (2, 1)}
    assert (first.written, first.skipped) == (7, 0)
    again = cube.overviews()
    assert (again.written, again.skipped, again.snapshot) == (0, 7, None)
    cube.ingest(source=lambda g, year: classes(g, year + 1), region="y1_x1", year=2000, redo=True)
    stale = ~current_slots(cube.store.readonly(), cube.spec)["cover"]
    assert np.argwhere(stale).tolist() == [[0, 1, 1]]
    assert cube.status().to_json()["overviews"] == {"levels": 5, "current": 8, "stale": 1}
    assert "1 of the slots done are not in the overviews" in invoke("status", "--store", cube.store.uri).out
    after = cube.overviews()
    assert "5 levels of overviews; of all that is done" in invoke("status", "--store", cube.store.uri).out
    assert (after.written, after.skipped, after.pixels) == (2, 5, 2048 * 2048 + 257 * 563)
    assert assert_levels(cube, "cover") == 5
    assert all(s.all() for s in current_slots(cube.store.readonly(), cube.spec).values())


def test_same_pixels_ingested_anew_make_nothing_stale(cube: Cube) -> None:
    cube.ingest(source=classes, year=2000, redo=True)
    assert cube.overviews().written == 0


def test_region_that_becomes_empty_takes_its_overviews_away(tmp_path: Path) -> None:
    cube = make(tmp_path)
    where = {"region": ["y0_x0", "y1_x0"], "year": 2000}
    cube.ingest(source=classes, **where)
    cube.overviews(levels=4)
    assert (cube.dataset(level=4)["cover"] != 255).any()
    cube.ingest(source=lambda g, year: None, redo=True, **where)
    report = cube.overviews()
    assert (report.written, report.empty) == (0, 2)
    assert_levels(cube, "cover")
    session = cube.store.readonly()
    assert [present_chunks(session, f"/{lv.path('cover')}") for lv in levels_of(session, cube.spec)] == [[]] * 4


@pytest.mark.slow
def test_selection_restricts_what_is_made(tmp_path: Path) -> None:
    cube = make(tmp_path)
    cube.ingest(source=classes)
    report = cube.overviews(year=2001, region="y0_x0")
    assert report.written == report.planned == 1
    current = current_slots(cube.store.readonly(), cube.spec)["cover"]
    assert np.argwhere(current).tolist() == [[1, 0, 0], [1, 1, 0]]  # the cell is two regions high
    cube.overviews()
    assert assert_levels(cube, "cover") == 3


def test_another_number_of_levels_makes_all_anew(cube: Cube) -> None:
    report = cube.overviews(levels=4)
    assert (report.written, report.skipped) == (7, 0)
    assert assert_levels(cube, "cover") == 4
    assert cube.overviews().levels[-1]["level"] == 4  # as many as there are
    with pytest.raises(ci.CubeIngestError, match="at most 13"):
        cube.overviews(levels=14)


def test_fewer_levels_and_none_at_all(cube: Cube, invoke: Invoke) -> None:
    assert cube.overviews(levels=1).written == 9  # cells of one region
    assert assert_levels(cube, "cover") == 1
    done = invoke("overviews", "--levels", 0, "--store", cube.store.uri)
    assert (done.code, "taken away" in done.out) == (0, True)
    root = zarr.open_group(cube.store.readonly().store, mode="r")
    assert "overviews" not in root
    assert "multiscales" not in root.attrs
    assert cube.check().findings == []
    assert cube.status().levels == 0
    assert cube.overviews().written == 6
    with pytest.raises(ci.CubeIngestError, match="not made in parts"):
        cube.overviews(limit=1)


@pytest.mark.parametrize(
    "path", ["overviews", "overviews/2", "overviews/3/cover", "cubeingest/ledger/cover/overviews/1"]
)
def test_what_somebody_took_away_is_made_again(cube: Cube, path: str) -> None:
    session = cube.store.writable()
    del zarr.open_group(session.store, mode="r+")[path]
    session.commit("by hand")
    assert all("cubeingest overviews" in f.remedy for f in cube.check().findings)
    assert bool(cube.check().findings) == (path != "overviews")
    assert cube.overviews().written == 6
    assert assert_levels(cube, "cover") == 3
    assert cube.check(deep=True).findings == []


def test_deep_check_finds_overviews_that_somebody_overwrote(cube: Cube, invoke: Invoke) -> None:
    session = cube.store.writable()
    zarr.open_array(session.store, path="overviews/2/cover", mode="r+")[0, 400, 700] = 99
    session.commit("by hand")
    assert cube.check().findings == []
    ran = invoke("check", "--deep", "--store", cube.store.uri)
    assert ran.code == 1
    assert "overviews 1 to 3 of cover 2000 cell y0_x1 hold other pixels" in ran.out + ran.err
    assert cube.overviews().written == 0
    assert cube.overviews(redo=True).written == 6
    assert cube.check(deep=True).findings == []


@pytest.mark.slow
def test_attributes_that_somebody_spoilt_are_no_crash_and_all_is_made_again(cube: Cube) -> None:
    for levels in (99, -1, 0, True, "3", None):
        session = cube.store.writable()
        group = zarr.open_group(session.store, path="overviews", mode="r+")
        group.attrs["cubeingest"] = {**group.attrs["cubeingest"], "levels": levels}
        session.commit("by hand")
        assert cube.status().levels == 0
        assert cube.check().findings == []
    assert cube.overviews().written == 6
    assert assert_levels(cube, "cover") == 3


def test_overviews_of_another_layout_are_not_used_and_made_anew(cube: Cube) -> None:
    session = cube.store.writable()
    root = zarr.open_group(session.store, mode="r+")
    root["overviews"].attrs["cubeingest"] = {**root["overviews"].attrs["cubeingest"], "layout": 0}
    # As a version might have laid it out that made other cells.
    del root["cubeingest/ledger/cover/overviews/1/record"]
    root.create_array(
        "cubeingest/ledger/cover/overviews/1/record", shape=(2, 1, 1), chunks=(1, 1, 1), dtype="str", fill_value=""
    )
    session.commit("by an earlier version")
    assert (cube.status().levels, cube.check().findings) == (0, [])
    with pytest.raises(ci.CubeIngestError, match="made anew"):
        cube.overviews(year=2000)
    assert cube.overviews().written == 6
    assert assert_levels(cube, "cover") == 3
    assert cube.check(deep=True).findings == []


def test_variable_that_is_to_have_none_any_more_has_none(tmp_path: Path) -> None:
    cube = make(tmp_path, ("store:", FIELD.replace(", axes: []", "") + "store:"))
    cube.ingest(source=classes, variable="cover", year=2000, region="y0_x0")
    cube.overviews()
    text = (tmp_path / "grid.yaml").read_text()
    (tmp_path / "grid.yaml").write_text(text.replace("fill_value: -1,", "fill_value: -1, overviews: none,"))
    cube = ci.init(tmp_path / "grid.yaml", update=True)
    assert set(cube.dataset(level=1)) == {"cover"}
    cube.extend(year=2002)
    assert cube.dataset(level=1).sizes["year"] == 3
    (tmp_path / "grid.yaml").write_text(
        text.replace("fill_value: -1,", "fill_value: -1, overviews: none,")
        .replace("fill_value: 255,", "fill_value: 255, overviews: none,").replace("2001]", "2001, 2002]")
    )  # fmt: skip
    cube = ci.init(tmp_path / "grid.yaml", update=True)
    assert cube.check().findings == []
    assert levels_of(cube.store.readonly(), cube.spec) == ()
    cube.extend(year=2003)
    (tmp_path / "grid.yaml").write_text(text.replace("2001]", "2001, 2002, 2003]"))
    cube = ci.init(tmp_path / "grid.yaml", update=True)
    assert cube.overviews().written == 1
    assert set(cube.dataset(level=1)) == {"cover", "height"}


def test_another_method_makes_all_anew(cube: Cube, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID.replace("fill_value: 255,", "fill_value: 255, overviews: nearest,"))
    cube = ci.init(tmp_path / "grid.yaml", update=True)
    assert not current_slots(cube.store.readonly(), cube.spec)["cover"][0].any()
    layout = zarr.open_group(cube.store.readonly().store, mode="r").attrs["multiscales"]["layout"]
    assert {entry.get("resampling_method") for entry in layout} == {None, "nearest"}
    assert cube.overviews().written == 6
    np.testing.assert_array_equal(cube.dataset(level=1)["cover"], cube.dataset()["cover"][:, ::2, ::2])


@pytest.mark.slow
def test_variable_without_overviews_has_none_and_may_get_them_later(tmp_path: Path) -> None:
    without = FIELD.replace("fill_value: -1,", "fill_value: -1, overviews: none,")
    cube = make(tmp_path, ("store:", without + "store:"))
    cube.ingest(source=classes, variable="cover", year=2000)
    cube.ingest(source=lambda g: classes(g).astype("int16"), variable="height")
    assert cube.overviews().variables == {"cover": "mode"}
    assert "height" not in cube.dataset(level=1)
    with pytest.raises(ci.CubeIngestError, match="height has no overviews"):
        cube.overviews(variable="height")
    (tmp_path / "grid.yaml").write_text((tmp_path / "grid.yaml").read_text().replace(", overviews: none", ""))
    cube = ci.init(tmp_path / "grid.yaml", update=True)
    report = cube.overviews()
    assert (report.written, report.skipped) == (6, 6)
    assert assert_levels(cube, "height") == assert_levels(cube, "cover") == 3


def test_extension_keeps_overviews_along_an_axis(cube: Cube) -> None:
    cube.extend(year=2002)
    assert cube.dataset(level=1).sizes["year"] == 3
    assert cube.overviews().written == 0
    cube.ingest(source=classes, year=2002)
    assert cube.overviews().written == 6
    assert assert_levels(cube, "cover") == 3
    assert cube.check().findings == []


@pytest.mark.slow
def test_extension_of_the_grid_drops_overviews_and_says_so(tmp_path: Path) -> None:
    cube = make(tmp_path, ("y: 2052", "y: 2048"))
    cube.ingest(source=classes)
    cube.overviews()
    (tmp_path / "grid.yaml").write_text(GRID.replace("y: 2052", "y: 4096"))
    done = cube.extend(tmp_path / "grid.yaml")
    assert any("cubeingest overviews" in w for w in done.warnings)
    assert levels_of(cube.store.readonly(), cube.spec) == ()
    assert "multiscales" not in zarr.open_group(cube.store.readonly().store, mode="r").attrs
    cube.overviews()
    assert assert_levels(cube, "cover") == 3


@pytest.mark.parametrize(
    ("shape", "region", "levels"),
    [
        ((560000, 1440000), (40000, 40000), 11),
        ((97579, 208881), (6000, 4500), 8),
        ((5000, 3000), (375, 375), 3),
        ((10007 * 9, 10007 * 9), (10007, 10007), 7),
        ((3601 * 5, 3601 * 4), (3601, 3601), 5),
        ((100000, 100000), (100000, 100000), 7),
        ((1, 1), (1, 1), 0),
        ((1, 50000), (1, 1000), 6),
    ],
)
def test_cells_cover_every_level_with_whole_chunks(
    shape: tuple[int, int], region: tuple[int, int], levels: int
) -> None:
    text = GRID.replace("y: 2052, x: 4500", f"y: {shape[0]}, x: {shape[1]}").replace(
        "y: 1024, x: 2048", f"y: {region[0]}, x: {region[1]}"
    )
    text = text.replace("chunks: {y: 256, x: 256}", f"chunks: {{y: {region[0]}, x: {region[1]}}}")
    spec = spec_from_yaml(text, "grid.yaml", "")
    assert levels_by_default(spec.grid) == levels
    pyramid = make_pyramid(spec, levels)
    assert [lv.number for lv in pyramid.levels] == list(range(1, levels + 1))
    assert max(pyramid.levels[-1].spec.grid.shape_yx) <= 1024 if levels else not pyramid.levels
    for stage in pyramid.stages:
        below = pyramid.below(stage)[0].grid
        for lv in pyramid.levels[stage.first - 1 : stage.last]:
            assert lv.spec.grid.lattice_shape_yx == stage.spec.grid.lattice_shape_yx
            steps = 2 ** (lv.number - stage.first + 1)
            chunks = lv.spec.variables[0].chunks[-2:]
            for cell, own, chunk, n in zip(stage.cell_yx, lv.spec.grid.region_shape_yx, chunks, lv.spec.grid.lattice_shape_yx, strict=True):  # fmt: skip
                assert n == 1 or (cell == own * steps and own % chunk == 0 and own >= 256)
        for cell, unit, n in zip(stage.spec.grid.region_shape_yx, below.region_shape_yx, stage.spec.grid.lattice_shape_yx, strict=True):  # fmt: skip
            assert (
                n == 1 or stage.first > 1 or (cell % unit == 0 and cell <= max(2 * unit, 2048))
            )  # of whole regions, and few


def test_command_line_makes_levels_and_says_what_it_did(tmp_path: Path, invoke: Invoke) -> None:
    cube = make(tmp_path)
    cube.ingest(source=classes, year=2000, region="y0_x0")
    done = invoke("overviews", "--store", cube.store.uri, "--json")
    assert (done.code, done.json["written"], done.json["variables"]) == (0, 1, {"cover": "mode"})
    assert [lv["shape"] for lv in done.json["levels"]] == [[1026, 2250], [513, 1125], [257, 563]]
    again = invoke("overviews", "--store", cube.store.uri)
    assert "0 written, 0 empty, 1 current, 0 failed of 1 cell" in again.out
    assert [c.message for c in cube.history()[:2]] == [
        "overviews: levels 1 to 3, 1 cell",
        "3 levels of overviews for cover",
    ]


def test_small_cube_needs_no_levels(tmp_path: Path, invoke: Invoke) -> None:
    cube = make(
        tmp_path, ("shape: {y: 2052, x: 4500}, region: {y: 1024, x: 2048}", "shape: {y: 1, x: 1}, region: {y: 1, x: 1}")
    )
    assert "no levels are needed" in invoke("overviews", "--store", cube.store.uri).out
    assert len(cube.history()) == 1
