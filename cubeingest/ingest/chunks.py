"""A slot's chunks as they are stored: which there are, their bytes, put and taken several at a time."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cubeingest.checksum import BlocksChecksum
from cubeingest.mosaic import SlotShape
from cubeingest.spec import Variable
from cubeingest.store import delete_present, open_array

if TYPE_CHECKING:
    import icechunk

AT_ONCE = 32
"""Chunks that are taken at a time, at most."""

TAKEN_BYTES = 32 * 2**20
"""Bytes of chunks, before compression, that are taken at a time; at least one chunk."""

ChunkIndex = tuple[int, ...]
"""A chunk's, in its array."""


class Chunks:
    """The chunks of one variable in a session, as bytes. ``layout`` is the store's ``layout_key``."""

    def __init__(self, session: icechunk.Session, variable: Variable, layout: str = "") -> None:
        from zarr.core.buffer import default_buffer_prototype

        self.array = open_array(session, variable.name, "r", layout)
        metadata: Any = self.array.metadata  # of Zarr v3: Icechunk holds no other
        self._key_of, self._prefix = metadata.encode_chunk_key, variable.name
        n_bytes = math.prod(variable.chunks) * variable.np_dtype.itemsize
        self._at_once = max(1, min(AT_ONCE, TAKEN_BYTES // n_bytes))
        self._store, self._prototype = session.store, default_buffer_prototype()

    def key(self, index: ChunkIndex) -> str:
        """The store's key of a chunk."""
        return f"{self._prefix}/{self._key_of(index)}"

    def put(self, contents: Mapping[ChunkIndex, bytes]) -> None:
        """Store chunks."""
        from zarr.core.sync import sync

        make = self._prototype.buffer.from_bytes

        async def store() -> None:
            await asyncio.gather(*(self._store.set(self.key(index), make(c)) for index, c in contents.items()))

        sync(store())

    def clear(self, indices: Iterable[ChunkIndex]) -> None:
        """Take away the chunks at ``indices`` that are there, of an earlier time."""
        delete_present(self._store, [self.key(i) for i in indices])

    def take(self, indices: Sequence[ChunkIndex]) -> Iterator[tuple[ChunkIndex, bytes]]:
        """The bytes of the chunks that are there of ``indices``, in their order; of references, those that they mean.

        Raises what the store raises.
        """
        from zarr.core.sync import sync

        async def get(part: Sequence[ChunkIndex]) -> list[Any]:
            found = (self._store.get(self.key(index), self._prototype) for index in part)
            return await asyncio.gather(*found, return_exceptions=True)

        for part in itertools.batched(indices, self._at_once):
            for index, found in zip(part, sync(get(part)), strict=True):
                if isinstance(found, BaseException):
                    raise found
                if found is not None:
                    yield index, found.to_bytes()


def indices_in(shape: SlotShape, variable: Variable) -> list[ChunkIndex]:
    """Indices of all chunks of a slot, in C order."""
    parts = (*shape.axes, *shape.space)
    ranges = (range(s.start // n, -(-s.stop // n)) for s, n in zip(parts, variable.chunks, strict=True))
    return list(itertools.product(*ranges))


def stored_checksum(session: icechunk.Session, variable: Variable, shape: SlotShape) -> str:
    """The checksum of a slot's chunks as they are stored."""
    checksum = BlocksChecksum()
    for index, content in Chunks(session, variable).take(indices_in(shape, variable)):
        checksum.update(index, content)
    return checksum.hexdigest()
