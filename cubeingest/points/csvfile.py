"""Granules that are files of comma-separated values, with a header, packed by gzip or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np

from cubeingest.errors import TileError, nearest
from cubeingest.extras import import_extra
from cubeingest.points.arrow import as_numbers, is_time, reason_of, why_no_number
from cubeingest.points.model import BATCH_POINTS, Batch, PointSource, Run
from cubeingest.storage import public_href

BLOCK_BYTES = 32 * 2**20
"""Text that is parsed at once: no more than a batch of points, as a line has at least this much for each."""


class CsvGranule:
    """A CSV file, read from its start on each time. It is one run, whose points only reading it counts.

    A column is of integers if all its values are.
    """

    has_ranges = False
    runs = (Run("", None),)

    def __init__(self, href: str, place: str | BytesIO, source: PointSource) -> None:
        self.href, self._source, self._place = href, source, place
        self._name = f"granule {public_href(href)!r}"
        self.load()
        self._packing = "gzip" if public_href(href).lower().endswith(".gz") else None
        self._types: dict[str, Any] = {}
        self._header = self._read_header()

    @staticmethod
    def load() -> Any:
        """The library that reads such files. Raises :class:`ExtraError` without it."""
        return import_extra("pyarrow.csv", "points", "reading CSV")

    def close(self) -> None:
        """Nothing is kept open."""

    def batches(self, run: str, start: int, stop: int | None, names: Sequence[str]) -> Iterator[Batch]:
        assert run == ""
        paths = [self._source.x, self._source.y, *(self._source.columns[name] for name in names)]
        for path in paths:
            if path not in self._header:
                raise TileError(
                    f"{self._name} has no column {path!r}{nearest(path, self._header)} "
                    f"(columns: {', '.join(self._header[:12])})"
                )
        self._find_types(paths)
        first = 0
        for block in self._blocks(dict.fromkeys(paths)):
            for at in range(0, len(block), BATCH_POINTS):
                table = block.slice(at, BATCH_POINTS)
                begin, end = max(start - first, 0), len(table) if stop is None else min(stop - first, len(table))
                if begin < end:
                    x, y, *others = (as_numbers(table.column(path))[begin:end] for path in paths)
                    named = dict(zip(names, others, strict=True))
                    yield Batch(
                        first + begin, x.astype(np.float64, copy=False), y.astype(np.float64, copy=False), named
                    )
                first += len(table)
                if stop is not None and first >= stop:
                    return
        if stop is not None and first < stop:
            raise TileError(f"{self._name}: only {first} of {stop} points can be read")

    def _find_types(self, paths: Sequence[str]) -> None:
        """Whether columns are of integers: what begins as integers is read to its end to see."""
        from pyarrow import ArrowInvalid, float64, types  # type: ignore[import-untyped]

        for path in (self._source.x, self._source.y):
            self._types[path] = float64()
        new = [path for path in dict.fromkeys(paths) if path not in self._types]
        if not new:
            return
        kinds = {field.name: field.type for field in self._open(new).schema}
        for path in new:
            wrong = why_no_number(kinds[path])
            if wrong is not None:
                raise TileError(f"{self._name}, column {path!r} is {wrong}: only numbers can be gridded")
            self._types[path] = kinds[path] if types.is_integer(kinds[path]) or is_time(kinds[path]) else float64()
        for path in new:
            if types.is_integer(self._types[path]):
                try:
                    for _ in self._open([path]):
                        pass
                except ArrowInvalid:
                    self._types[path] = float64()

    def _blocks(self, paths: dict[str, None]) -> Iterator[Any]:
        try:
            yield from self._open(list(paths))
        except TileError:
            raise
        except Exception as e:  # noqa: BLE001  (Arrow's errors are of many kinds)
            raise TileError(f"{self._name} cannot be read: {reason_of(e)}") from None

    def _read_header(self) -> list[str]:
        from pyarrow import csv

        try:
            with self._stream() as stream:
                return list(
                    csv.open_csv(stream, read_options=csv.ReadOptions(block_size=2**20, use_threads=False)).schema.names
                )
        except Exception as e:  # noqa: BLE001  (as above)
            raise TileError(f"{self._name} cannot be opened: {reason_of(e)}") from None

    def _open(self, paths: list[str]) -> Any:
        from pyarrow import csv

        return csv.open_csv(
            self._stream(),
            read_options=csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
            convert_options=csv.ConvertOptions(
                include_columns=paths, column_types={p: t for p, t in self._types.items() if p in paths}
            ),
        )

    def _stream(self) -> Any:
        import pyarrow as pa

        if isinstance(self._place, BytesIO):
            self._place.seek(0)
            source = pa.BufferReader(self._place.getvalue())
            return pa.CompressedInputStream(source, "gzip") if self._packing else source
        return pa.input_stream(self._place, compression=self._packing)
