"""The mosaic as one array in Python, and ``to_zarr``: rioxarray's ``merge_arrays`` in memory, odc-stac's ``load`` in dask.

Both write plain Zarr, without a repository. odc-stac is given STAC items with shape, transform and CRS (it opens no tile before it
reads), and dask chunks of a tile's width and 4000 rows, written by a thread a core: narrower ones decode each strip several times.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from benchmarks.job import ARRAY, LEVEL, Job
from benchmarks.tiles import DEGREES

if TYPE_CHECKING:
    import xarray as xr

ROWS = 4000
"""Rows of a dask chunk."""
COPIES = 2.2
"""How often merging holds all pixels: the tile that it reads, the mosaic, and what Zarr keeps while it encodes."""


def refuse(job: Job) -> str:
    """Why this cannot run here, or nothing."""
    import psutil

    needed, free = COPIES * job.n_bytes, psutil.virtual_memory().available
    if job.options["how"] != "merge" or needed < free:
        return ""
    return f"needs {needed / 1e9:.0f} GB of memory, {free / 1e9:.0f} are free"


def run(job: Job) -> None:
    from zarr.codecs import ZstdCodec

    array = {"merge": _merge, "odc": _load}[job.options["how"]](job)
    dataset = array.to_dataset(name=ARRAY)
    dataset[ARRAY].encoding, dataset[ARRAY].attrs = {}, {}
    encoding = {"chunks": job.chunks, "fill_value": job.kind.fill, "compressors": [ZstdCodec(level=LEVEL)]}
    dataset.to_zarr(job.store, mode="w-", encoding={ARRAY: encoding}, consolidated=False)


def _merge(job: Job) -> xr.DataArray:
    import rioxarray
    from rioxarray.merge import merge_arrays

    tiles: Any = [rioxarray.open_rasterio(href) for href in job.hrefs]
    merged = merge_arrays(tiles).isel(band=0, drop=True)
    for tile in tiles:
        tile.close()
    return merged


def _load(job: Job) -> xr.DataArray:
    import odc.stac

    items = [_item(job, i) for i in range(job.count)]
    rows = min(ROWS, job.side)
    loaded = odc.stac.load(items, bands=[ARRAY], chunks={"y": rows, "x": job.side}, groupby="solar_day", dtype=job.kind.dtype,
                           nodata=job.kind.fill, crs="EPSG:4326", resolution=DEGREES / job.side)  # fmt: skip
    return loaded[ARRAY].isel(time=0, drop=True)


def _item(job: Job, i: int) -> Any:
    import pystac

    left, dx, _, top, _, dy = job.tile_geotransform(i)
    right, bottom = left + DEGREES, top - DEGREES
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    shape, transform = [job.side, job.side], [dx, 0, left, 0, dy, top]
    properties = {"proj:code": "EPSG:4326", "proj:shape": shape, "proj:transform": transform}
    item = pystac.Item(f"tile-{i}", {"type": "Polygon", "coordinates": [ring]}, [left, bottom, right, top],
                       datetime(2020, 1, 1, 12, tzinfo=UTC), properties, collection="tiles")  # fmt: skip
    item.stac_extensions = ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"]
    band = [{"data_type": job.kind.dtype, "nodata": job.kind.fill}]
    item.add_asset(ARRAY, pystac.Asset(job.hrefs[i], media_type="image/tiff; application=geotiff", roles=["data"], extra_fields={"raster:bands": band}))  # fmt: skip
    return item
