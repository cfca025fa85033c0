"""Who is at work in a store: runs make themselves known there, so that no garbage collection takes what they wrote.

A run is known by a branch whose name says who it is and when it was last heard of. A branch is the only thing in an Icechunk
repository that can be made and removed at once on every kind of storage; and it keeps the snapshot that the run started
from. A run on this machine is alive if its process is; one elsewhere if it was heard of within ``SILENCE``.
"""

from __future__ import annotations

import os
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from cubeingest.errors import StoreError
from cubeingest.spec import INTERNAL_GROUP
from cubeingest.store.location import clock_wait, is_contention, is_passing, reason_of
from cubeingest.store.repository import OWN_BRANCHES, Store

if TYPE_CHECKING:
    import icechunk

BEAT_SECONDS = 600
"""How often a run lets itself be heard of."""

SILENCE = timedelta(hours=2)
"""After so long without being heard of, a run on another machine counts as dead. Clocks may differ by an hour or so."""

TRIES = 5
"""How often a change is tried that others, or a store that is busy, are in the way of."""

Kind = Literal["run", "gc", "extend", "relevel"]
"""An ingest (or whatever else fills arrays that are there), a garbage collection, an extension of the cube, another number of overviews.
Those of one kind do not disturb each other, others do.
"""

_NOUNS = {"run": "an ingest", "gc": "a garbage collection", "extend": "an extension", "relevel": "a change of levels"}
_VERBS = {
    "run": "an ingest is running", "gc": "garbage is being collected", "extend": "the cube is being extended",
    "relevel": "the cube is given another number of overviews",
}  # fmt: skip

_TIME = "%Y%m%dT%H%M%SZ"
_here: set[str] = set()
"""Ids of the runs of this process."""


@dataclass(frozen=True)
class Run:
    """An ingest, or what else must not go on beside one, that is or was under way. Times are UTC."""

    kind: Kind
    id: str
    started: datetime
    beat: datetime
    host: str
    pid: int
    birth: str

    @property
    def branch(self) -> str:
        times = f"{self.started:{_TIME}}.{self.beat:{_TIME}}"
        return f"{OWN_BRANCHES}{self.kind}.{self.id}.{times}.{self.host}.{self.pid}.{self.birth}"

    @classmethod
    def from_branch(cls, name: str) -> Run | None:
        """The run that a branch stands for, or None if it is an ordinary one."""
        match = re.fullmatch(
            OWN_BRANCHES
            + rf"({'|'.join(_NOUNS)})"
            + r"\.(\w+)\.(\d{8}T\d{6}Z)\.(\d{8}T\d{6}Z)\.([\w-]+)\.(\d+)\.(\d+)",
            name,
        )
        if match is None:
            return None
        kind, run, started, beat, host, pid, birth = match.groups()
        first, last = (datetime.strptime(t, _TIME).replace(tzinfo=UTC) for t in (started, beat))
        return cls(cast("Kind", kind), run, first, last, host, int(pid), birth)

    @property
    def is_alive(self) -> bool:
        if self.host != this_host():
            return datetime.now(UTC) - self.beat < SILENCE
        if self.pid == os.getpid():
            return self.id in _here
        return self.birth == birth_of(self.pid)

    @property
    def what(self) -> str:
        """``an ingest``."""
        return _NOUNS[self.kind]

    @property
    def doing(self) -> str:
        """``an ingest is running``."""
        return _VERBS[self.kind]

    def __str__(self) -> str:
        text = f"process {self.pid} on {self.host} (since {self.started:%Y-%m-%d %H:%M:%S} UTC"
        dead = "" if self.host == this_host() else f"; if it is silent, dead from {self.beat + SILENCE:%H:%M:%S} UTC on"
        return f"{text}{dead})"


def this_host() -> str:
    """Name of this machine as it runs now, and of what gives out its process numbers (a container has its own)."""
    name = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
        return f"{name}-{boot}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return name


