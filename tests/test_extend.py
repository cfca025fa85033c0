"""Cubes that grow: what is there stays as it is, down to the chunk; what is new is filled like anything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr
from zarr.core.sync import sync

import cubeingest as ci
import cubeingest.extend
import cubeingest.ingest.run
from cubeingest.errors import GridError, SpecError, StoreError
from cubeingest.store import manifest_split
from tests.conftest import Ran, World, write_tile
from tests.test_bad_store import refused

Invoke = Callable[..., Ran]

WHOLE = ("x: 250}\n  region", "x: 200}\n  region")
"""A grid without a partial column, for the tiles of :func:`leave_out`."""


@pytest.fixture
def cube(world: World) -> ci.Cube:
    """The world's cube with all its tiles, and some more tiles that it has no place for yet."""
    made = ci.init(world.spec_file)
    assert made.ingest().written == 7
    for label in ("2010", "2015"):
        add(world, label, "20N_000E")
        add(world, label, "10N_020E", columns=50)
    return made


def add(world: World, label: str, region: str, columns: int = 100) -> np.ndarray:
    """A tile of any label and region of SPEC's grid, also beyond its end, and its line in the list."""
    pixels = world.rng.integers(0, 200, (100, columns), dtype=np.uint8)
    y, x = corner(region)
    write_tile(world.folder / "tiles" / label / f"{region}.tif", pixels, x / 10, 20 - y / 10)
    with (world.folder / "tiles" / f"{label}.txt").open("a") as listed:
        listed.write(f"{region}.tif\n")
    return pixels


def leave_out(world: World, region: str = "10N_020E") -> None:
    """Take a region's tiles away again."""
    for year in ("2000", "2005"):
        (world.folder / "tiles" / year / f"{region}.tif").unlink()
        listed = world.folder / "tiles" / f"{year}.txt"
        listed.write_text(listed.read_text().replace(f"{region}.tif\n", ""))


def at(world: World) -> tuple[object, ...]:
    return ("--store", world.store)


def corner(region: str) -> tuple[int, int]:
    """Row and column of a region's first pixel."""
    top = int(region[:2]) * (1 if region[2] == "N" else -1)
    return (20 - top) * 10, int(region[4:7]) * 10


def oracle(world: World, labels: tuple[str, ...], shape_yx: tuple[int, int]) -> np.ndarray:
    """All tiles that there are, pasted by their names, as rasterio reads them."""
    out = np.full((len(labels), *shape_yx), 255, np.uint8)
    for t, label in enumerate(labels):
        for path in (world.folder / "tiles" / label).glob("*.tif"):
            with rasterio.open(path) as tile:
                pixels = tile.read(1)
            y, x = corner(path.stem)
            place = out[t, y : y + pixels.shape[0], x : x + pixels.shape[1]]
            place[...] = pixels[: place.shape[0], : place.shape[1]]
    return out


def chunks(cube: ci.Cube, variable: str = "cover", at: str | None = None) -> dict[tuple[int, ...], Any]:
    """Where each chunk of a variable lies: object, offset and length, or the bytes that the index holds itself."""
    found = {}

    async def collect() -> None:
        async for place, kinds, ids, offsets, lengths, inline in cube.store.readonly(at).store.array_chunk_iterator(
            f"/{variable}"
        ):
            for i, index in enumerate(place.tolist()):
                found[tuple(index)] = inline.get(i) or (int(kinds[i]), ids[i], int(offsets[i]), int(lengths[i]))

    sync(collect())
    return found


