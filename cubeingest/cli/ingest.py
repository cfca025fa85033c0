"""Commands that fill a cube: what would be done, and doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cubeingest.cli.app import app
from cubeingest.cli.complete import complete_branch
from cubeingest.cli.options import (
    BranchOption,
    DebugOption,
    Hands,
    HtmlOption,
    JsonOption,
    ModeOption,
    RedoOption,
    StoreOption,
    Tasks,
    WorkersOption,
    open_cube,
    open_to_plan,
    say_ingest_next,
    say_next_command,
)
from cubeingest.cli.output import format_bytes, guard, out_console, print_json, say, show_progress
from cubeingest.wording import counted

if TYPE_CHECKING:
    from cubeingest.ingest import IngestReport

FAILURES_SHOWN = 20


@app.command(
    selecting=True,
    examples=(
        "cubeingest plan --year 2000",
        "cubeingest plan --bbox -110 30 -100 40 --no-headers   # opens no tile: quick, but finds no misfit",
    ),
)
def plan(
    ctx: typer.Context,
    tasks: Tasks,
    store: StoreOption = None,
    branch: BranchOption = "main",
    redo: RedoOption = False,
    headers: Annotated[
        bool, typer.Option("--headers/--no-headers", help="Open every tile, or none: quick, but misfits are not found.")
    ] = True,
    workers: WorkersOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what an ingest would do, and what would go wrong. Writes nothing."""
    with guard(debug):
        from cubeingest.cli.tables import print_plan
        from cubeingest.engine import Options
        from cubeingest.preflight import preflight

        cube = open_to_plan(store, branch)
        report = preflight(cube.store, tasks.read(ctx, cube), redo, headers, Options(workers))
        if json:
            print_json(report.to_json())
            return
        print_plan(report)
        if report.tasks:
            say_ingest_next(ctx, cube)
        elif report.skipped:
            say("all of it is done already (--redo does it again)")


@app.command(
    selecting=True,
    examples=(
        "cubeingest ingest --year 2000,2005",
        "cubeingest ingest --bbox -110 30 -100 40 --workers 8",
        "cubeingest ingest --mode independent --part 3/16 --branch staging   # the third of 16 jobs",
    ),
)
def ingest(
    ctx: typer.Context,
    tasks: Tasks,
    hands: Hands,
    store: StoreOption = None,
    mode: ModeOption = "cooperative",
    branch: Annotated[
        str | None,
        typer.Option(
            "--branch",
            metavar="NAME",
            help="Ingest onto this branch, made if need be. Default: main.",
            autocompletion=complete_branch,
        ),
    ] = None,
    commit_every: Annotated[
        int | None,
        typer.Option(
            "--commit-every",
            metavar="N",
            min=1,
            help="Commit after N tasks. Default: once, or in batches of some 850,000 chunks; independent: 1.",
        ),
    ] = None,
    on_error: Annotated[
        Literal["keep", "abort"], typer.Option("--on-error", help="keep: commit the good tiles; abort: none.")
    ] = "keep",
    redo: RedoOption = False,
    virtual: Annotated[
        bool,
        typer.Option("--virtual", help="Refer to the tiles' blocks where they lie, where they are chunks as they are."),
    ] = False,
    copy_blocks: Annotated[
        bool, typer.Option("--copy-blocks", help="Copy the tiles' blocks as they are, where they are chunks.")
    ] = False,
    html: HtmlOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read tiles into the cube, and commit. What is done already is skipped.

    The same command again goes on where it stopped; Ctrl-C commits what is finished.
    """
    with guard(debug):
        from cubeingest.branches import start_branch
        from cubeingest.engine import how_of
        from cubeingest.ingest import ingest as run
        from cubeingest.page import check_place, ingest_with_page

        page = None if html is None else check_place(html).absolute()
        cube = open_cube(store)
        selection = tasks.read(ctx, cube)
        target = cube.store if branch is None else start_branch(cube.store, branch)
        options = hands.options(
            commit_every=commit_every, on_error=on_error, redo=redo, mode=mode, how=how_of(virtual, copy_blocks)
        )
        with show_progress("ingest") as show:
            problems: list[str] = []
            if page is None:
                report = run(target, selection, options, show)
            else:
                say(f"page: {page} (it keeps itself current in a browser)")
                report = ingest_with_page(target, selection, options, show, None, page, problems.append)
            for problem in problems:
                say(problem, "yellow")
        if json:
            print_json(report.to_json() | ({} if page is None else {"html": None if problems else str(page)}))
        say_ingest(report, to_out=not json, in_part=tasks.part is not None, redo=redo)
        if not json and report.signum is None and not report.error:
            if report.failed and not report.aborted:
                say_next_command(ctx, "ingest", "once these tiles are mended; what is done is skipped")
            elif report.snapshot:
                say_next_command(ctx, "status", selection=False)
        raise typer.Exit(report.exit_code)


def say_ingest(report: IngestReport, to_out: bool, in_part: bool, redo: bool = False) -> None:
    """What a run did: failures and warnings on stderr, the counts on stdout."""
    for warning in report.warnings:
        say(f"warning: {warning}", "yellow")
    for failure in report.failed[:FAILURES_SHOWN]:
        where = " ".join([failure.region or "no region", *failure.axes.values(), failure.variable])
        say(f"failed: {where}: {failure.error}", "red")
    if len(report.failed) > FAILURES_SHOWN:
        say(f"... and {len(report.failed) - FAILURES_SHOWN} more (--json has them all)", "red")
    if not report.planned and not in_part and report.how != "materialized":
        say("warning: no tile was found for what is selected, so there was nothing to do: `cubeingest plan` says where it looked", "yellow")  # fmt: skip
    if report.signum is not None:
        goes_on = "" if redo else "; the same command goes on"
        say(
            f"interrupted: what was finished is committed, {counted(report.unfinished, 'slot is', 'slots are')} left{goes_on}",
            "yellow",
        )
    if report.error:
        say(f"error: {report.error}; what was committed before stays", "red")
    elif report.aborted:
        what = "nothing was written" if report.snapshot is None else "what was committed before stays"
        say(f"aborted at the first failure: {what}", "yellow")
    if not to_out:
        return
    parts = [
        f"{report.written} written",
        f"{report.empty} empty",
        f"{report.skipped} skipped",
        f"{len(report.failed)} failed",
    ]
    line = f"{', '.join(parts)} of {counted(report.planned, 'slot')}; {format_bytes(report.bytes)} in {report.seconds:.1f} s"
    out_console().print(line + (f"; snapshot {report.snapshot}" if report.snapshot else "; nothing to commit"))
