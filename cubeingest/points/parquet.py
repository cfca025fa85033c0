"""Granules that are Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np

from cubeingest.errors import TileError, nearest
from cubeingest.extras import import_extra
from cubeingest.points.arrow import as_numbers, reason_of, why_no_number
from cubeingest.points.model import BATCH_POINTS, Array, Batch, PointSource, Run
from cubeingest.storage import public_href

WKB_POINT = np.dtype([("order", "u1"), ("type", "<u4"), ("x", "<f8"), ("y", "<f8")])
"""A point as WKB, of little byte order."""


@dataclass(frozen=True)
class _Column:
    """A column's name, the fields within it, and ``x`` or ``y`` if it is that of the points which it holds as WKB."""

    top: str
    fields: tuple[str, ...] = ()
    coordinate: str | None = None

    @property
    def path(self) -> str:
        """What Parquet calls it, with all that is in it."""
        return ".".join((self.top, *self.fields))


class ParquetGranule:
    """An open Parquet file. A run is some row groups that follow each other: as many as a batch holds, or one that is more.

    ``geometry.x`` and ``geometry.y`` are the coordinates of a column of points: of a struct, or of WKB, as in GeoParquet.
    """

    has_ranges = False  # a row group is decoded from its start on

    def __init__(self, href: str, place: str | BytesIO, source: PointSource) -> None:
        self.href, self._source = href, source
        self._name = f"granule {public_href(href)!r}"
        parquet = self.load()
        try:
            self._file: Any = parquet.ParquetFile(place, memory_map=isinstance(place, str), pre_buffer=False)
            self._schema = self._file.schema_arrow
        except Exception as e:  # noqa: BLE001  (Arrow's errors are of many kinds)
            raise TileError(f"{self._name} cannot be opened: {reason_of(e)}") from None

    @staticmethod
    def load() -> Any:
        """The library that reads such files. Raises :class:`ExtraError` without it."""
        return import_extra("pyarrow.parquet", "points", "reading Parquet")

    def close(self) -> None:
        self._file.close()

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        self._columns(())
        return tuple(Run(name, n) for name, (_, n) in self._row_groups.items())

    @cached_property
    def _row_groups(self) -> dict[str, tuple[range, int]]:
        """Row groups of each run, and how many points they hold."""
        found: dict[str, tuple[range, int]] = {}
        metadata = self._file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        first = n = 0
        for i, size in enumerate(sizes):
            n += size
            if i + 1 == len(sizes) or n + sizes[i + 1] > BATCH_POINTS:
                if n:
                    found[str(first) if first == i else f"{first}..{i}"] = range(first, i + 1), n
                first, n = i + 1, 0
        return found

    def batches(self, run: str, start: int, stop: int | None, names: Sequence[str]) -> Iterator[Batch]:
        if run not in self._row_groups:
            raise TileError(f"{self._name} has no row groups {run} any more: run the command again")
        groups, n = self._row_groups[run]
        stop = n if stop is None else stop
        columns = self._columns(names)
        first = 0
        for table in self._tables(groups, columns):
            begin, end = max(start - first, 0), min(stop - first, len(table))
            if begin < end:
                x, y, *others = (self._array(table, c)[begin:end] for c in columns)
                named = dict(zip(names, others, strict=True))
                yield Batch(first + begin, x.astype(np.float64, copy=False), y.astype(np.float64, copy=False), named)
            first += len(table)
            if first >= stop:
                return
        raise TileError(f"{self._name}, row groups {run}: only {first} of {stop} points can be read")

    def _tables(self, groups: range, columns: list[_Column]) -> Iterator[Any]:
        paths = sorted({c.path for c in columns})
        try:
            yield from self._file.iter_batches(BATCH_POINTS, row_groups=list(groups), columns=paths, use_threads=False)
        except Exception as e:  # noqa: BLE001  (as above)
            raise TileError(f"{self._name} cannot be read: {reason_of(e)}") from None

    def _array(self, table: Any, column: _Column) -> Array:
        from pyarrow import compute  # type: ignore[import-untyped]

        values = table.column(column.top)
        if column.coordinate is not None:
            return self._points(values, column)[column.coordinate]
        if column.fields:
            values = compute.struct_field(values, list(column.fields))
        return as_numbers(values)

    def _points(self, values: Any, column: _Column) -> Array:
        """Points of WKB as a structured array; NaN where there is none. Raises :class:`TileError` if some are no points."""
        import shapely

        n = len(values)
        if not values.null_count and values.nbytes:
            wide = np.dtype(np.int64 if "large" in str(values.type) else np.int32)
            offsets = np.frombuffer(values.buffers()[1], wide)[values.offset : values.offset + n + 1]
            if np.array_equal(np.diff(offsets), np.full(n, WKB_POINT.itemsize)):
                points = np.frombuffer(values.buffers()[2], WKB_POINT, n, int(offsets[0]))
                if np.all(points["order"] == 1) and np.all(points["type"] == 1):
                    return points
        try:
            shapes = shapely.from_wkb(values.to_numpy(zero_copy_only=False))
        except shapely.errors.GEOSException as e:
            raise TileError(f"{self._name}, column {column.top!r} is not WKB: {reason_of(e)}") from None
        kinds = shapely.get_type_id(shapes)
        if np.any((kinds != 0) & (kinds != -1)):
            wrong = next(s for s, k in zip(shapes, kinds, strict=True) if k not in (0, -1))
            raise TileError(
                f"{self._name}, column {column.top!r} holds a {wrong.geom_type}: only points can be gridded"
            )
        points = np.zeros(n, WKB_POINT)
        points["x"], points["y"] = shapely.get_x(shapes), shapely.get_y(shapes)
        return points

    def _columns(self, names: Sequence[str]) -> list[_Column]:
        """The columns of x, y and ``names``. Raises :class:`TileError` for one that is missing or holds no numbers."""
        return [
            self._find(path) for path in (self._source.x, self._source.y, *(self._source.columns[n] for n in names))
        ]

    def _find(self, path: str) -> _Column:
        from pyarrow import types

        top, *fields = [path] if path in self._schema.names else path.split(".")
        if top not in self._schema.names:
            known = list(self._schema.names)
            raise TileError(
                f"{self._name} has no column {path!r}{nearest(path, known)} (columns: {', '.join(known[:12])})"
            )
        kind = self._schema.field(top).type
        if isinstance(kind, _extension()):
            kind = kind.storage_type
        if len(fields) == 1 and fields[0] in ("x", "y") and (types.is_binary(kind) or types.is_large_binary(kind)):
            return _Column(top, (), fields[0])
        for field in fields:
            known = [kind.field(i).name for i in range(kind.num_fields)] if types.is_struct(kind) else []
            if field not in known:
                held = f" (it has {', '.join(known[:12])})" if known else f": {top!r} is {str(kind)[:60]}"
                raise TileError(f"{self._name} has no column {path!r}{nearest(field, known)}{held}")
            kind = kind.field(field).type
        wrong = why_no_number(kind)
        if wrong is not None:
            raise TileError(f"{self._name}, column {path!r} is {wrong}: only numbers, one a point, can be gridded")
        return _Column(top, tuple(fields))


def _extension() -> Any:
    from pyarrow import BaseExtensionType

    return BaseExtensionType
