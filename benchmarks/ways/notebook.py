"""The GLAD notebook of Icechunk's documentation, on Icechunk 2: a fork a tile, on Dask workers; one merge, one commit.

Each task opens its tile with ``engine="rasterio"`` and writes it with ``to_zarr(region=...)``. Its two forms: the whole tile
in memory (``chunks=None``, what the notebook's tasks do), or a dask array of 8000² that threads of the task read and write
(what its ``read_tile`` does by default). Where it differs, it is to its own good: the lazy form keeps GDAL's block cache, which
the notebook switches off; the fork is sent with each task, not scattered; workers do not write to a cloud.
"""

from __future__ import annotations

import icechunk
from rasterio.env import Env

from benchmarks.job import Job
from benchmarks.ways.icechunks import REMOTE_OPTIONS, create_repo, open_repo, open_tile, workers

prepare = create_repo

LAZY_CACHE = 2**30
"""Bytes of GDAL's block cache for the lazy form: a row of its squares is decoded once."""


def run(job: Job) -> None:
    with workers(job) as client:
        session = open_repo(job).writable_session("main")
        fork = session.fork()
        futures = [client.submit(update_tile, fork, job, i, pure=False) for i in range(job.count)]
        session.merge(*client.gather(futures))
        session.commit("tiles")


def update_tile(fork: icechunk.ForkSession, job: Job, i: int) -> icechunk.ForkSession:
    """On a worker: write one tile."""
    import dask

    # The whole tile is read block by block, each once: a cache would only cost.
    with (
        Env(GDAL_CACHEMAX=LAZY_CACHE if job.options["lazy"] else 0, VSI_CACHE=False, **REMOTE_OPTIONS),
        dask.config.set(scheduler="threads", num_workers=job.options["threads"]),
    ):
        tile = open_tile(job, i).drop_vars(["x", "y"])
        tile.to_zarr(fork.store, region=job.region(i), consolidated=False)
    return fork
