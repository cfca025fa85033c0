"""Commands that compute along axes, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cubeingest.cli.app import make_group, refuse_usage
from cubeingest.cli.complete import complete_axis
from cubeingest.cli.options import DebugOption, ExprOption, Hands, JsonOption, RedoOption, Slots, Which
from cubeingest.cli.output import guard, out_console, print_json, say, show_progress
from cubeingest.wording import counted

if TYPE_CHECKING:
    from cubeingest.analyze import IntoReport, ReduceReport
    from cubeingest.cube import Cube
    from cubeingest.engine import Options
    from cubeingest.selection import Selection

FAILURES_SHOWN = 40

compute = make_group(
    "compute",
    "Compute along axes (mean, median, min, max, std, mode, count), at points, in zones, between classes.",
    ("cubeingest compute mean --over year --output mean.tif", "cubeingest compute series --at 8.5 47.4"),
)

OverOption = Annotated[
    list[str],
    typer.Option("--over", metavar="AXIS", help="An axis to compute over; repeatable.", autocompletion=complete_axis),
]

EXPLAINED = {
    "mean": "The mean along axes. Missing values take no part.",
    "median": "The median along axes; of an even number of values the mean of the middle two.",
    "min": "The least value along axes.",
    "max": "The largest value along axes.",
    "std": "The standard deviation along axes, with ddof 0.",
    "mode": "The most frequent value along axes; of several the least.",
    "count": "How many values there are along axes.",
}


def _add_method(method: str) -> None:
    """Add the command of one method."""
    file = f"cubeingest compute {method} --over year --output {method}.tif"
    into = f"cubeingest compute {method} --over year --year 2000..2010 --into {method}   # a variable of the cube"

    @compute.command(method, selecting=True, help=EXPLAINED[method], examples=(file, into))
    def run(
        ctx: typer.Context,
        over: OverOption,
        which: Which,
        slots: Slots,
        hands: Hands,
        expr: ExprOption = None,
        output: Annotated[
            Path | None,
            typer.Option(
                "--output",
                "-o",
                metavar="FILE",
                help="A GeoTIFF (.tif), or a picture (.png, .svg); of HEALPix a table (.parquet, .csv, .json).",
            ),
        ] = None,
        into: Annotated[
            str | None,
            typer.Option(
                "--into",
                metavar="NAME",
                help="A variable of the cube, which is added; the same command goes on where it was.",
            ),
        ] = None,
        redo: RedoOption = False,
        json: JsonOption = False,
        debug: DebugOption = False,
    ) -> None:
        with guard(debug):
            cube = which.open()
            _reduce(ctx, cube, method, over, expr, output, into, json, hands.options(redo=redo), slots.read(ctx, cube))


for _method in EXPLAINED:
    _add_method(_method)


def _reduce(
    ctx: typer.Context,
    cube: Cube,
    method: str,
    over: list[str],
    expr: str | None,
    output: Path | None,
    into: str | None,
    json: bool,
    options: Options,
    selection: Selection,
) -> None:
    from cubeingest.analyze import find_reduction, reduce_into, reduce_to_file

    if (output is None) == (into is None):
        refuse_usage(
            ctx,
            "say where the result goes: --output FILE.tif (or .png; of HEALPix .parquet), or --into NAME for a variable of the cube",
        )
    reduction = find_reduction(cube.spec, selection, method, [o for text in over for o in text.split(",")], expr)
    with show_progress(method) as show:
        if into is not None:
            report = reduce_into(cube.store, selection, reduction, into, options, show)
        else:
            assert output is not None
            done = reduce_to_file(cube.store, selection, reduction, output, options, show)
    if into is not None:
        if json:
            print_json(report.to_json())
        _say_into(report, not json)
        raise typer.Exit(report.run.exit_code)
    if json:
        print_json(done.to_json())
    _say_file(done, not json)


def _say_file(done: ReduceReport, to_out: bool) -> None:
    for warning in [*filter(None, [str(done.gaps)]), *done.warnings]:
        say(f"warning: {warning}", "yellow")
    if not to_out:
        return
    bands = f", {len(done.bands)} bands" if len(done.bands) > 1 else ""
    ddof = " (ddof 0)" if done.reduction.method == "std" else ""
    share = f"; {done.missing / done.pixels:.1%} without a value" if done.missing else ""
    y, x = done.window
    cells = f"{y.stop - y.start:,} x {x.stop - x.start:,} pixels"
    if done.is_cells:
        cells, bands = counted(done.pixels // max(1, len(done.bands)), "cell"), ""
    size = f"{cells}{bands}, {done.reduction.dtype.name}"
    say(f"{done.reduction.title}{ddof}: {size}{share}; snapshot {done.snapshot}")
    out_console().print(done.output, markup=False)


def _say_into(report: IntoReport, to_out: bool) -> None:
    run = report.run
    if str(report.gaps):
        say(f"warning: {report.gaps}", "yellow")
    if report.changed:
        say(
            f"warning: {counted(report.changed, 'slot')} of what {report.name} was computed from (snapshot {report.source}) are others by "
            "now: --redo computes it anew",
            "yellow",
        )
    for f in run.failed[:FAILURES_SHOWN]:
        say(f"failed: {' '.join([f.region or '', *f.axes.values(), f.variable])}: {f.error}", "red")
    if run.error:
        say(f"error: {run.error}; what was committed before stays", "red")
    if run.signum is not None:
        say("interrupted: what was finished is committed; the same command goes on", "yellow")
    if not to_out:
        return
    if report.added:
        import json as json_lib

        say(f"variable {report.name} was added to the cube's spec, your file does not have it: {json_lib.dumps(dict(report.document))}")  # fmt: skip
    counts = f"{run.written} written, {run.empty} empty, {run.skipped} there already, {len(run.failed)} failed of {counted(run.planned, 'slot')}"
    snapshot = f"; snapshot {run.snapshot}" if run.snapshot else "; nothing to commit"
    out_console().print(f"{report.name}: {counts}, from snapshot {report.source}{snapshot}", markup=False)
