"""Run a worker function over tasks, here or on Dask, and commit what it returns: all of it or none.

A worker gets a pickled fork of the coordinator's session for each slot, writes into it and returns it. The
coordinator keeps the pickles until the commit that holds them has succeeded.
"""

from cubeingest.engine.interrupts import Interrupts, interrupts
from cubeingest.engine.merge import Merger, timestamp
from cubeingest.engine.pools import ClusterPool, Pool, SerialPool, default_workers, open_pool
from cubeingest.engine.probe import PROBE, PROBE_LENGTH
from cubeingest.engine.work import (
    EachSlot,
    Options,
    Progress,
    SlotResult,
    Unit,
    UnitFunction,
    explain,
    failed,
    how_of,
    slots_in,
)

__all__ = [
    "PROBE",
    "PROBE_LENGTH",
    "ClusterPool",
    "EachSlot",
    "Interrupts",
    "Merger",
    "Options",
    "Pool",
    "Progress",
    "SerialPool",
    "SlotResult",
    "Unit",
    "UnitFunction",
    "default_workers",
    "explain",
    "failed",
    "how_of",
    "interrupts",
    "open_pool",
    "slots_in",
    "timestamp",
]
