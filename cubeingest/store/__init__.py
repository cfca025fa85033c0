"""The Icechunk repository that holds a cube: where it is, sessions, commits that lose nothing, who is at work in it."""

from cubeingest.store.arrays import delete_present, open_array, put_chunk, read_window
from cubeingest.store.history import Commit, is_ancestor, newest_of_run, read_history
from cubeingest.store.internal import FORMAT, VALID, is_unused, read_internal
from cubeingest.store.location import is_local, normalize_uri, quiet_icechunk, reason_of
from cubeingest.store.references import (
    ALLOWED_VARIABLE,
    Place,
    as_prefix,
    closed_to_this_user,
    declare,
    declared,
    find_places,
    named_by_this_user,
    opened_by_this_user,
)
from cubeingest.store.repository import MAIN, OWN_BRANCHES, Store, open_store, resolve_ref, store_exists
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
from cubeingest.store.setup import create_store, is_split, reopen_unused, save_splitting
from cubeingest.store.splitting import LEDGER, MAX_MANIFESTS, ledger_dims, ledger_split, manifest_split, splitting

__all__ = [
    "ALLOWED_VARIABLE",
    "FORMAT",
    "LEDGER",
    "MAIN",
    "MAX_MANIFESTS",
    "OWN_BRANCHES",
    "VALID",
    "Commit",
    "Place",
    "Run",
    "Store",
    "as_prefix",
    "check_clock",
    "closed_to_this_user",
    "create_store",
    "declare",
    "declared",
    "delete_present",
    "find_places",
    "is_ancestor",
    "is_local",
    "is_split",
    "is_unused",
    "last_change",
    "ledger_dims",
    "ledger_split",
    "made_known",
    "manifest_split",
    "named_by_this_user",
    "newest_of_run",
    "normalize_uri",
    "open_array",
    "open_store",
    "opened_by_this_user",
    "put_chunk",
    "quiet_icechunk",
    "read_history",
    "read_internal",
    "read_runs",
    "read_window",
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
