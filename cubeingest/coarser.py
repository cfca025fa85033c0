"""Statistics of coarser cells from those of the finer ones within them, where that is exact; no points are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cubeingest.statistic import Statistic

Array = np.ndarray[Any, Any]
Merged = tuple[Array, Array]
"""Values, and where there are none."""

NEVER = {
    "median": "the median of all points does not follow from the medians of parts of them",
    "quantile": "the quantile of all points does not follow from the quantiles of parts of them",
    "mode": "the commonest of all values may be the commonest in no part",
    "first": "the cube does not hold when the first value of each cell was",
    "last": "the cube does not hold when the last value of each cell was",
    "function": "what the function makes of all values is not known from what it made of parts of them",
}
"""Kinds that cannot be merged, and why."""


def merge_plan(statistics: Mapping[str, Statistic]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Which variables (name → statistic) can be merged, each with the variables that it takes, and why the others cannot.

    Counts, sums, min, max and sigma_of_mean take themselves only. A mean takes itself and the count of the same column,
    a weighted mean itself and the sigma_of_mean of the same column and weights, a variance or std itself, mean and count.
    """
    plan: dict[str, tuple[str, ...]] = {}
    refused: dict[str, str] = {}
    for name, statistic in statistics.items():
        if statistic.kind in NEVER:
            refused[name] = NEVER[statistic.kind]
            continue
        needed = [name]
        for other in _needs(statistic):
            found = next((own for own, s in statistics.items() if s == other), None)
            if found is None:
                refused[name] = _lacks(statistic, other, statistics)
                break
            needed.append(found)
        else:
            plan[name] = tuple(needed)
    return plan, refused


def _needs(statistic: Statistic) -> list[Statistic]:
    count = Statistic("count", of=statistic.of)
    if statistic.kind in ("variance", "std"):
        return [Statistic("mean", of=statistic.of), count]
    if statistic.kind == "mean" and statistic.weights is not None:
        return [Statistic("sigma_of_mean", of=statistic.of, weights=statistic.weights)]
    return [count] if statistic.kind == "mean" else []


def _lacks(statistic: Statistic, other: Statistic, statistics: Mapping[str, Statistic]) -> str:
    text = f"it takes the {other.text!r} of each cell, and no variable holds that"
    if other.kind == "count":
        plain = next((name for name, s in statistics.items() if s == Statistic("count")), None)
        if plain is not None and other.of is not None:
            text += f" ({plain!r} counts all points, also those at which {other.of.text!r} is NaN)"
    return text


def merge_cells(
    statistic: Statistic, needed: Sequence[str], arrays: Mapping[str, Array], missing: Mapping[str, Array], fan: int
) -> Merged:
    """``statistic`` of runs of ``fan`` cells along the last axis: (..., n * fan) → (..., n), with where it has no value.

    ``needed`` is what :func:`merge_plan` says; of each of these ``arrays`` holds the finer cells, and ``missing`` (bool, of the same shape)
    those that are the fill value. The result is int64 or float64, 0 where it is missing. It is as exact as what is stored:
    of means in float32 follow seven digits, and no variance that is smaller than the square of the last one.

    Raises :class:`ValueError` for a last axis that ``fan`` does not divide, and a sum of integers beyond int64.
    """
    own, *others = ([_runs(a[name], name, fan) for a in (arrays, missing)] for name in needed)
    merge: dict[str, Callable[..., Merged]] = {
        "count": _sum, "sum": _sum, "min": _least, "max": _greatest, "sigma_of_mean": _sigma, "mean": _mean,
        "variance": _variance, "std": _variance,
    }  # fmt: skip
    if statistic.kind not in merge:
        raise ValueError(f"{statistic.text!r} cannot be merged: {NEVER[statistic.kind]}")
    with np.errstate(all="ignore"):
        values, gone = merge[statistic.kind](statistic, *own, *(array for pair in others for array in pair))
    gone = gone | np.isnan(values)
    return np.where(gone, values.dtype.type(0), values), gone


def _runs(array: Array, name: str, fan: int) -> Array:
    """As (..., n, fan), in int64, float64 or bool."""
    array = np.asarray(array)
    if array.shape[-1] % fan:
        raise ValueError(f"{name!r} has {array.shape[-1]} cells along its last axis, which runs of {fan} do not divide")
    if array.dtype.kind != "b":
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float64, copy=False)
    return array.reshape(*array.shape[:-1], -1, fan)


def _sum(statistic: Statistic, values: Array, missing: Array) -> Merged:
    values = np.where(missing, values.dtype.type(0), values)
    sums = values.sum(-1)
    if values.dtype.kind == "i" and (np.abs(values.astype(np.float64)).sum(-1) >= 2.0**62).any():
        exact = np.array([sum(run) for run in values.reshape(-1, values.shape[-1]).tolist()], object)
        if (np.abs(exact) > np.iinfo(np.int64).max).any():
            raise ValueError(f"{statistic.text!r} of a coarser cell is beyond int64: sum as floats, as in 'h * 1.0'")
    return sums, missing.all(-1)


def _least(_: Statistic, values: Array, missing: Array) -> Merged:
    most = np.iinfo(np.int64).max if values.dtype.kind == "i" else np.inf
    return np.where(missing, most, values).min(-1), missing.all(-1)


def _greatest(_: Statistic, values: Array, missing: Array) -> Merged:
    least = np.iinfo(np.int64).min if values.dtype.kind == "i" else -np.inf
    return np.where(missing, least, values).max(-1), missing.all(-1)


def _sigma(_: Statistic, sigma: Array, missing: Array) -> Merged:
    return 1 / np.sqrt(np.where(missing, 0.0, 1 / sigma**2).sum(-1)), missing.all(-1)


def _mean(statistic: Statistic, mean: Array, missing: Array, share: Array, none: Array) -> Merged:
    """``share`` is the count, or the sigma that the weights give. A mean that is missing where points count is not known (as of inf and -inf)."""
    share = np.where(none, 0.0, share if statistic.weights is None else 1 / share**2)
    lost = (missing & (share > 0)).any(-1)
    total = share.sum(-1)
    return np.where(share > 0, mean * share, 0.0).sum(-1) / total, lost | (total == 0)


def _variance(
    statistic: Statistic, spread: Array, missing: Array, mean: Array, no_mean: Array, count: Array, none: Array
) -> Merged:
    """Squares within the cells, and those between their means (T. Chan, G. Golub, R. LeVeque 1983)."""
    middle, gone = _mean(Statistic("mean"), mean, no_mean, count, none)
    count = np.where(none, 0, count)
    variance = spread**2 if statistic.kind == "std" else spread
    has = count > statistic.ddof
    within = np.where(has, variance * (count - statistic.ddof), 0.0)
    between = np.where(count > 0, count * (mean - middle[..., None]) ** 2, 0.0)
    total = count.sum(-1)
    found = (within + between).sum(-1) / (total - statistic.ddof)
    gone = gone | (missing & has).any(-1) | (total <= statistic.ddof)
    return np.sqrt(found) if statistic.kind == "std" else found, gone