def is_sound(cube: ci.Cube, world: World, labels: tuple[str, ...], shape_yx: tuple[int, int] = (200, 250)) -> bool:
    """Everything is ingested, the pixels are what the tiles say, and `check` finds nothing."""
    again = ci.open(cube.store.uri)
    ds = again.dataset()
    assert again.check(deep=True).findings == []
    assert again.status().pending == 0
    report = again.verify()
    assert (report.different, report.missing, report.equal) == ([], [], report.checked)
    assert ds.attrs["spatial:shape"] == list(shape_yx)
    assert ds.attrs["spatial:bbox"] == list(again.grid.bounds())
    np.testing.assert_array_equal(ds[again.grid.dims_yx[0]].values, again.grid.coordinate(again.grid.dims_yx[0]))
    return np.array_equal(ds["cover"].values, oracle(world, labels, shape_yx))


# ---- axes -----------------------------------------------------------------------------------------------------


def test_year_is_added_and_nothing_that_is_there_is_written_again(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    cube.tag("v1")
    reader, first, refs = cube.dataset(), cube.store.tip, chunks(cube)
    assert len(refs) == 24
    ran = invoke("extend", "--year", 2010, *at(world), "--json")
    assert (ran.code, ran.json["action"], ran.json["new_slots"]) == (0, "extended", 6)
    assert ran.json["grown"] == {"year": {"from": 2, "to": 3, "values": ["2010"]}}
    assert chunks(cube) == refs
    diff = cube.store.repo.diff(from_snapshot_id=first, to_snapshot_id=ran.json["snapshot"])
    assert {p for p in diff.updated_chunks if "expected" not in p} == {"/year"}
    assert "/cover" in diff.updated_arrays
    assert ci.open(world.store).check(deep=True).findings == []
    status = ci.open(world.store).status()
    assert status.by["year"]["2010"] == {"done": 0, "empty": 0, "pending": 2, "absent": 4}
    report = invoke("ingest", *at(world), "--json").json
    assert (report["written"], report["skipped"]) == (2, 7)
    assert refs.items() <= chunks(cube).items()
    assert is_sound(cube, world, ("2000", "2005", "2010"))
    # who opened the cube before reads on what was there, and a tag is what it was
    np.testing.assert_array_equal(reader["cover"].values, oracle(world, ("2000", "2005"), (200, 250)))
    old = ci.open(world.store, at="v1")
    assert (old.status().total, old.dataset()["cover"].shape) == (12, (2, 200, 250))
    assert old.verify().equal == 7
    assert [c.message for c in ci.open(world.store).history()][1] == "extend year by 2010"


def test_same_command_again_changes_nothing_and_only_new_values_are_added(
    world: World, cube: ci.Cube, invoke: Invoke
) -> None:
    assert invoke("extend", "--year", "2010", *at(world)).code == 0
    tip = ci.open(world.store).store.tip
    again = invoke("extend", "--year=2005,2010", *at(world), "--json")
    assert (again.code, again.json["action"], again.json["snapshot"]) == (0, "unchanged", tip)
    assert "nothing changed" in invoke("extend", "--year", 2010, *at(world)).err
    part = invoke("extend", "--year", "2006..2015", *at(world), "--json").json  # the axis has a step of 5 by now
    assert part["grown"]["year"]["values"] == ["2015"]
    assert ci.open(world.store).ingest().written == 4
    assert is_sound(cube, world, ("2000", "2005", "2010", "2015"))


def test_start_and_stop_stay_start_and_stop(world: World, invoke: Invoke) -> None:
    world.write_spec(("{values: [2000, 2005]}", "{start: 2000, stop: 2005, step: 5}"))
    cube = ci.init(world.spec_file)
    cube.ingest()
    add(world, "2010", "20N_000E")
    ran = invoke("extend", "--year", "2010", *at(world))
    assert "the spec in the cube now says year" in ran.err
    assert '"stop": 2010' in ran.err
    assert cube.extend(year="2006..2010").action == "unchanged"
    assert cube.grid.axis("year").labels == ("2000", "2005", "2010")
    assert cube.ingest().written == 1
    assert is_sound(cube, world, ("2000", "2005", "2010"))
    far = cube.extend(year=2025)
    assert "year does not go on from 2010 in its step, but with 2025" in far.warnings[0]
    assert "2025.txt' is not there" in far.warnings[1]


def test_dry_run_says_what_would_be(world: World, cube: ci.Cube, invoke: Invoke) -> None:
    before = cube.store.tip
    assert (
        "would be extended (year by 2010): 6 new slots" in invoke("extend", "--year", 2010, "--dry-run", *at(world)).err
    )
    report = invoke("extend", "--year", 2010, "--dry-run", *at(world), "--json").json
    assert (report["dry_run"], report["snapshot"], report["new_slots"]) == (True, before, 6)
    assert cube.store.tip == before


def test_months_go_on_by_their_frequency(world: World) -> None:
    months = ("2000-01-01", "2000-02-01", "2000-03-01", "2000-04-01")
    world.write_spec(
        ("year: {values: [2000, 2005]}", "time: {start: 2000-01-01, stop: 2000-02-01, freq: MS}"),
        ("year: 1", "time: 1"),
        ("{year}/{id}", "{time:%Y-%m-%d}/{id}"),
        ("{year}.txt", "{time:%Y-%m-%d}.txt"),
    )
    for month in months:
        add(world, month, "20N_000E")
    cube = ci.init(world.spec_file)
    cube.ingest()
    assert cube.extend(time="2000-03..2000-04").growth[0].values == months[2:]
    assert cube.spec.document["axes"]["time"] == {"start": "2000-01-01", "stop": "2000-04-01", "freq": "MS"}
    assert cube.ingest().written == 2
    time = cube.dataset()["time"]
    assert [str(t)[:10] for t in time.values] == list(months)
    assert time.encoding["units"] == "seconds since 1970-01-01"
    assert is_sound(cube, world, months)


def test_bands_are_added_in_any_order_and_of_any_length(world: World, invoke: Invoke) -> None:
    world.write_spec(
        ("year: {values: [2000, 2005]}", "band: {values: [red, nir]}"),
        ("year: 1", "band: 1"),
        ("{year}/{id}", "{band}/{id}"),
        ("{year}.txt", "{band}.txt"),
    )
    bands = ("red", "nir", "swir16", "blue")
    for band in bands:
        add(world, band, "10N_010E")
    cube = ci.init(world.spec_file)
    cube.ingest()
    session = cube.store.writable()
    zarr.open_array(session.store, path="band").attrs["note"] = "by hand"
    session.commit("a note")
    assert invoke("extend", "--band", "swir16,blue", *at(world)).code == 0
    assert ci.open(world.store).ingest().written == 2
    ds = ci.open(world.store).dataset()
    assert (ds["band"].values.tolist(), ds["band"].attrs["note"]) == (list(bands), "by hand")
    assert is_sound(cube, world, bands)


def test_variable_without_the_axis_stays_as_it_is(world: World) -> None:
    world.write_spec(
        ("attrs: {license", '  height: {dtype: int16, fill_value: -1, axes: [], chunks: {y: 50, x: 50}, source: {href: "h/{id}.tif", missing: absent}}\nattrs: {license'),
    )  # fmt: skip
    write_tile(world.folder / "h/20N_000E.tif", np.full((100, 100), 7, np.int16), 0, 20)
    cube = ci.init(world.spec_file)
    assert cube.ingest().written == 8
    add(world, "2010", "20N_000E")
    refs = chunks(cube, "height")
    report = cube.extend(year=2010)
    assert (report.new_slots, cube.dataset()["height"].shape, chunks(cube, "height")) == (6, (200, 250), refs)
    assert cube.status(variable="height").done == 1
    assert cube.ingest().written == 1
    assert is_sound(cube, world, ("2000", "2005", "2010"))


# ---- area, and whole specs ------------------------------------------------------------------------------------


def test_area_grows_below_and_to_the_right(world: World, invoke: Invoke) -> None:
    leave_out(world)
    shards = ("{year: 1, y: 50, x: 50}", "{year: 1, y: 50, x: 50}\n    shards: {year: 1, y: 100, x: 50}")
    world.write_spec(WHOLE, shards)
    cube = ci.init(world.spec_file)
    assert cube.ingest().written == 5
    refs, ids = chunks(cube), list(cube.grid.region_ids())
    world.write_spec(("{y: 200, x: 250}", "{y: 350, x: 300}"), shards)
    add(world, "2000", "00N_010E")
    add(world, "2005", "10S_020E")
    for year in (2000, 2005):
        add(world, str(year), "10N_020E")
    ran = invoke("extend", "grid.yaml", "--json")
    assert ran.json["grown"] == {"y": {"from": 200, "to": 350}, "x": {"from": 200, "to": 300}}
    assert ran.json["new_slots"] == (4 * 3 - 4) * 2
    grown = ci.open(world.store)
    assert (grown.check().findings, chunks(grown)) == ([], refs)
    assert set(ids) < set(grown.grid.region_ids())
    assert (grown.status().done, grown.status().pending) == (5, 4)
    assert cube.status().total == 24  # also through the object that was opened before
    transform = grown.dataset()["spatial_ref"].attrs["GeoTransform"]
    assert transform == cube.dataset(chunks={})["spatial_ref"].attrs["GeoTransform"]
    assert grown.ingest().written == 4
    assert refs.items() <= chunks(grown).items()
    assert is_sound(grown, world, ("2000", "2005"), (350, 300))
    assert invoke("extend", "grid.yaml", "--json").json["action"] == "unchanged"


def test_spec_with_new_axis_values_patterns_and_attributes_is_taken_over_at_once(world: World, invoke: Invoke) -> None:
    plain = ('      tiles: {list: "tiles/{year}.txt"}\n', "      missing: absent\n")
    pattern = "href: tiles/{year}/{id}.tif"
    world.write_spec(plain, (pattern, 'href: {2000: "tiles/2000/{id}.tif", 2005: "tiles/2005/{id}.tif"}'))
    cube = ci.init(world.spec_file)
    cube.ingest()
    without = cube.extend(year=2006, dry_run=True)
    assert without.warnings == (
        "cover has no href for year 2006: give it one with `cubeingest init GRID.yaml --update`",
    )
    pixels = add(world, "2010", "20N_000E")
    (world.folder / "tiles/2010").rename(world.folder / "new")
    newer = (pattern, 'href: {2000: "tiles/2000/{id}.tif", 2005: "tiles/2005/{id}.tif", 2010: "new/{id}.tif"}')
    world.write_spec(plain, newer, ("2000, 2005]", "2000, 2005, 2010]"), ("CC0-1.0", "CC-BY-4.0"))
    ran = invoke("extend", "grid.yaml", "--json")
    assert (ran.code, ran.json["new_slots"]) == (0, 6)
    assert 'attrs.license: "CC0-1.0" -> "CC-BY-4.0"' in ran.json["changes"]
    assert any("href.2010: absent" in change for change in ran.json["changes"])
    done = ci.open(world.store)
    assert done.dataset().attrs["license"] == "CC-BY-4.0"
    assert done.ingest().written == 1
    np.testing.assert_array_equal(done.dataset()["cover"].values[2, :100, :100], pixels)
    assert done.verify().equal == 8
    world.write_spec(plain, newer, ("2000, 2005]", "2000, 2005, 2010]"), ("CC0-1.0", "CC0"))
    refused(invoke("extend", "grid.yaml"), "nothing .* is to grow, but the spec differs .*`cubeingest init --update`")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("origin: {x: 0", "origin: {x: -10"), "grid.origin.x: .*Existing pixels would move"),
        (("region: {y: 100, x: 100}", "region: {y: 50, x: 50}"), "grid.region.y: 100 -> 50"),
        (("2000, 2005]", "1995, 2000, 2005]"), "1995 stands before 2000, which would move existing pixels"),
        (("2000, 2005]", "2000, 2010]"), "lacks 2005, which the cube has"),
        (("y: 200,", "y: 100,"), "a cube can grow, but not shrink"),
        (("dtype: uint8", "dtype: uint16"), "variables.cover.dtype"),
        (("x: 250}", "x: 300}"), "2 slots that are done would get more pixels.*: 10N_020E 2000 cover, 10N_020E 2005 cover"),
    ],
)  # fmt: skip
def test_spec_that_would_move_or_change_pixels_is_refused(
    world: World, cube: ci.Cube, invoke: Invoke, change: tuple[str, str], message: str
) -> None:
    before = cube.store.tip
    world.write_spec(change)
    refused(invoke("extend", "grid.yaml", "--json"), message)
    assert cube.store.tip == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--year", "1995"), "1995 is below 2005, but the axis runs in order"),
        (("--year", "next"), "year 'next' cannot go with"),
        (("--yaer", "2010"), "did you mean --year"),
        (("--year",), "--year needs a value"),
        ((), "say by what the cube is to grow"),
        (("grid.yaml", "--year", "2010"), "give GRID.yaml or values of axes, not both"),
        (("--year", "2010", "grid.yaml"), "unexpected argument 'grid.yaml'"),
        (("gird.yaml",), "no spec file 'gird.yaml'"),
        (("--year", "2010", "--store", "nowhere"), "no cube at"),
    ],
)
def test_command_says_what_is_wrong(
    cube: ci.Cube, invoke: Invoke, world: World, words: tuple[str, ...], message: str
) -> None:
    before = cube.store.tip
    refused(invoke("extend", *words, *(() if "--store" in words else at(world))), message)
    assert cube.store.tip == before


