"""Parts of a grid: by polygon for one command, or by `valid` of the spec for good."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import zarr
from rasterio.transform import from_origin

import cubeingest as ci
from tests.conftest import CORNERS, Ran, World, write_tile

TRIANGLE = {"type": "Polygon", "coordinates": [[[1, 1], [9, 1], [1, 9], [1, 1]]]}
"""Within 10N_000E."""

CORNER_TO_CORNER = {"type": "Polygon", "coordinates": [[[0, 20], [9, 20], [9, 11], [0, 20]]]}
"""In 20N_000E; its enclosing box too."""


def add_valid(world: World, text: str) -> Path:
    return world.write_spec(("attrs: {license", f"valid: {text}\nattrs: {{license"))


@pytest.mark.parametrize("as_what", ["geometry", "plain", "text", "path", "feature"])
def test_polygon_selects_the_regions_that_it_shares_an_area_with(world: World, as_what: str) -> None:
    shape = shapely.union(shapely.from_geojson(json.dumps(TRIANGLE)), shapely.box(19, 11, 20, 12))
    plain = shapely.geometry.mapping(shape)
    feature = {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": plain}]}
    (world.folder / "shape.json").write_text(json.dumps(feature))
    polygon: Any = {"geometry": shape, "plain": plain, "text": json.dumps(plain), "path": world.folder / "shape.json", "feature": feature}[as_what]  # fmt: skip
    cube = ci.init(world.spec_file)
    assert [r["id"] for r in cube.regions(polygon=polygon)] == ["20N_010E", "10N_000E"]
    report = cube.ingest(polygon=polygon, year=2000)
    assert report.written == 2
    assert cube.status(polygon=polygon, year=2000).done == 2


def test_polygon_on_the_command_line(world: World, invoke: Callable[..., Ran]) -> None:
    (world.folder / "a.json").write_text(json.dumps(CORNER_TO_CORNER))
    (world.folder / "bad.json").write_text("{")
    (world.folder / "line.json").write_text('{"type": "LineString", "coordinates": [[0, 0], [1, 1]]}')
    assert invoke("init", "grid.yaml").code == 0
    ran = invoke("regions", "--polygon", "a.json", "--json")
    assert [r["id"] for r in ran.json["regions"]] == ["20N_000E"]
    assert invoke("ingest", "--polygon", "a.json", "--json").json["written"] == 2
    for name, message in (("bad.json", "is not GeoJSON"), ("line.json", "holds no polygon"), ("none.json", "cannot read polygon 'none.json'")):  # fmt: skip
        ran = invoke("plan", "--polygon", name)
        assert ran.code == 2
        assert message in ran.err


def test_polygon_elsewhere_and_polygon_that_crosses_itself_are_refused(world: World) -> None:
    cube = ci.init(world.spec_file)
    with pytest.raises(ci.GridError, match="the polygon overlaps no region of the grid"):
        cube.plan(polygon=shapely.box(100, 50, 110, 60))
    with pytest.raises(ci.GridError, match="not sound"):
        cube.plan(polygon=shapely.Polygon([(0, 0), (5, 5), (5, 0), (0, 2)]))


def test_polygon_beyond_the_antimeridian_reaches_the_other_end_of_the_grid() -> None:
    grid = ci.read_spec("glad-lclu").grid
    assert grid.get_chunks_for_shape(shapely.box(175, 1, 185, 9), "OGC:CRS84") == [(7, 0), (7, 35)]


def test_valid_by_list_restricts_every_command(world: World, invoke: Callable[..., Ran]) -> None:
    (world.folder / "ids.txt").write_text("# land\n20N_000E\n10N_020E\n")
    add_valid(world, "{list: ids.txt}")
    cube = ci.init(world.spec_file)
    assert [r["id"] for r in cube.regions()] == ["20N_000E", "10N_020E"]
    assert cube.status().total == 4
    report = cube.ingest()
    assert (report.planned, report.written, report.failed) == (4, 4, [])
    assert cube.status().done == 4
    assert cube.verify().checked == 4
    assert cube.check().findings == []
    values = cube.dataset()["cover"].values
    assert (values[:, :100, 100:] == 255).all()
    with pytest.raises(ci.GridError, match="region '10N_000E' is not among the 2 that `valid` of the spec leaves"):
        cube.plan(region="10N_000E")


def test_valid_is_computed_once_and_kept_in_the_cube(world: World, run: Callable[..., Ran]) -> None:
    (world.folder / "land.json").write_text(json.dumps(TRIANGLE))
    add_valid(world, "{geojson: land.json}")
    cube = ci.init(world.spec_file)
    assert [r["id"] for r in cube.regions()] == ["10N_000E"]
    (world.folder / "land.json").write_text(json.dumps(CORNER_TO_CORNER))
    assert [r["id"] for r in ci.open(world.store).regions()] == ["10N_000E"]
    ran = run("ingest", "--workers", "2", "--json", "--store", world.store)
    assert ran.json["written"] == 1
    with pytest.raises(ci.StoreError, match="valid regions"):
        ci.init(world.spec_file)
    assert [r["id"] for r in ci.init(world.spec_file, update=True).regions()] == ["20N_000E"]
    assert ci.open(world.store).status().done == 0  # what lies outside is no longer counted, and stays
    assert ci.open(world.store).check().findings == []
    world.write_spec()
    assert ci.init(world.spec_file, update=True).status().done == 1


def test_cube_that_has_lost_its_valid_regions_is_refused(world: World) -> None:
    (world.folder / "ids.txt").write_text("20N_000E\n")
    add_valid(world, "{list: ids.txt}")
    cube = ci.init(world.spec_file)
    before = cube.store.tip
    session = cube.store.writable()
    del zarr.open_group(session.store, path="cubeingest", mode="r+")["valid"]
    session.commit("by hand")
    with pytest.raises(ci.StoreError, match="damaged: its spec restricts the grid, and 'cubeingest/valid'"):
        ci.open(world.store)
    assert [r["id"] for r in ci.open(world.store, at=before).regions()] == ["20N_000E"]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_valid_by_raster_finds_every_region_with_a_pixel(world: World, crs: str) -> None:
    """A mask finer and coarser than the regions, in the grid's CRS and another; its nodata counts for nothing."""
    from pyproj import Transformer

    to = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    left, bottom = to.transform(0, 0)
    right, top = to.transform(25, 20)
    n = 400
    step_x, step_y = (right - left) / n, (top - bottom) / n
    mask = np.zeros((n, n), np.uint8)
    mask[:5, :5] = 9  # nodata
    for region in ("20N_010E", "10N_020E"):
        west, north = CORNERS[region]
        x, y = to.transform(west + 0.5, north - 0.5)
        mask[int((top - y) / step_y), int((x - left) / step_x)] = 1
    write_tile(world.folder / "mask.tif", mask, 0, 0, nodata=9, crs=crs, transform=from_origin(left, top, step_x, step_y))  # fmt: skip
    add_valid(world, "{raster: mask.tif}")
    assert [r["id"] for r in ci.init(world.spec_file).regions()] == ["20N_010E", "10N_020E"]


