"""GLAD's spec, whole: its lists and tiles come from a web server on this machine, with GLAD's own names.

Once scaled down by 1000 with all 1,400 tiles of the five years, once in its true size with one tile.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from rasterio.windows import Window

import cubeingest as ci
from tests.conftest import Ran

YEARS = (2000, 2005, 2010, 2015, 2020)
N_TILES = 280
"""Tiles a year; GLAD has none where there is no land."""

FOLDER = "earthenginepartners-hansen/GLCLU2000-2020/v2"
SPEC = Path(__file__).parent.parent / "grids" / "glad-lclu.yaml"
SCALED = (
    ("{x: 1/4000, y: -1/4000}", "{x: 1/4, y: -1/4}"),
    ("shape: {y: 560000, x: 1440000}", "shape: {y: 560, x: 1440}"),
    ("region: {y: 40000, x: 40000}", "region: {y: 40, x: 40}"),
    ("chunks: {year: 1, y: 1000, x: 1000}", "chunks: {year: 1, y: 20, x: 20}"),
    ("shards: {year: 1, y: 1000, x: 8000}", "shards: {year: 1, y: 20, x: 40}"),
)
"""A tile of 40 x 40 pixels instead of 40000 x 40000; all else as it is."""


@dataclass
class Web:
    """Files by path, served on loopback: HEAD, GET and Range, with ETag and Content-Length. Notes each request.

    A GET of a path in ``held`` waits until that event is set; then (path, client port) is in ``waiting``.
    """

    url: str = ""
    files: dict[str, bytes | Path] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    held: dict[str, threading.Event] = field(default_factory=dict)
    waiting: queue.Queue[tuple[str, int]] = field(default_factory=queue.Queue)

    def asked(self, method: str, suffix: str) -> int:
        return sum(m == method and path.endswith(suffix) for m, path in self.requests)

    def hold(self, *paths: str) -> None:
        self.held |= {path: threading.Event() for path in paths}

    def release(self) -> None:
        for event in self.held.values():
            event.set()


@contextmanager
def serve(host: str = "127.0.0.1") -> Iterator[Web]:
    """A web server on a port of its own."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            if self.path in web.held:
                web.waiting.put((self.path, self.client_address[1]))
                web.held[self.path].wait()
            self.answer()

        def answer(self) -> None:
            web.requests.append((self.command, self.path))
            content = web.files.get(self.path)
            if content is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            size = content.stat().st_size if isinstance(content, Path) else len(content)
            start, stop = 0, size
            asked = self.headers.get("Range")
            if asked:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start, stop = int(first), min(int(last or size) + 1, size)
                if start >= size:
                    self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                    return
            self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(stop - start))
            self.send_header("ETag", f'"{tag_of(content)}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(read_range(content, start, stop))

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        web.url = f"http://{host}:{server.server_port}"
        try:
            yield web
        finally:
            web.release()
            server.shutdown()
            thread.join()


def read_range(content: bytes | Path, start: int, stop: int) -> bytes:
    if isinstance(content, bytes):
        return content[start:stop]
    with content.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


def tag_of(content: bytes | Path) -> str:
    if isinstance(content, Path):
        return f"{content.stat().st_mtime_ns:x}"
    return hashlib.sha256(content).hexdigest()[:16]


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with serve() as made:
        yield made


def put(web: Web, path: str, content: bytes | str | Path) -> None:
    """Put a file into GLAD's folder on the server."""
    web.files[f"/{FOLDER}/{path}"] = content.encode() if isinstance(content, str) else content


def tile_name(left: int, top: int) -> str:
    """GLAD's: by the upper left corner, latitude first, such as 70N_180W and 00N_000E."""
    return f"{abs(top):02d}{'S' if top < 0 else 'N'}_{abs(left):03d}{'W' if left < 0 else 'E'}"


@pytest.fixture(scope="module")
def corners() -> dict[str, tuple[int, int]]:
    """(left, top) by tile name of the 280 cells of 10 degrees that have most land."""
    with rasterio.open(str(files("cubeingest") / "data" / "land.tif")) as land:
        cells = land.read(1).reshape(14, 240, 36, 240).sum((1, 3), dtype=np.int64)
    order = np.argsort(-cells, axis=None, kind="stable")[:N_TILES]
    places = [
        (-180 + 10 * int(ix), 80 - 10 * int(iy)) for iy, ix in zip(*np.unravel_index(order, cells.shape), strict=True)
    ]
    return {tile_name(left, top): (left, top) for left, top in places}


def make_tile(pixels: np.ndarray, left: int, top: int) -> bytes:
    """A GeoTIFF as GLAD's are: no nodata declared."""
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 1,
        "height": 40,
        "width": 40,
        "crs": "EPSG:4326",
        "compress": "lzw",
    }
    with MemoryFile() as memory:
        with memory.open(transform=from_origin(left, top, 0.25, 0.25), **profile) as tile:
            tile.write(pixels, 1)
        return bytes(memory.read())


