"""Put windows of whole chunks into an array: encoded with Zarr's own codecs, handed to the store as bytes.

Zarr's writer reads, merges and tests every chunk in ways that a window of whole chunks does not need, which took as much
processor time as the encoding itself. What is written here is read by Zarr like anything else.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from threading import Condition, Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import StoreError
from cubeingest.spec import Variable
from cubeingest.store import delete_present, open_array

if TYPE_CHECKING:
    import icechunk

ENCODERS = 2
"""Threads that encode, beside the one that reads: for the two cores that a worker has."""

INLINE_BYTES = 2**18
"""A window up to this size is encoded by who gives it: that takes no longer than to start a thread and to hear from it."""

PUTS_AT_ONCE = 16
"""Encoded chunks that are on their way to the store at a time: to one across a network, each takes tens of milliseconds."""

PUT_BYTES = 32 * 2**20
"""And their bytes, if it is more than one."""

Array = np.ndarray[Any, Any]


class WindowEncoder:
    """Encodes windows of one variable's array, chunk by chunk, in threads, and keeps nothing of it."""

    def __init__(self, session: icechunk.Session, variable: Variable, threads: ThreadPoolExecutor, layout: str) -> None:
        from zarr.core.array_spec import ArrayConfig, ArraySpec
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.chunk_utils import ChunkTransform

        array = open_array(session, variable.name, "r" if session.read_only else "r+", layout)
        metadata: Any = array.metadata  # of Zarr v3: Icechunk holds no other
        self._store, self._metadata, self._name = session.store, metadata, variable.name
        self._variable, self._threads = variable, threads
        self._shape = variable.write_shape
        self._prototype = default_buffer_prototype()
        config = ArrayConfig(order="C", write_empty_chunks=False)
        self._chunk_spec = ArraySpec(self._shape, metadata.data_type, metadata.fill_value, config, self._prototype)
        # Codecs are bound to the array they encode for (byte order, item size) as Zarr's pipelines do it.
        codecs = tuple(codec.evolve_from_array_spec(self._chunk_spec) for codec in metadata.codecs)
        self._transform = ChunkTransform(codecs=codecs)
        self._failure: BaseException | None = None
        self.is_empty = True
        """Whether every chunk encoded so far is all fill value."""

    def encode(self, index: tuple[slice, ...], pixels: Array, done: Callable[[], None] = lambda: None) -> None:
        """Begin to encode the chunks of ``pixels`` at ``index``, and go on; ``done`` is called, in some thread, when ``pixels`` are not
        needed any more.

        ``index`` has a slice for each dimension, whose edges are chunk edges or the array's end. Raises what went wrong with
        chunks given earlier; nothing is done any more then.
        """
        for start, size in zip((s.start for s in index), self._shape, strict=True):
            assert start % size == 0, f"{index} does not start at a chunk of {self._shape}"
        self.check()
        ranges = [range(s.start // size, -(-s.stop // size)) for s, size in zip(index, self._shape, strict=True)]
        origin = tuple(s.start for s in index)
        places = list(itertools.product(*ranges))
        left, lock = len(places), Lock()

        def work(place: tuple[int, ...]) -> None:
            nonlocal left
            try:
                if self._failure is None:
                    encoded = self._encode_chunk(place, origin, pixels)
                    self._put(f"{self._name}/{self._metadata.encode_chunk_key(place)}", encoded)
            except BaseException as e:  # noqa: BLE001  (raised again by who waits for it)
                self._failure = self._failure or e
            finally:
                with lock:
                    left -= 1
                    last = not left
                if last:
                    done()

        for place in places:
            if pixels.nbytes <= INLINE_BYTES:
                work(place)
            else:
                self._threads.submit(work, place)

    def check(self) -> None:
        """Raise what went wrong in a thread, if anything has."""
        if self._failure is not None:
            raise self._failure

    def give_up(self, reason: BaseException) -> None:
        """Do nothing of what is still to be done."""
        self._failure = self._failure or reason

    def finish(self) -> None:
        """What is to be done when all chunks have been encoded."""
        self.check()

    def _put(self, key: str, encoded: Any) -> None:
        """Take an encoded chunk, None if it is all fill value; called from several threads."""

    def _encode_chunk(self, place: tuple[int, ...], origin: tuple[int, ...], pixels: Array) -> Any:
        part = pixels[
            tuple(slice(p * n - o, (p + 1) * n - o) for p, n, o in zip(place, self._shape, origin, strict=True))
        ]
        if all_fill(part, self._variable):
            return None
        self.is_empty = False
        if part.shape != self._shape:  # the array's end cuts this chunk: the rest of it is fill value
            whole = np.full(self._shape, self._variable.np_fill, part.dtype)
            whole[tuple(slice(n) for n in part.shape)] = part
            part = whole
        encoded = self._transform.encode_chunk(
            self._prototype.nd_buffer.from_numpy_array(np.ascontiguousarray(part)), self._chunk_spec
        )
        assert encoded is not None, "only a shard of fill value encodes to nothing, and that was found above"
        # Where nothing compresses it, it is part of ``pixels``, which are given back before it is written.
        shared = np.may_share_memory(encoded.as_numpy_array(), pixels)
        return encoded.from_bytes(encoded.to_bytes()) if shared else encoded


class WindowWriter(WindowEncoder):
    """Writes the chunks it encodes through a session (a fork, on a worker), several on their way at a time."""

    def __init__(self, session: icechunk.Session, variable: Variable, threads: ThreadPoolExecutor, layout: str) -> None:
        super().__init__(session, variable, threads, layout)
        self._on_their_way = self._bytes_on_their_way = 0
        self._changed = Condition()
        self._left_out: list[str] = []

    def _put(self, key: str, encoded: Any) -> None:
        from zarr.core.sync import _get_loop

        if encoded is None:
            self._left_out.append(key)
            return
        size = len(encoded)
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size))
            self._on_their_way += 1
            self._bytes_on_their_way += size
        try:
            future = asyncio.run_coroutine_threadsafe(self._store.set(key, encoded), _get_loop())
        except BaseException:
            self._landed(size)
            raise
        future.add_done_callback(partial(self._landed, size))

    def _has_room(self, size: int) -> bool:
        return not self._on_their_way or (
            self._on_their_way < PUTS_AT_ONCE and self._bytes_on_their_way + size <= PUT_BYTES
        )

    def _landed(self, size: int, future: Future[None] | None = None) -> None:
        if future is not None and future.cancelled():
            self.give_up(StoreError("writing a chunk was cancelled"))
        elif future is not None and (error := future.exception()) is not None:
            self.give_up(error)
        with self._changed:
            self._on_their_way -= 1
            self._bytes_on_their_way -= size
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until all is in the store, and take out of it what lies where only fill value should."""
        with self._changed:
            self._changed.wait_for(lambda: not self._on_their_way)
        self.check()
        delete_present(self._store, self._left_out)


@contextmanager
def open_encoder(session: icechunk.Session, variable: Variable, layout: str) -> Iterator[WindowEncoder]:
    """A :class:`WindowEncoder` with threads of its own; nothing is written. ``layout`` is the store's ``layout_key``."""
    with _open(WindowEncoder, session, variable, layout) as encoder:
        yield encoder


