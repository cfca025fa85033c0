"""From YAML to a :class:`CubeSpec`: everything that is declared about a cube, checked once.

The only home of YAML and pydantic. The models whose names start with an underscore mirror the file, key by key;
what leaves this module are plain frozen values.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from cubeingest.errors import GridError, SpecError, nearest
from cubeingest.grid import Axis, AxisValue, TilingGrid, to_fraction

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

INTERNAL_GROUP = "cubeingest"
"""The group of a cube that holds its spec, catalog and ledger; no variable or axis may take its name."""

RESERVED_AXIS_NAMES = frozenset(
    [
        "at",
        "bbox",
        "branch",
        "commit-every",
        "crs",
        "debug",
        "help",
        "html",
        "json",
        "keep",
        "kind",
        "limit",
        "mode",
        "name",
        "on-error",
        "out",
        "output",
        "overwrite",
        "part",
        "redo",
        "region",
        "resampling",
        "sample",
        "scheduler",
        "spatial_ref",
        "store",
        "to",
        "update",
        "variable",
        "version",
        "workers",
    ]
)
"""Names that the command line uses as options, so that ``--<axis> VALUE`` is never ambiguous."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_DEFAULT_COMPRESSOR = {"name": "zstd", "level": 3}
"""Level 3 is zstd's own default: level 1 is a fifth faster and a twentieth larger on class rasters."""


@dataclass(frozen=True)
class Source:
    """Where the tiles of one variable are. Hrefs and URIs are absolute.

    ``href`` is a pattern by the label of ``href_axis`` where patterns differ by axis value, else ``{"": pattern}``;
    empty if the tiles are only listed. ``nodata`` is a number, ``"none"``, or ``"file"`` (what the tile says).
    """

    href: Mapping[str, str]
    href_axis: str | None = None
    tiles: tuple[Literal["list", "glob", "table"], str] | None = None
    band: int | None = None
    bands_axis: str | None = None
    nodata: float | str = "file"
    missing: Literal["fail", "absent"] = "fail"
    tile_shape_yx: tuple[int, int] | None = None
    id_template: str | None = None

    @property
    def names_regions(self) -> bool:
        """Whether hrefs are made from region (or tile) ids; else a tile's header, or a table, says where it lies."""
        return any("id" in _fields(p) for p in self.href.values())

    def pattern(self, labels: Mapping[str, str]) -> str | None:
        """The href pattern for a set of axis labels, or None."""
        return self.href.get(labels[self.href_axis] if self.href_axis else "")


