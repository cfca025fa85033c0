"""Cells of HEALPix against brute force: every cell that a dense sample of points within a box or polygon hits."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import shapely
from healpix_geo import nested
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cubeingest import healpix
from cubeingest.errors import GridError
from cubeingest.healpix import (
    ELLIPSOIDS,
    all_bounds,
    bounds,
    cells_at,
    centres,
    count_cells,
    cover_box,
    cover_shape,
    outlines,
)

Box = tuple[float, float, float, float]

ellipsoids = st.sampled_from(["WGS84", "sphere"])
EITHER = ["WGS84", pytest.param("sphere", marks=pytest.mark.slow)]


def hit(box: Box, order: int, ellipsoid: str, n: int = 300) -> set[int]:
    """The cells of n x n points within a box, some of them all but on its edges."""
    west, south, east, north = box
    east += 360 if west > east else 0
    t = np.concatenate([[1e-7], (np.arange(n) + 0.5) / n, [1 - 1e-7]])
    lon, lat = np.meshgrid(west + (east - west) * t, np.maximum(south, -90) + (min(north, 90) - max(south, -90)) * t)
    return set(np.unique(cells_at((lon + 180) % 360 - 180, lat, order, ellipsoid)).tolist())


def areas(cells: np.ndarray, order: int, ellipsoid: str, n: int = 64) -> np.ndarray:
    """Cells as polygons."""
    return np.array([shapely.Polygon(r) for r in outlines(cells, order, ellipsoid, n)], object)


def nearly(shape: shapely.Geometry, cells: np.ndarray, order: int, ellipsoid: str, within: float) -> np.ndarray:
    """Which cells come as near to ``shape`` as ``within``, by outlines of many points, in three turns."""
    if not len(cells):
        return np.ones(0, bool)
    turned = [
        shapely.transform(areas(cells, order, ellipsoid), lambda xy, t=t: xy + np.array([t, 0])) for t in (-360, 0, 360)
    ]
    return np.logical_or.reduce([shapely.dwithin(shape, r, within) for r in turned])


# ---- points ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ellipsoid", ELLIPSOIDS)
@pytest.mark.parametrize("order", [0, 1, 5, 12, 29])
def test_centre_of_a_cell_lies_in_that_cell(order: int, ellipsoid: str) -> None:
    cells = np.unique(np.random.default_rng(1).integers(0, count_cells(order), 1000))
    lon, lat = centres(cells, order, ellipsoid)
    assert np.abs(lon).max() <= 180
    np.testing.assert_array_equal(cells_at(lon, lat, order, ellipsoid), cells)
    np.testing.assert_array_equal(cells_at(np.where(lon < 0, lon + 360, lon), lat, order, ellipsoid), cells)


def test_point_that_is_not_finite_has_no_cell_and_the_others_keep_their_place() -> None:
    lon, lat = np.array([[0, np.nan, 10], [np.inf, 20, -360]]), np.array([[5, 5, np.nan], [5, -np.inf, 5]])
    found = cells_at(lon, lat, 4, "WGS84")
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found >= 0, [[True, False, False], [False, False, True]])
    assert found[0, 0] == found[1, 2] == nested.lonlat_to_healpix([0.0], [5.0], 4, ellipsoid="WGS84")[0]
    assert cells_at([], [], 4, "WGS84").shape == (0,)
    assert int(cells_at(0.0, 5.0, 4, "WGS84")) == found[0, 0]


def test_ellipsoid_is_never_left_out() -> None:
    lon, lat = np.random.default_rng(0).uniform(-180, 180, 5000), np.random.default_rng(1).uniform(-85, 85, 5000)
    assert (cells_at(lon, lat, 12, "WGS84") != cells_at(lon, lat, 12, "sphere")).mean() > 0.9


@pytest.mark.parametrize(
    ("lon", "lat", "order", "ellipsoid", "message"),
    [
        (0, 90.001, 3, "WGS84", "latitude 90.001 lies beyond ±90"),
        (500_000, 4_000_000, 3, "WGS84", "latitude 4e.06 lies beyond"),
        (-360.5, 4, 3, "WGS84", "longitude -360.5 lies beyond ±360"),
        (0, 0, 30, "WGS84", "order 30 is none"),
        (0, 0, -1, "WGS84", "order -1 is none"),
        (0, 0, 2.0, "WGS84", "order 2.0 is none"),
        (0, 0, 3, "wgs84", "no ellipsoid is named 'wgs84': there are WGS84"),
    ],
)
def test_what_is_no_point_order_or_ellipsoid_is_refused(
    lon: float, lat: float, order: int, ellipsoid: str, message: str
) -> None:
    with pytest.raises(GridError, match=message):
        cells_at([lon], [lat], order, ellipsoid)


@pytest.mark.parametrize("cells", [[-1], [count_cells(2)], [0.5]])
def test_id_that_no_cell_has_is_refused(cells: list[int]) -> None:
    for call in (centres, all_bounds, lambda *a: outlines(*a, 2)):
        with pytest.raises(GridError, match=r"id|whole numbers"):
            call(cells, 2, "WGS84")


def test_missing_library_is_an_error_that_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['healpix_geo'] = None\n"
        "from cubeingest.healpix import cells_at\nfrom cubeingest.errors import ExtraError\n"
        "try:\n    cells_at([0], [0], 3, 'WGS84')\nexcept ExtraError as e:\n    print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'cubeingest[points]'" in done.stdout


# ---- outlines and bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ellipsoid", ["WGS84", "sphere"])
@pytest.mark.parametrize("order", [0, 1, 2, 4])
def test_outlines_of_all_cells_cover_the_globe_once_and_lie_within_their_bounds(order: int, ellipsoid: str) -> None:
    cells = np.arange(count_cells(order))
    rings, boxes = outlines(cells, order, ellipsoid, 50), all_bounds(cells, order, ellipsoid)
    shapes = areas(cells, order, ellipsoid, 50)
    assert shapely.is_valid(shapes).all()
    assert shapely.area(shapes).sum() == pytest.approx(360 * 180, rel=1e-3)
    found = np.array([[*r.min(axis=0), *r.max(axis=0)] for r in rings])
    np.testing.assert_allclose(found, boxes, atol=1e-9)
    assert ((boxes[:, 0] >= -180) & (boxes[:, 0] < 180) & (boxes[:, 2] <= 360)).all()
    lon, lat = centres(cells, order, ellipsoid)
    assert np.logical_or.reduce([shapely.contains_xy(shapes, lon + t, lat) for t in (0, 360)]).all()
    for ring in rings:
        assert (ring[0] == ring[-1]).all()
        assert (np.diff(ring, axis=0) != 0).any(axis=1).all()


def test_bounds_of_cells_at_the_pole_and_across_the_antimeridian() -> None:
    assert bounds(3, 1, "sphere") == pytest.approx((0, 41.8103149, 90, 90))
    assert bounds(6, 0, "WGS84")[::2] == (135.0, 225.0)
    assert bounds(10, 0, "WGS84") == pytest.approx((-180, -90, -90, 0))
    first, _ = outlines([3], 1, "sphere", 1)[0][:2]
    assert outlines([3], 1, "sphere", 1)[0].tolist() == pytest.approx(
        np.array([[45, first[1]], [90, 66.44353569], [90, 90], [0, 90], [0, 66.44353569], [45, first[1]]])
    )


@pytest.mark.parametrize("ellipsoid", ELLIPSOIDS)
def test_heights_in_the_plane_equal_those_of_the_librarys_corners(ellipsoid: str) -> None:
    order = 7
    cells = np.arange(count_cells(order))
    _, lat = nested.vertices(cells.astype(np.uint64), order, ellipsoid=ellipsoid)
    _, y, _ = healpix._squares(cells, order)
    side = 2.0**-order
    for corner, at in ((0, y - side), (1, y), (2, y + side)):
        np.testing.assert_allclose(healpix._heights(lat[:, corner], ellipsoid), at, atol=3e-14)


# ---- boxes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ellipsoid", EITHER)
@pytest.mark.parametrize(
    "box",
    [
        (-180, -90, 180, 90),
        (-180, -90, 180, -60),
        (-180, 80, 180, 90),
        (10, 89.5, 10.1, 90),
        (10, 20, 10.001, 20.001),  # within one cell
        (-50, -50, 60, 60),  # with whole cells inside
        (170, -10, -170, 10),
        (179, -90, -179, 90),
        (0, 0, 45, 41),
        (89, 30, 91, 70),  # across two quadrants of a cap
        (100, 0, 460, 5),
        (350, -5, 370, 5),
        (-45, 41.9, 45, 42.1),
        (3, -95, 4, 95),
    ],
)
def test_cells_of_a_box_equal_brute_force(box: Box, ellipsoid: str) -> None:
    for order in (0, 1, 3, 5):
        found = cover_box(box, order, ellipsoid)
        assert (np.diff(found) > 0).all()
        wanted = hit(box, order, ellipsoid)
        assert wanted - set(found.tolist()) == set()
        # What a sample of points does not hit is a mere corner of a cell; it lies in the box all the same.
        rest = np.setdiff1d(found, list(wanted))
        west, south, east, north = box
        shape = shapely.box(west, south, east + 360 * (west > east), north)
        assert nearly(shape, rest, order, ellipsoid, 1e-3).all()


@settings(max_examples=200, deadline=None)
@given(
    west=st.floats(-180, 179.99),
    south=st.floats(-90, 89.99),
    width=st.floats(-9, 2.556).map(lambda e: 10**e),
    height=st.floats(-9, 2.255).map(lambda e: 10**e),
    order=st.integers(0, 10),
    ellipsoid=ellipsoids,
)
@example(0.0, 0.0, 1e-6, 1e-6, 5, "WGS84")
@example(45.0, 89.0, 90.0, 1.0, 3, "sphere")
def test_no_cell_with_a_point_in_a_box_is_missing(
    west: float, south: float, width: float, height: float, order: int, ellipsoid: str
) -> None:
    box = (west, south, min(west + width, west + 360), min(south + height, 90.0))
    while order > 4 and (box[2] - box[0]) * (box[3] - box[1]) > 0.01 * 4.0 ** (9 - order) * 100:
        order -= 1
    if box[2] - box[0] > 1e-9 and box[3] - box[1] > 1e-9:
        assert hit(box, order, ellipsoid, 60) - set(cover_box(box, order, ellipsoid).tolist()) == set()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), order=st.integers(0, 10), ellipsoid=ellipsoids)
def test_box_within_one_cell_has_that_cell_alone_and_the_box_around_a_cell_has_it(
    data: st.DataObject, order: int, ellipsoid: str
) -> None:
    cell = data.draw(st.integers(0, count_cells(order) - 1))
    lon, lat = (v.item() for v in centres([cell], order, ellipsoid))
    left, bottom, right, top = bounds(cell, order, ellipsoid)
    dx, dy = (right - left) / 20, (top - bottom) / 20
    if abs(lat) < 85:
        assert cover_box((lon - dx, lat - dy, lon + dx, lat + dy), order, ellipsoid).tolist() == [cell]
    assert cell in cover_box((left, bottom, right, top), order, ellipsoid)


def test_cells_that_a_box_only_touches_do_not_count() -> None:
    """The equator runs through corners of cells, a meridian of 0 along the edges of some near the poles."""
    north, south = (cover_box((-180, s, 180, s + 90), 6, "WGS84") for s in (0, -90))
    astride = np.intersect1d(north, south)
    _, lat = centres(astride, 6, "WGS84")
    assert (len(astride), len(np.union1d(north, south))) == (4 * 64, count_cells(6))
    np.testing.assert_allclose(lat, 0, atol=1e-9)
    assert cover_box((0, 85, 90, 90), 2, "sphere").tolist() == [15]
    assert cover_box((90, -90, 180, -85), 2, "sphere").tolist() == [9 * 16]
    assert len(cover_box((-180, -90, 180, 90), 6, "sphere")) == count_cells(6)


def test_tiny_box_at_a_corner_of_cells_has_at_least_the_cell_of_its_middle() -> None:
    box = (-1e-13, -1e-13, 1e-13, 1e-13)
    assert cells_at(0.0, 0.0, 8, "WGS84") in cover_box(box, 8, "WGS84")


@pytest.mark.parametrize("box", [(0, 5, 10, 5), (3, 0, 3, 4), (0, 10, 5, 0), (0, 0, float("nan"), 1)])
def test_box_without_area_is_refused(box: Box) -> None:
    with pytest.raises(GridError):
        cover_box(box, 3, "WGS84")


# ---- polygons -------------------------------------------------------------------------------------------------

RING = shapely.Point(20, 40).buffer(25).difference(shapely.Point(20, 40).buffer(15))
ACROSS = shapely.Polygon([(160, -20), (200, -30), (210, 30), (170, 40)])
SHAPES = {
    "ring": RING,
    "across 180": ACROSS,
    "in two parts": shapely.union_all([
        ACROSS.intersection(shapely.box(-180, -90, 180, 90)),
        shapely.transform(ACROSS.intersection(shapely.box(180, -90, 540, 90)), lambda xy: xy - [360, 0]),
    ]),
    "antarctic": shapely.Polygon([(-180, -90), (180, -90), (180, -70), (60, -65), (0, -75), (-90, -64), (-180, -70)]),
    "sliver": shapely.Polygon([(-100, -10), (100, 60), (100, 60.01)]),
    "arctic": shapely.box(-30, 75, 300, 90),
    "tiny": shapely.box(12.0, 71.0, 12.0001, 71.0001),
    "two": shapely.MultiPolygon([shapely.box(0, 0, 3, 3), shapely.box(120, 80, 130, 85)]),
}  # fmt: skip


@pytest.mark.parametrize("ellipsoid", EITHER)
@pytest.mark.parametrize("name", SHAPES)
def test_cells_of_a_polygon_equal_brute_force(name: str, ellipsoid: str) -> None:
    shape = SHAPES[name]
    parts = [shape, *shape.geoms] if hasattr(shape, "geoms") else [shape]
    lon, lat = np.empty(0), np.empty(0)
    for part in parts:
        west, south, east, north = part.bounds
        n = 250
        x, y = np.meshgrid(
            west + (east - west) * (np.arange(n) + 0.5) / n, south + (north - south) * (np.arange(n) + 0.5) / n
        )
        along = shapely.line_interpolate_point(part.boundary, np.linspace(0, 1, 5000), normalized=True)
        inside = shapely.contains_xy(part, x.ravel(), y.ravel())
        lon = np.concatenate([lon, x.ravel()[inside], shapely.get_x(along)])
        lat = np.concatenate([lat, y.ravel()[inside], shapely.get_y(along)])
    for order in (0, 2, 6):
        found = cover_shape(shape, order, ellipsoid)
        # The edge of the shape is part of it here: a cell that it only touches may come along, and does.
        missing = np.setdiff1d(cells_at((lon + 180) % 360 - 180, lat, order, ellipsoid), found)
        assert missing.tolist() == []
        assert (np.diff(found) > 0).all()
        size = 60.0 / 2**order
        assert nearly(shape, found, order, ellipsoid, 0.01 * size).all()


def test_polygon_across_the_antimeridian_is_the_same_in_two_parts_and_in_another_turn() -> None:
    whole = cover_shape(SHAPES["across 180"], 6, "WGS84")
    np.testing.assert_array_equal(cover_shape(SHAPES["in two parts"], 6, "WGS84"), whole)
    turned = shapely.transform(ACROSS, lambda xy: xy - [360, 0])
    np.testing.assert_array_equal(cover_shape(turned, 6, "WGS84"), whole)


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-200, 200), y=st.floats(-89, 89), size=st.floats(-4, 1.7).map(lambda e: 10**e), seed=st.integers(0, 99),
    order=st.integers(0, 9), ellipsoid=ellipsoids,
)  # fmt: skip
def test_no_cell_with_a_point_in_a_polygon_is_missing(
    x: float, y: float, size: float, seed: int, order: int, ellipsoid: str
) -> None:
    order = min(order, int(np.log2(60 / size)) + 4)
    rng = np.random.default_rng(seed)
    shape = shapely.MultiPoint(np.array([x, y]) + rng.uniform(-size, size, (6, 2))).convex_hull
    shape = shape.intersection(shapely.box(-720, -90, 720, 90))
    a, b, c = shapely.get_coordinates(shape)[:3]
    weights = rng.dirichlet([0.3, 0.3, 0.3], 3000)
    lon, lat = (weights @ np.array([a, b, c])).T
    hits = np.unique(cells_at((lon + 180) % 360 - 180, np.clip(lat, -90, 90), order, ellipsoid))
    assert np.setdiff1d(hits, cover_shape(shape, order, ellipsoid)).tolist() == []


def test_box_as_a_polygon_has_the_cells_of_the_box_and_at_most_such_as_touch_it() -> None:
    box = (-109.06, 36.99, -102.04, 41.0)
    from_box, from_shape = cover_box(box, 9, "WGS84"), cover_shape(shapely.box(*box), 9, "WGS84")
    assert np.setdiff1d(from_box, from_shape).tolist() == []
    assert nearly(shapely.box(*box), np.setdiff1d(from_shape, from_box), 9, "WGS84", 1e-4).all()
    assert len(from_shape) - len(from_box) < 10


@pytest.mark.parametrize(
    "shape",
    [shapely.Point(1, 2), shapely.Polygon(), shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])],
    ids=["point", "empty", "bow tie"],
)
def test_what_is_no_sound_polygon_is_refused(shape: shapely.Geometry) -> None:
    with pytest.raises(GridError, match=r"no area|not sound"):
        cover_shape(shape, 3, "WGS84")
