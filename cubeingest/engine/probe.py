"""Proof that a cluster's workers see the coordinator's store, and run the same versions.

Icechunk does not notice if they do not: a worker whose path holds another copy of the repository writes there, the
commit succeeds, and reading fails.
"""

from __future__ import annotations

import os
import pickle
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

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


def prove_workers(client: Client, store: Store) -> None:
    """Check that each worker reads what this process wrote into the store, and the other way round.

    Raises :class:`WorkerError` naming the worker.
    """
    nonce = np.frombuffer(os.urandom(8 * PROBE_LENGTH), dtype="<i8")
    fork = _probe_array(session := store.repo.writable_session("main").fork())
    fork[...] = nonce
    answers = client.run(answer_probe, pickle.dumps(session), on_error="return")
    if not answers:
        raise WorkerError("the cluster has no workers")
    own = versions()
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            raise WorkerError(
                f"worker {worker} cannot read store {store.uri!r}, or not as this process does: {explain(answer)}"
            )
        seen, theirs, returned = answer
        differing = [f"{k} {theirs.get(k)} (here {v})" for k, v in own.items() if theirs.get(k) != v]
        if differing:
            raise WorkerError(f"worker {worker} has other versions: {', '.join(differing)}")
        try:
            back = np.asarray(_probe_array(pickle.loads(returned))[...])
        except Exception as e:
            raise WorkerError(f"worker {worker} writes to another place than {store.uri!r}: {explain(e)}") from e
        if not np.array_equal(seen, nonce) or not np.array_equal(back, ~nonce):
            raise WorkerError(f"worker {worker} sees another store at {store.uri!r} than this process")


def versions() -> dict[str, str]:
    return {name: version(name) for name in VERSIONS}


def _probe_array(session: icechunk.Session) -> Any:
    import zarr

    return zarr.open_array(session.store, path=PROBE, mode="r+")


def answer_probe(packed: bytes) -> tuple[Any, dict[str, str], bytes]:
    """What a worker reads in the probe, its versions, and a fork into which it wrote the probe's complement."""
    quiet_icechunk()
    session = pickle.loads(packed)
    array = _probe_array(session)
    seen = np.asarray(array[...])
    array[...] = ~seen
    return seen, versions(), pickle.dumps(session)
