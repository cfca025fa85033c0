"""Which regions the points of a granule fall in, and where in its runs they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cubeingest.errors import TileError
from cubeingest.points.granule import open_granule
from cubeingest.points.locate import Placer, order_by_region, starts_of
from cubeingest.points.model import EVERY_RUN, Array, Granule, GranuleRow, Locator, Part, PointSource, Run
from cubeingest.remote import SourceId, source_id
from cubeingest.storage import public_href


@dataclass(frozen=True, eq=False)
class Footprint:
    """Where a granule's points lie: a row for each run and region, as arrays of one length.

    ``run`` is an index into ``runs``; points ``start`` to ``stop`` of it hold all that lie in ``region``, which are ``count``
    (-1: not known). ``n_invalid`` points have no finite coordinates, ``n_outside`` lie outside the grid.
    """

    source: SourceId
    runs: tuple[Run, ...]
    run: Array
    region: Array
    start: Array
    stop: Array
    count: Array
    n_invalid: int = 0
    n_outside: int = 0

    @property
    def n_points(self) -> int:
        """All points of the granule, as far as it is known."""
        return sum(run.n_points or 0 for run in self.runs)


def scan_granule(href: str, source: PointSource, locator: Locator) -> Footprint:
    """Find the regions that a granule's points fall in, from its coordinates alone, a batch at a time.

    Raises :class:`TileError` if it cannot be read, or changes meanwhile.
    """
    try:
        before = source_id(href, source.storage)
        with open_granule(href, source) as granule:
            found = _scan(granule, before, source, locator)
        after = source_id(href, source.storage)
    except FileNotFoundError:
        raise TileError(f"granule {public_href(href)!r} is not there") from None
    if after != before:
        raise TileError(f"granule {public_href(href)!r} changed while it was read: run the command again")
    return found


def _scan(granule: Granule, identity: SourceId, source: PointSource, locator: Locator) -> Footprint:
    placer = Placer(source.crs, locator)
    ny, nx = locator.lattice_shape_yx
    runs: list[Run] = []
    rows: list[Array] = []
    n_invalid = n_outside = 0
    for run in granule.runs:
        where = f"granule {public_href(granule.href)!r}" + (f", {run.name}" if run.name else "")
        found, n = np.zeros((4, 0), np.int64), 0
        for batch in granule.batches(run.name, 0, run.n_points, ()):
            cells, invalid = placer.place(batch.x, batch.y, batch.first, where)
            inside = cells >= 0
            n_inside = int(np.count_nonzero(inside))
            at = None if n_inside == len(cells) else np.flatnonzero(inside)
            regions = locator.regions_of(cells if at is None else cells[at])
            found = _merged(np.concatenate([found, _ranges(regions, at, batch.first, ny * nx)], axis=1))
            n_invalid += invalid
            n_outside += len(cells) - n_inside - invalid
            n += len(cells)
        rows.append(np.concatenate([np.full((1, found.shape[1]), len(runs)), found]))
        runs.append(Run(run.name, n))
    run_at, region, start, stop, count = np.concatenate(rows, axis=1) if rows else np.zeros((5, 0), np.int64)
    return Footprint(identity, tuple(runs), run_at, region, start, stop, count, n_invalid, n_outside)


def _ranges(regions: Array, at: Array | None, first: int, n_regions: int) -> Array:
    """For each region its number, the first index in the run, the one after the last, and how many; as four rows.

    ``at`` are the points' indices in the batch, if not all are in the grid. Along a track regions seldom change, so it is
    stretches of one region that are sorted, not points.
    """
    begin = starts_of(regions)
    end = np.concatenate((begin[1:], [len(regions)])) if len(begin) else begin
    last = end - 1
    start, stop = (begin, end) if at is None else (at[begin], at[last] + 1)
    stretches = np.stack([regions[begin], start + first, stop + first, end - begin])
    order = order_by_region(stretches[0], n_regions)
    return _reduced(stretches if order is None else stretches[:, order])


def _merged(ranges: Array) -> Array:
    return _reduced(ranges[:, np.argsort(ranges[0], kind="stable")])


def _reduced(ranges: Array) -> Array:
    """One column for each region, from several, sorted."""
    begin = starts_of(ranges[0])
    if len(begin) == ranges.shape[1]:
        return ranges
    parts = (
        np.minimum.reduceat(ranges[1], begin),
        np.maximum.reduceat(ranges[2], begin),
        np.add.reduceat(ranges[3], begin),
    )
    return np.stack([ranges[0][begin], *parts])


def rows_by_region(footprints: Iterable[tuple[str, Footprint]]) -> dict[int, tuple[GranuleRow, ...]]:
    """What each region has to read, by its number: granules (href and footprint) in the order given, and the parts of each."""
    found: dict[int, list[GranuleRow]] = {}
    for href, footprint in footprints:
        order = np.argsort(footprint.region, kind="stable")
        columns = (footprint.region, footprint.run, footprint.start, footprint.stop, footprint.count)
        region, *others = (c[order] for c in columns)
        names = [run.name for run in footprint.runs]
        begin = starts_of(region)
        parts = [Part(names[run], *rest) for run, *rest in zip(*(o.tolist() for o in others), strict=True)]
        for i, j in zip(begin.tolist(), [*begin[1:].tolist(), len(region)], strict=False):
            found.setdefault(int(region[i]), []).append(GranuleRow(href, tuple(parts[i:j])))
    return {region: tuple(rows) for region, rows in sorted(found.items())}


def whole_footprint(identity: SourceId, regions: Iterable[int]) -> Footprint:
    """The footprint of a granule of which is only known in which regions it may have points."""
    numbers = np.array(sorted(set(regions)), np.int64)
    zero, unknown = np.zeros(len(numbers), np.int64), np.full(len(numbers), -1)
    return Footprint(identity, (Run(EVERY_RUN, None),), zero, numbers, zero, unknown, unknown)
