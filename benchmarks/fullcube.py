"""GLAD's whole grid with overviews, without its 2 TB of pixels: what a look at the full cube reads is real, what it does not read is not there.

Every slot has a record, every cell of the overviews too, and levels 7 to 11 hold patchy classes on some two thirds of the area. The base's chunks, and
those of levels 1 to 6, are not written: a picture of the whole grid does not read them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FINEST_WRITTEN = 7


def make_full_glad(store: Path, years: int = 5) -> str:
    """Make the cube, with ``years`` of its five years done; its URI. Takes a minute or so."""
    import cubeingest as ci
    from cubeingest.ledger import Record, Slot, write_record
    from cubeingest.overviews import make_overviews
    from cubeingest.overviews.cells import due_parts, read_below
    from cubeingest.overviews.halving import method_of
    from cubeingest.overviews.levels import levels_by_default, make_pyramid
    from cubeingest.tile import SourceId

    cube = ci.init("glad-lclu", store)
    spec = cube.spec
    (variable,) = spec.variables
    pyramid = make_pyramid(spec, levels_by_default(spec.grid))
    make_overviews(cube.store, *_nothing())
    session = cube.store.writable()
    layout = cube.store.layout_key
    for block, iy, ix in np.ndindex(years, *spec.grid.lattice_shape_yx):
        slot = Slot(variable.name, (block,), iy, ix)
        source = SourceId(f"tiles/{block}/{spec.grid.region_id(iy, ix)}.tif", 10**8, "2023-01-01")
        record = Record(
            "done", (source,), f"{block:04x}{iy:04x}{ix:08x}", "band 1; nodata 255", "2026-01-01T00:00:00Z", "made"
        )
        write_record(session, slot, record, True, layout)
    for stage in pyramid.stages:
        below = read_below(session, pyramid, stage)
        for cell, parts in due_parts(pyramid, stage, below.stamps).items():
            done = Record("done", parts, "", str(method_of(variable)), "2026-01-01T00:00:00Z", "made")
            write_record(session, cell, done, True, layout)
    _write_levels(session, pyramid, variable.name, years)
    session.commit("a full cube")
    return cube.store.uri


def _nothing() -> tuple[Any, Any]:
    from cubeingest.engine import Options
    from cubeingest.selection import Selection

    return Selection(), Options()


def _write_levels(session: Any, pyramid: Any, name: str, years: int) -> None:
    import zarr

    from cubeingest.overviews.halving import halve

    variable = pyramid.base.variable(name)
    level = pyramid.levels[FINEST_WRITTEN - 1]
    rows, columns = level.spec.grid.shape_yx
    rng = np.random.default_rng(0)
    # Continents of a kind: where a few long waves add up to more than nothing.
    y, x = np.linspace(0, 6, rows)[:, np.newaxis], np.linspace(0, 12, columns)
    land = np.sin(y * 1.7 + 1) + np.cos(x * 1.1) + np.sin(x * 0.6 + y) > -0.6
    for year in range(years):
        patches = rng.integers(0, 250, (rows // 16 + 1, columns // 16 + 1), dtype=np.uint8)
        pixels = patches.repeat(16, 0).repeat(16, 1)[:rows, :columns]
        pixels[rng.random(pixels.shape) < 0.05] = 244
        pixels[~land] = 255
        for each in pyramid.levels[FINEST_WRITTEN - 1 :]:
            zarr.open_array(session.store, path=each.path(name), mode="r+")[year] = pixels
            pixels = halve(pixels, variable, "mode")
