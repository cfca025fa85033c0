"""A VRT over all tiles, copied into Zarr v3 by the GDAL in rasterio's wheel, as ``gdal_translate`` and ``gdal convert`` do.

Its best settings: a block cache that holds a row of chunks over all tiles and a row of blocks for each, ``GDAL_NUM_THREADS`` for
the sources of the VRT. Zarr's encoding is one thread of GDAL, whatever is set (only Blosc has an option for threads).
"""

from __future__ import annotations

import os
from pathlib import Path
from xml.sax.saxutils import escape

import rasterio
import rasterio.shutil

from benchmarks.job import ARRAY, LEVEL, Job

CACHE = 2**31
"""Bytes of GDAL's block cache."""
TYPES = {"uint8": "Byte", "int16": "Int16", "float32": "Float32"}


def run(job: Job) -> None:
    vrt = Path(job.store).with_suffix(".vrt")
    vrt.write_text(_vrt(job))
    options = {"FORMAT": "ZARR_V3", "COMPRESS": "ZSTD", "ZSTD_LEVEL": str(LEVEL), "BLOCKSIZE": f"{job.chunk},{job.chunk}", "ARRAY_NAME": ARRAY}  # fmt: skip
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS", GDAL_CACHEMAX=CACHE):
        rasterio.shutil.copy(str(vrt), job.store, driver="Zarr", strict=True, **options)


def _vrt(job: Job) -> str:
    rows, columns = job.shape
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="0">{escape(os.path.abspath(href))}</SourceFilename><SourceBand>1</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="{job.side}" ySize="{job.side}"/>'
        f'<DstRect xOff="{i * job.side}" yOff="0" xSize="{job.side}" ySize="{job.side}"/></SimpleSource>'
        for i, href in enumerate(job.hrefs)
    )
    return (
        f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}"><SRS>EPSG:4326</SRS>'
        f"<GeoTransform>{', '.join(map(str, job.tile_geotransform(0)))}</GeoTransform>"
        f'<VRTRasterBand dataType="{TYPES[job.kind.dtype]}" band="1"><NoDataValue>{job.kind.fill}</NoDataValue>{sources}'
        "</VRTRasterBand></VRTDataset>"
    )
