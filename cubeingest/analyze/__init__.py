"""Chunk-aware computation over a cube: reductions along axes, series at points, statistics of zones, changes of classes."""

from cubeingest.analyze.into import IntoReport, reduce_into
from cubeingest.analyze.methods import METHODS
from cubeingest.analyze.reduce import ReduceReport, find_reduction, reduce_to_file

__all__ = ["METHODS", "IntoReport", "ReduceReport", "find_reduction", "reduce_into", "reduce_to_file"]
