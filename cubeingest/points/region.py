"""The points of a region, from the granules that have some there: how a worker reads many regions in turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock, RLock

import numpy as np

from cubeingest.errors import TileError
from cubeingest.points.blocks import CELL, MEMORY_BYTES, Block, Kept, is_chosen, sort_batch
from cubeingest.points.granule import open_granule
from cubeingest.points.locate import Placer
from cubeingest.points.model import (
    BATCH_POINTS,
    EVERY_RUN,
    Array,
    Batch,
    Columns,
    Granule,
    GranuleRow,
    Locator,
    Part,
    PointSource,
)
from cubeingest.storage import is_remote, public_href

SPARSE = 4
"""A range of a run is read for a region if at most so many times the region's points lie in it; else the whole run is sorted by region
once. A satellite's track leaves a region where it has entered it, points in no order lie everywhere."""

NOTHING = slice(0, 0)

OPEN_AT_ONCE = 16
"""Granules that are kept open: opening one costs about as much as reading a few ranges of it."""


@dataclass(eq=False)
class _Source:
    """A granule that has been used: its runs sorted by region, as far as they have been needed, and it itself while it is open."""

    lock: RLock = field(default_factory=RLock)
    sorted: dict[tuple[str, tuple[str, ...]], list[Block]] = field(default_factory=dict)
    granule: Granule | None = None
    stack: ExitStack = field(default_factory=ExitStack)
    users: int = 0


