"""Statistics of zones: what exactextract says of the same pixels in a GeoTIFF, and numpy of zones that are pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from exactextract import exact_extract
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

import cubeingest as ci
from cubeingest.analyze import Features
from cubeingest.analyze.areas import row_areas
from cubeingest.analyze.statistics import weighted_quantile
from cubeingest.errors import ExtraError, GridError, StoreError
from tests.analysis import MISSING, Seasons, seasons
from tests.conftest import Ran
from tests.test_analyze_series import to_geojson, write_geopackage, write_geoparquet

__all__ = ["seasons"]

Invoke = Callable[..., Ran]

STATS = ["count", "sum", "mean", "min", "max", "area"]


def blobs(n: int, seed: int = 3) -> list[Any]:
    """Polygons of a few pixels up to several regions, some with holes."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        centre, radius = (
            shapely.Point(rng.uniform(1, 24), rng.uniform(1, 19)),
            rng.uniform(0.02, 6 if i % 7 == 0 else 1),
        )
        shape = centre.buffer(radius)
        out.append(shape.difference(centre.buffer(radius / 2)) if i % 5 == 0 else shape)
    return out


def features(shapes: list[Any], crs: str = "OGC:CRS84", **attributes: Any) -> Features:
    return Features(np.array(shapes, object), attributes, crs, "'zones'")


def write_tif(path: Path, bands: np.ndarray) -> Path:
    with rasterio.open(path, "w", driver="GTiff", dtype="float64", count=len(bands), height=200, width=250, nodata=np.nan,
                       crs="EPSG:4326", transform=from_origin(0, 20, 0.1, 0.1)) as dst:  # fmt: skip
        dst.write(bands)
    return path


def by_exactextract(tif: Path, shapes: list[Any], ops: list[str]) -> list[dict[str, Any]]:
    plain = [{"type": "Feature", "id": i, "properties": {}, "geometry": json.loads(shapely.to_geojson(s))} for i, s in enumerate(shapes)]  # fmt: skip
    return [f["properties"] for f in exact_extract(str(tif), plain, ops)]


