"""Draw what the pages on concepts and specs show: ``python docs/make_images.py [NAME ...]``, into docs/images.

Each drawing stands on a light ground of its own, so that it is legible on light and dark pages. (Pictures of cubes are by the
scripts beside this one, those of measurements by `benchmarks`.)
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

import cubeingest as ci
from cubeingest.spec import builtin_specs

IMAGES = Path(__file__).parent / "images"

GROUND, INK, PALE, LINE = "#fbfaf6", "#22302f", "#5b6b69", "#b9c4c1"
TEAL, SAND, BLUE, ROSE = "#1f7a6d", "#e8dcbf", "#cfe0ec", "#b4473a"
STATES = {"done": TEAL, "empty": "#a9d3c8", "pending": "#e2a93b", "absent": "#e4e4de"}
"""Colours, as dark on light."""

mpl.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": 11,
        "text.color": INK,
        "svg.hashsalt": "cubeingest",
        "svg.fonttype": "path",
    }
)


# ---- tools ----------------------------------------------------------------------------------------------------


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many tenths of an inch, whose axes have tenths of an inch for coordinates, y upwards."""
    figure = plt.figure(figsize=(width / 10, height / 10), facecolor=GROUND)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def box(axes: Axes, x: float, y: float, w: float, h: float, text: str = "", fill: str = "white", **more: Any) -> None:
    """A rounded box from its lower left corner, with text in its middle."""
    ink = more.pop("ink", INK)
    size = more.pop("size", 11)
    style = {"linewidth": 1.2, "edgecolor": PALE, **more}
    axes.add_patch(
        FancyBboxPatch(
            (x + 0.6, y + 0.6), w - 1.2, h - 1.2, boxstyle="round,pad=0.6,rounding_size=1", facecolor=fill, **style
        )
    )
    if text:
        axes.text(x + w / 2, y + h / 2, text, ha="center", va="center", color=ink, fontsize=size, linespacing=1.35)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK, **more: Any) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 12, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0, **more}
    axes.add_patch(FancyArrowPatch(start, end, color=colour, **style))


def cells(axes: Axes, x: float, y: float, side: float, colours: list[list[str]], line: float = 0.5) -> None:
    """Squares in rows from the top, whose upper left corner is (x, y)."""
    rows, columns = len(colours), len(colours[0])
    ground = max({c for row in colours for c in row}, key=lambda c: sum(row.count(c) for row in colours))
    axes.add_patch(Rectangle((x, y - rows * side), columns * side, rows * side, facecolor=ground, edgecolor="none"))
    for i, row in enumerate(colours):
        for j, colour in enumerate(row):
            if colour != ground:
                axes.add_patch(
                    Rectangle((x + j * side, y - (i + 1) * side), side, side, facecolor=colour, edgecolor="none")
                )
    lines = [((x + j * side, y), (x + j * side, y - rows * side)) for j in range(columns + 1)]
    lines += [((x, y - i * side), (x + columns * side, y - i * side)) for i in range(rows + 1)]
    axes.add_collection(LineCollection(lines, colors=LINE, linewidths=line))


def squares(rows: int, columns: int, colour: str, one: tuple[int, int] | None = None) -> list[list[str]]:
    """Colours of :func:`cells`, all alike but for ``one``."""
    return [[ROSE if (i, j) == one else colour for j in range(columns)] for i in range(rows)]


def frame(axes: Axes, x: float, y: float, w: float, h: float, colour: str = ROSE) -> None:
    axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=2))


def note(axes: Axes, x: float, y: float, text: str, **more: Any) -> None:
    axes.text(x, y, text, **{"fontsize": 10, "color": PALE, "va": "top", "linespacing": 1.4, **more})


def title(axes: Axes, x: float, y: float, text: str, **more: Any) -> None:
    axes.text(x, y, text, **{"fontsize": 12, "fontweight": "bold", "va": "baseline", **more})


# ---- drawings -------------------------------------------------------------------------------------------------


def draw_grid() -> Figure:
    """From the whole grid of GLAD to a region, to a chunk."""
    figure, axes = canvas(92, 38)
    title(axes, 3, 33.5, "grid")
    cells(axes, 3, 32, 1.05, squares(14, 36, BLUE, (1, 0)))
    axes.plot([3], [32], "o", color=INK, markersize=5, clip_on=False)
    note(
        axes,
        3,
        16.4,
        "origin (dot): x -180, y 80\nresolution: x 1/4000, y -1/4000\nshape: 560,000 rows, 1,440,000 columns\n14 x 36 regions of 40,000 x 40,000 pixels",
    )
    title(axes, 49, 33.5, "region 70N_180W")
    cells(axes, 49, 32, 0.37, squares(40, 40, SAND, (5, 28)), 0.3)
    note(axes, 49, 16.4, "year 0:1\ny 40000:80000\nx 0:40000\n40 x 40 chunks")
    title(axes, 73, 33.5, "chunk")
    cells(axes, 73, 32, 1.48, squares(10, 10, "white"))
    note(axes, 73, 16.4, "1,000 x 1,000 pixels,\ncompressed, one object\nin the store (of shards:\na part of one)")
    arrow(axes, (41.4, 24.6), (48, 24.6), PALE)
    arrow(axes, (64.6, 24.6), (72, 24.6), PALE)
    return figure


