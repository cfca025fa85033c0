"""Commands that compute at points and in zones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cubeingest.cli.app import refuse_usage
from cubeingest.cli.complete import complete_tag
from cubeingest.cli.compute import compute
from cubeingest.cli.options import (
    BboxOption,
    BranchOption,
    DebugOption,
    ExprOption,
    Hands,
    JsonOption,
    LayerOption,
    RegionOption,
    StoreOption,
    TableOption,
    VariableOption,
    Which,
    open_cube,
    read_selection,
)
from cubeingest.cli.output import guard, print_json, say, show_progress
from cubeingest.cli.rows import print_rows, say_output

PICTURES = (".png", ".svg")


@compute.command(
    "series",
    selecting=True,
    examples=(
        "cubeingest compute series --at 8.5 47.4",
        "cubeingest compute series --points places.csv --output series.parquet",
        "cubeingest compute series --at 8.5 47.4 --output series.png   # a plot",
    ),
)
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
        str | None,
        typer.Option(
            "--snapshot", metavar="REF", help="The cube as it was at a snapshot or tag.", autocompletion=complete_tag
        ),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Values over all axes at points, given by --at LON LAT (repeatable) or --points FILE."""
    with guard(debug):
        from cubeingest.analyze import TABLES, check_output, plot_series, read_points, read_series, write_table

        places = _take_places(ctx)
        if bool(places) == (points is not None):
            refuse_usage(ctx, "say where: --at LON LAT (repeatable), or --points FILE")
        is_plot = output is not None and output.suffix.lower() in PICTURES
        if output is not None:
            check_output(output, (*TABLES, *PICTURES), "series")
        cube = open_cube(store, branch, snapshot)
        selection = read_selection(ctx, cube, variable=variable)
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
        say_output(output)


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


@compute.command(
    "zonal",
    selecting=True,
    examples=(
        "cubeingest compute zonal parks.gpkg --stats mean,area",
        "cubeingest compute zonal countries.geojson --classes --output classes.csv",
    ),
)
def zonal_(
    ctx: typer.Context,
    which: Which,
    hands: Hands,
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
    bbox: BboxOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Statistics of zones, pixels counting as far as they are covered."""
    with guard(debug):
        from cubeingest.analyze import TABLES, check_output, read_zones, write_table, zonal

        if (zones is None) == (zones_variable is None) or (zones is not None and str(zones).startswith("--")):
            refuse_usage(ctx, "say which zones: a file of polygons, or --zones-variable NAME")
        if output is not None:
            check_output(output, TABLES, "table")
        cube = which.open()
        selection = read_selection(ctx, cube, bbox, region, variable)
        those = zones_variable if zones is None else read_zones(zones, layer)
        assert those is not None
        names = [s.strip() for s in stats.split(",") if s.strip()]
        with show_progress("zonal") as show:
            report = zonal(cube.store, selection, those, names, expr, classes, make_valid, hands.options(), show)
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
        say_output(output)
