"""Commands that compute: along axes, at points, in zones, from one class to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubeingest.cli.app import app
from cubeingest.cli.options import (
    SELECTING,
    AtOption,
    BboxOption,
    BranchOption,
    DebugOption,
    JsonOption,
    PolygonOption,
    RedoOption,
    RegionOption,
    SchedulerOption,
    StoreOption,
    VariableOption,
    WorkersOption,
    open_cube,
    read_selection,
    refuse_usage,
)
from cubeingest.cli.output import guard, out_console, print_json, say, show_progress

if TYPE_CHECKING:
    from cubeingest.analyze import IntoReport, ReduceReport, Rows, TransitionReport
    from cubeingest.cube import Cube

ROWS_SHOWN = 40
"""Rows of a table in a terminal."""

COLUMNS_SHOWN = 12
"""Classes up to which transitions are shown as a matrix."""

PICTURES = (".png", ".svg")

OverOption = Annotated[list[str], typer.Option("--over", metavar="AXIS", help="An axis to compute over; repeatable.")]
ExprOption = Annotated[
    str | None,
    typer.Option(
        "--expr", metavar="TEXT", help='Of variables, or of labels of an axis such as band: "(nir - red)/(nir + red)".'
    ),
]
TableOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="A .csv, .json or .parquet file. Default: a table.")
]  # fmt: skip
LayerOption = Annotated[
    str | None, typer.Option("--in-layer", metavar="NAME", help="The layer of a GeoPackage that has several.")
]

compute = typer.Typer(
    name="compute", help="Compute along axes (mean, median, min, max, std, mode, count), at points, in zones, between classes.",
    no_args_is_help=True, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
app.add_typer(compute)

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
    @compute.command(method, context_settings=SELECTING, help=f"{EXPLAINED[method]} Example: cubeingest compute {method} --over year --output {method}.tif")  # fmt: skip
    def run(
        ctx: typer.Context,
        over: OverOption,
        expr: ExprOption = None,
        output: Annotated[
            Path | None,
            typer.Option("--output", "-o", metavar="FILE", help="A GeoTIFF (.tif), or a picture (.png, .svg)."),
        ] = None,
        into: Annotated[
            str | None,
            typer.Option(
                "--into",
                metavar="NAME",
                help="A variable of the cube, which is added; the same command goes on where it was.",
            ),
        ] = None,
        store: StoreOption = None,
        bbox: BboxOption = None,
        polygon: PolygonOption = None,
        region: RegionOption = None,
        variable: VariableOption = None,
        redo: RedoOption = False,
        branch: BranchOption = "main",
        at: AtOption = None,
        workers: WorkersOption = None,
        scheduler: SchedulerOption = None,
        json: JsonOption = False,
        debug: DebugOption = False,
    ) -> None:
        with guard(debug):
            _reduce(ctx, open_cube(store, branch, at), method, over, expr, output, into, json, workers, scheduler, redo,
                    bbox, polygon, region, variable)  # fmt: skip


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
    workers: int | None,
    scheduler: str | None,
    redo: bool,
    bbox: Any,
    polygon: Path | None,
    region: list[str] | None,
    variable: list[str] | None,
) -> None:
    from cubeingest.analyze import find_reduction, reduce_into, reduce_to_file
    from cubeingest.engine import Options

    if (output is None) == (into is None):
        refuse_usage(
            ctx, "say where the result goes: --output FILE.tif (or .png), or --into NAME for a variable of the cube"
        )
    selection = read_selection(ctx, cube, bbox, region, variable, polygon=polygon)
    reduction = find_reduction(cube.spec, selection, method, [o for text in over for o in text.split(",")], expr)
    options = Options(workers, scheduler, redo=redo)
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
    size = f"{y.stop - y.start:,} x {x.stop - x.start:,} pixels{bands}, {done.reduction.dtype.name}"
    say(f"{done.reduction.title}{ddof}: {size}{share}; snapshot {done.snapshot}")
    out_console().print(done.output, markup=False)


def _say_into(report: IntoReport, to_out: bool) -> None:
    run = report.run
    if str(report.gaps):
        say(f"warning: {report.gaps}", "yellow")
    if report.changed:
        say(
            f"warning: {report.changed} slots of what {report.name} was computed from (snapshot {report.source}) are others by "
            "now: --redo computes it anew",
            "yellow",
        )
    for f in run.failed[:ROWS_SHOWN]:
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
    counts = f"{run.written} written, {run.empty} empty, {run.skipped} there already, {len(run.failed)} failed of {run.planned} slots"
    snapshot = f"; snapshot {run.snapshot}" if run.snapshot else "; nothing to commit"
    out_console().print(f"{report.name}: {counts}, from snapshot {report.source}{snapshot}", markup=False)


@compute.command("transitions", context_settings=SELECTING)
def transitions(
    ctx: typer.Context,
    before: Annotated[
        list[str], typer.Option("--from", metavar="AXIS=VALUE", help="Where classes are taken from; repeatable.")
    ],
    after: Annotated[list[str], typer.Option("--to", metavar="AXIS=VALUE", help="What they have become.")],
    output: TableOption = None,
    store: StoreOption = None,
    bbox: BboxOption = None,
    polygon: PolygonOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    branch: BranchOption = "main",
    at: AtOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Which class became which, in km². Example: cubeingest compute transitions --from year=2000 --to year=2020"""
    with guard(debug):
        from cubeingest.analyze import TABLES, check_output, count_transitions, write_table
        from cubeingest.engine import Options

        if output is not None:
            check_output(output, TABLES, "table")
        cube = open_cube(store, branch, at)
        selection = read_selection(ctx, cube, bbox, region, variable, polygon=polygon)
        ends = _pairs(ctx, before), _pairs(ctx, after)
        with show_progress("transitions") as show:
            report = count_transitions(cube.store, selection, *ends, Options(workers, scheduler), show)
        if str(report.gaps):
            say(f"warning: {report.gaps}", "yellow")
        if output is not None:
            write_table(output, report.rows())
        if json:
            print_json(report.to_json())
            return
        _print_transitions(report)
        _say_output(output)


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
            table.add_row(report.name(a), *(_number(report.counts.get((a, b), (0, 0.0))[1]) for b in classes))
        out.print(table)
    else:
        rows = {k: v for k, v in report.rows().items() if k in ("from_name", "to_name", "pixels", "area_km2")}
        print_rows(_largest(rows))
    n, area = report.changed
    total = sum(v for _, v in report.counts.values())
    share = f" ({area / total:.1%})" if total else ""
    out.print(f"changed: {n:,} pixels, {_number(area)} km²{share}; missing in either: {report.missing[0]:,} pixels")
    say(report.note)


