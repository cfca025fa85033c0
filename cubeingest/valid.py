"""Which regions a grid is restricted to: computed once, from a mask or a list, and kept in the cube."""

from __future__ import annotations

from pathlib import Path

from cubeingest.boxes import read_polygon
from cubeingest.errors import GridError, SpecError, TileError
from cubeingest.remote import read_bytes, why_unreachable
from cubeingest.spec import CubeSpec
from cubeingest.storage import is_remote, public_href
from cubeingest.tile import regions_of_mask

Regions = frozenset[tuple[int, int]]
"""Lattice rows and columns."""


def find_valid(spec: CubeSpec) -> Regions | None:
    """The regions that ``valid`` of the spec names, or None if it restricts nothing.

    ``geojson``: those that share an area with one of its polygons (longitudes and latitudes). ``raster``: those in which it has a
    pixel that is neither 0 nor its nodata. ``list``: ids, one a line.

    Raises :class:`SpecError` if the file is missing, cannot be read, or leaves no region.
    """
    if spec.valid_source is None:
        return None
    kind, uri = spec.valid_source
    grid, where = spec.grid, f"valid.{kind}: {public_href(uri)!r}"
    try:
        if kind == "raster":
            found = regions_of_mask(uri, spec.tiling)
        elif kind == "geojson":
            found = grid.get_chunks_for_shape(read_polygon(_read(uri, where), where), "OGC:CRS84")
        else:
            lines = (line.strip() for line in _read(uri, where).splitlines())
            found = [grid.region_index(line) for line in lines if line and not line.startswith("#")]
    except (GridError, TileError) as e:
        raise SpecError(f"{where}: {e}") from None
    if not found:
        raise SpecError(f"{where} leaves no region of the grid, whose bounds are {grid.bounds()}")
    return frozenset(found)


def _read(uri: str, where: str) -> str:
    try:
        content = read_bytes(uri) if is_remote(uri) else Path(uri.removeprefix("file://")).read_bytes()
        return content.decode("utf-8-sig")
    except Exception as e:  # noqa: BLE001  (each cloud's library has errors of its own)
        raise SpecError(f"{where} cannot be read: {why_unreachable(e) or 'it is not there'}") from None
