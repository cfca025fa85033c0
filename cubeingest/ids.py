"""Region ids: ``70N_180W`` or ``y5_x14``, from a template and back.

A template names a row (``iy``, ``top`` or ``bottom``) and a column (``ix``, ``left`` or ``right``). Edges are whole numbers in CRS
units, written as integers (``{left:06d}``) or with a hemisphere letter: ``{top:02H}`` gives ``70N``, ``{bottom:H02}``
``N45``, ``{left:H}`` ``0E``; zero is north and east.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from string import Formatter

from cubeingest.errors import GridError, nearest

_DIM = {"top": "y", "bottom": "y", "left": "x", "right": "x", "iy": "y", "ix": "x"}
_HEMISPHERES = {"y": "NS", "x": "EW"}


@dataclass(frozen=True)
class _Field:
    """One field of a template: its name and how it is written."""

    name: str
    width: str
    letter: str
    """``before``, ``after``, or empty for a plain integer."""

    @property
    def dim(self) -> str:
        return _DIM[self.name]

    @property
    def is_edge(self) -> bool:
        return self.name not in ("iy", "ix")

    @property
    def regex(self) -> str:
        hemisphere = f"[{_HEMISPHERES[self.dim]}]"
        return {"before": f"({hemisphere}[0-9]+)", "after": f"([0-9]+{hemisphere})", "": "(-?[0-9]+)"}[self.letter]

    def write(self, value: int) -> str:
        if not self.letter:
            return format(value, f"{self.width}d")
        number = format(abs(value), f"0{self.width}d" if self.width else "d")
        letter = _HEMISPHERES[self.dim][value < 0]
        return letter + number if self.letter == "before" else number + letter

    def read(self, text: str) -> int:
        if not self.letter:
            return int(text)
        letter, number = (text[0], text[1:]) if self.letter == "before" else (text[-1], text[:-1])
        return -int(number) if letter == _HEMISPHERES[self.dim][1] else int(number)


def _field(template: str, name: str, spec: str) -> _Field:
    if name not in _DIM:
        raise GridError(f"id {template!r} names {name!r}{nearest(name, list(_DIM))} (known: {', '.join(_DIM)})")
    match = re.fullmatch(r"(?P<after>[0-9]*)H|H(?P<before>[0-9]*)|(?P<plain>(0[0-9]+)?)d?", spec)
    if match is None:
        raise GridError(f"id {template!r}: cannot use format {spec!r}; write 02H, H02, 03d or nothing")
    if "H" not in spec:
        return _Field(name, match["plain"], "")
    if name in ("iy", "ix"):
        raise GridError(f"id {template!r}: {name} has no hemisphere; write {{{name}}} or {{{name}:03d}}")
    # A lone H is a number without padding, then the letter.
    after = spec == "H" or match["after"] is not None
    return _Field(name, (match["after"] if after else match["before"]) or "", "after" if after else "before")


@dataclass(frozen=True)
class IdTemplate:
    """A template on a lattice: ``origin`` and ``step`` by dimension are the first region's edge and a region's signed size.

    Raises :class:`GridError` for a template that cannot name each region of the lattice by its own id.
    """

    template: str
    origin_y: Fraction
    step_y: Fraction
    origin_x: Fraction
    step_x: Fraction

    def __post_init__(self) -> None:
        fields = [f for _, f in self._parts if f is not None]
        if {f.dim for f in fields} != {"y", "x"}:
            raise GridError(
                f"id {self.template!r} must name a row (iy, top or bottom) and a column (ix, left or right)"
            )
        for (_, first), (between, second) in itertools.pairwise(self._parts):
            if (
                first
                and second
                and not re.search("[^0-9]", between)
                and first.letter != "after"
                and second.letter != "before"
            ):
                raise GridError(
                    f"id {self.template!r}: two numbers side by side cannot be told apart; put text between"
                )
        for field in fields:
            origin, step = self._lattice(field)
            if field.is_edge and (origin.denominator != 1 or step.denominator != 1):
                raise GridError(
                    f"id {self.template!r} uses {field.name!r}, but region edges are not whole numbers "
                    f"(first {float(origin)!r}, step {float(step)!r}): use iy and ix"
                )

    @cached_property
    def _parts(self) -> tuple[tuple[str, _Field | None], ...]:
        try:
            pieces = list(Formatter().parse(self.template))
        except ValueError as e:
            raise GridError(f"id {self.template!r} is not a valid pattern: {e}") from None
        return tuple(
            (literal, None if name is None else _field(self.template, name, spec or ""))
            for literal, name, spec, _ in pieces
        )

    @cached_property
    def regex(self) -> str:
        """A regular expression that every id matches (and some strings that are none), without groups."""
        return "".join(re.escape(text) + ("" if f is None else f.regex.strip("()")) for text, f in self._parts)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("".join(re.escape(text) + ("" if f is None else f.regex) for text, f in self._parts))

    def _lattice(self, field: _Field) -> tuple[Fraction, Fraction]:
        return (self.origin_y, self.step_y) if field.dim == "y" else (self.origin_x, self.step_x)

    @cached_property
    def _fields(self) -> tuple[tuple[_Field, int, int], ...]:
        """Each field with what it is at index 0, and by how much it grows with the index; whole numbers both."""
        out = []
        for field in (f for _, f in self._parts if f is not None):
            origin, step = self._lattice(field) if field.is_edge else (0, 1)
            out.append((field, int(origin) + (int(step) if field.is_edge and self._is_far(field) else 0), int(step)))
        return tuple(out)

    def _is_far(self, field: _Field) -> bool:
        """Whether an edge is the one at the region's higher index."""
        if field.dim == "x":
            return field.name == "right"
        return (field.name == "bottom") == (self.step_y < 0)

    def write(self, iy: int, ix: int) -> str:
        """The id of the region in row ``iy``, column ``ix``."""
        fields = iter(self._fields)
        out = []
        for literal, named in self._parts:
            out.append(literal)
            if named is not None:
                field, first, step = next(fields)
                out.append(field.write(first + (iy if field.dim == "y" else ix) * step))
        return "".join(out)

    def pieces(self, shape_yx: tuple[int, int]) -> list[str | tuple[str, list[str]]]:
        """What ids are put together from on a lattice: text, or ``("y", [text of each row])``, or likewise ``"x"`` and columns.

        >>> IdTemplate("{iy}_{ix}", Fraction(0), Fraction(1), Fraction(0), Fraction(1)).pieces((2, 3))
        ['', ('y', ['0', '1']), '_', ('x', ['0', '1', '2'])]
        """
        fields = iter(self._fields)
        out: list[str | tuple[str, list[str]]] = []
        for literal, named in self._parts:
            out.append(literal)
            if named is not None:
                field, first, step = next(fields)
                out.append((field.dim, [field.write(first + i * step) for i in range(shape_yx[field.dim == "x"])]))
        return out

    def read(self, region_id: str) -> tuple[int, int] | None:
        """Row and column of an id, which the lattice may or may not have; None for a string that is no id."""
        match = self._pattern.fullmatch(region_id) if len(region_id) < MAX_LENGTH else None
        if match is None:
            return None
        index: dict[str, int] = {}
        for text, (field, first, step) in zip(match.groups(), self._fields, strict=True):
            place, off = divmod(field.read(text) - first, step)
            if off:
                return None
            index[field.dim] = place
        # One id, one spelling: 070N is not 70N, and two fields of a row must agree.
        return (index["y"], index["x"]) if self.write(index["y"], index["x"]) == region_id else None


MAX_LENGTH = 256
"""Characters in an id; Python refuses to read integers of several thousand digits."""
