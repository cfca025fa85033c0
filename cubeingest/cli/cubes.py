"""Commands that make and fill a cube, and tell what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cubeingest.cli.app import app
from cubeingest.cli.charts import print_map
from cubeingest.cli.options import (
    POINTER,
    SELECTING,
    AtOption,
    BboxOption,
    BranchOption,
    DebugOption,
    HtmlOption,
    JsonOption,
    LimitOption,
    PartOption,
    PolygonOption,
    RedoOption,
    RegionOption,
    SchedulerOption,
    StoreOption,
    VariableOption,
    WorkersOption,
    open_cube,
    open_to_plan,
    read_selection,
)
from cubeingest.cli.output import format_bytes, guard, out_console, print_json, say, show_progress


@app.command()
def init(
    grid: Annotated[
        str, typer.Argument(metavar="GRID.yaml", help="A spec, or the name of one that comes with cubeingest.")
    ],
    store: StoreOption = None,
    update: Annotated[bool, typer.Option("--update", help="Take over changed sources, attributes and tiles.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Create the cube that a spec declares. Example: cubeingest init grid.yaml"""
    with guard(debug):
        from cubeingest.cube import created

        done = created(grid, store, update)
        try:
            Path(POINTER).write_text(done.store.uri + "\n", encoding="utf-8")
        except OSError as e:
            say(
                f"warning: the cube is there, but {POINTER} cannot be written here ({e.strerror}): give --store from now on",
                "yellow",
            )
        spec = done.store.spec
        if done.warning:
            say(f"warning: {done.warning}", "yellow")
        if json:
            print_json({"store": done.store.uri, "action": done.action, "changes": list(done.changes), "snapshot": done.store.tip,
                         "warning": done.warning or None})  # fmt: skip
            return
        texts = {
            "created": "created",
            "updated": f"updated ({'; '.join(done.changes)})",
            "unchanged": "is there already, from this spec: nothing changed",
        }
        say(f"{spec.name}: {texts[done.action]} at {done.store.uri}")
        if done.action == "created":
            sizes = ", ".join(f"{a.size} {a.name} values" for a in spec.grid.axes) or "no axes"
            say(
                f"{sizes}, {' x '.join(map(str, spec.grid.spatial_shape))} {'pixels' if spec.healpix is None else 'cells'}, {spec.grid.n_regions} regions. Next: cubeingest plan, cubeingest ingest"
            )


