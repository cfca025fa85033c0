"""A variable's part of the chunk index: which chunks (shards, where there are shards) are there, how they are kept, their bytes.

Icechunk knows all of it without a chunk being read. What lies in the store as one object is called an object here: the shard, or the chunk
where there are none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.spec import CubeSpec, Variable

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt

NATIVE, VIRTUAL, INLINE = 1, 2, 3
"""How an object is kept, as Icechunk numbers it: a file of the cube's own, a reference to a part of another file, or in the manifest itself."""

KINDS = {NATIVE: "native", VIRTUAL: "virtual", INLINE: "inline"}

BATCH = 50_000
"""Objects of the chunk index that are held at a time. Measured with 4 M: larger batches are no quicker and hold more."""

ASKED_SINGLY = 2_000
"""Objects up to which each is asked for by itself, which takes only those manifests that hold them; from the list of all it is quicker then."""


@dataclass(frozen=True)
class Objects:
    """Objects that are there, a row each: where (indices along the variable's dimensions), how they are kept, bytes as stored."""

    index: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, rows: Any) -> Objects:
        return Objects(self.index[rows], self.kinds[rows], self.lengths[rows])


@dataclass(frozen=True)
class Pieces:
    """How one array is cut: its shape, and that of a piece (a chunk or a shard), by dimension."""

    shape: tuple[int, ...]
    piece: tuple[int, ...]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Pieces along each dimension."""
        return tuple(-(-n // p) for n, p in zip(self.shape, self.piece, strict=True))

    @property
    def total(self) -> int:
        return prod(self.counts)

    @cached_property
    def lengths(self) -> list[npt.NDArray[np.int64]]:
        """Elements within the array along each dimension, of every piece: the last may be short."""
        out = []
        for n, p, count in zip(self.shape, self.piece, self.counts, strict=True):
            lengths = np.full(count, p, np.int64)
            lengths[-1] = n - (count - 1) * p
            out.append(lengths)
        return out

    def elements(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Elements within the array of the pieces at ``index``, a row each."""
        out = np.ones(len(index), np.int64)
        for d, lengths in enumerate(self.lengths):
            out *= lengths[index[:, d]]
        return out

    def holds(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which rows of ``index`` are pieces of the array at all."""
        inside: npt.NDArray[np.bool_] = (index < self.counts).all(axis=1)
        return inside


def objects_of(spec: CubeSpec, variable: Variable) -> Pieces:
    """The objects that a variable is kept as."""
    return Pieces(spec.shape_of(variable), variable.write_shape)


def list_objects(session: icechunk.Session, path: str, pieces: Pieces) -> Iterator[Objects]:
    """The objects of an array that are there and lie within its shape, in batches."""
    from zarr.core.sync import sync  # its own thread, so that this works inside a notebook's event loop

    source = session.store.array_chunk_iterator(f"/{path}", batch_size=BATCH)
    batches = aiter(source)

    async def following() -> Any:
        return await anext(batches, None)

    while (columns := sync(following())) is not None:
        found = Objects(columns[0].astype(np.int64), columns[1], columns[4].astype(np.int64))
        inside = pieces.holds(found.index)
        yield found if inside.all() else found[inside]


def ask_objects(session: icechunk.Session, path: str, index: npt.NDArray[np.int64], keys: list[str]) -> Objects:
    """Those of the objects at ``index`` that are there, each asked for by itself; ``keys`` are their keys in the store."""
    from zarr.core.sync import sync

    async def ask(place: list[int], key: str) -> tuple[int, int]:
        told: Any = await session.chunk_type_async(f"/{path}", place)
        kind = int(told)
        return kind, (await session.store.getsize(key) if kind in KINDS else 0)

    async def ask_all() -> list[tuple[int, int]]:
        return await asyncio.gather(*map(ask, index.tolist(), keys))

    answers = np.array(sync(ask_all()), np.int64).reshape(-1, 2)
    there = np.isin(answers[:, 0], list(KINDS))
    return Objects(index[there], answers[there, 0].astype(np.uint8), answers[there, 1])


# ---- manifests ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Manifests:
    """The files that an array's chunk index lies in: how many, their bytes, together and of the largest."""

    count: int = 0
    bytes: int = 0
    largest: int = 0

    def to_json(self) -> dict[str, int]:
        return {"count": self.count, "bytes": self.bytes, "largest": self.largest}


def manifests_of(
    repo: icechunk.Repository, snapshot: str, path: str, along: Sequence[npt.NDArray[np.int64]] = ()
) -> Manifests:
    """The manifests of an array in a snapshot; of those at indices ``along`` its dimensions only those that could speak of them."""
    described = repo.inspect_snapshot(snapshot)
    sizes = {m["id"]: int(m["size_bytes"]) for m in described["manifests"]}
    found = set()
    for node in described["nodes"]:
        if node["path"] != f"/{path}":
            continue
        for ref in node["manifest_refs"]:
            spans = zip(ref["extents"], along, strict=False)
            if all(np.diff(np.searchsorted(index, span))[0] for span, index in spans):
                found.add(ref["id"])
    held = [sizes[m] for m in found]
    return Manifests(len(held), sum(held), max(held, default=0))
