"""Tiles whose blocks are the cube's chunks: the ordinary path, blocks copied, references; the same tiles, runs interleaved.

    uv run python -m benchmarks.blocks [--side 8192] [--tiles 4] [--block 512] [--dtype uint8|int16|float32] [--codec zstd|none]
                                       [--runs 5] [--json]

A region a tile. One worker, in this process, so that processor time is all of it. The last line of each way says how many times
as fast it is as the ordinary one: ratio of medians, in time and in processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

import cubeingest as ci

SPEC = """\
name: blocks
crs: EPSG:4326
grid: {{origin: {{x: 0, y: 80}}, resolution: {{x: 1/10000, y: -1/10000}}, shape: {{y: {side}, x: {width}}}, region: {{y: {side}, x: {side}}}}}
variables:
  v: {{dtype: {dtype}, fill_value: 0, chunks: {{y: {block}, x: {block}}}, compressor: {codec}, source: {{href: "tiles/{{id}}.tif"}}}}
"""
WAYS: dict[str, dict[str, Any]] = {"ordinary": {}, "copied": {"copy_blocks": True}, "virtual": {"virtual": True}}


def write_world(folder: Path, args: argparse.Namespace) -> Path:
    """Tiles of smooth classes or values with noise, which compress about as real ones do."""
    rng = np.random.default_rng(0)
    (folder / "tiles").mkdir()
    y, x = np.mgrid[: args.side, : args.side] / 400
    profile = {
        "driver": "GTiff", "dtype": args.dtype, "count": 1, "height": args.side, "width": args.side, "crs": "EPSG:4326", "nodata": 0,
        "tiled": True, "blockxsize": args.block, "blockysize": args.block, "compress": args.codec if args.codec != "none" else None,
    }  # fmt: skip
    for i in range(args.tiles):
        field = 50 + 40 * np.sin(y + i) * np.cos(x) + rng.normal(0, 1 if args.dtype == "uint8" else 5, y.shape)
        field = np.round(field / 8) * 8 if args.dtype == "uint8" else field * 10
        with rasterio.open(folder / "tiles" / f"y0_x{i}.tif", "w", transform=from_origin(i * args.side / 1e4, 80, 1e-4, 1e-4), **profile) as tile:  # fmt: skip
            tile.write(np.maximum(field, 1).astype(args.dtype)[np.newaxis])
    codec = "{name: zstd}" if args.codec == "zstd" else "none"
    spec = folder / "grid.yaml"
    spec.write_text(
        SPEC.format(side=args.side, width=args.side * args.tiles, dtype=args.dtype, block=args.block, codec=codec)
    )
    return spec


def measure(spec: Path, way: str) -> tuple[float, float]:
    """Seconds and seconds of processor time of one ingest into a new cube."""
    # A new one each time: files are slow to make where others have just been deleted.
    store = spec.parent / f"{way}-{time.time_ns()}.icechunk"
    cube = ci.init(spec, store)
    started, processor = time.perf_counter(), time.process_time()
    report = cube.ingest(workers=1, **WAYS[way])
    took = time.perf_counter() - started, time.process_time() - processor
    assert not report.failed, report.failed[0].error
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--block", type=int, default=512)
    parser.add_argument("--dtype", choices=["uint8", "int16", "float32"], default="uint8")
    parser.add_argument("--codec", choices=["zstd", "none"], default="zstd")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder  # what a user allows is noted there
        spec = write_world(Path(folder), args)
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for way in WAYS:
            measure(spec, way)  # imports, and tiles in the page cache
        for _ in range(args.runs):
            for way in WAYS:
                taken[way].append(measure(spec, way))
    medians = {way: [statistics.median(column) for column in zip(*runs, strict=True)] for way, runs in taken.items()}
    pixels = args.side**2 * args.tiles
    for way, (seconds, processor) in medians.items():
        ratios = [own / mine for own, mine in zip(medians["ordinary"], (seconds, processor), strict=True)]
        row = {
            "way": way, "dtype": args.dtype, "codec": args.codec, "block": args.block, "pixels": pixels, "seconds": seconds,
            "processor_seconds": processor, "times_ordinary": ratios[0], "times_ordinary_processor": ratios[1],
        }  # fmt: skip
        if args.json:
            print(json.dumps(row))
        else:
            print(
                f"{way:9} {pixels / seconds / 1e6:9.0f} Mpx/s  {seconds:7.3f} s  {processor:7.3f} s processor  "
                f"{ratios[0]:5.1f} x  {ratios[1]:5.1f} x (processor)"
            )


if __name__ == "__main__":
    main()
