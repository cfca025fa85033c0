"""Coarser levels of a cube beside its data: which there may be, which are stale, made on the engine that fills the cube itself."""

from cubeingest.overviews.arrays import (
    describe,
    drop_pyramid,
    find_pyramid,
    level_arrays,
    levels_of,
    settle_pyramid,
    write_pyramid,
)
from cubeingest.overviews.build import CellJob
from cubeingest.overviews.cells import base_name, current_slots, stamp_of_region
from cubeingest.overviews.halving import halve, method_of
from cubeingest.overviews.levels import Level, Pyramid, Stage
from cubeingest.overviews.run import OverviewReport, make_overviews
from cubeingest.overviews.verify import check_cell, check_tasks

__all__ = [
    "CellJob",
    "Level",
    "OverviewReport",
    "Pyramid",
    "Stage",
    "base_name",
    "check_cell",
    "check_tasks",
    "current_slots",
    "describe",
    "drop_pyramid",
    "find_pyramid",
    "halve",
    "level_arrays",
    "levels_of",
    "make_overviews",
    "method_of",
    "settle_pyramid",
    "stamp_of_region",
    "write_pyramid",
]
