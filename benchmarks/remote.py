"""Reading a remote tile: fetched whole in ranges (ours), against GDAL's windows over the network (rasterio's and rioxarray's).

    uv run python -m benchmarks.remote [--size 12000] [--latency 0.03] [--runs 3]

Both read every pixel of one tile, 1000 rows at a time, from a web server on this machine that waits before each answer. The
ratio is that of medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

from benchmarks.tiles import CHUNK, LAYOUTS, write_class_tile, write_spec


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, whole or in ranges, each answer after a while. ``/requests`` says how many there were since."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    latency = 0.0
    n_requests = 0

    def do_GET(self) -> None:
        if self.path == "/requests":
            self._answer(200, str(Handler.n_requests).encode())
            Handler.n_requests = 0
            return
        Handler.n_requests += 1
        time.sleep(self.latency)
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        start, stop = 0, size
        if text := self.headers.get("Range"):
            first, _, last = text.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or size) + 1, size)
        with path.open("rb") as file:
            file.seek(start)
            body = file.read(stop - start) if self.command == "GET" else b""
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"} if text else {}
        self._answer(206 if text else 200, body, stop - start, ETag=f'"{path.stat().st_mtime_ns}"', **headers)

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(folder: str, latency: float) -> None:
    Handler.latency = latency
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


def read_windows(url: str, size: int) -> None:
    """As rasterio's and rioxarray's users do, with the option that everybody sets."""
    import rasterio
    from rasterio.windows import Window

    # The second one only because the same tile is read several times here: else GDAL would remember it.
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/"}
    with rasterio.Env(**options), rasterio.open(url) as tile:
        for start in range(0, size, CHUNK):
            tile.read(1, window=Window(0, start, size, min(CHUNK, size - start)))


def read_ours(spec_file: Path, url: str) -> None:
    """What an ingest does before it encodes: ask what the tile is, and stream its windows."""
    from cubeingest.catalog import TileRow
    from cubeingest.ledger import Slot
    from cubeingest.mosaic import read_ahead, slot_shape
    from cubeingest.plan import SlotPlan
    from cubeingest.spec import read_spec

    spec = read_spec(spec_file)
    (variable,) = spec.variables
    plan = SlotPlan(Slot(variable.name, (), 0, 0), (TileRow(url, (), 0, 0, None, spec.grid.slices(0, 0)),))
    with read_ahead(spec, variable, plan, slot_shape(spec, variable, plan)) as windows:
        for _ in windows:
            pass


def measure(way: Callable[[], None], site: str) -> tuple[float, int]:
    """(seconds, requests)."""
    urlopen(f"{site}/requests").read()
    started = time.perf_counter()
    way()
    seconds = time.perf_counter() - started
    return seconds, int(urlopen(f"{site}/requests").read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=12000)
    parser.add_argument("--latency", type=float, default=0.03, help="seconds before each answer")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.latency)
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.remote", "--serve", folder, "--latency", str(options.latency)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                site = f"http://127.0.0.1:{int(server.stdout.readline())}"
                for layout in LAYOUTS:
                    compare(Path(folder), layout, site, options.size, options.runs)
            finally:
                server.terminate()


def compare(folder: Path, layout: str, site: str, size: int, runs: int) -> None:
    tile = write_class_tile(folder / layout / "10N_000E.tif", size, 0, 10, 10, layout)
    spec_file = write_spec(folder, layout, size, count=1)
    url = f"{site}/{layout}/{tile.name}"
    ways: dict[str, Callable[[], None]] = {
        "windows": partial(read_windows, url, size),
        "ours": partial(read_ours, spec_file, url),
    }
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
    read_ours(spec_file, url)  # imports
    for _ in range(runs):
        for name, way in ways.items():
            found[name].append(measure(way, site))
    seconds = {name: statistics.median(s for s, _ in results) for name, results in found.items()}
    requests = {name: results[-1][1] for name, results in found.items()}
    print(
        f"{layout:7} {tile.stat().st_size / 1e6:.0f} MB: windows {seconds['windows']:.2f} s in {requests['windows']} requests, "
        f"whole {seconds['ours']:.2f} s in {requests['ours']}, ratio {seconds['windows'] / seconds['ours']:.1f} "
        f"(medians of {runs})"
    )


if __name__ == "__main__":
    main()
