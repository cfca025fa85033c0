"""Options that several commands share, and what they mean: which cube, and which part of it."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cubeingest.cli import complete
from cubeingest.cli.app import refuse_usage
from cubeingest.cli.output import say_next
from cubeingest.errors import StoreError, nearest

if TYPE_CHECKING:
    from cubeingest.cube import Cube
    from cubeingest.engine import Options
    from cubeingest.selection import Selection

POINTER = ".cubeingest"
"""File that ``init`` leaves in the working folder; it holds the store's path or URI."""

VARIABLE = "CUBEINGEST_STORE"
"""Environment variable that says which cube commands are about; it goes before the file."""

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
RegionOption = Annotated[
    list[str] | None,
    typer.Option("--region", metavar="ID", help="A region; repeatable.", autocompletion=complete.complete_region),
]
VariableOption = Annotated[
    list[str] | None,
    typer.Option(
        "--variable", metavar="NAME", help="A variable; repeatable.", autocompletion=complete.complete_variable
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many tasks.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", metavar="N", min=1, help="Local processes. Default: one for every two cores.")
]
SchedulerOption = Annotated[str | None, typer.Option("--scheduler", metavar="tcp://…", help="A running Dask cluster.")]
RedoOption = Annotated[bool, typer.Option("--redo", help="Do again what is done.")]
BranchOption = Annotated[
    str,
    typer.Option(
        "--branch",
        metavar="NAME",
        help="Which branch of the cube.",
        show_default=True,
        autocompletion=complete.complete_branch,
    ),
]
AtOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="REF",
        help="The cube as it was at a snapshot or tag. Read only.",
        autocompletion=complete.complete_tag,
    ),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page to look at; it needs no network.")
]
PartOption = Annotated[str | None, typer.Option("--part", metavar="K/N", help="Part K of N of the work, K from 1.")]
ModeOption = Annotated[
    Literal["cooperative", "independent"],
    typer.Option("--mode", help="cooperative: one commit for all. independent: each worker commits its own."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="A .png or .svg file. Default: a name that says what is shown."
    ),
]
ExprOption = Annotated[
    str | None,
    typer.Option(
        "--expr", metavar="TEXT", help='Of variables, or of labels of an axis such as band: "(nir - red)/(nir + red)".'
    ),
]
TableOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="A .csv, .json or .parquet file. Default: a table."),
]
LayerOption = Annotated[
    str | None, typer.Option("--in-layer", metavar="NAME", help="The layer of a GeoPackage that has several.")
]


@dataclass(frozen=True)
class Which:
    """Which cube, and which state of it."""

    store: StoreOption = None
    branch: BranchOption = "main"
    at: AtOption = None

    def open(self) -> Cube:
        return open_cube(self.store, self.branch, self.at)


@dataclass(frozen=True)
class Newest:
    """Which cube, and which branch of it: for commands that write, or that need the newest."""

    store: StoreOption = None
    branch: BranchOption = "main"

    def open(self) -> Cube:
        return open_cube(self.store, self.branch)


@dataclass(frozen=True)
class Area:
    """Which regions, and with ``--<axis>`` which axis values."""

    bbox: BboxOption = None
    polygon: PolygonOption = None
    region: RegionOption = None

    def read(self, ctx: typer.Context, cube: Cube, limit: int | None = None, part: str | None = None) -> Selection:
        return read_selection(ctx, cube, self.bbox, self.region, None, limit, part, self.polygon)


@dataclass(frozen=True)
class Slots:
    """Which slots: regions, variables, and with ``--<axis>`` axis values."""

    bbox: BboxOption = None
    polygon: PolygonOption = None
    region: RegionOption = None
    variable: VariableOption = None

    def read(self, ctx: typer.Context, cube: Cube) -> Selection:
        return read_selection(ctx, cube, self.bbox, self.region, self.variable, None, None, self.polygon)


