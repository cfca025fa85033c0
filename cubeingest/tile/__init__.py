"""One raster: what it is, whether it fits the grid, and its pixels. The only home of rasterio."""

from cubeingest.remote import SourceId, source_id
from cubeingest.spec import storage_of
from cubeingest.storage import public_href
from cubeingest.tile.fit import Placement, Window, place
from cubeingest.tile.header import Header, read_header
from cubeingest.tile.raster import TileReader, open_tile

__all__ = [
    "Header", "Placement", "SourceId", "TileReader", "Window", "open_tile", "place", "public_href", "read_header", "source_id",
    "storage_of",
]  # fmt: skip
