"""Red, green and blue together: which values of an axis they are, and three tiles as one in their colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.look import Attributes
from cubeingest.look.colours import Colours, is_missing
from cubeingest.spec import CubeSpec, Variable

if TYPE_CHECKING:
    import numpy.typing as npt

Array = np.ndarray[Any, Any]

Index = tuple[int, ...]
"""A position on each axis of a variable."""

TOGETHER = -1
"""In an axis position: not one value of the axis, but its red, green and blue."""

NAMES = (("red", "green", "blue"), ("r", "g", "b"), ("b04", "b03", "b02"))
"""What they are called, in capitals or not; the last are Sentinel-2's."""

CHANNELS = ("#d64541", "#3f9b57", "#3f6fb5")
"""Their colours in a legend."""


@dataclass(frozen=True)
class Composite:
    """``axis`` is the number of the axis among the variable's, ``positions`` are those of red, green and blue on it."""

    axis: int
    positions: tuple[int, int, int]
    labels: tuple[str, str, str]

    def apart(self, index: Index) -> list[Index]:
        """The positions of the three, of one at which they are together."""
        return [tuple(p if n == self.axis else i for n, i in enumerate(index)) for p in self.positions]


def find_composite(spec: CubeSpec, variable: Variable) -> Composite | None:
    """The red, green and blue of a variable, if an axis names them and its values are no classes."""
    if variable.np_dtype.kind == "b" or Attributes(variable).flags:
        return None
    for n, axis in enumerate(spec.axes_of(variable)):
        folded = [label.casefold() for label in axis.labels] if isinstance(axis.values[0], str) else []
        for names in NAMES:
            if set(names) <= set(folded):
                r, g, b = (folded.index(name) for name in names)
                return Composite(n, (r, g, b), (axis.labels[r], axis.labels[g], axis.labels[b]))
    return None


def join_colours(found: Sequence[Colours]) -> tuple[Colours, ...]:
    """The same from the least to the most of all three, so that what is grey stays grey."""
    ends = [(c.low, c.high) if c.kind == "range" else (float(min(c.values)), float(max(c.values))) for c in found if c.kind == "range" or c.values.size]  # fmt: skip
    low, high = (min(e[0] for e in ends), max(e[1] for e in ends)) if ends else (0.0, 1.0)
    return tuple(replace(c, kind="range", low=low, high=high if high > low else low + 1.0) for c in found)


def paint_composite(colours: Sequence[Colours], pixels: Sequence[Array]) -> npt.NDArray[np.uint8]:
    """RGBA of three tiles, clear where one of them has nothing."""
    out = np.full((*pixels[0].shape, 4), 255, np.uint8)
    for k, (own, values) in enumerate(zip(colours, pixels, strict=True)):
        out[..., k] = own.steps(values)
        out[is_missing(values, own.fill, own.valid), 3] = 0
    out[out[..., 3] == 0] = 0
    return out


def legend_of_composite(colours: Sequence[Colours], composite: Composite) -> dict[str, Any]:
    """A legend as plain data, with the keys of :func:`legend_of`."""
    first = colours[0]
    classes = [
        {"value": k, "name": label, "colour": c}
        for k, (label, c) in enumerate(zip(composite.labels, CHANNELS, strict=True))
    ]
    warnings = list(dict.fromkeys(w for c in colours for w in c.warnings))
    return {
        "kind": "rgb", "title": first.title, "units": first.units, "low": first.low, "high": first.high, "extend": "both", "ramp": [],
        "classes": classes, "more": 0, "warnings": warnings,
    }  # fmt: skip
