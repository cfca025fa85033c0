"""A netCDF, HDF5 or Zarr source, whose pixels have labels: read through xarray.

What rasterio makes a pile of bands, or cannot open, is here an array with named dimensions. An axis of the cube may be one of them;
then the file's own labels say which values it holds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.axes import axis_label
from cubeingest.errors import TileError
from cubeingest.remote import local_path
from cubeingest.spec import Variable
from cubeingest.storage import is_remote, public_href
from cubeingest.tile.fit import Placement
from cubeingest.tile.header import Header, load_rasterio
from cubeingest.tile.pixels import Array, NodataMap

if TYPE_CHECKING:
    import xarray as xr

X_NAMES = ("x", "lon", "longitude", "easting", "projection_x_coordinate")
Y_NAMES = ("y", "lat", "latitude", "northing", "projection_y_coordinate")
"""Names, or CF standard names, by which a dimension is known as spatial; so is CF's attribute ``axis``."""

UNEVEN_PX = 0.01
"""How far a coordinate may lie from even steps. Single precision puts those of a global grid of 1/20 degree off by a thousandth."""


_loading = threading.Lock()


@cache
def load_xarray() -> None:
    """Import xarray and rioxarray, in one thread, as :func:`load_rasterio` does."""
    load_rasterio()
    with _loading:
        import rioxarray  # noqa: F401  (registers .rio)
        import xarray as xr  # noqa: F401


@contextmanager
def open_array(href: str, array: str, copy: str | None = None) -> Iterator[xr.DataArray]:
    """The variable ``array`` (``group/name`` for one in a group) of a file or Zarr store, lazy and undecoded but for times.

    Raises :class:`TileError` if it cannot be opened, or has no such variable.
    """
    load_xarray()
    import xarray as xr

    name = public_href(href)
    if is_remote(href) and copy is None:
        raise TileError(
            f"source {name!r} is not on this machine: xarray reads netCDF, HDF5 and Zarr from a local disk only; copy it here"
        )
    path = Path(copy or local_path(href))
    group, _, variable = array.rpartition("/")
    options: dict[str, Any] = {"group": group} if group else {}
    if path.is_dir():
        options |= {"engine": "zarr", "consolidated": _is_consolidated(path)}
    elif not path.exists():
        raise TileError(f"source {name!r} is not there")
    try:
        ds = xr.open_dataset(path, mask_and_scale=False, decode_timedelta=False, cache=False, **options)
    except Exception as e:  # noqa: BLE001  (each format's library has errors of its own)
        hint = "" if path.is_dir() else " (netCDF and HDF5 need: pip install 'cubeingest[netcdf]')"
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise TileError(f"source {name!r} cannot be opened by xarray: {reason}{hint}") from None
    with ds:
        if variable not in ds:
            raise TileError(
                f"source {name!r} has no variable {array!r} (variables: {', '.join(map(str, ds.data_vars))})"
            )
        yield ds[variable]


def _is_consolidated(path: Path) -> bool:
    """Whether a Zarr store has its metadata in one place; xarray warns if it has to find out."""
    own = path / "zarr.json"
    return (path / ".zmetadata").exists() or (own.exists() and b'"consolidated_metadata"' in own.read_bytes())


def read_labelled_header(href: str, array: str, copy: str | None = None) -> Header:
    """What a labelled source says of itself. Raises :class:`TileError`."""
    with open_array(href, array, copy) as data:
        return labelled_header(href, data)


