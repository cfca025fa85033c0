"""From plain data to a :class:`CubeSpec`: every rule that ties one key to another."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from cubeingest.axes import Axis, AxisValue
from cubeingest.errors import GridError, SpecError, nearest
from cubeingest.grid import CELLS, Grid, HealpixGrid, TilingGrid
from cubeingest.spec.document import CubeDoc, HealpixCubeDoc, TilingCubeDoc, VariableDoc
from cubeingest.spec.model import (
    CELL_IDS,
    INTERNAL_GROUP,
    OVERVIEW_METHODS,
    OVERVIEWS,
    CubeSpec,
    PointSource,
    Variable,
    plain,
)
from cubeingest.spec.points import build_points
from cubeingest.spec.source import build_source, build_storage, resolve
from cubeingest.statistic import Statistic, parse_statistic
from cubeingest.storage import Storage, split_uri

_RESERVED = """
after at bandwidth bbox branch chunks commit-every compare concurrency crs debug deep discard dry-run expire geobox headers help html json keep kind latency limit message mode
levels name no-headers older-than on-error on-progress out output overwrite part polygon query redo region resampling sample scheduler snapshot source
spatial-ref store to update variable version virtual workers copy-blocks format gti tile
after before by-class classes expr from in-layer into lat lon make-valid over points statistics stats zones zones-variable
"""
RESERVED_AXIS_NAMES = frozenset(_RESERVED.split())
"""Names that the command line uses as options, or the Python API as keywords, so that ``--<axis> VALUE`` and ``axis=value``
are never ambiguous. Written with hyphens."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
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


def spec_from_document(document: Mapping[str, Any], base: str, where: str = "spec") -> CubeSpec:
    """Validate plain data (as YAML or JSON give it). ``base`` is what relative paths start from.

    Raises :class:`SpecError`, which names every key that is wrong.
    """
    try:
        doc = _kind_of(document, where).model_validate(document)
    except ValidationError as e:
        raise SpecError("\n".join(f"{where}: {_explain(error)}" for error in e.errors())) from None
    problems = _Problems(where)
    with problems.at("crs"):
        _check_crs(doc.crs)
    axes_values: dict[str, tuple[AxisValue, ...]] = {}
    dims = (doc.grid.dims.y, doc.grid.dims.x) if isinstance(doc, TilingCubeDoc) else (CELLS, CELL_IDS)
    for name, axis in doc.axes.items():
        with problems.at(f"axes.{name}"):
            _check_axis_name(name, dims)
            axes_values[name] = axis.labels()
    with problems.at("attrs"):
        _check_attrs(
            "",
            doc.attrs,
            lambda a: a in ("zarr_conventions", "multiscales", "dggs") or a.startswith(("proj:", "spatial:")),
        )
    problems.stop()
    with problems.at("grid"):
        bare = _grid(doc)
    problems.stop()
    points = None
    if doc.points is not None:
        with problems.at("points"):
            points = build_points(doc.points, doc.name, axes_values, base)
    problems.stop()
    variables = []
    if not doc.variables:
        raise SpecError(f"{where}: variables: name at least one")
    for name, variable in doc.variables.items():
        with problems.at(f"variables.{name}"):
            variables.append(_variable(name, variable, bare, points, axes_values, base))
    problems.stop()
    blocks = {a: math.lcm(*(v.write_shape[v.dims.index(a)] for v in variables if a in v.axes), 1) for a in axes_values}
    grid = replace(bare, axes=tuple(Axis(n, v, min(blocks[n], len(v))) for n, v in axes_values.items()))
    with problems.at("store"):
        store = _store(doc, base)
    problems.stop()
    with problems.at("valid"):
        valid = _valid(doc, base)
    problems.stop()
    spec = CubeSpec(
        doc.name, grid, tuple(variables), doc.attrs, store, doc.cf_fill, base, _resolved(document, grid), valid
    )
    for v in variables:
        if v.aggregate is None and isinstance(grid, TilingGrid):
            with problems.at(f"variables.{v.name}.source"):
                spec.tile_grid(v)
    problems.stop()
    return spec


def _kind_of(document: Mapping[str, Any], where: str) -> type[TilingCubeDoc | HealpixCubeDoc]:
    grid = document.get("grid") if isinstance(document, Mapping) else None
    kind = grid.get("type", "tiling") if isinstance(grid, Mapping) else "tiling"
    if kind not in ("healpix", "tiling"):
        raise SpecError(f"{where}: grid.type: must be healpix, or left out for a grid of pixels; got {kind!r}")
    return HealpixCubeDoc if kind == "healpix" else TilingCubeDoc


def _resolved(document: Mapping[str, Any], grid: Grid) -> Mapping[str, Any]:
    """A document as it is kept in the cube: a layout of some regions lists them, so that no other version of a library finds others."""
    if not isinstance(grid, HealpixGrid) or grid.parents is None:
        return document
    return {**document, "grid": {**document["grid"], "regions": {"ids": list(grid.parents)}}}


