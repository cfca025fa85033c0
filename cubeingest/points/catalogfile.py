"""Footprints in a Parquet file beside the spec, so that granules are scanned once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from cubeingest.errors import CatalogError
from cubeingest.extras import import_extra
from cubeingest.files import write_file
from cubeingest.points.arrow import reason_of
from cubeingest.points.locate import starts_of
from cubeingest.points.model import Array, Locator, Run
from cubeingest.points.scan import Footprint
from cubeingest.remote import SourceId
from cubeingest.storage import is_remote

VERSION = 1
"""Format of the file. A file of another one is refused."""

COLUMNS = (
    "href", "size", "stamp", "n_invalid", "n_outside", "run", "run_points", "region", "start", "stop", "count",
)  # fmt: skip
"""A row for each granule, run and region that has points of it. Of a run without any, or a granule without runs, there is one row, in which
what there is not is null."""


def write_footprints(path: Path, footprints: Iterable[Footprint], signature: str, locator: Locator) -> None:
    """Write footprints in the place of what was there. ``signature`` is what they depend on, but for the granules themselves.

    Granules in the file's folder are named relative to it, so that both can be moved together; others are named in full.
    Raises :class:`OSError`, or :class:`CatalogError` if the library is missing.
    """
    pa, parquet = _arrow(path)
    folder = folder_of(path)
    parts = [_columns(footprint, folder, locator) for footprint in footprints]
    kinds = dict(zip(COLUMNS, (
        pa.string(), pa.int64(), pa.string(), pa.int64(), pa.int64(), pa.string(), pa.int64(), pa.string(), pa.int64(), pa.int64(), pa.int64(),
    ), strict=True))  # fmt: skip
    schema = pa.schema(list(kinds.items()), metadata={"cubeingest_points": str(VERSION), "signature": signature})
    tables = [pa.table({n: pa.array(v, kinds[n]) for n, v in part.items()}, schema=schema) for part in parts]
    table = pa.concat_tables([schema.empty_table(), *tables])
    content = BytesIO()
    parquet.write_table(table, content, compression="zstd")
    write_file(path, content.getvalue())


def read_footprints(path: Path, signature: str, locator: Locator) -> dict[str, Footprint]:
    """The footprints of a file, by the public href of their granules; none if there is no file.

    Raises :class:`CatalogError` for a file that is damaged, is something else, or is for another grid or source.
    """
    if not path.exists():
        return {}
    _, parquet = _arrow(path)
    try:
        table = parquet.read_table(path, partitioning=None)
        metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        columns = {name: table.column(name) for name in COLUMNS}
    except Exception as e:  # noqa: BLE001  (Arrow's errors are of many kinds)
        raise CatalogError(f"{_name(path)} cannot be read, or is something else ({reason_of(e)}): {_ADVICE}") from None
    version = metadata.get("cubeingest_points")
    if version != str(VERSION):
        found = "is no catalog of points" if version is None else f"has format {version}, this version reads {VERSION}"
        raise CatalogError(f"{_name(path)} {found}: {_ADVICE}")
    _check_signature(path, metadata.get("signature", ""), signature)
    try:
        return _footprints(columns, folder_of(path), locator)
    except (ValueError, TypeError, KeyError, OverflowError) as e:
        raise CatalogError(f"{_name(path)} is damaged ({reason_of(e)}): {_ADVICE}") from None


_ADVICE = "move it away, and it is made anew"


def _name(path: Path) -> str:
    return f"catalog of points {str(path)!r}"


def _arrow(path: Path) -> tuple[Any, Any]:
    what = f"{_name(path)}: Parquet"
    return import_extra("pyarrow", "points", what), import_extra("pyarrow.parquet", "points", what)


def _check_signature(path: Path, found: str, expected: str) -> None:
    """Raises :class:`CatalogError` that names what differs, where signatures are objects of JSON."""
    if found == expected:
        return
    try:
        was, now = json.loads(found), json.loads(expected)
        keys = [k for k in dict.fromkeys((*was, *now)) if was.get(k) != now.get(k)]
        what = ", ".join(f"{k} was {_short(was.get(k))}, is {_short(now.get(k))}" for k in keys[:4])
    except (ValueError, AttributeError, TypeError):
        what = f"it was {_short(found)}, is {_short(expected)}"
    raise CatalogError(
        f"{_name(path)} is for another grid or source ({what}): {_ADVICE}, or name another file for this grid"
    )


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _columns(footprint: Footprint, folder: Path, locator: Locator) -> Mapping[str, list[Any] | Array]:
    """The rows of one granule."""
    own = footprint.source
    empty = sorted(set(range(len(footprint.runs))) - set(footprint.run.tolist()))
    nothing: list[Any] = [None] * (len(empty) if footprint.runs else 1)
    runs = [*footprint.run.tolist(), *empty]
    names = [footprint.runs[i].name for i in runs] if runs else nothing
    sizes = [footprint.runs[i].n_points for i in runs] if runs else nothing
    n = len(names)
    ids = region_texts(footprint.region, locator)
    return {
        "href": [_relative(own.href, folder)] * n, "size": [own.size] * n, "stamp": [own.stamp] * n,
        "n_invalid": [footprint.n_invalid] * n, "n_outside": [footprint.n_outside] * n, "run": names, "run_points": sizes,
        "region": ids + nothing if empty or not runs else ids,
        **{name: [*values.tolist(), *nothing] if empty or not runs else values.tolist()
           for name, values in (("start", footprint.start), ("stop", footprint.stop), ("count", footprint.count))},
    }  # fmt: skip


def region_texts(regions: Array, locator: Locator) -> list[str]:
    """The ids of regions, given by their numbers."""
    nx = locator.lattice_shape_yx[1]
    known = {i: locator.region_id(*divmod(i, nx)) for i in np.unique(regions).tolist()}
    return [known[i] for i in regions.tolist()]


def _footprints(columns: Mapping[str, Any], folder: Path, locator: Locator) -> dict[str, Footprint]:
    """Footprints from rows. Raises :class:`ValueError` for rows that cannot have been written here."""

    def numbers(name: str, missing: int) -> Array:
        values: Array = columns[name].fill_null(missing).to_numpy().astype(np.int64, copy=False)
        return values

    def coded(name: str) -> tuple[Array, list[str]]:
        packed = columns[name].combine_chunks().dictionary_encode()
        return packed.indices.fill_null(-1).to_numpy(zero_copy_only=False), packed.dictionary.to_pylist()

    codes, hrefs = coded("href")
    ids, texts = coded("region")
    nx = locator.lattice_shape_yx[1]
    indices = [locator.find_region(text) for text in texts]
    if None in indices or (len(codes) and codes.min() < 0):
        raise ValueError("a region is not in the grid")
    places = np.array([iy * nx + ix for iy, ix in (i for i in indices if i is not None)] + [-1], np.int64)
    regions = places[ids]
    start, stop, count = (numbers(name, 0) for name in ("start", "stop", "count"))
    if np.any((start < 0) | ((stop < start) & (stop != -1)) | (count < -1)):
        raise ValueError("a range is none")
    run_codes, run_names = coded("run")
    run_points = numbers("run_points", -1)
    sizes, stamps = columns["size"].to_pylist(), columns["stamp"].to_pylist()
    invalid, outside = numbers("n_invalid", 0), numbers("n_outside", 0)
    order = np.argsort(codes, kind="stable")
    begin = starts_of(codes[order])
    out: dict[str, Footprint] = {}
    for rows in np.split(order, begin[1:]) if len(begin) else []:
        first = int(rows[0])
        href = _resolved(hrefs[codes[first]], folder)
        own = [i for i in dict.fromkeys(run_codes[rows].tolist()) if i >= 0]
        at = np.full(len(run_names) + 1, -1)
        at[own] = np.arange(len(own))
        n_points = dict(zip(run_codes[rows].tolist(), run_points[rows].tolist(), strict=True))
        runs = tuple(Run(run_names[i], n_points[i] if n_points[i] >= 0 else None) for i in own)
        there = rows[regions[rows] >= 0]
        out[href] = Footprint(
            SourceId(href, sizes[first], stamps[first] or ""), runs, at[run_codes[there]], regions[there], start[there], stop[there],
            count[there], int(invalid[first]), int(outside[first]),
        )  # fmt: skip
    return out


def folder_of(path: Path) -> Path:
    """The folder that a catalog's hrefs are relative to."""
    return Path(os.path.abspath(path)).parent


def _relative(href: str, folder: Path) -> str:
    if is_remote(href):
        return href
    path = Path(href.removeprefix("file://")).absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _resolved(href: str, folder: Path) -> str:
    return href if is_remote(href) else (folder / href).as_posix()
