"""Coarser cells from finer ones against the points themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeingest.aggregate import aggregate
from cubeingest.coarser import NEVER, merge_cells, merge_plan
from cubeingest.statistic import Statistic, parse_statistic

DOCS: dict[str, Any] = {
    "n": "count", "h_n": {"count": "h"}, "h_sum": {"sum": "h"}, "h_min": {"min": "h"}, "h_max": {"max": "h"}, "h_mean": {"mean": "h"},
    "h_w": {"mean": "h", "weights": "1/s**2"}, "h_sigma": {"sigma_of_mean": "h", "weights": "1/s**2"}, "h_var": {"variance": "h"},
    "h_var1": {"variance": "h", "ddof": 1}, "h_std": {"std": "h"}, "h_std1": {"std": "h", "ddof": 1},
}  # fmt: skip
STATISTICS = {name: parse_statistic(doc) for name, doc in DOCS.items()}


def cells_of(
    cells: np.ndarray, columns: dict[str, np.ndarray], n: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Arrays of all ``n`` cells, and where they hold nothing, as a cube would."""
    arrays, missing = {}, {}
    for name, found in zip(STATISTICS, aggregate(cells, columns, [*STATISTICS.values()]), strict=True):
        arrays[name] = np.full(n, np.nan if found.values.dtype == np.float64 else -(2**63), found.values.dtype)
        arrays[name][found.cells] = found.values
        missing[name] = np.ones(n, bool)
        missing[name][found.cells] = False
    return arrays, missing


def check(cells: np.ndarray, columns: dict[str, np.ndarray], n: int, fan: int) -> None:
    arrays, missing = cells_of(cells, columns, n)
    coarse, none = cells_of(cells // fan, columns, n // fan)
    plan, refused = merge_plan(STATISTICS)
    assert refused == {}
    for name, statistic in STATISTICS.items():
        values, gone = merge_cells(statistic, plan[name], arrays, missing, fan)
        np.testing.assert_array_equal(gone, none[name], err_msg=name)
        assert values.dtype == coarse[name].dtype
        assert not values[gone].any()
        got, expected = values[~gone], coarse[name][~gone]
        if statistic.kind in ("count", "min", "max") or values.dtype == np.int64:
            np.testing.assert_array_equal(got, expected, err_msg=name)
        else:
            greatest = np.nanmax(np.abs(columns["h"].astype("float64")), initial=0)
            # What rounding of a mean takes from, or gives to, a spread of nothing.
            loss = 0 if name == "h_sigma" else 1e-12 * greatest
            if name.startswith(("h_var", "h_std")):
                # A mean is rounded where it is stored; squares of distances between means take it over.
                spread = (
                    np.ptp(columns["h"][~np.isnan(columns["h"].astype("float64"))].astype("float64"))
                    if greatest
                    else 0.0
                )
                loss = (1e-15 * greatest) ** 2 + 5e-16 * greatest * spread
                got, expected = (v**2 if name.startswith("h_std") else v for v in (got, expected))
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=loss, err_msg=name)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16"])
@pytest.mark.parametrize("n", [40, 1500, 20_000])
@pytest.mark.parametrize("fan", [4, 64])
def test_coarser_cells_are_those_of_the_points(dtype: str, n: int, fan: int) -> None:
    rng = np.random.default_rng(n)
    h = rng.normal(100, 20, n).astype(dtype)
    s = rng.random(n) + 0.1
    s[::9] = np.nan
    if dtype != "int16":
        h[::7] = np.nan
    check(rng.integers(0, 1024, n), {"h": h, "s": s}, 1024, fan)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.sampled_from([0.0, 0.1, 1e9, 1e9 + 1, -3.0, np.nan])), max_size=40))
def test_any_few_points(points: list[tuple[int, float]]) -> None:
    h = np.array([value for _, value in points], "float64")
    check(np.array([cell for cell, _ in points], "int64"), {"h": h, "s": np.ones(h.size)}, 16, 4)


