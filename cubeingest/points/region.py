"""The points of a region, from the granules that have some there: how a worker reads many regions in turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock, RLock

import numpy as np

from cubeingest.errors import TileError
from cubeingest.points.blocks import CELL, MEMORY_BYTES, Block, Kept, sort_batch
from cubeingest.points.granule import has_ranges, open_granule
from cubeingest.points.locate import Placer
from cubeingest.points.model import (
    BATCH_POINTS,
    EVERY_RUN,
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
"""A run in no order is one of which a region's range holds more than so many times the region's points. A satellite's track leaves a
region where it has entered it, or comes back once."""

STRETCH_POINTS = 2**16
"""Points of a track that are read and sorted at once, for all regions that it crosses there. A region of its own would take fewer, but of
HDF5 whole chunks of some ten thousand points are decoded anyway, and reading any takes a millisecond."""

NOTHING = slice(0, 0)

OPEN_AT_ONCE = 64
"""Granules that are kept open: opening one costs about as much as reading a few ranges of it."""


Names = tuple[str, ...]


@dataclass(eq=False)
class _Source:
    """A granule that has been used: its runs and stretches of them sorted by region, those that have been needed, and it itself while it is open.

    Stretches are told apart by run, names and number.
    """

    lock: RLock = field(default_factory=RLock)
    sorted: dict[tuple[str, Names], list[Block]] = field(default_factory=dict)
    stretches: dict[tuple[str, Names, int], Block] = field(default_factory=dict)
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
        self._open: dict[str, _Source] = {}  # those whose granule is open, the one used last at the end

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
            self._open.clear()
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

    def _pieces(self, rows: Iterable[GranuleRow], region: int, names: Names) -> Iterator[Columns]:
        for row in rows:
            for part in row.parts:
                if part.run == EVERY_RUN:
                    for run in self._runs(row.href):
                        yield from self._from_sorted(row.href, run, region, names)
                elif has_ranges(row.href) and part.stop - part.start <= max(BATCH_POINTS, SPARSE * part.count):
                    yield from self._from_stretches(row.href, part, region, names)
                else:
                    yield from self._from_sorted(row.href, part.run, region, names)

    # ---- stretches of a track -----------------------------------------------------------------------------------

    def _from_stretches(self, href: str, part: Part, region: int, names: Names) -> Iterator[Columns]:
        source = self._source_of(href)
        for i in range(part.start // STRETCH_POINTS, -(-part.stop // STRETCH_POINTS)):
            block = source.stretches.get((part.run, names, i)) or self._stretch(href, part, names, i)
            here = block.where(region)
            if here != NOTHING:
                columns = block.columns
                if columns is None:
                    columns = next(self._again(href, part.run, [block], names))
                yield {name: values[here] for name, values in columns.items()}

    def _stretch(self, href: str, part: Part, names: Names, i: int) -> Block:
        """A stretch of a run, read and sorted if it is not yet."""
        source = self._source_of(href)
        with source.lock:
            if (part.run, names, i) not in source.stretches:
                with self._opened(href) as granule:
                    n = next((r.n_points or 0 for r in granule.runs if r.name == part.run), 0)
                    if part.stop > n:
                        raise _changed(href, part.run)
                    first = i * STRETCH_POINTS
                    last = min(first + STRETCH_POINTS, n)
                    (batch,) = granule.batches(part.run, first, last, self._wanted(names))
                source.stretches[part.run, names, i] = self._sorted(batch, names, _where(href, part.run))
            return source.stretches[part.run, names, i]

    # ---- a run that is sorted once ------------------------------------------------------------------------------

    def _from_sorted(self, href: str, run: str, region: int, names: Names) -> Iterator[Columns]:
        places = [(block, block.where(region)) for block in self._blocks(href, run, names)]
        blocks = [(block, here, block.columns) for block, here in places if here != NOTHING]
        gone = self._again(href, run, [block for block, _, columns in blocks if columns is None], names)
        for _, here, columns in blocks:
            yield {name: values[here] for name, values in (next(gone) if columns is None else columns).items()}

    def _blocks(self, href: str, run: str, names: Names) -> list[Block]:
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
            raise _changed(href, run)
        return found

    def _again(self, href: str, run: str, blocks: list[Block], names: Names) -> Iterator[Columns]:
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

    def _sorted(self, batch: Batch, names: Names, where: str) -> Block:
        block, columns = self._sort(batch, names, where)
        self._kept.keep(block, columns)
        return block

    def _sort(self, batch: Batch, names: Names, where: str) -> tuple[Block, Columns]:
        return sort_batch(batch, self._placer, self._locator, self._source.filter, names, where)

    def _wanted(self, names: Names) -> tuple[str, ...]:
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
                self._open.pop(href, None)
                if source.granule is not None:
                    self._open[href] = source
                self._close_idle()

    def _close_idle(self) -> None:
        """Close copies that nobody uses, since their room is needed, and the granules longest out of use beyond OPEN_AT_ONCE."""
        idle = [h for h, s in self._open.items() if not s.users]
        most = max(len(idle) - OPEN_AT_ONCE, 0)
        for href in [h for i, h in enumerate(idle) if i < most or is_remote(h)]:
            source = self._open.pop(href)
            source.granule = None
            source.stack.close()


def _changed(href: str, run: str) -> TileError:
    return TileError(f"{_where(href, run)}: it has other points than when it was scanned: run the command again")


def _where(href: str, run: str) -> str:
    return f"granule {public_href(href)!r}" + (f", {run}" if run else "")
