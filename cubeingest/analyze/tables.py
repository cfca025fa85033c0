"""Rows of results as files: CSV, JSON, Parquet, and points as GeoParquet."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from cubeingest.errors import StoreError
from cubeingest.extras import import_extra
from cubeingest.files import open_whole

Rows = Mapping[str, Sequence[Any]]
"""A table by columns."""

TABLES = (".csv", ".json", ".parquet")


def need(library: str, what: str) -> Any:
    """A library of the extra ``analyze``. Raises :class:`ExtraError` that says how to install it."""
    return import_extra(library, "analyze", what)


def check_output(path: Path, suffixes: Sequence[str], what: str) -> None:
    """Raise :class:`StoreError` for a file that ``what`` cannot be written to."""
    if path.suffix.lower() not in suffixes:
        raise StoreError(f"{what} {str(path)!r} has suffix {path.suffix!r}: write one of {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise StoreError(f"{what} {str(path)!r} cannot be written: there is no folder {str(path.parent)!r}")
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device"
        raise StoreError(f"{what} {str(path)!r} cannot be written: it is {kind}, no file")
    if path.suffix.lower() in (".parquet", ".geoparquet"):
        need("pyarrow", "writing Parquet")


def write_table(path: Path, rows: Rows, lon_lat: tuple[str, str] | None = None) -> None:
    """Write a table by its suffix, as :func:`write_parts`."""
    write_parts(path, [rows], lon_lat)


def write_parts(path: Path, parts: Iterable[Rows], lon_lat: tuple[str, str] | None = None) -> None:
    """Write a table by its suffix, whose rows come some at a time, all with the same columns; at least one part, which may have no rows.

    With ``lon_lat``, names of two columns, Parquet becomes GeoParquet with points. NaN is empty in CSV, null elsewhere. Raises :class:`StoreError` if the
    file cannot be written.
    """
    write = {".csv": _write_csv, ".json": _write_json}.get(
        path.suffix.lower(), partial(_write_parquet, lon_lat=lon_lat)
    )
    try:
        with open_whole(path) as file:
            write(file, parts)
    except OSError as e:
        raise StoreError(f"table {str(path)!r} cannot be written: {e.strerror or e}") from e


def free_name(name: str, taken: Container[str]) -> str:
    """What a column is called, if those of our own have its name."""
    return f"{name}_" if name in taken else name


def _write_csv(file: BinaryIO, parts: Iterable[Rows]) -> None:
    for n, rows in enumerate(parts):
        file.write(to_csv(rows, head=not n).encode())


def _write_json(file: BinaryIO, parts: Iterable[Rows]) -> None:
    before = b"["
    for rows in parts:
        text = json.dumps(to_records(rows), default=str)[1:-1]
        if text:
            file.write(before + text.encode())
            before = b", "
    file.write(b"[]\n" if before == b"[" else b"]\n")


def _write_parquet(file: BinaryIO, parts: Iterable[Rows], lon_lat: tuple[str, str] | None) -> None:
    pq = need("pyarrow.parquet", "writing Parquet")
    writer = None
    for rows in parts:
        table = _to_arrow(rows, lon_lat)
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def to_csv(rows: Rows, head: bool = True) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if head:
        writer.writerow(rows)
    writer.writerows([["" if (v := plain(c)) is None else v for c in row] for row in zip(*rows.values(), strict=True)])
    return out.getvalue()


def to_records(rows: Rows) -> list[dict[str, Any]]:
    """A table as one mapping a row, of plain values."""
    return [dict(zip(rows, map(plain, row), strict=True)) for row in zip(*rows.values(), strict=True)]


def plain(value: Any) -> Any:
    """A value as JSON has it: NaN and the like become None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_arrow(rows: Rows, lon_lat: tuple[str, str] | None) -> Any:
    import numpy as np

    pa = need("pyarrow", "writing Parquet")
    columns = {}
    for name, v in rows.items():
        try:
            columns[name] = pa.array(np.asarray(v) if not isinstance(v, list) else v, from_pandas=True)
            if pa.types.is_nested(columns[name].type):
                raise pa.ArrowInvalid("no plain values")
        except (
            pa.ArrowInvalid,
            pa.ArrowNotImplementedError,
            pa.ArrowTypeError,
            OverflowError,
        ):  # numbers and texts, lists: as texts
            columns[name] = pa.array([None if value is None else str(value) for value in v])
    table = pa.table(columns)
    if lon_lat is not None:
        import shapely

        points = shapely.points(*(np.asarray(rows[name], float) for name in lon_lat))
        table = table.append_column("geometry", pa.array(shapely.to_wkb(points), pa.binary()))
        column = {"encoding": "WKB", "geometry_types": ["Point"]}  # without a CRS they are longitude and latitude
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"geo": json.dumps(geo).encode()})
    return table
