"""A cube as one HTML page: a map of its regions, its records and history; kept current while an ingest runs."""

from cubeingest.page.live import ingest_with_page
from cubeingest.page.render import check_place
from cubeingest.page.report import write_report

__all__ = ["check_place", "ingest_with_page", "write_report"]
