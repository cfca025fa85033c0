"""From what a spec names to the catalog: lists, globs, tables and patterns are read, and each tile gets its place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from cubeingest.axes import Axis
from cubeingest.catalog.granules import Granules, place_granules
from cubeingest.catalog.libraries import load_libraries
from cubeingest.catalog.model import Catalog, Misplaced, Placed, TileRow
from cubeingest.catalog.placing import Placer
from cubeingest.errors import CatalogError, GridError
from cubeingest.grid import Grid
from cubeingest.hrefs import HrefPattern
from cubeingest.listing import exists, expand_pattern, in_threads, read_lines, read_table
from cubeingest.spec import CubeSpec, Source, Variable, resolve
from cubeingest.storage import public_href
from cubeingest.tile import Header

if TYPE_CHECKING:
    import pandas as pd


def read_catalog(
    spec: CubeSpec, positions: Mapping[str, Iterable[int]] | None = None, variables: Iterable[str] | None = None
) -> Catalog:
    """Read the lists, patterns or tables that a spec names, for some axis positions (all by default) and variables.

    Raises :class:`CatalogError` for a list that is missing, a tile that fits no region, or two for one region;
    :class:`ExtraError` where the library that reads these files is not installed.
    """
    chosen = {a.name: tuple((positions or {}).get(a.name, range(a.size))) for a in spec.grid.axes}
    rows: dict[str, tuple[TileRow, ...]] = {}
    misplaced: list[Misplaced] = []
    headers: dict[tuple[str, str], Header | str] = {}
    names = None if variables is None else set(variables)
    granules: Granules | None = None
    for variable in spec.variables:
        if variable.source is None or (names is not None and variable.name not in names):
            continue
        if variable.points is not None:
            if granules is None:  # all such variables are of the same points
                placed = _Reader(spec, variable, variable.source).read(chosen)
                load_libraries([href for href, _, _ in placed], variable.source, are_granules=True)
                granules = place_granules(spec, variable.points, spec.axes_of(variable), placed)
            rows[variable.name] = granules.rows
            misplaced += [Misplaced(variable.name, *wrong) for wrong in granules.misplaced]
            continue
        placed = _Reader(spec, variable, variable.source).read(chosen)
        load_libraries([href for href, _, _ in placed], variable.source)
        placer = Placer(spec, variable, variable.source, misplaced)
        found = placer.place(placed, chosen)
        headers |= placer.headers
        rows[variable.name] = tuple(sorted(found, key=lambda r: (r.position, r.iy, r.ix)))
    if granules is None:
        return Catalog(rows, chosen, tuple(misplaced), headers)
    return Catalog(
        rows, chosen, tuple(misplaced), headers, granules.warnings, granules.listed, granules.broken, granules.blocked
    )


class _Reader:
    """Reads what a spec names for one variable: each file with its axis values, and its place if that is known."""

    def __init__(self, spec: CubeSpec, variable: Variable, source: Source) -> None:
        self.spec, self.variable, self.source = spec, variable, source
        self.grid = spec.grid
        self.tile_grid: Grid = spec.grid if variable.aggregate is not None else spec.tile_grid(variable)
        self.axes = spec.axes_of(variable)
        self.storage = source.storage

    def read(self, chosen: Mapping[str, tuple[int, ...]]) -> list[Placed]:
        own = self._own_axes()
        positions = [
            dict(zip([a.name for a in own], p, strict=True)) for p in itertools.product(*(chosen[a.name] for a in own))
        ]
        kind = self.source.tiles[0] if self.source.tiles else None
        if kind == "list":
            placed = self._from_texts(positions, partial(read_lines, storage=self.storage))
        elif kind == "glob":
            placed = self._from_texts(positions, partial(expand_pattern, storage=self.storage))
        elif kind == "table":
            placed = list(self._from_table(positions))
        elif self.source.names_regions:
            placed = self._expected_everywhere(positions)
        else:
            there = [(pattern, p) for p in positions if (pattern := self._pattern(p)) is not None]
            placed = [(pattern.fill(p), p, None) for pattern, p in there]
            placed = [row for row in placed if self.source.missing == "fail" or exists(row[0], self.storage)]
        return placed

    def _own_axes(self) -> list[Axis]:
        """Axes along which hrefs differ; the others lie within the files, as bands or dimensions."""
        source = self.source
        if source.array is not None and not (source.tiles and source.tiles[0] == "table"):
            return [a for a in self.axes if a.name in source.named_axes]
        return [a for a in self.axes if a.name != source.bands_axis]

    def _from_texts(self, positions: list[dict[str, int]], read: Callable[[str], list[str]]) -> list[Placed]:
        """Tiles from lists or globs: each pattern is read once for each set of axis values that it names."""
        assert self.source.tiles is not None
        pattern = HrefPattern(self.source.tiles[1], self.tile_grid)
        by_uri: dict[str, list[dict[str, int]]] = {}
        for position in positions:
            by_uri.setdefault(pattern.fill(position), []).append(position)
        texts = in_threads(read, list(by_uri))
        out = []
        for (uri, candidates), lines in zip(by_uri.items(), texts, strict=True):
            patterns = self._by_pattern(candidates)
            for line in lines:
                place = self._read_text(line, candidates, patterns, uri, fixed=set(pattern.fields))
                if place is not None:
                    out.append(place)
        return out

    def _read_text(
        self,
        line: str,
        candidates: list[dict[str, int]],
        patterns: Mapping[HrefPattern, list[dict[str, int]]],
        uri: str,
        fixed: set[str],
    ) -> Placed | None:
        """One line of a list (an href or a region id), or one href of a glob; None for an axis value not asked for."""
        where = f"{public_href(uri)!r}, line {public_href(line)[:120]!r}"
        if not self.source.href:
            if len(candidates) != 1:
                raise CatalogError(
                    f"{where}: nothing says which axis value it is for: put it into the pattern, or give href"
                )
            return resolve(line, self.spec.base), candidates[0], None
        if not patterns:
            labels = ", ".join(self._labels(candidates[0]).values())
            raise CatalogError(f"{where}: source.href has no pattern for {labels}")
        if self.source.names_regions and self.tile_grid.find_region(line) is not None:
            (pattern, sharing), *others = patterns.items()
            self._one_candidate(where, sharing, bool(others))
            return pattern.fill(sharing[0], line), sharing[0], self.tile_grid.region_index(line)
        whole = [(p, p.match_whole(line)) for p in patterns]
        matches = [(p, m) for p, m in whole if m is not None] or [
            (p, m) for p, m in ((p, p.match_end(line)) for p in patterns) if m is not None
        ]
        if not matches:
            pattern, sharing = next(iter(patterns.items()))
            example = pattern.fill(sharing[0], self.tile_grid.region_id(0, 0) if self.source.names_regions else None)
            raise CatalogError(
                f"{where} fits no region: it looks neither like {public_href(example)!r} nor like a region id"
            )
        pattern, texts = matches[0]
        named = self._named(pattern, texts, candidates[0], fixed, where)
        fitting = [p for p in patterns[pattern] if all(p[a] == i for a, i in named.items())]
        if not fitting:
            return None
        self._one_candidate(where, fitting, len(matches) > 1)
        cell = None
        if "id" in texts:
            try:
                cell = self.tile_grid.region_index(texts["id"])
            except GridError as e:
                raise CatalogError(f"{where} fits no region: {e}") from None
        return pattern.fill(fitting[0], texts.get("id")), fitting[0], cell

    def _one_candidate(self, where: str, fitting: list[dict[str, int]], others: bool) -> None:
        if len(fitting) > 1 or others:
            raise CatalogError(f"{where}: nothing says which axis value it is for: put it into the pattern")

    def _by_pattern(self, candidates: list[dict[str, int]]) -> dict[HrefPattern, list[dict[str, int]]]:
        """The candidates that each href pattern serves."""
        out: dict[HrefPattern, list[dict[str, int]]] = {}
        for position in candidates:
            pattern = self._pattern(position)
            if pattern is not None:
                out.setdefault(pattern, []).append(position)
        return out

    def _pattern(self, position: Mapping[str, int]) -> HrefPattern | None:
        text = self.source.pattern(self._labels(position))
        return None if text is None else HrefPattern(text, self.tile_grid)

    def _named(
        self, pattern: HrefPattern, texts: Mapping[str, str], position: Mapping[str, int], fixed: set[str], where: str
    ) -> dict[str, int]:
        """Axis positions that a line names. Those in ``fixed`` are known from the list's own name, and must agree."""
        out = {}
        for axis in self.axes:
            text = texts.get(axis.name)
            if text is None:
                continue
            index = pattern.find_value(axis.name, text)
            if index is None and axis.name in fixed and isinstance(axis.values[0], int) and not text.isdecimal():
                continue  # another layout of folders than the pattern's, not another year
            if index is None:
                raise CatalogError(
                    f"{where}: {text!r} is not a value of the axis {axis.name!r} ({', '.join(axis.labels[:8])})"
                )
            if axis.name in fixed and index != position[axis.name]:
                stated = axis.labels[position[axis.name]]
                raise CatalogError(
                    f"{where} is for {axis.name} {axis.labels[index]}, but stands in the list of {axis.name} {stated}"
                )
            out[axis.name] = index
        return out

    def _from_table(self, positions: list[dict[str, int]]) -> Iterator[Placed]:
        assert self.source.tiles is not None
        uri = self.source.tiles[1]
        table = read_table(uri, self.storage)
        own = self._own_axes()
        for column in ["href", *(a.name for a in own if a.size > 1 and not self.source.array)]:
            if column not in table.columns:
                raise CatalogError(f"table {public_href(uri)!r} has no column {column!r} (columns: {_names(table)})")
        edges = ["left", "bottom", "right", "top"]
        has_bounds = set(edges) <= set(table.columns) and self.variable.aggregate is None
        wanted = {a.name: {p[a.name] for p in positions} for a in own}
        for row in table.to_dict("records"):
            position = self._table_position(row, own, uri)
            if any(i not in wanted[name] for name, i in position.items()):
                continue
            href = resolve(str(row["href"]), self.spec.base)
            if "region" in row and self.variable.aggregate is None:
                try:
                    yield href, position, self.tile_grid.region_index(str(row["region"]))
                except GridError as e:
                    raise CatalogError(f"table {public_href(uri)!r}, href {row['href']!r}: {e}") from None
            elif has_bounds and not self.source.resampling:
                try:
                    yield href, position, self.spec.tiling.lattice_window(tuple(float(row[e]) for e in edges))  # type: ignore[arg-type]
                except (GridError, ValueError, TypeError) as e:
                    raise CatalogError(f"table {public_href(uri)!r}, href {row['href']!r}: {e}") from None
            else:
                yield href, position, None

    def _table_position(self, row: Mapping[Any, Any], own: list[Axis], uri: str) -> dict[str, int]:
        """Axis positions that a row of a table names; along an axis that it does not name, the file holds some."""
        position = {}
        for axis in own:
            try:
                if axis.name in row:
                    position[axis.name] = axis.index(_plain_label(row[axis.name]))
                elif not self.source.array:
                    position[axis.name] = 0
            except GridError as e:
                raise CatalogError(f"table {public_href(uri)!r}, href {row['href']!r}: {e}") from None
        return position

    def _expected_everywhere(self, positions: list[dict[str, int]]) -> list[Placed]:
        ny, nx = self.tile_grid.lattice_shape_yx
        out: list[Placed] = []
        for position in positions:
            pattern = self._pattern(position)
            if pattern is None:
                continue
            for iy, ix in itertools.product(range(ny), range(nx)):
                out.append((pattern.fill(position, self.tile_grid.region_id(iy, ix)), position, (iy, ix)))
        if self.source.missing == "absent":
            there = in_threads(partial(exists, storage=self.storage), [href for href, _, _ in out])
            out = [row for row, is_there in zip(out, there, strict=True) if is_there]
        return out

    def _labels(self, position: Mapping[str, int]) -> dict[str, str]:
        return {name: self.grid.axis(name).labels[i] for name, i in position.items()}


def _names(table: pd.DataFrame) -> str:
    """A table's columns, as far as they fit into a message: it may be a web page."""
    return ", ".join(str(name)[:40] for name in table.columns[:20])


def _plain_label(value: Any) -> Any:
    """A table's cell as an axis label: whole floats are integers (a column with gaps), timestamps are dates."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.to_pydatetime() if hasattr(value, "to_pydatetime") else value
