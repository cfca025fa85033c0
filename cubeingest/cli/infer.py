"""The command that drafts a spec from tiles."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated

import typer

from cubeingest.cli.app import app
from cubeingest.cli.options import DebugOption, JsonOption
from cubeingest.cli.output import guard, print_json, say, say_next


@app.command(
    examples=(
        "cubeingest infer tiles/*/*.tif > grid.yaml",
        "cubeingest infer tiles --output grid.yaml   # a folder",
    )
)
def infer(
    tiles: Annotated[
        list[str], typer.Argument(metavar="TILES…", help="Rasters: paths, globs, folders, addresses, or @LIST of them.")
    ],
    output: Annotated[
        str | None, typer.Option("--output", metavar="FILE", help="Write the spec there, if there is no such file yet.")
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read some tiles and print a commented grid.yaml for them."""
    with guard(debug):
        from cubeingest.errors import CatalogError
        from cubeingest.inference import infer_spec, write_spec

        if output is not None and os.path.lexists(output):
            raise CatalogError(f"{output!r} is there already: name another file, or remove it")
        found = infer_spec(tiles, "." if output is None else os.path.dirname(output) or ".")
        if output is not None:
            write_spec(found.text, output)
        if json:
            print_json({"spec": found.document, "notes": list(found.notes)})
            return
        if output is None:
            sys.stdout.write(found.text)
            return
        for note in found.notes:
            say(f"note: {note}", "yellow")
        say(f"wrote {output}: read it, its comments say what was found and what was guessed")
        say_next(shlex.join(["cubeingest", "init", output]))
