"""The preflight at size: a catalog of many rows, and headers over a link with latency.

    uv run python -m benchmarks.plan [--rows 100000] [--tiles 1400] [--latency 0.03] [--runs 3]

Two whole processes of `cubeingest plan`: one on a table of so many tiles with `--no-headers`, one that opens so many small tiles on a
web server of this machine that waits before each answer. Beside the second stands a loop that opens the same tiles with rasterio
in as many threads, and one after another (for a tenth of them, scaled up).
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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.server import serving
from benchmarks.tiles import write_class_tile

GRID = """\
name: plan
crs: EPSG:4326
grid: {{origin: {{x: -180, y: 80}}, resolution: {{x: 1/{px}, y: -1/{px}}}, shape: {{y: {y}, x: {x}}}, region: {{y: {r}, x: {r}}}}}
axes: {{year: {{values: {years}}}}}
variables:
  v: {{dtype: uint8, fill_value: 255, chunks: {{year: 1, y: {r}, x: {r}}}, source: {source}}}
store: ./cube
"""
YEARS = [2000, 2005, 2010, 2015, 2020]
THREADS = 32


def write_table(folder: Path, rows: int) -> None:
    """One row a tile of 1 degree and year, with its bounds, for a grid of 10-degree regions."""
    cells = [(bottom, left) for bottom in range(-60, 80) for left in range(-180, 180)][: rows // len(YEARS)]
    records = [
        (f"s3://bucket/tiles/{year}/{bottom}_{left}.tif", year, left, bottom, left + 1, bottom + 1)
        for year in YEARS
        for bottom, left in cells
    ]
    pd.DataFrame(records, columns=["href", "year", "left", "bottom", "right", "top"]).to_csv(
        folder / "t.csv", index=False
    )
    (folder / "grid.yaml").write_text(
        GRID.format(px=4000, y=560_000, x=1_440_000, r=40_000, years=YEARS, source="{tiles: {table: t.csv}}")
    )


def write_tiles(folder: Path, count: int) -> list[str]:
    """Small tiles of 1 degree, all alike but for where they lie."""
    names = []
    for i in range(count):
        left, top = -180 + i % 360, 80 - i // 360
        names.append(f"{i}.tif")
        write_class_tile(folder / names[-1], 64, left, top, 1, "blocks")
    return names


def run_plan(folder: Path, *options: str) -> tuple[float, float]:
    """(seconds, peak MB) of one `cubeingest plan`."""
    command = [sys.executable, "-m", "cubeingest", "plan", "--store", str(folder / "cube"), "--json", *options]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    return time.perf_counter() - started, usage.ru_maxrss / 1e3


def open_all(urls: list[str], threads: int) -> float:
    """Seconds that rasterio takes to read shape and transform of each, as anybody would write it."""
    import rasterio

    def read(url: str) -> object:
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), rasterio.open(url) as tile:
            return tile.shape, tile.transform

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, urls))
    return time.perf_counter() - started


def median(what: Callable[[], float], runs: int) -> float:
    return statistics.median(what() for _ in range(runs))


def measure_rows(folder: Path, rows: int, runs: int) -> None:
    write_table(folder, rows)
    subprocess.run([sys.executable, "-m", "cubeingest", "init", "grid.yaml"], cwd=folder, check=True)
    found = [run_plan(folder, "--no-headers") for _ in range(runs)]
    seconds, peak = (statistics.median(f[i] for f in found) for i in (0, 1))
    print(f"{rows} rows, no headers: {seconds:.1f} s, {peak:.0f} MB")


def measure_headers(folder: Path, count: int, latency: float, runs: int) -> None:
    names = write_tiles(folder / "site", count)
    with serving(folder / "site", latency) as site:
        (folder / "list.txt").write_text("".join(f"{site}/{name}\n" for name in names))
        grid = GRID.format(px=64, y=140 * 64, x=360 * 64, r=640, years="[2000]", source="{tiles: {list: list.txt}}")
        (folder / "grid.yaml").write_text(grid)
        subprocess.run([sys.executable, "-m", "cubeingest", "init", "grid.yaml"], cwd=folder, check=True)
        urls = [f"{site}/{name}" for name in names]
        ours = median(lambda: run_plan(folder)[0], runs)
        threads = median(lambda: open_all(urls, THREADS), runs)
        one = open_all(urls[: max(1, count // 10)], 1) * 10
    print(f"{count} headers, {latency * 1000:.0f} ms a request: plan {ours:.1f} s; rasterio in {THREADS} threads {threads:.1f} s (ratio "
          f"{threads / ours:.2f}), one after another {one:.0f} s (ratio {one / ours:.1f})")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--tiles", type=int, default=1400)
    parser.add_argument("--latency", type=float, default=0.03)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}")
    with tempfile.TemporaryDirectory() as rows, tempfile.TemporaryDirectory() as tiles:
        measure_rows(Path(rows), given.rows, given.runs)
        measure_headers(Path(tiles), given.tiles, given.latency, given.runs)


if __name__ == "__main__":
    main()
