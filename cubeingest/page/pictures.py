"""Coasts and small pictures of the pixels, as far as they fit into a page."""

from __future__ import annotations

import base64
import io
import math
import time
from typing import TYPE_CHECKING

import numpy as np

from cubeingest.coast import coast_within
from cubeingest.errors import CubeIngestError
from cubeingest.look import Picture, PixelReader, read_colours
from cubeingest.look.colours import is_missing
from cubeingest.page.data import CODES, PageData, VariableData
from cubeingest.page.packing import pack_lines
from cubeingest.page.render import to_script
from cubeingest.spec import CubeSpec
from cubeingest.store import Store

if TYPE_CHECKING:
    import numpy.typing as npt

PAGE_BYTES = 1_900_000
"""What a page with pictures may take; those of GLAD, 2,520 slots of 32 pixels, fit."""

COAST_PIXELS = 1600
"""Pixels along the longer side of a map that coasts are drawn as finely as."""

COAST_STEPS = 8000
"""Whole steps that coasts are written in: five to a pixel."""

ALL_PIXELS = 2_600_000
"""Pixels of all pictures together: 32 x 32 for each slot of GLAD. Land cover, whose classes change from pixel to pixel, compresses to a quarter of a
byte each, or a half."""

LONGEST_SIDE = 1536
"""Pixels along the longer side of one picture."""

LEAST_PER_REGION = 8
"""Pixels along a region below which a picture tells nothing."""

MAX_BYTES, MAX_BYTES_FAR = 2_000_000_000, 200_000_000
"""Of pixels that are decoded for pictures where there are no overviews: of a store on this machine, and of one (or of tiles referred to) elsewhere."""

MAX_SECONDS = 30.0
"""For all pictures. Those that are not begun by then are left out."""


def add_coast(data: PageData) -> None:
    """Give a page the coasts within its grid; none where its CRS has no place for them."""
    bounds = data.spec.grid.bounds()
    lines = coast_within(bounds, data.spec.grid.crs, COAST_PIXELS)
    data.coast = {"steps": COAST_STEPS, "lines": pack_lines(lines, bounds, COAST_STEPS)}


def add_pictures(store: Store, data: PageData, seconds: float = MAX_SECONDS) -> None:
    """Give a page a picture of each frame that holds pixels, from overviews or a cube that is small, all of them within its limit of bytes.

    What cannot be made is left out, and a note says why.
    """
    room = PAGE_BYTES - len(to_script(data.to_json())) - ROOM_FOR_SCRIPTS
    frames = [(v, block) for v in data.variables for block in _filled(v)]
    if not frames:
        return
    longest = _side(data.spec, len(frames))
    if longest is None or room <= 0:
        data.notes.append(
            "There are no pictures of the pixels: the page would grow too large. One of fewer slots has them."
        )
        return
    slow, broken = 0, 0
    left = MAX_BYTES if store.is_local else MAX_BYTES_FAR
    ends = time.monotonic() + seconds
    reader = PixelReader(store.on(store.branch, data.snapshot))
    for v in data.variables:
        found: dict[int, Picture] = {}
        for block in (block for other, block in frames if other is v):
            cost = 0 if reader.has_overviews(v.variable) else _bytes_of(data.spec, v, block)
            far = v.virtual is not None and bool(v.virtual.any())
            if time.monotonic() > ends or cost > (min(left, MAX_BYTES_FAR) if far else left):
                slow += 1
                continue
            left -= cost
            try:
                found[block] = _read(reader, data.spec, v, block, longest)
            except CubeIngestError:
                broken += 1
        _paint(v, found)
    if slow:
        data.notes.append(
            f"{f'{slow} of {len(frames)}' if slow < len(frames) else 'The'} pictures of the pixels are left out, as too much would have to be read for them: "
            "`cubeingest overviews` makes them possible."
        )
    if broken:
        data.notes.append(
            f"{broken} of {len(frames)} pictures are left out, as their pixels cannot be read: see `cubeingest check --deep`."
        )
    _fit(data, room)


ROOM_FOR_SCRIPTS = 80_000
"""Bytes of a page that are not its data: style, script, tables."""


def _filled(data: VariableData) -> list[int]:
    """Numbers of a variable's frames that hold pixels."""
    done = (data.codes == CODES.index("done")).reshape(-1, math.prod(data.codes.shape[-2:]))
    return np.flatnonzero(done.any(axis=1)).tolist()


def _side(spec: CubeSpec, n_frames: int) -> int | None:
    """Pixels along the longer side of each picture; None if regions would be too small to see anything."""
    ny, nx = spec.grid.shape_yx
    share = min(ny, nx) / max(ny, nx)
    side = min(LONGEST_SIDE, int(math.sqrt(ALL_PIXELS / n_frames / share)), max(ny, nx))
    region = max(spec.grid.region_shape_yx) / max(ny, nx) * side
    return side if region >= min(LEAST_PER_REGION, max(spec.grid.region_shape_yx)) else None


def _bytes_of(spec: CubeSpec, data: VariableData, block: int) -> int:
    """Bytes of pixels, about, that a frame holds."""
    done = data.codes.reshape(-1, *data.codes.shape[-2:])[block] == CODES.index("done")
    spanned = math.prod(data.variable.chunks[:-2])
    return int(done.sum()) * math.prod(spec.grid.region_shape_yx) * data.variable.np_dtype.itemsize * spanned


def _read(reader: PixelReader, spec: CubeSpec, data: VariableData, block: int, longest: int) -> Picture:
    """Pixels of the first position of an axis block."""
    blocks = np.unravel_index(block, data.codes.shape[:-2]) if data.codes.ndim > 2 else ()
    axes = spec.axes_of(data.variable)
    return reader.read(
        data.variable, {a.name: int(b) * a.block for a, b in zip(axes, blocks, strict=True)}, max_pixels=longest
    )


def _paint(data: VariableData, found: dict[int, Picture]) -> None:
    """Give a variable its pictures, all in the same colours, and their legend."""
    if not found:
        return
    colours = read_colours(data.variable, np.concatenate([p.pixels.ravel() for p in found.values()]))
    for block, picture in found.items():
        rgba = colours.paint(picture.pixels)
        rgba[is_missing(picture.pixels, colours.fill, colours.valid), 3] = 0
        data.pictures[block] = picture.step, encode(rgba)
    if colours.kind == "classes":
        data.legend = {"rows": [[row.name, row.colour] for row in colours.legend], "more": colours.more}
    else:
        ramp = ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in colours.ramp[:: len(colours.ramp) // 16].tolist()]
        data.legend = {"low": colours.low, "high": colours.high, "units": colours.units, "ramp": ramp}


def encode(rgba: npt.NDArray[np.uint8]) -> str:
    """RGBA as a data URI: WebP without loss, which takes a third less than PNG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(rgba).save(out, "WEBP", lossless=True, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def _fit(data: PageData, room: int) -> None:
    """Leave pictures out, the largest first, until they fit."""
    found = sorted(
        ((len(uri), v, block) for v in data.variables for block, (_, uri) in v.pictures.items()), key=lambda f: -f[0]
    )
    total = sum(size for size, _, _ in found)
    dropped = 0
    for size, v, block in found:
        if total <= room:
            break
        del v.pictures[block]
        total -= size
        dropped += 1
    if dropped:
        data.notes.append(f"{dropped} pictures are left out: the page would grow too large.")
