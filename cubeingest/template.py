"""From a spec to the dataless Dataset that fixes a cube's shape, dtypes, chunks, coordinates and conventions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cubeingest.axes import Axis
from cubeingest.grid import TilingGrid
from cubeingest.spec import CubeSpec, Variable, build_codec

if TYPE_CHECKING:
    import xarray as xr


def build_template(spec: CubeSpec) -> xr.Dataset:
    """The cube as a lazy Dataset: coordinates are real, variables are placeholders of the right shape and dtype.

    Coordinates are pixel centres. ``spatial_ref`` carries the CRS as CF grid mapping and GDAL's ``GeoTransform``
    (order c a b f d e); the group's attributes carry the Zarr conventions ``proj:`` and ``spatial:``.
    """
    import dask.array as da
    import rioxarray  # noqa: F401  (registers .rio)
    import xarray as xr

    grid = spec.grid
    coords: dict[str, Any] = {axis.name: _axis_coordinate(axis) for axis in grid.axes}
    for dim in grid.dims_yx:
        coords[dim] = (dim, grid.coordinate(dim))
    data = {
        v.name: (
            v.dims,
            da.full(spec.shape_of(v), v.np_fill, chunks=-1, dtype=v.np_dtype),
            {**v.attrs, "grid_mapping": "spatial_ref"},
        )
        for v in spec.variables
    }
    bare = xr.Dataset(
        data, coords=coords, attrs={"title": spec.name, "Conventions": "CF-1.12", **spec.attrs, **_conventions(grid)}
    )
    bare = bare.rio.set_spatial_dims(x_dim=grid.dims_yx[1], y_dim=grid.dims_yx[0])
    ds: xr.Dataset = bare.rio.write_crs(grid.crs).rio.write_transform(grid.affine()).rio.write_coordinate_system()
    for v in spec.variables:  # rioxarray moves the name into the encoding, where region writers do not find it
        ds[v.name].encoding.pop("grid_mapping", None)
        ds[v.name].attrs["grid_mapping"] = "spatial_ref"
    return ds


def _axis_coordinate(axis: Axis) -> Any:
    standard = axis.is_dates and axis.calendar == "proleptic_gregorian"
    return (axis.name, np.array(axis.values, dtype="datetime64[us]" if standard else None))


def _conventions(grid: TilingGrid) -> dict[str, Any]:
    import zarr_cm
    from pyproj import CRS

    crs = CRS.from_user_input(grid.crs)
    authority = crs.to_authority(min_confidence=100)
    proj = {"proj:code": ":".join(authority)} if authority else {"proj:wkt2": crs.to_wkt("WKT2_2019")}
    a = grid.affine()
    spatial: dict[str, Any] = {
        "spatial:dimensions": list(grid.dims_yx),
        "spatial:transform": [a.a, a.b, a.c, a.d, a.e, a.f],
        "spatial:shape": list(grid.shape_yx),
        "spatial:bbox": list(grid.bounds()),
        "spatial:registration": "pixel",
    }
    attrs: dict[str, Any] = zarr_cm.create_many({"proj": proj, "spatial": spatial})
    return attrs


def build_encoding(spec: CubeSpec) -> dict[str, dict[str, Any]]:
    """Zarr encoding of every variable and coordinate, for ``Dataset.to_zarr``."""
    encoding: dict[str, dict[str, Any]] = {v.name: _variable_encoding(v, spec.cf_fill) for v in spec.variables}
    for name, size in [(a.name, a.size) for a in spec.grid.axes] + list(
        zip(spec.grid.dims_yx, spec.grid.shape_yx, strict=True)
    ):
        # One chunk a coordinate: a reader needs all of it to open the cube.
        encoding[name] = {"chunks": (size,), "_FillValue": None}
    for axis in spec.grid.axes:
        if axis.is_dates:  # from an epoch that does not move when dates are added before the first
            encoding[axis.name] |= {"units": "seconds since 1970-01-01", "calendar": axis.calendar, "dtype": "int64"}
    return encoding


def _variable_encoding(v: Variable, cf_fill: bool) -> dict[str, Any]:
    return {
        "chunks": v.chunks,
        "shards": v.shards,
        "fill_value": v.np_fill.item(),
        "_FillValue": v.np_fill.item() if cf_fill else None,
        "compressors": None if v.compressor is None else (build_codec(v.compressor),),
    }


def write_arrays(store: Any, spec: CubeSpec, group: str | None = None, mode: Literal["w", "a"] = "w") -> None:
    """Write a spec's coordinates and empty variables into a Zarr store, or a group of it; ``mode`` is that of ``Dataset.to_zarr``."""
    import warnings

    encoding = build_encoding(spec)
    if mode == "a":  # coordinates are there already, as they are to be
        encoding = {v.name: encoding[v.name] for v in spec.variables}
    with warnings.catch_warnings():
        # Icechunk is a Zarr v3 store; consolidated metadata is not for it, nor xarray's advice on it.
        warnings.filterwarnings("ignore", message=".*[Cc]onsolidated.*")
        build_template(spec).to_zarr(
            store, group=group, compute=False, mode=mode, encoding=encoding, consolidated=False, zarr_format=3
        )