def test_python_says_what_is_wrong(world: World, cube: ci.Cube) -> None:
    with pytest.raises(GridError, match="say by what the cube is to grow"):
        cube.extend()
    with pytest.raises(GridError, match="unknown selection 'yaer'; did you mean 'year'"):
        cube.extend(yaer=2010)
    with pytest.raises(SpecError, match="no spec file"):
        cube.extend("nothing.yaml")
    with pytest.raises(StoreError, match="only main can be extended"):
        cube.at("main").extend(year=2010)


# ---- ends that cut a region or an axis block ------------------------------------------------------------------


def test_partial_regions_grow_as_long_as_they_are_not_done(world: World, invoke: Invoke) -> None:
    names = ('  id: "', '  dims: {y: latitude, x: longitude}\n  id: "')
    world.write_spec(names)
    leave_out(world)
    cube = ci.init(world.spec_file)
    cube.ingest(region=["20N_000E", "10N_010E"])
    refs = chunks(cube)
    world.write_spec(names, ("x: 250}", "x: 300}"))
    add(world, "2000", "10N_020E")
    add(world, "2005", "10N_020E")
    assert invoke("extend", "grid.yaml", "--json").json["new_slots"] == 0
    assert ci.open(world.store).ingest().written == 4
    assert refs.items() <= chunks(cube).items()
    assert is_sound(cube, world, ("2000", "2005"), (200, 300))


