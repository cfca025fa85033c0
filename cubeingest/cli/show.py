"""Commands that draw: the grid, how far the cube is, its pixels, what has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cubeingest.cli.app import make_group
from cubeingest.cli.complete import complete_ref
from cubeingest.cli.options import (
    Area,
    DebugOption,
    JsonOption,
    LimitOption,
    OutputOption,
    Slots,
    StoreOption,
    Which,
    open_cube,
    say_ingest_next,
)
from cubeingest.cli.output import guard, out_console, print_json, say

show = make_group(
    "show",
    "Draw the grid, the status, a map, or what differs, into a PNG or SVG file.",
    ("cubeingest show status", "cubeingest show map --year 2000 --bbox -110 30 -100 40 --output map.png"),
)


@show.command(
    "grid",
    selecting=True,
    examples=("cubeingest show grid --bbox -109 37 -102 41", "cubeingest show grid --output grid.svg"),
)
def show_grid_(
    ctx: typer.Context,
    which: Which,
    area: Area,
    limit: LimitOption = None,
    output: OutputOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw regions with their ids on coastlines, selected ones highlighted."""
    with guard(debug):
        from cubeingest.look import file_name, show_cube_grid

        cube = which.open()
        selection = area.read(ctx, cube, limit)
        path = _path(output, file_name(cube.spec.name, "grid"))
        _save(show_cube_grid(cube.store, selection), path, json, {"kind": "grid"})


@show.command(
    "status", selecting=True, examples=("cubeingest show status", "cubeingest show status --year 2000 --variable lclu")
)
def show_status_(
    ctx: typer.Context,
    which: Which,
    slots: Slots,
    output: OutputOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw what is done, empty, pending and absent, a small map for each axis value."""
    with guard(debug):
        from cubeingest.look import file_name, show_status

        cube = which.open()
        selection = slots.read(ctx, cube)
        words = [",".join(texts) for texts in selection.axes.values()]
        path = _path(output, file_name(cube.spec.name, "status", *(slots.variable or []), *words))
        _save(show_status(cube.store, selection), path, json, {"kind": "status"})


@show.command(
    "map",
    selecting=True,
    examples=(
        "cubeingest show map --year 2000 --bbox -110 30 -100 40",
        "cubeingest show map --region 50N_110W --output map.png",
    ),
)
def show_map_(
    ctx: typer.Context,
    which: Which,
    slots: Slots,
    output: OutputOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw pixels of a variable, of one value of each axis."""
    with guard(debug):
        from cubeingest.look import file_name, show_map

        cube = which.open()
        selection = slots.read(ctx, cube)
        words = [text for texts in selection.axes.values() for text in texts]
        path = _path(output, file_name(cube.spec.name, "map", *(slots.variable or []), *words, *(slots.region or [])))
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
        unasked = {
            a: label for a, label in view.labels.items() if a not in selection.axes and cube.grid.axis(a).size > 1
        }
        for axis, label in unasked.items() if not json else ():
            say(f"{axis} {label}; --{axis} draws another")
        _save(axes, path, json, more)
        if not json and "pending" in note and which.at is None:
            say_ingest_next(ctx, cube)


@show.command("diff", examples=("cubeingest show diff v1.0 main",))
def show_diff_(
    older: Annotated[str, typer.Argument(metavar="A", help="A tag, branch or snapshot.", autocompletion=complete_ref)],
    newer: Annotated[str, typer.Argument(metavar="B", help="Another.", autocompletion=complete_ref)] = "main",
    store: StoreOption = None,
    output: OutputOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw in which regions two versions of the cube differ."""
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
