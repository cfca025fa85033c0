"""Drafts as a spec: the lines of a ``grid.yaml`` with comments for the person who reads it. Pure."""

from __future__ import annotations

import glob
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from cubeingest.axes import AxisValue, axis_label
from cubeingest.inference.idnames import IdFound
from cubeingest.inference.lattice import Lattice
from cubeingest.inference.layers import Field, Layer, Part, Star
from cubeingest.inference.layout import Layout, choose_chunks, choose_shards
from cubeingest.inference.snap import number, settle
from cubeingest.inference.variables import Draft, Drafts
from cubeingest.inference.words import ID
from cubeingest.spec import flow_text
from cubeingest.wording import counted

COMMENT_COLUMN = 60
"""Comments start at one column, here at the latest unless their line is longer."""

REGULAR_FROM = 3
"""Values of an axis from which on a step is seen."""


@dataclass(frozen=True)
class Line:
    """One key; a mapping follows where ``value`` is :data:`BELOW`."""

    depth: int
    key: Any
    value: Any
    comment: str = ""


class Below:
    """Keys of a mapping follow on lines of their own."""


BELOW = Below()


@dataclass(frozen=True)
class Sketch:
    """All that a spec says."""

    lattice: Lattice
    found: IdFound | None
    layout: Layout
    drafts: Drafts


def render(sketch: Sketch, notes: Sequence[str], given: int) -> str:
    """The spec as YAML text. ``given`` counts the tiles that were named."""
    n = len(sketch.lattice.tiles)
    head = [
        f"Drafted by `cubeingest infer` from {counted(n, 'tile')}{f' of {given}' if given != n else ''}. Read the comments, then: cubeingest init, cubeingest plan."
    ]
    if sketch.lattice.n_places > 1 or sketch.found is not None:
        head.append("The grid holds these tiles: for more of their kind move origin and widen shape, by whole regions.")
    if n < given:
        head.append(
            "Tiles that did not fit were left out of account; where a pattern below names one, plan will say so."
        )
    lines = list(_lines(sketch))
    texts = [
        f"{'  ' * x.depth}{flow_text(x.key)}:" + ("" if x.value is BELOW else f" {flow_text(x.value)}") for x in lines
    ]
    widths = [len(t) for t, x in zip(texts, lines, strict=True) if x.comment and len(t) < COMMENT_COLUMN]
    column = max(widths, default=0) + 2
    out = [_comment(text) for text in (*head, *notes)]
    out += [f"{t:<{column - 2}}  {_comment(x.comment)}" if x.comment else t for t, x in zip(texts, lines, strict=True)]
    return "\n".join(out) + "\n"


def _comment(text: str) -> str:
    """One line that YAML takes as a comment, whatever stands in a file's name."""
    return "# " + "".join(c if c.isprintable() else "?" for c in text)


def _lines(sketch: Sketch) -> Iterator[Line]:
    yield Line(0, "name", sketch.drafts.title)
    yield Line(0, "crs", sketch.lattice.crs)
    yield Line(0, "grid", BELOW)
    yield from _grid_lines(sketch)
    if sketch.drafts.axes:
        yield Line(0, "axes", BELOW)
        for axis, values in sketch.drafts.axes.items():
            yield Line(1, axis, axis_document(values), _axis_comment(sketch, axis))
    yield Line(0, "variables", BELOW)
    for draft in sketch.drafts.variables:
        yield from _variable_lines(sketch, draft)
    yield Line(0, "store", f"./{sketch.drafts.title}.icechunk")


