"""The pixels of one tile: from the coarsest overview that is fine enough, regions that it lacks from the full resolution, and never more than takes a moment.

What would take longer than ``TILE_SECONDS`` is thinned, so that the tile is coarser than it might be; what cannot be thinned enough is not read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.healpix import cells_at, count_cells
from cubeingest.ledger import EMPTY, NOTHING
from cubeingest.look.samples import Samples, SparseArray, place_samples
from cubeingest.look.scattered import read_scattered, reading_seconds
from cubeingest.spec import Variable
from cubeingest.view.composite import Index
from cubeingest.view.lattice import TILE, Lattice
from cubeingest.view.snapshots import Snapshot

if TYPE_CHECKING:
    import numpy.typing as npt

Array = np.ndarray[Any, Any]

TILE_SECONDS = 1.0
"""How long a tile may take to read, as ``look.samples`` counts for a disk of this machine. A screen takes some 20 tiles, of which two cores read two at a time."""

REMOTE_SHARE = 0.25
"""Of that for a cube on an object store, where each chunk takes several times as long."""

MOST_THIN = 32
"""Pixels along each side that are one sample at most, so that a tile is never of fewer than 8 x 8 samples."""

EARTH_AREA = 5.1e14
"""Square metres."""


@dataclass(frozen=True)
class Tile:
    """``pixels`` (``TILE``, ``TILE``) in the variable's dtype, in the order of the lattice, the fill value where there is nothing. ``thin`` is how many pixels along
    each side are one sample; 0 if the tile would take too long to read, and was not. ``overview`` is the level that it is from, 0 for the full resolution.
    """

    pixels: Array
    thin: int = 1
    overview: int = 0

    @property
    def note(self) -> str:
        return "costly" if not self.thin else f"thinned {self.thin}" if self.thin > 1 else ""


def read_tile(snapshot: Snapshot, lattice: Lattice, variable: Variable, index: Index, at: tuple[int, int, int]) -> Tile:
    """The tile ``at`` (level, row, column) of a lattice that has it. Raises :class:`StoreError` if pixels cannot be read."""
    blank = np.full((TILE, TILE), variable.np_fill)
    if snapshot.spec.healpix is not None:
        return _read_cells(snapshot, lattice, variable, index, at, blank)
    return _read_pixels(snapshot, lattice, variable, index, at, blank)


def seconds_allowed(snapshot: Snapshot, seconds: float) -> float:
    return seconds if snapshot.store.is_local else seconds * REMOTE_SHARE


Part = tuple[SparseArray, Samples, tuple[slice, slice]]
"""What is read, and where in the picture it goes."""


def read_parts(parts: Sequence[Part], out: Array, seconds: float, most_thin: int) -> int:
    """Read parts into a picture, thinned as far as they would take longer than so many seconds otherwise: how far, 0 if that is farther than ``most_thin``
    and nothing was read.
    """
    thin = 1
    while sum(source.seconds(thinned(samples, thin)) for source, samples, _ in parts) > seconds:
        thin *= 2
        if thin > most_thin:
            return 0
    for source, samples, at in parts:
        found = source.read(thinned(samples, thin))
        out[at] = found if thin == 1 else spread(found, thin, (len(samples.y), len(samples.x)))
    return thin


def thinned(samples: Samples, thin: int) -> Samples:
    """Of every ``thin`` samples along each side the middle one, of the last few one as well."""
    y, x = (r[min(thin // 2, (len(r) - 1) % thin) :: thin] for r in (samples.y, samples.x))
    return Samples(y, x)


def spread(pixels: Array, thin: int, shape_yx: tuple[int, int]) -> Array:
    """What was thinned, at its full size."""
    rows, columns = (np.arange(n) // thin for n in shape_yx)
    wide: Array = pixels[np.ix_(rows, columns)]
    return wide


def _read_pixels(
    snapshot: Snapshot, lattice: Lattice, variable: Variable, index: Index, at: tuple[int, int, int], blank: Array
) -> Tile:
    level = at[0]
    window = lattice.window(*at)
    assert window is not None
    base = snapshot.array(variable, index)
    samples = place_samples(window, 1 << level, base.shape_yx)
    pixels = blank[: len(samples.y), : len(samples.x)]
    number = max((n for n in snapshot.levels(variable) if n <= level), default=0)
    whole = slice(0, len(samples.y)), slice(0, len(samples.x))
    seconds = seconds_allowed(snapshot, TILE_SECONDS)
    if not number:
        return Tile(blank, read_parts([(base, samples, whole)], pixels, seconds, MOST_THIN))
    coarse = snapshot.array(variable, index, number)
    y, x = (slice(s.start >> number, -(-s.stop >> number)) for s in window)
    own = place_samples((y, x), 1 << level - number, coarse.shape_yx)
    thin = read_parts([(coarse, own, whole)], pixels, seconds, MOST_THIN)
    parts: list[Part] = []
    behind = snapshot.behind(variable, index)
    for iy, ix in np.argwhere(behind != NOTHING).tolist():
        there = samples.at(snapshot.spec.tiling.slices(iy, ix))
        if there[0].start < there[0].stop and there[1].start < there[1].stop:
            pixels[there] = variable.np_fill
            if behind[iy, ix] != EMPTY:
                parts.append((base, samples.part(there), there))
    return Tile(blank, _worse(thin, read_parts(parts, pixels, seconds, MOST_THIN)), number)


def _worse(first: int, second: int) -> int:
    """Of two thinnings that which says less of the pixels."""
    return 0 if not (first and second) else max(first, second)


def _read_cells(
    snapshot: Snapshot, lattice: Lattice, variable: Variable, index: Index, at: tuple[int, int, int], blank: Array
) -> Tile:
    grid = snapshot.spec.healpix
    assert grid is not None
    level, row, column = at
    lon, lat = lattice.places(level, row, column)
    positions = grid.positions_of(cells_at(lon, lat, grid.order, grid.ellipsoid))
    n_cells = lattice.square_metres(level, row) / EARTH_AREA * count_cells(grid.order)
    wanted = int(math.log2(max(1.0, n_cells))) // 2
    number = max((n for n in snapshot.levels(variable) if n <= wanted), default=0)
    held = positions >= 0
    sources = [(variable, positions)]
    if number:
        regions = np.where(held, positions // grid.cells_in_region, 0)
        behind = held & (snapshot.behind(variable, index) != NOTHING)[0][regions]
        coarse = snapshot.scattered(variable, number)
        sources = [
            (coarse, np.where(held & ~behind, positions >> 2 * number, -1)),
            (variable, np.where(behind, positions, -1)),
        ]
    return _read_scattered(snapshot, index, sources, blank, number)


def _read_scattered(
    snapshot: Snapshot,
    index: Index,
    sources: Sequence[tuple[Variable, npt.NDArray[np.int64]]],
    blank: Array,
    number: int,
) -> Tile:
    seconds, thin = seconds_allowed(snapshot, TILE_SECONDS), 1

    def some(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return positions[thin // 2 :: thin, thin // 2 :: thin]

    with snapshot.store.asking():
        while sum(reading_seconds(snapshot.session, v, index, some(p)) for v, p in sources) > seconds:
            thin *= 2
            if thin > MOST_THIN:
                return Tile(blank, 0, number)
        for variable, positions in sources:
            few = some(positions)
            if (few >= 0).any():
                found = np.where(few >= 0, read_scattered(snapshot.session, variable, index, few), blank[0, 0])
                wide = spread(found, thin, blank.shape)
                blank = np.where(spread(few, thin, blank.shape) >= 0, wide, blank).astype(blank.dtype)
    return Tile(blank, thin, number)
