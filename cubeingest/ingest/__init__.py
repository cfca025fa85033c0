"""Fill regions from their tiles or by a function, cooperatively or each by itself, and account for every slot."""

from cubeingest.ingest.blocks import refuse_large, slot_blocks
from cubeingest.ingest.chunks import stored_checksum
from cubeingest.ingest.compute import fill_unit
from cubeingest.ingest.fill import IngestJob, fill_slot
from cubeingest.ingest.function import FunctionSource, SourceFunction, keyword
from cubeingest.ingest.granules import settle_granules
from cubeingest.ingest.materialize import MATERIALIZED, why_unreadable
from cubeingest.ingest.points import (
    POINTS_AT_ONCE,
    RegionStatistics,
    aggregate_task,
    points_in,
    reading,
    statistics_windows,
)
from cubeingest.ingest.prepare import current_ids, expected_slots, prepare
from cubeingest.ingest.registered import functions_of, register_statistic
from cubeingest.ingest.report import REGIONS_IN_METADATA, Failure, IngestReport, failure_of
from cubeingest.ingest.run import ingest

__all__ = [
    "MATERIALIZED",
    "POINTS_AT_ONCE",
    "REGIONS_IN_METADATA",
    "Failure",
    "FunctionSource",
    "IngestJob",
    "IngestReport",
    "RegionStatistics",
    "SourceFunction",
    "aggregate_task",
    "current_ids",
    "expected_slots",
    "failure_of",
    "fill_slot",
    "fill_unit",
    "functions_of",
    "ingest",
    "keyword",
    "points_in",
    "prepare",
    "reading",
    "refuse_large",
    "register_statistic",
    "settle_granules",
    "slot_blocks",
    "statistics_windows",
    "stored_checksum",
    "why_unreadable",
]
