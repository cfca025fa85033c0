"""The viewer, asked over a real connection: its tiles are the cube's pixels, its answers what the cube says; whatever is wrong is one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

import cubeingest as ci
from cubeingest.errors import CubeIngestError
from tests.conftest import Ran, World
from tests.objectstore import Bucket
from tests.viewing import Client, painted

SPEC = """\
name: seen
crs: EPSG:32633
grid: {origin: {x: 300000, y: 5600000}, resolution: {x: 30, y: -30}, shape: {y: 700, x: 900}, region: {y: 256, x: 256}, id: "r{iy}_{ix}"}
axes: {year: {values: [2000, 2005, 2010]}, band: {values: [red, nir]}}
variables:
  cover:
    dtype: uint8
    fill_value: 255
    chunks: {year: 1, y: 128, x: 128}
    axes: [year]
    attrs: {long_name: land cover, flag_values: [0, 1, 2, 3], flag_meanings: water forest crops built_up, flag_colors: "#4682b4 #228b22 #daa520 #b22222"}
  light:
    dtype: int16
    fill_value: -1
    chunks: {year: 1, band: 1, y: 128, x: 128}
    attrs: {long_name: reflectance, units: "%"}
  height:
    dtype: float32
    fill_value: .nan
    chunks: {y: 128, x: 128}
    axes: []
