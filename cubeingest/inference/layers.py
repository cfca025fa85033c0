"""The axes and variables that the tiles' names tell, and the pattern that writes the names back. Pure."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cubeingest.axes import AxisValue
from cubeingest.inference.idnames import id_regex
from cubeingest.inference.tiles import Misfit, Seen
from cubeingest.inference.words import (
    ID,
    Column,
    Times,
    columns_of,
    decides,
    find_times,
    numbers_of,
    shape_of,
    shared_end,
    shared_start,
    split_name,
    write_as,
)
from cubeingest.spec import RESERVED_AXIS_NAMES

MOST_VARIABLES = 30
"""Names of more shapes than this are no layers."""

BAND = "band"
"""What an axis is called whose labels say no better name."""


@dataclass(frozen=True)
class Field:
    """A part of a name that an axis value is written in."""

    axis: str
    form: str = ""


class Star:
    """A part of a name that no axis and no id gives."""


Part = str | Field | Star
STAR = Star()


@dataclass(frozen=True)
class Layer:
    """Tiles that fill one variable. ``values`` has each tile's value on every axis; ``parts`` write their names: one pattern, or one
    for each value of the axis ``split_by``. ``label`` tells the layer from others.
    """

    tiles: tuple[Seen, ...]
    values: Mapping[str, tuple[AxisValue, ...]]
    parts: Mapping[AxisValue | None, tuple[Part, ...]]
    split_by: str | None = None
    label: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the parts write every character."""
        return not any(p is STAR for parts in self.parts.values() for p in parts)

    def position(self, i: int) -> tuple[tuple[str, AxisValue], ...]:
        return tuple((axis, values[i]) for axis, values in self.values.items())


