"""From a variable's attributes, and the pixels that are shown, to colours and a legend. Plain values: no drawing library is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cubeingest.look.attributes import Attributes
from cubeingest.look.palette import (
    CLASS_COLOURS,
    MISSING_COLOUR,
    UNNAMED_COLOUR,
    VIRIDIS,
    Rgb,
    hex_of,
    make_ramp,
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

FARTHEST = 1e300
"""Ends of a scale are no farther from 0: between the largest floats lies more than a float holds."""


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
    These ends, and what classes without a name are called, are in ``units``: a pixel times ``scale`` plus ``offset``. Everything else is as stored.
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
    scale: float = 1.0
    offset: float = 0.0
    warnings: tuple[str, ...] = ()

    def paint(self, pixels: Array) -> npt.NDArray[np.uint8]:
        """RGBA of ``pixels``, uint8 of their shape and 4; missing ones in the colour ``missing``, all opaque."""
        out = np.empty((*pixels.shape, 4), np.uint8)
        out[..., 3] = 255
        out[..., :3] = self.ramp[self.steps(pixels)] if self.kind == "range" else self._classed(pixels)
        out[is_missing(pixels, self.fill, self.valid), :3] = parse_colour(self.missing)
        return out

    def steps(self, pixels: Array) -> npt.NDArray[np.uint8]:
        """Where pixels lie from ``low`` to ``high``, in 255 steps."""
        with np.errstate(invalid="ignore", over="ignore"):
            low, high = ((end - self.offset) / self.scale for end in (self.low, self.high))
            # float32 holds no difference of larger numbers than these
            is_wide = pixels.dtype.itemsize > 4 or max(abs(low), abs(high)) > 1e30
            wide: Array = pixels.astype(np.float64 if is_wide else np.float32)
            share: Array = np.clip((wide - low) / (high - low), 0, 1) * 255
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
    """One look at a variable's pixels, and what its attributes say of them."""

    def __init__(self, variable: Variable, pixels: Array) -> None:
        self.variable, self.pixels, self.told = variable, pixels, Attributes(variable)

    def colours(self) -> Colours:
        told = self.told
        fill = None if told.flags and self.variable.fill_value in told.flags else self.variable.np_fill
        sample = self.pixels.ravel()[:: max(1, self.pixels.size // SAMPLE)]
        sample = sample[~is_missing(sample, fill, told.valid)]
        base: dict[str, Any] = {
            "title": told.title, "units": told.units, "fill": fill, "valid": told.valid, "scale": told.scale, "offset": told.offset,
        }  # fmt: skip
        classes = self._class_values(sample)
        return self._range(sample, base) if classes is None else self._classes(classes, base)

    def _class_values(self, sample: Array) -> list[Any] | None:
        """The classes that a variable has; None if it has a range of numbers."""
        told = self.told
        if told.flags:
            return told.flags
        if told.table is not None:
            return told.held(told.table) if told.is_whole and self._names_classes(told.table, sample) else None
        return np.unique(sample).tolist() if told.ramp is None and self._looks_like_classes(sample) else None

    def _names_classes(self, table: Mapping[Any, Any], sample: Array) -> bool:
        """Whether colours by value are those of classes: a table is; a colormap if it has every value that there is."""
        return not self.told.is_ramp or (sample.size > 0 and set(np.unique(sample).tolist()) <= set(table))

    def _looks_like_classes(self, sample: Array) -> bool:
        told = self.told
        if not told.is_whole or told.units or told.is_packed or told.valid != (-np.inf, np.inf):
            return self.variable.np_dtype.kind == "b"
        return np.unique(sample).size <= FEW_CLASSES

    def _classes(self, values: list[Any], base: dict[str, Any]) -> Colours:
        told = self.told
        rgb: list[Rgb | None] = [None] * len(values)
        if told.table is not None:
            rgb = [told.table.get(v) for v in values]
        elif told.ramp is not None:
            rgb = [tuple(int(c) for c in told.ramp[i]) for i in np.linspace(0, 255, len(values)).round().astype(int)]  # type: ignore[misc]
        table = _filled_up(rgb)
        missing = is_missing(self.pixels, base["fill"], told.valid)
        seen = _counts(self.pixels[~missing])
        rows = [
            LegendRow(v, told.names.get(v, self._plain(v)), hex_of(colour), seen.pop(v, 0))
            for v, colour in zip(values, table, strict=True)
        ]
        if seen:
            unnamed = self._plain(next(iter(seen))) if len(seen) == 1 else f"{len(seen)} values without a colour"
            rows.append(LegendRow(min(seen), unnamed, UNNAMED_COLOUR, sum(seen.values())))
        shown = [row for row in rows if row.pixels]
        most = sorted(shown, key=lambda row: -row.pixels)[:LEGEND_ROWS]
        legend = tuple(row for row in shown if row in most)
        return Colours(
            "classes", **base, values=np.array(values, self.variable.np_dtype), table=table, low=0.0, high=1.0, ramp=make_ramp(VIRIDIS),
            legend=legend, more=len(shown) - len(legend), warnings=tuple(told.warnings),
        )  # fmt: skip

    def _plain(self, value: Any) -> str:
        """A class as the number that it means."""
        if isinstance(value, bool):
            return str(value).lower()
        if self.told.is_packed:
            return f"{self.told.unpacked(value):.9g}"
        return f"{value:g}" if isinstance(value, float) else str(value)

    def _range(self, sample: Array, base: dict[str, Any]) -> Colours:
        told, table = self.told, self.told.table
        if table is not None and len(table) < 2:
            told.warn_of_colours("a ramp takes two colours at least")
            table = None
        finite = sample[np.isfinite(sample)].astype(np.float64)
        low, high = (float(v) for v in np.percentile(finite, (2, 98))) if finite.size else (0.0, 1.0)
        if table is not None:
            low, high = float(min(table)), float(max(table))
        elif told.valid != (-np.inf, np.inf):
            low, high = (float(v) if np.isfinite(v) else d for v, d in zip(told.valid, (low, high), strict=True))
        beyond = [bool((sample < low).any()), bool((sample > high).any())][:: 1 if told.scale > 0 else -1]
        low, high = sorted(min(max(told.unpacked(end), -FARTHEST), FARTHEST) for end in (low, high))
        if not low < high:
            room = max(0.5 * abs(told.scale), abs(low) * 1e-6)
            low, high = low - room, high + room
        ramp = make_ramp(VIRIDIS) if told.ramp is None else told.ramp
        if table is not None:
            stops = sorted((told.unpacked(stop), colour) for stop, colour in table.items())
            ramp = make_ramp([colour for _, colour in stops], [(stop - low) / (high - low) for stop, _ in stops])
        extend: Any = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[
            beyond[0], beyond[1]
        ]
        return Colours(
            "range", **base, values=np.array([], self.variable.np_dtype), table=np.zeros((0, 3), np.uint8),
            low=low, high=high, ramp=ramp, extend=extend, warnings=tuple(told.warnings),
        )  # fmt: skip


def _filled_up(rgb: list[Rgb | None]) -> npt.NDArray[np.uint8]:
    """A table of colours; for classes without one, of the palette, or along a ramp if they are many."""
    ramp = make_ramp(VIRIDIS)
    many = len(rgb) > len(CLASS_COLOURS)
    spare = [
        ramp[round(i * 255 / max(1, len(rgb) - 1))] if many else parse_colour(CLASS_COLOURS[i]) for i in range(len(rgb))
    ]
    return np.array([own or tuple(other) for own, other in zip(rgb, spare, strict=True)], np.uint8).reshape(-1, 3)


def _counts(pixels: Array) -> dict[Any, int]:
    """How often each value occurs."""
    if pixels.dtype.itemsize == 1:
        n = np.bincount(pixels.view(np.uint8).ravel(), minlength=256)
        held = np.flatnonzero(n)
        return dict(zip(held.astype(np.uint8).view(pixels.dtype).tolist(), n[held].tolist(), strict=True))
    values, counts = np.unique(pixels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
