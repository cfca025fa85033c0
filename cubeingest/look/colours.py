"""From a variable's attributes, and the pixels that are shown, to colours and a legend. Plain values: no drawing library is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cubeingest.look.palette import (
    CLASS_COLOURS,
    MISSING_COLOUR,
    UNNAMED_COLOUR,
    VIRIDIS,
    Rgb,
    hex_of,
    is_number,
    make_ramp,
    named_ramp,
    parse_colour,
)
from cubeingest.spec import Variable

if TYPE_CHECKING:
    import numpy.typing as npt

Array = np.ndarray[Any, Any]

FEW_CLASSES = 12
"""Distinct whole numbers up to which a variable that says nothing of itself is taken to hold classes."""

LEGEND_ROWS = 20
"""Rows of a legend; the classes that occur most."""

SAMPLE = 1_000_000
"""Pixels from which limits and distinct values are found."""

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


@dataclass(frozen=True)
class LegendRow:
    """One class: its value, name, colour (``#rrggbb``), and how many of the pixels shown hold it."""

    value: int | float
    name: str
    colour: str
    pixels: int


@dataclass(frozen=True)
class Colours:
    """How a variable's pixels are painted.

    ``kind`` is ``"classes"``: then ``legend`` has those that occur, most frequent ``LEGEND_ROWS`` of them, in the order of the classes, and ``more``
    is how many were left out; values that are no class of the table share its last row. Or ``"range"``: from ``low`` to ``high`` along ``ramp``, 256 colours (uint8, (256, 3)).
    Values outside ``valid`` (the attributes ``valid_min``, ``valid_max``) count as missing. ``warnings`` say which attributes could not be used.
    """

    kind: Literal["classes", "range"]
    title: str
    units: str
    fill: Any
    values: Array
    table: npt.NDArray[np.uint8]
    low: float
    high: float
    ramp: npt.NDArray[np.uint8]
    valid: tuple[float, float]
    missing: str = MISSING_COLOUR
    extend: Literal["neither", "min", "max", "both"] = "neither"
    legend: tuple[LegendRow, ...] = ()
    more: int = 0
    warnings: tuple[str, ...] = ()

    def paint(self, pixels: Array) -> npt.NDArray[np.uint8]:
        """RGBA of ``pixels``, uint8 of their shape and 4; missing ones in the colour ``missing``, all opaque."""
        out = np.empty((*pixels.shape, 4), np.uint8)
        out[..., 3] = 255
        out[..., :3] = self.ramp[self._places(pixels)] if self.kind == "range" else self._classed(pixels)
        out[is_missing(pixels, self.fill, self.valid), :3] = parse_colour(self.missing)
        return out

    def _places(self, pixels: Array) -> npt.NDArray[np.uint8]:
        with np.errstate(invalid="ignore", over="ignore"):
            wide: Array = pixels.astype(np.float64 if pixels.dtype.itemsize > 4 else np.float32)
            share: Array = np.clip((wide - self.low) / (self.high - self.low), 0, 1) * 255
            return np.asarray(np.nan_to_num(share, nan=0).round(), np.uint8)

    def _classed(self, pixels: Array) -> npt.NDArray[np.uint8]:
        if not self.values.size:
            return np.broadcast_to(np.array(parse_colour(UNNAMED_COLOUR), np.uint8), (*pixels.shape, 3))
        if pixels.dtype.itemsize == 1:  # every value at once
            every = np.arange(256, dtype=np.uint8).view(pixels.dtype)
            known: npt.NDArray[np.uint8] = self._looked_up(every)[pixels.view(np.uint8)]
            return known
        return self._looked_up(pixels)

    def _looked_up(self, pixels: Array) -> npt.NDArray[np.uint8]:
        order = np.argsort(self.values)
        at = order[np.clip(np.searchsorted(self.values, pixels, sorter=order), 0, self.values.size - 1)]
        found = np.where((self.values[at] == pixels)[..., np.newaxis], self.table[at], parse_colour(UNNAMED_COLOUR))
        return found.astype(np.uint8)


def read_colours(variable: Variable, pixels: Array) -> Colours:
    """Colours for ``pixels`` of ``variable``, by its attributes; what these do not say, by the pixels.

    Attributes that make no sense never fail: they are left out, and ``warnings`` says so.
    """
    return _Reading(variable, pixels).colours()


def is_missing(pixels: Array, fill: Any, valid: tuple[float, float] = (-np.inf, np.inf)) -> npt.NDArray[np.bool_]:
    """Where pixels are the fill value (None: no value is), NaN, or outside ``valid``."""
    missing = np.isnan(pixels) if pixels.dtype.kind == "f" else np.zeros(pixels.shape, bool)
    if fill is not None:
        missing |= pixels == fill
    if valid[0] > -np.inf:
        missing |= pixels < valid[0]
    if valid[1] < np.inf:
        missing |= pixels > valid[1]
    return missing


class _Reading:
    """One look at a variable's attributes and pixels."""

    def __init__(self, variable: Variable, pixels: Array) -> None:
        self.variable, self.pixels, self.attrs = variable, pixels, variable.attrs
        self.is_whole = variable.np_dtype.kind in "bui"
        self.warnings: list[str] = []
        self.valid = self._valid()
        self.key = next((k for k in TABLE_KEYS if k in self.attrs), "")

    def colours(self) -> Colours:
        flags = self._flags()
        names = self._names(flags)
        given = self._given(flags)
        fill = None if flags and self.variable.fill_value in flags else self.variable.np_fill
        sample = self.pixels.ravel()[:: max(1, self.pixels.size // SAMPLE)]
        sample = sample[~is_missing(sample, fill, self.valid)]
        values: list[Any] | None = None
        if flags:
            values = flags
        elif isinstance(given, Mapping) and (self.is_whole and self._names_classes(given, sample)):
            values = sorted(given)
        elif given is None and self._looks_like_classes(sample):
            values = np.unique(sample).tolist()
        base: dict[str, Any] = {
            "title": str(self.attrs.get("long_name") or self.attrs.get("standard_name") or self.variable.name),
            "units": self._units(),
            "fill": fill,
            "valid": self.valid,
        }
        if values is not None:
            return self._classes(values, names, given, base)
        return self._range(given, sample, base)

    def _classes(self, values: list[Any], names: Mapping[Any, str], given: Any, base: dict[str, Any]) -> Colours:
        if isinstance(given, Mapping):
            rgb = [given.get(v) for v in values]
        elif isinstance(given, np.ndarray):
            rgb = [tuple(int(c) for c in given[i]) for i in np.linspace(0, 255, len(values)).round().astype(int)]
        else:
            rgb = [None] * len(values)
        table = self._filled_up(rgb)
        keys = np.array(values, self.variable.np_dtype)
        missing = is_missing(self.pixels, base["fill"], self.valid)
        seen = _counts(self.pixels[~missing])
        rows = [
            LegendRow(v, names.get(v, _plain(v)), hex_of(colour), seen.pop(v, 0))
            for v, colour in zip(values, table, strict=True)
        ]
        if seen:
            unnamed = _plain(next(iter(seen))) if len(seen) == 1 else f"{len(seen)} values without a colour"
            rows.append(LegendRow(min(seen), unnamed, UNNAMED_COLOUR, sum(seen.values())))
        shown = [row for row in rows if row.pixels] or rows
        most = sorted(shown, key=lambda row: -row.pixels)[:LEGEND_ROWS]
        legend = tuple(row for row in shown if row in most)
        return Colours(
            "classes", **base, values=keys, table=table, low=0.0, high=1.0, ramp=make_ramp(VIRIDIS),
            legend=legend, more=len(shown) - len(legend), warnings=tuple(self.warnings),
        )  # fmt: skip

    def _range(self, given: Any, sample: Array, base: dict[str, Any]) -> Colours:
        finite = sample[np.isfinite(sample)].astype(np.float64)
        low, high = (float(v) for v in np.percentile(finite, (2, 98))) if finite.size else (0.0, 1.0)
        if isinstance(given, Mapping):
            stops = sorted(given)
            low, high = float(stops[0]), float(stops[-1])
        elif self.valid != (-np.inf, np.inf):
            low, high = (float(v) if np.isfinite(v) else d for v, d in zip(self.valid, (low, high), strict=True))
        if not low < high:
            middle = low
            room = max(0.5, abs(middle) * 1e-6)
            low, high = middle - room, middle + room
        ramp = given if isinstance(given, np.ndarray) else make_ramp(VIRIDIS)
        if isinstance(given, Mapping) and len(given) > 1:
            ramp = make_ramp([given[s] for s in stops], [(float(s) - low) / (high - low) for s in stops])
        below, above = bool((sample < low).any()), bool((sample > high).any())
        extend: Any = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[
            below, above
        ]
        return Colours(
            "range", **base, values=np.array([], self.variable.np_dtype), table=np.zeros((0, 3), np.uint8),
            low=low, high=high, ramp=ramp, extend=extend, warnings=tuple(self.warnings),
        )  # fmt: skip

    def _flags(self) -> list[Any]:
        """Values of CF's ``flag_values``, as numbers of the variable's dtype; none if it has none, or flags that are bits."""
        if "flag_values" not in self.attrs or "flag_masks" in self.attrs:
            return []
        items = _items(self.attrs["flag_values"])
        try:
            numbers = [_number(v) for v in items]
            flags: list[Any] = np.array(numbers, self.variable.np_dtype).tolist()
            if flags != numbers or len(set(flags)) != len(flags):
                raise ValueError("twice, or not of the variable's dtype")
        except (ValueError, OverflowError, TypeError) as e:
            self.warnings.append(f"flag_values of {self.variable.name!r} cannot be used: {e}")
            return []
        return flags

    def _names(self, flags: list[Any]) -> dict[Any, str]:
        meanings = self.attrs.get("flag_meanings")
        if meanings is None or not flags:
            return {}
        names = [str(m) for m in _items(meanings)]
        if len(names) != len(flags):
            self.warnings.append(
                f"flag_meanings of {self.variable.name!r} has {len(names)} names for {len(flags)} flag_values: values are shown instead"
            )
            return {}
        return {flag: name.replace("_", " ") for flag, name in zip(flags, names, strict=True)}

    def _given(self, flags: list[Any]) -> Any:
        """Colours that the attributes give: by value, as a ramp (an array), or None."""
        value = self.attrs.get(self.key)
        if not self.key or value is None:
            return None
        try:
            if isinstance(value, Mapping):
                return {_number(k): parse_colour(c) for k, c in value.items()} or None
            items = _items(value)
            if isinstance(value, str) and len(items) == 1 and not value.startswith("#") and "flag" not in self.key:
                return named_ramp(items[0])
            if flags or self.key.startswith("flag"):
                if len(items) != len(flags):
                    raise ValueError(f"{len(items)} colours for {len(flags)} flag_values")
                return {flag: colour for flag, item in zip(flags, items, strict=True) if (colour := self._colour(item))}
            colours = [parse_colour(c) for c in items]
            if self.is_whole and self.key.startswith("col") and not self.key.endswith("map"):
                return dict(enumerate(colours))
            return make_ramp(colours)
        except (ValueError, TypeError, KeyError, OverflowError) as e:
            self.warnings.append(
                f"{self.key} of {self.variable.name!r} cannot be used: {' '.join(str(e).split())[:120]}"
            )
            return None

    def _colour(self, item: Any) -> Rgb | None:
        """A colour, or None and a warning."""
        try:
            return parse_colour(item)
        except ValueError:
            self.warnings.append(f"{self.key} of {self.variable.name!r} has {item!r}, which is no colour")
            return None

    def _names_classes(self, given: Mapping[Any, Any], sample: Array) -> bool:
        """Whether colours by value are those of classes: a table is; a colormap if it has every value that there is."""
        return not self.key.endswith(("map", "cmap")) or set(np.unique(sample).tolist()) <= set(given)

    def _looks_like_classes(self, sample: Array) -> bool:
        if not self.is_whole or self._units() or self.valid != (-np.inf, np.inf):
            return self.variable.np_dtype.kind == "b"
        return np.unique(sample).size <= FEW_CLASSES

    def _filled_up(self, rgb: list[Rgb | None]) -> npt.NDArray[np.uint8]:
        """A table of colours; for classes without one, of the palette, or along a ramp if they are many."""
        ramp = make_ramp(VIRIDIS)
        many = len(rgb) > len(CLASS_COLOURS)
        spare = [
            ramp[round(i * 255 / max(1, len(rgb) - 1))] if many else parse_colour(CLASS_COLOURS[i])
            for i in range(len(rgb))
        ]
        return np.array([own or tuple(other) for own, other in zip(rgb, spare, strict=True)], np.uint8).reshape(-1, 3)

    def _valid(self) -> tuple[float, float]:
        low, high = -np.inf, np.inf
        try:
            if "valid_range" in self.attrs:
                low, high = (float(_number(v)) for v in _items(self.attrs["valid_range"]))
            low = float(_number(self.attrs.get("valid_min", low)))
            high = float(_number(self.attrs.get("valid_max", high)))
            if not low < high:
                raise ValueError(f"{low:g} is not below {high:g}")
        except (ValueError, TypeError) as e:
            self.warnings.append(f"the valid range of {self.variable.name!r} cannot be used: {e}")
            return -np.inf, np.inf
        return low, high

    def _units(self) -> str:
        units = str(self.attrs.get("units", "")).strip()
        return "" if units in ("1", "none", "unitless", "dimensionless") else units


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


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _counts(pixels: Array) -> dict[Any, int]:
    """How often each value occurs."""
    if pixels.dtype.itemsize == 1:
        n = np.bincount(pixels.view(np.uint8).ravel(), minlength=256)
        held = np.flatnonzero(n)
        return dict(zip(held.astype(np.uint8).view(pixels.dtype).tolist(), n[held].tolist(), strict=True))
    values, counts = np.unique(pixels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