@contextmanager
def open_writer(session: icechunk.Session, variable: Variable, layout: str) -> Iterator[WindowEncoder]:
    """A :class:`WindowWriter` with threads of its own; all is written when it is left. ``layout`` is the store's ``layout_key``.

    Raises what the store raises.
    """
    with _open(WindowWriter, session, variable, layout) as writer:
        yield writer


@contextmanager
def _open(
    kind: type[WindowEncoder], session: icechunk.Session, variable: Variable, layout: str
) -> Iterator[WindowEncoder]:
    _settle_malloc()
    with ThreadPoolExecutor(ENCODERS, thread_name_prefix="cubeingest-encode") as threads:
        encoder = kind(session, variable, threads, layout)
        try:
            yield encoder
        except BaseException as e:
            encoder.give_up(e)
            raise
    encoder.finish()


@cache
def _settle_malloc() -> None:
    """Let glibc keep the memory of chunks that are freed: until it has seen a larger block freed, it gives them back to the system,
    and each new one is zeroed page by page. That was a page fault for every 4 kB encoded.
    """
    np.empty(24 * 2**20, np.uint8)


def is_fill(pixels: Array, variable: Variable) -> Array:
    """Where pixels are the fill value; NaN is equal to NaN here."""
    fill = variable.np_fill
    result: Array = np.isnan(pixels) if np.isnan(fill) else pixels == fill
    return result


def all_fill(pixels: Array, variable: Variable) -> bool:
    """Whether there is nothing but fill value. Looks at a few rows at a time: most chunks are told by the first."""
    before = (slice(None),) * len(variable.axes)
    rows = pixels.shape[len(before)]
    step = max(1, rows // 64)
    return all(bool(is_fill(pixels[(*before, slice(i, i + step))], variable).all()) for i in range(0, rows, step))
