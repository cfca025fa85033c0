"""What a command prints, and where: results on stdout, messages and progress on stderr."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from cubeingest.errors import CubeIngestError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from cubeingest.engine import Progress


WIDE = 1000
"""Columns where stdout is no terminal: a table that is read by a program is not cut."""


def out_console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, emoji=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def print_table(table: Table) -> None:
    """A table of numbers and names, whole: in a narrow terminal its lines are broken rather than its words cut."""
    console = out_console()
    console.width = max(console.width, console.measure(table, options=console.options.update(width=WIDE)).maximum)
    console.print(table)


def err_console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(text: str, style: str | None = None) -> None:
    """A message for the person, on stderr."""
    err_console().print(text, style=style, markup=False)


def say_next(text: str) -> None:
    """What to type next, on stderr."""
    say(f"next: {text}", "bright_black")


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, default=str) + "\n")


@contextmanager
def guard(debug: bool) -> Iterator[None]:
    """Turn errors into one line and exit code 2; keep the libraries quiet unless asked."""
    if not debug:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
    try:
        yield
    except CubeIngestError as e:
        if debug:
            err_console().print_exception()
        for line in str(e).splitlines():
            say(f"error: {line}", "red")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        say("interrupted: nothing more was committed", "yellow")
        raise typer.Exit(130) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as e:  # noqa: BLE001  (a traceback is for --debug)
        if debug:
            err_console().print_exception()
        import icechunk

        from cubeingest.store import reason_of

        if isinstance(e, icechunk.IcechunkError):
            say(f"error: the store failed: {reason_of(e)}", "red")
            raise typer.Exit(2) from None
        text = " ".join(str(e).split())[:300]
        say(f"error: {type(e).__name__}: {text} (run again with --debug for where it came from)", "red")
        raise typer.Exit(2) from None


def format_bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} PB"


@contextmanager
def show_progress(title: str) -> Iterator[Callable[[Progress], None]]:
    """A live bar on stderr, fed with :class:`Progress`; silent where stderr is no terminal."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = err_console()
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[slots]} slots"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failures]}", style="red"),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, slots="starting", rate="", failures="")
        done = failures = 0

        def update(progress: Progress) -> None:
            nonlocal done, failures
            bar.update(task, total=progress.n_pixels or 1)
            result = progress.result
            if result is None:
                return
            done += 1
            failures += result.error is not None
            # A failed slot counts as passed, at the mean size, so that the bar ends at its end.
            bar.update(
                task,
                advance=result.n_pixels or progress.n_pixels / max(1, progress.n_slots),
                slots=f"{done}/{progress.n_slots}",
                rate=_rate(bar.tasks[0].speed),
                failures=f"{failures} failed" if failures else "",
            )

        yield update


def _rate(pixels_per_second: float | None) -> str:
    return "" if not pixels_per_second else f"{pixels_per_second / 1e6:.1f} Mpx/s"
