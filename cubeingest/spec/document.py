"""A spec's YAML, key by key: models that mirror it, and turn each key's text into a value.

What stands below a key is what the reference of the spec says of it.
"""

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
    """To the right, in units of the CRS. A fraction (`1/4000`) is exact."""
    y: _Number
    """Upwards, likewise."""


class SizeYX(_Doc):
    y: _Size
    """Pixels from row to row."""
    x: _Size
    """Pixels from column to column."""


class Dims(_Doc):
    y: str = "y"
    """Name of the rows' dimension, such as `latitude`."""
    x: str = "x"
    """Name of the columns' dimension."""


class GridDoc(_Doc):
    origin: NumberXY
    """The outer corner of pixel [0, 0]."""
    resolution: NumberXY
    """Signed size of a pixel: where y is negative rows run from north to south, where it is positive from south to north."""
    shape: SizeYX
    """Pixels of the whole grid."""
    region: SizeYX
    """Pixels of a region. Chunks (shards, where there are) must divide it; the last row and column of regions may be partial."""
    id: str = "y{iy}_x{ix}"
    """How regions are called: a pattern of `iy`, `ix` and the edges `top`, `bottom`, `left`, `right`, such as `{top:02H}_{left:03H}` (70N_180W)."""
    dims: Dims = Dims()
    """What the spatial dimensions are called."""


class RegionsDoc(_Doc):
    ids: list[int] | None = None
    """Ids of regions: cells of `region_order`."""
    bbox: list[float | int] | None = None
    """[west, south, east, north] in degrees: the regions that it overlaps. The cube keeps their ids."""


class HealpixDoc(_Doc):
    type: Literal["healpix"]
    """Says that cells are of HEALPix."""
    order: int
    """Cells are 12 · 4^order on the globe."""
    region_order: int
    """Regions are cells of this order; a region holds 4^(order - region_order) cells."""
    ellipsoid: str = "WGS84"
    """The figure that latitudes are of."""
    regions: RegionsDoc | None = None
    """Only these regions are in the arrays, one after the other. Without it the arrays hold the whole globe."""


class AxisDoc(_Doc):
    values: list[Any] | None = None
    """The labels: numbers, texts or dates, all of one type."""
    start: Any = None
    """The first label."""
    stop: Any = None
    """The last label, included."""
    step: Any = None
    """From one number to the next; 1 if it is left out."""
    freq: str | None = None
    """From one date to the next, as pandas writes it: `MS` is the first of each month."""
    calendar: str | None = None
    """CF's name of the dates' calendar, such as `noleap`; the standard one if it is left out."""

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


def _axis_value(value: Any, calendar: str | None) -> AxisValue:
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
    """A file or URL with one href or region id a line. Axes may stand in it: `tiles/{year}.txt`."""
    glob: str | None = None
    """A pattern of files: `tiles/{year}/*.tif`."""
    table: str | None = None
    """CSV or Parquet with the columns `href`, one for each axis, and bounds if there are."""


class BandsDoc(_Doc):
    axis: str
    """The axis whose values are the file's bands, in their order."""


class StorageDoc(_Doc):
    endpoint: str | None = None
    """URL of an S3 server that is not Amazon's. Default: `AWS_ENDPOINT_URL`, if it is set."""
    region: str | None = None
    """Region of the bucket. Default: what the environment says."""
    anonymous: bool | None = None
    """Ask without credentials."""


class OverlapDoc(_Doc):
    y: Annotated[int, Field(ge=0)]
    """Rows."""
    x: Annotated[int, Field(ge=0)]
    """Columns."""


class ValidDoc(_Doc):
    geojson: str | None = None
    """A file of polygons: regions that share an area with one."""
    raster: str | None = None
    """A mask: regions in which it has a pixel that is neither 0 nor nodata."""
    list: str | None = None
    """A file with one region id a line."""


