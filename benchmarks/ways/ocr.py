"""Open Climate Risk's pattern: each region is a session and a commit of its own, placed by ``region="auto"``.

``region="auto"`` compares coordinates exactly, and a tile's own differ from the cube's in the last bit; OCR cuts its regions
out of one dataset, so here the cube's coordinates are given to the tile. OCR commits to S3 with ``rebase_with``; on a disk
Icechunk loses commits made at the same time, so a lock is held around them.
"""

from __future__ import annotations

import os

import icechunk
import xarray as xr
from filelock import FileLock
from rasterio.env import Env

from benchmarks.job import Job
from benchmarks.ways.icechunks import create_repo, open_repo, open_tile, workers

prepare = create_repo


def run(job: Job) -> None:
    with workers(job) as client:
        client.gather([client.submit(insert_region, job, i, pure=False) for i in range(job.count)])


def insert_region(job: Job, i: int) -> None:
    """On a worker: write one tile, and commit it."""
    session = open_repo(job).writable_session("main")
    cube = xr.open_zarr(session.store, consolidated=False, chunks=None).isel(job.region(i))
    with Env(GDAL_CACHEMAX=0):
        tile = open_tile(job, i).assign_coords(y=cube.y, x=cube.x)
        tile.to_zarr(session.store, region="auto", consolidated=False)
    with FileLock(os.path.join(job.store, "ocr.lock")):
        session.commit(f"tile {i}", rebase_with=icechunk.ConflictDetector())
