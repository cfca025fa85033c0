"""Which tiles there are, as a table: one row for each tile, region and axis position that it feeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from glob import glob
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeingest.errors import CatalogError, GridError, TileError
from cubeingest.grid import TilingGrid
from cubeingest.hrefs import HrefPattern
from cubeingest.remote import expand_glob, read_bytes, source_id, why_unreachable
from cubeingest.spec import CubeSpec, Source, Variable, resolve
from cubeingest.storage import Storage, is_remote, public_href
from cubeingest.tile import Window, place, read_header

if TYPE_CHECKING:
    import pandas as pd

REQUESTS_AT_ONCE = 32
"""Threads that ask for headers or existence. The wait is for the network, not for a core."""

MAX_LINE = 8192
"""Characters in one line of a list; a longer one is no href and no id."""

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zip": "zip", ".xz": "xz", ".zst": "zstd"}
"""How a table of comma-separated values is packed, by the end of its name."""

Placed = tuple[str, dict[str, int], tuple[int, int] | Window | None]
"""A tile's href, its position by axis name, and its cell in the tile lattice, its window, or None: its header tells."""


@dataclass(frozen=True)
class TileRow:
    """One tile feeding one region at one axis position. ``position`` has an index for each axis of the variable.

    ``expected`` is the window in the grid that the tile's name stands for; None where only its header tells.
    """

    href: str
    position: tuple[int, ...]
    iy: int
    ix: int
    band: int | None = None
    expected: Window | None = None


@dataclass(frozen=True)
class Misplaced:
    """A tile that is listed but belongs to no region, since its header cannot be read or does not fit."""

    variable: str
    href: str
    position: tuple[int, ...]
    message: str


@dataclass(frozen=True)
class Catalog:
    """The tiles of each variable, for the axis positions that were asked for (``positions``, by axis)."""

    rows: Mapping[str, tuple[TileRow, ...]]
    positions: Mapping[str, tuple[int, ...]]
    misplaced: tuple[Misplaced, ...] = field(default=())


def read_catalog(
    spec: CubeSpec, positions: Mapping[str, Iterable[int]] | None = None, variables: Iterable[str] | None = None
) -> Catalog:
    """Read the lists, patterns or tables that a spec names, for some axis positions (all by default) and variables.

    Raises :class:`CatalogError` for a list that is missing, a tile that fits no region, or two for one region.
    """
    chosen = {a.name: tuple((positions or {}).get(a.name, range(a.size))) for a in spec.grid.axes}
    rows: dict[str, tuple[TileRow, ...]] = {}
    misplaced: list[Misplaced] = []
    names = None if variables is None else set(variables)
    for variable in spec.variables:
        if variable.source is None or (names is not None and variable.name not in names):
            continue
        found = _Reader(spec, variable, variable.source, misplaced).read(chosen)
        rows[variable.name] = tuple(sorted(found, key=lambda r: (r.position, r.iy, r.ix)))
    return Catalog(rows, chosen, tuple(misplaced))


