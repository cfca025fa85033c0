"""Where files are written until they are whole: a folder of each run below the output folder, and what killed runs left there."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SCRATCH = ".cubeingest-export"
"""Folder below the output folder, so that a file that is whole is moved into its place at once."""


@contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """A folder of this run's own, taken away with what is in it afterwards, as are those of runs that are gone. Raises :class:`OSError`.

    A lock file says that a run goes on: the system lets go of it if the run is killed.
    """
    from filelock import FileLock

    place = output / SCRATCH
    place.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    folder = place / uuid.uuid4().hex[:12]
    lock = FileLock(folder.with_suffix(".lock"))
    with lock:
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                folder.with_suffix(".lock").unlink(missing_ok=True)
    with suppress(OSError):  # others are at work there
        place.rmdir()


def _sweep(place: Path) -> None:
    from filelock import FileLock, Timeout

    for folder in [p for p in place.iterdir() if p.is_dir()]:
        lock = folder.with_suffix(".lock")
        with suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)
