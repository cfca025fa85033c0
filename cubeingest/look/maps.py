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
    size_of,
    write_note,
    write_title,
)
from cubeingest.look.pixels import Picture, PixelReader, Window
from cubeingest.plan import Selection, choose
from cubeingest.spec import CubeSpec, Variable
from cubeingest.store import Store

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT, BOTTOM, TOP = 0.7, 0.5, 0.66
"""Inches round the axes."""

NAME_LETTERS = 30
"""Letters of a class name in a legend."""

ENOUGH_ACROSS = 8
"""Regions along a side of the picture up to which their edges are drawn more strongly."""


@dataclass(frozen=True)
class MapView:
    """What a map shows: pixels of one variable at one value of each axis (``labels``), within a window, and how they are coloured."""

    spec: CubeSpec
    snapshot: str
    variable: Variable
    labels: Mapping[str, str]
    window: Window
    picture: Picture
    colours: Colours


def read_map(store: Store, selection: Selection) -> MapView:
    """Read what a map of a selection shows: its one variable (the cube's first by default), one value of each axis (the first by default), and
    the pixels within its bbox, or its regions.

    Raises :class:`GridError` for several variables, several values of an axis, or what the cube does not have.
    """
    reader = PixelReader(store)
    spec = reader.spec
    if len(set(selection.variables)) > 1:
        raise GridError(f"a map shows one variable, not {len(selection.variables)}: {', '.join(selection.variables)}")
    variable = spec.variable(selection.variables[0]) if selection.variables else spec.variables[0]
    position = {name: _position(spec.grid.axis(name), texts) for name, texts in selection.axes.items()}
    window = _window(spec, selection)
    picture = _read_round(reader, variable, position, window)
    if picture is None:  # the parts on either side of the antimeridian would be of different detail
        window = window[0], slice(0, spec.grid.shape_yx[1])
        picture = reader.read(variable, position, window)
    labels = {a.name: a.labels[position.get(a.name, 0)] for a in spec.axes_of(variable)}
    colours = read_colours(variable, picture.pixels)
    return MapView(spec, reader.store.tip, variable, labels, window, picture, colours)


def picture_map(view: MapView, colours: Colours | None = None, regions: bool = True) -> Axes:
    """Draw a map with a colour bar, or the names of its classes. Returns matplotlib axes in CRS units.

    Colours and legend are by the variable's attributes (see ``docs/pictures.md``) unless others are given; missing pixels are grey.
    """
    grid, picture, colours = view.spec.grid, view.picture, colours or view.colours
    bounds = bounds_of(grid, view.window)
    where = is_missing(picture.pixels, colours.fill, colours.valid)
    missing = bool(where.any())
    names = [cut_text(row.name, NAME_LETTERS) for row in colours.legend]
    is_classes = colours.kind == "classes"
    aside = 0.62 + 0.075 * max([10, *map(len, names)]) if is_classes else 0.95
    wide, high = size_of(bounds, grid.crs)
    rows = len(names) + missing + bool(colours.more)
    figure = new_figure(max(LEFT + wide + aside, 5.2), TOP + max(high, 0.2 * rows if is_classes else 1.4) + BOTTOM)
    base = float(figure.get_size_inches()[1]) - TOP - high
    axes = add_axes(figure, (LEFT, base, wide, high), bounds, grid.crs)
    axes.set_facecolor(colours.missing)
    _paint(axes, grid, picture, colours)
    if regions:
        draw_edges(axes, grid, EDGE, 0.3 if max(_across(grid, view.window)) > ENOUGH_ACROSS else 0.5)
    draw_coast([axes], bounds, grid.crs, colour=INK, width=0.4)
    place = (LEFT + wide + 0.14, base, high)
    if is_classes:
        _write_classes(figure, colours, names, missing, place)
    else:
        _draw_bar(figure, colours, place)
    title = ", ".join([colours.title, *(f"{name} {label}" for name, label in view.labels.items())])
    names_of = [view.spec.name, *([view.variable.name] if colours.title != view.variable.name else [])]
    write_title(figure, title, " · ".join(names_of), LEFT)
    notes = [*["nothing is there yet"] * bool(where.all()), picture.note, *colours.warnings]
    write_note(figure, "; ".join([n for n in notes if n]), LEFT)
    return axes


