"""One raster: what it is, whether it fits the grid, and its pixels, a few rows at a time.

The only home of rasterio. A tile is never held whole, and none of its blocks is decoded twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import GridError, TileError
from cubeingest.grid import TOLERANCE_PX, TilingGrid
from cubeingest.remote import NOWHERE, Discreet, SourceId, gdal_options, gdal_path, scrub, source_id
from cubeingest.spec import Variable
from cubeingest.storage import Storage, is_remote, public_href

if TYPE_CHECKING:
    import numpy.typing as npt
    from rasterio.io import DatasetReader

__all__ = [
    "Header", "Placement", "SourceId", "Survey", "TileReader", "Window", "open_tile", "place", "public_href", "read_header",
    "read_survey", "source_id", "storage_of",
]  # fmt: skip

REMOTE_DRIVERS = ("GTiff", "JP2OpenJPEG", "PNG", "JPEG", "HFA", "netCDF", "HDF5", "GRIB", "GTX", "AAIGrid")
"""GDAL's drivers for rasters that come from elsewhere: those that hold their pixels themselves. A VRT, for one, may name any file
of this machine."""

GDAL_CACHE_BYTES = 16 * 2**20
"""GDAL's block cache. Blocks are asked for once and in order, so it need hold little; its default, 5 % of memory,
made a worker five times larger and no faster."""

Array = np.ndarray[Any, Any]
Window = tuple[slice, slice]
"""Half-open (y, x) pixel slices in the grid."""


@dataclass(frozen=True)
class Header:
    """What a raster says of itself. ``transform`` is (a, b, c, d, e, f) of x = a·col + b·row + c, y = d·col + e·row + f."""

    href: str
    crs: Any
    transform: tuple[float, float, float, float, float, float]
    shape_yx: tuple[int, int]
    dtypes: tuple[str, ...]
    nodata: tuple[float | int | None, ...]
    block_shape_yx: tuple[int, int]
    has_mask: bool = False

    @property
    def bounds(self) -> tuple[Fraction, Fraction, Fraction, Fraction]:
        """(left, bottom, right, top), exact for the floats given; whichever way the rows run."""
        a, _, c, _, e, f = (Fraction(v) for v in self.transform)
        y0, y1 = f, f + e * self.shape_yx[0]
        return c, min(y0, y1), c + a * self.shape_yx[1], max(y0, y1)


@dataclass(frozen=True)
class Placement:
    """A tile proven to fit: where it lies on the lattice (it may reach past the grid's ends), and how to read it."""

    window: Window
    flipped: bool
    band: int
    nodata: float | int | None


def storage_of(variable: Variable) -> Storage:
    """How the object store of a variable's tiles is reached."""
    return Storage() if variable.source is None else variable.source.storage


@contextmanager
def _open(href: str, storage: Storage, copy: str | None = None) -> Iterator[DatasetReader]:
    """Open a raster, or the ``copy`` of it on this disk."""
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.session import DummySession

    _be_discreet()
    path = gdal_path(href)
    options: dict[str, Any] = {"GDAL_CACHEMAX": GDAL_CACHE_BYTES, "GDAL_VRT_ENABLE_PYTHON": "NO"}
    if path.startswith("/vsi"):
        options |= gdal_options(href, storage)
    # rasterio's own session would take credentials and region from boto3, where that is installed, over what we say here.
    with rasterio.Env(session=DummySession(), **options):
        try:
            src = rasterio.open(copy or path)
        except (RasterioError, OSError, ValueError) as e:
            reason = _clean(e, href, copy)
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


def _clean(error: BaseException, href: str, copy: str | None = None) -> str:
    """GDAL's message without the href's secrets, on one line."""
    text = str(error.__cause__ or error) or type(error).__name__
    if copy is not None:
        text = text.replace(copy, public_href(href))
    return scrub(text, href) if is_remote(href) else " ".join(text.split())


def read_header(href: str, storage: Storage = NOWHERE) -> Header:
    """Open a raster and read its header only. Raises :class:`TileError`."""
    with _open(href, storage) as src:
        return _header(href, src)


def _header(href: str, src: DatasetReader) -> Header:
    from rasterio.enums import MaskFlags

    t = src.transform
    return Header(
        href=href, crs=src.crs, transform=(t.a, t.b, t.c, t.d, t.e, t.f), shape_yx=(src.height, src.width),
        dtypes=tuple(src.dtypes), nodata=tuple(src.nodatavals), block_shape_yx=src.block_shapes[0],
        has_mask=any(MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags for flags in src.mask_flag_enums),
    )  # fmt: skip


def place(
    header: Header, grid: TilingGrid, variable: Variable, band: int | None = None, expected: Window | None = None
) -> Placement:
    """Prove that a tile fits the grid and the variable, and say where it lies.

    ``expected`` is the window that its name stands for, if it has one: then the tile must be just that, except that it
    may stop at the grid's end or reach past it. ``band`` counts from 1; None means the only one.

    Raises :class:`TileError` naming the tile, what it has, and what was expected.
    """
    tile = f"tile {public_href(header.href)!r}"
    _check_crs(tile, header, grid)
    window = _lattice_window(tile, header, grid)
    if expected is not None:
        _check_expected(tile, window, expected, grid)
    if band is None:
        if len(header.dtypes) != 1:
            raise TileError(
                f"{tile} has {len(header.dtypes)} bands, expected one: say which with source.band or source.bands"
            )
        band = 1
    if band > len(header.dtypes):
        raise TileError(f"{tile} has no band {band}: it has {len(header.dtypes)}")
    if header.has_mask:
        raise TileError(
            f"{tile} has a mask band, which is not read, so masked pixels would count as data: burn it in as nodata"
        )
    dtype = np.dtype(header.dtypes[band - 1])
    if not _widens(dtype, variable.np_dtype):
        raise TileError(
            f"{tile} is {dtype.name}, variable {variable.name!r} is {variable.dtype}: not every value would survive; "
            f"declare {_common(dtype, variable.np_dtype)} in the spec"
        )
    flipped = (header.transform[4] > 0) != (grid.resolution_y > 0)
    return Placement(window, flipped, band, _nodata(header, variable, band))


def _check_crs(tile: str, header: Header, grid: TilingGrid) -> None:
    if not header.crs:
        raise TileError(f"{tile} has no CRS, expected {grid.crs}")
    from pyproj import CRS

    if header.crs.to_string() == grid.crs:
        return
    given = CRS.from_wkt(header.crs.to_wkt())
    if not given.equals(CRS.from_user_input(grid.crs), ignore_axis_order=True):
        raise TileError(f"{tile} is in CRS {header.crs.to_string()[:80]}, expected {grid.crs}")


def _lattice_window(tile: str, header: Header, grid: TilingGrid) -> Window:
    a, b, _, d, e, _ = header.transform
    if b or d:
        raise TileError(f"{tile} is rotated or sheared (transform {header.transform}): warp it to the grid first")
    if a < 0:
        raise TileError(f"{tile} has columns that run east to west (pixel size x {a!r}): flip it first")
    for dim, size, own, n in (("x", a, grid.resolution_x, 1), ("y", abs(e), abs(grid.resolution_y), 0)):
        drift = header.shape_yx[n] * (Fraction(size) / own - 1)
        if abs(drift) > TOLERANCE_PX:
            raise TileError(
                f"{tile} has pixel size {size!r} along {dim}, expected {float(own)!r}: over its {header.shape_yx[n]} pixels "
                f"that is {float(abs(drift)):.3g} px off (allowed {float(TOLERANCE_PX):g})"
            )
    try:
        return grid.lattice_window(header.bounds)
    except GridError as error:
        raise TileError(f"{tile} lies {error}: check its transform") from None


def _check_expected(tile: str, window: Window, expected: Window, grid: TilingGrid) -> None:
    for dim, own, want, n in zip(grid.dims_yx, window, expected, grid.shape_yx, strict=True):
        if own.start == want.start and min(own.stop, n) == min(want.stop, n):
            continue
        if own.stop - own.start != want.stop - want.start:
            raise TileError(
                f"{tile} has {own.stop - own.start} pixels along {dim}, its place in the grid has {want.stop - want.start}"
            )
        raise TileError(
            f"{tile} lies at {dim} {own.start}:{own.stop}, but by its name it belongs at {dim} {want.start}:{want.stop}"
        )


def _widens(own: np.dtype[Any], to: np.dtype[Any]) -> bool:
    """Whether every value of ``own`` is a value of ``to``. Numpy calls int64 to float64 safe, though it rounds."""
    if own.kind in "iu" and to.kind == "f":
        return int(np.iinfo(own).bits) - (own.kind == "i") <= int(np.finfo(to).nmant) + 1
    return np.can_cast(own, to, "safe")


def _common(own: np.dtype[Any], other: np.dtype[Any]) -> str:
    both = np.promote_types(own, other)
    return f"dtype {both.name}" if _widens(own, both) and _widens(other, both) else "a dtype that holds both"


def _nodata(header: Header, variable: Variable, band: int) -> float | int | None:
    source = variable.source
    given = header.nodata[band - 1] if source is None or source.nodata == "file" else source.nodata
    return None if given is None or isinstance(given, str) else given


class TileReader:
    """Reads windows of one open tile as the cube wants them: its dtype, its row order, nodata become fill value."""

    def __init__(
        self, src: DatasetReader, header: Header, placement: Placement, variable: Variable, copy: str | None = None
    ) -> None:
        self.header, self.placement = header, placement
        self._src, self._variable, self._copy = src, variable, copy
        self._fill = variable.np_fill
        self._dtype = np.dtype(header.dtypes[placement.band - 1])
        self._nodata = _as_dtype(placement.nodata, self._dtype)
        self._maps = not _same(self._nodata, self._fill)
        self._kept: tuple[tuple[int, int, int], Array] | None = None

    def read_into(self, out: Array, y: slice, x: slice) -> None:
        """Fill ``out`` with grid rows ``y`` and columns ``x``, which the tile must hold.

        Raises :class:`TileError` if the file cannot be read there, or holds valid pixels equal to the fill value.
        """
        top, left = self.placement.window[0].start, self.placement.window[1].start
        rows, columns = slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left)
        view = out
        if self.placement.flipped:
            height = self.header.shape_yx[0]
            rows, view = slice(height - rows.stop, height - rows.start), out[::-1]
        target = view if self._dtype == out.dtype else np.empty(view.shape, self._dtype)
        self._read_rows(target, rows, columns)
        self._map_nodata(target, view)

    def _read_rows(self, out: Array, rows: slice, columns: slice) -> None:
        """Read tile rows so that each row of blocks is decoded once: the part that is not asked for yet is kept."""
        height, block = self.header.shape_yx[0], self.header.block_shape_yx[0]
        row = rows.start
        pieces: list[tuple[int, int, bool]] = []  # start, stop, whether these are whole rows of blocks
        while row < rows.stop:
            first = row - row % block
            last = min(first + block, height)
            if row == first and last <= rows.stop:
                last = rows.stop if rows.stop == height else rows.stop - rows.stop % block
                pieces.append((row, last, True))
            else:
                last = min(last, rows.stop)
                pieces.append((row, last, False))
            row = last
        if self.placement.flipped:
            pieces.reverse()
        # What was kept last time first, before another partial row of blocks replaces it.
        for start, stop, whole in sorted(pieces, key=lambda p: not self._keeps(p[0] // block, columns)):
            part = out[start - rows.start : stop - rows.start]
            if whole:
                self._read(part, slice(start, stop), columns)
                continue
            first = start - start % block
            if not self._keeps(start // block, columns):
                kept = np.empty((min(block, height - first), columns.stop - columns.start), self._dtype)
                self._read(kept, slice(first, first + len(kept)), columns)
                self._kept = (start // block, columns.start, columns.stop), kept
            assert self._kept is not None
            part[...] = self._kept[1][start - first : stop - first]

    def _keeps(self, block_row: int, columns: slice) -> bool:
        return self._kept is not None and self._kept[0] == (block_row, columns.start, columns.stop)

    def _read(self, out: Array, rows: slice, columns: slice) -> None:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as RasterWindow

        window = RasterWindow.from_slices(rows, columns)
        target = (
            out if out.strides[0] > 0 and out.flags.aligned and out.strides[1] == out.itemsize else np.empty_like(out)
        )
        try:
            self._src.read(self.placement.band, window=window, out=target)
        except (RasterioError, OSError) as e:
            raise TileError(
                f"tile {public_href(self.header.href)!r} cannot be read at rows {rows.start}:{rows.stop} "
                f"(cut short or damaged?): {_clean(e, self.header.href, self._copy)}"
            ) from None
        if target is not out:
            out[...] = target

    def _map_nodata(self, raw: Array, out: Array) -> None:
        """Copy ``raw`` to ``out`` (which may be the same), nodata as the fill value; refuse valid pixels equal to it."""
        if raw is out and not self._maps:
            return
        missing = None
        if self._maps:
            missing = None if self._nodata is None else _equals(raw, self._nodata)
            self._refuse_fill(raw, missing)
        if raw is not out:
            out[...] = raw
        if missing is not None:
            out[missing] = self._fill

    def _refuse_fill(self, raw: Array, missing: npt.NDArray[np.bool_] | None) -> None:
        fill = _as_dtype(self._fill.item(), self._dtype)
        if fill is None or _is_nan(fill):
            return  # the tile's dtype cannot hold the fill value; NaN is no valid pixel
        taken = raw == fill
        if missing is not None:
            taken &= ~missing
        count = int(np.count_nonzero(taken))
        if count:
            nodata = "none" if self._nodata is None else self._nodata
            raise TileError(
                f"tile {public_href(self.header.href)!r} has valid pixels equal to the fill value {self._fill} of variable "
                f"{self._variable.name!r} (at least {count}; its nodata is {nodata}): they would read as missing. If "
                f"{self._fill} means no data there, say source.nodata: {self._fill}; else choose another fill_value"
            )


@contextmanager
def open_tile(
    href: str,
    grid: TilingGrid,
    variable: Variable,
    band: int | None = None,
    expected: Window | None = None,
    copy: str | None = None,
) -> Iterator[TileReader]:
    """Open a tile, prove that it fits (see :func:`place`), and give a reader of its pixels.

    They are read from ``copy``, where there is one on this disk.
    """
    with _open(href, storage_of(variable), copy) as src:
        header = _header(href, src)
        yield TileReader(src, header, place(header, grid, variable, band, expected), variable, copy)


def _as_dtype(value: float | int | None, dtype: np.dtype[Any]) -> np.generic | None:
    """``value`` as a scalar of ``dtype``; None if it cannot hold it, so that no pixel equals it."""
    if value is None or (dtype.kind in "uib" and np.isnan(value)):
        return None
    if dtype.kind in "ui" and not (np.iinfo(dtype).min <= value <= np.iinfo(dtype).max and value == int(value)):
        return None
    scalar: np.generic = dtype.type(value)
    return scalar


def _is_nan(value: Any) -> bool:
    return bool(np.isnan(value))


def _same(nodata: np.generic | None, fill: np.generic) -> bool:
    return nodata is not None and (nodata == fill or (_is_nan(nodata) and _is_nan(fill)))


def _equals(raw: Array, nodata: np.generic) -> npt.NDArray[np.bool_]:
    result: npt.NDArray[np.bool_] = np.isnan(raw) if _is_nan(nodata) else raw == nodata
    return result


@dataclass(frozen=True)
class Survey:
    """A raster's header, the names of its bands (None where it has none), and a sample of its pixels (bands, y, x), which may be empty."""

    header: Header
    band_names: tuple[str | None, ...]
    pixels: Array


def read_survey(href: str, storage: Storage = NOWHERE, side_px: int = 0) -> Survey:
    """Open a raster; with ``side_px`` read a piece of its middle too, of about that many pixels squared. Raises :class:`TileError`."""
    from rasterio.errors import RasterioError
    from rasterio.windows import Window as RasterWindow

    with _open(href, storage) as src:
        if not src.count:
            found = ", ".join(src.subdatasets[:3])
            raise TileError(
                f"tile {public_href(href)!r} has no bands of its own{f': it holds {found}' if found else ''}"
            )
        header = _header(href, src)
        # A strip is decoded whole: of wide ones fewer rows.
        rows = min(src.height, side_px, max(1, side_px**2 * 4 // header.block_shape_yx[1]) if side_px else 0)
        columns = min(src.width, side_px)
        window = RasterWindow((src.width - columns) // 2, (src.height - rows) // 2, columns, rows)
        try:
            pixels = src.read(window=window) if side_px else np.empty((src.count, 0, 0), src.dtypes[0])
        except (RasterioError, OSError) as e:
            raise TileError(
                f"tile {public_href(href)!r} cannot be read (cut short or damaged?): {_clean(e, href)}"
            ) from None
        return Survey(header, tuple(src.descriptions), pixels)
