"""The id template that the tiles' names follow: tried on the first names, proven on every one. Pure."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from cubeingest.errors import GridError
from cubeingest.ids import IdTemplate
from cubeingest.inference.lattice import Lattice
from cubeingest.inference.tiles import Seen

HEMISPHERES = {"N": ("y", 1), "S": ("y", -1), "E": ("x", 1), "W": ("x", -1)}

MARKS = {("y", "x"), ("iy", "ix"), ("r", "c"), ("row", "col"), ("row", "column"), ("v", "h")}
"""Words before two numbers that say the one counts rows and the other columns."""

MOST_BETWEEN = 12
"""Characters between the row and the column of an id."""

MOST_PLACES = 20_000
"""Places of a grid whose names count from far away: each of them is asked for."""

USUAL_WIDTH = {"y": 2, "x": 3}
"""Digits of padded latitudes and longitudes."""

TRIED_FIRST = 20
"""Tiles that a template is tried on before all are."""

COORDINATE_DIGITS = 4
"""Digits of a number that is not some other number by chance."""


@dataclass(frozen=True)
class IdFound:
    """A template, by which names count ``shift_yx`` rows and columns before the first tile's, and the id of each tile named so."""

    template: str
    shift_yx: tuple[int, int]
    ids: Mapping[str, str]
    guess: str = ""


@dataclass(frozen=True)
class _Part:
    """A number in a name that may be a row or a column: the field of a template that writes it."""

    start: int
    stop: int
    name: str
    letter: str
    digits: str
    shift: int = 0
    word: str = ""
    """The letters before it."""
    mark: str = ""
    """The same where they belong to the id."""

    @property
    def dim(self) -> str:
        return "y" if self.name in ("top", "bottom", "iy") else "x"

    @property
    def rank(self) -> int:
        return 0 if self.letter else 2 if self.name in ("iy", "ix") else 1

    def fields(self) -> Iterator[tuple[bool, str]]:
        """(whether padded, field); both ways where the digits do not tell."""
        width = len(self.digits)
        if not (width > 1 and self.digits.startswith("0")):
            yield False, self.mark + "{" + self.name + {"after": ":H", "before": ":H1", "": ""}[self.letter] + "}"
            if width < (USUAL_WIDTH[self.dim] if self.letter else 2):
                return
        padded = {"after": f"{width:02d}H", "before": f"H{width:02d}", "": f"{width:02d}d"}[self.letter]
        yield True, self.mark + "{" + self.name + ":" + padded + "}"


@dataclass(frozen=True)
class _Candidate:
    rank: int
    structure: tuple[str, ...]
    template: str
    shift_yx: tuple[int, int]
    padded: tuple[bool, bool]
    parts: tuple[_Part, _Part] = field(compare=False)


