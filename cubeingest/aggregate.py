"""Points to statistics by cell, of all cells at once: the order that points come in never matters, not by a bit.

Points are brought together by cell with one sort, then reckoned in blocks of whole cells that fit into a core's cache.
What a cell gets depends on its own points alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cubeingest.errors import nearest
from cubeingest.expressions import Expression
from cubeingest.statistic import Statistic
from cubeingest.sums import reduce_runs, sum_integers, sum_parts, total
from cubeingest.wording import counted

Array = np.ndarray[Any, Any]
Function = Callable[[Array], Any]

BLOCK_POINTS = 1 << 16
"""Points reckoned at a time, as whole cells: some arrays of float64 that a core's cache holds; more calls of numpy if less."""
DENSE = 24
"""Points a cell from which sorting the cells one by one is quicker than all at once."""


@dataclass(frozen=True)
class Aggregated:
    """One statistic of the cells that have it, in ascending order of cells.

    ``values`` are int64 for counts, and for what is itself a value or a sum of values of integers (min, max, sum, mode, first, last);
    otherwise float64.
    """

    cells: Array
    values: Array


def aggregate(
    cells: Array,
    columns: Mapping[str, Array],
    statistics: Sequence[Statistic],
    functions: Mapping[str, Function] | None = None,
) -> list[Aggregated]:
    """Each of ``statistics`` by cell, of n points of which ``cells`` (int64) says where each lies and ``columns`` what was measured.

    A function is called once a cell with the cell's values in ascending order, as float64 or int64, and returns a number.
    -0.0 counts as 0.0. Quantiles are interpolated linearly, as ``np.quantile`` does; of modes, and of firsts at one time, the least counts.
    A cell without points that count, whose weights are all 0, or with one point if ddof is 1, is left out.

    Raises :class:`ValueError` for columns that are not there or not of numbers, negative or infinite weights, sums of integers beyond
    int64, and what functions raise.
    """
    cells = np.asarray(cells, np.int64)
    functions = functions or {}
    _check(cells, columns, statistics, functions)
    names = sorted({name for statistic in statistics for name in statistic.names})
    used = {name: np.asarray(columns[name]) for name in names}
    found: list[list[tuple[Array, Array]]] = [[] for _ in statistics]
    try:
        for block in _blocks(cells, used):
            for statistic, parts in zip(statistics, found, strict=True):
                with np.errstate(all="ignore"):
                    parts.append(block.reckon(statistic, functions))
    except _BadWeightsError as err:
        raise _explain_weights(err.of, err.weights, cells, used) from None
    return [Aggregated(np.concatenate([c for c, _ in parts]), np.concatenate([v for _, v in parts])) for parts in found]


def _check(
    cells: Array, columns: Mapping[str, Array], statistics: Sequence[Statistic], functions: Mapping[str, Function]
) -> None:
    for statistic in statistics:
        for name in sorted(statistic.names):
            if name not in columns:
                hint, known = nearest(name, [*columns]), ", ".join(columns) or "none"
                raise ValueError(f"{statistic.text!r}: there is no column {name!r}{hint} (columns: {known})")
            if np.shape(columns[name]) != cells.shape:
                raise ValueError(
                    f"column {name!r} has the shape {np.shape(columns[name])}, the cells of the points {cells.shape}"
                )
        if statistic.function is not None and statistic.function not in functions:
            hint, known = nearest(statistic.function, [*functions]), ", ".join(functions) or "none"
            raise ValueError(f"there is no function {statistic.function!r}{hint} (functions: {known})")


class _BadWeightsError(Exception):
    """A block came upon weights that cannot be; all points are looked at before the caller hears of it."""

    def __init__(self, of: Expression, weights: Expression) -> None:
        super().__init__(of, weights)
        self.of, self.weights = of, weights


def _explain_weights(of: Expression, weights: Expression, cells: Array, columns: Mapping[str, Array]) -> ValueError:
    found = np.broadcast_to(weights.evaluate(columns), cells.shape)
    bad = np.flatnonzero(_known(np.broadcast_to(of.evaluate(columns), cells.shape)) & ((found < 0) | np.isinf(found)))
    return ValueError(
        f"weights {weights.text!r} are negative or infinite at {counted(bad.size, 'point')} (such as "
        f"{found[bad[0]].item()!r} in cell {cells[bad[0]]}): filter them out"
    )


def _blocks(cells: Array, columns: Mapping[str, Array]) -> Iterator[_Block]:
    """The points in order of their cells, in blocks of whole cells; one block without points if there are none."""
    if not cells.size:
        yield _Block(cells, np.empty(0, np.int64), 0, columns)
        return
    ordered, order = _group(cells)
    if order is not None:
        # All of a column before the next: several of them by turns drive one another out of the cache.
        columns = {name: column.take(order) for name, column in columns.items()}
        del order
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    cuts = np.unique(np.searchsorted(starts, np.arange(0, cells.size, BLOCK_POINTS)))
    cuts = cuts[cuts < starts.size]  # a last cell that is larger than a block is passed by
    for first, last in zip(cuts, [*cuts[1:], starts.size], strict=True):
        a, b = int(starts[first]), int(starts[last]) if last < starts.size else cells.size
        own = starts[first:last]
        yield _Block(ordered[own], own - a, b - a, {name: column[a:b] for name, column in columns.items()})


