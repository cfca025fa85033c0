"""Coasts and small pictures of the pixels, as far as they fit into a page."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.coast import coast_within
from cubeingest.errors import CubeIngestError
from cubeingest.extras import import_extra
from cubeingest.look import Colours, Picture, PixelReader, read_colours
from cubeingest.look.colours import is_missing
from cubeingest.page.data import CODES, PageData, VariableData
from cubeingest.page.packing import pack_lines
from cubeingest.page.render import to_script
from cubeingest.spec import CubeSpec
from cubeingest.store import Store

if TYPE_CHECKING:
    import numpy.typing as npt

PILLOW = ("PIL.Image", "pictures", "a page with them")
"""What is asked of :func:`import_extra`."""

PAGE_BYTES = 1_900_000
"""What a page with pictures may take."""

COAST_PIXELS = 1600
"""Pixels along the longer side of a map that coasts are drawn as finely as."""

COAST_STEPS = 8000
"""Whole steps that coasts are written in: five to a pixel."""

ALL_PIXELS = 4_000_000
"""Pixels of all pictures together: 40 x 40 for each slot of GLAD. Pictures that do not compress well are thinned until they fit."""

LONGEST_SIDE = 1536
"""Pixels along the longer side of one picture."""

RAMP_STEPS = 17
"""Colours of a colour bar, the first and the last among them."""

LEAST_PER_REGION = 8
"""Pixels along a region below which a picture tells nothing."""

MAX_BYTES, MAX_BYTES_FAR = 2_000_000_000, 200_000_000
"""Of pixels that are decoded for pictures where there are no overviews: of a store on this machine, and of one (or of tiles referred to) elsewhere."""

MAX_SECONDS = 30.0
"""For all pictures. Those that are not begun by then are left out."""


def add_coast(data: PageData) -> None:
    """Give a page the coasts within its grid; none where its CRS has no place for them."""
    with _or_note(data, "There are no coastlines"):
        bounds = data.bounds
        lines = coast_within(bounds, data.spec.grid.crs, COAST_PIXELS)
        data.coast = {"bounds": list(bounds), "steps": COAST_STEPS, "lines": pack_lines(lines, bounds, COAST_STEPS)}


@contextmanager
def _or_note(data: PageData, what: str) -> Iterator[None]:
    """Whatever goes wrong becomes a note of the page: the rest of it matters more."""
    try:
        yield
    except Exception as e:  # noqa: BLE001
        data.notes.append(f"{what}: {' '.join(str(e).split())[:200] or type(e).__name__}.")


def add_pictures(store: Store, data: PageData, seconds: float) -> None:
    """Give a page a picture of each frame that holds pixels, from overviews or a cube that is small, all of them within its limit of bytes.

    What cannot be made is left out, and a note says why.
    """
    if data.spec.healpix is not None:
        data.notes.append(NO_CELLS)
        return
    with _or_note(data, "There are no pictures of the pixels"):
        try:
            _add_pictures(store, data, seconds)
        except Exception:
            _drop_pictures(data)
            raise


def _drop_pictures(data: PageData) -> None:
    for v in data.variables:
        v.pictures, v.legend = {}, None


def _add_pictures(store: Store, data: PageData, seconds: float) -> None:
    room = PAGE_BYTES - len(to_script(data.to_json())) - ROOM_FOR_SCRIPTS
    frames = [(v, block) for v in data.variables for block in _filled(v)]
    if not frames:
        return
    import_extra(*PILLOW)
    longest = _side(data.spec, len(frames))
    if longest is None or room <= 0:
        data.notes.append(TOO_LARGE)
        return
    found = _read_all(store, data, frames, longest, time.monotonic() + seconds)
    colours = {
        name: read_colours(data.spec.variable(name), np.concatenate([p.pixels.ravel() for p in pictures.values()]))
        for name, pictures in found.items()
    }
    for v in data.variables:
        if v.variable.name in found:
            v.legend = _legend(colours[v.variable.name], found[v.variable.name].values())
    data.notes += dict.fromkeys(warning for c in colours.values() for warning in _warnings_of(c))
    is_upright = data.spec.tiling.resolution_y < 0
    for thin in THINNED:
        for v in data.variables:
            name = v.variable.name
            if name in found:
                v.pictures = {
                    b: (p.step * thin, _paint(p, colours[name], thin, is_upright)) for b, p in found[name].items()
                }
        if sum(len(uri) for v in data.variables for _, uri in v.pictures.values()) <= room:
            return
    _drop_pictures(data)
    data.notes.append(TOO_LARGE)


THINNED = (1, 2, 4)
"""By how much pictures are thinned, one after the other, until the page is small enough."""

TOO_LARGE = "There are no pictures of the pixels: the page would grow too large. One of fewer slots has them."

NO_CELLS = "There are no pictures of cells here: `cubeingest show map` draws them."

ROOM_FOR_SCRIPTS = 80_000
"""Bytes of a page that are not its data: style, script, tables."""


def _filled(data: VariableData) -> list[int]:
    """Numbers of a variable's frames that hold pixels."""
    done = (data.codes == CODES.index("done")).reshape(-1, math.prod(data.codes.shape[-2:]))
    return np.flatnonzero(done.any(axis=1)).tolist()


