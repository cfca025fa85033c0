"""The same tiles on a web server that waits before each answer, and on one that also caps each connection, made into a cube.

    uv run python -m benchmarks.remote [--size 16000] [--tiles 4] [--runs 3] [--latency 0.03] [--rate 25e6] [--keep FOLDER] [--json FILE]

Ours against the notebook in both its forms, and against GDAL that only reads. Whole processes, interleaved; the server runs in
one of its own, and its processor time is not in the figures.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.job import Job
from benchmarks.measure import Measured
from benchmarks.report import name_input, remote_tables
from benchmarks.rivals import Bench, compare_all, parse, show
from benchmarks.server import serving, take_counts
from benchmarks.tiles import Input
from benchmarks.ways import REMOTE

DEFAULT_INPUTS = ["strips", "blocks"]


class RemoteBench(Bench):
    """Counts what each way asks of the server at ``site``."""

    def __init__(self, folder: Path, site: str) -> None:
        super().__init__(folder)
        self.site = site
        self.counts: dict[str, list[dict[str, int]]] = {}

    def run(self, name: str, command: Sequence[str]) -> Measured:
        take_counts(self.site)
        result = super().run(name, command)
        self.counts.setdefault(name, []).append(take_counts(self.site))
        return result

    def compare(self, job: Job, ways: Sequence[str], runs: int) -> dict[str, Any]:
        self.counts = {}
        found = super().compare(job, ways, runs)
        for name, counts in self.counts.items():
            found["ways"][name] |= {key: statistics.median(c[key] for c in counts) for key in ("requests", "sent")}
        return found


def measure_remote(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=options.folder) as made, ExitStack() as stack:
        folder = options.keep or Path(made)
        wait = f"{options.latency * 1000:.0f} ms a request"
        sites = {wait: 0.0, f"{wait}, {options.rate / 1e6:.0f} MB/s a connection": options.rate}
        addresses = {text: stack.enter_context(serving(folder, options.latency, rate)) for text, rate in sites.items()}

        def measure(kind: Input, side: int) -> list[dict[str, Any]]:
            results = []
            for text, site in addresses.items():
                bench = RemoteBench(folder, site)
                job = Job(kind.name, f"{site}/{kind.name}", side, options.tiles, str(bench.store), options.chunk)
                job = replace(job, local=str(folder / kind.name))
                label = f"{name_input(kind.name)}, {text}"
                results.append({**bench.compare(job, options.ways, options.runs), "label": label})
            return results

        found = compare_all(folder, options, measure)
    return {**found, "latency": options.latency, "rate": options.rate}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(
        arguments, __doc__ or "", DEFAULT_INPUTS, REMOTE, more=(("latency", 0.03), ("rate", 25e6)), size=16000, tiles=4
    )
    found = measure_remote(options)
    show(found, remote_tables(found), options)
    return found


if __name__ == "__main__":
    main()
