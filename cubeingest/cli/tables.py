"""Reports as tables for a person."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from cubeingest.cli.output import format_bytes, out_console
from cubeingest.wording import counted

if TYPE_CHECKING:
    from cubeingest.preflight import PlanReport
    from cubeingest.preflight.blocks import BlocksReport

EXAMPLES = 3
"""Findings of one kind that are shown."""

MEANINGS = {
    "none": "nothing was found where tiles should be",
    "misfit": "tiles that would fail",
    "mixed": "tiles that differ from one another",
    "duplicate": "tiles in whose place another comes first",
    "overlap": "tiles that share pixels",
    "gap": "regions that tiles do not cover whole",
}
"""Kinds of problems, worst first."""


def format_seconds(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def describe_blocks(blocks: BlocksReport) -> str:
    """Whether tiles' blocks can be taken as they are."""
    reason, other = blocks.reason, blocks.why_not_virtual
    if not blocks.copyable and not blocks.virtual and reason == other:
        return f"no slot can be filled without decoding: {reason}"
    of = f"{blocks.copyable:,} of {counted(blocks.slots, 'slot')}" if blocks.copyable < blocks.slots else "every slot"
    filled = (
        f"--virtual and --copy-blocks can fill {of}"
        if blocks.virtual == blocks.copyable
        else f"--copy-blocks can fill {of}, --virtual {blocks.virtual}"
    )
    if reason == other:
        return filled + (f"; the first that must be decoded: {reason}" if reason else "")
    return "; ".join(
        [filled, *(f"not {how}: {why}" for how, why in (("copied", reason), ("referred to", other)) if why)]
    )


def print_plan(report: PlanReport) -> None:
    """What an ingest would do as a table, and its problems by kind, each with the first few examples."""
    from rich.table import Table

    out = out_console()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_row(
        "tasks",
        f"{report.tasks:,}, which fill {counted(report.slots, 'slot')} from {counted(report.tiles, 'tile')}; no two share a chunk",
    )
    more = [
        text
        for n, text in (
            (report.skipped, f"{counted(report.skipped, 'slot is', 'slots are')} done"),
            (report.absent, f"{counted(report.absent, 'has', 'have')} no tile"),
            (report.unlisted, f"{counted(report.unlisted, 'is', 'are')} done from what the catalog has no more"),
        )
        if n
    ]
    if more:
        table.add_row("besides", ", ".join(more))
    read = "" if report.bytes_to_read is None else f"{format_bytes(report.bytes_to_read)} of files become "
    table.add_row("bytes", f"{read}{format_bytes(report.bytes)} of pixels, before compression")
    table.add_row("memory", f"about {format_bytes(report.memory_per_worker)} a worker")
    if report.seconds is not None:
        workers = counted(report.workers, "worker")
        table.add_row(
            "time",
            f"about {format_seconds(report.seconds)} with {workers} here, by a sample, besides what the store takes",
        )
    if report.blocks is not None and report.blocks.slots:
        table.add_row("blocks", describe_blocks(report.blocks))
    out.print(table)
    order = list(MEANINGS)
    problems = sorted(report.problems, key=lambda p: order.index(p.kind))
    for kind, group in groupby(problems, key=lambda p: p.kind):
        found = list(group)
        out.print(f"\n{len(found)} {kind}: {MEANINGS[kind]}", style="red" if kind in ("misfit", "none") else "yellow")
        for problem in found[:EXAMPLES]:
            where = f"{problem.region}: " if problem.region else ""
            subject = f"{problem.href!r} " if kind in ("duplicate", "overlap") else ""
            out.print(f"  {where}{subject}{problem.message}", markup=False)
        if len(found) > EXAMPLES:
            out.print(f"  ... and {len(found) - EXAMPLES} more (--json has them all)", markup=False)
    if not problems and report.headers_read and report.tasks:
        out.print("\nevery tile fits, by its header", style="green")
    if not report.headers_read:
        out.print("\nno tile was opened: leave --no-headers out to find what does not fit", markup=False)
