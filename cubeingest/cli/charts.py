"""A map of regions in the terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cubeingest.cli.output import out_console

if TYPE_CHECKING:
    from cubeingest.status import SlotStates

WIDEST = 100
"""Letters of a map at most, however wide the terminal."""

SIGNS = {"done": "#", "pending": "?", "empty": "=", "absent": "."}
"""What stands for a kind where there are no colours; a digit for tenths of what is done in part."""

SIXTEEN = {"done": "green", "part": "yellow", "pending": "red", "empty": "cyan", "absent": "bright_black"}
"""Colours of a terminal that has no others."""

Cell = tuple[str, float] | None
"""What holds in a cell of a map, and the share of its slots that is done or empty; None outside the selection."""


def print_map(slots: SlotStates) -> None:
    """A small map of the regions, coloured by what holds in them, and what the colours mean; nothing where stdout is no terminal.

    Where colours are unwanted (``NO_COLOR``), or there are none, or no blocks to colour, letters stand for them.
    """
    out = out_console()
    if not out.is_terminal:
        return
    import numpy as np
    from rich.text import Text

    from cubeingest.look import SUMMARIES, count_by_region, shrink_counts, summarise

    counts = count_by_region(slots)
    system = None if os.environ.get("NO_COLOR") or not _has_blocks(out.encoding) else out.color_system
    columns = max(10, min(WIDEST, out.width - 1))
    cells = _cells(shrink_counts(counts, slots.spec.grid, columns, 2 if system else 1))
    text = Text("\n")
    if system is None:
        text.append("\n".join("".join(map(_letter, row)) for row in cells))
    else:
        cells += [[None] * len(cells[0])] * (len(cells) % 2)
        for upper, lower in zip(cells[::2], cells[1::2], strict=True):
            for a, b in zip(upper, lower, strict=True):
                text.append(*_half_blocks(_colour(a, system), _colour(b, system)))
            text.append("\n")
        text.right_crop(1)
    text.append("\n")
    kinds = summarise(counts)
    for name, n in ((name, int(np.count_nonzero(kinds == i))) for i, name in enumerate(SUMMARIES)):
        if n:
            sample = (name, 0.5)
            text.append("  ")
            text.append(*((_letter(sample), "") if system is None else ("█", _colour(sample, system) or "")))
            text.append(f" {name} {n:,}")
    digits = " (digits: tenths of its slots)" if system is None else ""
    part = (
        f"; part: not all axis values or variables are done{digits}" if (kinds == SUMMARIES.index("part")).any() else ""
    )
    text.append(f"  regions{part}", "dim")
    out.print(text)


def _has_blocks(encoding: str) -> bool:
    """Whether a terminal's locale has the letters that colours are put into."""
    try:
        "▀▄█".encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _cells(counts: Any) -> list[list[Cell]]:
    """What holds in each cell."""
    from cubeingest.look import SUMMARIES, share_done, summarise

    return [
        [(SUMMARIES[kind], share) if kind < len(SUMMARIES) else None for kind, share in zip(*rows, strict=True)]
        for rows in zip(summarise(counts).tolist(), share_done(counts).tolist(), strict=True)
    ]


def _letter(cell: Cell) -> str:
    if cell is None:
        return " "
    name, share = cell
    return SIGNS.get(name, str(min(9, max(1, int(share * 10)))))


def _colour(cell: Cell, system: str) -> str | None:
    """The colour of a cell; of one that is done in part, between those of pending and done."""
    from cubeingest.sketch import region_colour

    if cell is None:
        return None
    name, share = cell
    if system in ("standard", "windows"):
        return SIXTEEN[name]
    return region_colour(name, share)


def _half_blocks(upper: str | None, lower: str | None) -> tuple[str, str]:
    """A letter and its style that show one colour above another."""
    if upper is None:
        return (" ", "") if lower is None else ("▄", lower)
    return ("▀", upper) if lower is None else ("▀", f"{upper} on {lower}")