@dataclass(frozen=True)
class Variable:
    """One array of the cube. ``dims`` are its axes followed by y and x; shapes are in that order."""

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

    @property
    def write_shape(self) -> tuple[int, ...]:
        """Shape of what is written as one object: the shard, or the chunk where there are none."""
        return self.shards or self.chunks

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
    """A validated spec. ``document`` is the YAML as plain data, ``base`` the folder that relative paths start from."""

    name: str
    grid: TilingGrid
    variables: tuple[Variable, ...]
    attrs: Mapping[str, Any]
    store: str | None
    cf_fill: bool
    base: str
    document: Mapping[str, Any]

    def variable(self, name: str) -> Variable:
        """The variable called ``name``. Raises :class:`GridError` if there is none."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        known = [v.name for v in self.variables]
        raise GridError(f"the cube has no variable {name!r}{nearest(name, known)} (variables: {', '.join(known)})")

    def axes_of(self, variable: Variable) -> tuple[Axis, ...]:
        return tuple(self.grid.axis(name) for name in variable.axes)

    def slot_shape(self, variable: Variable) -> tuple[int, ...]:
        """Axis blocks, then region rows and columns: the shape of one variable's part of the ledger."""
        return (*(axis.n_blocks for axis in self.axes_of(variable)), *self.grid.lattice_shape_yx)

    def shape_of(self, variable: Variable) -> tuple[int, ...]:
        return (*(axis.size for axis in self.axes_of(variable)), *self.grid.shape_yx)

    def tile_grid(self, variable: Variable) -> TilingGrid:
        """The lattice that the variable's tiles are named by: the grid itself, or its own with ``source.tile``."""
        source = variable.source
        if source is None or (source.tile_shape_yx is None and source.id_template is None):
            return self.grid
        return replace(
            self.grid,
            region_shape_yx=source.tile_shape_yx or self.grid.region_shape_yx,
            id_template=source.id_template or self.grid.id_template,
        )

    @cached_property
    def layout(self) -> dict[str, Any]:
        """What a cube cannot change once it exists, as plain data."""
        grid = self.grid
        return {
            "crs": grid.crs,
            "grid": {
                "origin": {"x": str(grid.origin_x), "y": str(grid.origin_y)},
                "resolution": {"x": str(grid.resolution_x), "y": str(grid.resolution_y)},
                "shape": dict(zip("yx", grid.shape_yx, strict=True)),
                "region": dict(zip("yx", grid.region_shape_yx, strict=True)),
                "id": grid.id_template,
                "dims": dict(zip("yx", grid.dims_yx, strict=True)),
            },
            "axes": {axis.name: {"values": list(axis.labels), "block": axis.block} for axis in grid.axes},
            "variables": {
                v.name: {
                    "dtype": v.dtype,
                    "fill_value": _plain(v.fill_value),
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


# ---- reading --------------------------------------------------------------------------------------------------


def read_spec(path: str | os.PathLike[str]) -> CubeSpec:
    """Read a spec from a YAML file, a URL, or by the name of one that comes with the package (``glad-lclu``).

    Raises :class:`SpecError` naming the file, the key and what to do.
    """
    where = os.fspath(path)
    if "://" in where:
        import fsspec

        try:
            with fsspec.open(where, "rt", encoding="utf-8") as f:
                text = f.read()
        except (OSError, ValueError, ImportError) as e:
            raise SpecError(f"cannot read spec {where!r}: {e}") from e
        return _parse(text, where, where.rsplit("/", 1)[0])
    file = Path(where)
    if file.is_file():
        return _parse(_read_text(file), where, str(file.resolve().parent))
    builtin = builtin_specs()
    if where in builtin:
        return _parse(builtin[where].read_text(encoding="utf-8"), where, str(Path.cwd()))
    if file.is_dir():
        raise SpecError(f"{where!r} is a folder: name the YAML file in it")
    raise SpecError(
        f"no spec file {where!r}{nearest(where, list(builtin))} (specs that come with cubeingest: {', '.join(sorted(builtin))})"
    )


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise SpecError(f"cannot read spec {str(file)!r}: {e}") from e


def builtin_specs() -> dict[str, Traversable]:
    """The specs that come with the package, by name."""
    from importlib.resources import files

    package = files("cubeingest")
    for folder in (package / "grids", Path(str(package)).parent / "grids"):
        if folder.is_dir():
            return {f.name.removesuffix(".yaml"): f for f in folder.iterdir() if f.name.endswith(".yaml")}
    return {}


def spec_from_json(text: str) -> CubeSpec:
    """The spec that a cube holds. Raises :class:`SpecError` if this version cannot read it."""
    try:
        kept = json.loads(text)
        document, base = kept["document"], kept["base"]
    except (ValueError, KeyError, TypeError) as e:
        raise SpecError(
            f"the spec in the cube is damaged ({type(e).__name__}): `cubeingest init --update` cannot mend it"
        ) from None
    return spec_from_document(document, base, "the spec in the cube")


def _parse(text: str, where: str, base: str) -> CubeSpec:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(e.problem or e.context).split())
        if "constructor" in problem:
            problem = f"{problem}: only plain YAML is read, tags are refused"
        raise SpecError(f"{where}{place}: {problem}") from None
    except (YAMLError, ValueError) as e:
        raise SpecError(f"{where}: not valid YAML: {' '.join(str(e).split())}") from None
    if not isinstance(document, dict):
        raise SpecError(
            f"{where}: a spec is a mapping with keys {', '.join(_CubeDoc.model_fields)}; got {type(document).__name__}"
        )
    return spec_from_document(_plain(document), base, where)


def _plain(value: Any) -> Any:
    """YAML values as JSON can keep them: dates and non-finite numbers become text."""
    if isinstance(value, Mapping):
        return {str(k) if not isinstance(k, date) else k.isoformat(): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, np.generic):
        return _plain(value.item())
    return value


# ---- the file, key by key -------------------------------------------------------------------------------------


class _Doc(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError(f"must be a mapping with keys {', '.join(cls.model_fields)}; got {data!r}")
        for key in data:
            if key not in cls.model_fields:
                known = list(cls.model_fields)
                raise ValueError(f"unknown key {key!r}{nearest(str(key), known)} (known: {', '.join(known)})")
        return data


def _exact(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Fraction):
        raise ValueError(f"must be a number or a fraction such as 1/4000; got {value!r}")
    try:
        return to_fraction(value)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"must be a number or a fraction such as 1/4000; got {value!r}") from None


_Number = Annotated[Fraction, BeforeValidator(_exact)]
_Size = Annotated[int, Field(gt=0)]


class _NumberXY(_Doc):
    x: _Number
    y: _Number


class _SizeYX(_Doc):
    y: _Size
    x: _Size


class _Dims(_Doc):
    y: str = "y"
    x: str = "x"


class _GridDoc(_Doc):
    origin: _NumberXY
    resolution: _NumberXY
    shape: _SizeYX
    region: _SizeYX
    id: str = "y{iy}_x{ix}"
    dims: _Dims = _Dims()


class _AxisDoc(_Doc):
    values: list[Any] | None = None
    start: Any = None
    stop: Any = None
    step: Any = None
    freq: str | None = None

    def labels(self) -> tuple[AxisValue, ...]:
        if self.values is not None:
            if (self.start, self.stop, self.step, self.freq) != (None, None, None, None):
                raise ValueError("give either values, or start and stop")
            values = tuple(_axis_value(v) for v in self.values)
        elif self.start is None or self.stop is None:
            raise ValueError("give values, or start and stop (stop included) with step or freq")
        elif self.freq is not None:
            values = _dates(self.start, self.stop, self.freq)
        else:
            values = _steps(self.start, self.stop, 1 if self.step is None else self.step)
        if not values:
            raise ValueError("has no values")
        if len({type(v) for v in values}) > 1:
            raise ValueError(f"has values of several types: {', '.join(sorted({type(v).__name__ for v in values}))}")
        twice = sorted({str(v) for v in values if values.count(v) > 1}) if len(set(values)) < len(values) else []
        if twice:
            raise ValueError(f"has duplicate values: {', '.join(twice)}")
        return values


def _axis_value(value: Any) -> AxisValue:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"values must be numbers, strings or dates; got {value!r}")
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}([T ].*)?", value):
        return _date(value)
    return value


