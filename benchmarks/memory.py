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

from benchmarks.tiles import LAYOUTS, write_spec


def measure(folder: Path, size: int, layout: str) -> tuple[float, float]:
    """(seconds, peak MB) of ``cubeingest ingest`` of one tile."""
    tile = folder / layout / "10N_000E.tif"
    if not tile.exists():
        # By another process: on Linux the peak of this one would count for those that it starts.
        write = f"write_class_tile(Path({str(tile)!r}), {size}, 0, 10, 10, {layout!r})"
        code = f"from pathlib import Path; from benchmarks.tiles import write_class_tile; {write}"
        subprocess.run([sys.executable, "-c", code], check=True)
    spec = write_spec(folder, layout, size, count=1)
    store = folder / f"{layout}.icechunk"
    command = [sys.executable, "-m", "cubeingest"]
    subprocess.run(["rm", "-rf", str(store)], check=True)
    subprocess.run([*command, "init", str(spec)], check=True, cwd=folder, stderr=subprocess.DEVNULL)
    started = time.perf_counter()
    child = os.posix_spawn(sys.executable, [*command, "ingest", "--workers", "1", "--store", str(store)], os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"ingest ended with status {status}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=40000)
    parser.add_argument("--keep", type=Path, help="folder to keep tiles in between runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        for layout in LAYOUTS:
            seconds, megabytes = measure(folder, options.size, layout)
            rate = options.size**2 / 1e6 / seconds
            print(
                f"{layout:7} {options.size} x {options.size} uint8: peak {megabytes:.0f} MB, {seconds:.1f} s, {rate:.0f} Mpx/s"
            )


if __name__ == "__main__":
    main()
