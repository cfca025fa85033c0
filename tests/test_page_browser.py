"""The page in a real browser, from a file, with the network cut: what a person sees and does."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import numpy as np
import pytest

import cubeingest as ci
from cubeingest.ledger import read_records
from cubeingest.page.data import CODES, FRESH, Run, gather
from cubeingest.page.render import render
from cubeingest.plan import slot_labels
from cubeingest.selection import Selection
from tests.conftest import World
from tests.test_page import HOSTILE, slot_at

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

Opener = Callable[..., "Page"]


@pytest.fixture
def cube(world: World) -> ci.Cube:
    """Two commits, one of a year: done, empty, pending and absent slots; a name and an attribute that would run as scripts."""
    world.write_spec(
        ("    fill_value: 255\n", f"    fill_value: 255\n    attrs: {{long_name: '{HOSTILE}'}}\n"),
        ("license: CC0-1.0", f"license: '{HOSTILE}'"),
    )
    world.add_tile(2005, "20N_010E", np.full((100, 100), 255, np.uint8))
    made = ci.init(world.spec_file)
    made.ingest(year=2000)
    made.ingest(year=2005, region=["20N_000E", "20N_010E"])
    made.tag("v1")
    return made


@pytest.fixture
def look(browser: Browser, world: World) -> Iterator[Opener]:
    """Open a page from its file; in the end nothing was asked of the network, and nothing went wrong."""
    wrong: list[str] = []
    contexts = []

    def open_page(path: Path, fragment: str = "", **options: Any) -> Page:
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on(
            "request", lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(f"request: {r.url}")
        )
        page.goto(f"{path.as_uri()}#{fragment}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def report(cube: ci.Cube, world: World) -> Path:
    return cube.report(world.folder / "page.html")


def place_of(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where on the screen a coordinate of the grid (0 to 25, 0 to 20 degrees) is, while all of it is shown."""
    box = page.locator("#map").bounding_box()
    assert box is not None
    inner = {k: page.evaluate(f"document.getElementById('map').client{k}") for k in ("Width", "Height")}
    scale = min((inner["Width"] - 16) / 25, (inner["Height"] - 16) / 20)
    return box["x"] + box["width"] / 2 + (x - 12.5) * scale, box["y"] + box["height"] / 2 - (y - 10) * scale


def fragment(page: Page) -> dict[str, str]:
    return {k: v[0] for k, v in parse_qs(page.evaluate("location.hash.slice(1)")).items()}


def wait_for_fragment(page: Page, pattern: str) -> dict[str, str]:
    page.wait_for_url(re.compile(f"#.*{pattern}"))
    return fragment(page)


def test_what_the_cube_holds_is_shown_as_text(report: Path, look: Opener) -> None:
    page = look(report)
    assert page.inner_text("h1") == "small"
    assert page.inner_text("#panel h2") == HOSTILE
    assert HOSTILE in page.inner_text("#panel dl")
    assert page.locator("img").count() == 0
    assert page.locator("table.counts tbody tr").count() == 4
    assert page.inner_text("#legend") == "done 5\nabsent 1"


def test_a_click_on_a_region_tells_of_it(cube: ci.Cube, report: Path, look: Opener) -> None:
    page = look(report)
    page.mouse.click(*place_of(page, 15, 15))
    record = read_records(cube.store.readonly(), [slot_at(cube, "cover", 1)]).popitem()[1]
    panel = page.inner_text("#panel")
    for text in (
        "20N_010E",
        "10° … 20°",
        record.sources[0].href,
        record.checksum,
        record.run,
        cube.history()[1].snapshot,
    ):
        assert text in panel
    assert page.locator("#panel canvas.thumbnail").count() == 2  # the region and its row of 2000; 2005 is empty
    page.mouse.click(*place_of(page, 22, 15))
    assert "absent" in page.inner_text("#panel")
    page.click("#panel button[aria-label=close]")
    assert page.inner_text("#panel h2") == HOSTILE


def test_every_slot_is_read_as_the_ledger_has_it(cube: ci.Cube, report: Path, look: Opener) -> None:
    slots = [slot_at(cube, "cover", n) for n in range(12)]
    records = read_records(cube.store.readonly(), slots)
    page = look(report)
    for slot in slots:
        region, year = cube.grid.region_id(slot.iy, slot.ix), slot_labels(cube.spec, slot)["year"]
        page.evaluate("hash => { location.hash = hash }", f"year={year}&region={region}")
        page.wait_for_function("text => document.querySelector('#panel .state')?.innerText.startsWith(text)", arg=year)
        page.wait_for_function("text => document.querySelector('#panel h2').innerText === text", arg=region)
        panel = page.inner_text("#panel")
        assert (slot in records) == ("checksum" in panel)
        if slot in records:
            assert records[slot].checksum in panel
            assert records[slot].sources[0].href in panel


