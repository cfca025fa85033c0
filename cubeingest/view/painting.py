"""The colours of a whole map, the same for each of its tiles, and their legend."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.ledger import NOTHING
from cubeingest.look.colours import Colours, is_missing, read_colours
from cubeingest.look.palette import hex_of
from cubeingest.look.samples import Samples, place_samples
from cubeingest.look.scattered import read_scattered, stored_chunks
from cubeingest.spec import Variable
from cubeingest.view.composite import Index
from cubeingest.view.snapshots import Snapshot
from cubeingest.view.tiles import read_parts, seconds_allowed

if TYPE_CHECKING:
    import numpy.typing as npt

Array = np.ndarray[Any, Any]

LONGEST = 1024
"""Pixels along the longer side of the picture by which colours are chosen: what the coarsest overview has at most."""

POSITIONS = 6
"""Axis positions that are looked at, so that a colour means the same at all of them."""

COLOURS_SECONDS = 0.5
"""How long one of these may take to read."""

CHUNKS, CHUNK_SIDE = 24, 128
"""Where that is not enough, so many chunks of regions that are done are looked at, at so many pixels along each side."""

CELLS = 200_000
"""HEALPix cells that are looked at."""

STOPS = 32
"""Colours of a ramp in a legend."""


def colours_key(snapshot: Snapshot, variable: Variable, index: Index) -> Index:
    """Of an axis position that on which colours depend: positions on axes whose values are names, such as bands, of which each has a range of its own; -1 on others."""
    axes = snapshot.spec.axes_of(variable)
    return tuple(i if isinstance(a.values[0], str) else -1 for i, a in zip(index, axes, strict=True))


def read_map_colours(snapshot: Snapshot, variable: Variable, key: Index) -> Colours:
    """The colours of a variable by its attributes; what these do not say, by its pixels at some axis positions, from its coarsest overview."""
    found = [_sample(snapshot, variable, index) for index in _positions(snapshot, variable, key)]
    pixels = np.concatenate([np.ravel(f) for f in found]) if found else np.array([], variable.np_dtype)
    return read_colours(variable, pixels)


def paint(colours: Colours, pixels: Array) -> npt.NDArray[np.uint8]:
    """RGBA, clear where there is nothing."""
    rgba = colours.paint(pixels)
    rgba[is_missing(pixels, colours.fill, colours.valid)] = 0
    return rgba


def legend_of(colours: Colours) -> dict[str, Any]:
    """A legend as plain data."""
    ramp = [hex_of(tuple(int(c) for c in colours.ramp[i])) for i in np.linspace(0, 255, STOPS).round().astype(int)]
    return {
        "kind": colours.kind, "title": colours.title, "units": colours.units,
        "low": colours.low, "high": colours.high, "extend": colours.extend, "ramp": ramp if colours.kind == "range" else [],
        "classes": [{"value": r.value, "name": r.name, "colour": r.colour} for r in colours.legend],
        "more": colours.more, "warnings": list(colours.warnings),
    }  # fmt: skip


def _positions(snapshot: Snapshot, variable: Variable, key: Index) -> list[Index]:
    """Axis positions at which something is done, evenly chosen."""
    axes = snapshot.spec.axes_of(variable)
    held = (snapshot.states[variable.name] != NOTHING).any(axis=(-2, -1))
    blocks = [range(a.n_blocks) if k < 0 else [k // a.block] for k, a in zip(key, axes, strict=True)]
    every = [b for b in itertools.product(*blocks) if held[b]]
    chosen = every[:: max(1, math.ceil(len(every) / POSITIONS))]
    return [tuple(k if k >= 0 else b * a.block for b, k, a in zip(bs, key, axes, strict=True)) for bs in chosen]


def _sample(snapshot: Snapshot, variable: Variable, index: Index) -> Array:
    """Pixels of one axis position, none of them missing."""
    number = max(snapshot.levels(variable), default=0)
    for n in dict.fromkeys((number, 0)):  # overviews that were never made show nothing
        found = (
            _sample_cells(snapshot, variable, index, n)
            if snapshot.spec.healpix
            else _sample_pixels(snapshot, variable, index, n)
        )
        found = found[~is_missing(found, variable.np_fill)]
        if found.size:
            return found
    return found


def _sample_pixels(snapshot: Snapshot, variable: Variable, index: Index, number: int) -> Array:
    source = snapshot.array(variable, index, number)
    ny, nx = source.shape_yx
    samples = place_samples((slice(0, ny), slice(0, nx)), max(1, math.ceil(max(ny, nx) / LONGEST)), (ny, nx))
    out = np.full((len(samples.y), len(samples.x)), variable.np_fill)
    whole = slice(0, len(samples.y)), slice(0, len(samples.x))
    if read_parts([(source, samples, whole)], out, seconds_allowed(snapshot, COLOURS_SECONDS), most_thin=4):
        return out
    blocks = tuple(i // a.block for i, a in zip(index, snapshot.spec.axes_of(variable), strict=True))
    done = np.argwhere(snapshot.states[variable.name][blocks] != NOTHING)
    found = []
    base = snapshot.array(variable, index)
    for iy, ix in done[:: max(1, math.ceil(len(done) / CHUNKS))].tolist():
        sides = []
        for s, c in zip(snapshot.spec.tiling.slices(iy, ix), variable.chunks[-2:], strict=True):
            first = (s.start + s.stop) // 2 // c * c
            sides.append(range(max(s.start, first), min(first + c, s.stop), max(1, c // CHUNK_SIDE)))
        found.append(base.read(Samples(*sides)).ravel())
    return np.concatenate(found) if found else np.array([], variable.np_dtype)


def _sample_cells(snapshot: Snapshot, variable: Variable, index: Index, number: int) -> Array:
    own = snapshot.scattered(variable, number)
    with snapshot.store.asking():
        chunks = stored_chunks(snapshot.session, own, index)
        if not chunks.size:
            return np.array([], variable.np_dtype)
        most = max(1, min(CHUNKS * 4, CELLS // own.write_shape[-1]))
        chosen = chunks[:: max(1, math.ceil(chunks.size / most))]
        step = max(1, chosen.size * own.write_shape[-1] // CELLS)
        cells = (chosen[:, np.newaxis] * own.write_shape[-1] + np.arange(0, own.write_shape[-1], step)).ravel()
        n = snapshot.spec.shape_of(variable)[-1] >> 2 * number
        return read_scattered(snapshot.session, own, index, cells[cells < n])
