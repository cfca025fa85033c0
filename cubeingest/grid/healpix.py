"""Grids of HEALPix cells (nested scheme): a coarser cell is the region, the finer cells in it are one run of the cube's cells."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.axes import Axis
from cubeingest.boxes import parse_crs, query_boxes
from cubeingest.errors import GridError
from cubeingest.grid.base import Grid
from cubeingest.healpix import MOST_ORDER, bounds, cells_at, centres, check_ellipsoid, cover_box, cover_shape

if TYPE_CHECKING:
    import numpy.typing as npt
    from shapely.geometry.base import BaseGeometry

CELLS = "cells"
"""The spatial dimension, as the ``dggs`` convention has it by default."""

MOST_CELLS_OF_REGION = 4**11
"""4 million: a region's cells are aggregated in memory at once."""


@dataclass(frozen=True)
class HealpixRegion:
    """A region as a function that fills it is told of it: the cell ``id`` of ``region_order``, and in it cells of ``order``."""

    id: str
    order: int
    region_order: int
    ellipsoid: str
    bounds: tuple[float, float, float, float]
    """(west, south, east, north); east is above 180 where the region crosses the antimeridian."""

    @property
    def shape(self) -> tuple[int]:
        """Of the array that the function is to return: (cells,)."""
        return (int(4 ** (self.order - self.region_order)),)

    @property
    def cell_ids(self) -> npt.NDArray[np.int64]:
        """Nested ids of the cells, in order."""
        return int(self.id) * self.shape[0] + np.arange(self.shape[0], dtype=np.int64)

    def centres(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Longitudes and latitudes of the cells' centres."""
        return centres(self.cell_ids, self.order, self.ellipsoid)


@dataclass(frozen=True)
class HealpixGrid(Grid):
    """A cube's cells of HEALPix ``order``, in regions that are the cells of ``region_order``.

    On the full sphere a cell's position is its id, and a region's its parent's id. With ``parents`` (ids of regions, ascending) the cube holds
    the cells of those only, one region after another, and stores their ids (the compact layout). Longitudes and latitudes are geographic, on ``ellipsoid``;
    cells are of equal area there.
    """

    order: int
    region_order: int
    ellipsoid: str = "WGS84"
    parents: tuple[int, ...] | None = None
    axes: tuple[Axis, ...] = ()

    crs = "EPSG:4326"

    def __post_init__(self) -> None:
        if not 0 <= self.region_order <= self.order <= MOST_ORDER:
            raise GridError(
                f"order {self.order} and region_order {self.region_order}: they must be 0 <= region_order <= order <= {MOST_ORDER}"
            )
        if self.cells_in_region > MOST_CELLS_OF_REGION:
            raise GridError(
                f"regions of order {self.region_order} hold {self.cells_in_region} cells of order {self.order}, at most "
                f"{MOST_CELLS_OF_REGION} may be aggregated at once: give a region_order of {self.order - 11} or more"
            )
        check_ellipsoid(self.ellipsoid)
        if self.parents is not None:
            ids = np.array(self.parents, np.int64)
            if not ids.size or (np.diff(ids) <= 0).any() or ids[0] < 0 or ids[-1] >= self._n_parents:
                raise GridError(f"regions are ids from 0 to {self._n_parents - 1}, ascending, at least one")

    # ---- size -------------------------------------------------------------------------------------------

    @property
    def _n_parents(self) -> int:
        return int(12 * 4**self.region_order)

    @property
    def cells_in_region(self) -> int:
        """Cells of a region: 4 to the power of the difference of the orders."""
        return int(4 ** (self.order - self.region_order))

    @property
    def spatial_dims(self) -> tuple[str, ...]:
        return (CELLS,)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        return (self.n_regions * self.cells_in_region,)

    @property
    def region_shape(self) -> tuple[int, ...]:
        return (self.cells_in_region,)

    @property
    def lattice_shape_yx(self) -> tuple[int, int]:
        """One row of regions."""
        return 1, self._n_parents if self.parents is None else len(self.parents)

    @property
    def layout(self) -> dict[str, Any]:
        regions = None
        if self.parents is not None:
            digest = hashlib.blake2b(repr(self.parents).encode(), digest_size=8).hexdigest()
            regions = f"{len(self.parents)} ({digest})"
        return {
            "type": "healpix",
            "order": self.order,
            "region_order": self.region_order,
            "ellipsoid": self.ellipsoid,
            "regions": regions,
        }

    # ---- ids and regions --------------------------------------------------------------------------------

    @cached_property
    def _parents(self) -> npt.NDArray[np.int64]:
        assert self.parents is not None
        return np.array(self.parents, np.int64)

    def parent(self, ix: int) -> int:
        """Id of the region at lattice column ``ix``: a cell of ``region_order``."""
        return ix if self.parents is None else self.parents[ix]

    def places_of(self, parents: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Lattice columns of regions given by id; -1 for those that this grid does not have."""
        if self.parents is None:
            return np.where((parents >= 0) & (parents < self._n_parents), parents, -1)
        at = np.minimum(np.searchsorted(self._parents, parents), self._parents.size - 1)
        return np.where(self._parents[at] == parents, at, -1)

    def region_id(self, iy: int, ix: int) -> str:
        """The id of a region: that of its cell of ``region_order``, as text."""
        if iy != 0 or not 0 <= ix < self.lattice_shape_yx[1]:
            raise GridError(f"no region at row {iy}, column {ix}: the grid has one row of {self.n_regions} regions")
        return str(self.parent(ix))

    def find_region(self, region_id: str) -> tuple[int, int] | None:
        if (
            not (region_id.isascii() and region_id.isdecimal() and len(region_id) < 20)
            or str(int(region_id)) != region_id
        ):
            return None
        ix = int(self.places_of(np.array([int(region_id)], np.int64))[0])
        return None if ix < 0 else (0, ix)

    def slices(self, iy: int, ix: int) -> tuple[slice, ...]:
        return (slice(ix * self.cells_in_region, (ix + 1) * self.cells_in_region),)

    def region(self, where: str, /, **axes: object) -> dict[str, slice]:
        """The slices of one region, by its id, ready for ``isel``. Axis values are given by name, as for a grid of pixels.

        Raises :class:`GridError` if there is no such region or axis value.
        """
        return self._region_slices(*self.region_index(where), axes)

    def cell_ids(self, part: slice | None = None) -> npt.NDArray[np.int64]:
        """Nested ids of the grid's cells, at positions ``part`` (all by default)."""
        start, stop, _ = (part or slice(None)).indices(self.spatial_shape[0])
        return self.ids_at(np.arange(start, stop, dtype=np.int64))

    def ids_at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Nested ids of the cells at positions, which the grid must have; the inverse of :meth:`positions_of`."""
        if self.parents is None:
            return positions
        region, within = np.divmod(positions, self.cells_in_region)
        return self._parents[region] * self.cells_in_region + within

    def positions_of(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Positions of cells given by nested id; -1 for ids that are -1 or of regions that this grid does not have."""
        if self.parents is None:
            return ids
        region, within = np.divmod(ids, self.cells_in_region)
        place = self.places_of(region)
        return np.where((ids >= 0) & (place >= 0), place * self.cells_in_region + within, -1)

    # ---- points and queries -----------------------------------------------------------------------------

    def locate(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """As :meth:`Grid.locate`: ``x`` are longitudes, ``y`` latitudes in degrees. Raises :class:`GridError` for a latitude beyond a pole."""
        return self.positions_of(cells_at(x, y, self.order, self.ellipsoid))

    def regions_of(self, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return cells >> (2 * (self.order - self.region_order))

    def cells_within(self, region: int, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return cells - region * self.cells_in_region

    def bounds(self, region_id: str | None = None) -> tuple[float, float, float, float]:
        """A region's bounding box in longitude and latitude (right above 180 where it crosses the antimeridian), or the globe's."""
        if region_id is None:
            return -180.0, -90.0, 180.0, 90.0
        return bounds(self.parent(self.region_index(region_id)[1]), self.region_order, self.ellipsoid)

    def area(self, region_id: str) -> HealpixRegion:
        return HealpixRegion(region_id, self.order, self.region_order, self.ellipsoid, self.bounds(region_id))

    def get_chunks_for_bbox(
        self, bbox: tuple[float, float, float, float], crs: str | None = None
    ) -> list[tuple[int, int]]:
        found: set[int] = set()
        for (left, bottom, right, top), outline in query_boxes(bbox, crs or self.crs, self.crs):
            if outline is not None:
                found.update(cover_shape(outline, self.region_order, self.ellipsoid).tolist())
            elif left < 180 and right > -180:
                box = max(left, -180.0), max(bottom, -90.0), min(right, 180.0), min(top, 90.0)
                found.update(cover_box(box, self.region_order, self.ellipsoid).tolist())
        return self._places(found)

    def get_chunks_for_shape(self, shape: BaseGeometry, crs: str | None = None) -> list[tuple[int, int]]:
        """As :meth:`Grid.get_chunks_for_shape`, for polygons of longitudes and latitudes. Raises :class:`GridError` for others."""
        given = parse_crs(crs or self.crs)
        if not given.is_geographic:
            raise GridError(
                f"a polygon for cells of HEALPix is in longitudes and latitudes, not in {given.name!r}: transform it first"
            )
        return self._places(set(cover_shape(shape, self.region_order, self.ellipsoid).tolist()))

    def _places(self, parents: set[int]) -> list[tuple[int, int]]:
        places = self.places_of(np.array(sorted(parents), np.int64))
        return [(0, ix) for ix in places[places >= 0].tolist()]

    def _repr_html_(self) -> str:
        """A table and a small map, for notebooks."""
        from cubeingest.sketch import describe_cells

        return describe_cells(self)
