"""Values of cells that lie anywhere in one array, read in bounded memory and only from chunks that are there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import StoreError
from cubeingest.look.samples import BYTES_PER_SECOND, CHUNK_SECONDS, LIST_FROM, LISTED_AT_ONCE, MOST_BYTES
from cubeingest.spec import Variable

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt

Array = np.ndarray[Any, Any]


def read_scattered(
    session: icechunk.Session, variable: Variable, index: tuple[int, ...], positions: npt.NDArray[np.int64]
) -> Array:
    """Values of a variable's cells at ``positions`` along its last dimension, of any shape, at an index on each axis; the fill value at -1, and where
    nothing is stored.

    Raises :class:`StoreError` if they cannot be read.
    """
    import zarr

    wanted, back = np.unique(positions, return_inverse=True)
    out = np.full(wanted.size, variable.np_fill)
    first = int(np.searchsorted(wanted, 0))
    stored = variable.write_shape[-1]
    chunks = wanted // stored
    each, starts = np.unique(chunks[first:], return_index=True)
    if each.size >= LIST_FROM:
        is_there = np.isin(each, stored_chunks(session, variable, index))
    else:
        is_there = np.ones(each.size, bool)
    ends = np.append(starts[1:], wanted.size - first)
    size = math.prod(variable.chunks) * variable.np_dtype.itemsize * max(1, stored // variable.chunks[-1])
    at_once = max(1, MOST_BYTES // size)
    held = np.flatnonzero(is_there)
    try:
        array = zarr.open_array(session.store, path=variable.name, mode="r")
        for k in range(0, held.size, at_once):
            some = held[k : k + at_once]
            at = first + np.concatenate([np.arange(starts[i], ends[i]) for i in some.tolist()])
            places = tuple(np.full(at.size, i) for i in index)
            out[at] = array.get_coordinate_selection((*places, wanted[at]))
    except (RuntimeError, ValueError) as e:
        raise StoreError(
            f"cells of {variable.name!r} cannot be read: {' '.join(str(e).split())[:160]} (`cubeingest check --deep` finds where)"
        ) from e
    found: Array = out[back].reshape(positions.shape)
    return found


def reading_seconds(
    session: icechunk.Session, variable: Variable, index: tuple[int, ...], positions: npt.NDArray[np.int64]
) -> float:
    """About how long it takes to read cells at ``positions``: whole chunks are decoded, and those of a shard one after another."""
    inner = variable.chunks[-1]
    wanted = np.unique(positions[positions >= 0] // inner)
    each = CHUNK_SECONDS + math.prod(variable.chunks) * variable.np_dtype.itemsize / BYTES_PER_SECOND
    if wanted.size < LIST_FROM:
        return wanted.size * each  # as if all were there: not worth a look
    held = stored_chunks(session, variable, index)
    return int(np.isin(wanted * inner // variable.write_shape[-1], held).sum()) * each


def stored_chunks(session: icechunk.Session, variable: Variable, index: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Which chunks (shards, where there are shards) along the last dimension there are, at an index on each axis; ascending."""
    from zarr.core.sync import sync

    leading = np.array([i // c for i, c in zip(index, variable.write_shape, strict=False)], np.int64)
    found: list[Array] = []

    async def collect() -> None:
        async for batch in session.store.array_chunk_iterator(f"/{variable.name}", batch_size=LISTED_AT_ONCE):
            coordinates = batch[0]
            found.append(coordinates[(coordinates[:, : leading.size] == leading).all(axis=1), -1])

    sync(collect())
    return np.unique(np.concatenate(found)).astype(np.int64) if found else np.zeros(0, np.int64)
