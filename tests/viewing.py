"""A viewer that tests ask over a real connection, and its tiles as pixels."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

import cubeingest as ci
from cubeingest.look import read_colours
from cubeingest.look.colours import is_missing


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def rgba(self) -> np.ndarray:
        """Of a PNG, decoded by a library that knows nothing of ours."""
        return np.asarray(Image.open(io.BytesIO(self.body)).convert("RGBA"))


@dataclass(frozen=True)
class Client:
    url: str

    def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, headers=named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Reply(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as e:
            with e:
                return Reply(e.code, e.headers, e.read())

    def json(self, path: str) -> Any:
        reply = self.get(path)
        assert reply.status == 200, reply.body
        return reply.json

    @property
    def tip(self) -> str:
        return str(self.json("api/refs")["branches"]["main"])

    def tile(
        self, variable: str, index: str, at: str, lattice: str = "grid", snapshot: str | None = None
    ) -> np.ndarray:
        reply = self.get(f"tiles/{snapshot or self.tip}/{lattice}/{variable}/{index}/{at}.png")
        assert reply.status == 200, reply.body
        return reply.rgba


def painted(cube: ci.Cube, name: str, pixels: np.ndarray, of: np.ndarray) -> np.ndarray:
    """A tile of 256 pixels a side, of ``pixels`` from its first corner, in the colours that the pixels ``of`` a map give."""
    variable = cube.spec.variable(name)
    colours = read_colours(variable, of)
    whole = np.full((256, 256), variable.np_fill)
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    out = colours.paint(whole)
    out[is_missing(whole, colours.fill, colours.valid)] = 0
    return out
