"""Points and polygons from files: GeoJSON, GeoParquet, GeoPackage, and points from CSV."""

from __future__ import annotations

import csv
import json
import sqlite3
import struct
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cubeingest.analyze.tables import need
from cubeingest.boxes import mapper, parse_crs
from cubeingest.errors import GridError

LON_LAT = "OGC:CRS84"

ENVELOPE_BYTES = (0, 32, 48, 48, 64)
"""Of a GeoPackage geometry's envelope, by the kind that its flags name (OGC 12-128, clause 2.1.3)."""

LONGITUDES, LATITUDES = ("lon", "longitude", "lng", "x"), ("lat", "latitude", "y")
"""Names of a CSV file's columns, whatever their case."""

FEATURES = (".geojson", ".json", ".parquet", ".geoparquet", ".gpkg")


@dataclass(frozen=True)
class Features:
    """Shapely geometries in a CRS, and what is said of each, by column."""

    geometries: np.ndarray[Any, Any]
    attributes: Mapping[str, Sequence[Any]]
    crs: str
    where: str

    def __len__(self) -> int:
        return len(self.geometries)


def read_features(path: Path, layer: str | None) -> Features:
    """Features of a file; without geometry none. Raises :class:`GridError` for what cannot be read."""
    suffix = path.suffix.lower()
    where = repr(str(path))
    if suffix not in FEATURES:
        raise GridError(f"{where} has suffix {path.suffix!r}: {', '.join(FEATURES)} are read")
    if not path.is_file():
        raise GridError(f"there is no file {where}")
    from shapely.errors import ShapelyError

    try:
        if suffix == ".gpkg":
            found = _read_geopackage(path, layer)
        elif layer is not None:
            raise GridError(f"{where} has no layers: --in-layer is for a GeoPackage")
        elif suffix in (".parquet", ".geoparquet"):
            found = _read_geoparquet(path)
        else:
            found = _read_geojson(path)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        RecursionError,
        ShapelyError,
        struct.error,
        sqlite3.Error,
    ) as e:
        raise GridError(f"{where} cannot be read: {' '.join(str(e).split())[:160]}") from None
    if not len(found):
        raise GridError(f"{where} has no features")
    return found


def read_points(
    path: Path, layer: str | None = None
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], Mapping[str, Sequence[Any]]]:
    """Longitudes, latitudes and the other columns of a file of points. Raises :class:`GridError`."""
    import shapely

    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    found = read_features(path, layer)
    kinds = set(shapely.get_type_id(found.geometries).tolist())
    if kinds != {0}:
        raise GridError(f"{found.where} holds other geometries than points: `compute zonal` is for polygons")
    x, y = shapely.get_x(found.geometries), shapely.get_y(found.geometries)
    lon, lat = mapper(parse_crs(found.crs), parse_crs(LON_LAT))(x, y)
    return np.asarray(lon, float), np.asarray(lat, float), found.attributes


