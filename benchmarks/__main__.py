"""All measurements, and the sections of docs/performance.md that are written by them.

    uv run python -m benchmarks [--quick] [--only rivals,remote,...] [--json FOLDER] [--keep FOLDER] [--no-docs]

An hour and a half on two cores, and 10 GB of disk. ``--quick`` takes some minutes: it shows that everything runs, on tiles so small
that starting takes most of the time, and leaves the docs alone. ``--from FOLDER`` writes the docs anew from the JSON of an earlier run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import remote, report, rivals
from benchmarks.rivals import say

QUICK = ["--size", "2000", "--tiles", "2", "--runs", "1"]
QUICK_INPUTS = {"rivals": ["--inputs", "strips,blocks-int16-ocean"], "remote": ["--inputs", "blocks"]}
OTHERS: dict[str, tuple[list[str], list[str]]] = {
    "blocks": (["--side", "16384"], ["--side", "2048", "--runs", "1"]),
    "scale": ([], ["--sizes", "20", "--regions", "0", "--runs", "1"]),
    "memory": ([], ["--size", "4000"]),
    "sources": ([], ["--size", "3600", "--runs", "1"]),
    "commits": (["--runs", "2"], ["--processes", "2", "--each", "2", "--runs", "1"]),
    "resume": ([], ["--side", "20", "--runs", "1"]),
    "aggregate": ([], ["--points", "40000", "--runs", "1"]),
    "points": ([], ["--points", "40000", "--runs", "1"]),
    "plan": ([], ["--rows", "1000", "--tiles", "20", "--runs", "1"]),
}
"""Scripts that only print: their arguments, and those of a quick run."""
SUITES = ("rivals", "remote", *OTHERS)


def write_local(found: dict[str, Any]) -> None:
    title = "Local tiles into a cube: throughput, floor (decode, encode, write files) = 1"
    report.plot(found, "floor", title, report.DOCS / "images" / "performance")
    tables = report.local_tables(found, brief=True)
    command = f"python -m benchmarks.rivals --size {found['size']} --tiles {found['tiles']} --runs {found['runs']}"
    report.rewrite("rivals", report.section(found, command, tables, "performance", title))


def write_remote(found: dict[str, Any]) -> None:
    title = "Tiles on a web server into a cube: throughput, cubeingest = 1"
    report.plot(found, "ours", title, report.DOCS / "images" / "performance-remote")
    tables = report.remote_tables(found)
    command = f"python -m benchmarks.remote --size {found['size']} --tiles {found['tiles']} --runs {found['runs']}"
    report.rewrite("remote", report.section(found, command, tables, "performance-remote", title))


MEASURES = {"rivals": (rivals.main, write_local), "remote": (remote.main, write_remote)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, one run: does everything run?")
    parser.add_argument("--only", default=",".join(SUITES), help=f"some of {', '.join(SUITES)}")
    parser.add_argument("--json", type=Path, help="folder for the results of rivals and remote")
    parser.add_argument("--keep", type=Path, help="folder to keep tiles in between runs")
    parser.add_argument("--no-docs", action="store_true", help="leave docs/performance.md as it is")
    parser.add_argument(
        "--from", type=Path, dest="earlier", help="measure nothing: write the docs from the results in this folder"
    )
    options = parser.parse_args(arguments)
    suites = options.only.split(",")
    if unknown := {*suites} - {*SUITES}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if options.json:
        options.json.mkdir(parents=True, exist_ok=True)
    for suite in suites:
        if options.earlier:
            file = options.earlier / f"{suite}.json"
            if suite in MEASURES and file.exists():
                MEASURES[suite][1](json.loads(file.read_text()))
            continue
        say(f"# {suite}")
        if suite in OTHERS:
            given = OTHERS[suite][options.quick]
            subprocess.run([sys.executable, "-m", f"benchmarks.{suite}", *given], check=True)
            continue
        measure, write = MEASURES[suite]
        given = [*QUICK, *QUICK_INPUTS[suite]] if options.quick else []
        given += ["--json", str(options.json / f"{suite}.json")] if options.json else []
        given += ["--keep", str(options.keep)] if options.keep else []
        found = measure(given)
        if not (options.quick or options.no_docs):
            write(found)


if __name__ == "__main__":
    main()
