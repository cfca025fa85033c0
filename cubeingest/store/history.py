"""What was committed, when, and by which run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cubeingest.store.repository import Store


@dataclass(frozen=True)
class Commit:
    """One commit of a cube's history; ``details`` is what cubeingest wrote into its metadata."""

    snapshot: str
    time: str
    message: str
    details: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"snapshot": self.snapshot, "time": self.time, "message": self.message, **self.details}


def read_history(store: Store) -> list[Commit]:
    """Commits up to the branch's tip (or the snapshot that is meant), newest first, without Icechunk's own first one."""
    with store.asking():
        return [
            Commit(s.id, s.written_at.isoformat(timespec="seconds"), s.message, dict(s.metadata))
            for s in store.repo.ancestry(snapshot_id=store.tip)
            if s.parent_id is not None
        ]


def newest_of_run(store: Store, run: str) -> str | None:
    """The snapshot of the last commit that a run made on the branch, if it made any that is known."""
    with store.asking():
        own = (s.id for s in store.repo.ancestry(snapshot_id=store.tip) if s.metadata.get("run") == run)
        return next(own, None)


def is_ancestor(store: Store, older: str, newer: str) -> bool:
    """Whether a snapshot is another one, or lies in its history, as far as that has not expired."""
    with store.asking():
        return any(s.id == older for s in store.repo.ancestry(snapshot_id=newer))
