"""Memory and time of ingesting one tile of real size (40000 x 40000 uint8) in a process of its own.

    uv run python -m benchmarks.memory [--size 40000] [--keep FOLDER]

Prints the peak resident memory of the whole command, as the operating system accounts it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.job import Job
from benchmarks.rivals import Bench, make_tiles
from benchmarks.tiles import Input


def measure(folder: Path, size: int, layout: str) -> tuple[float, float]:
    """(seconds, peak MB) of ``cubeingest ingest`` of one tile."""
    make_tiles(folder, Input(layout), size, 1)
    bench = Bench(folder)
    bench.clear()
    job = Job(layout, str(folder / layout), size, 1, str(bench.store))
    spec = bench.store.with_suffix(".yaml")
    spec.write_text(job.spec())
    command = [sys.executable, "-m", "cubeingest"]
    subprocess.run(
        [*command, "init", str(spec), "--store", job.store], check=True, cwd=folder, stderr=subprocess.DEVNULL
    )
    started = time.perf_counter()
    child = os.posix_spawn(sys.executable, [*command, "ingest", "--workers", "1", "--store", job.store], os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"ingest ended with status {status}")
    seconds = time.perf_counter() - started
    bench.clear()
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=40000)
    parser.add_argument("--keep", type=Path, help="folder to keep tiles in between runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        for layout in ("strips", "blocks"):
            seconds, megabytes = measure(folder, options.size, layout)
            rate = options.size**2 / 1e6 / seconds
            print(
                f"{layout:7} {options.size} x {options.size} uint8: peak {megabytes:.0f} MB, {seconds:.1f} s, {rate:.0f} Mpx/s"
            )


if __name__ == "__main__":
    main()