@pytest.mark.parametrize("empty", [False, True], ids=["pixels", "nothing but fill value"])
def test_axis_block_that_is_not_full_grows_only_while_it_is_not_done(world: World, empty: bool) -> None:
    world.write_spec(("2000, 2005]", "2000, 2005, 2010]"), ("{year: 1, y: 50", "{year: 2, y: 50"))
    for year in (2000, 2005, 2010, 2015, 2020):
        pixels = np.full((100, 100), 255 if empty and year == 2010 else 3, np.uint8)
        for region in ("20N_000E", "10N_010E"):
            world.add_tile(year, region, pixels)
    cube = ci.init(world.spec_file)
    assert cube.grid.axis("year").block == 2
    cube.ingest(year="2000..2005")
    first = cube.store.tip
    assert cube.extend(year=2015, dry_run=True).new_slots == 0
    cube.ingest()
    with pytest.raises(
        StoreError, match=r"slots that are done would get more pixels.*: 20N_000E 2010 cover, 10N_010E 2010"
    ):
        cube.extend(year=2015)
    cube.store.repo.reset_branch("main", first)
    assert cube.extend(year=[2015, 2020]).new_slots == 6
    assert cube.grid.axis("year").n_blocks == 3
    cube.ingest()
    assert is_sound(cube, world, ("2000", "2005", "2010", "2015", "2020"))


