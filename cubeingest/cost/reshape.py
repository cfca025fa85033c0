"""The same read of a cube with chunks of another shape: how many would be touched, and by an estimate, how many would be there and of how many bytes.

The estimate spreads the bytes of each object that is there evenly over its pixels, so that sparse and dense parts stay what they are. How much better or worse other chunks
compress is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.contents import INLINE, Objects, Pieces
from cubeingest.cost.positions import Positions
from cubeingest.cost.query import short_names
from cubeingest.cost.reads import Along, Reads, pieces_along, touched_objects
from cubeingest.errors import GridError, nearest
from cubeingest.spec import CubeSpec, Variable

if TYPE_CHECKING:
    import icechunk
    import numpy.typing as npt

MOST_OBJECTS = 50_000_000
"""Objects over which bytes are spread, at most: an array of so many is 400 MB."""


INLINE_BYTES = 512
"""Chunks up to this size lie in the manifest itself (Icechunk's default), and are no requests; where the cube has none such, it was told otherwise."""


def parse_chunks(spec: CubeSpec, text: str) -> dict[str, int]:
    """``year=1,y=2000,x=2000`` as a dict by dimension. Raises :class:`GridError` for what is none."""
    dims = spec.grid.dims
    names = short_names(spec)
    lengths = dict(zip(dims, (*(a.size for a in spec.grid.axes), *spec.grid.spatial_shape), strict=True))
    out: dict[str, int] = {}
    for piece in text.replace(",", " ").split():
        name, _, size = piece.partition("=")
        dim = names.get(name, name)
        if dim not in dims:
            raise GridError(
                f"compare {text}: no dimension {name!r}{nearest(name, list(dims))} (dimensions: {', '.join(dims)})"
            )
        if size != "-1" and (not size.isdecimal() or int(size) < 1):
            raise GridError(f"compare {text}: {piece!r} is not a chunk's length, such as {dim}=1000, or -1 for all")
        if dim in out:
            raise GridError(f"compare {text}: {dim} is given twice: write one length for each dimension")
        n = lengths[dim]
        out[dim] = n if size == "-1" else min(int(size), n)
    if not out:
        raise GridError(
            f"compare is empty: write a shape of chunks, such as {','.join(f'{d}=1000' for d in spec.grid.spatial_dims)}"
        )
    return out


def estimate_reads(
    session: icechunk.Session,
    variable: Variable,
    pieces: Pieces,
    positions: Sequence[Positions],
    chunks: tuple[int, ...],
) -> Reads:
    """What it would take to read ``positions`` from ``chunks`` of another shape, without shards. Raises :class:`GridError` if the part is too large."""
    along = pieces_along(positions, chunks)
    spans = [(int(a[0]) * c, min((int(a[-1]) + 1) * c, n)) for a, c, n in zip(along, chunks, pieces.shape, strict=True)]
    old = [np.arange(start // p, -(-stop // p)) for (start, stop), p in zip(spans, pieces.piece, strict=True)]
    if prod(map(len, old)) > MOST_OBJECTS:
        raise GridError(f"too many chunks to compare ({prod(map(len, old)):,}): ask of a smaller part")
    lengths, is_inline = _dense(touched_objects(session, variable, pieces, old), old)
    there = lengths > 0
    for d, (touched, first) in enumerate(zip(along, (o[0] for o in old), strict=True)):
        starts = touched * chunks[d]
        stops = np.minimum(starts + chunks[d], pieces.shape[d])
        lengths = _spread(lengths, d, starts, stops, int(first), pieces)
        there = _overlaps(there, d, starts // pieces.piece[d] - first, -(-stops // pieces.piece[d]) - first)
    n = prod(map(len, along))
    present = int(np.count_nonzero(there))
    stored = round(float(lengths[there].sum()))
    requests = int(np.count_nonzero(lengths[there] > INLINE_BYTES)) if is_inline else present
    decoded = present * prod(chunks) * variable.np_dtype.itemsize
    return Reads(
        chunks=n,
        present=present,
        gets=n,
        requests=requests,
        stored=stored,
        decoded=decoded,
        rounds=min(1, requests),
        is_exact=False,
    )


def _dense(batches: Any, along: Along) -> tuple[npt.NDArray[np.float64], bool]:
    """Bytes of each object of a box of them, 0 where there is none; and whether any lies within the manifest."""
    is_inline = False
    out = np.zeros([len(a) for a in along])
    first = np.array([a[0] for a in along])
    objects: Objects
    for objects in batches:
        out[tuple((objects.index - first).T)] = objects.lengths
        is_inline = is_inline or bool((objects.kinds == INLINE).any())
    return out, is_inline


def _spread(
    lengths: npt.NDArray[np.float64],
    d: int,
    starts: npt.NDArray[np.int64],
    stops: npt.NDArray[np.int64],
    first: int,
    pieces: Pieces,
) -> npt.NDArray[np.float64]:
    """Bytes that fall into the runs of elements from ``starts`` to ``stops`` along dimension ``d``; ``first`` is the object of the first row."""
    rows = np.moveaxis(lengths, d, 0)
    before = np.concatenate([np.zeros((1, *rows.shape[1:])), np.cumsum(rows, axis=0)])

    def up_to(edges: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        row = np.minimum(edges // pieces.piece[d] - first, len(rows) - 1)
        into = (edges - (row + first) * pieces.piece[d]) / pieces.lengths[d][row + first]
        part: npt.NDArray[np.float64] = before[row] + rows[row] * into.reshape(-1, *[1] * (rows.ndim - 1))
        return part

    return np.moveaxis(up_to(stops) - up_to(starts), 0, d)


def _overlaps(
    there: npt.NDArray[np.bool_], d: int, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether any row from ``starts`` to ``stops`` along dimension ``d`` is there."""
    rows = np.moveaxis(there, d, 0)
    before = np.concatenate([np.zeros((1, *rows.shape[1:]), np.int64), np.cumsum(rows, axis=0)])
    return np.moveaxis(before[stops] > before[starts], 0, d)
