"""Pictures of cubes of HEALPix cells: each pixel against the cell at its longitude and latitude, and the view that is chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import healpix_geo.nested
import numpy as np
import pytest
import shapely
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj import Transformer

import cubeingest as ci
from cubeingest import Cube
from cubeingest.errors import GridError, StoreError
from cubeingest.grid import HealpixGrid
from cubeingest.healpix import all_bounds, cells_at, centres, count_cells, cover_box, latitudes, outlines
from cubeingest.ledger import Record, Slot, write_record
from cubeingest.look import MISSING_COLOUR, read_map, shrink_counts
from cubeingest.look.fields import GlobeField, field_of
from cubeingest.look.globe import choose_globe, enclosing_box
from cubeingest.look.globemaps import GlobeMap
from cubeingest.look.palette import parse_colour
from cubeingest.look.scattered import read_scattered, stored_chunks
from cubeingest.selection import Selection
from cubeingest.sketch import REGION_COLOUR, STATE_COLOURS
from tests.pages import read_page
from tests.test_look import colour_at

Fill = Callable[[np.ndarray], np.ndarray]
"""Which cells of the regions' order hold something."""


def make(folder: Path, order: int, region_order: int, regions: list[int] | None = None, more: str = "") -> Cube:
    """A cube without data, of years 2000 and 2001."""
    only = "" if regions is None else f", regions: {{ids: {regions}}}"
    (folder / "cells.yaml").write_text(
        f"name: cells\ngrid: {{type: healpix, order: {order}, region_order: {region_order}{only}}}\n"
        "axes: {year: {values: [2000, 2001]}}\n"
        f"variables:\n  h: {{dtype: float32, fill_value: .nan, attrs: {{units: m}}{more}}}\nstore: ./cells.icechunk\n",
        encoding="utf-8",
    )
    return ci.init(folder / "cells.yaml")


def fill(cube: Cube, regions: list[int], year: int = 0, states: tuple[str, ...] = ("done",)) -> np.ndarray:
    """Give regions (by id) random values, and the ledger records in these states by turns; returns all values of the year."""
    grid = cube.grid
    assert isinstance(grid, HealpixGrid)
    session = cube.store.writable()
    array = zarr.open_array(session.store, path="h", mode="r+")
    rng = np.random.default_rng(year)
    for n, region in enumerate(regions):
        (place,) = grid.places_of(np.array([region])).tolist()
        state = states[n % len(states)]
        if state == "done":
            array[(year, *grid.slices(0, place))] = rng.uniform(0, 100, grid.cells_in_region).astype(np.float32)
        record = Record(state, (), "0" * 16, "", "2020-01-01T00:00:00+00:00", "run")
        write_record(session, Slot("h", (year,), 0, place), record, True, cube.store.layout_key)
    session.commit("cells")
    return np.asarray(cube.dataset()["h"][year])


def places_of(view: GlobeMap) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of each of a map's pixels, worked out apart; NaN off the globe."""
    left, bottom, right, top = view.field.bounds
    rows, columns = view.pixels.shape
    x, y = np.meshgrid(
        left + (right - left) * (np.arange(columns) + 0.5) / columns,
        top - (top - bottom) * (np.arange(rows) + 0.5) / rows,
    )
    if view.field.globe.kind == "plain":
        return (x + 180) % 360 - 180, y
    lon, lat = Transformer.from_crs(view.field.crs, "EPSG:4326", always_xy=True).transform(x, y, errcheck=False)
    off = ~np.isfinite(lon)
    if view.field.globe.kind == "ellipse":
        a = 2 * np.sqrt(2) * 6378137.0
        off |= (x / a) ** 2 + (y / a * 2) ** 2 >= 1
    return np.where(off, np.nan, lon), np.where(off, np.nan, lat)


