"""The lattice: the numbers of both seeds, exact arithmetic, ids, and queries against brute force."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from fractions import Fraction as F

import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from cubeingest.axes import Axis
from cubeingest.errors import GridError
from cubeingest.grid import TOLERANCE_PX, Bounds, TilingGrid

YEARS = (2000, 2005, 2010, 2015, 2020)
GLAD = TilingGrid("EPSG:4326", F(-180), F(80), F(1, 4000), F(-1, 4000), (560000, 1440000), (40000, 40000),
                  "{top:02H}_{left:03H}", axes=(Axis("year", YEARS),))  # fmt: skip
STEP = F("0.00030799387843671866")
OCR = TilingGrid("EPSG:4326", F("-128.3875562194317"), F("22.428114227623333"), STEP, STEP, (97579, 208881), (6000, 4500),
                 dims_yx=("latitude", "longitude"))  # fmt: skip
WORLD = TilingGrid("EPSG:4326", F(-180), F(90), F(1, 8), F(-1, 8), (1440, 2880), (80, 80), "{top:02H}_{left:03H}")
WORLD_360 = replace(WORLD, origin_x=F(0))
UPWARDS = replace(WORLD, origin_y=F(-90), resolution_y=F(1, 8))
"""Rows run south to north."""
ALBERS = TilingGrid("EPSG:5070", F(-3_000_000), F(3_400_000), F(500), F(-500), (7000, 12000), (100, 100))
UTM_13N = TilingGrid("EPSG:32613", F(0), F(4_000_000), F(500), F(500), (2000, 2000), (100, 100))
LONLAT = "EPSG:4326"

COLORADO = (-109.059196, 36.992751, -102.042126, 41.001982)
CALIFORNIA = (-124.41060660766607, 32.5342307609976, -114.13445790587905, 42.00965914828148)
ARKANSAS = (-94.61946646626465, 33.00413641175411, -89.65547287402873, 36.49965029279292)
EATON = (-118.16359507363843, 34.1609756217009, -118.01833468855428, 34.23216929604394)


def places(grid: TilingGrid) -> list[tuple[int, int]]:
    """Every (row, column) of the lattice of regions."""
    return list(itertools.product(*map(range, grid.lattice_shape_yx)))


def overlapping(grid: TilingGrid, box: Bounds) -> list[tuple[int, int]]:
    """Brute force: the places whose open rectangle shares a point with the open box."""
    left, bottom, right, top = (F(repr(float(v))) for v in box)
    boxes = {place: grid.exact_bounds(grid.region_id(*place)) for place in places(grid)}
    return [p for p, (w, s, e, n) in boxes.items() if max(w, left) < min(e, right) and max(s, bottom) < min(n, top)]


def raster(bounds: Bounds, rows: int, columns: int) -> xr.DataArray:
    """A rioxarray object with pixel centres as coordinates, as ``open_rasterio`` makes it; takes no memory."""
    left, bottom, right, top = bounds
    y = top - (np.arange(rows) + 0.5) * (top - bottom) / rows
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    return xr.DataArray(np.broadcast_to(np.uint8(0), (rows, columns)), {"y": y, "x": x}, ("y", "x"))


# ---- the seeds ------------------------------------------------------------------------------------------------


def test_glad_tile_of_the_seed_has_the_seeds_slices_and_chunks() -> None:
    assert (GLAD.lattice_shape_yx, GLAD.n_regions) == ((14, 36), 504)
    assert GLAD.region("70N_180W", year=2000) == {"year": slice(0, 1), "y": slice(40000, 80000), "x": slice(0, 40000)}
    chunks = GLAD.chunks("70N_180W", {"year": 1, "y": 1000, "x": 1000}, year=2000)
    assert chunks == {"year": slice(0, 1), "y": slice(40, 80), "x": slice(0, 40)}
    indices = list(itertools.product(*(range(s.start, s.stop) for s in chunks.values())))
    assert (indices[0], indices[9], indices[-1], len(indices)) == ((0, 40, 0), (0, 40, 9), (0, 79, 39), 1600)
    assert GLAD.bounds("70N_180W") == (-180, 60, -170, 70)
    assert GLAD.bounds() == (-180, -60, 180, 80)


def test_glad_tile_as_rioxarray_opens_it_is_the_same_region() -> None:
    tile = raster((-180, 60, -170, 70), 40000, 40000)
    assert GLAD.region(tile, year=2020) == {"year": slice(4, 5), "y": slice(40000, 80000), "x": slice(0, 40000)}
    assert GLAD.region(tile.to_dataset(name="lclu"), year=2020) == GLAD.region("70N_180W", year=2020)


def test_ocr_region_of_the_seed_has_the_seeds_slices_and_floats() -> None:
    assert (OCR.lattice_shape_yx, OCR.n_regions) == ((17, 47), 799)
    assert OCR.region("y5_x14") == {"latitude": slice(30000, 36000), "longitude": slice(63000, 67500)}
    assert OCR.bounds("y5_x14") == (-108.98394187791843, 31.667930580724892, -107.59796942495319, 33.515893851345204)
    assert OCR.bounds() == (-128.3875562194317, 22.428114227623333, -64.05348689769147, 52.4818488915999)


def test_last_row_and_column_of_regions_are_partial() -> None:
    assert OCR.slices(16, 46) == (slice(96000, 97579), slice(207000, 208881))
    assert OCR.geobox("y16_x46").shape == (1579, 1881)
    assert OCR.bounds("y16_x46")[2:] == OCR.bounds()[2:]
    chunks = OCR.chunks("y16_x46", {"latitude": 1000, "longitude": 1500})
    assert chunks == {"latitude": slice(96, 98), "longitude": slice(138, 140)}


@pytest.mark.parametrize("box", [COLORADO, CALIFORNIA, ARKANSAS, EATON], ids=["CO", "CA", "AR", "Eaton"])
def test_chunks_for_the_boxes_of_the_seed_equal_brute_force(box: Bounds) -> None:
    pairs = OCR.get_chunks_for_bbox(box)
    assert pairs == overlapping(OCR, box)
    assert OCR.regions(box) == [f"y{iy}_x{ix}" for iy, ix in pairs]


def test_colorado_lies_in_28_chunks_and_chunks_may_be_smaller_than_regions() -> None:
    assert OCR.get_chunks_for_bbox(COLORADO) == list(itertools.product(range(7, 11), range(13, 20)))
    assert OCR.get_chunks_for_bbox(EATON, chunk_shape_yx=(3000, 4500)) == [(12, 7)]
    assert GLAD.get_chunks_for_bbox((-180, 79.5, -179.75, 80), chunk_shape_yx=(1000, 1000)) == [(0, 0), (1, 0)]


# ---- exactness ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("grid", "dim"), [(GLAD, "x"), (GLAD, "y"), (OCR, "longitude"), (OCR, "latitude")])
def test_coordinates_are_exact_rationals_rounded_once(grid: TilingGrid, dim: str) -> None:
    is_y = dim == grid.dims_yx[0]
    origin, step = (grid.origin_y, grid.resolution_y) if is_y else (grid.origin_x, grid.resolution_x)
    part = slice(77_000, 97_579)
    assert grid.coordinate(dim, part).tolist() == [float(origin + (i + F(1, 2)) * step) for i in range(77_000, 97_579)]
    assert np.array_equal(grid.coordinate(dim)[part], grid.coordinate(dim, part))
    assert grid.coordinate(dim).shape == (grid.shape_yx[0 if is_y else 1],)


@pytest.mark.parametrize(
    ("grid", "region"), [(GLAD, "70N_180W"), (GLAD, "50S_170E"), (OCR, "y5_x14"), (ALBERS, "y3_x4")]
)
def test_geobox_agrees_with_bounds(grid: TilingGrid, region: str) -> None:
    box = grid.geobox(region)
    left, bottom, right, top = grid.bounds(region)
    assert (box.affine.c, box.affine.f) == (left, top if grid.resolution_y < 0 else bottom)
    assert box.extent.boundingbox.bbox == pytest.approx((left, bottom, right, top), rel=1e-13)
    assert str(box.crs) == grid.crs
    assert (grid.geobox().shape, grid.geobox().affine) == (grid.shape_yx, grid.affine())


# ---- regions from rasters and axis values ---------------------------------------------------------------------


BY_TWO = replace(GLAD, axes=(Axis("year", YEARS, block=2),))


@pytest.mark.parametrize(("grid", "where", "axes", "match"), [
    (WORLD, (10 + 1 / 16, 0, 20 + 1 / 16, 10), {}, r"0\.5 px (east|west) of the grid \(allowed 0\.01 px\)"),
    (WORLD, (10, 1 / 32, 20, 10 + 1 / 32), {}, r"0\.25 px north of the grid"),
    (WORLD, (10 - 1 / 32, 0, 20 - 1 / 32, 10), {}, r"0\.25 px west of the grid"),
    (WORLD, (10, 0, 15, 10), {}, r"y 640:720, x 1520:1560, which is not a whole region \(region '10N_010E' .*use window\(\)"),
    (WORLD, (10, 0, 30, 10), {}, "not a whole region"),
    (WORLD, (180, 0, 190, 10), {}, "reach outside the grid"),
    (BY_TWO, "70N_180W", {"year": 2005}, r"year=2005 is part of the axis block 2000\.\.2005.*write the whole block"),
    (BY_TWO, (-180, 60, -170, 70), {"year": 2010}, r"part of the axis block 2010\.\.2015"),
    (GLAD, "70N_180W", {"yaer": 2000}, r"no axis 'yaer'; did you mean 'year'\? \(axes: year\)"),
    (GLAD, "70N_180W", {"year": 2001}, r"axis 'year' has no value '2001'.*\(values: 2000, 2005, 2010, 2015, 2020\)"),
])  # fmt: skip
def test_what_is_no_whole_region_is_refused(
    grid: TilingGrid, where: str | Bounds, axes: dict[str, int], match: str
) -> None:
    with pytest.raises(GridError, match=match):
        grid.region(where if isinstance(where, str) else raster(where, 80, 80), **axes)


def test_raster_in_another_crs_is_refused() -> None:
    tile = raster((10, 0, 20, 10), 80, 80)
    assert WORLD.region(tile.rio.write_crs("EPSG:4326")) == WORLD.region("10N_010E")
    with pytest.raises(GridError, match="is in CRS EPSG:32631, the grid in EPSG:4326: reproject it first"):
        WORLD.region(tile.rio.write_crs("EPSG:32631"))


def test_region_is_found_in_a_short_last_axis_block_and_where_rows_run_south_to_north() -> None:
    assert BY_TWO.region("70N_180W", year=2020)["year"] == slice(4, 5)
    assert BY_TWO.region("70N_180W")["year"] == slice(0, 5)
    assert UPWARDS.region(raster((10, 0, 20, 10), 80, 80)) == UPWARDS.region("10N_010E")
    assert UPWARDS.region("10N_010E") == {"y": slice(720, 800), "x": slice(1520, 1600)}


@pytest.mark.parametrize("name", ["where", "self", "region_id", "chunk_shape"])
def test_axis_may_be_named_like_a_parameter(name: str) -> None:
    grid = replace(GLAD, axes=(Axis(name, YEARS),))
    assert grid.region("70N_180W", **{name: 2005})[name] == slice(1, 2)
    assert grid.chunks("70N_180W", {"y": 1000, "x": 1000, name: 1}, **{name: 2005})[name] == slice(1, 2)  # type: ignore[misc]


@pytest.mark.parametrize(
    "value", ["2000-02-01", date(2000, 2, 1), datetime(2000, 2, 1), np.datetime64("2000-02-01", "ns")]
)
def test_date_is_found_however_it_is_given(value: object) -> None:
    assert Axis("time", (datetime(2000, 1, 1), datetime(2000, 2, 1))).index(value) == 1


# ---- ids ------------------------------------------------------------------------------------------------------

TEMPLATES = ["y{iy}_x{ix}", "h{ix:02d}v{iy:02d}", "{top:02H}_{left:03H}", "{bottom:H02}{left:H003}", "{left:H}_{top:H}",
             "{bottom}_{right}", "{right:04d}x{bottom:03}", "tile-{iy}.{ix:03}-{top:H}"]  # fmt: skip


@pytest.mark.parametrize(("template", "box", "region"), [
    ("{top:02H}_{left:03H}", (-180, 60, -170, 70), "70N_180W"), ("{top:02H}_{left:03H}", (0, -10, 10, 0), "00N_000E"),
    ("{bottom:H02}{left:H003}", (0, -10, 10, 0), "S10E000"), ("{bottom:H02}{left:H003}", (-10, 40, 0, 50), "N40W010"),
    ("{left:H}_{top:H}", (0, 0, 10, 10), "0E_10N"), ("{left:H}_{top:H}", (100, -20, 110, -10), "100E_10S"),
    ("h{ix:02d}v{iy:02d}", (-180, 80, -170, 90), "h00v00"), ("h{ix:02d}v{iy:02d}", (170, -90, 180, -80), "h35v17"),
    ("{right}:{bottom}", (-20, -90, -10, -80), "-10:-90"),
])  # fmt: skip
def test_id_names_the_region_as_datasets_do(template: str, box: Bounds, region: str) -> None:
    grid = replace(WORLD, id_template=template)
    assert grid.regions(box) == [region]
    assert grid.bounds(region) == box


@pytest.mark.parametrize(("grid", "change", "match"), [
    (WORLD, {"id_template": "{top:02H}"}, r"must name a row \(iy, top or bottom\) and a column \(ix, left or right\)"),
    (WORLD, {"id_template": "{ix}"}, "must name a row"), (WORLD, {"id_template": "tile"}, "must name a row"),
    (WORLD, {"id_template": "{topp}_{left}"}, r"names 'topp'; did you mean 'top'\?"),
    (WORLD, {"id_template": "{}_{left}"}, r"names '' \(known: top, bottom"),
    (WORLD, {"id_template": "{top:02Q}_{left}"}, r"cannot use format '02Q'; write 02H, H02, 03d or nothing"),
    (WORLD, {"id_template": "{top:H02H}_{left}"}, "cannot use format"),
    (WORLD, {"id_template": "{top"}, "is not a valid pattern"), (WORLD, {"id_template": "{top}}_{left}"}, "not a valid pattern"),
    (OCR, {"id_template": "y{iy}_{left}"}, r"uses 'left', but region edges are not whole numbers.*use iy and ix"),
    (GLAD, {"resolution_x": F(0)}, "x must be above 0"), (GLAD, {"resolution_y": F(0)}, "y not 0"),
    (GLAD, {"region_shape_yx": (560001, 40000)}, "region y is 560001 of 560000 pixels: it must be between 1 and"),
    (GLAD, {"region_shape_yx": (40000, 0)}, "region x is 0 of 1440000 pixels"),
])  # fmt: skip
def test_grid_that_cannot_be_is_refused(grid: TilingGrid, change: dict[str, object], match: str) -> None:
    with pytest.raises(GridError, match=match):
        replace(grid, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("template", ["{iy}{ix}", "{iy:02d}{ix:02d}", "{top:H02}{left:003H}", "{top}{left}", "{iy:5d}_{ix}",
                                      "{iy:02H}_{ix:02H}", "{iy}0{ix}", "{iy:02d}0{ix:03d}"])  # fmt: skip
def test_template_that_is_accepted_can_be_read_back(template: str) -> None:
    try:
        grid = replace(WORLD, resolution_x=F(1), resolution_y=F(-1), region_shape_yx=(10, 10), id_template=template)
    except GridError:
        return
    assert [grid.region_index(region) for region in grid.region_ids()] == places(grid)


@pytest.mark.parametrize("text", ["", "70N", "75N_180W", "70N_180W ", "70N_180W\n", "7ON_180W", "70N_180E", "00S_000E", "00N_000W",
                                  "\u06670N_180W", "070N_180W", "70n_180w", "9" * 5000 + "N_180W"])  # fmt: skip
def test_text_that_is_no_id_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(GridError, match=r"no region .* in this grid \(ids look like '80N_180W'\)"):
        GLAD.region_index(text)


# ---- queries --------------------------------------------------------------------------------------------------


def test_without_a_box_all_regions_are_named_row_by_row() -> None:
    ids = GLAD.regions()
    assert (len(ids), len(set(ids)), ids[0], ids[1], ids[-1]) == (504, 504, "80N_180W", "80N_170W", "50S_170E")


@pytest.mark.parametrize("grid", [GLAD, OCR, WORLD_360], ids=["glad", "ocr", "360"])
def test_box_of_a_region_names_that_region_alone(grid: TilingGrid) -> None:
    """Touching edges do not count, although bounds are rounded to floats."""
    found = {region: grid.regions(grid.bounds(region)) for region in grid.region_ids()}
    assert {region: ids for region, ids in found.items() if ids != [region]} == {}


@pytest.mark.parametrize(("box", "grid", "expected"), [
    ((175, 1, -175, 2), WORLD, ["10N_180W", "10N_170E"]), ((170, 1, -170, 2), WORLD_360, ["10N_170E", "10N_180E"]),
    ((180, 1, -170, 2), WORLD, ["10N_180W"]), ((170, 1, -180, 2), WORLD, ["10N_170E"]),
    ((-10, 1, 10, 2), WORLD_360, ["10N_000E", "10N_350E"]), ((350, 1, 370, 2), WORLD, ["10N_010W", "10N_000E"]),
    ((350, 1, 10, 2), WORLD, ["10N_010W", "10N_000E"]), ((350, 1, 10, 2), WORLD_360, ["10N_000E", "10N_350E"]),
    ((350, 1, 360, 2), WORLD, ["10N_010W"]), ((-190, 1, -180, 2), WORLD, ["10N_170E"]),
    ((539, 1, 541, 2), WORLD, ["10N_180W", "10N_170E"]), ((-541, 1, -539, 2), WORLD_360, ["10N_170E", "10N_180E"]),
    ((30, 85, 31, 100), WORLD, ["90N_030E"]), ((30, 90, 31, 91), WORLD, []),
])  # fmt: skip
def test_box_of_longitudes_wraps(box: Bounds, grid: TilingGrid, expected: list[str]) -> None:
    assert grid.regions(box) == expected
    assert grid.regions(box, crs="OGC:CRS84") == expected


def test_box_may_go_nearly_round_the_globe() -> None:
    assert set(WORLD.regions((-180, 1, 180, 2))) - set(WORLD.regions((200, 1, 190, 2))) == {"10N_170W"}
    assert set(WORLD_360.regions((0, 1, 360, 2))) - set(WORLD_360.regions((-160, 1, -170, 2))) == {"10N_190E"}


@pytest.mark.parametrize(("query", "match"), [
    (lambda: WORLD.regions((0, 0, 0, 1)), "has no area: give west south east north"),
    (lambda: WORLD.regions((0, 1, 1, 1)), "has no area"), (lambda: WORLD.regions((0, 2, 1, 1)), "has no area"),
    (lambda: WORLD.regions((0, 2, 1, 1), "EPSG:5070"), "has no area"), (lambda: ALBERS.regions((9, 0, -9, 5)), "has no area"),
    (lambda: WORLD.regions((float("nan"), 0, 1, 1)), "has a value that is not finite"),
    (lambda: WORLD.regions((0, 0, 1, float("inf")), "EPSG:5070"), "has a value that is not finite"),
    (lambda: WORLD.regions((0, 0, 1, 1), "EPSG:banana"), "EPSG:banana"),
    (lambda: WORLD.region_at(0, 0, "EPSG:banana"), "EPSG:banana"),
    (lambda: WORLD.region_at(0, 91), r"is outside the grid, whose bounds are \(-180\.0, -90\.0, 180\.0, 90\.0\)"),
    (lambda: WORLD.region_at(0, -90), "is outside the grid"), (lambda: GLAD.region_at(-180.001, -61), "is outside the grid"),
    (lambda: WORLD.region_at(float("nan"), 0), "not finite"),
    (lambda: GLAD.region_id(-1, 0), "no region at row -1, column 0: the grid has 14 rows and 36 columns of regions"),
    (lambda: GLAD.region_id(0, 36), "no region at row 0, column 36"),
    (lambda: GLAD.coordinate("year"), r"'year' is not a spatial dimension of the grid \(y, x\)"),
])  # fmt: skip
def test_question_that_the_grid_cannot_answer_is_refused(query: Callable[[], object], match: str) -> None:
    with pytest.raises(GridError, match=match):
        query()


@pytest.mark.parametrize(("grid", "box", "crs"), [
    (ALBERS, COLORADO, LONLAT), (ALBERS, CALIFORNIA, LONLAT), (UTM_13N, COLORADO, LONLAT),
    (WORLD, (300_000, 4_000_000, 700_000, 4_900_000), "EPSG:32613"), (WORLD, (-1e6, -1e6, 1e6, 1e6), "EPSG:3413"),
    (WORLD, (2e5, 1e6, 8e5, 2e6), "EPSG:32601"), (WORLD_360, (2e5, 1e6, 8e5, 2e6), "EPSG:32601"),
])  # fmt: skip
def test_box_in_another_crs_finds_all_of_its_points(grid: TilingGrid, box: Bounds, crs: str) -> None:
    """Brute force: 200 x 200 points of the box; what is found beyond their regions shares a row and a column with them."""
    x, y = np.meshgrid(np.linspace(box[0], box[2], 200), np.linspace(box[1], box[3], 200))
    x, y = Transformer.from_crs(crs, grid.crs, always_xy=True).transform(x, y)
    x = np.where(x < 0, x + 360, x) if grid is WORLD_360 else x
    columns = (x - float(grid.origin_x)) / float(grid.resolution_x) // grid.region_shape_yx[1]
    rows = (y - float(grid.origin_y)) / float(grid.resolution_y) // grid.region_shape_yx[0]
    held = {(int(iy), int(ix)) for iy, ix in zip(rows.ravel(), columns.ravel(), strict=True)} & set(places(grid))
    found = set(grid.get_chunks_for_bbox(box, crs))
    assert held
    assert held <= found <= set(itertools.product({iy for iy, _ in held}, {ix for _, ix in held}))


def test_box_in_another_crs_is_not_cut_short_between_its_corners() -> None:
    """The parallel of 30 N is lowest at 96 W, at y = 769374.7 in EPSG:5070: below the row edge at 769400."""
    grid = TilingGrid("EPSG:5070", F(-3_000_000), F(769_400), F(100), F(-100), (2000, 60_000), (1000, 60_000))
    assert grid.region_at(-96, 30.0001, LONLAT) == "y0_x0"
    assert grid.regions((-125, 30, -66.3, 48), LONLAT) == ["y0_x0"]


@pytest.mark.parametrize(("grid", "point", "region"), [
    (WORLD, (-175, 65), "70N_180W"), (WORLD, (0, 0), "00N_000E"), (WORLD, (-180, 90), "90N_180W"),
    (WORLD, (-170, 80), "80N_170W"), (UPWARDS, (0, 0), "10N_000E"), (OCR, (-108.0, 32.0), "y5_x14"),
    (GLAD, (179.9999999, -59.9999999), "50S_170E"),
])  # fmt: skip
def test_point_lies_in_one_region(grid: TilingGrid, point: tuple[float, float], region: str) -> None:
    """On a shared edge, the one with the higher index."""
    assert grid.region_at(*point) == region


def test_corner_with_the_lowest_indices_belongs_to_its_region() -> None:
    """Although the edge is rounded to a float."""
    found = {region: OCR.region_at(*OCR.bounds(region)[:2]) for region in OCR.region_ids()}
    assert {region: other for region, other in found.items() if other != region} == {}


def test_point_in_another_crs_lies_in_one_region() -> None:
    x, y = Transformer.from_crs(LONLAT, "EPSG:32613", always_xy=True).transform(-104.5, 39.5)
    assert WORLD.region_at(x, y, "EPSG:32613") == "40N_110W"
    assert UTM_13N.region_at(-104.5, 39.5, LONLAT) == UTM_13N.region_at(x, y) == "y7_x10"


# ---- properties -----------------------------------------------------------------------------------------------


@st.composite
def grids(draw: st.DrawFn, dyadic: bool = False) -> TilingGrid:
    """Any small lattice, in either row direction; with ``dyadic``, one whose edges are floats without rounding."""
    origin = (
        st.integers(-(2**20), 2**20).map(lambda n: F(n, 8))
        if dyadic
        else st.fractions(-(10**6), 10**6, max_denominator=10**4)
    )
    step = (
        st.integers(-6, 6).map(lambda n: F(2) ** n)
        if dyadic
        else st.fractions(F(1, 10**4), 10**4, max_denominator=10**4)
    )
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    region = draw(st.integers(1, shape[0])), draw(st.integers(1, shape[1]))
    downwards = draw(st.sampled_from((-1, 1)))
    return TilingGrid("EPSG:32631", draw(origin), draw(origin), draw(step), downwards * draw(step), shape, region)


@st.composite
def windows(draw: st.DrawFn, grid: TilingGrid) -> tuple[slice, slice]:
    (y0, y1), (x0, x1) = (sorted(draw(st.sets(st.integers(0, n), min_size=2, max_size=2))) for n in grid.shape_yx)
    return slice(y0, y1), slice(x0, x1)


def bounds_of(grid: TilingGrid, y: slice, x: slice) -> tuple[F, F, F, F]:
    ys = sorted(grid.origin_y + i * grid.resolution_y for i in (y.start, y.stop))
    xs = sorted(grid.origin_x + i * grid.resolution_x for i in (x.start, x.stop))
    return xs[0], ys[0], xs[1], ys[1]


@given(st.data(), grids())
def test_bounds_give_the_window_that_gives_the_bounds(data: st.DataObject, grid: TilingGrid) -> None:
    window = data.draw(windows(grid))
    exact = bounds_of(grid, *window)
    assert grid.window(exact, tolerance_px=F(0)) == window
    left, bottom, right, top = (float(v) for v in exact)
    assert grid.window((left, bottom, right, top)) == window


@given(st.data(), grids(), st.fractions(F(-1, 2), F(1, 2)), st.sampled_from("xy"))
def test_shift_above_tolerance_is_refused_and_below_accepted(
    data: st.DataObject, grid: TilingGrid, shift: F, dim: str
) -> None:
    window = data.draw(windows(grid))
    left, bottom, right, top = bounds_of(grid, *window)
    dx, dy = (shift * grid.resolution_x, F(0)) if dim == "x" else (F(0), shift * grid.resolution_y)
    shifted = (left + dx, bottom + dy, right + dx, top + dy)
    if abs(shift) <= TOLERANCE_PX:
        assert grid.window(shifted) == window
    else:
        with pytest.raises(GridError, match=r"px (north|south|east|west) of the grid \(allowed 0\.01 px\)"):
            grid.window(shifted)


@given(grids())
def test_regions_are_disjoint_and_cover_the_grid(grid: TilingGrid) -> None:
    times = np.zeros(grid.shape_yx, int)
    for region in grid.region_ids():
        times[tuple(grid.region(region).values())] += 1
        assert grid.window(grid.bounds(region)) == tuple(grid.region(region).values())
    assert (times == 1).all()


@given(st.data(), st.sampled_from(TEMPLATES), st.sampled_from((WORLD, UPWARDS, WORLD_360)))
def test_id_gives_the_index_that_gives_the_id(data: st.DataObject, template: str, grid: TilingGrid) -> None:
    grid = replace(grid, id_template=template)
    iy, ix = data.draw(st.sampled_from(places(grid)))
    region = grid.region_id(iy, ix)
    assert grid.region_index(region) == (iy, ix)
    assert re.fullmatch(grid.ids.regex, region)


@given(st.sampled_from(TEMPLATES), st.text() | st.text(alphabet="0123456789NSEW_-.yxhv\u0667"))
def test_any_text_is_an_id_or_is_refused(template: str, text: str) -> None:
    grid = replace(WORLD, id_template=template)
    try:
        place = grid.region_index(text)
    except GridError:
        return
    assert grid.region_id(*place) == text


@settings(deadline=None)
@given(st.data(), grids(dyadic=True))
def test_box_finds_what_brute_force_finds(data: st.DataObject, grid: TilingGrid) -> None:
    """Box edges in eighths of a pixel, within the grid and around it."""
    edges = []
    for n, origin, step in zip(
        grid.shape_yx, (grid.origin_y, grid.origin_x), (grid.resolution_y, grid.resolution_x), strict=True
    ):
        pair = data.draw(st.sets(st.integers(-20, 8 * n + 20), min_size=2, max_size=2))
        edges.append(sorted(float(origin + F(i, 8) * step) for i in pair))
    (bottom, top), (left, right) = edges
    assert grid.get_chunks_for_bbox((left, bottom, right, top)) == overlapping(grid, (left, bottom, right, top))


@pytest.mark.parametrize(("grid", "point", "region"), [(WORLD, (180, 5), "10N_180W"), (WORLD, (-185, 5), "10N_170E"), (WORLD_360, (-5, 5), "10N_350E")])  # fmt: skip
def test_longitude_of_another_turn_is_the_same_place(grid: TilingGrid, point: tuple[float, float], region: str) -> None:
    assert grid.region_at(*point) == region


def test_box_of_longitudes_selects_no_more_than_it_truly_overlaps_in_a_projected_grid() -> None:
    """Colorado's parallels are curves in EPSG:5070, so its enclosing rectangle holds regions that it does not touch."""
    grid = TilingGrid("EPSG:5070", F(-1_200_000), F(2_100_000), F(1000), F(-1000), (800, 800), (30, 30))
    found = set(grid.regions((-109.06, 36.99, -102.04, 41.0), LONLAT))
    corners = {grid.region_at(x, y, LONLAT) for x in (-109.05, -105, -102.05) for y in (37, 39, 40.99)}
    enclosing = len({r[0] for r in grid.get_chunks_for_bbox((-109.06, 36.99, -102.04, 41.0), LONLAT)}) * len(
        {r[1] for r in grid.get_chunks_for_bbox((-109.06, 36.99, -102.04, 41.0), LONLAT)}
    )
    assert corners <= found
    assert len(found) < enclosing
