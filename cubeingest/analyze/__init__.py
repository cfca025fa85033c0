"""Chunk-aware computation over a cube: reductions along axes, series at points, statistics of zones, changes of classes."""

from cubeingest.analyze.computing import ReduceReport
from cubeingest.analyze.into import IntoReport, reduce_into
from cubeingest.analyze.methods import METHODS
from cubeingest.analyze.reduction import find_reduction
from cubeingest.analyze.series import Series, plot_series, read_series
from cubeingest.analyze.statistics import DEFAULT as DEFAULT_STATISTICS
from cubeingest.analyze.statistics import ZonalReport
from cubeingest.analyze.tables import TABLES, Rows, check_output, write_table
from cubeingest.analyze.to_file import reduce_to_file
from cubeingest.analyze.transitions import TransitionReport, count_transitions
from cubeingest.analyze.vectors import Features, read_points
from cubeingest.analyze.zonal import zonal
from cubeingest.analyze.zones import read_zones

__all__ = [
    "DEFAULT_STATISTICS",
    "METHODS",
    "TABLES",
    "Features",
    "IntoReport",
    "ReduceReport",
    "Rows",
    "Series",
    "TransitionReport",
    "ZonalReport",
    "check_output",
    "count_transitions",
    "find_reduction",
    "plot_series",
    "read_points",
    "read_series",
    "read_zones",
    "reduce_into",
    "reduce_to_file",
    "write_table",
    "zonal",
]
