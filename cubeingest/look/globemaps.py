"""A map of a cube of HEALPix cells: what it shows of the globe, and the cell at each of its pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.boxes import Box, query_boxes
from cubeingest.errors import GridError
from cubeingest.grid import HealpixGrid
from cubeingest.healpix import cells_at, count_cells
from cubeingest.look.colours import Colours, read_colours
from cubeingest.look.fields import GlobeField, Places, box_of, paint_pixels
from cubeingest.look.frame import COAST_PIXELS, DPI, EDGE, INK
from cubeingest.look.globe import LONLAT, choose_globe
from cubeingest.look.pixels import LEAST_PIXELS, MOST_SECONDS
from cubeingest.look.scattered import read_scattered, reading_seconds, stored_chunks
from cubeingest.plan import Selection, choose
from cubeingest.spec import CubeSpec, Variable
from cubeingest.store import Store

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EARTH_AREA = 5.1e14
"""Square metres."""

WORTH_SAYING_CELLS = 1.5
"""Cells that a pixel stands for from which on the picture says so."""


@dataclass(frozen=True)
class GlobeMap:
    """What a map shows: cells of one variable at one value of each axis (``labels``), on a view of the globe, and how they are coloured.

    ``pixels`` are values, (rows, columns) from the top, each of the cell at the pixel's centre; ``there`` says which of them are of regions that are
    selected, ``left_out`` which are of others. ``notes`` say what the picture cannot. Where ``step`` is more than 1, so many pixels along each side are
    all of the cell at the centre of the middle one.
    """

    spec: CubeSpec
    snapshot: str
    variable: Variable
    labels: Mapping[str, str]
    field: GlobeField
    pixels: np.ndarray[Any, Any]
    there: npt.NDArray[np.bool_]
    left_out: npt.NDArray[np.bool_]
    colours: Colours
    notes: tuple[str, ...] = ()
    step: int = 1

    @property
    def shown(self) -> np.ndarray[Any, Any]:
        """The pixels that are selected, flat."""
        return self.pixels[self.there]

    @property
    def own_note(self) -> str:
        """That note which says how the pixels were read."""
        return _cells_note(self.field, self.pixels.shape, self.step)

    @property
    def size(self) -> tuple[float, float]:
        return self.field.size()

    @property
    def left(self) -> float:
        return self.field.left

    def draw(self, figure: Figure, place: tuple[float, float, float, float], colours: Colours) -> Axes:
        """Axes with the pixels."""
        axes = self.field.add_axes(figure, place, ticks=True)
        self.field.ground([axes], COAST_PIXELS, labels=True)
        painted = colours.paint(self.pixels)
        painted[self.left_out] = 255
        painted[~(self.there | self.left_out), 3] = 0
        paint_pixels(axes, painted, 1)
        return axes

    def edges(self, axes: Axes) -> None:
        """Edges of regions."""
        self.field.edges(axes, EDGE, 0.5)

    def coast(self, axes: Axes) -> None:
        self.field.coast([axes], COAST_PIXELS, INK, 0.4)

    def to_json(self) -> dict[str, Any]:
        """What a map shows, as plain data."""
        left, bottom, right, top = self.field.bounds
        return {
            "view": {"kind": self.field.globe.kind, "crs": self.field.crs, "bounds": [left, bottom, right, top]},
            "shape": list(self.pixels.shape), "step": self.step,
        }  # fmt: skip


def read_globe_map(store: Store, selection: Selection, variable: Variable, position: Mapping[str, int]) -> GlobeMap:
    """Read what a map of a selection of a cube of HEALPix cells shows, of a snapshot's store. The view is that of the bbox, else of selected
    regions, else of those that the grid is restricted to, else of those that hold something.

    Raises :class:`GridError` for a bbox and regions apart, :class:`StoreError` for cells that cannot be read.
    """
    spec = store.spec
    grid = spec.healpix
    assert grid is not None
    session = store.readonly()
    index = tuple(position.get(name, 0) for name in variable.axes)
    places = choose(spec, replace(selection, axes={}, limit=None)).places
    if places is not None and not places:
        raise GridError("what is selected has nothing in common: no region is in all of its regions, bbox and polygon")
    if selection.bbox is not None:
        globe = choose_globe(_one_turn(selection.bbox), is_cut=True)
    else:
        globe = choose_globe(box_of(grid, places or _stored(session, variable, index, grid)))
    field = GlobeField(grid, globe)
    wide, high = field.size()
    lon, lat = globe.places(max(1, round(high * DPI)), max(1, round(wide * DPI)))
    cells = cells_at(lon, lat, grid.order, grid.ellipsoid)
    inside = np.ones(lon.shape, bool) if selection.bbox is None else _within(_one_turn(selection.bbox), lon, lat)
    positions = grid.positions_of(cells)
    held = positions >= 0
    there = held & inside
    if places is not None:
        lattice = np.zeros(grid.lattice_shape_yx[1], bool)
        lattice[[ix for _, ix in places]] = True
        there &= lattice[np.where(held, positions // grid.cells_in_region, 0)]
    wanted = np.where(there, positions, -1)
    step = _step(session, variable, index, wanted)
    at = [(np.arange(n) // step * step + step // 2).clip(max=n - 1) for n in wanted.shape]
    thin = read_scattered(session, variable, index, wanted[np.ix_(*(a[::step] for a in at))])
    pixels = thin if step == 1 else thin[np.ix_(*(np.arange(n) // step for n in wanted.shape))]
    colours = read_colours(variable, pixels[there])
    left_out = held & ~there
    labels = {a.name: a.labels[position.get(a.name, 0)] for a in spec.axes_of(variable)}
    view = GlobeMap(spec, store.tip, variable, labels, field, pixels, there, left_out, colours, step=step)
    notes = ["white: not selected" * bool(left_out.any()), view.own_note]
    return replace(view, notes=tuple(note for note in notes if note))


def _stored(session: Any, variable: Variable, index: tuple[int, ...], grid: HealpixGrid) -> Places | None:
    """Regions that hold something, where the grid is not restricted to some; None for all."""
    if grid.parents is not None:
        return None
    chunks = stored_chunks(session, variable, index) * variable.write_shape[-1]
    return {(0, ix) for ix in np.unique(chunks // grid.cells_in_region).tolist()} or None


def _one_turn(bbox: Box) -> Box:
    """A box of longitudes and latitudes that starts from -180 to 180; what goes on beyond 180 wraps."""
    _, (box, _), _ = query_boxes(bbox, LONLAT, LONLAT)
    return box[0], max(-90.0, box[1]), box[2], min(90.0, box[3])


def _within(box: Box, lon: npt.NDArray[np.float64], lat: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    west, south, east, north = box
    with np.errstate(invalid="ignore"):
        inside: npt.NDArray[np.bool_] = ((lon - west) % 360 <= east - west) & (lat >= south) & (lat <= north)
    return inside


def _step(session: Any, variable: Variable, index: tuple[int, ...], positions: npt.NDArray[np.int64]) -> int:
    """Of how many pixels along each side only one is read, so that it does not take long; a picture of ``LEAST_PIXELS`` is read all the same."""
    step, longest = 1, max(positions.shape)
    while (
        step * LEAST_PIXELS < longest
        and reading_seconds(session, variable, index, positions[step // 2 :: step, step // 2 :: step]) > MOST_SECONDS
    ):
        step += 1
    return step


def _cells_note(field: GlobeField, shape: tuple[int, ...], step: int) -> str:
    """How many cells a pixel stands for, where it is of one of several."""
    left, bottom, right, top = field.bounds
    area = (right - left) * (top - bottom) / (shape[0] * shape[1]) * step**2
    if field.globe.kind == "plain":
        area *= math.cos(math.radians((bottom + top) / 2)) * 111_195.0**2
    n = area / EARTH_AREA * count_cells(field.grid.order)
    thinned = ", as more would take long to read: --bbox shows a part in full" * (step > 1)
    return f"each pixel is the cell at its centre, one of about {n:,.0f}{thinned}" if n > WORTH_SAYING_CELLS else ""
