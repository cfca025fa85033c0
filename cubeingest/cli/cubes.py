"""Commands that make a cube, and tell what it consists of."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cubeingest.cli.app import app
from cubeingest.cli.complete import complete_spec
from cubeingest.cli.options import (
    POINTER,
    VARIABLE,
    Area,
    DebugOption,
    JsonOption,
    LimitOption,
    StoreOption,
    Which,
    find_store,
    open_cube,
)
from cubeingest.cli.output import guard, out_console, print_json, print_table, say, say_next, show_progress
from cubeingest.wording import counted

if TYPE_CHECKING:
    from cubeingest.create import Created

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

DEMO_NEXT = """
{look}sk the cube:

  {cubeingest} status --store {store}
{draw}  {cubeingest} cost region 5 45 11 48 --store {store}

Go the same way by hand, from the spec and the tiles that are there now:

  {cubeingest} init {spec} --store {again}
  {cubeingest} plan
  {cubeingest} ingest
  {cubeingest} status

Or in Python:

  import cubeingest as ci
  ds = ci.open({uri!r}).dataset()
"""
"""What one may try after the demo; each line works as it is printed."""

DEMO_DRAW = """\
  {cubeingest} show map --store {store} --bbox -20 -36 55 38 --output {africa}
"""
DEMO_VIEW = """\
  {cubeingest} view --store {store}          # in the browser, until Ctrl-C
"""


@app.command(
    examples=(
        "cubeingest init grid.yaml",
        "cubeingest init glad-lclu --store s3://bucket/glad   # a spec that comes with cubeingest",
        "cubeingest init grid.yaml --update                   # take over changed sources and attributes",
    )
)
def init(
    grid: Annotated[
        str,
        typer.Argument(
            metavar="GRID.yaml",
            help="A spec, or the name of one that comes with cubeingest.",
            autocompletion=complete_spec,
        ),
    ],
    store: StoreOption = None,
    update: Annotated[bool, typer.Option("--update", help="Take over changed sources, attributes and tiles.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Create the cube that a spec declares.

    It leaves a file .cubeingest in this folder, so that commands here need no --store. Again with the same spec it changes nothing.
    """
    with guard(debug):
        from cubeingest.cube import created

        _check_spec(grid)
        done = created(grid, store, update)
        has_pointer = _write_pointer(done.store.uri)
        if done.warning:
            say(f"warning: {done.warning}", "yellow")
        if json:
            print_json({"store": done.store.uri, "action": done.action, "changes": list(done.changes), "snapshot": done.store.tip,
                         "warning": done.warning or None})  # fmt: skip
            return
        _say_created(done)
        if done.warning:
            say_next("cubeingest plan  # it says where it looked for tiles; `init --update` looks again")
        elif done.action == "created" and has_pointer:
            say_next("cubeingest plan")
        elif done.action == "created":
            say_next(shlex.join(["cubeingest", "plan", "--store", done.store.uri]))


def _check_spec(grid: str) -> None:
    """Of a spec that is not there, say which there are: the folder may be the wrong one."""
    from cubeingest.cli.complete import complete_file
    from cubeingest.errors import SpecError, nearest
    from cubeingest.spec import builtin_specs

    path = Path(grid)
    if "://" in grid or path.exists() or path.suffix not in (".yaml", ".yml"):
        return
    folder = "" if path.parent == Path() else f"{path.parent}/"
    here = [name for name in complete_file(folder, (".yaml", ".yml")) if not name.endswith("/")]
    there = (
        f"YAML files there: {', '.join(here[:8])}" if here else f"no YAML file is in {str(path.parent.absolute())!r}"
    )
    raise SpecError(
        f"no spec file {grid!r}{nearest(grid, here)} ({there}; specs that come with cubeingest: {', '.join(sorted(builtin_specs()))})"
    )


