"""Commands that make something else of a cube: files, or a copy with other chunks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from cubeingest.cli.app import app, refuse_usage
from cubeingest.cli.complete import complete_variable
from cubeingest.cli.ingest import say_ingest
from cubeingest.cli.options import (
    Area,
    DebugOption,
    Hands,
    JsonOption,
    LimitOption,
    ModeOption,
    PartOption,
    RedoOption,
    Tasks,
    Which,
)
from cubeingest.cli.output import format_bytes, guard, out_console, print_json, say, show_progress
from cubeingest.wording import counted

FAILURES_SHOWN = 20


@app.command(
    selecting=True,
    examples=(
        "cubeingest export --year 2000 --output tiles",
        "cubeingest export --output tiles --tile 1000,1000 --gti",
        "cubeingest export --format parquet --region 50N_110W --output tables",
    ),
)
def export(
    ctx: typer.Context,
    output: Annotated[str, typer.Option("--output", metavar="FOLDER", help="Where the files go.")],
    which: Which,
    tasks: Tasks,
    hands: Hands,
    tile: Annotated[
        str | None, typer.Option("--tile", metavar="Y,X", help="Pixels of a tile. Default: one a region.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="PATTERN",
            help="Names of files. Default: {variable}/{year}/{id}.tif, with the axes there are.",
        ),
    ] = None,
    format: Annotated[  # noqa: A002
        Literal["cog", "parquet"],
        typer.Option(
            "--format",
            help="cog: GeoTIFFs. parquet: a table of the pixels (or HEALPix cells) of each region (GeoParquet).",
        ),
    ] = "cog",
    gti: Annotated[bool, typer.Option("--gti", help="Also write an index of the tiles for GDAL's GTI driver.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the cube as tiles again. What is there from the same pixels stays."""
    with guard(debug):
        from cubeingest.export import export as run

        cube = which.open()
        selection = tasks.read(ctx, cube)
        with show_progress("export") as show:
            report = run(
                cube.store, selection, hands.options(), output, tile=_tile(ctx, tile), name=name, format=format, gti=gti,
                on_progress=show,
            )  # fmt: skip
        if json:
            print_json(report.to_json())
        _say_export(report, to_out=not json)
        raise typer.Exit(report.exit_code)


def _tile(ctx: typer.Context, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    y, comma, x = text.replace(" ", "").partition(",")
    if not comma or not y.isdecimal() or not x.isdecimal():
        refuse_usage(ctx, f"--tile {text}: write rows and columns, such as 1000,1000")
    return int(y), int(x)


def _say_export(report: Any, to_out: bool) -> None:
    for failure in report.failed[:FAILURES_SHOWN]:
        more = f" and {len(failure['files']) - 1} others" if len(failure["files"]) > 1 else ""
        say(f"failed: {failure['files'][0]}{more}: {failure['error']}", "red")
    if len(report.failed) > FAILURES_SHOWN:
        say(f"... and {len(report.failed) - FAILURES_SHOWN} more (--json has them all)", "red")
    if report.signum is not None:
        say(
            f"interrupted: {counted(report.unfinished, 'file is', 'files are')} left; the same command goes on",
            "yellow",
        )
    if not to_out:
        return
    out = out_console()
    failed = sum(len(f["files"]) for f in report.failed)
    counts = [
        (report.written, "written"),
        (report.current, "there already"),
        (report.blank, "blank"),
        (failed, "failed"),
    ]
    line = ", ".join(f"{n} {what}" for n, what in counts if n or what == "written")
    out.print(
        f"{line} of {counted(report.planned, 'file')} in {report.output}; {format_bytes(report.bytes)} in {report.seconds:.1f} s"
    )
    nothing = [(report.empty, "empty"), (report.pending, "pending"), (report.absent, "absent")]
    if any(n for n, _ in nothing):
        out.print(f"left out, since the cube has nothing there: {', '.join(f'{n} {what}' for n, what in nothing if n)}")
    if report.removed:
        out.print(
            f"{counted(report.removed, 'file was', 'files were')} taken away, since the cube has nothing there any more"
        )
    if report.mosaics:
        out.print(f"mosaics: {', '.join(report.mosaics[:6])}{', ...' if len(report.mosaics) > 6 else ''}")


@app.command(
    selecting=True,
    examples=(
        "cubeingest rechunk lclu --chunks year=-1,y=250,x=250 --to series.icechunk   # for series of pixels",
        "cubeingest rechunk lclu --chunks year=-1 --to s3://bucket/series --workers 8",
    ),
)
def rechunk(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="VARIABLE", help="The variable to copy.", autocompletion=complete_variable)
    ],
    chunks: Annotated[
        str,
        typer.Option(
            "--chunks", metavar="DIM=N,…", help="Lengths of chunks; -1: all of a dimension. Others stay as they are."
        ),
    ],
    to: Annotated[str, typer.Option("--to", metavar="STORE", help="Where the copy goes: a store of its own.")],
    which: Which,
    area: Area,
    hands: Hands,
    limit: LimitOption = None,
    part: PartOption = None,
    mode: ModeOption = "cooperative",
    redo: RedoOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Copy a variable with other chunks, into a cube of its own."""
    with guard(debug):
        from cubeingest.rechunk import rechunk as run

        lengths = _chunks(ctx, chunks)
        cube = which.open()
        selection = area.read(ctx, cube, limit, part)
        with show_progress("rechunk") as show:
            report = run(cube.store, name, lengths, to, selection, hands.options(redo=redo, mode=mode), show)
        if json:
            print_json(report.to_json())
        sizes = " x ".join(map(str, report.region.values()))
        chunked = ", ".join(f"{d} {n}" for d, n in report.chunks.items())
        say(
            f"copy at {report.ingest.store}: chunks {chunked}; regions of {sizes} pixels, {format_bytes(report.memory)} a worker"
        )
        if report.waiting:
            say(
                f"{counted(report.waiting, 'slot of the copy waits', 'slots of the copy wait')} for what is pending in the cube; the same command goes on",
                "yellow",
            )
        say_ingest(report.ingest, to_out=not json, in_part=part is not None)
        raise typer.Exit(report.exit_code)


def _chunks(ctx: typer.Context, text: str) -> dict[str, int]:
    out: dict[str, int] = {}
    for item in text.replace(" ", "").split(","):
        dim, equals, number = item.partition("=")
        if not dim or not equals or not number.removeprefix("-").isdecimal():
            refuse_usage(ctx, f"--chunks {text}: write lengths by dimension, such as year=-1,y=250,x=250")
        if dim in out:
            refuse_usage(ctx, f"--chunks {text}: {dim} is there twice")
        out[dim] = int(number)
    return out
