"""Give back what failed and killed runs left in a store, and old snapshots that nobody needs."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cubeingest.errors import GridError, StoreError
from cubeingest.store import MAIN, Store, is_ancestor, made_known, read_runs, reason_of, remove_dead

if TYPE_CHECKING:
    import icechunk

CLOCKS_DIFFER = timedelta(minutes=10)
"""What is younger stays in an object store, whoever wrote it: its clock is not ours, and a commit that is no ingest's
(``init --update``) is not known beforehand."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class GcReport:
    """What was removed, or with ``dry_run`` would be. ``bytes`` is what was freed.

    A dry run counts what is garbage already, and the snapshots that would be forgotten, but not what only they hold.
    """

    store: str
    dry_run: bool
    runs_forgotten: int
    snapshots_expired: int
    snapshots: int
    chunks: int
    manifests: int
    bytes: int
    errors: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "store": self.store, "dry_run": self.dry_run, "runs_forgotten": self.runs_forgotten,
            "snapshots_expired": self.snapshots_expired, "snapshots": self.snapshots, "chunks": self.chunks,
            "manifests": self.manifests, "bytes": self.bytes, "errors": list(self.errors),
        }  # fmt: skip

    @property
    def exit_code(self) -> int:
        return 1 if self.errors else 0


def parse_age(text: str) -> timedelta:
    """``90s``, ``30m``, ``12h``, ``7d``, ``2w``. Raises :class:`GridError` for anything else."""
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if match is None:
        raise GridError(f"age {text!r}: write a number and a unit, such as 90s, 30m, 12h, 7d or 2w")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def collect_garbage(
    store: Store,
    older_than: timedelta,
    expire: timedelta | None = None,
    keep: int | None = None,
    dry_run: bool = False,
) -> GcReport:
    """Remove what no branch and no tag leads to and is older than ``older_than``.

    ``expire`` first makes the history forget snapshots older than that, ``keep`` all but the newest so many of the branch,
    both together what both allow; what is tagged, and the tips of branches, stay. What the newest snapshot holds, the
    ledger with it, is never touched.

    Raises :class:`StoreError` while an ingest is running, and holds off those that would start meanwhile; :class:`GridError` for a
    negative age, or a ``keep`` below 1.
    """
    import icechunk

    if keep is not None and keep < 1:
        raise GridError(f"keep is {keep}: it must be 1 or more")
    if min(older_than, expire or older_than) < timedelta(0):
        raise GridError(f"older_than is {older_than}, expire {expire}: an age cannot be negative")
    if not store.is_local:
        older_than = max(older_than, CLOCKS_DIFFER)
    alive = [run for run in read_runs(store) if run.is_alive]
    if alive:
        raise StoreError(
            f"{alive[0].doing} in {store.uri!r} by {alive[0]}: nothing was removed; try again when it has ended"
        )
    now = datetime.now(UTC)
    try:
        with made_known(store, uuid.uuid4().hex[:12], "gc"):
            dead = [r for r in read_runs(store) if not r.is_alive] if dry_run else remove_dead(store)
            bound = _expire_before(store, now, expire, keep)
            expired: set[str] = set()
            with store.exclusive():
                history = _history(store)
                if bound is not None and not dry_run:
                    expired = store.repo.expire_snapshots(older_than=bound) & history.keys()
                done = store.repo.garbage_collect(now - older_than, dry_run=dry_run)
            if bound is not None and dry_run:
                expired = {i for i, s in history.items() if s.parent_id and s.written_at < bound} - _named(store)
    except icechunk.IcechunkError as e:
        raise StoreError(f"cannot collect garbage of {store.uri!r}: {reason_of(e)}") from e
    return GcReport(
        store.uri, dry_run, len(dead), len(expired), done.snapshots_deleted, done.chunks_deleted, done.manifests_deleted,
        done.bytes_deleted, tuple(str(e) for e in done.delete_errors),
    )  # fmt: skip


def _named(store: Store) -> set[str]:
    """Snapshots that a branch or a tag points to."""
    repo = store.repo
    return {*map(repo.lookup_branch, repo.list_branches()), *map(repo.lookup_tag, repo.list_tags())}


def _history(store: Store) -> dict[str, icechunk.SnapshotInfo]:
    """Every snapshot that a branch or a tag leads to, by id."""
    return {s.id: s for head in _named(store) for s in store.repo.ancestry(snapshot_id=head)}


def _expire_before(store: Store, now: datetime, expire: timedelta | None, keep: int | None) -> datetime | None:
    """Snapshots from before this time are to be forgotten; None: none are.

    Where a branch left main is always kept: without it nobody could tell any more that main has not moved since.
    """
    bound = None if expire is None else now - expire
    if keep is not None:
        times = [s.written_at for s in store.repo.ancestry(branch=store.branch) if s.parent_id is not None]
        if len(times) <= keep:
            return None
        bound = min(times[keep - 1], bound or times[keep - 1])
    main = store.repo.lookup_branch(MAIN)
    for name in store.repo.list_branches() - {MAIN}:
        if bound is not None and is_ancestor(store, main, store.repo.lookup_branch(name)):
            bound = min(bound, store.repo.lookup_snapshot(main).written_at)
    return bound