def _read_round(reader: PixelReader, variable: Variable, position: Mapping[str, int], window: Window) -> Picture | None:
    """Read a window, also one that goes past the last column and on from the first; None if the two parts cannot be joined."""
    y, x = window
    n = reader.spec.grid.shape_yx[1]
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


def _window(spec: CubeSpec, selection: Selection) -> Window:
    """The pixels that a selection's bbox touches, or that its regions cover; all without either."""
    places = choose(spec, replace(selection, axes={}, limit=None)).places
    if selection.bbox is not None:
        return window_of_bbox(spec.grid, selection.bbox)
    if selection.regions or selection.polygon is not None:
        return window_of_places(spec.grid, places or frozenset())
    return slice(0, spec.grid.shape_yx[0]), slice(0, spec.grid.shape_yx[1])


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


def _paint(axes: Axes, grid: TilingGrid, picture: Picture, colours: Colours) -> None:
    left, bottom, right, top = bounds_of(grid, picture.window)
    origin: Any = "upper" if grid.resolution_y < 0 else "lower"
    limits = axes.get_xlim(), axes.get_ylim()
    room = axes.get_window_extent()
    # What matplotlib resamples it holds several times as floats: it gets no more than it can show.
    shown = picture.pixels[
        np.ix_(*(_thin(n, most) for n, most in zip(picture.pixels.shape, (room.height, room.width), strict=True)))
    ]
    axes.imshow(
        colours.paint(shown), extent=(left, right, bottom, top), origin=origin, aspect="auto", zorder=1,
        interpolation="nearest" if colours.kind == "classes" else "antialiased",
    )  # fmt: skip
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _thin(n: int, most: float) -> npt.NDArray[np.int64]:
    """Positions of at most so many of ``n`` pixels, evenly spaced."""
    kept = min(n, max(1, round(most)))
    return (np.arange(kept) * 2 + 1) * n // (2 * kept)


def _draw_bar(figure: Figure, colours: Colours, place: tuple[float, float, float]) -> None:
    """A colour bar beside the axes, as long as they are high, up to four inches."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    width, height = figure.get_size_inches()
    left, bottom, high = place
    long = min(4.0, max(high, 1.2))
    bar = figure.add_axes((left / width, (bottom + high - long) / height, 0.16 / width, long / height))
    mappable = ScalarMappable(Normalize(colours.low, colours.high), ListedColormap(colours.ramp / 255))
    drawn = figure.colorbar(mappable, cax=bar, extend=colours.extend, extendfrac=0.03)
    drawn.outline.set_linewidth(0.5)
    bar.tick_params(labelsize=SMALL_POINTS, colors=INK, length=2.5, width=0.5)
    bar.yaxis.get_offset_text().set_fontsize(SMALL_POINTS)
    bar.set_ylabel(cut_text(colours.units, 40), fontsize=TEXT_POINTS, color=INK)


def _write_classes(
    figure: Figure, colours: Colours, names: list[str], missing: bool, place: tuple[float, float, float]
) -> None:
    from matplotlib.patches import Patch

    width, height = figure.get_size_inches()
    left, bottom, high = place
    rows = [
        Patch(facecolor=row.colour, edgecolor=SOFT, linewidth=0.4, label=name)
        for row, name in zip(colours.legend, names, strict=True)
    ]
    if colours.more:
        rows.append(Patch(facecolor="none", edgecolor="none", label=f"and {colours.more} more"))
    if missing:
        rows.append(Patch(facecolor=colours.missing, edgecolor=SOFT, linewidth=0.4, label="no data"))
    legend = figure.legend(
        handles=rows, loc="upper left", bbox_to_anchor=((left - 0.06) / width, (bottom + high + 0.06) / height), frameon=False,
        fontsize=SMALL_POINTS, labelcolor=INK, handlelength=1.2, handleheight=1.1, handletextpad=0.6, labelspacing=0.35, borderpad=0.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
