"""The ways to turn a row of tiles into one Zarr array, each run as a process of its own.

    python -m benchmarks.ways NAME JOB.json [--refuse | --prepare | --check]

All give the same pixels in chunks of the same size, encoded with zstd of level 3; ``note`` says where one does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Way:
    """``module`` has ``run(job)``, and perhaps ``prepare(job)``, which is not timed, and ``refuse(job)``, which says why not to run."""

    name: str
    title: str
    module: str
    note: str
    options: Mapping[str, Any] = field(default_factory=dict)
    writes: bool = True
    by_default: bool = True


WAYS = {
    way.name: way
    for way in (
        Way("floor", "floor: decode, encode, write", "floor", "no repository: a folder of files"),
        Way("ours", "cubeingest", "ours", "`cubeingest ingest`, with its ledger and its commit; `init` is not timed"),
        Way("notebook", "notebook, whole tiles", "notebook",
            "forks of one Icechunk session on Dask workers, one process of one thread a core, `chunks=None`; one merge, one commit",
            {"lazy": 0, "threads": 1}),
        Way("notebook-lazy", "notebook, lazy 8000²", "notebook",
            "the same, each tile as a dask array of 8000² in two threads, with a block cache of 1 GB (the notebook's own, 0, decodes strips five times)",
            {"lazy": 8000, "threads": 2}),
        Way("notebook-lazy-1", "notebook, lazy, one worker", "notebook", "the same in one worker process, whose two threads share its cache of blocks",
            {"lazy": 8000, "threads": 2, "workers": 1}, by_default=False),
        Way("ocr", "OCR: a commit a region", "ocr",
            "a session, `region=\"auto\"` and a commit for each tile, on Dask workers as above; under a file lock, since Icechunk loses commits on a disk without",
            {"lazy": 0}),
        Way("gdal", "GDAL: VRT to Zarr", "gdal", "no repository: plain Zarr v3; one thread encodes"),
        Way("gdal-parallel", "GDAL, a process a core", "gdalparallel", "no repository: plain Zarr v3; each process copies tiles of its own into one array"),
        Way("rioxarray", "rioxarray merge", "arrays", "no repository: plain Zarr v3; holds all pixels in memory", {"how": "merge"}),
        Way("odc", "odc-stac load", "arrays",
            "no repository: plain Zarr v3; dask arrays of a tile's width and 4000 rows, so that strips are decoded once", {"how": "odc"}),
        Way("windows", "GDAL windows, read only", "windows", "reads rows of chunks and writes nothing", writes=False),
    )
}  # fmt: skip
LOCAL = [name for name, way in WAYS.items() if way.by_default and way.writes]
REMOTE = ["ours", "notebook", "notebook-lazy", "windows"]
