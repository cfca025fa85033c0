"""Where a labelled source lies, by its coordinates: which dimensions are spatial, their steps, the CRS, the labels of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.axes import Axis, axis_label, is_date, match_labels
from cubeingest.errors import TileError
from cubeingest.grid import TOLERANCE_PX
from cubeingest.storage import public_href
from cubeingest.tile.decoding import decoded_values
from cubeingest.tile.header import Header

if TYPE_CHECKING:
    import xarray as xr

X_NAMES = ("x", "lon", "longitude", "easting", "projection_x_coordinate")
Y_NAMES = ("y", "lat", "latitude", "northing", "projection_y_coordinate")
"""Names, or CF standard names, by which a dimension is known as spatial; so is CF's attribute ``axis``."""

UNEVEN_PX = 0.01
"""How far a coordinate may lie from even steps. Single precision puts those of a global grid of 1/20 degree off by a thousandth."""

ROUNDED_PX = float(TOLERANCE_PX) / 10
"""How far rounding a step or a place may move a centre: by less than what tells whether a tile is on the grid."""

STANDARD_CALENDAR = "proleptic_gregorian"
_GEOGRAPHIC = {"lat": ("latitude", "north"), "lon": ("longitude", "east")}


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


def even_steps(data: xr.DataArray, dim: str, source: str) -> tuple[float, float]:
    """(outer edge of the first pixel, signed step) along a dimension. Raises :class:`TileError` if steps are uneven."""
    if dim not in data.coords:
        raise TileError(f"{source} has no coordinate {dim!r}, so nothing says where it lies")
    own = decoded_values(data[dim], source)
    centres = own.astype(np.float64)
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
    first, exact = _rounded(centres, step, _noise(own))
    return float(first - exact / 2), float(exact)


def _noise(own: np.ndarray[Any, Any]) -> float:
    """By how much arithmetic in the coordinate's own precision may have moved a value."""
    single = own.dtype.kind == "f" and np.array_equal(own, own.astype(np.float32).astype(own.dtype))
    largest = np.abs(own.astype(np.float64)).max()
    return 4 * float(np.spacing(np.float32(largest) if single else largest))


def _rounded(centres: np.ndarray[Any, Any], step: float, noise: float) -> tuple[Fraction, Fraction]:
    """The first centre and the step: the simplest ones that the centres allow, as far as their ``noise`` goes; else as they are."""
    as_is = Fraction(float(centres[0])), Fraction(float(step))
    for digits in range(1, 7):
        near = as_is[1].limit_denominator(10**digits)
        if near and abs(float(near - as_is[1])) <= noise / (len(centres) - 1):
            break
    else:
        return as_is
    half = round(as_is[0] / (near / 2)) * near / 2
    for first in (half, as_is[0]) if abs(float(half - as_is[0])) <= noise else (as_is[0],):
        moved = np.abs(float(first) + np.arange(len(centres)) * float(near) - centres).max() / abs(float(near))
        if moved < ROUNDED_PX:
            return first, near
    return as_is


def crs_of(data: xr.DataArray, y: str, x: str, source: str) -> Any:
    """The CRS of CF's ``grid_mapping``, else one that rioxarray finds, else EPSG:4326 for latitudes and longitudes, else None.

    Raises :class:`TileError` for a grid mapping that gives no CRS.
    """
    from pyproj import CRS as ProjCRS  # noqa: N811
    from pyproj.exceptions import CRSError as ProjError
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    mapping = data.attrs.get("grid_mapping", data.encoding.get("grid_mapping"))
    try:
        if mapping is None:
            found = data.rio.crs
            geographic = _is_geographic(data, y, "lat") and _is_geographic(data, x, "lon")
            return found or (CRS.from_epsg(4326) if geographic else None)
        name = _mapping_name(str(mapping), y, x)
        if name not in data.coords:
            raise TileError(
                f"{source} has grid_mapping {mapping!r}, but no variable {name!r}: its CRS is not to be told"
            )
        attrs = dict(data.coords[name].attrs)
        given = ProjCRS.from_cf(attrs)
        if _is_plain_wgs84(attrs, given):
            return CRS.from_epsg(4326)
        described = given.to_json_dict()
        if str(described.get("name", "")).lower() in {"", "undefined", "unknown"} and "grid_mapping_name" in attrs:
            given = ProjCRS.from_json_dict(described | {"name": str(attrs["grid_mapping_name"])})
        return CRS.from_wkt(given.to_wkt())
    except (ProjError, CRSError, KeyError, ValueError, TypeError) as e:
        reason = " ".join(str(e).split())[:160]
        what = "a CRS that cannot be read" if mapping is None else f"grid_mapping {mapping!r}, which gives no CRS"
        raise TileError(f"{source} has {what}: {reason}") from None


def _mapping_name(text: str, y: str, x: str) -> str:
    """The variable that ``grid_mapping`` names: ``crs``, or ``crs: x y other: lat lon``, of which that of ``y`` and ``x``."""
    parts: dict[str, set[str]] = {}
    for word in text.split():
        if word.endswith(":") or not parts:
            parts[word.rstrip(":")] = set()
        else:
            parts[list(parts)[-1]].add(word)
    return next((name for name, dims in parts.items() if {y, x} <= dims), next(iter(parts), text))


