"""Values at points: what xarray picks, each chunk read once, and points from files."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from zarr.storage import WrapperStore

import cubeingest as ci
from cubeingest.analyze import read_points
from cubeingest.analyze.quantity import Reader, find_quantity
from cubeingest.analyze.series import locate, read_pixels
from cubeingest.errors import ExtraError, GridError
from cubeingest.selection import Selection
from tests.analysis import Seasons, seasons
from tests.conftest import Ran
from tests.test_analyze_reduce import oracle

__all__ = ["seasons"]

Invoke = Callable[..., Ran]


@pytest.fixture(scope="module")
def places() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.uniform(0, 25, 300), rng.uniform(0, 20, 300)


def test_values_are_those_that_xarray_picks(seasons: Seasons, places: tuple[np.ndarray, np.ndarray]) -> None:
    found = seasons.cube.series(*places, variable="refl")
    row, column = ((20 - places[1]) * 10).astype(int), (places[0] * 10).astype(int)
    np.testing.assert_array_equal(found.values, np.moveaxis(seasons.refl[..., row, column], -1, 0))
    ds = seasons.cube.dataset()
    for i in range(0, 300, 60):
        picked = ds.refl.sel(x=places[0][i], y=places[1][i], method="nearest").values.astype(float)
        np.testing.assert_array_equal(np.nan_to_num(found.values[i]), picked)
    rows = found.rows()
    assert list(rows) == ["point", "lon", "lat", "year", "band", "value"]
    assert len(rows["value"]) == 300 * 6
    assert [rows[k][7] for k in ("point", "year", "band")] == [1, "2000", "nir"]


def test_an_expression_at_points_of_some_years(seasons: Seasons, places: tuple[np.ndarray, np.ndarray]) -> None:
    found = seasons.cube.series(*places, expr="(nir - red)/(nir + red)", variable="refl", year=[2010, 2000])
    row, column = ((20 - places[1]) * 10).astype(int), (places[0] * 10).astype(int)
    np.testing.assert_allclose(found.values, seasons.ndvi[::2, row, column].T, rtol=1e-12)
    assert found.labels == {"year": ("2000", "2010")}


def test_points_outside_have_no_values_and_are_counted(seasons: Seasons) -> None:
    found = seasons.cube.series([5, 400, -3, 24.9, np.nan], [5, 5, 5, 0.05, 5], variable="cover")
    assert found.outside.tolist() == [False, True, True, False, True]
    assert np.isnan(found.values[[1, 2, 4]]).all()
    assert found.warnings[0] == "3 of 5 points outside the cube (400 5, -3 5, nan 5): no values there"
    assert found.warnings[1] == "1 of 6 values not ingested"


def test_edges_belong_to_the_pixel_with_the_higher_index(seasons: Seasons) -> None:
    grid = seasons.cube.grid
    lon, lat = np.array([0, 0.1, 0.3, 24.999, 25, 360.05]), np.array([20, 19.9, 19.7, 0.001, 5, 5])
    row, column = locate(grid, lon, lat)
    assert row.tolist() == [0, 1, 3, 199, -1, 150]
    assert column.tolist() == [0, 1, 3, 249, -1, 0]
    for x, y, r, c in zip(lon, lat, row, column, strict=True):
        if r >= 0:
            assert grid.region_at(x, y, "OGC:CRS84") == grid.region_id(r // 100, c // 100)


class CountingStore(WrapperStore):
    """Counts what is read, by key."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.read: Counter[str] = Counter()

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        self.read[f"{key} {byte_range}" if byte_range else key] += 1
        return await super().get(key, prototype, byte_range)

    def get_ranges(self, key: str, byte_ranges: Any, **options: Any) -> Any:
        self.read.update(f"{key} {part}" for part in byte_ranges)
        return super().get_ranges(key, byte_ranges, **options)


@pytest.mark.parametrize("name", ["refl", "height"])
def test_each_chunk_is_read_once(seasons: Seasons, places: tuple[np.ndarray, np.ndarray], name: str) -> None:
    """Also of shards, whose chunks are ranges."""
    spec = seasons.cube.spec
    session = seasons.cube.store.readonly()
    counting = CountingStore(session.store)

    class Session:
        store = counting

    reader = Reader(Session(), spec, find_quantity(spec, Selection(variables=(name,))))  # type: ignore[arg-type]
    counting.read.clear()
    found = read_pixels(reader, *locate(spec.grid, *places))
    assert np.isfinite(found).any()
    chunks = {k: n for k, n in counting.read.items() if "/c/" in k and "Suffix" not in k}
    # 4 x 5 chunks of three years; those of the slot that is missing are asked for, too.
    assert (max(chunks.values()), len(chunks) >= 57) == (1, True)


