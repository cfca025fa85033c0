"""What a variable's attributes say of how its pixels are shown: classes and their names, colours, limits, packing, units."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import ExtraError
from cubeingest.look.palette import Rgb, is_number, make_ramp, named_ramp, parse_colour
from cubeingest.spec import Variable
from cubeingest.wording import counted

if TYPE_CHECKING:
    import numpy.typing as npt

TABLE_KEYS = (
    "flag_colors",
    "flag_colours",
    "colors",
    "colours",
    "color_table",
    "colour_table",
    "colormap",
    "colourmap",
    "cmap",
)
"""Attributes that may hold colours; the first that there is counts."""

NO_UNITS = ("1", "none", "unitless", "dimensionless")
"""Units that say that there are none."""

UNUSABLE = (ValueError, TypeError, KeyError, OverflowError, ExtraError)
"""What is raised for values that make no sense."""


class Attributes:
    """A variable's attributes, read. What makes no sense in them is left out, and ``warnings`` says so.

    ``flags`` are CF's ``flag_values``, of the variable's dtype, and ``names`` theirs, by value. ``table`` has colours by value, or ``ramp`` 256
    colours (uint8, (256, 3)); neither if no colours are given. Of the colours of a ``table`` that ``is_ramp`` all those between are meant too.
    What lies outside ``valid`` is missing. All these are numbers as they are stored; times ``scale`` plus ``offset`` they are in ``units``.
    """

    def __init__(self, variable: Variable) -> None:
        self.variable, self._attrs = variable, variable.attrs
        self.is_whole = variable.np_dtype.kind in "bui"
        self.warnings: list[str] = []
        self.title = str(self._attrs.get("long_name") or self._attrs.get("standard_name") or variable.name)
        units = str(self._attrs.get("units", "")).strip()
        self.units = "" if units in NO_UNITS else units
        self.scale, self.offset = self._packing()
        self.valid = self._valid()
        self.flags = self._flags()
        self.names = self._names()
        self._key = next((k for k in TABLE_KEYS if k in self._attrs), "")
        self.is_ramp = self._key.endswith(("map", "cmap"))
        self.table: dict[Any, Rgb] | None = None
        self.ramp: npt.NDArray[np.uint8] | None = None
        self._read_colours()

    def warn_of_colours(self, why: object) -> None:
        """Say that the attribute that holds colours cannot be used."""
        self.warnings.append(
            f"{self._key} of {self.variable.name!r} cannot be used: {' '.join(str(why).split())[:120]}"
        )

    @property
    def is_packed(self) -> bool:
        """Whether numbers are stored otherwise than they are meant."""
        return (self.scale, self.offset) != (1, 0)

    def unpacked(self, number: float) -> float:
        """What a number that is stored means."""
        return float(number) * self.scale + self.offset

    def _packing(self) -> tuple[float, float]:
        """CF's ``scale_factor`` and ``add_offset``."""
        try:
            found = [float(_number(self._attrs.get(k, d))) for k, d in (("scale_factor", 1), ("add_offset", 0))]
            if not all(is_finite(v) for v in found) or found[0] == 0:
                raise ValueError(f"{found[0]:g} and {found[1]:g}")
        except UNUSABLE as e:
            self.warnings.append(
                f"scale_factor and add_offset of {self.variable.name!r} cannot be used: {str(e)[:120]}"
            )
            return 1.0, 0.0
        return found[0], found[1]

    def _valid(self) -> tuple[float, float]:
        low, high = -np.inf, np.inf
        try:
            if "valid_range" in self._attrs:
                low, high = (float(_number(v)) for v in _items(self._attrs["valid_range"]))
            low = float(_number(self._attrs.get("valid_min", low)))
            high = float(_number(self._attrs.get("valid_max", high)))
            if not low < high:
                raise ValueError(f"{low:g} is not below {high:g}")
        except UNUSABLE as e:
            self.warnings.append(f"the valid range of {self.variable.name!r} cannot be used: {str(e)[:120]}")
            return -np.inf, np.inf
        return low, high

    def _flags(self) -> list[Any]:
        """None if there are none, or flags that are bits."""
        if "flag_values" not in self._attrs or "flag_masks" in self._attrs:
            return []
        items = _items(self._attrs["flag_values"])
        try:
            numbers = [_number(v) for v in items]
            flags: list[Any] = np.array(numbers, self.variable.np_dtype).tolist()
            if flags != numbers or len(set(flags)) != len(flags):
                raise ValueError("twice, or not of the variable's dtype")
        except UNUSABLE as e:
            self.warnings.append(f"flag_values of {self.variable.name!r} cannot be used: {str(e)[:120]}")
            return []
        return flags

    def _names(self) -> dict[Any, str]:
        meanings = self._attrs.get("flag_meanings")
        if meanings is None or not self.flags:
            return {}
        names = [str(m) for m in _items(meanings)]
        if len(names) != len(self.flags):
            self.warnings.append(
                f"flag_meanings of {self.variable.name!r} has {len(names)} names for {len(self.flags)} flag_values: values are shown instead"
            )
            return {}
        return {flag: name.replace("_", " ") for flag, name in zip(self.flags, names, strict=True)}

    def _read_colours(self) -> None:
        value = self._attrs.get(self._key)
        if not self._key or value is None:
            return
        try:
            if isinstance(value, Mapping):
                self.table = self._kept({_number(k): colour for k, c in value.items() if (colour := self._colour(c))})
                return
            items = _items(value)
            is_flags = self._key.startswith("flag")
            if isinstance(value, str) and len(items) == 1 and not value.startswith("#") and not is_flags:
                self.ramp = named_ramp(items[0])
            elif self.flags or is_flags:
                if len(items) != len(self.flags):
                    raise ValueError(f"{len(items)} colours for {len(self.flags)} flag_values")
                pairs = zip(self.flags, items, strict=True)
                self.table = {flag: colour for flag, item in pairs if (colour := self._colour(item))}
            elif self.is_whole and not self.is_ramp:
                self.table = self._kept(dict(enumerate(parse_colour(c) for c in items)))
            else:
                self.ramp = make_ramp(items)
        except UNUSABLE as e:
            self.warn_of_colours(e)

    def _kept(self, table: dict[Any, Rgb]) -> dict[Any, Rgb]:
        """Those of colours by value whose value is one: of classes, one that a pixel may hold; of a ramp, a finite one."""
        if not table:
            raise ValueError("no colours")
        kept = {v for v in table if is_finite(v)}
        if self.is_whole and not self.is_ramp:
            kept = set(self.held(kept))
        lost = [v for v in table if v not in kept]
        if lost:
            why = f"{self.variable.dtype} does not have" if is_finite(lost[0]) else "no scale has"
            said = f"colours for {counted(len(lost), 'value')} that {why}, such as {str(lost[0])[:40]}"
            if not kept:
                raise ValueError(said)
            self.warnings.append(f"{self._key} of {self.variable.name!r} has {said}: they are left out")
        return {v: colour for v, colour in table.items() if v in kept}

    def held(self, values: Iterable[Any]) -> list[Any]:
        """Those of finite numbers that the variable's pixels may hold, in order."""
        dtype = self.variable.np_dtype
        ends = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max) if self.is_whole else None
        return sorted(v for v in values if ends is None or (ends[0] <= v <= ends[1] and v == int(v)))

    def _colour(self, item: Any) -> Rgb | None:
        """A colour, or None and a warning."""
        try:
            return parse_colour(item)
        except ValueError:
            self.warnings.append(f"{self._key} of {self.variable.name!r} has {item!r}, which is no colour")
            return None


def is_finite(number: float) -> bool:
    """Whether a number is one that a float can hold."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _items(value: Any) -> list[Any]:
    """A list, or the words of a text: CF separates by spaces, people by commas too."""
    if isinstance(value, str):
        return [word for word in re.split(r"[,\s]+", value.strip()) if word]
    if isinstance(value, Sequence):
        return list(value)
    return [value]


def _number(value: Any) -> int | float | bool:
    """A number, or the text of one (with CDL's suffix for its type). Raises :class:`ValueError`."""
    if is_number(value) or isinstance(value, bool):
        return value  # type: ignore[no-any-return]
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return text == "true"
    text = re.sub(r"^([-+]?\d+)(ub|us|ul|b|s|l)$", r"\1", text)
    try:
        return int(text)
    except ValueError:
        number = float(text)
        return int(number) if number.is_integer() else number
