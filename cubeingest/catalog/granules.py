"""Which regions the granules of points feed: a row for each granule, region and axis position."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from cubeingest.catalog.model import Misplaced, Placed, TileRow
from cubeingest.errors import CatalogError
from cubeingest.points import Footprint, Footprints, footprints_of, read_areas, rows_by_region
from cubeingest.spec import CubeSpec, PointSource, Variable, resolve
from cubeingest.storage import is_remote, public_href

NAMED = 3
"""Granules that one message names."""


def place_granules(
    spec: CubeSpec, variable: Variable, placed: Iterable[Placed], misplaced: list[Misplaced]
) -> tuple[list[TileRow], frozenset[str], tuple[str, ...]]:
    """Rows of granules for a variable, the granules that could be read, and what is to be said of them. Coordinates are read where no table states in which area they lie, and kept in the
    spec's catalog of points.

    A granule that cannot be read is ``misplaced``. Raises :class:`CatalogError` for a catalog of points of another grid.
    """
    points = variable.points
    assert points is not None
    axes = spec.axes_of(variable)
    positions: dict[str, set[tuple[int, ...]]] = {}
    for href, by_name, _ in placed:
        positions.setdefault(href, set()).add(tuple(by_name[a.name] for a in axes))
    footprints = _footprints(spec, points, list(positions))
    for href, found in footprints.found.items():
        if isinstance(found, str):
            misplaced += [Misplaced(variable.name, href, position, found) for position in sorted(positions[href])]
    good = [(href, found) for href, found in footprints.found.items() if isinstance(found, Footprint)]
    nx = spec.grid.lattice_shape_yx[1]
    rows = [
        TileRow(row.href, position, *divmod(region, nx), parts=row.parts)
        for region, granules in rows_by_region(good).items()
        if spec.valid is None or divmod(region, nx) in spec.valid
        for row in granules
        for position in positions[row.href]
    ]
    return rows, frozenset(href for href, _ in good), (*footprints.warnings, *_left_out(good))


def _footprints(spec: CubeSpec, points: PointSource, hrefs: list[str]) -> Footprints:
    files = points.files
    if files is not None and files.tiles is not None and files.tiles[0] == "table":
        stated = read_areas(files.tiles[1], points, spec.grid, lambda text: resolve(text, spec.base))
        if stated is not None:
            return Footprints({href: stated.found[href] for href in hrefs}, 0, stated.warnings)
    return footprints_of(hrefs, points, spec.grid, _file(points), signature(spec, points))


def _file(points: PointSource) -> Path | None:
    """The catalog of points, which is kept on a local disk only."""
    if points.catalog is None:
        return None
    if is_remote(points.catalog):
        raise CatalogError(
            f"the catalog of points {public_href(points.catalog)!r} is no local file: name one in points.catalog, or none"
        )
    return Path(points.catalog)


def signature(spec: CubeSpec, points: PointSource) -> str:
    """All that decides which regions points fall in."""
    return json.dumps(
        {"crs": spec.grid.crs, "grid": spec.grid.layout, "points": json.loads(points.placing)}, sort_keys=True
    )


def _left_out(footprints: Iterable[tuple[str, Footprint]]) -> list[str]:
    """One message for the points that lie nowhere, if there are any."""
    found = [(href, f.n_invalid) for href, f in footprints if f.n_invalid]
    if not found:
        return []
    names = ", ".join(repr(public_href(href)) for href, _ in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return [f"{sum(n for _, n in found)} points without finite coordinates are left out, in {names}{more}"]
