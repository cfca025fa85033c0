"""What a source of points is, the runs of a granule, and which parts of them lie in a region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cubeingest.storage import Storage

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]
"""One array for each name, all of one length."""

BATCH_POINTS = 2**20
"""Points that are held at once: a column of them is 8 MB, which sorts and gathers well within a core's share of a cache."""

EVERY_RUN = "*"
"""The run of a part that stands for all runs of its granule, whole: where a table says which regions a granule may feed."""


class Filter(Protocol):
    """An expression that is true for the points that are kept."""

    @property
    def names(self) -> Sequence[str] | frozenset[str]: ...
    def evaluate(self, columns: Mapping[str, Any]) -> Any: ...


class PointSource(Protocol):
    """How points are read from a granule, one file of them.

    ``x`` and ``y`` are columns (Parquet, CSV) or datasets (HDF5, netCDF) in ``crs``; ``columns`` are others, by the name that
    expressions give them. ``groups`` are HDF5 groups, each a run of points of its own; none is the file's root.
    """

    @property
    def x(self) -> str: ...
    @property
    def y(self) -> str: ...
    @property
    def crs(self) -> str: ...
    @property
    def columns(self) -> Mapping[str, str]: ...
    @property
    def filter(self) -> Filter | None: ...
    @property
    def groups(self) -> tuple[str, ...]: ...
    @property
    def storage(self) -> Storage: ...


class Locator(Protocol):
    """What places points in a grid: ``locate`` gives cells (-1: nowhere), numbered over the whole grid; regions are numbered row by row."""

    @property
    def crs(self) -> str: ...
    @property
    def lattice_shape_yx(self) -> tuple[int, int]: ...
    def locate(self, x: Array, y: Array) -> Array: ...
    def regions_of(self, cells: Array) -> Array: ...
    def cells_within(self, region: int, cells: Array) -> Array: ...
    def region_id(self, iy: int, ix: int) -> str: ...
    def find_region(self, region_id: str) -> tuple[int, int] | None: ...


class AreaLocator(Locator, Protocol):
    """A locator that can tell, too, in which regions an area lies, by row and column."""

    def get_chunks_for_bbox(
        self, bbox: tuple[float, float, float, float], crs: str | None = None
    ) -> list[tuple[int, int]]: ...
    def get_chunks_for_shape(self, shape: BaseGeometry, crs: str | None = None) -> list[tuple[int, int]]: ...


@dataclass(frozen=True, slots=True)
class Run:
    """Points of a granule that are numbered together: an HDF5 group, row groups of a Parquet file, a CSV file.

    ``n_points`` is None where only reading them tells.
    """

    name: str
    n_points: int | None


@dataclass(frozen=True, slots=True)
class Part:
    """Points ``start`` to ``stop`` of a run, ``count`` of which lie in a region (-1: not known), and no others of the run do."""

    run: str
    start: int
    stop: int
    count: int


@dataclass(frozen=True, slots=True)
class GranuleRow:
    """The parts of a granule that hold all its points in some region."""

    href: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Batch:
    """Points of a run from index ``first`` on: coordinates as float64, NaN where there are none, and columns by name."""

    first: int
    x: Array
    y: Array
    columns: Columns

    def __len__(self) -> int:
        return len(self.x)


class Granule(Protocol):
    """An open file of points."""

    href: str

    @property
    def runs(self) -> tuple[Run, ...]: ...

    def batches(self, run: str, start: int, stop: int | None, names: Sequence[str]) -> Iterator[Batch]:
        """Points ``start`` to ``stop`` (None: to the end) with the columns ``names``, at most BATCH_POINTS at a time."""
        ...

    def close(self) -> None: ...
