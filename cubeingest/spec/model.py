"""What a spec declares, as frozen values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from string import Formatter
from typing import Any, Literal

import numpy as np

from cubeingest.axes import Axis
from cubeingest.errors import GridError, nearest
from cubeingest.expressions import Expression
from cubeingest.grid import Grid, HealpixGrid, TilingGrid
from cubeingest.statistic import Statistic
from cubeingest.storage import Storage

OVERVIEWS = "overviews"
"""The group of a cube that holds coarser levels of it; no variable or axis may take its name either."""

OVERVIEW_METHODS = ("mode", "mean", "min", "max", "nearest", "none")
"""How the overviews of a variable may be made, as the spec says it; ``none``: it has none."""

CELL_IDS = "cell_ids"
"""The coordinate that holds ids of HEALPix cells, where the cube does not hold those of the whole globe."""

CLASS_ATTRS = ("flag_values", "flag_meanings", "flag_masks", "flag_colors", "color_table", "colors")
"""Attributes of a variable whose values are classes: between two of them lies nothing."""

COMPUTED_ATTR = "cubeingest_compute"
"""Attribute of a variable that `compute` made: from what, how, and from which snapshot."""

INTERNAL_GROUP = "cubeingest"
"""The group of a cube that holds its spec, catalog and ledger; no variable or axis may take its name."""


@dataclass(frozen=True)
class Source:
    """Where the tiles of one variable are. Hrefs and URIs are absolute.

    ``href`` is a pattern by the label of ``href_axis`` where patterns differ by axis value, else ``{"": pattern}``;
    empty if the tiles are only listed. ``nodata`` is a number, ``"none"``, or ``"file"`` (what the tile says). ``storage`` says how
    the object store that holds them is reached. ``overlap_yx`` are the pixels by which each tile reaches past its cell, at the
    higher index. ``resampling`` is the name of a kernel, for tiles off the lattice; ``array`` the variable within a netCDF, HDF5
    or Zarr source.
    """

    href: Mapping[str, str]
    href_axis: str | None = None
    tiles: tuple[Literal["list", "glob", "table"], str] | None = None
    band: int | None = None
    bands_axis: str | None = None
    nodata: float | int | str = "file"
    missing: Literal["fail", "absent"] = "fail"
    tile_shape_yx: tuple[int, int] | None = None
    id_template: str | None = None
    overlap_yx: tuple[int, int] = (0, 0)
    resampling: str | None = None
    array: str | None = None
    storage: Storage = field(default_factory=Storage)

    @property
    def names_regions(self) -> bool:
        """Whether hrefs are made from region (or tile) ids; else a tile's header, or a table, says where it lies."""
        return any("id" in fields_of(p) for p in self.href.values())

    def pattern(self, labels: Mapping[str, str]) -> str | None:
        """The href pattern for a set of axis labels, or None."""
        return self.href.get(labels[self.href_axis] if self.href_axis else "")

    @property
    def named_axes(self) -> set[str]:
        """Axes whose value a pattern or a list's name tells."""
        uris = () if self.tiles is None else (self.tiles[1],)
        named = set().union(*(fields_of(p) for p in (*self.href.values(), *uris))) - {"id"}
        return named | ({self.href_axis} if self.href_axis else set())


@dataclass(frozen=True)
class PointSource:
    """Where the points are that a cube's statistics are of, and how they are read. ``files`` names the granules that hold them, as a source
    names its tiles; None if a function gives them.

    ``x`` and ``y``, in ``crs``, and ``columns``, by the names that expressions call them, are columns of a table or datasets of a file; these lie in each of
    ``groups``, where there are any. Points for which ``filter`` is not true are left out. ``catalog`` is the file that keeps which granule
    has points in which region; None if nothing is kept.
    """

    files: Source | None
    x: str
    y: str
    crs: str
    columns: Mapping[str, str]
    filter: Expression | None
    groups: tuple[str, ...]
    catalog: str | None

    @property
    def storage(self) -> Storage:
        return Storage() if self.files is None else self.files.storage

    @property
    def placing(self) -> str:
        """All that decides where points lie, as text."""
        return json.dumps({"x": self.x, "y": self.y, "crs": self.crs, "groups": list(self.groups)})

    @property
    def plain(self) -> dict[str, Any]:
        """All but the files, as plain data."""
        text = None if self.filter is None else self.filter.text
        return {**json.loads(self.placing), "columns": dict(self.columns), "filter": text, "catalog": self.catalog}

    def reading_of(self, statistic: Statistic) -> str:
        """All that decides what a statistic is, as kept in the records of its slots."""
        own = {
            name: self.columns.get(name, name)
            for name in sorted(statistic.names | (self.filter.names if self.filter else frozenset()))
        }
        kept = {"columns": own} | ({"filter": self.filter.text} if self.filter else {})
        return f"{statistic.text}; {self.placing[1:-1]}; {json.dumps(kept)[1:-1]}"


@dataclass(frozen=True)
class Variable:
    """One array of the cube. ``dims`` are its axes followed by the spatial ones (y and x, or cells); shapes are in that order. ``aggregate`` is the statistic
    of ``points`` that it holds, whose granules are its ``source`` then. ``overviews`` is how they are made, if the spec says it.
    """

    name: str
    dtype: str
    fill_value: float | int | bool
    axes: tuple[str, ...]
    dims: tuple[str, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    compressor: Mapping[str, Any] | None
    attrs: Mapping[str, Any]
    source: Source | None
    overviews: str | None = None
    aggregate: Statistic | None = None
    points: PointSource | None = None

    @property
    def write_shape(self) -> tuple[int, ...]:
        """Shape of what is written as one object: the shard, or the chunk where there are none."""
        return self.shards or self.chunks

    @property
    def chunk_yx(self) -> tuple[int, int]:
        """Rows and columns of a chunk; cells of HEALPix are one row."""
        y, x = (1, *self.chunks[len(self.axes) :])[-2:]
        return y, x

    @property
    def np_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)

    @property
    def np_fill(self) -> np.generic:
        """The fill value as a scalar of the variable's dtype."""
        scalar: np.generic = self.np_dtype.type(self.fill_value)
        return scalar


