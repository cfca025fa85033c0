"""The Icechunk repository that holds a cube: open, read, and commit without losing anyone's work."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cubeingest.errors import StoreError, nearest
from cubeingest.spec import CubeSpec
from cubeingest.store.internal import read_internal, read_spec_of
from cubeingest.store.location import (
    clock_wait,
    icechunk_storage,
    is_contention,
    is_local,
    is_passing,
    reason_of,
    request_settings,
)
from cubeingest.store.references import access_to

if TYPE_CHECKING:
    import icechunk

MAIN = "main"

COMMIT_TRIES = 100
"""How often a commit is rebuilt on what others committed meanwhile, before it gives up and says so."""

FAILURE_TRIES = 5
"""How often a commit is tried again after a failure of the store that may pass. Icechunk has repeated each request by then."""

SHORTEST_TRY_SECONDS = 0.05
LONGEST_WAIT_TRIES = 8
"""Between two tries lies a random part of a wait that doubles each time, from as long as a try takes up to so many times that:
the more are at it, the longer a try takes. Waits that grew on kept one writer in sixteen idle while the others finished."""

LONGEST_WAIT_SECONDS = 30.0
"""The longest wait after a failure of the store that may pass."""

LOCK_POLL_SECONDS = 0.5
"""How often a wait for the lock looks whether it is to be given up."""

LOCK_RETRY_SECONDS = 0.005
"""How often a wait for the lock looks whether it is free: a commit takes a few times as long."""

CACHED_REFERENCES = 1_000_000
"""Chunk references of manifests that a process keeps, some 40 MB. By Icechunk's own setting, 15 million, a run's memory grew with the
cube, and it was no quicker."""

LOCK_NAME = ".cubeingest.lock"

OWN_BRANCHES = "cubeingest-"
"""Prefix of branches by which runs make themselves known (see ``runs``); nobody's data lies there."""


