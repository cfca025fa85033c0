"""The mosaics of an output folder: of which tiles they are, and written beside them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from cubeingest.errors import GridError, StoreError
from cubeingest.export.bands import band_of
from cubeingest.export.files import Layout
from cubeingest.export.mosaic import GTI, VRT, Mosaic, MosaicTile, gti_of, is_of, is_ours, vrt_of
from cubeingest.export.write import TAG_CUBE, TAG_TILE, unlink_beside
from cubeingest.files import write_file
from cubeingest.selection import Chosen
from cubeingest.spec import Variable
from cubeingest.tile import BLOCK_PIXELS, read_cog_tags


def check_mosaics(folder: Path, layout: Layout, chosen: Chosen, gti: bool, cube: str) -> None:
    """Raise :class:`GridError` if two mosaics would have one name, also where letters' case does not count, or for an index that cannot be;
    :class:`StoreError` if one would overwrite a file that is not this cube's, or is another mosaic.
    """
    owner: dict[str, str] = {}
    for mosaic in _bare(layout, chosen):
        other = owner.setdefault(mosaic.name.casefold(), mosaic.what)
        if other != mosaic.what:
            raise GridError(
                f"{mosaic.name + VRT!r} would be the mosaic of both {other!r} and {mosaic.what!r}: export one after the other into folders of "
                "their own, with --variable or axis values"
            )
        if gti and mosaic.background is not None:
            raise GridError(
                f"gti cannot say that {mosaic.variable!r} is true where there are no tiles: leave it out, the VRT does"
            )
        for path in (folder / f"{mosaic.name}{suffix}" for suffix in _suffixes(gti)):
            content = path.read_bytes() if path.is_file() else b""
            if path.exists() and not is_ours(content, cube):
                raise StoreError(
                    f"{str(path)!r} would be overwritten, but this cube did not make it: name another output folder, or move it away"
                )
            if content and not is_of(content, mosaic, cube):
                raise StoreError(
                    f"{str(path)!r} is the mosaic of something else, which that of {mosaic.what!r} would overwrite: name another output folder"
                )


def write_mosaics(
    folder: Path, layout: Layout, chosen: Chosen, gti: bool, cube: str, good: Collection[str], has_changed: bool
) -> list[str]:
    """Write the mosaics of what was selected, each of all tiles of it that are in the folder, ``good`` or made by an earlier run; their names.

    Those of earlier runs that are of no tile any more are taken away, and an index that is there is kept current. ``has_changed`` says that tiles were
    written or taken away: what GDAL has noted of a mosaic is old then.
    """
    from pyproj import CRS

    grid, wkt = layout.spec.tiling, CRS.from_user_input(layout.spec.tiling.crs).to_wkt()
    names = []
    for mosaic in _mosaics(folder, layout, chosen, cube, good):
        for suffix in (VRT, GTI):
            path = folder / f"{mosaic.name}{suffix}"
            was = path.read_bytes() if path.is_file() else b""
            is_there = is_ours(was, cube) and is_of(was, mosaic, cube)
            if not mosaic.tiles and is_there:
                path.unlink()
                unlink_beside(path)
            elif mosaic.tiles and (suffix in _suffixes(gti) or is_there):
                content = vrt_of(mosaic, grid, wkt, cube).encode() if suffix == VRT else gti_of(mosaic, grid, wkt, cube)
                write_file(path, content)
                if has_changed or content != was:
                    unlink_beside(path)
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
    blocks = tuple(min(BLOCK_PIXELS, n) for n in layout.grid.plane_region_yx)
    return Mosaic(
        variable.name, {a.name: a.labels[i] for a, i in zip(axes, position, strict=True)}, variable.dtype, band.nodata,
        (blocks[0], blocks[1]), band.colours, band.scale, band.offset, band.units,
        1 if variable.np_dtype.kind == "b" and bool(variable.np_fill) else None, tiles,
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
        yield MosaicTile(file.name, region, grid.plane_slices(iy, ix), grid.bounds(region))
