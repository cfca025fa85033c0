"""What shape of chunks would suit a read better. Pure."""

from __future__ import annotations

import math
from math import prod
from typing import TYPE_CHECKING

from cubeingest.cost.positions import Positions
from cubeingest.cost.reads import Reads, pieces_along
from cubeingest.spec import CubeSpec, Variable

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD = 10.0
"""Bytes decoded for each one asked from which on there is advice."""

ENOUGH_BYTES = 1_000_000
"""Bytes decoded up to which no shape of chunks is much better than another: that is one request, and milliseconds."""

LITTLE = 0.5
"""Share of a chunk's length that is wanted, up to which a shorter chunk is better."""

LEAST_BYTES = 65_536
"""Bytes of a chunk, before compression, below which requests cost more than what they bring."""


def advise(spec: CubeSpec, variable: Variable, positions: Sequence[Positions], reads: Reads, asked: int) -> str:
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


def better_chunks(spec: CubeSpec, variable: Variable, positions: Sequence[Positions]) -> tuple[int, ...]:
    """A shape of about as many bytes as now: longer along dimensions where several chunks are touched, as far as what is asked goes, and
    shorter along those where little of a chunk is wanted. If no dimension is of the first kind, smaller chunks; if none of the second, the same.
    """
    old = variable.chunks
    touched = [len(a) for a in pieces_along(positions, old)]
    used = [len(p) / (n * c) for p, n, c in zip(positions, touched, old, strict=True)]
    loose = [d for d, share in enumerate(used) if share <= LITTLE]
    if not loose:
        return old
    growths = [
        max(1.0, p.span / c) if n > 1 and share > LITTLE else 1.0
        for p, c, n, share in zip(positions, old, touched, used, strict=True)
    ]
    wanted, most = prod(growths), prod(old[d] for d in loose)
    if wanted > most:
        growths = [g ** (math.log(most) / math.log(wanted)) for g in growths]
    shrink = prod(growths)
    if shrink == 1:
        shrink = max(1.0, prod(old) * variable.np_dtype.itemsize / LEAST_BYTES)
    out = list(old)
    for d, growth in enumerate(growths):
        ideal = old[d] / shrink ** (1 / len(loose)) if d in loose else old[d] * growth
        if ideal != old[d]:
            out[d] = _fitting(spec, variable, d, max(1.0, ideal))
    return tuple(out)


def _fitting(spec: CubeSpec, variable: Variable, d: int, ideal: float) -> int:
    """The length of a chunk that is nearest to ``ideal``: in space one that divides a region, along an axis any."""
    n_axes = len(variable.axes)
    if d < n_axes:
        return min(round(ideal), spec.axes_of(variable)[d].size)
    return _divisor(spec.grid.region_shape[d - n_axes], ideal)


def _divisor(whole: int, wanted: float) -> int:
    """The divisor of ``whole`` that is nearest to ``wanted``, by ratio."""
    divisors: Sequence[int] = [n for n in range(1, whole + 1) if whole % n == 0]
    return min(divisors, key=lambda n: max(n / wanted, wanted / n))


def _round(factor: float) -> str:
    return f"{factor:,.0f}" if factor >= 10 else f"{factor:.1f}"