def test_raster_of_land_in_floats_with_negative_values(world: World) -> None:
    height = np.full((20, 25), np.nan, "float32")
    height[3, 3] = -5.0
    height[15, 12] = 80.0
    write_tile(world.folder / "mask.tif", height, 0, 20, 1.0, nodata=np.nan)
    add_valid(world, "{raster: mask.tif}")
    assert [r["id"] for r in ci.init(world.spec_file).regions()] == ["20N_000E", "10N_010E"]


@pytest.mark.parametrize(
    ("text", "content", "message"),
    [
        ("{list: ids.txt}", "20N_000E\n99N_000E\n", "no region '99N_000E' in this grid"),
        ("{list: ids.txt}", "# nothing\n", "leaves no region of the grid"),
        ("{list: missing.txt}", "", "cannot be read: it is not there"),
        ("{geojson: ids.txt}", "20N", "is not GeoJSON"),
        ("{raster: ids.txt}", "20N", "is not a raster"),
        ("{list: a, raster: b}", "", "valid: give one of geojson, raster or list"),
        ("{lst: a}", "", "unknown key 'lst'; did you mean 'list'?"),
    ],
)
def test_valid_that_cannot_be_is_refused_before_anything_is_made(
    world: World, text: str, content: str, message: str
) -> None:
    (world.folder / "ids.txt").write_text(content)
    add_valid(world, text)
    with pytest.raises(ci.SpecError) as caught:
        ci.init(world.spec_file)
    assert message in str(caught.value)
    assert not world.store.exists()


def test_valid_regions_are_found_anew_where_the_grid_grows(world: World) -> None:
    (world.folder / "land.json").write_text(json.dumps({"type": "Polygon", "coordinates": [[[1, -9], [9, -9], [9, 9], [1, -9]]]}))  # fmt: skip
    add_valid(world, "{geojson: land.json}")
    cube = ci.init(world.spec_file)
    cube.ingest()
    text = world.spec_file.read_text().replace("shape: {y: 200, x: 250}", "shape: {y: 300, x: 250}")
    world.spec_file.write_text(text)
    assert cube.extend(world.spec_file).new_slots == 6
    assert [r["id"] for r in cube.regions()] == ["10N_000E", "00N_000E"]
    cube.extend(year=2010)
    assert [r["id"] for r in cube.regions()] == ["10N_000E", "00N_000E"]
    assert cube.status().total == 6
    assert cube.status().done == 1
    assert cube.check().findings == []


def test_box_or_polygon_over_regions_that_are_not_valid_is_refused(world: World) -> None:
    (world.folder / "ids.txt").write_text("20N_000E\n")
    add_valid(world, "{list: ids.txt}")
    cube = ci.init(world.spec_file)
    for what in ({"bbox": (11, 1, 12, 2)}, {"polygon": shapely.box(11, 1, 12, 2)}):
        with pytest.raises(ci.GridError, match="overlaps no region among the 1 that `valid` of the spec leaves"):
            cube.plan(**what)
    assert cube.plan(bbox=(9, 11, 12, 12)).tasks == 2


def test_features_without_a_place_are_skipped(world: World) -> None:
    """GeoJSON lets a feature have no geometry."""
    nowhere = {"type": "Feature", "properties": {}, "geometry": None}
    somewhere = {"type": "Feature", "properties": {}, "geometry": TRIANGLE}
    cube = ci.init(world.spec_file)
    for both in ({"type": "FeatureCollection", "features": [nowhere, somewhere]},):
        assert [r["id"] for r in cube.regions(polygon=both)] == ["10N_000E"]
        assert [r["id"] for r in cube.regions(polygon=json.dumps(both))] == ["10N_000E"]
    with pytest.raises(ci.GridError, match="holds no polygon"):
        cube.regions(polygon=nowhere)