def labelled_header(href: str, data: xr.DataArray) -> Header:
    """As :func:`read_labelled_header`, of an array that is open."""
    source = f"source {public_href(href)!r}, variable {str(data.name)!r}"
    y, x = spatial_dims(data, source)
    (top, step_y), (left, step_x) = _even_steps(data, y, source), _even_steps(data, x, source)
    dtype = _decoded_dtype(data)
    nodata = None if is_packed(data) else _nodata(data)
    chunks = data.encoding.get("preferred_chunks", {})
    held = {
        str(dim): tuple(axis_label(v) for v in np.atleast_1d(data[dim].values).tolist())
        if data[dim].dtype.kind not in "M"
        else tuple(axis_label(v) for v in data[dim].values)
        for dim in data.dims
        if dim not in (y, x) and dim in data.coords
    }
    bare = [str(d) for d in data.dims if d not in (y, x) and d not in data.coords and data.sizes[d] > 1]
    if bare:
        raise TileError(
            f"{source} has no labels along {', '.join(bare)}: only dimensions with coordinates can be an axis"
        )
    return Header(
        href=href, crs=_crs(data, x, y), transform=(step_x, 0.0, left, 0.0, step_y, top),
        shape_yx=(data.sizes[y], data.sizes[x]), dtypes=(dtype,), nodata=(nodata,),
        block_shape_yx=(chunks.get(y, data.sizes[y]), chunks.get(x, data.sizes[x])), held=held,
    )  # fmt: skip


def spatial_dims(data: xr.DataArray, source: str) -> tuple[str, str]:
    """Names of the y and x dimensions. Raises :class:`TileError` if they are not to be told."""
    found = []
    for axis, names in (("Y", Y_NAMES), ("X", X_NAMES)):
        hits = [
            str(d)
            for d in data.dims
            if str(d).lower() in names
            or (d in data.coords and (data[d].attrs.get("axis") == axis or data[d].attrs.get("standard_name") in names))
        ]
        if len(hits) != 1:
            raise TileError(
                f"{source} has dimensions {', '.join(map(str, data.dims))}: which is {axis.lower()} is not to be told; name it "
                f"one of {', '.join(names[:4])}, or give it the attribute axis: {axis}"
            )
        found.append(hits[0])
    return found[0], found[1]


def _even_steps(data: xr.DataArray, dim: str, source: str) -> tuple[float, float]:
    """(outer edge of the first pixel, signed step) along a dimension. Raises :class:`TileError` if steps are uneven."""
    if dim not in data.coords:
        raise TileError(f"{source} has no coordinate {dim!r}, so nothing says where it lies")
    centres = data[dim].values.astype(np.float64)
    if len(centres) < 2 or not np.isfinite(centres).all():
        raise TileError(
            f"{source} has {len(centres)} values along {dim!r}: at least two finite ones say how large a pixel is"
        )
    step = (centres[-1] - centres[0]) / (len(centres) - 1)
    if step == 0:
        raise TileError(f"{source} has the same value all along {dim!r}")
    off = np.abs((centres - centres[0]) / step - np.arange(len(centres))).max()
    if off > UNEVEN_PX:
        raise TileError(f"{source} has uneven steps along {dim!r} (up to {off:.3g} of one off): it is on no lattice")
    exact = _round_step(centres, step)
    first = Fraction(centres[0]) if exact is None else _round_place(centres, exact)
    return float(first - Fraction(exact or step) / 2), float(exact or step)


def _round_step(centres: np.ndarray[Any, Any], step: float) -> Fraction | None:
    """The simplest fraction that is the step as far as the coordinate's precision goes."""
    noise = float(np.spacing(np.float32(np.abs(centres).max()))) / (len(centres) - 1)
    for digits in range(1, 7):
        near = Fraction(step).limit_denominator(10**digits)
        if near and abs(float(near) - step) <= noise:
            return near
    return None


def _round_place(centres: np.ndarray[Any, Any], step: Fraction) -> Fraction:
    """The first centre, on half steps if that is what single precision has moved it from."""
    halves = round(Fraction(float(centres[0])) / (step / 2))
    near = halves * step / 2
    close = abs(float(near) - centres[0]) <= 2 * float(np.spacing(np.float32(np.abs(centres).max())))
    return near if close else Fraction(float(centres[0]))


