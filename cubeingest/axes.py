"""Non-spatial dimensions: their labels, and the blocks that chunks cut them into."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from cubeingest.errors import GridError, nearest

AxisValue = int | float | str | datetime
"""Of a calendar other than the standard one, dates are ``cftime.datetime``, which has the methods of a ``datetime`` that are used here."""


def is_date(value: object) -> bool:
    """Whether an axis value is a date, of whatever calendar."""
    return hasattr(value, "isoformat")


def axis_label(value: AxisValue | np.datetime64) -> str:
    """The text of an axis value, as printed, typed on the command line and kept in the ledger.

    Dates without a time of day are written ``2000-01-31``.
    """
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    return value.isoformat().removesuffix("T00:00:00") if is_date(value) else str(value)  # type: ignore[union-attr]


@lru_cache(maxsize=32)
def match_labels(labels: tuple[str, ...], own: tuple[str, ...]) -> dict[int, int]:
    """Where in a file's ``own`` labels the ``labels`` of an axis of numbers stand: {position on the axis: position in the file}.

    Numbers that differ by no more than single precision are the same, as long as that is far less than the gaps between them.
    """
    places = {label: n for n, label in enumerate(own)}
    found = {i: places[label] for i, label in enumerate(labels) if label in places}
    taken = set(found.values())
    wanted, held = np.array([_number(v) for v in labels]), np.array([_number(v) for v in own])
    free = np.array([n for n in np.argsort(held, kind="stable") if np.isfinite(held[n]) and n not in taken], int)
    gap = min(_least_gap(wanted), _least_gap(held))
    ordered = held[free]
    for i in range(len(labels)) if free.size else ():
        if i in found or not np.isfinite(wanted[i]):
            continue
        after = int(np.searchsorted(ordered, wanted[i]))
        n = min(range(max(after - 1, 0), min(after + 1, free.size)), key=lambda n: abs(ordered[n] - wanted[i]))
        whole = wanted[i].is_integer() and ordered[n].is_integer()
        allowed = 0.0 if whole else min(float(np.spacing(np.float32(abs(wanted[i])))), gap / 100)
        if abs(ordered[n] - wanted[i]) <= allowed:
            found[i] = int(free[n])
    return found


def _number(label: str) -> float:
    try:
        return float(label)
    except ValueError:
        return float("nan")


def _least_gap(values: np.ndarray[Any, Any]) -> float:
    gaps = np.diff(np.unique(values[np.isfinite(values)]))
    return float(gaps.min()) if gaps.size else float("inf")


@dataclass(frozen=True)
class Axis:
    """A non-spatial dimension with its labels, cut into axis blocks of ``block`` values.

    A block is the run of values that one chunk (one shard, where there are shards) spans; the last may be short.
    """

    name: str
    values: tuple[AxisValue, ...]
    block: int = 1

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.values)

    @property
    def is_dates(self) -> bool:
        """Whether the values are dates (``datetime``, or ``cftime``'s of another calendar)."""
        return is_date(self.values[0])

    @property
    def calendar(self) -> str:
        """CF's name of the calendar that dates are of."""
        return str(getattr(self.values[0], "calendar", "proleptic_gregorian"))

    @property
    def n_blocks(self) -> int:
        """Number of axis blocks."""
        return -(-len(self.values) // self.block)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The values as texts, as commands, ids and hrefs write them."""
        return tuple(axis_label(v) for v in self.values)

    def index(self, value: object) -> int:
        """Position of ``value``, given as the value itself or as its label.

        Raises :class:`GridError` if the axis has no such value.
        """
        if isinstance(value, np.datetime64):
            value = axis_label(value)
        if isinstance(value, date) and not isinstance(value, datetime):
            value = value.isoformat()
        label = axis_label(value)  # type: ignore[arg-type]
        try:
            return self.labels.index(label)
        except ValueError:
            known = ", ".join(self.labels[:8]) + (", ..." if self.size > 8 else "")
            hint = nearest(label, list(self.labels))
            raise GridError(f"axis {self.name!r} has no value {label!r}{hint} (values: {known})") from None

    def block_slice(self, block: int) -> slice:
        """Half-open positions of one axis block."""
        return slice(block * self.block, min((block + 1) * self.block, self.size))

    def block_label(self, block: int) -> str:
        """``2000``, or ``2000..2015`` for a block of several values."""
        span = self.labels[self.block_slice(block)]
        return span[0] if len(span) == 1 else f"{span[0]}..{span[-1]}"
