"""Small multiples: one small map of the regions for each axis value, coloured by what holds there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.look.fields import Field
from cubeingest.look.frame import (
    COAST_PIXELS,
    EDGE,
    INK,
    SOFT,
    TEXT_POINTS,
    cut_text,
    letters_in,
    new_figure,
    write_note,
    write_title,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 13.0, 9.0
"""Inches that all panels together may take."""

MOST_PANELS = 24
"""Panels of a picture; of more, none would show anything."""

GAP, HEAD, LEFT, TOP, FOOT = 0.18, 0.24, 0.3, 0.72, 0.62
"""Inches between panels, above each for its title, and round all of them."""

VECTOR_CELLS = 30_000
"""Regions of a picture from which on an SVG holds them as an image."""


@dataclass(frozen=True)
class Panel:
    """One small map: its title, a remark, and for each region (iy, ix) the position of a kind, or more than there are for none."""

    title: str
    remark: str
    kinds: np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Kind:
    """What may hold for a slot: its name and colour, and how many slots there are of it."""

    name: str
    colour: str
    count: int
    alpha: float = 0.9


def draw_panels(
    field: Field, panels: Sequence[Panel], kinds: Sequence[Kind], title: str, remark: str, note: str
) -> np.ndarray[Any, Any]:
    """Draw panels side by side, with a legend of the kinds that occur. Returns their axes, an object array (rows, columns); None beyond the last."""
    n = len(panels)
    columns, wide, high = _layout(field, n)
    rows = -(-n // columns)
    is_single = n == 1
    left = field.left if is_single else LEFT
    foot = FOOT + (0.3 if is_single else 0)
    total = max(columns * (wide + GAP) - GAP + left + 0.3, 5.6)
    figure = new_figure(total, TOP + rows * (high + HEAD + GAP) - GAP + foot)
    out = np.full((rows, columns), None, object)
    height = float(figure.get_size_inches()[1])
    for i, panel in enumerate(panels):
        row, column = divmod(i, columns)
        x = left + column * (wide + GAP)
        y = height - TOP - row * (high + HEAD + GAP) - HEAD - high
        axes = field.add_axes(figure, (x, y, wide, high), ticks=is_single)
        is_image = panel.kinds.size * n > VECTOR_CELLS
        field.fill(axes, panel.kinds, [(k.colour, k.alpha) for k in kinds], 1, is_image)
        field.edges(axes, width=0.4 if is_single else 0.25)
        _name(figure, panel, x, y + high, wide)
        out[row, column] = axes
    drawn = [axes for axes in out.ravel() if axes is not None]
    pixels = max(200, int(COAST_PIXELS * max(wide, high) / 10))
    field.ground(drawn, pixels, is_single)
    field.coast(drawn, pixels, INK, 0.5 if is_single else 0.35)
    write_title(figure, title, remark, left)
    _write_legend(figure, kinds, left)
    write_note(figure, note, left)
    return out


def _layout(field: Field, n: int) -> tuple[int, float, float]:
    """Columns, and inches of each panel, so that panels are as large as they can be."""
    best = (0.0, 1, 1.0, 1.0)
    for columns in range(1, n + 1):
        rows = -(-n // columns)
        room = (WIDTH + GAP) / columns - GAP, (HEIGHT + GAP) / rows - GAP - HEAD
        if min(room) < 0.2:
            continue
        wide, high = field.size(min(room[0], 10.4), min(room[1], 8.4))
        best = max(best, (wide * high - 1e-3 * columns * rows, columns, wide, high))
    return best[1:]


def _name(figure: Figure, panel: Panel, left: float, top: float, wide: float) -> None:
    width, height = figure.get_size_inches()
    y = (top + 0.045) / height
    letters = letters_in(wide, TEXT_POINTS)
    title = cut_text(panel.title, letters)
    figure.text(left / width, y, title, fontsize=TEXT_POINTS, color=INK, va="bottom", parse_math=False)
    if len(title) + len(panel.remark) + 1 < letters:
        figure.text(
            (left + wide) / width, y, panel.remark, fontsize=TEXT_POINTS - 1, color=SOFT, va="bottom", ha="right"
        )


def _write_legend(figure: Figure, kinds: Sequence[Kind], left: float) -> None:
    from matplotlib.patches import Patch

    width, height = figure.get_size_inches()
    rows = [
        Patch(facecolor=k.colour, edgecolor=EDGE, linewidth=0.4, label=f"{k.name} {k.count:,}")
        for k in kinds
        if k.count
    ]
    figure.legend(
        handles=rows, loc="lower left", bbox_to_anchor=((left - 0.05) / width, 0.2 / height), ncols=max(1, len(rows)), frameon=False,
        fontsize=TEXT_POINTS, labelcolor=INK, handlelength=1.1, handleheight=1.0, columnspacing=1.4, handletextpad=0.5, borderpad=0.2,
    )  # fmt: skip
