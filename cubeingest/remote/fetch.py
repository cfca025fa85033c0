"""Large remote tiles are fetched whole, in parallel ranges, into files on this disk.

A tile that is read over the network row by row takes a request for every few blocks, one after the other; fetched whole it
takes one for 8 MB, eight at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any

from cubeingest.errors import TileError
from cubeingest.remote.clients import Client, client_of, patiently
from cubeingest.remote.scratch import FULL, POLL_SECONDS, ROOM, Stopped, bound_bytes, free_bytes, scratch_file
from cubeingest.remote.sources import SourceId
from cubeingest.remote.trouble import ChangedError, is_changed, why_unreachable
from cubeingest.storage import Storage, public_href

RANGE_BYTES = 8 * 2**20
"""What is asked for in one request. A tile that is no larger is one request."""

RANGES_AT_ONCE = 8
"""Requests under way at a time for one slot."""

FETCH_BYTES = RANGE_BYTES * RANGES_AT_ONCE
"""Memory that ranges under way take, for one slot."""

MOST_FILES = 200
"""Copies for one slot at a time: each is an open file, of which a process may have about 1000."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF begins. Other rasters may name files beside them, so they are read where they are."""


@dataclass
class _Copy:
    """A file being fetched. ``is_told`` while every answer said that it was of the version asked for."""

    href: str
    source: SourceId
    client: Client
    fd: int
    path: str
    begins: tuple[bytes, ...]
    is_usable: bool = True
    is_told: bool = True

    @property
    def size(self) -> int:
        assert self.source.size is not None
        return self.source.size


@contextmanager
def fetched(
    sources: Mapping[str, SourceId], storage: Storage, stop: Event, begins: tuple[bytes, ...] = TIFF
) -> Iterator[dict[str, str]]:
    """Copies of remote TIFFs on this disk, or of files that begin otherwise, as paths by href, for as long as the context lasts.

    Left out are those for which there is no room, whose size is not known, or which begin in another way. Waits for room
    that other threads hold.

    Raises :class:`TileError` for one that cannot be fetched whole, or is not the version in ``sources``; :class:`Stopped`
    soon after ``stop`` is set.
    """
    bound = bound_bytes()
    most = min(bound, free_bytes())
    chosen: dict[str, SourceId] = {}
    total = 0
    for href, source in sources.items():
        if source.size and total + source.size <= most and len(chosen) < MOST_FILES:
            chosen[href] = source
            total += source.size
    if not chosen:
        yield {}
        return
    with ROOM.taken(total, bound, stop), ExitStack() as stack:
        copies = []
        for href, source in chosen.items():
            made = stack.enter_context(scratch_file(source.size or 0))
            if made is not None:
                copies.append(_Copy(href, source, client_of(href, storage), *made, begins))
        _run(_fetch(copies, stop), stop)
        yield {c.href: c.path for c in copies if c.is_usable}


def _run(work: Coroutine[Any, Any, None], stop: Event) -> None:
    """Run on fsspec's loop to the end, whatever happens here: files must stay open while ranges are written to them."""
    from fsspec.asyn import get_loop

    future = asyncio.run_coroutine_threadsafe(work, get_loop())
    try:
        future.result()
    except BaseException:
        stop.set()
        wait([future])
        raise


async def _fetch(copies: list[_Copy], stop: Event) -> None:
    gate = asyncio.Semaphore(RANGES_AT_ONCE)
    ranges = [(c, start, min(start + RANGE_BYTES, c.size)) for c in copies for start in range(0, c.size, RANGE_BYTES)]
    await _all([_fetch_range(c, start, end, gate) for c, start, end in ranges], stop)
    await _all([_confirm(c) for c in copies if c.is_usable and not c.is_told], stop)


async def _all(works: list[Coroutine[Any, Any, None]], stop: Event) -> None:
    """Run all at once. At the first error, or when ``stop`` is set, the others are ended too before it is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    waiting = set(tasks)
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
            if stop.is_set():
                raise Stopped
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _fetch_range(copy: _Copy, start: int, stop: int, gate: asyncio.Semaphore) -> None:
    async with gate:
        if not copy.is_usable:
            return
        try:
            data, is_told = await patiently(
                lambda: copy.client.read(copy.href, start, stop, copy.size, copy.source.stamp)
            )
        except Exception as e:  # noqa: BLE001  (each cloud's library has errors of its own)
            raise _explained(copy, e) from None
        copy.is_told &= is_told
        if start == 0 and not data.startswith(copy.begins):
            copy.is_usable = False
            return
        try:
            _write(copy.fd, data, start)
        except OSError as e:
            if e.errno not in FULL:
                raise TileError(f"the copy of tile {public_href(copy.href)!r} cannot be written: {e.strerror}") from e
            copy.is_usable = False


def _write(fd: int, data: bytes, start: int) -> None:
    rest = memoryview(data)
    while rest:
        n = os.pwrite(fd, rest, start)
        rest, start = rest[n:], start + n


async def _confirm(copy: _Copy) -> None:
    """Ask again what the source is, where answers did not say which version they were of."""
    try:
        size, stamp = await patiently(lambda: copy.client.head(copy.href))
        if (size, stamp) != (copy.source.size, copy.source.stamp):
            raise ChangedError
    except Exception as e:  # noqa: BLE001  (as above)
        raise _explained(copy, e) from None


def _explained(copy: _Copy, error: Exception) -> TileError:
    tile = f"tile {public_href(copy.href)!r}"
    if is_changed(error):
        return TileError(f"{tile} changed while it was read: run the command again")
    reason = why_unreachable(error)
    return TileError(f"{tile} is not there any more" if reason is None else f"{tile} cannot be fetched: {reason}")
