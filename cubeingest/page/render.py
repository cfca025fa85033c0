"""A page's data as one HTML file, and the file on disk."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path

from cubeingest.errors import GridError
from cubeingest.files import write_file
from cubeingest.look import percent_of
from cubeingest.page.data import FRESH, MAX_FAILURES, SHOWN, PageData, Run, shorten
from cubeingest.sketch import STATE_COLOURS
from cubeingest.spec import CubeSpec
from cubeingest.wording import counted

SCRIPTS = ("data.js", "{grid}.js", "decode.js", "state.js", "map.js", "pointer.js", "panel.js", "history.js", "page.js")
"""In the order in which they are put together to one; ``lattice.js`` or ``cells.js`` knows where regions lie, by the kind of grid."""

REFRESH = '<noscript><meta http-equiv="refresh" content="10"></noscript>'
"""Lets a browser without scripts read the page of a run again; ``page.js`` does so for the others."""

MAX_ROWS = 60
"""Values of an axis that have a row of their own in the table of counts."""


def render(data: PageData) -> str:
    """The page: one self-contained HTML text, which fetches nothing.

    Whatever the cube holds is escaped: in the HTML as HTML, in the data for the script as JSON without ``<``; the script puts it into the
    page as text only, and a policy in the page lets no other script run.
    """
    from cubeingest import __version__

    script = _script("lattice" if data.spec.healpix is None else "cells")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    fields = {
        "title": escape(f"{data.spec.name}: {_headline(data)}"),
        "policy": f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
        "style": _colours() + _asset("page.css"),
        "name": escape(data.spec.name),
        "lead": escape(_headline(data)),
        "facts": _facts(data),
        "run": "" if data.run is None else _run_section(data.run),
        "counts": _counts(data),
        "failures": _failures(data),
        "notes": "".join(f'<p class="note">{_marked(note)}</p>' for note in data.notes),
        "refresh": REFRESH if data.run is not None and not data.run.outcome else "",
        "version": escape(__version__),
        "data": to_script(data.to_json()),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda m: fields[m[1]], _asset("page.html"))


def to_script(value: object) -> str:
    """JSON that may stand in a script element: nothing in it can end that, nor begin a comment. ASCII only.

    Raises :class:`ValueError` for numbers that are none, which no script could read.
    """
    return json.dumps(value, separators=(",", ":"), default=str, allow_nan=False).replace("<", "\\u003c")


def check_place(path: str | os.PathLike[str]) -> Path:
    """The path of a page that can be written. Raises :class:`GridError` for a folder or device, or one in a folder that is not there."""
    place = Path(path)
    if place.is_dir():
        raise GridError(
            f"cannot write the page to {str(place)!r}, which is a folder: name a file, such as {str(place / 'report.html')!r}"
        )
    if place.exists() and not place.is_file():
        raise GridError(f"cannot write the page to {str(place)!r}, which is no file: name one, such as 'report.html'")
    if not place.parent.is_dir():
        raise GridError(f"cannot write the page to {str(place)!r}: there is no folder {str(place.parent)!r}")
    return place


def write_page(text: str, path: Path, is_wanted: Callable[[], bool] = lambda: True) -> None:
    """Put a page into its place, as :func:`write_file` does; what was there before stays if it is not wanted any more. Raises :class:`OSError`."""
    write_file(path, text.encode("utf-8", "xmlcharrefreplace"), is_wanted)


def _asset(name: str) -> str:
    return (files("cubeingest.page") / name).read_text(encoding="utf-8")


def _script(grid: str) -> str:
    return '"use strict";\n(() => {\n' + "\n".join(_asset(name.format(grid=grid)) for name in SCRIPTS) + "})();\n"


def _colours() -> str:
    """The colours of states, which are those of all pictures; ``page.css`` has the others, and those for the dark."""
    return ":root{" + "".join(f"--{name}:{colour};" for name, colour in STATE_COLOURS.items()) + "}"


def _headline(data: PageData) -> str:
    counts = data.counts()
    total = sum(counts.values())
    filled, fresh = counts["done"] + counts["empty"], counts.get(FRESH, 0)
    if not total:
        return "no slots"
    wanted = total - counts["absent"]
    if not wanted:
        return "no tiles are known yet"
    share = "all" if filled == wanted else percent_of(filled, wanted)
    text = (
        f"{share} of {counted(wanted, 'slot')} filled" if filled else f"nothing of {counted(wanted, 'slot')} filled yet"
    )
    return text + (f", and {fresh:,} {_shown(FRESH)}" if fresh else "")


def _marked(note: str) -> str:
    """HTML of a note; what stands between backticks is code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(note))


def _facts(data: PageData) -> str:
    spec = data.spec
    pairs = {
        "store": data.store,
        "snapshot": data.snapshot + ("" if data.branch == "main" else f" on branch {data.branch}"),
        "grid": _grid(spec),
        "variables": ", ".join(f"{v.variable.name} ({v.variable.dtype})" for v in data.variables),
        **({"overviews": _overviews(data)} if data.levels else {}),
        "written": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    }
    return "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs.items())


