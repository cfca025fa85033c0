"""How a variable looks as the band of a GeoTIFF: nodata, colours, scale, units and texts, from its attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cubeingest.look import Attributes
from cubeingest.overviews import method_of
from cubeingest.spec import Variable

TEXTS = ("flag_values", "flag_meanings", "flag_masks", "standard_name", "comment")
"""Attributes that go with the band as texts, if they are there."""


@dataclass(frozen=True)
class Band:
    """As the fields of :class:`cubeingest.tile.Cog`; ``method`` is how its overviews are made."""

    nodata: float | int | None
    colours: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    scale: float = 1.0
    offset: float = 0.0
    units: str = ""
    title: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    predictor: int = 1
    method: str = "nearest"


def band_of(variable: Variable) -> Band:
    """What the band of a variable is. Booleans have no nodata, since false is their fill value in most masks, and are written as 0 and 1."""
    attributes = Attributes(variable)
    method = method_of(variable) or "nearest"
    dtype = variable.np_dtype
    table = attributes.table if attributes.table and dtype == np.uint8 and not attributes.is_ramp else {}
    title = attributes.title if attributes.title != variable.name else ""
    return Band(
        nodata=None if dtype.kind == "b" else variable.np_fill.item(),
        colours={int(value): (int(r), int(g), int(b)) for value, (r, g, b) in table.items()},
        scale=attributes.scale, offset=attributes.offset, units=attributes.units, title=title,
        tags={name: _text(variable.attrs[name]) for name in TEXTS if name in variable.attrs},
        predictor=_predictor(dtype, method), method=method,
    )  # fmt: skip


def _predictor(dtype: np.dtype[Any], method: str) -> int:
    """Differences of neighbours are smaller than values where these change little by little, which those of classes do not."""
    if method in ("mode", "nearest") or dtype.kind == "b":
        return 1
    if dtype.kind == "f":
        return 3 if dtype.itemsize in (4, 8) else 1
    return 2 if dtype.itemsize <= 4 else 1


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
