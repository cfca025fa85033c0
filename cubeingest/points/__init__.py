"""Scattered observations: read from files of points, found in the regions of a grid, given to the worker that fills a region.

A granule is one file of points, and has runs of them. What is scanned of it, its footprint, says which part of which run lies in which
region, and is kept in a catalog file.
"""

from cubeingest.points.areas import read_areas
from cubeingest.points.blocks import CELL, MEMORY_BYTES, is_chosen
from cubeingest.points.catalogfile import read_footprints, write_footprints
from cubeingest.points.footprints import Footprints, footprints_of
from cubeingest.points.granule import load_reader, open_granule, read_part, read_runs
from cubeingest.points.locate import Placer
from cubeingest.points.model import (
    BATCH_POINTS,
    EVERY_RUN,
    Columns,
    GranuleRow,
    Locator,
    Part,
    PointSource,
    Run,
)
from cubeingest.points.region import RegionReader
from cubeingest.points.scan import Footprint, rows_by_region, scan_granule, whole_footprint

__all__ = [
    "BATCH_POINTS", "CELL", "EVERY_RUN", "MEMORY_BYTES", "Columns", "Footprint", "Footprints", "GranuleRow", "Locator", "Part", "Placer", "PointSource",
    "RegionReader", "Run", "footprints_of", "is_chosen", "load_reader", "open_granule", "read_areas", "read_footprints", "read_part", "read_runs", "rows_by_region", "scan_granule", "whole_footprint", "write_footprints",
]  # fmt: skip
