"""Branches and tags of a cube: write beside main, move main there once it is verified, name what is there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cubeingest.changes import read_changes
from cubeingest.engine import Options, Progress
from cubeingest.errors import StoreError
from cubeingest.selection import Selection
from cubeingest.store import MAIN, OWN_BRANCHES, Store, check_clock, is_ancestor, read_runs, reason_of, resolve_ref
from cubeingest.verify import VerifyReport, verify

TRIES = 5
"""How often a branch is looked at again that others are making or moving at the same time."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


def start_branch(store: Store, name: str) -> Store:
    """``store`` on the branch ``name``, which is made from main if there is none; one that main contains is moved up to it.

    Raises :class:`StoreError` for a name that cannot be, or a branch that does not hold this cube.
    """
    import icechunk

    if name == MAIN:
        return store.on(MAIN)
    _check_name("branch", name)
    check_clock(store.on(MAIN))
    for left in reversed(range(TRIES)):
        try:
            with store.exclusive():
                _make_or_move(store, name)
                return store.on(name)
        except (icechunk.AlreadyExistsError, icechunk.ConflictError):
            if not left:
                raise StoreError(f"others kept changing branch {name!r}: try again") from None
        except icechunk.IcechunkError as e:
            raise StoreError(f"cannot use branch {name!r} of {store.uri!r}: {reason_of(e)}") from e
    raise AssertionError("the last try returns or raises")


def _make_or_move(store: Store, name: str) -> None:
    repo = store.repo
    main = repo.lookup_branch(MAIN)
    if name not in repo.list_branches():
        if name in repo.list_tags():
            raise StoreError(f"{name!r} is a tag of the cube: choose another name for the branch")
        repo.create_branch(name, main)
        return
    tip = repo.lookup_branch(name)
    if store.on(name, at=tip).cube_id != store.on(MAIN, at=main).cube_id:
        raise StoreError(f"branch {name!r} does not descend from this cube's init: name another")
    if tip == main or is_ancestor(store, main, tip):
        return
    if not is_ancestor(store, tip, main):
        raise StoreError(
            f"main has moved since branch {name!r} was made, so it could never be published: name another, or give it up "
            f"with `cubeingest publish {name} --discard`"
        )
    repo.reset_branch(name, main, from_snapshot_id=tip)


def _check_name(kind: str, name: str) -> None:
    parts = name.split("/")
    if not _NAME.fullmatch(name) or name.startswith(OWN_BRANCHES) or "" in parts or ".." in parts:
        raise StoreError(
            f"{name!r} cannot be a {kind}'s name: use letters, digits, '.', '_', '-' and '/' (100 at most)"
        )


@dataclass(frozen=True)
class Published:
    """``action`` is ``published``, ``unchanged`` (main is there already), ``refused`` (verify found differences) or
    ``interrupted``.
    """

    branch: str
    action: str
    snapshot: str
    slots: int
    verified: VerifyReport | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "branch": self.branch, "action": self.action, "snapshot": self.snapshot, "slots": self.slots,
            "verified": None if self.verified is None else self.verified.to_json(),
        }  # fmt: skip

    @property
    def exit_code(self) -> int:
        if self.verified is not None and self.verified.signum is not None:
            return 128 + self.verified.signum
        return 2 if self.action == "refused" else 0


