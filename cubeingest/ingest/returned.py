"""What a source function returned becomes the pixels of one variable in one region, or is refused with the reason."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import FunctionError, nearest
from cubeingest.grid import TOLERANCE_PX, Grid, TilingGrid
from cubeingest.spec import Variable
from cubeingest.wording import counted

if TYPE_CHECKING:
    import xarray as xr

Y_NAMES, X_NAMES = ("y", "latitude", "lat"), ("x", "longitude", "lon")
"""What a DataArray's rows and columns may be called besides what the grid calls them."""

Array = np.ndarray[Any, Any]


def take_pixels(
    returned: Any, variable: Variable, names: tuple[str, ...], grid: Grid, window: tuple[slice, ...]
) -> Array | None:
    """The pixels of ``variable`` in what a function returned: (y, x) of the region at ``window``, or its cells, in the variable's dtype.

    None if there is nothing. ``names`` are the variables that the function is to fill by this call. Masked pixels become
    the fill value; labels that run the other way are turned round. Raises :class:`FunctionError` for what does not fit.
    """
    import xarray as xr

    if isinstance(returned, Mapping):  # a Dataset is one too
        if variable.name not in returned:
            found = [str(name) for name in returned]
            raise FunctionError(
                f"returned no variable {variable.name!r}{nearest(variable.name, found)} (returned: {', '.join(found) or 'none'})"
            )
        returned = returned[variable.name]
    elif returned is not None and len(names) != 1:
        raise FunctionError(
            f"returned one {type(returned).__name__} for {len(names)} variables ({', '.join(names)}): return a Dataset or a "
            "dict by name, or select one with variable="
        )
    if returned is None:
        return None
    if isinstance(returned, xr.DataArray):
        returned = _oriented(returned, grid, window) if isinstance(grid, TilingGrid) else _of_cells(returned, grid)
    elif not hasattr(returned, "__array__"):
        raise FunctionError(
            f"returned {type(returned).__name__} for {variable.name!r}, expected a numpy array, a DataArray, a Dataset, a dict "
            "of arrays, or None"
        )
    array = returned if isinstance(returned, np.ma.MaskedArray) else np.asarray(returned)
    expected = tuple(s.stop - s.start for s in window)
    if array.shape != expected:
        raise FunctionError(
            f"returned shape {array.shape} for {variable.name!r}, expected {expected} ({', '.join(grid.spatial_dims)})"
        )
    return fit(array, variable)


# ---- labels ---------------------------------------------------------------------------------------------------


def _of_cells(array: xr.DataArray, grid: Grid) -> Any:
    """The values of a DataArray whose only dimension of more than one label is that of the cells."""
    (cells,) = grid.spatial_dims
    more = [d for d in array.dims if d != cells]
    if cells not in array.dims or any(array.sizes[d] != 1 for d in more):
        raise FunctionError(f"returned dimensions ({', '.join(map(str, array.dims))}), expected ({cells})")
    return array.isel(dict.fromkeys(more, 0)).data


def _oriented(array: xr.DataArray, grid: TilingGrid, window: tuple[slice, ...]) -> Any:
    """The values of a DataArray as (y, x), in the order of the grid's rows and columns."""
    y, x = (_dim_of(array, own, others) for own, others in zip(grid.dims_yx, (Y_NAMES, X_NAMES), strict=True))
    more = [d for d in array.dims if d not in (y, x)]
    sizes = ", ".join(f"{d} {n}" for d, n in array.sizes.items())
    if y is None or x is None or any(array.sizes[d] != 1 for d in more):
        raise FunctionError(f"returned dimensions ({sizes}), expected ({', '.join(grid.dims_yx)})")
    array = array.isel(dict.fromkeys(more, 0)).transpose(y, x)
    for dim, own, part in zip((y, x), grid.dims_yx, window, strict=True):
        if array.sizes[dim] == part.stop - part.start and _runs_backwards(array, dim, grid, own, part):
            array = array.isel({dim: slice(None, None, -1)})
    return array.data


def _dim_of(array: xr.DataArray, own: str, others: tuple[str, ...]) -> Hashable | None:
    return next((name for name in (own, *others) if name in array.dims), None)