def _is_plain_wgs84(attrs: Mapping[Any, Any], given: Any) -> bool:
    """Whether a grid mapping is of latitude and longitude on WGS 84's ellipsoid, and names no other datum."""
    if attrs.get("grid_mapping_name") != "latitude_longitude" or {"crs_wkt", "spatial_ref"} & set(attrs):
        return False
    datum = attrs.get("horizontal_datum_name", attrs.get("geographic_crs_name", "WGS 84"))
    ellipsoid = given.ellipsoid
    same = abs(ellipsoid.semi_major_metre - 6378137) < 0.01 and abs(ellipsoid.inverse_flattening - 298.257223563) < 1e-4
    greenwich = abs(float(attrs.get("longitude_of_prime_meridian", 0))) < 1e-9
    return same and greenwich and str(datum).replace(" ", "").replace("_", "").lower() in {
        "wgs84", "worldgeodeticsystem1984", "unknown", "undefined",
    }  # fmt: skip


def _is_geographic(data: xr.DataArray, dim: str, kind: str) -> bool:
    """Whether a coordinate is a true latitude (longitude), not one of a rotated pole."""
    name, towards = _GEOGRAPHIC[kind]
    attrs = data[dim].attrs if dim in data.coords else {}
    if "standard_name" in attrs:
        return bool(attrs["standard_name"] == name)
    if dim.lower() in {kind, name}:
        return True
    units = str(attrs.get("units", "")).lower()
    letter = towards[0]
    known = {f"degree{s}{u}" for s in ("", "s") for u in (f"_{towards}", f"_{letter}", letter)}
    return units in known and dim.lower() != f"r{kind}"


def held_labels(data: xr.DataArray, y: str, x: str, source: str) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Labels of the dimensions that are not spatial, and of scalar coordinates; and the calendars of those that are dates.

    Raises :class:`TileError` for a dimension without labels, or with the same one twice.
    """
    bare = [str(d) for d in data.dims if d not in (y, x) and d not in data.coords and data.sizes[d] > 1]
    if bare:
        raise TileError(
            f"{source} has no labels along {', '.join(bare)}: only dimensions with coordinates can be an axis"
        )
    held: dict[str, tuple[str, ...]] = {}
    calendars: dict[str, str] = {}
    for key, coordinate in data.coords.items():
        name = str(key)
        if name in (y, x) or not (coordinate.ndim == 0 or coordinate.dims == (key,)):
            continue
        values = np.atleast_1d(decoded_values(coordinate, source))
        dates = [_to_millisecond(v) for v in values] if values.dtype.kind in "MO" else values.tolist()
        held[name] = tuple(axis_label(v.decode(errors="replace") if isinstance(v, bytes) else v) for v in dates)
        if len(dates) and (values.dtype.kind == "M" or is_date(dates[0])):
            calendars[name] = str(getattr(dates[0], "calendar", STANDARD_CALENDAR))
        label, count = Counter(held[name]).most_common(1)[0] if held[name] else ("", 0)
        if count > 1:
            raise TileError(f"{source} has {count} times the same label {label!r} along {name!r}: which is meant?")
    return held, calendars


def _to_millisecond(value: Any) -> Any:
    """A date as it was before it was written as a fraction of days; anything else as it is."""
    if isinstance(value, np.datetime64):
        return (value.astype("datetime64[us]") + np.timedelta64(500, "us")).astype("datetime64[ms]")
    if not is_date(value):
        return value
    later = value + timedelta(microseconds=500)
    return later.replace(microsecond=later.microsecond // 1000 * 1000)


def labels_for(header: Header, axes: Sequence[Axis]) -> dict[str, tuple[str, ...]]:
    """``header.held``, with the axes' own labels in place of those that mean the same (2000.0 for 2000).

    Raises :class:`TileError` for dates of a calendar that is not the axis'.
    """
    held = dict(header.held)
    for axis in axes:
        if axis.name not in held:
            continue
        own = header.calendars.get(axis.name)
        if own is not None and axis.is_dates and not _goes_with(own, axis.calendar):
            what = "the standard calendar" if _is_standard(axis.calendar) else f"calendar {axis.calendar}"
            raise TileError(
                f"source {public_href(header.href)!r} has {axis.name} of calendar {own}, the axis {axis.name!r} is of {what}: "
                f"declare calendar: {own}"
            )
        places = match_labels(axis.labels, held[axis.name]) if isinstance(axis.values[0], int | float) else {}
        labels = list(held[axis.name])
        for i, place in places.items():
            labels[place] = axis.labels[i]
        held[axis.name] = tuple(labels)
    return held


def _goes_with(own: str, of_axis: str) -> bool:
    return _is_standard(own) or own == of_axis


def _is_standard(calendar: str) -> bool:
    return calendar in ("standard", "gregorian", "proleptic_gregorian")
