"""Which files an export is to make: names, places, and what tells one that is as it should be from one that is not. Pure."""

from __future__ import annotations

import hashlib
import itertools
import operator
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from string import Formatter
from typing import Any, Literal

from cubeingest.axes import Axis
from cubeingest.errors import GridError, nearest
from cubeingest.grid import Grid, TilingGrid
from cubeingest.ledger import DONE, EMPTY, NOTHING, Record, Slot
from cubeingest.overviews import stamp_of_region
from cubeingest.plan import SlotPlan, is_in_part
from cubeingest.selection import Chosen, Selection
from cubeingest.spec import CubeSpec, Variable

Format = Literal["cog", "parquet"]
FORMATS: Mapping[str, tuple[str, ...]] = {"cog": (".tif", ".tiff"), "parquet": (".parquet",)}
"""Formats, with what the names of their files may end with."""

WRITTEN_AS = 1
"""Raised when files are written otherwise, so that those of earlier versions are made anew."""

LABELS = 8
"""Axis values that are named one by one where it is said what a table holds."""

NAME_BYTES = 255
"""What a name within a folder may have on the filesystems there are."""


@dataclass(frozen=True, slots=True)
class TileFile:
    """One file: its ``name`` below the output folder, ``what`` it holds (variable, axis values, region), and at which axis position."""

    name: str
    what: str
    position: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FilePlan(SlotPlan):
    """Files to make of one place: for COGs those of all values of an axis block of one variable, for Parquet one of several ``variables`` and
    all ``blocks`` of their axes that are chosen.

    ``window`` are its (y, x) pixels, ``stamp`` what tells them from others. ``referring`` is a record below whose chunks are references, if there is one.
    """

    files: tuple[TileFile, ...] = ()
    window: tuple[slice, slice] = (slice(0, 0), slice(0, 0))
    stamp: str = ""
    variables: tuple[str, ...] = ()
    blocks: tuple[tuple[int, ...], ...] = ()
    referring: Record | None = None


@dataclass(frozen=True)
class Held:
    """What the cube holds: states (:func:`read_states`), where tiles are expected, and records, of one snapshot."""

    states: Mapping[str, Any]
    expected: Mapping[str, Any]
    records: Mapping[Slot, Record]


@dataclass
class FilesPlan:
    """What there is to make, and the files that are not to be there since nothing is in the cube. Counts are of files."""

    plans: list[FilePlan] = field(default_factory=list)
    left_out: list[TileFile] = field(default_factory=list)
    empty: int = 0
    pending: int = 0
    absent: int = 0


@dataclass(frozen=True)
class Layout:
    """How a cube is cut into files: ``grid`` has the tiles as its regions, ``pattern`` is None where names are the usual ones."""

    spec: CubeSpec
    grid: Grid
    format: Format
    pattern: str | None = None

    @property
    def tile_spec(self) -> CubeSpec:
        """The spec with tiles for regions."""
        return replace(self.spec, grid=self.grid)

    def file(self, variable: Variable, position: tuple[int, ...], iy: int, ix: int) -> TileFile:
        """The COG of one variable, position and place."""
        region = self.grid.region_id(iy, ix)
        labels = [a.labels[i] for a, i in zip(self.spec.axes_of(variable), position, strict=True)]
        what = " ".join([variable.name, *labels, region, self._pixels(iy, ix)])
        return TileFile(self.name((variable,), position, region), what, position)

    def table(
        self, variables: tuple[Variable, ...], blocks: Collection[tuple[int, ...]], iy: int, ix: int, grouped: bool
    ) -> TileFile:
        """The table of all ``variables`` in one place, of the values in ``blocks`` of their axes."""
        region = self.grid.region_id(iy, ix)
        axes = zip(self.spec.axes_of(variables[0]), zip(*blocks, strict=True), strict=False)
        values = [text for axis, own in axes if (text := _values_text(axis, set(own)))]
        what = " ".join([*(v.name for v in variables), *values, region, self._pixels(iy, ix)])
        return TileFile(self.name(variables, (), region, grouped), what)

    def _pixels(self, iy: int, ix: int) -> str:
        y, x = self.grid.plane_slices(iy, ix)
        return f"({y.start}:{y.stop}, {x.start}:{x.stop})"

    def name(
        self, variables: tuple[Variable, ...], position: tuple[int, ...], region: str, grouped: bool = False
    ) -> str:
        """Name of a file. ``grouped`` says that there are files of several sets of axes."""
        first = variables[0]
        axes = self.spec.axes_of(first)
        if self.format == "cog":
            usual = "/".join(["{variable}", *(f"{{{a.name}}}" for a in axes), "{id}.tif"])
        else:
            usual = "{axes}/{id}.parquet" if grouped else "{id}.parquet"
        values = {a.name: (a.values[i], a.labels[i]) for a, i in zip(axes, position, strict=False)}
        texts: dict[str, tuple[Any, str]] = {"id": (region, region), **values}
        if self.format == "cog":
            texts["variable"] = (first.name, first.name)
        else:
            label = "-".join(first.axes) or "static"
            texts["axes"] = (label, label)
        return _fill(self.pattern or usual, texts, first.name)


