"""Arrays of a cube: what describes them is read once a process for each layout that the cube has."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import icechunk
    import zarr

_described: dict[tuple[str, str], Any] = {}
"""Metadata by layout and path. A worker opens the same few arrays for every slot, which took longer than a small commit."""


def open_array(
    session: icechunk.Session, path: str, mode: Literal["r", "r+"] = "r", layout: str = ""
) -> zarr.Array[Any]:
    """The array at ``path``. With ``layout`` (the store's ``layout_key``) only its chunks are to be
    used: attributes may be of an earlier time.
    """
    import zarr
    from zarr.storage import StorePath

    known = _described.get((layout, path)) if layout else None
    if known is None:
        array = zarr.open_array(session.store, path=path, mode=mode)
        if layout:
            _described[layout, path] = array.metadata
        return array
    return zarr.Array(zarr.AsyncArray(metadata=known, store_path=StorePath(session.store, path)))


def read_window(array: zarr.Array[Any], axes: Sequence[slice], y: slice, x: slice) -> np.ndarray[Any, Any]:
    """(axes..., rows, columns) of an array; one with a single spatial dimension (cells of HEALPix) has one row."""
    if array.ndim == len(axes) + 2:
        return np.asarray(array[(*axes, y, x)])
    return np.asarray(array[(*axes, x)])[..., np.newaxis, :]


def delete_present(store: icechunk.IcechunkStore, keys: Sequence[str]) -> None:
    """Take away what lies at ``keys``, as far as anything does: chunks of an earlier time, or of someone who kept no record."""
    from zarr.core.sync import sync

    async def delete() -> None:
        for several in itertools.batched(keys, 1000):
            there = await asyncio.gather(*map(store.exists, several))
            await asyncio.gather(*map(store.delete, itertools.compress(several, there)))

    if keys:
        sync(delete())


def put_chunk(session: icechunk.Session, array: zarr.Array[Any], index: tuple[int, ...], content: bytes) -> None:
    """Put a chunk that is encoded already into a session."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    metadata: Any = array.metadata
    key = f"{array.path}/{metadata.encode_chunk_key(index)}"
    sync(session.store.set(key, default_buffer_prototype().buffer.from_bytes(content)))
