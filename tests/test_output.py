"""Rasters that are written are whole, or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import rasterio

WRITE = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from affine import Affine
from cubeingest.errors import StoreError
from cubeingest.tile import RasterForm, write_raster

path, step, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
form = RasterForm((1000, 1000), 1, np.dtype("float32"), "EPSG:4326", Affine(0.01, 0, 0, 0, -0.01, 20), float("nan"), (step, step))
noise = np.random.default_rng(0)
try:
    with write_raster(path, form) as raster:
        for row in range(0, 1000, step):
            for column in range(0, 1000, step):
                size = (1, min(step, 1000 - row), min(step, 1000 - column))
                raster.write([0], noise.random(size).astype("f4"), row, column)
except StoreError as e:
    print(e)
"""


@pytest.mark.parametrize("step", [256, 300])
def test_raster_that_the_disk_has_no_room_for_is_refused_and_leaves_nothing(tmp_path: Path, step: int) -> None:
    """GDAL itself says nothing. Windows that blocks cut are written twice, on either way."""
    place = tmp_path / "a.tif"
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(place), str(step), "500000"], capture_output=True, text=True, check=True
    )
    assert "a.tif' cannot be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lacking", [1000, 100_000, 400_000])
def test_raster_whose_last_block_is_cut_short_is_refused(tmp_path: Path, lacking: int) -> None:
    """Its table then says that the block is shorter, and lies within the file."""
    place = tmp_path / "a.tif"
    subprocess.run([sys.executable, "-c", WRITE, str(place), "256", "50000000"], check=True)
    limit = place.stat().st_size - lacking
    place.unlink()
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(place), "256", str(limit)], capture_output=True, text=True, check=True
    )
    assert "a.tif' cannot be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [256, 300])
def test_raster_that_there_is_room_for_is_written(tmp_path: Path, step: int) -> None:
    place = tmp_path / "a.tif"
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(place), str(step), "50000000"], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    with rasterio.open(place) as src:
        assert 0 <= src.read(1).min() <= src.read(1).max() < 1
