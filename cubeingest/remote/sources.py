"""Remote files as a catalog wants them: their identity, their content, and which of them there are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from stat import S_ISDIR

from cubeingest.errors import TileError
from cubeingest.remote.addresses import check_href, local_path
from cubeingest.remote.clients import client_of, is_pattern, patiently, run
from cubeingest.remote.trouble import is_nothing, why_unreachable
from cubeingest.storage import Storage, public_href


@dataclass(frozen=True, slots=True)
class SourceId:
    """What tells one version of a source from another: href without query and user, size in bytes, and a stamp.

    The stamp is the ETag or modification time, as text; empty where the source has neither.
    """

    href: str
    size: int | None
    stamp: str


NOWHERE = Storage()
"""Options of an object store where none are given: what the environment says."""


def source_id(href: str, storage: Storage = NOWHERE) -> SourceId:
    """Ask for a source's size and stamp without reading it.

    Raises :class:`FileNotFoundError` if it is not there, :class:`TileError` if it cannot be asked.
    """
    if check_href(href) == "file":
        path = local_path(href)
        stat = os.stat(path)
        if S_ISDIR(stat.st_mode):
            return SourceId(href, *_folder(path))
        return SourceId(href, stat.st_size, str(stat.st_mtime_ns))
    try:
        client = client_of(href, storage)
        size, stamp = run(patiently(lambda: client.head(href)))
    except Exception as e:  # noqa: BLE001  (each cloud's library has errors of its own, none of which is ours to let through)
        reason = why_unreachable(e)
        if reason is None:
            raise FileNotFoundError(public_href(href)) from None
        raise TileError(f"cannot reach {public_href(href)!r}: {reason}") from None
    return SourceId(public_href(href), size, stamp)


def _folder(path: str) -> tuple[int, str]:
    """Bytes in a folder (a Zarr store), and the newest modification time of anything in it."""
    size, newest = 0, os.stat(path).st_mtime_ns
    for where, _, files in os.walk(path):
        for name in files:
            stat = os.stat(os.path.join(where, name))
            size, newest = size + stat.st_size, max(newest, stat.st_mtime_ns)
    return size, str(newest)


def read_bytes(href: str, storage: Storage = NOWHERE) -> bytes:
    """All of a remote file, which must be small. What it raises, :func:`why_unreachable` explains."""
    client = client_of(href, storage)
    data, _ = run(patiently(lambda: client.read(href, 0, None, None, "")))
    return data


def expand_glob(pattern: str, storage: Storage = NOWHERE) -> list[str]:
    """Hrefs of the remote files that a pattern names, sorted. What it raises, :func:`why_unreachable` explains."""
    client = client_of(pattern, storage)
    place = pattern.partition("?")[0] if check_href(pattern) == "http" else pattern
    if is_pattern(place):
        return sorted(run(patiently(lambda: client.glob(pattern))))
    try:
        run(patiently(lambda: client.head(pattern)))
    except Exception as e:
        if is_nothing(e):
            return []
        raise
    return [pattern]
