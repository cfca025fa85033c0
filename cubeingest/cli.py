"""The command line: parse, call, print, exit code. The only home of typer and rich.

Nothing heavy is imported until a command runs, so that ``cubeingest --help`` answers at once.
"""

from __future__ import annotations

import json as json_lib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from cubeingest import __version__
from cubeingest.errors import CubeIngestError, StoreError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from cubeingest.cube import Cube
    from cubeingest.engine import Progress
    from cubeingest.plan import Selection

POINTER = ".cubeingest"
"""File that ``init`` leaves in the working folder; it holds the store's path or URI."""

SELECTING = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Commands that take ``--<axis> VALUE``: what typer does not know is checked against the cube's axes."""

app = typer.Typer(
    name="cubeingest",
    help="Turn a pile of raster tiles into one analysis-ready, versioned datacube.\n\n"
    "Start with `cubeingest demo`, or with your own grid: `cubeingest init grid.yaml`, `cubeingest plan`, `cubeingest ingest`.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URI", help="The cube. Default: $CUBEINGEST_STORE, else what `init` left in this folder."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the libraries' warnings, and tracebacks.")]
BboxOption = Annotated[
    tuple[float, float, float, float] | None,
    typer.Option("--bbox", metavar="W S E N", help="Longitudes and latitudes; W > E wraps across the antimeridian."),
]
RegionOption = Annotated[list[str] | None, typer.Option("--region", metavar="ID", help="A region; repeatable.")]
VariableOption = Annotated[list[str] | None, typer.Option("--variable", metavar="NAME", help="A variable; repeatable.")]
LimitOption = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many tasks.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", metavar="N", min=1, help="Local processes. Default: one a core.")
]
SchedulerOption = Annotated[str | None, typer.Option("--scheduler", metavar="tcp://…", help="A running Dask cluster.")]
RedoOption = Annotated[bool, typer.Option("--redo", help="Do again what is done.")]
PartOption = Annotated[str | None, typer.Option("--part", metavar="K/N", help="Part K of N of the work, K from 1.")]


# ---- output ---------------------------------------------------------------------------------------------------


def _out() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _err() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def _say(text: str, style: str | None = None) -> None:
    """A message for the person, on stderr."""
    _err().print(text, style=style, markup=False)


def _print_json(value: Any) -> None:
    sys.stdout.write(json_lib.dumps(value, default=str) + "\n")


@contextmanager
def _guard(debug: bool) -> Iterator[None]:
    """Turn errors into one line and exit code 2; keep the libraries quiet unless asked."""
    if not debug:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
    try:
        yield
    except CubeIngestError as e:
        if debug:
            raise
        for line in str(e).splitlines():
            _say(f"error: {line}", "red")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        _say("interrupted: nothing more was committed", "yellow")
        raise typer.Exit(130) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as e:
        if debug:
            raise
        text = " ".join(str(e).split())[:300]
        _say(f"error: {type(e).__name__}: {text} (run again with --debug for where it came from)", "red")
        raise typer.Exit(2) from None


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} PB"


# ---- input ----------------------------------------------------------------------------------------------------


def _open(store: str | None) -> Cube:
    from cubeingest.cube import open as open_cube

    where = store or os.environ.get("CUBEINGEST_STORE")
    if not where:
        pointer = Path(POINTER)
        if not pointer.is_file():
            raise StoreError(
                "which cube? There is no --store, no $CUBEINGEST_STORE, and no .cubeingest file in this folder: "
                "create a cube with `cubeingest init GRID.yaml`"
            )
        where = pointer.read_text(encoding="utf-8").strip()
    return open_cube(where)


