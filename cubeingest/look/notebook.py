"""A cube as HTML for notebooks: what it holds, how far it is, a small map."""

from __future__ import annotations

from html import escape

import numpy as np

from cubeingest.boxes import Box
from cubeingest.grid import Grid, HealpixGrid, TilingGrid
from cubeingest.look.cells import NOTEBOOK_CELLS_YX, seen_box, spread_counts, thin_counts
from cubeingest.look.states import SUMMARIES, Counts, count_by_region, share_done, summarise
from cubeingest.selection import Selection
from cubeingest.sketch import STATE_COLOURS, draw_lattice, draw_legend, region_colour, write_table
from cubeingest.spec import CubeSpec, Variable
from cubeingest.status import STATES, count_states, read_slot_states
from cubeingest.store import Store

SUMMARY_COLOURS = {**STATE_COLOURS, "part": region_colour("part", 0.5)}
"""By what holds for a region's slots together; ``part`` has shades, by the share that is done."""

ATTRIBUTE_LETTERS = 120
"""Letters of a variable's attributes that are shown."""


def describe_cube(store: Store) -> str:
    """A cube as HTML: where and what it is, its variables, slots by state, and a map of its regions by what holds in them over all
    variables and axis values.
    """
    slots = read_slot_states(store, Selection())
    spec, grid = slots.spec, slots.spec.grid
    status = count_states(store.uri, slots)
    by_region = count_by_region(slots)
    summary = summarise(by_region)
    counts = {name: int(np.count_nonzero(summary == n)) for n, name in enumerate(SUMMARIES)}
    rows = [
        ("store", store.uri),
        ("snapshot", f"{slots.snapshot} ({store.branch})"),
        ("size", ", ".join(f"{name} {n:,}" for name, n in zip(grid.dims, _shape(spec), strict=True))),
        ("regions", f"{grid.n_regions:,}, such as {grid.region_id(0, 0)}; {grid.crs[:60]}"),
        *((f"axis {a.name}", f"{a.size:,}: {a.labels[0]}" + f" … {a.labels[-1]}" * (a.size > 1)) for a in grid.axes),
        *((f"variable {v.name}", _describe(v)) for v in spec.variables),
        ("slots", f"{status.total:,}: " + ", ".join(f"{getattr(status, s):,} {s}" for s in STATES)),
    ]
    drawing = draw_regions(grid, by_region)
    return (
        f"<div><b>Cube {escape(spec.name)}</b>{write_table(rows)}{drawing}"
        f"<div><small>regions: {draw_legend(counts, SUMMARY_COLOURS)}</small></div></div>"
    )


def draw_regions(grid: Grid, counts: Counts) -> str:
    """A small map as SVG, by counts of slots by region (iy, ix); a cell of it tells of several where there are many."""
    if isinstance(grid, HealpixGrid):
        box = seen_box(grid, counts)
        shape = _cells_of(box)
        edges = np.linspace(box[3], box[1], shape[0] + 1), np.linspace(box[0], box[2], shape[1] + 1)
        return draw_lattice(edges, box, grid.crs, _colours(spread_counts(counts, grid, box, shape)), lines=False)
    assert isinstance(grid, TilingGrid)
    return draw_lattice(grid.region_edges, grid.bounds(), grid.crs, _colours(thin_counts(counts)))


def _cells_of(box: Box) -> tuple[int, int]:
    """Rows and columns of the cells of a map of longitudes and latitudes."""
    rows, columns = NOTEBOOK_CELLS_YX
    scale = min(columns / (box[2] - box[0]), rows / (box[3] - box[1]))
    return max(1, round((box[3] - box[1]) * scale)), max(1, round((box[2] - box[0]) * scale))


def _colours(counts: Counts) -> list[list[str | None]]:
    return [
        [region_colour(SUMMARIES[k], share) if k < len(SUMMARIES) else None for k, share in zip(*row, strict=True)]
        for row in zip(summarise(counts).tolist(), share_done(counts).tolist(), strict=True)
    ]


def _shape(spec: CubeSpec) -> tuple[int, ...]:
    return (*(axis.size for axis in spec.grid.axes), *spec.grid.spatial_shape)


def _describe(variable: Variable) -> str:
    attributes = ", ".join(f"{key}={value}" for key, value in variable.attrs.items())
    short = attributes if len(attributes) <= ATTRIBUTE_LETTERS else attributes[: ATTRIBUTE_LETTERS - 1] + "…"
    chunks = " x ".join(map(str, variable.chunks))
    shards = f" in shards of {' x '.join(map(str, variable.shards))}" if variable.shards else ""
    return (
        f"{variable.dtype} ({', '.join(variable.dims)}), fill {variable.fill_value}, chunks {chunks}{shards}"
        + f"; {short}" * bool(short)
    )