def _date(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"must be a date such as 2000-01-31; got {value!r}") from None


def _dates(start: Any, stop: Any, freq: str) -> tuple[AxisValue, ...]:
    import pandas as pd

    try:
        found = pd.date_range(_date(start), _date(stop), freq=freq)
    except ValueError as e:
        raise ValueError(f"start {start!r}, stop {stop!r}, freq {freq!r}: {e}") from None
    return tuple(t.to_pydatetime() for t in found)


def _steps(start: Any, stop: Any, step: Any) -> tuple[AxisValue, ...]:
    a, b, by = _exact(start), _exact(stop), _exact(step)
    if by == 0 or (b - a) / by < 0 or ((b - a) / by).denominator != 1:
        raise ValueError(f"start {start!r} does not reach stop {stop!r} (which is included) in whole steps of {step!r}")
    whole = all(v.denominator == 1 for v in (a, by))
    values = (a + i * by for i in range(int((b - a) / by) + 1))
    return tuple(int(v) if whole else float(v) for v in values)


class _TilesDoc(_Doc):
    list: str | None = None
    glob: str | None = None
    table: str | None = None


class _BandsDoc(_Doc):
    axis: str


class _SourceDoc(_Doc):
    href: Any = None
    tiles: _TilesDoc | None = None
    file: str | None = None
    band: _Size | None = None
    bands: _BandsDoc | None = None
    nodata: Any = "file"
    missing: Literal["fail", "absent"] = "fail"
    tile: _SizeYX | None = None
    id: str | None = None


