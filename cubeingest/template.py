"""From a spec to the dataless Dataset that fixes a cube's shape, dtypes, chunks, coordinates and conventions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cubeingest.axes import Axis
from cubeingest.grid import HealpixGrid, TilingGrid
from cubeingest.spec import CELL_IDS, CubeSpec, Variable, build_codec

if TYPE_CHECKING:
    import xarray as xr


DGGS_CONVENTION = {
    "uuid": "7b255807-140c-42ca-97f6-7a1cfecdbc38",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/dggs/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/dggs/blob/v1/README.md",
    "name": "dggs",
    "description": "Discrete Global Grid Systems convention for zarr",
}
"""The declaration of the convention, as its own text gives it."""

CELL_IDS_CHUNK = 2**18
"""Ids in one chunk: 2 MB, which compress to some kilobytes."""


def build_template(spec: CubeSpec) -> xr.Dataset:
    """The cube as a lazy Dataset: coordinates are real, variables are placeholders of the right shape and dtype.

    Of cells of HEALPix the group's attributes say which they are (:func:`dggs_attrs`). Coordinates of pixels are their centres. ``spatial_ref`` carries the CRS as CF grid mapping and GDAL's ``GeoTransform``
    (order c a b f d e); the group's attributes carry the Zarr conventions ``proj:`` and ``spatial:``.
    """
    if spec.healpix is not None:
        return _bare(spec, _cells_coordinate(spec.healpix), dggs_attrs(spec.healpix))
    import rioxarray  # noqa: F401  (registers .rio)

    grid = spec.tiling
    bare = _bare(spec, {dim: (dim, grid.coordinate(dim)) for dim in grid.dims_yx}, _conventions(grid))
    bare = bare.rio.set_spatial_dims(x_dim=grid.dims_yx[1], y_dim=grid.dims_yx[0])
    ds: xr.Dataset = bare.rio.write_crs(grid.crs).rio.write_transform(grid.affine()).rio.write_coordinate_system()
    for v in spec.variables:  # rioxarray moves the name into the encoding, where region writers do not find it
        ds[v.name].encoding.pop("grid_mapping", None)
        ds[v.name].attrs["grid_mapping"] = "spatial_ref"
    return ds


def _bare(spec: CubeSpec, coords: dict[str, Any], conventions: dict[str, Any]) -> xr.Dataset:
    """Variables, coordinates of axes and of space, attributes; without a CRS."""
    import dask.array as da
    import xarray as xr

    axes = {axis.name: _axis_coordinate(axis) for axis in spec.grid.axes}
    data = {
        v.name: (v.dims, da.full(spec.shape_of(v), v.np_fill, chunks=-1, dtype=v.np_dtype), dict(v.attrs))
        for v in spec.variables
    }
    attrs = {"title": spec.name, "Conventions": "CF-1.12", **spec.attrs, **conventions}
    return xr.Dataset(data, coords={**axes, **coords}, attrs=attrs)


def _cells_coordinate(grid: HealpixGrid) -> dict[str, Any]:
    """Ids of the cells, where the cube holds only some; of the whole globe a cell's position is its id."""
    return {} if grid.parents is None else {CELL_IDS: (grid.spatial_dims, grid.cell_ids())}


def dggs_attrs(grid: HealpixGrid) -> dict[str, Any]:
    """The Zarr convention ``dggs`` (https://github.com/zarr-conventions/dggs), by which xdggs knows the cells."""
    dggs: dict[str, Any] = {
        "name": "healpix", "refinement_level": grid.order, "indexing_scheme": "nested", "spatial_dimension": grid.spatial_dims[0],
        "ellipsoid": _ellipsoid(grid.ellipsoid),
    }  # fmt: skip
    if grid.parents is not None:
        dggs["coordinate"] = CELL_IDS
    return {"zarr_conventions": [DGGS_CONVENTION], "dggs": dggs}


def _ellipsoid(name: str) -> dict[str, Any]:
    from pyproj import get_ellps_map

    known = get_ellps_map()[name]
    if "rf" not in known and known.get("a") == known.get("b", known["a"]):
        return {"name": name, "radius": known["a"]}
    inverse = known["rf"] if "rf" in known else known["a"] / (known["a"] - known["b"])
    return {"name": name, "semi_major_axis": known["a"], "inverse_flattening": inverse}


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
    along = [(a.name, a.size) for a in spec.grid.axes]
    if spec.healpix is None:
        along += list(zip(spec.grid.spatial_dims, spec.grid.spatial_shape, strict=True))
    elif spec.healpix.parents is not None:
        encoding[CELL_IDS] = {"chunks": (min(CELL_IDS_CHUNK, spec.healpix.spatial_shape[0]),), "_FillValue": None}
    for name, size in along:
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
