"""Footprints as a table states them: a box or polygon for each granule, so that none needs to be read before its points are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from cubeingest.errors import CatalogError, GridError, nearest
from cubeingest.listing import in_threads, read_table
from cubeingest.points.footprints import Footprints, identity_of
from cubeingest.points.model import AreaLocator, PointSource
from cubeingest.points.scan import Footprint, whole_footprint
from cubeingest.remote import SourceId
from cubeingest.storage import public_href

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

EDGES = ("left", "bottom", "right", "top")

LONLAT = "OGC:CRS84"


def read_areas(
    uri: str, source: PointSource, locator: AreaLocator, resolve: Callable[[str], str] = str
) -> Footprints | None:
    """The footprints of the granules in a table (CSV or Parquet): ``href``, and ``left``, ``bottom``, ``right``, ``top`` or ``geometry``. None
    if it states no areas.

    A geometry is a polygon as WKT or WKB, so GeoParquet does. Areas are in longitudes and latitudes; a granule may have several rows. Points that lie
    outside their granule's area may be missed: it must be generous. ``resolve`` makes an href of what stands in the table.

    Raises :class:`CatalogError` for a table that cannot be read or lacks a column. A granule that is not there, or whose area is
    none, gets a message.
    """
    table = read_table(uri, source.storage)
    name, known = f"table {public_href(uri)!r}", [str(c) for c in table.columns]
    has_boxes = set(EDGES) <= set(known)
    if not has_boxes and not {*EDGES, "geometry"} & set(known) and "href" in known:
        return None
    for column in ("href",) if has_boxes else ("href", "geometry"):
        if column not in known:
            what = "href" if column == "href" else f"{', '.join(EDGES)} or geometry"
            raise CatalogError(
                f"{name} has no column {what}{nearest(column, known)} (columns: {', '.join(known[:20])})"
            )
    columns = [table[c].tolist() for c in (EDGES if has_boxes else ("geometry",))]
    regions: dict[str, set[int] | str] = {}
    nx = locator.lattice_shape_yx[1]
    for text, *area in zip(table["href"].tolist(), *columns, strict=True):
        href = resolve(str(text))
        so_far = regions.setdefault(href, set())
        try:
            if isinstance(so_far, set):
                found = _in_box(area, locator) if has_boxes else locator.get_chunks_for_shape(_shape(area[0]), LONLAT)
                so_far |= {iy * nx + ix for iy, ix in found}
        except (GridError, ValueError, TypeError) as e:
            regions[href] = f"granule {public_href(href)!r}, in {name}: {e}"
    identities = in_threads(partial(identity_of, source=source), list(regions))
    out: dict[str, Footprint | str] = {}
    for (href, numbers), identity in zip(regions.items(), identities, strict=True):
        wrong = next((w for w in (identity, numbers) if isinstance(w, str)), None)
        out[href] = wrong if wrong is not None else whole_footprint(identity, numbers)  # type: ignore[arg-type]
    unreadable = {href for href, identity in zip(regions, identities, strict=True) if isinstance(identity, str)}
    former = {
        href: whole_footprint(SourceId(href, None, ""), numbers)
        for href, numbers in regions.items()
        if href in unreadable and isinstance(numbers, set)
    }
    return Footprints(out, 0, former=former)


def _in_box(area: list[Any], locator: AreaLocator) -> list[tuple[int, int]]:
    left, bottom, right, top = (float(v) for v in area)
    return locator.get_chunks_for_bbox((left, bottom, right, top), LONLAT)


def _shape(value: Any) -> BaseGeometry:
    """A shape from WKT or WKB. Raises :class:`ValueError` for what is none."""
    import shapely

    try:
        shape = shapely.from_wkt(value) if isinstance(value, str) else shapely.from_wkb(value)
    except (shapely.errors.GEOSException, TypeError) as e:
        raise ValueError(f"its geometry is neither WKT nor WKB: {' '.join(str(e).split())[:120]}") from None
    if shape is None:
        raise ValueError("it has no geometry")
    return shape
