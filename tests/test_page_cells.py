"""The page of a cube of HEALPix cells in a browser: a click finds the region that Python finds there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cubeingest.grid import HealpixGrid
from cubeingest.healpix import all_bounds, centres
from tests.test_look_globe import fill, make

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(offline=True, viewport={"width": 1300, "height": 1000})
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert wrong == []


def click(page: Page, lon: float, lat: float) -> str:
    """Click on a place, while all of the map is shown; the region that the page then tells of."""
    west, south, east, north = page.evaluate("JSON.parse(document.getElementById('data').textContent).grid.box")
    box = page.locator("#map").bounding_box()
    assert box is not None
    inner = {k: page.evaluate(f"document.getElementById('map').client{k}") for k in ("Width", "Height")}
    scale = min((inner["Width"] - 16) / (east - west), (inner["Height"] - 16) / (north - south))
    x, y = (lon - west) % 360 - (east - west) / 2, lat - (south + north) / 2
    page.mouse.click(box["x"] + box["width"] / 2 + x * scale, box["y"] + box["height"] / 2 - y * scale)
    return page.inner_text("#panel h2")


@pytest.mark.parametrize("order", [0, 2, 4])
def test_a_click_finds_the_region_that_lies_there(tmp_path: Path, open_page: Page, order: int) -> None:
    cube = make(tmp_path, order + 1, order)
    grid = cube.grid
    assert isinstance(grid, HealpixGrid)
    fill(cube, list(range(0, grid.n_regions, 2)))
    open_page.goto(cube.report(tmp_path / "page.html").as_uri())
    cells = np.unique(np.random.default_rng(order).integers(0, grid.n_regions, 25))
    lon, lat = centres(cells, order, "WGS84")
    bounds = all_bounds(cells, order, "WGS84")
    for region, x, y, box in zip(cells.tolist(), lon.tolist(), lat.tolist(), bounds.tolist(), strict=True):
        assert click(open_page, x, y) == str(region)
        text = open_page.inner_text("#panel dl")
        assert f"{box[1]:.4f}"[:-2] in text or f"{box[1]:.0f}°" in text
        assert ("done" if region % 2 == 0 else "pending") in open_page.inner_text("#panel .state")


def test_compact_cube_across_the_antimeridian_shows_its_regions_and_a_search_finds_them(
    tmp_path: Path, open_page: Page
) -> None:
    regions = [100, 103, 105]
    cube = make(tmp_path, 4, 2, regions)
    fill(cube, [103])
    open_page.goto(cube.report(tmp_path / "page.html").as_uri())
    for region, x, y in zip(regions, *(v.tolist() for v in centres(regions, 2, "WGS84")), strict=True):
        assert click(open_page, x, y) == str(region)
    assert "done 1" in open_page.inner_text("#legend")
    open_page.fill("#search input", "105")
    open_page.press("#search input", "Enter")
    assert open_page.inner_text("#panel h2") == "105"
    open_page.focus("#map")
    open_page.keyboard.press("ArrowRight")
    assert open_page.inner_text("#panel h2") in {"100", "103"}


def test_many_regions_are_drawn_at_once(tmp_path: Path, open_page: Page) -> None:
    """As outlines they took a minute."""
    cube = make(tmp_path, 6, 6)
    open_page.set_default_timeout(10_000)
    open_page.goto(cube.report(tmp_path / "page.html").as_uri())
    lon, lat = centres([20_000], 6, "WGS84")
    click(open_page, lon.item(), lat.item())
    assert abs(int(open_page.inner_text("#panel h2")) - 20_000) < 64
    for _ in range(3):
        open_page.click("#zoom-in")
    assert open_page.inner_text("#legend") == "pending 49,152"
