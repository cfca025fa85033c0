"""What a read of positions takes from the store: which objects, in how many requests, how many bytes. As Zarr reads them.

An object that is not there costs Zarr a question, but the store no request, since the chunk index knows; one that lies in a manifest comes with it.
Of a shard, Zarr reads all in one request if every chunk that it could hold is wanted. Otherwise it reads the shard's index, and then the
ranges of the chunks that are there, of which near ones come in one request.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.contents import ASKED_SINGLY, INLINE, Objects, Pieces, ask_objects, list_objects
from cubeingest.cost.positions import Positions
from cubeingest.errors import StoreError
from cubeingest.spec import Variable
from cubeingest.store import open_array

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt

Along = list["npt.NDArray[np.int64]"]
"""Indices of pieces along each dimension of a variable, in order, each once."""

INDEXES_READ = 1_000
"""Shards whose index is read, at most; of more as many are read, evenly spread, and the rest are taken to be alike."""

AT_ONCE = 32
"""Requests that are under way at a time."""

NO_CHUNK = np.uint64(2**64 - 1)
"""In a shard's index, the place and the length of a chunk that is not there."""


@dataclass(frozen=True)
class Reads:
    """What a read takes. ``chunks`` are touched, of which ``present`` are there; ``shards`` likewise, 0 where there are none.

    ``gets`` are Zarr's questions to Icechunk, of which ``requests`` go to the store; ``stored`` the bytes that it gets, of which ``inline`` come with
    the manifests; ``decoded`` those of the pixels that they become. ``rounds`` is how often one request must wait for another. Counts of chunks in shards,
    and what follows from them, are estimates unless ``is_exact``.
    """

    chunks: int = 0
    present: int = 0
    shards: int = 0
    shards_present: int = 0
    gets: int = 0
    requests: int = 0
    stored: int = 0
    inline: int = 0
    decoded: int = 0
    rounds: int = 0
    is_exact: bool = True

    def __add__(self, other: Reads) -> Reads:
        added = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Reads(**added | {"rounds": max(self.rounds, other.rounds), "is_exact": self.is_exact and other.is_exact})


def pieces_along(positions: Sequence[Positions], piece: Sequence[int]) -> Along:
    """Indices of the pieces (chunks, shards) that hold positions, along each dimension."""
    return [p.pieces(size) for p, size in zip(positions, piece, strict=True)]


def touched_objects(session: icechunk.Session, variable: Variable, pieces: Pieces, along: Along) -> Iterator[Objects]:
    """The objects that are there at every combination of indices ``along`` the dimensions."""
    if prod(map(len, along)) <= ASKED_SINGLY:
        index = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, len(along))
        keys = _keys(session, variable)
        yield ask_objects(session, variable.name, index, [keys(place) for place in index.tolist()])
        return
    wanted = [np.zeros(count, bool) for count in pieces.counts]
    for chosen, index in zip(wanted, along, strict=True):
        chosen[index] = True
    for batch in list_objects(session, variable.name, pieces):
        keep = np.ones(len(batch), bool)
        for d, chosen in enumerate(wanted):
            keep &= chosen[batch.index[:, d]]
        yield batch[keep]


def _keys(session: icechunk.Session, variable: Variable) -> Any:
    metadata: Any = open_array(session, variable.name).metadata
    return lambda place: f"{variable.name}/{metadata.encode_chunk_key(tuple(place))}"


def count_reads(session: icechunk.Session, variable: Variable, pieces: Pieces, positions: Sequence[Positions]) -> Reads:
    """What it takes to read ``positions`` of a variable, whose ``pieces`` are its objects."""
    along = pieces_along(positions, pieces.piece)
    n_chunks = prod(map(len, pieces_along(positions, variable.chunks)))
    chunk_bytes = prod(variable.chunks) * variable.np_dtype.itemsize
    if variable.shards:
        reads = _Shards(session, variable, positions).count(touched_objects(session, variable, pieces, along))
        n_shards = prod(map(len, along))
        gets = reads.gets + n_shards - reads.shards_present  # those that are not there are asked for too
        return replace(reads, chunks=n_chunks, shards=n_shards, gets=gets, decoded=reads.present * chunk_bytes)
    there = stored = in_manifests = inline = 0
    for objects in touched_objects(session, variable, pieces, along):
        within = objects.kinds == INLINE
        there += len(objects)
        stored += int(objects.lengths.sum())
        in_manifests += int(np.count_nonzero(within))
        inline += int(objects.lengths[within].sum())
    requests = there - in_manifests
    return Reads(
        chunks=n_chunks, present=there, gets=n_chunks, requests=requests, stored=stored, inline=inline,
        decoded=there * chunk_bytes, rounds=min(1, requests),
    )  # fmt: skip


# ---- shards ---------------------------------------------------------------------------------------------------


