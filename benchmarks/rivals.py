"""The same tiles made into a cube in all the ways that people use, on one machine's disk.

    uv run python -m benchmarks.rivals [--size 40000] [--tiles 2] [--runs 3] [--inputs ...] [--ways ...] [--keep FOLDER] [--json FILE]

Each run is a whole process into a new store; runs of different ways alternate. Before each run the tiles are read (so they come
from memory, as far as there is room) and the disk is synced; stores are deleted when all runs of an input are done. None of that is timed.
After its first run each way's cube is compared with the tiles: whole up to 4000², in windows of each tile above.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.job import Job
from benchmarks.measure import Measured, describe, interleave, machine, medians, run
from benchmarks.report import local_tables
from benchmarks.tiles import CHUNK, INPUTS, Input
from benchmarks.ways import LOCAL, WAYS

DEFAULT_INPUTS = [
    "strips", "blocks", "zstd", "strips-ocean", "blocks-ocean", "strips-int16", "blocks-int16", "blocks-float32", "blocks-float32-ocean",
]  # fmt: skip
"""Each layout, type and cover at least once; ``--inputs all`` has the rest."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


FORGET_SECONDS = 65
"""ext4 makes new files slowly in directories near which others were deleted in the last minute: it looks at each of those first."""


class Bench:
    """Runs ways on jobs in ``folder``; what a way leaves is checked after its first run. Stores are deleted after all runs of a job."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "benchmark-store"
        self._count = 0
        self.refused: dict[str, str] = {}
        self.checked: dict[str, Any] = {}

    def measure(self, name: str, job: Job) -> Measured:
        self._count += 1
        job = replace(job, store=f"{job.store}-{self._count}")
        command = [sys.executable, "-m", "benchmarks.ways", name, str(job.write(self.folder / "benchmark-job.json"))]
        self._ask([*command, "--prepare"])
        warm(job.files)
        result = self.run(name, command)
        if WAYS[name].writes and name not in self.checked:
            self.checked[name] = json.loads(self._ask([*command, "--check"]))
        return result

    def run(self, name: str, command: Sequence[str]) -> Measured:
        """The timed part of :meth:`measure`."""
        return run(command)

    def compare(self, job: Job, ways: Sequence[str], runs: int) -> dict[str, Any]:
        """What each way took, by name; those that cannot run on this job say why."""
        self.refused, self.checked = {}, {}
        path = job.write(self.folder / "benchmark-job.json")
        for name in ways:
            if reason := self._ask([sys.executable, "-m", "benchmarks.ways", name, str(path), "--refuse"]):
                self.refused[name] = reason
                say(f"  {name}: left out, it {reason}")
        able = [name for name in ways if name not in self.refused]
        found = interleave(able, runs, lambda name: self.measure(name, job), say)
        self.clear()
        results: dict[str, Any] = {name: {"refused": reason} for name, reason in self.refused.items()}
        for name, measured in found.items():
            results[name] = {**medians(measured), "runs": [asdict(m) for m in measured], **self.checked.get(name, {})}
        return {"input": job.input, "side": job.side, "tiles": job.count, "pixels": job.pixels, "bytes": job.n_bytes,
                "ways": results}  # fmt: skip

    def clear(self) -> None:
        """Delete what was made, and wait until it is forgotten, if it was much."""
        started = time.monotonic()
        for path in self.folder.glob("benchmark-store*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if time.monotonic() - started > 1:
            os.sync()
            time.sleep(FORGET_SECONDS)

    def _ask(self, command: Sequence[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def make_tiles(folder: Path, kind: Input, side: int, count: int) -> None:
    """In another process, so that this one, which starts all others, stays small."""
    code = f"from pathlib import Path; from benchmarks.tiles import *; write_row(Path({str(folder)!r}), Input({kind.name!r}), {side}, {count})"
    subprocess.run([sys.executable, "-c", code], check=True)


def warm(files: Sequence[str]) -> None:
    """Read them, so that the next to read them gets them from memory, as far as there is room."""
    for path in files:
        with open(path, "rb") as file:
            while file.read(2**24):
                pass


def compare_all(
    folder: Path, options: argparse.Namespace, measure: Callable[[Input, int], list[dict[str, Any]]]
) -> dict[str, Any]:
    """What ``measure`` gives for each input of ``options``; made tiles are deleted as soon as they are done with, unless kept."""
    results: list[dict[str, Any]] = []
    for name in options.inputs:
        kind = Input(name)
        side = kind.side(options.size)
        say(f"{name}: {options.tiles} tiles of {side}²")
        make_tiles(folder, kind, side, options.tiles)
        results += measure(kind, side)
        if not options.keep:
            shutil.rmtree(folder / name)
    given = {"size": options.size, "tiles": options.tiles, "runs": options.runs}
    return {"machine": machine(), **given, "results": results}


def measure_local(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = options.keep or Path(made)
        bench = Bench(folder)

        def measure(kind: Input, side: int) -> list[dict[str, Any]]:
            job = Job(kind.name, str(folder / kind.name), side, options.tiles, str(bench.store), options.chunk)
            return [bench.compare(job, options.ways, options.runs)]

        return compare_all(folder, options, measure)


def parse(
    arguments: Sequence[str] | None,
    what: str,
    inputs: list[str],
    ways: list[str],
    more: Sequence[tuple[str, float]] = (),
    **defaults: Any,
) -> argparse.Namespace:
    """The options that the suites share, and ``more`` numbers."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--size", type=int, default=40000, help="pixels along the side of a tile of classes; fields have half of it"
    )
    parser.add_argument("--tiles", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=CHUNK)
    parser.add_argument("--inputs", default=",".join(inputs), help=f"some of {', '.join(INPUTS)}; or all")
    parser.add_argument("--ways", default=",".join(ways), help=f"some of {', '.join(WAYS)}; default: {', '.join(ways)}")
    parser.add_argument("--keep", type=Path, help="folder to keep tiles in between runs")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--json", type=Path, help="file to write all results to")
    for name, value in more:
        parser.add_argument(f"--{name}", type=float, default=value)
    parser.set_defaults(**defaults)
    options = parser.parse_args(arguments)
    options.inputs = INPUTS if options.inputs == "all" else options.inputs.split(",")
    options.ways = options.ways.split(",")
    if unknown := {*options.inputs} - {*INPUTS} | {*options.ways} - {*WAYS}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if options.keep:
        options.keep = options.keep.resolve()
        options.keep.mkdir(parents=True, exist_ok=True)
    return options


def show(found: dict[str, Any], tables: Sequence[str], options: argparse.Namespace) -> None:
    print(describe(found["machine"]))
    print("\n\n".join(tables))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments, __doc__ or "", DEFAULT_INPUTS, LOCAL)
    found = measure_local(options)
    show(found, local_tables(found), options)
    return found


if __name__ == "__main__":
    main()
