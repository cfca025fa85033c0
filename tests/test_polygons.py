"""Which regions share an area with a polygon, wherever on the globe its parts lie; by brute force, point by point."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest
import shapely
from pyproj import Transformer

import cubeingest as ci
from cubeingest.grid import TilingGrid

LONLAT = "OGC:CRS84"


def grid_of(crs: str, left: float, top: float, size: float = 1000, n: int = 400, region: int = 100) -> TilingGrid:
    return TilingGrid(crs, F(left), F(top), F(size), F(-size), (n, n), (region, region))


GRIDS = {
    "utm": grid_of("EPSG:32631", 300_000, 5_300_000),
    "utm at the antimeridian": grid_of("EPSG:32601", 100_000, 7_500_000),
    "laea": grid_of("EPSG:3035", 4_000_000, 3_000_000),
    "laea of all of Europe": grid_of("EPSG:3035", 1_000_000, 6_000_000, 10_000, 600, 170),
    "lcc": grid_of("EPSG:2154", 600_000, 6_600_000),
    "polar, the pole in a region": grid_of("EPSG:3413", -950_000, 950_000, 5000),
    "polar, the pole on a corner": grid_of("EPSG:3413", -1_000_000, 1_000_000, 5000),
    "polar, the pole on an edge": grid_of("EPSG:3031", -1_000_000, 1_250_000, 5000),
    "mercator": grid_of("EPSG:3857", 300_000, 5_300_000),
    "mercator of the world": grid_of("EPSG:3857", -20_000_000, 20_000_000, 100_000),
    "sinusoidal world": TilingGrid("ESRI:54008", F(-20_015_109), F(10_007_554), F(100_000), F(-100_000), (200, 400), (40, 50)),
    "other datum": TilingGrid("EPSG:4258", F(-180), F(90), F(1), F(-1), (180, 360), (30, 43)),
    "longitudes": TilingGrid("EPSG:4326", F(0), F(90), F(1), F(-1), (180, 360), (30, 43)),
}  # fmt: skip

FAR = [shapely.box(-130, -50, -40, 60), shapely.box(110, -40, 155, -10)]
SHAPES = {
    "near": shapely.box(-10.3, 35, 4.4, 46.1),
    "near and far away": shapely.MultiPolygon([shapely.box(0, 40, 3, 60), *FAR]),
    "near and both ends of the Pacific": shapely.MultiPolygon([shapely.box(0, 40, 3, 60), shapely.box(160, -60, 180, 60), shapely.box(-180, -60, -140, 60)]),
    "near and the Antarctic": shapely.MultiPolygon([shapely.box(-20, 45, 30, 60), shapely.box(-180, -90, 180, -60)]),
    "far away only": shapely.MultiPolygon(FAR),
    "world": shapely.box(-180, -90, 180, 90),
    "world with a hole": shapely.Polygon(shapely.box(-180, -90, 180, 90).exterior, [shapely.box(-40, 20, 1.5, 85).exterior]),
    "quarter": shapely.box(-30, 20, 60, 85),
    "beyond the antimeridian": shapely.box(170, 40, 200, 89),
    "round the pole": shapely.Polygon([(-180, 84.3), (-60, 86), (0, 88.2), (70, 85), (180, 84.3), (180, 90), (-180, 90)]),
    "country": shapely.Point(2.1, 46.3).buffer(2.2).symmetric_difference(shapely.Point(2.4, 46.5).buffer(0.9)),
}  # fmt: skip


N = 20
"""Points along a region's side."""


def points_of(grid: TilingGrid, iy: int, ix: int) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes and latitudes of a region's points, as far as they are on the globe."""
    left, bottom, right, top = (float(v) for v in grid._exact_bounds(*grid.slices(iy, ix)))
    t = (np.arange(N) + 0.5) / N
    x, y = np.meshgrid(left + t * (right - left), bottom + t * (top - bottom))
    lon, lat = Transformer.from_crs(grid.crs, LONLAT, always_xy=True).transform(x, y)
    back = Transformer.from_crs(LONLAT, grid.crs, always_xy=True).transform(lon, lat)
    with np.errstate(invalid="ignore"):
        real = np.hypot(back[0] - x, back[1] - y) < 100
    return lon[real], lat[real]


@pytest.mark.parametrize("place", GRIDS)
def test_polygon_selects_the_regions_that_hold_one_of_its_points(place: str) -> None:
    """And no other but those that are as near to it as a point is to the next."""
    grid = GRIDS[place]
    ny, nx = grid.lattice_shape_yx
    points = {(iy, ix): points_of(grid, iy, ix) for iy in range(ny) for ix in range(nx)}
    step = (
        float(grid.resolution_x)
        * grid.region_shape_yx[1]
        / N
        / (1 if place in ("other datum", "longitudes") else 111_000)
    )
    for kind, shape in SHAPES.items():
        turned = [shapely.affinity.translate(shape, t) for t in (-360, 0, 360)]
        for part in turned:
            shapely.prepare(part)
        held = {at for at, (lon, lat) in points.items() if any(shapely.contains_xy(p, lon, lat).any() for p in turned)}
        found = set(grid.get_chunks_for_shape(shape, LONLAT))
        assert held <= found, kind
        for at in found - held:
            lon, lat = points[at]
            reach = 2 * step / np.maximum(np.cos(np.radians(lat)), 1e-3)
            assert any(shapely.dwithin(p, shapely.points(lon, lat), reach).any() for p in turned), (kind, at)


def test_polygon_as_thin_as_a_hair_in_a_corner_is_found() -> None:
    """A tenth of a metre wide, beside the curved edge of a region of 400 km."""
    grid = grid_of("EPSG:32631", 300_000, 5_300_000, 1000, 400, 400)
    to = Transformer.from_crs(grid.crs, LONLAT, always_xy=True)
    for inside, expected in ((0.2, [(0, 0)]), (-0.2, [])):
        corners = [
            to.transform(500_000 + dx, 5_300_000 - inside + dy) for dx, dy in ((0, 0), (50, 0), (50, -0.1), (0, -0.1))
        ]
        hair = shapely.Polygon(corners)
        assert grid.get_chunks_for_shape(hair, LONLAT) == expected


def test_polygon_of_a_projected_crs_selects_regions_beyond_the_antimeridian() -> None:
    grid = TilingGrid("EPSG:4326", F(-180), F(80), F(1, 4000), F(-1, 4000), (560_000, 1_440_000), (40_000, 40_000))
    assert grid.get_chunks_for_shape(shapely.box(200_000, 7_100_000, 500_000, 7_200_000), "EPSG:32601") == [
        (1, 0),
        (1, 35),
    ]


def test_polygon_onto_a_grid_of_another_body_is_refused() -> None:
    mars = 'GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000_IAU_IAG",3396190,169.894447]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]'
    local = 'LOCAL_CS["a survey",UNIT["metre",1]]'
    for crs in (mars, local):
        grid = grid_of(crs, 0, 40, 0.1)
        with pytest.raises(ci.GridError, match="nothing leads from CRS"):
            grid.get_chunks_for_shape(shapely.box(0, 0, 9, 9), LONLAT)
        with pytest.raises(ci.GridError, match="nothing leads from CRS"):
            grid.regions((0, 0, 9, 9), LONLAT)
        with pytest.raises(ci.GridError, match="nothing leads from CRS"):
            grid.region_at(3, 3, LONLAT)
