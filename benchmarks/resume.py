"""How long a run takes to find out what is left to do, when many regions are done: catalog, ledger, sources, plan.

    uv run python -m benchmarks.resume [--side 100] [--runs 5]

The ledger's records are real, of real files; only the pixels are left out. The time without us is that of reading the same
number of records one by one with Zarr, and asking the file system for each file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import zarr
from rasterio.transform import from_origin

import cubeingest as ci
from cubeingest.ingest.prepare import prepare
from cubeingest.ledger import Record, Slot, write_record
from cubeingest.selection import Selection
from cubeingest.store import LEDGER, open_store
from cubeingest.tile import source_id

SPEC = """\
name: resume
crs: EPSG:4326
grid: {{origin: {{x: 0, y: 80}}, resolution: {{x: 1/100, y: -1/100}}, shape: {{y: {n}, x: {n}}}, region: {{y: 10, x: 10}}}}
variables:
  cover: {{dtype: uint8, fill_value: 255, chunks: {{y: 10, x: 10}}, source: {{href: "tiles/{{id}}.tif"}}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=100, help="regions along a side; two in a thousand are left to do")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    side = options.side
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "tiles").mkdir()
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 10, "width": 10, "crs": "EPSG:4326"}
        with rasterio.open(folder / "one.tif", "w", transform=from_origin(0, 80, 0.01, 0.01), **profile) as tile:
            tile.write(np.ones((1, 10, 10), np.uint8))
        for iy, ix in np.ndindex(side, side):
            shutil.copyfile(folder / "one.tif", folder / "tiles" / f"y{iy}_x{ix}.tif")
        (folder / "grid.yaml").write_text(SPEC.format(n=10 * side))
        store = ci.init(folder / "grid.yaml", folder / "cube").store
        session = store.writable()
        hrefs = {
            Slot("cover", (), iy, ix): str(folder / "tiles" / f"y{iy}_x{ix}.tif") for iy, ix in np.ndindex(side, side)
        }
        for n, (slot, href) in enumerate(hrefs.items()):
            if n % 500:
                record = Record(
                    "done", (source_id(href),), "0" * 16, "band 1; nodata file", "2000-01-01T00:00:00Z", "run"
                )
                write_record(session, slot, record, is_new=True, layout=store.layout_key)
        session.commit("records")
        ours, theirs = [], []
        for _ in range(options.runs):
            started = time.perf_counter()
            plan = prepare(open_store(store.uri), Selection()).plan
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            array = zarr.open_array(open_store(store.uri).readonly().store, path=f"{LEDGER}/cover/record", mode="r")
            found = sum(bool(array[slot.index]) and os.stat(href).st_size > 0 for slot, href in hrefs.items())
            theirs.append(time.perf_counter() - started)
            assert found == len(plan.skipped)
        print(f"{len(plan.skipped)} done, {plan.n_slots} left: {statistics.median(ours):.2f} s; "
              f"one by one {statistics.median(theirs):.2f} s; ratio {statistics.median(theirs) / statistics.median(ours):.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
