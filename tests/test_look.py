"""What pictures show is what the cube holds: pixels against numpy, drawn artists against the ledger, coasts against the globe."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import zarr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

import cubeingest as ci
from cubeingest import Cube, TilingGrid
from cubeingest.coast import coast_within, land_within
from cubeingest.look import MISSING_COLOUR, PixelReader, pixels, samples, shrink_counts
from cubeingest.look.cells import thin_counts
from cubeingest.look.grids import picture_grid
from cubeingest.look.notebook import draw_regions
from cubeingest.look.palette import parse_colour
from cubeingest.look.panels import MOST_PANELS
from cubeingest.sketch import CHANGE_COLOURS, STATE_COLOURS
from tests.conftest import World

Make = Callable[[str], Cube]

CLASSES = """\
axes: {year: {values: [2000, 2001]}}
variables:
  cover:
    {dtype: uint8, fill_value: 255, chunks: {year: 1, y: 25, x: 25}, attrs: {long_name: land cover, flag_values: [0, 1, 2, 3, 4],
     flag_meanings: water forest grass crops built, flag_colors: "#0000ff #008000 #90ee90 #ffff00 #ff0000"}}
"""


def fill(cube: Cube, name: str, values: np.ndarray) -> None:
    """Put pixels into a cube without a ledger."""
    session = cube.store.writable()
    zarr.open_array(session.store, path=name, mode="r+")[...] = values
    session.commit("pixels")


def lose(cube: Cube, path: str) -> None:
    """Delete one of a cube's arrays."""
    session = cube.store.writable()
    del zarr.open_group(session.store)[path]
    session.commit("lost")


DRAWN: WeakKeyDictionary[Any, np.ndarray] = WeakKeyDictionary()


def colour_at(axes: Any, x: float, y: float) -> list[int]:
    """Red, green, blue of the picture at a place, as it is drawn."""
    if axes.figure not in DRAWN:
        canvas = FigureCanvasAgg(axes.figure)
        canvas.draw()
        DRAWN[axes.figure] = np.asarray(canvas.buffer_rgba())
    drawn = DRAWN[axes.figure]
    column, row = axes.transData.transform((x, y))
    return drawn[drawn.shape[0] - 1 - int(row), int(column), :3].tolist()


