"""How long a picture takes, and how much memory: `show grid`, `show status` and `show map` of GLAD's grid, each a whole process.

    uv run python -m benchmarks.pictures [--regions 25] [--repeats 3] [--keep FOLDER]

Two cubes. One is GLAD's whole grid with overviews, as ``fullcube`` makes it: pictures of it, its `status`, and its page, whose size is said.

The other has GLAD's lattice (14 x 36 regions, five years) and chunks (1000 x 1000 uint8), without shards. Two thirds of its slots have a record in
the ledger, so that `show status` has all 2,520 to tell of. Of the year 2000, ``--regions`` regions have pixels: 1,600 chunks each, of some 160 kB,
all with one of four contents. `show map` reads them from the full resolution, the whole world and one region; there are no overviews.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fullcube import make_full_glad
from benchmarks.measure import run

SIDE = 40
"""Chunks along the side of a region."""
FIRST = (3, 16)
"""Lattice place of the first region with pixels: Europe."""


def make_cube(folder: Path, n_regions: int) -> Path:
    """A cube with ledger and pixels in ``folder``; its store, which is used as it is if it is there already."""
    import zarr
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    import cubeingest as ci
    from cubeingest.ledger import Record, Slot, write_record

    store = folder / "pictures.icechunk"
    if store.exists():
        return store
    text = (Path(__file__).parent.parent / "grids" / "glad-lclu.yaml").read_text(encoding="utf-8")
    kept = text[: text.index("    source:")] + text[text.index("attrs: {license") :]
    lines = [line for line in kept.splitlines() if not line.strip().startswith("shards:")]
    (folder / "pictures.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    making = folder / "making.icechunk"
    shutil.rmtree(making, ignore_errors=True)
    cube = ci.init(folder / "pictures.yaml", making)
    session = cube.store.writable()
    array = zarr.open_array(session.store, path="lclu", mode="r+")
    contents = []
    for pixels in _contents():
        array[0, :1000, :1000] = pixels
        contents.append(sync(session.store.get("lclu/c/0/0/0", default_buffer_prototype())))
    sync(session.store.delete("lclu/c/0/0/0"))

    async def put(iy: int, ix: int) -> None:
        for y in range(SIDE):
            keys = [f"lclu/c/0/{iy * SIDE + y}/{ix * SIDE + x}" for x in range(SIDE)]
            await asyncio.gather(*(session.store.set(k, contents[(iy + ix + x) % 4]) for x, k in enumerate(keys)))

    width = max(1, round(n_regions**0.5))
    places = [(FIRST[0] + n // width, FIRST[1] + n % width) for n in range(n_regions)]
    for place in places:
        sync(put(*place))
    record = Record("done", (), "0" * 16, "", "2026-01-01T00:00:00+00:00", "benchmark")
    for year, iy, ix in itertools.product(range(5), range(14), range(36)):
        if (year == 0 and (iy, ix) in places) or (year and (iy * 7 + ix * 3 + year) % 6):
            write_record(session, Slot("lclu", (year,), iy, ix), record, is_new=True)
    session.commit("benchmark")
    return making.rename(store)


def _contents() -> list[Any]:
    """Four chunks of classes in waves, with a little noise."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:1000, 0:1000]
    out = []
    for n in range(4):
        pixels = ((np.sin(y / 90 + n) + np.cos(x / 70 + n)) * 12 + 24).astype(np.uint8)
        pixels[rng.random(pixels.shape) < 0.03] = 244
        out.append(pixels)
    return out


THINNED = {
    "show map, the world, no overviews": ["show", "map", "--year", "2000", "--output", "map.png"],
    "show map, one region": ["show", "map", "--year", "2000", "--region", "50N_020W", "--output", "region.png"],
}
FULL = {
    "show grid": ["show", "grid", "--output", "grid.png"],
    "show status": ["show", "status", "--output", "status.png"],
    "show map, the world": ["show", "map", "--year", "2000", "--output", "map.png"],
    "status": ["status"],
    "status --html": ["status", "--html", "page.html"],
}


def measure(store: Path, folder: Path, repeats: int, commands: dict[str, list[str]]) -> dict[str, tuple[float, float]]:
    """(median seconds, peak MB) of each command."""
    out = {}
    for name, words in commands.items():
        command = [sys.executable, "-m", "cubeingest", *words, "--store", str(store)]
        runs = [run(command, cwd=folder) for _ in range(repeats)]
        out[name] = statistics.median(r.seconds for r in runs), max(r.largest for r in runs)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=25, help="regions that have pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder to keep the cube in between runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for store, commands in ((_full(folder), FULL), (make_cube(folder, options.regions), THINNED)):
            for name, (seconds, megabytes) in measure(store, folder, options.repeats, commands).items():
                print(f"{name:34} {seconds:5.2f} s, peak {megabytes:4.0f} MB", flush=True)
        print(f"the page: {(folder / 'page.html').stat().st_size / 1e6:.2f} MB")


def _full(folder: Path) -> Path:
    store = folder / "full.icechunk"
    if not store.exists():
        make_full_glad(folder / "filling.icechunk")
        (folder / "filling.icechunk").rename(store)
    return store


if __name__ == "__main__":
    main()