def _write_pointer(uri: str) -> bool:
    """Make commands in this folder be about this cube; whether they are."""
    before, _ = find_store()
    if VARIABLE in os.environ and before != uri:
        say(f"warning: ${VARIABLE} names another cube ({before}): give --store, or unset it", "yellow")
    elif before is not None and before != uri:
        say(f"commands in this folder are about this cube from now on; before: {before}")
    try:
        Path(POINTER).write_text(uri + "\n", encoding="utf-8")
    except OSError as e:
        say(
            f"warning: the cube is there, but {POINTER} cannot be written here ({e.strerror}): give --store from now on",
            "yellow",
        )
        return False
    return find_store()[0] == uri


def _say_created(done: Created) -> None:
    spec = done.store.spec
    texts = {
        "created": "created",
        "updated": f"updated ({'; '.join(done.changes)})",
        "unchanged": "is there already, from this spec: nothing changed",
    }
    say(f"{spec.name}: {texts[done.action]} at {done.store.uri}")
    if done.action == "created":
        sizes = ", ".join(counted(a.size, f"{a.name} value") for a in spec.grid.axes) or "no axes"
        unit = "pixels" if spec.healpix is None else "cells"
        say(
            f"{sizes}, {' x '.join(map(str, spec.grid.spatial_shape))} {unit}, {counted(spec.grid.n_regions, 'region')}"
        )


@app.command(
    selecting=True,
    examples=("cubeingest regions --bbox -110 30 -100 40", "cubeingest regions --polygon country.geojson --json"),
)
def regions(
    ctx: typer.Context,
    area: Area,
    store: StoreOption = None,
    limit: LimitOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List region ids with bounds and slices."""
    with guard(debug):
        from cubeingest.selection import list_regions

        cube = open_cube(store)
        found = list_regions(cube.spec, area.read(ctx, cube, limit))
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
        print_table(table)


@app.command(examples=("cubeingest history", "cubeingest history --branch staging --json"))
def history(which: Which, json: JsonOption = False, debug: DebugOption = False) -> None:
    """List commits: when, which slots, by which version."""
    with guard(debug):
        commits = which.open().history()
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


@app.command(
    examples=("cubeingest demo", "cubeingest demo --keep playground   # in another folder than cubeingest-demo")
)
def demo(
    keep: Annotated[
        Path, typer.Option("--keep", metavar="DIR", help="Where tiles, spec, cube and picture stay.")
    ] = Path("cubeingest-demo"),
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Go the whole way on small real tiles of the world's coasts.

    It makes the tiles, the cube, its overviews and a picture, and leaves them in a folder to play with. Again it goes on where it stopped.
    """
    with guard(debug):
        from cubeingest.demo import run_demo

        with show_progress("ingest") as show:
            report = run_demo(keep, say=say, on_progress=show)
        uri = str(keep / "land.icechunk")
        with contextlib.suppress(OSError):
            (keep / POINTER).write_text(report["store"] + "\n", encoding="utf-8")
        if json:
            print_json(report)
        if "picture" not in report:
            raise typer.Exit(INTERRUPTED)
        if json:
            return
        cubeingest, store, spec = _as_typed(), shlex.quote(uri), shlex.quote(report["spec"])
        again = shlex.quote(str(keep / "again.icechunk"))
        look, draw, africa = "A", "", shlex.quote(str(keep / "africa.png"))
        if report["picture"]:
            look = f"Look at {report['picture']}, and a"
            draw = DEMO_DRAW + (DEMO_VIEW if find_spec("starlette") and find_spec("uvicorn") else "")
        out_console().print(
            DEMO_NEXT.replace("{draw}", draw).format(
                cubeingest=cubeingest, store=store, spec=spec, again=again, look=look, uri=uri, africa=africa
            ),
            markup=False,
        )


def _as_typed() -> str:
    """How this command is typed where the user stands: its name if the shell finds it, else its path.

    Within `uv run` it is found by this process, but not by the shell.
    """
    own = Path(sys.argv[0])
    if shutil.which("cubeingest") and "UV_RUN_RECURSION_DEPTH" not in os.environ:
        return "cubeingest"
    if own.stem != "cubeingest" or not own.is_file():
        return f"{shlex.quote(sys.executable)} -m cubeingest"
    beside = os.path.relpath(own)
    return shlex.quote(str(own.absolute()) if beside.startswith("..") else beside)