def publish(
    store: Store,
    name: str,
    options: Options,
    sample: float = 1.0,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Published:
    """Move main to a branch, if the slots in which they differ are what their sources say and main has not moved since.

    What is verified is the very snapshot that main moves to. ``sample`` is the fraction of windows to compare.
    Raises :class:`StoreError` if there is no such branch, it holds another cube, or main has moved.
    """
    import icechunk

    if name == MAIN:
        raise StoreError("main is what readers see already: name the branch that it is to move to")
    with store.asking():
        if name.startswith(OWN_BRANCHES) or name not in store.repo.list_branches():
            raise StoreError(
                f"there is no branch {name!r} to publish: make one with `cubeingest ingest --branch {name}`"
            )
        main, tip = store.repo.lookup_branch(MAIN), store.repo.lookup_branch(name)
    if main == tip:
        return Published(name, "unchanged", main, 0)
    if store.on(name, at=tip).cube_id != store.on(MAIN, at=main).cube_id:
        raise StoreError(f"branch {name!r} does not descend from this cube's init: nothing was published")
    _check_descends(store, name, main, tip)
    changes = read_changes(store, main, tip)
    changed = {c.slot for c in changes if c.change != "removed"}
    report = None
    if changed:
        report = verify(store.on(name, at=tip), Selection(), options, sample, on_progress, only=changed)
        if report.exit_code:
            action = "refused" if report.signum is None else "interrupted"
            return Published(name, action, main, len(changes), report)
    check_clock(store.on(MAIN))
    try:
        with store.exclusive():
            store.repo.reset_branch(MAIN, tip, from_snapshot_id=main)
    except icechunk.ConflictError:
        _check_descends(store, name, store.repo.lookup_branch(MAIN), tip)
        raise StoreError("main was moved while this ran: nothing was published; try again") from None
    except icechunk.IcechunkError as e:
        raise StoreError(f"cannot move main of {store.uri!r}: {reason_of(e)}") from e
    return Published(name, "published", tip, len(changes), report)


def _check_descends(store: Store, name: str, main: str, tip: str) -> None:
    if is_ancestor(store, main, tip):
        return
    if is_ancestor(store, tip, main):
        raise StoreError(f"main is ahead of branch {name!r} and holds all of it: there is nothing to publish")
    raise StoreError(
        f"main has moved since branch {name!r} was made: nothing was published. Ingest the same again onto a new branch "
        "(--branch NEW), which starts from main as it is now"
    )


def discard_branch(store: Store, name: str) -> str:
    """Give a branch up, and what only it holds to the next ``gc``; the snapshot that it pointed to.

    Raises :class:`StoreError` for main, or a branch that is not there.
    """
    import icechunk

    with store.asking():
        branches = store.repo.list_branches()
    if name == MAIN or name.startswith(OWN_BRANCHES) or name not in branches:
        raise StoreError(f"there is no branch {name!r} that could be given up")
    alive = [run for run in read_runs(store) if run.is_alive]
    if alive:
        raise StoreError(
            f"branch {name!r} may be written to by {alive[0]}: nothing was done; try again when that has ended"
        )
    check_clock(store.on(MAIN))
    try:
        with store.exclusive():
            tip = store.repo.lookup_branch(name)
            store.repo.delete_branch(name)
    except icechunk.IcechunkError as e:
        raise StoreError(f"cannot give branch {name!r} up: {reason_of(e)}") from e
    return tip


def make_tag(store: Store, name: str, at: str | None = None) -> str:
    """Name a snapshot (by default the tip) for good; its id.

    Raises :class:`StoreError` for a name that cannot be or is taken, or was once: Icechunk never gives a tag's name again.
    """
    import icechunk

    _check_name("tag", name)
    with store.asking():
        if name in store.repo.list_branches():
            raise StoreError(f"{name!r} is a branch of the cube: choose another name for the tag")
    snapshot = store.tip if at is None else resolve_ref(store, at)
    store.on(store.branch, snapshot).cube_id  # noqa: B018  (refused if there is no cube at that snapshot)
    check_clock(store.on(MAIN))
    try:
        with store.exclusive():
            store.repo.create_tag(name, snapshot)
    except icechunk.IcechunkError as e:
        if e.kind in (icechunk.ErrorKind.TAG_ALREADY_EXISTS, icechunk.ErrorKind.TAG_PREVIOUSLY_DELETED):
            raise StoreError(
                f"there is, or was, a tag {name!r} already: tags never change; choose another name"
            ) from None
        raise StoreError(f"cannot make tag {name!r} in {store.uri!r}: {reason_of(e)}") from e
    return snapshot


def read_tags(store: Store) -> dict[str, str]:
    """Snapshot id of each tag."""
    with store.asking():
        return {name: store.repo.lookup_tag(name) for name in sorted(store.repo.list_tags())}
