"""Colours as numbers, and the palettes and ramps that are used where a variable names none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.extras import import_extra

if TYPE_CHECKING:
    import numpy.typing as npt

Rgb = tuple[int, int, int]

MISSING_COLOUR = "#dfe7ec"
"""Of pixels that hold the fill value."""

CLASS_COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#009988", "#882255", "#ddcc77", "#332288", "#999933",
)  # fmt: skip
"""For classes without colours of their own; people who are colour-blind tell them apart (Paul Tol's bright, vibrant and muted)."""

VIRIDIS = (
    "#440154", "#48186a", "#472d7b", "#424086", "#3b528b", "#33638d", "#2c728e", "#26828e", "#21918c", "#1fa088", "#28ae80", "#3fbc73",
    "#5ec962", "#84d44b", "#addc30", "#d8e219", "#fde725",
)  # fmt: skip
"""matplotlib's viridis at even steps: perceptually even, and dark to light in grey as well."""

UNNAMED_COLOUR = "#9a9a9a"
"""Of values that a class table does not have."""


def parse_colour(value: Any) -> Rgb:
    """Red, green, blue of ``#rrggbb``, ``#rgb``, a name that CSS has, or three or four numbers: 0 to 255, or fractions of one.

    Raises :class:`ValueError` for what is no colour, and :class:`ExtraError` for a name where matplotlib, which knows them, is absent.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.lower() == "none":  # matplotlib's for "nothing is drawn", which it gives as black
            raise ValueError(f"{value!r} is no colour")
        if re.fullmatch(r"#[0-9a-fA-F]{6}([0-9a-fA-F]{2})?", text):
            return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
        names = import_extra("matplotlib.colors", "pictures", "a colour by name")
        red, green, blue = (round(v * 255) for v in names.to_rgb(text))
        return red, green, blue
    if (
        not isinstance(value, Sequence)
        or len(value) not in (3, 4)
        or not all(is_number(v) and 0 <= v <= 255 for v in value)
    ):
        raise ValueError(f"{value!r} is no colour")
    scale = 255 if any(isinstance(v, float) for v in value) and max(value) <= 1 else 1
    red, green, blue = (round(v * scale) for v in value[:3])
    return red, green, blue


def hex_of(rgb: Sequence[int]) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*(int(v) for v in rgb[:3]))


def make_ramp(colours: Sequence[Any], places: Sequence[float] | None = None) -> npt.NDArray[np.uint8]:
    """256 colours through the given ones, at even steps or at ``places`` from 0 to 1.

    Raises :class:`ValueError` for fewer than two, and for what is no colour.
    """
    if len(colours) < 2:
        raise ValueError("a ramp takes two colours at least")
    stops = np.array([parse_colour(c) for c in colours], float)
    at = np.linspace(0, 1, len(stops)) if places is None else np.asarray(places, float)
    t = np.linspace(0, 1, 256)
    return np.stack([np.interp(t, at, stops[:, i]) for i in range(3)], axis=1).round().astype(np.uint8)


def is_number(value: Any) -> bool:
    """Whether a value is a number, and no boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def named_ramp(name: str) -> npt.NDArray[np.uint8]:
    """256 colours of one of matplotlib's colormaps. Raises :class:`ValueError` for a name that it does not have, :class:`ExtraError` without it."""
    colormaps = import_extra("matplotlib", "pictures", "a colormap by name").colormaps
    known = {n.lower(): n for n in colormaps}
    if name.lower() not in known:
        raise ValueError(f"matplotlib has no colormap {name!r}")
    colours = colormaps[known[name.lower()]](np.linspace(0, 1, 256))
    return np.asarray((colours[:, :3] * 255).round(), np.uint8)
