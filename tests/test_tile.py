"""One raster: whether it fits, and its pixels. The oracle is what rasterio reads of the whole file."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

import cubeingest as ci
from cubeingest.errors import TileError
from cubeingest.spec import CubeSpec, Variable, read_spec
from cubeingest.tile import (
    Header,
    SourceId,
    TileReader,
    open_tile,
    place,
    public_href,
    read_header,
    source_id,
)
from tests.conftest import SPEC, World, write_tile

UTM_WKT = CRS.from_epsg(32631)
ESRI_WGS84 = (
    'GEOGCS["GCS_WGS_1984",DATUM["D_WGS_1984",SPHEROID["WGS_1984",6378137.0,298.257223563]],'
    'PRIMEM["Greenwich",0.0],UNIT["Degree",0.0174532925199433]]'
)


@pytest.fixture
def spec(tmp_path: Path) -> CubeSpec:
    (tmp_path / "grid.yaml").write_text(SPEC)
    return read_spec(tmp_path / "grid.yaml")


def header(**changes: Any) -> Header:
    """A tile of 100 x 100 pixels that fits region 20N_000E, but for ``changes``."""
    fits = Header("a.tif", CRS.from_epsg(4326), (0.1, 0, 0, 0, -0.1, 20), (100, 100), ("uint8",), (None,), (100, 100))
    return replace(fits, **changes)


def at(left: float, top: float, x: float = 0.1, y: float = -0.1) -> tuple[float, ...]:
    return (x, 0.0, left, 0.0, y, top)


def variable(spec: CubeSpec, dtype: str = "uint8", fill: float = 255, nodata: float | str = "file") -> Variable:
    (cover,) = spec.variables
    assert cover.source is not None
    return replace(cover, dtype=dtype, fill_value=fill, source=replace(cover.source, nodata=nodata))


# ---- reading --------------------------------------------------------------------------------------------------


class Asked:
    """A real dataset that notes the rows asked of it."""

    def __init__(self, src: rasterio.DatasetReader) -> None:
        self.src, self.rows = src, list[tuple[int, int]]()

    def read(self, band: int, window: rasterio.windows.Window, out: np.ndarray) -> np.ndarray:
        self.rows.append((window.row_off, window.row_off + window.height))
        return self.src.read(band, window=window, out=out)


def check_reading(spec: CubeSpec, path: Path, rows: slice, columns: slice, window_rows: int) -> None:
    """Read part of a tile that begins where the grid does, in windows: right, and no row of blocks asked for twice."""
    own, cover = read_header(str(path)), variable(spec)
    out = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    with rasterio.open(path) as src:
        asked = Asked(src)
        reader = TileReader(asked, own, place(own, spec.grid, cover), cover)  # type: ignore[arg-type]
        for start in range(rows.start, rows.stop, window_rows):
            stop = min(start + window_rows, rows.stop)
            reader.read_into(out[start - rows.start : stop - rows.start], slice(start, stop), columns)
        whole = src.read(1)[::-1] if src.transform.e > 0 else src.read(1)
    assert np.array_equal(out, whole[rows, columns])
    block, height = own.block_shape_yx[0], own.shape_yx[0]
    for first in range(0, height, block):
        times = sum(a < min(first + block, height) and first < b for a, b in asked.rows)
        assert times <= 1, f"block rows from {first}: asked for {times} times, of {asked.rows}"


def random_tile(path: Path, flipped: bool = False, **profile: Any) -> Path:
    """A tile of 100 x 100 pixels at the grid's corner; ``flipped``: stored south to north."""
    pixels = np.random.default_rng(3).integers(0, 200, (100, 100)).astype(np.uint8)
    stored = Affine(0.1, 0, 0, 0, 0.1, 10) if flipped else Affine(0.1, 0, 0, 0, -0.1, 20)
    return write_tile(path, pixels, 0, 20, transform=stored, **profile)


STRIPS = {"blockysize": 1}
ODD_STRIPS = {"blockysize": 30}  # 100 rows: the last has 10
WHOLE = {"blockysize": 100}
BLOCKS = {"tiled": True, "blockxsize": 32, "blockysize": 48}  # 48, 48, 4 rows; columns cut too


