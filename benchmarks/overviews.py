"""Overviews against the ingest of the same tiles, against GDAL's, and after a change of one tile.

    uv run python -m benchmarks.overviews [--size 20000] [--tiles 4] [--runs 3] [--inputs blocks,blocks-float32] [--keep FOLDER] [--json FILE]

Each run is a whole process; runs of different ways alternate, and nothing is deleted before all have run.

ingest     ``cubeingest ingest`` of all tiles into a new store
overviews  ``cubeingest overviews`` of a store that has none
changed    the same after one tile's region has got other pixels
gdal       GDAL's overviews of the same tiles, as a virtual raster, in a file beside it (``gdaladdo -ro``: zstd, blocks of 512, all cores)

GDAL makes as many levels, by the same method (mode of classes, mean of fields).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.job import Job
from benchmarks.measure import Measured, interleave, machine, medians, run
from benchmarks.rivals import make_tiles, say, warm
from benchmarks.tiles import Input

WAYS = ("ingest", "overviews", "changed", "gdal")
COMMAND = [sys.executable, "-m", "cubeingest"]

CHANGE = """
import sys
import cubeingest as ci
cube = ci.open(sys.argv[1])
array = cube.dataset()["cover"]
def flipped(geobox):
    y, x = cube.grid.window(geobox.extent.boundingbox)
    return array[y, x].values[::-1]
cube.ingest(source=flipped, region=next(iter(cube.grid.region_ids())), redo=True)
"""
"""One region gets other pixels: its own, upside down."""

GDAL = """
import os, sys
import rasterio
from rasterio.enums import Resampling
source, method, levels = sys.argv[1:]
options = {"GDAL_NUM_THREADS": "ALL_CPUS", "COMPRESS_OVERVIEW": "ZSTD", "ZSTD_LEVEL_OVERVIEW": "3", "GDAL_TIFF_OVR_BLOCKSIZE": "512", "BIGTIFF_OVERVIEW": "YES"}
with rasterio.Env(**options), rasterio.open(source, "r+") as raster:
    raster.build_overviews([2 ** n for n in range(1, int(levels) + 1)], Resampling[method])
"""


class Bench:
    """Runs the ways on tiles in ``folder``."""

    def __init__(self, folder: Path, kind: Input, size: int, tiles: int) -> None:
        self.folder, self.kind, self.count = folder, kind, 0
        make_tiles(folder, kind, size, tiles)
        self.job = Job(kind.name, str(folder / kind.name), size, tiles, str(folder / "store"))
        self.spec = folder / "overviews.yaml"
        self.spec.write_text(self.job.spec())
        self.full = self._ingested("full")
        self._call("overviews", "--store", self.full)
        from cubeingest import open as open_cube

        self.levels = len(open_cube(self.full).overviews().levels)

    def _call(self, *words: str) -> None:
        subprocess.run(
            [*COMMAND, *words], check=True, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _new(self, name: str) -> str:
        store = str(self.folder / f"overviews-{name}.icechunk")
        self._call("init", str(self.spec), "--store", store)
        return store

    def _ingested(self, name: str) -> str:
        store = self._new(name)
        self._call("ingest", "--store", store)
        return store

    def measure(self, way: str) -> Measured:
        self.count += 1
        if way == "ingest":
            command = [*COMMAND, "ingest", "--store", self._new(str(self.count))]
        elif way == "overviews":
            command = [*COMMAND, "overviews", "--store", self._ingested(str(self.count))]
        elif way == "changed":
            subprocess.run([sys.executable, "-c", CHANGE, self.full], check=True, stderr=subprocess.DEVNULL)
            command = [*COMMAND, "overviews", "--store", self.full]
        else:
            method = "mode" if self.kind.dtype == "uint8" else "average"
            command = [sys.executable, "-c", GDAL, self._mosaic(), method, str(self.levels)]
        warm(self.job.files)
        return run(command, cwd=self.folder)

    def _mosaic(self) -> str:
        """The tiles as one virtual raster, without overviews."""
        import rasterio

        name = self.folder / f"mosaic-{self.count}.vrt"
        with rasterio.open(self.job.files[0]) as tile:
            dtype, transform, nodata = tile.dtypes[0], tile.transform, tile.nodata
        side = self.job.side
        kind = {"uint8": "Byte", "int16": "Int16", "float32": "Float32"}[dtype]
        sources = "".join(
            f'<SimpleSource><SourceFilename>{file}</SourceFilename><SrcRect xOff="0" yOff="0" xSize="{side}" ySize="{side}"/>'
            f'<DstRect xOff="{i * side}" yOff="0" xSize="{side}" ySize="{side}"/></SimpleSource>'
            for i, file in enumerate(self.job.files)
        )
        name.write_text(
            f'<VRTDataset rasterXSize="{side * self.job.count}" rasterYSize="{side}"><SRS>EPSG:4326</SRS>'
            f"<GeoTransform>{','.join(map(str, transform.to_gdal()))}</GeoTransform>"
            f'<VRTRasterBand dataType="{kind}" band="1"><NoDataValue>{nodata}</NoDataValue>{sources}</VRTRasterBand></VRTDataset>'
        )
        return str(name)

    def clear(self) -> None:
        for store in self.folder.glob("overviews-*.icechunk"):
            shutil.rmtree(store)
        for file in (*self.folder.glob("mosaic-*"), self.spec):
            file.unlink()


def report(found: dict[str, Any]) -> str:
    """Throughput, in pixels of the base a second, as ratios."""
    rows = [
        "| tiles | against ingest | against GDAL | one of {tiles} tiles changed | memory MB |".format(**found),
        "|---|---|---|---|---|",
    ]
    for name, result in found["results"].items():
        took = {way: medians([Measured(**m) for m in result[way]]) for way in WAYS}
        own = took["overviews"]["seconds"]
        ratios = (took["ingest"]["seconds"] / own, took["gdal"]["seconds"] / own, took["changed"]["seconds"] / own)
        rows.append(
            f"| {name} | {ratios[0]:.2f} | {ratios[1]:.1f} | {ratios[2]:.2f} of the time | {took['overviews']['memory']:.0f} |"
        )
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20000)
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--inputs", default="blocks,blocks-float32,blocks-ocean")
    parser.add_argument("--keep", type=Path, help="folder to keep tiles in between runs")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {"machine": machine(), "size": options.size, "tiles": options.tiles, "results": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.inputs.split(","):
            say(name)
            bench = Bench(folder, Input(name), options.size, options.tiles)
            try:
                runs = interleave(WAYS, options.runs, bench.measure, say)
            finally:
                bench.clear()
            found["results"][name] = {way: [asdict(m) for m in measured] for way, measured in runs.items()}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + os.linesep)
    print(report(found))
    return found


if __name__ == "__main__":
    main()
