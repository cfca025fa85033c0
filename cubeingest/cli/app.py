"""The application that commands are added to."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

ORDER = (
    "demo", "infer", "init", "plan", "ingest", "status", "verify", "overviews", "show", "regions", "history", "chunks", "cost", "compute",
    "export", "rechunk", "extend", "publish", "tag", "diff", "check", "gc", "materialize",
)  # fmt: skip
"""In which the help lists commands: as one comes to need them."""


class InOrder(TyperGroup):
    """Commands in ``ORDER``."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    name="cubeingest",
    cls=InOrder,
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
        from cubeingest import __version__

        sys.stdout.write(f"cubeingest {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn a pile of raster tiles into one analysis-ready, versioned datacube."""
