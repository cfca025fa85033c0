"""The web application: what each address answers. The only home of starlette.

All that a snapshot's address answers never changes, so browsers keep it; ``api/refs`` alone is asked again and again. Whatever is wrong with a request is said in one line
of JSON, ``{"error": ...}``: 400 and 404 for what is asked, 503 for a store that does not answer, 500 for a fault of ours.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from cubeingest.errors import CubeIngestError, GridError
from cubeingest.spec import Variable
from cubeingest.store import reason_of
from cubeingest.view.composite import TOGETHER, Index, legend_of_composite
from cubeingest.view.cubes import NotThereError, ViewedCube
from cubeingest.view.lattice import Lattice
from cubeingest.view.painting import legend_of
from cubeingest.view.points import place_of, read_point
from cubeingest.view.snapshots import Snapshot

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

RGB = "rgb"
"""In the address of an axis position: red, green and blue together."""

TILES_AT_ONCE = max(2, min(8, os.cpu_count() or 2))
"""Tiles that are read and encoded side by side; the libraries below use more threads each."""

ANSWERS_AT_ONCE = 16
"""Other answers, which wait for no tile."""

SCRIPTS = ("state", "ask", "layers", "controls", "point", "view")
"""In the order in which the page loads them."""

ASSETS = {
    "leaflet/leaflet.js": "text/javascript",
    "leaflet/leaflet.css": "text/css",
    "view.css": "text/css",
    **{f"{name}.js": "text/javascript" for name in SCRIPTS},
}

FOR_GOOD = "private, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")
"""Names by which a browser may call a server of this machine: a page elsewhere whose name leads here may not read the cube."""

POLL_SECONDS = (4, 20)
"""How often a page asks where branches point to, of a store on this machine and of others."""


@dataclass(frozen=True)
class Answer:
    body: bytes
    kind: str = "application/json"
    keep: str = FOR_GOOD
    note: str = ""
    status: int = 200


class WrongAddressError(GridError):
    """An address that leads nowhere."""


def make_app(cube: ViewedCube, hosts: tuple[str, ...] = LOCAL_HOSTS, debug: bool = False) -> Starlette:
    """The application for one cube. It answers only to the names in ``hosts``, to any if there are none. ``debug`` prints tracebacks."""
    from anyio import CapacityLimiter
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import Route

    gates: dict[str, CapacityLimiter] = {}

    def gate(name: str, size: int) -> CapacityLimiter:
        if name not in gates:  # belongs to the running loop
            gates[name] = CapacityLimiter(size)
        return gates[name]

    def endpoint(work: Callable[[Request], Answer], pool: str = "answers") -> Callable[[Request], Awaitable[Response]]:
        size = TILES_AT_ONCE if pool == "tiles" else ANSWERS_AT_ONCE

        async def answer(request: Request) -> Response:
            return await _answer(request, work, gate(pool, size), debug)

        return answer

    answers = _Answers(cube)
    tile = "{level}/{row}/{column}"
    routes = [
        Route("/", endpoint(answers.page)),
        Route("/assets/{name:path}", endpoint(answers.asset)),
        Route("/api/refs", endpoint(answers.refs)),
        Route("/api/cube/{snapshot}", endpoint(answers.cube)),
        Route("/api/legend/{snapshot}/{variable}/{index}", endpoint(answers.legend)),
        Route("/api/point/{snapshot}/{lattice}/{variable}", endpoint(answers.point)),
        Route("/api/place/{snapshot}/{lattice}", endpoint(answers.place)),
        Route(f"/tiles/{{snapshot}}/{{lattice}}/{{variable}}/{{index}}/{tile}.png", endpoint(answers.tile, "tiles")),
        Route(f"/coast/{{snapshot}}/{{lattice}}/{tile}.json", endpoint(answers.coast)),
        Route(f"/regions/{{snapshot}}/{{lattice}}/{tile}.json", endpoint(answers.regions)),
    ]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)] if hosts else []

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = {404: f"there is nothing at {request.url.path!r}", 405: "only GET is answered"}
        return _response(_error(error.status_code, words.get(error.status_code, str(error.detail))), request)

    return Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: refuse})


async def _answer(request: Request, work: Callable[[Request], Answer], gate: Any, debug: bool) -> Response:
    """What a thread makes of a request, unless nobody waits for it any more when its turn comes."""
    from anyio import to_thread
    from starlette.responses import Response

    tag = _tag(request)
    if request.headers.get("if-none-match") == tag and _is_for_good(request):
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": FOR_GOOD})
    async with gate:
        if await request.is_disconnected():
            return Response(status_code=499)
        answer = await to_thread.run_sync(_worked, work, request, debug)
    return _response(answer, request)


def _worked(work: Callable[[Request], Answer], request: Request, debug: bool) -> Answer:
    import icechunk

    try:
        return work(request)
    except (WrongAddressError, NotThereError) as e:
        return _error(404, str(e))
    except GridError as e:
        return _error(400, str(e))
    except CubeIngestError as e:
        if debug:
            traceback.print_exc(file=sys.stderr)
        return _error(503, str(e))
    except icechunk.IcechunkError as e:
        if debug:
            traceback.print_exc(file=sys.stderr)
        return _error(503, f"the store failed: {reason_of(e)}")
    except Exception as e:  # noqa: BLE001  (one request's failure is its answer; the server goes on)
        if debug:
            traceback.print_exc(file=sys.stderr)
        return _error(500, f"{type(e).__name__}: {e}")


def _error(status: int, text: str) -> Answer:
    return Answer(_json({"error": " ".join(text.split())[:400]}), keep="no-store", status=status)


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()


def _response(answer: Answer, request: Request) -> Response:
    from starlette.responses import Response

    headers = {**HEADERS, "Cache-Control": answer.keep}
    if answer.status == 200:
        headers["ETag"] = _tag(request) if answer.keep == FOR_GOOD else f'"{_digest(answer.body)}"'
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
    if answer.note:
        headers["X-Cubeingest-Note"] = answer.note
    return Response(answer.body, answer.status, headers, answer.kind)


def _is_for_good(request: Request) -> bool:
    """Whether what an address answers never changes: it names a snapshot that is open or can be opened."""
    return request.url.path.startswith(("/tiles/", "/coast/", "/regions/"))


def _tag(request: Request) -> str:
    """What tells an answer that never changes from others: its address, and the version that made it."""
    from cubeingest import __version__

    return f'"{_digest(f"{__version__} {request.url.path}?{request.url.query}".encode())}"'


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()


class _Answers:
    """What a thread answers to a request."""

    def __init__(self, cube: ViewedCube) -> None:
        self._cube = cube

    def page(self, request: Request) -> Answer:
        from cubeingest import __version__

        scripts = "\n".join(f'<script src="assets/{name}.js"></script>' for name in SCRIPTS)
        fields = {
            "scripts": scripts,
            "version": escape(__version__, quote=True),
            "poll": str(POLL_SECONDS[not self._cube.is_local]),
        }
        text = re.sub(r"\{\{(\w+)\}\}", lambda m: fields[m[1]], _asset("view.html").decode())
        return Answer(text.encode(), "text/html; charset=utf-8", ASK_AGAIN)

    def asset(self, request: Request) -> Answer:
        name = request.path_params["name"]
        if name not in ASSETS:
            raise WrongAddressError(f"there is no asset {name!r}")
        return Answer(_asset(name), f"{ASSETS[name]}; charset=utf-8", ASK_AGAIN)

    def refs(self, request: Request) -> Answer:
        try:
            refs = self._cube.refs(request.query_params.get("branch") or None)
        except CubeIngestError:
            self._cube.forget()
            raise
        return Answer(_json(refs), keep=ASK_AGAIN)

    def cube(self, request: Request) -> Answer:
        return Answer(_json(self._snapshot(request).to_json()))

    def legend(self, request: Request) -> Answer:
        snapshot, variable, index = self._position(request)
        composite = snapshot.composite(variable)
        if composite is None or TOGETHER not in index:
            return Answer(_json(legend_of(self._cube.colours(snapshot, variable, index))))
        colours = self._cube.composite_colours(snapshot, variable, composite.apart(index))
        return Answer(_json(legend_of_composite(colours, composite)))

    def tile(self, request: Request) -> Answer:
        snapshot, variable, index = self._position(request)
        lattice, at = self._tile_of(request, snapshot)
        body, note = self._cube.tile(snapshot, lattice, variable, index, at)
        return Answer(body, "image/png", note=note)

    def coast(self, request: Request) -> Answer:
        return self._overlay(request, "coast")

    def regions(self, request: Request) -> Answer:
        return self._overlay(request, "regions")

    def _overlay(self, request: Request, kind: str) -> Answer:
        snapshot = self._snapshot(request)
        return Answer(_json(self._cube.overlay(kind, snapshot, *self._tile_of(request, snapshot))))

    def point(self, request: Request) -> Answer:
        snapshot = self._snapshot(request)
        lattice, variable = self._lattice(request, snapshot), self._variable(request, snapshot)
        x, y = self._xy(request.query_params)
        index = _index_of(request.query_params.get("index", ""), snapshot, variable)
        composite = snapshot.composite(variable)
        if composite is not None and TOGETHER in index:
            index = composite.apart(index)[0]
        colours = self._cube.colours(snapshot, variable, index)
        return Answer(_json(read_point(snapshot, lattice, variable, x, y, colours)))

    def place(self, request: Request) -> Answer:
        snapshot = self._snapshot(request)
        lattice = self._lattice(request, snapshot)
        return Answer(_json(place_of(lattice, *self._xy(request.query_params))))

    # ---- what an address names -----------------------------------------------------------------------------------

    def _snapshot(self, request: Request) -> Snapshot:
        return self._cube.snapshot(request.path_params["snapshot"])

    def _lattice(self, request: Request, snapshot: Snapshot) -> Lattice:
        name = request.path_params["lattice"]
        if name not in snapshot.lattices:
            raise WrongAddressError(f"the cube has no lattice {name!r} (lattices: {', '.join(snapshot.lattices)})")
        return snapshot.lattices[name]

    def _variable(self, request: Request, snapshot: Snapshot) -> Variable:
        try:
            return snapshot.spec.variable(request.path_params["variable"])
        except CubeIngestError as e:
            raise WrongAddressError(str(e)) from None

    def _position(self, request: Request) -> tuple[Snapshot, Variable, Index]:
        snapshot = self._snapshot(request)
        variable = self._variable(request, snapshot)
        return snapshot, variable, _index_of(request.path_params["index"], snapshot, variable)

    def _tile_of(self, request: Request, snapshot: Snapshot) -> tuple[Lattice, tuple[int, int, int]]:
        lattice = self._lattice(request, snapshot)
        words = [request.path_params[k] for k in ("level", "row", "column")]
        level, row, column = (int(w) if _is_number(w) else -1 for w in words)
        at = level, row, column
        if lattice.window(*at) is None:
            text = "/".join(words)[:40]
            raise WrongAddressError(f"there is no tile {text!r}: levels are 0 to {lattice.top_level}")
        return lattice, at

    def _xy(self, query: Mapping[str, str]) -> tuple[float, float]:
        try:
            x, y = float(query["x"]), float(query["y"])
        except (KeyError, ValueError):
            raise GridError("give x and y as numbers, in units of the CRS") from None
        if not (math.isfinite(x) and math.isfinite(y)):
            raise GridError("x and y must be finite")
        return x, y


def _index_of(text: str, snapshot: Snapshot, variable: Variable) -> Index:
    """Positions on the axes of a variable, from ``0.3``, or ``-`` where it has none; ``rgb`` is red, green and blue together. Raises :class:`WrongAddressError` for those that there are not."""
    axes = snapshot.spec.axes_of(variable)
    words = [] if text in ("", "-") else text.split(".")
    if not words and axes and not text:
        words = ["0"] * len(axes)
    composite = snapshot.composite(variable)
    places = [
        TOGETHER if w == RGB and composite is not None and n == composite.axis else int(w) if _is_number(w) else a.size
        for n, (w, a) in enumerate(zip(words, axes, strict=False))
    ]
    if len(words) != len(axes) or not all(p < a.size for p, a in zip(places, axes, strict=True)):
        known = ", ".join(f"{a.name} 0 to {a.size - 1}" for a in axes) or "it has no axes: -"
        raise WrongAddressError(f"{variable.name!r} has no position {text[:40]!r} ({known})")
    return tuple(places)


def _is_number(word: str) -> bool:
    """Whether a word is a whole number, of no more digits than any that means something."""
    return word.isascii() and word.isdecimal() and len(word) <= 9


def _asset(name: str) -> bytes:
    return (files("cubeingest") / "view" / "assets" / name).read_bytes()