def draw_region() -> Figure:
    """Regions, axis blocks and variables make slots; all variables of a place make a task."""
    figure, axes = canvas(92, 42)
    names = ("y0_x0", "y0_x1", "y0_x2", "y1_x0")
    years = (2000, 2005, 2010)
    left, top, w, h = 14, 31.5, 10.5, 8
    title(axes, 3, 37.5, "slots and tasks")
    for i, name in enumerate(names):
        axes.text(left + i * w + w / 2 - 0.5, top + 1.2, name, ha="center", fontsize=10, family="DejaVu Sans Mono")
    for j, year in enumerate(years):
        axes.text(left - 1.5, top - j * h - h / 2 + 0.4, f"year {year}", ha="right", va="center", fontsize=10)
        for i in range(len(names)):
            x, y = left + i * w, top - (j + 1) * h + 0.8
            box(axes, x, y, w - 1, h / 2 - 0.6, "cover", BLUE, linewidth=0.6, size=9)
            box(axes, x, y + h / 2 - 0.4, w - 1, h / 2 - 0.6, "height", SAND, linewidth=0.6, size=9)
    frame(axes, left + w - 0.5, top - 2 * h + 0.3, w, h - 0.4)
    note(
        axes,
        14,
        6.2,
        "each coloured box is a slot: one region, one axis block, one variable. 4 x 3 x 2 = 24 slots, 12 tasks",
        color=INK,
    )
    note(
        axes,
        62,
        32,
        "a task (framed) fills the slots of all\nvariables of one region at one axis\nblock. It is the unit of work.",
        color=INK,
    )
    note(
        axes,
        62,
        23.5,
        "two tasks never share a chunk:\nchunks, or shards, divide the region.\nSo workers need not speak with\neach other.",
        color=INK,
    )
    note(
        axes,
        62,
        13,
        "a slot is what the ledger records,\nwhat status counts, and what fails,\nis skipped or done again alone.",
        color=INK,
    )
    return figure


def draw_ledger() -> Figure:
    """One commit holds pixels and records; the states that status counts."""
    figure, axes = canvas(92, 42)
    title(axes, 3, 37.5, "one commit")
    box(axes, 3, 5, 42, 30, "", "white")
    box(axes, 5, 20.5, 38, 12.5, "", BLUE, linewidth=0.6)
    axes.text(7, 30.3, "pixels: chunks of the region", fontsize=10, va="center")
    cells(axes, 7, 28.6, 1.7, [[TEAL] * 6 + ["white"] * 3] * 4)
    note(axes, 24, 27.6, "what holds nothing but\nfill value is not stored", fontsize=9)
    box(axes, 5, 7, 38, 12.5, "", SAND, linewidth=0.6)
    axes.text(7, 17, "record of the slot", fontsize=10, va="center")
    note(axes, 7, 15.3, 'state      done\nsources    href, size, ETag or time\nchecksum   xxh3-64 of the pixels\nreading    band, nodata, ...\nrun, time', family="DejaVu Sans Mono", fontsize=8, color=INK, linespacing=1.3)  # fmt: skip
    title(axes, 52, 37.5, "what status counts")
    rows = ("done done empty absent", "done done pending absent", "done empty pending pending")
    cells(axes, 52, 35, 4.6, [[STATES[state] for state in row.split()] for row in rows], 1)
    words = {
        "done": "there is a record", "empty": "there is, and it holds nothing but fill value",
        "pending": "the catalog has a tile, the cube lacks it", "absent": "the catalog has no tile for it",
    }  # fmt: skip
    for i, (state, text) in enumerate(words.items()):
        y = 16.6 - 3.4 * i
        axes.add_patch(Rectangle((52, y - 0.9), 2, 2, facecolor=STATES[state], edgecolor=LINE))
        axes.text(55.2, y, state, va="center", fontsize=10, fontweight="bold")
        axes.text(62.5, y, text, va="center", fontsize=9, color=PALE)
    return figure


def lane(axes: Axes, y: float, label: str, x: float = 14, end: float = 88) -> None:
    axes.plot([x, end], [y, y], color=LINE, linewidth=1, zorder=0)
    axes.text(x - 1.2, y, label, ha="right", va="center", fontsize=10)


def dot(axes: Axes, x: float, y: float, colour: str = TEAL, size: float = 9) -> None:
    axes.plot([x], [y], "o", color=colour, markersize=size, zorder=3)