def _read_csv(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], Mapping[str, Sequence[Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = csv.reader(file) if path.stat().st_size else [[]]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as e:
        raise GridError(f"{str(path)!r} cannot be read: {getattr(e, 'strerror', None) or e}") from None
    if not header:
        raise GridError(f"{str(path)!r} is empty")
    names = [h.strip() for h in header]
    lower = [n.lower() for n in names]
    at = [next((lower.index(n) for n in known if n in lower), None) for known in (LONGITUDES, LATITUDES)]
    if at[0] is None or at[1] is None:
        raise GridError(f"{str(path)!r} has columns {', '.join(names)}: two must be called lon and lat")
    rows = [r for r in rows if r]
    out = []
    for n, row in enumerate(rows, 2):
        try:
            out.append((float(row[at[0]]), float(row[at[1]])))
        except (ValueError, IndexError):
            raise GridError(f"{str(path)!r} line {n}: no numbers in {names[at[0]]} and {names[at[1]]}: {','.join(row)[:60]}") from None  # fmt: skip
    if not out:
        raise GridError(f"{str(path)!r} has no points")
    lon, lat = np.array(out).T
    others = {n: [r[i] if i < len(r) else "" for r in rows] for i, n in enumerate(names) if i not in at}
    return lon, lat, others


def _read_geojson(path: Path) -> Features:
    import shapely

    content = json.loads(path.read_text(encoding="utf-8-sig"))
    kind = content["type"]
    features = content["features"] if kind == "FeatureCollection" else [content if kind == "Feature" else {"geometry": content}]  # fmt: skip
    kept = [f for f in features if f.get("geometry") is not None]
    crs = str(((content.get("crs") or {}).get("properties") or {}).get("name") or LON_LAT)
    geometries = shapely.from_geojson([json.dumps(f["geometry"]) for f in kept])
    names = dict.fromkeys(n for f in kept for n in (f.get("properties") or {}))
    attributes: dict[str, Sequence[Any]] = {n: [(f.get("properties") or {}).get(n) for f in kept] for n in names}
    if "id" not in attributes and any("id" in f for f in kept):
        attributes = {"id": [f.get("id") for f in kept], **attributes}
    return Features(np.asarray(geometries), attributes, crs, repr(str(path)))


def _read_geoparquet(path: Path) -> Features:
    import shapely

    table = need("pyarrow.parquet", "reading Parquet").read_table(path)
    kept = json.loads((table.schema.metadata or {}).get(b"geo", b"null"))
    if kept is None:
        raise ValueError("it is no GeoParquet: there is no 'geo' in its metadata")
    name = kept["primary_column"]
    column = kept["columns"][name]
    if column["encoding"] != "WKB":
        raise ValueError(f"its geometries are encoded as {column['encoding']!r}: only WKB is read")
    crs = column.get("crs", LON_LAT)
    if crs is None:
        raise ValueError("it says that its CRS is not known: give it one")
    geometries = shapely.from_wkb(table.column(name).to_pylist())
    other = {n: table.column(n).to_pylist() for n in table.column_names if n != name and not _is_binary(table, n)}
    return _present(geometries, other, crs if isinstance(crs, str) else json.dumps(crs), path)


def _is_binary(table: Any, name: str) -> bool:
    return "binary" in str(table.schema.field(name).type) or "struct" in str(table.schema.field(name).type)


def _read_geopackage(path: Path, layer: str | None) -> Features:
    import shapely

    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        found = db.execute("SELECT table_name, column_name, srs_id FROM gpkg_geometry_columns ORDER BY 1").fetchall()
        layers = [row[0] for row in found]
        if layer is None and len(found) != 1:
            raise GridError(f"{str(path)!r} has {len(found)} layers ({', '.join(layers)}): say which, --in-layer NAME")
        if layer is not None and layer not in layers:
            raise GridError(f"{str(path)!r} has no layer {layer!r} (layers: {', '.join(layers)})")
        table, column, srs = next(row for row in found if layer in (None, row[0]))
        crs = _geopackage_crs(db, srs)
        rows = db.execute(f"SELECT * FROM {_quoted(table)}")  # noqa: S608  (a name from the file, quoted)
        names = [d[0] for d in rows.description]
        content = rows.fetchall()
    at = names.index(column)
    geometries = shapely.from_wkb([None if r[at] is None else _wkb(r[at]) for r in content])
    other = {
        n: [r[i] for r in content] for i, n in enumerate(names) if i != at and not any(isinstance(r[i], bytes) for r in content)
    }  # fmt: skip
    return _present(geometries, other, crs, path)


def _geopackage_crs(db: sqlite3.Connection, srs: int) -> str:
    row = db.execute("SELECT organization, organization_coordsys_id, definition FROM gpkg_spatial_ref_sys WHERE srs_id = ?", (srs,)).fetchone()  # fmt: skip
    if row is None or srs in (-1, 0):
        raise ValueError("it does not say its CRS")
    organization, code, definition = row
    return f"EPSG:{code}" if str(organization).upper() == "EPSG" else str(definition)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _wkb(blob: bytes) -> bytes:
    """The WKB behind a GeoPackage geometry's header. Raises :class:`ValueError` for what is none."""
    if blob[:2] != b"GP":
        raise ValueError("a geometry is not a GeoPackage's")
    kind = blob[3] >> 1 & 7
    if kind >= len(ENVELOPE_BYTES):
        raise ValueError(f"a geometry has an envelope of the unknown kind {kind}")
    return blob[8 + ENVELOPE_BYTES[kind] :]


def _present(geometries: Any, attributes: Mapping[str, Sequence[Any]], crs: str, path: Path) -> Features:
    """Features that have a geometry."""
    kept = [n for n, g in enumerate(geometries) if g is not None]
    return Features(
        np.asarray(geometries, object)[kept],
        {n: [v[i] for i in kept] for n, v in attributes.items()},
        crs,
        repr(str(path)),
    )
