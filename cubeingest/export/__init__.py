"""A cube as files again: GeoTIFFs with a mosaic, or tables of points."""

from cubeingest.export.files import overlapped
from cubeingest.export.run import ExportReport, export

__all__ = ["ExportReport", "export", "overlapped"]