@pytest.mark.parametrize("flipped", [False, True], ids=["north_up", "south_up"])
@pytest.mark.parametrize("layout", [STRIPS, ODD_STRIPS, WHOLE, BLOCKS], ids=["strips", "odd_strips", "whole", "blocks"])
@pytest.mark.parametrize("window_rows", [1, 7, 25, 50, 64, 100])
def test_every_block_is_decoded_once_and_pixels_are_as_rasterio_reads_them(
    spec: CubeSpec, tmp_path: Path, flipped: bool, layout: dict[str, Any], window_rows: int
) -> None:
    path = random_tile(tmp_path / "a.tif", flipped, **layout)
    check_reading(spec, path, slice(0, 100), slice(0, 100), window_rows)


@pytest.mark.parametrize("flipped", [False, True], ids=["north_up", "south_up"])
@pytest.mark.parametrize(
    ("first", "last", "window_rows", "block"), [(10, 90, 40, 20), (10, 90, 25, 30), (35, 70, 5, 16), (1, 99, 33, 48)]
)
def test_part_of_a_tile_decodes_each_block_once(
    spec: CubeSpec, tmp_path: Path, flipped: bool, first: int, last: int, window_rows: int, block: int
) -> None:
    """A tile that feeds several regions: its blocks are cut by the region's edges as well as by windows."""
    path = random_tile(tmp_path / "a.tif", flipped, blockysize=block)
    check_reading(spec, path, slice(first, last), slice(30, 70), window_rows)


def test_columns_of_a_larger_buffer_are_filled_and_the_rest_is_left(spec: CubeSpec, tmp_path: Path) -> None:
    path = random_tile(tmp_path / "a.tif", **BLOCKS)
    out = np.full((100, 120), 9, np.uint8)
    with open_tile(str(path), spec.grid, variable(spec)) as reader:
        reader.read_into(out[:, 5:105], slice(0, 100), slice(0, 100))
    with rasterio.open(path) as src:
        assert np.array_equal(out[:, 5:105], src.read(1))
    assert (out[:, :5] == 9).all()
    assert (out[:, 105:] == 9).all()


def test_other_columns_after_part_of_a_block_are_not_those_kept(spec: CubeSpec, tmp_path: Path) -> None:
    path = random_tile(tmp_path / "a.tif", **WHOLE)
    left, right = np.empty((20, 50), np.uint8), np.empty((20, 50), np.uint8)
    with open_tile(str(path), spec.grid, variable(spec)) as reader:
        reader.read_into(left, slice(0, 20), slice(0, 50))
        reader.read_into(right, slice(0, 20), slice(50, 100))
    with rasterio.open(path) as src:
        assert np.array_equal(np.hstack([left, right]), src.read(1)[:20])


