"""What the tags of a GeoTIFF say of where it lies: its transform, and its CRS as far as GeoTIFF can hold it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import GridError
from cubeingest.remote import NOWHERE
from cubeingest.tile.header import gdal_env, load_rasterio
from cubeingest.tile.tiff import Tag, doubles, read_tags

if TYPE_CHECKING:
    from affine import Affine

CRS_TAGS = (34735, 34736, 34737)
"""GeoTIFF's tags that hold a CRS, in keys that only GDAL knows all of."""


def place_tags(t: Affine) -> dict[int, Tag]:
    """GeoTIFF's tags of the transform: pixel size and corner, which only rows from north to south have, else a matrix."""
    if t.e < 0 and not (t.b or t.d):
        return {33550: doubles(t.a, -t.e, 0), 33922: doubles(0, 0, 0, t.c, t.f, 0)}
    return {34264: doubles(t.a, t.b, 0, t.c, t.d, t.e, 0, t.f, *[0] * 7, 1)}


def check_crs(crs: str) -> None:
    """Raise :class:`GridError` for a CRS that the keys of a GeoTIFF cannot hold: files would be nowhere, or elsewhere."""
    crs_tags(crs)


@lru_cache(maxsize=8)
def crs_tags(crs: str) -> dict[int, Tag]:
    """What GDAL writes for a raster of one pixel somewhere in a CRS. Raises :class:`GridError` if it reads another one from that."""
    load_rasterio()
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.io import MemoryFile

    place = Affine(1, 0, 1, 0, -1, 1)
    with gdal_env("", NOWHERE), MemoryFile() as memory:
        with memory.open(driver="GTiff", width=1, height=1, count=1, dtype="uint8", crs=crs, transform=place):
            pass
        content = bytes(memory.read())
        with MemoryFile(content) as alone, alone.open() as raster:  # without what GDAL keeps of it beside the file
            wanted, kept = CRS.from_user_input(crs), raster.crs
        if not kept or not (kept == wanted or _is_same(kept.to_dict(), wanted.to_dict())):
            found = repr(" ".join(kept.to_string().split())[:120]) if kept else "none"
            raise GridError(
                f"GeoTIFF cannot hold this CRS: {' '.join(crs.split())[:120]!r} is read back as {found}; export tables (format parquet), "
                "or make the cube in another CRS"
            )
        return {tag: own for tag, own in read_tags(content) if tag in CRS_TAGS}


def _is_same(kept: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether two CRSs have the same parameters as PROJ has them, to what is lost when an ellipsoid is written by its flattening."""
    for own in (kept, wanted):
        if "rf" in own and "a" in own:
            own["b"] = own["a"] * (1 - 1 / own.pop("rf"))
    return bool(wanted) and kept.keys() == wanted.keys() and all(
        np.isclose(kept[k], v, rtol=1e-10, atol=0) if isinstance(v, float) else kept[k] == v for k, v in wanted.items()
    )  # fmt: skip
