"""Commands that keep a cube: publish, tag, diff, check, gc."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cubeingest.cli.app import app
from cubeingest.cli.complete import complete_branch, complete_ref
from cubeingest.cli.options import (
    DebugOption,
    Hands,
    JsonOption,
    Newest,
    StoreOption,
    Which,
    open_cube,
)
from cubeingest.cli.output import format_bytes, guard, out_console, print_json, say, show_progress
from cubeingest.wording import counted

ROWS_SHOWN = 20
"""Rows of a list that are printed; --json has them all."""


@app.command(
    examples=(
        "cubeingest publish staging",
        "cubeingest publish staging --sample 0.1",
        "cubeingest publish staging --discard   # give the branch up",
    )
)
def publish(
    name: Annotated[
        str, typer.Argument(metavar="BRANCH", help="The branch that main moves to.", autocompletion=complete_branch)
    ],
    hands: Hands,
    store: StoreOption = None,
    sample: Annotated[
        float, typer.Option("--sample", metavar="FRACTION", help="Verify only this part of the windows.")
    ] = 1.0,
    discard: Annotated[bool, typer.Option("--discard", help="Give the branch up instead.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Move main to a branch, once what differs there is verified."""
    with guard(debug):
        cube = open_cube(store)
        if discard:
            snapshot = cube.discard(name)
            if json:
                print_json({"branch": name, "action": "discarded", "snapshot": snapshot})
            else:
                say(f"branch {name!r} was given up; it pointed to {snapshot}")
            return
        with show_progress("verify") as show:
            done = cube.publish(name, sample=sample, workers=hands.workers, scheduler=hands.scheduler, on_progress=show)
        if json:
            print_json(done.to_json())
        texts = {
            "published": f"main is now at {done.snapshot}: {counted(done.slots, 'slot')} from branch {name!r}",
            "unchanged": f"main is at {done.snapshot} already, as is branch {name!r}",
            "interrupted": f"interrupted: branch {name!r} was not published, main stays at {done.snapshot}",
            "refused": f"branch {name!r} was not published: main stays at {done.snapshot}",
        }
        if done.verified is not None:
            for row in [*done.verified.different, *done.verified.missing][:ROWS_SHOWN]:
                what = (
                    f"{row['pixels'] or 'some'} pixels differ from {row['href']}" if "pixels" in row else row["error"]
                )
                say(f"{row['region']} {' '.join(row['axes'].values())} {row['variable']}: {what}", "red")
        say(texts[done.action], "red" if done.action == "refused" else None)
        raise typer.Exit(done.exit_code)


@app.command(examples=("cubeingest tag v1.0", "cubeingest tag   # lists them"))
def tag(
    which: Which,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The tag. Without: list all.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Name a snapshot for good, or list the names."""
    with guard(debug):
        from cubeingest.branches import read_tags

        cube = open_cube(which.store, which.branch)
        if name is not None:
            snapshot = cube.tag(name, which.at)
            if json:
                print_json({"tag": name, "snapshot": snapshot})
            else:
                say(f"{name} is snapshot {snapshot} from now on")
            return
        tags = read_tags(cube.store)
        if json:
            print_json({"tags": tags})
            return
        for known, snapshot in tags.items():
            out_console().print(f"{snapshot}  {known}", markup=False)
        if not tags:
            say("no tags yet: `cubeingest tag NAME` names the newest snapshot")


@app.command(examples=("cubeingest diff v1.0 main",))
def diff(
    older: Annotated[str, typer.Argument(metavar="A", help="A tag, branch or snapshot.", autocompletion=complete_ref)],
    newer: Annotated[str, typer.Argument(metavar="B", help="Another.", autocompletion=complete_ref)] = "main",
    store: StoreOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show in which regions two versions of the cube differ."""
    with guard(debug):
        from cubeingest.changes import count_changes, read_changes
        from cubeingest.store import resolve_ref

        cube = open_cube(store)
        first, second = (resolve_ref(cube.store, ref) for ref in (older, newer))
        changes = read_changes(cube.store, first, second)
        rows, counts = [c.to_json(cube.spec) for c in changes], count_changes(changes)
        if json:
            print_json({"from": first, "to": second, **counts, "changes": rows})
            return
        out = out_console()
        for row in rows:
            out.print(
                f"{row['change']:<8} {row['region']} {' '.join(row['axes'].values())} {row['variable']}", markup=False
            )
        out.print(", ".join(f"{n} {what}" for what, n in counts.items()) + " slots")


@app.command(examples=("cubeingest check", "cubeingest check --deep --workers 8"))
def check(
    which: Newest,
    hands: Hands,
    deep: Annotated[bool, typer.Option("--deep", help="Read every pixel and compare it with its record.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell whether the cube is sound, and what to do if it is not."""
    with guard(debug):
        cube = which.open()
        with show_progress("check") as show:
            report = cube.check(deep=deep, workers=hands.workers, scheduler=hands.scheduler, on_progress=show)
        if json:
            print_json(report.to_json(cube.spec))
        for finding in report.findings[:ROWS_SHOWN]:
            say(f"{finding.kind}: {finding.message}; {finding.remedy}", "yellow")
        if len(report.findings) > ROWS_SHOWN:
            say(f"... and {len(report.findings) - ROWS_SHOWN} more (--json has them all)", "yellow")
        if not json:
            found = counted(len(report.findings), "finding") if report.findings else "the cube is sound"
            read = "every pixel read" if deep else "chunks listed, none read"
            if report.signum is not None:
                found, read = (
                    f"interrupted: {counted(len(report.findings), 'finding')} so far",
                    "not every pixel was read",
                )
            out_console().print(f"{found}: {counted(report.slots, 'slot')}, {counted(report.chunks, 'chunk')}; {read}")
        raise typer.Exit(report.exit_code)


@app.command(examples=("cubeingest gc --dry-run", "cubeingest gc --keep 10 --older-than 7d"))
def gc(
    store: StoreOption = None,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Remove only garbage older than this: 30m, 12h, 7d.")
    ] = "1d",
    expire: Annotated[
        str | None, typer.Option("--expire", metavar="AGE", help="First forget snapshots older than this.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option("--keep", metavar="N", min=1, help="First forget all but the newest N snapshots.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be; of --keep and --expire only how many snapshots.")
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Remove what failed and killed runs left; by request, old snapshots."""
    with guard(debug):
        from cubeingest.garbage import parse_age

        cube = open_cube(store)
        report = cube.gc(
            older_than=parse_age(older_than),
            expire=None if expire is None else parse_age(expire),
            keep=keep,
            dry_run=dry_run,
        )
        for error in report.errors[:ROWS_SHOWN]:
            say(f"could not be removed: {error}", "red")
        if json:
            print_json(report.to_json())
        else:
            out_console().print(_describe(report))
        raise typer.Exit(report.exit_code)


def _describe(report: Any) -> str:
    will = "would be " if report.dry_run else ""
    removed = f"{counted(report.chunks, 'chunk')}, {counted(report.manifests, 'manifest')}, {counted(report.snapshots, 'snapshot')}"
    parts = [f"{format_bytes(report.bytes)} {will}freed: {removed} {will}removed"]
    if report.snapshots_expired:
        parts.append(
            f"{counted(report.snapshots_expired, 'snapshot')} {'would leave' if report.dry_run else 'left'} the history"
        )
    if report.runs_forgotten:
        parts.append(f"{counted(report.runs_forgotten, 'killed run')} {will}forgotten")
    return "; ".join(parts)
