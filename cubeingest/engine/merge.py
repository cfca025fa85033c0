"""Keep what workers return, and commit it with the ledger in one transaction."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cubeingest.engine.memory import kept_limit
from cubeingest.engine.work import SlotResult
from cubeingest.errors import StoreError
from cubeingest.ledger import Record, Slot, read_records, write_expected
from cubeingest.spec import spec_from_json
from cubeingest.store import Store, last_change, read_internal, reason_of, was_collected_since

if TYPE_CHECKING:
    import icechunk


@dataclass
class Merger:
    """Keeps the forks that workers returned, and commits them with the ledger in one transaction.

    ``before`` are the records of the planned slots when the plan was made. If someone else has committed since, slots
    whose record is another by now are dropped (``lost``), and the rest is merged into a new session: never a blind
    re-merge, which would overwrite silently what the other wrote. A record of this ``run`` is none of another: its commit
    was made, though the store's answer was lost.

    ``new`` are slots that the ledger did not have then. ``base`` is the session that all forks were made of, if the records in it are those of ``before``: then it is
    committed, as long as nobody else has touched the same slots. ``whole`` puts a commit off for as long as memory allows. ``layout`` is by what arrays
    are known, if it is not the store's; ``also`` may raise where the session that all is merged into is not as it should be.
    """

    store: Store
    run: str
    before: Mapping[Slot, Record]
    expected: Mapping[str, Mapping[tuple[int, ...], Any]] = field(default_factory=dict)
    new: Collection[Slot] = ()
    base: icechunk.Session | None = None
    whole: bool = False
    layout: str = ""
    also: Callable[[icechunk.Session], None] = lambda _: None
    kept: list[SlotResult] = field(default_factory=list)
    kept_bytes: int = 0
    lost: list[SlotResult] = field(default_factory=list)
    committed: list[SlotResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._spec_text = self.store.spec.to_json()
        self.start()

    def start(self) -> None:
        """Take note of how the store is before the work of the next commit begins."""
        import icechunk

        self._limit = kept_limit(self.whole)
        try:
            self._mark = last_change(self.store)
        except icechunk.IcechunkError as e:
            raise StoreError(f"cannot read store {self.store.uri!r}: {reason_of(e)}") from e

    def keep(self, results: Iterable[SlotResult]) -> None:
        """Keep the results that are none of a failure."""
        good = [r for r in results if r.error is None]
        self.kept += good
        self.kept_bytes += sum(len(r.fork or b"") for r in good)

    @property
    def is_full(self) -> bool:
        """Whether so much is kept that it is to be committed now; by the memory that was free when the work for it began."""
        return self.kept_bytes > self._limit

    def commit(
        self,
        message: Callable[[list[SlotResult]], str],
        metadata: Callable[[list[SlotResult]], dict[str, Any]],
        check: Callable[[], None] = lambda: None,
    ) -> str | None:
        """Commit what is kept; the snapshot id, or None if there was nothing. Raises :class:`StoreError`."""
        kept = self.kept
        landed: list[SlotResult] = []
        dropped: list[SlotResult] = []

        def build(session: icechunk.Session) -> bool:
            nonlocal kept, landed, dropped
            self.check_layout(session)
            self._refuse_collected()
            now = read_records(session, [r.slot for r in self.kept], self.layout or self.store.layout_key)
            kept, landed, dropped = [], [], []
            for result in self.kept:
                record = now.get(result.slot)
                whose = kept if record == self.before.get(result.slot) else landed if self._is_own(record) else dropped
                whose.append(result)
            changed = write_expected(session, self.store.spec, self.expected)
            for result in kept:
                assert result.fork is not None
                session.merge(pickle.loads(result.fork))
            return bool(kept) or changed

        session, self.base = self.base, None
        if session is not None and not self.kept:
            return None
        if session is not None:
            self._refuse_collected()
            session.merge(*(pickle.loads(r.fork) for r in self.kept if r.fork is not None))
        # Message and metadata depend on what is dropped, which is known only inside; the store asks for them late.
        snapshot = self.store.commit(build, lambda: message(kept), lambda: metadata(kept), check, session)
        self.committed += [_without_fork(r) for r in [*kept, *landed]]
        self.lost += [_without_fork(r) for r in dropped]
        self.kept, self.kept_bytes = [], 0
        return snapshot or (self.store.tip if landed else None)

    def n_new(self, results: Iterable[SlotResult]) -> int:
        """How many of them the ledger did not have before."""
        return sum(r.slot in self.new for r in results)

    def _is_own(self, record: Record | None) -> bool:
        return record is not None and record.run == self.run

    def check_layout(self, session: icechunk.Session) -> None:
        """Raise :class:`StoreError` if the cube of a session has another layout than the plan was made for."""
        text = read_internal(session, self.store.uri)["spec"]
        if text != self._spec_text and spec_from_json(str(text)).layout != self.store.spec.layout:
            raise StoreError(
                f"the layout of the cube at {self.store.uri!r} was changed during this run: run the command again"
            )
        self.also(session)

    def _refuse_collected(self) -> None:
        if self.kept and was_collected_since(self.store, self._mark):
            raise StoreError(
                f"garbage of {self.store.uri!r} was collected by other means than `cubeingest gc` during this run, and with "
                "it perhaps what this run has written: nothing of it is committed; run the command again"
            )


def _without_fork(result: SlotResult) -> SlotResult:
    return replace(result, fork=None)


def timestamp() -> str:
    """Now, in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
