"""A web server of this machine that is as far away as it is told: it waits before each answer, and may cap each connection.

    python -m benchmarks.server FOLDER [--latency 0.03] [--rate 25e6]

A thread a connection; files go from the disk's cache to the socket without passing through Python (``sendfile``), so that it
serves more than any client here takes. Setting up a connection costs nothing, which is to the good of those who make many.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from urllib.request import urlopen

BURST = 0.05
"""Seconds that a capped connection may catch up when its thread was late."""
PIECE = 128 * 1024
"""Bytes that a capped connection gets at once."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, folder: str, latency: float, rate: float) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=folder))
        self.latency, self.rate = latency, rate
        self.requests = self.sent = 0
        self._lock = Lock()

    def count(self, requests: int, sent: int) -> None:
        with self._lock:
            self.requests += requests
            self.sent += sent

    def take_counts(self) -> dict[str, int]:
        """What was asked and sent since this was called last."""
        with self._lock:
            counts = {"requests": self.requests, "sent": self.sent}
            self.requests = self.sent = 0
        return counts


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, whole or in ranges. ``/counts`` says how much there was since."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server
    free_at = 0.0
    """When this connection, if it is capped, has sent what it was given so far."""

    def do_GET(self) -> None:
        if self.path == "/counts":
            body = json.dumps(self.server.take_counts()).encode()
            self._head(200, len(body))
            self.wfile.write(body)
            return
        self.server.count(1, 0)
        time.sleep(self.server.latency)
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        status = path.stat()
        start, stop = 0, status.st_size
        headers = {"ETag": f'"{status.st_mtime_ns}"', "Accept-Ranges": "bytes"}
        if text := self.headers.get("Range"):
            first, _, last = text.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or stop) + 1, stop)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{status.st_size}"
        self._head(206 if text else 200, stop - start, headers)
        if self.command == "GET":
            self._send(path, start, stop)

    do_HEAD = do_GET  # noqa: N815

    def _head(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, path: Path, start: int, stop: int) -> None:
        rate = self.server.rate
        at = start
        try:
            with path.open("rb") as file:
                while at < stop:
                    if rate:
                        time.sleep(max(0, self.free_at - time.monotonic()))
                    wanted = min(PIECE, stop - at) if rate else stop - at
                    n = os.sendfile(self.connection.fileno(), file.fileno(), at, wanted)
                    if rate:
                        self.free_at = max(self.free_at, time.monotonic() - BURST) + n / rate
                    at += n
        except OSError:  # the client has gone: GDAL ends transfers that it wants no more of
            self.close_connection = True
        self.server.count(0, at - start)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path, latency: float, rate: float = 0) -> Iterator[str]:
    """The address of a server of ``folder`` in a process of its own; ``rate`` in bytes a second and connection, 0 for no cap."""
    command = [sys.executable, "-m", "benchmarks.server", str(folder), "--latency", str(latency), "--rate", str(rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


def take_counts(site: str) -> dict[str, int]:
    """Requests and bytes sent since the last time."""
    with urlopen(f"{site}/counts") as answer:
        counts: dict[str, int] = json.load(answer)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--latency", type=float, default=0.03, help="seconds before each answer")
    parser.add_argument(
        "--rate", type=float, default=0, help="bytes a second of each connection; 0: as fast as it goes"
    )
    options = parser.parse_args()
    with Server(options.folder, options.latency, options.rate) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