def write_spec(folder: Path, web: Web, *changes: tuple[str, str]) -> None:
    text = SPEC.read_text(encoding="utf-8")
    for old, new in (("gs://", f"{web.url}/"), *changes):
        assert old in text
        text = text.replace(old, new)
    (folder / "glad-lclu.yaml").write_text(text, encoding="utf-8")


def put_lists(web: Web, names: list[str]) -> None:
    """As GLAD's: whole URLs, and not those that the spec has."""
    for year in YEARS:
        put(web, f"{year}.txt", "".join(f"https://lists.example/{FOLDER}/{year}/{name}.tif\n" for name in names))


def test_spec_declares_the_cube_that_glad_is() -> None:
    spec = ci.read_spec(SPEC)
    (lclu,) = spec.variables
    assert spec.shape_of(lclu) == (5, 560_000, 1_440_000)
    assert spec.grid.lattice_shape_yx == (14, 36)
    assert spec.grid.region("70N_180W", year=2000) == {
        "year": slice(0, 1),
        "y": slice(40000, 80000),
        "x": slice(0, 40000),
    }


def test_names_are_those_of_the_cells_with_most_land(corners: dict[str, tuple[int, int]]) -> None:
    assert len(corners) == N_TILES
    assert {"70N_180W", "00N_020E", "20S_130E", "50N_010E"} <= set(corners)
    assert not {"10N_150W", "50S_120W"} & set(corners)
    assert set(corners) <= set(ci.read_spec(SPEC).grid.region_ids())


@pytest.mark.slow
def test_all_1400_tiles_make_the_cube_that_pasting_by_name_makes(
    web: Web, corners: dict[str, tuple[int, int]], tmp_path: Path, invoke: Callable[..., Ran]
) -> None:
    rng = np.random.default_rng(1400)
    oracle = np.full((5, 560, 1440), 255, np.uint8)
    for t, year in enumerate(YEARS):
        for name, (left, top) in corners.items():
            pixels = rng.integers(0, 251, (40, 40), dtype=np.uint8)
            if name == "00N_020E":
                pixels[: 10 * t] = 255  # no data; all of it in 2020
            put(web, f"{year}/{name}.tif", make_tile(pixels, left, top))
            y, x = (80 - top) * 4, (left + 180) * 4
            oracle[t, y : y + 40, x : x + 40] = pixels
    put_lists(web, sorted(corners))
    write_spec(tmp_path, web, *SCALED)

    assert invoke("init", "glad-lclu.yaml", cwd=tmp_path).code == 0
    status = invoke("status", "--json", cwd=tmp_path).json
    assert (status["total"], status["done"], status["empty"], status["pending"], status["absent"]) == (
        2520,
        0,
        0,
        1400,
        1120,
    )
    assert web.asked("GET", ".tif") == 0

    first = invoke("ingest", "--year", 2000, "--json", cwd=tmp_path)
    assert (first.code, first.json["written"], first.json["failed"]) == (0, 280, [])
    status = invoke("status", "--json", cwd=tmp_path).json
    assert status["by"]["year"]["2000"] == {"done": 280, "empty": 0, "pending": 0, "absent": 224}
    assert status["by"]["year"]["2005"] == {"done": 0, "empty": 0, "pending": 280, "absent": 224}

    rest = invoke("ingest", "--workers", 2, "--json", cwd=tmp_path)
    assert (rest.code, rest.json["written"], rest.json["empty"], rest.json["skipped"]) == (0, 1119, 1, 280)
    assert rest.json["bytes"] == 1120 * 40 * 40
    status = invoke("status", "--json", cwd=tmp_path).json
    assert (status["done"], status["empty"], status["pending"], status["absent"]) == (1399, 1, 0, 1120)

    web.requests.clear()
    again = invoke("ingest", "--json", cwd=tmp_path)
    assert (again.code, again.json["skipped"], again.json["snapshot"]) == (0, 1400, None)
    assert (web.asked("GET", ".tif"), web.asked("HEAD", ".tif")) == (0, 1400)

    cube = ci.open(tmp_path / "glad-lclu.icechunk")
    assert np.array_equal(cube.dataset()["lclu"].values, oracle)
    assert len(cube.history()) == 3


