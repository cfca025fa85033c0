"""Run one way on one job: what is measured is this whole process."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module

from benchmarks.job import read_job
from benchmarks.ways import WAYS


def main() -> None:
    name, path, *flags = sys.argv[1:]
    way, job = WAYS[name], read_job(path)
    job = replace(job, options={**way.options, **job.options})
    if "--check" in flags:
        from benchmarks.ways.check import check

        check(job, whole=job.side <= 4000)
        return
    module = import_module(f"benchmarks.ways.{way.module}")
    if "--refuse" in flags:
        if refuse := getattr(module, "refuse", None):
            print(refuse(job), end="")
    elif "--prepare" in flags:
        if prepare := getattr(module, "prepare", None):
            prepare(job)
    else:
        module.run(job)


if __name__ == "__main__":
    main()