def find_id(lattice: Lattice) -> tuple[IdFound | None, str]:
    """The template that the names of most tiles follow; if there is none, what is to be said about it (often nothing)."""
    if lattice.step_yx is None or lattice.overlap_yx != (0, 0):
        return None, ""
    tiles = [t for t in lattice.tiles if _is_cell(lattice, t)]
    if len(tiles) * 2 <= len(lattice.tiles):
        return None, ""
    some = tiles[:: max(1, len(tiles) // TRIED_FIRST)]
    proven: list[tuple[_Candidate, dict[str, str]]] = []
    for candidate in dict.fromkeys(c for i in (0, len(tiles) // 2, -1) for c in _candidates(lattice, tiles[i])):
        if len(_prove(lattice, some, candidate)) * 2 > len(some):
            ids = _prove(lattice, tiles, candidate)
            if len(ids) * 2 > len(lattice.tiles) and _has_evidence(lattice, ids, candidate):
                proven.append((candidate, ids))
    if not proven:
        return None, ""
    most = max(len(ids) for _, ids in proven)
    rank = min(c.rank for c, ids in proven if len(ids) == most)
    likely = [(c, ids) for c, ids in proven if len(ids) == most and c.rank == rank]
    marked = [(c, ids) for c, ids in likely if all(part.mark for part in c.parts)]
    likely = marked or likely
    structures = {c.structure: c.template for c, _ in reversed(likely)}
    if len(structures) > 1 and rank > 0 and not marked:
        ways = " or ".join(sorted(structures.values())[:2])
        return None, (
            f"the numbers in the names may be row and column either way ({ways}): say which with grid.id, and put {{id}} into source.href"
        )
    structure = min(structures, key=lambda s: len(s[1]))
    alike = {c.padded: (c, ids) for c, ids in likely if c.structure == structure}
    found = _choose(alike)
    places = _places(lattice, found.shift_yx)
    if places > max(MOST_PLACES, 2 * len(tiles)) and rank == 2:
        return None, (
            f"the names may count rows and columns ({found.template}), but from so far away that the grid would have {places} places: "
            "if so, write grid.id, origin and shape by hand"
        )
    return found, ""


def _is_cell(lattice: Lattice, tile: Seen) -> bool:
    """Whether a tile is one cell of the lattice, or less at its end."""
    assert lattice.step_yx is not None
    for part, step, end in zip(lattice.windows[tile.href], lattice.step_yx, lattice.extent_yx, strict=True):
        if part.start % step or part.stop != min(part.start + step, end):
            return False
    return True


def _edges(lattice: Lattice, tile: Seen) -> dict[str, Fraction]:
    y, x = lattice.windows[tile.href]
    ends = [lattice.origin_y + n * lattice.resolution_y for n in (y.start, y.start + lattice.tile_yx[0])]
    left, right = (lattice.origin_x + n * lattice.resolution_x for n in (x.start, x.start + lattice.tile_yx[1]))
    return {"top": max(ends), "bottom": min(ends), "left": left, "right": right}


def _parts(lattice: Lattice, tile: Seen) -> Iterator[_Part]:
    """Numbers in a tile's name that are an edge of it, or may be its row or column."""
    name, edges = tile.name, _edges(lattice, tile)
    for letter, pattern in (("after", r"(?<!\d)(?P<n>\d+)(?P<h>[NSEW])"), ("before", r"(?P<h>[NSEW])(?P<n>\d+)")):
        for match in re.finditer(pattern, name):
            dim, sign = HEMISPHERES[match["h"]]
            for edge in ("top", "bottom") if dim == "y" else ("left", "right"):
                if sign * int(match["n"]) == edges[edge]:
                    yield _Part(match.start(), match.end(), edge, letter, match["n"])
    row, column = lattice.cell(tile)
    for match in re.finditer(r"(?<!\d)\d+", name):
        word = str(re.findall(r"[A-Za-z]*$", name[: match.start()])[0])
        for edge, value in edges.items():
            if value == int(match[0]):
                yield _Part(match.start(), match.end(), edge, "", match[0])
            elif value == -int(match[0]) and name[: match.start()].endswith("-"):
                yield _Part(match.start() - 1, match.end(), edge, "", "-" + match[0])
        for dim, index in (("y", row), ("x", column)):
            if int(match[0]) >= index and len(match[0]) < 10:
                yield _Part(match.start(), match.end(), "i" + dim, "", match[0], int(match[0]) - index, word)


def _candidates(lattice: Lattice, tile: Seen) -> Iterator[_Candidate]:
    """Templates that give a piece of this tile's name."""
    for one, other in itertools.permutations(list(_parts(lattice, tile)), 2):
        first, second = _marked(one, other)
        between = tile.name[first.stop : second.start]
        if first.stop > second.start or first.dim == second.dim or "/" in between or len(between) > MOST_BETWEEN:
            continue
        if first.rank != second.rank or first.letter != second.letter or _contradicts(first, second):
            continue
        row, column = (first, second) if first.dim == "y" else (second, first)
        literal = between.replace("{", "{{").replace("}", "}}")
        for (pad1, text1), (pad2, text2) in itertools.product(first.fields(), second.fields()):
            padded = (pad1, pad2) if first is row else (pad2, pad1)
            structure = (first.name, between, second.name)
            yield _Candidate(
                first.rank, structure, text1 + literal + text2, (row.shift, column.shift), padded, (row, column)
            )


def _words(one: _Part, other: _Part) -> tuple[str, str]:
    """The words before a row and a column."""
    row, column = (one, other) if one.dim == "y" else (other, one)
    return row.word.lower(), column.word.lower()


def _marked(one: _Part, other: _Part) -> tuple[_Part, _Part]:
    """Two parts with the words before them, if those say what they count."""
    if one.dim == other.dim or _words(one, other) not in MARKS:
        return one, other
    return replace(one, start=one.start - len(one.word), mark=one.word), replace(
        other, start=other.start - len(other.word), mark=other.word
    )


def _contradicts(one: _Part, other: _Part) -> bool:
    """Whether the words before them say that the row is the column."""
    return _words(one, other)[::-1] in MARKS


def _has_evidence(lattice: Lattice, ids: Mapping[str, str], candidate: _Candidate) -> bool:
    """Whether numbers without a hemisphere, which ``ids`` were proven of, are more than chance."""
    if candidate.rank == 0:
        return True
    cells = [lattice.cell(t) for t in lattice.tiles if t.href in ids]
    varied = [len({c[dim] for c in cells}) > 1 for dim in (0, 1)]
    if candidate.rank == 1:
        long = all(len(p.digits.lstrip("-0")) >= COORDINATE_DIGITS for p in candidate.parts)
        return long or all(varied)
    return all(v or p.mark for v, p in zip(varied, candidate.parts, strict=True))


def _places(lattice: Lattice, shift_yx: tuple[int, int]) -> int:
    """Places of a grid that starts where the names start to count."""
    assert lattice.step_yx is not None
    sizes = zip(lattice.extent_yx, lattice.step_yx, shift_yx, strict=True)
    return math.prod(-(-n // step) + shift for n, step, shift in sizes)


def id_template(lattice: Lattice, template: str, shift_yx: tuple[int, int]) -> IdTemplate:
    """The template on the tiles' lattice. Raises :class:`GridError` if it cannot name each cell by its own id."""
    assert lattice.step_yx is not None
    step_y, step_x = lattice.step_yx[0] * lattice.resolution_y, lattice.step_yx[1] * lattice.resolution_x
    return IdTemplate(
        template, lattice.origin_y - shift_yx[0] * step_y, step_y, lattice.origin_x - shift_yx[1] * step_x, step_x
    )


def _prove(lattice: Lattice, tiles: Sequence[Seen], candidate: _Candidate) -> dict[str, str]:
    """The ids, by href, of the tiles whose names hold what the template says; none if it can name no lattice."""
    try:
        template = id_template(lattice, candidate.template, candidate.shift_yx)
    except GridError:
        return {}
    out = {}
    for tile in tiles:
        row, column = lattice.cell(tile)
        text = template.write(row + candidate.shift_yx[0], column + candidate.shift_yx[1])
        if text in tile.name and re.search(id_regex(text), tile.name):
            out[tile.href] = text
    return out


def why_not(lattice: Lattice, found: IdFound, tile: Seen) -> str:
    """What a tile has whose name is not what the template says."""
    if not _is_cell(lattice, tile):
        return f"{tile.header.shape_yx[0]} x {tile.header.shape_yx[1]} pixels"
    cell = (n + shift for n, shift in zip(lattice.cell(tile), found.shift_yx, strict=True))
    return f"lies where {id_template(lattice, found.template, found.shift_yx).write(*cell)} does"


def id_regex(text: str) -> str:
    """A regular expression for an id in a name: its numbers are not parts of longer ones."""
    return (r"(?<!\d)" if text[:1].isdigit() else "") + re.escape(text) + (r"(?!\d)" if text[-1:].isdigit() else "")


def _choose(alike: Mapping[tuple[bool, bool], tuple[_Candidate, dict[str, str]]]) -> IdFound:
    """Of templates that differ in padding only, the likeliest. Keys are (row padded, column padded)."""
    told = [len({padded[n] for padded in alike}) == 1 for n in (0, 1)]
    known = next(iter(alike))
    candidate, ids = next(iter(alike.values()))
    # Hemispheres are padded more often than not, other numbers are not; one of the two tells of the other.
    likely = [known[n] if told[n] else known[1 - n] if told[1 - n] else candidate.rank == 0 for n in (0, 1)]
    candidate, ids = alike.get((likely[0], likely[1]), (candidate, ids))
    guess = ""
    if candidate.rank == 0 and not any(told):
        guess = "a guess: that numbers are padded with zeros; none here has so few digits that it tells"
    return IdFound(candidate.template, candidate.shift_yx, ids, guess)
