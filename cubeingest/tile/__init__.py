"""One source of pixels: what it is, whether it fits the grid, and its pixels. The only home of rasterio.

A raster on the grid's lattice is read as it is (``raster``), one off it is resampled (``warp``), and a netCDF, HDF5 or Zarr source with
named dimensions is read through xarray (``labelled``).
"""

from cubeingest.remote import SourceId, source_id
from cubeingest.spec import Variable, storage_of
from cubeingest.storage import public_href
from cubeingest.tile.chunks import ADVICE, not_as_is, open_blocks, why_no_variable, why_not
from cubeingest.tile.cog import BLOCK_PIXELS, Cog, CogWriter, has_ghost, is_whole_cog, read_cog_tags
from cubeingest.tile.coordinates import labels_for
from cubeingest.tile.fit import Placement, Window, place
from cubeingest.tile.geotags import check_crs
from cubeingest.tile.header import Header, gdal_env, read_header
from cubeingest.tile.labelled import labelled_header, open_array, read_labelled_header, reader_at
from cubeingest.tile.mask import regions_of_mask
from cubeingest.tile.output import BLOCK, RasterFile, RasterForm, write_raster
from cubeingest.tile.raster import TileReader, open_tile
from cubeingest.tile.survey import Survey, read_survey
from cubeingest.tile.warp import WarpTile, group_tiles, in_turns, kernel_reach, open_warped

__all__ = [
    "ADVICE", "BLOCK", "BLOCK_PIXELS", "Cog", "CogWriter", "Header", "Placement", "RasterFile", "RasterForm", "SourceId", "Survey", "TileReader",
    "WarpTile", "Window", "check_crs", "gdal_env", "group_tiles", "has_ghost", "header_for", "in_turns", "is_whole_cog", "kernel_reach", "labelled_header",
    "labels_for", "not_as_is", "open_array", "open_blocks", "open_tile", "open_warped", "place", "public_href", "read_cog_tags", "read_header",
    "read_survey", "reader_at", "regions_of_mask", "source_id", "storage_of", "why_no_variable", "why_not", "write_raster",
]  # fmt: skip


def header_for(variable: Variable, href: str, copy: str | None = None) -> Header:
    """What one of a variable's sources says of itself, read as its spec says. Raises :class:`TileError`."""
    array = variable.source.array if variable.source else None
    if array is not None:
        return read_labelled_header(href, array, copy)
    return read_header(href, storage_of(variable), copy)
