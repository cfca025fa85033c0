"""From a tile to the slots that it feeds: by its name, by a table, or by its header."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cubeingest.catalog.model import Misplaced, Placed, TileRow
from cubeingest.errors import CatalogError, GridError, TileError
from cubeingest.grid import TilingGrid
from cubeingest.listing import in_threads
from cubeingest.spec import CubeSpec, Source, Variable
from cubeingest.storage import public_href
from cubeingest.tile import Header, Window, header_for, kernel_reach, labels_for, place

Region = tuple[int, int]
"""Lattice row and column."""


@dataclass(frozen=True)
class _Told:
    """What a tile's header tells: the regions that it feeds, the labels of axes within it, and ``nearby`` regions that an interpolating
    kernel reaches from, if another tile feeds them.
    """

    regions: tuple[Region, ...]
    held: Mapping[str, tuple[str, ...]]
    nearby: tuple[Region, ...] = ()


class Placer:
    """Places the tiles of one variable. Those that fit nowhere are added to ``misplaced``, with the reason; ``headers`` has what was read."""

    def __init__(self, spec: CubeSpec, variable: Variable, source: Source, misplaced: list[Misplaced]) -> None:
        self.variable, self.source, self.misplaced = variable, source, misplaced
        self.grid, self.tile_grid = spec.tiling, spec.tile_grid(variable)
        self.axes = spec.axes_of(variable)
        self.headers: dict[tuple[str, str], Header | str] = {}

    def place(self, placed: Sequence[Placed], chosen: Mapping[str, tuple[int, ...]]) -> list[TileRow]:
        """A row for each region and axis position that a tile feeds, for the positions that were asked for.

        Raises :class:`CatalogError` if two tiles stand for the same cell.
        """
        told = self._read_headers(placed)
        taken: dict[tuple[tuple[tuple[str, int], ...], Region], str] = {}
        rows: list[TileRow] = []
        nearby: list[TileRow] = []
        for href, by_name, where in placed:
            expected: Window | None = None
            cell: Window | None = None
            window: Window | None = None
            if where is None:
                pass
            elif isinstance(where[0], slice):
                window = where
            else:
                self._take(taken, by_name, where, href)
                window = cell = self.tile_grid.slices(*where)
                expected = self._with_overlap(cell)
            header = told.get(href)
            if isinstance(header, str):
                self._misplace(href, by_name, header)
                continue
            if header is not None:
                regions: Iterable[Region] = header.regions
            else:
                assert window is not None
                regions = regions_of(self.grid, window) if cell else _in_all_turns(self.grid, window)
            regions = tuple(regions)
            if not regions:
                if not self.source.resampling:  # else a grid may be a part of what an archive covers
                    message = f"tile {public_href(href)!r} fits no region: it lies wholly outside the grid"
                    self._misplace(href, by_name, message)
                continue
            row = TileRow(href, (), 0, 0, self.source.band, expected, cell if expected != cell else None)
            rows += self._rows(row, regions, by_name, header.held if header else {}, chosen)
            if header is not None and header.nearby:
                nearby += self._rows(row, header.nearby, by_name, header.held, chosen)
        covered = {(row.position, row.iy, row.ix) for row in rows}
        return rows + [row for row in nearby if (row.position, row.iy, row.ix) in covered]

    def _rows(
        self,
        row: TileRow,
        regions: Sequence[Region],
        by_name: Mapping[str, int],
        held: Mapping[str, tuple[str, ...]],
        chosen: Mapping[str, tuple[int, ...]],
    ) -> Iterator[TileRow]:
        """One row for each region and position. Along an axis within the file it feeds all that it holds."""
        choices: list[tuple[int, ...]] = []
        for axis in self.axes:
            if axis.name in by_name:
                choices.append((by_name[axis.name],))
            elif axis.name in held:
                own = set(held[axis.name])
                choices.append(tuple(i for i in chosen[axis.name] if axis.labels[i] in own))
                if not own & set(axis.labels):
                    first = ", ".join(held[axis.name][:3])
                    self._misplace(
                        row.href,
                        by_name,
                        f"source {public_href(row.href)!r} holds no {axis.name} of the cube (it has {first}, ...)",
                    )
            elif self.source.array is not None and axis.size > 1:
                what = f"nothing says which {axis.name} it is for: give it a coordinate {axis.name!r}, or put {{{axis.name}}} into href"
                self._misplace(row.href, by_name, f"source {public_href(row.href)!r}: {what}")
                return
            else:
                choices.append(chosen[axis.name] if axis.name == self.source.bands_axis else (0,))
        bands = [a.name for a in self.axes].index(self.source.bands_axis) if self.source.bands_axis else None
        for position in itertools.product(*choices):
            band = row.band if bands is None else position[bands] + 1
            for iy, ix in regions:
                yield replace(row, position=position, iy=iy, ix=ix, band=band)

    def _with_overlap(self, cell: Window) -> Window:
        y, x = (slice(s.start, s.stop + more) for s, more in zip(cell, self.source.overlap_yx, strict=True))
        return y, x

    def _take(
        self,
        taken: dict[tuple[tuple[tuple[str, int], ...], Region], str],
        by_name: Mapping[str, int],
        cell: Region,
        href: str,
    ) -> None:
        other = taken.setdefault((tuple(by_name.items()), cell), href)
        if other is href:
            return
        at = "".join(f", {name} {self.grid.axis(name).labels[i]}" for name, i in by_name.items())
        where = f"for region {self.tile_grid.region_id(*cell)!r}{at} of variable {self.variable.name!r}"
        first, second = public_href(other), public_href(href)
        if first == second:
            raise CatalogError(f"tile {first!r} is in the catalog twice, {where}: take one out")
        raise CatalogError(f"two tiles {where}: {first!r} and {second!r}")

    def _misplace(self, href: str, by_name: Mapping[str, int], message: str) -> None:
        position = tuple(by_name.get(a.name, 0) for a in self.axes)
        self.misplaced.append(Misplaced(self.variable.name, href, position, message))

    def _read_headers(self, placed: Sequence[Placed]) -> dict[str, _Told | str]:
        """What the headers tell of tiles whose place, or whose labels, nothing else does; a message for one that does not fit."""
        always = self.source.array is not None or self.source.resampling is not None
        hrefs = sorted({href for href, _, where in placed if where is None or always})
        return dict(zip(hrefs, in_threads(self._read_header, hrefs), strict=True))

    def _read_header(self, href: str) -> _Told | str:
        key = self.variable.name, href
        try:
            header = self.headers[key] = header_for(self.variable, href)
        except TileError as e:
            self.headers[key] = str(e)
            return str(e)
        try:
            band = self.source.band or (1 if self.source.bands_axis else None)
            placement = place(header, self.grid, self.variable, band)
            if not placement.is_warped:
                return _Told(tuple(_in_all_turns(self.grid, placement.window)), labels_for(header, self.axes))
            crs = header.crs.to_wkt()
            left, bottom, right, top = (float(v) for v in header.bounds)
            regions = self.grid.get_chunks_for_bbox((left, bottom, right, top), crs)
            x, y = kernel_reach(header, self.grid, self.source.resampling or "")
            wider = self.grid.get_chunks_for_bbox((left - x, bottom - y, right + x, top + y), crs) if x else regions
            return _Told(tuple(regions), labels_for(header, self.axes), tuple(sorted(set(wider) - set(regions))))
        except (TileError, GridError) as e:
            return str(e)


def _in_all_turns(grid: TilingGrid, window: Window) -> list[Region]:
    return sorted({region for turned in grid.turns(window) for region in regions_of(grid, turned)})


def regions_of(grid: TilingGrid, window: Window) -> list[Region]:
    """Lattice places of the regions that a window overlaps."""
    spans = []
    for part, n, r in zip(window, grid.shape_yx, grid.region_shape_yx, strict=True):
        start, stop = max(part.start, 0), min(part.stop, n)
        spans.append(range(start // r, -(-stop // r)) if start < stop else range(0))
    return list(itertools.product(spans[0], spans[1]))
