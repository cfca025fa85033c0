"""The command that counts which class became which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cubeingest.cli.app import refuse_usage
from cubeingest.cli.complete import complete_axis_value
from cubeingest.cli.compute import compute
from cubeingest.cli.options import DebugOption, Hands, JsonOption, Slots, TableOption, Which
from cubeingest.cli.output import guard, out_console, print_json, say, show_progress
from cubeingest.cli.rows import format_number, largest_first, print_rows, say_output

if TYPE_CHECKING:
    from cubeingest.analyze import TransitionReport

COLUMNS_SHOWN = 12
"""Classes up to which transitions are shown as a matrix."""


@compute.command(
    "transitions",
    selecting=True,
    examples=(
        "cubeingest compute transitions --from year=2000 --to year=2020",
        "cubeingest compute transitions --from year=2000 --to year=2020 --polygon country.geojson --output change.csv",
    ),
)
def transitions(
    ctx: typer.Context,
    before: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="AXIS=VALUE",
            help="Where classes are taken from; repeatable.",
            autocompletion=complete_axis_value,
        ),
    ],
    after: Annotated[
        list[str],
        typer.Option("--to", metavar="AXIS=VALUE", help="What they have become.", autocompletion=complete_axis_value),
    ],
    which: Which,
    slots: Slots,
    hands: Hands,
    output: TableOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Which class became which, in km²."""
    with guard(debug):
        from cubeingest.analyze import TABLES, check_output, count_transitions, write_table

        if output is not None:
            check_output(output, TABLES, "table")
        cube = which.open()
        selection = slots.read(ctx, cube)
        ends = _pairs(ctx, before), _pairs(ctx, after)
        with show_progress("transitions") as show:
            report = count_transitions(cube.store, selection, *ends, hands.options(), show)
        if str(report.gaps):
            say(f"warning: {report.gaps}", "yellow")
        if output is not None:
            write_table(output, report.rows())
        if json:
            print_json(report.to_json())
            return
        _print_transitions(report)
        say_output(output)


def _pairs(ctx: typer.Context, texts: list[str]) -> dict[str, str]:
    out = {}
    for text in texts:
        axis, equals, value = text.partition("=")
        if not equals or not value:
            refuse_usage(ctx, f"{text!r}: write AXIS=VALUE, such as year=2000")
        out[axis] = value
    return out


def _print_transitions(report: TransitionReport) -> None:
    from rich.table import Table

    out, classes = out_console(), report.classes
    before, after = (" ".join(f"{a} {v}" for a, v in ends.items()) for ends in (report.before, report.after))
    if len(classes) <= COLUMNS_SHOWN:
        table = Table(
            box=None, padding=(0, 2, 0, 0), title=f"km², rows {before}, columns {after}", title_justify="left"
        )
        table.add_column("", style="bold")
        for c in classes:
            table.add_column(report.name(c), justify="right")
        for a in classes:
            table.add_row(report.name(a), *(format_number(report.counts.get((a, b), (0, 0.0))[1]) for b in classes))
        out.print(table)
    else:
        rows = {k: v for k, v in report.rows().items() if k in ("from_name", "to_name", "pixels", "area_km2")}
        print_rows(largest_first(rows))
    n, area = report.changed
    total = sum(v for _, v in report.counts.values())
    share = f" ({area / total:.1%})" if total else ""
    out.print(
        f"changed: {n:,} pixels, {format_number(area)} km²{share}; missing in either: {report.missing[0]:,} pixels"
    )
    say(report.note)