store: ./seen.icechunk
"""


def classes(geobox: Any, year: int) -> np.ndarray:
    rows, columns = np.indices(geobox.shape)
    left, top = (round(v) for v in (geobox.affine.c, geobox.affine.f))
    out = ((rows + top // 30) // 40 + (columns + left // 30) // 25 + year // 5) % 5
    return np.where(out == 4, 255, out).astype(np.uint8)


def brightness(geobox: Any, year: int, band: str) -> np.ndarray:
    rows, columns = np.indices(geobox.shape)
    return (rows + 2 * columns + (year - 2000) * 10 + 500 * (band == "nir")).astype(np.int16)


def heights(geobox: Any) -> np.ndarray:
    rows, columns = np.indices(geobox.shape)
    return np.where(rows > 200, np.nan, rows * 0.5 + columns).astype(np.float32)


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> ci.Cube:
    """Two years of classes (2005 lacks a region), a year of brightness; overviews; then a region anew, so that these are behind."""
    folder = tmp_path_factory.mktemp("seen")
    (folder / "grid.yaml").write_text(SPEC)
    made = ci.init(folder / "grid.yaml")
    made.ingest(source=classes, variable="cover", year=2000, workers=1)
    made.ingest(source=classes, variable="cover", year=2005, region=["r0_0", "r1_1", "r2_3"], workers=1)
    made.ingest(source=brightness, variable="light", year=2000, workers=1)
    made.overviews(levels=2, workers=1)
    made.tag("v1")
    made.ingest(
        source=lambda geobox, year: 3 - classes(geobox, year) % 4,
        variable="cover",
        year=2000,
        region="r1_1",
        redo=True,
        workers=1,
    )
    made.ingest(source=heights, variable="height", workers=1)
    return made


@pytest.fixture(scope="module")
def client(cube: ci.Cube) -> Iterator[Client]:
    with cube.view() as viewer:
        yield Client(viewer.url)


def level_of(cube: ci.Cube, name: str, level: int, **axes: Any) -> np.ndarray:
    """Pixels of a level as xarray reads them; of one that was not made, the middle ones of the full resolution."""
    return cube.dataset(level=level)[name].sel(**axes).values


def middles(pixels: np.ndarray, step: int) -> np.ndarray:
    at = [
        np.minimum(np.arange(-(-n // step)) * step + np.minimum(step // 2, (n - 1) % step), n - 1) for n in pixels.shape
    ]
    return pixels[np.ix_(*at)]


def range_of(cube: ci.Cube, name: str, **axes: Any) -> np.ndarray:
    return level_of(cube, name, 2, **axes)


def test_a_tile_of_the_full_resolution_has_the_cubes_pixels(cube: ci.Cube, client: Client) -> None:
    pixels = level_of(cube, "cover", 0, year=2005)
    for at in ("0/0/0", "0/1/1", "0/2/3"):
        row, column = (int(n) * 256 for n in at.split("/")[1:])
        wanted = painted(cube, "cover", pixels[row : row + 256, column : column + 256], pixels)
        assert np.array_equal(client.tile("cover", "1", at), wanted), at


def test_coarser_tiles_have_the_pixels_of_overviews(cube: ci.Cube, client: Client) -> None:
    for level in (1, 2):
        pixels = level_of(cube, "light", level, year=2000, band="nir")
        wanted = painted(cube, "light", pixels[:256, :256], range_of(cube, "light", year=2000, band="nir"))
        assert np.array_equal(client.tile("light", "0.1", f"{level}/0/0"), wanted), level


def test_what_overviews_lack_comes_from_the_full_resolution(cube: ci.Cube, client: Client) -> None:
    base, pixels = level_of(cube, "cover", 0, year=2000), level_of(cube, "cover", 1, year=2000)
    fresh = middles(base, 2)
    pixels[128:256, 128:256] = fresh[128:256, 128:256]
    got = client.tile("cover", "0", "1/0/0")
    assert np.array_equal(got, painted(cube, "cover", pixels[:256, :256], base))
    tagged = cube.at("v1")
    before = level_of(tagged, "cover", 1, year=2000)[:256, :256]
    was = client.tile("cover", "0", "1/0/0", snapshot=tagged.store.tip)
    assert np.array_equal(was, painted(cube, "cover", before, base))
    assert not np.array_equal(was, got)


def test_a_variable_without_overviews_is_thinned_at_the_middle_of_each_step(cube: ci.Cube, client: Client) -> None:
    pixels = level_of(cube, "height", 0)
    wanted = painted(cube, "height", middles(pixels, 4), pixels)
    got = client.tile("height", "-", "2/0/0")
    assert np.array_equal(got[..., 3], wanted[..., 3])
    assert np.abs(got.astype(int) - wanted).max() <= 1  # the range is of fewer pixels
    assert (got[..., 3] == 0).any()


def test_rows_from_south_to_north_are_the_right_way_up(tmp_path: Path) -> None:
    (tmp_path / "south.yaml").write_text(
        "name: south\ncrs: EPSG:4326\ngrid: {origin: {x: 0, y: 0}, resolution: {x: 1/10, y: 1/10}, shape: {y: 300, x: 80}, region: {y: 100, x: 80}}\n"
        "variables: {cover: {dtype: uint8, fill_value: 255, chunks: {y: 100, x: 80}, attrs: {flag_values: [1, 2], flag_meanings: a b}}}\nstore: ./cube\n"
    )
    south = ci.init(tmp_path / "south.yaml")
    south.ingest(source=lambda geobox: np.where(np.indices(geobox.shape)[0] < 10, 2, 1).astype(np.uint8), workers=1)
    pixels = level_of(south, "cover", 0)
    with south.view() as viewer:
        client = Client(viewer.url)
        assert client.json(f"api/cube/{client.tip}")["lattices"][0]["step"] == [0.1, 0.1]
        got = client.tile("cover", "-", "0/1/0")
        assert np.array_equal(got, painted(south, "cover", pixels[256:300], pixels)[::-1])


def test_colours_are_the_same_at_all_years_and_of_each_band_its_own(cube: ci.Cube, client: Client) -> None:
    red, later, nir = (client.json(f"api/legend/{client.tip}/light/{i}") for i in ("0.0", "1.0", "0.1"))
    assert red == later
    assert red["units"] == "%"
    low, high = np.percentile(range_of(cube, "light", year=2000, band="red"), (2, 98))
    assert (red["low"], red["high"]) == (pytest.approx(low), pytest.approx(high))
    assert nir["low"] > red["low"]
    names = [c["name"] for c in client.json(f"api/legend/{client.tip}/cover/0")["classes"]]
    assert names == ["water", "forest", "crops", "built up"]


def test_a_series_is_what_the_cube_says(cube: ci.Cube, client: Client) -> None:
    x, y = 300000 + 300.5 * 30, 5600000 - 10.2 * 30
    got = client.json(f"api/point/{client.tip}/grid/light?x={x}&y={y}")
    where = got["where"]
    own = cube.series(where["lon"], where["lat"], variable="light")
    values = [None if np.isnan(v) else v for v in own.values[0].ravel()]
    assert got["values"] == values
    assert got["pending"] == np.flatnonzero(own.pending[0].ravel()).tolist()
    assert [a["labels"] for a in got["axes"]] == [["2000", "2005", "2010"], ["red", "nir"]]
    assert (where["row"], where["column"], where["region"]) == (10, 300, "r0_1")
    cover = client.json(f"api/point/{client.tip}/grid/cover?x={x}&y={y}")
    value = int(level_of(cube, "cover", 0, year=2000)[10, 300])
    assert cover["values"] == [value, None, None]
    assert cover["classes"][str(value)]["name"] == ["water", "forest", "crops", "built up"][value]
    assert len(client.json(f"api/point/{client.tip}/grid/height?x={x}&y={y}")["values"]) == 1


def test_a_pixel_is_the_one_that_was_clicked_also_on_another_datum(tmp_path: Path) -> None:
    """NAD27 is off from WGS 84 by many of these pixels, and Paris is not Greenwich."""
    for crs, left, top in (("EPSG:4267", -100, 40), ("EPSG:4807", 1, 52)):
        code = crs.partition(":")[2]
        (tmp_path / f"{code}.yaml").write_text(
            f"""\
