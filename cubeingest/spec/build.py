"""From plain data to a :class:`CubeSpec`: every rule that ties one key to another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import ValidationError

from cubeingest.axes import Axis, AxisValue
from cubeingest.errors import GridError, SpecError
from cubeingest.grid import CELLS, Grid, HealpixGrid, TilingGrid
from cubeingest.spec.document import CubeDoc, HealpixCubeDoc, TilingCubeDoc
from cubeingest.spec.model import (
    CELL_IDS,
    INTERNAL_GROUP,
    OVERVIEWS,
    CubeSpec,
)
from cubeingest.spec.points import build_points
from cubeingest.spec.source import build_storage, resolve
from cubeingest.spec.variable import NAME, build_variable, check_attrs
from cubeingest.storage import Storage, split_uri

_RESERVED = """
after at bandwidth bbox before branch by-class chunks classes commit-every compare concurrency copy-blocks crs debug
deep discard dry-run expire expr format from geobox gti headers help host html in-layer into json keep kind lat latency
levels limit lon make-valid message mode name no-browser no-headers older-than on-error on-progress out output over overwrite part
points polygon port query redo region resampling sample scheduler snapshot source spatial-ref statistics stats store tile to
update variable version virtual workers zones zones-variable
"""
RESERVED_AXIS_NAMES = frozenset(_RESERVED.split())
"""Names that the command line uses as options, or the Python API as keywords, so that ``--<axis> VALUE`` and ``axis=value``
are never ambiguous. Written with hyphens."""


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
            _check_axis_name(name, dims, axes_values)
            axes_values[name] = axis.labels()
    with problems.at("attrs"):
        check_attrs(
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
            variables.append(build_variable(name, variable, bare, points, axes_values, base))
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


def _check_axis_name(name: str, dims: tuple[str, str], others: Iterable[str]) -> None:
    if not NAME.fullmatch(name):
        raise ValueError("an axis name is letters, digits, _ and -, starting with a letter")
    if name.replace("_", "-") in RESERVED_AXIS_NAMES or name in (INTERNAL_GROUP, OVERVIEWS):
        raise ValueError(f"{name!r} is the name of an option or keyword: choose another name for the axis")
    if name in (*dims, "y", "x", "id"):
        raise ValueError(f"{name!r} is already the name of a spatial dimension or of the region id")
    for other in others:
        if other.replace("-", "_") == name.replace("-", "_"):
            raise ValueError(
                f"{name!r} and {other!r} would be one keyword in Python: choose another name for one of them"
            )


def _grid(doc: TilingCubeDoc | HealpixCubeDoc) -> TilingGrid | HealpixGrid:
    """The grid, without its axes."""
    if isinstance(doc, HealpixCubeDoc):
        return _healpix_grid(doc)
    g = doc.grid
    for dim in (g.dims.y, g.dims.x):
        if dim in ("spatial_ref", INTERNAL_GROUP, OVERVIEWS):
            raise ValueError(f".dims: {dim!r} is a name that the cube needs itself")
    if g.dims.y == g.dims.x or not all(NAME.fullmatch(d) for d in (g.dims.y, g.dims.x)):
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
