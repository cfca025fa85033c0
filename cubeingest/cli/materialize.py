"""The command that makes chunks of references."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cubeingest.cli.app import app
from cubeingest.cli.cubes import say_ingest
from cubeingest.cli.options import (
    SELECTING,
    BboxOption,
    BranchOption,
    DebugOption,
    JsonOption,
    LimitOption,
    PartOption,
    PolygonOption,
    RegionOption,
    SchedulerOption,
    StoreOption,
    VariableOption,
    WorkersOption,
    open_cube,
    read_selection,
)
from cubeingest.cli.output import guard, print_json, show_progress


@app.command(context_settings=SELECTING)
def materialize(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    polygon: PolygonOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    limit: LimitOption = None,
    part: PartOption = None,
    mode: Annotated[
        Literal["cooperative", "independent"],
        typer.Option("--mode", help="cooperative: one commit for all. independent: each worker commits its own."),
    ] = "cooperative",
    branch: BranchOption = "main",
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    commit_every: Annotated[
        int | None,
        typer.Option("--commit-every", metavar="N", min=1, help="Commit after N tasks. Default: once; independent: 1."),
    ] = None,
    on_error: Annotated[
        Literal["keep", "abort"], typer.Option("--on-error", help="keep: commit the good slots; abort: none.")
    ] = "keep",
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Copy what `ingest --virtual` only refers to into the cube. Example: cubeingest materialize --year 2000"""
    with guard(debug):
        from cubeingest.engine import Options
        from cubeingest.ingest import MATERIALIZED
        from cubeingest.ingest import ingest as run

        cube = open_cube(store, branch)
        selection = read_selection(ctx, cube, bbox, region, variable, limit, part, polygon)
        options = Options(workers, scheduler, commit_every, on_error, mode=mode, how=MATERIALIZED)
        with show_progress("materialize") as show:
            report = run(cube.store, selection, options, show)
        if json:
            print_json(report.to_json())
        say_ingest(report, to_out=not json, in_part=part is not None)
        raise typer.Exit(report.exit_code)
