"""Where the points of a cube are, and how they are read: the ``points`` of a spec."""

from __future__ import annotations

from collections.abc import Mapping

from cubeingest.axes import AxisValue
from cubeingest.expressions import Expression, parse_expression
from cubeingest.spec.document import PointsDoc, SourceDoc
from cubeingest.spec.model import PointSource, Source
from cubeingest.spec.source import build_source, resolve

OWN_NAMES = ("x", "y", "cell")
"""Names that columns of points have already."""


def build_points(doc: PointsDoc, name: str, axes_values: Mapping[str, tuple[AxisValue, ...]], base: str) -> PointSource:
    """Raises :class:`ValueError` that names the key."""
    files = None if doc.href is None and doc.tiles is None else _files(doc, axes_values, base)
    for column in doc.columns:
        if not column.isidentifier() or column in OWN_NAMES:
            raise ValueError(
                f".columns: {column!r} cannot be a column's name: it is taken, or not letters, digits and _"
            )
    if len(set(doc.groups)) < len(doc.groups):
        raise ValueError(f".groups: {', '.join(doc.groups)} names one twice")
    crs = doc.coordinates.crs
    return PointSource(
        files=files, x=doc.coordinates.x, y=doc.coordinates.y, crs=crs if isinstance(crs, str) else f"EPSG:{crs}",
        columns=dict(doc.columns), filter=_filter(doc), groups=tuple(doc.groups), catalog=_catalog(doc, name, base),
    )  # fmt: skip


def _files(doc: PointsDoc, axes_values: Mapping[str, tuple[AxisValue, ...]], base: str) -> Source:
    try:
        files = build_source(
            SourceDoc(href=doc.href, tiles=doc.tiles, storage=doc.storage), tuple(axes_values), axes_values, base
        )
    except ValueError as e:
        raise ValueError(str(e).removeprefix(".source").removeprefix(": ")) from None
    if files.names_regions:
        raise ValueError(".href: points are found where they lie, not by region: leave {id} out")
    return files


def _filter(doc: PointsDoc) -> Expression | None:
    if doc.filter is None:
        return None
    try:
        return parse_expression(doc.filter, list(doc.columns))
    except ValueError as e:
        raise ValueError(f".filter: {e}") from None


def _catalog(doc: PointsDoc, name: str, base: str) -> str | None:
    """The file that keeps where points lie: beside the spec by default, where that can be written to."""
    if doc.catalog == "none":
        return None
    if doc.catalog is not None:
        if not doc.catalog.endswith((".parquet", ".pq")):
            raise ValueError(f".catalog: is a file .parquet, or none; got {doc.catalog!r}")
        return resolve(doc.catalog, base)
    return None if "://" in base else resolve(f"{name}.catalog.parquet", base)
