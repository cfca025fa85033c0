"""A region of many small tiles against the same pixels as one tile: what `cubeingest ingest` takes for each.

    uv run python -m benchmarks.sources [--size 36000] [--runs 3]

One region of 10 degrees: 100 tiles of a degree, named by their lower left corner, and one tile that GDAL made of them (so that the
pixels are the same). Whole processes, interleaved; the ratio is that of medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rasterio
from rasterio.merge import merge

from benchmarks.tiles import CHUNK, LAYOUTS, write_class_tile

SPEC = """\
name: {layout}
crs: EPSG:4326
grid: {{origin: {{x: 0, y: 10}}, resolution: {{x: 10/{size}, y: -10/{size}}}, shape: {{y: {size}, x: {size}}}, region: {{y: {size}, x: {size}}}}}
variables:
  v:
    dtype: uint8
    fill_value: 255
    chunks: {{y: {chunk}, x: {chunk}}}
    source: {source}
store: ./cube
"""
SOURCES = {
    "small": '{{href: "small/{{id}}.tif", tile: {{y: {tile}, x: {tile}}}, id: "{{bottom:H02}}{{left:H003}}"}}',
    "large": "{{file: large.tif}}",
}


def write_tiles(folder: Path, size: int) -> None:
    tile = size // 10
    names = []
    for bottom in range(10):
        for left in range(10):
            names.append(folder / "small" / f"N{bottom:02}E{left:03}.tif")
            write_class_tile(names[-1], tile, left, bottom + 1, 1, "blocks", seed=10 * bottom + left)
    merge(names, dst_path=folder / "large.tif", dst_kwds=LAYOUTS["blocks"], mem_limit=256)
    with rasterio.open(folder / "large.tif") as large:
        assert large.shape == (size, size)


def ingest(folder: Path, layout: str, size: int) -> float:
    """Seconds of one `cubeingest ingest` into a new cube."""
    shutil.rmtree(folder / "cube", ignore_errors=True)
    source = SOURCES[layout].format(tile=size // 10)
    (folder / "grid.yaml").write_text(SPEC.format(layout=layout, size=size, chunk=CHUNK if size % CHUNK == 0 else size // 10, source=source))  # fmt: skip
    command = [sys.executable, "-m", "cubeingest"]
    subprocess.run([*command, "init", "grid.yaml"], cwd=folder, check=True, capture_output=True)
    started = time.perf_counter()
    subprocess.run([*command, "ingest", "--workers", "1"], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=36_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiles(folder, given.size)
        times: dict[str, list[float]] = {layout: [] for layout in SOURCES}
        for _ in range(given.runs):
            for layout in SOURCES:
                times[layout].append(ingest(folder, layout, given.size))
        small, large = (statistics.median(times[layout]) for layout in ("small", "large"))
    megapixels = given.size**2 / 1e6
    print(f"100 tiles of {given.size // 10}: {megapixels / small:.0f} Mpx/s; one of {given.size}: {megapixels / large:.0f} Mpx/s; "
          f"time of small tiles over that of one: {small / large:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
