"""How large the objects of an array are: every length with how often it occurs, so that whatever is asked of them is exact."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

HELD = 1_000_000
"""Lengths that are held before they are counted: 8 MB. Once counted they take 16 bytes for each *different* one."""


@dataclass
class Sizes:
    """Lengths, in bytes, with their counts. Fill it with :meth:`add`."""

    _held: list[npt.NDArray[np.int64]] = field(default_factory=list)
    _values: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _n_held: int = 0

    def add(self, lengths: npt.NDArray[np.int64]) -> None:
        self._held.append(lengths)
        self._n_held += len(lengths)
        if self._n_held >= HELD:
            self._count()

    def _count(self) -> None:
        values, counts = np.unique(np.concatenate([*self._held, np.zeros(0, np.int64)]), return_counts=True)
        both = np.concatenate([self._values, values])
        self._values, where = np.unique(both, return_inverse=True)
        summed = np.zeros(len(self._values), np.int64)
        np.add.at(summed, where, np.concatenate([self._counts, counts]))
        self._counts, self._held, self._n_held = summed, [], 0

    @property
    def counted(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The different lengths in order, and how many there are of each."""
        if self._held:
            self._count()
        return self._values, self._counts

    @property
    def smallest(self) -> int | None:
        values, _ = self.counted
        return int(values[0]) if values.size else None

    @property
    def largest(self) -> int | None:
        values, _ = self.counted
        return int(values[-1]) if values.size else None

    @property
    def median(self) -> int | None:
        """The length in the middle; of an even number the lower of the two."""
        values, counts = self.counted
        if not values.size:
            return None
        return int(values[np.searchsorted(np.cumsum(counts), (counts.sum() + 1) // 2)])

    def histogram(self) -> dict[int, int]:
        """{from so many bytes, a power of two, to below its double: how many}, with every power from the smallest to the largest."""
        values, counts = self.counted
        if not values.size:
            return {}
        powers = np.maximum(np.frexp(values.astype(np.float64))[1] - 1, 0)
        found = np.bincount(powers, weights=counts).astype(np.int64)
        return {2 ** int(p): int(found[p]) for p in range(int(powers.min()), int(powers.max()) + 1)}
