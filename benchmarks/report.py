"""Tables and pictures of what was measured, and their section of docs/performance.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import describe
from benchmarks.tiles import Input
from benchmarks.ways import WAYS

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "performance.md"
COLOURS = {
    "floor": "#8c96a3", "ours": "#e4572e", "notebook": "#2e86ab", "notebook-lazy": "#62b6cb", "notebook-lazy-1": "#9bd1dd", "ocr": "#5b8e7d", "gdal": "#a1c181",
    "gdal-parallel": "#b08bbb", "rioxarray": "#d4a5a5", "odc": "#c9b458", "windows": "#8c96a3",
}  # fmt: skip
INK = {"light": "#24292f", "dark": "#e6edf3"}

Result = dict[str, Any]


def ratio(result: Result, way: str, base: str) -> float | None:
    """How fast ``way`` is, where ``base`` is 1; None if either has not run."""
    ways = result["ways"]
    if "seconds" not in ways.get(way, {}) or "seconds" not in ways.get(base, {}):
        return None
    return float(ways[base]["seconds"] / ways[way]["seconds"])


def name_input(name: str) -> str:
    """For people: ``uint8, LZW strips, 70 % ocean``."""
    kind = Input(name)
    layout = {"blocks": "deflate blocks", "strips": "LZW strips", "zstd": "zstd blocks"}[kind.layout]
    return f"{kind.dtype}, {layout}" + (", 70 % ocean" if kind.ocean else "")


def ways_in(found: Result) -> list[str]:
    named = {way for result in found["results"] for way in result["ways"]}
    return [way for way in WAYS if way in named]


def table(found: Result, title: str, ways: Sequence[str], cell: Callable[[Result, str], str]) -> str:
    """Markdown: a line for each input, a column for each way."""
    lines = [f"| {title} | {' | '.join(WAYS[way].title for way in ways)} |", "|---" * (len(ways) + 1) + "|"]
    for result in found["results"]:
        label = result.get("label") or f"{name_input(result['input'])}, {result['side']:,}²"
        lines.append(f"| {label} | {' | '.join(cell(result, way) for way in ways)} |")
    return "\n".join(lines)


def _number(value: float | None, form: str = ".2f") -> str:
    return "—" if value is None else f"{value:{form}}"


def _of(key: str, form: str, per: Callable[[Result], float] = lambda result: 1) -> Callable[[Result, str], str]:
    def cell(result: Result, way: str) -> str:
        value = result["ways"].get(way, {}).get(key)
        return "—" if value is None else f"{value / per(result):{form}}"

    return cell


def local_tables(found: Result, brief: bool = False) -> list[str]:
    """``brief``: without those that the others say already, for a reader."""
    ways = ways_in(found)
    rivals = [way for way in ways if way not in ("ours", "floor")]
    gigapixels = lambda result: result["pixels"] / 1e9  # noqa: E731
    tables = []
    if "floor" in ways:
        tables.append(table(found, "throughput, floor = 1", ways, lambda r, way: _number(ratio(r, way, "floor"))))
    if "ours" in ways and rivals:
        faster = lambda r, way: _number(ratio(r, "ours", way), ".1f")  # noqa: E731
        tables.append(table(found, "cubeingest is so many times as fast as", rivals, faster))
    if not brief or "floor" not in ways:
        tables.append(table(found, "Mpx/s", ways, _rate))
    tables.append(table(found, "seconds of processor time per Gpx", ways, _of("cpu_seconds", ".2f", gigapixels)))
    tables.append(table(found, "peak memory, all processes, MB", ways, _of("memory", ".0f")))
    if not brief:
        tables.append(table(found, "peak memory, largest process, MB", ways, _of("largest", ".0f")))
    if reasons := _reasons(found):
        tables.append(reasons)
    return tables


def _rate(result: Result, way: str) -> str:
    seconds = result["ways"].get(way, {}).get("seconds")
    return "—" if seconds is None else f"{result['pixels'] / 1e6 / seconds:.0f}"


def _reasons(found: Result) -> str:
    lines = [
        f"- {WAYS[way].title}, {name_input(result['input'])}: left out, it {values['refused']}"
        for result in found["results"]
        for way, values in result["ways"].items()
        if "refused" in values
    ]
    return "\n".join(lines)


def remote_tables(found: Result) -> list[str]:
    ways = ways_in(found)
    rivals = [way for way in ways if way != "ours"]
    tables = []
    if "ours" in ways and rivals:
        faster = lambda r, way: _number(ratio(r, "ours", way), ".1f")  # noqa: E731
        tables.append(table(found, "cubeingest is so many times as fast as", rivals, faster))
    tables.append(table(found, "seconds", ways, _of("seconds", ".1f")))
    tables.append(table(found, "requests", ways, _of("requests", ".0f")))
    tables.append(table(found, "MB sent", ways, _of("sent", ".0f", lambda result: 1e6)))
    tables.append(table(found, "peak memory, all processes, MB", ways, _of("memory", ".0f")))
    return tables


def notes(found: Result) -> str:
    """What each way is, and where it does something else than the others."""
    return "\n".join(f"- **{WAYS[way].title}**: {WAYS[way].note}." for way in ways_in(found))


def section(found: Result, command: str, tables: Sequence[str], picture: str, what: str) -> str:
    """Markdown of one suite, under its heading."""
    head = f"`{command}`: medians of {found['runs']} interleaved runs over {found['tiles']} tiles in a row. {describe(found['machine'])}."
    image = (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="images/{picture}-dark.svg">'
        f'<img alt="{what}" src="images/{picture}-light.svg"></picture>'
    )
    return "\n\n".join([head, image, *tables, notes(found)])


def rewrite(name: str, text: str, page: Path = PAGE) -> None:
    """Put ``text`` between the comments ``name`` and ``/name`` of ``page``. Raises ValueError if they are not there."""
    old = page.read_text()
    pattern = re.compile(rf"(<!-- {name}\b[^\n]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
    new, n = pattern.subn(lambda match: f"{match[1]}{text}\n{match[2]}", old)
    if n != 1:
        raise ValueError(f"{page}: {n} places marked {name!r}, expected 1")
    page.write_text(new)


def plot(found: Result, base: str, title: str, path: Path) -> list[Path]:
    """Bars of throughput against ``base``, grouped by input: ``path-light.svg`` and ``path-dark.svg``."""
    files = []
    for theme, ink in INK.items():
        file = path.with_name(f"{path.name}-{theme}.svg")
        _draw(found, base, title, ink, file)
        files.append(file)
    return files


def _draw(found: Result, base: str, title: str, ink: str, file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    ways = [way for way in ways_in(found) if way != "floor"]
    style = {"svg.hashsalt": "cubeingest", "font.family": "sans-serif", "font.size": 9, "text.color": ink, "axes.edgecolor": ink,
             "xtick.color": ink, "ytick.color": ink, "axes.labelcolor": ink}  # fmt: skip
    with mpl.rc_context(style):
        measured = [[way for way in ways if way in result["ways"]] for result in found["results"]]
        figure, axes = plt.subplots(figsize=(8.5, 1.1 + 0.17 * sum(len(m) + 1 for m in measured)), layout="constrained")
        ticks, y = [], 0
        for result, those in zip(found["results"], measured, strict=True):
            ticks.append(y + (len(those) - 1) / 2)
            for way in those:
                value = ratio(result, way, base)
                if value is None:
                    axes.text(0.005, y, "left out", va="center", fontsize=6.5, alpha=0.6)
                else:
                    axes.barh(y, value, 0.85, color=COLOURS[way], label=WAYS[way].title)
                    strong = "bold" if way == "ours" else "normal"
                    axes.text(value, y, f" {value:.2f}", va="center", fontsize=7, fontweight=strong)
                y += 1
            y += 1
        axes.axvline(1, color=ink, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yticks(ticks, [_label(result) for result in found["results"]])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.set_xlim(0, max(1.08, axes.get_xlim()[1] * 1.05))
        axes.grid(axis="x", color=ink, alpha=0.15, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_title(title, loc="left", fontsize=10, pad=10)
        handles, names = _legend(axes, ways)
        figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        figure.savefig(file, transparent=True, metadata={"Date": None})
        plt.close(figure)


def _label(result: Result) -> str:
    label = result.get("label") or f"{name_input(result['input'])}, {result['side']:,}²"
    return str(label).replace(", ", "\n", 1)


def _legend(axes: Any, ways: Sequence[str]) -> tuple[list[Any], list[str]]:
    by_name = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [WAYS[way].title for way in ways if WAYS[way].title in by_name]
    return [by_name[name] for name in names], names
