"""Granules that are HDF5 or netCDF 4 files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np

from cubeingest.errors import TileError, nearest
from cubeingest.extras import import_extra
from cubeingest.points.arrow import are_exact
from cubeingest.points.model import BATCH_POINTS, Array, Batch, PointSource, Run
from cubeingest.storage import is_remote, public_href


class Hdf5Granule:
    """An open HDF5 file. A group that it lacks, or that lacks the folder of the coordinates, has no points (a beam that is off)."""

    has_ranges = True

    def __init__(self, href: str, place: str | BytesIO, source: PointSource) -> None:
        self.href, self._source = href, source
        h5py = self.load()
        # A copy has no name but that of an open file, in which HDF5 finds none.
        self._copy = open(place, "rb", buffering=0) if is_remote(href) and isinstance(place, str) else None  # noqa: SIM115
        options = {} if is_remote(href) else {"locking": False}
        try:
            self._file: Any = h5py.File(self._copy or place, "r", **options)
        except Exception as e:  # noqa: BLE001  (HDF5's errors are of many kinds)
            if self._copy is not None:
                self._copy.close()
            raise TileError(f"granule {public_href(href)!r} cannot be opened: {_reason(e)}{_hint(place)}") from None
        self._decoders: dict[tuple[str, str], Callable[[Array], Array]] = {}

    @staticmethod
    def load() -> Any:
        """The library that reads such files. Raises :class:`ExtraError` without it."""
        return import_extra("h5py", "points", "reading HDF5")

    def close(self) -> None:
        self._file.close()
        if self._copy is not None:
            self._copy.close()

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        groups = self._source.groups or ("",)
        there = [g for g in groups if self._has_folder(g)]
        if not there:
            known = [name for name, item in self._file.items() if hasattr(item, "items")]
            raise TileError(
                f"granule {public_href(self.href)!r} has none of the groups {', '.join(map(repr, groups))} with "
                f"{self._source.x!r} in it{nearest(groups[0], known)} (groups: {', '.join(known[:12]) or 'none'})"
            )
        return tuple(Run(g, self._length(g)) for g in there)

    def batches(self, run: str, start: int, stop: int | None, names: Sequence[str]) -> Iterator[Batch]:
        n = self._length(run)
        paths = [self._source.x, self._source.y, *(self._source.columns[name] for name in names)]
        data = [self._dataset(run, path, n) for path in paths]
        stop = n if stop is None else stop
        if stop > n:
            raise TileError(
                f"{self._name(run)} has {n} points, not the {stop} that it had when it was scanned: run again"
            )
        for first in range(start, stop, BATCH_POINTS):
            last = min(first + BATCH_POINTS, stop)
            x, y, *columns = (self._read(run, p, d, first, last) for p, d in zip(paths, data, strict=True))
            yield Batch(first, _float64(x), _float64(y), dict(zip(names, columns, strict=True)))

    def _name(self, run: str) -> str:
        return f"granule {public_href(self.href)!r}" + (f", group {run!r}" if run else "")

    def _has_folder(self, group: str) -> bool:
        folder = _join(group, self._source.x.rpartition("/")[0])
        try:
            return not folder or hasattr(self._file.get(folder), "items")
        except (OSError, RuntimeError, KeyError) as e:
            raise TileError(f"{self._name(group)} cannot be read: {_reason(e)}") from None

    def _length(self, run: str) -> int:
        return int(self._dataset(run, self._source.x, None).shape[0])

    def _dataset(self, run: str, path: str, n: int | None) -> Any:
        """A dataset with one number for each of ``n`` points. Raises :class:`TileError` that names it."""
        try:
            data = self._file.get(_join(run, path))
        except (OSError, RuntimeError, KeyError) as e:
            raise TileError(f"{self._name(run)}, dataset {path!r} cannot be read: {_reason(e)}") from None
        if data is None or not hasattr(data, "shape"):
            known = self._datasets(run)
            raise TileError(
                f"{self._name(run)} has no dataset {path!r}{nearest(path, known)} (datasets: {', '.join(known[:12])})"
            )
        if data.dtype.kind not in "iufb":
            raise TileError(f"{self._name(run)}, dataset {path!r} is {data.dtype}: only numbers can be gridded")
        if len(data.shape) != 1:
            raise TileError(f"{self._name(run)}, dataset {path!r} has shape {data.shape}: one number a point is needed")
        if n is not None and data.shape[0] != n:
            raise TileError(
                f"{self._name(run)}, dataset {path!r} has {data.shape[0]} values for {n} points: "
                "it must have as many as the coordinates"
            )
        return data

    def _datasets(self, run: str) -> list[str]:
        found: list[str] = []
        folder = self._file.get(run) if run else self._file
        if hasattr(folder, "visititems"):
            folder.visititems(lambda name, item: found.append(name) if hasattr(item, "shape") else None)
        return found

    def _read(self, run: str, path: str, data: Any, start: int, stop: int) -> Array:
        key = (run, path)
        if key not in self._decoders:
            self._decoders[key] = _decoder(data)
        try:
            raw = data[start:stop]
        except Exception as e:  # noqa: BLE001  (as above)
            raise TileError(
                f"{self._name(run)}, dataset {path!r} cannot be read at {start}:{stop}: {_reason(e)}"
            ) from None
        return self._decoders[key](raw)


def _decoder(data: Any) -> Callable[[Array], Array]:
    """From stored numbers to values: what ``_FillValue``, ``missing_value`` and a float's valid range leave out is NaN; then scale and offset.

    Integers stay integers where nothing of a batch is left out and nothing scales them.
    """
    nodata = [v for key in ("_FillValue", "missing_value") for v in _numbers(data, key) if _fits(v, data.dtype)]
    nodata = [v for v in dict.fromkeys(nodata) if not np.isnan(v)]
    low, high = _numbers(data, "valid_min")[:1], _numbers(data, "valid_max")[:1]
    span = _numbers(data, "valid_range")
    if len(span) == 2:
        low, high = span[:1], span[1:]
    if data.dtype.kind != "f":
        low = high = []
    scale, offset = _numbers(data, "scale_factor")[:1], _numbers(data, "add_offset")[:1]

    def decode(raw: Array) -> Array:
        wrong = np.zeros(0, bool)
        for v in nodata:
            wrong = raw == raw.dtype.type(v) if not len(wrong) else wrong | (raw == raw.dtype.type(v))
        for bounds, compare in ((low, np.less), (high, np.greater)):
            for v in bounds:
                out = compare(raw, raw.dtype.type(v))
                wrong = out if not len(wrong) else wrong | out
        values = raw
        if scale or offset:
            values = raw * np.float64(scale[0] if scale else 1) + np.float64(offset[0] if offset else 0)
        if len(wrong) and wrong.any():
            if values.dtype.kind in "iu" and not are_exact(values[~wrong]):
                raise TileError(
                    f"dataset {data.name!r} has missing values, and integers beyond 2**53, which float64 does not hold with them"
                )
            values = np.where(wrong, values.dtype.type("nan") if values.dtype.kind == "f" else np.nan, values)
        return values

    return decode


def _numbers(data: Any, key: str) -> list[Any]:
    """An attribute's numbers; none if it is absent or something else."""
    try:
        value = np.atleast_1d(np.asarray(data.attrs[key]))
    except (KeyError, OSError, RuntimeError, TypeError):
        return []
    return list(value.ravel()) if value.dtype.kind in "iuf" else []


def _fits(value: Any, dtype: np.dtype[Any]) -> bool:
    """Whether a nodata value can occur among numbers of a dtype."""
    if dtype.kind == "f":
        return True
    if dtype.kind == "b" or np.isnan(value) or value != np.rint(value):
        return False
    info = np.iinfo(dtype)
    return bool(info.min <= int(value) <= info.max)


def _float64(values: Array) -> Array:
    return values.astype(np.float64, copy=False)


def _join(group: str, path: str) -> str:
    return path if path.startswith("/") else "/".join(part for part in (group.strip("/"), path) if part)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _hint(place: str | BytesIO) -> str:
    """What to do about a file that looks like netCDF, but of the older kind."""
    try:
        if isinstance(place, BytesIO):
            begin = place.getvalue()[:3]
        else:
            with open(place, "rb") as file:
                begin = file.read(3)
    except OSError:
        return ""
    return " (it is netCDF 3: convert it with nccopy -k nc4)" if begin == b"CDF" else ""