def test_damage_names_the_rows(spec: CubeSpec, tmp_path: Path) -> None:
    path = random_tile(tmp_path / "a.tif", blockysize=10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    out = np.empty((50, 100), np.uint8)
    with (
        open_tile(str(path), spec.grid, variable(spec)) as reader,
        pytest.raises(TileError, match=r"a\.tif' cannot be read at rows 50:100 \(cut short or damaged\?\)"),
    ):
        reader.read_into(out, slice(50, 100), slice(0, 100))


# ---- nodata and fill value ------------------------------------------------------------------------------------

NAN = float("nan")
MAPPED = [
    # tile's dtype, its nodata, source.nodata, variable's dtype, fill value, pixels, what the cube gets
    ("uint8", None, "file", "uint8", 255, [0, 1, 254], [0, 1, 254]),
    ("uint8", 255, "file", "uint8", 255, [0, 255], [0, 255]),
    ("uint8", 0, "file", "uint8", 255, [0, 7], [255, 7]),
    ("uint8", 0, 255, "uint8", 255, [0, 255], [0, 255]),
    ("uint8", 0, "none", "uint8", 255, [0, 7], [0, 7]),
    ("uint8", None, 9, "uint8", 255, [9, 7], [255, 7]),
    ("uint8", None, 300, "uint8", 255, [44, 7], [44, 7]),
    ("uint8", None, 7.5, "uint8", 255, [7, 8], [7, 8]),
    ("uint8", None, NAN, "uint8", 255, [0, 7], [0, 7]),
    ("uint8", 255, "file", "int16", -1, [255, 7], [-1, 7]),
    ("uint8", None, "file", "int16", -1, [255, 7], [255, 7]),
    ("uint8", 255, "file", "int16", 255, [255, 7], [255, 7]),
    ("int16", -32768, "file", "int16", 0, [-32768, 5], [0, 5]),
    ("int16", -9999, "file", "float32", NAN, [-9999, 5], [NAN, 5]),
    ("float32", NAN, "file", "float32", NAN, [NAN, 0.5], [NAN, 0.5]),
    ("float32", -9999, "file", "float32", NAN, [-9999, NAN, 0.5], [NAN, NAN, 0.5]),
    ("float32", NAN, "file", "float32", -9999, [NAN, 0.5], [-9999, 0.5]),
    ("float32", -3.4028234663852886e38, "file", "float32", NAN, [-3.4028234663852886e38, 1], [NAN, 1]),
    ("float32", None, 0.1, "float64", NAN, [np.float32(0.1), 1], [NAN, 1]),
    ("float32", None, "none", "float32", NAN, [NAN, np.inf], [NAN, np.inf]),
]


@pytest.mark.parametrize(("dtype", "own", "said", "cube_dtype", "fill", "pixels", "expected"), MAPPED)
def test_nodata_becomes_the_fill_value(
    spec: CubeSpec, tmp_path: Path, dtype: str, own: Any, said: Any, cube_dtype: str, fill: Any, pixels: Any, expected: Any
) -> None:  # fmt: skip
    path = write_tile(tmp_path / "a.tif", np.array([pixels], dtype), 0, 20, nodata=own)
    out = np.empty((1, len(pixels)), cube_dtype)
    with open_tile(str(path), spec.grid, variable(spec, cube_dtype, fill, said)) as reader:
        reader.read_into(out, slice(0, 1), slice(0, len(pixels)))
    assert np.array_equal(out[0], np.array(expected, cube_dtype), equal_nan=cube_dtype.startswith("float"))


@pytest.mark.parametrize(
    ("dtype", "own", "said", "cube_dtype", "fill", "pixels", "message"),
    [
        ("uint8", None, "file", "uint8", 255, [255, 255, 1], r"\(at least 2; its nodata is none\)"),
        ("uint8", 0, "file", "uint8", 255, [0, 255, 1], r"\(at least 1; its nodata is 0\)"),
        ("uint8", 255, "none", "uint8", 255, [255], r"its nodata is none.*say source.nodata: 255; else choose another"),
        ("int16", -9999, "file", "int32", 0, [0, -9999], r"its nodata is -9999.*say source.nodata: 0;"),
        ("float32", NAN, "file", "float32", -9999, [-9999, NAN], r"its nodata is nan"),
    ],
)
def test_valid_pixels_equal_to_the_fill_value_are_refused(
    spec: CubeSpec, tmp_path: Path, dtype: str, own: Any, said: Any, cube_dtype: str, fill: Any, pixels: Any, message: str
) -> None:  # fmt: skip
    path = write_tile(tmp_path / "a.tif", np.array([pixels], dtype), 0, 20, nodata=own)
    with (
        open_tile(str(path), spec.grid, variable(spec, cube_dtype, fill, said)) as reader,
        pytest.raises(TileError, match=rf"a\.tif' has valid pixels equal to the fill value.*{message}"),
    ):
        reader.read_into(np.empty((1, len(pixels)), cube_dtype), slice(0, 1), slice(0, len(pixels)))


# ---- placement ------------------------------------------------------------------------------------------------

HERE = (slice(0, 100), slice(0, 100))
MISFITS = [
    ({"crs": None}, "has no CRS, expected EPSG:4326"),
    ({"crs": UTM_WKT}, "is in CRS EPSG:32631, expected EPSG:4326"),
    ({"transform": (0.1, 0.01, 0, 0, -0.1, 20)}, "is rotated or sheared .*: warp it to the grid first"),
    ({"transform": (0.1, 0, 0, 0.01, -0.1, 20)}, "is rotated or sheared"),
    ({"transform": at(10, 20, x=-0.1)}, r"has columns that run east to west \(pixel size x -0\.1\): flip it first"),
    ({"transform": at(0, 20, x=0.2)}, r"has pixel size 0\.2 along x, expected 0\.1: over its 100 pixels that is 100 px off"),
    ({"transform": at(0, 20, y=-0.1001)}, r"has pixel size 0\.1001 along y, expected 0\.1: .* 0\.1 px off \(allowed 0\.01\)"),
    ({"transform": at(0.03, 20)}, r"lies 0\.3 px east of the grid \(allowed 0\.01 px\): check its transform"),
    ({"transform": at(-0.03, 20)}, r"lies 0\.3 px west of the grid"),
    ({"transform": at(0, 20.03)}, r"lies 0\.3 px north of the grid"),
    ({"transform": at(0, 19.97)}, r"lies 0\.3 px south of the grid"),
    ({"transform": at(0, 19.95)}, r"lies 0\.5 px (north|south) of the grid"),
    ({"shape_yx": (99, 100)}, "has 99 pixels along y, its place in the grid has 100"),
    ({"shape_yx": (100, 101)}, "has 101 pixels along x, its place in the grid has 100"),
    ({"transform": at(10, 20)}, "lies at x 100:200, but by its name it belongs at x 0:100"),
    ({"transform": at(0, 10)}, "lies at y 100:200, but by its name it belongs at y 0:100"),
    ({"dtypes": ("uint8", "uint8")}, "has 2 bands, expected one: say which with source.band or source.bands"),
    ({"dtypes": ("int16",)}, "is int16, variable 'cover' is uint8: not every value .* declare dtype int16 in the spec"),
    ({"dtypes": ("float32",)}, "is float32, variable 'cover' is uint8: .* declare dtype float32 in the spec"),
    ({"dtypes": ("int8",)}, "is int8, variable 'cover' is uint8: .* declare dtype int16 in the spec"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), MISFITS)
def test_tile_that_does_not_fit_is_told_why(spec: CubeSpec, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TileError, match=rf"^tile 'a\.tif' {message}"):
        place(header(**changes), spec.grid, spec.variables[0], expected=HERE)


def test_band_that_the_tile_does_not_have_is_told(spec: CubeSpec) -> None:
    with pytest.raises(TileError, match="has no band 3: it has 2"):
        place(header(dtypes=("uint8", "uint8")), spec.grid, spec.variables[0], band=3)


@pytest.mark.parametrize("crs", ["OGC:CRS84", "+proj=longlat +datum=WGS84 +no_defs", ESRI_WGS84])
def test_other_spellings_of_the_crs_fit(spec: CubeSpec, crs: str) -> None:
    assert place(header(crs=CRS.from_user_input(crs)), spec.grid, spec.variables[0]).window == HERE


@pytest.mark.parametrize("noise", [1e-9, -1e-9, 1e-12])
def test_float_noise_fits(spec: CubeSpec, noise: float) -> None:
    tile = header(transform=at(10 + noise, 20 - noise, x=0.1 + noise / 100))
    assert place(tile, spec.grid, spec.variables[0]).window == (slice(0, 100), slice(100, 200))


@pytest.mark.parametrize("width", [50, 100])
def test_last_column_may_stop_at_the_end_of_the_grid_or_reach_past_it(spec: CubeSpec, width: int) -> None:
    tile = header(transform=at(20, 20), shape_yx=(100, width))
    placed = place(tile, spec.grid, spec.variables[0], expected=(slice(0, 100), slice(200, 250)))
    assert placed.window == (slice(0, 100), slice(200, 200 + width))


def test_band_and_its_own_dtype_and_nodata_are_taken(spec: CubeSpec) -> None:
    tile = header(dtypes=("float64", "uint8"), nodata=(None, 7.0))
    placed = place(tile, spec.grid, variable(spec), band=2)
    assert (placed.band, placed.nodata, placed.flipped) == (2, 7.0, False)


@pytest.mark.parametrize("name", ["", "a.txt"])
def test_what_is_not_a_raster_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("no raster")
    with pytest.raises(TileError, match=r"is not a raster that can be read: "):
        read_header(str(tmp_path / name))


# ---- sources --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_source_id_of_a_local_file_changes_with_its_size_and_time(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"12345")
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    href = scheme + str(path)
    assert source_id(href) == SourceId(href, 5, "1700000000123456789")
    os.utime(path, ns=(1, 1_700_000_000_123_456_790))
    assert source_id(href).stamp == "1700000000123456790"


def test_source_id_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        source_id(str(tmp_path / "a.tif"))


@pytest.mark.parametrize(
    ("href", "public"),
    [
        ("tiles/a?b@c#d.tif", "tiles/a?b@c#d.tif"),
        ("https://h/a.tif", "https://h/a.tif"),
        ("https://bob:pass@h:80/a.tif?sig=key#part", "https://h:80/a.tif"),
        ("https://a@b:pass@h/a.tif", "https://h/a.tif"),
        ("s3://key@bucket/a.tif", "s3://bucket/a.tif"),
        ("/vsicurl/https://bob:pass@h/a.tif?sig=key", "/vsicurl/https://h/a.tif"),
    ],
)
def test_public_href_has_no_user_password_or_query(href: str, public: str) -> None:
    assert public_href(href) == public


def test_public_href_of_what_is_no_url_can_still_be_printed() -> None:
    assert "pass" not in public_href("https://bob:pass@[h/a.tif?sig=key")


class _Refusing(BaseHTTPRequestHandler):
    """Answers ``/403/a.tif`` with status 403, and so on."""

    def do_GET(self) -> None:
        self.send_error(int(self.path.split("/")[1]))

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    """Host and port of a loopback server that gives nothing to anybody."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_web_address_without_a_file_is_a_missing_tile(refusing: str) -> None:
    with pytest.raises(FileNotFoundError):
        source_id(f"http://{refusing}/404/a.tif")


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_server_that_refuses_or_fails_is_no_missing_tile(refusing: str, status: int) -> None:
    """Else ``missing: absent`` would leave tiles out whenever a server has a bad moment."""
    with pytest.raises(TileError, match=rf"cannot reach 'http://{refusing}/{status}/a\.tif': .*{status}"):
        source_id(f"http://{refusing}/{status}/a.tif")


def test_server_that_does_not_answer_is_no_missing_tile() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TileError, match=rf"cannot reach 'http://127\.0\.0\.1:{port}/a\.tif'"):
        source_id(f"http://127.0.0.1:{port}/a.tif")


@pytest.mark.parametrize("ask", [source_id, read_header])
def test_messages_hold_no_secrets_of_the_href(refusing: str, ask: Any) -> None:
    with pytest.raises(TileError, match=f"'http://{refusing}/403/a.tif'") as caught:
        ask(f"http://bob:pass@{refusing}/403/a.tif?sig=key")
    assert "pass" not in str(caught.value)
    assert "sig=key" not in str(caught.value)


@pytest.mark.parametrize(("own", "to", "fits"), [("int64", "float64", False), ("uint32", "float64", True), ("int32", "float32", False), ("int16", "float32", True), ("uint8", "int16", True), ("int8", "uint8", False)])  # fmt: skip
def test_widening_keeps_every_value(world: World, own: str, to: str, fits: bool) -> None:
    """Numpy calls int64 to float64 safe, although it rounds above 2**53."""
    world.write_spec(
        ("dtype: uint8", f"dtype: {to}"), ("fill_value: 255", "fill_value: 99"), ("nodata: 255", "nodata: 99")
    )
    world.add_tile(2000, "20N_000E", np.ones((100, 100), own))
    report = ci.init(world.spec_file).ingest(region="20N_000E", year=2000)
    assert (report.written, len(report.failed)) == ((1, 0) if fits else (0, 1))
