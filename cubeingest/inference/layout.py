"""Regions, chunks and shards for tiles of a size. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from cubeingest.inference.idnames import IdFound
from cubeingest.inference.lattice import Lattice

CHUNK_BYTES = 2_500_000
"""Of pixels in a chunk: between what a request costs and what a small read must fetch."""

MOST_CHUNK_BYTES = 4_500_000

SMALL_TILE_BYTES = 1_000_000
"""Of pixels in a tile, below which several tiles share a region."""

GROUPED_BYTES = 8_000_000
"""Of pixels in a region of small tiles: a few chunks."""

GROUPS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 16, 20, 24, 25, 30, 32, 40, 50, 60, 64, 80, 100)
"""Tiles along a region of several."""

MANY_CHUNKS = 100
"""In a region, from which on they are sharded: one object each would be millions in a large grid."""

SHARD_CHUNKS = 8
MOST_SHARD_BYTES = 32_000_000

OVERLAP_DROPPED_PX = 2
"""Pixels that neighbouring tiles repeat, of which the last tiles' are no loss."""

REGION_CHUNKS = 8
"""Chunks along a region where tiles do not say how large one should be."""


@dataclass(frozen=True)
class Layout:
    """Shapes (y, x) in pixels; ``tile_yx`` where several tiles share a region. ``shift_yx`` is what lies before the lattice's corner."""

    shape_yx: tuple[int, int]
    region_yx: tuple[int, int]
    tile_yx: tuple[int, int] | None
    shift_yx: tuple[int, int]
    why: str

    @property
    def n_regions(self) -> tuple[int, int]:
        return -(-self.shape_yx[0] // self.region_yx[0]), -(-self.shape_yx[1] // self.region_yx[1])


def choose_layout(lattice: Lattice, found: IdFound | None, itemsize: int, block_yx: tuple[int, int]) -> Layout:
    """Shape and regions of a grid for tiles on ``lattice``: a tile is a region where that is a sensible size."""
    step = lattice.step_yx
    one = lattice.n_places == 1 and found is None
    if step is None or one:
        shape = lattice.extent_yx
        region = _free_region(shape, itemsize, block_yx)
        why = "all of it" if region == shape else "cut from one raster" if one else "cut freely"
        return Layout(shape, region, None, (0, 0), why)
    shift = (0, 0) if found is None else (found.shift_yx[0] * step[0], found.shift_yx[1] * step[1])
    shape = _shape(lattice, step, shift)
    cells = tuple(-(-n // s) for n, s in zip(shape, step, strict=True))
    if math.prod(step) * itemsize >= SMALL_TILE_BYTES or math.prod(cells) == 1:
        why = "one tile" if lattice.overlap_yx == (0, 0) else "the step from tile to tile"
        return Layout(shape, _within(step, shape), None, shift, why)
    side = next((g for g in GROUPS if g * g * math.prod(step) * itemsize >= GROUPED_BYTES), GROUPS[-1])
    group = [min(side, c) for c in cells]
    region = _within((group[0] * step[0], group[1] * step[1]), shape)
    return Layout(shape, region, step, shift, f"{group[0]} x {group[1]} tiles, which are small")


def _shape(lattice: Lattice, step: tuple[int, int], shift: tuple[int, int]) -> tuple[int, int]:
    """Up to the last tile's end, but without the few pixels by which it reaches over as if there were a next one."""
    ends = []
    for n, s, overlap, before in zip(lattice.extent_yx, step, lattice.overlap_yx, shift, strict=True):
        dropped = n % s if 0 < overlap <= OVERLAP_DROPPED_PX and n % s <= overlap and n > s else 0
        ends.append(before + n - dropped)
    return ends[0], ends[1]


def _within(region: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    return min(region[0], shape[0]), min(region[1], shape[1])


def _free_region(shape: tuple[int, int], itemsize: int, block_yx: tuple[int, int]) -> tuple[int, int]:
    """Whole chunks of a round size; on a raster's own blocks if these are powers of two."""
    binary = all(b >= 64 and b & (b - 1) == 0 for b in block_yx)
    edges = (2048, 1024, 512, 256) if binary else (2000, 1000, 500, 250)
    edge = next((e for e in edges if e * e * itemsize <= MOST_CHUNK_BYTES), edges[-1])
    return _within((edge * REGION_CHUNKS, edge * REGION_CHUNKS), shape)


def choose_chunks(layout: Layout, itemsize: int) -> tuple[int, int]:
    """Chunks (y, x) that divide the region, of a size that is good to read."""
    candidates = [
        set(_divisors(region)) | ({256, 512, 1000, 1024, 2048} if region == shape else set())
        for region, shape in zip(layout.region_yx, layout.shape_yx, strict=True)
    ]
    fitting = [[c for c in some if c <= region] for some, region in zip(candidates, layout.region_yx, strict=True)]
    pairs = itertools.product(sorted(fitting[0]), sorted(fitting[1]))
    return min(pairs, key=lambda yx: _badness(yx, layout, itemsize))


def _badness(yx: tuple[int, int], layout: Layout, itemsize: int) -> float:
    """How far a chunk is from the right size (in doublings), from square, and from round numbers."""
    size = math.prod(yx) * itemsize
    whole = math.prod(layout.region_yx) * itemsize
    off = abs(math.log2(size / min(CHUNK_BYTES, whole)))
    too_large = 2.0 if size > MOST_CHUNK_BYTES else 0.0
    crooked = sum(0.4 for n, r in zip(yx, layout.region_yx, strict=True) if n != r and n % 100 and n % 128)
    # Where one region is the whole array, chunks need not divide it, but it is tidier.
    torn = sum(0.6 for n, r in zip(yx, layout.region_yx, strict=True) if r % n)
    return off + 0.8 * abs(math.log2(yx[0] / yx[1])) + too_large + crooked + torn


def choose_shards(layout: Layout, chunks: tuple[int, int], itemsize: int) -> tuple[int, int] | None:
    """Shards (y, x) of several chunks along x where a region has very many; None where it has not."""
    (ry, rx), (cy, cx) = layout.region_yx, chunks
    if rx % cx or ry % cy or (ry // cy) * (rx // cx) <= MANY_CHUNKS:
        return None
    most = min(SHARD_CHUNKS, MOST_SHARD_BYTES // (cy * cx * itemsize))
    n = max((d for d in _divisors(rx // cx) if d <= most), default=1)
    return (cy, cx * n) if n > 1 else None


def _divisors(n: int) -> Iterable[int]:
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return sorted({*small, *(n // d for d in small)})
