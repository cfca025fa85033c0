"""Which regions, axis values and variables a person asked for: read from keywords, resolved against a spec, listed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeingest.axes import Axis, axis_label
from cubeingest.boxes import read_polygon
from cubeingest.errors import GridError, nearest
from cubeingest.grid import Grid
from cubeingest.spec import CubeSpec, Variable

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True)
class Selection:
    """What a person asked for. Empty means everything.

    ``axes`` holds labels by axis, each a value or a range ``2000..2020`` (both ends included). ``bbox`` is (west, south,
    east, north) in longitude and latitude, ``polygon`` a shapely geometry in them. ``part`` is (k, n), k from 1 to n.
    """

    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bbox: tuple[float, float, float, float] | None = None
    regions: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    limit: int | None = None
    part: tuple[int, int] | None = None
    polygon: BaseGeometry | None = None


@dataclass(frozen=True)
class Chosen:
    """A selection resolved against a spec: axis positions, lattice places (None: all) and variables."""

    positions: Mapping[str, tuple[int, ...]]
    places: frozenset[tuple[int, int]] | None
    variables: tuple[Variable, ...]

    def blocks(self, axis: Axis) -> tuple[int, ...]:
        """Axis blocks that are chosen."""
        return tuple(sorted({i // axis.block for i in self.positions[axis.name]}))


def read_labels(grid: Grid, axes: Mapping[str, Any], *keywords: str) -> dict[str, tuple[str, ...]]:
    """Values by axis, as texts. Raises :class:`GridError` for an axis that the cube does not have."""
    own = {a.name.replace("-", "_"): a.name for a in grid.axes}
    for name in axes:
        if name not in own:
            hint = nearest(name, [*own, *keywords])
            raise GridError(f"unknown selection {name!r}{hint} (axes of this cube: {', '.join(own) or 'none'})")
    return {
        own[name]: tuple(t for v in several(name, value) for t in axis_label(v).split(","))
        for name, value in axes.items()
        if value is not None
    }


def read_shape(polygon: Any) -> BaseGeometry:
    """A polygon from a GeoJSON file's path, its text, plain data, or a geometry. Raises :class:`GridError`."""
    where = os.fspath(polygon) if isinstance(polygon, str | os.PathLike) else None
    if where is None or where.lstrip().startswith("{"):
        return read_polygon(where or polygon)
    try:
        return read_polygon(Path(where).read_text(encoding="utf-8-sig"), f"polygon {where!r}")
    except (OSError, UnicodeDecodeError) as e:
        raise GridError(f"cannot read polygon {where!r}: {getattr(e, 'strerror', None) or e}") from None


def several(name: str, value: Any) -> tuple[Any, ...]:
    """One value or several, as a tuple. Raises :class:`GridError` for none at all, which would not mean everything."""
    if value is None:
        return ()
    # An array of no dimensions, such as one label of an xarray coordinate, is one value.
    one = isinstance(value, str) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0
    several = (value,) if one else tuple(value)
    if not several:
        raise GridError(f"the selection of {name} is empty: leave it out to select all")
    return several


def choose(spec: CubeSpec, selection: Selection) -> Chosen:
    """Resolve a selection. Raises :class:`GridError` for what the cube does not have, or for part of an axis block."""
    positions = {axis.name: tuple(range(axis.size)) for axis in spec.grid.axes}
    for name, texts in selection.axes.items():
        axis = spec.grid.axis(name)
        found = find_positions(axis, texts)
        for block in {i // axis.block for i in found}:
            whole = axis.block_slice(block)
            if not set(range(whole.start, whole.stop)) <= set(found):
                raise GridError(
                    f"{name} {', '.join(texts)} is part of the axis block {axis.block_label(block)}, which one chunk spans: "
                    f"select all of it (--{name} {axis.block_label(block)})"
                )
        positions[name] = found
    places = _places(spec, selection)
    variables = tuple(spec.variable(n) for n in dict.fromkeys(selection.variables)) or spec.variables
    if selection.limit is not None and selection.limit < 1:
        raise GridError(f"limit is {selection.limit}: it must be 1 or more")
    if selection.part is not None and not 1 <= selection.part[0] <= selection.part[1]:
        raise GridError(f"part {selection.part[0]}/{selection.part[1]}: K must be from 1 to N")
    return Chosen(positions, places, variables)


def _places(spec: CubeSpec, selection: Selection) -> frozenset[tuple[int, int]] | None:
    """Lattice places of a selection, among the valid ones; None for all that there are."""
    places = spec.valid
    for region in selection.regions:
        if spec.grid.region_index(region) not in (places or {spec.grid.region_index(region)}):
            raise GridError(f"region {region!r} is not among the {len(places or ())} that `valid` of the spec leaves")
    chosen: list[tuple[str, Collection[tuple[int, int]]]] = []
    if selection.regions:
        chosen.append(("", {spec.grid.region_index(r) for r in selection.regions}))
    if selection.bbox is not None:
        chosen.append((f"bbox {selection.bbox}", spec.grid.get_chunks_for_bbox(selection.bbox, "OGC:CRS84")))
    if selection.polygon is not None:
        chosen.append(("the polygon", spec.grid.get_chunks_for_shape(selection.polygon, "OGC:CRS84")))
    for name, found in chosen:
        if not found:
            raise GridError(f"{name} overlaps no region of the grid, whose bounds are {spec.grid.bounds()}")
        if spec.valid is not None and not spec.valid & frozenset(found):
            raise GridError(f"{name} overlaps no region among the {len(spec.valid)} that `valid` of the spec leaves")
        places = frozenset(found) if places is None else places & frozenset(found)
    return places


def find_positions(axis: Axis, texts: Iterable[str]) -> tuple[int, ...]:
    """Positions of texts as in :class:`Selection`, in order; parts of axis blocks, too. Raises :class:`GridError`."""
    return tuple(sorted({i for text in texts for i in positions_of(axis, text)}))


def positions_of(axis: Axis, text: str) -> Iterable[int]:
    """Positions of ``2000``, ``2000..2020`` or, on a date axis, a prefix such as ``2000-03``."""
    if text in axis.labels:
        return (axis.labels.index(text),)
    first, dots, last = text.partition("..")
    if dots:
        if not first or not last:
            raise GridError(f"{axis.name} {text}: a range has both ends, such as {axis.labels[0]}..{axis.labels[-1]}")
        ends = [_ends_of(axis, end) for end in (first, last)]
        start, stop = ends[0][0], ends[1][1]
        if start > stop:
            raise GridError(f"{axis.name} {text}: the range is empty (first value after the last)")
        return range(start, stop + 1)
    start, stop = _ends_of(axis, text)
    return range(start, stop + 1)


def _ends_of(axis: Axis, text: str) -> tuple[int, int]:
    if axis.is_dates and text:
        hits = [i for i, label in enumerate(axis.labels) if label.startswith(text)]
        if hits:
            return hits[0], hits[-1]
    i = axis.index(text)
    return i, i


def list_regions(spec: CubeSpec, selection: Selection) -> list[dict[str, Any]]:
    """``{"id", "bounds", "slices"}`` of each region of a selection, row by row."""
    grid = spec.grid
    places = choose(spec, selection).places
    ids = list(grid.region_ids()) if places is None else [grid.region_id(*p) for p in sorted(places)]
    out = []
    for region_id in ids[: selection.limit]:
        slices = zip(grid.spatial_dims, grid.slices(*grid.region_index(region_id)), strict=True)
        out.append(
            {
                "id": region_id,
                "bounds": list(grid.bounds(region_id)),
                "slices": {d: [s.start, s.stop] for d, s in slices},
            }
        )
    return out
