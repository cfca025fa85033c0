"""The page of a cube: what it tells against the ledger, what it escapes, and how it is written."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

import cubeingest as ci
from cubeingest.errors import GridError
from cubeingest.ingest import Failure
from cubeingest.ledger import Record, Slot, read_records, write_record
from cubeingest.look import MISSING_COLOUR, Picture, read_colours
from cubeingest.page.commits import History
from cubeingest.page.data import MAX_RECORDS, PageData, Run, gather
from cubeingest.page.pictures import _legend, _warnings_of
from cubeingest.page.render import render, to_script
from cubeingest.selection import Selection
from cubeingest.status import STATES
from cubeingest.store import LEDGER
from cubeingest.tile import SourceId
from tests.conftest import Ran, World
from tests.pages import Page, read_page
from tests.test_glad import SCALED
from tests.test_glad import SPEC as GLAD


def page_of(cube: ci.Cube, path: Path, **selection: object) -> Page:
    return read_page(cube.report(path, **selection))


def slot_at(cube: ci.Cube, variable: str, number: int) -> Slot:
    *block, iy, ix = (int(i) for i in np.unravel_index(number, cube.spec.slot_shape(cube.spec.variable(variable))))
    return Slot(variable, tuple(block), iy, ix)


def test_a_page_tells_of_each_slot_what_the_ledger_has(world: World) -> None:
    world.add_tile(2005, "20N_010E", np.full((100, 100), 255, np.uint8))
    cube = ci.init(world.spec_file)
    cube.ingest(year=2000)
    cube.ingest(year=2005, region=["20N_000E", "20N_010E"])
    cube.tag("v1")
    page = page_of(cube, world.folder / "page.html")
    ids = [page.region_id(iy, ix) for iy in range(2) for ix in range(3)]
    assert ids == list(cube.grid.region_ids())
    states = page.states("cover")
    assert states == [
        "done",
        "done",
        "absent",
        "done",
        "done",
        "done",
        "done",
        "empty",
        "absent",
        "absent",
        "absent",
        "pending",
    ]
    slots = {n: slot_at(cube, "cover", n) for n, state in enumerate(states) if state in ("done", "empty")}
    wanted = read_records(cube.store.readonly(), slots.values())
    records = page.records("cover")
    assert set(records) == set(slots)
    commits = [c.snapshot for c in cube.history()]
    for n, slot in slots.items():
        record, shown = wanted[slot], records[n]
        assert (shown["href"], shown["size"], shown["stamp"]) == (
            record.sources[0].href,
            record.sources[0].size,
            record.sources[0].stamp,
        )
        assert (shown["checksum"], shown["reading"], shown["run"]) == (record.checksum, record.reading, record.run)
        assert shown["time"] == datetime.fromisoformat(record.time).timestamp()
        assert shown["commit"] == commits[1 if slot.block == (0,) else 0]
    assert page.data["commits"]["snapshot"] == commits[::-1]
    assert page.data["commits"]["tags"] == {"v1": commits[0]}
    assert set(page.data["variables"][0]["pictures"]) == {"0", "1"}


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"done": 99_999, "pending": 1}, "99.9 % of 100,000 slots filled"),
        ({"done": 1, "pending": 99_999}, "0.1 % of 100,000 slots filled"),
        ({"done": 1, "empty": 1, "absent": 3}, "all of 2 slots filled"),
        ({"done": 1, "pending": 1, "fresh": 2}, "25 % of 4 slots filled, and 2 not committed"),
        ({"fresh": 3}, "nothing of 3 slots filled yet, and 3 not committed"),
    ],
)
def test_the_head_of_a_page_counts_what_is_committed_and_rounds_to_no_end(
    world: World, counts: dict[str, int], text: str
) -> None:
    class Counted(PageData):
        def counts(self) -> dict[str, int]:
            return dict.fromkeys(STATES, 0) | counts

    data = Counted(ci.init(world.spec_file).spec, "", "main", "", [], History([]))
    assert f'<p class="lead">{text}</p>' in render(data)


def test_a_page_of_a_selection_leaves_the_rest_out(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest()
    page = page_of(cube, world.folder / "page.html", year=2005, region="20N_000E")
    assert page.states("cover") == ["outside"] * 6 + ["done"] + ["outside"] * 5
    assert list(page.records("cover")) == [6]


def test_each_slot_of_a_run_of_many_commits_has_the_commit_that_it_came_with(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(commit_every=3)
    cube.ingest(redo=True, mode="independent", year=2005)
    commits = [c.snapshot for c in cube.history()][::-1]
    assert len(commits) == 6
    came = {change.slot: newer for older, newer in itertools.pairwise(commits) for change in cube.diff(older, newer)}
    records = page_of(cube, world.folder / "page.html").records("cover")
    assert {slot_at(cube, "cover", n): record["commit"] for n, record in records.items()} == came


HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>"


def test_what_a_cube_holds_is_escaped(world: World) -> None:
    file = world.folder / "tiles" / "2000" / "<img src=x onerror=alert(3)>.tif"
    world.write_spec(
        ("    fill_value: 255\n", f"    fill_value: 255\n    attrs: {{long_name: '{HOSTILE}'}}\n"),
        ("license: CC0-1.0", f"license: '{HOSTILE}'"),
        ('tiles: {list: "tiles/{year}.txt"}', "tiles: {glob: 'tiles/{year}/*.tif'}"),
        ("      href: tiles/{year}/{id}.tif\n", ""),
    )
    (world.folder / "tiles" / "2000" / "20N_000E.tif").rename(file)
    cube = ci.init(world.spec_file)
    report = cube.ingest(html=world.folder / "page.html")
    assert report.written
    assert report.failed
    page = read_page(world.folder / "page.html")
    assert page.text.count("<script") == page.text.count("</script") == 2
    assert "<img" not in page.text
    assert "<!--" not in page.text
    assert page.data["attrs"]["license"] == HOSTILE
    assert page.data["variables"][0]["long_name"] == HOSTILE
    assert [f["href"] for f in page.data["failures"]] == [str(file)]
    assert page.data["failures"][0]["error"] == report.failed[0].error


def test_a_page_fetches_nothing(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest()
    text = page_of(cube, world.folder / "page.html").text
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) == {"data:,"}
    assert not re.search(r"https?://|@import|url\(", text)


@pytest.mark.parametrize(
    ("place", "message"),
    [("", "which is a folder"), ("none/page.html", "there is no folder"), ("/dev/null", "which is no file")],
)
def test_a_page_that_cannot_be_is_refused_before_any_work(world: World, place: str, message: str) -> None:
    cube = ci.init(world.spec_file)
    with pytest.raises(GridError, match=message):
        cube.report(world.folder / place)
    with pytest.raises(GridError, match=message):
        cube.ingest(html=world.folder / place)
    assert cube.status().done == 0


@pytest.mark.slow
def test_a_page_that_does_not_fit_on_the_disk_leaves_the_old_one(world: World, run: Callable[..., Ran]) -> None:
    assert run("init", "grid.yaml").code == 0
    (world.folder / "page.html").write_text("old")
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); from cubeingest.cli import main; main()"
    command = [sys.executable, "-c", code, "status", "--html", "page.html"]
    done = subprocess.run(command, cwd=world.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot write the page" in done.stderr
    assert "Traceback" not in done.stderr
    assert (world.folder / "page.html").read_text() == "old"
    assert not list(world.folder.glob(".page*"))


def test_the_commands_say_where_the_page_is(world: World, invoke: Callable[..., Ran]) -> None:
    page = str(world.folder / "page.html")
    assert invoke("init", "grid.yaml").code == 0
    before = invoke("status", "--json").json
    assert invoke("status", "--json", "--html", "page.html").json == before | {"html": page}
    assert f"page: {page}" in invoke("status", "--html", "page.html").err
    done = invoke("ingest", "--json", "--html", "page.html")
    assert done.json["html"] == page
    assert read_page(Path(page)).data["run"]["outcome"] == "done"
    refused = invoke("status", "--html", "none/page.html")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


def test_a_page_tells_what_is_wrong_with_colours_and_what_pixels_are_missing(world: World) -> None:
    world.write_spec(
        ("    fill_value: 255\n", "    fill_value: 255\n    attrs: {units: K, flag_values: 1 1, cmap: no such}\n")
    )
    pixels = world.pixels("20N_000E")
    pixels[:50] = 255
    world.add_tile(2000, "20N_000E", pixels)
    cube = ci.init(world.spec_file)
    cube.ingest(year=2000, region="20N_000E", workers=1)
    page = page_of(cube, world.folder / "page.html")
    assert "flag_values of &#x27;cover&#x27; cannot be used" in page.text
    assert "cmap of &#x27;cover&#x27; cannot be used" in page.text
    legend = page.data["variables"][0]["legend"]
    assert (legend["missing"], len(legend["ramp"]), legend["ramp"][-1]) == (MISSING_COLOUR, 17, "#fde725")


def test_numbers_that_are_none_cost_the_colour_bar_and_not_the_page(world: World) -> None:
    variable = ci.init(world.spec_file).spec.variables[0]
    pixels = np.arange(200, dtype=np.uint8).reshape(10, 20)
    colours = replace(read_colours(replace(variable, attrs={"units": "K"}), pixels), high=np.inf)
    assert _legend(colours, [Picture(pixels, (slice(0, 10), slice(0, 20)), 1)]) == {}
    assert "there is no colour bar" in _warnings_of(colours)[0]
    with pytest.raises(ValueError, match="JSON"):
        to_script({"low": np.nan})


def test_long_messages_of_failures_are_cut(world: World) -> None:
    data = gather(ci.init(world.spec_file).store, Selection())
    data.run = Run(time.time(), "cooperative", outcome="failed", message="x" * 10_000)
    data.failures = [Failure("20N_000E", {"year": "2000"}, "cover", "y" * 10_000, "<é>" * 10_000)]
    size = len(render(data))
    assert size < len(render(replace(data, failures=[], run=None))) + 30_000
    data.failures *= 1000
    assert [len(f.error) for f in data.listed_failures()] == [500] * 300
    assert len(render(data)) < size + 2_500_000


def test_a_page_says_whether_there_are_overviews_and_of_what(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(workers=1)
    assert "overviews" not in page_of(cube, world.folder / "page.html").text.split("</dl>")[0].split("<dl")[1]
    cube.overviews(levels=1, workers=1)
    assert "<dt>overviews</dt><dd>1 level</dd>" in page_of(cube, world.folder / "page.html").text
    world.add_tile(2005, "20N_000E")
    cube.ingest(workers=1)
    assert "<dd>1 level, 1 slot stale</dd>" in page_of(cube, world.folder / "page.html").text


def test_a_cube_of_one_region_without_data_has_a_page(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("""\
name: one
crs: EPSG:32633
grid: {origin: {x: 500000, y: 5200000}, resolution: {x: 10, y: -10}, shape: {y: 1, x: 1}, region: {y: 1, x: 1}}
variables: {height: {dtype: float32, fill_value: NaN, chunks: {y: 1, x: 1}}}
""")
    cube = ci.init(file, tmp_path / "cube")
    page = page_of(cube, tmp_path / "page.html")
    assert page.states("height") == ["pending"]
    assert "nothing of 1 slot filled yet" in page.text
    assert page.data["variables"][0]["pictures"] == {}


def land_cover(geobox: object, year: int) -> np.ndarray:
    """Classes in patches with noise, as land cover is: hard to compress."""
    rng = np.random.default_rng(abs(hash((str(geobox), year))))
    patches = rng.integers(0, 30, (5, 5), np.uint8).repeat(8, 0).repeat(8, 1)
    return np.where(rng.random((40, 40)) < 0.2, rng.integers(0, 200, (40, 40), np.uint8), patches).astype(np.uint8)


@pytest.mark.slow
def test_the_page_of_glad_whole_with_pictures_is_less_than_2_mb(tmp_path: Path) -> None:
    text = GLAD.read_text()
    for old, new in SCALED:
        text = text.replace(old, new)
    file = tmp_path / "glad.yaml"
    file.write_text(text.replace("gs://earthenginepartners-hansen/GLCLU2000-2020/v2", str(tmp_path)))
    cube = ci.init(file, tmp_path / "cube")
    cube.ingest(source=land_cover)
    session = cube.store.writable()
    rng = np.random.default_rng(1)
    for b, iy, ix in np.ndindex(5, 14, 36):
        href = f"gs://earthenginepartners-hansen/GLCLU2000-2020/v2/{2000 + 5 * b}/{cube.grid.region_id(iy, ix)}.tif"
        source = SourceId(href, int(rng.integers(1e8, 1e9)), f'"{rng.bytes(16).hex()}"')
        record = Record(
            "done", (source,), rng.bytes(8).hex(), "band 1; nodata 255", f"2026-01-0{b + 1}T00:00:00Z", "run"
        )
        write_record(session, Slot("lclu", (b,), iy, ix), record)
    session.commit("as if from tiles")
    page = page_of(cube, tmp_path / "page.html")
    assert len(page.records("lclu")) == 2520
    assert len(page.data["variables"][0]["pictures"]) == 5
    assert page.size < 2_000_000


@pytest.mark.slow
def test_a_page_of_a_hundred_thousand_slots_leaves_records_and_pictures_out_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    file.write_text("""\
name: many
crs: EPSG:4326
grid: {origin: {x: -180, y: 90}, resolution: {x: 1/10, y: -1/10}, shape: {y: 1800, x: 3600}, region: {y: 18, x: 18}}
axes: {year: {start: 2000, stop: 2004}}
variables: {cover: {dtype: uint8, fill_value: 255, chunks: {year: 1, y: 18, x: 18}}}
""")
    cube = ci.init(file, tmp_path / "cube")
    session = cube.store.writable()
    record = Record("done", (SourceId("a.tif", 1, "2"),), "0" * 16, "band 1", "2026-01-01T00:00:00Z", "run")
    write_record(session, Slot("cover", (0,), 0, 0), record, is_new=True)
    key = f"{LEDGER}/cover/record/c"
    first = sync(session.store.get(f"{key}/0/0/0", default_buffer_prototype()))
    assert first is not None

    async def copy() -> None:
        for b, iy, ix in np.ndindex(5, 100, 200):
            await session.store.set(f"{key}/{b}/{iy}/{ix}", first)

    sync(copy())
    session.commit("as if ingested")
    page = page_of(cube, tmp_path / "page.html")
    assert page.states("cover").count("done") == 100_000 > MAX_RECORDS
    assert page.data["variables"][0]["records"] is None
    assert page.data["variables"][0]["pictures"] == {}
    assert "100,000 slots are done" in page.text
    assert page.size < 1_000_000
