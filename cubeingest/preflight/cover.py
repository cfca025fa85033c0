"""How the tiles of one slot cover it: misfits, duplicates, overlaps and gaps, in pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cubeingest.catalog import TileRow
from cubeingest.errors import CubeIngestError
from cubeingest.grid import TilingGrid
from cubeingest.pieces import overlap
from cubeingest.plan import SlotPlan
from cubeingest.preflight.headers import Headers, Problem
from cubeingest.spec import CubeSpec
from cubeingest.storage import public_href
from cubeingest.tile import Header, Placement, Window, place
from cubeingest.wording import counted

PAIRS_AT_ONCE = 256
"""Tiles whose neighbours are looked up at once: where all of them overlap, each has as many as there are tiles."""


def find_problems(spec: CubeSpec, plan: SlotPlan, headers: Headers) -> list[Problem]:
    """What is wrong with the tiles of one slot. Tiles that are warped are taken to cover no pixel in particular."""
    region = spec.grid.region_id(plan.slot.iy, plan.slot.ix)
    y, x = spec.grid.slices(plan.slot.iy, plan.slot.ix)
    out: list[Problem] = []
    placed: dict[tuple[int, ...], list[tuple[TileRow, Placement]]] = {}
    for tile in plan.tiles:
        try:
            header = headers[plan.slot.variable, tile.href]
            placement = _place(spec, plan, tile, header)
        except CubeIngestError as e:
            out.append(Problem("misfit", region, public_href(tile.href), str(e)))
            continue
        placed.setdefault(tile.position, []).append((tile, placement))
    is_partial = bool(out)
    for tiles in placed.values():
        if any(placement.is_warped for _, placement in tiles):
            continue
        used = [
            (tile, part) for tile, placement in tiles for part in _used(spec.tiling, tile, placement.window, (y, x))
        ]
        windows = [part for _, part in used]
        out += _shared(region, [tile for tile, _ in used], windows)
        gap = (y.stop - y.start) * (x.stop - x.start) - _joint_area(windows)
        if gap > 0 and not is_partial:
            message = f"{counted(gap, 'pixel of the region has', 'pixels of the region have')} no tile: {'it stays' if gap == 1 else 'they stay'} fill value"
            out.append(Problem("gap", region, public_href(tiles[0][0].href), message))
    return out


def _place(spec: CubeSpec, plan: SlotPlan, tile: TileRow, header: Header | str) -> Placement:
    if isinstance(header, str):
        raise CubeIngestError(header)
    return place(header, spec.tiling, spec.variable(plan.slot.variable), tile.band, tile.expected)


def _used(grid: TilingGrid, tile: TileRow, window: Window, region: Window) -> list[Window]:
    """What is used of a tile in a region: a part for each turn of the globe that it lies there in."""
    turned = [window] if tile.expected is not None else grid.turns(window)
    own = [w if tile.cell is None else overlap(w, tile.cell) for w in turned]
    return [part for w in own if w is not None and (part := overlap(w, region)) is not None]


def _shared(region: str, tiles: Sequence[TileRow], windows: Sequence[Window]) -> Iterator[Problem]:
    """Tiles that share pixels with ones that come first, each told once: against the first of them."""
    for first, later in _pairs(windows):
        a, b = windows[first], windows[later]
        shared = overlap(a, b)
        assert shared is not None
        name, href = public_href(tiles[first].href), public_href(tiles[later].href)
        if shared == b and tiles[first].href == tiles[later].href:
            yield Problem("duplicate", region, href, "is in the catalog twice: once is enough")
        elif a == b:
            yield Problem("duplicate", region, href, f"covers just what {name!r} covers, which comes first and wins")
        else:
            message = f"shares {_area(shared)} pixels with {name!r}, which comes first and wins"
            yield Problem("overlap", region, href, message)


def _pairs(windows: Sequence[Window]) -> list[tuple[int, int]]:
    """For each window that shares pixels with ones before it (first, later): the first that is just as large and there, else the first.

    Windows that are the same are looked at once, so that many in one place cost no more than as many elsewhere.
    """
    import shapely

    alike: dict[tuple[int, ...], list[int]] = {}
    for i, (y, x) in enumerate(windows):
        alike.setdefault((y.start, y.stop, x.start, x.stop), []).append(i)
    out = [(group[0], later) for group in alike.values() for later in group[1:]]
    firsts = [group[0] for group in alike.values()]
    boxes = _boxes([windows[i] for i in firsts])
    inner = shapely.box(*(shapely.bounds(boxes) + np.array([0.25, 0.25, -0.25, -0.25])).T)  # touching is not sharing
    tree = shapely.STRtree(boxes)
    met = np.arange(len(firsts))
    for start in range(0, len(firsts), PAIRS_AT_ONCE):
        later, first = tree.query(inner[start : start + PAIRS_AT_ONCE], predicate="intersects")
        np.minimum.at(met, start + later, first)
    out += [(firsts[i], firsts[j]) for j, i in enumerate(met.tolist()) if i < j]
    return sorted(out, key=lambda pair: (pair[1], pair[0]))


def _boxes(windows: Sequence[Window]) -> Any:
    import shapely

    edges = np.array([(w[1].start, w[0].start, w[1].stop, w[0].stop) for w in windows], float)
    return shapely.box(*edges.reshape(-1, 4).T)


def _joint_area(windows: Sequence[Window]) -> int:
    """Pixels that at least one window covers."""
    import shapely

    area: float = shapely.union_all(_boxes(windows)).area
    return round(area)


def _area(window: Window) -> int:
    return int((window[0].stop - window[0].start) * (window[1].stop - window[1].start))
