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
from cubeingest.overviews.cells import current_slots
from cubeingest.overviews.halving import method_of
from cubeingest.overviews.levels import Level, Pyramid
from cubeingest.overviews.run import OverviewReport, make_overviews

__all__ = [
    "Level",
    "OverviewReport",
    "Pyramid",
    "current_slots",
    "describe",
    "drop_pyramid",
    "find_pyramid",
    "level_arrays",
    "levels_of",
    "make_overviews",
    "method_of",
    "settle_pyramid",
    "write_pyramid",
]
