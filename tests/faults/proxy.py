"""A proxy in front of the S3 server, that fails as object stores and networks do."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection", "expect"}

ERRORS = {503: "SlowDown", 500: "InternalError", 403: "AccessDenied"}


@dataclass
class Trouble:
    """What happens to requests: those with ``method`` whose path ends with ``suffix``, after ``after`` of them, ``times`` times.

    ``status`` is answered instead of forwarding. ``drop`` closes the connection without an answer: ``before`` the request
    is forwarded, or ``after`` (then it was carried out, and the answer is lost). ``seconds`` is waited first. ``before``
    and ``afterwards`` are called around forwarding.
    """

    method: str = ""
    suffix: str = ""
    part: str = ""
    after: int = 0
    times: int | None = None
    status: int | None = None
    drop: str = ""
    seconds: float = 0.0
    before: Callable[[], None] | None = None
    afterwards: Callable[[], None] | None = None
    seen: int = 0
    met: int = 0

    def meets(self, method: str, path: str) -> bool:
        fits = (not self.method or method in self.method.split()) and path.endswith(self.suffix) and self.part in path
        if not fits:
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.met >= self.times):
            return False
        self.met += 1
        return True


@dataclass
class Proxy:
    """``troubles`` may be changed at any time."""

    url: str
    target: str
    troubles: list[Trouble] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    n_requests: int = 0

    def trouble(self, **what: object) -> Trouble:
        made = Trouble(**what)  # type: ignore[arg-type]
        with self.lock:
            self.troubles.append(made)
        return made

    def find(self, method: str, path: str) -> Trouble | None:
        with self.lock:
            self.n_requests += 1
            return next((t for t in self.troubles if t.meets(method, path)), None)


@contextmanager
def serve_proxy(target: str) -> Iterator[Proxy]:
    """A proxy on a port of its own, before the server at ``target``."""
    host = urlsplit(target).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def handle_request(self) -> None:
            body = self._read_body()
            trouble = proxy.find(self.command, urlsplit(self.path).path)
            if trouble is None:
                self._forward(body)
                return
            time.sleep(trouble.seconds)
            if trouble.before is not None:
                trouble.before()
            if trouble.drop == "before":
                self.close_connection = True
                return
            if trouble.status is not None and trouble.drop != "after":
                self._answer_error(trouble.status)
                return
            if trouble.drop == "after":
                self._ask(body)
                if trouble.status is not None:
                    self._answer_error(trouble.status)
                else:
                    self.close_connection = True
            else:
                self._forward(body)
            if trouble.afterwards is not None:
                trouble.afterwards()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request

        def _read_body(self) -> bytes:
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.send_response_only(100)
                self.end_headers()
                self.wfile.flush()
            if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
                out = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    out += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return out
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _ask(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
            connection = http.client.HTTPConnection(host, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
            headers["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read()
            connection.close()
            return response, content

        def _forward(self, body: bytes) -> None:
            response, content = self._ask(body)
            self.send_response_only(response.status)
            for name, value in response.getheaders():
                if name.lower() not in HOP_BY_HOP | {"content-length"}:
                    self.send_header(name, value)
            size = response.getheader("Content-Length") if self.command == "HEAD" else len(content)
            self.send_header("Content-Length", str(size or 0))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _answer_error(self, status: int) -> None:
            code = ERRORS[status]
            content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True  # the client was killed

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that is killed in the middle is what these tests do."""

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy = Proxy(f"http://127.0.0.1:{server.server_port}", target)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
