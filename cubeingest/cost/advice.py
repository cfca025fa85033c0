"""What shape of chunks would suit a read better. Pure."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from cubeingest.cost.reads import Positions, Reads, pieces_along
from cubeingest.spec import CubeSpec, Variable

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD = 10.0
"""Bytes decoded for each one asked from which on there is advice."""

ENOUGH_BYTES = 1_000_000
"""Bytes decoded up to which no shape of chunks is much better than another: that is one request, and milliseconds."""

LEAST_BYTES = 65_536
"""Bytes of a chunk, before compression, below which requests cost more than what they bring."""


def advise(spec: CubeSpec, variable: Variable, positions: Positions, reads: Reads, asked: int) -> str:
    """Advice in a sentence or two; empty where the read is as it should be, or small."""
    itemsize = variable.np_dtype.itemsize
    if reads.decoded < BAD * asked or reads.decoded <= ENOUGH_BYTES:
        return ""
    better = better_chunks(spec, variable, positions)
    if better == variable.chunks:
        return ""
    named = ",".join(f"{dim}={n}" for dim, n in zip(variable.dims, better, strict=True))
    n = prod(map(len, pieces_along(positions, better)))
    were = prod(map(len, pieces_along(positions, variable.chunks)))
    text = (
        f"{_round(reads.decoded / asked)} bytes are decoded for each one asked. With chunks of {named} it would touch {n:,} "
        f"instead of {were:,}, each of {prod(better) * itemsize / 1e6:.3g} MB"
    )
    longer = [(dim, b, c) for dim, b, c in zip(variable.dims, better, variable.chunks, strict=True) if b > c]
    if longer:
        dim, b, c = longer[0]
        text += f"; a read at one value of {dim} would then decode {b / c:.3g} times as much as now"
    return f"{text} (--compare {named})"


def better_chunks(spec: CubeSpec, variable: Variable, positions: Positions) -> tuple[int, ...]:
    """A shape of about as many bytes as now: as long as what is asked along dimensions where several chunks are touched, shorter along
    those where little of a chunk is wanted. If there are only those, smaller chunks.
    """
    spans = [int(p[-1] - p[0]) + 1 for p in positions]
    touched = [len(a) for a in pieces_along(positions, variable.chunks)]
    used = [len(p) / (n * c) for p, n, c in zip(positions, touched, variable.chunks, strict=True)]
    out = [
        max(c, min(span, size)) if n > 1 and share > 0.5 else c
        for c, span, size, n, share in zip(variable.chunks, spans, spec.shape_of(variable), touched, used, strict=True)
    ]
    loose = [d for d, share in enumerate(used) if share <= 0.5]
    grown = prod(out) / prod(variable.chunks)
    if grown == 1:
        grown = max(1.0, prod(out) * variable.np_dtype.itemsize / LEAST_BYTES)
    for d in loose:
        wanted = max(1.0, out[d] / grown ** (1 / len(loose)))
        out[d] = _divisor(_whole_of(spec, variable, d), wanted)
    return tuple(out)


def _whole_of(spec: CubeSpec, variable: Variable, d: int) -> int:
    """What a chunk's length along a dimension must divide: the region's, or anything along an axis."""
    n_axes = len(variable.axes)
    return variable.chunks[d] if d < n_axes else spec.grid.region_shape_yx[d - n_axes]


def _divisor(whole: int, wanted: float) -> int:
    """The divisor of ``whole`` that is nearest to ``wanted``, by ratio."""
    divisors: Sequence[int] = [n for n in range(1, whole + 1) if whole % n == 0]
    return min(divisors, key=lambda n: max(n / wanted, wanted / n))


def _round(factor: float) -> str:
    return f"{factor:,.0f}" if factor >= 10 else f"{factor:.1f}"