# ---- files ----------------------------------------------------------------------------------------------------

POINTS = [(3.0, 4.0, "a"), (12.5, 17.25, "b")]


def write_geopackage(
    path: Path, geometries: list[Any], names: list[str], epsg: int = 4326, layer: str = "things"
) -> None:
    """As OGC 12-128 has it, as far as it is needed: one layer, an envelope in the headers."""
    db = sqlite3.connect(path)
    db.execute(
        "CREATE TABLE IF NOT EXISTS gpkg_spatial_ref_sys (srs_name, srs_id, organization, organization_coordsys_id, definition)"
    )
    db.execute("INSERT INTO gpkg_spatial_ref_sys VALUES ('x', ?, 'EPSG', ?, '')", (epsg, epsg))
    db.execute(
        "CREATE TABLE IF NOT EXISTS gpkg_geometry_columns (table_name, column_name, geometry_type_name, srs_id, z, m)"
    )
    db.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'GEOMETRY', ?, 0, 0)", (layer, epsg))
    db.execute(f'CREATE TABLE "{layer}" (fid INTEGER PRIMARY KEY, geom BLOB, name TEXT)')
    for g, name in zip(geometries, names, strict=True):
        west, south, east, north = shapely.bounds(g)
        header = b"GP\x00\x03" + struct.pack("<i4d", epsg, west, east, south, north)
        db.execute(f'INSERT INTO "{layer}" (geom, name) VALUES (?, ?)', (header + shapely.to_wkb(g), name))
    db.commit()
    db.close()


def write_geoparquet(path: Path, geometries: list[Any], names: list[str], crs: Any = None) -> None:
    table = pa.table({"name": names, "geometry": [shapely.to_wkb(g) for g in geometries]})
    column = {"encoding": "WKB", "geometry_types": [], **({} if crs is None else {"crs": crs})}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path)


def to_geojson(geometries: list[Any], names: list[str], **more: Any) -> str:
    features = [
        {"type": "Feature", "properties": {"name": n}, "geometry": json.loads(shapely.to_geojson(g))}
        for g, n in zip(geometries, names, strict=True)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features, **more})


def write_points(folder: Path) -> list[Path]:
    points, names = [shapely.Point(x, y) for x, y, _ in POINTS], [n for *_, n in POINTS]
    (folder / "p.csv").write_text("name,Longitude,LAT\na,3.0,4.0\nb,12.5,17.25\n", encoding="utf-8-sig")
    (folder / "p.geojson").write_text(to_geojson(points, names))
    write_geoparquet(folder / "p.parquet", points, names)
    write_geopackage(folder / "p.gpkg", points, names)
    return [folder / n for n in ("p.csv", "p.geojson", "p.parquet", "p.gpkg")]


def test_points_from_every_kind_of_file(seasons: Seasons, tmp_path: Path) -> None:
    for path in write_points(tmp_path):
        lon, lat, others = read_points(path)
        assert (lon.tolist(), lat.tolist(), others["name"]) == ([3.0, 12.5], [4.0, 17.25], ["a", "b"]), path
    found = seasons.cube.series(tmp_path / "p.gpkg", variable="cover")
    np.testing.assert_array_equal(found.values, [seasons.cover[:, 160, 30], seasons.cover[:, 27, 125]])
    assert found.rows()["name"] == ["a"] * 3 + ["b"] * 3


def test_points_of_another_crs(tmp_path: Path) -> None:
    from pyproj import CRS, Transformer

    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform([3.0], [4.0])
    points = [shapely.Point(x[0], y[0])]
    write_geopackage(tmp_path / "m.gpkg", points, ["a"], 3857)
    write_geoparquet(tmp_path / "m.parquet", points, ["a"], CRS("EPSG:3857").to_json_dict())
    (tmp_path / "m.json").write_text(to_geojson(points, ["a"], crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}))  # fmt: skip
    for name in ("m.gpkg", "m.parquet", "m.json"):
        lon, lat, _ = read_points(tmp_path / name)
        assert (lon[0], lat[0]) == pytest.approx((3, 4))