@pytest.fixture(scope="module")
def tif(seasons: Seasons, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tif(tmp_path_factory.mktemp("tif") / "cover.tif", seasons.height)


def test_statistics_are_those_of_exactextract(seasons: Seasons, tif: Path) -> None:
    """Zones across regions and chunks are put together from parts."""
    shapes = blobs(40)
    report = seasons.cube.zonal(features(shapes), STATS, variable="height")
    rows = report.rows()
    expected = by_exactextract(tif, shapes, STATS[:-1])
    for stat in STATS[:-1]:
        found = np.array(rows[stat]).reshape(40, 3)
        for year in range(3):
            wanted = [e[f"band_{year + 1}_{stat}"] for e in expected]
            if stat == "sum":  # of nothing it is 0 there, and not known here
                wanted = [w if e[f"band_{year + 1}_count"] else None for w, e in zip(wanted, expected, strict=True)]
            np.testing.assert_allclose(found[:, year], [np.nan if w is None else w for w in wanted], rtol=1e-9)
    assert rows["year"][:3] == ["2000", "2005", "2010"]


def test_areas_are_of_true_pixels(seasons: Seasons) -> None:
    """A zone of whole pixels, in two of which nothing is."""
    there = ~np.isnan(seasons.cover[0, 20:60, 30:130])
    report = seasons.cube.zonal(features([shapely.box(3, 14, 13, 18)]), ["area", "count"], variable="cover", year=2000)
    areas = row_areas(seasons.cube.grid, slice(20, 60))
    assert report.rows()["area"] == [pytest.approx((there * areas[:, np.newaxis]).sum())]
    assert report.rows()["count"] == [pytest.approx(there.sum())]


def test_classes_have_pixels_area_and_share(seasons: Seasons, tmp_path: Path) -> None:
    shapes = blobs(6)
    rows = seasons.cube.zonal(features(shapes), variable="cover", by_class=True, year=2005).rows()
    tif = write_tif(tmp_path / "c.tif", seasons.cover[1:2])
    expected = by_exactextract(tif, shapes, ["count", "frac", "unique"])
    for z, e in enumerate(expected):
        mine = [i for i, k in enumerate(rows["zone"]) if k == z]
        found = {rows["class"][i]: rows["pixels"][i] for i in mine}
        wanted = {int(c): f * e["count"] for c, f in zip(e["unique"], e["frac"], strict=True)}
        assert found == pytest.approx(wanted)
        assert sum(rows["share"][i] for i in mine) == pytest.approx(1)
    assert set(rows["class_name"]) == {"water", "forest", "bare soil"}
    with pytest.raises(StoreError, match="values are no classes"):
        seasons.cube.zonal(features(shapes), variable="height", by_class=True, year=2005)


def test_an_expression_in_zones(seasons: Seasons, tmp_path: Path) -> None:
    shapes = blobs(10, seed=9)
    tif = write_tif(tmp_path / "n.tif", seasons.ndvi)
    stats = {"mean": "mean", "median": "median", "q10": "quantile(q=0.1)", "q95": "quantile(q=0.95)"}
    rows = seasons.cube.zonal(features(shapes), list(stats), expr="(nir - red)/(nir + red)", variable="refl").rows()
    expected = by_exactextract(tif, shapes, list(stats.values()))
    for name, op in stats.items():
        key = op.replace("(q=0.", "_").replace("_1)", "_10").replace(")", "")
        wanted = [np.nan if (v := e[f"band_{b}_{key}"]) is None else v for e in expected for b in (1, 2, 3)]
        np.testing.assert_allclose(rows[name], wanted, rtol=1e-7, atol=1e-12)


def test_zones_of_a_variable(seasons: Seasons) -> None:
    report = seasons.cube.zonal("zone", ["count", "mean", "min", "max", "area", "median"], variable="height")
    rows, areas = report.rows(), row_areas(seasons.cube.grid, slice(0, 200))[:, np.newaxis]
    assert rows["zone"] == [z for z in range(5) for _ in range(3)]
    for i, (z, y) in enumerate((z, y) for z in range(5) for y in range(3)):
        inside = (seasons.zone == z) & ~np.isnan(seasons.height[y])
        values = seasons.height[y][inside]
        assert rows["count"][i] == inside.sum()
        assert rows["mean"][i] == pytest.approx(values.mean(), rel=1e-12)
        assert (rows["min"][i], rows["max"][i]) == (values.min(), values.max())
        assert rows["median"][i] == pytest.approx(np.median(values))
        assert rows["area"][i] == pytest.approx((inside * areas).sum())
    with pytest.raises(GridError, match="zones are whole numbers"):
        seasons.cube.zonal("height", variable="cover")
    with pytest.raises(GridError, match="has several values of year"):
        seasons.cube.zonal("cover", variable="height")


def test_zones_of_a_raster(seasons: Seasons, tmp_path: Path) -> None:
    """It need not reach as far as the cube, and nothing of its dtype is taken for no zone but its nodata."""
    path = tmp_path / "zones.tif"
    zones = np.where(np.isnan(seasons.zone), 9, seasons.zone + 1).astype("uint8")[30:170, 50:]
    zones[0, 0] = 0
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=1, height=140, width=200, crs="EPSG:4326", nodata=9,
                       transform=from_origin(5, 17, 0.1, 0.1)) as dst:  # fmt: skip
        dst.write(zones, 1)
    rows = seasons.cube.zonal(path, ["count", "sum"], variable="cover", year=2000).rows()
    inside = seasons.cover[0, 30:170, 50:]
    assert rows["zone"] == [0, 1, 2, 3, 4, 5]
    assert rows["count"] == [np.count_nonzero(~np.isnan(inside[zones == z])) for z in range(6)]
    assert rows["sum"][1:] == [np.nansum(inside[zones == z]) for z in range(1, 6)]
    with rasterio.open(tmp_path / "off.tif", "w", driver="GTiff", dtype="uint8", count=1, height=9, width=9, crs="EPSG:4326",
                       transform=from_origin(5.03, 17, 0.1, 0.1)) as dst:  # fmt: skip
        dst.write(np.ones((9, 9), "uint8"), 1)
    with pytest.raises(ci.TileError, match="px"):
        seasons.cube.zonal(tmp_path / "off.tif", variable="cover")
    with pytest.raises(GridError, match="there is no file"):
        seasons.cube.zonal(tmp_path / "none.tif", variable="cover")


