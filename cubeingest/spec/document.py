"""The file, key by key: models that mirror the YAML, and turn each key's text into a value."""

from __future__ import annotations

import re
from datetime import datetime
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cubeingest.axes import AxisValue, axis_label, is_date
from cubeingest.errors import nearest
from cubeingest.extras import import_extra
from cubeingest.steps import to_fraction


class _Doc(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError(f"must be a mapping with keys {', '.join(cls.model_fields)}; got {data!r}")
        for key in data:
            if key not in cls.model_fields:
                known = list(cls.model_fields)
                raise ValueError(f"unknown key {key!r}{nearest(str(key), known)} (known: {', '.join(known)})")
        return data


def _exact(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Fraction):
        raise ValueError(f"must be a number or a fraction such as 1/4000; got {value!r}")
    try:
        return to_fraction(value)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"must be a number or a fraction such as 1/4000; got {value!r}") from None


STANDARD_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
CALENDARS = ("noleap", "365_day", "360_day", "all_leap", "366_day", "julian")
"""CF's names. Dates of the second kind are cftime's, as xarray has them."""

_Number = Annotated[Fraction, BeforeValidator(_exact)]
_Size = Annotated[int, Field(gt=0)]


class NumberXY(_Doc):
    x: _Number
    y: _Number


class SizeYX(_Doc):
    y: _Size
    x: _Size


class Dims(_Doc):
    y: str = "y"
    x: str = "x"


class GridDoc(_Doc):
    origin: NumberXY
    resolution: NumberXY
    shape: SizeYX
    region: SizeYX
    id: str = "y{iy}_x{ix}"
    dims: Dims = Dims()


class RegionsDoc(_Doc):
    ids: list[int] | None = None
    bbox: list[float | int] | None = None


class HealpixDoc(_Doc):
    type: Literal["healpix"]
    order: int
    region_order: int
    ellipsoid: str = "WGS84"
    regions: RegionsDoc | None = None


class AxisDoc(_Doc):
    values: list[Any] | None = None
    start: Any = None
    stop: Any = None
    step: Any = None
    freq: str | None = None
    calendar: str | None = None

    def labels(self) -> tuple[AxisValue, ...]:
        if self.values is not None:
            if (self.start, self.stop, self.step, self.freq) != (None, None, None, None):
                raise ValueError("give either values, or start and stop")
            values = tuple(_axis_value(v, self.calendar) for v in self.values)
        elif self.start is None or self.stop is None:
            raise ValueError("give values, or start and stop (stop included) with step or freq")
        elif self.freq is not None:
            if self.step is not None:
                raise ValueError("give step (numbers) or freq (dates), not both")
            values = _dates(self.start, self.stop, self.freq, self.calendar)
        else:
            values = _steps(self.start, self.stop, 1 if self.step is None else self.step)
        if not values:
            raise ValueError("has no values")
        if self.calendar is not None and not is_date(values[0]):
            raise ValueError(f"calendar {self.calendar!r} is for dates; got {values[0]!r}")
        if len({type(v) for v in values}) > 1:
            raise ValueError(f"has values of several types: {', '.join(sorted({type(v).__name__ for v in values}))}")
        twice = sorted({str(v) for v in values if values.count(v) > 1}) if len(set(values)) < len(values) else []
        if twice:
            raise ValueError(f"has duplicate values: {', '.join(twice)}")
        return values


def _axis_value(value: Any, calendar: str | None = None) -> AxisValue:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"values must be numbers, strings or dates; got {value!r}")
    if isinstance(value, str) and (not value or re.search(r"[,/\\\s]|\.\.|^-", value)):
        raise ValueError(
            f"values cannot be empty, start with -, or hold a comma, a slash, a space or ..; got {value!r}"
        )
    return _date(value, calendar) if isinstance(value, str) and _is_date(value) else value


def _is_date(text: str) -> bool:
    return re.fullmatch(r"\d{4}-\d{2}-\d{2}([T ].*)?", text) is not None


def _date(value: Any, calendar: str | None = None) -> Any:
    """A ``datetime``, or a ``cftime.datetime`` of a calendar that is not the standard one."""
    if calendar in (None, *STANDARD_CALENDARS):
        return _standard_date(value)
    if calendar not in CALENDARS:
        known = [*STANDARD_CALENDARS, *CALENDARS]
        raise ValueError(f"unknown calendar {calendar!r}{nearest(str(calendar), known)} (known: {', '.join(known)})")
    cftime = import_extra("cftime", "netcdf", f"calendar {calendar!r}")
    match = re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})([T ](\d{2}):(\d{2})(:(\d{2}))?)?", str(value))
    try:
        if match is None:
            raise ValueError
        parts = (int(match[i] or 0) for i in (1, 2, 3, 5, 6, 8))
        return cftime.datetime(*parts, calendar=calendar)
    except ValueError:
        raise ValueError(f"must be a date of the calendar {calendar} such as 2000-01-30; got {value!r}") from None


