"""Every pixel read by GDAL in rows of chunks, tile after tile, as users of rasterio and rioxarray do: nothing is written.

A thread a core, each with tiles of its own; GDAL's cache holds a row of blocks that the next row of chunks needs again.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import rasterio
from rasterio.windows import Window

from benchmarks.job import Job
from benchmarks.ways.icechunks import REMOTE_OPTIONS


def run(job: Job) -> None:
    def read(href: str) -> None:
        with rasterio.Env(GDAL_CACHEMAX=2**29, **REMOTE_OPTIONS), rasterio.open(href) as tile:
            for start, stop in job.rows_of_chunks():
                tile.read(1, window=Window(0, start, job.side, stop - start))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(read, job.hrefs))
