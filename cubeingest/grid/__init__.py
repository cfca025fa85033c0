"""The cube's fixed lattice: where each pixel or cell, chunk and region lies. Pure arithmetic; nothing here reads or writes anything."""

from cubeingest.grid.base import Grid
from cubeingest.grid.healpix import CELLS, HealpixGrid, HealpixRegion
from cubeingest.grid.tiling import TOLERANCE_PX, Bounds, TilingGrid

__all__ = ["CELLS", "TOLERANCE_PX", "Bounds", "Grid", "HealpixGrid", "HealpixRegion", "TilingGrid"]