def _group(cells: Array) -> tuple[Array, Array | None]:
    """Cells in ascending order, and the order of points that brings them there; None if they stand in it.

    numpy sorts plain uint64 several times quicker than it finds an order, so the order travels in the low bits.
    """
    if (cells[1:] >= cells[:-1]).all():
        return cells, None
    low, bits = int(cells.min()), int(cells.size).bit_length()
    if (int(cells.max()) - low) >> (64 - bits):
        order = np.argsort(cells, kind="stable")
        return cells[order], order
    key = ((cells - low).view(np.uint64) << np.uint64(bits)) | np.arange(cells.size, dtype=np.uint64)
    key.sort()
    return (key >> np.uint64(bits)).view(np.int64) + low, (key & np.uint64((1 << bits) - 1)).view(np.int64)


class _Block:
    """Whole cells, point after point, and what was reckoned of them, so that statistics share it."""

    def __init__(self, cells: Array, starts: Array, size: int, columns: Mapping[str, Array]) -> None:
        self.cells, self.starts, self.size, self.columns = cells, starts, size, columns
        self.counts = np.diff(starts, append=size)
        self.made: dict[Any, _Values] = {}

    def evaluate(self, expression: Expression) -> Array:
        found = np.broadcast_to(expression.evaluate(self.columns), (self.size,))
        if found.dtype.kind not in "biuf":
            raise ValueError(f"{expression.text!r} holds {found.dtype}, and statistics are of numbers")
        return found

    def values(self, statistic: Statistic) -> _Values:
        key = (statistic.of, statistic.weights, statistic.by)
        if key not in self.made:
            self.made[key] = self._values(*key)
        return self.made[key]

    def _values(self, of: Expression | None, weights: Expression | None, by: Expression | None) -> _Values:
        """The points that count; those of weight 0 do not, as they add nothing."""
        assert of is not None
        values = _plain(self.evaluate(of), of)
        keep = _known(values)
        beside = None
        if weights is not None:
            beside = self.evaluate(weights).astype(np.float64, copy=False)
            keep &= (beside != 0) & _known(beside)
            if (keep & ((beside < 0) | np.isinf(beside))).any():
                raise _BadWeightsError(of, weights)
        elif by is not None:
            beside = np.broadcast_to(by.evaluate(self.columns), (self.size,))
            if beside.dtype.kind in "mM":
                keep &= ~np.isnat(beside)
                beside = beside.astype(np.int64)
            elif beside.dtype.kind in "biuf":
                keep &= _known(beside)
            else:
                raise ValueError(f"{by.text!r} holds {beside.dtype}, and 'by' takes numbers or times")
        if keep.all():
            return _Values(self.cells, self.starts, self.counts, values, beside)
        counts = reduce_runs(np.add, keep.astype(np.int64), self.starts)
        present = counts > 0
        counts = counts[present]
        beside = None if beside is None else beside[keep]
        return _Values(self.cells[present], np.cumsum(counts) - counts, counts, values[keep], beside)

    def reckon(self, statistic: Statistic, functions: Mapping[str, Function]) -> tuple[Array, Array]:
        """(cells, values) of the cells that have the statistic."""
        if statistic.of is None:
            return self.cells, self.counts
        values = self.values(statistic)
        if statistic.kind in ("first", "last"):
            return values.cells, values.at_end(statistic.kind)
        if statistic.kind in ("variance", "std"):
            enough = values.counts > statistic.ddof
            variance = values.squares[enough] / (values.counts[enough] - statistic.ddof)
            return values.cells[enough], variance if statistic.kind == "variance" else np.sqrt(variance)
        if statistic.kind in ("quantile", "median"):
            return values.cells, values.quantile(0.5 if statistic.q is None else statistic.q)
        if statistic.kind == "function":
            name = str(statistic.function)
            return values.cells, values.call(name, functions[name])
        if statistic.kind == "mean" and statistic.weights is not None:
            return values.cells, values.weighted / values.total_weight
        if statistic.kind in ("min", "max"):
            ufunc = np.minimum if statistic.kind == "min" else np.maximum
            return values.cells, reduce_runs(ufunc, values.raw, values.starts).astype(values.dtype)
        if statistic.kind == "sigma_of_mean":
            return values.cells, 1 / np.sqrt(values.total_weight)
        plain = {"count": "counts", "sum": "sum", "mean": "mean", "mode": "mode"}
        return values.cells, getattr(values, plain[statistic.kind])