class _VariableDoc(_Doc):
    dtype: str
    fill_value: Any
    chunks: dict[str, _Size]
    shards: dict[str, _Size] | None = None
    axes: list[str] | None = None
    compressor: Any = None
    attrs: dict[str, Any] = {}
    source: _SourceDoc | None = None


class _CubeDoc(_Doc):
    name: str
    crs: str | int
    grid: _GridDoc
    axes: dict[str, _AxisDoc] = {}
    variables: dict[str, _VariableDoc]
    attrs: dict[str, Any] = {}
    store: str | None = None
    cf_fill: bool = False


def spec_from_document(document: Mapping[str, Any], base: str, where: str = "spec") -> CubeSpec:
    """Validate plain data (as YAML or JSON give it). ``base`` is what relative paths start from.

    Raises :class:`SpecError`, which names every key that is wrong.
    """
    try:
        doc = _CubeDoc.model_validate(document)
    except ValidationError as e:
        raise SpecError("\n".join(f"{where}: {_explain(error)}" for error in e.errors())) from None
    problems = _Problems(where)
    with problems.at("crs"):
        _check_crs(doc.crs)
    axes_values: dict[str, tuple[AxisValue, ...]] = {}
    for name, axis in doc.axes.items():
        with problems.at(f"axes.{name}"):
            _check_axis_name(name, doc.grid.dims)
            axes_values[name] = axis.labels()
    problems.stop()
    variables = []
    if not doc.variables:
        raise SpecError(f"{where}: variables: name at least one")
    for name, variable in doc.variables.items():
        with problems.at(f"variables.{name}"):
            variables.append(_variable(name, variable, doc, axes_values, base))
    problems.stop()
    blocks = {a: math.lcm(*(v.write_shape[v.dims.index(a)] for v in variables if a in v.axes), 1) for a in axes_values}
    with problems.at("grid"):
        grid = _grid(doc, tuple(Axis(n, v, min(blocks[n], len(v))) for n, v in axes_values.items()))
    problems.stop()
    store = None if doc.store is None else resolve(doc.store, base)
    spec = CubeSpec(doc.name, grid, tuple(variables), doc.attrs, store, doc.cf_fill, base, document)
    for v in variables:
        with problems.at(f"variables.{v.name}.source"):
            spec.tile_grid(v)
    problems.stop()
    return spec


def resolve(path: str, base: str) -> str:
    """An absolute path or URI: ``path`` itself if it is one, else below ``base``."""
    if "://" in path or os.path.isabs(path):
        return path
    path = os.path.expanduser(path)
    if os.path.isabs(path):
        return path
    if "://" in base:
        return base.rstrip("/") + "/" + path.removeprefix("./")
    return os.path.normpath(os.path.join(base, path))


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


def _check_axis_name(name: str, dims: _Dims) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError("an axis name is letters, digits, _ and -, starting with a letter")
    if name.replace("_", "-") in RESERVED_AXIS_NAMES or name == INTERNAL_GROUP:
        raise ValueError(f"{name!r} is the name of a command line option: choose another name for the axis")
    if name in (dims.y, dims.x, "y", "x", "id"):
        raise ValueError(f"{name!r} is already the name of a spatial dimension or of the region id")


def _grid(doc: _CubeDoc, axes: tuple[Axis, ...]) -> TilingGrid:
    g = doc.grid
    if g.dims.y == g.dims.x or not all(_NAME.fullmatch(d) for d in (g.dims.y, g.dims.x)):
        raise ValueError(f".dims: y {g.dims.y!r} and x {g.dims.x!r} must be two different names")
    crs = doc.crs if isinstance(doc.crs, str) else f"EPSG:{doc.crs}"
    return TilingGrid(
        crs, g.origin.x, g.origin.y, g.resolution.x, g.resolution.y,
        (g.shape.y, g.shape.x), (g.region.y, g.region.x), g.id, (g.dims.y, g.dims.x), axes,
    )  # fmt: skip