name: datum
crs: {crs}
grid: {{origin: {{x: {left}, y: {top}}}, resolution: {{x: 1/10000, y: -1/10000}}, shape: {{y: 100, x: 100}}, region: {{y: 50, x: 50}}}}
variables: {{v: {{dtype: int32, fill_value: -1, chunks: {{y: 50, x: 50}}}}}}
store: ./{code}.icechunk
""",
            encoding="utf-8",
        )
        made = ci.init(tmp_path / f"{code}.yaml")
        made.ingest(source=numbered, workers=1)
        with made.view() as viewer:
            client = Client(viewer.url)
            x, y = left + 50.5 / 10000, top - 20.5 / 10000
            got = client.json(f"api/point/{client.tip}/grid/v?x={x}&y={y}")
            assert (got["where"]["row"], got["where"]["column"], got["values"]) == (20, 50, [20050])
            assert not client.json(f"api/cube/{client.tip}")["lattices"][0]["geographic"]
            lon, lat = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform(x, y)
            assert (got["where"]["lon"], got["where"]["lat"]) == (pytest.approx(lon), pytest.approx(lat))


def numbered(geobox: Any) -> np.ndarray:
    """Pixels that say where in the grid they are, of regions of 50 x 50."""
    left, top = (1, 52) if geobox.affine.c < 40 and geobox.affine.c > 0 else (-100, 40)
    row, column = round((top - geobox.affine.f) * 10000), round((geobox.affine.c - left) * 10000)
    return (row + np.arange(50)[:, None]) * 1000 + column + np.arange(50)


def test_of_very_many_values_some_are_read(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        """\
name: hours
crs: EPSG:4326
grid: {origin: {x: 0, y: 1}, resolution: {x: 1, y: -1}, shape: {y: 1, x: 1}, region: {y: 1, x: 1}}
axes: {hour: {start: 1, stop: 21000}}
variables: {v: {dtype: uint8, fill_value: 255, chunks: {hour: 21000, y: 1, x: 1}}}
store: ./hours.icechunk
""",
        encoding="utf-8",
    )
    made = ci.init(tmp_path / "grid.yaml")
    with made.view() as viewer:
        client = Client(viewer.url)
        got = client.json(f"api/point/{client.tip}/grid/v?x=0.5&y=0.5")
    assert len(got["values"]) == len(got["axes"][0]["labels"]) == 10500
    assert got["notes"] == ["one in 2 values of hour: there are 21,000 in all"]


def test_a_point_outside_the_cube_has_no_values(client: Client) -> None:
    got = client.json(f"api/point/{client.tip}/grid/cover?x=0&y=0")
    assert got["outside"]
    assert got["values"] == []


def test_a_place_is_told_in_longitude_and_latitude(client: Client) -> None:
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(310000, 5590000)
    got = client.json(f"api/place/{client.tip}/grid?x=310000&y=5590000")
    assert (got["lon"], got["lat"]) == (pytest.approx(lon), pytest.approx(lat))


def test_tiles_are_kept_by_the_browser_and_branches_asked_for_again(client: Client) -> None:
    path = f"tiles/{client.tip}/grid/cover/0/0/0/0.png"
    first = client.get(path)
    assert "immutable" in first.headers["Cache-Control"]
    again = client.get(path, if_none_match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    refs = client.get("api/refs")
    assert refs.headers["Cache-Control"] == "no-cache"
    assert client.get("api/refs", if_none_match=refs.headers["ETag"]).status == 304


def test_branches_tags_and_commits_are_listed_and_a_new_commit_is_seen(world: World) -> None:
    cube = ci.init(world.spec_file)
    with cube.view() as viewer:
        client = Client(viewer.url)
        before = client.tip
        cube.ingest(year=2000, region="20N_000E", workers=1)
        cube.tag("v1")
        refs = client.json("api/refs")
        assert refs["branches"] == {"main": cube.store.tip}
        assert refs["tags"] == {"v1": cube.store.tip}
        assert [c["snapshot"] for c in refs["history"]] == [c.snapshot for c in cube.history()]
        assert before != client.tip
        assert (client.tile("cover", "0", "0/0/0")[:100, :100, 3] == 255).all()
        assert (client.tile("cover", "0", "0/0/0", snapshot=before) == 0).all()


def test_a_cube_as_it_was_is_what_is_shown_first(cube: ci.Cube) -> None:
    with cube.at("v1").view() as viewer:
        refs = Client(viewer.url).json("api/refs")
    assert refs["first"] == "v1"
    assert refs["tags"]["v1"] == cube.at("v1").store.tip == refs["history"][0]["snapshot"]


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("")
    text = page.body.decode()
    for name in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert name.startswith(("assets/", "data:"))
        assert name.startswith("data:") or client.get(name).status == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "http" not in text


WRONG = [
    ("nothing", 404),
    ("tiles/none/grid/cover/0/0/0/0.png", 404),
    ("tiles/{tip}/lattice/cover/0/0/0/0.png", 404),
    ("tiles/{tip}/grid/none/0/0/0/0.png", 404),
    ("tiles/{tip}/grid/cover/9/0/0/0.png", 404),
    ("tiles/{tip}/grid/cover/-/0/0/0.png", 404),
    ("tiles/{tip}/grid/cover/0.0/0/0/0.png", 404),
    ("tiles/{tip}/grid/cover/%C2%B2/0/0/0.png", 404),
    ("tiles/{tip}/grid/cover/0/99/0/0.png", 404),
    ("tiles/{tip}/grid/cover/0/0/99999999999999999999/0.png", 404),
    ("tiles/{tip}/grid/cover/0/0/-1/0.png", 404),
    ("tiles/{tip}/grid/cover/0/0/" + "9" * 5000 + "/0.png", 404),
    ("tiles/{tip}/grid/cover/0000000009999/0/0/0.png", 404),
    ("tiles/{tip}/grid/cover/0/0/0/0.png/..", 404),
    ("api/point/{tip}/grid/cover?x=1e308&y=-1e308", 200),
    ("assets/..%2fapp.py", 404),
    ("assets/../../cube.py", 404),
    ("api/point/{tip}/grid/cover", 400),
    ("api/point/{tip}/grid/cover?x=nan&y=1", 400),
    ("api/point/{tip}/grid/cover?x=1&y=1&index=77", 404),
    ("api/place/{tip}/grid?x=one&y=1", 400),
    ("api/cube/%00", 404),
    ("api/cube/1CECHNKREP0F1RSTCMT0", 404),  # Icechunk's first snapshot, which holds nothing
]


@pytest.mark.parametrize(("path", "status"), WRONG)
def test_nonsense_is_answered_in_one_line(client: Client, path: str, status: int) -> None:
    reply = client.get(path.replace("{tip}", client.tip))
    assert reply.status == status
    if status == 200:
        assert reply.json["outside"]
        return
    error = reply.json["error"]
    assert error
    assert "\n" not in error
    assert "Traceback" not in error


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_get_is_answered(client: Client, method: str) -> None:
    reply = client.get("api/refs", method=method)
    assert (reply.status, reply.json) == (405, {"error": "only GET is answered"})


def test_what_would_take_long_is_thinned_and_what_would_still_is_not_read(
    cube: ci.Cube, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = level_of(cube, "height", 0)
    each = 0.0005 + 128 * 128 * 4 / 1e9  # seconds a chunk, as the reader counts
    path = f"tiles/{client.tip}/grid/height/-/1"
    monkeypatch.setattr(
        "cubeingest.view.tiles.TILE_SECONDS", 6 * each
    )  # of 16 chunks: with 4 samples a chunk it is as many
    monkeypatch.setattr("cubeingest.view.tiles.MOST_THIN", 128)
    reply = client.get(f"{path}/0/0.png")
    assert reply.headers["X-Cubeingest-Note"] == "thinned 128"
    wide = np.repeat(np.repeat(pixels[128:512:256, 128:512:256], 128, axis=0), 128, axis=1)
    assert np.array_equal(reply.rgba[..., 3] == 0, np.isnan(wide))
    monkeypatch.setattr("cubeingest.view.tiles.TILE_SECONDS", 0.0)
    reply = client.get(f"{path}/0/1.png")
    assert reply.headers["X-Cubeingest-Note"] == "costly"
    assert (reply.rgba == 0).all()


@pytest.mark.parametrize("lattice", ["plain", "south"])
def test_each_pixel_of_cells_is_the_one_at_its_longitude_and_latitude(tmp_path: Path, lattice: str) -> None:
    from healpix_geo.nested import lonlat_to_healpix

    made = make_cells(tmp_path)
    with made.view() as viewer:
        client = Client(viewer.url)
        found = client.json(f"api/cube/{client.tip}")["lattices"]
        assert [found[0]["name"], *sorted(v["name"] for v in found[1:])] == ["south", "north", "plain"]
        own = next(v for v in found if v["name"] == lattice)
        (x0, y0), (dx, dy) = own["origin"], own["step"]
        values = made.dataset()["h"].sel(cycle=22).values
        row, column = 0, int(lattice == "plain")
        x = x0 + (column * 256 + np.arange(256) + 0.5) * dx * 2
        y = y0 + (row * 256 + np.arange(256) + 0.5) * dy * 2
        lon, lat = np.meshgrid(x, y)
        if lattice == "south":
            assert own["top"] > 0
            lon, lat = Transformer.from_crs(
                "+proj=laea +lat_0=-90 +datum=WGS84", "EPSG:4326", always_xy=True
            ).transform(lon, lat)
        there = np.isfinite(lon) & (np.abs(lat) <= 90) & ((lat < 0) | (lattice == "plain"))
        cells = lonlat_to_healpix(np.where(there, lon, 0.0), np.where(there, lat, 0.0), 7, ellipsoid="WGS84").astype(
            int
        )
        position = made.grid.positions_of(cells)  # type: ignore[attr-defined]
        wanted = np.where(there & (position >= 0), values[np.maximum(position, 0)], np.nan).astype(np.float32)
        got = client.tile("h", "1", f"1/{row}/{column}", lattice)
        assert np.array_equal(got[..., 3] > 0, np.isfinite(wanted))
        assert (np.isfinite(wanted)).any()
        assert np.array_equal(got, painted(made, "h", wanted, values))
        at = (x0 + 4.2e6, y0 - 9.2e6) if lattice == "south" else (10.0, -80.0)
        told = client.json(f"api/point/{client.tip}/{lattice}/h?x={at[0]}&y={at[1]}")
        (cell,) = lonlat_to_healpix(
            np.array([told["where"]["lon"]]), np.array([told["where"]["lat"]]), 7, ellipsoid="WGS84"
        ).tolist()
        (place,) = made.grid.positions_of(np.array([cell])).tolist()  # type: ignore[attr-defined]
        if place < 0:
            assert told["outside"]
        else:
            series = made.dataset()["h"].values[:, place]
            assert told["where"]["cell"] == cell
            assert told["values"] == [float(series[0]), float(series[1])]


def make_cells(folder: Path) -> ci.Cube:
    """Cells of order 7 around the south pole, two cycles, without overviews; more than one colour."""
    from cubeingest.healpix import cover_box

    ids = cover_box((-180, -90, 180, -68), 2, "WGS84").tolist()
    (folder / "cells.yaml").write_text(
        f"name: cells\ngrid: {{type: healpix, order: 7, region_order: 2, ellipsoid: WGS84, regions: {{ids: {ids}}}}}\n"
        "axes: {cycle: {values: [21, 22]}}\nvariables: {h: {dtype: float32, fill_value: .nan, attrs: {valid_min: -2000, valid_max: 4000, units: m}}}\nstore: ./cells.icechunk\n"
    )
    made = ci.init(folder / "cells.yaml")

    def height(area: Any, cycle: int) -> np.ndarray:
        lon, lat = (np.radians(v) for v in area.centres())
        return (1500 * np.cos(3 * lon) * np.cos(lat) + 100 * cycle).astype(np.float32)

    made.ingest(source=height, workers=1)
    return made


def test_a_page_elsewhere_whose_name_leads_here_may_not_read(client: Client) -> None:
    assert client.get("api/refs", host="evil.example").status == 400
    assert client.get("api/refs", host="localhost:1").status == 200


def test_a_store_that_disappears_is_an_error_until_it_is_back(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(year=2000, workers=1)
    with cube.view() as viewer:
        client = Client(viewer.url)
        tip = client.tip
        client.tile("cover", "0", "0/0/0")
        away = shutil.move(cube.store.uri, world.folder / "away")
        for path in ("api/refs", f"tiles/{tip}/grid/cover/0/1/0/0.png"):
            reply = client.get(path)
            assert reply.status in (404, 503), path
            assert "error" in reply.json
            assert reply.headers["Cache-Control"] == "no-store"
        assert client.get("api/refs").status == 503
        shutil.move(away, cube.store.uri)
        assert client.tip == tip
        assert (client.tile("cover", "0", "0/0/0")[:100, :100, 3] == 255).all()


def test_another_cube_in_the_place_of_the_first_is_seen(world: World) -> None:
    cube = ci.init(world.spec_file)
    cube.ingest(year=2000, workers=1)
    with cube.view() as viewer:
        client = Client(viewer.url)
        tip = client.tip
        shutil.rmtree(cube.store.uri)
        assert client.get("api/refs").status == 503
        anew = ci.init(world.spec_file)
        assert client.tip == anew.store.tip != tip
        assert (client.tile("cover", "0", "0/0/0") == 0).all()
        assert client.get(f"api/cube/{tip}").status == 404


@pytest.mark.slow
def test_the_benchmark_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import view

    monkeypatch.setenv("PATH", "")  # neither uv nor a browser
    view.main(["--side", "2000", "--tiles", "6", "--keep", str(tmp_path)])
    said = capsys.readouterr().out
    assert "ms a tile (median of 6" in said
    assert "rio-tiler: not measured" in said
    assert "first paint: not measured" in said


@pytest.mark.slow
def test_a_cube_in_a_bucket_is_shown_like_any_other(world: World, bucket: Bucket) -> None:
    cube = ci.init(world.spec_file, bucket.uri("cubes/small"))
    cube.ingest(year=2000, workers=1)
    pixels = cube.dataset()["cover"].sel(year=2000).values
    with cube.view() as viewer:
        client = Client(viewer.url)
        assert np.array_equal(client.tile("cover", "0", "0/0/0"), painted(cube, "cover", pixels, pixels))
        assert 'data-poll="20"' in client.get("").body.decode()


def test_a_port_that_is_taken_is_named(world: World, invoke: Callable[..., Ran], cube: ci.Cube) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CubeIngestError, match=f"port {port} .* is in use"):
            cube.view(port=port)
        ran = invoke("view", "--store", cube.store.uri, "--port", port, "--no-browser")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert f"port {port}" in ran.err
    assert "--port" in ran.err


@pytest.mark.parametrize(
    ("options", "told"), [(("--port", "99999"), "port 99999"), (("--host", "192.0.2.1"), "192.0.2.1")]
)
def test_an_address_that_cannot_be_is_said(
    cube: ci.Cube, invoke: Callable[..., Ran], options: tuple[str, ...], told: str
) -> None:
    ran = invoke("view", "--store", cube.store.uri, "--no-browser", *options)
    assert ran.code == 2
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_without_its_libraries_it_says_what_to_install(cube: ci.Cube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(CubeIngestError, match=r"pip install 'cubeingest\[view\]'"):
        cube.view()


def test_the_command_says_where_and_ends_quietly(cube: ci.Cube) -> None:
    command = [sys.executable, "-m", "cubeingest", "view", "--store", cube.store.uri, "--port", "0", "--no-browser"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as running:
        assert running.stdout is not None
        url = running.stdout.readline().split()[-1]
        assert Client(url).tip == cube.store.tip
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "Traceback" not in err
    with pytest.raises(urllib.error.URLError):
        Client(url).get("")


def test_a_closed_viewer_frees_its_port(cube: ci.Cube) -> None:
    with cube.view() as viewer:
        port = int(viewer.url.rstrip("/").rsplit(":", 1)[1])
    with cube.view(port=port) as again:
        assert Client(again.url).tip
        assert json.dumps(again.url).strip('"') in again._repr_html_()


def test_what_is_kept_is_made_once_and_failures_are_not_kept() -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    from cubeingest.view.kept import Kept

    made: list[int] = []
    kept: Kept[int] = Kept(100, lambda value: value)
    ready = Barrier(8)

    def ask(_: int) -> int:
        ready.wait()
        return kept.get("a", lambda: made.append(1) or 60)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [60] * 8
    assert made == [1]
    with pytest.raises(ZeroDivisionError):
        kept.get("b", lambda: 1 // 0)
    assert kept.get("b", lambda: 50) == 50  # more than there is room for: the older one goes
    assert kept.get("a", lambda: made.append(2) or 10) == 10
    assert made == [1, 2]


@pytest.mark.parametrize("n_colours", [1, 2, 256, 257, 60_000])
def test_a_png_holds_the_pixels(n_colours: int) -> None:
    import io

    from PIL import Image

    from cubeingest.view.png import encode_png

    rng = np.random.default_rng(n_colours)
    table = rng.integers(0, 256, (n_colours, 4), dtype=np.uint8)
    pixels = table[rng.integers(0, n_colours, (256, 200))]
    image = Image.open(io.BytesIO(encode_png(pixels)))
    image.verify()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels))).convert("RGBA")), pixels)


@given(shape=st.tuples(st.integers(1, 5000), st.integers(1, 5000)), level=st.integers(0, 6))
def test_tiles_hold_every_pixel_once(shape: tuple[int, int], level: int) -> None:
    from cubeingest.view.lattice import Lattice

    lattice = Lattice("grid", "", "EPSG:4326", 0.0, 10.0, 0.5, -0.25, shape)
    assert lattice.window(lattice.top_level, 0, 0) == (slice(0, shape[0]), slice(0, shape[1]))
    assert lattice.window(lattice.top_level, 0, 1) is None
    if level > lattice.top_level:
        assert lattice.window(level, 0, 0) is None
        return
    size = 256 << level
    for axis, n in enumerate(shape):
        found = [lattice.window(level, *((i, 0) if axis == 0 else (0, i))) for i in range(-1, n // size + 2)]
        edges = [(w[axis].start, w[axis].stop) for w in found if w is not None]
        assert [e[0] for e in edges] == list(range(0, n, size))
        assert [e[1] for e in edges] == [*range(size, n, size), n]