def _store(doc: CubeDoc, base: str) -> str | None:
    """The store's path or URI, with its options as the query."""
    if doc.store is None:
        return None
    store = resolve(doc.store, base)
    if "://" not in store:
        if doc.storage is not None:
            raise ValueError("storage is for an object store (s3://, gs://, az://)")
        return store
    if "@" in store.partition("://")[2].partition("/")[0]:
        raise ValueError("leave user and password out of it (the spec is kept in the cube): use the environment")
    given, options = split_uri(store)
    if doc.storage is None:
        return given + options.query
    if options != Storage():
        raise ValueError("give its options in storage or as a query, not both")
    return given + build_storage(doc.storage).query


def _valid(doc: CubeDoc, base: str) -> tuple[Literal["geojson", "raster", "list"], str] | None:
    if doc.valid is None:
        return None
    kinds: tuple[Literal["geojson", "raster", "list"], ...] = ("geojson", "raster", "list")
    given = [(kind, uri) for kind in kinds if (uri := getattr(doc.valid, kind)) is not None]
    if len(given) != 1:
        raise ValueError("give one of geojson, raster or list")
    return given[0][0], resolve(given[0][1], base)


class _Problems:
    """Collects the errors of several keys, so that one run names them all."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.found: list[str] = []

    def at(self, key: str) -> _Problems:
        self.key = key
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, ValueError | GridError):
            joint = "" if str(error).startswith(".") else ": "
            self.found.append(f"{self.where}: {self.key}{joint}{error}")
            return True
        return False

    def stop(self) -> None:
        if self.found:
            raise SpecError("\n".join(self.found))


def _explain(error: Any) -> str:
    path = ".".join(str(p) for p in error["loc"] if p != "[key]") or "spec"
    kind, message, value = error["type"], error["msg"], error["input"]
    if kind == "missing":
        return f"{path}: is missing"
    if kind == "value_error":
        return f"{path}: {message.removeprefix('Value error, ')}"
    expected = message.replace("Input should be", "must be")
    return f"{path}: {expected}; got {value!r}"


def _check_crs(crs: str | int) -> None:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        CRS.from_user_input(crs)
    except CRSError:
        raise ValueError(f"{crs!r} is not a CRS: write an authority code such as EPSG:4326, or WKT") from None


def _check_axis_name(name: str, dims: tuple[str, str]) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError("an axis name is letters, digits, _ and -, starting with a letter")
    if name.replace("_", "-") in RESERVED_AXIS_NAMES or name in (INTERNAL_GROUP, OVERVIEWS):
        raise ValueError(f"{name!r} is the name of an option or keyword: choose another name for the axis")
    if name in (*dims, "y", "x", "id"):
        raise ValueError(f"{name!r} is already the name of a spatial dimension or of the region id")


def _grid(doc: TilingCubeDoc | HealpixCubeDoc) -> TilingGrid | HealpixGrid:
    """The grid, without its axes."""
    if isinstance(doc, HealpixCubeDoc):
        return _healpix_grid(doc)
    g = doc.grid
    for dim in (g.dims.y, g.dims.x):
        if dim in ("spatial_ref", INTERNAL_GROUP, OVERVIEWS):
            raise ValueError(f".dims: {dim!r} is a name that the cube needs itself")
    if g.dims.y == g.dims.x or not all(_NAME.fullmatch(d) for d in (g.dims.y, g.dims.x)):
        raise ValueError(f".dims: y {g.dims.y!r} and x {g.dims.x!r} must be two different names")
    crs = doc.crs if isinstance(doc.crs, str) else f"EPSG:{doc.crs}"
    return TilingGrid(
        crs, g.origin.x, g.origin.y, g.resolution.x, g.resolution.y,
        (g.shape.y, g.shape.x), (g.region.y, g.region.x), g.id, (g.dims.y, g.dims.x),
    )  # fmt: skip


def _healpix_grid(doc: HealpixCubeDoc) -> HealpixGrid:
    g = doc.grid
    if doc.crs not in ("EPSG:4326", 4326):
        raise ValueError(
            f"cells of HEALPix lie on longitudes and latitudes, crs EPSG:4326, which is the default; got crs {doc.crs!r}"
        )
    whole = HealpixGrid(g.order, g.region_order, g.ellipsoid)
    if g.regions is None:
        return whole
    if (g.regions.ids is None) == (g.regions.bbox is None):
        raise ValueError(".regions: give ids or bbox")
    if g.regions.ids is not None:
        return replace(whole, parents=tuple(g.regions.ids))
    if len(g.regions.bbox or ()) != 4:
        raise ValueError(f".regions.bbox: write [west, south, east, north]; got {g.regions.bbox!r}")
    west, south, east, north = (float(v) for v in g.regions.bbox or ())
    found = whole.get_chunks_for_bbox((west, south, east, north))
    return replace(whole, parents=tuple(ix for _, ix in found))


def _variable(
    name: str,
    doc: VariableDoc,
    grid: TilingGrid | HealpixGrid,
    points: PointSource | None,
    axes_values: Mapping[str, tuple[AxisValue, ...]],
    base: str,
) -> Variable:
    _check_attrs(".attrs", doc.attrs, {"_FillValue", "grid_mapping", "coordinates"}.__contains__)
    own = (*grid.spatial_dims, *axes_values, "spatial_ref", CELL_IDS, INTERNAL_GROUP, OVERVIEWS)
    if not _NAME.fullmatch(name) or name in own:
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


def _check_attrs(key: str, attrs: Mapping[str, Any], reserved: Callable[[str], bool]) -> None:
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
