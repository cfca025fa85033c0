"""The viewer in a real browser: what a person sees and does."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import numpy as np
import pytest

import cubeingest as ci
from cubeingest.view import Viewer
from tests import test_view_composite as composite
from tests.conftest import World
from tests.test_page_browser import northern_half
from tests.test_view import SPEC, brightness, classes

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

Opener = Callable[..., "Page"]


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> ci.Cube:
    folder = tmp_path_factory.mktemp("seen")
    (folder / "grid.yaml").write_text(SPEC)
    made = ci.init(folder / "grid.yaml")
    made.ingest(source=classes, variable="cover", year=[2000, 2005], workers=1)
    made.ingest(source=brightness, variable="light", workers=1)
    made.overviews(levels=2, workers=1)
    made.tag("v1")
    return made


@pytest.fixture
def look(browser: Browser) -> Iterator[Opener]:
    """Open a viewer's page; in the end nothing was asked of anyone else, and nothing went wrong but what a test expects."""
    wrong: list[str] = []
    contexts = []

    def open_page(viewer: Viewer, fragment: str = "", expect: str = "^$", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 900, "height": 700}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)

        def note(text: str) -> None:
            if not re.search(expect, text):
                wrong.append(text)

        page.on("console", lambda message: note(f"console: {message.text}"))
        page.on("pageerror", lambda error: note(f"error: {error}"))
        page.on(
            "request",
            lambda r: (
                None if r.url.startswith((viewer.url, "data:", f"blob:{viewer.url}")) else note(f"request: {r.url}")
            ),
        )
        page.goto(f"{viewer.url}#{fragment}")
        page.wait_for_selector("body[data-shown]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def viewer(cube: ci.Cube) -> Iterator[Viewer]:
    with cube.view() as opened:
        yield opened


def fragment(page: Page) -> dict[str, str]:
    return {k: v[0] for k, v in parse_qs(page.evaluate("() => location.hash.slice(1)")).items()}


def wait_for_fragment(page: Page, pattern: str) -> dict[str, str]:
    page.wait_for_url(re.compile(f"#.*{pattern}"))
    return fragment(page)


def wait_for_tiles(page: Page, path: str) -> None:
    page.wait_for_selector(f"body[data-shown*='{path}']:not(.busy)")


def screen_of(page: Page, row: float, column: float) -> tuple[float, float]:
    """Where on the screen a pixel of the grid is."""
    x, y = page.evaluate(f"() => {{ const p = map.latLngToContainerPoint([{row}, {column}]); return [p.x, p.y]; }}")
    return x, y


def colour_at(page: Page, row: float, column: float) -> tuple[int, int, int]:
    import io

    from PIL import Image

    x, y = screen_of(page, row, column)
    picture = Image.open(io.BytesIO(page.screenshot(clip={"x": x - 1, "y": y - 1, "width": 3, "height": 3})))
    r, g, b = picture.convert("RGB").getpixel((1, 1))  # type: ignore[misc]
    return r, g, b


PAINT = [(0x46, 0x82, 0xB4), (0x22, 0x8B, 0x22), (0xDA, 0xA5, 0x20), (0xB2, 0x22, 0x22)]


def test_pixels_are_where_they_belong_whatever_the_zoom(cube: ci.Cube, viewer: Viewer, look: Opener) -> None:
    page = look(viewer, "coast=no")
    pixels = cube.dataset()["cover"].sel(year=2000).values
    for at in ("300000", "310005,5589995,0", "310005,5589995,2", "310005,5589995,-2"):
        page.evaluate("at => { location.hash = at }", f"at={at}&coast=no")
        page.wait_for_function(
            "() => !document.body.classList.contains('busy') && !document.querySelector('.leaflet-tile:not(.leaflet-tile-loaded)')"
        )
        for row, column in ((300, 370), (340, 340), (380, 390)):
            block = pixels[row - 8 : row + 9, column - 8 : column + 9]
            if not (block == block[0, 0]).all() or block[0, 0] == 255:
                continue
            assert np.abs(np.subtract(colour_at(page, row + 0.5, column + 0.5), PAINT[block[0, 0]])).max() <= 3, (
                at,
                row,
                column,
            )


NORTHERN = """\
name: northern
crs: EPSG:4326
grid: {origin: {x: 10, y: 58}, resolution: {x: 1/40, y: 1/40}, shape: {y: 300, x: 400}, region: {y: 150, x: 100}}
variables:
  cover: {dtype: uint8, fill_value: 255, chunks: {y: 50, x: 50}, attrs: {flag_values: [1, 2], flag_meanings: south north, flag_colors: "#ff0000 #0000ff"}}
store: ./northern.icechunk
"""
"""Rows from south to north, drawn twice as high as wide; more than one tile along each side."""


def test_pixels_are_the_right_way_up_and_as_high_as_they_should_be(tmp_path: Path, look: Opener) -> None:
    (tmp_path / "grid.yaml").write_text(NORTHERN)
    cube = ci.init(tmp_path / "grid.yaml")
    cube.ingest(source=northern_half, workers=1)
    with cube.view() as viewer:
        page = look(viewer, "coast=no")
        page.click("#fold")
        (x0, y0), (x1, y1) = screen_of(page, 0, 0), screen_of(page, 300, 400)
        assert y1 < y0
        assert (y0 - y1) / (x1 - x0) == pytest.approx(300 / 400 / np.cos(np.radians(61.75)), rel=0.01)
        red, blue = (255, 0, 0), (0, 0, 255)
        for row, colour in ((20, red), (100, blue), (170, red), (262, blue), (290, blue)):
            for column in (200, 262, 350):
                assert colour_at(page, row, column) == colour, (row, column)
        page.mouse.click(*screen_of(page, 262.5, 262.5))
        page.wait_for_selector("#panel .value")
        assert page.inner_text("#panel .value") == "north"
        assert re.match(r"64\.5[67]\d°N 16\.5[67]\d°E · region y1_x2", page.inner_text("#panel small"))


def test_the_map_is_moved_and_zoomed_and_the_address_keeps_it(viewer: Viewer, look: Opener) -> None:
    page = look(viewer)
    x, y, zoom = map(float, wait_for_fragment(page, "at=")["at"].split(","))
    page.mouse.move(600, 400)
    page.mouse.wheel(0, -400)
    page.wait_for_function(
        "zoom => Number(new URLSearchParams(location.hash.slice(1)).get('at').split(',')[2]) > zoom", arg=zoom
    )
    before = fragment(page)["at"]
    page.mouse.down()
    page.mouse.move(500, 350, steps=5)
    page.mouse.up()
    page.wait_for_function("at => new URLSearchParams(location.hash.slice(1)).get('at') !== at", arg=before)
    here = fragment(page)["at"]
    assert float(here.split(",")[0]) > float(before.split(",")[0])
    page.reload()
    page.wait_for_selector("body[data-shown]")
    assert wait_for_fragment(page, "at=")["at"] == here
    page.click("#all")
    page.wait_for_function("at => new URLSearchParams(location.hash.slice(1)).get('at') !== at", arg=here)
    assert [float(v) for v in fragment(page)["at"].split(",")] == [x, y, zoom]


def test_lines_are_drawn_again_at_zooms_between_levels(viewer: Viewer, look: Opener) -> None:
    page = look(viewer, "regions=yes&at=310005,5589995,-0.5")
    for zoom in (0.25, 1.75, 4.5, 0.75, -0.25, -1.75):
        with page.expect_event("response", lambda r: "/regions/" in r.url or "/tiles/" in r.url):
            page.evaluate(
                f"() => {{ map.setZoom({zoom}, {{ animate: false }}); Object.values(lines)[0].redraw(); pixels.redraw(); }}"
            )
        page.wait_for_function("() => !document.querySelector('.leaflet-tile:not(.leaflet-tile-loaded)')")
    assert page.is_hidden("#alert")


def test_another_variable_and_other_axis_values_are_chosen(cube: ci.Cube, viewer: Viewer, look: Opener) -> None:
    page = look(viewer)
    page.click(".axis[data-axis=year] label >> text=2005")
    wait_for_tiles(page, "/cover/1")
    assert page.inner_text("#legend li >> nth=0") == "water"
    page.select_option("#variable", "light")
    wait_for_tiles(page, "/light/1.0")
    page.click(".axis[data-axis=band] label >> text=nir")
    wait_for_tiles(page, "/light/1.1")
    page.wait_for_selector("#legend .ramp")
    page.locator("#legend").filter(has_text="reflectance").wait_for()
    words = wait_for_fragment(page, "band=nir")
    assert (words["variable"], words["year"]) == ("light", "2005")


def test_red_green_and_blue_are_seen_together(tmp_path: Path, look: Opener) -> None:
    """At first; apart, and again together; kept by the address; not of a variable that has no bands."""
    (tmp_path / "grid.yaml").write_text(composite.SPEC.replace("./", f"{tmp_path}/"))
    made = ci.init(tmp_path / "grid.yaml")
    made.ingest(source=composite.light, variable="light", year=2000, workers=1)
    with made.view() as opened:
        page = look(opened)
        wait_for_tiles(page, "/light/0.rgb")
        page.locator("#legend").filter(has_text="Red").wait_for()
        assert page.inner_text(".axis[data-axis=band] label:has(:checked)") == "colour"
        told = page.evaluate("() => fetch(`api/legend/${cube.snapshot}/light/0.rgb`).then((r) => r.json())")
        values = [300 - 120 + 100, 200 + 100, 120 + 100]
        wanted = [round(255 * min(1, max(0, (v - told["low"]) / (told["high"] - told["low"])))) for v in values]
        assert np.abs(np.subtract(colour_at(page, 120.5, 200.5), wanted)).max() <= 2
        page.click(".axis[data-axis=band] label >> text=nir")
        wait_for_tiles(page, "/light/0.2")
        page.click(".axis[data-axis=band] label >> text=colour")
        wait_for_tiles(page, "/light/0.rgb")
        wait_for_fragment(page, "band=rgb")
        page.mouse.click(450, 350)
        page.wait_for_selector("#panel .value")
        assert "Red" in page.inner_text("#panel .value")
        page.select_option("#variable", "height")
        wait_for_tiles(page, "/height/-")
        page.select_option("#variable", "valid")
        wait_for_tiles(page, "/valid/0.3")
        page = look(opened, "variable=light&year=2000&band=Green")
        wait_for_tiles(page, "/light/0.1")
        page.click("button[aria-label='play band']")
        for at in (2, 3, 0):
            wait_for_tiles(page, f"/light/0.{at}")


def test_an_axis_is_gone_along(viewer: Viewer, look: Opener) -> None:
    page = look(viewer, "variable=light")
    page.click("button[aria-label='play year']")
    for at in (1, 2, 0):
        wait_for_tiles(page, f"/light/{at}.0")
    page.click("button[aria-label='play year']")
    assert page.get_attribute("button[aria-label='play year']", "aria-pressed") == "false"


def test_a_click_shows_the_values_over_the_axes(cube: ci.Cube, viewer: Viewer, look: Opener) -> None:
    page = look(viewer, "variable=light&band=red&year=2000&at=310005,5589995,1")
    page.mouse.click(*screen_of(page, 340.5, 360.5))
    page.wait_for_selector("#panel .value")
    values = cube.dataset()["light"].isel(y=340, x=360).values
    assert page.inner_text("#panel .value").startswith(str(values[0, 0]))
    assert page.locator("#panel svg path.line").count() == 2
    page.click("#panel details summary")
    shown = [int(t) for t in page.locator("#panel .values td").all_inner_texts()]
    assert shown == values.ravel().tolist()
    page.click("#panel .values button >> text=2010 >> nth=1")
    wait_for_tiles(page, "/light/2.1")
    assert page.inner_text("#panel .value").startswith(str(values[2, 1]))
    link = wait_for_fragment(page, "year=2010.*band=nir")
    again = look(viewer, "&".join(f"{k}={v}" for k, v in link.items()))
    again.wait_for_selector("#panel .value")
    assert again.inner_text("#panel .value").startswith(str(values[2, 1]))
    page.click("#panel [aria-label=close]")
    assert page.is_hidden("#panel")


def test_classes_at_a_point_have_their_names(cube: ci.Cube, viewer: Viewer, look: Opener) -> None:
    page = look(viewer, "year=2000&at=310005,5589995,1")
    page.mouse.click(*screen_of(page, 340.5, 360.5))
    page.wait_for_selector("#panel .value")
    names = ["water", "forest", "crops", "built up"]
    pixels = cube.dataset()["cover"].isel(y=340, x=360).values.tolist()
    wanted = [names[v] if v < 4 else "no data" for v in pixels[:2]] + ["not ingested"]
    assert page.locator("#panel .values td").all_inner_texts() == wanted


def test_the_keyboard_chooses_a_point_too(viewer: Viewer, look: Opener) -> None:
    page = look(viewer)
    page.focus("#map")
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel .value")
    page.keyboard.press("Escape")
    assert page.is_hidden("#panel")


def test_the_pointers_place_is_told(viewer: Viewer, look: Opener) -> None:
    page = look(viewer)
    page.mouse.move(600, 400)
    page.wait_for_function("() => document.getElementById('where').textContent.includes('EPSG:32633')")
    assert re.search(r"50\.\d+°N 12\.\d+°E", page.inner_text("#where"))


def test_regions_have_their_ids(viewer: Viewer, look: Opener) -> None:
    page = look(viewer)
    with page.expect_response(lambda r: "/regions/" in r.url) as answer:
        page.check("#regions")
    assert answer.value.json()["lines"]
    assert wait_for_fragment(page, "regions=yes")
    page.wait_for_selector(".lines.regions canvas")


def test_a_new_commit_is_shown_and_a_tag_stays_what_it_was(world: World, look: Opener) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(year=2000, region="20N_000E", workers=1)
    cube.tag("v1")
    first = cube.store.tip
    with cube.view() as viewer:
        page = look(viewer, "coast=no")
        wait_for_tiles(page, first)
        cube.ingest(year=2000, workers=1)
        page.wait_for_selector(f"body[data-shown*='{cube.store.tip}']")
        page.select_option("#ref", "v1")
        wait_for_tiles(page, first)
        assert wait_for_fragment(page, "ref=v1")["ref"] == "v1"
        page.select_option("#ref", cube.history()[-1].snapshot)
        wait_for_tiles(page, cube.history()[-1].snapshot)
        page.locator("#legend").filter(has_text="no data here yet").wait_for()


def test_a_store_that_disappears_is_said_and_the_map_is_drawn_when_it_is_back(world: World, look: Opener) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(workers=1)
    with cube.view() as viewer:
        page = look(viewer, expect="Failed to load resource")
        away = shutil.move(cube.store.uri, world.folder / "away")
        page.click(".axis label >> text=2005")
        page.wait_for_selector("#alert.failed")
        assert "store" in page.inner_text("#alert")
        assert "\n" not in page.inner_text("#alert")
        shutil.move(away, cube.store.uri)
        page.wait_for_selector("#alert", state="hidden")
        wait_for_tiles(page, "/cover/1")
        page.wait_for_function(
            "() => [...document.querySelectorAll('img.leaflet-tile-loaded')].some(i => i.naturalWidth === 256)"
        )


def test_a_viewer_that_ended_is_said(world: World, look: Opener) -> None:
    cube = ci.init(world.spec_file)
    with cube.view() as viewer:
        page = look(viewer, expect="Failed to load resource")
    page.select_option("#ref", cube.history()[0].snapshot)
    page.wait_for_selector("#alert.failed")
    assert "cubeingest view" in page.inner_text("#alert")


def test_a_narrow_screen_has_room_for_all(viewer: Viewer, look: Opener) -> None:
    page = look(viewer, "variable=light", viewport={"width": 320, "height": 560}, has_touch=True)
    assert page.is_hidden("#controls")
    assert page.evaluate("() => document.documentElement.scrollWidth") == 320
    page.click("#fold")
    page.click(".axis[data-axis=band] label >> text=nir")
    wait_for_tiles(page, "/light/0.1")
    page.click("#fold")
    page.touchscreen.tap(160, 230)
    page.wait_for_selector("#panel .value")
    box = page.locator("#panel").bounding_box()
    assert box is not None
    assert box["width"] <= 320
    assert box["y"] > 250


def test_a_link_to_what_there_is_not_shows_all(viewer: Viewer, look: Opener) -> None:
    page = look(viewer, "variable=x&year=1&at=a,b&point=1&seen=moon&<script>")
    assert wait_for_fragment(page, "variable=cover")["year"] == "2000"
    assert page.is_hidden("#alert")


def test_a_link_to_a_version_that_there_is_not_shows_the_first_branch_and_says_so(
    cube: ci.Cube, viewer: Viewer, look: Opener
) -> None:
    page = look(viewer, "ref=nope&variable=light", expect="Failed to load resource.*404")
    wait_for_tiles(page, f"{cube.store.tip}/grid/light")
    assert page.inner_text("#alert") == 'There is no version "nope": this is main.'
    assert page.title().startswith("seen")
    assert page.input_value("#ref") == "main"
    assert "ref" not in wait_for_fragment(page, "at=")
    page.locator("#legend").filter(has_text="nothing there: clear").wait_for()
    page.select_option("#ref", "v1")
    page.wait_for_selector("#alert", state="hidden")


def test_all_is_still_shown_in_a_narrower_window_unless_the_map_was_moved(viewer: Viewer, look: Opener) -> None:
    page = look(viewer)
    page.set_viewport_size({"width": 320, "height": 560})
    fits = "() => { const [y0, x0, y1, x1] = lattice().view; return map.getSize().x === 320 && map.getBounds().contains([[y0, x0], [y1, x1]]); }"
    page.wait_for_function(fits)
    page.click("[aria-label='Zoom in']")
    page.wait_for_function("() => !map._animatingZoom && !map.whole")
    zoom = page.evaluate("() => map.getZoom()")
    page.set_viewport_size({"width": 900, "height": 700})
    page.wait_for_function("() => map.getSize().x === 900")
    assert page.evaluate("() => map.getZoom()") == zoom


def test_what_the_cube_holds_is_shown_as_text(world: World, look: Opener) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    world.write_spec(
        (
            "    fill_value: 255\n",
            f"    fill_value: 255\n    attrs: {{long_name: '{hostile}', flag_values: [1], flag_meanings: ['{hostile}']}}\n",
        ),
    )
    world.add_tile(2000, "20N_000E", np.ones((100, 100), np.uint8))
    cube = ci.init(world.spec_file)
    cube.ingest(region="20N_000E", year=2000, workers=1)
    with cube.view() as viewer:
        page = look(viewer)
        page.wait_for_selector("#legend li")
        page.locator("#legend").filter(has_text=hostile).wait_for()
        page.mouse.click(*screen_of(page, 50, 50))
        page.wait_for_selector("#panel .value")
        page.locator("#panel").filter(has_text=hostile).wait_for()
        assert page.locator("img[src=x]").count() == 0