def _grid(spec: CubeSpec) -> str:
    cells = spec.healpix
    regions = counted(spec.grid.n_regions, "region")
    if cells is not None:
        return f"{counted(cells.spatial_shape[0], 'HEALPix cell')} of order {cells.order} in {regions} of order {cells.region_order}, {cells.ellipsoid}"
    y, x = spec.tiling.shape_yx
    return f"{y:,} by {x:,} pixels in {regions}, {spec.grid.crs if len(spec.grid.crs) < 40 else 'own CRS'}"


def _overviews(data: PageData) -> str:
    n_stale = sum(int(v.stale.sum()) for v in data.variables if v.stale is not None)
    return counted(data.levels, "level") + (f", {counted(n_stale, 'slot')} stale" if n_stale else "")


def _run_section(run: Run) -> str:
    """What the run is at, for a reader without scripts; ``page.js`` says besides how long ago that was."""
    titles = {
        "": "The run is going on", "done": "The run is over", "failed": "The run is over; some slots failed",
        "interrupted": "The run was interrupted", "aborted": "The run was aborted", "broken": "The run broke off",
    }  # fmt: skip
    share = 100 * run.finished / run.planned if run.planned else 100.0
    parts = (
        [f"{run.finished:,} of {counted(run.planned, 'slot')} tried", f"{run.failed:,} failed"]
        if run.planned
        else ["nothing was left to do"]
    )
    parts += [f"{run.skipped:,} were done before"] * bool(run.skipped)
    message = f"<p>{escape(shorten(run.message))}</p>" if run.message else ""
    return (
        f'<section class="run {run.outcome or "going"}" id="run"><h2>{titles[run.outcome]}</h2>'
        f'<div class="bar" role="progressbar" aria-label="slots tried" aria-valuemin="0" aria-valuemax="{run.planned}" '
        f'aria-valuenow="{run.finished}"><span style="width:{share:.2f}%"></span></div>'
        f'<p id="run-counts">{", ".join(parts)}</p><p id="run-age"></p>{message}</section>'
    )


def _counts(data: PageData) -> str:
    """Tables of slots by state: all, and by axis and label."""
    total = data.counts()
    names = [name for name in SHOWN if name in total]
    head = "".join(f'<th scope="col" class="number"><i class="key {n}"></i>{_shown(n)}</th>' for n in names)
    top = f'<thead><tr><th scope="col"></th><th scope="col" class="share"></th>{head}<th scope="col" class="number">total</th></tr></thead>'
    out = [f'<table class="counts">{top}<tbody>{_count_row("all", total, names)}</tbody>']
    for axis, rows in data.counts_by().items():
        shown = list(rows.items())
        body = "".join(_count_row(label, counts, names, axis) for label, counts in shown[:MAX_ROWS])
        if len(shown) > MAX_ROWS:
            body += f'<tr><td colspan="{len(names) + 3}">and {len(shown) - MAX_ROWS:,} more</td></tr>'
        out.append(
            f'<tbody><tr class="axis"><th scope="rowgroup" colspan="{len(names) + 3}">{escape(axis)}</th></tr>{body}</tbody>'
        )
    return "".join(out) + "</table>"


def _shown(state: str) -> str:
    return "not committed" if state == FRESH else state


def _count_row(label: str, counts: Mapping[str, int], names: list[str], axis: str = "") -> str:
    total = sum(counts.values())
    bars = "".join(
        f'<span class="{n}" style="width:{100 * counts.get(n, 0) / total:.2f}%"></span>'
        for n in names
        if total and counts.get(n)
    )
    cells = "".join(f'<td class="number">{counts.get(n, 0):,}</td>' for n in names)
    where = f' data-axis="{escape(axis)}" data-label="{escape(label)}"' if axis else ""
    return (
        f'<tr{where}><th scope="row">{escape(label)}</th><td class="share"><div class="bars" aria-hidden="true">{bars}</div></td>'
        f'{cells}<td class="number">{total:,}</td></tr>'
    )


def _failures(data: PageData) -> str:
    if not data.failures:
        return ""
    rows = "".join(
        f'<tr data-region="{escape(f.region or "")}"><th scope="row">{escape(f.region or "no region")}</th>'
        f"<td>{escape(' '.join(f.axes.values()))}</td><td>{escape(f.variable)}</td>"
        f'<td class="message">{escape(f.error)}<br><span class="href">{escape(f.href)}</span></td></tr>'
        for f in data.listed_failures()
    )
    n = len(data.failures)
    more = f"<p>and {n - MAX_FAILURES:,} more: <code>--json</code> has them all</p>" if n > MAX_FAILURES else ""
    return (
        f'<section id="failures"><h2>Failures of this run <span class="count">{n:,}</span></h2><div class="wide"><table><thead><tr><th scope="col">'
        f'region</th><th scope="col"></th><th scope="col">variable</th><th scope="col">what went wrong</th></tr></thead><tbody>{rows}</tbody></table></div>{more}</section>'
    )
