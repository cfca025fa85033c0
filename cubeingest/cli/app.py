"""The application that commands are added to."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cubeingest import __version__

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
