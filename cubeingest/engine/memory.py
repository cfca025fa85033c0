"""How much memory is free, and how much of it what waits for a commit may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

MAX_KEPT_BYTES = 24 * 2**20
"""Pickled forks that are kept before a commit is made without being asked for: about 850,000 chunks, a year of GLAD's and half
as much again. A process that commits so many peaks at 600 MB."""

MIN_KEPT_BYTES = 2**20
"""Less than this is not waited for, however little memory is free: each commit rewrites the manifests that it touches."""

MERGED_BYTES = 16
"""Bytes that one byte of pickled forks takes when it is merged and committed (measured: 15)."""

SHARE = 4
"""A commit may take one part in so many of what is free: workers need memory, too."""

CGROUPS = Path("/sys/fs/cgroup")
VERSIONS = (("", "memory.max", "anon"), ("memory", "memory.limit_in_bytes", "total_rss"))
"""Of control groups, 2 and 1: the controller, the file with its limit, and what of ``memory.stat`` cannot be given up."""


def kept_limit(whole: bool = False) -> int:
    """Bytes of pickled forks to keep at most before a commit, by what is free now; ``whole`` is for a run that would rather
    commit all at once: then only memory bounds it.
    """
    fits = free_bytes() // SHARE // MERGED_BYTES
    return max(MIN_KEPT_BYTES, fits if whole else min(MAX_KEPT_BYTES, fits))


def free_bytes() -> int:
    """Memory that this process may still take: the machine's, or what its control group (a container, a batch job) leaves."""
    import psutil

    groups = ""
    with suppress(OSError):
        groups = Path("/proc/self/cgroup").read_text()
    available: int = psutil.virtual_memory().available
    return min([available, *left_in_groups(CGROUPS, groups)])


def left_in_groups(root: Path, groups: str) -> Iterator[int]:
    """Bytes left in each control group that has a limit: a process's own, as ``/proc/self/cgroup`` lists them, and those above.

    File pages do not count: the system gives them up.
    """
    paths = {controller: path for _, controller, path in (line.split(":", 2) for line in groups.splitlines())}
    for controller, limit_file, taken in VERSIONS:
        own = PurePosixPath(paths.get(controller, "/"))
        for group in (own, *own.parents):
            folder = root / controller / str(group).lstrip("/")
            with suppress(OSError, ValueError, KeyError):  # no such group here, or no limit ("max")
                limit = int((folder / limit_file).read_text())
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                yield max(0, limit - int(stat[taken]))
