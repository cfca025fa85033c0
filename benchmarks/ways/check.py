"""Does a store hold the pixels of its tiles, in the chunks and with the codec that were asked for?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.job import ARRAY, LEVEL, Job

WINDOWS = 6
"""Places of a large tile that are compared, besides two of its corners."""


def check(job: Job, whole: bool) -> None:
    """Compare every pixel, or windows of each tile, and print what was found as JSON. Exits with a message at a difference."""
    array = open_result(job.store)
    compared = 0
    if array.shape != job.shape or array.chunks != job.chunks:
        raise SystemExit(
            f"{job.store}: {array.shape} in chunks of {array.chunks}, expected {job.shape} in {job.chunks}"
        )
    codec = [c.to_dict() for c in array.metadata.codecs][-1]
    if codec["name"] != "zstd" or codec["configuration"]["level"] != LEVEL:
        raise SystemExit(f"{job.store}: encoded by {codec}, expected zstd of level {LEVEL}")
    for i, href in enumerate(job.files):
        with rasterio.open(href) as tile:
            for window in _windows(job, i, whole):
                expected = tile.read(1, window=window)
                x, y = i * job.side + window.col_off, window.row_off
                found = array[y : y + window.height, x : x + window.width]
                if found.dtype != expected.dtype or not np.array_equal(found, expected):
                    raise SystemExit(f"{job.store}: pixels differ from {href} in {window}")
                compared += expected.size
    size = sum(path.stat().st_size for path in Path(job.store).rglob("*") if path.is_file())
    print(json.dumps({"compared": compared / job.pixels, "stored": size}))


def _windows(job: Job, i: int, whole: bool) -> list[Window]:
    if whole:
        return [Window(0, start, job.side, stop - start) for start, stop in job.rows_of_chunks()]
    rng = np.random.default_rng(i)
    high = min(1500, job.side)
    last = job.side - high
    places = [(0, 0), (last, last), *rng.integers(0, last + 1, (WINDOWS, 2)).tolist()]
    return [Window(x, y, high, high) for y, x in places]


def open_result(store: str) -> Any:
    """The one array of two dimensions in a Zarr store or an Icechunk repository."""
    import zarr

    if (Path(store) / "zarr.json").exists():
        group = zarr.open_group(store, mode="r", use_consolidated=False)
        return next(array for name, array in group.arrays() if array.ndim == 2)
    import icechunk

    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(store))
    return zarr.open_array(repo.readonly_session("main").store, path=ARRAY, mode="r")