def test_chunk_longer_than_the_axis_becomes_an_axis_block(world: World) -> None:
    world.write_spec(("{year: 1, y: 50", "{year: 3, y: 50"), WHOLE)
    leave_out(world)
    for year in (2005, 2010, 2015):
        add(world, str(year), "10N_010E")
    cube = ci.init(world.spec_file)
    assert cube.grid.axis("year").block == 2
    cube.extend(year=[2010, 2015])
    assert (cube.grid.axis("year").block, cube.grid.axis("year").n_blocks) == (3, 2)
    cube.ingest()
    assert is_sound(cube, world, ("2000", "2005", "2010", "2015"), (200, 200))


def test_many_regions_split_the_chunk_index_otherwise(world: World) -> None:
    """Beyond 200 manifests an array's are made larger: what is there is still found, and `check` is content."""
    world.write_spec(
        ("shape: {y: 200, x: 250}\n  region: {y: 100, x: 100}", "shape: {y: 200, x: 200}\n  region: {y: 20, x: 20}"),
        ('  id: "{top:02H}_{left:03H}"\n', ""),
        ("y: 50, x: 50", "y: 10, x: 10"),
        ('href: tiles/{year}/{id}.tif\n      tiles: {list: "tiles/{year}.txt"}', "file: world-{year}.tif"),
    )
    pixels = world.rng.integers(0, 200, (3, 200, 200), dtype=np.uint8)
    for i, year in enumerate((2000, 2005, 2010)):
        write_tile(world.folder / f"world-{year}.tif", pixels[i], 0, 20)
    cube = ci.init(world.spec_file)
    split = manifest_split(cube.spec, cube.spec.variables[0])
    some = ["y0_x0", "y4_x5", "y9_x9"]
    cube.ingest(region=some)
    refs = chunks(cube)
    assert cube.extend(year=2010).warnings == ()
    assert manifest_split(cube.spec, cube.spec.variables[0]) != split
    assert cube.check().findings == []
    cube.ingest(region=[*some, "y0_x1"])
    assert refs.items() <= chunks(cube).items()
    assert cube.check(deep=True).findings == []
    values = cube.dataset()["cover"].values
    for y, x in ((0, 0), (0, 20), (80, 100), (180, 180)):
        np.testing.assert_array_equal(values[:, y : y + 20, x : x + 20], pixels[:, y : y + 20, x : x + 20])


def test_array_that_the_spec_does_not_name_is_not_left_behind(world: World, cube: ci.Cube) -> None:
    session = cube.store.writable()
    root = zarr.open_group(session.store, mode="r+")
    root.create_array("mask", shape=(200, 250), dtype="uint8", dimension_names=("y", "x"))
    root.create_array("years", shape=(2,), dtype="uint8", dimension_names=("year",))
    session.commit("by hand")
    with pytest.raises(
        StoreError, match="the cube holds an array 'years' that its spec does not name, along a dimension"
    ):
        cube.extend(year=2010)
    session = cube.store.writable()
    del zarr.open_group(session.store, mode="r+")["years"]
    session.commit("by hand")
    assert cube.extend(year=2010).action == "extended"
    assert cube.dataset()["mask"].shape == (200, 250)
