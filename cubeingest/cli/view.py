"""The command that shows a cube in the browser."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from cubeingest.cli.app import app
from cubeingest.cli.options import DebugOption, Which
from cubeingest.cli.output import guard, out_console, say


@app.command("view", examples=("cubeingest view", "cubeingest view --at v1.0 --port 8081 --no-browser"))
def view_(
    which: Which,
    port: Annotated[int, typer.Option("--port", metavar="N", help="Where it listens; 0: a port that is free.")] = 8080,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Which address of this machine; 0.0.0.0: all of them.")
    ] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open it in this machine's browser.")] = False,
    debug: DebugOption = False,
) -> None:
    """Show the cube on a map in the browser, until Ctrl-C."""
    with guard(debug):
        from cubeingest.view import serve

        cube = which.open()

        def tell(url: str) -> None:
            out_console().print(f"{cube.spec.name} at {url}", markup=False)
            say("Ctrl-C ends it", "bright_black")

        with contextlib.suppress(KeyboardInterrupt):
            serve(cube.store, host, port, not no_browser, debug, tell)
        raise typer.Exit(130)  # by Ctrl-C it ends, also where a shell has its children ignore it
