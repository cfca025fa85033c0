"""Which regions the granules of points feed: a row for each granule, region and axis position."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cubeingest.axes import Axis
from cubeingest.catalog.model import Placed, TileRow
from cubeingest.errors import CatalogError
from cubeingest.points import Footprint, Footprints, footprints_of, read_areas, rows_by_region
from cubeingest.remote import local_path
from cubeingest.spec import CubeSpec, PointSource, resolve
from cubeingest.storage import is_remote, public_href
from cubeingest.wording import counted

NAMED = 3
"""Granules that one message names."""


@dataclass(frozen=True)
class Granules:
    """What the granules of a spec's points come to: rows for the catalog, and what it says of granules besides."""

    rows: tuple[TileRow, ...]
    misplaced: tuple[tuple[str, tuple[int, ...], str], ...]
    listed: frozenset[tuple[int, ...]]
    broken: Mapping[str, str]
    blocked: Mapping[tuple[tuple[int, ...], int, int], tuple[str, str]]
    warnings: tuple[str, ...]


def place_granules(spec: CubeSpec, points: PointSource, axes: Sequence[Axis], placed: Iterable[Placed]) -> Granules:
    """Find the regions of granules. Coordinates are read where no table states in which area they lie, and what they told is kept in the
    spec's catalog of points.

    Raises :class:`CatalogError` for a catalog of points of another grid.
    """
    positions: dict[str, set[tuple[int, ...]]] = {}
    spelt: dict[str, str] = {}
    for href, by_name, _ in placed:
        own = spelt.setdefault(_place_of(href), href)
        positions.setdefault(own, set()).add(tuple(by_name[a.name] for a in axes))
    found = _footprints(spec, points, list(positions))
    good = [(href, f) for href, f in found.found.items() if isinstance(f, Footprint)]
    wrong = {href: text for href, text in found.found.items() if isinstance(text, str)}
    sources, nx = {href: f.source for href, f in good}, spec.grid.lattice_shape_yx[1]
    rows = [
        TileRow(row.href, position, *divmod(region, nx), parts=row.parts, scanned=sources[row.href])
        for region, granules in rows_by_region(good).items()
        if spec.valid is None or divmod(region, nx) in spec.valid
        for row in granules
        for position in positions[row.href]
    ]
    return Granules(
        tuple(sorted(rows, key=lambda r: (r.position, r.iy, r.ix, r.href))),
        tuple((href, p, text + _where(href, found)) for href, text in wrong.items() for p in sorted(positions[href])),
        frozenset(p for href, _ in good for p in positions[href]),
        {public_href(href): text for href, text in wrong.items()},
        {
            (position, *divmod(region, nx)): (href, wrong[href])
            for href, footprint in found.former.items()
            for region in footprint.region.tolist()
            for position in positions[href]
        },
        (*found.warnings, *_left_out(good)),
    )


def _place_of(href: str) -> str:
    """What two ways to write the same place have in common."""
    return href if is_remote(href) else os.path.normpath(local_path(href))


def _where(href: str, found: Footprints) -> str:
    if href in found.former:
        return "; regions that it fed before are left as they are"
    return "; regions that it would feed are made of the other granules, and again when it can be read"


def _footprints(spec: CubeSpec, points: PointSource, hrefs: list[str]) -> Footprints:
    files = points.files
    if files is not None and files.tiles is not None and files.tiles[0] == "table":
        stated = read_areas(files.tiles[1], points, spec.grid, lambda text: resolve(text, spec.base))
        if stated is not None:
            former = {href: f for href, f in stated.former.items() if href in hrefs}
            return Footprints({href: stated.found[href] for href in hrefs}, 0, stated.warnings, former)
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
    return [f"{counted(sum(n for _, n in found), 'point')} without finite coordinates left out, in {names}{more}"]
