"""Small drawings of a lattice as SVG, for notebooks, and the colours of what may hold in a region. No drawing library is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

import numpy as np

from cubeingest.boxes import Box, parse_crs
from cubeingest.coast import coast_within
from cubeingest.healpix import cells_at

STATE_COLOURS = {"done": "#1f7a6d", "empty": "#a5d5c9", "pending": "#f2a93b", "absent": "#c9ced2", "virtual": "#4a6fb3"}
"""By state of a slot; people who are colour-blind tell them apart, and in grey they are of different lightness."""

PART_STEPS = 8
"""Shades of regions some of whose slots are done, and others pending."""

CHANGE_COLOURS = {"added": "#1f7a6d", "changed": "#f2a93b", "removed": "#b3446c", "reread": "#9db4cf"}
"""By what became of a slot."""

WIDTH, HEIGHT = 460, 300
"""Pixels that a drawing takes at most."""

COAST_PIXELS = 260
"""Pixels along the longer side that its coastlines are detailed for: what keeps it small."""

MOST_LINES = 120
"""Edges of regions along a side that are drawn."""

GLOBE_ROWS, REGION_COLOUR = 90, "#8fbfb4"
"""Rows of a small map of the globe, and the colour of those of its cells whose middle is of a grid's regions."""

TALLEST_ASPECT_AT = 75.0
"""Degrees of latitude beyond which pictures are not stretched further."""

Edges = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def part_colour(share: float) -> str:
    """Of a region of whose slots such a share is done and the rest pending: between the colours of the two."""
    step = (0.5 + min(PART_STEPS - 1, int(share * PART_STEPS))) / PART_STEPS
    ends = [[int(STATE_COLOURS[name][i : i + 2], 16) for i in (1, 3, 5)] for name in ("pending", "done")]
    return "#" + "".join(f"{round(a + (b - a) * (0.1 + 0.75 * step)):02x}" for a, b in zip(*ends, strict=True))


def region_colour(name: str, share: float) -> str:
    """Of a region, by what holds for its slots together: a state, or ``part`` if such a share of them is done."""
    return part_colour(share) if name == "part" else STATE_COLOURS[name]


def aspect_of(bounds: Box, crs: str) -> float:
    """How much longer a unit along y is drawn than one along x: on longitudes and latitudes, as in the middle of the box."""
    if not parse_crs(crs).is_geographic:
        return 1.0
    middle = max(-TALLEST_ASPECT_AT, min(TALLEST_ASPECT_AT, (bounds[1] + bounds[3]) / 2))
    return 1 / math.cos(math.radians(middle))


