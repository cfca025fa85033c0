"""The fill value of a variable: the files' nodata, or one that the pixels do not hold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cubeingest.inference.tiles import Seen, sample_values


@dataclass(frozen=True)
class Fill:
    """A fill value, why it is that, and the tiles (as a note) that say something else."""

    value: float | int
    why: str
    note: str = ""


def choose_fill(tiles: Sequence[Seen], dtype: str) -> Fill:
    """The fill value for tiles of one dtype. Reads pieces of some where no nodata is declared."""
    kind = np.dtype(dtype).kind
    declared = Counter(n for t in tiles for n in t.nodata)
    (most, count), total = declared.most_common(1)[0], sum(declared.values())
    if most is None and len(declared) > 1:
        most, count = next((n, c) for n, c in declared.most_common() if n is not None)
    note = ""
    if count < total:
        others = ", ".join("none" if n is None else repr(n) for n in declared if n != most)
        note = (
            f"nodata differs: {most!r} in most bands, {others} in others; each file's own is used, and a file whose valid pixels equal "
            "the fill value is refused"
        )
    if kind == "f":
        if most is None:
            return Fill(math.nan, "the files declare no nodata", note)
        return Fill(
            math.nan, "the files' nodata" if math.isnan(most) else f"the files' nodata, {most!r}, becomes NaN", note
        )
    if most is not None:
        return Fill(int(most), "the files' nodata", note)
    seen, n = sample_values(tiles)
    unused = next((v for v in _candidates(np.iinfo(dtype)) if v not in seen), None)
    where = f"the middle of {n} tiles" if n > 1 else "the tile's middle"
    given = next((v for t in tiles for v in t.header.nodata if v is not None), None)
    why = "no nodata is declared" if given is None else f"the declared nodata, {given!r}, is no {dtype}"
    if unused is None:
        return Fill(
            _last(np.iinfo(dtype)), f"a guess: {why}, and {where} holds every value: a larger dtype may be needed"
        )
    return Fill(unused, f"a guess: {why}, and {where} does not hold it")


def _candidates(limits: Any) -> Iterator[int]:
    """Values of an integer dtype that seldom mean anything, then, of a small one, all others."""
    low, high = int(limits.min), int(limits.max)
    if low < 0:
        yield low
        if low < -9999:
            yield -9999
    yield from range(high, max(low, high - 256) - 1, -1)


def _last(limits: Any) -> int:
    return int(limits.min if limits.min < 0 else limits.max)


def common_kind(tiles: Sequence[Seen]) -> tuple[str, int]:
    """Dtype and number of bands of most tiles."""
    dtype, bands = Counter((t.header.dtypes[0], len(t.header.dtypes)) for t in tiles).most_common(1)[0][0]
    return dtype, bands


def is_possible(dtypes: Collection[str]) -> bool:
    """Whether a cube can hold bands of these dtypes in one array."""
    return (
        len(set(dtypes)) == 1
        and not next(iter(dtypes)).startswith("complex")
        and np.dtype(next(iter(dtypes))).kind in "iuf"
    )
