"""Files of points for tests, grids to find them in, and the plainest way to do it."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from healpix_geo.nested import lonlat_to_healpix

from cubeingest.points import PointSource, Run, open_granule
from cubeingest.remote import NOWHERE
from cubeingest.storage import Storage

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Chosen:
    """A filter, as an expression is one."""

    names: frozenset[str]
    test: Callable[..., Any]

    def evaluate(self, columns: Mapping[str, Array]) -> Any:
        return self.test(**columns)


@dataclass(frozen=True)
class Source:
    x: str = "lon"
    y: str = "lat"
    crs: str = "OGC:CRS84"
    columns: Mapping[str, str] = field(default_factory=lambda: {"i": "i", "h": "h"})
    filter: Chosen | None = None
    groups: tuple[str, ...] = ()
    storage: Storage = NOWHERE


@dataclass(frozen=True)
class Boxes:
    """A lattice of square cells and square regions of them, from an upper left corner."""

    left: float = -180
    top: float = 90
    step: float = 1
    shape_yx: tuple[int, int] = (180, 360)
    size: int = 30
    crs: str = "EPSG:4326"

    @property
    def lattice_shape_yx(self) -> tuple[int, int]:
        return -(-self.shape_yx[0] // self.size), -(-self.shape_yx[1] // self.size)

    def locate(self, x: Array, y: Array) -> Array:
        iy, ix = np.floor((self.top - y) / self.step), np.floor((x - self.left) / self.step)
        inside = (iy >= 0) & (iy < self.shape_yx[0]) & (ix >= 0) & (ix < self.shape_yx[1])
        return np.where(inside, iy * self.shape_yx[1] + ix, -1).astype(np.int64)

    def regions_of(self, cells: Array) -> Array:
        iy, ix = np.divmod(cells, self.shape_yx[1])
        return iy // self.size * self.lattice_shape_yx[1] + ix // self.size

    def cells_within(self, region: int, cells: Array) -> Array:
        top, left = (i * self.size for i in divmod(region, self.lattice_shape_yx[1]))
        iy, ix = np.divmod(cells, self.shape_yx[1])
        return (iy - top) * self.size + ix - left

    def region_id(self, iy: int, ix: int) -> str:
        return f"y{iy}_x{ix}"

    def find_region(self, region_id: str) -> tuple[int, int] | None:
        iy, ix = (int(part[1:]) for part in region_id.split("_"))
        ny, nx = self.lattice_shape_yx
        return (iy, ix) if iy < ny and ix < nx else None


@dataclass(frozen=True)
class Healpix:
    """All cells of the earth at one depth, and regions that are cells of a lesser one."""

    depth: int = 6
    region_depth: int = 2
    crs: str = "EPSG:4326"

    @property
    def lattice_shape_yx(self) -> tuple[int, int]:
        return 1, 12 * 4**self.region_depth

    @property
    def _bits(self) -> int:
        return 2 * (self.depth - self.region_depth)

    def locate(self, x: Array, y: Array) -> Array:
        cells = np.full(len(x), -1)
        there = np.isfinite(x) & np.isfinite(y)
        if there.any():
            cells[there] = lonlat_to_healpix(x[there], y[there], self.depth, ellipsoid="WGS84", num_threads=1)
        return cells

    def regions_of(self, cells: Array) -> Array:
        return cells >> self._bits

    def cells_within(self, region: int, cells: Array) -> Array:
        return cells - (region << self._bits)

    def region_id(self, iy: int, ix: int) -> str:
        assert iy == 0
        return str(ix)

    def find_region(self, region_id: str) -> tuple[int, int] | None:
        return 0, int(region_id)


def some_points(
    n: int, seed: int = 0, around: tuple[float, float, float, float] = (-180, -90, 180, 90)
) -> dict[str, Array]:
    """Points in no order: lon, lat, an index and a height."""
    rng = np.random.default_rng(seed)
    west, south, east, north = around
    return {
        "lon": rng.uniform(west, east, n), "lat": rng.uniform(south, north, n), "i": np.arange(n),
        "h": rng.normal(size=n).astype(np.float32),
    }  # fmt: skip


def a_track(n: int, seed: int = 0) -> dict[str, Array]:
    """Points along a line from the south to the north and back, as a satellite flies."""
    t = np.linspace(0, 2 * np.pi, n)
    points = some_points(n, seed)
    return {**points, "lon": 100 * np.cos(t) * 1.7, "lat": 80 * np.sin(t)}


def write_parquet(path: Path, points: Mapping[str, Array], rows: int = 1000) -> str:
    pq.write_table(pa.table(dict(points)), path, row_group_size=rows)
    return str(path)


def write_csv(path: Path, points: Mapping[str, Array]) -> str:
    lines = [
        ",".join(points),
        *(",".join(repr(v) for v in row) for row in zip(*(p.tolist() for p in points.values()), strict=True)),
    ]
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return str(path)


def write_hdf5(path: Path, groups: Mapping[str, Mapping[str, Array]]) -> str:
    with h5py.File(path, "w") as file:
        for group, points in groups.items():
            for name, values in points.items():
                file.create_dataset(
                    f"{group}/{name}",
                    data=values,
                    chunks=tuple(min(256, n) for n in values.shape) if len(values) else None,
                )
    return str(path)


def write_as(suffix: str, folder: Path, points: Mapping[str, Array], name: str = "points") -> str:
    path = folder / f"{name}{suffix}"
    if suffix == ".parquet":
        return write_parquet(path, points)
    return write_hdf5(path, {"": points}) if suffix in (".h5", ".nc") else write_csv(path, points)


def read_runs(href: str, source: PointSource) -> list[Run]:
    """The runs of a granule, with their numbers of points. Raises :class:`TileError`."""
    with open_granule(href, source) as granule:
        return [
            run
            if run.n_points is not None
            else Run(run.name, sum(len(b) for b in granule.batches(run.name, 0, None, ())))
            for run in granule.runs
        ]


def read_part(
    href: str, source: PointSource, run: str, start: int, stop: int | None, names: Sequence[str]
) -> dict[str, Array]:
    """Points ``start`` to ``stop`` of a run: "x" and "y" as float64 (NaN where there are none), and the columns ``names``.

    Integers stay what they are, unless some are missing: then they are float64, with NaN. Raises :class:`TileError`.
    """
    with open_granule(href, source) as granule:
        batches = list(granule.batches(run, start, stop, names))
    empty = np.zeros(0)
    out = {name: np.concatenate([b.columns[name] for b in batches]) if batches else empty for name in names}
    out["x"] = np.concatenate([b.x for b in batches]) if batches else empty
    out["y"] = np.concatenate([b.y for b in batches]) if batches else empty
    return out


def in_regions(points: Mapping[str, Array], locator: Any, names: Sequence[str]) -> dict[int, dict[str, Array]]:
    """The points of each region, one after the other, in the plainest way."""
    cells = locator.locate(points["lon"].astype(np.float64), points["lat"].astype(np.float64))
    regions = np.where(cells >= 0, locator.regions_of(np.maximum(cells, 0)), -1)
    out = {}
    for region in np.unique(regions[regions >= 0]).tolist():
        at = regions == region
        out[region] = {"cell": locator.cells_within(region, cells[at]), **{n: points[n][at] for n in names}}
    return out
