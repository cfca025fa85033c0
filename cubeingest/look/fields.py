"""What pictures of regions are drawn on: the lattice of a grid in its CRS, or a view of the globe. Whoever draws need not know which."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cubeingest.boxes import Box
from cubeingest.grid import Grid, HealpixGrid, TilingGrid
from cubeingest.healpix import all_bounds, cells_at, outlines
from cubeingest.look.frame import (
    EDGE,
    HEIGHT,
    WIDTH,
    add_axes,
    draw_coast,
    draw_edges,
    draw_ground,
    room_for_ticks,
    size_of,
)
from cubeingest.look.globe import Globe, choose_globe, enclosing_box

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
Places = Collection[tuple[int, int]]

EDGE_POINTS = 12
"""Parts into which an edge of a region is cut where it is drawn on the globe."""

LEAST_REGION_PX, FULL_REGION_PX = 10, 60
"""Pixels along a region of a globe below which its edges are not drawn, as nothing else would be seen, and from which on they are as strong as can be."""

GLOBE_LEFT = 0.5
"""Inches at the left of a globe that labels of its graticule take."""


class Field(Protocol):
    """Where regions are drawn: ``bounds`` in units of ``crs``, ``left`` inches beside it for labels."""

    @property
    def bounds(self) -> Box: ...
    @property
    def crs(self) -> str: ...
    @property
    def left(self) -> float: ...
    def size(self, width: float = WIDTH, height: float = HEIGHT) -> tuple[float, float]:
        """Inches (width, height) of axes that show all of it."""
        ...

    def add_axes(self, figure: Figure, place: tuple[float, float, float, float], ticks: bool) -> Axes:
        """Axes at (left, bottom, width, height) inches, with ticks or labels if wanted."""
        ...

    def ground(self, axes: Sequence[Axes], pixels: int, labels: bool) -> None:
        """What lies below everything."""
        ...

    def coast(self, axes: Sequence[Axes], pixels: int, colour: str, width: float) -> None: ...
    def edges(self, axes: Axes, colour: str = EDGE, width: float = 0.4) -> None:
        """Edges of regions, as far as they can be told apart."""
        ...

    def fill(self, axes: Axes, kinds: Array, colours: Sequence[Any], zorder: float, rasterized: bool) -> None:
        """Regions (iy, ix) in the colours at the positions ``kinds``; none where there is no such colour."""
        ...


@dataclass(frozen=True)
class LatticeField:
    """A grid's lattice, in its CRS."""

    grid: TilingGrid

    @property
    def bounds(self) -> Box:
        return self.grid.bounds()

    @property
    def crs(self) -> str:
        return self.grid.crs

    @property
    def left(self) -> float:
        return room_for_ticks(self.crs)

    def size(self, width: float = WIDTH, height: float = HEIGHT) -> tuple[float, float]:
        return size_of(self.bounds, self.crs, width, height)

    def add_axes(self, figure: Figure, place: tuple[float, float, float, float], ticks: bool) -> Axes:
        return add_axes(figure, place, self.bounds, self.crs, ticks)

    def ground(self, axes: Sequence[Axes], pixels: int, labels: bool) -> None:
        draw_ground(axes, self.bounds, self.crs, pixels)

    def coast(self, axes: Sequence[Axes], pixels: int, colour: str, width: float) -> None:
        draw_coast(axes, self.bounds, self.crs, pixels, colour, width)

    def edges(self, axes: Axes, colour: str = EDGE, width: float = 0.4) -> None:
        draw_edges(axes, self.grid, colour, width)

    def fill(self, axes: Axes, kinds: Array, colours: Sequence[Any], zorder: float, rasterized: bool) -> None:
        from matplotlib.colors import ListedColormap

        y, x = self.grid.region_edges
        shown = np.ma.masked_where(kinds >= len(colours), kinds)
        axes.pcolormesh(
            x, y, shown, cmap=ListedColormap(list(colours)), vmin=-0.5, vmax=len(colours) - 0.5, zorder=zorder, linewidth=0, rasterized=rasterized,
        )  # fmt: skip


