"""What every grid is, whatever its cells: what plan, ledger, ingest, status and check need to know of it."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cubeingest.axes import Axis
from cubeingest.errors import GridError, nearest

if TYPE_CHECKING:
    import numpy.typing as npt
    from numpy import float64, int64
    from shapely.geometry.base import BaseGeometry


class Grid(ABC):
    """A lattice of cells (of pixels, of HEALPix cells), cut into regions, with axes in front.

    The cells lie along one or more spatial dimensions. The regions lie in rows and columns, and each is a run of cells along every spatial
    dimension; a grid with one spatial dimension has a single row of them.
    """

    crs: str
    axes: tuple[Axis, ...]

    # ---- what a kind of grid says -----------------------------------------------------------------------

    @property
    @abstractmethod
    def spatial_dims(self) -> tuple[str, ...]:
        """Names of the spatial dimensions, in order."""

    @property
    @abstractmethod
    def spatial_shape(self) -> tuple[int, ...]:
        """Cells along each spatial dimension."""

    @property
    @abstractmethod
    def region_shape(self) -> tuple[int, ...]:
        """Cells of a region along each spatial dimension; the last may be partial."""

    @property
    @abstractmethod
    def lattice_shape_yx(self) -> tuple[int, int]:
        """Number of rows and columns of regions."""

    @abstractmethod
    def region_id(self, iy: int, ix: int) -> str:
        """The id of the region in lattice row ``iy`` and column ``ix``. Raises :class:`GridError` if the lattice has no such place."""

    @abstractmethod
    def find_region(self, region_id: str) -> tuple[int, int] | None:
        """Lattice row and column of a region id; None for an id that this grid does not have."""

    @abstractmethod
    def region(self, where: Any, /, **axes: object) -> dict[str, slice]:
        """The slices of one region, by dimension. Axis values are given by name; an axis that is not named is not restricted."""

    @abstractmethod
    def slices(self, iy: int, ix: int) -> tuple[slice, ...]:
        """Half-open slices of a region's cells, one for each spatial dimension."""

    @abstractmethod
    def bounds(self, region_id: str | None = None) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of a region, or of the whole grid, in CRS units."""

    @abstractmethod
    def area(self, region_id: str) -> Any:
        """What a function that fills a region is told of it."""

    @abstractmethod
    def get_chunks_for_bbox(
        self, bbox: tuple[float, float, float, float], crs: str | None = None
    ) -> list[tuple[int, int]]:
        """(iy, ix) of the regions that ``bbox`` (left, bottom, right, top; in the grid's CRS or in ``crs``) truly overlaps, row by row."""

    @abstractmethod
    def get_chunks_for_shape(self, shape: BaseGeometry, crs: str | None = None) -> list[tuple[int, int]]:
        """(iy, ix) of the regions that share an area with a shapely polygon, row by row."""

    @abstractmethod
    def locate(self, x: npt.NDArray[float64], y: npt.NDArray[float64]) -> npt.NDArray[int64]:
        """The cell that holds each point, as its position in the cells of the whole grid, flattened; -1 for one outside the grid or not finite.

        ``x`` and ``y`` are in the grid's CRS. A point on an edge belongs to the cell of the higher index.
        """

    @abstractmethod
    def regions_of(self, cells: npt.NDArray[int64]) -> npt.NDArray[int64]:
        """The region that holds each cell (of :meth:`locate`, none of them -1), as ``iy * columns + ix``."""

    @abstractmethod
    def cells_within(self, region: int, cells: npt.NDArray[int64]) -> npt.NDArray[int64]:
        """Positions of cells in the flattened cells of their region, ``iy * columns + ix``, which must hold them all."""

    @property
    @abstractmethod
    def layout(self) -> dict[str, Any]:
        """All that tells one grid from another but the axes, as plain data."""

    # ---- what follows from it ---------------------------------------------------------------------------

    @property
    def dims(self) -> tuple[str, ...]:
        """All dimensions: the axes, then the spatial ones."""
        return (*(axis.name for axis in self.axes), *self.spatial_dims)

    @property
    def plane_shape_yx(self) -> tuple[int, int]:
        """Rows and columns of cells; those of a grid with one spatial dimension are one row."""
        y, x = (1, *self.spatial_shape)[-2:]
        return y, x

    @property
    def plane_region_yx(self) -> tuple[int, int]:
        """Rows and columns of a region's cells, as :attr:`plane_shape_yx`."""
        y, x = (1, *self.region_shape)[-2:]
        return y, x

    def plane_slices(self, iy: int, ix: int) -> tuple[slice, slice]:
        """As :meth:`slices`, always rows and columns."""
        y, x = (slice(0, 1), *self.slices(iy, ix))[-2:]
        return y, x

    @property
    def n_regions(self) -> int:
        """Number of places in the lattice of regions."""
        ny, nx = self.lattice_shape_yx
        return ny * nx

    def axis(self, name: str) -> Axis:
        """The axis called ``name``. Raises :class:`GridError` if there is none."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        known = [a.name for a in self.axes]
        raise GridError(f"the grid has no axis {name!r}{nearest(name, known)} (axes: {', '.join(known) or 'none'})")

    def region_index(self, region_id: str) -> tuple[int, int]:
        """Lattice row and column of a region id; the inverse of :meth:`region_id`.

        Raises :class:`GridError` for an id that this grid does not have.
        """
        index = self.find_region(region_id)
        if index is None:
            example = self.region_id(0, 0)
            raise GridError(f"no region {region_id!r} in this grid (ids look like {example!r})")
        return index

    def region_ids(self) -> Iterator[str]:
        """All region ids, row by row."""
        ny, nx = self.lattice_shape_yx
        return (self.region_id(iy, ix) for iy, ix in itertools.product(range(ny), range(nx)))

    def regions(self, bbox: tuple[float, float, float, float] | None = None, crs: str | None = None) -> list[str]:
        """Ids of the regions that ``bbox`` (left, bottom, right, top) truly overlaps, row by row; all without one.

        ``bbox`` is in the grid's CRS, or in ``crs``. Touching edges do not count. On longitudes a left edge greater
        than the right one wraps across the antimeridian.

        Raises :class:`GridError` for a box that is empty, not finite or upside down.
        """
        if bbox is None:
            return list(self.region_ids())
        return [self.region_id(iy, ix) for iy, ix in self.get_chunks_for_bbox(bbox, crs)]

    def chunks(self, region_id: str, chunk_shape: Mapping[str, int], /, **axes: object) -> dict[str, slice]:
        """Half-open chunk indices, by dimension, that a region covers in an array of ``chunk_shape``."""
        region = self._region_slices(*self.region_index(region_id), axes)
        return {
            dim: slice(s.start // chunk_shape[dim], -(-s.stop // chunk_shape[dim]))
            for dim, s in region.items()
            if dim in chunk_shape
        }

    def _region_slices(self, iy: int, ix: int, axes: Mapping[str, object]) -> dict[str, slice]:
        spatial = zip(self.spatial_dims, self.slices(iy, ix), strict=True)
        return {**self._axis_slices(axes), **dict(spatial)}

    def _axis_slices(self, axes: Mapping[str, object]) -> dict[str, slice]:
        for name in axes:
            self.axis(name)
        out = {}
        for axis in self.axes:
            if axis.name not in axes:
                out[axis.name] = slice(0, axis.size)
                continue
            i = axis.index(axes[axis.name])
            block = axis.block_slice(i // axis.block)
            if block.stop - block.start > 1:
                raise GridError(
                    f"{axis.name}={axis.labels[i]} is part of the axis block {axis.block_label(i // axis.block)}, "
                    "which one chunk spans: write the whole block"
                )
            out[axis.name] = block
        return out
