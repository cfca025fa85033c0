"""A small language of arithmetic and comparisons over named columns: filters, weights, band arithmetic. Nothing in it runs code."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from cubeingest.errors import nearest

Array = np.ndarray[Any, Any]
Number = int | float
Step = tuple[str, Any, int]
"""(what, its argument, how many values it takes from the stack)"""

MAX_LENGTH = 1000
"""Characters of an expression: longer ones are slips, or attacks."""
MAX_NESTING = 20
"""Parentheses, signs and powers within one another: each costs the parser a dozen frames of Python's stack."""

ONE: dict[str, Callable[..., Array]] = {
    "abs": np.abs, "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "log10": np.log10, "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "isnan": np.isnan, "isfinite": np.isfinite, "floor": np.floor, "ceil": np.ceil, "round": np.round,
}  # fmt: skip
TWO: dict[str, Callable[..., Array]] = {"minimum": np.minimum, "maximum": np.maximum}
FUNCTIONS: dict[str, int] = {**dict.fromkeys(ONE, 1), **dict.fromkeys(TWO, 2), "where": 3}
"""How many arguments each takes."""

ARITHMETIC: dict[str, Callable[..., Array]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.true_divide, "//": np.floor_divide, "%": np.mod,
}  # fmt: skip
COMPARISONS: dict[str, Callable[..., Array]] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
}  # fmt: skip
WORDS = ("and", "or", "not", "in")
WORD_OR_SIGN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<sign>\*\*|//|<=|>=|==|!=|[-+*/%<>&|~(),]))"
)


@dataclass(frozen=True)
class Expression:
    """An expression that was understood; two are equal if their texts are."""

    text: str
    names: frozenset[str] = field(compare=False)
    """The columns that it reads."""

    def evaluate(self, columns: Mapping[str, Array]) -> Array:
        """The value at every point, as an array of the columns' common shape; of a constant an array without dimensions.

        A column's name alone is that column, of its own dtype. Otherwise arithmetic and functions are done in float64,
        whatever the columns are (uint16 would wrap, float32 would lose digits), and what is not defined becomes inf or NaN.
        Integers are compared exactly, columns with constants as numpy does it: 0.1 is that of float32 beside a column of float32.

        Raises :class:`ValueError` for a column that is not there, or not of numbers.
        """
        steps = _parse(self.text)
        with np.errstate(all="ignore"):
            return np.asarray(_run(steps, columns, self.text))


def parse_expression(text: object, known: Collection[str] | None = None) -> Expression:
    """The expression that ``text`` is: a str, or a number, as YAML reads a constant.

    There are numbers, columns, ``+ - * / // % **``, comparisons (``0 < h < 5``), ``in (1, 2)``, ``not in (1, 2)``, ``and or not``
    (or ``& | ~``) of what is true or false, parentheses, and the functions of :data:`FUNCTIONS`.
    All bind as in Python. With ``known``, columns must be among these.

    Raises :class:`ValueError` that says what is wrong and where.
    """
    if isinstance(text, Number) and not isinstance(text, bool):
        if not np.isfinite(text):
            raise ValueError(f"a constant must be finite; got {text!r}")
        text = repr(text)
    if not isinstance(text, str):
        raise ValueError(f"an expression is a text or a number, such as 'h > 0'; got {text!r}")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"expression {text[:40] + '...'!r} has {len(text)} characters (allowed {MAX_LENGTH})")
    text = " ".join(text.split())
    names = frozenset(what for kind, what, _ in _parse(text) if kind == "column")
    if known is not None:
        for name in sorted(names - set(known)):
            listed = ", ".join(sorted(known)) or "none"
            at = _place(text, name)
            raise ValueError(
                f"expression {text!r}: there is no column {name!r}{at}{nearest(name, list(known))} (columns: {listed})"
            )
    return Expression(text, names)


def _place(text: str, name: str) -> str:
    found = re.search(rf"\b{re.escape(name)}\b", text)
    return f" (character {found.start() + 1})" if found else ""


@lru_cache(maxsize=256)
def _parse(text: str) -> tuple[Step, ...]:
    return _Parser(text).parse()


