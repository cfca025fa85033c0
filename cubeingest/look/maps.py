"""A picture of a variable's pixels, with a colour bar or the names of its classes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.axes import Axis
from cubeingest.boxes import Box, query_boxes
from cubeingest.errors import GridError
from cubeingest.grid import TilingGrid
from cubeingest.look.colours import Colours, is_missing, read_colours
from cubeingest.look.frame import (
    EDGE,
    INK,
    SMALL_POINTS,
    SOFT,
    TEXT_POINTS,
    add_axes,
    cut_text,
    draw_coast,
    draw_edges,
    new_figure,
    room_for_ticks,
    size_of,
    write_note,
    write_title,
)
from cubeingest.look.globemaps import GlobeMap, read_globe_map
from cubeingest.look.pixels import Picture, PixelReader
from cubeingest.look.samples import Window
from cubeingest.selection import Selection, choose
from cubeingest.spec import CubeSpec, Variable
from cubeingest.status import NOT_CHOSEN, PENDING, read_slot_states
from cubeingest.store import Store
from cubeingest.wording import counted

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

BOTTOM, TOP = 0.5, 0.66
"""Inches below and above the axes."""

NAME_LETTERS = 30
"""Letters of a class name in a legend."""

MISSING_NAME = "no data"
"""Of missing pixels, in a legend: those with the fill value, or where nothing is ingested."""

SWATCH_ROOM = 0.36
"""Inches below a colour bar that what missing pixels mean takes."""

ENOUGH_ACROSS = 8
"""Regions along a side of the picture up to which their edges are drawn more strongly."""


@dataclass(frozen=True)
class MapView:
    """What a map shows: pixels of one variable at one value of each axis (``labels``), within a window, and how they are coloured.

    ``chosen`` are those of the picture's pixels that are of selected regions; None if all are. ``notes`` say what the picture cannot.
    """

    spec: CubeSpec
    snapshot: str
    variable: Variable
    labels: Mapping[str, str]
    window: Window
    picture: Picture
    colours: Colours
    chosen: npt.NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> np.ndarray[Any, Any]:
        """The pixels that are selected, flat or in rows."""
        return self.picture.pixels if self.chosen is None else self.picture.pixels[self.chosen]

    @property
    def own_note(self) -> str:
        """That note which says how the pixels were read."""
        return self.picture.note

    @property
    def size(self) -> tuple[float, float]:
        """Inches (width, height) that it takes."""
        return size_of(self._bounds, self.spec.tiling.crs)

    @property
    def left(self) -> float:
        """Inches at its left that labels take."""
        return room_for_ticks(self.spec.tiling.crs)

    @property
    def _bounds(self) -> Box:
        return bounds_of(self.spec.tiling, self.window)

    def draw(self, figure: Figure, place: tuple[float, float, float, float], colours: Colours) -> Axes:
        """Axes at (left, bottom, width, height) inches of a figure, with the pixels."""
        axes = add_axes(figure, place, self._bounds, self.spec.tiling.crs)
        axes.set_facecolor(colours.missing)
        _paint(axes, self, colours)
        return axes

    def edges(self, axes: Axes) -> None:
        """Edges of regions."""
        grid = self.spec.tiling
        draw_edges(axes, grid, EDGE, 0.3 if max(_across(grid, self.window)) > ENOUGH_ACROSS else 0.5)

    def coast(self, axes: Axes) -> None:
        draw_coast([axes], self._bounds, self.spec.tiling.crs, colour=INK, width=0.4)

    def to_json(self) -> dict[str, Any]:
        """What a map shows, as plain data."""
        y, x = self.window
        return {"window": {"y": [y.start, y.stop], "x": [x.start, x.stop]}, "step": self.picture.step}


def read_map(store: Store, selection: Selection) -> MapView | GlobeMap:
    """Read what a map of a selection shows: its one variable (the cube's first by default), one value of each axis (the first by default), and
    the pixels within its bbox that are of its regions. Where it names regions or a polygon, others are left blank.

    Raises :class:`GridError` for several variables, several values of an axis, what the cube does not have, and a bbox and regions apart.
    """
    reader = PixelReader(store)
    spec = reader.spec
    if len(set(selection.variables)) > 1:
        raise GridError(f"a map shows one variable, not {len(selection.variables)}: {', '.join(selection.variables)}")
    variable = spec.variable(selection.variables[0]) if selection.variables else spec.variables[0]
    position = {name: _position(spec.grid.axis(name), texts) for name, texts in selection.axes.items()}
    if spec.healpix is not None:
        view = read_globe_map(reader.store, selection, variable, position)
        nothing = is_missing(view.shown, view.colours.fill, view.colours.valid).all()
        return (
            replace(view, notes=(_why_nothing(reader.store, selection, variable, position), *view.notes))
            if nothing
            else view
        )
    window, places = _window(spec, selection)
    picture = _read_round(reader, variable, position, window)
    if picture is None:  # the parts on either side of the antimeridian would be of different detail
        window = window[0], slice(0, spec.tiling.shape_yx[1])
        picture = reader.read(variable, position, window)
    labels = {a.name: a.labels[position.get(a.name, 0)] for a in spec.axes_of(variable)}
    chosen = None if places is None else _chosen_pixels(spec.tiling, picture, places)
    shown = picture.pixels if chosen is None else picture.pixels[chosen]
    colours = read_colours(variable, shown)
    nothing = is_missing(shown, colours.fill, colours.valid).all()
    notes = [
        _why_nothing(reader.store, selection, variable, position) if nothing else "",
        "" if chosen is None else "white: not selected",
        picture.note,
    ]
    said = tuple(note for note in notes if note)
    return MapView(spec, reader.store.tip, variable, labels, window, picture, colours, chosen, said)


def picture_map(view: MapView | GlobeMap, colours: Colours | None = None) -> Axes:
    """Draw a map with a colour bar, or the names of its classes. Returns matplotlib axes in CRS units.

    Colours and legend are by the variable's attributes (see ``docs/pictures.md``) unless others are given; missing pixels are grey.
    """
    colours = colours or view.colours
    where = is_missing(view.shown, colours.fill, colours.valid)
    missing = bool(where.any())
    names = [cut_text(row.name, NAME_LETTERS) for row in colours.legend]
    is_classes = colours.kind == "classes" or bool(where.all())
    aside = 0.62 + 0.075 * max([10, *map(len, names)]) if is_classes else 0.95
    (wide, high), left = view.size, view.left
    rows = len(names) + missing + bool(colours.more)
    figure = new_figure(max(left + wide + aside, 5.2), TOP + max(high, 0.2 * rows if is_classes else 1.4) + BOTTOM)
    base = float(figure.get_size_inches()[1]) - TOP - high
    axes = view.draw(figure, (left, base, wide, high), colours)
    view.edges(axes)
    view.coast(axes)
    place = (left + wide + 0.14, base, high)
    if is_classes:
        _write_classes(figure, colours, names, missing, place)
    else:
        _draw_bar(figure, colours, missing, place)
    title = ", ".join([colours.title, *(f"{name} {label}" for name, label in view.labels.items())])
    names_of = [view.spec.name, *([view.variable.name] if colours.title != view.variable.name else [])]
    write_title(figure, title, " · ".join(names_of), left)
    write_note(figure, "; ".join([*view.notes, *colours.warnings]), left)
    return axes


def _read_round(reader: PixelReader, variable: Variable, position: Mapping[str, int], window: Window) -> Picture | None:
    """Read a window, also one that goes past the last column and on from the first; None if the two parts cannot be joined."""
    y, x = window
    n = reader.spec.tiling.shape_yx[1]
    if x.stop <= n:
        return reader.read(variable, position, window)
    longest = max(y.stop - y.start, x.stop - x.start)
    first = reader.read(variable, position, (y, slice(x.start, n)), longest=longest)
    second = reader.read(variable, position, (y, slice(0, x.stop - n)), longest=longest)
    if first.step != second.step:
        return None
    pixels = np.concatenate([first.pixels, second.pixels], axis=1)
    along_x = slice(first.window[1].start, first.window[1].start + pixels.shape[1] * first.step)
    return Picture(pixels, (first.window[0], along_x), first.step, first.note)


def _position(axis: Axis, texts: Sequence[str]) -> int:
    """Where an axis has the one value that is asked for."""
    if len(set(texts)) > 1 or ".." in texts[0]:
        raise GridError(f"a map shows one value of axis {axis.name!r}, not {', '.join(texts)}: say which")
    return axis.index(texts[0])


def _window(spec: CubeSpec, selection: Selection) -> tuple[Window, Collection[tuple[int, int]] | None]:
    """The pixels that a selection's bbox touches, as far as its regions reach, and these (iy, ix); all without either, and None for all regions.

    Raises :class:`GridError` if bbox and regions have nothing in common.
    """
    grid = spec.tiling
    places = choose(spec, replace(selection, axes={}, limit=None)).places
    box = None if selection.bbox is None else window_of_bbox(grid, selection.bbox)
    if not selection.regions and selection.polygon is None:
        return box or (slice(0, grid.shape_yx[0]), slice(0, grid.shape_yx[1])), None
    window = _within(grid, places, box) if places else None
    if not places or window is None:
        raise GridError("what is selected has nothing in common: no region is in all of its regions, bbox and polygon")
    return window, places


def _within(grid: TilingGrid, places: Collection[tuple[int, int]], box: Window | None) -> Window | None:
    """The smallest window that holds those parts of regions that lie in a window, which may go on past the last column; None if there are none."""
    if box is None:
        return window_of_places(grid, places)
    (y, x), nx = box, grid.shape_yx[1]
    parts = []
    for py, px in (grid.slices(*p) for p in places):
        for turn in (0, nx):
            part = max(y.start, py.start), min(y.stop, py.stop), max(x.start, px.start + turn), min(x.stop, px.stop + turn)  # fmt: skip
            if part[0] < part[1] and part[2] < part[3]:
                parts.append(part)
    if not parts:
        return None
    (y0, _, x0, _), (_, y1, _, x1) = np.min(parts, axis=0).tolist(), np.max(parts, axis=0).tolist()
    turn = nx if x0 >= nx else 0
    return slice(y0, y1), slice(x0 - turn, x1 - turn)


def _chosen_pixels(
    grid: TilingGrid, picture: Picture, places: Collection[tuple[int, int]]
) -> npt.NDArray[np.bool_] | None:
    """Which of a picture's pixels are of regions at lattice places (iy, ix); None if all are."""
    lattice = np.zeros(grid.lattice_shape_yx, bool)
    lattice[tuple(np.array(sorted(places)).T)] = True
    at = []
    for along, k, n, region in zip(
        picture.window, picture.pixels.shape, grid.shape_yx, grid.region_shape_yx, strict=True
    ):
        start = along.start + np.arange(k) * picture.step
        rest = start >= n  # past the last column it goes on from the first
        start[rest] = np.arange(np.count_nonzero(rest)) * picture.step
        at.append(np.minimum(start + picture.step // 2, n - 1) // region)
    chosen: npt.NDArray[np.bool_] = lattice[np.ix_(*at)]
    return None if chosen.all() else chosen


def _why_nothing(store: Store, selection: Selection, variable: Variable, position: Mapping[str, int]) -> str:
    """What to say of a map without a pixel: whether there may be some later."""
    axes = {a.name: (a.block_label(position.get(a.name, 0) // a.block),) for a in store.spec.axes_of(variable)}
    selection = replace(selection, axes=axes, variables=(variable.name,), limit=None)
    states = read_slot_states(store, selection).states[variable.name]
    total, pending = (int(np.count_nonzero(found)) for found in (states != NOT_CHOSEN, states == PENDING))
    return f"no data here yet: {pending:,} of {counted(total, 'slot')} pending" if pending else "no data here"


def bounds_of(grid: TilingGrid, window: Window) -> Box:
    """(left, bottom, right, top) of a window of pixels, which may reach past the grid, in CRS units."""
    y, x = window
    ys = [float(grid.origin_y + i * grid.resolution_y) for i in (y.start, y.stop)]
    xs = [float(grid.origin_x + i * grid.resolution_x) for i in (x.start, x.stop)]
    return xs[0], min(ys), xs[1], max(ys)


def window_of_bbox(grid: TilingGrid, bbox: Box) -> Window:
    """The pixels that a box of longitudes and latitudes touches: all from the first to the last, where it is there in several turns of the globe.
    One across the seam of a grid that goes all round ends past the grid's last column, by so many pixels as lie at its first.

    Raises :class:`GridError` if it lies outside the grid.
    """
    (ny, nx), found = grid.shape_yx, []
    for (left, bottom, right, top), _ in query_boxes(bbox, "OGC:CRS84", grid.crs):
        ys = sorted((edge - float(grid.origin_y)) / float(grid.resolution_y) for edge in (bottom, top))
        xs = [(edge - float(grid.origin_x)) / float(grid.resolution_x) for edge in (left, right)]
        y0, y1, x0, x1 = (*_pixels(ys, ny), *_pixels(xs, nx))
        if y0 < y1 and x0 < x1:
            found.append((y0, y1, x0, x1))
    if not found:
        raise GridError(f"bbox {tuple(bbox)} overlaps no pixel of the grid, whose bounds are {grid.bounds()}")
    turn = grid.turn_px
    east = [f for f in found if f[2] > 0 and f[3] == nx]
    west = [f for f in found if f[2] == 0 and f[3] < nx]
    if turn == nx and len(found) == 2 and east and west and west[0][3] <= east[0][2]:
        return slice(east[0][0], east[0][1]), slice(east[0][2], nx + west[0][3])
    y0, _, x0, _ = np.min(found, axis=0).tolist()
    _, y1, _, x1 = np.max(found, axis=0).tolist()
    return slice(y0, y1), slice(x0, x1)


def window_of_places(grid: TilingGrid, places: Collection[tuple[int, int]]) -> Window:
    """The smallest window that holds regions at lattice places (iy, ix)."""
    parts = [grid.slices(*p) for p in places]
    y, x = (slice(min(p[d].start for p in parts), max(p[d].stop for p in parts)) for d in (0, 1))
    return y, x


def _pixels(edges: list[float], n: int) -> tuple[int, int]:
    """Half-open pixels between two places, within an array; noise of a millionth of a pixel does not count."""
    return max(0, math.floor(edges[0] + 1e-6)), min(n, math.ceil(edges[1] - 1e-6))


def _across(grid: TilingGrid, window: Window) -> list[float]:
    return [(s.stop - s.start) / r for s, r in zip(window, grid.region_shape_yx, strict=True)]


def _paint(axes: Axes, view: MapView, colours: Colours) -> None:
    grid, picture = view.spec.tiling, view.picture
    left, bottom, right, top = bounds_of(grid, picture.window)
    origin: Any = "upper" if grid.resolution_y < 0 else "lower"
    limits = axes.get_xlim(), axes.get_ylim()
    room = axes.get_window_extent()
    # What matplotlib resamples it holds several times as floats: it gets no more than it can show.
    kept = np.ix_(*(_thin(n, most) for n, most in zip(picture.pixels.shape, (room.height, room.width), strict=True)))
    painted = colours.paint(picture.pixels[kept])
    if view.chosen is not None:
        painted[~view.chosen[kept]] = 255
    axes.imshow(
        painted, extent=(left, right, bottom, top), origin=origin, aspect="auto", zorder=1,
        interpolation="nearest" if colours.kind == "classes" else "antialiased",
    )  # fmt: skip
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _thin(n: int, most: float) -> npt.NDArray[np.int64]:
    """Positions of at most so many of ``n`` pixels, evenly spaced."""
    kept = min(n, max(1, round(most)))
    return (np.arange(kept) * 2 + 1) * n // (2 * kept)


def _draw_bar(figure: Figure, colours: Colours, missing: bool, place: tuple[float, float, float]) -> None:
    """A colour bar beside the axes, as long as they are high, up to four inches; below it what the colour of missing pixels means, if there are any."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    width, height = figure.get_size_inches()
    left, bottom, high = place
    long = min(4.0, max(high, 1.2)) - (SWATCH_ROOM if missing else 0)
    bar = figure.add_axes((left / width, (bottom + high - long) / height, 0.16 / width, long / height))
    mappable = ScalarMappable(Normalize(colours.low, colours.high), ListedColormap(colours.ramp / 255))
    drawn = figure.colorbar(mappable, cax=bar, extend=colours.extend, extendfrac=0.03)
    drawn.outline.set_linewidth(0.5)
    bar.tick_params(labelsize=SMALL_POINTS, colors=INK, length=2.5, width=0.5)
    bar.yaxis.get_offset_text().set_fontsize(SMALL_POINTS)
    bar.set_ylabel(cut_text(colours.units, 40), fontsize=TEXT_POINTS, color=INK, parse_math=False)
    if missing:
        rows = [_swatch(colours.missing, MISSING_NAME)]
        _write_rows(figure, rows, (left - 0.06, bottom + high - long - SWATCH_ROOM + 0.22))


def _write_classes(
    figure: Figure, colours: Colours, names: list[str], missing: bool, place: tuple[float, float, float]
) -> None:
    left, bottom, high = place
    rows = [_swatch(row.colour, name) for row, name in zip(colours.legend, names, strict=True)]
    if colours.more:
        rows.append(_swatch("none", f"and {colours.more} more", edge="none"))
    if missing:
        rows.append(_swatch(colours.missing, MISSING_NAME))
    _write_rows(figure, rows, (left - 0.06, bottom + high + 0.06))


def _swatch(colour: str, name: str, edge: str = SOFT) -> Patch:
    from matplotlib.patches import Patch

    return Patch(facecolor=colour, edgecolor=edge, linewidth=0.4, label=name)


def _write_rows(figure: Figure, rows: list[Patch], place: tuple[float, float]) -> None:
    """Colours and what they mean, from so many inches from the left and the foot of a figure downwards."""
    width, height = figure.get_size_inches()
    legend = figure.legend(
        handles=rows, loc="upper left", bbox_to_anchor=(place[0] / width, place[1] / height), frameon=False,
        fontsize=SMALL_POINTS, labelcolor=INK, handlelength=1.2, handleheight=1.1, handletextpad=0.6, labelspacing=0.35, borderpad=0.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
