"""What reads the files of a catalog: where it is not installed, that is said once and before any work, not of each file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from cubeingest.errors import TileError
from cubeingest.extras import import_client, import_extra
from cubeingest.points import load_reader
from cubeingest.remote import local_path, readable_href
from cubeingest.spec import Source
from cubeingest.storage import kind_of, public_href

ENGINES = ("h5netcdf", "netCDF4")
"""Libraries by which xarray reads netCDF and HDF5; ours is the first."""


def load_libraries(hrefs: Sequence[str], source: Source, are_granules: bool = False) -> None:
    """Import what the files at ``hrefs`` are read by, as far as their addresses tell. Raises :class:`ExtraError`."""
    by_scheme = {href.partition("://")[0] if "://" in href else "": href for href in hrefs}
    for href in by_scheme.values():
        import_client(kind_of(readable_href(href, source.storage)) or "")
    by_suffix = {PurePosixPath(public_href(href)).suffix.lower(): href for href in hrefs} if are_granules else {}
    for href in by_suffix.values():
        with suppress(TileError):  # of an unknown kind, which is told of that granule alone
            load_reader(href)
    # A folder is a Zarr store, which the core reads.
    if (
        source.array is not None
        and hrefs
        and not Path(local_path(hrefs[0])).is_dir()
        and not any(map(find_spec, ENGINES))
    ):
        import_extra(ENGINES[0], "netcdf", "reading netCDF and HDF5")
