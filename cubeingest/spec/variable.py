"""One variable of a spec, from plain data: dtype, fill value, chunks, codec, and what fills it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cubeingest.axes import AxisValue
from cubeingest.errors import nearest
from cubeingest.grid import CELLS, HealpixGrid, TilingGrid
from cubeingest.spec.document import VariableDoc
from cubeingest.spec.model import (
    CELL_IDS,
    INTERNAL_GROUP,
    OVERVIEW_METHODS,
    OVERVIEWS,
    PointSource,
    Variable,
    plain,
)
from cubeingest.spec.source import build_source
from cubeingest.statistic import Statistic, parse_statistic

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
"""What variables, axes and dimensions may be called."""

_DTYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
_DEFAULT_COMPRESSOR = {"name": "zstd", "level": 3}
"""Level 3 is zstd's own default: level 1 is a fifth faster and a twentieth larger on class rasters."""


def build_variable(
    name: str,
    doc: VariableDoc,
    grid: TilingGrid | HealpixGrid,
    points: PointSource | None,
    axes_values: Mapping[str, tuple[AxisValue, ...]],
    base: str,
) -> Variable:
    check_attrs(".attrs", doc.attrs, {"_FillValue", "grid_mapping", "coordinates"}.__contains__)
    own = (*grid.spatial_dims, *axes_values, "spatial_ref", CELL_IDS, INTERNAL_GROUP, OVERVIEWS)
    if not NAME.fullmatch(name) or name in own:
        raise ValueError(f"{name!r} cannot be a variable's name: it is taken, or not letters, digits, _ and -")
    for axis in doc.axes or ():
        if axis not in axes_values:
            raise ValueError(f".axes: unknown axis {axis!r}{nearest(axis, list(axes_values))}")
    axes = tuple(a for a in axes_values if doc.axes is None or a in doc.axes)
    dims = (*axes, *grid.spatial_dims)
    dtype = _dtype(doc.dtype)
    region = dict(zip(grid.spatial_dims, grid.region_shape, strict=True))
    sizes = {**{a: len(axes_values[a]) for a in axes}, **dict(zip(grid.spatial_dims, grid.spatial_shape, strict=True))}
    given = doc.chunks
    if given is None and isinstance(grid, HealpixGrid):
        given = region  # a chunk a region
    if given is None:
        raise ValueError(".chunks: is missing")
    chunks = _shape_of_chunks("chunks", given, dims, grid.spatial_dims)
    shards = None if doc.shards is None else _shape_of_chunks("shards", doc.shards, dims, grid.spatial_dims)
    _check_divides(chunks, shards, dims, region, sizes)
    fill_value = _fill_value(doc.fill_value, dtype)
    statistic = _statistic(doc, dtype, points, axes, axes_values)
    if doc.source is not None and isinstance(grid, HealpixGrid):
        raise ValueError(
            ".source: tiles are for grids of pixels: here variables are statistics of points (aggregate), or filled from Python"
        )
    source = None if doc.source is None else build_source(doc.source, axes, axes_values, base)
    if statistic is not None and points is not None:
        source = points.files
    else:
        points = None
    return Variable(
        name=name, dtype=dtype.name, fill_value=fill_value, axes=axes, dims=dims, chunks=chunks,
        shards=shards, compressor=_compressor(doc.compressor), attrs=doc.attrs, source=source,
        overviews=_overviews(doc.overviews, dtype), aggregate=statistic, points=points,
    )  # fmt: skip


def _statistic(
    doc: VariableDoc,
    dtype: np.dtype[Any],
    points: PointSource | None,
    axes: tuple[str, ...],
    axes_values: Mapping[str, tuple[AxisValue, ...]],
) -> Statistic | None:
    """The statistic of points that a variable holds; None for one that tiles or a function fill."""
    if doc.aggregate is None:
        return None
    if points is None:
        raise ValueError(".aggregate: there are no points: say where they are (points, beside variables)")
    if doc.source is not None:
        raise ValueError(".aggregate: is of points, and source of tiles: give one of the two")
    if axes != tuple(axes_values):
        raise ValueError(f".axes: a statistic of points has all axes of the cube ({', '.join(axes_values)})")
    try:
        statistic = parse_statistic(doc.aggregate)
    except ValueError as e:
        raise ValueError(f".aggregate: {e}") from None
    known = list(points.columns)
    for name in sorted(statistic.names):
        if name not in known:
            raise ValueError(
                f".aggregate: no column {name!r} among those of points{nearest(name, known)} (columns: {', '.join(known) or 'none'})"
            )
    if dtype.kind == "b":
        raise ValueError(".dtype: a statistic is a number, not bool")
    if statistic.kind == "count" and doc.fill_value != 0:
        raise ValueError(f".fill_value: no points are a count of 0: give 0, not {doc.fill_value!r}")
    if dtype.kind != "f" and statistic.is_real:
        raise ValueError(f".dtype: a {statistic.kind} is no whole number: give float32 or float64, not {dtype.name}")
    return statistic


