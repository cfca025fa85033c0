"""GDAL as an expert would run it on several cores: an empty Zarr, and a process a core that copies its own tiles into it.

Windows of whole chunk rows of one tile, read and written by GDAL's raster interface. Zarr's chunks are the processes' own, so
that nothing is written twice; GDAL's cache holds a row of blocks that the next window needs again.
"""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import rasterio
from rasterio.windows import Window

from benchmarks.job import ARRAY, LEVEL, Job
from benchmarks.tiles import tile_transform

CACHE = 2**29
"""Bytes of GDAL's block cache in each process."""


def run(job: Job) -> None:
    rows, columns = job.shape
    profile = {
        "driver": "Zarr", "width": columns, "height": rows, "count": 1, "dtype": job.kind.dtype, "nodata": job.kind.fill, "crs": "EPSG:4326",
        "transform": tile_transform(0, job.side), "FORMAT": "ZARR_V3", "COMPRESS": "ZSTD", "ZSTD_LEVEL": str(LEVEL),
        "BLOCKSIZE": f"{job.chunk},{job.chunk}", "ARRAY_NAME": ARRAY,
    }  # fmt: skip
    with rasterio.open(job.store, "w", **profile):
        pass
    for row in range(rows // job.chunk):  # the driver fails where two processes make the same folder at once
        Path(job.store, ARRAY, "c", str(row)).mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    cores = min(os.cpu_count() or 1, job.count)
    processes = [spawn.Process(target=copy_tiles, args=(job, range(i, job.count, cores))) for i in range(cores)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0, f"a process ended with {process.exitcode}"


def copy_tiles(job: Job, columns: range) -> None:
    with rasterio.Env(GDAL_CACHEMAX=CACHE), rasterio.open(job.store, "r+") as cube:
        for i in columns:
            with rasterio.open(job.hrefs[i]) as tile:
                for start, stop in job.rows_of_chunks():
                    pixels = tile.read(1, window=Window(0, start, job.side, stop - start))
                    cube.write(pixels, 1, window=Window(i * job.side, start, job.side, stop - start))
