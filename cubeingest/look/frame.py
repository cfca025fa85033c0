"""The field of a picture: a figure whose axes fit a box of the grid's CRS exactly, ground, ticks, region edges, texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.boxes import Box, parse_crs
from cubeingest.coast import coast_within, land_within
from cubeingest.extras import import_extra
from cubeingest.grid import TilingGrid
from cubeingest.sketch import aspect_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 160

WIDTH, HEIGHT = 10.4, 8.4
"""Inches that the axes of a picture may take."""

SMALLEST = 1.1
"""Inches that they have at least along either side, however narrow the grid."""

SEA, LAND, COAST, EDGE, INK, SOFT = "#eaf1f5", "#f7f4ec", "#8a8578", "#5b6770", "#22282c", "#6b757c"
"""Colours of the ground, of region edges, of texts and of remarks."""

TITLE_POINTS, TEXT_POINTS, SMALL_POINTS = 12.0, 9.0, 7.5

COAST_PIXELS = 1400
"""Pixels along the longer side of a picture that coastlines are detailed for."""

MOST_LINES = 600
"""Region edges along one side that are drawn; of more, none could be told apart."""


def size_of(bounds: Box, crs: str, width: float = WIDTH, height: float = HEIGHT) -> tuple[float, float]:
    """Inches (width, height) of axes that show a box as large as it fits."""
    left, bottom, right, top = bounds
    ratio = (top - bottom) * aspect_of(bounds, crs) / (right - left)
    wide = min(width, height / ratio)
    return max(wide, min(SMALLEST, width)), max(wide * ratio, min(SMALLEST, height))


def room_for_ticks(crs: str) -> float:
    """Inches at the left of axes that the labels of their ticks take."""
    return 0.7 if parse_crs(crs).is_geographic else 0.9


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, without pyplot, and so without state that others share. Raises :class:`ExtraError` without matplotlib."""
    check_drawing()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white")


def check_drawing() -> None:
    """Raise :class:`ExtraError` where no picture can be drawn."""
    import_extra("matplotlib", "pictures", "a picture")


def add_axes(figure: Figure, box: tuple[float, float, float, float], bounds: Box, crs: str, ticks: bool = True) -> Axes:
    """Axes at (left, bottom, width, height) inches of a figure that show ``bounds``, with ticks if they are wanted."""
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((box[0] / wide, box[1] / high, box[2] / wide, box[3] / high))
    axes.set_xlim(bounds[0], bounds[2])
    axes.set_ylim(bounds[1], bounds[3])
    axes.set_aspect("auto")  # the box has the right shape already
    axes.set_facecolor(SEA)
    for spine in axes.spines.values():
        spine.set_color(EDGE)
        spine.set_linewidth(0.6)
    if ticks:
        _set_ticks(axes, crs, box[2], box[3])
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    return axes


def draw_ground(axes_list: Sequence[Axes], bounds: Box, crs: str, pixels: int = COAST_PIXELS) -> None:
    """Draw land below everything, in each of several axes of one view."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    paths = [
        Path.make_compound_path(*(Path(np.asarray(r.coords), closed=True) for r in (p.exterior, *p.interiors)))
        for p in land_within(bounds, crs, pixels)
    ]
    for axes in axes_list:
        axes.add_collection(PathCollection(paths, facecolors=LAND, edgecolors="none", zorder=0.5), autolim=False)


def draw_coast(
    axes_list: Sequence[Axes],
    bounds: Box,
    crs: str,
    pixels: int = COAST_PIXELS,
    colour: str = COAST,
    width: float = 0.5,
) -> None:
    """Draw coastlines above what is there, in each of several axes of one view."""
    from matplotlib.collections import LineCollection

    lines = coast_within(bounds, crs, pixels)
    for axes in axes_list:
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, zorder=2.5), autolim=False)


def draw_edges(axes: Axes, grid: TilingGrid, colour: str = EDGE, width: float = 0.4) -> None:
    """Draw the edges of a grid's regions, as far as they can be told apart."""
    y, x = grid.region_edges
    left, bottom, right, top = grid.bounds()
    if axes.get_xlim()[1] > right and grid.turn_px is not None:  # a view across the antimeridian
        x, right = np.concatenate([x, x[1:] + 360]), axes.get_xlim()[1]
    width *= min(1.0, 60 / max(len(x), len(y)) + 0.1)
    if len(y) <= MOST_LINES:
        axes.hlines(y[1:-1], left, right, colors=colour, linewidths=width, zorder=3)
    if len(x) <= MOST_LINES:
        axes.vlines(x[1:-1], bottom, top, colors=colour, linewidths=width, zorder=3)


def write_title(figure: Figure, title: str, remark: str, left: float) -> None:
    """Title and remark, above what a figure shows, from so many inches from its left; cut where the figure ends."""
    wide, high = figure.get_size_inches()
    room = wide - left - 0.15
    x = left / wide
    for text, down, points, colour, weight in (
        (title, 0.13, TITLE_POINTS, INK, "bold"),
        (remark, 0.36, TEXT_POINTS, SOFT, "normal"),
    ):
        kept = cut_text(text, letters_in(room, points))
        figure.text(x, 1 - down / high, kept, fontsize=points, color=colour, va="top", weight=weight, parse_math=False)


def write_note(figure: Figure, note: str, left: float) -> None:
    """A small line at the foot of a figure, ``left`` inches from its side; cut where the figure ends."""
    wide, high = figure.get_size_inches()
    text = cut_text(note, letters_in(wide - left - 0.1, SMALL_POINTS))
    figure.text(left / wide, 0.08 / high, text, fontsize=SMALL_POINTS, color=SOFT, va="bottom", parse_math=False)


def letters_in(inches: float, points: float) -> int:
    """How many letters so many inches hold; they are a little more than half as wide as high."""
    return max(8, int(inches * 72 / (points * 0.55)))


def cut_text(text: str, most: int) -> str:
    """A text of so many letters at most."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _set_ticks(axes: Axes, crs: str, width: float, height: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    geographic = parse_crs(crs).is_geographic
    steps = [1, 1.5, 3, 6, 10] if geographic else [1, 2, 2.5, 5, 10]
    for axis, inches, words in ((axes.xaxis, width, ("E", "W")), (axes.yaxis, height, ("N", "S"))):
        axis.set_major_locator(MaxNLocator(max(1, min(9, int(inches / 0.9))), steps=steps, min_n_ticks=1))
        named = name_degrees(words) if geographic else _lengths(crs)
        axis.set_major_formatter(FuncFormatter(named))
    axes.tick_params(labelsize=SMALL_POINTS, colors=SOFT, length=2.5, width=0.6, pad=2)


def name_degrees(words: tuple[str, str]) -> Any:
    """What writes degrees with a word for those above 0 and one for those below."""

    def name(value: float, _: Any = None) -> str:
        if words[0] == "E":
            value = (value + 180) % 360 - 180 if abs(value) != 180 else 180.0
        value = round(value, 9)
        word = "" if value == 0 or abs(value) == 180 else words[0] if value > 0 else words[1]
        return f"{abs(value):.7g}°{word}"

    return name


def _lengths(crs: str) -> Any:
    axis = parse_crs(crs).axis_info[:1]
    is_metre = bool(axis) and axis[0].unit_name in ("metre", "meter")

    def name(value: float, _: Any = None) -> str:
        if not is_metre:
            return f"{value:.8g}"
        return f"{value / 1000:.9g} km"

    return name


def crs_name(crs: str) -> str:
    """A CRS as people call it."""
    return crs if len(crs) <= 24 else parse_crs(crs).name
