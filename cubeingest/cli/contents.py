"""Commands that tell what is stored, and what a read of it would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubeingest.cli.app import app, refuse_usage
from cubeingest.cli.options import (
    DebugOption,
    JsonOption,
    Slots,
    VariableOption,
    Which,
)
from cubeingest.cli.output import format_bytes, guard, out_console, print_json
from cubeingest.cli.tables import format_seconds
from cubeingest.errors import StoreError, nearest
from cubeingest.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cubeingest.contents import Amount, VariableContents
    from cubeingest.cost import Cost, Link, VariableCost
    from cubeingest.cube import Cube

ROWS_SHOWN = 24
"""Values of one axis that are printed; --json has them all."""

BAR = 30
"""Letters of the longest bar of a histogram."""

COST_HELP = """Tell what a read would take: chunks, requests, bytes and time. Reads the chunk index only, and the indexes of shards.

QUERY is one of

\b
  pixel LON LAT             a series: one pixel at all values of the axes
  map year=2000             a whole map at one value of each axis
  region W S E N            all pixels in a box of longitudes and latitudes
  region ID                 all pixels of one region
  scan                      everything
  year=2000 y=0:4000 x=0:9  any slice: pixels y 0 to 3999, x 0 to 8

each but `map` at all values of the axes, or with year=2000, year=2000,2005 or year=2000..2010 at those. Between terms is a blank or a comma.
"""


@app.command(selecting=True, examples=("cubeingest chunks", "cubeingest chunks --year 2000 --variable lclu --json"))
def chunks(
    ctx: typer.Context,
    which: Which,
    slots: Slots,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell what is stored: chunks, their bytes and sizes. Reads the chunk index only."""
    with guard(debug):
        from cubeingest.contents import read_contents

        cube = which.open()
        contents = read_contents(cube.store, slots.read(ctx, cube))
        _refuse_empty(cube)
        if json:
            print_json(contents.to_json())
            return
        for n, found in enumerate(contents.variables):
            if n:
                out_console().print()
            _print_contents(found)


@app.command(
    context_settings={"ignore_unknown_options": True},
    help=COST_HELP,
    examples=(
        "cubeingest cost pixel -60.5 -3.2",
        "cubeingest cost map year=2000 --latency 30 --bandwidth 200",
        "cubeingest cost region -61 -4 -60 -3 year=2000..2010 --compare year=5,y=400,x=400",
    ),
)
def cost(
    ctx: typer.Context,
    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="What would be read.", show_default=False)],
    which: Which,
    variable: VariableOption = None,
    latency: Annotated[
        float, typer.Option("--latency", metavar="MS", help="Milliseconds until a request is answered.")
    ] = 50.0,
    bandwidth: Annotated[
        float, typer.Option("--bandwidth", metavar="MB/s", help="Megabytes that come in a second, over all requests.")
    ] = 100.0,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", help="Requests at a time; Zarr's async.concurrency is 10.")
    ] = 10,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            metavar="CHUNKS",
            help="The same with other chunks: year=1,y=2000,x=2000; repeatable. An estimate.",
        ),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    with guard(debug):
        from cubeingest.cost import Link, read_cost

        cube = which.open()
        _check_words(ctx, query, [a.name for a in cube.grid.axes])
        link = Link(latency, bandwidth, concurrency)
        found = read_cost(cube.store, " ".join(query), link, compare or (), variable or ())
        _refuse_empty(cube)
        if json:
            print_json(found.to_json())
            return
        _print_cost(found)


def _refuse_empty(cube: Cube) -> None:
    """Of a cube that nobody has filled yet there is nothing to tell, and nothing that a read would tell later."""
    from cubeingest.contents import manifests_of

    store = cube.store
    with store.asking():
        if not any(manifests_of(store.repo, store.tip, v.name).count for v in cube.spec.variables):
            raise StoreError("the cube holds no chunks yet: `cubeingest ingest` fills it")


