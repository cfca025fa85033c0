"""What the ways that write with Xarray into Icechunk share: the repository with its template, a tile opened, Dask workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import icechunk
import numpy as np
import xarray as xr

from benchmarks.job import ARRAY, LEVEL, Job

if TYPE_CHECKING:
    from distributed import Client

REMOTE_OPTIONS = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES"}
"""What everybody sets for tiles on the web: no listing of the folder, neighbouring ranges in one request."""


def open_repo(job: Job) -> icechunk.Repository:
    return icechunk.Repository.open(icechunk.local_filesystem_storage(job.store))


def create_repo(job: Job) -> None:
    """Commit a template: the array and its coordinates, no pixels. Zarr's default of not writing chunks of fill value holds."""
    import dask.array
    from zarr.codecs import ZstdCodec

    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(job.store))
    pixels = dask.array.zeros(job.shape, chunks=-1, dtype=job.kind.dtype)
    template = xr.Dataset({ARRAY: (("y", "x"), pixels)}, coords=_coordinates(job))
    encoding = {"chunks": job.chunks, "fill_value": job.kind.fill, "compressors": [ZstdCodec(level=LEVEL)]}
    session = repo.writable_session("main")
    template.to_zarr(session.store, compute=False, mode="w", encoding={ARRAY: encoding}, consolidated=False)
    session.commit("template")


def _coordinates(job: Job) -> dict[str, Any]:
    left, dx, _, top, _, dy = job.tile_geotransform(0)
    rows, columns = job.shape
    return {"y": top + (np.arange(rows) + 0.5) * dy, "x": left + (np.arange(columns) + 0.5) * dx}


def open_tile(job: Job, i: int) -> xr.Dataset:
    """A tile as the notebook opens it: whole when it is asked for, or lazily in squares of ``options["lazy"]`` pixels."""
    lazy = job.options["lazy"]
    chunks = {"band": 1, "y": min(lazy, job.side), "x": min(lazy, job.side)} if lazy else None
    dataset = xr.open_dataset(job.hrefs[i], engine="rasterio", mask_and_scale=False, chunks=chunks, lock=False)
    dataset = dataset.rename({"band_data": ARRAY}).squeeze("band", drop=True).drop_vars("spatial_ref")
    # What the file says of itself is the template's to say; a region write refuses it.
    dataset[ARRAY].attrs, dataset[ARRAY].encoding = {}, {}
    return dataset


@contextmanager
def workers(job: Job) -> Iterator[Client]:
    """A process of one thread for each core, as the notebook's cluster has them, or ``options["workers"]`` of them."""
    from distributed import Client, LocalCluster

    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with (
        LocalCluster(
            n_workers=job.options.get("workers", count),
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
