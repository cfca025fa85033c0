"""Computing at the edges of the world: nothing is counted twice, smeared round the globe, or rounded without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import cubeingest as ci
from cubeingest.errors import GridError

WORLD = """\
name: world
crs: {crs}
grid: {{origin: {{x: {x}, y: {y}}}, resolution: {{x: {step}, y: -{step}}}, shape: {{y: {ny}, x: {nx}}}, region: {{y: {ny}, x: {nx}}}}}
axes: {{year: {{values: [1, 2]}}}}
variables:
  v: {{dtype: {dtype}, fill_value: 0, chunks: {{y: {ny}, x: {nx}}}}}
store: ./world.icechunk
"""


def make(folder: Path, value: Any, dtype: str = "uint8", **grid: Any) -> ci.Cube:
    lattice = {"crs": "EPSG:4326", "x": -180, "y": 90, "step": 1, "ny": 180, "nx": 360} | grid
    (folder / "grid.yaml").write_text(WORLD.format(dtype=dtype, **lattice))
    cube = ci.init(folder / "grid.yaml")
    cube.ingest(source=lambda geobox, year: np.full(geobox.shape, value, dtype))
    return cube


def zone(folder: Path, *ring: tuple[float, float]) -> Path:
    place = folder / "zone.geojson"
    place.write_text(json.dumps({"type": "Polygon", "coordinates": [[*ring, ring[0]]]}))
    return place


def box(west: float, south: float, east: float, north: float) -> list[tuple[float, float]]:
    return [(west, south), (east, south), (east, north), (west, north)]


def count(cube: ci.Cube, place: Path) -> float:
    return float(cube.zonal(place, ["count"], year=1).rows()["count"][0])


def test_box_across_the_seam_is_refused_rather_than_taken_for_the_globe(tmp_path: Path) -> None:
    cube = make(tmp_path, 1)
    with pytest.raises(GridError, match="ask for its two parts"):
        cube.transitions({"year": 1}, {"year": 2}, bbox=(170, -10, -170, 10))
    found = cube.transitions({"year": 1}, {"year": 2}, bbox=(170, -10, 180, 10))
    assert [n for n, _ in found.counts.values()] == [200]


def test_zone_across_the_antimeridian_has_the_area_of_one_elsewhere_on_a_projected_grid(tmp_path: Path) -> None:
    cube = make(tmp_path, 1, crs="EPSG:6933", x=-17360000, y=7000000, step=100000, ny=140, nx=347)
    elsewhere = count(cube, zone(tmp_path, *box(160, -10, 170, 10)))
    assert count(cube, zone(tmp_path, *box(175, -10, 185, 10))) == pytest.approx(elsewhere, rel=0.05)
    assert count(cube, zone(tmp_path, *box(-185, -10, -175, 10))) == pytest.approx(elsewhere, rel=0.05)


def test_zone_that_holds_the_whole_of_a_projected_grid_holds_every_pixel(tmp_path: Path) -> None:
    cube = make(tmp_path, 1, crs="EPSG:3035", x=4000000, y=3000000, step=10000, ny=40, nx=40)
    assert count(cube, zone(tmp_path, *box(-180, -60, 180, 85))) == pytest.approx(1600)


def test_zone_over_the_edge_of_another_projection_is_refused_by_name(tmp_path: Path) -> None:
    crs = "+proj=cea +lat_ts=30 +lon_0=100 +datum=WGS84 +units=m"
    cube = make(tmp_path, 1, crs=f'"{crs}"', x=-17360000, y=7000000, step=100000, ny=140, nx=347)
    with pytest.raises(GridError, match=r"zone 0 goes over the edge of the grid's CRS"):
        cube.zonal(zone(tmp_path, *box(-85, -10, -75, 10)), ["count"], year=1)


def test_expression_of_large_integers_keeps_their_digits(tmp_path: Path) -> None:
    cube = make(tmp_path, 20240101, "int32", ny=4, nx=4)
    cube.compute("max", "year", expr="v + 0", output=tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as src:
        assert src.dtypes == ("float64",)
        assert (src.read(1) == 20240101).all()


def test_variable_computed_before_the_cube_grew_is_computed_anew_or_not_at_all(tmp_path: Path) -> None:
    cube = make(tmp_path, 3, ny=4, nx=4)
    cube.compute("mean", "year", into="m")
    cube.extend(year=3)
    cube.ingest(source=lambda geobox, year: np.full(geobox.shape, 9, "uint8"), variable="v", year=3)
    with pytest.raises(GridError, match=r"since when the cube has grown \(year\): --redo"):
        cube.compute("mean", "year", into="m")
    cube.compute("mean", "year", into="m", redo=True)
    assert (cube.dataset().m == 5).all()


@pytest.mark.parametrize(
    "text",
    ['{"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1]]]}',
     '{"type": "FeatureCollection", "features": ["a"]}', '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": [1], "geometry": null}]}',
     "[" * 5000],
)  # fmt: skip
def test_file_that_is_no_zones_is_named(tmp_path: Path, text: str) -> None:
    cube = make(tmp_path, 1, ny=4, nx=4)
    place = tmp_path / "bad.geojson"
    place.write_text(text)
    with pytest.raises(GridError, match=r"bad.geojson"):
        cube.zonal(place, ["count"], year=1)


def test_regions_that_are_pending_count_as_missing(tmp_path: Path) -> None:
    cube = make(tmp_path, 1, ny=4, nx=4)
    text = (
        (tmp_path / "grid.yaml")
        .read_text()
        .replace("region: {y: 4, x: 4}", "region: {y: 2, x: 4}")
        .replace("chunks: {y: 4", "chunks: {y: 2")
    )
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "grid.yaml").write_text(text)
    half = ci.init(tmp_path / "half" / "grid.yaml")
    half.ingest(source=lambda geobox, year: np.full(geobox.shape, 1, "uint8"), region="y0_x0")
    found = half.transitions({"year": 1}, {"year": 2})
    whole = cube.transitions({"year": 1}, {"year": 2})
    (n, area), (all_n, all_area) = found.counts[1, 1], whole.counts[1, 1]
    assert (n, found.missing[0]) == (8, 8)
    assert area + found.missing[1] == pytest.approx(all_area)
    assert all_n == 16
    report: Any = half.compute("mean", "year", output=tmp_path / "half.tif")
    assert (report.pixels, report.missing) == (16, 8)


def test_expression_that_cannot_be_computed_is_refused_before_any_work(tmp_path: Path) -> None:
    cube = make(tmp_path, 1, ny=4, nx=4)
    with pytest.raises(GridError, match="expression 'v and v' cannot be computed"):
        cube.compute("mean", "year", expr="v and v", output=tmp_path / "a.tif")


def test_spec_that_lacks_what_compute_added_says_so_when_it_is_to_grow(tmp_path: Path) -> None:
    cube = make(tmp_path, 3, ny=4, nx=4)
    cube.compute("mean", "year", into="m")
    (tmp_path / "longer.yaml").write_text((tmp_path / "grid.yaml").read_text().replace("[1, 2]", "[1, 2, 3]"))
    with pytest.raises(ci.SpecError, match=r"`compute --into` added m to the cube"):
        cube.extend(tmp_path / "longer.yaml")


def test_zones_that_go_round_the_globe_more_than_once_are_refused(tmp_path: Path) -> None:
    cube = make(tmp_path, 1)
    with pytest.raises(GridError, match=r"zone 0 is wider than 360 degrees"):
        cube.zonal(zone(tmp_path, *box(-190, 10, 190, 20)), ["count"], year=1)
    assert count(cube, zone(tmp_path, *box(-180, 10, 180, 20))) == pytest.approx(3600)


def test_raster_of_zones_is_of_whole_numbers(tmp_path: Path) -> None:
    cube = make(tmp_path, 1, ny=4, nx=4)
    cube.compute("mean", "year", output=tmp_path / "floats.tif")
    with pytest.raises(GridError, match=r"floats.tif' is float32: zones are whole numbers"):
        cube.zonal(tmp_path / "floats.tif", ["count"], year=1)


def test_empty_table_of_points_is_said_to_be_empty(tmp_path: Path) -> None:
    cube = make(tmp_path, 1, ny=4, nx=4)
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(GridError, match=r"a.csv' is empty"):
        cube.series(tmp_path / "a.csv")
