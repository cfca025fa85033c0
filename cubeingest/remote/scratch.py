"""Room on this disk for copies of remote tiles: bounded for a process, and nothing of it outlives the process."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Condition, Event
from typing import Any

from cubeingest.errors import TileError

SCRATCH_BYTES = 4 * 2**30
"""What the copies of a process may take at once; ``CUBEINGEST_SCRATCH_BYTES`` overrides it, 0 makes none."""

OPEN_FILES = "/proc/self/fd"
"""Where the operating system gives open files a name, if it does: then copies need no other, and go with the process."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a disk without room."""

POLL_SECONDS = 0.2
"""How often a wait looks whether it is still wanted."""


class Stopped(Exception):  # noqa: N818  (it is no error)
    """What waited or fetched was told to stop."""


def folder() -> str:
    """The folder of the copies: ``$CUBEINGEST_SCRATCH``, else where temporary files go. Raises :class:`TileError`."""
    given = os.environ.get("CUBEINGEST_SCRATCH")
    if given and not os.path.isdir(given):
        raise TileError(f"scratch folder {given!r} is not there: make it, or change CUBEINGEST_SCRATCH")
    try:
        return given or tempfile.gettempdir()
    except FileNotFoundError:
        raise TileError("there is no folder for temporary files: set CUBEINGEST_SCRATCH to one") from None


def bound_bytes() -> int:
    """What the copies of this process may take at once. Raises :class:`TileError` if the environment says it wrongly."""
    given = os.environ.get("CUBEINGEST_SCRATCH_BYTES", str(SCRATCH_BYTES))
    if not given.isdecimal():
        raise TileError(f"CUBEINGEST_SCRATCH_BYTES is {given!r}: write a number of bytes")
    return int(given)


def free_bytes() -> int:
    """What the disk has left now."""
    disk = os.statvfs(folder())
    return disk.f_bavail * disk.f_frsize


class _Room:
    """Bytes that copies hold. Whoever takes some takes all that he needs at once, so that no two wait for each other."""

    def __init__(self) -> None:
        self._held = 0
        self._changed = Condition()

    @contextmanager
    def taken(self, n: int, bound: int, stop: Event) -> Iterator[None]:
        """Hold ``n`` bytes as soon as there is room under ``bound``. Raises :class:`Stopped` if ``stop`` is set first."""
        with self._changed:
            while self._held and self._held + n > bound:
                if stop.is_set():
                    raise Stopped
                self._changed.wait(POLL_SECONDS)
            self._held += n
        try:
            yield
        finally:
            with self._changed:
                self._held -= n
                self._changed.notify_all()


ROOM = _Room()


@contextmanager
def scratch_file(size: int) -> Iterator[tuple[int, str] | None]:
    """A file of ``size`` bytes: its descriptor, and a path that GDAL can open. None if the disk is full.

    Raises :class:`TileError` if none can be made for another reason.
    """
    where = folder()
    with ExitStack() as stack:
        made = None
        try:
            if os.path.isdir(OPEN_FILES):
                file: Any = stack.enter_context(tempfile.TemporaryFile(dir=where, buffering=0))
                path = f"{OPEN_FILES}/{file.fileno()}"
            else:
                _remove_stale(Path(where))
                prefix = _prefix(os.getpid())
                file = stack.enter_context(tempfile.NamedTemporaryFile(prefix=prefix, dir=where, buffering=0))
                path = file.name
            _reserve(file.fileno(), size)
            made = file.fileno(), path
        except OSError as e:
            if e.errno not in FULL:
                raise TileError(f"scratch folder {where!r} cannot be written (CUBEINGEST_SCRATCH): {e.strerror}") from e
        yield made


def _reserve(fd: int, size: int) -> None:
    """Take a file's room on the disk at once, rather than run out of it halfway, where the file system can."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as e:
            if e.errno in FULL:
                raise


def _prefix(pid: int) -> str:
    return f"cubeingest-{socket.gethostname()}-{pid}-"


def _remove_stale(where: Path) -> None:
    """Remove what processes of this machine left that were killed, where files need names."""
    for path in where.glob(_prefix(0).removesuffix("0-") + "*"):
        pid = path.name.removeprefix(_prefix(0).removesuffix("0-")).partition("-")[0]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            with suppress(OSError):
                path.unlink()
        except (OSError, ValueError):
            continue
