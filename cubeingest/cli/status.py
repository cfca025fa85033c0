"""Commands that tell how far a cube is, and whether it is as its sources are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cubeingest.cli.app import app
from cubeingest.cli.charts import print_map
from cubeingest.cli.options import (
    DebugOption,
    Hands,
    HtmlOption,
    JsonOption,
    Slots,
    Tasks,
    Which,
    say_ingest_next,
    say_next_command,
)
from cubeingest.cli.output import guard, out_console, print_json, print_table, say, show_progress
from cubeingest.wording import counted

if TYPE_CHECKING:
    from cubeingest.status import Status

ROWS_SHOWN = 20
"""Slots that differ, or miss their source, that are printed; --json has them all."""


@app.command(
    selecting=True,
    examples=("cubeingest status", "cubeingest status --year 2000 --html status.html   # a page to look at"),
)
def status(
    ctx: typer.Context,
    which: Which,
    slots: Slots,
    html: HtmlOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Count slots done, empty, pending and absent. Reads only the cube."""
    with guard(debug):
        from cubeingest.status import count_states, read_slot_states

        cube = which.open()
        selection = slots.read(ctx, cube)
        states = read_slot_states(cube.store, selection)
        report = count_states(cube.store.uri, states)
        page = {}
        if html is not None:
            from cubeingest.page import write_report

            page = {"html": str(write_report(cube.store, selection, html))}
        if json:
            print_json(report.to_json() | page)
            return
        _print_counts(report)
        if html is None:
            print_map(states)
        _print_notes(report)
        for path in page.values():
            say(f"page: {path}")
        if report.pending and which.at is None:
            say_ingest_next(ctx, cube)
        elif not report.done and not report.empty and report.absent == report.total:
            say_next_command(ctx, "plan", "it says where it looked for tiles")


def _print_counts(report: Status) -> None:
    from rich.table import Table

    from cubeingest.status import STATES

    table = Table("", *STATES, "total", box=None, header_style="bold", title=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for axis, labels in report.by.items():
        for label, counts in labels.items():
            if not any(counts.values()):  # none of what is selected has this axis
                continue
            table.add_row(f"{axis} {label}", *(str(counts[s]) for s in STATES), str(sum(counts.values())))
    table.add_row("all", *(str(getattr(report, s)) for s in STATES), str(report.total), style="bold")
    print_table(table)


def _print_notes(report: Status) -> None:
    out = out_console()
    if report.virtual:
        out.print(
            f"\n{report.virtual} of the slots done refer to tiles, which must stay as they are: `cubeingest materialize` copies them"
        )
    if report.stale:
        out.print(
            f"\n{report.stale} of the slots done are not in the overviews as they are now: `cubeingest overviews` makes what is missing or stale"
        )
    elif report.levels:
        of = (
            "of all that is done"
            if report.stale == 0
            else "`cubeingest overviews` makes what of them is missing or stale"
        )
        out.print(f"\n{counted(report.levels, 'level')} of overviews; {of}")


@app.command(
    selecting=True,
    examples=("cubeingest verify", "cubeingest verify --year 2000 --sample 0.1   # a tenth of the windows"),
)
def verify(
    ctx: typer.Context,
    which: Which,
    tasks: Tasks,
    hands: Hands,
    sample: Annotated[
        float, typer.Option("--sample", metavar="FRACTION", help="Compare only this part of the windows.")
    ] = 1.0,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare the cube with its sources, pixel for pixel."""
    with guard(debug):
        from cubeingest.verify import verify as run

        cube = which.open()
        selection = tasks.read(ctx, cube)
        with show_progress("verify") as show:
            report = run(cube.store, selection, hands.options(), sample, show)
        for row in report.different[:ROWS_SHOWN]:
            say(
                f"different: {row['region']} {' '.join(row['axes'].values())} {row['variable']}: {row['pixels'] or 'some'} pixels differ from {row['href']}",
                "red",
            )
        for row in report.missing[:ROWS_SHOWN]:
            say(
                f"not compared: {row['region']} {' '.join(row['axes'].values())} {row['variable']}: {row['error']}",
                "red",
            )
        if json:
            print_json(report.to_json())
        else:
            out_console().print(
                f"{counted(report.checked, 'slot')} checked: {report.equal:,} equal, {len(report.different)} different, {len(report.missing)} not compared"
            )
            if not report.checked and which.at is None:
                say("nothing of what is selected is done yet, so there was nothing to compare", "yellow")
                say_ingest_next(ctx, cube)
            elif report.different and which.at is None:
                say_next_command(ctx, "ingest --redo", "reads these tiles again")
        raise typer.Exit(report.exit_code)
