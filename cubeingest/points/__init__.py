"""Scattered observations: read from files of points, found in the regions of a grid, given to the worker that fills a region.

A granule is one file of points, and has runs of them. What is scanned of it, its footprint, says which part of which run lies in which
region, and is kept in a catalog file.
"""

from cubeingest.points.areas import read_areas
from cubeingest.points.blocks import CELL, MEMORY_BYTES, is_chosen
from cubeingest.points.footprints import Footprints, footprints_of
from cubeingest.points.granule import load_reader, open_granule
from cubeingest.points.locate import Placer
from cubeingest.points.model import (
    EVERY_RUN,
    GranuleRow,
    Part,
    PointSource,
    Run,
)
from cubeingest.points.region import RegionReader
from cubeingest.points.scan import Footprint, rows_by_region, scan_granule

__all__ = [
    "CELL", "EVERY_RUN", "MEMORY_BYTES", "Footprint", "Footprints", "GranuleRow", "Part", "Placer", "PointSource",
    "RegionReader", "Run", "footprints_of", "is_chosen", "load_reader", "open_granule", "read_areas", "rows_by_region", "scan_granule",
]  # fmt: skip
