"""Where the tiles of a variable are, and how they are read: the ``source`` of a spec."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from cubeingest.axes import Axis, AxisValue
from cubeingest.errors import nearest
from cubeingest.spec.document import SourceDoc, StorageDoc, TilesDoc
from cubeingest.spec.model import Source, fields_of
from cubeingest.storage import SCHEMES, Storage, kind_of, public_href

RESAMPLINGS = (
    "nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode", "max", "min", "med", "q1", "q3", "sum", "rms",
)  # fmt: skip
"""Kernels of GDAL's warper, by rasterio's names."""


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


def build_storage(doc: StorageDoc | None, key: str = "") -> Storage:
    try:
        return Storage() if doc is None else Storage(doc.endpoint, doc.region, doc.anonymous)
    except ValueError as e:
        raise ValueError(f"{key}{e}") from None


def build_source(
    doc: SourceDoc, axes: tuple[str, ...], axes_values: Mapping[str, tuple[AxisValue, ...]], base: str
) -> Source:
    if doc.file is not None and (doc.href is not None or doc.tiles is not None):
        raise ValueError(".source.file: one raster covers all regions, so href and tiles do not go with it")
    kind, uri = _tiles(doc.tiles)
    href_axis, patterns = _href(doc.file if doc.file is not None else doc.href, axes, axes_values)
    if not patterns and kind is None:
        raise ValueError(".source: say where the tiles are: href, tiles or file")
    _check_hrefs((*patterns.values(), uri))
    for pattern in patterns.values():
        _check_pattern(".source.href", pattern, {a: axes_values[a] for a in axes}, with_id=True)
    if kind:
        _check_pattern(f".source.tiles.{kind}", uri, {a: axes_values[a] for a in axes}, with_id=False)
    if doc.bands is not None and doc.band is not None:
        raise ValueError(".source: give band (one band) or bands (all bands fill an axis), not both")
    if doc.bands is not None and doc.bands.axis not in axes:
        raise ValueError(f".source.bands.axis: {doc.bands.axis!r} is not an axis of the variable")
    named = set().union(*(fields_of(p) for p in (*patterns.values(), uri))) | {href_axis}
    for axis in axes:
        if axis in named or kind == "table" or (doc.bands and doc.bands.axis == axis) or len(axes_values[axis]) == 1:
            continue
        if doc.array is not None:
            continue  # a dimension of the file
        raise ValueError(
            f".source: nothing names the axis {axis!r}, which has {len(axes_values[axis])} values: "
            f"put {{{axis}}} into href or tiles"
        )
    nodata = doc.nodata
    if nodata is None or (isinstance(nodata, str) and nodata.lower() == "nan"):
        nodata = "none" if nodata is None else math.nan
    if not (nodata in ("none", "file") or (isinstance(nodata, int | float) and not isinstance(nodata, bool))):
        raise ValueError(f".source.nodata: write a number or none; got {nodata!r}")
    _check_reading(doc, any("id" in fields_of(p) for p in patterns.values()))
    return Source(
        href={k: _resolve_pattern(p, base) for k, p in patterns.items()}, href_axis=href_axis,
        tiles=None if kind is None else (kind, _resolve_pattern(uri, base, is_glob=kind == "glob")), band=doc.band,
        bands_axis=doc.bands.axis if doc.bands else None, nodata=nodata, missing=doc.missing,
        tile_shape_yx=(doc.tile.y, doc.tile.x) if doc.tile else None, id_template=doc.id,
        overlap_yx=(doc.overlap.y, doc.overlap.x) if doc.overlap else (0, 0), resampling=doc.resampling, array=doc.array,
        storage=build_storage(doc.storage, ".source.storage: "),
    )  # fmt: skip


def _check_reading(doc: SourceDoc, with_id: bool) -> None:
    """How tiles are placed and read: the keys that do not go together."""
    if doc.resampling is not None and doc.resampling not in RESAMPLINGS:
        raise ValueError(
            f".source.resampling: {doc.resampling!r} is none{nearest(doc.resampling, list(RESAMPLINGS))} "
            f"(known: {', '.join(RESAMPLINGS)})"
        )
    if doc.overlap is not None and not with_id:
        raise ValueError(".source.overlap: is for tiles that {id} in the href names; else their headers tell")
    for key, value in (("resampling", doc.resampling), ("band", doc.band), ("bands", doc.bands)):
        if doc.array is not None and value is not None:
            raise ValueError(f".source.array: does not go with {key}")


def _check_hrefs(texts: Iterable[str]) -> None:
    for text in texts:
        if kind_of(text) is None:
            raise ValueError(
                f".source: {public_href(text)!r} has a scheme that is not opened (known: {', '.join(SCHEMES)})"
            )
        if "@" in text.partition("://")[2].partition("/")[0]:
            raise ValueError(
                ".source: leave user and password out of hrefs (the spec is kept in the cube): use the environment"
            )


def _resolve_pattern(pattern: str, base: str, is_glob: bool = False) -> str:
    """As :func:`resolve`, for a pattern: what would be syntax in it is only a name in ``base``."""
    if is_glob and "://" not in base:
        base = glob.escape(base)
    return resolve(pattern, base.replace("{", "{{").replace("}", "}}"))


def _tiles(doc: TilesDoc | None) -> tuple[Literal["list", "glob", "table"] | None, str]:
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


def _check_pattern(key: str, pattern: str, values: Mapping[str, tuple[AxisValue, ...]], with_id: bool) -> None:
    """Every field is known, and every value can be written as the pattern says."""
    known = [*values, *(["id"] if with_id else [])]
    try:
        named = fields_of(pattern)
    except ValueError as e:
        raise ValueError(f"{key}: {pattern!r} is not a valid pattern: {e}") from None
    for field in sorted(named):
        if field not in known:
            raise ValueError(f"{key}: unknown field {{{field}}}{nearest(field, known)} (known: {', '.join(known)})")
    try:
        pattern.format(**{name: v[0] for name, v in values.items()}, id="id")
    except (ValueError, KeyError, IndexError, AttributeError) as e:
        raise ValueError(f"{key}: {pattern!r} cannot be filled in: {e}") from None
