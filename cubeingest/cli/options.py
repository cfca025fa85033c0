"""Options that several commands share, and what they mean: which cube, and which part of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cubeingest.cli.output import say
from cubeingest.errors import StoreError, nearest

if TYPE_CHECKING:
    from cubeingest.cube import Cube
    from cubeingest.selection import Selection

POINTER = ".cubeingest"
"""File that ``init`` leaves in the working folder; it holds the store's path or URI."""

SELECTING = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Commands that take ``--<axis> VALUE``: what typer does not know is checked against the cube's axes."""

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
PolygonOption = Annotated[
    Path | None, typer.Option("--polygon", metavar="FILE", help="GeoJSON polygons, in longitude and latitude.")
]
RegionOption = Annotated[list[str] | None, typer.Option("--region", metavar="ID", help="A region; repeatable.")]
VariableOption = Annotated[list[str] | None, typer.Option("--variable", metavar="NAME", help="A variable; repeatable.")]
LimitOption = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many tasks.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", metavar="N", min=1, help="Local processes. Default: one for every two cores.")
]
SchedulerOption = Annotated[str | None, typer.Option("--scheduler", metavar="tcp://…", help="A running Dask cluster.")]
RedoOption = Annotated[bool, typer.Option("--redo", help="Do again what is done.")]
BranchOption = Annotated[
    str, typer.Option("--branch", metavar="NAME", help="Which branch of the cube.", show_default=True)
]
AtOption = Annotated[
    str | None, typer.Option("--at", metavar="REF", help="The cube as it was at a snapshot or tag. Read only.")
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page to look at; it needs no network.")
]
PartOption = Annotated[str | None, typer.Option("--part", metavar="K/N", help="Part K of N of the work, K from 1.")]


def open_cube(store: str | None, branch: str = "main", at: str | None = None) -> Cube:
    """The cube that a command is about. Raises :class:`StoreError` if nothing says which, or it is not there."""
    from cubeingest.cube import open as open_at

    where = store or os.environ.get("CUBEINGEST_STORE")
    if not where:
        pointer = Path(POINTER)
        if not pointer.is_file():
            raise StoreError(
                "which cube? There is no --store, no $CUBEINGEST_STORE, and no .cubeingest file in this folder: "
                "create a cube with `cubeingest init GRID.yaml`"
            )
        where = pointer.read_text(encoding="utf-8").strip()
    return open_at(where, branch, at)


def open_to_plan(store: str | None, branch: str) -> Cube:
    """As :func:`open_cube`; a branch that an ingest would make is as main is."""
    cube = open_cube(store)
    with cube.store.asking():
        return cube.on(branch) if branch in cube.store.repo.list_branches() else cube


def read_selection(
    ctx: typer.Context,
    cube: Cube,
    bbox: tuple[float, float, float, float] | None,
    region: list[str] | None,
    variable: list[str] | None,
    limit: int | None = None,
    part: str | None = None,
    polygon: Path | None = None,
) -> Selection:
    """The selection of a command's options; ``--<axis>`` options are what typer left over."""
    from cubeingest.selection import Selection, read_shape

    axes = read_axes(ctx, cube, ctx.args)
    shape = None if polygon is None else read_shape(polygon)
    return Selection(axes, bbox, tuple(region or ()), tuple(variable or ()), limit, _part(ctx, part), shape)


def read_axes(ctx: typer.Context, cube: Cube, words: list[str]) -> dict[str, tuple[str, ...]]:
    """Values by axis, of ``--<axis>`` options among words that typer left over."""
    axes: dict[str, list[str]] = {}
    extra = list(words)
    while extra:
        word = extra.pop(0)
        if not word.startswith("--"):
            refuse_usage(ctx, f"unexpected argument {word!r}")
        name, equals, value = word[2:].partition("=")
        _check_axis(ctx, cube, name)
        if not equals:
            if not extra:
                refuse_usage(ctx, f"--{name} needs a value, such as --{name} {cube.grid.axis(name).labels[0]}")
            value = extra.pop(0)
        values = [v for v in value.split(",") if v]
        if not values:
            refuse_usage(ctx, f"--{name} needs a value, such as --{name} {cube.grid.axis(name).labels[0]}")
        axes.setdefault(name, []).extend(values)
    return {name: tuple(values) for name, values in axes.items()}


def _check_axis(ctx: typer.Context, cube: Cube, name: str) -> None:
    axes = [a.name for a in cube.grid.axes]
    if name in axes:
        return
    options = [o.removeprefix("--") for p in ctx.command.params for o in p.opts if o.startswith("--")]
    hint = nearest(name, [*axes, *options]).replace("'", "--", 1).replace("'?", "?")
    refuse_usage(
        ctx, f"no such option: --{name}{hint} (axes of this cube: {', '.join('--' + a for a in axes) or 'none'})"
    )


def _part(ctx: typer.Context, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    k, slash, n = text.partition("/")
    if not slash or not k.isdecimal() or not n.isdecimal() or not 1 <= int(k) <= int(n):
        refuse_usage(ctx, f"--part {text}: write K/N with K from 1 to N, such as 3/16")
    return int(k), int(n)


def refuse_usage(ctx: typer.Context, message: str) -> NoReturn:
    """Say what is wrong with a command's arguments, and end with exit code 2."""
    say(f"error: {message}", "red")
    say(f"Try `{ctx.command_path} --help`.")
    raise typer.Exit(2)
