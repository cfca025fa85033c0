"""The command that lets a cube grow."""

from __future__ import annotations

import json as json_lib
from typing import TYPE_CHECKING, Annotated

import typer

from cubeingest.cli.app import app, refuse_usage
from cubeingest.cli.complete import complete_spec
from cubeingest.cli.options import DebugOption, JsonOption, StoreOption, open_cube, read_axes, say_next_command
from cubeingest.cli.output import guard, print_json, say
from cubeingest.wording import counted

if TYPE_CHECKING:
    from cubeingest.extend import Extended


@app.command(
    selecting=True,
    examples=(
        "cubeingest extend --year 2025",
        "cubeingest extend --year 2021..2025 --dry-run   # only say what would be",
        "cubeingest extend grid.yaml                     # longer axes, or a larger grid.shape",
    ),
)
def extend(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="GRID.yaml | --<axis> VALUE",
            help="A longer spec; or new values of axes: --year 2025.",
            autocompletion=complete_spec,
        ),
    ] = None,
    store: StoreOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Let a cube grow after the last value of its axes, or its last row and column.

    Values: one, several (2025,2030), or a range in the axis' own step (2021..2025). GRID.yaml: the spec with longer axes
    or a larger grid.shape. What is there is neither moved nor written again.
    """
    with guard(debug):
        given = words or []
        if not given:
            refuse_usage(ctx, "say by what the cube is to grow: --<axis> VALUE, such as --year 2025, or GRID.yaml")
        if given[0].startswith("--"):
            cube = open_cube(store)
            done = cube.extend(dry_run=dry_run, **_as_keywords(read_axes(ctx, cube, given)))
        else:
            from cubeingest.spec import read_spec

            if len(given) > 1:
                refuse_usage(ctx, f"give GRID.yaml or values of axes, not both: unexpected {given[1]!r}")
            spec = read_spec(given[0])
            done = open_cube(store or spec.store).extend(spec, dry_run=dry_run)
        for warning in done.warnings:
            say(f"warning: {warning}", "yellow")
        if json:
            print_json(done.to_json())
            return
        _say_extended(done, by_spec=not given[0].startswith("--"))
        if done.action != "unchanged" and not dry_run:
            say_next_command(ctx, "ingest", selection=False)


def _as_keywords(axes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name.replace("-", "_"): values for name, values in axes.items()}


def _say_extended(done: Extended, by_spec: bool) -> None:
    name = done.store.spec.name
    if done.action == "unchanged":
        say(f"{name}: all of it is there already: nothing changed")
        return
    grown = "; ".join([*map(str, done.growth), *done.changes])
    if done.dry_run:
        say(f"{name} would be extended ({grown}): {counted(done.new_slots, 'new slot')}. Nothing was changed")
        return
    say(f"{name}: extended ({grown}): {counted(done.new_slots, 'new slot')}, snapshot {done.store.tip}")
    if not by_spec:
        axes = done.store.spec.document["axes"]
        kept = ", ".join(f"{g.dim}: {json_lib.dumps(axes[g.dim])}" for g in done.growth)
        say(f"the spec in the cube now says {kept}; your file does not yet")