@app.command(context_settings=SELECTING)
def plan(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    polygon: PolygonOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    limit: LimitOption = None,
    part: PartOption = None,
    redo: RedoOption = False,
    headers: Annotated[
        bool, typer.Option("--headers/--no-headers", help="Open every tile, or none: quick, but misfits are not found.")
    ] = True,
    workers: WorkersOption = None,
    branch: BranchOption = "main",
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what an ingest would do, and what would go wrong. Writes nothing. Example: cubeingest plan --year 2000"""
    with guard(debug):
        from cubeingest.cli.tables import print_plan
        from cubeingest.engine import Options
        from cubeingest.preflight import preflight

        cube = open_to_plan(store, branch)
        selection = read_selection(ctx, cube, bbox, region, variable, limit, part, polygon)
        report = preflight(cube.store, selection, redo, headers, Options(workers))
        if json:
            print_json(report.to_json())
            return
        print_plan(report)


@app.command(context_settings=SELECTING)
def ingest(
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
    branch: Annotated[
        str | None,
        typer.Option("--branch", metavar="NAME", help="Ingest onto this branch, made if need be. Default: main."),
    ] = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
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
    """Read tiles into the cube, and commit. What is done already is skipped. Example: cubeingest ingest --year 2000"""
    with guard(debug):
        from cubeingest.branches import start_branch
        from cubeingest.cube import how_of
        from cubeingest.engine import Options
        from cubeingest.ingest import ingest as run
        from cubeingest.page import check_place, ingest_with_page

        page = None if html is None else check_place(html).absolute()
        cube = open_cube(store)
        selection = read_selection(ctx, cube, bbox, region, variable, limit, part, polygon)
        target = cube.store if branch is None else start_branch(cube.store, branch)
        how = how_of(virtual, copy_blocks)
        options = Options(workers, scheduler, commit_every, on_error, redo, mode, how)
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
        say_ingest(report, to_out=not json, in_part=part is not None)
        raise typer.Exit(report.exit_code)


def say_ingest(report: Any, to_out: bool, in_part: bool) -> None:
    """What a run did: failures and warnings on stderr, the counts on stdout."""
    for warning in report.warnings:
        say(f"warning: {warning}", "yellow")
    for failure in report.failed[:20]:
        where = " ".join([failure.region or "no region", *failure.axes.values(), failure.variable])
        say(f"failed: {where}: {failure.error}", "red")
    if len(report.failed) > 20:
        say(f"... and {len(report.failed) - 20} more (--json has them all)", "red")
    if not report.planned and not in_part and report.how != "materialized":
        say("warning: no tile was found for what is selected, so there was nothing to do: `cubeingest plan` says where it looked", "yellow")  # fmt: skip
    if report.signum is not None:
        say(
            f"interrupted: what was finished is committed, {report.unfinished} slots are left; the same command goes on",
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
    line = f"{', '.join(parts)} of {report.planned} slots; {format_bytes(report.bytes)} in {report.seconds:.1f} s"
    out_console().print(line + (f"; snapshot {report.snapshot}" if report.snapshot else "; nothing to commit"))


@app.command(context_settings=SELECTING)
def status(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    polygon: PolygonOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    branch: BranchOption = "main",
    at: AtOption = None,
    html: HtmlOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Count slots done, empty, pending and absent. Reads only the cube. Example: cubeingest status"""
    with guard(debug):
        from cubeingest.status import STATES, count_states, read_slot_states

        cube = open_cube(store, branch, at)
        selection = read_selection(ctx, cube, bbox, region, variable, polygon=polygon)
        slots = read_slot_states(cube.store, selection)
        report = count_states(cube.store.uri, slots)
        page = {}
        if html is not None:
            from cubeingest.page import write_report

            page = {"html": str(write_report(cube.store, selection, html))}
        if json:
            print_json(report.to_json() | page)
            return
        from rich.table import Table

        table = Table("", *STATES, "total", box=None, header_style="bold", title=None)
        for column in table.columns[1:]:
            column.justify = "right"
        for axis, labels in report.by.items():
            for label, counts in labels.items():
                table.add_row(f"{axis} {label}", *(str(counts[s]) for s in STATES), str(sum(counts.values())))
        table.add_row("all", *(str(getattr(report, s)) for s in STATES), str(report.total), style="bold")
        out_console().print(table)
        if html is None:
            print_map(slots)
        if report.virtual:
            out_console().print(
                f"\n{report.virtual} of the slots done refer to tiles, which must stay as they are: `cubeingest materialize` copies them"
            )
        if report.stale:
            out_console().print(
                f"\n{report.stale} of the slots done are not in the overviews as they are now: `cubeingest overviews` makes what is missing or stale"
            )
        elif report.levels:
            of = (
                "of all that is done"
                if report.stale == 0
                else "`cubeingest overviews` makes what of them is missing or stale"
            )
            out_console().print(f"\n{report.levels} levels of overviews; {of}")
        for path in page.values():
            say(f"page: {path}")


@app.command(context_settings=SELECTING)
def verify(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    polygon: PolygonOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    limit: LimitOption = None,
    part: PartOption = None,
    sample: Annotated[
        float, typer.Option("--sample", metavar="FRACTION", help="Compare only this part of the windows.")
    ] = 1.0,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    branch: BranchOption = "main",
    at: AtOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare the cube with its sources, pixel for pixel. Example: cubeingest verify --year 2000 --sample 0.1"""
    with guard(debug):
        from cubeingest.engine import Options
        from cubeingest.verify import verify as run

        cube = open_cube(store, branch, at)
        selection = read_selection(ctx, cube, bbox, region, variable, limit, part, polygon)
        with show_progress("verify") as show:
            report = run(cube.store, selection, Options(workers, scheduler), sample, show)
        for row in report.different[:20]:
            say(
                f"different: {row['region']} {' '.join(row['axes'].values())} {row['variable']}: {row['pixels'] or 'some'} pixels differ from {row['href']}",
                "red",
            )
        for row in report.missing[:20]:
            say(f"missing: {row['region']} {' '.join(row['axes'].values())} {row['variable']}: {row['error']}", "red")
        if json:
            print_json(report.to_json())
        else:
            out_console().print(
                f"{report.checked} slots checked: {report.equal} equal, {len(report.different)} different, {len(report.missing)} missing a source"
            )
        raise typer.Exit(report.exit_code)


@app.command(context_settings=SELECTING)
def regions(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    polygon: PolygonOption = None,
    region: RegionOption = None,
    limit: LimitOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List region ids with bounds and slices. Example: cubeingest regions --bbox -110 30 -100 40"""
    with guard(debug):
        from cubeingest.cube import list_regions

        cube = open_cube(store)
        found = list_regions(cube.spec, read_selection(ctx, cube, bbox, region, None, limit, None, polygon))
        if json:
            print_json({"regions": found})
            return
        from rich.table import Table

        dims = cube.grid.spatial_dims
        table = Table("id", "left", "bottom", "right", "top", *dims, box=None, header_style="bold")
        for row in found:
            table.add_row(
                row["id"],
                *(f"{v:.10g}" for v in row["bounds"]),
                *(":".join(map(str, row["slices"][d])) for d in dims),
            )
        out_console().print(table)


@app.command()
def history(
    store: StoreOption = None,
    branch: BranchOption = "main",
    at: AtOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List commits: when, which slots, by which version. Example: cubeingest history"""
    with guard(debug):
        commits = open_cube(store, branch, at).history()
        if json:
            print_json({"commits": [c.to_json() for c in commits]})
            return
        out = out_console()
        for commit in commits:
            d = commit.details
            more = ["..."] if d.get("n_regions", 0) > len(d.get("regions", [])) else []
            where = " ".join([*(",".join(v) for v in d.get("axes", {}).values()), *d.get("regions", []), *more])
            when = commit.time.partition("+")[0].replace("T", " ")
            version = f"({d.get('cubeingest', 'by other means')})"
            out.print(f"{when}  {commit.snapshot}  {commit.message:<18} {version} {where}".rstrip(), markup=False)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where tiles, spec, cube and picture go.")] = Path(
        "cubeingest-demo"
    ),
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Go the whole way on real tiles of the world's coasts: init, plan, ingest, status, verify, and a picture."""
    with guard(debug):
        from cubeingest.demo import run_demo

        with show_progress("ingest") as show:
            report = run_demo(folder, say=say, on_progress=show)
        if json:
            print_json(report)
        else:
            look = f"or look at {report['picture']}, and " if report["picture"] else "or "
            out_console().print(
                f"\nOpen it:\n\n  import cubeingest as ci\n  ds = ci.open({report['store']!r}).dataset()\n\n"
                f"{look}ask the cube:\n\n  cubeingest status --store {report['store']}",
                markup=False,
            )
