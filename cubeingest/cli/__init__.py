"""The command line: parse, call, print, exit code. The only home of typer and rich.

Nothing heavy is imported until a command runs, so that ``cubeingest --help`` answers at once.
"""

import contextlib
import os
import sys

from cubeingest.cli import compute, contents, cubes, export, extend, infer, materialize, overviews, show, upkeep, view
from cubeingest.cli.app import app

__all__ = [
    "app",
    "compute",
    "contents",
    "cubes",
    "export",
    "extend",
    "infer",
    "main",
    "materialize",
    "overviews",
    "show",
    "upkeep",
    "view",
]


def main() -> None:
    """Entry point of the ``cubeingest`` command.

    It ends the process at once when the command has: Python would wait for threads of libraries, one of which may be in the
    middle of a request that nobody answers, and others have been seen to crash while it goes down.
    """
    code: object = 0
    try:
        app()
    except SystemExit as e:
        code = e.code
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
