"""Throughput of ``cubeingest ingest`` against its floor: decode and encode alone, of the same tiles, on all cores.

    uv run python -m benchmarks.floor [--size 40000] [--tiles 6] [--runs 3] [--keep FOLDER]

The floor decodes each tile with GDAL in whole rows of blocks and encodes its chunks with the same codec, one process a
core, and throws the result away: nothing is written, started, merged or committed. The ratio is that of medians of
interleaved runs; the ingest is the whole command, with starting its workers and the commit.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.tiles import CHUNK, LAYOUTS, write_class_tile, write_spec


def decode_and_encode(path: Path) -> int:
    """Bytes that a tile's chunks take, encoded."""
    import numpy as np
    import rasterio
    from numcodecs.zstd import Zstd
    from rasterio.windows import Window

    codec = Zstd(level=3)
    total = 0
    with rasterio.Env(GDAL_CACHEMAX=2**25), rasterio.open(path) as tile:
        block = tile.block_shapes[0][0]
        rows = block * max(1, 1024 // block)
        for start in range(0, tile.height, rows):
            n = min(rows, tile.height - start)
            pixels = tile.read(1, window=Window(0, start, tile.width, n))
            # Chunks of the height read: the same bytes in all, without carrying rows over.
            for x in range(0, tile.width, CHUNK):
                total += len(codec.encode(np.ascontiguousarray(pixels[:, x : x + CHUNK])))
    return total


def run_floor(tiles: list[Path], cores: int) -> float:
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        list(pool.map(abs, range(cores)))  # the processes are up before the clock starts
        started = time.perf_counter()
        list(pool.map(decode_and_encode, tiles))
        return time.perf_counter() - started


def run_ingest(folder: Path, layout: str) -> float:
    store = folder / f"{layout}.icechunk"
    subprocess.run(["rm", "-rf", str(store)], check=True)
    command = [sys.executable, "-m", "cubeingest"]
    subprocess.run([*command, "init", f"{layout}.yaml"], check=True, cwd=folder, capture_output=True)
    started = time.perf_counter()
    subprocess.run([*command, "ingest", "--store", str(store)], check=True, cwd=folder, capture_output=True)
    return time.perf_counter() - started


def prepare(folder: Path, layout: str, size: int, count: int) -> list[Path]:
    """Make one tile and give it ``count`` names: the pixels do not matter, only that each is read."""
    first = folder / layout / "10N_000E.tif"
    if not first.exists():
        write_class_tile(first, size, 0, 10, 10, layout)
    tiles = [first]
    for i in range(1, count):
        vrt = folder / layout / f"10N_{10 * i:03d}E.tif"
        if not vrt.exists():
            import rasterio
            from rasterio.transform import from_origin

            vrt.write_bytes(first.read_bytes())
            with rasterio.open(vrt, "r+") as tile:
                tile.transform = from_origin(10 * i, 10, 10 / size, 10 / size)
        tiles.append(vrt)
    write_spec(folder, layout, size, count)
    return tiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=40000)
    parser.add_argument("--tiles", type=int, default=6)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder to keep tiles in between runs")
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    print(f"{platform.processor() or platform.machine()}, {cores} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        for layout in LAYOUTS:
            tiles = prepare(folder, layout, options.size, options.tiles)
            floor, ingest = [], []
            for _ in range(options.runs):
                floor.append(run_floor(tiles, cores))
                ingest.append(run_ingest(folder, layout))
            a, b = statistics.median(floor), statistics.median(ingest)
            pixels = options.size**2 * options.tiles / 1e6
            print(
                f"{layout:7} {options.tiles} tiles of {options.size} x {options.size}: floor {pixels / a:.0f} Mpx/s, "
                f"ingest {pixels / b:.0f} Mpx/s, ratio {a / b:.2f} (medians of {options.runs})"
            )


if __name__ == "__main__":
    main()
