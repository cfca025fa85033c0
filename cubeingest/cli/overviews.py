"""The command that makes coarser levels of a cube."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cubeingest.cli.app import app
from cubeingest.cli.options import (
    DebugOption,
    Hands,
    JsonOption,
    Newest,
    RedoOption,
    Slots,
)
from cubeingest.cli.output import guard, out_console, print_json, say, show_progress
from cubeingest.wording import counted

FAILURES_SHOWN = 20


@app.command(
    selecting=True,
    examples=(
        "cubeingest overviews",
        "cubeingest overviews --levels 5",
        "cubeingest overviews --levels 0   # takes them away",
    ),
)
def overviews(
    ctx: typer.Context,
    which: Newest,
    slots: Slots,
    hands: Hands,
    levels: Annotated[
        int | None,
        typer.Option(
            "--levels",
            metavar="N",
            help="How many levels; 0 takes them away. Default: as there are, else until the longer side has 1,024 pixels, or a region is one HEALPix cell.",
        ),
    ] = None,
    redo: RedoOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make coarser levels of the cube, or what of them is missing or stale."""
    with guard(debug):
        from cubeingest.overviews import make_overviews

        cube = which.open()
        selection = slots.read(ctx, cube)
        with show_progress("overviews") as show:
            report = make_overviews(cube.store, selection, hands.options(redo=redo), levels, show)
        if json:
            print_json(report.to_json())
        _say(report, not json, selection.variables)
        raise typer.Exit(report.exit_code)


def _say(report: Any, to_out: bool, selected: Sequence[str]) -> None:
    for f in report.failed[:FAILURES_SHOWN]:
        where = " ".join(
            [f["variable"], *f["axes"].values(), f"levels {f['levels'][0]} to {f['levels'][1]}, cell {f['cell']}"]
        )
        say(f"failed: {where}: {f['error']}", "red")
    if len(report.failed) > FAILURES_SHOWN:
        say(f"... and {len(report.failed) - FAILURES_SHOWN} more (--json has them all)", "red")
    if report.signum is not None:
        say("interrupted: what was finished is committed; the same command goes on", "yellow")
    if report.error:
        say(f"error: {report.error}; what was committed before stays", "red")
    if not to_out:
        return
    out = out_console()
    if not report.levels and report.snapshot:
        out.print(f"overviews are taken away; snapshot {report.snapshot}", highlight=False)
        return
    if not report.levels:
        out.print("the cube is small enough to be looked at as it is: no levels are needed (--levels N makes some)")
        return
    for name, why in report.without.items():
        out.print(f"{name} has no levels: {why}", highlight=False)
    of = ", ".join(
        f"{name} ({method})" for name, method in report.variables.items() if not selected or name in selected
    )
    coarsest = " x ".join(map(str, report.levels[-1]["shape"]))
    order = report.levels[-1].get("order")
    unit = "pixels" if order is None else f"cells of order {order}"
    out.print(
        f"{counted(len(report.levels), 'level')} of {of}, the coarsest {coarsest} {unit}",
        highlight=False,
    )
    counts = f"{report.written} written, {report.empty} empty, {report.skipped} current, {len(report.failed)} failed of {counted(report.planned, 'cell')}"
    line = (
        f"{counts}; {report.pixels / 1e6:,.1f} {'Mpx' if order is None else 'M cells'} read in {report.seconds:.1f} s"
    )
    out.print(line + (f"; snapshot {report.snapshot}" if report.snapshot else "; nothing to commit"), highlight=False)