def _selection(
    ctx: typer.Context,
    cube: Cube,
    bbox: tuple[float, float, float, float] | None,
    region: list[str] | None,
    variable: list[str] | None,
    limit: int | None = None,
    part: str | None = None,
) -> Selection:
    """The selection of a command's options; ``--<axis>`` options are what typer left over."""
    from cubeingest.plan import Selection

    axes: dict[str, list[str]] = {}
    extra = list(ctx.args)
    while extra:
        word = extra.pop(0)
        if not word.startswith("--"):
            _usage(ctx, f"unexpected argument {word!r}")
        name, equals, value = word[2:].partition("=")
        _check_axis(ctx, cube, name)
        if not equals:
            if not extra:
                _usage(ctx, f"--{name} needs a value, such as --{name} {cube.grid.axis(name).labels[0]}")
            value = extra.pop(0)
        values = [v for v in value.split(",") if v]
        if not values:
            _usage(ctx, f"--{name} needs a value, such as --{name} {cube.grid.axis(name).labels[0]}")
        axes.setdefault(name, []).extend(values)
    selected = {name: tuple(values) for name, values in axes.items()}
    return Selection(selected, bbox, tuple(region or ()), tuple(variable or ()), limit, _part(ctx, part))


def _check_axis(ctx: typer.Context, cube: Cube, name: str) -> None:
    axes = [a.name for a in cube.grid.axes]
    if name in axes:
        return
    options = [o.removeprefix("--") for p in ctx.command.params for o in p.opts if o.startswith("--")]
    hint = nearest(name, [*axes, *options]).replace("'", "--", 1).replace("'?", "?")
    _usage(ctx, f"no such option: --{name}{hint} (axes of this cube: {', '.join('--' + a for a in axes) or 'none'})")


