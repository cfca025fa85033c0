"""Granules: files of points, opened by what their names end in, here or as a copy of what is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from io import BytesIO
from threading import Event

from cubeingest.errors import TileError
from cubeingest.points.csvfile import CsvGranule
from cubeingest.points.hdf5 import Hdf5Granule
from cubeingest.points.model import Granule, PointSource
from cubeingest.points.parquet import ParquetGranule
from cubeingest.remote import SourceId, check_href, fetched, local_path, read_bytes, source_id, why_unreachable
from cubeingest.storage import is_remote, public_href

READERS: dict[str, type[ParquetGranule | CsvGranule | Hdf5Granule]] = {
    ".parquet": ParquetGranule, ".pq": ParquetGranule, ".geoparquet": ParquetGranule, ".csv": CsvGranule, ".csv.gz": CsvGranule,
    ".h5": Hdf5Granule, ".hdf5": Hdf5Granule, ".he5": Hdf5Granule, ".nc": Hdf5Granule, ".nc4": Hdf5Granule,
}  # fmt: skip
"""What reads a granule, by the end of its name."""

MOST_BYTES_IN_MEMORY = 256 * 2**20
"""The largest remote granule that is read into memory where there is no room on the disk for a copy of it."""


def reader_of(href: str) -> type[ParquetGranule | CsvGranule | Hdf5Granule]:
    """What reads a granule. Raises :class:`TileError` for one of an unknown kind."""
    name = public_href(href)
    for end, reader in READERS.items():
        if name.lower().endswith(end):
            return reader
    raise TileError(f"granule {name!r} is of no known kind: its name must end in {', '.join(READERS)}")


def load_reader(href: str) -> None:
    """Import what reads a granule. Raises :class:`ExtraError` where that is not installed, :class:`TileError` for one of an unknown kind."""
    reader_of(href).load()


@lru_cache(1000)
def has_ranges(href: str) -> bool:
    """Whether a short range of a run costs no more than its share of the whole."""
    return not is_remote(href) and reader_of(href).has_ranges


@contextmanager
def open_granule(href: str, source: PointSource) -> Iterator[Granule]:
    """A granule, open for as long as the context lasts. What is elsewhere is fetched whole first.

    Raises :class:`TileError` for one that is not there, is damaged, or is of an unknown kind.
    """
    name = public_href(href)
    check_href(href)
    reader = reader_of(href)
    try:
        identity = source_id(href, source.storage)
    except FileNotFoundError:
        raise TileError(f"granule {name!r} is not there") from None
    with _place(href, identity, source) as place, closing(reader(href, place, source)) as granule:
        yield granule


@contextmanager
def _place(href: str, identity: SourceId, source: PointSource) -> Iterator[str | BytesIO]:
    """Where a granule can be read: its path, that of a copy, or its bytes."""
    if not is_remote(href):
        yield local_path(href)
        return
    with fetched({href: identity}, source.storage, Event(), begins=(b"",)) as copies:
        if href in copies:
            yield copies[href]
            return
    size = identity.size
    if size is not None and size > MOST_BYTES_IN_MEMORY:
        raise TileError(
            f"granule {public_href(href)!r} has {size} bytes, for which the scratch folder has no room: "
            "free some, or raise CUBEINGEST_SCRATCH_BYTES"
        )
    try:
        content = read_bytes(href, source.storage)
    except Exception as e:  # noqa: BLE001  (each cloud's library has errors of its own)
        raise TileError(f"cannot reach {public_href(href)!r}: {why_unreachable(e) or 'it is not there'}") from None
    yield BytesIO(content)
