"""Proof that a cluster's workers see the coordinator's store, and run the same versions.

Icechunk does not notice if they do not: a worker whose path holds another copy of the repository writes there, the
commit succeeds, and reading fails.
"""

from __future__ import annotations

import os
import pickle
import uuid
from functools import cache, lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cubeingest.engine.work import explain
from cubeingest.errors import WorkerError
from cubeingest.spec import INTERNAL_GROUP
from cubeingest.store import Store, quiet_icechunk

if TYPE_CHECKING:
    import icechunk
    from distributed import Client

PROBE = f"{INTERNAL_GROUP}/probe"
PROBE_LENGTH = 256
"""Random 64-bit numbers in the probe: 2 kB, above Icechunk's 512 bytes, so that they become an object in the store."""

VERSIONS = ("cubeingest", "icechunk", "zarr", "numpy")
"""Packages whose versions a cluster's workers must share with the coordinator."""


Answer = tuple[str, Any, dict[str, str], bytes]
"""Token of the worker's process, what it read in the probe, its versions, and a pickled fork that holds its reply."""


class Probe:
    """Random numbers that this process wrote into the store, for workers to read and to answer.

    For work that only reads, what lies in the store is asked for instead: a snapshot, once it is found, is the same
    everywhere.
    """

    def __init__(self, store: Store, writes: bool) -> None:
        self._uri = store.uri
        self._writes = writes
        if writes:
            self._nonce = np.frombuffer(os.urandom(8 * PROBE_LENGTH), dtype="<i8")
            session: icechunk.Session = store.writable().fork()
            _probe_array(session)[...] = self._nonce
        else:
            session = store.readonly()
            self._nonce = np.asarray(_probe_array(session, "r")[...])
        self.packed = pickle.dumps(session)
        """The session that workers answer with :func:`answer_probe`."""
        self._proven: set[str] = set()

    def ask(self, client: Client) -> None:
        """Check every worker that is there now. Raises :class:`WorkerError` naming the one that fails."""
        answers = client.run(answer_probe, self.packed, on_error="return")
        if not answers:
            raise WorkerError("the cluster has no workers")
        for worker, answer in answers.items():
            if isinstance(answer, BaseException):
                raise WorkerError(
                    f"worker {worker} cannot read store {self._uri!r}, or not as this process does: {explain(answer)}"
                )
            self.check(worker, answer)

    def check(self, worker: str, answer: Answer) -> None:
        """Check the answer of one worker process, once. Raises :class:`WorkerError` naming it."""
        token, seen, theirs, returned = answer
        if token in self._proven:
            return
        check_versions(worker, theirs, versions())
        try:
            back = np.asarray(_probe_array(pickle.loads(returned), "r")[...]) if self._writes else ~self._nonce
        except Exception as e:
            raise WorkerError(f"worker {worker} writes to another place than {self._uri!r}: {explain(e)}") from e
        if not np.array_equal(seen, self._nonce) or not np.array_equal(back, ~self._nonce):
            raise WorkerError(f"worker {worker} sees another store at {self._uri!r} than this process")
        self._proven.add(token)


@cache
def versions() -> dict[str, str]:
    """Versions of this process, looked up once: it reads files, and every unit of work is sent with them."""
    return {name: version(name) for name in VERSIONS}


def check_versions(worker: str, its: dict[str, str], ours: dict[str, str]) -> None:
    """Compare a worker's versions with the coordinator's. Raises :class:`WorkerError` naming it and what differs."""
    differing = [f"{k} {its.get(k)} (here {v})" for k, v in ours.items() if its.get(k) != v]
    if differing:
        raise WorkerError(f"worker {worker} has other versions: {', '.join(differing)}")


def _probe_array(session: icechunk.Session, mode: Literal["r", "r+"] = "r+") -> Any:
    import zarr

    return zarr.open_array(session.store, path=PROBE, mode=mode)


@lru_cache(maxsize=4)
def answer_probe(packed: bytes) -> Answer:
    """On a worker: read the probe, and write its complement into a fork. Asked once a process, however many units it gets."""
    quiet_icechunk()
    session = pickle.loads(packed)
    seen = np.asarray(_probe_array(session, "r")[...])
    if session.read_only:
        return uuid.uuid4().hex, seen, versions(), b""
    _probe_array(session)[...] = ~seen
    return uuid.uuid4().hex, seen, versions(), pickle.dumps(session)