@pytest.mark.parametrize("layout", ["chunks", "shards"])
def test_thinned_pixels_are_those_that_numpy_picks(
    make_cube: Make, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    shards = ", shards: {year: 1, y: 50, x: 50}" if layout == "shards" else ""
    cube = make_cube(
        "axes: {year: {values: [1, 2, 3]}}\n"
        f"variables:\n  v: {{dtype: int16, fill_value: -1, chunks: {{year: 1, y: 25, x: 25}}{shards}}}\n"
    )
    rng = np.random.default_rng(3)
    held = np.full((3, 200, 250), -1, np.int16)
    for i, y, x in rng.integers(0, (3, 4, 5), (20, 3)).tolist():
        held[i, y * 50 : y * 50 + 50, x * 50 : x * 50 + 50] = rng.integers(0, 999, (50, 50))
    fill(cube, "v", held)
    for window in (
        None,
        (slice(0, 1), slice(249, 250)),
        (slice(33, 190), slice(77, 200)),
        (slice(0, 200), slice(5, 6)),
    ):
        for most, listed_from in itertools.product((1, 7, 100, 250), (0, 10**9)):  # chunks are listed, or asked for
            monkeypatch.setattr(samples, "LIST_FROM", listed_from)
            found = PixelReader(cube.store).read(cube.spec.variable("v"), {"year": 1}, window, most)
            step, (y, x) = found.step, found.window
            rows = np.arange(y.start, y.stop, step) + min(step // 2, 199 % step)
            columns = np.arange(x.start, x.stop, step) + min(step // 2, 249 % step)
            assert np.array_equal(found.pixels, held[1][np.ix_(rows, columns)])
            assert max(found.pixels.shape) <= most + 1
    with pytest.raises(ci.GridError, match="has 3 values, so no position 3"):
        PixelReader(cube.store).read(cube.spec.variable("v"), {"year": 3})


def test_what_would_take_long_is_thinned_further_and_says_so(make_cube: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = make_cube("variables:\n  v: {dtype: uint8, fill_value: 0, chunks: {y: 10, x: 10}}\n")
    fill(cube, "v", np.ones((200, 250), np.uint8))
    monkeypatch.setattr(pixels, "MOST_SECONDS", 50 * samples.CHUNK_SECONDS)
    monkeypatch.setattr(pixels, "LEAST_PIXELS", 5)
    found = PixelReader(cube.store).read(cube.spec.variable("v"), max_pixels=125)
    assert found.step > 20
    assert (found.pixels == 1).all()
    assert "cubeingest overviews" in found.note


def test_pictures_come_from_overviews_and_stale_regions_from_the_base(make_cube: Make) -> None:
    cube = make_cube("variables:\n  v: {dtype: uint8, fill_value: 0, chunks: {y: 50, x: 50}, overviews: nearest}\n")
    rng = np.random.default_rng(5)
    cube.ingest(source=lambda geobox: rng.integers(1, 200, geobox.shape, dtype=np.uint8))
    cube.overviews(levels=3)
    base = cube.dataset()["v"].values
    found = PixelReader(cube.store).read(cube.spec.variable("v"), max_pixels=50)
    assert (found.step, found.note) == (4, "from overview 2")
    assert np.array_equal(found.pixels, base[::4, ::4])
    cube.ingest(source=lambda geobox: np.full(geobox.shape, 222, np.uint8), region="y0_x1", redo=True)
    cube.ingest(source=lambda geobox: None, region="y1_x0", redo=True)
    found = PixelReader(cube.store).read(cube.spec.variable("v"), max_pixels=50)
    assert found.note == "from overview 2, 1 region from the full resolution"
    assert (found.pixels[:25, 25:50] == 222).all()
    assert (found.pixels[25:, :25] == 0).all()
    assert np.array_equal(found.pixels[25:, 25:], base[100::4, 100::4])
    lose(cube, "overviews/2/v")
    found = PixelReader(cube.store).read(cube.spec.variable("v"), max_pixels=50)
    assert found.note.startswith("from overview 1, ")
    assert found.note.endswith("overviews/2/v is lost: `cubeingest overviews` makes it again")
    assert np.array_equal(found.pixels[25:, 25:], base[102::4, 100::4])
    lose(cube, "overviews/1/v")
    found = PixelReader(cube.store).read(cube.spec.variable("v"), max_pixels=125)
    assert found.note == "every 2nd pixel, overviews/1/v is lost: `cubeingest overviews` makes it again"
    assert np.array_equal(found.pixels[50:, 50:], base[101::2, 101::2])
    lose(cube, "v")
    with pytest.raises(ci.StoreError, match="pixels of 'v' cannot be read"):
        PixelReader(cube.store).read(cube.spec.variable("v"))


@pytest.mark.parametrize("up", [False, True], ids=["north to south", "south to north"])
def test_a_map_shows_each_class_where_it_lies_and_names_it(tmp_path: Path, up: bool) -> None:
    y = (
        "origin: {x: 0, y: 0}, resolution: {x: 1/10, y: 1/10}"
        if up
        else "origin: {x: 0, y: 20}, resolution: {x: 1/10, y: -1/10}"
    )
    grid = f"name: made\ncrs: EPSG:4326\ngrid: {{{y}, shape: {{y: 200, x: 250}}, region: {{y: 100, x: 100}}}}\nstore: ./m.icechunk\n"
    (tmp_path / "g.yaml").write_text(grid + CLASSES)
    cube = ci.init(tmp_path / "g.yaml")
    held = np.full((2, 200, 250), 255, np.uint8)
    for value in range(5):
        held[1, 40 * value : 40 * value + 40, :200] = value
    fill(cube, "cover", held[:, ::-1] if up else held)
    axes = cube.show_map(year=2001)
    expected = [[0, 0, 255], [0, 128, 0], [144, 238, 144], [255, 255, 0], [255, 0, 0]]
    assert [colour_at(axes, 7.03, 18.03 - 4 * i) for i in range(5)] == expected
    assert colour_at(axes, 22.53, 7.53) == list(parse_colour(MISSING_COLOUR))
    (legend,) = axes.figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["water", "forest", "grass", "crops", "built", "no data"]
    assert axes.figure.texts[0].get_text() == "land cover, year 2001"
    part = cube.show_map("cover", year=2001, bbox=(6, 17, 8, 19))
    assert (*part.get_xlim(), *part.get_ylim()) == pytest.approx((6, 8, 17, 19))
    with pytest.raises(ci.GridError, match="one value of axis 'year'"):
        cube.show_map(year=[2000, 2001])


def test_a_map_of_numbers_has_a_bar_with_units(make_cube: Make) -> None:
    cube = make_cube(
        "variables:\n  t: {dtype: float32, fill_value: .nan, chunks: {y: 100, x: 100}, attrs: {units: K, valid_range: [0, 250], cmap: gray}}\n"
    )
    fill(cube, "t", np.tile(np.arange(250, dtype=np.float32), (200, 1)))
    axes = cube.show_map()
    bar = axes.figure.axes[1]
    assert bar.get_ylabel() == "K"
    assert bar.get_ylim() == (0, 250)
    reds = [colour_at(axes, x, 13.27)[0] for x in (3.33, 12.83, 23.33)]
    assert reds == pytest.approx([34, 131, 238], abs=3)
    assert not axes.figure.legends


def test_a_map_of_numbers_says_what_the_colour_of_missing_pixels_is(make_cube: Make) -> None:
    cube = make_cube("variables:\n  t: {dtype: float32, fill_value: .nan, chunks: {y: 100, x: 100}}\n")
    held = np.tile(np.arange(250, dtype=np.float32), (200, 1))
    held[:50, :50] = np.nan
    fill(cube, "t", held)
    figure = cube.show_map().figure
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["no data"]
    (swatch,) = legend.get_patches()
    assert to_hex(swatch.get_facecolor()) == MISSING_COLOUR
    figure.canvas.draw()
    below, bar = legend.get_window_extent(), figure.axes[1].get_tightbbox()
    assert below.y1 <= bar.y0
    assert 0 <= below.x0 < below.x1 <= figure.bbox.width


def test_a_map_goes_on_across_the_antimeridian(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(
        "name: m\ncrs: EPSG:4326\ngrid: {origin: {x: -180, y: 20}, resolution: {x: 1, y: -1}, shape: {y: 40, x: 360}, region: {y: 20, x: 90}}\n"
        "variables:\n  v: {dtype: uint8, fill_value: 0, chunks: {y: 20, x: 90}, attrs: {colors: {1: red, 2: blue}}}\nstore: ./m.icechunk\n"
    )
    cube = ci.init(tmp_path / "g.yaml")
    fill(cube, "v", np.repeat([2, 1], 180)[np.newaxis].repeat(40, 0).astype(np.uint8))
    axes = cube.show_map(bbox=(170, -10, -175, 10))
    assert axes.get_xlim() == (170, 185)
    assert colour_at(axes, 172.5, -5.5) == [255, 0, 0]
    assert colour_at(axes, 183.5, -5.5) == [0, 0, 255]
    part = cube.show_map(bbox=(170, -10, -175, 10), region=["y0_x3", "y1_x3", "y1_x0"])
    assert (*part.get_xlim(), *part.get_ylim()) == (170, 185, -10, 10)
    found = [colour_at(part, x, y) for x, y in ((172.5, -5.5), (183.5, -5.5), (172.5, 5.5), (183.5, 5.5))]
    assert found == [[255, 0, 0], [0, 0, 255], [255, 0, 0], [255] * 3]
    assert cube.show_map(bbox=(170, -10, -175, 10), region="y1_x0").get_xlim() == (-180, -175)


def test_a_map_shows_what_bbox_and_regions_have_in_common_and_leaves_the_rest_blank(make_cube: Make) -> None:
    cube = make_cube("variables:\n  v: {dtype: uint8, fill_value: 0, chunks: {y: 50, x: 50}}\n")
    fill(cube, "v", np.arange(1, 251, dtype=np.uint8)[np.newaxis].repeat(200, 0))
    (left, bottom, right, top), ids = cube.grid.bounds(), list(cube.grid.region_ids())
    axes = cube.show_map(bbox=(left, bottom, (left + right) / 2, top), region=ids[0])
    y, x = cube.grid.slices(0, 0)
    step = float(cube.grid.resolution_x)
    assert axes.get_xlim() == pytest.approx((left, left + min(x.stop, 125) * step))
    assert axes.get_ylim() == pytest.approx((top - y.stop * step, top))
    with pytest.raises(ci.GridError, match="nothing in common"):
        cube.show_map(bbox=(left, top - 1e-3, left + 1e-3, top), region=ids[-1])
    apart = cube.show_map(region=[ids[0], ids[-1]])
    assert apart.get_xlim() == pytest.approx((left, right))
    assert colour_at(apart, right - 0.03, top - 0.03) == [255, 255, 255]
    assert colour_at(apart, left + 0.03, top - 0.03) != [255, 255, 255]
    assert "white: not selected" in apart.figure.texts[-1].get_text()


def test_a_map_of_nothing_says_whether_there_may_be_some_and_names_no_class(world: World) -> None:
    cube = ci.init(world.spec_file)
    for year, region, said in (
        (2000, "20N_000E", "no data here yet: 1 of 1 slot pending"),
        (2000, "20N_020E", "no data here"),
    ):
        figure = cube.show_map(year=year, region=region).figure
        assert [t.get_text() for t in figure.legends[0].get_texts()] == ["no data"]
        assert figure.texts[-1].get_text() == said


def drawn_kinds(axes: Any) -> np.ndarray:
    """The array that a panel's regions are coloured by; -1 where there is no colour."""
    mesh = next(c for c in axes.collections if c.get_array() is not None)
    return np.ma.filled(mesh.get_array().astype(int), -1)


def test_status_has_a_panel_for_each_year_with_the_states_of_the_ledger(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(year=2000, region="20N_000E")
    panels = cube.show_status()
    assert panels.shape == (1, 2) or panels.shape == (2, 1)
    done, pending, absent = 0, 2, 3
    first, second = panels.ravel()
    assert drawn_kinds(first).tolist() == [[done, pending, absent], [pending, pending, pending]]
    assert drawn_kinds(second).tolist() == [[pending, absent, absent], [absent, absent, pending]]
    texts = [t.get_text() for t in first.figure.legends[0].get_texts()]
    assert texts == ["done 1", "pending 6", "absent 5"]
    (one,) = cube.show_status(year=2000, region=["20N_000E", "10N_020E"]).ravel()
    assert drawn_kinds(one).tolist() == [[done, -1, -1], [-1, -1, pending]]
    assert np.allclose(colour_at(one, 3.1, 13.1), parse_colour(STATE_COLOURS["done"]), atol=30)
    assert np.allclose(colour_at(one, 23.1, 3.1), parse_colour(STATE_COLOURS["pending"]), atol=30)


def test_many_axis_values_are_cut_to_some_panels_and_the_rest_is_named(make_cube: Make) -> None:
    cube = make_cube(
        "axes: {year: {start: 1901, stop: 2000, step: 1}}\nvariables:\n  v: {dtype: uint8, fill_value: 0, chunks: {year: 1, y: 100, x: 100}}\n"
    )
    panels = cube.show_status()
    assert sum(axes is not None for axes in panels.ravel()) == MOST_PANELS
    note = panels[0, 0].figure.texts[-1].get_text()
    assert "76 more are not shown, from 1925 to 2000" in note


def test_diff_shows_which_slots_came_and_which_changed(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(year=2000, region="20N_000E")
    cube.tag("v1")
    world.add_tile(2000, "20N_000E")
    cube.ingest(year=2000)
    panels = cube.show_diff("v1")
    (axes,) = panels.ravel()
    added, changed = 0, 1
    assert drawn_kinds(axes).tolist() == [[changed, added, -1], [added, added, added]]
    assert np.allclose(colour_at(axes, 3.1, 13.1), parse_colour(CHANGE_COLOURS["changed"]), atol=30)
    (same,) = cube.show_diff("v1", "v1").ravel()
    assert (drawn_kinds(same) == -1).all()


def test_diff_back_to_before_the_cube_grew_shows_what_is_gone(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.tag("v1")
    cube.extend(year=2010)
    cube.ingest(source=lambda geobox, year: np.ones(geobox.shape, np.uint8), year=2010)
    for refs, kind in ((("v1", "main"), 0), (("main", "v1"), 2)):
        (axes,) = cube.show_diff(*refs).ravel()
        assert (drawn_kinds(axes) == kind).all()


def test_grid_highlights_what_is_selected_and_writes_ids_where_they_fit(world: World) -> None:
    grid = ci.read_spec(world.spec_file).grid
    axes = ci.show_grid(grid, bbox=(12, 12, 18, 18))
    highlighted = drawn_kinds(axes)
    assert np.argwhere(highlighted > 0).tolist() == [[0, 1]]
    assert [t.get_text().replace("\n", "_") for t in axes.texts] == list(grid.region_ids())
    with pytest.raises(ci.GridError, match="overlaps no region"):
        ci.show_grid(grid, bbox=(-50, 12, -40, 18))
    many = TilingGrid("EPSG:4326", Fraction(-180), Fraction(90), Fraction(1), Fraction(-1), (180, 360), (1, 1))
    assert not picture_grid(many).texts


@pytest.mark.parametrize("name", ["glad-lclu", "hansen-gfc"])
@pytest.mark.parametrize("dpi", [90, 160])
def test_ids_in_the_picture_of_a_grid_stay_within_their_regions(name: str, dpi: int) -> None:
    grid = ci.read_spec(name).tiling
    axes = picture_grid(grid)
    axes.figure.set_dpi(dpi)
    axes.figure.canvas.draw()
    y, x = grid.region_edges
    (left, bottom), (right, top) = axes.transData.transform([(x[0], y[1]), (x[1], y[0])])
    assert len(axes.texts) == grid.n_regions
    for text in axes.texts:
        box = text.get_window_extent()
        assert box.width <= 0.85 * (right - left)
        assert box.height <= 0.85 * (top - bottom)


def test_a_cube_of_one_pixel_and_one_without_data_have_every_picture(tmp_path: Path, make_cube: Make) -> None:
    one = "grid: {origin: {x: 10, y: 50}, resolution: {x: 1, y: -1}, shape: {y: 1, x: 1}, region: {y: 1, x: 1}}"
    (tmp_path / "one.yaml").write_text(
        f"name: one\ncrs: EPSG:4326\n{one}\nvariables:\n  v: {{dtype: bool, fill_value: false, chunks: {{y: 1, x: 1}}}}\nstore: ./one.icechunk\n"
    )
    empty = make_cube("variables:\n  a: {dtype: int64, fill_value: 0, chunks: {y: 100, x: 100}}\n")
    for cube in (ci.init(tmp_path / "one.yaml"), empty):
        assert colour_at(cube.show_map(), cube.grid.bounds()[0] + 0.3, cube.grid.bounds()[1] + 0.3) == list(
            parse_colour(MISSING_COLOUR)
        )
        assert cube.show_status().shape == (1, 1)
        assert cube.show_grid().texts
        assert "<svg" in cube._repr_html_()


@pytest.mark.parametrize(
    ("crs", "bounds", "land", "sea"),
    [
        ("EPSG:4326", (-180, -60, 180, 80), (10, 50), (-30, 40)),
        ("EPSG:4326", (0, -90, 360, 90), (250, 40), (200, 20)),
        ("EPSG:5070", (-2.4e6, 2e5, 2.3e6, 3.2e6), (0, 2e6), (-2.3e6, 5e5)),
        ("EPSG:32633", (3e5, 4.5e6, 8e5, 6.2e6), (5e5, 5.5e6), (5e5, 6.08e6)),
        ("EPSG:3031", (-4e6, -4e6, 4e6, 4e6), (5e5, 5e5), (3e6, 3e6)),
        ("EPSG:6931", (-9e6, -9e6, 9e6, 9e6), (3.3e6, 0), (0, 1e5)),
        ("EPSG:3857", (-20037508, -20037508, 20037508, 20037508), (1e6, 6.5e6), (-3e6, 4e6)),
    ],
    ids=["globe", "0 to 360", "Albers", "UTM", "south pole", "a hemisphere and more", "Mercator"],
)
def test_land_lies_where_it_is_in_any_crs_and_no_coast_crosses_the_map(
    crs: str, bounds: tuple[float, float, float, float], land: tuple[float, float], sea: tuple[float, float]
) -> None:
    import shapely

    polygons = land_within(bounds, crs)
    inside = [shapely.contains_xy(polygons, *point).any() for point in (land, sea)]
    assert inside == [True, False]
    lines = coast_within(bounds, crs)
    longest = max(float(np.hypot(*np.diff(line, axis=0).T).max()) for line in lines)
    assert longest < (bounds[2] - bounds[0]) / 5
    every = np.concatenate(lines)
    assert (every >= np.array(bounds[:2]) - 1e-6).all()
    assert (every <= np.array(bounds[2:]) + 1e-6).all()


def test_notebooks_show_a_small_escaped_page(world: World) -> None:
    world.write_spec(("name: small", 'name: "a <b> & c"'))
    cube = ci.init(world.spec_file)
    cube.ingest(year=2000, region="20N_000E")
    html = cube._repr_html_()
    assert "a &lt;b&gt; &amp; c" in html
    assert "<b> & c" not in html
    assert len(html) < 20_000
    assert "part 0" not in html
    grid = cube.grid._repr_html_()
    assert "20N_000E … 10N_020E" in grid
    assert grid.count("<svg") == 1


def test_cube_is_one_line_in_a_console(world: World) -> None:
    cube = ci.init(world.spec_file)
    uri = str(world.store)
    assert repr(cube) == f"<Cube 'small' at {uri!r}, branch 'main': cover (year: 2, y: 200, x: 250)>"
    assert repr(cube.at("main")) == f"<Cube 'small' at {uri!r}, {cube.store.tip}: cover (year: 2, y: 200, x: 250)>"


def test_maps_for_a_terminal_are_north_up_and_no_larger_than_it() -> None:
    grid = TilingGrid("EPSG:4326", Fraction(0), Fraction(0), Fraction(1), Fraction(1), (3, 2), (1, 1))
    counts = {"done": np.array([[1, 0], [0, 0], [0, 2]])}
    small = shrink_counts(counts, grid, 2)["done"]
    assert small.tolist() == [[0, 2], [0, 0], [1, 0]]
    wide = TilingGrid("EPSG:4326", Fraction(-180), Fraction(90), Fraction(1), Fraction(-1), (180, 360), (1, 1))
    many = shrink_counts({"done": np.ones((180, 360), np.int64)}, wide, 79)["done"]
    assert many.shape == (40, 79)
    assert many.sum() == 180 * 360


@pytest.mark.parametrize("up", [False, True], ids=["north to south", "south to north"])
def test_maps_in_a_notebook_stay_small_however_many_regions_there_are(up: bool) -> None:
    y = Fraction(1, 2) if up else -Fraction(1, 2)
    grid = TilingGrid("EPSG:4326", Fraction(-180), Fraction(0), Fraction(1, 2), y, (180, 720), (1, 1))
    held = np.random.default_rng(7).random(grid.lattice_shape_yx) < 0.5
    held[:90] = True
    counts = {name: np.zeros(held.shape, np.int64) for name in ("virtual", "empty", "absent")}
    cells = thin_counts({"done": held.astype(np.int64), "pending": 1 - held, **counts})
    assert sum(int(cells[name].sum()) for name in cells) == held.size
    drawing = draw_regions(grid, cells)
    assert len(drawing) < 100_000
    (solid,) = re.findall(f'<path d="([^"]*)" fill="{STATE_COLOURS["done"]}"', drawing)
    height = float(re.findall(r'height="(\d+)"', drawing)[0])
    tops = [float(v) for v in re.findall(r"M0.0 ([\d.]+)H", solid)]
    assert all(top > height * 0.45 for top in tops) if up else all(top < height * 0.55 for top in tops)
    few = {name: np.ones((14, 36), np.int64) for name in counts}
    assert thin_counts(few) is few
