"""How many commits a second several unconnected processes make, each filling one region a commit: ours, and by the
patterns that people use with Icechunk alone, in the same run.

    uv run python -m benchmarks.commits [--processes 16] [--each 8] [--runs 3] [--s3]

Without us, on a local disk: a file lock around ``rebase`` and ``commit`` (Icechunk alone loses commits there). On S3 (a moto
server that is started here): ``commit``, and after a conflict a jittered wait, ``rebase`` and ``commit`` again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

import cubeingest as ci
from cubeingest.ingest.independent import CommitJob, fill_and_commit
from cubeingest.ingest.prepare import prepare
from cubeingest.ledger import NOTHING, read_states
from cubeingest.plan import Task
from cubeingest.selection import Selection
from cubeingest.store import Store, open_store

SIDE = 100
SPEC = """\
name: commits
crs: EPSG:4326
grid: {{origin: {{x: 0, y: 80}}, resolution: {{x: 1/100, y: -1/100}}, shape: {{y: {rows}, x: {columns}}}, region: {{y: 100, x: 100}}}}
variables:
  cover: {{dtype: uint8, fill_value: 255, chunks: {{y: 100, x: 100}}, source: {{href: "tiles/{{id}}.tif"}}}}
"""


def write_world(folder: Path, processes: int, each: int) -> Path:
    """A grid of ``processes`` x ``each`` regions, a tile for each."""
    rng = np.random.default_rng(0)
    (folder / "tiles").mkdir()
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": SIDE, "width": SIDE, "crs": "EPSG:4326"}
    for iy in range(processes):
        for ix in range(each):
            transform = from_origin(ix, 80 - iy, 0.01, 0.01)
            with rasterio.open(folder / "tiles" / f"y{iy}_x{ix}.tif", "w", transform=transform, **profile) as tile:
                tile.write(rng.integers(0, 200, (1, SIDE, SIDE), dtype=np.uint8))
    spec = folder / "grid.yaml"
    spec.write_text(SPEC.format(rows=processes * SIDE, columns=each * SIDE))
    return spec


def ours(store: Store, tasks: list[Task]) -> int:
    """Commit each task by itself, as ``--mode independent`` does."""
    for task in tasks:
        for result in fill_and_commit(CommitJob(store, "benchmark"), (task,)):
            assert result.error is None, result.error
    return 0


def theirs(store: Store, tasks: list[Task]) -> int:
    """The same regions with zarr and Icechunk; how often a commit was tried again."""
    import icechunk
    import zarr
    from filelock import FileLock

    again = 0
    for task in tasks:
        session = store.repo.writable_session("main")
        with rasterio.open(task.slots[0].tiles[0].href) as tile:
            pixels = tile.read(1)
        y, x = task.iy * SIDE, task.ix * SIDE
        zarr.open_array(session.store, path="cover", mode="r+")[y : y + SIDE, x : x + SIDE] = pixels
        if store.is_local:
            with FileLock(os.path.join(store.uri, "their.lock"), poll_interval=0.005):
                session.rebase(icechunk.ConflictDetector())
                session.commit("region")
            continue
        for attempt in range(1000):
            try:
                session.commit("region")
                break
            except icechunk.ConflictError:
                again += 1
                time.sleep(random.uniform(0, min(5, 0.05 * 2**attempt)))
                session.rebase(icechunk.ConflictDetector())
    return again


WAYS = {"cubeingest": ours, "icechunk alone": theirs}


def _process(way: str, uri: str, tasks: list[Task], ready: Any, go: Any, out: Any) -> None:
    import zarr  # noqa: F401

    store = open_store(uri)
    ready.release()
    go.wait()
    again = WAYS[way](store, tasks)
    out.put((time.time(), again))


def measure(way: str, uri: str, spec: Path, processes: int) -> tuple[float, int, int]:
    """Commits a second from the common start to the last commit; regions that are there; commits tried again."""
    store = ci.init(spec, store=uri).store
    tasks = prepare(store, Selection()).plan.tasks
    spawn = multiprocessing.get_context("spawn")
    ready, go, out = spawn.Semaphore(0), spawn.Event(), spawn.Queue()
    shares = [list(tasks[i::processes]) for i in range(processes)]
    workers = [spawn.Process(target=_process, args=(way, uri, share, ready, go, out)) for share in shares]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    started = time.time()
    go.set()
    answers = [out.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    seconds = max(t for t, _ in answers) - started
    dataset = ci.open(uri).dataset()["cover"].values
    filled = sum(
        bool((dataset[t.iy * SIDE : (t.iy + 1) * SIDE, t.ix * SIDE : (t.ix + 1) * SIDE] != 255).all()) for t in tasks
    )
    states = read_states(ci.open(uri).store.readonly(), store.spec)
    if way == "cubeingest":
        assert int((states["cover"] != NOTHING).sum()) == filled, "ledger and pixels disagree"
    return len(tasks) / seconds, filled, sum(n for _, n in answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--each", type=int, default=8, help="regions, and commits, of each process")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--s3", action="store_true", help="on a moto server instead of a local disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        spec = write_world(folder, options.processes, options.each)
        if options.s3:
            from tests.objectstore import Bucket, moto_server

            with moto_server() as url:
                bucket = Bucket(url, "commits")
                bucket.client.create_bucket(Bucket=bucket.name)
                os.environ.update(bucket.environment)
                compare(options, spec, bucket.uri)
        else:
            compare(options, spec, lambda name: str(folder / name))


def compare(options: argparse.Namespace, spec: Path, place: Any) -> None:
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for run in range(options.runs):
        for way in WAYS:
            rate, filled, again = measure(way, place(f"{way.replace(' ', '-')}-{run}"), spec, options.processes)
            rates[way].append(rate)
            print(
                f"{way}: {rate:.1f} commits/s, {filled} of {options.processes * options.each} regions, {again} tried again"
            )
    medians = {way: statistics.median(values) for way, values in rates.items()}
    print(f"medians of {options.runs}: " + ", ".join(f"{way} {rate:.1f}/s" for way, rate in medians.items()))
    print(f"ratio {medians['cubeingest'] / medians['icechunk alone']:.2f}")


if __name__ == "__main__":
    main()
