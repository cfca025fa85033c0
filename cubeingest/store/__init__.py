"""The Icechunk repository that holds a cube: where it is, sessions, commits that lose nothing, who is at work in it."""

from cubeingest.store.arrays import open_array
from cubeingest.store.history import Commit, is_ancestor, read_history
from cubeingest.store.location import is_local, normalize_uri, quiet_icechunk, reason_of
from cubeingest.store.repository import (
    FORMAT,
    MAIN,
    OWN_BRANCHES,
    Store,
    create_store,
    is_split,
    is_unused,
    open_store,
    read_internal,
    read_spec_of,
    reopen_unused,
    resolve_ref,
    save_splitting,
    store_exists,
)
from cubeingest.store.runs import (
    Run,
    check_clock,
    last_change,
    made_known,
    read_runs,
    refuse_beside,
    remove_dead,
    was_collected_since,
)
from cubeingest.store.splitting import MAX_MANIFESTS, manifest_split, splitting

__all__ = [
    "FORMAT",
    "MAIN",
    "MAX_MANIFESTS",
    "OWN_BRANCHES",
    "Commit",
    "Run",
    "Store",
    "check_clock",
    "create_store",
    "is_ancestor",
    "is_local",
    "is_split",
    "is_unused",
    "last_change",
    "made_known",
    "manifest_split",
    "normalize_uri",
    "open_array",
    "open_store",
    "quiet_icechunk",
    "read_history",
    "read_internal",
    "read_runs",
    "read_spec_of",
    "reason_of",
    "refuse_beside",
    "remove_dead",
    "reopen_unused",
    "resolve_ref",
    "save_splitting",
    "splitting",
    "store_exists",
    "was_collected_since",
]