def test_tile_that_changed_on_the_server_is_read_anew_by_a_process_that_read_it_before(
    web: Web, corners: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    """GDAL keeps what it fetched from a URL; a new ETag in the ledger beside the old pixels would never be noticed."""
    write_spec(tmp_path, web, *SCALED)
    put_lists(web, ["70N_180W", "60N_180W"])
    for name in ("70N_180W", "60N_180W"):
        put(web, f"2010/{name}.tif", make_tile(np.full((40, 40), 1, np.uint8), *corners[name]))
    cube = ci.init(tmp_path / "glad-lclu.yaml")
    assert cube.ingest(year=2010).written == 2
    put(web, "2010/70N_180W.tif", make_tile(np.full((40, 40), 2, np.uint8), *corners["70N_180W"]))
    report = cube.ingest(year=2010)
    assert (report.written, report.skipped) == (1, 1)
    assert (cube.dataset()["lclu"].sel(year=2010)[40:80, :40].values == 2).all()


def write_big_tile(path: Path, left: int, top: int) -> None:
    """40000 x 40000 pixels in deflated strips, of which only some are in the file: the others are 0."""
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 40000, "width": 40000, "crs": "EPSG:4326"}
    profile |= {
        "compress": "deflate",
        "sparse_ok": True,
        "blockysize": 8,
        "transform": from_origin(left, top, 1 / 4000, 1 / 4000),
    }
    rng = np.random.default_rng(40000)
    with rasterio.open(path, "w", **profile) as tile:
        for row, rows in ((0, 1), (995, 20), (23456, 3), (39992, 8)):
            tile.write(rng.integers(0, 251, (1, rows, 40000), dtype=np.uint8), window=Window(0, row, 40000, rows))
        tile.write(np.full((1, 8, 40000), 255, np.uint8), window=Window(0, 30000, 40000, 8))


def test_one_tile_of_true_size_goes_into_the_cube_of_true_size(
    web: Web, tmp_path: Path, invoke: Callable[..., Ran]
) -> None:
    path = tmp_path / "70N_180W.tif"
    write_big_tile(path, -180, 70)
    put(web, "2020/70N_180W.tif", path)
    put_lists(web, ["70N_180W", "60N_180W"])
    write_spec(tmp_path, web)

    assert invoke("init", "glad-lclu.yaml", cwd=tmp_path).code == 0
    where = ("--region", "70N_180W", "--year", 2020, "--json")
    plan = invoke("plan", *where, cwd=tmp_path).json
    assert (plan["tasks"], plan["bytes"], plan["problems"]) == (1, 40000**2, [])
    report = invoke("ingest", *where, cwd=tmp_path)
    assert (report.code, report.json["written"], report.json["bytes"]) == (0, 1, 40000**2)
    status = invoke("status", "--json", cwd=tmp_path).json
    assert (status["total"], status["done"], status["pending"]) == (2520, 1, 9)

    lclu = ci.open(tmp_path / "glad-lclu.icechunk").dataset()["lclu"].sel(year=2020)
    with rasterio.open(path) as tile:
        for row, column in ((0, 0), (900, 7900), (990, 39000), (23400, 20123), (29990, 5), (39900, 39900)):
            height, width = min(1200, 40000 - row), min(1300, 40000 - column)
            expected = tile.read(1, window=Window(column, row, width, height))
            assert expected.any()
            got = lclu[40000 + row : 40000 + row + height, column : column + width].values
            assert np.array_equal(got, expected)
    assert (lclu[39990:40000, :40000].values == 255).all()
    assert (lclu[40000:40100, 40000:40100].values == 255).all()
