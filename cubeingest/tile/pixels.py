"""From a source's pixels to the variable's: nodata becomes the fill value, and nothing else may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.errors import TileError
from cubeingest.spec import Variable
from cubeingest.storage import public_href

if TYPE_CHECKING:
    import numpy.typing as npt

Array = np.ndarray[Any, Any]


class NodataMap:
    """Maps pixels of one source, of ``dtype`` and with ``nodata`` (None: none), to those of a variable."""

    def __init__(self, href: str, dtype: np.dtype[Any], nodata: float | int | None, variable: Variable) -> None:
        self._href, self._variable = href, variable
        self._fill = variable.np_fill
        self._nodata = as_dtype(nodata, dtype)
        self._fill_here = as_dtype(self._fill.item(), dtype)
        self._maps = not same(self._nodata, self._fill)

    def apply(self, raw: Array, out: Array) -> None:
        """Copy ``raw`` to ``out`` (which may be the same), nodata as the fill value.

        Raises :class:`TileError` for valid pixels equal to the fill value.
        """
        if raw is out and not self._maps:
            return
        missing = None
        if self._maps:
            missing = None if self._nodata is None else equals(raw, self._nodata)
            self.refuse_fill(raw, missing)
        if raw is not out:
            out[...] = raw
        if missing is not None:
            out[missing] = self._fill

    def refuse_fill(self, raw: Array, missing: npt.NDArray[np.bool_] | None) -> None:
        """Raise :class:`TileError` if pixels that are not ``missing`` equal the fill value."""
        if self._fill_here is None or _is_nan(self._fill_here):
            return  # the tile's dtype cannot hold the fill value; NaN is no valid pixel
        taken = raw == self._fill_here
        if missing is not None:
            taken &= ~missing
        count = int(np.count_nonzero(taken))
        if count:
            nodata = "none" if self._nodata is None else self._nodata
            raise TileError(
                f"tile {public_href(self._href)!r} has valid pixels equal to the fill value {self._fill} of variable "
                f"{self._variable.name!r} (at least {count}; its nodata is {nodata}): they would read as missing. If "
                f"{self._fill} means no data there, say source.nodata: {self._fill}; else choose another fill_value"
            )


def as_dtype(value: float | int | None, dtype: np.dtype[Any]) -> np.generic | None:
    """``value`` as a scalar of ``dtype``; None if it cannot hold it, so that no pixel equals it."""
    if value is None or (dtype.kind in "uib" and np.isnan(value)):
        return None
    if dtype.kind == "b" and value not in (0, 1):
        return None
    if dtype.kind in "ui" and not (np.iinfo(dtype).min <= value <= np.iinfo(dtype).max and value == int(value)):
        return None
    if dtype.kind == "b" and value not in (0, 1):
        return None
    scalar: np.generic = dtype.type(value)
    return scalar


def equals(raw: Array, nodata: np.generic) -> npt.NDArray[np.bool_]:
    """Where ``raw`` is ``nodata``; NaN is equal to NaN here."""
    result: npt.NDArray[np.bool_] = np.isnan(raw) if _is_nan(nodata) else raw == nodata
    return result


def _is_nan(value: Any) -> bool:
    return bool(np.isnan(value))


def same(nodata: np.generic | None, fill: np.generic) -> bool:
    """Whether a source's nodata is the fill value; NaN is equal to NaN here."""
    return nodata is not None and (nodata == fill or (_is_nan(nodata) and _is_nan(fill)))