def _side(spec: CubeSpec, n_frames: int) -> int | None:
    """Pixels along the longer side of each picture; None if regions would be too small to see anything."""
    ny, nx = spec.tiling.shape_yx
    share = min(ny, nx) / max(ny, nx)
    side = min(LONGEST_SIDE, int(math.sqrt(ALL_PIXELS / n_frames / share)), max(ny, nx))
    region = max(spec.tiling.region_shape_yx) / max(ny, nx) * side
    return side if region >= min(LEAST_PER_REGION, max(spec.tiling.region_shape_yx)) else None


def _bytes_of(spec: CubeSpec, data: VariableData, block: int) -> int:
    """Bytes of pixels, about, that a frame holds."""
    done = data.codes.reshape(-1, *data.codes.shape[-2:])[block] == CODES.index("done")
    spanned = math.prod(data.variable.chunks[:-2])
    return int(done.sum()) * math.prod(spec.tiling.region_shape_yx) * data.variable.np_dtype.itemsize * spanned


def _read_all(
    store: Store, data: PageData, frames: list[tuple[VariableData, int]], longest: int, ends: float
) -> dict[str, dict[int, Picture]]:
    """Pictures by variable and frame, as far as they are cheap; a note says what is left out."""
    slow, broken = 0, 0
    left = MAX_BYTES if store.is_local else MAX_BYTES_FAR
    reader = PixelReader(store.on(store.branch, data.snapshot))
    found: dict[str, dict[int, Picture]] = {}
    for v, block in frames:
        cost = 0 if reader.has_overviews(v.variable) else _bytes_of(data.spec, v, block)
        far = v.virtual is not None and bool(v.virtual.any())
        if time.monotonic() > ends or cost > (min(left, MAX_BYTES_FAR) if far else left):
            slow += 1
            continue
        left -= cost
        try:
            found.setdefault(v.variable.name, {})[block] = _read(reader, data.spec, v, block, longest)
        except CubeIngestError:
            broken += 1
    found = {name: pictures for name, pictures in found.items() if pictures}
    if slow:
        which = f"{slow} of {len(frames)}" if slow < len(frames) else "The"
        data.notes.append(
            f"{which} pictures of the pixels are left out, as too much would have to be read for them: `cubeingest overviews` makes them possible."
        )
    if broken:
        data.notes.append(
            f"{broken} of {len(frames)} pictures are left out, as their pixels cannot be read: see `cubeingest check --deep`."
        )
    return found


def _read(reader: PixelReader, spec: CubeSpec, data: VariableData, block: int, longest: int) -> Picture:
    """Pixels of the first position of an axis block."""
    blocks = np.unravel_index(block, data.codes.shape[:-2]) if data.codes.ndim > 2 else ()
    axes = spec.axes_of(data.variable)
    return reader.read(
        data.variable, {a.name: int(b) * a.block for a, b in zip(axes, blocks, strict=True)}, max_pixels=longest
    )


def _paint(picture: Picture, colours: Colours, thin: int, is_upright: bool) -> str:
    """A picture as a data URI; its first row is the northernmost, wherever rows of the cube start."""
    pixels = picture.pixels[::thin, ::thin]
    if not is_upright:
        pixels = pixels[::-1]
    rgba = colours.paint(pixels)
    rgba[is_missing(pixels, colours.fill, colours.valid), 3] = 0
    return encode(rgba)


def _warnings_of(colours: Colours) -> list[str]:
    """What to say of colours: which attributes could not be used, and a colour bar without limits."""
    sentences = [f"Colours: {warning}." for warning in colours.warnings]
    if not _has_limits(colours):
        sentences.append(
            f"{colours.title}: there is no colour bar, as its limits are {colours.low} and {colours.high}."
        )
    return sentences


def _has_limits(colours: Colours) -> bool:
    return colours.kind == "classes" or (math.isfinite(colours.low) and math.isfinite(colours.high))


def _legend(colours: Colours, pictures: Iterable[Picture]) -> dict[str, Any]:
    """Classes, or limits and a ramp; besides the colour of missing pixels, if there are any."""
    missing = any(bool(is_missing(p.pixels, colours.fill, colours.valid).any()) for p in pictures)
    legend: dict[str, Any] = {"missing": colours.missing} if missing else {}
    if colours.kind == "classes":
        return legend | {"rows": [[row.name, row.colour] for row in colours.legend], "more": colours.more}
    if not _has_limits(colours):
        return legend
    steps = colours.ramp[np.linspace(0, len(colours.ramp) - 1, RAMP_STEPS).round().astype(int)]
    ramp = ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in steps.tolist()]
    return legend | {"low": colours.low, "high": colours.high, "units": colours.units, "ramp": ramp}


def encode(rgba: npt.NDArray[np.uint8]) -> str:
    """RGBA as a data URI: WebP without loss, which takes a third less than PNG."""
    image = import_extra(*PILLOW)
    out = io.BytesIO()
    image.fromarray(rgba).save(out, "WEBP", lossless=True, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
