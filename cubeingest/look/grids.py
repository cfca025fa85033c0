"""A picture of the grid: its regions on coastlines, with their ids, and those that are selected."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.grid import Grid, HealpixGrid, TilingGrid
from cubeingest.look.fields import GlobeField, field_of, raster_shape
from cubeingest.look.frame import (
    COAST,
    COAST_PIXELS,
    DPI,
    EDGE,
    INK,
    SOFT,
    add_axes,
    crs_name,
    draw_coast,
    draw_edges,
    draw_ground,
    new_figure,
    room_for_ticks,
    size_of,
    write_note,
    write_title,
)
from cubeingest.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Places = Collection[tuple[int, int]]

CHOSEN, LEFT_OUT = "#ee7733", "#ffffff"
"""Colours of selected regions, and of what veils those that a grid leaves out."""

SMALLEST_ID, LARGEST_ID = 3.6, 11.0
"""Points of region ids; smaller ones cannot be read, and are not drawn."""

ID_SHARE = 0.8
"""Of a region's width and height that its id takes at most; fonts are drawn up to a twentieth wider than they are, where pixels are few."""

LINE_HEIGHT = 1.15
"""Of a line of text, in font sizes."""

MOST_IDS = 6000
"""Ids that are drawn at most."""


def picture_grid(
    grid: Grid,
    name: str = "",
    chosen: Places | None = None,
    valid: Places | None = None,
    outlines: Sequence[np.ndarray[Any, Any]] = (),
) -> Axes:
    """Draw a grid's regions, with ids where they can be read. Returns matplotlib axes in CRS units.

    ``chosen`` are lattice places (iy, ix) to highlight, ``valid`` those that the grid is restricted to, ``outlines`` lines
    (n, 2) to draw, in CRS units.
    """
    if isinstance(grid, HealpixGrid):
        return picture_globe_grid(grid, name, chosen, valid, outlines)
    assert isinstance(grid, TilingGrid)
    bounds = grid.bounds()
    wide, high = size_of(bounds, grid.crs)
    left = room_for_ticks(grid.crs)
    figure = new_figure(max(left + wide + 0.25, 5.2), high + 1.15)
    axes = add_axes(figure, (left, 0.5, wide, high), bounds, grid.crs)
    draw_ground([axes], bounds, grid.crs)
    draw_coast([axes], bounds, grid.crs)
    draw_edges(axes, grid)
    if valid is not None:
        _fill(axes, grid, _lattice(grid, valid) ^ True, LEFT_OUT, 0.72, 2.7)
    if chosen is not None:
        _fill(axes, grid, _lattice(grid, chosen), CHOSEN, 0.42, 2.8)
        _outline(axes, grid, _lattice(grid, chosen))
    for outline in outlines:
        axes.plot(*outline.T, color=INK, linewidth=1.1, zorder=5, scalex=False, scaley=False)
    _write_ids(axes, grid, wide, high, valid)
    (ny, nx), (ry, rx) = grid.lattice_shape_yx, grid.region_shape_yx
    title = f"{name}: " if name else ""
    write_title(
        figure,
        title + _counted(grid, chosen),
        f"{ny} rows, {nx} columns; a region is {ry:,} pixels high and {rx:,} wide; {crs_name(grid.crs)}",
        0.6,
    )
    if valid is not None:
        write_note(figure, f"pale: not among the {len(valid):,} regions that the spec leaves valid", left)
    return axes


def picture_globe_grid(
    grid: HealpixGrid,
    name: str,
    chosen: Places | None,
    valid: Places | None,
    outlines: Sequence[np.ndarray[Any, Any]],
) -> Axes:
    """As :func:`picture_grid`, on a view of the globe; ``outlines`` are in longitudes and latitudes."""
    field = field_of(grid)
    assert isinstance(field, GlobeField)
    (wide, high), left = field.size(), field.left
    figure = new_figure(max(left + wide + 0.25, 5.2), high + 1.25)
    axes = field.add_axes(figure, (left, 0.5, wide, high), ticks=True)
    field.ground([axes], COAST_PIXELS, labels=True)
    field.coast([axes], COAST_PIXELS, COAST, 0.5)
    field.edges(axes)
    if valid is not None:
        field.fill(axes, _lattice(grid, valid), [(LEFT_OUT, 0.72)], 2.7, True)
    if chosen is not None:
        field.fill(axes, np.where(_lattice(grid, chosen), 0, 1), [(CHOSEN, 0.42)], 2.8, True)
    for line in field.globe.lines([_dense(outline) for outline in outlines]):
        axes.plot(*line.T, color=INK, linewidth=1.1, zorder=5, scalex=False, scaley=False)
    _write_globe_ids(axes, field, valid)
    title = f"{name}: " if name else ""
    n = grid.cells_in_region
    write_title(
        figure, title + _counted(grid, chosen),
        f"a region is a cell of order {grid.region_order}, with {counted(n, 'cell')} of order {grid.order}; HEALPix on {grid.ellipsoid}", left,
    )  # fmt: skip
    if valid is not None:
        write_note(figure, f"pale: not among the {len(valid):,} regions that the spec leaves valid", left)
    return axes