def test_rows_that_run_north_are_the_same_zones(make_cube: Callable[[str], ci.Cube], tmp_path: Path) -> None:
    make_cube("variables: {v: {dtype: int16, fill_value: -1, chunks: {y: 50, x: 50}}}\n")
    text = (
        (tmp_path / "made.yaml").read_text().replace("y: -1/10}", "y: 1/10}").replace("{x: 0, y: 20}", "{x: 0, y: 0}")
    )
    (tmp_path / "up.yaml").write_text(text)
    cube = ci.init(tmp_path / "up.yaml", tmp_path / "up.icechunk")
    pixels = np.random.default_rng(0).integers(0, 99, (200, 250)).astype("int16")

    def f(geobox: Any) -> np.ndarray:
        y, x = cube.grid.window(tuple(geobox.boundingbox))  # type: ignore[arg-type]
        return pixels[y, x]

    cube.ingest(source=f)
    shapes = blobs(12)
    tif = write_tif(tmp_path / "up.tif", pixels[np.newaxis, ::-1].astype(float))
    expected = [e["mean"] for e in by_exactextract(tif, shapes, ["mean"])]
    np.testing.assert_allclose(cube.zonal(features(shapes), ["mean"]).rows()["mean"], expected, rtol=1e-9)


def test_zones_in_another_crs_and_kinds_of_files(seasons: Seasons, tmp_path: Path) -> None:
    from pyproj import CRS, Transformer

    shapes, names = blobs(5), list("abcde")
    take = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform
    moved = [shapely.transform(shapely.segmentize(s, 0.01), take, interleaved=False) for s in shapes]
    expected = seasons.cube.zonal(features(shapes), ["mean", "count"], variable="cover").rows()
    (tmp_path / "z.geojson").write_text(to_geojson(shapes, names))
    write_geopackage(tmp_path / "z.gpkg", moved, names, 3857)
    write_geoparquet(tmp_path / "z.parquet", moved, names, CRS("EPSG:3857").to_json_dict())
    for name in ("z.geojson", "z.gpkg", "z.parquet"):
        rows = seasons.cube.zonal(tmp_path / name, ["mean", "count"], variable="cover").rows()
        np.testing.assert_allclose(rows["mean"], expected["mean"], rtol=1e-6)
        np.testing.assert_allclose(rows["count"], expected["count"], rtol=1e-6)
        assert rows["name"] == [n for n in names for _ in range(3)]


# ---- what is not as it should be ------------------------------------------------------------------------------


def test_polygons_that_cross_themselves_are_named(seasons: Seasons) -> None:
    bow = shapely.Polygon([(1, 1), (3, 3), (3, 1), (1, 3)])
    given = features([shapely.box(1, 1, 2, 2), bow], name=["fine", "bow tie"])
    with pytest.raises(
        GridError, match=r"zone 1 \('bow tie'\): Self-intersection\[2 2\]\): mend them, or give --make-valid"
    ):
        seasons.cube.zonal(given, variable="cover")
    rows = seasons.cube.zonal(given, ["count"], variable="zone", make_valid=True).rows()
    expected = seasons.cube.zonal(features([shapely.make_valid(bow)]), ["count"], variable="zone").rows()
    assert rows["count"][1] == pytest.approx(expected["count"][0])
    with pytest.raises(GridError, match="zone 0 is a Point: zones are polygons"):
        seasons.cube.zonal(features([shapely.Point(1, 1)]), variable="cover")


def test_zones_outside_and_larger_than_the_cube(seasons: Seasons) -> None:
    shapes = [
        shapely.box(60, 50, 61, 51),
        shapely.box(-25, 0, 25, 20),
        shapely.box(2, 2, 2.001, 2.001),
        shapely.Polygon(),
    ]
    report = seasons.cube.zonal(features(shapes), ["count", "mean", "area", "median"], variable="zone")
    rows = report.rows()
    assert rows["in_cube"] == [0, pytest.approx(0.5), 1, 0]
    assert (rows["count"][0], rows["area"][0], rows["count"][3]) == (0, 0, 0)
    assert np.isnan([rows["mean"][0], rows["median"][0], rows["mean"][3]]).all()
    assert rows["count"][1] == pytest.approx((~np.isnan(seasons.zone)).sum())
    assert rows["count"][2] <= 1e-4 + 1e-9
    assert report.warnings == [
        "2 of 4 zones lie outside the cube: they have no pixels (zone 0, 3)",
        "1 of 4 zones lie partly outside it (column in_cube) (zone 1)",
    ]


