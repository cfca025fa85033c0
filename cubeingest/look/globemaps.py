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
from cubeingest.ledger import NOTHING, read_states
from cubeingest.look.colours import Colours, read_colours
from cubeingest.look.fields import GlobeField, Places, box_of, paint_pixels
from cubeingest.look.frame import COAST_PIXELS, DPI, EDGE, INK
from cubeingest.look.globe import LONLAT, choose_globe
from cubeingest.look.pixels import LEAST_PIXELS, MOST_SECONDS
from cubeingest.look.scattered import read_scattered, reading_seconds, stored_chunks
from cubeingest.overviews import Level, current_slots, levels_of
from cubeingest.selection import Selection, choose
from cubeingest.spec import CubeSpec, Variable
from cubeingest.store import Store
from cubeingest.wording import counted

if TYPE_CHECKING:
    import icechunk
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
    selected, ``left_out`` which are of others. With an ``overview`` the cells are those of this level, but in ``n_behind`` regions of which it is stale.
    ``notes`` say what the picture cannot. Where ``step`` is more than 1, so many pixels along each side are all of the cell at the centre of the middle one.
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
    overview: int = 0
    n_behind: int = 0
    notes: tuple[str, ...] = ()
    step: int = 1

    @property
    def shown(self) -> np.ndarray[Any, Any]:
        """The pixels that are selected, flat."""
        return self.pixels[self.there]

    @property
    def own_note(self) -> str:
        """That note which says how the pixels were read."""
        n = _cells_a_pixel(self.field, self.pixels.shape) * self.step**2 / 4**self.overview
        notes = []
        if self.overview:
            notes.append(f"from overview {self.overview}, cells of order {self.field.grid.order - self.overview}")
        if self.n_behind:
            notes.append(f"{counted(self.n_behind, 'region')} from the full resolution")
        if n > WORTH_SAYING_CELLS:
            notes.append(f"each pixel is the cell at its centre, one of about {n:,.0f}")
            notes += ["as more would take long to read: --bbox shows a part in full"] * (self.step > 1)
        return ", ".join(notes)

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
    regions, else of those that the grid is restricted to, else of those that hold something. Where a pixel stands for several cells, and the cube
    has the variable at a coarser level, it is a cell of that.

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
    regions = np.where(held, positions // grid.cells_in_region, 0)
    if places is not None:
        lattice = np.zeros(grid.lattice_shape_yx[1], bool)
        lattice[[ix for _, ix in places]] = True
        there &= lattice[regions]
    labels = {a.name: a.labels[position.get(a.name, 0)] for a in spec.axes_of(variable)}
    level = _choose_level(session, spec, variable, _cells_a_pixel(field, lon.shape))
    behind = there & (level is None or _behind(session, spec, variable, index)[regions])
    sources = [(variable, np.where(behind, positions, -1))]
    number = n_behind = 0
    if level is not None:
        number, n_behind = level.number, np.unique(regions[behind]).size
        variable = level.spec.variable(variable.name)
        coarse = replace(variable, name=level.path(variable.name))
        sources.append((coarse, np.where(there & ~behind, positions >> 2 * number, -1)))
    pixels, step = _read_pixels(session, index, sources)
    colours = read_colours(variable, pixels[there])
    left_out = held & ~there
    view = GlobeMap(
        spec, store.tip, variable, labels, field, pixels, there, left_out, colours, number, n_behind, step=step
    )
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


def _read_pixels(
    session: icechunk.Session, index: tuple[int, ...], sources: list[tuple[Variable, npt.NDArray[np.int64]]]
) -> tuple[np.ndarray[Any, Any], int]:
    """The cells of some arrays at positions, (rows, columns), of which each array has others (-1 where it has none), in the last one's dtype; and of how many
    pixels along each side only one is read, so that it does not take long.
    """
    step = _step(session, index, sources)
    shape = sources[0][1].shape
    at = np.ix_(*((np.arange(n) // step * step + step // 2).clip(max=n - 1)[::step] for n in shape))
    last, _ = sources[-1]
    thin = np.full(sources[0][1][at].shape, last.np_fill)
    for variable, positions in sources:
        thin = np.where(positions[at] >= 0, read_scattered(session, variable, index, positions[at]), thin)
    pixels = thin if step == 1 else thin[np.ix_(*(np.arange(n) // step for n in shape))]
    return pixels.astype(last.np_dtype), step


def _step(
    session: icechunk.Session, index: tuple[int, ...], sources: list[tuple[Variable, npt.NDArray[np.int64]]]
) -> int:
    """As :func:`_read_pixels`; a picture of ``LEAST_PIXELS`` is read all the same."""
    step, longest = 1, max(sources[0][1].shape)
    while step * LEAST_PIXELS < longest:
        thin = ((v, positions[step // 2 :: step, step // 2 :: step]) for v, positions in sources)
        if sum(reading_seconds(session, v, index, positions) for v, positions in thin) <= MOST_SECONDS:
            break
        step += 1
    return step


def _cells_a_pixel(field: GlobeField, shape: tuple[int, ...]) -> float:
    """How many of the cube's cells a pixel is as large as."""
    left, bottom, right, top = field.bounds
    area = (right - left) * (top - bottom) / (shape[0] * shape[1])
    if field.globe.kind == "plain":
        area *= math.cos(math.radians((bottom + top) / 2)) * 111_195.0**2
    return area / EARTH_AREA * count_cells(field.grid.order)


def _choose_level(session: icechunk.Session, spec: CubeSpec, variable: Variable, n_cells: float) -> Level | None:
    """The coarsest level of a variable whose cells are no larger than ``n_cells`` of the cube's; None if there is none."""
    import zarr

    wanted = int(math.log2(max(1.0, n_cells))) // 2
    if not wanted:
        return None
    root = zarr.open_group(session.store, mode="r")
    levels = [lv for lv in levels_of(session, spec) if lv.number <= wanted and lv.path(variable.name) in root]
    return max(levels, key=lambda lv: lv.number, default=None)


def _behind(
    session: icechunk.Session, spec: CubeSpec, variable: Variable, index: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Which regions of a variable its overviews do not hold as they are now, at an index on each axis."""
    block = tuple(i // a.block for i, a in zip(index, spec.axes_of(variable), strict=True))
    current, states = current_slots(session, spec)[variable.name], read_states(session, spec)[variable.name]
    behind: npt.NDArray[np.bool_] = (~current & (states != NOTHING))[block][0]
    return behind