def _overviews(given: str | None, dtype: np.dtype[Any]) -> str | None:
    if given is not None and given not in OVERVIEW_METHODS:
        raise ValueError(
            f".overviews: {given!r} is not known{nearest(given, list(OVERVIEW_METHODS))} (known: {', '.join(OVERVIEW_METHODS)})"
        )
    if given == "mean" and (dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize == 8)):
        raise ValueError(
            f".overviews: no mean is taken of {dtype.name}, which cannot hold it exactly: mode, min, max or nearest can"
        )
    return given


def check_attrs(key: str, attrs: Mapping[str, Any], reserved: Callable[[str], bool]) -> None:
    for name in attrs:
        if reserved(name):
            raise ValueError(
                f"{key}.{name}: is written by cubeingest itself: leave it out (cf_fill: true writes _FillValue)"
            )


def _dtype(name: str) -> np.dtype[Any]:
    code = re.fullmatch(r"[<>=|]?(u[1248]|i[1248]|f[248])", name) is not None
    if not code and name not in _DTYPES:
        raise ValueError(
            f".dtype: {name!r} is not a number type; write uint8, int16, float32, ...{nearest(name, list(_DTYPES))}"
        )
    return np.dtype(name).newbyteorder("=")


def _fill_value(value: Any, dtype: np.dtype[Any]) -> float | int | bool:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\.?(nan|inf|infinity)", value.lower()):
        value = float(value.lower().replace(".", ""))
    if not isinstance(value, int | float):
        raise ValueError(f".fill_value: {value!r} is not a number")
    if dtype.kind == "f":
        try:
            with np.errstate(over="ignore"):
                kept = float(dtype.type(value))
        except OverflowError:
            kept = math.inf
        if math.isinf(kept) and not (isinstance(value, float) and math.isinf(value)):
            raise ValueError(f".fill_value: {value!r} does not fit dtype {dtype.name}")
        return kept
    low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    whole = isinstance(value, int) or (math.isfinite(value) and value == int(value))
    if not whole or not low <= value <= high:
        allowed = "true or false" if dtype.kind == "b" else f"a whole number from {low} to {high}"
        raise ValueError(f".fill_value: {plain(value)!r} does not fit dtype {dtype.name}: give {allowed}")
    return bool(value) if dtype.kind == "b" else int(value)


def _shape_of_chunks(
    key: str, given: Mapping[str, int], dims: tuple[str, ...], spatial: tuple[str, ...]
) -> tuple[int, ...]:
    """One length a dimension; y and x may be called so whatever the dimensions' names, and an axis defaults to 1."""
    spelt = {
        dict(zip(("y", "x"), spatial, strict=False)).get(k, k) if len(spatial) == 2 else k: v for k, v in given.items()
    }
    for dim in spelt:
        if dim not in dims:
            raise ValueError(
                f".{key}: unknown dimension {dim!r}{nearest(dim, list(dims))} (dimensions: {', '.join(dims)})"
            )
    for dim in spatial:
        if dim not in spelt:
            raise ValueError(f".{key}.{dim}: is missing")
    return tuple(spelt[dim] if dim in spatial else spelt.get(dim, 1) for dim in dims)


def _check_divides(
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    dims: tuple[str, ...],
    region: Mapping[str, int],
    sizes: Mapping[str, int],
) -> None:
    """A region owns its chunks: chunk | shard | region, except where one region spans the whole array."""
    for i, dim in enumerate(dims):
        if shards and shards[i] % chunks[i]:
            raise ValueError(f".shards.{dim}: {shards[i]} is not a multiple of the chunk {chunks[i]}")
        if dim not in region:
            continue
        kind, size = ("shards", shards[i]) if shards else ("chunks", chunks[i])
        if region[dim] % size and region[dim] < sizes[dim]:
            near = [d for d in range(1, region[dim] + 1) if region[dim] % d == 0]
            best = sorted(near, key=lambda d, size=size: abs(d - size))[:3]  # type: ignore[misc]
            raise ValueError(
                f".{kind}.{dim}: {size} does not divide the region's {region[dim]} {'cells' if dim == CELLS else 'pixels'}, so two regions would share a "
                f"chunk; {', '.join(map(str, sorted(best)))} would"
            )


def _compressor(given: Any) -> Mapping[str, Any] | None:
    if given is None:
        given = _DEFAULT_COMPRESSOR
    if given == "none":
        return None
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise ValueError(f".compressor: write {{name: zstd, level: 3}} or none; got {given!r}")
    build_codec(given)
    return dict(given)


def build_codec(compressor: Mapping[str, Any]) -> Any:
    """The Zarr v3 codec of a spec's ``compressor``. Raises :class:`ValueError` for one that Zarr does not have."""
    from zarr.abc.codec import BytesBytesCodec
    from zarr.errors import BaseZarrError
    from zarr.registry import get_codec_class

    name = compressor["name"]
    options = {k: v for k, v in compressor.items() if k != "name"}
    try:
        codec_class = get_codec_class(name)
        if not issubclass(codec_class, BytesBytesCodec):
            raise ValueError(f"{name!r} does not compress")
        return codec_class.from_dict({"name": name, "configuration": options})
    except (KeyError, TypeError, ValueError, BaseZarrError) as e:
        known = "zstd, blosc, gzip"
        raise ValueError(f".compressor: Zarr v3 has no codec {dict(compressor)!r} ({known} are common): {e}") from None
