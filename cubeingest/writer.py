"""Put windows of whole chunks into an array: encoded with Zarr's own codecs, handed to the store as bytes.

Zarr's writer reads, merges and tests every chunk in ways that a window of whole chunks does not need, which took as much
processor time as the encoding itself. What is written here is read by Zarr like anything else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.spec import Variable
from cubeingest.store import open_array

if TYPE_CHECKING:
    import icechunk

ENCODERS = 2
"""Threads that encode. One waits for the store now and then, so that two keep one core busy; more hold memory."""

Array = np.ndarray[Any, Any]
Put = Callable[[str, Any], None]
"""(key, encoded bytes or None), called from several threads."""


class WindowEncoder:
    """Encodes windows of one variable's array, chunk by chunk, in threads."""

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

    def encode(self, index: tuple[slice, ...], pixels: Array, put: Put = lambda key, encoded: None) -> None:
        """Give each chunk of ``pixels`` at ``index`` to ``put``: its key and its bytes, or None if it is all fill value.

        ``index`` has a slice for each dimension, whose edges are chunk edges or the array's end. Raises what ``put`` raises.
        """
        for start, size in zip((s.start for s in index), self._shape, strict=True):
            assert start % size == 0, f"{index} does not start at a chunk of {self._shape}"
        ranges = [range(s.start // size, -(-s.stop // size)) for s, size in zip(index, self._shape, strict=True)]
        origin = tuple(s.start for s in index)

        def work(place: tuple[int, ...]) -> None:
            put(f"{self._name}/{self._metadata.encode_chunk_key(place)}", self._encode_chunk(place, origin, pixels))

        list(self._threads.map(work, itertools.product(*ranges)))

    def _encode_chunk(self, place: tuple[int, ...], origin: tuple[int, ...], pixels: Array) -> Any:
        part = pixels[
            tuple(slice(p * n - o, (p + 1) * n - o) for p, n, o in zip(place, self._shape, origin, strict=True))
        ]
        if all_fill(part, self._variable):
            return None
        if part.shape != self._shape:  # the array's end cuts this chunk: the rest of it is fill value
            whole = np.full(self._shape, self._variable.np_fill, part.dtype)
            whole[tuple(slice(n) for n in part.shape)] = part
            part = whole
        encoded = self._transform.encode_chunk(
            self._prototype.nd_buffer.from_numpy_array(np.ascontiguousarray(part)), self._chunk_spec
        )
        assert encoded is not None, "only a shard of fill value encodes to nothing, and that was found above"
        return encoded


class WindowWriter(WindowEncoder):
    """Writes into one variable's array through a session (a fork, on a worker)."""

    def write(self, index: tuple[slice, ...], pixels: Array) -> None:
        """Write ``pixels`` at ``index``, as :meth:`encode` takes them. Raises what the store raises."""
        self.encode(index, pixels, self._put)

    def _put(self, key: str, encoded: Any) -> None:
        from zarr.core.sync import sync

        if encoded is not None:
            sync(self._store.set(key, encoded))
        elif sync(self._store.exists(key)):  # of an earlier time, or of someone who kept no record
            sync(self._store.delete(key))


@contextmanager
def open_encoder(session: icechunk.Session, variable: Variable, layout: str = "") -> Iterator[WindowEncoder]:
    """A :class:`WindowEncoder` with threads of its own; nothing is written. ``layout`` is the store's ``layout_key``."""
    with ThreadPoolExecutor(ENCODERS, thread_name_prefix="cubeingest-encode") as threads:
        yield WindowEncoder(session, variable, threads, layout)


@contextmanager
def open_writer(session: icechunk.Session, variable: Variable, layout: str = "") -> Iterator[WindowWriter]:
    """A :class:`WindowWriter` with threads of its own. ``layout`` is the store's ``layout_key``."""
    with ThreadPoolExecutor(ENCODERS, thread_name_prefix="cubeingest-encode") as threads:
        yield WindowWriter(session, variable, threads, layout)


def is_fill(pixels: Array, variable: Variable) -> Array:
    """Where pixels are the fill value; NaN is equal to NaN here."""
    fill = variable.np_fill
    result: Array = np.isnan(pixels) if np.isnan(fill) else pixels == fill
    return result


def all_fill(pixels: Array, variable: Variable) -> bool:
    """Whether there is nothing but fill value. Looks at a few rows at a time: most chunks are told by the first."""
    rows = pixels.shape[-2]
    step = max(1, rows // 64)
    return all(bool(is_fill(pixels[..., i : i + step, :], variable).all()) for i in range(0, rows, step))