def _crs(data: xr.DataArray, x: str, y: str) -> Any:
    from rasterio.crs import CRS

    found = data.rio.crs
    if found:
        return found
    units = {str(data[d].attrs.get("units", "")).lower() for d in (x, y)}
    named = {x.lower(), y.lower()} <= {"lon", "lat", "longitude", "latitude"}
    degrees = all(u.startswith("degree") for u in units)
    return CRS.from_epsg(4326) if named or degrees else None


def is_packed(data: xr.DataArray) -> bool:
    """Whether values are stored scaled, as CF has it."""
    return "scale_factor" in data.attrs or "add_offset" in data.attrs


def _decoded_dtype(data: xr.DataArray) -> str:
    if not is_packed(data):
        return data.dtype.newbyteorder("=").name
    return "float32" if data.dtype.itemsize <= 2 else "float64"


def _nodata(data: xr.DataArray) -> float | int | None:
    value = data.attrs.get("_FillValue", data.attrs.get("missing_value"))
    return None if value is None or isinstance(value, str) else np.asarray(value).reshape(-1)[0].item()


class LabelledReader:
    """Reads windows of an open labelled source at one position of its other dimensions."""

    def __init__(self, data: xr.DataArray, header: Header, placement: Placement, variable: Variable) -> None:
        self.header, self.placement, self.window = header, placement, placement.window
        self._data = data
        self._packed = is_packed(data)
        self._raw_nodata = _nodata(data)
        dtype = np.dtype(header.dtypes[0])
        self._map = NodataMap(header.href, dtype, np.nan if self._packed else placement.nodata, variable)

    def read_into(self, out: Array, y: slice, x: slice) -> None:
        """Fill ``out`` with grid rows ``y`` and columns ``x``, which the source must hold. Raises :class:`TileError`."""
        top, left = self.window[0].start, self.window[1].start
        rows, columns = slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left)
        if self.placement.flipped:
            height = self.header.shape_yx[0]
            rows, out = slice(height - rows.stop, height - rows.start), out[::-1]
        try:
            raw = self._data[rows, columns].values
        except Exception as e:  # noqa: BLE001  (as above)
            reason = " ".join(str(e).split())[:200] or type(e).__name__
            raise TileError(
                f"source {public_href(self.header.href)!r} cannot be read at rows {rows.start}:{rows.stop}: {reason}"
            ) from None
        self._map.apply(self._unpack(raw) if self._packed else raw, out)

    def _unpack(self, raw: Array) -> Array:
        scale, offset = (float(self._data.attrs.get(k, v)) for k, v in (("scale_factor", 1), ("add_offset", 0)))
        values: Array = (raw * scale + offset).astype(self.header.dtypes[0])
        if self._raw_nodata is not None:
            values[raw == self._raw_nodata] = np.nan
        return values


def reader_at(
    data: xr.DataArray, header: Header, placement: Placement, variable: Variable, labels: Mapping[str, str]
) -> LabelledReader:
    """A reader of ``data`` at the position that ``labels`` (by axis) stand for. Raises :class:`TileError` if it has none such."""
    y, x = spatial_dims(data, public_href(header.href))
    index: dict[str, int] = {}
    for dim, own in header.held.items():
        if dim in labels and labels[dim] in own:
            index[dim] = own.index(labels[dim])
        elif len(own) == 1 and dim not in labels:
            index[dim] = 0
        else:
            what = (
                f"{dim} {labels[dim]}"
                if dim in labels
                else f"no axis called {dim!r}, along which it has {len(own)} values"
            )
            raise TileError(
                f"source {public_href(header.href)!r} does not fit: {what} (it has {', '.join(own[:3])}, ...)"
            )
    rest = {str(d): 0 for d in data.dims if d not in (y, x) and str(d) not in index}
    return LabelledReader(data.isel({**index, **rest}).transpose(y, x), header, placement, variable)
