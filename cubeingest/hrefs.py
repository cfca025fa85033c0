"""Href patterns such as ``tiles/{year}/{id}.tif``: filled in, and read back from a line of a list or a file's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter

from cubeingest.errors import CatalogError
from cubeingest.grid import Grid, TilingGrid
from cubeingest.storage import public_href

ANYTHING = "[^/]+?"
"""What may stand in a field's place, for a message that says what is wrong with it."""


@dataclass(frozen=True)
class HrefPattern:
    """A pattern whose fields are ``id`` and axes of ``grid``, the lattice that its tiles are named by."""

    text: str
    grid: Grid

    @cached_property
    def fields(self) -> dict[str, str]:
        """Format of each field, by name, in order of appearance."""
        return {name: spec or "" for _, name, spec, _ in Formatter().parse(self.text) if name is not None}

    def fill(self, position: Mapping[str, int], region_id: str | None = None) -> str:
        """The href at an axis position (an index for each axis by name), of a region if the pattern names one."""
        values = {name: self.grid.axis(name).values[i] for name, i in position.items()}
        return self.text.format(**values, **({} if region_id is None else {"id": region_id}))

    def find_value(self, axis: str, text: str) -> int | None:
        """Position of the axis value that the pattern writes as ``text``, or None."""
        spec = self.fields[axis]
        return next((i for i, v in enumerate(self.grid.axis(axis).values) if format(v, spec) == text), None)

    def match_whole(self, line: str) -> dict[str, str] | None:
        """Texts of the fields if ``line`` is the whole href of a known axis value and a well-formed id.

        Raises :class:`CatalogError` if its axis values can be read in two ways.
        """
        match = self._whole[0].fullmatch(line)
        if match is None:
            return None
        other = self._whole[1].fullmatch(line)
        if other is not None and other.groupdict() != match.groupdict():
            raise CatalogError(self._two_ways(line, match.groupdict(), other.groupdict()))
        return match.groupdict()

    @cached_property
    def _whole(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """The pattern with the values of each axis tried from the first on, and from the last: they differ where there are two ways."""
        return (
            re.compile(self._regex(self.text, strict=True)),
            re.compile(self._regex(self.text, strict=True, backwards=True)),
        )

    def _two_ways(self, line: str, one: Mapping[str, str], other: Mapping[str, str]) -> str:
        a, b = (", ".join(f"{k} {v}" for k, v in m.items()) for m in (one, other))
        return (
            f"{public_href(line)!r} can be read in two ways by {self.text!r} ({a}; or {b}): put a text between the fields that no "
            "value holds, or name href and axis values in a source.tiles.table"
        )

    def match_end(self, line: str) -> dict[str, str] | None:
        """Texts of the fields if ``line`` ends as the pattern does, from its first field or at least in its last segment.

        Known values and well-formed ids come before anything that merely stands in their place, which is given too, so
        that the caller can say what is wrong with it.
        """
        for strict, forwards, backwards in self._ends:
            match = forwards.search(line)
            if match is None:
                continue
            other = backwards.search(line) if strict else None
            if other is not None and other.groupdict() != match.groupdict():
                raise CatalogError(self._two_ways(line, match.groupdict(), other.groupdict()))
            return match.groupdict()
        return None

    @cached_property
    def _ends(self) -> tuple[tuple[bool, re.Pattern[str], re.Pattern[str]], ...]:
        segments = self.text.split("/")
        first = next((i for i, s in enumerate(segments) if "{" in s), len(segments) - 1)
        from_first, last = "/".join(segments[first:]), segments[-1]
        tails = ((from_first, True), (from_first, False), (last, True), (last, False))
        return tuple((strict, self._end(tail, strict, False), self._end(tail, strict, True)) for tail, strict in tails)

    def _end(self, tail: str, strict: bool, backwards: bool) -> re.Pattern[str]:
        return re.compile(rf"(?:^|/){self._regex(tail, strict, backwards)}$")

    def _regex(self, pattern: str, strict: bool, backwards: bool = False) -> str:
        return "".join(self._regex_parts(pattern, strict, backwards))

    def _regex_parts(self, pattern: str, strict: bool, backwards: bool) -> Iterator[str]:
        seen: set[str] = set()
        for literal, name, spec, _ in Formatter().parse(pattern):
            yield re.escape(literal)
            if name is None:
                continue
            if name in seen:
                yield f"(?P={name})"
                continue
            seen.add(name)
            yield f"(?P<{name}>{self._choice(name, spec or '', backwards) if strict else ANYTHING})"

    def _choice(self, name: str, spec: str, backwards: bool) -> str:
        if name == "id":
            assert isinstance(self.grid, TilingGrid), "granules of points are not named by region"
            return self.grid.ids.regex
        values = self.grid.axis(name).values
        return "|".join(re.escape(format(v, spec)) for v in (reversed(values) if backwards else values))
