"""Is it the same at any size? A coordinator's time and memory, one more region, and the commands, by how much a cube holds.

    uv run python -m benchmarks.scale [--sizes 100,400,1400,2520] [--regions 100000] [--json FILE] [--keep FOLDER]

Two cubes: GLAD's lattice (14 x 36 regions, 5 years, 40 x 40 chunks a slot: 2,520 slots, 4.03 M chunks), filled to each of
``--sizes`` slots; and one of ``--regions`` regions of one chunk each. ``--sizes ""`` or ``--regions 0`` leaves one out.

What is real: the whole package (catalog, plan, Dask workers, forks, merging, ledger, commits) and every reference in the
chunk index, each to a chunk that is there and is too large to lie in the index itself. What is not: pixels. A chunk has 32 x 32 of
them. The regions of a first block (as many as share a manifest, so that no reference occurs twice in one) and those that are timed
as "one more" are read from tiles; all others get references to the first block's chunks, which their worker copies within its fork
(``Session.reindex_array``) instead of reading a tile, and whose file has the right name and is never opened.

A coordinator's time is that of its merges and commits, in seconds of the clock and of processor time; its memory is the peak of its process,
Dask's scheduler included. Commands are whole processes: clock, processor, peak memory. Every process is the child of a
small one, since a child's peak starts at its parent's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cubeingest.engine import SlotResult, Unit
    from cubeingest.ingest.fill import IngestJob
    from cubeingest.plan import SlotPlan

CHUNK = 32
"""Pixels along the side of a chunk: noise of 1 kB, which Icechunk does not put into its index (that ends at 512 bytes)."""
SEED = 4
"""Regions along the side of the block that is read from tiles."""
EXTRA = 5
"""Regions that are left out and then ingested one by one."""
SPEC = """\
name: scale
crs: EPSG:4326
grid:
  origin: {{x: 0, y: 0}}
  resolution: {{x: 1/10000, y: -1/10000}}
  shape: {{y: {height}, x: {width}}}
  region: {{y: {side}, x: {side}}}
axes: {axes}
variables:
  v:
    dtype: uint8
    fill_value: 255
    chunks: {{{lead}y: 32, x: 32}}
    source: {{href: "tiles/{path}{{id}}.tif", tiles: {{table: tiles.csv}}}}
store: ./seed
"""


@dataclass(frozen=True)
class Lattice:
    """Regions, axis blocks and chunks along a region's side of one of the two cubes."""

    rows: int
    columns: int
    years: int
    chunks: int

    @property
    def side(self) -> int:
        return self.chunks * CHUNK

    def slots(self, count: int) -> list[tuple[int, int, int]]:
        """(year, row, column) of ``count`` slots, about as many in each year: the seed first, what is ingested one by one last."""
        seed = [(iy, ix) for iy in range(SEED) for ix in range(SEED)]
        others = [p for p in ((iy, ix) for iy in range(self.rows) for ix in range(self.columns)) if p not in set(seed)]
        return [(year, *place) for place in [*seed, *others] for year in range(self.years)][:count]


GLAD = Lattice(14, 36, 5, 40)


