"""The pictures that may be asked for of a cube, each from a selection; and writing them to a file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeingest.boxes import query_boxes
from cubeingest.changes import read_changes, spec_of_both
from cubeingest.errors import GridError, StoreError
from cubeingest.files import write_file
from cubeingest.grid import Grid
from cubeingest.look.frame import check_drawing
from cubeingest.look.globemaps import GlobeMap
from cubeingest.look.grids import picture_grid
from cubeingest.look.maps import MapView, picture_map, read_map
from cubeingest.look.states import picture_changes, picture_status
from cubeingest.selection import Selection, choose
from cubeingest.spec import CubeSpec
from cubeingest.status import read_slot_states
from cubeingest.store import Store, resolve_ref

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
"""Kinds of files that a picture can be written to."""

NAME_BYTES = 124
"""Of the name of a file; some file systems take 143, most 255."""


def show_grid(
    grid: Grid | CubeSpec,
    *,
    region: str | Iterable[str] | None = None,
    bbox: tuple[float, float, float, float] | None = None,
) -> Axes:
    """Draw the regions of a grid, or of a spec, on coastlines, with those highlighted that a ``bbox`` (west, south, east, north in longitude and
    latitude) overlaps, or that are named. Returns matplotlib axes in CRS units.

    Raises :class:`GridError` for a region that there is not, and for a box outside the grid.
    """
    spec = grid if isinstance(grid, CubeSpec) else None
    own = grid.grid if isinstance(grid, CubeSpec) else grid
    named = (region,) if isinstance(region, str) else tuple(region or ())
    chosen = {own.region_index(r) for r in named} if named else None
    if bbox is not None:
        found = set(own.get_chunks_for_bbox(bbox, "OGC:CRS84"))
        if not found:
            raise GridError(f"bbox {tuple(bbox)} overlaps no region of the grid, whose bounds are {own.bounds()}")
        chosen = found if chosen is None else chosen & found
    return picture_grid(own, spec.name if spec else "", chosen, spec.valid if spec else None, _boxes(own, bbox))


def show_cube_grid(store: Store, selection: Selection) -> Axes:
    """As :func:`show_grid`, of a cube and what is selected of it."""
    spec = store.spec
    is_part = bool(selection.regions or selection.bbox or selection.polygon is not None or selection.limit)
    chosen = choose(spec, selection).places if is_part else None
    if chosen is not None and selection.limit:
        chosen = frozenset(sorted(chosen)[: selection.limit])
    return picture_grid(spec.grid, spec.name, chosen, spec.valid, _boxes(spec.grid, selection.bbox))


def show_status(store: Store, selection: Selection) -> Any:
    """Draw which slots are done, empty, pending, absent. Returns an object array (rows, columns) of matplotlib axes, None where there is none."""
    return picture_status(read_slot_states(store, selection))


def show_map(store: Store, selection: Selection) -> tuple[Axes, MapView | GlobeMap]:
    """Draw one variable at one value of each axis. Returns matplotlib axes in CRS units, and what was read."""
    check_drawing()
    view = read_map(store, selection)
    return picture_map(view), view


def show_diff(store: Store, older: str, newer: str) -> Any:
    """Draw in which slots two tags, branches or snapshots differ. Returns axes as :func:`show_status` does."""
    first, second = (resolve_ref(store, ref) for ref in (older, newer))
    changes = read_changes(store, first, second)
    return picture_changes(spec_of_both(store, first, second), changes, older, newer)


def save_picture(axes: Any, path: Path) -> None:
    """Write the figure of axes (or of an array of them) to a ``.png`` or ``.svg`` file, whole or not at all.

    Raises :class:`StoreError` for another suffix, and for a file that cannot be written.
    """
    check_file(path)
    figure = (axes.flat[0] if hasattr(axes, "flat") else axes).get_figure()
    kind, content = path.suffix.lower().removeprefix("."), io.BytesIO()
    figure.savefig(content, format=kind, metadata={"Date": None} if kind == "svg" else None)
    try:
        write_file(path, content.getvalue())
    except OSError as e:
        raise StoreError(f"picture {str(path)!r} cannot be written: {e.strerror or e}") from e


def check_file(path: Path) -> None:
    """Raise :class:`StoreError` for a file that no picture can be written to, :class:`ExtraError` where none can be drawn."""
    check_drawing()
    if path.suffix.lower() not in SUFFIXES:
        raise StoreError(f"picture {str(path)!r} has suffix {path.suffix!r}: pictures are {' or '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise StoreError(f"picture {str(path)!r} cannot be written: there is no folder {str(path.parent)!r}")
    if path.exists() and not path.is_file():
        raise StoreError(
            f"picture {str(path)!r} cannot be written: it is {'a folder' if path.is_dir() else 'a device'}, no file"
        )


def file_name(*words: str) -> str:
    """A file name that says what a picture shows: ``glad-lclu-map-2000.png``. At most ``NAME_BYTES`` long, cut between letters."""
    name = re.sub(r"[^\w.+-]+", "_", "-".join(w for w in words if w))
    kept = name.encode()[: NAME_BYTES - len(".png")].decode(errors="ignore")
    return (kept.strip("-_.") or "picture") + ".png"


def _boxes(grid: Grid, bbox: tuple[float, float, float, float] | None) -> list[Any]:
    """A box of longitudes and latitudes as outlines (n, 2) in the grid's CRS, in every turn of the globe."""
    import numpy as np
    import shapely

    if bbox is None:
        return []
    found = query_boxes(bbox, "OGC:CRS84", grid.crs)
    return [np.asarray((outline or shapely.box(*box)).exterior.coords) for box, outline in found]