def draw_lattice(
    edges: Edges, bounds: Box, crs: str, colours: Sequence[Sequence[str | None]] = (), lines: bool = True
) -> str:
    """Regions as SVG with coastlines; ``colours`` are by row and column of regions, None for one that is not to be seen. There may be fewer rows or
    columns: each is then of as many regions as the others, but for one. ``lines`` says whether edges of regions are drawn.

    ``edges`` are the outer edges of rows and of columns (:attr:`TilingGrid.region_edges`).
    """
    left, bottom, right, top = bounds
    ratio = min(4.0, max(0.1, (top - bottom) * aspect_of(bounds, crs) / (right - left)))
    width = min(WIDTH, HEIGHT / ratio)
    height = width * ratio
    x = (edges[1] - left) / (right - left) * width
    y = (top - edges[0]) / (top - bottom) * height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.1f} {height:.1f}">',
        f'<rect width="{width:.1f}" height="{height:.1f}" fill="#eef3f6"/>',
    ]
    rows, columns = len(colours), len(colours[0]) if colours else 0
    ys, xs = (edge[np.arange(n + 1) * (len(edge) - 1) // max(1, n)] for edge, n in ((y, rows), (x, columns)))
    shapes: dict[str, list[str]] = {}
    for row, own in enumerate(colours):
        start = 0
        for colour, run in groupby(own):
            stop = start + len(list(run))
            if colour is not None:
                shapes.setdefault(colour, []).append(
                    f"M{xs[start]:.1f} {ys[row]:.1f}H{xs[stop]:.1f}V{ys[row + 1]:.1f}H{xs[start]:.1f}"
                )
            start = stop
    parts += [
        f'<path d="{"".join(drawn)}" fill="{escape(colour)}" shape-rendering="crispEdges"/>'
        for colour, drawn in shapes.items()
    ]
    if lines:
        parts.append(
            f'<path d="{_edges(x, y, width, height)}" stroke="#5b6770" stroke-opacity=".45" stroke-width=".5" fill="none"/>'
        )
    coast = "".join(
        _line((line[:, 0] - left) / (right - left) * width, (top - line[:, 1]) / (top - bottom) * height)
        for line in coast_within(bounds, crs, COAST_PIXELS)
    )
    parts.append(f'<path d="{coast}" stroke="#22282c" stroke-width=".6" fill="none" stroke-linejoin="round"/></svg>')
    return "".join(parts)


def draw_legend(counts: Mapping[str, int], colours: Mapping[str, str]) -> str:
    """A line of HTML that tells what the colours mean, of those that occur."""
    return " &nbsp; ".join(
        f'<span style="display:inline-block;width:.8em;height:.8em;background:{escape(colours[name])}"></span> {escape(name)} {n:,}'
        for name, n in counts.items()
        if n
    )


def write_table(rows: Iterable[tuple[str, object]]) -> str:
    """Names and values as an HTML table; everything is escaped."""
    cells = "".join(
        f'<tr><th style="text-align:left;vertical-align:top;font-weight:600;padding-right:1em">{escape(str(name))}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in rows
    )
    return f'<table style="border-collapse:collapse">{cells}</table>'


def describe_grid(grid: Any) -> str:
    """A :class:`TilingGrid` as HTML: a table, and its regions on coastlines."""
    (ny, nx), (ry, rx) = grid.shape_yx, grid.region_shape_yx
    rows, columns = grid.lattice_shape_yx
    last = grid.n_regions - 1
    y, x = grid.dims_yx
    table = [
        ("CRS", grid.crs[:80]),
        ("pixels", f"{y} {ny:,} × {x} {nx:,}"),  # noqa: RUF001
        ("pixel size", f"{y} {float(grid.resolution_y):.10g}, {x} {float(grid.resolution_x):.10g}"),
        ("bounds", ", ".join(f"{edge:.10g}" for edge in grid.bounds())),
        ("regions", f"{rows * columns:,} ({rows} × {columns}) of {ry:,} × {rx:,} pixels"),  # noqa: RUF001
        ("ids", f"{grid.region_id(0, 0)} … {grid.region_id(*divmod(last, columns))}"),
        *((f"axis {a.name}", f"{a.size:,}: {a.labels[0]}" + f" … {a.labels[-1]}" * (a.size > 1)) for a in grid.axes),
    ]
    drawing = draw_lattice(grid.region_edges, grid.bounds(), grid.crs)
    return f"<div><b>TilingGrid</b>{write_table(table)}{drawing}</div>"


def describe_cells(grid: Any) -> str:
    """A :class:`HealpixGrid` as HTML: a table, and on coastlines the regions that it is restricted to, if it is."""
    table = [
        ("cells", f"{grid.spatial_shape[0]:,} of HEALPix order {grid.order} (nested) on {grid.ellipsoid}"),
        ("regions", f"{grid.n_regions:,} cells of order {grid.region_order}, each of {grid.cells_in_region:,}"),
        ("ids", f"{grid.region_id(0, 0)} … {grid.region_id(0, grid.n_regions - 1)}"),
        *((f"axis {a.name}", f"{a.size:,}: {a.labels[0]}" + f" … {a.labels[-1]}" * (a.size > 1)) for a in grid.axes),
    ]
    y, x = np.linspace(90, -90, GLOBE_ROWS + 1), np.linspace(-180, 180, 2 * GLOBE_ROWS + 1)
    colours: list[list[str | None]] = []
    if grid.parents is not None:
        middles = np.meshgrid((x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2)
        held = grid.places_of(cells_at(*middles, grid.region_order, grid.ellipsoid)) >= 0
        colours = [[REGION_COLOUR if there else None for there in row] for row in held.tolist()]
    return f"<div><b>HealpixGrid</b>{write_table(table)}{draw_lattice((y, x), grid.bounds(), grid.crs, colours, lines=False)}</div>"


def _edges(x: Any, y: Any, width: float, height: float) -> str:
    across = [f"M0 {v:.1f}H{width:.1f}" for v in y] if len(y) <= MOST_LINES else []
    along = [f"M{v:.1f} 0V{height:.1f}" for v in x] if len(x) <= MOST_LINES else []
    return "".join(across + along)


def _line(x: Any, y: Any) -> str:
    """A line in whole half pixels, each point as a step from the one before: the shortest that SVG knows."""
    points = np.round(np.stack([x, y], axis=1) * 2).astype(int)
    steps = np.diff(points, axis=0)
    moves = "".join(f"l{dx / 2:g} {dy / 2:g}" for dx, dy in steps.tolist() if dx or dy)
    return f"M{points[0, 0] / 2:g} {points[0, 1] / 2:g}{moves}" if moves else ""