def _standard_date(value: Any) -> datetime:
    try:
        date = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"must be a date such as 2000-01-31; got {value!r}") from None
    if not 1678 <= date.year <= 2261:
        raise ValueError(f"dates must lie in the years 1678 to 2261, which xarray reads by default; got {value!r}")
    if date.tzinfo is not None:
        raise ValueError(f"dates are UTC, without a time zone; got {value!r}")
    return date


def _dates(start: Any, stop: Any, freq: str, calendar: str | None) -> tuple[AxisValue, ...]:
    first, last = _date(start, calendar), _date(stop, calendar)
    try:
        found = _date_range(first, last, freq)
    except ValueError as e:
        raise ValueError(f"start {start!r}, stop {stop!r}, freq {freq!r}: {e}") from None
    if found and found[0] != first:
        raise ValueError(
            f"start {start!r} is not on freq {freq!r}, whose first date from there is {axis_label(found[0])}"
        )
    if found and found[-1] != last:
        raise ValueError(
            f"stop {stop!r} (which is included) is not on freq {freq!r}, whose last date before is {axis_label(found[-1])}"
        )
    return tuple(found)


def _date_range(first: Any, last: Any, freq: str) -> list[Any]:
    if isinstance(first, datetime):
        import pandas as pd

        return [t.to_pydatetime() for t in pd.date_range(first, last, freq=freq)]
    import cftime
    import xarray as xr

    # Texts, since offsets make dates of the type of their start, which without its calendar is a standard one.
    ends = first.isoformat(), last.isoformat()
    found = xr.date_range(*ends, freq=freq, calendar=first.calendar, use_cftime=True)
    return [cftime.datetime(t.year, t.month, t.day, t.hour, t.minute, t.second, calendar=first.calendar) for t in found]


def _steps(start: Any, stop: Any, step: Any) -> tuple[AxisValue, ...]:
    if isinstance(start, str) and _is_date(start):
        raise ValueError("dates need freq, such as freq: MS for the first of each month")
    a, b, by = _exact(start), _exact(stop), _exact(step)
    if by == 0 or (b - a) / by < 0 or ((b - a) / by).denominator != 1:
        raise ValueError(f"start {start!r} does not reach stop {stop!r} (which is included) in whole steps of {step!r}")
    whole = all(v.denominator == 1 for v in (a, by))
    values = (a + i * by for i in range(int((b - a) / by) + 1))
    return tuple(int(v) if whole else float(v) for v in values)


class TilesDoc(_Doc):
    list: str | None = None
    glob: str | None = None
    table: str | None = None


class BandsDoc(_Doc):
    axis: str


class StorageDoc(_Doc):
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool | None = None


class OverlapDoc(_Doc):
    y: Annotated[int, Field(ge=0)]
    x: Annotated[int, Field(ge=0)]


class ValidDoc(_Doc):
    geojson: str | None = None
    raster: str | None = None
    list: str | None = None


class SourceDoc(_Doc):
    href: Any = None
    tiles: TilesDoc | None = None
    file: str | None = None
    band: _Size | None = None
    bands: BandsDoc | None = None
    nodata: Any = "file"
    missing: Literal["fail", "absent"] = "fail"
    tile: SizeYX | None = None
    overlap: OverlapDoc | None = None
    id: str | None = None
    resampling: str | None = None
    array: str | None = None
    storage: StorageDoc | None = None


class CoordinatesDoc(_Doc):
    x: str
    y: str
    crs: str | int = "OGC:CRS84"


class PointsDoc(_Doc):
    href: Any = None
    tiles: TilesDoc | None = None
    coordinates: CoordinatesDoc
    columns: dict[str, str] = {}
    filter: Any = None
    groups: list[str] = []
    catalog: str | None = None
    storage: StorageDoc | None = None


class VariableDoc(_Doc):
    dtype: str
    fill_value: Any
    chunks: dict[str, _Size] | None = None
    shards: dict[str, _Size] | None = None
    axes: list[str] | None = None
    compressor: Any = None
    attrs: dict[str, Any] = {}
    source: SourceDoc | None = None
    aggregate: Any = None
    overviews: str | None = None


class CubeDoc(_Doc):
    """What specs of both kinds of grid hold."""

    name: str
    crs: str | int
    grid: Any
    axes: dict[str, AxisDoc] = {}
    points: PointsDoc | None = None
    variables: dict[str, VariableDoc]
    valid: ValidDoc | None = None
    attrs: dict[str, Any] = {}
    store: str | None = None
    storage: StorageDoc | None = None
    cf_fill: bool = False


class TilingCubeDoc(CubeDoc):
    grid: GridDoc


class HealpixCubeDoc(CubeDoc):
    crs: str | int = "EPSG:4326"
    grid: HealpixDoc
