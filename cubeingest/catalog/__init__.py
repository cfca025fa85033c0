"""Which tiles there are, as a table: one row for each tile, region and axis position that it feeds."""

from cubeingest.catalog.files import REQUESTS_AT_ONCE
from cubeingest.catalog.model import Catalog, Misplaced, TileRow
from cubeingest.catalog.read import read_catalog

__all__ = ["REQUESTS_AT_ONCE", "Catalog", "Misplaced", "TileRow", "read_catalog"]