def _runs_backwards(array: xr.DataArray, dim: Hashable, grid: TilingGrid, own: str, part: slice) -> bool:
    """Whether a DataArray's labels along ``dim`` are the region's in reverse; False if it has none.

    Raises :class:`FunctionError` if they are others.
    """
    if dim not in array.coords:
        return False
    labels = np.asarray(array.coords[dim].values)
    expected = grid.coordinate(own, part)
    if labels.dtype.kind not in "iuf":
        raise FunctionError(f"returned labels of dtype {labels.dtype} along {dim!r}, expected pixel centres")
    step = abs(float(grid.resolution_y if own == grid.dims_yx[0] else grid.resolution_x))
    # Labels that were kept in fewer bits are compared with what those can hold.
    held = expected.astype(labels.dtype if labels.dtype.kind == "f" else np.float64).astype(np.float64)
    off, off_backwards = (np.abs(v.astype(np.float64) - held).max() / step for v in (labels, labels[::-1]))
    if off <= TOLERANCE_PX:
        return False
    if off_backwards <= TOLERANCE_PX:
        return True
    raise FunctionError(
        f"returned labels {labels[0]:.12g} to {labels[-1]:.12g} along {dim!r}, {off:.3g} px off the region's "
        f"{expected[0]:.12g} to {expected[-1]:.12g} (allowed {float(TOLERANCE_PX):g})"
    )


# ---- dtypes ---------------------------------------------------------------------------------------------------


def fit(values: Array, variable: Variable) -> Array:
    """``values`` in the variable's dtype; the same array if it has that. Masked values become the fill value.

    Floats are rounded to fewer bits, anything else must be exact. Raises :class:`FunctionError` for what is not.
    """
    own, to = values.dtype, variable.np_dtype
    if isinstance(values, np.ma.MaskedArray):
        out = np.full(values.shape, variable.np_fill, to)
        valid = ~np.ma.getmaskarray(values)
        out[valid] = fit(np.ma.getdata(values)[valid], variable)
        return out
    if own == to or not values.size:
        return values.astype(to, copy=False)
    what = f"variable {variable.name!r} is {to.name}"
    if own.kind not in "biuf":
        raise FunctionError(f"returned dtype {own}, which is no number: {what}")
    if own.kind == "f":
        return _fit_floats(values, to, what)
    if own.kind == "b":
        return values.astype(to)
    low, high = int(values.min()), int(values.max())
    if to.kind != "f":
        least, most = (0, 1) if to.kind == "b" else (int(np.iinfo(to).min), int(np.iinfo(to).max))
        if low < least or high > most:
            raise FunctionError(f"returned {own.name} from {low} to {high}: {what}, which holds {least} to {most}")
    elif max(-low, high) > 2 ** (np.finfo(to).nmant + 1):
        _check_exact(values, to, what)
    return values.astype(to)


def _fit_floats(values: Array, to: np.dtype[Any], what: str) -> Array:
    if to.kind != "f":
        count = int(np.count_nonzero(np.isnan(values)))
        nan = f" with {count} NaN, which no integer is: put the fill value there," if count else ":"
        raise FunctionError(f"returned {values.dtype.name}{nan} {what}: round and convert it with .astype({to.name!r})")
    with np.errstate(over="ignore"):
        cast = values.astype(to)
    lost = int(np.count_nonzero(np.isinf(cast))) - int(np.count_nonzero(np.isinf(values)))
    if lost:
        most = float(np.finfo(to).max)
        raise FunctionError(f"returned {values.dtype.name} with {counted(lost, 'value')} beyond {most:.4g}: {what}")
    return cast


def _check_exact(values: Array, to: np.dtype[Any], what: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(to).astype(np.float64)
        # What rounds up to beyond the integers' dtype comes back as anything.
        beyond = 2.0 ** (values.dtype.itemsize * 8 - (values.dtype.kind == "i"))
        exact = np.isfinite(cast) & (cast < beyond) & (cast.astype(values.dtype) == values)
    if not exact.all():
        raise FunctionError(
            f"returned {values.dtype.name} with {counted(int(np.count_nonzero(~exact)), 'value')} that {to.name} cannot hold, such as "
            f"{int(values[~exact][0])}: {what}"
        )