def _values_text(axis: Axis, blocks: Collection[int]) -> str:
    """Which values of an axis a table is of: ``year=2000,2005``; nothing of all, so that a table of all grows with its axis."""
    labels = [label for b in sorted(blocks) for label in axis.labels[axis.block_slice(b)]]
    if len(labels) == len(axis.labels):
        return ""
    if len(labels) <= LABELS:
        return f"{axis.name}={','.join(labels)}"
    digest = hashlib.blake2b("\n".join(labels).encode(), digest_size=4).hexdigest()
    return f"{axis.name}={labels[0]}...{labels[-1]} ({len(labels)} values, {digest})"


def make_layout(spec: CubeSpec, tile_yx: tuple[int, int] | None, format_: str, pattern: str | None) -> Layout:
    """How to cut a cube. Raises :class:`GridError` for a format, size of tile or pattern that cannot be."""
    if format_ not in FORMATS:
        raise GridError(
            f"format {format_!r} is not known{nearest(format_, list(FORMATS))} (known: {', '.join(FORMATS)})"
        )
    kind: Format = "cog" if format_ == "cog" else "parquet"
    if pattern is not None:
        _check_pattern(pattern, kind)
    if spec.healpix is not None and kind == "cog":
        raise GridError("cells of HEALPix are no raster: format parquet writes them as tables")
    if spec.healpix is not None and tile_yx is not None:
        raise GridError("tile is a size in pixels: of cells of HEALPix each file has one region")
    return Layout(spec, spec.grid if tile_yx is None else _tile_grid(spec.tiling, tile_yx), kind, pattern)


def _tile_grid(grid: TilingGrid, tile_yx: tuple[int, int]) -> TilingGrid:
    try:
        y, x = map(operator.index, tile_yx)
    except (TypeError, ValueError):
        raise GridError(f"tile {tile_yx!r} is no size: give pixels as (rows, columns), such as (5000, 5000)") from None
    tile_yx = (y, x)
    for dim, own, n in zip(grid.dims_yx, tile_yx, grid.shape_yx, strict=True):
        if not 1 <= own <= n:
            raise GridError(f"tile {dim} is {own} pixels: it must be between 1 and the grid's {n}")
    try:
        return replace(grid, region_shape_yx=tile_yx)
    except GridError:  # ids are by edges, which are whole numbers for regions but not for these tiles
        return replace(grid, region_shape_yx=tile_yx, id_template="y{iy}_x{ix}")


def _check_pattern(pattern: str, kind: Format) -> None:
    try:
        fields = {name for _, name, _, _ in Formatter().parse(pattern) if name is not None}
    except ValueError as e:
        raise GridError(f"name {pattern!r} is not a valid pattern: {e}") from None
    if "id" not in fields:
        raise GridError(f"name {pattern!r} does not name {{id}}: all tiles would be one file")
    if not pattern.lower().endswith(FORMATS[kind]):
        raise GridError(f"name {pattern!r} must end with {FORMATS[kind][0]}")
    parts = PurePosixPath(pattern).parts
    if pattern.startswith(("/", "~")) or ".." in parts or any(p.startswith(".cubeingest") for p in parts):
        raise GridError(f"name {pattern!r} leads out of the output folder: name files below it")


def _fill(pattern: str, texts: Mapping[str, tuple[Any, str]], variable: str) -> str:
    out = []
    for literal, name, form, _ in Formatter().parse(pattern):
        out.append(literal)
        if name is None:
            continue
        if name not in texts:
            raise GridError(
                f"name {pattern!r}: {{{name}}} is not known of variable {variable!r}{nearest(name, list(texts))} (known: {', '.join(texts)})"
            )
        value, label = texts[name]
        try:
            out.append(format(value, form) if form else label)
        except (ValueError, TypeError) as e:
            raise GridError(f"name {pattern!r}: {{{name}:{form}}} does not fit {label!r}: {e}") from None
    filled = re.sub(r"[\\<\0-\x1f]", "_", "".join(out))
    for part in PurePosixPath(filled).parts:
        if part == ".." or len(part.encode()) > NAME_BYTES:
            raise GridError(
                f"name {filled[:80]!r} cannot be a file's: a part of it is '..', or longer than {NAME_BYTES} bytes"
            )
    return filled


# ---- which there are ------------------------------------------------------------------------------------------