def _variable(
    name: str, doc: _VariableDoc, cube: _CubeDoc, axes_values: Mapping[str, tuple[AxisValue, ...]], base: str
) -> Variable:
    dims_yx = (cube.grid.dims.y, cube.grid.dims.x)
    if not _NAME.fullmatch(name) or name in (*dims_yx, *axes_values, "spatial_ref", INTERNAL_GROUP):
        raise ValueError(f"{name!r} cannot be a variable's name: it is taken, or not letters, digits, _ and -")
    for axis in doc.axes or ():
        if axis not in axes_values:
            raise ValueError(f".axes: unknown axis {axis!r}{nearest(axis, list(axes_values))}")
    axes = tuple(a for a in axes_values if doc.axes is None or a in doc.axes)
    dims = (*axes, *dims_yx)
    dtype = _dtype(doc.dtype)
    sizes = {**{a: len(axes_values[a]) for a in axes}, **dict(zip(dims_yx, _yx(cube.grid.shape), strict=True))}
    chunks = _shape_of_chunks("chunks", doc.chunks, dims, axes)
    shards = None if doc.shards is None else _shape_of_chunks("shards", doc.shards, dims, axes)
    _check_divides(chunks, shards, dims, dict(zip(dims_yx, _yx(cube.grid.region), strict=True)), sizes)
    return Variable(
        name=name, dtype=dtype.name, fill_value=_fill_value(doc.fill_value, dtype), axes=axes, dims=dims, chunks=chunks,
        shards=shards, compressor=_compressor(doc.compressor), attrs=doc.attrs,
        source=None if doc.source is None else _source(doc.source, axes, axes_values, base),
    )  # fmt: skip


def _yx(size: _SizeYX) -> tuple[int, int]:
    return size.y, size.x


