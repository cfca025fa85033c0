"""The catalog's rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cubeingest.points import Part
from cubeingest.remote import SourceId
from cubeingest.tile import Header, Window

Placed = tuple[str, dict[str, int], tuple[int, int] | Window | None]
"""A tile's href, its position by axis name, and its cell in the tile lattice, its window, or None: its header tells."""


@dataclass(frozen=True, slots=True)
class TileRow:
    """One tile feeding one region at one axis position. ``position`` has an index for each axis of the variable.

    ``expected`` is the window in the grid that the tile's name stands for; None where only its header tells. ``cell`` is the part
    of it that is used, where tiles overlap by declaration. ``parts`` are the points of a granule that a region needs,
    as it was when it was ``scanned``.
    """

    href: str
    position: tuple[int, ...]
    iy: int
    ix: int
    band: int | None = None
    expected: Window | None = None
    cell: Window | None = None
    parts: tuple[Part, ...] = ()
    scanned: SourceId | None = None


@dataclass(frozen=True)
class Misplaced:
    """A tile that is listed but belongs to no region, since its header cannot be read or does not fit."""

    variable: str
    href: str
    position: tuple[int, ...]
    message: str


@dataclass(frozen=True)
class Catalog:
    """The tiles of each variable, for the axis positions that were asked for (``positions``, by axis).

    ``headers`` are those that had to be read to place tiles, by variable and href; a message where one cannot be read. ``warnings`` is what a person should know of points.

    Of granules of points: ``listed`` are the axis positions for which there is one that can be read; ``broken`` says, by href without what may be secret,
    why others cannot; and ``blocked`` where such a one is known to have points: (position, iy, ix) to its href and why.
    """

    rows: Mapping[str, tuple[TileRow, ...]]
    positions: Mapping[str, tuple[int, ...]]
    misplaced: tuple[Misplaced, ...] = field(default=())
    headers: Mapping[tuple[str, str], Header | str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    listed: frozenset[tuple[int, ...]] = frozenset()
    broken: Mapping[str, str] = field(default_factory=dict)
    blocked: Mapping[tuple[tuple[int, ...], int, int], tuple[str, str]] = field(default_factory=dict)
