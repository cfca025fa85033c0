"""Tables of results: their rows for a person, largest first or the first ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubeingest.cli.output import out_console, say

if TYPE_CHECKING:
    from pathlib import Path

    from cubeingest.analyze import Rows

ROWS_SHOWN = 40
"""Rows of a table in a terminal."""


def largest_first(rows: Rows) -> Rows:
    order = sorted(range(len(rows["area_km2"])), key=lambda i: -rows["area_km2"][i])
    return {k: [v[i] for i in order] for k, v in rows.items()}


def print_rows(rows: Rows) -> None:
    """A table for a person: the first rows."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name, values in rows.items():
        table.add_column(name, justify="left" if any(isinstance(v, str) for v in values[:1]) else "right")
    every = list(zip(*rows.values(), strict=True))
    for row in every[:ROWS_SHOWN]:
        table.add_row(*map(format_number, row))
    out_console().print(table)
    if len(every) > ROWS_SHOWN:
        say(f"... and {len(every) - ROWS_SHOWN:,} more rows (--output FILE.csv has them all)")


def format_number(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        if value != value:  # noqa: PLR0124  (NaN)
            return "-"
        return f"{value:,.0f}" if abs(value) >= 1e6 or value == int(value) else f"{value:,.6g}"
    return "-" if value is None else str(value)


def say_output(output: Path | None) -> None:
    if output is not None:
        out_console().print(str(output), markup=False)
