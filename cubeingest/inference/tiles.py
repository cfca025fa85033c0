"""The tiles that were named: paths, globs, folders, lists and addresses, and what their headers say."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeingest.catalog import REQUESTS_AT_ONCE
from cubeingest.errors import CatalogError, TileError
from cubeingest.remote import expand_glob, why_unreachable
from cubeingest.storage import is_remote, public_href
from cubeingest.tile import Header, read_survey
from cubeingest.wording import counted

if TYPE_CHECKING:
    from cubeingest.tile import Survey

SUFFIXES = (
    ".tif", ".tiff", ".vrt", ".jp2", ".img", ".asc", ".hgt", ".bil", ".nc", ".h5", ".hdf", ".grib", ".grb", ".grib2", ".zarr",
)  # fmt: skip
"""Ends of names that are taken for rasters in a folder."""

SAMPLE_PX = 512
"""Side of the piece of a tile that is read to see which values it holds."""

SAMPLED_TILES = 8
"""Tiles of a variable that a piece is read of."""

EXAMPLES = 3
"""Tiles that a note names."""


@dataclass(frozen=True)
class Seen:
    """A tile that was read: ``href`` as it is opened, ``name`` as the spec will write it."""

    href: str
    name: str
    header: Header
    band_names: tuple[str | None, ...] = ()

    @cached_property
    def nodata(self) -> tuple[float | int | None, ...]:
        """Nodata of each band, None where the dtype cannot hold it. NaN is one object, so that tuples compare."""
        return tuple(_held(n, d) for n, d in zip(self.header.nodata, self.header.dtypes, strict=True))


@dataclass(frozen=True)
class Misfit:
    """A tile that is left out. ``kind`` completes "3 of 20 tiles ..."; ``detail`` is what this tile has."""

    kind: str
    name: str
    detail: str = ""


NAN = float("nan")


def _held(nodata: float | int | None, dtype: str) -> float | int | None:
    if nodata is None or dtype.startswith("complex"):
        return None
    if np.isnan(nodata):
        return NAN if np.dtype(dtype).kind == "f" else None
    if np.dtype(dtype).kind == "f":
        return float(nodata)
    limits = np.iinfo(dtype)
    return int(nodata) if nodata == int(nodata) and limits.min <= nodata <= limits.max else None


def expand(tiles: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Hrefs that paths, globs, folders and ``@lists`` stand for, each once, in order; local ones as absolute paths.

    Raises :class:`CatalogError` for one that stands for nothing.
    """
    return list(dict.fromkeys(href for text in tiles for href in _expand(os.fspath(text))))


def _expand(text: str, base: str = "") -> Iterator[str]:
    if text.startswith("@"):
        yield from _read_list(os.path.join(base, os.path.expanduser(text[1:])))
        return
    if is_remote(text):
        path = public_href(text).partition("://")[2].partition("/")[2]
        yield from _expand_remote(text) if {"*", "["} & set(path) else [text]
        return
    path = os.path.abspath(os.path.join(base, os.path.expanduser(text.removeprefix("file://"))))
    if os.path.isdir(path) and not path.endswith(".zarr"):
        found = sorted(_rasters_in(path))
        what = f"folder {text!r} holds no raster (a name that ends in {', '.join(SUFFIXES[:4])}, ...)"
    elif os.path.exists(path) or not {"*", "?", "["} & set(text):
        found, what = [path], ""
    else:
        found, what = sorted(glob(path, recursive=True)), f"no file matches {text!r}"
    if not found:
        raise CatalogError(what)
    yield from found


def _rasters_in(folder: str) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        names = [*files, *(f for f in folders if f.endswith(".zarr"))]
        folders[:] = [f for f in folders if not f.endswith(".zarr")]
        yield from (os.path.join(where, name) for name in names if name.lower().endswith(SUFFIXES))


def _read_list(path: str) -> Iterator[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise CatalogError(f"cannot read list {path!r}: {e}") from None
    for line in (line.strip() for line in lines):
        if line and not line.startswith("#"):
            yield from _expand(line.removeprefix("@"), os.path.dirname(path))


def _expand_remote(pattern: str) -> list[str]:
    try:
        found = expand_glob(pattern)
    except Exception as e:  # noqa: BLE001  (each cloud's library has errors of its own)
        raise CatalogError(f"cannot list {public_href(pattern)!r}: {why_unreachable(e)}") from None
    if not found:
        raise CatalogError(f"no file matches {public_href(pattern)!r}")
    return found


def read_tiles(hrefs: Sequence[str], base: str) -> tuple[list[Seen], list[Misfit]]:
    """The headers of all tiles, and those that cannot be read. Names are relative to the folder ``base`` where they lie in it.

    Raises :class:`TileError` if none can be read.
    """
    if not hrefs:
        raise CatalogError("no tiles: name some, such as tiles/*.tif")
    with ThreadPoolExecutor(min(REQUESTS_AT_ONCE, len(hrefs))) as pool:
        surveys = list(pool.map(_survey, hrefs))
    seen, misfits = [], []
    for href, survey in zip(hrefs, surveys, strict=True):
        name = name_of(href, base)
        if not _is_text(name):
            misfits.append(Misfit("have a name that is no UTF-8", ascii(name)))
        elif isinstance(survey, str):
            misfits.append(Misfit("cannot be read", name, reason_of(survey, href)))
        else:
            seen.append(Seen(href, name, survey.header, survey.band_names))
    if not seen:
        worst = misfits[0]
        raise TileError(
            f"{'the tile cannot' if len(hrefs) == 1 else f'none of the {len(hrefs):,} tiles can'} be read: {worst.name!r}: {worst.detail or worst.kind}"
        )
    return seen, misfits


def reason_of(error: object, href: str) -> str:
    """A message without the tile that it is about."""
    return str(error).removeprefix(f"tile {public_href(href)!r} ")


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _survey(href: str, side_px: int = 0) -> Survey | str:
    try:
        return read_survey(href, side_px=side_px)
    except TileError as e:
        return str(e)


def name_of(href: str, base: str) -> str:
    """``href`` as a spec in the folder ``base`` writes it; of an address what may be kept."""
    if is_remote(href):
        return public_href(href)
    return os.path.relpath(href, base) if href.startswith(os.path.join(base, "")) else href


def sample_values(tiles: Sequence[Seen]) -> tuple[set[Any], int]:
    """Values of the pixels in the middle of some of ``tiles``, and of how many."""
    some = (
        [tiles[i * len(tiles) // SAMPLED_TILES] for i in range(SAMPLED_TILES)] if len(tiles) > SAMPLED_TILES else tiles
    )
    with ThreadPoolExecutor(len(some)) as pool:
        found = list(pool.map(partial(_survey, side_px=SAMPLE_PX), [t.href for t in some]))
    pixels = [f.pixels for f in found if not isinstance(f, str)]
    return {v for p in pixels for v in np.unique(p).tolist()}, len(pixels)


def notes_of(misfits: Sequence[Misfit], total: int) -> list[str]:
    """One line for each kind: how many tiles, and the first examples."""
    counts = Counter(m.kind for m in misfits)
    out = []
    for kind, count in counts.items():
        some = [m for m in misfits if m.kind == kind][:EXAMPLES]
        examples = ", ".join(m.name + (f" ({m.detail})" if m.detail else "") for m in some)
        out.append(f"{count:,} of {counted(total, 'tile')} {kind}: {examples}" + (", ..." if count > EXAMPLES else ""))
    return out
