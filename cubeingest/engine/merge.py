"""Keep what workers return, and commit it with the ledger in one transaction."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cubeingest.engine.work import SlotResult
from cubeingest.errors import StoreError
from cubeingest.ledger import Record, Slot, read_records, write_expected
from cubeingest.spec import CubeSpec
from cubeingest.store import Store

if TYPE_CHECKING:
    import icechunk

KEPT_BYTES = 64 * 2**20
"""Pickled forks that are kept before a commit is made without being asked for: about 2 million chunks, which take
about half a gigabyte while they are merged."""


@dataclass
class Merger:
    """Keeps the forks that workers returned, and commits them with the ledger in one transaction.

    ``before`` are the records of the planned slots when the plan was made. If someone else has committed since, slots
    whose record is another by now are dropped (``lost``), and the rest is merged into a new session: never a blind
    re-merge, which would overwrite silently what the other wrote.
    """

    store: Store
    spec: CubeSpec
    before: Mapping[Slot, Record]
    expected: Mapping[str, Mapping[tuple[int, ...], Any]]
    kept: list[SlotResult] = field(default_factory=list)
    kept_bytes: int = 0
    lost: list[SlotResult] = field(default_factory=list)
    committed: list[SlotResult] = field(default_factory=list)

    def keep(self, results: Iterable[SlotResult]) -> None:
        """Keep the results that are none of a failure."""
        good = [r for r in results if r.error is None]
        self.kept += good
        self.kept_bytes += sum(len(r.fork or b"") for r in good)

    def commit(
        self,
        message: Callable[[list[SlotResult]], str],
        metadata: Callable[[list[SlotResult]], dict[str, Any]],
        check: Callable[[], None],
    ) -> str | None:
        """Commit what is kept; the snapshot id, or None if there was nothing. Raises :class:`StoreError`."""
        kept, dropped = self.kept, []

        def build(session: icechunk.Session) -> bool:
            nonlocal kept, dropped
            self._check_layout(session)
            now = read_records(session, [r.slot for r in self.kept])
            dropped = [r for r in self.kept if now.get(r.slot) != self.before.get(r.slot)]
            kept = [r for r in self.kept if now.get(r.slot) == self.before.get(r.slot)]
            changed = write_expected(session, self.spec, self.expected)
            for result in kept:
                assert result.fork is not None
                session.merge(pickle.loads(result.fork))
            return bool(kept) or changed

        # Message and metadata depend on what is dropped, which is known only inside; the store asks for them late.
        snapshot = self.store.commit(build, lambda: message(kept), lambda: metadata(kept), check)
        self.committed += [_without_fork(r) for r in kept]
        self.lost += [_without_fork(r) for r in dropped]
        self.kept, self.kept_bytes = [], 0
        return snapshot

    def _check_layout(self, session: icechunk.Session) -> None:
        from cubeingest.store import read_spec_of

        if read_spec_of(session, self.store.uri).layout != self.spec.layout:
            raise StoreError(
                f"the layout of the cube at {self.store.uri!r} was changed during this run: run the command again"
            )


def _without_fork(result: SlotResult) -> SlotResult:
    from dataclasses import replace

    return replace(result, fork=None)


def timestamp() -> str:
    """Now, in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
