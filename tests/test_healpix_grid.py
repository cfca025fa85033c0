"""Grids of HEALPix cells, and points in grids of both kinds, against brute force."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest
import shapely
from healpix_geo import nested
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeingest import HealpixGrid, TilingGrid
from cubeingest.axes import Axis
from cubeingest.errors import GridError

WHOLE = HealpixGrid(5, 2, axes=(Axis("cycle", (22, 23)),))
SOME = HealpixGrid(5, 2, parents=(3, 17, 100, 191))
LONLAT = TilingGrid("EPSG:4326", F(-180), F(90), F(1, 3), F(-1, 3), (540, 1080), (100, 170))
PART = TilingGrid("EPSG:4326", F(150), F(-40), F(1, 7), F(1, 7), (300, 400), (64, 64))
"""Past the antimeridian, rows from south to north."""

places = st.lists(st.tuples(st.floats(-180, 360), st.floats(-90, 90)), min_size=1, max_size=50)


def test_a_region_is_a_run_of_cells_named_by_its_parent() -> None:
    assert WHOLE.lattice_shape_yx == (1, 192)
    assert (WHOLE.spatial_dims, WHOLE.spatial_shape, WHOLE.region_shape) == (("cells",), (12 * 4**5,), (64,))
    assert WHOLE.region("17", cycle=22) == {"cycle": slice(0, 1), "cells": slice(17 * 64, 18 * 64)}
    assert WHOLE.chunks("17", {"cycle": 1, "cells": 32}) == {"cycle": slice(0, 2), "cells": slice(34, 36)}
    assert SOME.region("100") == {"cells": slice(128, 192)}
    assert [SOME.region_index(r)[1] for r in SOME.region_ids()] == [0, 1, 2, 3]
    np.testing.assert_array_equal(SOME.cell_ids(slice(128, 192)), np.arange(6400, 6464))


@pytest.mark.parametrize("name", ["192", "-1", "017", "x", "", "1.0", "9" * 30, "²"])
def test_an_id_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(GridError, match="no region"):
        WHOLE.region(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"region_order": 6}, "0 <= region_order <= order"),
        ({"order": 30}, "<= 29"),
        ({"order": 20}, "at most 4194304 may be aggregated"),
        ({"ellipsoid": "WGS48"}, "did you mean 'WGS84'"),
        ({"parents": (5, 3)}, "ascending"),
        ({"parents": (192,)}, "from 0 to 191"),
        ({"parents": ()}, "at least one"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(GridError, match=message):
        HealpixGrid(**{"order": 5, "region_order": 2, **change})  # type: ignore[arg-type]


@given(places)
@settings(max_examples=60, deadline=None)
def test_points_lie_in_the_cells_that_healpix_says(points: list[tuple[float, float]]) -> None:
    lon, lat = np.array(points).T
    cells = nested.lonlat_to_healpix(lon, lat, 5, ellipsoid="WGS84").astype(np.int64)
    found = WHOLE.locate(lon, lat)
    np.testing.assert_array_equal(found, cells)
    np.testing.assert_array_equal(WHOLE.regions_of(found), cells // 64)
    some = SOME.locate(lon, lat)
    inside = np.isin(cells // 64, SOME.parents)
    np.testing.assert_array_equal(some >= 0, inside)
    np.testing.assert_array_equal(SOME.cell_ids()[some[inside]], cells[inside])


@pytest.mark.parametrize("grid", [LONLAT, PART])
@given(points=places)
@settings(max_examples=60, deadline=None)
def test_points_lie_in_the_pixels_whose_edges_hold_them(grid: TilingGrid, points: list[tuple[float, float]]) -> None:
    lon, lat = np.array(points).T
    found = grid.locate(lon, lat)
    regions, nx = grid.regions_of(np.maximum(found, 0)), grid.lattice_shape_yx[1]
    for (x, y), cell, region in zip(points, found.tolist(), regions.tolist(), strict=True):
        if is_near_edge(x - grid.bounds()[0], grid.resolution_x) or is_near_edge(
            y - grid.bounds()[1], grid.resolution_y
        ):
            continue  # to a millionth of a pixel region_at takes a place for the edge itself
        try:
            name = grid.region_at(x, y)
        except GridError:
            left, bottom, right, top = grid.bounds()
            on_right = right - left < 360 and any(x + turn == right for turn in (-360, 0, 360))
            assert cell < 0 or on_right or y in (bottom, top)
            continue
        row, column = divmod(cell, grid.shape_yx[1])
        assert grid.region_id(*divmod(region, nx)) == name
        ys, xs = grid.slices(*divmod(region, nx))
        assert ys.start <= row < ys.stop
        assert xs.start <= column < xs.stop
        within = int(grid.cells_within(region, np.array([cell]))[0])
        assert within == (row - ys.start) * (xs.stop - xs.start) + column - xs.start


def is_near_edge(along: float, step: F) -> bool:
    place = along / abs(float(step))
    return place != round(place) and abs(place - round(place)) < 2e-6


def test_points_on_edges_belong_to_the_higher_index_and_on_the_last_edge_to_the_last_pixel() -> None:
    grid = TilingGrid("EPSG:32633", F(0), F(100), F(1, 10), F(-1, 10), (1000, 1000), (1000, 1000))
    k = np.arange(1001)
    edges = np.array([float(F(int(i), 10)) for i in k])
    np.testing.assert_array_equal(grid.locate(edges, np.full(1001, 99.95)), np.minimum(k, 999))
    tops = np.array([float(100 - F(int(i), 10)) for i in k])
    np.testing.assert_array_equal(grid.locate(np.full(1001, 0.05), tops) // 1000, np.minimum(k, 999))
    assert grid.locate(np.array([np.nan, np.inf, -0.1, 5.0]), np.array([1.0, 1.0, 1.0, 100.1])).tolist() == [-1] * 4


def test_longitudes_of_every_turn_are_the_same_place() -> None:
    lon, lat = np.array([-170.0, 190.0, 170.0, -190.0, 180.0, -180.0]), np.zeros(6)
    for grid in (WHOLE, LONLAT):
        a, b, c, d, e, f = grid.locate(lon, lat).tolist()
        assert (a, c, e) == (b, d, f)
    assert PART.locate(np.array([-170.0, 190.0, 140.0]), np.full(3, -30.0)).tolist()[2] == -1


@given(st.floats(-180, 180), st.floats(-90, 89), st.floats(0.1, 300), st.floats(0.1, 100))
@settings(max_examples=40, deadline=None)
def test_no_region_of_a_box_or_polygon_is_missed(west: float, south: float, width: float, height: float) -> None:
    """Each point of the box lies in a region that is found for it."""
    north = min(90.0, south + height)
    rng = np.random.default_rng(0)
    lon, lat = (west + width * rng.random(300) + 180) % 360 - 180, south + (north - south) * rng.random(300)
    regions = set(WHOLE.regions_of(WHOLE.locate(lon, lat)).tolist())
    east = west + width
    by_box = {ix for _, ix in WHOLE.get_chunks_for_bbox((west, south, east if east <= 180 else east - 360, north))}
    by_shape = {ix for _, ix in WHOLE.get_chunks_for_shape(shapely.box(west, south, east, north))}
    assert regions <= by_box
    assert regions <= by_shape


def test_bounds_of_a_region_hold_its_cells() -> None:
    for name in ("0", "17", "64", "130", "191"):
        left, bottom, right, top = WHOLE.bounds(name)
        lon, lat = WHOLE.area(name).centres()
        turned = np.where(lon < left, lon + 360, lon)
        assert ((turned >= left) & (turned <= right) & (lat >= bottom) & (lat <= top)).all()
