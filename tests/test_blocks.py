"""Blocks as they are: references and copies against the ordinary path, what is refused, and what becomes of references."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cubeingest as ci
from cubeingest.errors import CubeIngestError, SpecError
from tests.conftest import Ran, write_tile

Invoke = Callable[..., Ran]

SPEC = """\
name: blocks
crs: EPSG:4326
grid: {{origin: {{x: 0, y: 20}}, resolution: {{x: 1/10, y: -1/10}}, shape: {{y: 96, x: 120}}, region: {{y: 64, x: 64}}}}
axes: {{year: {{values: [2000, 2001]}}}}
variables:
  v: {{dtype: {dtype}, fill_value: {fill}, chunks: {{year: 1, y: 32, x: 32}}, compressor: {codec},
       source: {{href: "{href}", missing: absent{more}}}}}
"""
"""2 x 2 regions of 64 x 64 pixels; the last row is half as high, the last column ends within a chunk."""


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("CUBEINGEST_VIRTUAL", raising=False)


def write_spec(
    folder: Path, dtype: str = "int16", fill: str = "-1", codec: str = "{name: zstd}", href: str = "tiles/{year}/{id}.tif",
    more: str = "", changes: tuple[tuple[str, str], ...] = (),
) -> Path:  # fmt: skip
    text = SPEC.format(dtype=dtype, fill=fill, codec=codec, href=href, more=more)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "grid.yaml").write_text(text)
    return folder / "grid.yaml"


def tile(folder: Path, name: str, pixels: np.ndarray, row: int = 0, column: int = 0, **profile: Any) -> Path:
    """A tile whose first pixel is at (row, column) of the grid, of blocks of 32 x 32."""
    options = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "zstd", "nodata": -1, **profile}
    return write_tile(folder / "tiles" / name, pixels, column / 10, 20 - row / 10, **options)


def pixels_of(shape: tuple[int, ...], dtype: str = "int16", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def write_tiles(folder: Path, dtype: str = "int16", **profile: Any) -> None:
    """Three tiles of 2000, one of 2001, with blocks that are left out and one of fill value that is there."""
    fill = np.dtype(dtype).type(profile.get("nodata", -1))
    first = pixels_of((64, 64), dtype)
    first[:32, 32:] = fill
    tile(folder, "2000/y0_x0.tif", first, SPARSE_OK=True, **profile)
    tile(folder, "2000/y0_x1.tif", pixels_of((64, 56), dtype, 1), 0, 64, **profile)
    tile(folder, "2000/y1_x0.tif", pixels_of((32, 64), dtype, 2), 64, 0, **profile)
    tile(folder, "2001/y1_x1.tif", pixels_of((32, 56), dtype, 3), 64, 64, **profile)


def values(store: Path | str) -> np.ndarray:
    return ci.open(store).dataset()["v"].values


def bits(a: np.ndarray) -> bytes:
    return np.ascontiguousarray(a).tobytes()


MATRIX = [
    ("uint8", "255", "none", {"nodata": 255}),
    ("int16", "-1", "{name: zstd}", {}),
    ("float32", ".nan", "{name: zstd}", {"nodata": float("nan")}),
    ("float32", "-1", "none", {}),
]


@pytest.mark.parametrize(("dtype", "fill", "codec", "profile"), MATRIX)
def test_references_and_copies_are_what_the_ordinary_path_writes(
    tmp_path: Path, dtype: str, fill: str, codec: str, profile: dict[str, Any]
) -> None:
    compress = {"compress": "zstd" if "zstd" in codec else None}
    write_tiles(tmp_path, dtype, **{**profile, **compress})
    spec = write_spec(tmp_path, dtype, fill, codec)
    plan = ci.init(spec, tmp_path / "plain").plan()
    assert plan.blocks is not None
    assert (plan.blocks.slots, plan.blocks.copyable, plan.blocks.virtual) == (4, 4, 4)
    for how in ("plain", "virtual", "copied"):
        cube = ci.init(spec, tmp_path / how)
        report = cube.ingest(virtual=how == "virtual", copy_blocks=how == "copied")
        assert (report.written, report.failed) == (4, []), how
        assert cube.verify().different == []
        assert ci.open(tmp_path / how).check(deep=True).findings == []
        assert ci.open(tmp_path / how).status().virtual == (4 if how == "virtual" else 0)
        assert cube.ingest(virtual=True).skipped == 4
    plain = values(tmp_path / "plain")
    assert bits(values(tmp_path / "virtual")) == bits(plain)
    assert bits(values(tmp_path / "copied")) == bits(plain)
    again = ci.open(tmp_path / "virtual").materialize()
    assert (again.written, again.failed) == (4, [])
    shutil.rmtree(tmp_path / "tiles")
    assert bits(values(tmp_path / "virtual")) == bits(plain)
    assert ci.open(tmp_path / "virtual").check(deep=True).findings == []
