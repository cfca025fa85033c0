"""The viewer as a server of this machine: on a port of its own, until it is closed. The only home of uvicorn."""

from __future__ import annotations

import os
import socket
import sys
import threading
from html import escape
from typing import TYPE_CHECKING, Any

from cubeingest.errors import CubeIngestError
from cubeingest.extras import import_extra
from cubeingest.store import Store

if TYPE_CHECKING:
    import uvicorn

DEFAULT_PORT = 8080

LIBRARIES = ("starlette", "uvicorn", "matplotlib")
"""What the extra `view` brings."""

CLOSE_SECONDS = 1
"""How long answers that are under way are waited for when the server ends."""

WAITING = 64
"""Connections that wait to be taken."""

EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104
"""Hosts that mean all addresses of this machine."""


class Viewer:
    """A server that shows a cube, in a thread of its own. It ends with :meth:`close`, as a context manager, or with Python."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket, url: str) -> None:
        self.url = url
        self._server, self._listener = server, listener
        self._thread = threading.Thread(target=server.run, args=([listener],), name="cubeingest-view", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server, and free its port."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Viewer({self.url!r})"

    def _repr_html_(self) -> str:
        """The viewer within a notebook's cell."""
        url = escape(self.url, quote=True)
        return f'<iframe src="{url}" width="100%" height="600" style="border:0" title="cube"></iframe><a href="{url}">{url}</a>'


def start_viewer(
    store: Store, host: str = "127.0.0.1", port: int = 0, browser: bool = False, debug: bool = False
) -> Viewer:
    """Show a cube in a thread: on a port that is free if none is given, and in a browser if one is to be opened.

    Raises :class:`CubeIngestError` if the port is taken, or starlette and uvicorn are not installed.
    """
    server, listener, url = _prepare(store, host, port, debug)
    viewer = Viewer(server, listener, url)
    if browser:
        open_browser(url)
    return viewer


def serve(
    store: Store, host: str = "127.0.0.1", port: int = DEFAULT_PORT, browser: bool = False, debug: bool = False,
    say: Any = lambda _: None,
) -> None:  # fmt: skip
    """As :func:`start_viewer`, in this thread, until it is interrupted. ``say`` is told the address once it answers."""
    server, listener, url = _prepare(store, host, port, debug)
    with listener:
        say(url)
        if browser:
            open_browser(url)
        server.run([listener])


def open_browser(url: str) -> bool:
    """Open a page in the browser of the person at this machine, if there is any: one without a screen is not opened, it would take the terminal."""
    import webbrowser

    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False


def _prepare(store: Store, host: str, port: int, debug: bool) -> tuple[uvicorn.Server, socket.socket, str]:
    for library in LIBRARIES:
        import_extra(library, "view", "the viewer")
    import uvicorn

    from cubeingest.view.app import LOCAL_HOSTS, make_app
    from cubeingest.view.cubes import ViewedCube

    listener = _listen(host, port)
    own = listener.getsockname()[1]
    hosts = () if host in EVERYWHERE else (*LOCAL_HOSTS, host)
    config = uvicorn.Config(
        make_app(ViewedCube(store), hosts, debug), log_level="info" if debug else "critical", access_log=debug, lifespan="off", ws="none",
        timeout_graceful_shutdown=CLOSE_SECONDS, server_header=False,
    )  # fmt: skip
    config.load()  # what cannot be loaded fails here rather than in a thread
    shown = "127.0.0.1" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    return uvicorn.Server(config), listener, f"http://{shown}:{own}/"


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises :class:`CubeIngestError` if it cannot."""
    import errno

    if not 0 <= port <= 65535:
        raise CubeIngestError(f"port {port} is none: ports are 1 to 65535 (0: one that is free)")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(WAITING)
    except (OSError, UnicodeError, TypeError) as e:  # Python has its own errors for names that are none
        listener.close()
        if not isinstance(e, OSError):
            raise CubeIngestError(f"cannot listen at {host!r}: it is no name or address of a machine") from None
        if e.errno == errno.EADDRINUSE:
            raise CubeIngestError(
                f"port {port} of {host} is in use: choose another with --port, such as --port {port % 65535 + 1}"
            ) from None
        if e.errno == errno.EACCES:
            raise CubeIngestError(
                f"port {port} of {host} may not be used by you: choose one from 1024 on with --port"
            ) from None
        raise CubeIngestError(f"cannot listen at {host!r} port {port}: {e.strerror or e}") from None
    listener.set_inheritable(False)
    return listener
