"""Positions along one dimension, as runs: a whole grid has millions, of which nobody needs a list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Positions:
    """Half-open ``runs`` of positions, in order, none touching the next; at least one."""

    runs: tuple[tuple[int, int], ...]

    @classmethod
    def joined(cls, runs: Iterable[tuple[int, int]]) -> Positions:
        """Positions of runs in any order, which may overlap or touch; empty ones do not count."""
        out: list[tuple[int, int]] = []
        for start, stop in sorted(r for r in runs if r[0] < r[1]):
            if out and start <= out[-1][1]:
                out[-1] = (out[-1][0], max(stop, out[-1][1]))
            else:
                out.append((start, stop))
        return cls(tuple(out))

    @classmethod
    def each(cls, positions: Iterable[int]) -> Positions:
        """Positions one by one."""
        return cls.joined((p, p + 1) for p in positions)

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.runs)

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.runs:
            yield from range(start, stop)

    @property
    def span(self) -> int:
        """From the first position to the last."""
        return self.runs[-1][1] - self.runs[0][0]

    def pieces(self, size: int) -> npt.NDArray[np.int64]:
        """Indices of the pieces (chunks, shards) of ``size`` positions that hold them, in order."""
        touched = Positions.joined((start // size, -(-stop // size)) for start, stop in self.runs)
        return np.concatenate([np.arange(start, stop) for start, stop in touched.runs])