def _check_words(ctx: typer.Context, words: Iterable[str], axes: list[str]) -> None:
    """Options that typer does not know are left among the words, beside negative numbers."""
    for word in words:
        if not word.startswith("-") or word[1:2].isdigit() or word[1:2] == ".":
            continue
        name = word.lstrip("-").partition("=")[0]
        if name in axes:
            refuse_usage(ctx, f"no such option: {word}; values of an axis are part of the query: {name}=VALUE")
        options = [o.removeprefix("--") for p in ctx.command.params for o in p.opts if o.startswith("--")]
        refuse_usage(
            ctx, f"no such option: {word}{nearest(name, options).replace(chr(39), '--', 1).replace(chr(39), '')}"
        )


# ---- chunks ---------------------------------------------------------------------------------------------------


def _print_contents(v: VariableContents) -> None:
    from rich.table import Table

    out = out_console()
    a, of = v.amount, v.kind + "s"
    shape = _shape(v.dims, v.piece)
    inner = f" of chunks {_shape(v.dims, v.chunks)}" if v.kind == "shard" else ""
    out.print(f"{v.name}  {v.dtype}, {of} {shape}{inner}", style="bold", markup=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column()
    table.add_row("present", f"{a.present:,} of {a.total:,} {of}{_share(a.present, a.total)}")
    if not a.present:
        out.print(table)
        return
    table.add_row("stored", f"{format_bytes(a.stored)} for {format_bytes(a.raw)} of pixels{_ratio(a)}")
    table.add_row(
        "sizes",
        f"smallest {format_bytes(v.smallest or 0)}, median {format_bytes(v.median or 0)}, largest {format_bytes(v.largest or 0)}",
    )
    table.add_row("kept", ", ".join(f"{n:,} {KEPT[kind]}" for kind, n in v.kinds.items() if n))
    table.add_row("one value", _constant(v))
    m = v.manifests
    table.add_row(
        "manifests",
        f"{m.count:,} of {format_bytes(m.bytes)}, the largest {format_bytes(m.largest)} (of the whole variable)",
    )
    out.print(table)
    _print_histogram(v.histogram)
    for axis, rows in v.by.items():
        _print_rows(axis, of, rows)


KEPT = {"native": "files of their own", "virtual": "references to tiles", "inline": "within the manifests"}
"""What Icechunk calls it, in words."""


def _constant(v: VariableContents) -> str:
    """How many chunks are of one value, and how that was told."""
    c, n = v.constant, v.amount.present
    if c.count is None:
        return f"not told: {c.why_not}"
    found = f"{counted(c.count, 'chunk')}{_share(c.count, n)} {'holds' if c.count == 1 else 'hold'} one value only"
    told = f"{c.candidates:,} of no more than {c.at_most} B could, "
    if c.is_exact:
        return (
            f"{found}: {told}and all of these were read"
            if c.candidates
            else f"no chunk: none has no more than {c.at_most} B"
        )
    return f"about {found}: {told}and {c.read:,} of these were read"


def _print_histogram(histogram: Mapping[int, int]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column()
    most = max(histogram.values())
    for size, n in histogram.items():
        table.add_row(f"{_binary(size)} to {_binary(2 * size)}", f"{n:,}", _bar(n / most))
    out_console().print()
    out_console().print(table)


def _bar(share: float) -> str:
    """A bar of blocks; what is there at all has the thinnest one."""
    eighths = max(round(share * BAR * 8), 1) if share else 0
    last: str = ("", *"▏▎▍▌▋▊▉")[eighths % 8]
    return "█" * (eighths // 8) + last


def _print_rows(axis: str, of: str, rows: Mapping[str, Amount]) -> None:
    from rich.table import Table

    table = Table(
        axis, "present", "of", "stored", "pixels", "ratio", box=None, header_style="bold", padding=(0, 2, 0, 0)
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for label, a in list(rows.items())[:ROWS_SHOWN]:
        ratio = "" if a.ratio is None else f"{a.ratio:.1f}"
        table.add_row(label, f"{a.present:,}", f"{a.total:,}", format_bytes(a.stored), format_bytes(a.raw), ratio)
    out_console().print()
    out_console().print(table)
    if len(rows) > ROWS_SHOWN:
        out_console().print(f"... and {len(rows) - ROWS_SHOWN} more (--json has them all)")


def _binary(n: int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n} {unit}"
        n //= 1024
    return f"{n} TiB"


def _shape(dims: Iterable[str], sizes: Iterable[int]) -> str:
    return " ".join(f"{dim}={n:,}" for dim, n in zip(dims, sizes, strict=True))


def _share(n: int, total: int) -> str:
    return f" ({100 * n / total:.3g} %)" if total else ""


def _ratio(a: Amount) -> str:
    return "" if a.ratio is None else f": {a.ratio:.3g} times smaller"


# ---- cost -----------------------------------------------------------------------------------------------------


def _print_cost(cost: Cost) -> None:
    out = out_console()
    for n, v in enumerate(cost.variables):
        if n:
            out.print()
        _print_variable_cost(v, cost.link)
    if len(cost.variables) > 1:
        r = cost.reads
        out.print(
            f"\nall {len(cost.variables)} variables, one after another: {r.requests:,} requests, {format_bytes(r.stored)}, {_seconds(cost.seconds)}"
        )


def _print_variable_cost(v: VariableCost, link: Link) -> None:
    from rich.table import Table

    out = out_console()
    out.print(f"{v.variable}  {_shape(v.dims, v.shape)}: {format_bytes(v.asked)} of pixels", style="bold", markup=False)
    columns = [v, *v.compared]
    table = Table(
        "", "as it is", *("estimate" for _ in v.compared), box=None, header_style="bold", padding=(0, 2, 0, 0)
    )
    for column in table.columns[1:]:
        column.justify = "right"
    rows: dict[str, Any] = {
        "chunks of": lambda c: _shape(c.dims, c.chunks),
        "shards of": lambda c: _shape(c.dims, c.shards) if c.shards else "",
        "shards touched": lambda c: f"{c.reads.shards:,}, {c.reads.shards_present:,} there" if c.shards else "",
        "chunks touched": lambda c: f"{c.reads.chunks:,}",
        "there": lambda c: _about(c, f"{c.reads.present:,}"),
        "requests": lambda c: _about(c, f"{c.reads.requests:,}"),
        "bytes": lambda c: _about(c, format_bytes(c.reads.stored)),
        "become": lambda c: _about(c, format_bytes(c.reads.decoded)),
        "for each byte asked": lambda c: _about(c, _factor(c.amplification)),
        "time": lambda c: f"about {_seconds(c.seconds)}",
    }
    for title, cell in rows.items():
        cells = [cell(c) for c in columns]
        if any(cells):
            table.add_row(title, *cells)
    out.print(table)
    m = v.manifests
    inline = f"; {format_bytes(v.reads.inline)} lie in the manifests" if v.reads.inline else ""
    files = f"{counted(m.count, 'manifest')} of {format_bytes(m.bytes)}"
    first = f"The first read also takes {files}, about {_seconds(v.first_seconds)}{inline}." if m.count else ""
    at = f"Time is for {link.latency_ms:g} ms a request, {link.bandwidth:g} MB/s, {link.concurrency} requests at a time; decoding is not in it."
    out.print(f"{at} {first}".rstrip(), style="dim")
    if v.advice:
        out.print(f"advice: {v.advice}", style="yellow", markup=False)


def _about(c: VariableCost, text: str) -> str:
    """Of a variable in so many shards that only some were looked into."""
    return text if c.reads.is_exact or not c.shards else f"about {text}"


def _factor(n: float) -> str:
    return f"{n:,.0f}" if n >= 10 else f"{n:.2f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else format_seconds(seconds)