class RegionReader:
    """Reads the points of one region after the other. Many threads may use it; granules must not change as long as it is used."""

    def __init__(self, source: PointSource, locator: Locator, memory_bytes: int = MEMORY_BYTES) -> None:
        self._source, self._locator = source, locator
        self._placer = Placer(source.crs, locator)
        self._kept = Kept(memory_bytes)
        self._lock = Lock()
        self._sources: dict[str, _Source] = {}

    def __enter__(self) -> RegionReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back memory, scratch files and open granules."""
        with self._lock:
            for source in self._sources.values():
                source.stack.close()
            self._sources.clear()
        self._kept.close()

    def points_of(self, rows: Iterable[GranuleRow], region: int, names: Sequence[str]) -> Iterator[Columns]:
        """The points of a region that the filter keeps: ``cell`` (within the region) and the columns ``names``, in batches of about a million.

        They come in the order of ``rows`` and of their runs. Raises :class:`TileError` for a granule that cannot be read.
        """
        held: list[Columns] = []
        n = 0
        for piece in self._pieces(rows, region, tuple(names)):
            held.append(piece)
            n += len(piece[CELL])
            if n >= BATCH_POINTS:
                yield self._as_batch(held, region)
                held, n = [], 0
        if n:
            yield self._as_batch(held, region)

    def _as_batch(self, pieces: list[Columns], region: int) -> Columns:
        joined = pieces[0] if len(pieces) == 1 else {k: np.concatenate([p[k] for p in pieces]) for k in pieces[0]}
        return {**joined, CELL: self._locator.cells_within(region, joined[CELL])}

    def _pieces(self, rows: Iterable[GranuleRow], region: int, names: tuple[str, ...]) -> Iterator[Columns]:
        for row in rows:
            for part in row.parts:
                if part.run == EVERY_RUN:
                    for run in self._runs(row.href):
                        yield from self._from_sorted(row.href, run, region, names)
                elif is_remote(row.href) or not 0 <= part.stop - part.start <= SPARSE * part.count:
                    yield from self._from_sorted(row.href, part.run, region, names)
                else:
                    yield from self._from_range(row.href, part, region, names)

    # ---- a range of a run ---------------------------------------------------------------------------------------

    def _from_range(self, href: str, part: Part, region: int, names: tuple[str, ...]) -> Iterator[Columns]:
        with self._opened(href) as granule:
            if granule.has_ranges:
                for batch in granule.batches(part.run, part.start, part.stop, self._wanted(names)):
                    piece = self._in_region(batch, region, names, _where(href, part.run))
                    if len(piece[CELL]):
                        yield piece
                return
        yield from self._from_sorted(href, part.run, region, names)

    def _in_region(self, batch: Batch, region: int, names: tuple[str, ...], where: str) -> Columns:
        cells, _ = self._placer.place(batch.x, batch.y, batch.first, where)
        at: Array = np.flatnonzero(cells >= 0)
        at = at[self._locator.regions_of(cells[at]) == region]
        columns = batch.columns if len(at) == len(cells) else {name: v[at] for name, v in batch.columns.items()}
        cells = cells[at]
        if self._source.filter is not None:
            kept = is_chosen(self._source.filter, columns, len(cells))
            columns, cells = {name: values[kept] for name, values in columns.items()}, cells[kept]
        return {CELL: cells, **{name: columns[name] for name in names}}

    # ---- a run that is sorted once ------------------------------------------------------------------------------

    def _from_sorted(self, href: str, run: str, region: int, names: tuple[str, ...]) -> Iterator[Columns]:
        blocks = [(b, b.columns) for b in self._blocks(href, run, names) if b.where(region) != NOTHING]
        gone = self._again(href, run, [block for block, columns in blocks if columns is None], names)
        for block, columns in blocks:
            here = block.where(region)
            yield {name: values[here] for name, values in (next(gone) if columns is None else columns).items()}

    def _blocks(self, href: str, run: str, names: tuple[str, ...]) -> list[Block]:
        source = self._source_of(href)
        with source.lock:
            if (run, names) not in source.sorted:
                with self._opened(href) as granule:
                    # A remote granule has been fetched whole, and is not kept: all that it has is sorted now.
                    runs = [r.name for r in granule.runs] if is_remote(href) else [run]
                    for each in runs:
                        source.sorted[each, names] = [
                            self._sorted(batch, names, _where(href, each))
                            for batch in granule.batches(each, 0, None, self._wanted(names))
                        ]
            found = source.sorted.get((run, names))
        if found is None:
            raise TileError(f"granule {public_href(href)!r} has no {run!r} any more: run the command again")
        return found

    def _again(self, href: str, run: str, blocks: list[Block], names: tuple[str, ...]) -> Iterator[Columns]:
        """The columns of blocks for which there was no room, in one pass through the run.

        One alone is held again. If there are more, the points are more than there is room for; then each would only drive out
        another that the next region asks for.
        """
        wanted = {block.first: block for block in blocks}
        with self._opened(href) as granule:
            for batch in granule.batches(run, blocks[0].first, blocks[-1].stop, self._wanted(names)):
                if batch.first in wanted:
                    columns = self._sort(batch, names, _where(href, run))[1]
                    if len(blocks) == 1:
                        self._kept.keep(blocks[0], columns)
                    yield columns

    def _sorted(self, batch: Batch, names: tuple[str, ...], where: str) -> Block:
        block, columns = self._sort(batch, names, where)
        self._kept.keep(block, columns)
        return block

    def _sort(self, batch: Batch, names: tuple[str, ...], where: str) -> tuple[Block, Columns]:
        return sort_batch(batch, self._placer, self._locator, self._source.filter, names, where)

    def _wanted(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Columns to read: those asked for, and what the filter looks at."""
        more = () if self._source.filter is None else tuple(sorted(self._source.filter.names))
        return tuple(dict.fromkeys((*names, *more)))

    # ---- open granules ------------------------------------------------------------------------------------------

    def _runs(self, href: str) -> list[str]:
        with self._source_of(href).lock, self._opened(href) as granule:
            return [run.name for run in granule.runs]

    def _source_of(self, href: str) -> _Source:
        with self._lock:
            return self._sources.setdefault(href, _Source())

    @contextmanager
    def _opened(self, href: str) -> Iterator[Granule]:
        """A granule, opened if it is not. Some of those that nobody uses stay open, unless they are copies, whose room is needed."""
        source = self._source_of(href)
        with self._lock:
            source.users += 1  # from here on nobody else closes it
        try:
            with source.lock:
                if source.granule is None:
                    source.granule = source.stack.enter_context(open_granule(href, self._source))
                granule = source.granule
            yield granule
        finally:
            with self._lock:
                source.users -= 1
                self._sources[href] = self._sources.pop(href, source)
                idle = [(h, s) for h, s in self._sources.items() if s.granule is not None and not s.users]
                copies = [s for h, s in idle if is_remote(h)]
                for each in [*copies, *(s for h, s in idle[: max(len(idle) - OPEN_AT_ONCE, 0)] if not is_remote(h))]:
                    each.granule = None
                    each.stack.close()


def _where(href: str, run: str) -> str:
    return f"granule {public_href(href)!r}" + (f", {run}" if run else "")