def _part(ctx: typer.Context, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    k, slash, n = text.partition("/")
    if not slash or not k.isdecimal() or not n.isdecimal() or not 1 <= int(k) <= int(n):
        _usage(ctx, f"--part {text}: write K/N with K from 1 to N, such as 3/16")
    return int(k), int(n)


def _usage(ctx: typer.Context, message: str) -> NoReturn:
    _say(f"error: {message}", "red")
    _say(f"Try `{ctx.command_path} --help`.")
    raise typer.Exit(2)


# ---- progress -------------------------------------------------------------------------------------------------


@contextmanager
def _progress(title: str) -> Iterator[Callable[[Progress], None]]:
    """A live bar on stderr, fed with :class:`Progress`; silent where stderr is no terminal."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = _err()
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[slots]} slots"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failures]}", style="red"),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, slots="starting", rate="", failures="")
        done = failures = 0

        def update(progress: Progress) -> None:
            nonlocal done, failures
            bar.update(task, total=progress.n_pixels or 1)
            result = progress.result
            if result is None:
                return
            done += 1
            failures += result.error is not None
            # A failed slot counts as passed, at the mean size, so that the bar ends at its end.
            bar.update(
                task,
                advance=result.n_pixels or progress.n_pixels / max(1, progress.n_slots),
                slots=f"{done}/{progress.n_slots}",
                rate=_rate(bar.tasks[0].speed),
                failures=f"{failures} failed" if failures else "",
            )

        yield update


def _rate(pixels_per_second: float | None) -> str:
    return "" if not pixels_per_second else f"{pixels_per_second / 1e6:.1f} Mpx/s"


# ---- commands -------------------------------------------------------------------------------------------------


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"cubeingest {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn a pile of raster tiles into one analysis-ready, versioned datacube."""


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
    with _guard(debug):
        from cubeingest.cube import created

        done = created(grid, store, update)
        try:
            Path(POINTER).write_text(done.store.uri + "\n", encoding="utf-8")
        except OSError as e:
            _say(
                f"warning: the cube is there, but {POINTER} cannot be written here ({e.strerror}): give --store from now on",
                "yellow",
            )
        spec = done.store.spec
        if done.warning:
            _say(f"warning: {done.warning}", "yellow")
        if json:
            _print_json({"store": done.store.uri, "action": done.action, "changes": list(done.changes), "snapshot": done.store.tip,
                         "warning": done.warning or None})  # fmt: skip
            return
        texts = {
            "created": "created",
            "updated": f"updated ({'; '.join(done.changes)})",
            "unchanged": "is there already, from this spec: nothing changed",
        }
        _say(f"{spec.name}: {texts[done.action]} at {done.store.uri}")
        if done.action == "created":
            sizes = " x ".join(f"{a.name} {a.size}" for a in spec.grid.axes) or "no axes"
            _say(
                f"{sizes}, {' x '.join(map(str, spec.grid.shape_yx))} pixels, {spec.grid.n_regions} regions. Next: cubeingest plan, cubeingest ingest"
            )


@app.command(context_settings=SELECTING)
def plan(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    limit: LimitOption = None,
    part: PartOption = None,
    redo: RedoOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what an ingest would do, and what would go wrong. Writes nothing. Example: cubeingest plan --year 2000"""
    with _guard(debug):
        from cubeingest.preflight import preflight

        cube = _open(store)
        report = preflight(cube.store, _selection(ctx, cube, bbox, region, variable, limit, part), redo)
        if json:
            _print_json(report.to_json())
            return
        out = _out()
        out.print(
            f"{report.tasks} tasks fill {report.slots} slots, {_bytes(report.bytes)} of pixels; {report.skipped} slots are done"
        )
        out.print(f"about {_bytes(report.memory_per_worker)} of memory a worker")
        for problem in report.problems:
            out.print(
                f"{problem.kind}: {problem.message}",
                style="red" if problem.kind == "misfit" else "yellow",
                markup=False,
            )


@app.command(context_settings=SELECTING)
def ingest(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    limit: LimitOption = None,
    part: PartOption = None,
    mode: Annotated[Literal["cooperative"], typer.Option("--mode", help="How commits are made.")] = "cooperative",
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    commit_every: Annotated[
        int | None, typer.Option("--commit-every", metavar="N", min=1, help="Commit after N tasks. Default: once.")
    ] = None,
    on_error: Annotated[
        Literal["keep", "abort"], typer.Option("--on-error", help="keep: commit the good tiles; abort: none.")
    ] = "keep",
    redo: RedoOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read tiles into the cube, and commit. What is done already is skipped. Example: cubeingest ingest --year 2000"""
    with _guard(debug):
        from cubeingest.engine import Options
        from cubeingest.ingest import ingest as run

        cube = _open(store)
        selection = _selection(ctx, cube, bbox, region, variable, limit, part)
        with _progress("ingest") as show:
            report = run(cube.store, selection, Options(workers, scheduler, commit_every, on_error, redo), show)
        if json:
            _print_json(report.to_json())
        _say_ingest(report, to_out=not json)
        raise typer.Exit(report.exit_code)


def _say_ingest(report: Any, to_out: bool) -> None:
    for failure in report.failed[:20]:
        where = " ".join([failure.region or "no region", *failure.axes.values(), failure.variable])
        _say(f"failed: {where}: {failure.error}", "red")
    if len(report.failed) > 20:
        _say(f"... and {len(report.failed) - 20} more (--json has them all)", "red")
    if report.signum is not None:
        _say(
            f"interrupted: what was finished is committed, {report.unfinished} slots are left; the same command goes on",
            "yellow",
        )
    if report.aborted:
        what = "nothing was written" if report.snapshot is None else "what was committed before stays"
        _say(f"aborted at the first failure: {what}", "yellow")
    if not to_out:
        return
    parts = [
        f"{report.written} written",
        f"{report.empty} empty",
        f"{report.skipped} skipped",
        f"{len(report.failed)} failed",
    ]
    line = f"{', '.join(parts)} of {report.planned} slots; {_bytes(report.bytes)} in {report.seconds:.1f} s"
    _out().print(line + (f"; snapshot {report.snapshot}" if report.snapshot else "; nothing to commit"))


@app.command(context_settings=SELECTING)
def status(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Count slots done, empty, pending and absent. Reads only the cube. Example: cubeingest status"""
    with _guard(debug):
        from cubeingest.status import STATES, read_status

        cube = _open(store)
        report = read_status(cube.store, _selection(ctx, cube, bbox, region, variable))
        if json:
            _print_json(report.to_json())
            return
        from rich.table import Table

        table = Table("", *STATES, "total", box=None, header_style="bold", title=None)
        for column in table.columns[1:]:
            column.justify = "right"
        for axis, labels in report.by.items():
            for label, counts in labels.items():
                table.add_row(f"{axis} {label}", *(str(counts[s]) for s in STATES), str(sum(counts.values())))
        table.add_row("all", *(str(getattr(report, s)) for s in STATES), str(report.total), style="bold")
        _out().print(table)


@app.command(context_settings=SELECTING)
def verify(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    limit: LimitOption = None,
    part: PartOption = None,
    sample: Annotated[
        float, typer.Option("--sample", metavar="FRACTION", help="Compare only this part of the windows.")
    ] = 1.0,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare the cube with its sources, pixel for pixel. Example: cubeingest verify --year 2000 --sample 0.1"""
    with _guard(debug):
        from cubeingest.engine import Options
        from cubeingest.verify import verify as run

        cube = _open(store)
        selection = _selection(ctx, cube, bbox, region, variable, limit, part)
        with _progress("verify") as show:
            report = run(cube.store, selection, Options(workers, scheduler), sample, show)
        for row in report.different[:20]:
            _say(
                f"different: {row['region']} {' '.join(row['axes'].values())} {row['variable']}: {row['pixels']} pixels differ from {row['href']}",
                "red",
            )
        for row in report.missing[:20]:
            _say(f"missing: {row['region']} {' '.join(row['axes'].values())} {row['variable']}: {row['error']}", "red")
        if json:
            _print_json(report.to_json())
        else:
            _out().print(
                f"{report.checked} slots checked: {report.equal} equal, {len(report.different)} different, {len(report.missing)} missing a source"
            )
        raise typer.Exit(report.exit_code)


@app.command(context_settings=SELECTING)
def regions(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    region: RegionOption = None,
    limit: LimitOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List region ids with bounds and slices. Example: cubeingest regions --bbox -110 30 -100 40"""
    with _guard(debug):
        from cubeingest.cube import list_regions

        cube = _open(store)
        found = list_regions(cube.spec, _selection(ctx, cube, bbox, region, None, limit))
        if json:
            _print_json({"regions": found})
            return
        from rich.table import Table

        y, x = cube.grid.dims_yx
        table = Table("id", "left", "bottom", "right", "top", y, x, box=None, header_style="bold")
        for row in found:
            table.add_row(
                row["id"],
                *(f"{v:.10g}" for v in row["bounds"]),
                *(":".join(map(str, row["slices"][d])) for d in (y, x)),
            )
        _out().print(table)


@app.command()
def history(store: StoreOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """List commits: when, which slots, by which version. Example: cubeingest history"""
    with _guard(debug):
        commits = _open(store).history()
        if json:
            _print_json({"commits": [c.to_json() for c in commits]})
            return
        from rich.table import Table

        table = Table("time", "snapshot", "what", "written", "empty", "slots", "version", box=None, header_style="bold")
        for commit in commits:
            d = commit.details
            more = ["..."] if d.get("n_regions", 0) > len(d.get("regions", [])) else []
            where = " ".join([*(",".join(v) for v in d.get("axes", {}).values()), *d.get("regions", []), *more])
            table.add_row(
                commit.time,
                commit.snapshot,
                commit.message,
                str(d.get("written", "")),
                str(d.get("empty", "")),
                where,
                str(d.get("cubeingest", "")),
            )
        _out().print(table)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where tiles, spec, cube and picture go.")] = Path(
        "cubeingest-demo"
    ),
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Go the whole way on real tiles of the world's coasts: init, plan, ingest, status, verify, and a picture."""
    with _guard(debug):
        from cubeingest.demo import run_demo

        with _progress("ingest") as show:
            report = run_demo(folder, say=_say, on_progress=show)
        if json:
            _print_json(report)
        else:
            _out().print(
                f"\nOpen it:\n\n  import cubeingest as ci\n  ds = ci.open({report['store']!r}).dataset()\n\n"
                f"or look at {report['picture']}, and ask the cube:\n\n  cubeingest status --store {report['store']}",
                markup=False,
            )


def main() -> None:
    """Entry point of the ``cubeingest`` command."""
    app()