@dataclass
class Reading:
    """What is found: layers, tiles left out, and notes."""

    layers: list[Layer] = field(default_factory=list)
    misfits: list[Misfit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


Place = Callable[[Seen], object]
"""Where a tile lies, as something that compares."""


def read_layers(tiles: Sequence[Seen], ids: Mapping[str, str] | None, place: Place) -> Reading:
    """Axes and variables of ``tiles``, whose ids by href were found in their names (None: no template was)."""
    reading = Reading()
    named = [(t, t.name if ids is None else re.sub(id_regex(ids[t.href]), ID, t.name)) for t in tiles]
    shapes: dict[tuple[str, ...], list[tuple[Seen, tuple[str, ...]]]] = {}
    for tile, name in named:
        tokens = split_name(name)
        shapes.setdefault(shape_of(tokens), []).append((tile, tokens))
    classes = list(shapes.values())
    if (
        ids is None
        and len(classes) > 1
        and len({place(t) for t in tiles}) == sum(len({place(t) for t, _ in c}) for c in classes)
    ):
        reading.layers.append(Layer(tuple(tiles), {}, {None: tuple(_loose([t.name for t in tiles]))}))
        return reading
    if len(classes) > MOST_VARIABLES:
        classes.sort(key=len, reverse=True)
        reading.misfits += [Misfit("are not named as most are", t.name) for c in classes[1:] for t, _ in c]
        classes = classes[:1]
    labels = _labels([tokens for _, tokens in (c[0] for c in classes)]) if len(classes) > 1 else [""]
    for members, label in zip(classes, labels, strict=True):
        _Class([t for t, _ in members], [n for _, n in members], ids is not None, place, label, reading).read()
    return reading


def _labels(names: Sequence[tuple[str, ...]]) -> list[str]:
    """What each of several names has that not all have, as a label."""
    words = [[t for t in n if t[0].isalnum() and not t.isdecimal()] for n in names]
    common = set(words[0]).intersection(*words[1:])
    return ["_".join(dict.fromkeys(w for w in own if w not in common)) or "layer" for own in words]


def _loose(names: Sequence[str]) -> list[Part]:
    """A glob for names that have little in common, folder by folder if they are equally deep."""
    split = [n.split("/") for n in names]
    if len({len(s) for s in split}) > 1:
        head = shared_start([s[:-1] for s in split])
        ends = os.path.splitext(shared_end(names))[1]
        folders = "".join(f"{s}/" for s in head)
        return [folders, STAR, STAR, "/", STAR, ends]
    out: list[Part] = []
    for same in zip(*split, strict=True):
        if out:
            out.append("/")
        if len(set(same)) == 1:
            out.append(same[0])
            continue
        # Up to a separator: that some towns end in n does not say that all do.
        start = str(shared_start(same))
        end = shared_end([s[len(start) :] for s in same])
        out += [*re.findall(r"^.*[\W_]", start), STAR, *re.findall(r"[\W_].*$", end)]
    return out


@dataclass
class _Class:
    """Tiles whose names are alike."""

    tiles: list[Seen]
    names: list[tuple[str, ...]]
    has_ids: bool
    place: Place
    label: str
    reading: Reading

    def read(self) -> None:
        self.places = [self.place(t) for t in self.tiles]
        self.columns = columns_of(self.names)
        times = find_times(self.names, self.columns)
        if not self.has_ids:
            times = [t for t in times if not self._is_spatial(t.values) or self._is_surely_time(t)]
        time = _finest(times) or _finest([t for t in times if not self._is_spatial(t.values)])
        if times and time is None:
            self._drop_ambiguous(times)
            return
        open_ = [c for c in self.columns if c.varies]
        fields: dict[int, tuple[Column, Field]] = {}
        values: dict[str, tuple[AxisValue, ...]] = {}
        if time is not None:
            axis = "year" if time.is_years else "time"
            values[axis] = tuple(v.year for v in time.values) if time.is_years else time.values
            written = [(c, write_as(c, time.values)) for c in open_ if c not in [k for k, _ in time.formats]]
            for column, form in (*time.formats, *written):
                if form is not None:
                    fields[column.place] = column, Field(axis, "" if time.is_years else form)
            open_ = [c for c in open_ if c.place not in fields]
        derived = {c.place for c in open_ for v in values.values() if decides(v, c.words)}
        split_by = next(iter(values)) if derived else None
        groups = self._free_axes([c for c in open_ if c.place not in derived], values)
        if self._split_variables(groups):
            return
        for group in groups:
            axis, labels, form = _axis_of(group[0], values)
            values[axis] = labels
            for column in group:
                if column.words == group[0].words:
                    whole = form is None
                    fields[column.place] = (
                        replace(column, prefix="", suffix="") if whole else column,
                        Field(axis, form or ""),
                    )
                elif split_by in (None, axis):
                    split_by = axis
                    derived.add(column.place)
        self._note_words([c for c in open_ if c.place not in derived and c.place not in fields])
        self._add(values, fields, derived, split_by)

    def _is_spatial(self, what: Sequence[object]) -> bool:
        """Whether where a tile lies tells its value."""
        return len(set(self.places)) > 1 and decides(self.places, what)

    def _is_surely_time(self, times: Times) -> bool:
        """Whether a number is a date even if each tile has its own: a long one, one with hyphens, or a folder."""
        (first, form), name = times.formats[0], self.names[0]
        if len(times.formats) > 1 or form not in ("%Y", "%Y%m", "%Y%j"):
            return True
        around = {*name[max(0, first.place - 1) : first.place], *name[first.place + 1 : first.place + 2]}
        return first.prefix + first.suffix == "" and around == {"/"} and "/" in name[first.place + 1 :]

    def _drop_ambiguous(self, times: Sequence[Times]) -> None:
        """Several dates, none of which tells the others: the names of most are kept as they are, without an axis."""
        places = [c.place for t in times for c, _ in t.formats]
        keys = [tuple(n[p] for p in places) for n in self.names]
        kept = Counter(keys).most_common(1)[0][0]
        examples = " and ".join(dict.fromkeys(repr(t.example) for t in times))
        what = "year" if all(t.is_years for t in times) else "date"
        self.reading.notes.append(
            f"several numbers in the names may be the {what} ({examples} in {self.tiles[0].name}), so none was chosen: write "
            f"axes: {{{'year' if what == 'year' else 'time'}: {{values: [...]}}}}, and {{{'year' if what == 'year' else 'time'}}} in "
            "source.href in place of the right one"
        )
        self.reading.misfits += [
            Misfit("have other dates in their names", t.name)
            for t, key in zip(self.tiles, keys, strict=True)
            if key != kept
        ]
        chosen = [i for i, key in enumerate(keys) if key == kept]
        replace(self, tiles=[self.tiles[i] for i in chosen], names=[self.names[i] for i in chosen]).read()

    def _free_axes(self, columns: Sequence[Column], values: Mapping[str, tuple[AxisValue, ...]]) -> list[list[Column]]:
        """Columns that are axes of their own, in groups that vary together: those without which two tiles have one place."""
        keys: list[tuple[object, ...]] = [(p, *v) for p, *v in zip(self.places, *values.values(), strict=True)]
        groups: list[list[Column]] = []
        for column in columns:
            twin = next(
                (g for g in groups if decides(g[0].words, column.words) and decides(column.words, g[0].words)), None
            )
            if twin is None:
                groups.append([column])
            else:
                twin.append(column)
        chosen = []
        for group in sorted(groups, key=lambda g: len(set(g[0].words))):
            finer = [(*k, w) for k, w in zip(keys, group[0].words, strict=True)]
            if len(set(finer)) > len(set(keys)):
                keys = finer
                chosen.append(group)
        return sorted(chosen, key=lambda g: g[0].place)

    def _split_variables(self, groups: Sequence[Sequence[Column]]) -> bool:
        """Words with pixels of differing kinds are variables, not labels of an axis."""
        for group in groups:
            kinds: dict[str, Counter[str]] = {}
            for word, tile in zip(group[0].words, self.tiles, strict=True):
                kinds.setdefault(word, Counter())[repr((tile.header.dtypes, tile.nodata))] += 1
            if len({c.most_common(1)[0][0] for c in kinds.values()}) > 1 and len(kinds) <= MOST_VARIABLES:
                for word in sorted(kinds):
                    chosen = [i for i, w in enumerate(group[0].words) if w == word]
                    label = f"{self.label}_{word}" if self.label else word
                    own = replace(
                        self, tiles=[self.tiles[i] for i in chosen], names=[self.names[i] for i in chosen], label=label
                    )
                    own.read()
                return True
        return False

    def _note_words(self, columns: Sequence[Column]) -> None:
        if columns and self.has_ids:
            examples = ", ".join(dict.fromkeys(columns[0].words[:3]))
            self.reading.notes.append(
                f"the names differ in a word that the id does not give ({examples}), so the tiles are found by a glob and placed by their "
                "headers; if it is a layer, give tiles of one place for several of its values"
            )

    def _add(
        self,
        values: Mapping[str, tuple[AxisValue, ...]],
        fields: Mapping[int, tuple[Column, Field]],
        derived: set[int],
        split_by: str | None,
    ) -> None:
        varying = {c.place: c for c in self.columns if c.varies}

        def raw(name: Sequence[str]) -> Iterator[Part]:
            for i, token in enumerate(name):
                if i in fields:
                    column, part = fields[i]
                    yield from (column.prefix, part, column.suffix)
                elif i in varying and i not in derived:
                    yield from (_counted(varying[i]), STAR)
                else:
                    yield token

        def parts(name: Sequence[str]) -> tuple[Part, ...]:
            return tuple(_tidy(raw(name)))

        if split_by is None:
            patterns: dict[Any, tuple[Part, ...]] = {None: parts(self.names[0])}
        else:
            firsts = {v: i for i, v in reversed(list(enumerate(values[split_by])))}
            patterns = {v: parts(self.names[firsts[v]]) for v in sorted(firsts)}
        self.reading.layers.append(Layer(tuple(self.tiles), values, patterns, split_by, self.label))


def _finest(times: Sequence[Times]) -> Times | None:
    """The date of which all others are ways of writing; the finest, and a date rather than a year."""
    fitting = [t for t in times if all(write_as(c, t.values) is not None for other in times for c, _ in other.formats)]
    return max(fitting, key=lambda t: (len(set(t.values)), not t.is_years), default=None)


def _counted(column: Column) -> str:
    """The word before a number, if that is all that varies: ``tile12``."""
    prefix = column.prefix
    return prefix if len(prefix) > 1 and prefix.isalpha() and all(c[:1].isdigit() for c in column.cores) else ""


def _tidy(parts: Iterable[Part]) -> Iterator[Part]:
    """Without empty texts, and the parts of one date in one field: ``{time:%Y-%m-%d}``."""
    kept = [p for p in parts if p]
    i = 0
    while i < len(kept):
        part = kept[i]
        while isinstance(part, Field) and i + 2 < len(kept) and kept[i + 1] in ("-", "_", "."):
            after = kept[i + 2]
            if not (isinstance(after, Field) and after.axis == part.axis and part.form and after.form):
                break
            part, i = Field(part.axis, f"{part.form}{kept[i + 1]}{after.form}"), i + 2
        yield part
        i += 1


def _axis_of(column: Column, taken: Mapping[str, object]) -> tuple[str, tuple[AxisValue, ...], str | None]:
    """Name, values, and format of an axis that a column tells; the format is None where the labels are whole words."""
    numbers = numbers_of(column)
    name = BAND
    if numbers is not None:
        word = column.prefix.lower()
        if set(numbers[0]) == set(range(1, 13)):
            name = "month"
        elif len(word) > 2 and word.isascii() and word.isalpha() and word not in RESERVED_AXIS_NAMES:
            name = word
        elif word:
            numbers = None  # B02 is a label
    while name in taken or name in ("x", "y", "id"):
        name = f"{name.rstrip('0123456789_')}_{len(taken) + 1}"
    if numbers is None:
        return name, column.words, None
    return name, numbers[0], numbers[1]
