"""Commands that draw: the grid, how far the cube is, its pixels, what has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cubeingest.cli.app import app
from cubeingest.cli.options import (
    SELECTING,
    AtOption,
    BboxOption,
    BranchOption,
    DebugOption,
    JsonOption,
    LimitOption,
    PolygonOption,
    RegionOption,
    StoreOption,
    VariableOption,
    open_cube,
    read_selection,
)
from cubeingest.cli.output import guard, out_console, print_json, say

OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="A .png or .svg file. Default: a name that says what is shown."
    ),
]

show = typer.Typer(
    name="show", help="Draw the grid, the status, a map, or what differs, into a PNG or SVG file.", no_args_is_help=True,
    rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
app.add_typer(show)


@show.command("grid", context_settings=SELECTING)
def show_grid_(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    polygon: PolygonOption = None,
    region: RegionOption = None,
    limit: LimitOption = None,
    output: OutputOption = None,
    branch: BranchOption = "main",
    at: AtOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw regions with their ids on coastlines, selected ones highlighted. Example: cubeingest show grid --bbox -109 37 -102 41"""
    with guard(debug):
        from cubeingest.look import file_name, show_cube_grid

        cube = open_cube(store, branch, at)
        selection = read_selection(ctx, cube, bbox, region, None, limit, None, polygon)
        path = _path(output, file_name(cube.spec.name, "grid"))
        _save(show_cube_grid(cube.store, selection), path, json, {"kind": "grid"})


@show.command("status", context_settings=SELECTING)
def show_status_(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    polygon: PolygonOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    output: OutputOption = None,
    branch: BranchOption = "main",
    at: AtOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw what is done, empty, pending and absent, a small map for each axis value. Example: cubeingest show status"""
    with guard(debug):
        from cubeingest.look import file_name, show_status

        cube = open_cube(store, branch, at)
        selection = read_selection(ctx, cube, bbox, region, variable, polygon=polygon)
        words = [",".join(texts) for texts in selection.axes.values()]
        path = _path(output, file_name(cube.spec.name, "status", *(variable or []), *words))
        _save(show_status(cube.store, selection), path, json, {"kind": "status"})


@show.command("map", context_settings=SELECTING)
def show_map_(
    ctx: typer.Context,
    store: StoreOption = None,
    bbox: BboxOption = None,
    polygon: PolygonOption = None,
    region: RegionOption = None,
    variable: VariableOption = None,
    output: OutputOption = None,
    branch: BranchOption = "main",
    at: AtOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw pixels of a variable, of one value of each axis. Example: cubeingest show map --year 2000 --bbox -110 30 -100 40"""
    with guard(debug):
        from cubeingest.look import file_name, show_map

        cube = open_cube(store, branch, at)
        selection = read_selection(ctx, cube, bbox, region, variable, polygon=polygon)
        words = [text for texts in selection.axes.values() for text in texts]
        path = _path(output, file_name(cube.spec.name, "map", *(variable or []), *words, *(region or [])))
        axes, view = show_map(cube.store, selection)
        for warning in view.colours.warnings:
            say(f"warning: {warning}", "yellow")
        note = "; ".join(view.notes)
        more = {
            "kind": "map", "snapshot": view.snapshot, "variable": view.variable.name, "axes": dict(view.labels),
            **view.to_json(), "note": note,
        }  # fmt: skip
        for said in view.notes:
            if not json and (said != view.own_note or "cubeingest overviews" in said):
                say(said)
        _save(axes, path, json, more)


@show.command("diff")
def show_diff_(
    older: Annotated[str, typer.Argument(metavar="A", help="A tag, branch or snapshot.")],
    newer: Annotated[str, typer.Argument(metavar="B", help="Another.")] = "main",
    store: StoreOption = None,
    output: OutputOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw in which regions two versions of the cube differ. Example: cubeingest show diff v1.0 main"""
    with guard(debug):
        from cubeingest.look import file_name, show_diff

        cube = open_cube(store)
        path = _path(output, file_name(cube.spec.name, "diff", older, newer))
        _save(show_diff(cube.store, older, newer), path, json, {"kind": "diff", "from": older, "to": newer})


def _path(output: Path | None, name: str) -> Path:
    """Where a picture goes; refused before anything is read if it cannot go there."""
    from cubeingest.look import check_file

    path = output or Path(name)
    check_file(path)
    return path


def _save(axes: Any, path: Path, json: bool, more: dict[str, Any]) -> None:
    from cubeingest.look import save_picture

    save_picture(axes, path)
    if json:
        print_json({"picture": str(path), **more})
    else:
        out_console().print(str(path), markup=False)