class _Parser:
    """From words and signs to steps of a stack machine (operands first), so that running them needs no recursion.

    Every method returns whether what it read is of ``truth`` (true or false), ``number``, or ``any``, if only the columns tell.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.steps: list[Step] = []
        self.words = [*self._split()]
        self.position = 0
        self.depth = 0

    def _split(self) -> list[tuple[str, str, int]]:
        """(kind, text, place), and an end."""
        found: list[tuple[str, str, int]] = []
        at = 0
        while at < len(self.text):
            match = WORD_OR_SIGN.match(self.text, at)
            if match is None or match.lastgroup is None:
                at += self.text[at] == " "
                raise self._error(f"{self.text[at]!r} is not part of an expression", at)
            kind, start = match.lastgroup, match.start(match.lastgroup)
            at = match.end()
            if kind == "number" and re.match(r"[\w.]", self.text[at : at + 1]):
                raise self._error(f"{match[kind] + self.text[at]!r}... is not part of an expression", start)
            found.append(("sign" if match[kind] in WORDS else kind, match[kind], start))
        return [*found, ("end", "", len(self.text))]

    def _error(self, what: str, at: int) -> ValueError:
        return ValueError(f"expression {self.text!r}: {what} (character {at + 1})")

    def parse(self) -> tuple[Step, ...]:
        if len(self.words) == 1:
            raise ValueError("an expression is a text or a number, such as 'h > 0'; got an empty text")
        self._or()
        kind, word, at = self.words[self.position]
        if kind != "end":
            if word == "(" and self.words[self.position - 1][0] == "name":
                what = f"{self.words[self.position - 1][1]}(...)"
                raise self._error(f"{what!r} is not part of an expression", at)
            raise self._error(f"an operator is missing before {word!r}, or {word!r} is one too many", at)
        return tuple(self.steps)

    def _peek(self, *signs: str) -> bool:
        kind, word, _ = self.words[self.position]
        return kind == "sign" and word in signs

    def _take(self) -> str:
        self.position += 1
        return self.words[self.position - 1][1]

    def _expect(self, sign: str) -> None:
        _, word, at = self.words[self.position]
        if not self._peek(sign):
            raise self._error(f"expected {sign!r}, got {word!r}" if word else f"{sign!r} is missing at the end", at)
        self.position += 1

    def _deeper(self, read: Callable[[], str]) -> str:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise self._error(f"more than {MAX_NESTING} levels within one another", self.words[self.position][2])
        found = read()
        self.depth -= 1
        return found

    def _truth(self, kind: str, sign: str, at: int) -> None:
        if kind == "number":
            hint = ": put comparisons beside it in parentheses" if sign in "&|~" else ""
            raise self._error(f"{sign!r} joins what is true or false, not numbers{hint}", at)

    def _join(self, signs: tuple[str, ...], step: str, read: Callable[[], str]) -> str:
        kind = read()
        while self._peek(*signs):
            at = self.words[self.position][2]
            sign = self._take()
            for side in (kind, read()):
                self._truth(side, sign, at)
            self.steps.append((step, sign, 2))
            kind = "truth"
        return kind

    def _or(self) -> str:
        return self._join(("or",), "or", lambda: self._join(("and",), "and", self._not))

    def _not(self) -> str:
        if not self._peek("not"):
            return self._comparison()
        at = self.words[self.position][2]
        self._take()
        self._truth(self._deeper(self._not), "not", at)
        self.steps.append(("not", "not", 1))
        return "truth"

    def _comparison(self) -> str:
        kind = self._bits()
        signs: list[str] = []
        while self._peek(*COMPARISONS):
            signs.append(self._take())
            self._bits()
        if signs:
            self.steps.append(("compare", tuple(signs), len(signs) + 1))
            kind = "truth"
        negated = self._peek("not") and self.words[self.position + 1][1] == "in"
        if negated or self._peek("in"):
            if signs:
                raise self._error("'in' after a comparison: use parentheses", self.words[self.position][2])
            self.position += 1 + negated
            self.steps.append(("in", self._numbers(), 1))
            if negated:
                self.steps.append(("not", "not", 1))
            kind = "truth"
        return kind

    def _numbers(self) -> tuple[Number, ...]:
        """What stands after ``in``."""
        self._expect("(")
        found: list[Number] = []
        while not self._peek(")"):
            negative = self._peek("-") and bool(self._take())
            kind, word, at = self.words[self.position]
            if kind != "number":
                raise self._error(f"'in' takes numbers in parentheses, such as (1, 2); got {word!r}", at)
            self.position += 1
            number = self._number(word, at)
            found.append(-number if negative else number)
            if not self._peek(")"):
                self._expect(",")
        if not found:
            raise self._error("'in' takes at least one number, such as (1, 2)", self.words[self.position][2])
        self._take()
        return tuple(found)

    def _bits(self) -> str:
        return self._join(("|",), "or", lambda: self._join(("&",), "and", self._sum))

    def _chain(self, signs: tuple[str, ...], read: Callable[[], str]) -> str:
        kind = read()
        while self._peek(*signs):
            sign = self._take()
            read()
            self.steps.append(("arithmetic", sign, 2))
            kind = "number"
        return kind

    def _sum(self) -> str:
        return self._chain(("+", "-"), lambda: self._chain(("*", "/", "//", "%"), self._unary))

    def _unary(self) -> str:
        if not self._peek("-", "+", "~"):
            return self._power()
        at = self.words[self.position][2]
        sign = self._take()
        before = len(self.steps)
        kind = self._deeper(self._unary)
        if sign == "~":
            self._truth(kind, sign, at)
            self.steps.append(("not", "~", 1))
            return "truth"
        if sign == "-":
            if len(self.steps) == before + 1 and self.steps[-1][0] == "number":
                self.steps[-1] = ("number", -self.steps[-1][1], 0)
            else:
                self.steps.append(("minus", sign, 1))
        return "number"

    def _power(self) -> str:
        kind = self._atom()
        if self._peek("**"):
            self._take()
            self._deeper(self._unary)
            self.steps.append(("power", "**", 2))
            return "number"
        return kind

    def _atom(self) -> str:
        kind, word, at = self.words[self.position]
        self.position += 1
        if kind == "number":
            self.steps.append(("number", self._number(word, at), 0))
            return "number"
        if kind == "name":
            if self._peek("("):
                return self._deeper(lambda: self._call(word, at))
            self.steps.append(("column", word, 0))
            return "any"
        if word == "(":
            found = self._deeper(self._or)
            self._expect(")")
            return found
        raise self._error("something is missing at the end" if kind == "end" else f"{word!r} is out of place", at)

    def _call(self, name: str, at: int) -> str:
        if name not in FUNCTIONS:
            hint = nearest(name, [*FUNCTIONS])
            raise self._error(
                f"{name + '(...)'!r} is not part of an expression{hint} (functions: {', '.join(FUNCTIONS)})", at
            )
        self._take()
        kinds: list[str] = []
        while not self._peek(")"):
            kinds.append(self._or())
            if not self._peek(")"):
                self._expect(",")
        self._take()
        if len(kinds) != FUNCTIONS[name]:
            wanted = FUNCTIONS[name]
            raise self._error(f"{name}() takes {wanted} argument{'s' if wanted > 1 else ''}, got {len(kinds)}", at)
        if name == "where":
            self._truth(kinds[0], "where", at)
        self.steps.append(("call", name, len(kinds)))
        return "truth" if name in ("isnan", "isfinite") else "number"

    def _number(self, word: str, at: int) -> Number:
        """Of digits alone an int, so that it is compared exactly, if numpy has one as large."""
        number = float(word)
        if not np.isfinite(number):
            raise self._error(f"{word} is too large", at)
        return int(word) if word.isdigit() and int(word) < 2**63 else number


def _run(steps: tuple[Step, ...], columns: Mapping[str, Array], text: str) -> Any:
    stack: list[Any] = []
    for step, what, takes in steps:
        values = stack[len(stack) - takes :]
        del stack[len(stack) - takes :]
        if step == "number":
            stack.append(what)
        elif step == "column":
            stack.append(_column(what, columns, alone=len(steps) == 1, text=text))
        elif step == "compare":
            pairs = [COMPARISONS[s](a, b) for s, a, b in zip(what, values, values[1:], strict=False)]
            stack.append(np.logical_and.reduce(np.broadcast_arrays(*pairs)) if len(pairs) > 1 else pairs[0])
        elif step == "in":
            hits = values[0] == what[0]
            for number in what[1:]:
                hits = hits | (values[0] == number)
            stack.append(np.asarray(hits))
        elif step in ("and", "or", "not"):
            true = [_true(value, what, text) for value in values]
            stack.append({"and": np.logical_and, "or": np.logical_or, "not": np.logical_not}[step](*true))
        else:
            stack.append(_calculate(step, what, values, text))
    return stack[0]


def _calculate(step: str, what: str, values: list[Any], text: str) -> Any:
    """Arithmetic or a function, in float64."""
    if what == "where":
        return np.where(_true(values[0], what, text), *(_number_of(v) for v in values[1:]))
    numbers = [_number_of(value) for value in values]
    if step == "call":
        return (ONE.get(what) or TWO[what])(*numbers)
    if step == "minus":
        return np.negative(*numbers)
    if step == "power":
        # The operator knows squares and roots, which np.power does the long way.
        return numbers[0] ** numbers[1]
    return ARITHMETIC[what](*numbers)


def _number_of(value: Any) -> Any:
    return np.float64(value) if isinstance(value, Number) else value.astype(np.float64, copy=False)


def _true(value: Any, sign: str, text: str) -> Any:
    dtype = np.asarray(value).dtype
    if dtype.kind != "b":
        raise ValueError(
            f"expression {text!r}: {sign!r} takes what is true or false, got {dtype}: "
            f"compare it, as in '(a > 0) {sign if sign in '&|' else 'and'} (b != 0)'"
        )
    return value


def _column(name: str, columns: Mapping[str, Array], *, alone: bool, text: str) -> Array:
    if name not in columns:
        hint = nearest(name, [*columns])
        raise ValueError(
            f"expression {text!r}: there is no column {name!r}{hint} (columns: {', '.join(columns) or 'none'})"
        )
    column = np.asarray(columns[name])
    if not alone and column.dtype.kind not in "biuf":
        raise ValueError(
            f"expression {text!r}: column {name!r} holds {column.dtype}, and only numbers can be reckoned with"
        )
    return column
