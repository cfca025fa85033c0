"""Statistics by cell against plain numpy in a loop over cells, and exact fractions where numpy itself rounds too much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cubeingest import aggregate as module
from cubeingest.aggregate import DENSE, Aggregated, aggregate
from cubeingest.statistic import Statistic, parse_statistic

ALL: list[Any] = [
    "count", {"count": "h"}, {"min": "h"}, {"max": "h"}, {"sum": "h"}, {"mean": "h"}, {"mean": "h", "weights": "w"},
    {"sigma_of_mean": "h", "weights": "w"}, {"variance": "h"}, {"variance": "h", "ddof": 1}, {"std": "h"}, {"median": "h"},
    {"quantile": "h", "q": 0.25}, {"quantile": "h", "q": 0.9}, {"mode": "h"}, {"first": "h", "by": "t"}, {"last": "h", "by": "t"},
    {"function": "spread", "of": "h"},
]  # fmt: skip
STATISTICS = [parse_statistic(doc) for doc in ALL]
EXACT = {"count", "min", "max", "mode", "first", "last", "function"}
Columns = Mapping[str, np.ndarray]


def spread(values: np.ndarray) -> float:
    assert (values[1:] >= values[:-1]).all()
    return float(values[-1] - values[0])


FUNCTIONS = {"spread": spread}


def slow(kind: str, s: Statistic, columns: Columns) -> Any:
    """Of the points of one cell; None if it has none."""
    n = next(iter(columns.values())).size
    if s.of is None:
        return n
    h = np.broadcast_to(s.of.evaluate(columns), (n,))
    exact = h.dtype.kind in "biu"
    h = h.astype("int64" if exact else "float64")
    keep = ~np.isnan(h)
    beside = None
    for expression in (s.weights, s.by):
        if expression is not None:
            beside = np.broadcast_to(expression.evaluate(columns), (n,)).astype("float64")
            keep &= ~np.isnan(beside)
    h, beside = h[keep], None if beside is None else beside[keep]
    if h.size <= s.ddof or (s.weights is not None and beside.sum() == 0):
        return None
    f = h.astype("float64")
    match kind:
        case "count":
            return h.size
        case "min" | "max" | "sum":
            return int(getattr(h, kind)()) if exact else math.fsum(f) if kind == "sum" else getattr(h, kind)()
        case "mean":
            return math.fsum(f) / h.size if beside is None else np.average(f, weights=beside)
        case "sigma_of_mean":
            return 1 / np.sqrt(beside.sum())
        case "variance" | "std":
            values = [Fraction(v) for v in f.tolist()]
            mean = sum(values) / len(values)
            found = float(sum((v - mean) ** 2 for v in values) / (len(values) - s.ddof))
            return found if kind == "variance" else math.sqrt(found)
        case "median" | "quantile":
            return np.quantile(f, 0.5 if s.q is None else s.q)
        case "mode":
            values, counts = np.unique(h, return_counts=True)
            return values[np.argmax(counts)]
        case "first" | "last":
            end = beside.min() if kind == "first" else beside.max()
            return h[beside == end].min()
    return spread(np.sort(h))


def check(cells: np.ndarray, columns: Columns, statistics: list[Statistic] = STATISTICS) -> list[Aggregated]:
    got = aggregate(cells, columns, statistics, FUNCTIONS)
    for s, found in zip(statistics, got, strict=True):
        expected = {
            int(cell): value
            for cell in np.unique(cells)
            if (value := slow(s.kind, s, {k: v[cells == cell] for k, v in columns.items()})) is not None
        }
        assert found.cells.tolist() == sorted(expected), s.text
        assert found.cells.dtype == np.int64
        values = np.array([expected[c] for c in sorted(expected)])
        if s.kind in EXACT or found.values.dtype == np.int64:
            np.testing.assert_array_equal(found.values, values, err_msg=s.text)
        else:
            # A mean may lose to cancellation what its values have in digits, in numpy too.
            greatest = np.nanmax(np.abs(columns["h"].astype("float64")), initial=0) if s.kind in ("mean", "sum") else 0
            np.testing.assert_allclose(found.values, values, rtol=1e-12, atol=1e-12 * greatest, err_msg=s.text)
    return got


def points(n: int, n_cells: int, dtype: str = "float64", seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    h = rng.normal(0, 20, n)
    h = h.astype(dtype) if np.dtype(dtype).kind == "f" else (abs(h) if dtype[0] in "ub" else h).astype(dtype)
    columns = {"h": h, "w": rng.integers(0, 4, n) * rng.random(n), "t": rng.integers(0, max(n // 3, 1), n)}
    return rng.integers(0, n_cells, n) - n_cells // 2, columns


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "uint8", "int8", "uint16", "int32", "int64", "uint64", "bool"]
)
@pytest.mark.parametrize(("n", "n_cells"), [(2000, 20), (600, 400)])
def test_statistics_are_those_of_a_loop_over_cells(dtype: str, n: int, n_cells: int) -> None:
    cells, columns = points(n, n_cells, dtype)
    got = check(cells, columns)
    integers = np.dtype(dtype).kind != "f"
    for s, found in zip(STATISTICS, got, strict=True):
        exact = s.kind == "count" or (integers and s.kind in ("min", "max", "sum", "mode", "first", "last"))
        assert found.values.dtype == (np.int64 if exact else np.float64), s.text


def test_points_without_value_weight_or_time_do_not_count() -> None:
    cells, columns = points(1500, 300, "float32")
    rng = np.random.default_rng(3)
    columns["t"] = columns["t"].astype("float64")
    for name in columns:
        columns[name][rng.random(1500) < 0.4] = np.nan
    check(cells, columns)
    check(cells, {**columns, "h": np.full(1500, np.nan)})
    check(cells, {**columns, "w": np.zeros(1500)})


def test_there_may_be_no_points() -> None:
    for dtype in ("float32", "int16"):
        columns = {"h": np.empty(0, dtype), "w": np.empty(0), "t": np.empty(0)}
        for found in aggregate(np.empty(0, "int64"), columns, STATISTICS, FUNCTIONS):
            assert found.cells.dtype == np.int64
            assert found.cells.shape == found.values.shape == (0,)
    assert aggregate(np.array([3, 3]), {}, []) == []


def test_cells_may_be_any_integers_in_any_order() -> None:
    rng = np.random.default_rng(5)
    _, columns = points(500, 1)
    for some in ([-(2**63), 0, 2**63 - 1], [2**62, 2**62 + 1], [7], np.arange(500), np.arange(500)[::-1]):
        cells = rng.choice(np.array(some, "int64"), 500)
        check(cells, columns)
    check(np.sort(cells), columns)


@pytest.mark.parametrize("points_a_cell", [DENSE // 4, DENSE * 2])
def test_blocks_do_not_show(points_a_cell: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cells, columns = points(3000, 3000 // points_a_cell, "float32")
    whole = aggregate(cells, columns, STATISTICS, FUNCTIONS)
    monkeypatch.setattr(module, "BLOCK_POINTS", 100)
    for one, two in zip(whole, aggregate(cells, columns, STATISTICS, FUNCTIONS), strict=True):
        assert same(one, two)


def test_columns_may_be_of_the_other_byte_order_and_strided() -> None:
    cells, columns = points(500, 10, "float32")
    plain = aggregate(cells, columns, STATISTICS, FUNCTIONS)
    swapped = {name: column.astype(column.dtype.newbyteorder()) for name, column in columns.items()}
    swapped["t"] = columns["t"].astype(">M8[s]")
    strided = {name: np.repeat(column, 3)[::3] for name, column in columns.items()}
    for other in (swapped, strided):
        got = aggregate(np.repeat(cells, 2)[::2].astype(">i8"), other, STATISTICS, FUNCTIONS)
        assert all(same(one, two) for one, two in zip(plain, got, strict=True))


def test_many_blocks_of_full_size() -> None:
    for dtype, n_cells in (("float32", 40), ("float64", 20_000)):
        cells, columns = points(200_000, n_cells, dtype)
        columns["h"][::7] = np.nan
        chosen = [s for s in STATISTICS if s.kind not in ("variance", "std")]
        got = aggregate(cells, columns, chosen, FUNCTIONS)
        for cell in np.unique(cells)[:: n_cells // 20]:
            own = {k: v[cells == cell] for k, v in columns.items()}
            for s, found in zip(chosen, got, strict=True):
                value = slow(s.kind, s, own)
                at = np.searchsorted(found.cells, cell)
                if value is None:
                    assert cell not in found.cells
                else:
                    np.testing.assert_allclose(found.values[at], value, rtol=1e-12, atol=1e-11, err_msg=s.text)


def same(one: Aggregated, two: Aggregated) -> bool:
    """Bit for bit."""
    return one.cells.tobytes() == two.cells.tobytes() and one.values.tobytes() == two.values.tobytes()


FLOATS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.1, 1e9, 1e9 + 1e-6, 5e-324, -3e-320, 1e-300, 1e300, -1e300, np.nan, np.inf, -np.inf, 1 / 3])  # fmt: skip
PLAIN = st.floats(-1e9, 1e9, allow_subnormal=True)


@settings(max_examples=150)
@given(st.data())
def test_the_order_of_points_and_the_other_statistics_do_not_matter_by_a_bit(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 60))
    cells = data.draw(hnp.arrays("int64", n, elements=st.integers(0, 3)))
    dtype = data.draw(st.sampled_from(["float64", "float32", "int16"]))
    if dtype == "int16":
        h = data.draw(hnp.arrays("int16", n))
    else:
        h = data.draw(hnp.arrays("float64", n, elements=FLOATS | PLAIN))
        with np.errstate(over="ignore"):
            h = h.astype(dtype)
    w = data.draw(hnp.arrays("float64", n, elements=st.sampled_from([0.0, 1.0, 0.1, 1e-310, 3.3, 1e200, np.nan])))
    columns = {"h": h, "w": w, "t": data.draw(hnp.arrays("int8", n, elements=st.integers(0, 3)))}
    functions = {"spread": lambda values: values.sum()}
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(n)
    moved = {name: column[order] for name, column in columns.items()}
    one = aggregate(cells, columns, STATISTICS, functions)
    two = aggregate(cells[order], moved, STATISTICS, functions)
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
    for s, found in zip(STATISTICS, one, strict=True):
        assert same(found, aggregate(cells, columns, [s], functions)[0])
        own = aggregate(
            cells[cells == cells[0]], {k: v[cells == cells[0]] for k, v in columns.items()}, [s], functions
        )[0]
        at = found.cells == cells[0]
        assert same(own, Aggregated(found.cells[at], found.values[at]))


@settings(max_examples=100)
@given(st.data())
def test_any_points_give_what_a_loop_gives(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 30))
    cells = data.draw(hnp.arrays("int64", n, elements=st.integers(-1, 2)))
    h = data.draw(hnp.arrays("float64", n, elements=PLAIN | st.sampled_from([np.nan, 1.0, 2.0, -0.0, 5e-324])))
    columns = {"h": h, "w": np.ones(n), "t": np.zeros(n)}
    quantiles = [s for s in STATISTICS if s.kind not in ("variance", "std")]
    check(cells, columns, quantiles)


def test_a_small_variance_far_from_zero_keeps_its_digits() -> None:
    rng = np.random.default_rng(8)
    for offset, width in ((1e9, 1e-3), (1e9, 1e-6), (-1e15, 3.0), (1e-300, 1e-310), (0.1, 0.0)):
        h = offset + rng.normal(0, 1, 400) * width
        check(np.arange(400) % 3, {"h": h}, [parse_statistic({k: "h"}) for k in ("variance", "std", "mean", "sum")])


def test_sums_do_not_lose_what_is_small() -> None:
    h = np.array([1e16, 1.0, -1e16, 1e-8])
    first = aggregate(np.zeros(4, int), {"h": h}, [parse_statistic({"sum": "h"})])[0].values
    assert first[0] == pytest.approx(math.fsum(h), rel=1e-13)
    tiny = np.full(1000, 5e-324)
    assert aggregate(np.zeros(1000, int), {"h": tiny}, [parse_statistic({"sum": "h"})])[0].values[0] == 1000 * 5e-324
    huge = np.array([1.7e308, -1.7e308, 1.7e308, 1e300])
    assert aggregate(np.zeros(4, int), {"h": huge}, [parse_statistic({"sum": "h"})])[0].values[0] == math.fsum(
        [1.7e308, 1e300]
    )


@pytest.mark.slow
def test_sums_of_many_points_are_as_good_as_exact_ones() -> None:
    rng = np.random.default_rng(2)
    h = rng.normal(size=300_000) * 10.0 ** rng.integers(-12, 3, 300_000)
    found = aggregate(np.zeros(h.size, int), {"h": h}, [parse_statistic({"sum": "h"})])[0].values[0]
    assert found == math.fsum(h)


def test_infinite_values_are_what_they_are_in_numpy() -> None:
    inf = np.inf
    cells = np.repeat(np.arange(5), 3)
    h = np.array([inf, 1, 2, -inf, 0, 1, inf, -inf, 1, inf, inf, inf, 1, 2, 3])
    by_kind = {
        s.text: a.values
        for s, a in zip(
            STATISTICS,
            aggregate(
                cells,
                {"h": h, "w": np.ones(15), "t": np.arange(15)},
                STATISTICS,
                {"spread": len},
            ),
            strict=True,
        )
    }
    np.testing.assert_array_equal(by_kind["mean of h"], [inf, -inf, np.nan, inf, 2])
    np.testing.assert_array_equal(by_kind["mean of h weighted by w"], [inf, -inf, np.nan, inf, 2])
    np.testing.assert_array_equal(by_kind["sum of h"], [inf, -inf, np.nan, inf, 6])
    np.testing.assert_array_equal(by_kind["min of h"], [1, -inf, -inf, inf, 1])
    np.testing.assert_array_equal(by_kind["median of h"], [2, 0, 1, inf, 2])
    np.testing.assert_array_equal(by_kind["mode of h"], [1, -inf, -inf, inf, 1])
    np.testing.assert_allclose(by_kind["variance of h with ddof 0"], [np.nan] * 4 + [2 / 3])
    # A point of weight 0 adds nothing, not even if it is infinite.
    found = aggregate(np.zeros(2, int), {"h": np.array([inf, 3]), "w": np.array([0, 2])}, [STATISTICS[6]])[0]
    assert found.values.tolist() == [3]


def test_zeros_of_both_signs_are_one_value() -> None:
    cells, h = np.zeros(4, int), np.array([-0.0, 0.0, -0.0, 1])
    for kind in ("min", "mode", "median"):
        found = aggregate(cells, {"h": h}, [parse_statistic({kind: "h"})])[0].values
        assert not np.signbit(found[0])


def test_integers_stay_exact() -> None:
    top = 2**63 - 1
    cells = np.array([0, 0, 1, 1, 2])
    kinds = [parse_statistic({k: "h"}) for k in ("min", "max", "sum", "mode")]
    h = np.array([top - 5, 5, -(2**63), 1, 2**53 + 1])
    low, high, total, mode = (a.values.tolist() for a in aggregate(cells, {"h": h}, kinds))
    assert low == [5, -(2**63), 2**53 + 1]
    assert high == [top - 5, 1, 2**53 + 1]
    assert total == [top, -(2**63) + 1, 2**53 + 1]
    assert mode == low
    for h in (np.array([top, 1]), np.array([-(2**63), -1]), np.array([top] * 3 + [-(2**63)] * 1)):
        with pytest.raises(ValueError, match=r"the sum of integers in cell 7 is beyond int64: .*h \* 1.0"):
            aggregate(np.full(h.size, 7), {"h": h}, [parse_statistic({"sum": "h"})])
    # Beyond it on the way, but not in the end.
    h = np.array([top, top, -top, -top, 5])
    assert aggregate(np.zeros(5, int), {"h": h}, [parse_statistic({"sum": "h"})])[0].values.tolist() == [5]
    wide = {"h": np.array([2**64 - 1], "uint64")}
    with pytest.raises(ValueError, match="'h' holds integers beyond int64, such as 18446744073709551615"):
        aggregate(np.zeros(1, int), wide, [parse_statistic({"max": "h"})])
    assert aggregate(np.zeros(1, int), wide, [parse_statistic({"max": "h * 1.0"})])[0].values[0] == 2.0**64


def test_columns_may_be_expressions() -> None:
    cells, columns = points(300, 5)
    docs: list[Any] = [
        {"mean": "h - 2*w", "weights": "1/(1 + w)**2"}, {"sum": "h > 0"}, {"mean": "h > 0"}, {"sum": 1}, {"max": "sqrt(h)"}, {"first": "h*2", "by": "-t"}
    ]  # fmt: skip
    got = check(cells, columns, [parse_statistic(doc) for doc in docs])
    assert got[1].values.dtype == got[3].values.dtype == np.int64
    assert got[3].values.sum() == 300


def test_times_may_be_dates() -> None:
    t = np.array(["2020-01-03", "2020-01-01", "2020-01-01", "NaT", "NaT"], "datetime64[ns]")
    columns = {"h": np.array([3.0, 2.0, 1.0, 0.0, 5.0]), "t": t}
    first, last = aggregate(np.array([0, 0, 0, 0, 1]), columns, STATISTICS[15:17])
    assert (first.cells.tolist(), first.values.tolist()) == ([0], [1])
    assert last.values.tolist() == [3]
    with pytest.raises(ValueError, match=r"'t' holds datetime64\[ns\], and statistics are of numbers"):
        aggregate(np.zeros(5, int), columns, [parse_statistic({"min": "t"})])
    with pytest.raises(ValueError, match="'by' takes numbers or times"):
        aggregate(np.zeros(5, int), {**columns, "t": np.array(["a"] * 5)}, STATISTICS[15:16])


def test_weights_below_zero_or_without_end_are_refused() -> None:
    cells, columns = points(500, 10)
    columns["w"][:] = 1
    columns["h"][3] = np.nan
    columns["w"][[3, 40, 50]] = -1, -0.5, np.inf
    message = rf"weights 'w' are negative or infinite at 2 points \(such as -0.5 in cell {cells[40]}\): filter them out"
    with pytest.raises(ValueError, match=message):
        aggregate(cells, columns, [parse_statistic({"mean": "h", "weights": "w"})])
    columns["s"] = np.where(np.arange(500) == 7, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"weights '1/s\*\*2' .* at 1 point \(such as inf in cell"):
        aggregate(cells, columns, [parse_statistic({"sigma_of_mean": "h", "weights": "1/s**2"})])


def test_functions_get_sorted_values_and_give_one_number() -> None:
    cells, columns = points(200, 4, "float32")
    statistic = [parse_statistic({"function": "f", "of": "h"})]
    seen: list[np.ndarray] = []

    def spoil(values: np.ndarray) -> Any:
        seen.append(values.copy())
        values[:] = 0
        return np.float32(values.size)

    both = [*statistic, parse_statistic({"median": "h"})]
    got = aggregate(cells, columns, both, {"f": spoil})
    assert got[0].values.tolist() == np.unique(cells, return_counts=True)[1].tolist()
    np.testing.assert_array_equal(got[1].values, aggregate(cells, columns, both[1:])[0].values)
    np.testing.assert_array_equal(np.concatenate(seen), columns["h"][np.lexsort((columns["h"], cells))])
    assert seen[0].dtype == np.float64
    for wrong in (lambda v: v[:2], lambda _: None, lambda _: "a", lambda _: 1j):
        with pytest.raises(
            ValueError, match=r"function 'f' must return one number; on \d+ values of cell -2 it returned"
        ):
            aggregate(cells, columns, statistic, {"f": wrong})
    with pytest.raises(ValueError, match=r"function 'f' failed on \d+ values of cell -2: ZeroDivisionError: "):
        aggregate(cells, columns, statistic, {"f": lambda _: 1 // 0})
    with pytest.raises(ValueError, match=r"there is no function 'f'; did you mean 'ff'\? \(functions: ff\)"):
        aggregate(cells, columns, statistic, {"ff": len})


def test_columns_that_are_not_there_or_of_another_length_are_named() -> None:
    with pytest.raises(ValueError, match=r"'mean of h': there is no column 'h'; did you mean 'hh'\? \(columns: hh\)"):
        aggregate(np.zeros(2, int), {"hh": np.zeros(2)}, [parse_statistic({"mean": "h"})])
    with pytest.raises(ValueError, match=r"column 'h' has the shape \(3,\), the cells of the points \(2,\)"):
        aggregate(np.zeros(2, int), {"h": np.zeros(3)}, [parse_statistic({"mean": "h"})])


@pytest.mark.parametrize(
    ("doc", "text"),
    [
        ("count", "count"),
        ({"count": "h"}, "count of h"),
        ({"mean": " h ", "weights": "1/s**2"}, "mean of h weighted by 1/s**2"),
        ({"weights": "w", "sigma_of_mean": "h  - 1"}, "sigma_of_mean of h - 1 weighted by w"),
        ({"variance": "h"}, "variance of h with ddof 0"),
        ({"std": "h", "ddof": 1}, "std of h with ddof 1"),
        ({"quantile": "h", "q": 1}, "quantile 1.0 of h"),
        ({"first": "h", "by": "t"}, "first of h by t"),
        ({"function": "mad", "of": "h"}, "function mad of h"),
        ({"sum": 1}, "sum of 1"),
    ],
)
def test_a_statistic_has_one_text(doc: Any, text: str) -> None:
    assert parse_statistic(doc).text == text
    assert parse_statistic(doc) == parse_statistic(doc)


def test_a_statistic_names_its_columns() -> None:
    assert parse_statistic({"first": "h - geoid", "by": "t"}).names == {"h", "geoid", "t"}
    assert parse_statistic("count").names == frozenset()


@pytest.mark.parametrize(
    ("doc", "message"),
    [
        ("mean", r"statistic 'mean' is not 'count' or a mapping such as \{mean: h\}: write \{mean: COLUMN\}"),
        ("cuont", "did you mean 'count'"),
        (3, "got 3"),
        (None, "got None"),
        ({}, "got none"),
        ({"meen": "h"}, "got none; did you mean 'mean'"),
        ({"mean": "h", "min": "h"}, "got 'mean' and 'min'"),
        ({"mean": "h", "weight": "w"}, r"statistic 'mean' has no key 'weight'; did you mean 'weights'\? \(keys: mean, weights\)"),
        ({"median": "h", "weights": "w"}, r"statistic 'median' has no key 'weights' \(keys: median\)"),
        ({"sum": "h", "weights": "w"}, "has no key 'weights'"),
        ({"mean": "h", "ddof": 1}, "has no key 'ddof'"),
        ({"quantile": "h"}, "statistic 'quantile' of 'h' needs 'q'"),
        ({"first": "h"}, "statistic 'first' of 'h' needs 'by'"),
        ({"sigma_of_mean": "h"}, "statistic 'sigma_of_mean' of 'h' needs 'weights'"),
        ({"function": "f"}, "statistic 'function' of 'f' needs 'of'"),
        ({"function": 3, "of": "h"}, "takes the name of a function; got 3"),
        ({"quantile": "h", "q": 1.5}, "q must be a number from 0 to 1; got 1.5"),
        ({"quantile": "h", "q": "half"}, "q must be a number from 0 to 1; got 'half'"),
        ({"quantile": "h", "q": True}, "got True"),
        ({"quantile": "h", "q": float("nan")}, "got nan"),
        ({"variance": "h", "ddof": 2}, "statistic 'variance': ddof must be 0 or 1; got 2"),
        ({"variance": "h", "ddof": True}, "ddof must be 0 or 1; got True"),
        ({"variance": "h", "ddof": None}, "ddof must be 0 or 1; got None"),
        ({"mean": None}, "statistic 'mean', key 'mean': .*got None"),
        ({"mean": "h", "weights": "1/"}, "statistic 'mean', key 'weights': expression '1/': something is missing"),
        ({"mean": "h", "weights": None}, "key 'weights': .*got None"),
        ({"mean": ["h"]}, r"got \['h'\]"),
    ],
)  # fmt: skip
def test_what_is_no_statistic_is_refused(doc: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_statistic(doc)
