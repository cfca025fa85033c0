"""The command line: parse, call, print, exit code. The only home of typer and rich.

Nothing heavy is imported until a command runs, so that ``cubeingest --help`` answers at once.
"""

import contextlib
import os
import sys

from cubeingest.cli import (
    compute,
    contents,
    cubes,
    export,
    extend,
    infer,
    ingest,
    materialize,
    overviews,
    places,
    show,
    status,
    transitions,
    upkeep,
    view,
)
from cubeingest.cli.app import app

__all__ = [
    "app",
    "compute",
    "contents",
    "cubes",
    "export",
    "extend",
    "infer",
    "ingest",
    "main",
    "materialize",
    "overviews",
    "places",
    "show",
    "status",
    "transitions",
    "upkeep",
    "view",
]

COMPLETE = "_CUBEINGEST_COMPLETE"
"""Environment variable by which a shell asks for what may follow."""


def main() -> None:
    """Entry point of the ``cubeingest`` command.

    It ends the process at once when the command has: Python would wait for threads of libraries, one of which may be in the
    middle of a request that nobody answers, and others have been seen to crash while it goes down.
    """
    _mend_streams()
    code: object = 0
    try:
        if COMPLETE in os.environ:
            _complete()
        else:
            app()
    except SystemExit as e:
        code = e.code
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _mend_streams() -> None:
    """Let nothing fail for a stream that the caller has closed, or for a letter that its locale does not have."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="replace")


def _complete() -> None:
    """Answer the shell. Whatever goes wrong, nothing of it may appear in the middle of what somebody types."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        app(prog_name="cubeingest")
    except Exception:  # noqa: BLE001
        raise SystemExit(1) from None
