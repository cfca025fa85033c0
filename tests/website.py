"""A web server for tests that counts what is asked of it, and misbehaves when told to. It passes for S3, too.

And what it takes to read one slot from tiles on it.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cubeingest.catalog import TileRow
from cubeingest.ledger import Slot
from cubeingest.mosaic import read_ahead, slot_shape
from cubeingest.plan import SlotPlan
from cubeingest.remote import clients, fetch
from cubeingest.spec import CubeSpec, read_spec
from cubeingest.storage import Storage
from cubeingest.tile import Window
from tests.conftest import World


@dataclass(frozen=True)
class Asked:
    """A request: ``part`` is what ``Range`` asks for."""

    method: str
    path: str
    part: tuple[int, int] | None
    headers: dict[str, str]

    @property
    def is_gdal(self) -> bool:
        return "GDAL" in self.headers.get("User-Agent", "")


@dataclass
class Site:
    """Files by path (without query). ``tricks`` may answer a request in the server's place: they return True if they did.

    ``sent`` counts the bytes of all bodies; ``latency`` is waited before each answer.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    tricks: dict[str, Callable[[Handler, Asked], bool]] = field(default_factory=dict)
    sent: int = 0
    latency: float = 0
    closing: threading.Event = field(default_factory=threading.Event)

    def put(self, path: str, content: bytes, trick: Callable[[Handler, Asked], bool] | None = None) -> str:
        """Serve a file; its URL."""
        self.files[path] = content
        if trick is not None:
            self.tricks[path] = trick
        return self.url + path

    def count(self, method: str, path: str = "", gdal: bool | None = None) -> int:
        return sum(a.method == method and path in (a.path, "") and gdal in (a.is_gdal, None) for a in list(self.asked))


class Handler(BaseHTTPRequestHandler):
    """Answers HEAD, GET and Range, with ETag and Content-Length."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    site: Site

    def do_GET(self) -> None:
        part = None
        if text := self.headers.get("Range"):
            first, _, last = text.removeprefix("bytes=").partition("-")
            part = int(first), int(last) + 1
        asked = Asked(self.command, self.path.partition("?")[0], part, dict(self.headers))
        self.site.asked.append(asked)
        if self.site.latency:
            time.sleep(self.site.latency)
        trick = self.site.tricks.get(asked.path)
        if trick is not None and trick(self, asked):
            return
        content = self.site.files.get(asked.path)
        if content is None:
            self.refuse(404)
        else:
            self.send(content, asked.part)

    do_HEAD = do_GET

    def send(
        self,
        content: bytes,
        part: tuple[int, int] | None,
        etag: str | None = "",
        cut: int | None = None,
        **headers: str,
    ) -> None:
        """``part`` of a file, or all; only ``cut`` bytes of what is promised, and then the end of the connection."""
        start, stop = (0, len(content)) if part is None else (part[0], min(part[1], len(content)))
        self.send_response(200 if part is None else 206)
        if etag is not None:
            self.send_header("ETag", etag or f'"{hashlib.sha256(content).hexdigest()[:16]}"')
        if part is not None:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(stop - start))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            body = content[start:stop][:cut]
            self.site.sent += len(body)
            self.wfile.write(body)
            self.close_connection = cut is not None

    def refuse(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/xml")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def hang(self) -> bool:
        """Say nothing until the server closes."""
        self.site.closing.wait()
        self.close_connection = True
        return True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are part of the tests."""


@contextmanager
def open_site() -> Iterator[Site]:
    """A server on a port of its own."""
    site = Site()
    handler = type("SiteHandler", (Handler,), {"site": site})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield site
        finally:
            site.closing.set()
            server.shutdown()
            thread.join()


# ---- slots of tiles on it -------------------------------------------------------------------------------------

HERE = "20N_000E"
PATH = f"/t/{HERE}.tif"
N_RANGES = 11
"""Ranges of 1000 bytes of a tile of 100 x 100 pixels that is not compressed."""


@pytest.fixture
def site() -> Iterator[Site]:
    with open_site() as made:
        yield made


@pytest.fixture(autouse=True)
def scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Small ranges and short waits, and a folder for copies in which nothing may be left, neither by name nor open."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("CUBEINGEST_SCRATCH", str(folder))
    monkeypatch.setattr(fetch, "RANGE_BYTES", 1000)
    monkeypatch.setattr(clients, "RETRY_SECONDS", 0.01)
    yield folder
    assert held_in(folder) == {}
    assert list(folder.iterdir()) == []


def held_in(folder: Path) -> dict[int, int]:
    """Sizes of the files in a folder that this process has open, by inode; they need no name."""
    out = {}
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith(str(folder)):
                stat = os.stat(f"/proc/self/fd/{fd}")
                out[stat.st_ino] = stat.st_size
    return out


def plain_tile(world: World, region: str = HERE, **profile: Any) -> bytes:
    """A tile of 2000, as bytes; also in the world's folder, for rasterio to say what is in it."""
    return world.add_tile(2000, region, **{"compress": None, **profile}).read_bytes()


def plan_of(spec: CubeSpec, *hrefs: str, region: str = HERE, named: bool = True) -> SlotPlan:
    """A slot of 2000 and its tiles; ``named``: their names say where they lie."""
    iy, ix = spec.grid.region_index(region)
    expected: Window | None = spec.grid.slices(iy, ix) if named else None
    return SlotPlan(Slot("cover", (0,), iy, ix), tuple(TileRow(h, (0,), iy, ix, None, expected) for h in hrefs))


def read(
    spec: CubeSpec, plan: SlotPlan, storage: Storage | None = None, n_windows: int | None = None, **kwargs: Any
) -> np.ndarray:
    """Pixels of a slot, as an ingest streams them; of its first windows only if ``n_windows`` says so."""
    (cover,) = spec.variables
    assert cover.source is not None
    variable = replace(cover, source=replace(cover.source, storage=storage or Storage()))
    shape = slot_shape(spec, variable, plan)
    rows = list(shape.row_slices())[:n_windows]
    with read_ahead(spec, variable, plan, shape, rows, **kwargs) as windows:
        return np.concatenate([pixels[0].copy() for _, pixels in windows])


@pytest.fixture
def spec(world: World) -> CubeSpec:
    return read_spec(world.spec_file)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
