"""What a raster says of itself, and how it is opened: its options, its errors, no secrets."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

from cubeingest.errors import TileError
from cubeingest.remote import NOWHERE, Discreet, gdal_options, gdal_path, local_path, scrub
from cubeingest.storage import Storage, is_remote, public_href

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

REMOTE_DRIVERS = ("GTiff", "JP2OpenJPEG", "PNG", "JPEG", "HFA", "netCDF", "HDF5", "GRIB", "GTX", "AAIGrid")
"""GDAL's drivers for rasters that come from elsewhere: those that hold their pixels themselves. A VRT, for one, may name any file
of this machine."""

GDAL_CACHE_BYTES = 16 * 2**20
"""GDAL's block cache. Blocks are asked for once and in order, so it need hold little; its default, 5 % of memory,
made a worker five times larger and no faster."""


@dataclass(frozen=True)
class Header:
    """What a raster says of itself. ``transform`` is (a, b, c, d, e, f) of x = a·col + b·row + c, y = d·col + e·row + f.

    ``held`` has the labels of the axes that lie within the file, by name, in its order (see :mod:`cubeingest.tile.labelled`);
    ``calendars`` CF's name of the calendar of those that are dates.
    """

    href: str
    crs: Any
    transform: tuple[float, float, float, float, float, float]
    shape_yx: tuple[int, int]
    dtypes: tuple[str, ...]
    nodata: tuple[float | int | None, ...]
    block_shape_yx: tuple[int, int]
    has_mask: bool = False
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    calendars: Mapping[str, str] = field(default_factory=dict)

    @property
    def bounds(self) -> tuple[Fraction, Fraction, Fraction, Fraction]:
        """(left, bottom, right, top), exact for the floats given; whichever way the rows run."""
        a, b, c, d, e, f = (Fraction(v) for v in self.transform)
        rows, columns = self.shape_yx
        corners = [(a * i + b * j + c, d * i + e * j + f) for i in (0, columns) for j in (0, rows)]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


_loading = threading.Lock()


@cache
def load_rasterio() -> None:
    """Import rasterio, in one thread: its modules import one another, and several threads that begin at once find half of them."""
    with _loading:
        import rasterio
        import rasterio.vrt
        import rasterio.warp  # noqa: F401


@contextmanager
def gdal_env(href: str, storage: Storage) -> Iterator[None]:
    """GDAL's options for reading ``href``, bound to this thread; nothing if they hold already.

    Environments must be left in the reverse order of entering. Who closes rasters in another order enters one that suits them all.
    """
    load_rasterio()
    import rasterio
    from rasterio.env import getenv, hasenv
    from rasterio.session import DummySession

    _be_discreet()
    options: dict[str, Any] = {"GDAL_CACHEMAX": GDAL_CACHE_BYTES, "GDAL_VRT_ENABLE_PYTHON": "NO"}
    if gdal_path(href).startswith("/vsi"):
        options |= gdal_options(href, storage)
    held = getenv() if hasenv() else {}
    if all(held.get(key) == value for key, value in options.items()):
        yield
        return
    # rasterio's own session would take credentials and region from boto3, where that is installed, over what we say here.
    with rasterio.Env(session=DummySession(), **options):
        yield


@contextmanager
def open_raster(href: str, storage: Storage, copy: str | None = None) -> Iterator[DatasetReader]:
    """Open a raster, or the ``copy`` of it on this disk."""
    load_rasterio()
    import rasterio
    from rasterio.errors import RasterioError

    with gdal_env(href, storage):
        try:
            src = rasterio.open(copy or gdal_path(href))
        except (RasterioError, OSError, ValueError) as e:
            if not is_remote(href) and not os.path.exists(local_path(href)):
                raise TileError(f"tile {public_href(href)!r} is not there") from None
            reason = clean(e, href, copy)
            raise TileError(f"tile {public_href(href)!r} is not a raster that can be read: {reason}") from None
        with src:
            if is_remote(href) and src.driver not in REMOTE_DRIVERS:
                raise TileError(
                    f"tile {public_href(href)!r} is of GDAL's driver {src.driver}, which may lead to files that the spec does not "
                    "name: it is read from this machine only"
                )
            yield src


@cache
def _be_discreet() -> None:
    for name in ("_env", "_err", "_base", "_io"):
        logging.getLogger(f"rasterio.{name}").addFilter(Discreet())


def clean(error: BaseException, href: str, copy: str | None = None) -> str:
    """GDAL's message without the href's secrets, on one line."""
    text = str(error.__cause__ or error) or type(error).__name__
    if copy is not None:
        text = text.replace(copy, public_href(href))
    return scrub(text, href) if is_remote(href) else " ".join(text.split())


def read_header(href: str, storage: Storage = NOWHERE, copy: str | None = None) -> Header:
    """Open a raster, or the ``copy`` of it on this disk, and read its header only. Raises :class:`TileError`."""
    with open_raster(href, storage, copy) as src:
        return header_of(href, src)


def header_of(href: str, src: DatasetReader) -> Header:
    """The header of an open raster. Raises :class:`TileError` for one that has no bands of its own."""
    from rasterio.enums import MaskFlags

    if not src.count:
        found = ", ".join(src.subdatasets[:3])
        hint = f": it holds {found}; read one with source.array" if found else ""
        raise TileError(f"tile {public_href(href)!r} has no bands of its own{hint}")
    t = src.transform
    return Header(
        href=href, crs=src.crs, transform=(t.a, t.b, t.c, t.d, t.e, t.f), shape_yx=(src.height, src.width),
        dtypes=tuple(src.dtypes), nodata=tuple(src.nodatavals), block_shape_yx=src.block_shapes[0],
        has_mask=any(MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags for flags in src.mask_flag_enums),
    )  # fmt: skip