@dataclass(frozen=True)
class Tasks:
    """As :class:`Slots`, and how many of the tasks that fill them."""

    bbox: BboxOption = None
    polygon: PolygonOption = None
    region: RegionOption = None
    variable: VariableOption = None
    limit: LimitOption = None
    part: PartOption = None

    def read(self, ctx: typer.Context, cube: Cube) -> Selection:
        return read_selection(ctx, cube, self.bbox, self.region, self.variable, self.limit, self.part, self.polygon)


@dataclass(frozen=True)
class Hands:
    """Who does the work."""

    workers: WorkersOption = None
    scheduler: SchedulerOption = None

    def options(self, **more: Any) -> Options:
        from cubeingest.engine import Options

        return Options(self.workers, self.scheduler, **more)


def open_cube(store: str | None, branch: str = "main", at: str | None = None) -> Cube:
    """The cube that a command is about. Raises :class:`StoreError` if nothing says which, or it is not there."""
    from cubeingest.cube import open as open_at

    where, source = (store, "") if store else find_store()
    if not where:
        raise StoreError(
            "which cube? There is no --store, no $CUBEINGEST_STORE, and no .cubeingest file in this folder: "
            f"create a cube with `cubeingest init GRID.yaml`{_near()}"
        )
    try:
        cube = open_at(where, branch, at)
    except StoreError as e:
        raise StoreError(f"{e} (it is named by {source})" if source else str(e)) from e
    complete.remember(cube)
    return cube


def find_store() -> tuple[str | None, str]:
    """The cube that the environment or this folder says, if there is one; and which of them said so."""
    if where := os.environ.get(VARIABLE):
        return where, f"${VARIABLE}"
    try:
        return Path(POINTER).read_text(encoding="utf-8").strip() or None, f"the file {POINTER} in this folder"
    except (OSError, UnicodeDecodeError):
        return None, ""


LOOKED_INTO = 200
"""Entries of a folder that a hint is worth looking into."""


def _near() -> str:
    """A hint at cubes in, below or above this folder."""
    here = Path.cwd()
    try:
        entries = sorted(islice(here.iterdir(), LOOKED_INTO))
    except OSError:  # one may stand in a folder that one may not list
        entries = []
    if own := next((p for p in entries if p.suffix == ".icechunk" and (p / "repo").exists()), None):
        return f", or name one: --store {shlex.quote(own.name)}"
    folder = next((p for p in [*entries, *here.parents] if (p / POINTER).is_file()), None)
    return "" if folder is None else f", or go to one: cd {shlex.quote(os.path.relpath(folder, here))}"


def open_to_plan(store: str | None, branch: str) -> Cube:
    """As :func:`open_cube`; a branch that an ingest would make is as main is."""
    cube = open_cube(store)
    with cube.store.asking():
        return cube.on(branch) if branch in cube.store.repo.list_branches() else cube


def read_selection(
    ctx: typer.Context,
    cube: Cube,
    bbox: tuple[float, float, float, float] | None = None,
    region: list[str] | None = None,
    variable: list[str] | None = None,
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


def say_ingest_next(ctx: typer.Context, cube: Cube, remark: str = "") -> None:
    """Say that an ingest comes next; of a cube whose variables have no source, from Python."""
    if any(v.source is not None for v in cube.spec.variables):
        say_next_command(ctx, "ingest", remark)
    else:
        say_next(f"from Python, as its variables have no source: cubeingest.open({cube.store.uri!r}).ingest(source=f)")


CUBE_OPTIONS = ("store", "branch")
SELECTION_OPTIONS = ("bbox", "polygon", "region", "variable", "limit", "part")


def say_next_command(ctx: typer.Context, name: str, remark: str = "", selection: bool = True) -> None:
    """Say which command comes next, about the cube of this one, and about the same selection of it."""
    words = ["cubeingest", *name.split()]
    for param in ctx.command.params:
        value = ctx.params.get(str(param.name))
        named = param.name in CUBE_OPTIONS or (selection and param.name in SELECTION_OPTIONS)
        if not named or value in (None, param.default, (), []):
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [param.opts[0], *map(_plain, one if isinstance(one, tuple) else [one])]
    say_next(shlex.join([*words, *(ctx.args if selection else ())]) + (f"  # {remark}" if remark else ""))


def _plain(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)
