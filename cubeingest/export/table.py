"""Pixels, or cells of HEALPix, as rows of GeoParquet: the work on one region of such an export.

Format: https://geoparquet.org/releases/v1.1.0/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.axes import Axis
from cubeingest.engine import SlotResult
from cubeingest.errors import GridError
from cubeingest.export.files import FilePlan
from cubeingest.export.write import (
    TAG_CUBE,
    TAG_SNAPSHOT,
    TAG_STAMP,
    TAG_TILE,
    ExportJob,
    Written,
    put,
    scratch_file,
    windows_of,
    writing,
)
from cubeingest.extras import import_extra
from cubeingest.healpix import centres
from cubeingest.spec import CELL_IDS, CubeSpec, Variable
from cubeingest.writer import is_fill

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

GEOMETRY = "geometry"

ROWS_AT_ONCE = 2**20
"""Rows that are made at a time, and of a row group: a point, its coordinates and a few values are some 60 bytes."""

_POINT = np.dtype([("order", "u1"), ("type", "<u4"), ("x", "<f8"), ("y", "<f8")])
"""A point as WKB."""

Array = np.ndarray[Any, Any]


def check_columns(spec: CubeSpec, variables: tuple[Variable, ...]) -> None:
    """Refuse what cannot be a table. Raises :class:`ExtraError` without pyarrow, :class:`GridError` for a name that a column of ours has."""
    import_extra("pyarrow.parquet", "parquet", "format parquet")
    own = {GEOMETRY, *place_columns(spec)} - {*spec.grid.spatial_dims}
    for name in [v.name for v in variables] + [a.name for a in spec.grid.axes]:
        if name in own:
            raise GridError(
                f"the cube has {name!r} already, which is the column of {_MEANINGS[name]} in a GeoParquet file"
            )


_MEANINGS = {GEOMETRY: "points", CELL_IDS: "ids", "lon": "longitudes", "lat": "latitudes"}


def place_columns(spec: CubeSpec) -> dict[str, str]:
    """Columns that say where a pixel or cell is, with their types; x (or the longitude) and y are the last two."""
    if spec.healpix is not None:
        return {CELL_IDS: "int64", "lon": "double", "lat": "double"}
    return dict.fromkeys(reversed(spec.tiling.dims_yx), "double")


def _places(spec: CubeSpec, y: slice, x: slice) -> Callable[[Array, Array], list[Array]]:
    """What gives those columns for rows and columns of a window."""
    if spec.healpix is not None:
        ids = spec.healpix.cell_ids(x)
        lon, lat = centres(ids, spec.healpix.order, spec.healpix.ellipsoid)
        return lambda rows, columns: [ids[columns], lon[columns], lat[columns]]
    ys, xs = (spec.tiling.coordinate(d, s) for d, s in zip(spec.tiling.dims_yx, (y, x), strict=True))
    return lambda rows, columns: [xs[columns], ys[rows]]


def export_table(job: ExportJob, plan: FilePlan) -> SlotResult:
    """Write one region's pixels that hold data as rows: coordinates, point, axis values, variables; null where a variable has none.

    Raises :class:`StoreError` if the output folder takes no more, :class:`TileError` if pixels cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    variables = [job.spec.variable(name) for name in plan.variables]
    schema = schema_of(job, plan, variables)
    path, (file,) = scratch_file(job), plan.files
    n_rows = n_pixels = 0
    with writing(job):
        try:
            with path.open("wb") as out, pq.ParquetWriter(out, schema, compression="zstd") as writer:
                for columns, size in rows_of(job, plan, variables):
                    n_pixels += size
                    x, y = (columns[d] for d in list(place_columns(job.spec))[-2:])
                    if not x.size:
                        continue
                    n_rows += x.size
                    arrays = [
                        pa.array(columns[f.name], f.type) if f.name != GEOMETRY else _points(x, y) for f in schema
                    ]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=ROWS_AT_ONCE)
            written = Written((file.name,), put(job, path, file.name)) if n_rows else Written(empty=(file.name,))
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    itemsize = sum(v.np_dtype.itemsize for v in variables)
    return SlotResult(
        plan.slot, "", "done" if n_rows else "empty", n_bytes=n_pixels * itemsize, n_pixels=n_pixels, detail=written
    )


