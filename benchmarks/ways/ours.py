"""``cubeingest ingest`` as the user runs it: a new process, with its start, its ledger and its commit."""

from __future__ import annotations

import sys
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.job import Job


def prepare(job: Job) -> None:
    """``cubeingest init``."""
    from cubeingest.cli import main

    spec = Path(job.store).with_suffix(".yaml")
    spec.write_text(job.spec())
    with TemporaryDirectory() as folder, chdir(folder):  # it leaves the store's name where it is run
        _run(main, "init", str(spec), "--store", job.store)


def run(job: Job) -> None:
    from cubeingest.cli import main

    _run(main, "ingest", "--store", job.store)


def _run(main: object, *arguments: str) -> None:
    sys.argv = ["cubeingest", *arguments]
    assert callable(main)
    try:
        main()
    except SystemExit as e:
        if e.code:
            raise
