"""Hrefs that are no files here: how they are opened, what tells their versions apart, and copies of them on this disk.

Everything runs on fsspec's event loop, and may be called from any thread.
"""

from cubeingest.remote.addresses import check_href, gdal_options, gdal_path, local_path, readable_href
from cubeingest.remote.fetch import FETCH_BYTES, fetched
from cubeingest.remote.references import read_part, url_of, version_of
from cubeingest.remote.scratch import Stopped, bound_bytes, scratch_file
from cubeingest.remote.sources import NOWHERE, SourceId, expand_glob, read_bytes, source_id
from cubeingest.remote.trouble import Discreet, scrub, why_unreachable

__all__ = [
    "FETCH_BYTES",
    "NOWHERE",
    "Discreet",
    "SourceId",
    "Stopped",
    "bound_bytes",
    "check_href",
    "expand_glob",
    "fetched",
    "gdal_options",
    "gdal_path",
    "local_path",
    "read_bytes",
    "read_part",
    "readable_href",
    "scratch_file",
    "scrub",
    "source_id",
    "url_of",
    "version_of",
    "why_unreachable",
]
