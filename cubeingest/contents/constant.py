"""How many of the chunks that are there hold one value only.

Their size alone does not tell: two halves of one value each may take no more bytes than one. But a chunk of one value takes few, and how many at
most is found by encoding some with the array's own codecs. So those that take no more are candidates, and these, or as many of them as is quick,
are read: they are tiny.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.contents.index import Pieces
from cubeingest.spec import Variable
from cubeingest.store import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import icechunk
    import numpy.typing as npt
    import zarr

READ = 2_000
"""Candidates that are read of a variable, spread evenly over all: an estimate from so many is within 2 % of the candidates, 19 times in 20."""

READ_BYTES = 16 * 2**10
"""Bytes of a candidate, at most: chunks of one value that are larger than that, as without compression, are not looked for."""

SLACK, SLACK_BYTES = 2, 64
"""What is added to the bytes of a chunk of one value: other values and other encoders may take some more. Too many only means more to read."""

AT_ONCE = 64
"""Requests that are under way at a time."""


@dataclass(frozen=True)
class Constant:
    """Chunks of one value among those that are there. ``count`` is exact if all ``candidates`` were ``read``, else an estimate from those that were;
    None if it could not be told, for the reason in ``why_not``. ``at_most`` are a candidate's bytes.
    """

    count: int | None
    candidates: int = 0
    read: int = 0
    at_most: int = 0
    why_not: str = ""

    @property
    def is_exact(self) -> bool:
        return self.count is not None and self.read == self.candidates

    def to_json(self) -> dict[str, Any]:
        return {
            "count": self.count, "exact": self.is_exact, "candidates": self.candidates, "read": self.read, "at_most_bytes": self.at_most,
            "why_not": self.why_not or None,
        }  # fmt: skip


class Candidates:
    """Chunks of no more than ``at_most`` bytes: all of them counted, up to twice ``READ`` kept, evenly spread."""

    def __init__(self, at_most: int) -> None:
        self.at_most, self.count = at_most, 0
        self._kept: list[npt.NDArray[np.int64]] = []
        self._every = 1

    def add(self, index: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> None:
        found = index[lengths <= self.at_most]
        first = -self.count % self._every
        self.count += len(found)
        self._kept.append(found[first :: self._every])
        while sum(map(len, self._kept)) > 2 * READ:
            self._kept = [np.concatenate(self._kept)[::2]]
            self._every *= 2

    def chosen(self) -> npt.NDArray[np.int64]:
        """Those to read: all if they are few."""
        kept = np.concatenate(self._kept) if self._kept else np.zeros((0, 0), np.int64)
        if len(kept) <= READ:
            return kept
        spread: npt.NDArray[np.int64] = kept[np.linspace(0, len(kept) - 1, READ).round().astype(int)]
        return spread


def bytes_of_constant(array: zarr.Array[Any], variable: Variable, pieces: Pieces) -> int:
    """Bytes that a chunk of one value takes, at most. Chunks at the end of the array are filled up with the fill value."""
    ends = [sorted({int(lengths[0]), int(lengths[-1])}) for lengths in pieces.lengths]
    largest = 0
    for shape in itertools.product(*ends):
        scratch, store = _scratch(array, variable, shape)
        for value in _values(variable):
            scratch[...] = value
            largest = max(largest, *(len(b) for key, b in store.items() if not key.endswith(".json")))
    return SLACK * largest + SLACK_BYTES


def _values(variable: Variable) -> list[np.generic]:
    """Some values other than the fill value: all bytes different, all alike, few bits."""
    dtype = variable.np_dtype
    texts = (bytes(range(1, dtype.itemsize + 1)), b"\x55" * dtype.itemsize)
    patterns = [np.frombuffer(t, dtype)[0] for t in texts] if dtype.kind != "b" else []
    same = variable.np_fill.tobytes()
    return [v for v in [*patterns, dtype.type(0), dtype.type(1)] if v.tobytes() != same]


def _scratch(
    array: zarr.Array[Any], variable: Variable, shape: tuple[int, ...]
) -> tuple[zarr.Array[Any], dict[str, Any]]:
    """An array in memory of one chunk, encoded as ``array``'s are; and what it is kept in."""
    import zarr

    held: dict[str, Any] = {}
    serializer: Any = array.serializer
    made = zarr.create_array(
        zarr.storage.MemoryStore(held), shape=shape, chunks=variable.chunks, dtype=array.dtype, fill_value=array.fill_value,
        filters=array.filters, compressors=array.compressors, serializer=serializer,
    )  # fmt: skip
    return made, held


def count_constant(
    session: icechunk.Session, array: zarr.Array[Any], variable: Variable, pieces: Pieces, found: Candidates
) -> Constant:
    """Read candidates, and say how many chunks are of one value."""
    import icechunk
    from zarr.core.sync import sync

    index = found.chosen()
    metadata: Any = array.metadata
    is_constant = _judge(array, variable, pieces)

    async def get(place: list[int]) -> Any:
        from zarr.core.buffer import default_buffer_prototype

        return await session.store.get(
            f"{variable.name}/{metadata.encode_chunk_key(tuple(place))}", default_buffer_prototype()
        )

    async def get_all(places: tuple[list[int], ...]) -> list[Any]:
        return await asyncio.gather(*map(get, places))

    constant = 0
    try:
        for places in itertools.batched(index.tolist(), AT_ONCE):
            contents = sync(get_all(places))
            constant += sum(is_constant(b.to_bytes(), tuple(p)) for p, b in zip(places, contents, strict=True))
    except (icechunk.IcechunkError, RuntimeError, ValueError) as e:
        reason = " ".join(reason_of(e).split()).partition(", ")[0][:120]
        return Constant(None, found.count, 0, found.at_most, f"a chunk cannot be read ({reason})")
    count = round(found.count * constant / len(index)) if len(index) else 0
    return Constant(count, found.count, len(index), found.at_most)


def _judge(array: zarr.Array[Any], variable: Variable, pieces: Pieces) -> Callable[[bytes, tuple[int, ...]], bool]:
    """What tells whether a chunk's content at an index is of one value, within the array. Equal contents, of which there are many, are decoded once."""

    @cache
    def scratch(shape: tuple[int, ...]) -> tuple[zarr.Array[Any], dict[str, Any]]:
        return _scratch(array, variable, shape)

    @cache
    def decoded(content: bytes, shape: tuple[int, ...]) -> bool:
        made, held = scratch(shape)
        metadata: Any = made.metadata
        held[metadata.encode_chunk_key((0,) * len(shape))] = _buffer(content)
        pixels = np.asarray(made[...]).reshape(-1)
        bits = pixels.view(f"u{pixels.dtype.itemsize}")  # so that NaN is NaN
        return bool((bits == bits[0]).all())

    def judge(content: bytes, index: tuple[int, ...]) -> bool:
        shape = tuple(int(lengths[i]) for lengths, i in zip(pieces.lengths, index, strict=True))
        return prod(shape) == 1 or decoded(content, shape)

    return judge


def _buffer(content: bytes) -> Any:
    from zarr.core.buffer import default_buffer_prototype

    return default_buffer_prototype().buffer.from_bytes(content)
