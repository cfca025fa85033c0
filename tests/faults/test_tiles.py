"""Tiles and their servers fail while they are read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cubeingest as ci
from tests.faults.injection import at, patience
from tests.faults.record import Case
from tests.faults.site import Site, slots_of

pytestmark = pytest.mark.slow

MODES = pytest.mark.parametrize("mode", ["cooperative", "independent"])
STORAGES = pytest.mark.parametrize("storage", ["local", "s3"])

HREF = "href: tiles/{year}/{id}.tif"
VICTIM = (2000, "10N_000E")
"""The third tile that one process takes, of seven."""


def path_of(site: Site) -> Path:
    return site.folder / "tiles" / "2000" / "10N_000E.tif"


def one_failed(
    site: Site, fault: Case, mode: str, good: bytes | None = None, inject: list[dict[str, Any]] | None = None
) -> None:
    """Six of seven are there; the report names the seventh; once the tile is good again, all are."""
    ran = site.ingest(mode, inject=inject)
    assert ran.code == 1
    assert slots_of(ran) == {"written": 6, "empty": 0, "skipped": 0, "failed": 1}
    assert [(row["region"], row["axes"]) for row in ran.json["failed"]] == [("10N_000E", {"year": "2000"})]
    fault.assess(site, done=6)
    if good is not None:
        path_of(site).write_bytes(good)


# ---- files ----------------------------------------------------------------------------------------------------


@pytest.mark.fault("truncated tile")
@MODES
@STORAGES
def test_truncated_tile(site: Site, fault: Case, mode: str) -> None:
    good = path_of(site).read_bytes()
    path_of(site).write_bytes(good[: len(good) * 2 // 3])
    one_failed(site, fault, mode, good)
    fault.complete(site, *site.command(mode))
    fault.settle("exit 1; that region is reported and left out, the others are there")


@pytest.mark.fault("unreadable tile among many")
@MODES
@STORAGES
def test_unreadable_tile(site: Site, fault: Case, mode: str) -> None:
    good = path_of(site).read_bytes()
    path_of(site).write_bytes(b"<html>not a tile</html>")
    one_failed(site, fault, mode, good)
    fault.complete(site, *site.command(mode))
    fault.settle("exit 1; that region is reported and left out, the others are there")


@pytest.mark.fault("tile damaged inside")
@MODES
def test_tile_whose_blocks_are_damaged(site: Site, fault: Case, mode: str) -> None:
    """Its header is whole and its size right, but where its second block begins there is something else."""
    import rasterio

    good = path_of(site).read_bytes()
    with rasterio.open(path_of(site)) as tile:
        start = int(tile.get_tag_item("BLOCK_OFFSET_0_1", "TIFF", bidx=1))
    path_of(site).write_bytes(good[:start] + bytes([255] * 16) + good[start + 16 :])
    one_failed(site, fault, mode, good)
    fault.complete(site, *site.command(mode))
    fault.settle("exit 1; that region is reported and left out, the others are there")


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("changes", marks=pytest.mark.fault("tile changes while it is read")),
        pytest.param("vanishes", marks=pytest.mark.fault("tile vanishes while it is read")),
    ],
)
@MODES
@STORAGES
def test_tile_changes_or_vanishes_while_it_is_read(
    site: Site, fault: Case, mode: str, what: str, tmp_path: Path
) -> None:
    """The third tile has been asked what it is, and opened, but not yet read."""
    pause = tmp_path / "pause"
    command = site.command(mode)
    good = path_of(site).read_bytes()
    with (
        site.watched() as watch,
        site.paused(pause, *command, inject=[at("window", "pause", nth=3, file=pause)]) as process,
    ):
        if what == "changes":
            site.replace_tile(*VICTIM)
        else:
            path_of(site).unlink()
    ran = site.finish(process)
    assert (ran.code, ran.json["written"], len(ran.json["failed"])) == (1, 6, 1), ran
    fault.assess(site, done=6, watch=watch)
    if what == "vanishes":
        path_of(site).write_bytes(good)
    fault.complete(site, *command)
    fault.settle("exit 1; that region is reported and left out, the others are there")


@pytest.mark.fault("tile replaced by a newer one between runs")
@MODES
@STORAGES
def test_newer_tile_replaces_the_old_whole(site: Site, fault: Case, mode: str) -> None:
    """With a region of fill value in it, so that chunks must go as well as come."""
    assert site.ingest(mode).code == 0
    fault.assess(site, done=7)
    pixels = site.world.pixels("10N_000E")
    pixels[:50] = 255
    site.replace_tile(*VICTIM, pixels)
    killed = site.ingest(mode, inject=[at("commit", "kill")])
    assert killed.code == -9
    old, new = site.truth[VICTIM], np.asarray(site.cube().dataset()["cover"].sel(year=2000)[100:, :100])
    assert (new[:50] != 255).any()
    assert not np.array_equal(old, new)
    ran = site.ingest(mode)
    site.claimed -= 1  # it was there before
    assert (ran.code, ran.json["written"], ran.json["skipped"]) == (0, 1, 6)
    fault.assess(site, done=7, findings=("dead-run",))
    fault.complete(site, *site.command(mode), findings=("dead-run",))
    fault.settle("the old pixels stay until the commit that replaces the region whole")


@pytest.mark.fault("list of tiles changes during a run")
@MODES
@STORAGES
def test_list_changes_during_a_run(site: Site, fault: Case, mode: str, tmp_path: Path) -> None:
    """A tile is added to the list and another one taken off it, after the plan was made."""
    pause = tmp_path / "pause"
    command = site.command(mode)
    with site.paused(pause, *command, inject=[at("chunk", "pause", nth=2, file=pause)]) as process:
        site.replace_tile(2005, "10N_000E")
        listed = site.folder / "tiles" / "2005.txt"
        listed.write_text(listed.read_text().replace("20N_000E.tif\n", ""))
    ran = site.finish(process)
    assert (ran.code, ran.json["written"]) == (0, 7)
    fault.assess(site, done=7)
    assert slots_of(site.ingest(mode)) == {"written": 1, "empty": 0, "skipped": 6, "failed": 0}
    fault.complete(site, *command)
    fault.settle("the run keeps to its plan; the next one takes the new tile, and what is done stays done")


# ---- servers --------------------------------------------------------------------------------------------------


class Server:
    """Serves the world's tiles; ``trouble`` is what happens to requests for the victim, ``times`` how often."""

    def __init__(self, folder: Path) -> None:
        server = self
        self.trouble, self.times, self.asked = "", 0, 0
        self.release = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                path = folder / self.path.strip("/")
                content = path.read_bytes()
                trouble = ""
                if self.path.endswith("2000/10N_000E.tif"):
                    server.asked += 1
                    if server.times > 0:
                        server.times -= 1
                        trouble = server.trouble
                if trouble.isdigit():
                    self.send_response(HTTPStatus(int(trouble)))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start, stop = 0, len(content)
                if asked := self.headers.get("Range"):
                    first, _, last = asked.removeprefix("bytes=").partition("-")
                    start, stop = int(first), min(int(last or stop) + 1, stop)
                self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
                if asked:
                    self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(stop - start))
                self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}"')
                self.end_headers()
                if self.command == "HEAD":
                    return
                body = content[start:stop]
                if trouble == "hang":
                    self.wfile.write(body[: len(body) // 2])
                    server.release.wait()
                elif trouble == "drop":
                    self.wfile.write(body[: len(body) // 2])
                    self.close_connection = True
                elif trouble == "slow":
                    for i in range(0, len(body), 512):
                        self.wfile.write(body[i : i + 512])
                        server.release.wait(0.02)
                else:
                    self.wfile.write(body)

            do_GET = do_HEAD = answer

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        class Threads(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that gives up is expected here."""

        self._server = Threads(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server(site: Site) -> Iterator[Server]:
    """The tiles by way of HTTP; the cube's spec says so."""
    made = Server(site.folder / "tiles")
    site.world.write_spec((HREF, f"href: {made.url}/{{year}}/{{id}}.tif"))
    ci.init(site.world.spec_file, store=site.uri, update=True)
    yield made
    made.close()


@pytest.mark.parametrize(
    "status",
    [
        pytest.param("404", marks=pytest.mark.fault("source answers 404")),
        pytest.param("403", marks=pytest.mark.fault("source answers 403")),
        pytest.param("500", marks=pytest.mark.fault("source answers 500")),
    ],
)
@MODES
def test_source_that_refuses_costs_only_its_own_region(
    site: Site, fault: Case, mode: str, status: str, server: Server
) -> None:
    server.trouble, server.times = status, 1_000
    one_failed(site, fault, mode)
    server.times = 0
    fault.complete(site, *site.command(mode))
    fault.settle("exit 1; that region is reported and left out, the others are there")


@pytest.mark.parametrize(
    ("trouble", "times"),
    [
        pytest.param("503", 2, marks=pytest.mark.fault("source answers 503 for a while")),
        pytest.param("slow", 1_000, marks=pytest.mark.fault("slow source")),
    ],
)
@MODES
def test_source_that_comes_back_or_is_slow_costs_nothing(
    site: Site, fault: Case, mode: str, trouble: str, times: int, server: Server
) -> None:
    server.trouble, server.times = trouble, times
    ran = site.ingest(mode)
    assert (ran.code, ran.json["written"]) == (0, 7), ran
    assert server.asked > 0
    fault.assess(site, done=7)
    server.times = 0
    fault.complete(site, *site.command(mode))
    fault.settle("exit 0, all written")


@pytest.mark.fault("source drops the connection")
@MODES
def test_source_that_drops_connections(site: Site, fault: Case, mode: str, server: Server) -> None:
    """Every time, in the middle of what it was asked for: what has come is never taken for the whole."""
    server.trouble, server.times = "drop", 1_000
    one_failed(site, fault, mode)
    server.times = 0
    fault.complete(site, *site.command(mode))
    fault.settle("exit 1; that region is reported and left out, the others are there")


@pytest.mark.fault("source hangs")
@MODES
def test_source_that_hangs(site: Site, fault: Case, mode: str, server: Server) -> None:
    """It sends half of what it was asked for, and then nothing, each time. Waiting for it is cut short, from a minute to a second."""
    server.trouble, server.times = "hang", 1_000
    one_failed(site, fault, mode, inject=[patience("cubeingest.remote.addresses", "SILENCE_SECONDS", 1)])
    server.times = 0
    fault.complete(site, *site.command(mode))
    fault.settle("exit 1; that region is reported and left out, the others are there")