def _dtype(name: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(name)
    except TypeError:
        dtype = np.dtype("V1")
    if dtype.kind not in "uifb":
        raise ValueError(f".dtype: {name!r} is not a number type; write uint8, int16, float32, ... or bool")
    return dtype.newbyteorder("=")


def _fill_value(value: Any, dtype: np.dtype[Any]) -> float | int | bool:
    if isinstance(value, str):
        if value.lower().lstrip("+-.") not in ("nan", "inf", "infinity"):
            raise ValueError(f".fill_value: {value!r} is not a number")
        value = float(value.lower().replace(".", ""))
    if not isinstance(value, int | float):
        raise ValueError(f".fill_value: {value!r} is not a number")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            kept = dtype.type(value)
        if np.isfinite(value) and not np.isfinite(kept):
            raise ValueError(f".fill_value: {value!r} does not fit dtype {dtype.name}")
        return float(kept)
    low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if not np.isfinite(value) or value != int(value) or not low <= value <= high:
        allowed = "true or false" if dtype.kind == "b" else f"a whole number from {low} to {high}"
        raise ValueError(f".fill_value: {_plain(value)!r} does not fit dtype {dtype.name}: give {allowed}")
    return bool(value) if dtype.kind == "b" else int(value)


def _shape_of_chunks(
    key: str, given: Mapping[str, int], dims: tuple[str, ...], axes: tuple[str, ...]
) -> tuple[int, ...]:
    """One length a dimension; y and x may be called so whatever the dimensions' names, and an axis defaults to 1."""
    spelt = {{"y": dims[-2], "x": dims[-1]}.get(k, k): v for k, v in given.items()}
    for dim in spelt:
        if dim not in dims:
            raise ValueError(
                f".{key}: unknown dimension {dim!r}{nearest(dim, list(dims))} (dimensions: {', '.join(dims)})"
            )
    for dim in dims[-2:]:
        if dim not in spelt:
            raise ValueError(f".{key}.{dim}: is missing")
    return tuple(spelt.get(dim, 1) if dim in axes else spelt[dim] for dim in dims)


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
                f".{kind}.{dim}: {size} does not divide the region's {region[dim]} pixels, so two regions would share a "
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


def _fields(pattern: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(pattern) if name is not None}


def _source(
    doc: _SourceDoc, axes: tuple[str, ...], axes_values: Mapping[str, tuple[AxisValue, ...]], base: str
) -> Source:
    if doc.file is not None and (doc.href is not None or doc.tiles is not None):
        raise ValueError(".source.file: one raster covers all regions, so href and tiles do not go with it")
    kind, uri = _tiles(doc.tiles)
    href_axis, patterns = _href(doc.file if doc.file is not None else doc.href, axes, axes_values)
    if not patterns and kind is None:
        raise ValueError(".source: say where the tiles are: href, tiles or file")
    allowed = {*axes, "id"}
    for text in (*patterns.values(), uri):
        if "@" in text.partition("://")[2].partition("/")[0]:
            raise ValueError(
                ".source: leave user and password out of hrefs (the spec is kept in the cube): use the environment"
            )
    for key, pattern in [(".source.href", p) for p in patterns.values()] + (
        [(f".source.tiles.{kind}", uri)] if kind else []
    ):
        for field in _pattern_fields(key, pattern):
            if field not in allowed or (field == "id" and key != ".source.href"):
                raise ValueError(f"{key}: unknown field {{{field}}}{nearest(field, sorted(allowed))}")
    if doc.bands is not None and doc.bands.axis not in axes:
        raise ValueError(f".source.bands.axis: {doc.bands.axis!r} is not an axis of the variable")
    named = set().union(*(_fields(p) for p in (*patterns.values(), uri))) | {href_axis}
    for axis in axes:
        if axis in named or kind == "table" or (doc.bands and doc.bands.axis == axis) or len(axes_values[axis]) == 1:
            continue
        raise ValueError(
            f".source: nothing names the axis {axis!r}, which has {len(axes_values[axis])} values: "
            f"put {{{axis}}} into href or tiles"
        )
    nodata = doc.nodata
    if nodata is None or (isinstance(nodata, str) and nodata.lower() == "nan"):
        nodata = "none" if nodata is None else math.nan
    if not (nodata in ("none", "file") or (isinstance(nodata, int | float) and not isinstance(nodata, bool))):
        raise ValueError(f".source.nodata: write a number or none; got {nodata!r}")
    return Source(
        href={k: resolve(p, base) for k, p in patterns.items()}, href_axis=href_axis,
        tiles=None if kind is None else (kind, resolve(uri, base)), band=doc.band,
        bands_axis=doc.bands.axis if doc.bands else None, nodata=nodata, missing=doc.missing,
        tile_shape_yx=_yx(doc.tile) if doc.tile else None, id_template=doc.id,
    )  # fmt: skip


def _tiles(doc: _TilesDoc | None) -> tuple[Literal["list", "glob", "table"] | None, str]:
    if doc is None:
        return None, ""
    kinds: tuple[Literal["list", "glob", "table"], ...] = ("list", "glob", "table")
    given = [(k, getattr(doc, k)) for k in kinds if getattr(doc, k) is not None]
    if len(given) != 1:
        raise ValueError(".source.tiles: give one of list, glob or table")
    return given[0]


def _href(
    href: Any, axes: tuple[str, ...], axes_values: Mapping[str, tuple[AxisValue, ...]]
) -> tuple[str | None, dict[str, str]]:
    """(axis, pattern by that axis's label); (None, {"": pattern}) for a single pattern."""
    if href is None:
        return None, {}
    if isinstance(href, str):
        return None, {"": href}
    if not isinstance(href, Mapping) or not href or not all(isinstance(v, str) for v in href.values()):
        raise ValueError(f".source.href: write a pattern, or one pattern per axis value; got {href!r}")
    labels = {a: set(Axis(a, axes_values[a]).labels) for a in axes}
    fitting = [a for a in axes if {str(k) for k in href} <= labels[a]]
    if len(fitting) != 1:
        raise ValueError(
            f".source.href: the keys {', '.join(map(str, href))} are not values of one axis ({', '.join(axes)})"
        )
    return fitting[0], {str(k): v for k, v in href.items()}


def _pattern_fields(key: str, pattern: str) -> Iterator[str]:
    try:
        yield from (name for _, name, _, _ in Formatter().parse(pattern) if name is not None)
    except ValueError as e:
        raise ValueError(f"{key}: {pattern!r} is not a valid pattern: {e}") from None
