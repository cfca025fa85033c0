"""Expressions against numpy and Python's own evaluation, and everything that is none."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeingest.expressions import FUNCTIONS, MAX_LENGTH, MAX_NESTING, parse_expression

RNG = np.random.default_rng(1)
COLUMNS: dict[str, np.ndarray] = {
    "h": RNG.normal(size=50).astype("float32"),
    "s": RNG.random(50),
    "q": RNG.integers(0, 4, 50, dtype=np.uint8),
    "n": RNG.integers(1, 65535, 50, dtype=np.uint16),
    "big": np.array([2**53, 2**53 + 1] * 25),
    "ok": RNG.random(50) < 0.5,
    "t": np.arange(50).astype("datetime64[D]"),
}


def value(text: object) -> Any:
    return parse_expression(text, COLUMNS).evaluate(COLUMNS)


@pytest.mark.parametrize(
    "text",
    [
        "1/s**2", "h - s*2 + 1", "-s**2", "2**-1", "2**3**2", "-2**2", "--s", "7//2 + s", "-7 % 3 + s", "s // 0.3 % 0.2", "(s)", "((s + 1)) * 2",
        ".5 + s", "5. + s", "1e-3 * s", "1E+2*s", "+s", "s - 1 - 2", "8 / 4 / 2", "s*-1",
    ],
)  # fmt: skip
def test_arithmetic_binds_as_in_python(text: str) -> None:
    expected = eval(text, {}, {k: v.astype("float64") for k, v in COLUMNS.items() if v.dtype.kind in "iuf"})
    np.testing.assert_allclose(value(text), expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h > 0", COLUMNS["h"] > 0),
        ("0 < h <= s", (COLUMNS["h"] > 0) & (COLUMNS["h"] <= COLUMNS["s"])),
        ("not h > 0 and ok", ~(COLUMNS["h"] > 0) & COLUMNS["ok"]),
        ("h > 0 or s < 0.2 and ok", (COLUMNS["h"] > 0) | ((COLUMNS["s"] < 0.2) & COLUMNS["ok"])),
        ("(h > 0) | (s < 0.2) & ~ok", (COLUMNS["h"] > 0) | ((COLUMNS["s"] < 0.2) & ~COLUMNS["ok"])),
        ("q in (1, 3)", np.isin(COLUMNS["q"], [1, 3])),
        ("q not in (1, 3,) and not ok", ~np.isin(COLUMNS["q"], [1, 3]) & ~COLUMNS["ok"]),
        ("q in (300, -1)", np.zeros(50, bool)),
        ("q == 300", np.zeros(50, bool)),
        ("q > -1", np.ones(50, bool)),
        ("big == 9007199254740993", COLUMNS["big"] == 2**53 + 1),
        ("big in (9007199254740993)", COLUMNS["big"] == 2**53 + 1),
        ("big < 99999999999999999999", np.ones(50, bool)),
        ("isnan(h / 0 * 0)", np.ones(50, bool)),
        ("isfinite(log(q))", COLUMNS["q"] > 0),
        ("ok == 1", COLUMNS["ok"]),
        ("1 < 2", np.True_),
    ],
)
def test_comparisons_and_logic_are_those_of_numpy(text: str, expected: Any) -> None:
    np.testing.assert_array_equal(value(text), expected, strict=True)


def test_functions_are_those_of_numpy() -> None:
    h, s = COLUMNS["h"].astype("float64"), COLUMNS["s"]
    for name in ("abs", "sqrt", "exp", "log", "log10", "sin", "cos", "tan", "floor", "ceil", "round"):
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(value(f"{name}(h)"), getattr(np, name)(h), strict=True)
    np.testing.assert_array_equal(value("maximum(h, minimum(s, 0.5))"), np.maximum(h, np.minimum(s, 0.5)))
    np.testing.assert_array_equal(value("where(h > 0, h, -s)"), np.where(h > 0, h, -s))
    assert value("abs(-1) + 1") == 2


def test_integers_and_single_floats_are_reckoned_with_as_double() -> None:
    n = COLUMNS["n"]
    np.testing.assert_array_equal(value("n + n"), n.astype("float64") * 2, strict=True)
    np.testing.assert_array_equal(value("0 - q"), 0.0 - COLUMNS["q"], strict=True)
    np.testing.assert_array_equal(value("ok + ok"), COLUMNS["ok"] * 2.0, strict=True)
    assert value("h * h").dtype == value("-h").dtype == value("where(ok, q, n)").dtype == np.float64
    assert parse_expression("v == 0.1").evaluate({"v": np.float32([0.1])}).all()


def test_a_name_alone_is_the_column_itself() -> None:
    for name, column in COLUMNS.items():
        assert value(name) is column
        assert value(f" ({name}) ").dtype == column.dtype


def test_constants_have_no_dimensions() -> None:
    for text, expected in ((1, 1), (2.5, 2.5), ("3", 3), (-4, -4), (1e300, 1e300), ("1/4", 0.25), ("1/0", np.inf)):
        found = value(text)
        assert isinstance(found, np.ndarray)
        assert (found.shape, found.item()) == ((), expected)
    assert value("9**9**9**9") == np.inf
    assert np.isnan(value("0/0"))


def test_columns_broadcast() -> None:
    columns = {"a": np.arange(3)[:, None], "b": np.arange(4)}
    np.testing.assert_array_equal(
        parse_expression("a + b").evaluate(columns), np.add.outer(np.arange(3.0), np.arange(4))
    )
    np.testing.assert_array_equal(
        parse_expression("0 <= a < b").evaluate(columns), np.arange(3)[:, None] < np.arange(4)
    )


def test_expressions_are_values() -> None:
    one, two = parse_expression("h  +\n s"), parse_expression(" h + s ")
    assert one == two
    assert hash(one) == hash(two)
    assert one.names == {"h", "s"}
    again = pickle.loads(pickle.dumps(one))
    assert again == one
    np.testing.assert_array_equal(again.evaluate(COLUMNS), two.evaluate(COLUMNS))
    assert parse_expression("where(abs > 0, sqrt(in_), nota)").names == {"abs", "in_", "nota"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h.x", r"'.' is not part of an expression \(character 2\)"),
        ("h[0]", r"'\[' is not part of an expression \(character 2\)"),
        ("'h'", "is not part of an expression"),
        ("h := 1", "':' is not part"),
        ("h = 1", "'=' is not part"),
        ("h @ s", "'@' is not part"),
        ("h ^ s", r"'\^' is not part of an expression \(character 3\)"),
        ("h # no", "'#' is not part"),
        ("{h}", "is not part"),
        ("lambda: h", "':' is not part"),
        ("h if ok else s", "an operator is missing before 'if'"),
        ("[h for h in s]", "is not part"),
        ("__import__(1)", r"'__import__\(...\)' is not part of an expression"),
        ("sqroot(h)", r"'sqroot\(...\)' is not part of an expression; did you mean 'sqrt'"),
        ("(abs)(h)", "an operator is missing before '\\('"),
        ("h(1)", r"'h\(...\)' is not part of an expression"),
        ("abs(h, 1)", r"abs\(\) takes 1 argument, got 2"),
        ("abs()", r"abs\(\) takes 1 argument, got 0"),
        ("minimum(h)", r"minimum\(\) takes 2 arguments, got 1"),
        ("maximum(h s)", "expected ',', got 's'"),
        ("where(1, 2, 3)", "'where' joins what is true or false"),
        ("h +", "something is missing at the end"),
        ("* h", r"'\*' is out of place \(character 1\)"),
        ("h +* s", r"'\*' is out of place \(character 4\)"),
        ("(h", r"'\)' is missing at the end"),
        ("h)", "an operator is missing before '\\)'"),
        ("2h", "'2h'... is not part of an expression"),
        ("0x10", "'0x'... is not part"),
        ("1_000", "'1_'... is not part"),
        ("1j", "'1j'... is not part"),
        ("1.2.3", "'1.2.'... is not part"),
        ("1e999", "1e999 is too large"),
        ("9" * 400, "is too large"),
        ("h > 1 & s < 2", "'&' joins what is true or false, not numbers: put comparisons beside it in parentheses"),
        ("not 1", "'not' joins what is true or false, not numbers"),
        ("h + 1 and ok", "'and' joins what is true or false"),
        ("~3", "'~' joins"),
        ("q in 1", r"expected '\(', got '1'"),
        ("q in ()", "at least one number"),
        ("q in (s)", "'in' takes numbers in parentheses"),
        ("q in (1 2)", "expected ',', got '2'"),
        ("0 < q in (1, 2)", "'in' after a comparison: use parentheses"),
        ("q not 1", "an operator is missing before 'not'"),
        ("h, s", "an operator is missing before ','"),
        ("hh > 0", r"there is no column 'hh' \(character 1\); did you mean 'h'\? \(columns: big, h, n, ok, q, s, t\)"),
        ("s + elevation", r"there is no column 'elevation' \(character 5\)"),
        ("", "got an empty text"),
        ("   ", "got an empty text"),
        (None, "got None"),
        (True, "got True"),
        ([1], r"got \[1\]"),
        (float("nan"), "must be finite; got nan"),
        (float("inf"), "must be finite; got inf"),
        ("h" * (MAX_LENGTH + 1), f"has {MAX_LENGTH + 1} characters"),
        ("(" * (MAX_NESTING + 1) + "h" + ")" * (MAX_NESTING + 1), f"more than {MAX_NESTING} levels"),
        ("-" * 900 + "h", "levels within one another"),
        ("not " * 200 + "ok", "levels within one another"),
        ("h" + "**h" * 200, "levels within one another"),
        ("abs(" * 100 + "h" + ")" * 100, "levels within one another"),
    ],
)
def test_what_is_no_expression_is_refused(text: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_expression(text, COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h and ok", "'and' takes what is true or false, got float32: compare it"),
        ("~q", "'~' takes what is true or false, got uint8"),
        ("(q > 1) & q", r"as in '\(a > 0\) & \(b != 0\)'"),
        ("where(q, 1, 2)", "'where' takes what is true or false, got uint8"),
        ("t > 3", r"column 't' holds datetime64\[D\]"),
        ("h + z", r"there is no column 'z' \(columns: h, s"),
    ],
)
def test_columns_that_do_not_fit_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_expression(text).evaluate(COLUMNS)


def test_what_is_allowed_to_nest_can_be_nested() -> None:
    for start, end in (("(", ")"), ("abs(", ")"), ("-", ""), ("2**", "")):
        assert value(start * MAX_NESTING + "1" + end * MAX_NESTING).shape == ()


def test_long_expressions_need_no_deep_stack() -> None:
    assert value("+".join(["1"] * 499)) == 499
    np.testing.assert_array_equal(value(" or ".join(["ok"] * 160)), COLUMNS["ok"])


def test_every_function_can_be_called() -> None:
    for name, count in FUNCTIONS.items():
        arguments = ", ".join((["ok"] if name == "where" else ["h"]) + ["s"] * (count - 1))
        assert value(f"{name}({arguments})").shape == (50,)


@given(st.text(alphabet="hsq01.()+-*/%<>=!&|~, andotri", max_size=30))
def test_any_text_is_an_expression_or_a_value_error(text: str) -> None:
    try:
        found = parse_expression(text, COLUMNS)
        found.evaluate(COLUMNS)
    except ValueError:
        return
    assert found.text == " ".join(text.split())
