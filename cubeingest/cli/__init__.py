"""The command line: parse, call, print, exit code. The only home of typer and rich.

Nothing heavy is imported until a command runs, so that ``cubeingest --help`` answers at once.
"""

from cubeingest.cli import cubes, upkeep
from cubeingest.cli.app import app

__all__ = ["app", "cubes", "main", "upkeep"]


def main() -> None:
    """Entry point of the ``cubeingest`` command."""
    app()
