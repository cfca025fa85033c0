"""A spec that grows: axes go on after their last value, the grid after its last row and column."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from typing import Any

from cubeingest.axes import Axis, AxisValue
from cubeingest.errors import GridError, SpecError
from cubeingest.spec.build import spec_from_document
from cubeingest.spec.document import AxisDoc
from cubeingest.spec.model import COMPUTED_ATTR, CubeSpec, differences
from cubeingest.steps import to_fraction

MAX_VALUES_OF_RANGE = 100_000
"""Values that a range may stand for: more are a slip of the finger, which no later command takes back."""

ONLY_THE_END = "an axis grows after its last value only, and the grid after its last row and column"


@dataclass(frozen=True)
class Growth:
    """One dimension that grows, from so many positions to so many; ``values`` are the labels that an axis gets."""

    dim: str
    before: int
    after: int
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.values:
            return f"{self.dim} from {self.before} to {self.after} pixels"
        more = f" and {len(self.values) - 4} more, to {self.values[-1]}" if len(self.values) > 4 else ""
        return f"{self.dim} by {', '.join(self.values[:4])}{more}"

    def to_json(self) -> dict[str, Any]:
        return {"from": self.before, "to": self.after} | ({"values": list(self.values)} if self.values else {})


def find_growth(old: CubeSpec, new: CubeSpec) -> tuple[Growth, ...]:
    """The dimensions in which ``new`` is longer; none if both have the same layout.

    Raises :class:`SpecError` if existing pixels would move, or anything else of the layout differs.
    """
    other = differences(_fixed(old), _fixed(new))
    if other:
        raise SpecError(
            f"the layouts differ in more than what can grow (cube -> spec): {'; '.join(other)}. Existing pixels would move or "
            f"change: {ONLY_THE_END}; for anything else make a new cube (another --store){_of_compute(old, new)}"
        )
    out = []
    for axis in old.grid.axes:
        longer = new.grid.axis(axis.name)
        _check_goes_on(axis, longer)
        if longer.size > axis.size:
            out.append(Growth(axis.name, axis.size, longer.size, longer.labels[axis.size :]))
    # Cells of HEALPix have one dimension, which the comparison above holds fast.
    sizes = zip(old.grid.spatial_dims, old.grid.spatial_shape, new.grid.spatial_shape, strict=True)
    for key, (dim, before, after) in zip("yx", sizes, strict=False):
        if after < before:
            raise SpecError(f"grid.shape.{key}: {before} -> {after}: a cube can grow, but not shrink")
        if after > before:
            out.append(Growth(dim, before, after))
    return tuple(out)


def _of_compute(old: CubeSpec, new: CubeSpec) -> str:
    """What to say of variables that `compute` added to the cube, and that its YAML lacks."""
    added = [
        v.name for v in old.variables if COMPUTED_ATTR in v.attrs and v.name not in {w.name for w in new.variables}
    ]
    return (
        f". `compute --into` added {', '.join(added)} to the cube: add it to the file, too, or extend by values (--<axis> VALUE)"
        if added
        else ""
    )


def _fixed(spec: CubeSpec) -> dict[str, Any]:
    """What is left of a layout without that which may grow."""
    layout = spec.layout
    return {
        **layout,
        "grid": {k: v for k, v in layout["grid"].items() if k != "shape"},
        "axes": {
            name: {k: v for k, v in axis.items() if k not in ("values", "block")}
            for name, axis in layout["axes"].items()
        },
    }


def _check_goes_on(old: Axis, new: Axis) -> None:
    if new.labels[: old.size] != old.labels:
        lost = [label for label in old.labels if label not in new.labels]
        if lost:
            raise SpecError(
                f"axes.{old.name} lacks {', '.join(lost[:3])}, which the cube has: a cube can grow, but not shrink; "
                f"add what is missing to the spec"
            )
        at = next(i for i, label in enumerate(old.labels) if new.labels[i] != label)
        raise SpecError(
            f"axes.{old.name}: {new.labels[at]} stands before {old.labels[at]}, which would move existing pixels: add values "
            f"after the last ({old.labels[-1]}); for earlier ones make a new cube (another --store)"
        )
    ascends = _ascends(old.values)
    following: tuple[Any, ...] = new.values[old.size - 1 :]
    for i, (before, after) in enumerate(pairwise(following), old.size):
        if ascends is not None and (before < after) is not ascends:
            word = "earlier than" if old.is_dates else "below" if ascends else "above"
            raise SpecError(
                f"axes.{old.name}: {new.labels[i]} is {word} {new.labels[i - 1]}, but the axis runs in order, and to put it in "
                f"its place would move existing pixels: give values after {old.labels[-1]}, or make a new cube"
            )


def _ascends(values: Sequence[Any]) -> bool | None:
    """Whether numbers or dates run upwards (a single one does), or downwards; None for texts and those in no order."""
    if isinstance(values[0], str):
        return None
    steps = {a < b for a, b in pairwise(values)}
    return True if not steps else steps.pop() if len(steps) == 1 else None


# ---- values added to axes -------------------------------------------------------------------------------------


def grow_axes(spec: CubeSpec, axes: Mapping[str, Iterable[str]]) -> CubeSpec:
    """The spec with values added to axes: each a value, or a range ``2021..2025`` in the axis' own step or frequency.

    Values that an axis has already are left out, so that the same call again gives the same spec. An axis that is
    declared by start and stop stays so as long as the new values go on in its step.

    Raises :class:`GridError` for an axis that the spec does not have, and for what is no value of it;
    :class:`SpecError` if the longer spec is none.
    """
    kept: Mapping[str, Any] = spec.document.get("axes", {})
    longer = {}
    for name, texts in axes.items():
        axis, doc = spec.grid.axis(name), AxisDoc.model_validate(kept[name])
        asked = [v for text in texts for v in _values_of(axis, doc, text)]
        twice = sorted({str(v) for v in asked if asked.count(v) > 1}) if len(set(asked)) < len(asked) else []
        if twice:
            raise GridError(f"{name}: {', '.join(twice[:3])} is given twice")
        there = set(axis.values)
        new = [v for v in asked if v not in there]
        ascends = _ascends(axis.values)
        if new:
            longer[name] = _lengthen(kept[name], axis, new if ascends is None else sorted(new, reverse=not ascends))
    if not longer:
        return spec
    return spec_from_document({**spec.document, "axes": {**kept, **longer}}, spec.base, "the longer spec")


def leaves_step(old: CubeSpec, new: CubeSpec, name: str) -> bool:
    """Whether an axis that had a step or frequency has none any more; a list of numbers has one from three values on."""
    was, now = (s.document["axes"][name] for s in (old, new))
    if was.get("values") is None:
        return now.get("values") is not None
    axis = old.grid.axis(name)
    if axis.size < 3 or not isinstance(axis.values[0], int | float):
        return False
    return len(_steps(axis)) == 1 and len(_steps(new.grid.axis(name))) > 1


def _steps(axis: Axis) -> set[Fraction]:
    """The differences of one number to the next."""
    exact = [to_fraction(str(v)) for v in axis.values]
    return {b - a for a, b in pairwise(exact)}


def _lengthen(kept: Mapping[str, Any], axis: Axis, new: Sequence[AxisValue]) -> dict[str, Any]:
    """What the spec says of an axis, with values added."""
    wanted = axis.values + tuple(new)
    texts = [
        v if isinstance(v, int | float | str) else label
        for v, label in zip(wanted, Axis("", wanted).labels, strict=True)
    ]
    if kept.get("values") is not None:
        return {**kept, "values": [*kept["values"], *texts[axis.size :]]}
    further = {**kept, "stop": texts[-1]}
    try:
        if AxisDoc.model_validate(further).labels() == wanted:
            return further
    except ValueError:
        pass  # the new values are not in the step
    return {**{k: v for k, v in kept.items() if k not in ("start", "stop", "step", "freq")}, "values": texts}


def _values_of(axis: Axis, doc: AxisDoc, text: str) -> Sequence[AxisValue]:
    """The values that a text stands for, which the axis may have or not."""
    if text in axis.labels:
        return (axis.values[axis.labels.index(text)],)
    first, dots, last = text.partition("..")
    part_of_date = axis.is_dates and doc.freq is not None and re.fullmatch(r"\d{4}(-\d{2})?", text)
    if not dots and not part_of_date:
        return (_parse(axis, doc, text),)
    if dots and not (first and last):
        raise GridError(f"{axis.name} {text}: a range has both ends, such as {axis.labels[-1]}..{axis.labels[-1]}")
    if isinstance(axis.values[0], str):
        raise GridError(f"{axis.name} {text}: texts have no ranges: name each value")
    found = (_dates_of if axis.is_dates else _numbers_of)(axis, doc, first, last or first)
    if not found:
        raise GridError(f"{axis.name} {text} holds no value that the axis would have: its values are {_describe(axis)}")
    return found


def _parse(axis: Axis, doc: AxisDoc, text: str) -> AxisValue:
    kind: Any = type(axis.values[0])
    value: Any = text
    try:
        if kind in (int, float):
            value = kind(text)
            if not math.isfinite(value):
                raise ValueError("it is not finite")
        (value,) = AxisDoc(
            values=[value], calendar=None if isinstance(axis.values[0], datetime) else doc.calendar
        ).labels()
        if type(value) is not kind:
            raise ValueError(f"write it as {axis.labels[-1]} is written")
    except ValueError as e:
        raise GridError(f"{axis.name} {text!r} cannot go with the axis' values ({_describe(axis)}): {e}") from None
    parsed: AxisValue = value
    return parsed


def _numbers_of(axis: Axis, doc: AxisDoc, first: str, last: str) -> list[AxisValue]:
    if doc.values is None:
        start, steps = to_fraction(doc.start), {Fraction(1) if doc.step is None else to_fraction(doc.step)}
    else:
        start, steps = to_fraction(str(axis.values[0])), _steps(axis)
    if len(steps) != 1:
        raise GridError(
            f"{axis.name} {first}..{last}: the axis has no regular step ({_describe(axis)}): name each value"
        )
    step = steps.pop()
    low, high = (to_fraction(str(_parse(axis, doc, end))) for end in (first, last))
    n = (high - start) // step
    if n - axis.size >= MAX_VALUES_OF_RANGE:
        raise GridError(f"{axis.name} {first}..{last} would add {n + 1 - axis.size} values")
    kind: Any = type(axis.values[0])
    values = (start + i * step for i in range(max(0, math.ceil((low - start) / step)), n + 1))
    return [kind(v) for v in values]


def _dates_of(axis: Axis, doc: AxisDoc, first: str, last: str) -> list[AxisValue]:
    import pandas as pd

    if doc.freq is None:
        raise GridError(f"{axis.name} {first}..{last}: the axis has no freq: name each date")
    if not isinstance(axis.values[0], datetime):
        raise GridError(f"{axis.name} {first}..{last}: ranges are for the standard calendar: name each date")
    for end in (first, last):
        if not re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", end):
            raise GridError(f"{axis.name} {end!r} is no date such as {axis.labels[-1]}, nor a year or month")
    try:
        low, high = pd.Period(first).start_time, pd.Period(last).end_time
        found = pd.date_range(axis.labels[0], high, freq=doc.freq)
    except ValueError as e:
        raise GridError(f"{axis.name} {first}..{last}: {e}") from None
    return [t.to_pydatetime() for t in found if t >= low]


def _describe(axis: Axis) -> str:
    return ", ".join(axis.labels) if axis.size <= 4 else f"{', '.join(axis.labels[:2])}, ..., {axis.labels[-1]}"
