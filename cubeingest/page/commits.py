"""Commits as a page tells of them, and which of them holds a slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cubeingest.ingest import REGIONS_IN_METADATA
from cubeingest.ledger import NOTHING, Record, Slot, read_states
from cubeingest.page.packing import Texts
from cubeingest.plan import slot_labels
from cubeingest.spec import CubeSpec
from cubeingest.store import OWN_BRANCHES, Commit, Store, read_history

MAX_COMMITS = 5000
"""Commits that a page tells of, the newest: some 60 bytes each."""

MAX_LISTED = 1_000_000
"""Slots that are listed, over the commits of a run, to find out in which of them each came."""


def seconds_of(time: str) -> int | None:
    """Seconds since 1970 of a time as ledger and history write it; None for a text that is no time."""
    try:
        return int(datetime.fromisoformat(time).timestamp())
    except ValueError:
        return None


@dataclass
class History:
    """Commits, oldest first, and names that point to them; ``n_older`` are not told of."""

    commits: list[Commit]
    tags: Mapping[str, str] = field(default_factory=dict)
    branches: Mapping[str, str] = field(default_factory=dict)
    n_older: int = 0

    def pack(self, texts: Texts) -> dict[str, Any]:
        """Columns, and names by snapshot; texts become numbers."""
        rows = [c.details for c in self.commits]
        return {
            "snapshot": [c.snapshot for c in self.commits],
            "time": [seconds_of(c.time) for c in self.commits],
            "message": [texts.number(c.message) for c in self.commits],
            "version": [texts.number(str(d.get("cubeingest", ""))) for d in rows],
            "written": [_count(d, "written") for d in rows],
            "empty": [_count(d, "empty") for d in rows],
            "tags": dict(self.tags),
            "branches": dict(self.branches),
            "older": self.n_older,
        }


def _count(details: Mapping[str, Any], key: str) -> int:
    value = details.get(key, 0)
    return value if isinstance(value, int) else 0


def gather_history(store: Store) -> History:
    """Commits up to what is read, and the tags and branches of the cube."""
    with store.asking():
        tags = {name: store.repo.lookup_tag(name) for name in sorted(store.repo.list_tags())}
        names = sorted(n for n in store.repo.list_branches() if not n.startswith(OWN_BRANCHES))
        branches = {name: store.repo.lookup_branch(name) for name in names}
    commits = read_history(store)[::-1]
    return History(commits[-MAX_COMMITS:], tags, branches, max(0, len(commits) - MAX_COMMITS))


def find_commits(store: Store, history: History, records: Mapping[Slot, Record]) -> dict[Slot, int]:
    """The commit that each record came with, as its place in ``history``; nothing for those that have expired.

    A record names its run. Of a run's several commits the metadata rule some out; of the rest it is the first that has the slot
    where that can be listed cheaply, else the first that is not older than the record.
    """
    of_run: dict[str, list[int]] = {}
    for n, commit in enumerate(history.commits):
        run = commit.details.get("run")
        if isinstance(run, str) and _count(commit.details, "written") + _count(commit.details, "empty"):
            of_run.setdefault(run, []).append(n)
    in_run: dict[str, list[Slot]] = {}
    for slot, record in records.items():
        in_run.setdefault(record.run, []).append(slot)
    out: dict[Slot, int] = {}
    for run, slots in in_run.items():
        numbers = of_run.get(run, [])
        if len(numbers) <= 1:
            out |= dict.fromkeys(slots, numbers[0]) if numbers else {}
            continue
        out |= _of_several(store, history, numbers, {s: records[s] for s in slots})
    return out


def _of_several(
    store: Store, history: History, numbers: Sequence[int], records: Mapping[Slot, Record]
) -> dict[Slot, int]:
    spec = store.spec
    holders = {n: _Holder.of(history.commits[n]) for n in numbers}
    may_hold = {slot: [n for n in numbers if holders[n].may_hold(spec, slot)] or list(numbers) for slot in records}
    unsure = [slot for slot, found in may_hold.items() if len(found) > 1]
    first: dict[Slot, int] = {}
    if unsure and len(numbers) * sum(spec.grid.n_regions for _ in spec.variables) <= MAX_LISTED:
        first = _first_seen(store, history, numbers, unsure)
    out = {}
    for slot, found in may_hold.items():
        time = seconds_of(records[slot].time) or 0
        later = [n for n in found if (seconds_of(history.commits[n].time) or 0) >= time]
        out[slot] = first.get(slot, (later or found[-1:])[0])
    return out


def _first_seen(store: Store, history: History, numbers: Sequence[int], slots: Sequence[Slot]) -> dict[Slot, int]:
    """The first of a run's commits that has something in each slot, of the slots that had nothing before the run."""
    out: dict[Slot, int] = {}
    left = slots
    before = numbers[0] - 1
    for n in (before, *numbers):
        if n < 0:
            continue
        states = read_states(store.readonly(history.commits[n].snapshot), store.spec)
        seen = [s for s in left if _has(states, s)]
        if n != before:
            out |= dict.fromkeys(seen, n)
        left = [s for s in left if s not in set(seen)]
    return out


def _has(states: Mapping[str, Any], slot: Slot) -> bool:
    return bool(states[slot.variable][slot.index] != NOTHING)


@dataclass(frozen=True)
class _Holder:
    """What a commit's metadata say of its slots, which name some regions and labels at most: what they name whole."""

    regions: frozenset[str] | None
    axes: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, commit: Commit) -> _Holder:
        details = commit.details
        regions, axes = details.get("regions", []), details.get("axes", {})
        whole = isinstance(regions, list) and details.get("n_regions") == len(regions)
        known = {
            name: frozenset(map(str, labels)) for name, labels in axes.items() if len(labels) < REGIONS_IN_METADATA
        }
        return cls(frozenset(map(str, regions)) if whole else None, known)

    def may_hold(self, spec: CubeSpec, slot: Slot) -> bool:
        if self.regions is not None and spec.grid.region_id(slot.iy, slot.ix) not in self.regions:
            return False
        return all(label in self.axes.get(name, {label}) for name, label in slot_labels(spec, slot).items())