@dataclass
class _Values:
    """Values by cell, none of them NaN, and what follows from them; ``beside`` are their weights or times."""

    cells: Array
    starts: Array
    counts: Array
    raw: Array
    """int64, or of whatever float they came as."""
    beside: Array | None

    @property
    def dtype(self) -> Any:
        return np.int64 if self.raw.dtype.kind == "i" else np.float64

    @property
    def spans(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts.tolist(), (self.starts + self.counts).tolist(), strict=True)

    @cached_property
    def floats(self) -> Array:
        return self.raw.astype(np.float64, copy=False)

    @cached_property
    def parts(self) -> list[Array]:
        return sum_parts(self.floats, self.starts, self.counts)

    @cached_property
    def sum(self) -> Array:
        if self.raw.dtype.kind == "f":
            return total(self.parts)
        return sum_integers(self.raw, self.starts, self.cells)

    @cached_property
    def mean(self) -> Array:
        return total(self.parts) / self.counts

    @cached_property
    def squares(self) -> Array:
        """The sum of squared distances from the mean; what the mean lacks by rounding is made good."""
        away = self.floats - np.repeat(self.mean, self.counts)
        found = total(sum_parts(away * away, self.starts, self.counts))
        # n times the mean without rounding: its upper 26 bits, and the rest.
        upper = (self.mean.view(np.int64) & -(1 << 27)).view(np.float64)
        lack = (self.parts[0] - self.counts * upper) - self.counts * (self.mean - upper)
        for part in self.parts[1:]:
            lack = lack + part
        return np.maximum(found - lack * lack / self.counts, 0)

    @cached_property
    def total_weight(self) -> Array:
        assert self.beside is not None
        return total(sum_parts(self.beside, self.starts, self.counts))

    @cached_property
    def weighted(self) -> Array:
        assert self.beside is not None
        return total(sum_parts(self.floats * self.beside, self.starts, self.counts))

    @cached_property
    def ordered(self) -> Array:
        """Values in ascending order in each cell."""
        if self.raw.size >= DENSE * self.cells.size:
            values = self.raw.copy()
            for a, b in self.spans:
                values[a:b].sort()
            return values
        order = np.argsort(self.raw)
        # Fewer than DENSE points a cell, so that a block's cells can be numbered with 16 bits, which numpy sorts by their digits.
        number = np.repeat(np.arange(self.cells.size, dtype=np.uint16), self.counts)
        return self.raw[order[np.argsort(number[order], kind="stable")]]

    def quantile(self, q: float) -> Array:
        """As ``np.quantile``, but equal neighbours stay what they are, infinite ones too."""
        place = q * (self.counts - 1)
        below = np.floor(place).astype(np.int64)
        part = place - below
        low = self.ordered[self.starts + below].astype(np.float64)
        high = self.ordered[self.starts + np.minimum(below + 1, self.counts - 1)].astype(np.float64)
        step = high - low
        between = np.where(part < 0.5, low + step * part, high - step * (1 - part))
        return np.where((low == high) | (part == 0), low, between)

    @cached_property
    def mode(self) -> Array:
        if not self.raw.size:
            return np.empty(0, self.dtype)
        new = np.ones(self.raw.size, bool)
        new[1:] = self.ordered[1:] != self.ordered[:-1]
        new[self.starts] = True
        runs = np.flatnonzero(new)
        lengths = np.diff(runs, append=self.raw.size)
        first = np.searchsorted(runs, self.starts)
        longest = np.repeat(np.maximum.reduceat(lengths, first), np.diff(first, append=runs.size))
        place = np.minimum.reduceat(np.where(lengths == longest, runs, self.raw.size), first)
        return self.ordered[place].astype(self.dtype)

    def at_end(self, kind: str) -> Array:
        """The value at the first or last time; of several there, the least."""
        assert self.beside is not None
        end = reduce_runs(np.minimum if kind == "first" else np.maximum, self.beside, self.starts)
        there = np.flatnonzero(self.beside == np.repeat(end, self.counts))
        return reduce_runs(np.minimum, self.raw[there], np.searchsorted(there, self.starts)).astype(self.dtype)

    def call(self, name: str, function: Function) -> Array:
        found = np.empty(self.cells.size, np.float64)
        for i, (a, b) in enumerate(self.spans):
            own = self.ordered[a:b].astype(self.dtype)  # a copy, that a function may spoil
            try:
                got = function(own)
            except Exception as err:
                what = f"{type(err).__name__}: {err}"
                raise ValueError(f"function {name!r} failed on {b - a} values of cell {self.cells[i]}: {what}") from err
            number = np.asarray(got)
            if number.size != 1 or number.dtype.kind not in "biuf":
                raise ValueError(
                    f"function {name!r} must return one number; on {b - a} values of cell {self.cells[i]} it returned {got!r}"
                )
            found[i] = number.item()
        return found


def _plain(values: Array, of: Expression) -> Array:
    """Integers as int64; floats as they are, but with one zero, since which of two equal zeros comes first would be chance."""
    if values.dtype.kind == "f":
        return np.asarray(values + values.dtype.type(0))
    if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{of.text!r} holds integers beyond int64, such as {values.max()}: write '{of.text} * 1.0'")
    return values.astype(np.int64, copy=False)


def _known(values: Array) -> Array:
    return ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
