"""A netCDF, HDF5 or Zarr source, whose pixels have labels: read through xarray.

What rasterio makes a pile of bands, or cannot open, is here an array with named dimensions. An axis of the cube may be one of them;
then the file's own labels say which values it holds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.axes import Axis
from cubeingest.errors import TileError
from cubeingest.extras import import_extra
from cubeingest.remote import local_path
from cubeingest.spec import Variable
from cubeingest.storage import is_remote, public_href
from cubeingest.tile.coordinates import crs_of, even_steps, held_labels, labels_for, spatial_dims
from cubeingest.tile.decoding import decoding_of
from cubeingest.tile.fit import Placement
from cubeingest.tile.header import Header, load_rasterio
from cubeingest.tile.pixels import Array, NodataMap

if TYPE_CHECKING:
    import xarray as xr

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
        if not path.is_dir():  # xarray may have another library for it, so only a failure tells that one is needed
            import_extra("h5netcdf", "netcdf", f"source {name!r}")
        if "cftime" in str(e):
            import_extra("cftime", "netcdf", f"the calendar of source {name!r}")
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise TileError(f"source {name!r} cannot be opened by xarray: {reason}") from None
    with ds:
        if variable not in ds:
            raise TileError(
                f"source {name!r} has no variable {array!r} (variables: {', '.join(map(str, ds.data_vars))})"
            )
        # A grid mapping and a time of the whole file are variables beside this one.
        beside = {name: v for name, v in ds.variables.items() if v.ndim == 0 and name != variable}
        yield ds[variable].assign_coords(beside)


def _is_consolidated(path: Path) -> bool:
    """Whether a Zarr store has its metadata in one place; xarray warns if it has to find out."""
    own = path / "zarr.json"
    return (path / ".zmetadata").exists() or (own.exists() and b'"consolidated_metadata"' in own.read_bytes())


def read_labelled_header(href: str, array: str, copy: str | None) -> Header:
    """What a labelled source says of itself. Raises :class:`TileError`."""
    with open_array(href, array, copy) as data:
        return labelled_header(href, data)


def labelled_header(href: str, data: xr.DataArray) -> Header:
    """As :func:`read_labelled_header`, of an array that is open."""
    source = f"source {public_href(href)!r}, variable {str(data.name)!r}"
    y, x = spatial_dims(data, source)
    (top, step_y), (left, step_x) = even_steps(data, y, source), even_steps(data, x, source)
    decoding = decoding_of(data, source)
    nodata = None if decoding.packing or not decoding.nodata else decoding.nodata[0].item()
    chunks = data.encoding.get("preferred_chunks", {})
    held, calendars = held_labels(data, y, x, source)
    return Header(
        href=href, crs=crs_of(data, y, x, source), transform=(step_x, 0.0, left, 0.0, step_y, top),
        shape_yx=(data.sizes[y], data.sizes[x]), dtypes=(decoding.least_dtype.name,), nodata=(nodata,),
        block_shape_yx=(chunks.get(y, data.sizes[y]), chunks.get(x, data.sizes[x])), held=held, calendars=calendars,
    )  # fmt: skip


class LabelledReader:
    """Reads windows of an open labelled source at one position of its other dimensions."""

    def __init__(self, data: xr.DataArray, header: Header, placement: Placement, variable: Variable) -> None:
        self.header, self.placement, self.window = header, placement, placement.window
        self._data = data
        self._decoding = decoding_of(data, f"source {public_href(header.href)!r}")
        self._nodata = self._decoding.nodata_of(variable.source.nodata if variable.source else "file")
        packed = bool(self._decoding.packing)
        self._dtype = variable.np_dtype if packed else self._decoding.dtype
        self._map = NodataMap(header.href, self._dtype, np.nan if packed else placement.nodata, variable)

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
        # Rounded before it is compared, so that no value becomes the fill value by rounding unseen.
        self._map.apply(self._decoding.apply(raw, self._nodata).astype(self._dtype, copy=False), out)


def reader_at(
    data: xr.DataArray,
    header: Header,
    placement: Placement,
    variable: Variable,
    axes: Sequence[Axis],
    position: Sequence[int],
) -> LabelledReader:
    """A reader of ``data`` at a ``position`` along the variable's ``axes``. Raises :class:`TileError` if it has none such."""
    y, x = spatial_dims(data, public_href(header.href))
    labels = {a.name: a.labels[i] for a, i in zip(axes, position, strict=True)}
    index: dict[str, int] = {}
    for dim, own in labels_for(header, axes).items():
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
    at = {d: index.get(str(d), 0) for d in data.dims if d not in (y, x)}
    return LabelledReader(data.isel(at).transpose(y, x), header, placement, variable)
