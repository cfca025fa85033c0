"""Nine statistics of points by cell: the kernel against a loop over cells, polars and duckdb, on one thread each.

    uv run python -m benchmarks.aggregate [--points 4000000] [--runs 5] [--ways ours,loop,polars,duckdb] [--json FILE]

Count, min, max, mean weighted by 1/s², sigma of that mean, variance and three quantiles of h. All ways have the same columns in memory, in the form that
they like best (arrays, a DataFrame, a table of duckdb's own); timed is from there to arrays by cell, in float64. Runs of different ways alternate.
Each way's results are compared with those of the loop, which is numpy for one cell after another, brought together by one sort before it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import describe, machine
from benchmarks.rivals import say

os.environ["POLARS_MAX_THREADS"] = "1"
"""polars reads it when it is imported first, which is below."""

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]
Results = list[Array]
"""The nine, of all cells that have points, in the order of cells."""
Way = Callable[[], Results]

QUANTILES = (0.25, 0.5, 0.75)
CELLS = 4096
"""In one chunk of points."""
SPARSE = 100_000


def make_points(n: int, n_cells: int, dtype: str) -> Columns:
    rng = np.random.default_rng(11)
    return {
        "cell": rng.integers(0, n_cells, n),
        "h": rng.normal(500, 60, n).astype(dtype),
        "s": (rng.random(n) + 0.1).astype(dtype),
    }


def ours(columns: Columns) -> Way:
    from cubeingest.aggregate import aggregate
    from cubeingest.statistic import parse_statistic

    weights = "1/s**2"
    docs: list[Any] = ["count", {"min": "h"}, {"max": "h"}, {"mean": "h", "weights": weights}, {"sigma_of_mean": "h", "weights": weights}]  # fmt: skip
    docs += [{"variance": "h"}, *({"quantile": "h", "q": q} for q in QUANTILES)]
    wanted = [parse_statistic(doc) for doc in docs]
    return lambda: [found.values for found in aggregate(columns["cell"], columns, wanted)]


def loop(columns: Columns) -> Way:
    def run() -> Results:
        order = np.argsort(columns["cell"], kind="stable")
        cell = columns["cell"][order]
        h, s = columns["h"][order].astype("float64"), columns["s"][order].astype("float64")
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        rows = []
        for a, b in zip(starts, [*starts[1:], cell.size], strict=True):
            own, weights = h[a:b], 1 / s[a:b] ** 2
            total = weights.sum()
            mean = (own * weights).sum() / total
            rows.append(
                (b - a, own.min(), own.max(), mean, 1 / np.sqrt(total), own.var(), *np.quantile(own, QUANTILES))
            )
        return [np.array(column) for column in zip(*rows, strict=True)]

    return run


def polars(columns: Columns) -> Way:
    import polars as pl

    frame = pl.DataFrame(columns)
    h, w = pl.col("h").cast(pl.Float64), 1 / pl.col("s").cast(pl.Float64) ** 2
    quantiles = [h.quantile(q, "linear").alias(f"q{q}") for q in QUANTILES]
    wanted = [pl.len().alias("n"), h.min().alias("min"), h.max().alias("max"), ((h * w).sum() / w.sum()).alias("mean")]
    wanted += [(1 / w.sum().sqrt()).alias("sigma"), h.var(ddof=0).alias("variance"), *quantiles]

    def run() -> Results:
        found = frame.group_by("cell").agg(wanted).sort("cell")
        return [found[name].to_numpy() for name in found.columns[1:]]

    return run


def duckdb(columns: Columns) -> Way:
    import duckdb as library
    import pandas as pd

    connection = library.connect(config={"threads": 1})
    frame = pd.DataFrame(columns)
    connection.register("frame", frame)
    connection.execute("CREATE TABLE points AS SELECT * FROM frame")
    connection.unregister("frame")
    query = (
        "SELECT cell, count(*), min(h), max(h), sum(h * w) / sum(w), 1 / sqrt(sum(w)), var_pop(h), "
        f"{', '.join(f'quantile_cont(h, {q})' for q in QUANTILES)} "
        "FROM (SELECT cell, h::DOUBLE AS h, 1 / s::DOUBLE ** 2 AS w FROM points) GROUP BY cell ORDER BY cell"
    )
    return lambda: [np.asarray(column) for column in connection.execute(query).fetchnumpy().values()][1:]


WAYS: dict[str, Callable[[Columns], Way]] = {"ours": ours, "loop": loop, "polars": polars, "duckdb": duckdb}


def check(name: str, got: Results, expected: Results) -> None:
    """Raises AssertionError if they differ by more than rounding."""
    for i, (one, two) in enumerate(zip(got, expected, strict=True)):
        np.testing.assert_allclose(one, two, rtol=0 if i < 3 else 1e-9, err_msg=f"{name}, statistic {i + 1}")


def compare(n: int, n_cells: int, dtype: str, ways: Sequence[str], runs: int) -> dict[str, Any]:
    """Seconds of all runs of each way, on the clock and of the processor (of all threads, so that a second one would show)."""
    columns = make_points(n, n_cells, dtype)
    expected = loop(columns)()
    able = {name: WAYS[name](columns) for name in ways}
    for name, run in able.items():
        check(name, run(), expected)
    found: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "cpu_seconds": []} for name in ways}
    for _ in range(runs):
        for name, run in able.items():
            started, worked = time.perf_counter(), time.process_time()
            run()
            found[name]["seconds"].append(time.perf_counter() - started)
            found[name]["cpu_seconds"].append(time.process_time() - worked)
    return {"points": n, "cells": n_cells, "dtype": dtype, "ways": found}


def report(found: dict[str, Any]) -> str:
    """Million points a second of processor time, which others at work on the machine change least, and how many times that of the others."""
    ways = list(found["results"][0]["ways"])
    rows = [f"| points, cells | {' | '.join(f'{way}, M points/s' for way in ways)} | ours against |", "|---" * (len(ways) + 2) + "|"]  # fmt: skip
    for result in found["results"]:
        took = {way: statistics.median(result["ways"][way]["cpu_seconds"]) for way in ways}
        rates = " | ".join(f"{result['points'] / took[way] / 1e6:.2f}" for way in ways)
        times = ", ".join(f"{way} {took[way] / took['ours']:.1f}" for way in ways if way != "ours" and "ours" in took)
        rows.append(
            f"| {result['points'] / 1e6:g} M {result['dtype']}, {result['cells']:,} | {rates} | {times or '—'} |"
        )
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=4_000_000, help="of the largest case; the others have a quarter")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--ways", default=",".join(WAYS), help=f"some of {', '.join(WAYS)}")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    ways = options.ways.split(",")
    if unknown := {*ways} - {*WAYS}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    n = options.points
    results = []
    for case in ((n // 4, CELLS, "float32"), (n, CELLS, "float32"), (n, CELLS, "float64"), (n // 4, SPARSE, "float32")):
        say(f"{case[0]:,} points of {case[2]} in {case[1]:,} cells")
        results.append(compare(*case, ways, options.runs))
    about = machine()
    about["libraries"] = {name: version(name) for name in ("cubeingest", "numpy", "polars", "duckdb")}
    found = {"machine": about, "runs": options.runs, "results": results}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + os.linesep)
    print(describe(found["machine"]))
    print(report(found))
    return found


if __name__ == "__main__":
    main()
