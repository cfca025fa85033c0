"""Pictures of a cube."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import GridError
from cubeingest.spec import CubeSpec, Variable
from cubeingest.store import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAP_PIXELS = 2000
"""Pixels along the longer side that a map is thinned to: what a screen shows."""

MISSING_COLOUR = "#dfe7ec"
"""Of pixels that hold the fill value."""


def draw_map(
    store: Store, variable: Variable, positions: dict[str, int] | None = None, cmap: Any = "viridis", **imshow: Any
) -> Axes:
    """Draw one variable at one position of each axis (the first by default), thinned to what a screen shows.

    Returns matplotlib axes, in the grid's CRS units. Pixels with the fill value are grey. Raises :class:`GridError`
    for a position that an axis does not have.
    """
    import zarr
    from matplotlib.figure import Figure

    store = store.on(store.branch, store.tip)  # spec and pixels of one snapshot
    spec, grid = store.spec, store.spec.grid
    index: tuple[int, ...] = tuple(
        _position(spec, variable, name, (positions or {}).get(name, 0)) for name in variable.axes
    )
    step = max(1, -(-max(grid.shape_yx) // MAP_PIXELS))
    array = zarr.open_array(store.readonly().store, path=variable.name, mode="r")
    pixels = np.asarray(array.get_basic_selection((*index, slice(None, None, step), slice(None, None, step))))
    shown = np.ma.masked_invalid(pixels) if variable.np_dtype.kind == "f" else np.ma.asarray(pixels)
    shown = np.ma.masked_where(pixels == variable.np_fill, shown)
    left, bottom, right, top = grid.bounds()
    width = 12.0
    height = width * (top - bottom) / (right - left)
    axes = Figure(figsize=(width, min(24.0, max(2.0, height))), dpi=160, layout="constrained").add_subplot()
    axes.set_facecolor(MISSING_COLOUR)
    origin = "upper" if grid.resolution_y < 0 else "lower"
    axes.imshow(shown, extent=(left, right, bottom, top), origin=origin, cmap=cmap, interpolation="nearest", **imshow)  # type: ignore[arg-type]
    labels = [f"{name} {spec.grid.axis(name).labels[i]}" for name, i in zip(variable.axes, index, strict=True)]
    axes.set_title(", ".join([str(variable.attrs.get("long_name", variable.name)), *labels]), loc="left")
    return axes


def draw_regions(axes: Axes, store: Store, colour: str = "#00000030") -> None:
    """Draw the edges of the grid's regions onto a map."""
    grid = store.spec.grid
    left, bottom, right, top = grid.bounds()
    ny, nx = grid.lattice_shape_yx
    rows = [float(grid.origin_y + i * grid.region_shape_yx[0] * grid.resolution_y) for i in range(1, ny)]
    columns = [float(grid.origin_x + i * grid.region_shape_yx[1] * grid.resolution_x) for i in range(1, nx)]
    axes.hlines(rows, left, right, colors=colour, linewidths=0.4)
    axes.vlines(columns, bottom, top, colors=colour, linewidths=0.4)


def save(axes: Axes, path: Path) -> None:
    """Write the figure of ``axes``; PNG or SVG by the file's suffix."""
    axes.get_figure().savefig(path)  # type: ignore[union-attr]


def _position(spec: CubeSpec, variable: Variable, name: str, position: int) -> int:
    size = spec.grid.axis(name).size
    if not 0 <= position < size:
        raise GridError(f"axis {name!r} of {variable.name!r} has {size} values, so no position {position}")
    return position
