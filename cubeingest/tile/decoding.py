"""From a labelled source's stored values to those that they stand for: CF's unsigned integers, packing and missing values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import TileError
from cubeingest.tile.pixels import Array, as_dtype, equals

if TYPE_CHECKING:
    import xarray as xr

PACKING = ("scale_factor", "add_offset")


@dataclass(frozen=True)
class Decoding:
    """How the stored values of one variable are read.

    They are taken for ``stored`` (its own dtype, but for CF's ``_Unsigned``). Those in ``nodata``, of that dtype, are missing. With
    ``packing`` they become floats of ``dtype``, missing ones NaN; else ``dtype`` is ``stored``.
    """

    stored: np.dtype[Any]
    nodata: tuple[np.generic, ...]
    packing: dict[str, Any]
    dtype: np.dtype[Any]

    @property
    def least_dtype(self) -> np.dtype[Any]:
        """What a variable must hold: packed integers of 16 bits stay apart in float32, though xarray may choose float64."""
        small = bool(self.packing) and self.stored.kind in "iu" and self.stored.itemsize <= 2
        return np.dtype(np.float32) if small else self.dtype

    def apply(self, raw: Array, nodata: tuple[np.generic, ...]) -> Array:
        """What ``raw`` stands for. Of packed values those in ``nodata`` become NaN, else the first of ``nodata``."""
        values = raw.astype(self.stored, copy=False)
        if self.packing:
            unpacked = _unpacked(values, self.packing)
            for value in nodata:
                unpacked[equals(values, value)] = np.nan
            return unpacked
        for value in nodata[1:]:
            missing = equals(values, value)
            if missing.any():
                values = np.where(missing, nodata[0], values)
        return values

    def nodata_of(self, given: float | int | str | None) -> tuple[np.generic, ...]:
        """What is missing where the spec says ``source.nodata: given``, in stored units: ``file``, ``none`` or a number."""
        if given == "file":
            return self.nodata
        value = None if given is None or isinstance(given, str) else as_dtype(given, self.stored)
        return () if value is None else (value,)


def decoding_of(data: xr.DataArray, source: str) -> Decoding:
    """How an array that was opened with ``mask_and_scale=False`` is to be read. Raises :class:`TileError`."""
    own = data.dtype.newbyteorder("=")
    stored = _signed_as_said(own, data.attrs.get("_Unsigned"))
    nodata: list[np.generic] = []
    for key in ("_FillValue", "missing_value"):
        value = data.attrs.get(key)
        for each in () if value is None or own.kind not in "iufb" else np.ravel(np.asarray(value)):
            scalar = _as_stored(each, own, stored)
            if scalar is not None and not any(equals(np.asarray(scalar), n) for n in nodata):
                nodata.append(scalar)
    packing = {key: _number(data.attrs[key], key, source) for key in PACKING if key in data.attrs}
    if packing and own.kind not in "iuf":
        raise TileError(f"{source} is {own.name} with {' and '.join(packing)}: only numbers can be packed")
    dtype = _unpacked(np.empty(0, stored), packing).dtype if packing else stored
    return Decoding(stored, tuple(nodata), packing, dtype)


def decoded_values(coordinate: xr.DataArray, source: str) -> Array:
    """The values of a coordinate, unpacked."""
    if not {"_Unsigned", *PACKING} & set(coordinate.attrs):
        return np.asarray(coordinate.values)
    decoding = decoding_of(coordinate, source)
    return decoding.apply(coordinate.values, decoding.nodata)


def _signed_as_said(own: np.dtype[Any], unsigned: Any) -> np.dtype[Any]:
    said = str(unsigned).lower()
    if own.kind == "i" and said == "true":
        return np.dtype(f"u{own.itemsize}")
    if own.kind == "u" and said == "false":
        return np.dtype(f"i{own.itemsize}")
    return own


def _as_stored(value: Any, own: np.dtype[Any], stored: np.dtype[Any]) -> np.generic | None:
    """A missing value, which an attribute has in the variable's ``own`` dtype or in that which it is taken for."""
    if not isinstance(value, np.number | np.bool_):
        return None
    scalar = as_dtype(value.item(), own)
    if scalar is None or own == stored:
        return scalar if own == stored else as_dtype(value.item(), stored)
    cast: np.generic = scalar.astype(stored)
    return cast


def _number(value: Any, key: str, source: str) -> Any:
    """A packing attribute in its own dtype, which decides that of the values."""
    number = np.ravel(np.asarray(value))
    if number.size != 1 or number.dtype.kind not in "iuf":
        raise TileError(f"{source} has {key} {value!r}, expected one number")
    return number[0]


def _unpacked(values: Array, packing: dict[str, Any]) -> Array:
    """As xarray unpacks, in the float dtype that it chooses."""
    import xarray as xr

    dims = tuple(f"d{i}" for i in range(values.ndim))
    packed = xr.Dataset({"v": xr.Variable(dims, values, packing)})
    return np.asarray(xr.decode_cf(packed, decode_times=False, decode_coords=False)["v"].values)