def schema_of(job: ExportJob, plan: FilePlan, variables: list[Variable]) -> pa.Schema:
    """Columns in order: axes, places (x and y, or a cell's id and centre), point, variables."""
    import pyarrow as pa

    spec = job.spec
    axes = spec.axes_of(variables[0])
    fields = [pa.field(a.name, _axis_type(a)) for a in axes]
    fields += [pa.field(name, pa.type_for_alias(kind)) for name, kind in place_columns(spec).items()]
    fields.append(pa.field(GEOMETRY, pa.binary()))
    for v in variables:
        texts = {
            name: str(v.attrs[name]) for name in ("long_name", "units", "scale_factor", "add_offset") if name in v.attrs
        }
        fields.append(pa.field(v.name, pa.from_numpy_dtype(v.np_dtype), metadata=texts or None))
    (file,) = plan.files
    texts = {TAG_CUBE: job.cube, TAG_TILE: file.what, TAG_STAMP: plan.stamp, TAG_SNAPSHOT: job.snapshot}
    return pa.schema(fields, {"geo": json.dumps(geo_metadata(spec)), **texts})


def _axis_type(axis: Axis) -> pa.DataType:
    """Dates of a calendar that Arrow does not have are texts."""
    import pyarrow as pa

    if axis.is_dates and axis.calendar == "proleptic_gregorian":
        return pa.timestamp("us")
    kinds = {type(v) for v in axis.values}
    return pa.int64() if kinds == {int} else pa.float64() if kinds <= {int, float} else pa.string()


def rows_of(job: ExportJob, plan: FilePlan, variables: list[Variable]) -> Iterator[tuple[dict[str, Any], int]]:
    """Columns of the pixels in which any variable holds data, some at a time; and how many pixels were looked at."""
    spec = job.spec
    axes = spec.axes_of(variables[0])
    y, x = plan.window
    names, places = list(place_columns(spec)), _places(spec, y, x)
    step = max(1, ROWS_AT_ONCE // (x.stop - x.start))
    for block in plan.blocks:
        spans = [a.block_slice(b) for a, b in zip(axes, block, strict=True)]
        row = 0
        for windows in windows_of(job, plan, variables, block):
            height = windows[0].shape[-2]
            for index in product(*(range(s.stop - s.start) for s in spans)):
                labels = {a.name: _axis_value(a, s.start + i) for a, s, i in zip(axes, spans, index, strict=True)}
                for start in range(0, height, step):
                    parts = [pixels[index][start : start + step] for pixels in windows]
                    missing = [np.zeros(p.shape, bool) if v.np_dtype.kind == "b" else is_fill(p, v) for p, v in zip(parts, variables, strict=True)]  # fmt: skip
                    at = np.nonzero(~np.logical_and.reduce(missing))
                    columns: dict[str, Any] = {name: np.full(at[0].size, value) for name, value in labels.items()}
                    columns |= zip(names, places(row + start + at[0], at[1]), strict=True)
                    for v, part, fill in zip(variables, parts, missing, strict=True):
                        columns[v.name] = np.ma.masked_array(part[at], fill[at])
                    yield columns, parts[0].size
            row += height


def _axis_value(axis: Axis, position: int) -> Any:
    value: Any = axis.values[position]
    if axis.is_dates:
        return np.datetime64(value, "us") if axis.calendar == "proleptic_gregorian" else axis.labels[position]
    return value


def _points(x: Array, y: Array) -> pa.Array:
    """Points as WKB."""
    import pyarrow as pa

    points = np.empty(x.size, _POINT)
    points["order"], points["type"], points["x"], points["y"] = 1, 1, x, y
    offsets = np.arange(x.size + 1, dtype=np.int32) * _POINT.itemsize
    return pa.Array.from_buffers(pa.binary(), x.size, [None, pa.py_buffer(offsets), pa.py_buffer(points)])


def geo_metadata(spec: CubeSpec) -> dict[str, Any]:
    """The ``geo`` of a file, as GeoParquet 1.1 has it."""
    from pyproj import CRS

    crs = CRS.from_user_input(spec.grid.crs).to_json_dict()
    column = {"encoding": "WKB", "geometry_types": ["Point"], "crs": crs}
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}


def read_table_tags(path: Path) -> dict[str, str] | None:
    """The texts that a Parquet file carries; None for what is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        kept = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    return {k.decode(errors="replace"): v.decode(errors="replace") for k, v in kept.items()}