def draw_modes() -> Figure:
    """Who commits when, in both modes."""
    figure, axes = canvas(92, 60)
    title(axes, 3, 56, "cooperative")
    note(axes, 18, 57.2, "workers write into forks; the coordinator merges them and commits once")
    lane(axes, 49, "main")
    lane(axes, 44, "coordinator")
    for i in range(3):
        lane(axes, 39.5 - 4 * i, f"worker {i + 1}")
        box(
            axes,
            26,
            38 - 4 * i,
            (24, 31, 19)[i],
            3,
            "region" + (", bad tile" if i == 2 else ""),
            (BLUE, BLUE, "#f0cfc9")[i],
            linewidth=0.6,
            size=9,
        )
    dot(axes, 17, 49)
    box(axes, 19, 42.3, 7, 3.4, "fork", SAND, linewidth=0.6, size=9)
    box(axes, 60, 42.3, 16, 3.4, "merge, commit", SAND, linewidth=0.6, size=9)
    arrow(axes, (52, 39.5), (60, 42.8), PALE)
    arrow(axes, (57.5, 35.5), (62, 42.4), PALE)
    axes.text(46, 31.6, "its fork is dropped", va="center", fontsize=9, color=ROSE, backgroundcolor=GROUND)
    arrow(axes, (76.5, 45), (80, 48.4), TEAL)
    dot(axes, 81, 49)
    note(axes, 82.5, 52.5, "all of it", fontsize=9)
    axes.plot([3, 89], [27.5, 27.5], color=LINE, linewidth=0.8)
    title(axes, 3, 23, "independent")
    note(axes, 18, 24.2, "each worker commits what it has finished; there is nobody to lose")
    lane(axes, 16, "main")
    dot(axes, 17, 16)
    ends = ((34, 54, 78), (42, 68), (29, 48, 62, 84))
    for i, stops in enumerate(ends):
        y = 11.5 - 4 * i
        lane(axes, y, f"worker {i + 1}")
        start = 19.0
        for stop in stops:
            box(axes, start, y - 1.5, stop - start - 0.6, 3, "region", BLUE, linewidth=0.6, size=9)
            dot(axes, stop, 16, size=7)
            axes.plot([stop, stop], [y, 15.4], color=TEAL, linewidth=0.9, zorder=0.5)
            start = stop + 0.6
    return figure


def draw_commits() -> Figure:
    """Main, a branch, a tag, publish."""
    figure, axes = canvas(92, 40)
    title(axes, 3, 35.5, "commits")
    lane(axes, 24, "main", end=88)
    xs = (18, 32, 46, 78)
    for x, text, shift in zip(xs, ("init", "ingest 2000", "ingest 2005", ""), (0, 0, -3.2, 0), strict=True):
        dot(axes, x, 24, size=11)
        axes.text(x + shift, 21.4, text, ha="center", va="top", fontsize=9)
    box(axes, 41, 28.5, 10, 4, "tag v1.0", SAND, linewidth=0.8, size=10)
    arrow(axes, (46, 28.4), (46, 25.4), PALE)
    note(axes, 52, 32.6, "a name for a snapshot, for good:\n--at v1.0 reads the cube as it was", fontsize=9)
    axes.text(12.8, 12, "staging", ha="right", va="center", fontsize=10)
    axes.plot([46, 51, 70], [24, 12, 12], color=LINE, linewidth=1, zorder=0)
    for x in (54, 62, 70):
        dot(axes, x, 12, BLUE if x < 70 else TEAL, 11)
        axes.plot([x], [12], "o", color=TEAL, markersize=11, fillstyle="none", zorder=4)
    axes.text(62, 9.4, "ingest --branch staging", ha="center", va="top", fontsize=9)
    arrow(axes, (71, 13), (77.2, 22.9), TEAL, linestyle="-", linewidth=1.8)
    note(axes, 76.5, 18.5, "publish: verified, then\nmain moves to the\nvery same snapshot", fontsize=9, color=INK)
    note(
        axes,
        14,
        5.2,
        "Readers of main see the dots on its line, one after the other, and nothing in between.",
        color=INK,
    )
    return figure


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "concept-grid": draw_grid,
    "concept-region": draw_region,
    "concept-ledger": draw_ledger,
    "concept-modes": draw_modes,
    "concept-commits": draw_commits,
}


WITHIN = {"atl06": (-75, 58, -10, 84)}
"""Boxes of which the picture of a spec is, where one of its whole grid would show no regions."""


def draw_spec(name: str) -> Figure:
    """The regions of a spec that comes with the package."""
    selection = {"bbox": WITHIN[name]} if name in WITHIN else {}
    axes: Axes = ci.show_grid(ci.read_spec(name), **selection)
    return axes.figure  # type: ignore[return-value]


def save_small(figure: Figure, path: Path) -> None:
    """As a PNG of 32 colours, which such drawings do not need more of."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    Image.open(buffer).convert("RGB").quantize(32).save(path, optimize=True)


def main(names: Iterable[str]) -> None:
    os.environ["SOURCE_DATE_EPOCH"] = "0"  # no date in the files: the same drawing is the same file
    wanted = list(names) or [*DRAWINGS, *(f"grid-{name}" for name in builtin_specs())]
    for name in wanted:
        if name in DRAWINGS:
            figure = DRAWINGS[name]()
            figure.savefig(IMAGES / f"{name}.svg", facecolor=GROUND)
        else:
            figure = draw_spec(name.removeprefix("grid-"))
            save_small(figure, IMAGES / f"{name}.png")
        plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