class _Reader:
    """Reads the catalog of one variable."""

    def __init__(self, spec: CubeSpec, variable: Variable, source: Source, misplaced: list[Misplaced]) -> None:
        self.spec, self.variable, self.source, self.misplaced = spec, variable, source, misplaced
        self.grid = spec.grid
        self.tile_grid = spec.tile_grid(variable)
        self.axes = spec.axes_of(variable)
        self.storage = source.storage

    def read(self, chosen: Mapping[str, tuple[int, ...]]) -> list[TileRow]:
        # Bands are filled from one file, so the axis they fill does not multiply the hrefs.
        own = [a for a in self.axes if a.name != self.source.bands_axis]
        positions = [
            dict(zip([a.name for a in own], p, strict=True)) for p in itertools.product(*(chosen[a.name] for a in own))
        ]
        kind = self.source.tiles[0] if self.source.tiles else None
        if kind == "list":
            placed = self._from_texts(positions, partial(_read_lines, storage=self.storage))
        elif kind == "glob":
            placed = self._from_texts(positions, partial(_expand_glob, storage=self.storage))
        elif kind == "table":
            placed = list(self._from_table(positions))
        elif self.source.names_regions:
            placed = self._expected_everywhere(positions)
        else:
            there = [(pattern, p) for p in positions if (pattern := self._pattern(p)) is not None]
            placed = [(pattern.fill(p), p, None) for pattern, p in there]
            placed = [row for row in placed if self.source.missing == "fail" or _exists(row[0], self.storage)]
        rows = self._to_rows(placed)
        return [r for row in rows for r in self._bands(row, chosen)]

    def _from_texts(self, positions: list[dict[str, int]], read: Callable[[str], list[str]]) -> list[Placed]:
        """Tiles from lists or globs: each pattern is read once for each set of axis values that it names."""
        assert self.source.tiles is not None
        pattern = HrefPattern(self.source.tiles[1], self.tile_grid)
        by_uri: dict[str, list[dict[str, int]]] = {}
        for position in positions:
            by_uri.setdefault(pattern.fill(position), []).append(position)
        texts = _in_threads(read, list(by_uri))
        out = []
        for (uri, candidates), lines in zip(by_uri.items(), texts, strict=True):
            for line in lines:
                place = self._read_text(line, candidates, uri, fixed=set(pattern.fields))
                if place is not None:
                    out.append(place)
        return out

    def _read_text(self, line: str, candidates: list[dict[str, int]], uri: str, fixed: set[str]) -> Placed | None:
        """One line of a list (an href or a region id), or one href of a glob; None for an axis value not asked for."""
        where = f"{public_href(uri)!r}, line {public_href(line)[:120]!r}"
        if not self.source.href:
            if len(candidates) != 1:
                raise CatalogError(
                    f"{where}: nothing says which axis value it is for: put it into the pattern, or give href"
                )
            return resolve(line, self.spec.base), candidates[0], None
        patterns = self._by_pattern(candidates)
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
        table = _read_table(uri, self.storage)
        own = [a for a in self.axes if a.name != self.source.bands_axis]
        for column in ["href", *(a.name for a in own if a.size > 1)]:
            if column not in table.columns:
                raise CatalogError(f"table {public_href(uri)!r} has no column {column!r} (columns: {_names(table)})")
        edges = ["left", "bottom", "right", "top"]
        has_bounds = set(edges) <= set(table.columns)
        wanted = {tuple(sorted(p.items())) for p in positions}
        for row in table.to_dict("records"):
            position = {}
            for axis in own:
                try:
                    position[axis.name] = axis.index(_plain_label(row[axis.name])) if axis.name in row else 0
                except GridError as e:
                    raise CatalogError(f"table {public_href(uri)!r}, href {row['href']!r}: {e}") from None
            if tuple(sorted(position.items())) not in wanted:
                continue
            href = resolve(str(row["href"]), self.spec.base)
            if "region" in row:
                try:
                    yield href, position, self.tile_grid.region_index(str(row["region"]))
                except GridError as e:
                    raise CatalogError(f"table {public_href(uri)!r}, href {row['href']!r}: {e}") from None
            elif has_bounds:
                try:
                    yield href, position, self.grid.lattice_window(tuple(float(row[e]) for e in edges))  # type: ignore[arg-type]
                except (GridError, ValueError, TypeError) as e:
                    raise CatalogError(f"table {public_href(uri)!r}, href {row['href']!r}: {e}") from None
            else:
                yield href, position, None

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
            there = _in_threads(partial(_exists, storage=self.storage), [href for href, _, _ in out])
            out = [row for row, exists in zip(out, there, strict=True) if exists]
        return out

    # ---- from a placed tile to rows -----------------------------------------------------------------------

    def _to_rows(self, placed: Iterable[Placed]) -> list[TileRow]:
        placed = list(placed)
        unknown = sorted({href for href, _, cell in placed if cell is None})
        windows = dict(zip(unknown, _in_threads(self._window_of_header, unknown), strict=True))
        taken: dict[tuple[tuple[int, ...], int, int], str] = {}
        rows = []
        for href, by_name, cell in placed:
            position = tuple(by_name.get(a.name, 0) for a in self.axes)
            expected: Window | None = None
            window: Window
            if cell is None:
                found = windows[href]
                if isinstance(found, str):
                    self.misplaced.append(Misplaced(self.variable.name, href, position, found))
                    continue
                window = found
            elif isinstance(cell[0], slice):
                window = cell
            else:
                window = expected = self.tile_grid.slices(*cell)
                other = taken.setdefault((position, *cell), href)
                if other is not href:
                    raise CatalogError(self._twice(cell, position, public_href(other), public_href(href)))
            regions = list(_regions_of(self.grid, window))
            if not regions:
                message = f"tile {public_href(href)!r} fits no region: it lies wholly outside the grid"
                self.misplaced.append(Misplaced(self.variable.name, href, position, message))
            rows += [TileRow(href, position, iy, ix, self.source.band, expected) for iy, ix in regions]
        return rows

    def _twice(self, cell: tuple[int, int], position: tuple[int, ...], first: str, second: str) -> str:
        where = f"for region {self.tile_grid.region_id(*cell)!r}{self._at(position)} of variable {self.variable.name!r}"
        if first == second:
            return f"tile {first!r} is in the catalog twice, {where}: take one out"
        return f"two tiles {where}: {first!r} and {second!r}"

    def _window_of_header(self, href: str) -> Window | str:
        """Where a tile's header says that it lies; a message if it cannot be read, or does not fit the grid."""
        try:
            header = read_header(href, self.storage)
            band = self.source.band or (1 if self.source.bands_axis else None)
            return place(header, self.grid, self.variable, band).window
        except (TileError, GridError) as e:
            return str(e)

    def _bands(self, row: TileRow, chosen: Mapping[str, tuple[int, ...]]) -> Iterator[TileRow]:
        name = self.source.bands_axis
        if name is None:
            yield row
            return
        place = [a.name for a in self.axes].index(name)
        for i in chosen[name]:
            position = (*row.position[:place], i, *row.position[place + 1 :])
            yield TileRow(row.href, position, row.iy, row.ix, i + 1, row.expected)

    def _labels(self, position: Mapping[str, int]) -> dict[str, str]:
        return {name: self.grid.axis(name).labels[i] for name, i in position.items()}

    def _at(self, position: tuple[int, ...]) -> str:
        return "".join(f", {a.name} {a.labels[i]}" for a, i in zip(self.axes, position, strict=True))