def overlapped(grid: Grid, window: tuple[slice, slice]) -> list[tuple[int, int]]:
    """Lattice places of the regions of ``grid`` that share pixels with a window of it."""
    rows, columns = (range(s.start // r, -(-s.stop // r)) for s, r in zip(window, grid.plane_region_yx, strict=True))
    return list(itertools.product(rows, columns))


def _tiles_of(layout: Layout, chosen: Chosen) -> list[tuple[int, int]]:
    """Tiles that share pixels with a chosen region, row by row."""
    ny, nx = layout.grid.lattice_shape_yx
    if chosen.places is None:
        return list(itertools.product(range(ny), range(nx)))
    if layout.grid is layout.spec.grid:
        return sorted(chosen.places)
    return sorted({t for p in chosen.places for t in overlapped(layout.grid, layout.spec.grid.plane_slices(*p))})


def slots_below(layout: Layout, chosen: Chosen) -> Iterator[Slot]:
    """Every slot that a file of the selection is made of."""
    places = {p for t in _tiles_of(layout, chosen) for p in overlapped(layout.spec.grid, layout.grid.plane_slices(*t))}
    for v in chosen.variables:
        for block in itertools.product(*(chosen.blocks(a) for a in layout.spec.axes_of(v))):
            for iy, ix in sorted(places):
                yield Slot(v.name, block, iy, ix)


def plan_files(layout: Layout, chosen: Chosen, held: Held, selection: Selection, looks: Mapping[str, str]) -> FilesPlan:
    """The files of a selection. ``looks`` says, by variable, all that goes into a file besides its pixels, as text.

    Raises :class:`GridError` if two files would have one name.
    """
    out = FilesPlan()
    groups, spec = _groups(layout, chosen), layout.tile_spec
    for group, blocks in groups:
        for iy, ix in _tiles_of(layout, chosen):
            slot = Slot(group[0].name, blocks[0], iy, ix)
            if not is_in_part(spec, slot, selection.part):
                continue
            _plan_place(out, layout, group, blocks, slot, held, looks, grouped=len(groups) > 1)
    out.plans = out.plans[: selection.limit]
    _check_names(out)
    return out


def _groups(layout: Layout, chosen: Chosen) -> list[tuple[tuple[Variable, ...], list[tuple[int, ...]]]]:
    """(variables, axis blocks) of which each place has one plan: a block of a variable, or all of the variables of the same axes."""
    blocks = {
        v.name: list(itertools.product(*(chosen.blocks(a) for a in layout.spec.axes_of(v)))) for v in chosen.variables
    }
    if layout.format == "cog":
        return [((v,), [block]) for v in chosen.variables for block in blocks[v.name]]
    by_axes: dict[tuple[str, ...], list[Variable]] = {}
    for v in chosen.variables:
        by_axes.setdefault(v.axes, []).append(v)
    return [(tuple(vs), blocks[vs[0].name]) for vs in by_axes.values()]


def _plan_place(
    out: FilesPlan,
    layout: Layout,
    group: tuple[Variable, ...],
    blocks: list[tuple[int, ...]],
    slot: Slot,
    held: Held,
    looks: Mapping[str, str],
    grouped: bool,
) -> None:
    window = layout.grid.plane_slices(slot.iy, slot.ix)
    below = [
        Slot(v.name, block, *place) for v in group for block in blocks for place in overlapped(layout.spec.grid, window)
    ]
    files = tuple(_files_of(layout, group, blocks, slot, grouped))
    states = [int(held.states[s.variable][s.index]) for s in below]
    if DONE not in states:
        is_pending = any(
            state == NOTHING and held.expected[s.variable][s.index] for s, state in zip(below, states, strict=True)
        )
        name = "pending" if is_pending else "empty" if EMPTY in states else "absent"
        setattr(out, name, getattr(out, name) + len(files))
        out.left_out += files
        return
    records = [held.records.get(s) for s in below]
    stamp = _stamp([*(looks[v.name] for v in group), repr(window), *map(_stamp_of, below, records)])
    referring = next((r for r in records if r is not None and r.how == "virtual"), None)
    names = tuple(v.name for v in group)
    out.plans.append(
        FilePlan(
            slot,
            (),
            files=files,
            window=window,
            stamp=stamp,
            variables=names,
            blocks=tuple(blocks),
            referring=referring,
        )
    )


def _files_of(
    layout: Layout, group: tuple[Variable, ...], blocks: list[tuple[int, ...]], slot: Slot, grouped: bool
) -> Iterator[TileFile]:
    if layout.format == "parquet":
        yield layout.table(group, blocks, slot.iy, slot.ix, grouped)
        return
    for position in _positions(layout.spec.axes_of(group[0]), slot.block):
        yield layout.file(group[0], position, slot.iy, slot.ix)


def _positions(axes: Iterable[Axis], block: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    spans = (a.block_slice(b) for a, b in zip(axes, block, strict=True))
    return itertools.product(*(range(s.start, s.stop) for s in spans))


def _stamp_of(slot: Slot, record: Record | None) -> str:
    return f"{slot.block} {slot.iy},{slot.ix} {'' if record is None else stamp_of_region(record)}"


def _stamp(texts: Collection[str]) -> str:
    return hashlib.blake2b("\n".join([str(WRITTEN_AS), *texts]).encode(), digest_size=16).hexdigest()


def _check_names(planned: FilesPlan) -> None:
    """Raise :class:`GridError` if two files have one name, also where letters' case does not count."""
    owner: dict[str, str] = {}
    for file in (*(f for p in planned.plans for f in p.files), *planned.left_out):
        other = owner.setdefault(file.name.casefold(), file.what)
        if other != file.what:
            raise GridError(
                f"{file.name!r} would be the file of both {other!r} and {file.what!r}: name what tells them apart, such as "
                "{variable}/{year}/{id}.tif with --name"
            )
