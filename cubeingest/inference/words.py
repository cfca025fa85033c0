"""What varies in names that are otherwise alike: years, dates, numbers and words. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

ID = "\0"
"""Stands for the region id in a name."""

YEARS = range(1900, 2101)

FORMATS = ("%Y", "%m", "%d", "%j", "%Y%m", "%Y%m%d", "%Y%j", "%Y%m%dT%H%M%S", "%Y%m%d%H%M%S")
"""Ways in which a name may write a date, or part of one."""

WHOLE_DATES = {
    r"\d{8}T\d{6}": "%Y%m%dT%H%M%S",
    r"\d{14}": "%Y%m%d%H%M%S",
    r"\d{8}": "%Y%m%d",
    r"\d{7}": "%Y%j",
    r"\d{6}": "%Y%m",
    r"\d{4}": "%Y",
}
"""A date in one piece, by what it looks like."""

DATE_PARTS = (("%Y", "%m", "%d"), ("%Y", "%m"), ("%Y", "%j"))
"""A date in several words, one separator between each."""

DIGITS = {"%Y": 4, "%m": 2, "%d": 2, "%j": 3}


def split_name(name: str) -> tuple[str, ...]:
    """A name in words and the separators between them; the id counts as a separator."""
    return tuple(re.findall(r"[^\W_]+|[\W_]", name))


def shape_of(tokens: Sequence[str]) -> tuple[str, ...]:
    """What names that are alike share: their separators and where words stand."""
    return tuple("w" if t[0].isalnum() else t for t in tokens)


@dataclass(frozen=True)
class Column:
    """The word at one place of names that are alike, in every one of them: ``prefix`` and ``suffix`` are what all share."""

    place: int
    words: tuple[str, ...]
    prefix: str
    suffix: str

    @property
    def cores(self) -> tuple[str, ...]:
        return tuple(w[len(self.prefix) : len(w) - len(self.suffix)] for w in self.words)

    @property
    def varies(self) -> bool:
        return len(set(self.words)) > 1


def columns_of(names: Sequence[tuple[str, ...]]) -> list[Column]:
    """The words, place by place, of split names of one shape. Numbers are not cut in two."""
    return [_column(i, tuple(n[i] for n in names)) for i, token in enumerate(names[0]) if token[0].isalnum()]


def _column(place: int, words: tuple[str, ...]) -> Column:
    if len(set(words)) == 1:
        match = re.fullmatch(r"(\D*)\d+(\D*)", words[0])
        return Column(place, words, *(match.groups() if match else ("", "")))
    if all(re.fullmatch(r"\d{8}T\d{6}", w) for w in words):
        return Column(place, words, "", "")
    prefix = re.sub(r"\d+$", "", str(shared_start(words)))
    rest = [w[len(prefix) :] for w in words]
    suffix = re.sub(r"^\d+", "", shared_end(rest))
    return Column(place, words, prefix, suffix)


@dataclass(frozen=True)
class Times:
    """Years or dates that names tell: the format by column, and the date of each name."""

    formats: tuple[tuple[Column, str], ...]
    values: tuple[datetime, ...]

    @property
    def is_years(self) -> bool:
        return [f for _, f in self.formats] == ["%Y"]

    @property
    def example(self) -> str:
        return "-".join(c.words[0] for c, _ in self.formats)


def find_times(names: Sequence[tuple[str, ...]], columns: Sequence[Column]) -> list[Times]:
    """All that may be a varying year or date, in the order of the names; those in several words first."""
    found: list[Times] = []
    used: set[int] = set()
    for i, column in enumerate(columns):
        parts = _in_words(names, columns, i)
        if parts is not None and not used & {c.place for c, _ in parts.formats}:
            found.append(parts)
            used |= {c.place for c, _ in parts.formats}
        elif column.place not in used and column.varies and (whole := _in_one_word(column)) is not None:
            found.append(whole)
    return found


def _in_one_word(column: Column) -> Times | None:
    for pattern, form in WHOLE_DATES.items():
        if all(re.fullmatch(pattern, core) for core in column.cores):
            values = _parse(column.cores, form)
            if values is not None:
                return Times(((column, form),), values)
    return None


def _in_words(names: Sequence[tuple[str, ...]], columns: Sequence[Column], first: int) -> Times | None:
    """A date in the words from ``first`` on: ``2020-01-31`` or folders ``2020/01``."""
    for forms in DATE_PARTS:
        some = columns[first : first + len(forms)]
        if len(some) < len(forms) or any(b.place - a.place != 2 for a, b in itertools.pairwise(some)):
            continue
        if not all(
            len(core) == DIGITS[f] and core.isdecimal() for c, f in zip(some, forms, strict=True) for core in c.cores
        ):
            continue
        if any(c.prefix or c.suffix for c in some[1:]):
            continue  # v100 is no day of the year
        # A number after a year that never varies is a month only where it is written as one.
        separators = {names[0][a.place + 1] for a in some[:-1]}
        if not any(c.varies for c in some) or (not any(c.varies for c in some[1:]) and separators != {"-"}):
            continue
        texts = [" ".join(words) for words in zip(*(c.cores for c in some), strict=True)]
        values = _parse(texts, " ".join(forms))
        if values is not None:
            return Times(tuple(zip(some, forms, strict=True)), values)
    return None


def _parse(texts: Sequence[str], form: str) -> tuple[datetime, ...] | None:
    try:
        values = tuple(datetime.strptime(text, form) for text in texts)
    except ValueError:
        return None
    return values if all(v.year in YEARS for v in values) else None


def write_as(column: Column, values: Sequence[datetime]) -> str | None:
    """The format by which a column writes each name's date, if it does."""
    return next(
        (f for f in FORMATS if all(v.strftime(f) == core for v, core in zip(values, column.cores, strict=True))), None
    )


def decides(by: Sequence[object], what: Sequence[object]) -> bool:
    """Whether equal values of ``by`` always go with equal values of ``what``."""
    known: dict[object, object] = {}
    return all(known.setdefault(b, w) == w for b, w in zip(by, what, strict=True))


def numbers_of(column: Column) -> tuple[tuple[int, ...], str] | None:
    """The whole numbers that a column writes and their format (``02d`` or empty), or None."""
    cores = column.cores
    if not all(c.isdecimal() and len(c) < 10 for c in cores):
        return None
    values = tuple(int(c) for c in cores)
    for form in ("", f"0{min(map(len, cores))}d"):
        if all(format(v, form) == c for v, c in zip(values, cores, strict=True)):
            return values, form
    return None


def shared_start[T](some: Sequence[Sequence[T]]) -> Sequence[T]:
    """What several texts, or lists, start with."""
    first = some[0]
    same = itertools.takewhile(lambda i: all(len(s) > i and s[i] == first[i] for s in some), range(len(first)))
    return first[: sum(1 for _ in same)]


def shared_end(some: Sequence[str]) -> str:
    """What several texts end with."""
    return "".join(reversed(shared_start([s[::-1] for s in some])))