def birth_of(pid: int) -> str:
    """What tells a process from an earlier one of the same number, whatever is done to the clock; "0" if it is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        import psutil

        try:
            return str(int(psutil.Process(pid).create_time()))
        except psutil.Error:
            return "0"


def check_clock(store: Store) -> None:
    """Find out whether this machine's clock is right, as far as a commit needs it, by a snapshot that is in no history.

    Under the lock, as every change of the repository: also such a snapshot is entered in the file that commits change.

    A branch that is made tomorrow would keep everybody else from changing anything until then; Icechunk compares with
    the store's clock only what goes into a commit. Raises :class:`StoreError`.
    """
    import icechunk
    import zarr

    try:
        with store.exclusive():
            session = store.repo.writable_session(store.branch)
            zarr.open_group(session.store, path=INTERNAL_GROUP, mode="r+").attrs["clock"] = 0
            session.flush("clock")
    except icechunk.IcechunkError as e:
        if clock_wait(e) is None:
            raise StoreError(f"cannot write to store {store.uri!r}: {reason_of(e)}") from e


def read_runs(store: Store) -> list[Run]:
    """Every run that made itself known and did not say that it has ended; some may be dead."""
    with store.asking():
        names = sorted(store.repo.list_branches())
    return [run for name in names if (run := Run.from_branch(name)) is not None]


@contextmanager
def made_known(store: Store, run_id: str, kind: Kind = "run") -> Iterator[None]:
    """Make a run known for as long as the block runs.

    Raises :class:`StoreError` if the store takes no writing, or if a run of another kind is alive.
    """
    now = datetime.now(UTC)
    check_clock(store)
    run = Run(kind, run_id, now, now, this_host(), os.getpid(), birth_of(os.getpid()))
    _here.add(run_id)
    over = threading.Event()
    beats = threading.Thread(target=_beat, args=(store, run, over), name="cubeingest-beat", daemon=True)
    try:
        _change(store, add=run)
        # Each kind writes before it looks, so that of two that start at once at least one sees the other.
        refuse_beside(store, kind)
        beats.start()
        yield
    finally:
        over.set()
        if beats.ident is not None:
            beats.join()
        _here.discard(run_id)
        with suppress(StoreError):
            _remove(store, run)


def refuse_beside(store: Store, kind: Kind) -> None:
    """Raise :class:`StoreError` if a run of another kind is alive."""
    for other in read_runs(store):
        if other.kind != kind and other.is_alive:
            raise StoreError(
                f"{other.doing} in {store.uri!r} by {other}: nothing was done; try again when it has ended"
            )


def remove_dead(store: Store) -> list[Run]:
    """Forget runs that are dead; the ones that were."""
    dead = [run for run in read_runs(store) if not run.is_alive]
    for run in dead:
        _change(store, remove=run)
    return dead


def _beat(store: Store, run: Run, over: threading.Event) -> None:
    last = run
    while not over.wait(BEAT_SECONDS):
        now = replace(run, beat=datetime.now(UTC))
        with suppress(StoreError):  # the next beat may succeed
            _change(store, add=now, remove=last)
            last = now


def _remove(store: Store, run: Run) -> None:
    for other in read_runs(store):
        if (other.kind, other.id, other.pid) == (run.kind, run.id, run.pid):
            _change(store, remove=other)


def _change(store: Store, add: Run | None = None, remove: Run | None = None) -> None:
    import icechunk

    for left in reversed(range(TRIES)):
        try:
            with store.exclusive():
                if add is not None:
                    with suppress(icechunk.AlreadyExistsError):  # an earlier try was made, though its answer was lost
                        store.repo.create_branch(add.branch, store.repo.lookup_branch(store.branch))
                if remove is not None:
                    with suppress(icechunk.RefNotFoundError):
                        store.repo.delete_branch(remove.branch)
                return
        except icechunk.IcechunkError as e:
            behind = clock_wait(e)
            if not left or not (is_passing(e) or is_contention(e) or behind is not None):
                raise StoreError(f"cannot write to store {store.uri!r}: {reason_of(e)}") from e
        time.sleep(random.uniform(0, 2.0 ** (TRIES - left) / 8) if behind is None else behind)


# ---- garbage that somebody else collected ---------------------------------------------------------------------


def last_change(store: Store) -> str:
    """What tells the newest change of the repository, of whatever kind, from all others."""
    return next((_identity(update) for update in store.repo.ops_log()), "")


def was_collected_since(store: Store, change: str) -> bool:
    """Whether garbage was collected after a change: then what is written but not committed may be gone.

    Our own collection refuses while a run is known; Icechunk's, called by other means, does not.
    """
    import icechunk

    for update in store.repo.ops_log():
        if _identity(update) == change:
            return False
        if isinstance(update.kind, icechunk.UpdateType.GCRan):
            return True
    return False


def _identity(update: icechunk.Update) -> str:
    return f"{update.updated_at.isoformat()} {update.kind}"