@dataclass(frozen=True)
class GlobeField:
    """A view of the globe, on which the regions of a grid of HEALPix cells lie."""

    grid: HealpixGrid
    globe: Globe

    @property
    def bounds(self) -> Box:
        return self.globe.bounds

    @property
    def crs(self) -> str:
        return self.globe.crs

    @property
    def left(self) -> float:
        return room_for_ticks(self.crs) if self.globe.kind == "plain" else GLOBE_LEFT

    def size(self, width: float = WIDTH, height: float = HEIGHT) -> tuple[float, float]:
        return size_of(self.bounds, self.crs, width, height)

    def add_axes(self, figure: Figure, place: tuple[float, float, float, float], ticks: bool) -> Axes:
        return add_axes(figure, place, self.bounds, self.crs, ticks and self.globe.kind == "plain")

    def ground(self, axes: Sequence[Axes], pixels: int, labels: bool) -> None:
        self.globe.draw_under(list(axes), pixels, labels)

    def coast(self, axes: Sequence[Axes], pixels: int, colour: str, width: float) -> None:
        self.globe.draw_over(list(axes), pixels, colour, width)

    def edges(self, axes: Axes, colour: str = EDGE, width: float = 0.4) -> None:
        from matplotlib.collections import LineCollection

        found = np.unique(self.raster(*raster_shape(axes)))
        shown = found[found >= 0]
        if not len(shown) or self.region_pixels(axes) < LEAST_REGION_PX:
            return
        width *= min(1.0, self.region_pixels(axes) / FULL_REGION_PX)
        key = raster_shape(axes)
        if key not in self._lines:
            self._lines[key] = self.outlines(shown)
        lines = self._lines[key]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, zorder=3), autolim=False)

    def fill(self, axes: Axes, kinds: Array, colours: Sequence[Any], zorder: float, rasterized: bool) -> None:
        from matplotlib.colors import to_rgba

        places = self.raster(*raster_shape(axes))
        table = np.array(
            [
                *(to_rgba(*c) if isinstance(c, tuple) and isinstance(c[0], str) else to_rgba(c) for c in colours),
                (0, 0, 0, 0),
            ]
        )
        kind = np.minimum(np.where(places < 0, len(colours), kinds.ravel()[places]), len(colours))
        paint_pixels(axes, (table[kind] * 255).round().astype(np.uint8), zorder)

    def raster(self, rows: int, columns: int) -> npt.NDArray[np.int64]:
        """The column of the lattice, or -1, at each pixel of a picture."""
        held = self._rasters
        if (rows, columns) not in held:
            lon, lat = self.globe.places(rows, columns)
            held[rows, columns] = self.grid.places_of(cells_at(lon, lat, self.grid.region_order, self.grid.ellipsoid))
        return held[rows, columns]

    def outlines(self, places: Array) -> list[Array]:
        """Edges of regions, at columns of the lattice, as lines of this view."""
        rings = outlines(parents_of(self.grid)[places], self.grid.region_order, self.grid.ellipsoid, EDGE_POINTS)
        return self.globe.lines(rings)

    def region_pixels(self, axes: Axes) -> float:
        """How many pixels wide a region is, about."""
        rows, columns = raster_shape(axes)
        places = self.raster(rows, columns)
        inside = places[places >= 0]
        return float(np.sqrt(inside.size / max(1, len(np.unique(inside)))))

    @cached_property
    def _lines(self) -> dict[tuple[int, int], list[Array]]:
        return {}

    @cached_property
    def _rasters(self) -> dict[tuple[int, int], npt.NDArray[np.int64]]:
        return {}


def field_of(grid: Grid, places: Places | None = None) -> Field:
    """The field of a grid; of cells of HEALPix, the view of regions at ``places`` (all by default)."""
    if isinstance(grid, TilingGrid):
        return LatticeField(grid)
    assert isinstance(grid, HealpixGrid)
    return GlobeField(grid, choose_globe(box_of(grid, places)))


def box_of(grid: HealpixGrid, places: Places | None = None) -> Box:
    """The smallest box of longitudes and latitudes around regions (all by default)."""
    parents = parents_of(grid)
    if places:
        parents = parents[np.array(sorted(ix for _, ix in places))]
    return enclosing_box(all_bounds(parents, grid.region_order, grid.ellipsoid))


def parents_of(grid: HealpixGrid) -> npt.NDArray[np.int64]:
    """The cell that each region is, by column of the lattice."""
    n = grid.lattice_shape_yx[1]
    return np.arange(n, dtype=np.int64) if grid.parents is None else np.array(grid.parents, np.int64)


def raster_shape(axes: Axes) -> tuple[int, int]:
    """Rows and columns of pixels that axes have in a PNG."""
    box = axes.get_window_extent()
    return max(1, round(box.height)), max(1, round(box.width))


def paint_pixels(axes: Axes, rgba: npt.NDArray[np.uint8], zorder: float) -> None:
    """Draw an image over all of axes, its first row at the top."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.imshow(
        rgba, extent=(left, right, bottom, top), origin="upper", aspect="auto", interpolation="nearest", zorder=zorder
    )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