def test_points_at_infinity_leave_what_they_leave_of_the_points_themselves() -> None:
    inf = np.inf
    cells = np.array([0, 1, 4, 4, 8, 9])
    columns = {"h": np.array([inf, 1, inf, -inf, 1, 2]), "s": np.ones(6)}
    arrays, missing = cells_of(cells, columns, 12)
    for name in arrays:  # a cube of floats takes NaN for missing
        missing[name] |= np.isnan(arrays[name])
    plan, _ = merge_plan(STATISTICS)
    coarse, none = cells_of(cells // 4, columns, 3)
    for name, statistic in STATISTICS.items():
        values, gone = merge_cells(statistic, plan[name], arrays, missing, 4)
        np.testing.assert_array_equal(gone, none[name] | np.isnan(coarse[name]), err_msg=name)
        np.testing.assert_allclose(values[~gone], coarse[name][~gone], err_msg=name)


def test_arrays_may_have_leading_dimensions_and_smaller_types() -> None:
    rng = np.random.default_rng(4)
    count = rng.integers(0, 9, (2, 3, 16)).astype("uint16")
    mean = rng.random((2, 3, 16)).astype("float32")
    statistics = {"n": parse_statistic({"count": "h"}), "m": parse_statistic({"mean": "h"})}
    plan, _ = merge_plan(statistics)
    missing = {"n": count == 0, "m": count == 0}
    values, gone = merge_cells(statistics["m"], plan["m"], {"n": count, "m": mean}, missing, 4)
    assert values.shape == gone.shape == (2, 3, 4)
    for place in np.ndindex(values.shape):
        run = (*place[:-1], slice(4 * place[-1], 4 * place[-1] + 4))
        if count[run].sum():
            np.testing.assert_allclose(values[place], np.average(mean[run].astype("float64"), weights=count[run]))
    total, _ = merge_cells(statistics["n"], plan["n"], {"n": count}, missing, 16)
    np.testing.assert_array_equal(total[..., 0], count.sum(-1, dtype="int64"), strict=True)


def test_each_variable_says_what_it_takes() -> None:
    plan, refused = merge_plan(STATISTICS)
    assert refused == {}
    assert plan == {
        "n": ("n",), "h_n": ("h_n",), "h_sum": ("h_sum",), "h_min": ("h_min",), "h_max": ("h_max",), "h_mean": ("h_mean", "h_n"),
        "h_w": ("h_w", "h_sigma"), "h_sigma": ("h_sigma",), "h_var": ("h_var", "h_mean", "h_n"), "h_var1": ("h_var1", "h_mean", "h_n"),
        "h_std": ("h_std", "h_mean", "h_n"), "h_std1": ("h_std1", "h_mean", "h_n"),
    }  # fmt: skip


def test_each_variable_that_cannot_be_merged_says_why() -> None:
    docs: dict[str, Any] = {
        "n": "count", "g_n": {"count": "g"}, "h_mean": {"mean": "h"}, "g_w": {"mean": "g", "weights": "w"},
        "g_sigma": {"sigma_of_mean": "g", "weights": "1/w"}, "g_var": {"variance": "g"}, "g_q": {"quantile": "g", "q": 0.1},
    }  # fmt: skip
    plan, refused = merge_plan({name: parse_statistic(doc) for name, doc in docs.items()})
    assert plan == {"n": ("n",), "g_n": ("g_n",), "g_sigma": ("g_sigma",)}
    assert refused == {
        "h_mean": "it takes the 'count of h' of each cell, and no variable holds that ('n' counts all points, also those at which 'h' is NaN)",
        "g_w": "it takes the 'sigma_of_mean of g weighted by w' of each cell, and no variable holds that",
        "g_var": "it takes the 'mean of g' of each cell, and no variable holds that",
        "g_q": NEVER["quantile"],
    }
    kinds = [
        {"median": "h"},
        {"mode": "h"},
        {"first": "h", "by": "t"},
        {"last": "h", "by": "t"},
        {"function": "f", "of": "h"},
    ]
    for doc in kinds:
        statistic = parse_statistic(doc)
        assert merge_plan({"v": statistic}) == ({}, {"v": NEVER[statistic.kind]})
        with pytest.raises(ValueError, match=f"'{statistic.text}' cannot be merged: "):
            merge_cells(statistic, ("v",), {"v": np.ones(4)}, {"v": np.zeros(4, bool)}, 4)


def test_what_does_not_fit_is_refused() -> None:
    total = parse_statistic({"sum": "h"})
    with pytest.raises(ValueError, match="'v' has 6 cells along its last axis, which runs of 4 do not divide"):
        merge_cells(total, ("v",), {"v": np.ones(6)}, {"v": np.zeros(6, bool)}, 4)
    top = 2**63 - 1
    for values, expected in (([top, -top, top, -5], top - 5), ([top, 1, 0, 0], None), ([-top, -2, 0, 0], None)):
        arrays = {"v": np.array(values)}
        if expected is None:
            with pytest.raises(ValueError, match="'sum of h' of a coarser cell is beyond int64"):
                merge_cells(total, ("v",), arrays, {"v": np.zeros(4, bool)}, 4)
        else:
            assert merge_cells(total, ("v",), arrays, {"v": np.zeros(4, bool)}, 4)[0].tolist() == [expected]


def test_statistics_of_no_cells() -> None:
    none = {"v": np.empty((2, 0))}
    values, gone = merge_cells(Statistic("sum"), ("v",), none, {"v": np.empty((2, 0), bool)}, 4)
    assert values.shape == gone.shape == (2, 0)