def check(cube: Cube, view: GlobeMap, values: np.ndarray, chosen: np.ndarray | None = None) -> None:
    """Every pixel on the globe is the value of the cell at its place; ``chosen`` are the regions that are selected."""
    grid = cube.grid
    assert isinstance(grid, HealpixGrid)
    lon, lat = places_of(view)
    there = np.isfinite(lon)
    cells = healpix_geo.nested.lonlat_to_healpix(lon[there], lat[there], grid.order, ellipsoid=grid.ellipsoid).astype(
        int
    )
    of_region = np.unique(np.arange(count_cells(grid.region_order)) if grid.parents is None else grid.parents)
    wanted = np.full(count_cells(grid.order), np.nan, np.float32)
    ids = (of_region[:, np.newaxis] * grid.cells_in_region + np.arange(grid.cells_in_region)).ravel()
    wanted[ids] = values
    picked = np.isin(cells // grid.cells_in_region, of_region if chosen is None else chosen)
    # PROJ's way back and ours are the same; a pixel all but on an edge may still go either way.
    same = view.there[there] == picked
    assert same.mean() > 0.9999
    both = view.there[there] & picked
    assert both.any()
    np.testing.assert_array_equal(view.pixels[there][both], wanted[cells[both]])
    assert not view.there[~there].any()
    assert not view.left_out[~there].any()


@pytest.fixture
def small(tmp_path: Path) -> Cube:
    return make(tmp_path, 5, 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cube, np.ndarray]:
    """A cube with values all over the globe, which tests only read."""
    cube = make(tmp_path_factory.mktemp("whole"), 5, 2)
    return cube, fill(cube, list(range(192)))


@pytest.mark.parametrize(
    ("bbox", "kind"),
    [
        (None, "ellipse"),
        ((-10, 35, 30, 60), "plain"),
        ((150, -40, -150, 20), "plain"),
        ((-100, -60, 150, 70), "ellipse"),
    ],
)
def test_value_of_each_pixel_is_that_of_the_cell_at_its_place(
    whole: tuple[Cube, np.ndarray], bbox: Any, kind: str
) -> None:
    cube, values = whole
    view = read_map(cube.store, Selection(bbox=bbox))
    assert isinstance(view, GlobeMap)
    assert view.field.globe.kind == kind
    if bbox is None or kind == "plain":
        check(cube, view, values)
        assert not view.left_out.any()
    else:
        lon, lat = places_of(view)
        inside = (lon >= bbox[0]) & (lon <= bbox[2]) & (lat >= bbox[1]) & (lat <= bbox[3])
        assert (view.there == inside).mean() > 0.9999
        assert view.notes[0] == "white: not selected"
    assert (
        np.unique(view.pixels[view.there]).size
        > 0.9 * np.unique(cells_at(*places_of(view), 5, "WGS84")[view.there]).size
    )


def test_what_lies_near_a_pole_is_seen_from_above_it(tmp_path: Path) -> None:
    cube = make(tmp_path, 6, 3)
    south = [r for r, top in enumerate(all_bounds(np.arange(768), 3, "WGS84")[:, 3]) if top < -60]
    values = fill(cube, south)
    view = read_map(cube.store, Selection())
    assert isinstance(view, GlobeMap)
    assert (view.field.globe.kind, "lat_0=-90" in view.field.crs) == ("polar", True)
    left, bottom, right, top = view.field.bounds
    assert left < 0 < right
    assert bottom < 0 < top
    check(cube, view, values)
    assert (view.field.bounds == read_map(cube.store, Selection()).field.bounds) is True
    part = read_map(cube.store, Selection(bbox=(100, -80, 150, -65)))
    assert isinstance(part, GlobeMap)
    lon, lat = places_of(part)
    assert part.there[(lon > 100) & (lon < 150) & (lat > -80) & (lat < -65)].mean() > 0.9999
    assert not part.there[(lon < 99.9) | (lon > 150.1)].any()


@pytest.mark.parametrize(
    ("box", "kind", "middle"),
    [
        ((-180, -90, 180, 90), "ellipse", 0),
        ((-180, -90, 180, -60), "polar", 0),
        ((-180, 55, 180, 90), "polar", 0),
        ((-60, 60, -20, 84), "polar", -40),
        ((170, 60, 190, 84), "polar", -180),
        ((-10, 30, 40, 70), "plain", 15),
        ((170, -10, 190, 10), "plain", 180),
        ((-80, -60, 80, 60), "ellipse", 0),
        ((100, -60, 290, 60), "ellipse", -160),
    ],
)
def test_view_is_chosen_by_what_is_to_be_seen(box: Any, kind: str, middle: float) -> None:
    globe = choose_globe(box)
    assert (globe.kind, globe.middle) == (kind, middle)
    # A point in each corner and in the middle of the box has a pixel.
    lon, lat = globe.places(300, 300)
    west, south, east, north = box
    for x, end in [(west + 1e-6, south), (east - 1e-6, north), ((west + east) / 2, (south + north) / 2)]:
        y = min(89.5, max(-89.5, end))
        away = np.hypot(((lon - x + 180) % 360 - 180) * np.cos(np.radians(y)), lat - y)
        assert np.nanmin(away) < 2


def test_map_across_the_antimeridian_shows_both_sides_and_goes_on_beyond_180(whole: tuple[Cube, np.ndarray]) -> None:
    cube, values = whole
    view = read_map(cube.store, Selection(bbox=(170, -10, -170, 10)))
    assert isinstance(view, GlobeMap)
    assert view.field.bounds == (170, -10, 190, 10)
    assert view.there.all()
    check(cube, view, values)
    axes = cube.show_map(bbox=(170, -10, -170, 10))
    assert axes.get_xlim() == (170, 190)
    cell = int(cells_at(-175.0, 5.0, 5, "WGS84"))
    assert colour_at(axes, 185, 5) == view.colours.paint(values[[cell]])[0, :3].tolist()


def test_picture_is_painted_as_the_values_and_grey_where_there_are_none(tmp_path: Path) -> None:
    cube = make(tmp_path, 4, 2, more=", chunks: {year: 1, cells: 16}")
    held = list(range(0, 192, 2))
    values = fill(cube, held)
    view = read_map(cube.store, Selection())
    axes = cube.show_map()
    to = Transformer.from_crs("EPSG:4326", view.field.crs, always_xy=True)
    cells = np.arange(60, count_cells(4), 97)
    lon, lat = centres(cells, 4, "WGS84")
    shown = 0
    for cell, x, y in zip(cells.tolist(), *to.transform(lon, lat), strict=True):
        wanted = view.colours.paint(values[[cell]])[0, :3].tolist()
        assert (wanted == list(parse_colour(MISSING_COLOUR))) is bool(cell // 16 % 2)
        # Coasts, edges and lines of the graticule lie above the pixels.
        shown += bool(np.abs(np.subtract(colour_at(axes, x, y), wanted)).max() <= 1)
    assert shown > 0.8 * len(cells)
    assert colour_at(axes, *(0.99 * v for v in view.field.bounds[:2])) == [255, 255, 255]


def test_selected_regions_are_shown_and_others_white(whole: tuple[Cube, np.ndarray]) -> None:
    cube, values = whole
    view = read_map(cube.store, Selection(regions=("5", "6", "100")))
    assert isinstance(view, GlobeMap)
    check(cube, view, values, np.array([5, 6, 100]))
    assert view.left_out.any()
    assert view.notes[0] == "white: not selected"
    with pytest.raises(GridError, match="nothing in common"):
        read_map(cube.store, Selection(regions=("5",), bbox=(-60, -60, -50, -50)))


def test_compact_cube_shows_its_own_regions_and_the_ground_beside_them(tmp_path: Path) -> None:
    regions = [3, 4, 77, 80]
    cube = make(tmp_path, 5, 2, regions)
    values = fill(cube, [4, 80], year=1)
    view = read_map(cube.store, Selection(axes={"year": ("2001",)}))
    assert isinstance(view, GlobeMap)
    check(cube, view, values)
    assert not view.left_out.any()
    assert dict(view.labels) == {"year": "2001"}
    field = field_of(cube.grid)
    assert isinstance(field, GlobeField)
    assert set(np.unique(field.raster(200, 300)).tolist()) == {-1, 0, 1, 2, 3}


@pytest.mark.slow
def test_cube_without_data_has_every_picture(small: Cube) -> None:
    view = read_map(small.store, Selection())
    assert view.notes == ("no data here yet: 192 of 192 slots pending",)
    assert [t.get_text() for t in small.show_map().texts] == ["60°S", "30°S", "0°", "30°N", "60°N", "0°"]
    assert small.show_status().shape == (2, 1)
    assert len(small.show_grid().texts) > 150
    assert small.show_diff(small.history()[-1].snapshot, small.history()[0].snapshot).size == 1
    assert "192" in small._repr_html_()
    assert "h (year: 2, cells: 12288)" in repr(small)
    assert shrink_counts({"done": np.ones((1, 192), np.int64)}, small.grid, 80)["done"].shape == (40, 80)


# ---- reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    ["", pytest.param(", chunks: {year: 1, cells: 64}, shards: {year: 1, cells: 1024}", marks=pytest.mark.slow)],
    ids=["chunks", "shards"],
)
def test_scattered_cells_are_those_that_numpy_picks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    cube = make(tmp_path, 7, 2, more=more)
    values = fill(cube, list(range(1, 192, 3)), year=1)
    variable = cube.spec.variables[0]
    session = cube.store.readonly()
    positions = np.random.default_rng(0).integers(-1, values.size, (50, 70))
    wanted = np.where(positions < 0, np.nan, values[positions])
    for name, value in (("LIST_FROM", 1), ("LIST_FROM", 10**9), ("MOST_BYTES", 1)):
        monkeypatch.setattr(f"cubeingest.look.scattered.{name}", value)
        np.testing.assert_array_equal(read_scattered(session, variable, (1,), positions), wanted)
    assert stored_chunks(session, variable, (0,)).size == 0
    assert np.unique(stored_chunks(session, variable, (1,)) * variable.write_shape[-1] // 1024).tolist() == list(
        range(1, 192, 3)
    )


def test_map_that_would_take_long_to_read_is_thinned_and_says_so(
    whole: tuple[Cube, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    cube, _ = whole
    fine = read_map(cube.store, Selection(bbox=(5, 5, 60, 60)))
    monkeypatch.setattr("cubeingest.look.globemaps.MOST_SECONDS", 0.0)
    coarse = read_map(cube.store, Selection(bbox=(5, 5, 60, 60)))
    assert isinstance(fine, GlobeMap)
    assert isinstance(coarse, GlobeMap)
    step = coarse.step
    assert max(coarse.pixels.shape) / step <= 200 < max(coarse.pixels.shape) / (step - 1)
    assert coarse.pixels.shape == fine.pixels.shape
    for y, x in ((0, 0), (7, 3), (40, 60)):
        block = coarse.pixels[y * step : (y + 1) * step, x * step : (x + 1) * step]
        assert (block == fine.pixels[y * step + step // 2, x * step + step // 2]).all()
    assert coarse.field.bounds == fine.field.bounds


def test_map_of_a_box_reads_no_chunk_outside_it(small: Cube) -> None:
    fill(small, list(range(192)))
    box = (5, 5, 20, 20)
    near = set(cover_box(box, 2, "WGS84").tolist())
    session = small.store.writable()
    array = zarr.open_array(session.store, path="h", mode="r+")
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    garbage = default_buffer_prototype().buffer.from_bytes(b"no chunk of anything")
    for region in set(range(192)) - near:
        sync(session.store.set(f"h/c/0/{region}", garbage))
    session.commit("spoilt")
    assert array.chunks[-1] == 64
    assert read_map(small.store, Selection(bbox=box)).there.all()
    with pytest.raises(StoreError, match="cells of 'h' cannot be read"):
        read_map(small.store, Selection())


# ---- regions --------------------------------------------------------------------------------------------------


def test_status_is_in_the_colours_of_the_states_where_regions_lie(small: Cube) -> None:
    fill(small, list(range(0, 192, 3)), states=("done", "empty"))
    first, second = small.show_status().ravel()
    field = field_of(small.grid)
    to = Transformer.from_crs("EPSG:4326", field.crs, always_xy=True)
    lon, lat = centres(np.arange(192), 2, "WGS84")
    right = 0
    for region, x, y in zip(range(192), *to.transform(lon + 2, lat + 1.3), strict=True):
        state = "pending" if region % 3 else ("done", "empty")[region // 3 % 2]
        under = np.array([247, 244, 236])
        wanted = 0.9 * np.array(parse_colour(STATE_COLOURS[state])) + 0.1 * under
        right += bool(np.abs(colour_at(first, x, y) - wanted).max() < 5)
        pending = 0.9 * np.array(parse_colour(STATE_COLOURS["pending"])) + 0.1 * under
        right += bool(np.abs(colour_at(second, x, y) - pending).max() < 5)
    assert right > 0.85 * 2 * 192  # coasts and lines lie above some


@pytest.mark.slow
def test_status_of_regions_near_a_pole_is_seen_from_above_it(tmp_path: Path) -> None:
    regions = cover_box((-180, -90, 180, -70), 3, "WGS84").tolist()
    cube = make(tmp_path, 4, 3, regions)
    fill(cube, regions[::2])
    axes = cube.show_status(year=2000)[0, 0]
    left, right = axes.get_xlim()
    assert left == pytest.approx(-right, rel=1e-6)
    assert right < 5e6
    assert [t.get_text() for t in cube.show_grid(region=[str(regions[0])]).texts if t.get_text().isdecimal()] != []


def test_map_of_a_terminal_has_the_region_at_the_middle_of_each_cell(tmp_path: Path) -> None:
    for order, columns in ((1, 79), (4, 60)):
        grid = HealpixGrid(order, order)
        counts = {"done": np.arange(1, grid.n_regions + 1)[np.newaxis]}
        small = shrink_counts(counts, grid, columns)["done"]
        rows, wide = small.shape
        assert wide == columns
        assert abs(rows - columns / 2) <= 1
        lon = -180 + 360 * (np.arange(wide) + 0.5) / wide
        lat = 90 - 180 * (np.arange(rows) + 0.5) / rows
        middle = cells_at(*np.meshgrid(lon, lat), order, "WGS84") + 1
        assert (small >= middle).all()
        if order == 1:
            assert (small == middle).mean() > 0.5
    absent = {"done": np.zeros((1, 768), np.int64), "absent": np.ones((1, 768), np.int64)}
    absent["done"][0, cover_box((10, 40, 20, 50), 3, "WGS84")] = 1
    part = shrink_counts(absent, HealpixGrid(5, 3), 60)
    assert part["done"].any(axis=0).all()


def test_sum_of_a_cell_of_the_map_is_that_of_all_regions_in_it() -> None:
    """Of regions much smaller than a cell none is left out."""
    grid = HealpixGrid(6, 6)
    for region in np.random.default_rng(2).integers(0, grid.n_regions, 8).tolist():
        counts = {"done": np.zeros((1, grid.n_regions), np.int64), "pending": np.ones((1, grid.n_regions), np.int64)}
        counts["done"][0, region] = 1
        assert shrink_counts(counts, grid, 30)["done"].any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-180, 179), st.floats(0.6, 90)), min_size=1, max_size=8))
@example([(170.0, 20.0), (-175.0, 5.0)])
@example([(142.0, 63.0), (-8.0, 1.0), (-158.0, 1.0)])
@example([(0.0, 90.0), (90.0, 90.0), (-180.0, 90.0), (-90.0, 90.0)])
def test_enclosing_box_holds_all_boxes_and_no_wider_one_is_needed(intervals: list[tuple[float, float]]) -> None:
    boxes = np.array([(west, -1.0, west + wide, 1.0) for west, wide in intervals])
    west, _, east, _ = enclosing_box(boxes)
    assert -180 <= west < 180
    assert 0 < east - west <= 360
    for left, _, right, _ in boxes.tolist():
        assert (
            (left - west) % 360 + (right - left) <= east - west + 1e-9
            or east - west >= 360 - 1e-9
            or (left - west) % 360 > 360 - 1e-9
        )
    # The gap that is left out is the widest there is, as far as a degree tells.
    turn = np.arange(-180, 180, 0.5)
    covered = np.any([((turn - left) % 360) <= right - left for left, _, right, _ in boxes.tolist()], axis=0)
    free = np.concatenate([covered, covered])
    longest = max((len(run) for run in "".join("x" if c else " " for c in free).split("x")), default=0)
    assert min(longest, 720) / 2 <= 360 - (east - west) + 1


@pytest.mark.parametrize("box", [(-180, -90, 180, 90), (-180, -90, 180, -50), (100, -60, 290, 60), (170, -10, 190, 10)])
def test_edges_of_regions_are_cut_where_the_globe_is(box: Any) -> None:
    globe = choose_globe(box)
    lines = globe.lines(outlines(np.arange(192), 2, "WGS84", 12))
    assert len(lines) > 180 if globe.kind != "plain" else len(lines) > 10
    left, bottom, right, top = globe.bounds
    for line in lines:
        if globe.kind == "ellipse":
            assert (line[:, 0] >= left).all()
            assert (line[:, 0] <= right).all()
            assert np.abs(np.diff(line, axis=0)).max() < (right - left) / 8
    whole = shapely.unary_union([shapely.LineString(line) for line in lines])
    assert whole.intersects(shapely.box(left, bottom, right, top))


def test_grid_in_a_notebook_shows_the_regions_that_it_is_restricted_to() -> None:
    some, every = (HealpixGrid(5, 2, parents=parents)._repr_html_() for parents in ((3, 80), None))
    assert "2 cells of order 2, each of 64" in some
    assert "12,288 of HEALPix order 5 (nested) on WGS84" in every
    assert "3 … 80" in some
    assert REGION_COLOUR in some
    assert REGION_COLOUR not in every


# ---- the page and the command line ----------------------------------------------------------------------------


def test_page_knows_regions_by_their_ids_and_where_they_lie(tmp_path: Path) -> None:
    regions = [3, 4, 77, 80]
    cube = make(tmp_path, 5, 2, regions)
    fill(cube, [4, 80])
    path = cube.report(tmp_path / "page.html")
    grid = read_page(path).data["grid"]
    assert (grid["order"], grid["parents"], grid["cells"]) == (2, regions, 64)
    west, south, east, north = grid["box"]
    for left, bottom, right, top in all_bounds(regions, 2, "WGS84").tolist():
        assert (left - west) % 360 + right - left <= east - west + 1e-9
        assert south - 1e-9 <= bottom < top <= north + 1e-9
    np.testing.assert_allclose(grid["latitudes"], latitudes(8, "WGS84"), atol=1e-6)
    assert "HEALPix cells of order 5 in 4 regions of order 2" in path.read_text(encoding="utf-8")


def test_latitudes_are_those_of_all_corners() -> None:
    for ellipsoid in ("WGS84", "sphere"):
        _, lat = healpix_geo.nested.vertices(np.arange(768, dtype=np.uint64), 3, ellipsoid=ellipsoid)
        found = latitudes(3, ellipsoid)
        assert (np.diff(found) > 0).all()
        np.testing.assert_allclose(found, np.unique(lat.round(9)), atol=2e-9)


@pytest.mark.slow
def test_command_draws_a_map_and_says_what_it_shows(
    tmp_path: Path, whole: tuple[Cube, np.ndarray], invoke: Callable[..., Any]
) -> None:
    cube, _ = whole
    shown = invoke(
        "show", "map", "--store", cube.store.uri, "--bbox", 10, -10, 20, 10, "--output", tmp_path / "map.png", "--json"
    ).json
    assert shown["view"] == {"kind": "plain", "crs": "EPSG:4326", "bounds": [10, -10, 20, 10]}
    assert (tmp_path / "map.png").stat().st_size > 10_000
    for what in ("grid", "status"):
        assert invoke("show", what, "--store", cube.store.uri, "--output", tmp_path / f"{what}.svg").code == 0
        assert (tmp_path / f"{what}.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert invoke("status", "--store", cube.store.uri, "--html", tmp_path / "page.html").code == 0