@dataclass(frozen=True)
class Store:
    """An open repository: where it is, and the branch, or the snapshot ``at``, that is meant.

    ``uri`` is an absolute path or a URI. With ``at`` it can only be read.
    """

    uri: str
    repo: icechunk.Repository
    branch: str = MAIN
    at: str | None = None

    @property
    def is_local(self) -> bool:
        return is_local(self.uri)

    @property
    def tip(self) -> str:
        """Snapshot id that is read now: ``at``, or what the branch points to. Raises :class:`StoreError` if it is gone."""
        if self.at is not None:
            return self.at
        with self.asking():
            return self.repo.lookup_branch(self.branch)

    def readonly(self, snapshot: str | None = None) -> icechunk.Session:
        """A session on a snapshot, or on the tip. Raises :class:`StoreError` if it is gone."""
        with self.asking():
            return self.repo.readonly_session(snapshot_id=snapshot or self.tip)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Turn what Icechunk raises into :class:`StoreError`."""
        import icechunk

        try:
            yield
        except icechunk.IcechunkError as e:
            raise StoreError(f"cannot read store {self.uri!r}: {reason_of(e)}") from e

    def refuse_at(self) -> None:
        """Raise :class:`StoreError` if a snapshot is meant, which can only be read."""
        if self.at is not None:
            raise StoreError(f"snapshot {self.at} can only be read: open the cube without it (without --at)")

    def writable(self) -> icechunk.Session:
        """A writable session on the branch's tip. Raises :class:`StoreError` for a snapshot, and if the store does not answer."""
        import icechunk

        self.refuse_at()
        try:
            return self.repo.writable_session(self.branch)
        except icechunk.IcechunkError as e:
            raise StoreError(f"cannot open store {self.uri!r}: {reason_of(e)}") from e

    @contextmanager
    def exclusive(self, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold off other commits on a local filesystem, which Icechunk alone does not; no lock elsewhere.

        ``check`` is called while waiting, and may raise to end the wait.
        """
        if not self.is_local:
            yield
            return
        from filelock import FileLock, Timeout

        lock = FileLock(os.path.join(self.uri, LOCK_NAME))
        while True:
            check()
            try:
                lock.acquire(timeout=LOCK_POLL_SECONDS, poll_interval=LOCK_RETRY_SECONDS)
                break
            except Timeout:
                continue
            except OSError as e:
                raise StoreError(f"cannot lock store {self.uri!r}: {e.strerror or e}") from e
        try:
            yield
        finally:
            lock.release()

    def commit(
        self,
        build: Callable[[icechunk.Session], bool],
        message: Callable[[], str],
        metadata: Callable[[], Mapping[str, Any]],
        check: Callable[[], None] = lambda: None,
        session: icechunk.Session | None = None,
    ) -> str | None:
        """Commit what ``build`` writes into a fresh session on the branch's tip; the snapshot id, or None if nothing.

        ``build`` is called again, on a newer tip, whenever someone else committed in between: it must look at the cube
        as it then is. It returns whether there is anything to commit. Message and metadata are asked for after it;
        ``check`` is called before, and may raise to give up.

        A ``session`` that holds changes already is committed instead, moved onto what others committed since, for as
        long as that shares no chunk with it; this is quicker, and ``build`` is what is left when it does.

        Raises :class:`StoreError` for a failure of the store that does not pass, or if others kept committing for
        ``COMMIT_TRIES`` tries.
        """
        import icechunk

        self.refuse_at()
        conflicts = failures = 0
        while conflicts < COMMIT_TRIES:
            started = time.monotonic()
            try:
                with self.exclusive(check):
                    return self._commit_once(build, message, metadata, check, session, again=conflicts > 0)
            except icechunk.RebaseFailedError:
                session = None
                continue
            except icechunk.ConflictError:
                conflicts += 1
            except icechunk.IcechunkError as e:
                if e.kind == icechunk.ErrorKind.NO_CHANGES_TO_COMMIT:
                    return None
                wait = clock_wait(e)
                if wait is not None and failures < FAILURE_TRIES:
                    failures += 1
                    time.sleep(wait)
                elif is_contention(e):
                    conflicts += 1
                elif session is None or e.kind != icechunk.ErrorKind.REBASE_TX_LOG_PRUNED:
                    failures += 1
                    if not is_passing(e) or failures == FAILURE_TRIES:
                        raise StoreError(f"the commit to {self.uri!r} failed: {reason_of(e)}") from e
                session = None  # a failed commit may have been made after all, which only the cube can tell
            took = max(SHORTEST_TRY_SECONDS, time.monotonic() - started)
            longest = min(LONGEST_WAIT_SECONDS, took * min(LONGEST_WAIT_TRIES, 2**conflicts))
            time.sleep(random.uniform(0, longest) if conflicts else random.uniform(0, 2.0**failures))
        raise StoreError(
            f"others kept committing to {self.uri!r}: gave up after {COMMIT_TRIES} tries; run the command again"
        )

    def _commit_once(
        self,
        build: Callable[[icechunk.Session], bool],
        message: Callable[[], str],
        metadata: Callable[[], Mapping[str, Any]],
        check: Callable[[], None],
        session: icechunk.Session | None,
        again: bool,
    ) -> str | None:
        import icechunk

        if session is None:
            session = self.repo.writable_session(self.branch)
            if not build(session):
                return None
        elif again or self.is_local:
            session.rebase(icechunk.ConflictDetector())
        check()
        return session.commit(message(), dict(metadata()))

    @cached_property
    def spec(self) -> CubeSpec:
        """The spec that the cube holds, as it was when this store was opened."""
        return read_spec_of(self.readonly(), self.uri)

    @cached_property
    def cube_id(self) -> str:
        """What tells this cube from any other; given by ``init`` and the same on all branches."""
        return str(read_internal(self.readonly(), self.uri).get("id", ""))

    @cached_property
    def layout_key(self) -> str:
        """What tells this cube in its present layout from any other; see :func:`open_array`."""
        return f"{self.cube_id}-{hashlib.blake2b(json.dumps(self.spec.layout).encode(), digest_size=8).hexdigest()}"

    def on(self, branch: str = MAIN, at: str | None = None) -> Store:
        """The same repository, at another branch or snapshot."""
        return replace(self, branch=branch, at=at)


def store_exists(uri: str) -> bool:
    """Whether an Icechunk repository is at ``uri``. Raises :class:`StoreError` if it cannot be asked."""
    import icechunk

    if is_local(uri) and not os.path.isdir(uri):
        if os.path.exists(uri):
            raise StoreError(f"store {uri!r} is a file: name a folder that does not exist yet, or a cube")
        return False
    storage = icechunk_storage(uri)
    try:
        return icechunk.Repository.exists(storage, request_settings(storage, patient=False))
    except icechunk.IcechunkError as e:
        raise StoreError(f"cannot reach store {uri!r}: {reason_of(e)}") from e


def open_store(uri: str, branch: str = MAIN, at: str | None = None) -> Store:
    """Open the cube at ``uri``, on a branch or at a snapshot (its id, or a tag).

    Raises :class:`StoreError` if nothing is there, it is no cube of ours, or a newer version wrote it.
    """
    import icechunk

    if not store_exists(uri):
        what = (
            "nothing is there"
            if not (is_local(uri) and os.path.isdir(uri))
            else "the folder is not an Icechunk repository"
        )
        raise StoreError(f"no cube at {uri!r} ({what}): create one with `cubeingest init GRID.yaml`, or give --store")
    try:
        repo = open_repository(uri)
        branches = repo.list_branches()
        if branch not in branches:
            known = sorted(b for b in branches if not b.startswith(OWN_BRANCHES))
            raise StoreError(
                f"the cube has no branch {branch!r}{nearest(branch, known)} (branches: {', '.join(known)})"
            )
        store = Store(uri, repo, branch)
        if at is not None:
            store = store.on(branch, resolve_ref(store, at))
        store.spec  # noqa: B018  (refused here rather than later, if it is not a cube)
        if repo.config.virtual_chunk_containers and (access := access_to(repo, store.cube_id)):
            store = replace(store, repo=open_repository(uri, access))
    except icechunk.IcechunkError as e:
        raise StoreError(f"cannot open store {uri!r}: {reason_of(e)}") from e
    return store


def resolve_ref(store: Store, ref: str) -> str:
    """The snapshot that a tag, a branch or a snapshot's id means. Raises :class:`StoreError` for what is none of them."""
    import icechunk

    with store.asking():
        tags, branches = store.repo.list_tags(), store.repo.list_branches()
        if ref in tags:
            return store.repo.lookup_tag(ref)
        if ref in branches:
            return store.repo.lookup_branch(ref)
    try:
        return store.repo.lookup_snapshot(ref).id
    except icechunk.IcechunkError as e:
        if e.kind not in (icechunk.ErrorKind.INVALID_SNAPSHOT_ID, icechunk.ErrorKind.SNAPSHOT_NOT_FOUND):
            raise StoreError(f"cannot read store {store.uri!r}: {reason_of(e)}") from e
    known = sorted([*tags, *(b for b in branches if not b.startswith(OWN_BRANCHES))])
    raise StoreError(
        f"{ref!r} is no tag, branch or snapshot of the cube{nearest(ref, known)} (tags and branches: {', '.join(known)})"
    )


def open_repository(uri: str, access: Mapping[str, Any] | None = None) -> icechunk.Repository:
    """Open it so that requests are repeated for a while, but not for hours; what it keeps as its own configuration stays.

    ``access`` is what its references may read, see :func:`access_to`.
    """
    import icechunk

    storage = icechunk_storage(uri)
    config = icechunk.RepositoryConfig(caching=icechunk.CachingConfig(num_chunk_refs=CACHED_REFERENCES))
    if not is_local(uri):
        config.storage = request_settings(storage, patient=True)
    return icechunk.Repository.open(storage, config=config, authorize_virtual_chunk_access=dict(access or {}) or None)
