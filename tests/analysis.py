"""A small cube to compute with, and what numpy sees of it: all of it at once, as float64, NaN where there is nothing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cubeingest as ci

SPEC = """\
name: seasons
crs: EPSG:4326
grid: {origin: {x: 0, y: 20}, resolution: {x: 1/10, y: -1/10}, shape: {y: 200, x: 250}, region: {y: 100, x: 100}}
axes: {year: {values: [2000, 2005, 2010]}, band: {values: [red, nir]}}
variables:
  refl: {dtype: uint16, fill_value: 0, chunks: {y: 50, x: 50, band: 2}, attrs: {units: "1", long_name: reflectance}}
  height: {dtype: float32, fill_value: -1, chunks: {y: 50, x: 50}, axes: [year], shards: {y: 100, x: 100}}
  cover:
    dtype: uint8
    fill_value: 255
    chunks: {y: 50, x: 50}
    axes: [year]
    attrs: {flag_values: [1, 2, 3], flag_meanings: "water forest bare_soil"}
  zone: {dtype: int16, fill_value: -1, chunks: {y: 100, x: 100}, axes: []}
store: ./seasons.icechunk
"""
"""2 x 3 regions of 100 x 100 pixels, the last column half as wide."""

MISSING = "y1_x2"
"""The region that lacks 2010."""


def values(geobox: Any, **axes: Any) -> dict[str, np.ndarray]:
    """Random pixels by place and axis values, a tenth of them missing."""
    seed = [int(axes.get("year", 0)), len(axes.get("band", "")), round(geobox.affine.c), round(geobox.affine.f)]
    rng = np.random.default_rng(seed)
    shape = geobox.shape
    gap = rng.random(shape) < 0.1
    return {
        "refl": np.where(gap, 0, rng.integers(1, 60_000, shape)).astype("uint16"),
        "height": np.where(gap, -1, rng.normal(1e4, 3, shape)).astype("float32"),
        "cover": np.where(gap, 255, rng.integers(1, 4, shape)).astype("uint8"),
        "zone": np.where(gap, -1, rng.integers(0, 5, shape)).astype("int16"),
    }


@dataclass(frozen=True)
class Seasons:
    """The cube and its values: ``refl`` (year, band, y, x), ``height`` and ``cover`` (year, y, x), ``zone`` (y, x)."""

    cube: ci.Cube
    refl: np.ndarray
    height: np.ndarray
    cover: np.ndarray
    zone: np.ndarray

    @property
    def ndvi(self) -> np.ndarray:
        red, nir = self.refl[:, 0], self.refl[:, 1]
        return (nir - red) / (nir + red)


def make_seasons(folder: Path) -> Seasons:
    (folder / "seasons.yaml").write_text(SPEC, encoding="utf-8")
    cube = ci.init(folder / "seasons.yaml")
    every = [cube.grid.region_id(iy, ix) for iy in range(2) for ix in range(3)]
    cube.ingest(source=values, year=[2000, 2005])
    cube.ingest(source=values, year=2010, region=[r for r in every if r != MISSING])
    ds = cube.dataset().load()
    out = {}
    for name, fill in (("refl", 0), ("height", -1), ("cover", 255), ("zone", -1)):
        stored = ds[name].values
        out[name] = np.where(stored == fill, np.nan, stored.astype(float))
    return Seasons(cube, **out)


def copy_seasons(seasons: Seasons, folder: Path) -> Seasons:
    """The same, to be changed."""
    store = folder / "copy.icechunk"
    shutil.copytree(seasons.cube.store.uri, store)
    return replace(seasons, cube=ci.open(store))


@pytest.fixture(scope="session")
def seasons(tmp_path_factory: pytest.TempPathFactory) -> Seasons:
    """Made once, only read."""
    return make_seasons(tmp_path_factory.mktemp("seasons"))
