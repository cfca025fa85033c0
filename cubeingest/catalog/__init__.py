"""Which tiles there are, as a table: one row for each tile, region and axis position that it feeds."""

from cubeingest.catalog.model import Catalog, TileRow
from cubeingest.catalog.read import read_catalog
from cubeingest.listing import REQUESTS_AT_ONCE

__all__ = ["REQUESTS_AT_ONCE", "Catalog", "TileRow", "read_catalog"]