class _Shards:
    """How positions fall into the shards of one variable."""

    def __init__(self, session: icechunk.Session, variable: Variable, positions: Sequence[Positions]) -> None:
        assert variable.shards is not None
        self.session, self.variable = session, variable
        self.inner = tuple(s // c for s, c in zip(variable.shards, variable.chunks, strict=True))
        """Chunks that a shard could hold, along each dimension."""
        self.along = pieces_along(positions, variable.chunks)
        self.codec = self._codec()
        self.index_bytes = 16 * prod(self.inner) + 4

    def _codec(self) -> Any:
        metadata: Any = open_array(self.session, self.variable.name).metadata
        codec = metadata.codecs[0]
        names = [c.to_dict()["name"] for c in codec.index_codecs]
        if len(metadata.codecs) != 1 or names != ["bytes", "crc32c"]:
            raise StoreError(
                f"the shards of {self.variable.name!r} have an index of another form than cubeingest writes ({', '.join(names)})"
            )
        return codec

    def count(self, batches: Iterator[Objects]) -> Reads:
        """What it takes to read those that are there; ``gets`` does not know of the others."""
        parts, wholes = [], []
        for objects in batches:
            is_whole = self._are_whole(objects.index)
            wholes.append(objects[is_whole])
            parts.append(objects[~is_whole])
        return self._count(_join(wholes), True) + self._count(_join(parts), False)

    def _are_whole(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether every chunk that a shard could hold is touched: never where it reaches past the end of the array."""
        whole = np.ones(len(index), bool)
        for d, (touched, inner) in enumerate(zip(self.along, self.inner, strict=True)):
            whole &= np.bincount(touched // inner, minlength=int(index[:, d].max(initial=0)) + 1)[index[:, d]] == inner
        return whole

    def _count(self, shards: Objects, is_whole: bool) -> Reads:
        """Of shards that are all read whole, or all in parts."""
        n = len(shards)
        if not n:
            return Reads()
        rows = np.arange(n) if n <= INDEXES_READ else np.linspace(0, n - 1, INDEXES_READ).round().astype(int)
        found = Reads()
        for few in itertools.batched(rows.tolist(), AT_ONCE):
            some = shards[list(few)]
            for place, kind, index in zip(
                some.index.tolist(), some.kinds.tolist(), self._read_indexes(some), strict=True
            ):
                found += self._of_one(place, kind, index)
        share = n / len(rows)
        within = shards.kinds == INLINE
        if is_whole:  # all but what lies in them is known of every one
            exact = {
                "gets": n, "requests": int(np.count_nonzero(~within)), "stored": int(shards.lengths.sum()),
                "inline": int(shards.lengths[within].sum()), "present": round(found.present * share),
            }  # fmt: skip
        else:
            exact = {k: round(getattr(found, k) * share) for k in ("gets", "requests", "stored", "inline", "present")}
        rounds = min(exact["requests"], 1 if is_whole else 2)
        return Reads(shards_present=n, rounds=rounds, is_exact=len(rows) == n, **exact)

    def _read_indexes(self, shards: Objects) -> list[npt.NDArray[np.uint64]]:
        """(offset, length) of each chunk of each shard."""
        from zarr.abc.store import RangeByteRequest, SuffixByteRequest
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.sync import sync

        keys, prototype = _keys(self.session, self.variable), default_buffer_prototype()
        at_end = self.codec.index_location == "end"
        where = SuffixByteRequest(self.index_bytes) if at_end else RangeByteRequest(0, self.index_bytes)

        async def get_all() -> list[Any]:
            return await asyncio.gather(
                *(self.session.store.get(keys(place), prototype, where) for place in shards.index.tolist())
            )

        shape = (*self.inner, 2)
        return [np.frombuffer(b.to_bytes()[:-4], "<u8").reshape(shape) for b in sync(get_all())]

    def _of_one(self, place: list[int], kind: int, index: npt.NDArray[np.uint64]) -> Reads:
        """Of one shard that is there, read in parts; of one that is read whole only ``present`` is right."""
        wanted = [t[t // n == i] % n for t, n, i in zip(self.along, self.inner, place, strict=True)]
        touched = index[np.ix_(*wanted)].reshape(-1, 2)
        there = touched[touched[:, 0] != NO_CHUNK].astype(np.int64)
        ranges = merge_ranges(there[:, 0], there[:, 0] + there[:, 1])
        gets, stored = 1 + len(ranges), self.index_bytes + sum(stop - start for start, stop in ranges)
        in_manifest = kind == INLINE
        return Reads(
            present=len(there),
            gets=gets,
            requests=0 if in_manifest else gets,
            stored=stored,
            inline=stored if in_manifest else 0,
        )


def _join(parts: list[Objects]) -> Objects:
    parts = [p for p in parts if len(p)]
    if not parts:
        return Objects(np.zeros((0, 0), np.int64), np.zeros(0, np.uint8), np.zeros(0, np.int64))
    columns = zip(*((p.index, p.kinds, p.lengths) for p in parts), strict=True)
    return Objects(*map(np.concatenate, columns))


def merge_ranges(starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The ranges that Zarr requests for those that it wants of a shard: near ones become one, gap and all, up to some size; by Zarr's own settings."""
    import zarr

    gap, most = (int(zarr.config.get(f"array.sharding_coalesce_max_{name}bytes")) for name in ("gap_", ""))
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(zip(starts.tolist(), stops.tolist(), strict=True)):
        if merged and start - merged[-1][1] <= gap and max(stop, merged[-1][1]) - merged[-1][0] <= most:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