def _largest(rows: Rows) -> Rows:
    order = sorted(range(len(rows["area_km2"])), key=lambda i: -rows["area_km2"][i])
    return {k: [v[i] for i in order] for k, v in rows.items()}


@compute.command("series", context_settings=SELECTING)
def series(
    ctx: typer.Context,
    points: Annotated[
        Path | None,
        typer.Option("--points", metavar="FILE", help="CSV with lon and lat, GeoJSON, GeoParquet or GeoPackage."),
    ] = None,
    layer: LayerOption = None,
    expr: ExprOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="A .csv, .json or .parquet (GeoParquet), or a plot: .png, .svg."
        ),
    ] = None,
    store: StoreOption = None,
    variable: VariableOption = None,
    branch: BranchOption = "main",
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", metavar="REF", help="The cube as it was at a snapshot or tag.")
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Values over all axes at points, given by --at LON LAT (repeatable) or --points FILE. Example: cubeingest compute series --at 8.5 47.4"""
    with guard(debug):
        from cubeingest.analyze import TABLES, check_output, plot_series, read_points, read_series, write_table

        places = _take_places(ctx)
        if bool(places) == (points is not None):
            refuse_usage(ctx, "say where: --at LON LAT (repeatable), or --points FILE")
        is_plot = output is not None and output.suffix.lower() in PICTURES
        if output is not None:
            check_output(output, (*TABLES, *PICTURES), "series")
        cube = open_cube(store, branch, snapshot)
        selection = read_selection(ctx, cube, None, None, variable)
        if points is not None:
            found = read_series(cube.store, selection, *read_points(points, layer), expression=expr)
        else:
            lon, lat = zip(*places, strict=True)
            found = read_series(cube.store, selection, lon, lat, expression=expr)
        for warning in found.warnings:
            say(f"warning: {warning}", "yellow")
        if output is not None and is_plot:
            plot_series(found, output)
        elif output is not None:
            write_table(output, found.rows(), ("lon", "lat"))
        if json:
            print_json(found.to_json())
            return
        if output is None:
            print_rows(found.rows())
        _say_output(output)


def _take_places(ctx: typer.Context) -> list[tuple[float, float]]:
    """Pairs after ``--at``, taken out of what typer left over: it has no option that takes two values and may be repeated."""
    left, found, words = [], [], list(ctx.args)
    while words:
        word = words.pop(0)
        if word != "--at":
            left.append(word)
            continue
        try:
            found.append((float(words.pop(0)), float(words.pop(0))))
        except (IndexError, ValueError):
            refuse_usage(
                ctx, "--at takes a longitude and a latitude, such as --at 8.5 47.4 (an earlier version: --snapshot REF)"
            )
    ctx.args[:] = left
    return found


@compute.command("zonal", context_settings=SELECTING)
def zonal_(
    ctx: typer.Context,
    zones: Annotated[
        Path | None,
        typer.Argument(
            metavar="[ZONES]",
            help="Polygons: GeoPackage, GeoJSON or GeoParquet, in any CRS; or a raster on the cube's lattice.",
        ),
    ] = None,
    layer: LayerOption = None,
    zones_variable: Annotated[
        str | None,
        typer.Option("--zones-variable", metavar="NAME", help="Zones are the values of a variable of the cube."),
    ] = None,
    stats: Annotated[
        str,
        typer.Option(
            "--stats", metavar="LIST", help="Of count, mean, sum, min, max, area, median, and quantiles such as q05."
        ),
    ] = "count,mean,min,max",
    classes: Annotated[bool, typer.Option("--classes", help="Pixels, km² and share of each class instead.")] = False,
    make_valid: Annotated[bool, typer.Option("--make-valid", help="Mend polygons that are not sound.")] = False,
    expr: ExprOption = None,
    output: TableOption = None,
    store: StoreOption = None,
    bbox: BboxOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    branch: BranchOption = "main",
    at: AtOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Statistics of zones, pixels counting as far as they are covered. Example: cubeingest compute zonal parks.gpkg --stats mean,area"""
    with guard(debug):
        from cubeingest.analyze import TABLES, check_output, read_zones, write_table, zonal
        from cubeingest.engine import Options

        if (zones is None) == (zones_variable is None) or (zones is not None and str(zones).startswith("--")):
            refuse_usage(ctx, "say which zones: a file of polygons, or --zones-variable NAME")
        if output is not None:
            check_output(output, TABLES, "table")
        cube = open_cube(store, branch, at)
        selection = read_selection(ctx, cube, bbox, region, variable)
        which = zones_variable if zones is None else read_zones(zones, layer)
        assert which is not None
        names = [s.strip() for s in stats.split(",") if s.strip()]
        with show_progress("zonal") as show:
            report = zonal(
                cube.store, selection, which, names, expr, classes, make_valid, Options(workers, scheduler), show
            )
        for warning in report.warnings:
            say(f"warning: {warning}", "yellow")
        if output is not None:
            write_table(output, report.rows())
        if json:
            print_json(report.to_json())
            return
        if output is None:
            print_rows(report.rows())
        if classes or "area" in names:
            say(report.note)
        _say_output(output)


def print_rows(rows: Rows) -> None:
    """A table for a person: the first rows."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name, values in rows.items():
        table.add_column(name, justify="left" if any(isinstance(v, str) for v in values[:1]) else "right")
    every = list(zip(*rows.values(), strict=True))
    for row in every[:ROWS_SHOWN]:
        table.add_row(*map(_number, row))
    out_console().print(table)
    if len(every) > ROWS_SHOWN:
        say(f"... and {len(every) - ROWS_SHOWN:,} more rows (--output FILE.csv has them all)")


def _number(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        if value != value:  # noqa: PLR0124  (NaN)
            return "-"
        return f"{value:,.0f}" if abs(value) >= 1e6 or value == int(value) else f"{value:,.6g}"
    return "-" if value is None else str(value)


def _say_output(output: Path | None) -> None:
    if output is not None:
        out_console().print(str(output), markup=False)