class SourceDoc(_Doc):
    href: Any = None
    """Where a tile lies: a pattern of `{id}` and axes, or such a pattern for each value of one axis."""
    tiles: TilesDoc | None = None
    """Which tiles there are. Without it one is expected for every region."""
    file: str | None = None
    """One raster that covers all regions."""
    band: _Size | None = None
    """The band to read, from 1. Without it and `bands` a tile must have one only."""
    bands: BandsDoc | None = None
    """The bands of a file are the values of an axis."""
    nodata: Any = "file"
    """A number, or `none`, in place of what the tile says of itself. Nodata becomes the fill value."""
    missing: Literal["fail", "absent"] = "fail"
    """What it means that an expected tile does not exist: `fail`, or `absent`."""
    tile: SizeYX | None = None
    """Pixels of a tile, where tiles are not the regions."""
    overlap: OverlapDoc | None = None
    """Rows and columns by which each tile reaches past its cell."""
    id: str | None = None
    """How tiles are called, where they are not the regions; as `grid.id`."""
    resampling: str | None = None
    """GDAL's kernel for tiles that are not on the grid's lattice. Without it they are refused."""
    array: str | None = None
    """The variable within a netCDF, HDF5 or Zarr source."""
    storage: StorageDoc | None = None
    """How the object store that holds the tiles is reached."""


class CoordinatesDoc(_Doc):
    x: str
    """Column or dataset of the longitude, or of x in `crs`."""
    y: str
    """Column or dataset of the latitude, or of y."""
    crs: str | int = "OGC:CRS84"
    """What the coordinates are in."""


class PointsDoc(_Doc):
    href: Any = None
    """Where a granule lies: a pattern of axes. Without it and `tiles` points come from a Python function."""
    tiles: TilesDoc | None = None
    """Which granules there are."""
    coordinates: CoordinatesDoc
    """Where each point lies."""
    columns: dict[str, str] = {}
    """Column or dataset by the name that expressions call it."""
    filter: Any = None
    """An expression: points for which it is not true are left out."""
    groups: list[str] = []
    """Groups of an HDF5 or netCDF file that each hold such points."""
    catalog: str | None = None
    """The file that keeps which granule has points in which region, or `none`. Default: `NAME.catalog.parquet` beside the spec."""
    storage: StorageDoc | None = None
    """How the object store that holds the granules is reached."""


class VariableDoc(_Doc):
    dtype: str
    """numpy's name of it: `uint8`, `float32`, ..."""
    fill_value: Any
    """What pixels without data hold. `.nan` for floats."""
    chunks: dict[str, _Size] | None = None
    """Length of a chunk by dimension; of axes that are not named 1. HEALPix: a region if it is left out."""
    shards: dict[str, _Size] | None = None
    """Length of a shard by dimension: one object in the store, of whole chunks."""
    axes: list[str] | None = None
    """The axes that the variable has; all if it is left out, none if it is empty."""
    compressor: Any = None
    """A codec of Zarr by `name` with its options, or `none`. Default: zstd, level 3."""
    attrs: dict[str, Any] = {}
    """Attributes of the array, such as `long_name`, `units`, `flag_values`."""
    source: SourceDoc | None = None
    """Where its tiles are. A variable without one is filled from Python."""
    aggregate: Any = None
    """The statistic of points that it holds."""
    overviews: str | None = None
    """How four pixels become one: `mode`, `mean`, `min`, `max`, `nearest`, or `none`."""


class CubeDoc(_Doc):
    """What specs of both kinds of grid hold."""

    name: str
    """What the cube is called."""
    crs: str | int
    """An authority code such as EPSG:4326, its number, or WKT. May be left out for HEALPix."""
    grid: Any
    """The lattice: of pixels, or with `type: healpix` of cells."""
    axes: dict[str, AxisDoc] = {}
    """Dimensions that are not spatial, in the order of the arrays' dimensions."""
    points: PointsDoc | None = None
    """Where the points are that variables are statistics of."""
    variables: dict[str, VariableDoc]
    """The arrays, by name; one at least."""
    valid: ValidDoc | None = None
    """Which regions there are at all, by one of three. Looked up once, by `init`."""
    attrs: dict[str, Any] = {}
    """Attributes of the cube."""
    store: str | None = None
    """Where the cube lies: a path, which is relative to the spec, `s3://`, `gs://` or `az://`. `init --store` comes before it."""
    storage: StorageDoc | None = None
    """How the object store that holds the cube is reached."""
    cf_fill: bool = False
    """Write CF's `_FillValue` too. xarray then reads integers as floats."""


class TilingCubeDoc(CubeDoc):
    grid: GridDoc


class HealpixCubeDoc(CubeDoc):
    crs: str | int = "EPSG:4326"
    grid: HealpixDoc