def _grid_lines(sketch: Sketch) -> Iterator[Line]:
    lattice, layout, found = sketch.lattice, sketch.layout, sketch.found
    origin_x = settle(lattice.origin_x - layout.shift_yx[1] * lattice.resolution_x)
    origin_y = settle(lattice.origin_y - layout.shift_yx[0] * lattice.resolution_y)
    corner = "outer corner of pixel [0, 0]"
    if found is not None and any(found.shift_yx):
        corner += f"; the names count from there, {found.shift_yx[0]} rows and {found.shift_yx[1]} columns before the first tile here"
    yield Line(1, "origin", {"x": number(origin_x), "y": number(origin_y)}, corner)
    yield Line(
        1,
        "resolution",
        {"x": number(lattice.resolution_x), "y": number(lattice.resolution_y)},
        _resolution_comment(lattice),
    )
    (ny, nx), (ry, rx) = layout.n_regions, layout.region_yx
    yield Line(1, "shape", dict(zip("yx", layout.shape_yx, strict=True)), f"{ny} x {nx} regions")
    yield Line(1, "region", {"y": ry, "x": rx}, layout.why)
    if found is not None and layout.tile_yx is None:
        example = next(iter(found.ids.values()))
        yield Line(1, "id", found.template, f"{example}{f'; {found.guess}' if found.guess else ''}")
    else:
        yield Line(
            1,
            "id",
            "y{iy}_x{ix}",
            "row and column of the region" if found is not None else "row and column: no id was found in the names",
        )
    yield Line(1, "dims", {"y": "y", "x": "x"}, "or latitude and longitude")


def _resolution_comment(lattice: Lattice) -> str:
    out = []
    if [float(lattice.resolution_x), abs(float(lattice.resolution_y))] != list(lattice.sizes):
        x, y = lattice.sizes
        out.append(f"exact; the files say {x!r}" + ("" if x == y else f" and {y!r}"))
    if lattice.resolution_y > 0:
        out.append("y above 0: rows run south to north")
    return "; ".join(out)


def axis_document(values: Sequence[AxisValue]) -> dict[str, Any]:
    """An axis as a spec declares it: by start, stop and step or freq where its values are regular."""
    if len(values) >= REGULAR_FROM:
        if all(isinstance(v, int) for v in values):
            step = values[1] - values[0]  # type: ignore[operator]
            if all(b - a == step for a, b in itertools.pairwise(values)):  # type: ignore[operator]
                return {"start": values[0], "stop": values[-1], "step": step}
        dates = [v for v in values if isinstance(v, datetime)]
        if len(dates) == len(values) and (freq := _freq(dates)):
            return {"start": _date(dates[0]), "stop": _date(dates[-1]), "freq": freq}
    return {"values": [_date(v) for v in values]}


