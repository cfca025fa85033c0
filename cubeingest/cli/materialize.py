"""The command that makes chunks of references."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cubeingest.cli.app import app
from cubeingest.cli.ingest import say_ingest
from cubeingest.cli.options import (
    DebugOption,
    Hands,
    JsonOption,
    ModeOption,
    Newest,
    Tasks,
)
from cubeingest.cli.output import guard, print_json, show_progress


@app.command(selecting=True, examples=("cubeingest materialize", "cubeingest materialize --year 2000 --workers 4"))
def materialize(
    ctx: typer.Context,
    which: Newest,
    tasks: Tasks,
    hands: Hands,
    mode: ModeOption = "cooperative",
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
    """Copy what `ingest --virtual` only refers to into the cube."""
    with guard(debug):
        from cubeingest.ingest import MATERIALIZED
        from cubeingest.ingest import ingest as run

        cube = which.open()
        selection = tasks.read(ctx, cube)
        options = hands.options(commit_every=commit_every, on_error=on_error, mode=mode, how=MATERIALIZED)
        with show_progress("materialize") as show:
            report = run(cube.store, selection, options, show)
        if json:
            print_json(report.to_json())
        say_ingest(report, to_out=not json, in_part=tasks.part is not None)
        raise typer.Exit(report.exit_code)