def test_zones_of_another_turn_of_the_globe(seasons: Seasons) -> None:
    shapes = [shapely.box(3, 4, 5, 6), shapely.box(363, 4, 365, 6), shapely.box(-357, 4, -355, 6)]
    rows = seasons.cube.zonal(features(shapes), ["sum"], variable="zone").rows()
    assert rows["sum"][1:] == pytest.approx(rows["sum"][:1] * 2)


def test_slots_that_are_not_ingested_are_counted(seasons: Seasons) -> None:
    """Zone 0 lies in the region that lacks 2010, zone 1 half, zone 2 not."""
    assert MISSING == "y1_x2"
    shapes = [shapely.box(21, 2, 24, 5), shapely.box(15, 2, 25, 5), shapely.box(1, 1, 2, 2)]
    report = seasons.cube.zonal(features(shapes), ["count", "mean"], variable="cover")
    rows = report.rows()
    assert rows["not_ingested"] == [0, 0, pytest.approx(900), 0, 0, pytest.approx(1500), 0, 0, 0]
    assert (rows["count"][2], np.isnan(rows["mean"][2])) == (0, True)
    assert report.warnings == [
        "zone 0: 1 of 3 values of year are not (wholly) ingested there; 1 more zones lack some (column not_ingested)"
    ]
    assert report.gaps.pending == 1


def test_zones_without_a_value(seasons: Seasons) -> None:
    """Of classes above 3 there is none: an expression without a value anywhere."""
    rows = seasons.cube.zonal(features(blobs(2)), ["count", "mean", "max"], expr="cover / (cover - cover)").rows()
    assert (set(rows["count"]), np.isnan(rows["mean"]).all(), np.isnan(rows["max"]).all()) == ({0.0}, True, True)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"statistics": ["maen"]}, "no statistic 'maen'; did you mean 'mean'"),
    ({"expr": "nir - rad", "variable": "refl"}, "did you mean 'red'"),
    ({"expr": "open('x')"}, "."),
    ({"variable": "refl", "bbox": (100, 10, 110, 20)}, "overlaps no"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_words_are_refused(seasons: Seasons, words: dict[str, Any], message: str) -> None:
    with pytest.raises(GridError, match=message):
        seasons.cube.zonal(features(blobs(2)), **{"variable": "refl", **words})


def test_without_exactextract_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, seasons: Seasons) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "exactextract", None)
    with pytest.raises(ExtraError, match=r"polygons needs exactextract: pip install 'cubeingest\[analyze\]'"):
        seasons.cube.zonal(features(blobs(2)), variable="cover")


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.floats(0, 1))
@settings(deadline=None)
def test_quantiles_of_equal_weights_are_numpys(values: list[float], q: float) -> None:
    found = weighted_quantile(np.array(values), np.full(len(values), 0.7), q)
    assert found == pytest.approx(np.quantile(values, q), rel=1e-9, abs=1e-9)


# ---- the command ----------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes(seasons: Seasons, tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "z.geojson").write_text(to_geojson(blobs(3), list("abc")))
    store = ("--store", seasons.cube.store.uri)
    words = ("compute", "zonal", "z.geojson", "--variable", "cover", "--stats", "mean,area,q95", *store)
    done = invoke(*words, "--year", "2000", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out.split()[:7] == ["zone", "name", "year", "in_cube", "mean", "area", "q95"]
    assert "areas are of pixels on the ellipsoid WGS 84" in done.err
    for name in ("z.csv", "z.parquet", "z.json"):
        assert invoke(*words, "-o", name, cwd=tmp_path).out == f"{name}\n"
    table = pq.read_table(tmp_path / "z.parquet")
    done = invoke(*words, "--json", cwd=tmp_path)
    assert [r["mean"] for r in done.json["rows"]] == table.column("mean").to_pylist()
    assert json.loads((tmp_path / "z.json").read_text()) == done.json["rows"]
    done = invoke(
        "compute", "zonal", "--zones-variable", "zone", "--variable", "cover", "--classes", *store, cwd=tmp_path
    )
    assert (done.code, "bare soil" in done.out) == (0, True), done.err
    done = invoke("compute", "zonal", *store, cwd=tmp_path)
    assert (done.code, "say which zones" in done.err) == (2, True)
    done = invoke("compute", "zonal", "none.gpkg", *store, cwd=tmp_path)
    assert (done.code, "there is no file 'none.gpkg'" in done.err) == (2, True)