def _freq(values: Sequence[datetime]) -> str | None:
    """The frequency by which pandas counts these dates: so many days or hours, or months by their first or last day."""
    import pandas as pd

    apart = {b - a for a, b in itertools.pairwise(values)}
    months = {(b.year - a.year) * 12 + b.month - a.month for a, b in itertools.pairwise(values)}
    tried = [(n, unit) for n in months for unit in ("MS", "ME") if len(months) == 1]
    if len(apart) == 1:
        step = apart.pop()
        tried += [(step // timedelta(days=1), "D"), (step // timedelta(hours=1), "h")]
    for n, unit in tried:
        freq = unit if n == 1 else f"{n}{unit}"
        if n and list(pd.date_range(values[0], values[-1], freq=freq)) == list(values):
            return freq
    return None


def _date(value: AxisValue) -> Any:
    if not isinstance(value, datetime):
        return value
    return date(value.year, value.month, value.day) if value.time() == datetime.min.time() else axis_label(value)


def _axis_comment(sketch: Sketch, axis: str) -> str:
    if any(d.bands_axis == axis for d in sketch.drafts.variables):
        return "the bands of each file, in order"
    values = sketch.drafts.axes[axis]
    found = f"{counted(len(values), 'value')}, from the names"
    if axis not in ("year", "time", "month") and isinstance(values[0], str):
        return found + "; different quantities had better be variables"
    return found


def _variable_lines(sketch: Sketch, draft: Draft) -> Iterator[Line]:
    layout, itemsize = sketch.layout, np.dtype(draft.dtype).itemsize
    chunks = choose_chunks(layout, itemsize)
    shards = choose_shards(layout, chunks, itemsize)
    axes = [a for a in sketch.drafts.axes if a in draft.axes]
    ones = dict.fromkeys(axes, 1)
    yield Line(1, draft.name, BELOW)
    yield Line(2, "dtype", draft.dtype)
    yield Line(2, "fill_value", draft.fill.value, draft.fill.why)
    yield Line(
        2, "chunks", {**ones, "y": chunks[0], "x": chunks[1]}, f"{_size(math.prod(chunks) * itemsize)} of pixels"
    )
    if shards:
        yield Line(
            2, "shards", {**ones, "y": shards[0], "x": shards[1]}, f"{shards[1] // chunks[1]} chunks in one object"
        )
    if axes != list(sketch.drafts.axes):
        yield Line(2, "axes", axes)
    yield Line(2, "source", BELOW)
    yield from _source_lines(sketch, draft)


def _size(n: int) -> str:
    return f"{n / 1e6:.1f} MB" if n >= 1e5 else f"{n / 1e3:.1f} kB"


def _source_lines(sketch: Sketch, draft: Draft) -> Iterator[Line]:
    layer, found = draft.layer, sketch.found
    if found is None and sketch.lattice.n_places > 1:
        why = "placed by their headers"
        if layer.values:
            why += "; these must match no other tile"
        yield Line(3, "tiles", {"glob": glob_text(layer)}, why)
    elif found is None and not layer.values:
        yield Line(3, "file", href_text(layer.parts[None]))
    else:
        if layer.split_by is None:
            yield Line(3, "href", href_text(layer.parts[None]))
        else:
            yield Line(3, "href", BELOW)
            for value, parts in layer.parts.items():
                own = [format(value, p.form) if isinstance(p, Field) and p.axis == layer.split_by else p for p in parts]
                yield Line(4, value if isinstance(value, int) else axis_label(value or ""), href_text(own))
        if _expected(sketch, draft) == len(layer.tiles):
            yield Line(3, "missing", "fail", "each place has its tile here; absent: places may lack theirs")
        else:
            yield Line(3, "missing", "absent", "a place without a tile stays empty; fail: that is an error")
        if found is not None and sketch.layout.tile_yx is not None:
            yield Line(3, "tile", dict(zip("yx", sketch.layout.tile_yx, strict=True)), "several tiles share a region")
            yield Line(
                3, "id", found.template, f"{next(iter(found.ids.values()))}{f'; {found.guess}' if found.guess else ''}"
            )
    if draft.bands_axis:
        yield Line(3, "bands", {"axis": draft.bands_axis})
    else:
        yield Line(3, "band", 1)


def _expected(sketch: Sketch, draft: Draft) -> int:
    """Tiles of a variable if every place had one for every axis value."""
    places = 1
    if sketch.found is not None:
        tile = sketch.layout.tile_yx or sketch.layout.region_yx
        places = math.prod(-(-n // t) for n, t in zip(sketch.layout.shape_yx, tile, strict=True))
    if draft.layer.split_by is not None and len(draft.layer.parts) < len(sketch.drafts.axes[draft.layer.split_by]):
        return 0
    return places * math.prod(len(sketch.drafts.axes[a]) for a in draft.layer.values)


def href_text(parts: Sequence[Part]) -> str:
    """A pattern for ``source.href``."""
    return "".join(_part_text(p, _braces) for p in parts)


def glob_text(layer: Layer) -> str:
    """A pattern for ``source.tiles.glob``: what no axis gives, and what differs by axis value, may be anything."""
    patterns = list(layer.parts.values())
    same = [p if all(other[i] == p for other in patterns) else Star() for i, p in enumerate(patterns[0])]
    return "".join(_part_text(p, lambda t: _braces(glob.escape(t))) for p in same)


def _part_text(part: Part, escape: Any) -> str:
    if isinstance(part, Star):
        return "*"
    if isinstance(part, Field):
        return "{" + part.axis + (f":{part.form}" if part.form else "") + "}"
    return str(escape(part).replace(ID, "{id}"))


def _braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