def _write_globe_ids(axes: Axes, field: GlobeField, valid: Places | None) -> None:
    """Ids in the middle of their regions, where they fit."""
    grid, (rows, columns) = field.grid, raster_shape(axes)
    places = field.raster(rows, columns)
    found, counts = np.unique(places[places >= 0], return_counts=True)
    if not found.size or found.size > MOST_IDS:
        return
    widest = max(_font_sizes(grid.region_id(0, ix)) for ix in found.tolist())
    inside = places >= 0
    at_y, at_x = (np.bincount(places[inside], weights=at)[found] / counts for at in np.nonzero(inside))
    side = np.sqrt(counts) * 72 / DPI
    points = np.minimum(LARGEST_ID, 0.6 * side / widest)
    typical = float(np.median(points))
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for ix, px, py, size in zip(found.tolist(), at_x.tolist(), at_y.tolist(), points.tolist(), strict=True):
        # A region cut in two by the edge of the map has its middle elsewhere.
        is_own = places[min(rows - 1, round(py)), min(columns - 1, round(px))] == ix
        if not is_own or min(size, typical) < SMALLEST_ID or (valid is not None and (0, ix) not in valid):
            continue
        axes.text(
            left + (right - left) * (px + 0.5) / columns, top - (top - bottom) * (py + 0.5) / rows, grid.region_id(0, ix), fontsize=min(size, typical),
            color=EDGE, ha="center", va="center", zorder=6, clip_on=True, parse_math=False,
        )  # fmt: skip


def _counted(grid: Grid, chosen: Places | None) -> str:
    regions = counted(grid.n_regions, "region")
    return regions if chosen is None else f"{len(chosen):,} of {regions} selected"


def _dense(line: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A line of longitudes and latitudes with a point for each degree."""
    import shapely

    dense: np.ndarray[Any, Any] = shapely.get_coordinates(shapely.segmentize(shapely.linestrings(line), 1.0))
    return dense


def _lattice(grid: Grid, places: Places) -> np.ndarray:
    out = np.zeros(grid.lattice_shape_yx, bool)
    if places:
        out[tuple(np.array(sorted(places)).T)] = True
    return out


def _fill(axes: Axes, grid: TilingGrid, where: np.ndarray, colour: str, alpha: float, zorder: float) -> None:
    from matplotlib.colors import ListedColormap

    y, x = grid.region_edges
    shown = np.ma.masked_where(~where, where.astype(np.uint8))
    axes.pcolormesh(
        x,
        y,
        shown,
        cmap=ListedColormap([colour]),
        alpha=alpha,
        zorder=zorder,
        linewidth=0,
        rasterized=where.size > 20_000,
    )


def _outline(axes: Axes, grid: TilingGrid, where: np.ndarray) -> None:
    """The outer edge of chosen regions."""
    from matplotlib.collections import LineCollection

    y, x = grid.region_edges
    padded = np.pad(where, 1)
    across = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])
    along = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])
    lines = [[(x[j], y[i]), (x[j + 1], y[i])] for i, j in across.tolist()]
    lines += [[(x[j], y[i]), (x[j], y[i + 1])] for i, j in along.tolist()]
    axes.add_collection(
        LineCollection(lines, colors="#b3500f", linewidths=1.4, zorder=4, capstyle="round"), autolim=False
    )


def _write_ids(axes: Axes, grid: TilingGrid, wide: float, high: float, valid: Places | None) -> None:
    """Ids in the middle of their regions, as large as they fit, on two lines if that is larger."""
    nx = grid.lattice_shape_yx[1]
    if grid.n_regions > MOST_IDS:
        return
    left, bottom, right, top = grid.bounds()
    y, x = grid.region_edges
    cell_wide = abs(x[1] - x[0]) / (right - left) * wide * 72
    cell_high = abs(y[1] - y[0]) / (top - bottom) * high * 72
    ids = list(grid.region_ids())
    broken = [_broken(i) for i in ids]
    points, texts = max(((_points(t, cell_wide, cell_high), t) for t in (ids, broken)), key=lambda found: found[0])
    if points < SMALLEST_ID:
        return
    for n, text in enumerate(texts):
        iy, ix = divmod(n, nx)
        if valid is not None and (iy, ix) not in valid:
            continue
        own_wide, own_high = abs(x[ix + 1] - x[ix]) / abs(x[1] - x[0]), abs(y[iy + 1] - y[iy]) / abs(y[1] - y[0])
        fits = min(
            points, _points([text], cell_wide * own_wide, cell_high * own_high)
        )  # the last row and column may be narrow
        if fits < SMALLEST_ID:
            continue
        axes.text(
            (x[ix] + x[ix + 1]) / 2, (y[iy] + y[iy + 1]) / 2, text, fontsize=fits, color=SOFT if points < 6 else EDGE,
            ha="center", va="center", linespacing=1.0, zorder=6, clip_on=True, parse_math=False,
        )  # fmt: skip


def _broken(text: str) -> str:
    """An id on two lines, cut at the mark that is nearest to its middle; as it is, if it has none."""
    marks = [m.end() for m in re.finditer(r"[_\-./ ]", text)]
    if not marks:
        return text
    at = min(marks, key=lambda m: abs(m - len(text) / 2))
    return text[: at - 1] + "\n" + text[at:]


def _points(texts: list[str], wide: float, high: float) -> float:
    """The largest size at which all texts fit a cell of so many points, with a margin."""
    lines = max(t.count("\n") + 1 for t in texts)
    widest = max(_font_sizes(line) for t in texts for line in t.split("\n"))
    return min(LARGEST_ID, ID_SHARE * wide / widest, ID_SHARE * high / (LINE_HEIGHT * lines))


@lru_cache(maxsize=2 * MOST_IDS)
def _font_sizes(line: str) -> float:
    """How wide a line of text is, in font sizes."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(line or " ", FontProperties(size=100), False)
    return max(0.1, float(width) / 100)