def _regions_of(grid: TilingGrid, window: Window) -> Iterator[tuple[int, int]]:
    """Lattice places of the regions that a window overlaps."""
    spans = []
    for part, n, r in zip(window, grid.shape_yx, grid.region_shape_yx, strict=True):
        start, stop = max(part.start, 0), min(part.stop, n)
        spans.append(range(start // r, -(-stop // r)) if start < stop else range(0))
    return itertools.product(spans[0], spans[1])


def _names(table: pd.DataFrame) -> str:
    """A table's columns, as far as they fit into a message: it may be a web page."""
    return ", ".join(str(name)[:40] for name in table.columns[:20])


def _plain_label(value: Any) -> Any:
    """A table's cell as an axis label: whole floats are integers (a column with gaps), timestamps are dates."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.to_pydatetime() if hasattr(value, "to_pydatetime") else value


def _in_threads[T, R](function: Callable[[T], R], items: list[T]) -> list[R]:
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(REQUESTS_AT_ONCE, len(items))) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [f.result() for f in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _exists(href: str, storage: Storage) -> bool:
    try:
        source_id(href, storage)
    except FileNotFoundError:
        return False
    except TileError as e:
        raise CatalogError(str(e)) from e
    return True


def _read_lines(uri: str, storage: Storage) -> list[str]:
    content = _content("list", uri, storage)
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as e:
        raise _unreadable("list", uri, str(e)) from None
    for line in lines:
        if len(line) > MAX_LINE:
            raise CatalogError(
                f"list {public_href(uri)!r} has a line of {len(line)} characters: that is no href and no id"
            )
    return [line for line in lines if line and not line.startswith("#")]


def _expand_glob(pattern: str, storage: Storage) -> list[str]:
    if not is_remote(pattern):
        return sorted(glob(pattern.removeprefix("file://"), recursive=True))
    try:
        return expand_glob(pattern, storage)
    except Exception as e:  # noqa: BLE001  (each cloud's library has errors of its own)
        raise _unreadable("glob", pattern, why_unreachable(e, pattern)) from None


def _read_table(uri: str, storage: Storage) -> pd.DataFrame:
    import pandas as pd

    name = public_href(uri)
    try:
        where = BytesIO(_content("table", uri, storage)) if is_remote(uri) else Path(name.removeprefix("file://"))
        if name.endswith((".parquet", ".pq")):
            table = pd.read_parquet(where)
        else:
            packing: Any = COMPRESSIONS.get(Path(name).suffix)
            table = pd.read_csv(where, compression=packing)
    except CatalogError:
        raise
    except ImportError as e:
        raise _unreadable("table", uri, f"{' '.join(str(e).split())} (pip install 'cubeingest[parquet]')") from None
    except Exception as e:
        reason = why_unreachable(e)
        raise _unreadable("table", uri, reason if reason is None or not isinstance(e, ValueError) else str(e)) from e
    # GDAL's tile indexes call it location.
    return table if "href" in table.columns else table.rename(columns={"location": "href"})


def _content(kind: str, uri: str, storage: Storage) -> bytes:
    """All of a file here or elsewhere. Raises :class:`CatalogError`, with nothing of the libraries' own messages."""
    try:
        # Not by fsspec where it is a path, to which a folder's name may hold syntax ("::").
        return read_bytes(uri, storage) if is_remote(uri) else Path(uri.removeprefix("file://")).read_bytes()
    except Exception as e:  # noqa: BLE001  (each cloud's library has errors of its own)
        raise _unreadable(kind, uri, why_unreachable(e, uri)) from None


def _unreadable(kind: str, uri: str, reason: str | None) -> CatalogError:
    """``reason`` is None if there is nothing."""
    if reason is None:
        return CatalogError(f"{kind} {public_href(uri)!r} is not there: check source.tiles.{kind}")
    return CatalogError(f"cannot read {kind} {public_href(uri)!r}: {' '.join(reason.split())[:200]}")