def many(regions: int) -> Lattice:
    """A lattice of so many regions (or a few less) of one chunk each, without axes."""
    rows = max(SEED + 1, int(regions**0.5 * 0.8))
    return Lattice(rows, max(SEED + 1, regions // rows), 1, 1)


# ---- in processes of their own --------------------------------------------------------------------------------


def make_world(folder: Path, lattice: Lattice) -> None:
    """A spec, its catalog with the seed's tiles only, and the cube ``seed`` in which these are."""
    import cubeingest as ci

    axes = f"{{year: {{values: {list(range(2000, 2000 + lattice.years))}}}}}" if lattice.years > 1 else "{}"
    lead, path = ("year: 1, ", "{year}/") if lattice.years > 1 else ("", "")
    size = {"height": lattice.rows * lattice.side, "width": lattice.columns * lattice.side, "side": lattice.side}
    (folder / "grid.yaml").write_text(SPEC.format(axes=axes, lead=lead, path=path, **size))
    seed = [(0, iy, ix) for iy in range(SEED) for ix in range(SEED)]
    write_catalog(folder, lattice, seed)
    for slot in seed:
        write_tile(folder, lattice, slot)
    report = ci.init(folder / "grid.yaml").ingest(workers=1)
    assert report.written == len(seed), report


def tile_of(folder: Path, lattice: Lattice, slot: tuple[int, int, int]) -> Path:
    year, iy, ix = slot
    return folder / "tiles" / (str(2000 + year) if lattice.years > 1 else "") / f"y{iy}_x{ix}.tif"


def write_catalog(folder: Path, lattice: Lattice, slots: list[tuple[int, int, int]]) -> None:
    """List the tiles of ``slots``. They are there afterwards, some only by name."""
    head = "href,year,region" if lattice.years > 1 else "href,region"
    rows = []
    for slot in slots:
        tile = tile_of(folder, lattice, slot)
        year = f"{2000 + slot[0]}," if lattice.years > 1 else ""
        rows.append(f"{tile.relative_to(folder)},{year}y{slot[1]}_x{slot[2]}")
        tile.parent.mkdir(parents=True, exist_ok=True)
        if not tile.exists():
            tile.touch()
    (folder / "tiles.csv").write_text("\n".join([head, *rows]) + "\n")


def write_tile(folder: Path, lattice: Lattice, slot: tuple[int, int, int]) -> None:
    """A tile of noise, of a region's size."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    year, iy, ix = slot
    tile_of(folder, lattice, slot).parent.mkdir(parents=True, exist_ok=True)
    side, pixel = lattice.side, 1 / 10_000
    transform = from_origin(ix * side * pixel, -iy * side * pixel, pixel, pixel)
    profile: dict[str, Any] = {
        "driver": "GTiff", "dtype": "uint8", "count": 1, "height": side, "width": side, "crs": "EPSG:4326",
    }  # fmt: skip
    with rasterio.open(tile_of(folder, lattice, slot), "w", transform=transform, **profile) as tile:
        rng = np.random.default_rng([year, iy, ix])
        tile.write(rng.integers(0, 255, (1, side, side), dtype=np.uint8))


def copy_references(job: IngestJob, unit: Unit) -> list[SlotResult]:
    """In place of a worker's function: as many references as the region has chunks, to chunks of the seed."""
    from cubeingest.engine import EachSlot

    return EachSlot(copy_slot)(job, unit)


def copy_slot(job: IngestJob, plan: SlotPlan) -> SlotResult:
    import pickle

    from cubeingest.engine import SlotResult, timestamp
    from cubeingest.ledger import Record, write_record
    from cubeingest.mosaic import slot_shape, source_ids
    from cubeingest.plan import reading_of

    variable = job.spec.variables[0]
    n_pixels = slot_shape(job.spec, variable, plan).n_pixels
    chunks = job.spec.grid.region_shape_yx[0] // CHUNK
    iy, ix = plan.slot.iy, plan.slot.ix
    y, x = iy % SEED * chunks, ix % SEED * chunks
    dy, dx = iy * chunks - y, ix * chunks - x

    def forward(index: Any) -> Any:
        *_, cy, cx = index
        if y <= cy < y + chunks and x <= cx < x + chunks:
            return [*plan.slot.block, cy + dy, cx + dx]
        return None

    assert isinstance(job.session, bytes)
    session = pickle.loads(job.session)
    session.reindex_array(f"/{variable.name}", forward)
    record = Record("done", source_ids(plan), "0" * 16, reading_of(variable, plan.tiles), timestamp(), job.run)
    write_record(session, plan.slot, record, plan.is_new, job.layout)
    return SlotResult(plan.slot, plan.tiles[0].href, "done", pickle.dumps(session), n_bytes=n_pixels, n_pixels=n_pixels)


def fill(store: Path, workers: int, by_reference: bool) -> dict[str, Any]:
    """Ingest what the catalog has and the cube lacks; what the coordinator's part of it took."""
    import resource

    import cubeingest as ci
    from cubeingest.engine import Merger
    from cubeingest.ingest import run

    if by_reference:
        run.fill_unit = copy_references  # type: ignore[assignment]
    took: list[tuple[float, float]] = []
    commit = Merger.commit

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter(), time.process_time()
        try:
            return commit(*args, **kwargs)
        finally:
            took.append((time.perf_counter() - start[0], time.process_time() - start[1]))

    Merger.commit = timed  # type: ignore[method-assign]
    started = time.perf_counter()
    report = ci.open(store).ingest(workers=workers)
    assert not report.failed, report.failed[0]
    return {
        "slots": report.written, "commits": len(took), "commit_s": sum(t for t, _ in took), "commit_cpu_s": sum(t for _, t in took),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "ingest_s": time.perf_counter() - started,
    }  # fmt: skip


def step(name: str, folder: Path, lattice: Lattice, more: dict[str, Any]) -> Any:
    """One step, in a process of its own."""
    if name == "make":
        return make_world(folder, lattice)
    if name == "catalog":
        slots = lattice.slots(more["slots"])
        for slot in slots[-EXTRA:]:
            tile = tile_of(folder, lattice, slot)
            if not tile.exists() or not tile.stat().st_size:
                write_tile(folder, lattice, slot)
        return write_catalog(folder, lattice, slots[: more["listed"]])
    return fill(folder / more["cube"], more["workers"], more["by_reference"])


# ---- the small process that starts them -----------------------------------------------------------------------


def in_child(name: str, folder: Path, lattice: Lattice, **more: Any) -> Any:
    """Run a step in a child; what it returned."""
    given = json.dumps([name, str(folder), asdict(lattice), more])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", "--step", given], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def run_command(*command: str) -> dict[str, float]:
    """Seconds of the clock and of processor time, and peak memory, of one command of cubeingest."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "cubeingest", *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"cubeingest {' '.join(command)} ended with {status}")
    seconds = time.perf_counter() - started
    return {"s": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1e3}


def measure_command(runs: int, *command: str) -> dict[str, float]:
    found = [run_command(*command) for _ in range(runs)]
    return {key: statistics.median(f[key] for f in found) for key in found[0]}


def list_manifests(cube: Path) -> dict[str, int]:
    """Size of each file of the chunk index."""
    return {f.name: f.stat().st_size for f in (cube / "manifests").iterdir()}


def measure_size(folder: Path, lattice: Lattice, count: int, runs: int, workers: int) -> list[dict[str, Any]]:
    """All figures of a cube with ``count`` slots."""
    cube = folder / f"cube-{count}"
    shutil.copytree(folder / "seed", cube, copy_function=os.link)
    chunks = count * lattice.chunks**2
    what = {"regions": lattice.rows * lattice.columns, "slots": count, "chunks": chunks}
    rows: list[dict[str, Any]] = []

    def add(figure: str, **found: Any) -> None:
        rows.append({**what, "figure": figure, **found})
        shown = " ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items())
        print(f"{what['regions']} regions, {count} slots, {chunks} chunks: {figure}: {shown}", flush=True)

    def command(name: str, *words: str) -> None:
        add(name, **measure_command(runs, *words, "--store", str(cube), "--json"))

    in_child("catalog", folder, lattice, slots=count, listed=count - EXTRA)
    command("plan --no-headers", "plan", "--no-headers")
    add("coordinator", **in_child("fill", folder, lattice, cube=cube.name, workers=workers, by_reference=True))
    add("index", manifests=len(list_manifests(cube)), bytes=sum(list_manifests(cube).values()))
    more: list[dict[str, Any]] = []
    for left in range(EXTRA - 1, -1, -1):
        before = list_manifests(cube)
        in_child("catalog", folder, lattice, slots=count, listed=count - left)
        found = in_child("fill", folder, lattice, cube=cube.name, workers=1, by_reference=False)
        assert found["slots"] == 1, found
        written = {name: size for name, size in list_manifests(cube).items() if name not in before}
        more.append({**found, "manifests_written": len(written), "bytes_written": sum(written.values())})
    names = ("commit_s", "commit_cpu_s", "peak_mb", "ingest_s", "manifests_written", "bytes_written")
    add("one more region", **{key: statistics.median(m[key] for m in more) for key in names})
    command("status", "status")
    command("resume (plan, all done)", "plan", "--no-headers")
    command("resume (ingest, all done)", "ingest")
    return rows


def measure(
    folder: Path, lattice: Lattice, sizes: list[int], runs: int, workers: int, keep: bool
) -> list[dict[str, Any]]:
    folder.mkdir(parents=True)
    in_child("make", folder, lattice)
    rows = []
    for count in sizes:
        rows += measure_size(folder, lattice, count, runs, workers)
        if not keep:
            shutil.rmtree(folder / f"cube-{count}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100,400,1400,2520", help="slots of the GLAD lattice to fill")
    parser.add_argument("--regions", type=int, default=100_000, help="regions of the other cube; 0 for none")
    parser.add_argument("--runs", type=int, default=3, help="runs of every command")
    parser.add_argument("--workers", type=int, default=2, help="worker processes beside the coordinator")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--keep", metavar="FOLDER", help="leave the cubes there")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        name, folder, lattice, more = json.loads(given.step)
        print(json.dumps(step(name, Path(folder), Lattice(**lattice), more)))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    rows = [{"figure": "--help", **measure_command(given.runs, "--help")}]
    print("--help:", " ".join(f"{k} {v:.3g}" for k, v in rows[0].items() if k != "figure"), flush=True)
    with tempfile.TemporaryDirectory() as made:
        base = Path(given.keep or made)
        how = given.runs, given.workers, bool(given.keep)
        if given.sizes:
            rows += measure(base / "glad", GLAD, [int(n) for n in given.sizes.split(",")], *how)
        if given.regions:
            lattice = many(given.regions)
            rows += measure(base / "many", lattice, [lattice.rows * lattice.columns], *how)
    if given.json:
        Path(given.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
