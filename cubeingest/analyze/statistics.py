"""What is known of zones, and the statistics that follow from it, as a table."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.analyze.parts import Gaps
from cubeingest.analyze.quantity import Quantity
from cubeingest.analyze.tables import Rows, to_records
from cubeingest.analyze.zones import SHOWN
from cubeingest.errors import GridError, nearest

if TYPE_CHECKING:
    import numpy.typing as npt

Array = np.ndarray[Any, Any]

STATISTICS = ("count", "mean", "sum", "min", "max", "area", "median")
"""Besides ``qNN``, a quantile in percent. ``count``: pixels with a value, each as far as it is covered; ``area``: theirs, in km²."""

PLAIN = {"count", "mean", "sum", "min", "max"}

DEFAULT = ("count", "mean", "min", "max")

QUANTILE = re.compile(r"q(\d{1,2}(?:\.\d+)?|100)")


@dataclass
class Sums:
    """What is known of one zone: arrays over the axes' values. ``kept`` are (place along the axes, values, coverage) for quantiles."""

    count: npt.NDArray[np.float64]
    total: npt.NDArray[np.float64]
    area: npt.NDArray[np.float64]
    least: npt.NDArray[np.float64]
    most: npt.NDArray[np.float64]
    kept: list[tuple[int, Array, Array]] = field(default_factory=list)
    classes: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)
    not_ingested: npt.NDArray[np.float64] | None = None


@dataclass
class ZonalReport:
    """Statistics by zone and axis values. ``zones`` have sums; a zone without a pixel has none."""

    quantity: Quantity
    labels: Mapping[str, tuple[str, ...]]
    statistics: tuple[str, ...]
    snapshot: str
    keys: list[int]
    attributes: Mapping[str, Sequence[Any]]
    share: npt.NDArray[np.float64] | None
    gaps: Gaps
    note: str
    by_class: bool
    names: Mapping[int, str]
    zones: dict[int, Sums] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(len(v) for v in self.labels.values())

    @property
    def warnings(self) -> list[str]:
        out = [*self.notes]
        if self.share is not None:
            for n, what in ((np.flatnonzero(self.share == 0), "outside the cube: they have no pixels"),
                            (np.flatnonzero((self.share > 0) & (self.share < 1 - 1e-9)), "partly outside it (column in_cube)")):  # fmt: skip
                if n.size:
                    names = ", ".join(map(str, n[:SHOWN].tolist()))
                    out.append(f"{n.size} of {len(self.share)} zones lie {what} (zone {names}{', ...' if n.size > SHOWN else ''})")  # fmt: skip
        lacking = {
            k: s.not_ingested for k, s in self.zones.items() if s.not_ingested is not None and s.not_ingested.any()
        }
        if lacking:
            k, first = min(lacking.items(), key=lambda item: item[0])
            what = ", ".join(self.labels) or "slots"
            more = f"; {len(lacking) - 1} more zones lack some" if len(lacking) > 1 else ""
            out.append(
                f"zone {k}: {int(np.count_nonzero(first))} of {first.size} values of {what} are not (wholly) ingested there{more} "
                "(column not_ingested)"
            )
        return out

    def rows(self) -> Rows:
        """One row for each zone and set of axis values, and by class for each class there."""
        along = list(itertools.product(*self.labels.values()))
        each = [(n, k, place) for n, k in enumerate(self.keys) for place in range(len(along))]
        if self.by_class:
            return self._class_rows(each, along)
        out = self._head(each, along)
        for name in self.statistics:
            out[name] = [self._value(name, k, place) for _, k, place in each]
        if any(s.not_ingested is not None and s.not_ingested.any() for s in self.zones.values()):
            out["not_ingested"] = [self._not_ingested(k, place) for _, k, place in each]
        return out

    def _head(self, each: Sequence[tuple[int, int, int]], along: Sequence[tuple[str, ...]]) -> dict[str, list[Any]]:
        out: dict[str, list[Any]] = {"zone": [k for _, k, _ in each]}
        taken = {
            "zone",
            "in_cube",
            "not_ingested",
            "class",
            "class_name",
            "pixels",
            "area_km2",
            "share",
            *self.labels,
            *self.statistics,
        }
        for name, values in self.attributes.items():
            out[name if name not in taken else f"{name}_"] = [values[n] for n, _, _ in each]
        for i, name in enumerate(self.labels):
            out[name] = [along[place][i] for _, _, place in each]
        if self.share is not None:
            out["in_cube"] = [float(self.share[n]) for n, _, _ in each]
        return out

    def _class_rows(self, each: Sequence[tuple[int, int, int]], along: Sequence[tuple[str, ...]]) -> Rows:
        found = [
            (n, k, place, c, *sums)
            for n, k, place in each
            for (p, c), sums in sorted(self.zones[k].classes.items() if k in self.zones else ())
            if p == place
        ]
        out = self._head([f[:3] for f in found], along)
        out["class"] = [f[3] for f in found]
        out["class_name"] = [self.names.get(f[3], str(f[3])) for f in found]
        out["pixels"] = [f[4] for f in found]
        out["area_km2"] = [f[5] for f in found]
        out["share"] = [f[5] / self.zones[f[1]].area[f[2]] for f in found]
        return out

    def _not_ingested(self, key: int, place: int) -> float:
        sums = self.zones.get(key)
        return 0.0 if sums is None or sums.not_ingested is None else float(sums.not_ingested[place])

    def _value(self, name: str, key: int, place: int) -> float:
        sums = self.zones.get(key)
        n = 0.0 if sums is None else float(sums.count[place])
        if name == "count":
            return n
        if sums is None or not n:
            return 0.0 if name == "area" else float("nan")
        if name == "mean":
            return float(sums.total[place]) / n
        plain = {"sum": sums.total, "min": sums.least, "max": sums.most, "area": sums.area}
        if name in plain:
            return float(plain[name][place])
        mine = [(v, w) for p, v, w in sums.kept if p == place]
        return weighted_quantile(np.concatenate([v for v, _ in mine]), np.concatenate([w for _, w in mine]), quantile_of(name))  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return {
            "of": self.quantity.text, "snapshot": self.snapshot, "statistics": list(self.statistics), "zones": len(self.keys),
            "gaps": self.gaps.to_json(), "note": self.note, "rows": to_records(self.rows()),
        }  # fmt: skip


def quantile_of(name: str) -> float:
    """0.25 of ``q25``. Raises :class:`GridError` for what is no statistic."""
    if name == "median":
        return 0.5
    match = QUANTILE.fullmatch(name)
    if match is None:
        raise GridError(
            f"no statistic {name!r}{nearest(name, list(STATISTICS))} (known: {', '.join(STATISTICS)}, q05, q95, ...)"
        )
    return float(match[1]) / 100


def weighted_quantile(values: Array, weights: Array, q: float) -> float:
    """The quantile of weighted values, each pixel's by itself: with equal weights it is numpy's (type 7).

    The k-th of n ordered values lies at k·w[k] + (n - 1)·(w[0] + ... + w[k-1]), on a scale that ends with the last
    (https://stats.stackexchange.com/a/13223). exactextract does the same, but first makes one of pixels of the same value: the median
    of 1, 1, 1, 2 is 1.5 there, and 1 here.
    """
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    before = np.concatenate([[0.0], np.cumsum(weights)[:-1]])
    places = np.arange(values.size) * weights + (values.size - 1) * before
    return float(np.interp(q * places[-1], places, values))
