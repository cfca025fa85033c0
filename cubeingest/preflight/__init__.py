"""What an ingest would do, how long it would take, and what would go wrong; found before anything is written."""

from cubeingest.preflight.report import PlanReport, preflight

__all__ = ["PlanReport", "preflight"]