@dataclass(frozen=True)
class CubeSpec:
    """A validated spec. ``document`` is the YAML as plain data, ``base`` the folder that relative paths start from.

    ``store`` is a path, or a URI with the options of its object store as the query. ``valid_source`` says what restricts the grid;
    ``valid`` are the regions that it leaves, as computed when the cube was made, or None if it restricts nothing.
    """

    name: str
    grid: Grid
    variables: tuple[Variable, ...]
    attrs: Mapping[str, Any]
    store: str | None
    cf_fill: bool
    base: str
    document: Mapping[str, Any]
    valid_source: tuple[Literal["geojson", "raster", "list"], str] | None = None
    valid: frozenset[tuple[int, int]] | None = None

    @property
    def points(self) -> PointSource | None:
        """The points that variables are statistics of, if any are."""
        return next((v.points for v in self.variables if v.points is not None), None)

    @property
    def tiling(self) -> TilingGrid:
        """The grid, which must be one of pixels. Raises :class:`GridError` for what is for pixels only."""
        if not isinstance(self.grid, TilingGrid):
            raise GridError("the cube's cells are of HEALPix: this is for grids of pixels only")
        return self.grid

    @property
    def healpix(self) -> HealpixGrid | None:
        """The grid, if it is one of HEALPix cells."""
        return self.grid if isinstance(self.grid, HealpixGrid) else None

    def variable(self, name: str) -> Variable:
        """The variable called ``name``. Raises :class:`GridError` if there is none."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        known = [v.name for v in self.variables]
        raise GridError(f"the cube has no variable {name!r}{nearest(name, known)} (variables: {', '.join(known)})")

    def axes_of(self, variable: Variable) -> tuple[Axis, ...]:
        """The axes of a variable, in order."""
        return tuple(self.grid.axis(name) for name in variable.axes)

    def slot_shape(self, variable: Variable) -> tuple[int, ...]:
        """Axis blocks, then region rows and columns: the shape of one variable's part of the ledger."""
        return (*(axis.n_blocks for axis in self.axes_of(variable)), *self.grid.lattice_shape_yx)

    def shape_of(self, variable: Variable) -> tuple[int, ...]:
        """The shape of a variable's array: (axes..., y, x), or (axes..., cells)."""
        return (*(axis.size for axis in self.axes_of(variable)), *self.grid.spatial_shape)

    def tile_grid(self, variable: Variable) -> TilingGrid:
        """The lattice that the variable's tiles are named by: the grid itself, or its own with ``source.tile``."""
        source = variable.source
        if source is None or (source.tile_shape_yx is None and source.id_template is None):
            return self.tiling
        return replace(
            self.tiling,
            region_shape_yx=source.tile_shape_yx or self.tiling.region_shape_yx,
            id_template=source.id_template or self.tiling.id_template,
        )

    @cached_property
    def layout(self) -> dict[str, Any]:
        """What a cube cannot change once it exists, as plain data."""
        grid = self.grid
        return {
            "crs": grid.crs,
            "grid": grid.layout,
            "axes": {axis.name: {"values": list(axis.labels), "block": axis.block} for axis in grid.axes},
            "variables": {
                v.name: {
                    "dtype": v.dtype,
                    "fill_value": plain(v.fill_value),
                    "dims": list(v.dims),
                    "chunks": list(v.chunks),
                    "shards": list(v.shards) if v.shards else None,
                    "compressor": dict(v.compressor) if v.compressor else None,
                }
                for v in self.variables
            },
            "cf_fill": self.cf_fill,
        }

    def to_json(self) -> str:
        """The document and its base, as kept in the cube; :func:`spec_from_json` reads it back."""
        return json.dumps({"base": self.base, "document": self.document}, allow_nan=False)


def storage_of(variable: Variable) -> Storage:
    """How the object store of a variable's tiles is reached."""
    return Storage() if variable.source is None else variable.source.storage


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``key.path: old -> new`` for every leaf in which two plain mappings differ."""
    out = []
    for key in [*old, *(k for k in new if k not in old)]:
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            out.append(f"{prefix}{key}: {_short(a)} -> {_short(b)}")
    return out


def _short(value: object) -> str:
    text = "absent" if value is None else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def fields_of(pattern: str) -> set[str]:
    """Names of the fields of an href pattern."""
    return {name for _, name, _, _ in Formatter().parse(pattern) if name is not None}


def plain(value: Any, key: str = "") -> Any:
    """YAML values as JSON can keep them: dates and non-finite numbers become text.

    Raises :class:`ValueError`, which names the key, for what cannot be kept.
    """
    if isinstance(value, Mapping):
        texts = {k: k.isoformat() if isinstance(k, date) else str(k) for k in value}
        return {texts[k]: plain(v, f"{key}.{texts[k]}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, key) for v in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, np.generic):
        return plain(value.item(), key)
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(
        f"{key or 'a value'} is {type(value).__name__}, which a cube cannot keep: write text, numbers, lists or mappings"
    )
