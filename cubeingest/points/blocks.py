"""Points of a run brought together by region, a block at a time, and kept: in memory, then on disk, then only where they were."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Lock

import numpy as np

from cubeingest.points.locate import Placer, order_by_region, starts_of
from cubeingest.points.model import Array, Batch, Columns, Filter, Locator
from cubeingest.points.spill import Spill

MEMORY_BYTES = 256 * 2**20
"""Sorted points that a process keeps in memory: some ten million with their cell and two values, and no more than what a worker takes
anyway for the libraries that it loads and a slot of pixels."""

CELL = "cell"
"""The column of cells, beside those that have names in expressions."""


@dataclass(eq=False)
class Block:
    """Points ``first`` to ``stop`` of a run, those that lie in the grid and are kept, sorted by region.

    Those of ``regions[i]`` are ``bounds[i]`` to ``bounds[i + 1]`` of ``columns``, which are None while they are not held.
    """

    first: int
    stop: int
    regions: Array
    bounds: Array
    columns: Columns | None = None

    def where(self, region: int) -> slice:
        """The points of a region among the columns."""
        i = int(self.regions.searchsorted(region))
        if i == len(self.regions) or self.regions[i] != region:
            return slice(0, 0)
        return slice(int(self.bounds[i]), int(self.bounds[i + 1]))


def sort_batch(
    batch: Batch, placer: Placer, locator: Locator, chosen: Filter | None, names: tuple[str, ...], where: str
) -> tuple[Block, Columns]:
    """Place the points of a batch and sort them by region: a block that holds nothing yet, and its columns, ``names`` and ``cell``.

    Points that ``chosen`` is not true for are left out.
    """
    at: Array | None = None
    x, y = batch.x, batch.y
    if chosen is not None:
        kept = is_chosen(chosen, batch.columns, len(batch))
        if not kept.all():
            at = np.flatnonzero(kept)
            x, y = x[at], y[at]
    cells, _ = placer.place(x, y, batch.first, where, at)
    inside = cells >= 0
    if not inside.all():
        here = np.flatnonzero(inside)
        cells, at = cells[here], here if at is None else at[here]
    ny, nx = locator.lattice_shape_yx
    regions = locator.regions_of(cells)
    order = order_by_region(regions, ny * nx)
    if order is not None:
        cells, regions, at = cells[order], regions[order], order if at is None else at[order]
    columns = {name: batch.columns[name] if at is None else batch.columns[name][at] for name in names}
    columns[CELL] = cells
    begin = starts_of(regions)
    for values in columns.values():
        values.flags.writeable = False  # what is given to one region may be given again
    return Block(batch.first, batch.first + len(batch), regions[begin], np.append(begin, len(regions))), columns


def is_chosen(chosen: Filter, columns: Columns, n: int) -> Array:
    """Which of ``n`` points a filter is true for; NaN is not true."""
    values = np.asarray(chosen.evaluate({name: columns[name] for name in chosen.names}))
    true = values.astype(bool) & ~np.isnan(values) if values.dtype.kind == "f" else values.astype(bool)
    return np.broadcast_to(true, (n,))


class Kept:
    """What is held of all blocks of a process: the newest in memory, older ones on disk, the oldest not at all."""

    def __init__(self, memory_bytes: int) -> None:
        self._lock = Lock()
        self._bound, self._held = memory_bytes, 0
        self._in_memory: deque[Block] = deque()
        self._on_disk: dict[int, list[Block]] = {}
        self._spill = Spill()

    def keep(self, block: Block, columns: Columns) -> None:
        """Hold a block's columns, and those of others for as long as there is room."""
        with self._lock:
            if block.columns is not None:
                return
            block.columns = columns
            self._in_memory.append(block)
            self._held += _bytes(block)
            while self._held > self._bound and self._in_memory:
                oldest = self._in_memory.popleft()
                self._held -= _bytes(oldest)
                self._move(oldest)

    def _move(self, block: Block) -> None:
        assert block.columns is not None
        columns, number, dropped = self._spill.put(block.columns)
        for gone in dropped:
            for other in self._on_disk.pop(gone, []):
                other.columns = None
        block.columns = columns
        if columns is not None:
            self._on_disk.setdefault(number, []).append(block)

    def close(self) -> None:
        with self._lock:
            for block in [*self._in_memory, *(b for blocks in self._on_disk.values() for b in blocks)]:
                block.columns = None
            self._in_memory.clear()
            self._on_disk.clear()
            self._held = 0
            self._spill.close()


def _bytes(block: Block) -> int:
    return sum(values.nbytes for values in (block.columns or {}).values())