def test_files_that_are_no_points_are_refused(tmp_path: Path) -> None:
    texts = {
        "a.csv": ("x1,y1\n1,2\n", "has columns x1, y1: two must be called lon and lat"),
        "b.csv": ("lon,lat\n1,2\n3,\n", r"line 3: no numbers in lon and lat: 3,"),
        "c.csv": ("lon,lat\n", "has no points"),
        "d.csv": ("", "is empty"),
        "e.geojson": ("{}", "cannot be read"),
        "f.geojson": ("nonsense", "cannot be read"),
        "g.geojson": (to_geojson([shapely.box(0, 0, 1, 1)], ["a"]), "`compute zonal` is for polygons"),
        "h.geojson": (to_geojson([], []), "has no features"),
        "i.shp": ("", "has suffix '.shp'"),
        "j.parquet": ("no", "cannot be read"),
        "k.gpkg": ("no", "cannot be read"),
    }
    for name, (text, message) in texts.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(GridError, match=message):
            read_points(tmp_path / name)
    with pytest.raises(GridError, match="there is no file"):
        read_points(tmp_path / "none.gpkg")
    for layer in ("one", "two"):
        write_geopackage(tmp_path / "l.gpkg", [shapely.Point(1, 2)], ["a"], layer=layer)
    with pytest.raises(GridError, match=r"has 2 layers \(one, two\): say which, --in-layer NAME"):
        read_points(tmp_path / "l.gpkg")
    assert read_points(tmp_path / "l.gpkg", "two")[0].tolist() == [1.0]
    with pytest.raises(GridError, match="has no layer 'three'"):
        read_points(tmp_path / "l.gpkg", "three")


# ---- the command ----------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes(seasons: Seasons, tmp_path: Path, invoke: Invoke) -> None:
    words = ("compute", "series", "--at", -1, 5, "--at", 3, 4, "--variable", "refl", "--store", seasons.cube.store.uri)
    done = invoke(*words, "--year", "2000", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "1 of 2 points outside the cube (-1 5): no values there" in done.err
    red, nir = seasons.refl[0, :, 160, 30]
    kept = [r["value"] for r in done.json["rows"]]
    assert kept == [None, None, *(None if np.isnan(v) else v for v in (red, nir))]
    done = invoke(*words, cwd=tmp_path)
    assert done.out.split()[:6] == ["point", "lon", "lat", "year", "band", "value"]
    for name in ("s.csv", "s.parquet", "s.png"):
        done = invoke(*words, "-o", name, cwd=tmp_path)
        assert (done.code, done.out) == (0, f"{name}\n"), done.err
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert (lines[1], len(lines)) == ("0,-1.0,5.0,2000,red,", 13)
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.column("value").null_count >= 6
    assert shapely.from_wkb(table.column("geometry")[11].as_py()) == shapely.Point(3, 4)
    assert b"primary_column" in table.schema.metadata[b"geo"]
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_refuses(seasons: Seasons, tmp_path: Path, invoke: Invoke) -> None:
    base = ("compute", "series", "--store", seasons.cube.store.uri, "--variable", "cover")
    for words, message in (
        ((), "say where"),
        (("--at", 3), "--at takes a longitude and a latitude"),
        (("--at", "v1.0", "--year", 2000), "--at takes a longitude and a latitude"),
        (("--at", 3, 4, "--yera", 2000), "did you mean --year"),
        (("--at", 3, 4, "-o", "x.xlsx"), "suffix '.xlsx'"),
    ):
        done = invoke(*base, *words, cwd=tmp_path)
        assert (done.code, message in done.err) == (2, True), done.err


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, seasons: Seasons, tmp_path: Path
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    write_points(tmp_path)
    with pytest.raises(ExtraError, match=r"reading Parquet needs pyarrow: pip install 'cubeingest\[analyze\]'"):
        read_points(tmp_path / "p.parquet")


def test_a_series_of_means_is_the_mean_of_series(seasons: Seasons) -> None:
    found = seasons.cube.series(3.0, 4.0, variable="height")
    np.testing.assert_allclose(oracle("mean", found.values[0]), oracle("mean", seasons.height[:, 160, 30]))
    assert isinstance(found.title, str)
    assert ci.open(seasons.cube.store.uri).series([3.0], [4.0], variable="zone").values.shape == (1,)
