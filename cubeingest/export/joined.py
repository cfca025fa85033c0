"""The mosaics of an output folder: of which tiles they are, and written beside them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from cubeingest.errors import StoreError
from cubeingest.export.bands import band_of
from cubeingest.export.files import Layout
from cubeingest.export.mosaic import GTI, VRT, Mosaic, MosaicTile, gti_of, is_ours, vrt_of
from cubeingest.export.write import TAG_CUBE, TAG_TILE
from cubeingest.files import write_file
from cubeingest.plan import Chosen
from cubeingest.spec import Variable
from cubeingest.tile import BLOCK_PIXELS, read_cog_tags


def check_mosaics(folder: Path, layout: Layout, chosen: Chosen, gti: bool, cube: str) -> None:
    """Raise :class:`StoreError` if a mosaic would overwrite a file that is not this cube's."""
    for path in (folder / f"{m.name}{suffix}" for m in _bare(layout, chosen) for suffix in _suffixes(gti)):
        if path.exists() and not (path.is_file() and is_ours(path.read_bytes(), cube)):
            raise StoreError(
                f"{str(path)!r} would be overwritten, but this cube did not make it: name another output folder, or move it away"
            )


def write_mosaics(
    folder: Path, layout: Layout, chosen: Chosen, gti: bool, cube: str, good: Collection[str]
) -> list[str]:
    """Write the mosaics of what was selected, each of all tiles of it that are in the folder, ``good`` or made by an earlier run; their names.

    Those of earlier runs that are of no tile any more are taken away, and an index that is there is kept current.
    """
    from pyproj import CRS

    grid, wkt = layout.spec.tiling, CRS.from_user_input(layout.spec.tiling.crs).to_wkt()
    names = []
    for mosaic in _mosaics(folder, layout, chosen, cube, good):
        for suffix in (VRT, GTI):
            path = folder / f"{mosaic.name}{suffix}"
            is_there = path.is_file() and is_ours(path.read_bytes(), cube)
            if not mosaic.tiles and is_there:
                path.unlink()
            elif mosaic.tiles and (suffix in _suffixes(gti) or is_there):
                content = vrt_of(mosaic, grid, wkt, cube).encode() if suffix == VRT else gti_of(mosaic, grid, wkt, cube)
                write_file(path, content)
                names.append(path.name)
    return names


def _suffixes(gti: bool) -> tuple[str, ...]:
    return (VRT, GTI) if gti else (VRT,)


def _bare(layout: Layout, chosen: Chosen) -> Iterator[Mosaic]:
    """The mosaics of a selection, without tiles."""
    for variable in chosen.variables:
        for position in _positions(layout, chosen, variable):
            yield _mosaic(layout, variable, position)


def _mosaic(
    layout: Layout, variable: Variable, position: tuple[int, ...], tiles: tuple[MosaicTile, ...] = ()
) -> Mosaic:
    axes = layout.spec.axes_of(variable)
    band = band_of(variable)
    blocks = tuple(min(BLOCK_PIXELS, n) for n in layout.grid.region_shape_yx)
    return Mosaic(
        variable.name, {a.name: a.labels[i] for a, i in zip(axes, position, strict=True)}, variable.dtype, band.nodata,
        (blocks[0], blocks[1]), band.colours, band.scale, band.offset, band.units, tiles,
    )  # fmt: skip


def _positions(layout: Layout, chosen: Chosen, variable: Variable) -> list[tuple[int, ...]]:
    return list(itertools.product(*(chosen.positions[a.name] for a in layout.spec.axes_of(variable))))


def _mosaics(folder: Path, layout: Layout, chosen: Chosen, cube: str, good: Collection[str]) -> Iterator[Mosaic]:
    for variable in chosen.variables:
        for position in _positions(layout, chosen, variable):
            yield _mosaic(layout, variable, position, tuple(_tiles(folder, layout, variable, position, cube, good)))


def _tiles(
    folder: Path, layout: Layout, variable: Variable, position: tuple[int, ...], cube: str, good: Collection[str]
) -> Iterator[MosaicTile]:
    """Tiles that are there, in the whole grid."""
    grid = layout.grid
    for iy, ix in np.ndindex(*grid.lattice_shape_yx):
        file = layout.file(variable, position, iy, ix)
        if file.name not in good:
            path = folder / file.name
            tags = (read_cog_tags(path) if path.exists() else None) or {}
            if tags.get(TAG_CUBE) != cube or tags.get(TAG_TILE) != file.what:
                continue
        region = grid.region_id(iy, ix)
        yield MosaicTile(file.name, region, grid.slices(iy, ix), grid.bounds(region))