SOUTH = """\
name: south
crs: EPSG:4326
grid: {origin: {x: 0, y: 0}, resolution: {x: 1/10, y: 1/10}, shape: {y: 70, x: 80}, region: {y: 40, x: 40}}
variables:
  cover:
    dtype: uint8
    fill_value: 255
    chunks: {y: 20, x: 20}
    attrs: {flag_values: [1, 2], flag_meanings: south north, flag_colors: "#ff0000 #0000ff"}
store: ./cube
"""
"""Rows from south to north; the last row of regions is lower, and the picture is thinned."""

PIXEL = """([id, x, y]) => {
  const canvas = document.querySelector(id);
  const k = canvas.width / canvas.clientWidth;
  const pen = document.createElement("canvas").getContext("2d");
  pen.drawImage(canvas, -Math.round(x * k), -Math.round(y * k));
  return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""


def wait_for_pixel(page: Page, where: str, x: float, y: float, colour: list[int]) -> None:
    """Pictures are drawn when they have been decoded, which is after the elements for them are there."""
    page.wait_for_function(
        f"([colour, ...at]) => String(({PIXEL})(at)) === String(colour)", arg=[colour, where, x, y], timeout=30_000
    )


def northern_half(geobox: Any) -> np.ndarray:
    """2 in the northern half of a region, 1 in the southern."""
    height, width = geobox.shape
    north = (geobox.affine @ (0.5, 0.5))[1] > (geobox.affine @ (0.5, height - 0.5))[1]
    rows = np.arange(height) < height / 2
    return np.where(rows == north, 2, 1).astype(np.uint8)[:, np.newaxis].repeat(width, 1)


def test_pixels_are_the_right_way_up_where_rows_go_north(
    tmp_path: Path, look: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cubeingest.page.pictures.LONGEST_SIDE", 27)
    (tmp_path / "south.yaml").write_text(SOUTH)
    south = ci.init(tmp_path / "south.yaml")
    south.ingest(source=northern_half, workers=1)
    page = look(south.report(tmp_path / "page.html"), "kind=pixels&region=y1_x0")
    page.wait_for_selector("#panel canvas.thumbnail")
    box = page.evaluate(
        "(() => { const c = document.getElementById('map'); return [c.clientWidth, c.clientHeight]; })()"
    )
    scale = min((box[0] - 16) / 8, (box[1] - 16) / 7)
    red, blue = [255, 0, 0], [0, 0, 255]
    for y, colour in ((0.5, red), (3.5, blue), (4.4, red), (6.6, blue)):
        at = [box[0] / 2 - 2 * scale, box[1] / 2 - (y - 3.5) * scale]
        wait_for_pixel(page, "#map", *at, colour)
    for y, colour in ((3, blue), (0.9 * 192 * 3 / 4, red)):
        wait_for_pixel(page, "#panel canvas.thumbnail", 20, y, colour)


def test_missing_pixels_have_their_colour_and_pixels_of_one_value_of_several_say_so(world: World, look: Opener) -> None:
    pixels = np.full((100, 100), 255, np.uint8)
    pixels[:, 50:] = 1
    for region in ("20N_000E", "10N_000E"):
        world.add_tile(2000, region, pixels)
    world.write_spec(
        ("    fill_value: 255\n", '    fill_value: 255\n    attrs: {flag_values: 1, flag_colors: "#ff0000"}\n'),
        ("chunks: {year: 1,", "chunks: {year: 2,"),
    )
    cube = ci.init(world.spec_file)
    cube.ingest(region="20N_000E", workers=1)
    page = look(cube.report(world.folder / "page.html"), "kind=pixels&region=20N_000E")
    page.wait_for_selector("#panel canvas.thumbnail")
    box = page.locator("#map").bounding_box()
    assert box is not None
    missing, red = [0xDF, 0xE7, 0xEC], [255, 0, 0]
    for x, colour in ((1.5, missing), (8.5, red)):
        px, py = place_of(page, x, 15)
        wait_for_pixel(page, "#map", px - box["x"], py - box["y"], colour)
    wait_for_pixel(page, "#panel canvas.thumbnail", 20, 20, missing)
    assert "no data" in page.inner_text("#colours")
    for place in ("#colours", "#panel"):
        assert "of 2000 only" in page.inner_text(place)


def test_a_source_is_named_whatever_its_characters(world: World, look: Opener) -> None:
    (world.folder / "tiles").rename(world.folder / "t😀é")
    world.write_spec(
        ('tiles: {list: "tiles/{year}.txt"}', 'tiles: {glob: "t😀é/{year}/*.tif"}'),
        ("      href: tiles/{year}/{id}.tif\n", ""),
    )
    for year, name in itertools.product((2000, 2005), ("20N_000E", "10N_020E")):
        file = world.folder / "t😀é" / str(year) / f"{name}.tif"
        file.rename(file.with_name(f"{year % 7}_{name}.tif"))
    made = ci.init(world.spec_file)
    made.ingest(workers=1)
    path = made.report(world.folder / "page.html")
    slots = [slot_at(made, "cover", n) for n in range(12)]
    for slot, record in read_records(made.store.readonly(), slots).items():
        region, year = made.grid.region_id(slot.iy, slot.ix), slot_labels(made.spec, slot)["year"]
        page = look(path, f"year={year}&region={region}")
        assert page.inner_text("#panel .sources .href >> nth=0") == record.sources[0].href


def test_another_year_is_chosen_by_its_small_map_or_in_the_table(report: Path, look: Opener) -> None:
    page = look(report)
    page.click(".miniature >> nth=1")
    assert page.inner_text("#legend") == "done 1\nempty 1\npending 1\nabsent 3"
    assert wait_for_fragment(page, "year=2005")["year"] == "2005"
    page.click("table.counts button >> text=2000")
    assert page.inner_text("#legend") == "done 5\nabsent 1"


def test_the_map_is_zoomed_and_moved(report: Path, look: Opener) -> None:
    page = look(report)
    page.mouse.move(*place_of(page, 5, 15))
    page.mouse.wheel(0, -500)
    x, y, zoom = map(float, wait_for_fragment(page, "at=")["at"].split(","))
    assert zoom > 1.5
    assert x < 12.5
    assert y > 10
    page.mouse.down()
    page.mouse.move(*place_of(page, 10, 15), steps=4)
    page.mouse.up()
    page.wait_for_function("at => !location.hash.includes(encodeURIComponent(at))", arg=f"{x},{y}")
    assert float(fragment(page)["at"].split(",")[0]) < x
    assert "region" not in fragment(page)
    page.click("#zoom-all")
    page.wait_for_function("() => !location.hash.includes('at=')")
    page.click("#zoom-in")
    wait_for_fragment(page, "at=12.5")


def test_the_keyboard_goes_from_region_to_region(report: Path, look: Opener) -> None:
    page = look(report, "region=20N_000E")
    page.focus("#map")
    for key, region in (
        ("ArrowRight", "20N_010E"),
        ("ArrowDown", "10N_010E"),
        ("ArrowLeft", "10N_000E"),
        ("ArrowLeft", "10N_000E"),
    ):
        page.keyboard.press(key)
        assert page.inner_text("#panel h2") == region
    assert "10N_000E selected" in (page.get_attribute("#map", "aria-label") or "")
    page.keyboard.press("+")
    wait_for_fragment(page, "at=")
    page.keyboard.press("0")
    page.keyboard.press("Escape")
    assert page.inner_text("#panel h2") == HOSTILE


def test_a_region_is_found_by_its_id(report: Path, look: Opener) -> None:
    page = look(report)
    page.fill("#search input", "10n_02")
    page.keyboard.press("Enter")
    assert page.inner_text("#panel h2") == "10N_020E"
    page.fill("#search input", "nowhere")
    page.keyboard.press("Enter")
    assert page.inner_text("#found") == "no region nowhere"


def test_a_link_and_a_reload_show_the_same(report: Path, look: Opener) -> None:
    wanted = {"year": "2005", "region": "20N_000E", "kind": "pixels", "at": "5,15,2"}
    page = look(report, "&".join(f"{k}={v}" for k, v in wanted.items()))
    for _ in range(2):
        assert page.inner_text("#panel h2") == "20N_000E"
        assert page.locator(".miniature >> nth=1").locator("input").is_checked()
        assert wait_for_fragment(page, "at=") == wanted
        page.reload()


@pytest.mark.parametrize(
    "wrong", ["region=none&year=1&at=a,b,c&snapshot=x&variable=y", "at=1e999,0,1&region=%00", "<script>"]
)
def test_a_link_to_what_there_is_not_shows_all(report: Path, look: Opener, wrong: str) -> None:
    page = look(report, wrong)
    assert page.inner_text("#panel h2") == HOSTILE
    assert page.inner_text("#legend") == "done 5\nabsent 1"


def test_a_commit_shows_what_came_with_it(cube: ci.Cube, report: Path, look: Opener) -> None:
    page = look(report)
    bars = page.locator(".commit-bar")
    assert bars.count() == 3
    assert "v1" in bars.nth(2).inner_text()
    bars.nth(1).click()
    text = page.inner_text("#commit")
    assert "5 slots of cover" in text
    assert cube.history()[1].snapshot in text
    assert bars.nth(1).get_attribute("aria-pressed") == "true"
    page.click("#commit >> text=show all again")
    assert "Choose a commit" in page.inner_text("#commit")


def test_pixels_are_painted_with_a_legend(report: Path, look: Opener) -> None:
    page = look(report)
    picture = "document.getElementById('map').toDataURL()"
    before = page.evaluate(picture)
    page.click("#paint >> text=pixels")
    page.wait_for_selector("#colours .hint, #colours .classes")
    page.wait_for_function(f"before => {picture} !== before", arg=before)


def test_it_is_dark_where_that_is_preferred(report: Path, look: Opener) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    light, dark = (look(report, color_scheme=scheme).evaluate(colour) for scheme in ("light", "dark"))
    levels = [sum(map(int, re.findall(r"\d+", c)[:3])) for c in (light, dark)]
    assert levels[0] > 600
    assert levels[1] < 100


def test_nothing_reaches_over_the_edge_of_a_phone(report: Path, look: Opener) -> None:
    page = look(report, "region=20N_000E", viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def running(cube: ci.Cube, path: Path, age: float) -> Path:
    """The page of a run that was last written so many seconds ago."""
    data = gather(cube.store, Selection(), records=False)
    codes = data.variables[0].codes
    codes[codes == CODES.index("pending")] = CODES.index(FRESH)
    data.run = Run(
        time.time() - age - 60, "cooperative", planned=10, finished=3, failed=1, rate=1e6, left=9.0, refresh=1.0
    )
    path.write_text(re.sub(r'"at":\d+', f'"at":{int(time.time() - age)}', render(data), count=1))
    return path


def test_the_page_of_a_run_reads_itself_again_and_keeps_the_view(cube: ci.Cube, world: World, look: Opener) -> None:
    path = running(cube, world.folder / "run.html", 1)
    page = look(path, "year=2005&region=20N_000E&at=5,15,2")
    assert "3 of 10 slots tried, 1 failed; 1.0 million pixels a second, about 9 s left" in page.inner_text("#run")
    page.focus("#map")
    path.write_text(path.read_text().replace("3 of 10 slots tried", "4 of 10 slots tried"))
    page.wait_for_selector("text=4 of 10 slots tried")
    assert page.inner_text("#panel h2") == "20N_000E"
    assert fragment(page) == {"year": "2005", "region": "20N_000E", "at": "5,15,2"}
    assert page.evaluate("document.activeElement.id") == "map"


def test_the_page_of_a_killed_run_does_not_look_alive(cube: ci.Cube, world: World, look: Opener) -> None:
    page = look(running(cube, world.folder / "run.html", 600))
    text = page.inner_text("#run")
    assert "No sign of life" in text
    assert "left" not in text
    assert "10 minutes ago: the run may have been killed" in text
    assert page.inner_text(".lead") == "87.5 % of 8 slots filled, and 1 probably lost"
    assert "probably lost" in page.inner_text("table.counts thead")
    page.click(".miniature >> nth=1")
    assert page.inner_text("#legend") == "done 1\nempty 1\nprobably lost 1\nabsent 3"
    assert page.inner_text(".miniature:has(:checked) small") == "66.7 %"


def test_a_page_without_scripts_has_the_counts(report: Path, look: Opener) -> None:
    page = look(report, java_script_enabled=False)
    assert "need JavaScript" in page.inner_text("main")
    assert page.locator("#explore").is_hidden()
    assert page.inner_text("table.counts tbody tr >> nth=0").split() == ["all", "6", "1", "1", "4", "12"]
