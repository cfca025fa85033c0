"""Run a worker function over tasks, here or on Dask, and commit what it returns: all of it or none.

A worker gets a pickled fork of the coordinator's session for each slot, writes into it and returns it. The
coordinator keeps the pickles until the commit that holds them has succeeded.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from cubeingest.errors import CubeIngestError, StoreError, WorkerError
from cubeingest.ledger import Record, Slot, read_records, write_expected
from cubeingest.plan import SlotPlan, Task
from cubeingest.spec import INTERNAL_GROUP, CubeSpec
from cubeingest.store import Store, first_line, quiet_icechunk

if TYPE_CHECKING:
    import icechunk
    from distributed import Client

PROBE = f"{INTERNAL_GROUP}/probe"
PROBE_LENGTH = 256
"""Random 64-bit numbers in the probe: 2 kB, above Icechunk's 512 bytes, so that they become an object in the store."""

KEPT_BYTES = 64 * 2**20
"""Pickled forks that are kept before a commit is made without being asked for: about 2 million chunks, which take
about half a gigabyte while they are merged."""

MIN_BYTES_FOR_CLUSTER = 256 * 2**20
"""Pixels below which local worker processes are not worth the seconds that they take to start."""

WORKER_START_SECONDS = 120
"""How long local workers may take to import what they need; on a busy machine it has been seen to take 20."""

VERSIONS = ("cubeingest", "icechunk", "zarr", "numpy")
"""Packages whose versions a cluster's workers must share with the coordinator."""


@dataclass(frozen=True)
class SlotResult:
    """What became of one slot: a pickled fork and the state it records, or an error."""

    slot: Slot
    href: str
    state: str = ""
    fork: bytes | None = None
    n_bytes: int = 0
    n_pixels: int = 0
    detail: Any = None
    error: str | None = None


SlotFunction = Callable[[Any, Task, SlotPlan], SlotResult]
"""(job, task, slot) → result. Top-level, and the job small and picklable."""


def attempt(function: SlotFunction, job: Any, task: Task) -> list[SlotResult]:
    """Run ``function`` for every slot of a task. The one place where a failure becomes a row of the report."""
    quiet_icechunk()
    out = []
    for plan in task.slots:
        try:
            out.append(function(job, task, plan))
        except Exception as e:  # noqa: BLE001
            out.append(failed(plan, explain(e)))
    return out


def failed(plan: SlotPlan, error: str) -> SlotResult:
    return SlotResult(plan.slot, plan.tiles[0].href if plan.tiles else "", error=error)


def explain(error: BaseException) -> str:
    """One line for the report; the type is named for what is none of our own errors."""
    if isinstance(error, CubeIngestError):
        return str(error)
    return f"{type(error).__name__}: {first_line(error)}"


@dataclass(frozen=True)
class Options:
    """How to run, and what to do with failures. ``workers`` None means one a core; ``scheduler`` is a Dask address."""

    workers: int | None = None
    scheduler: str | None = None
    commit_every: int | None = None
    on_error: Literal["keep", "abort"] = "keep"
    redo: bool = False


@dataclass(frozen=True)
class Progress:
    """What a progress display is told: the plan's size first, then each result."""

    n_slots: int
    n_pixels: int
    result: SlotResult | None = None


# ---- interruption ---------------------------------------------------------------------------------------------


class _Stop(BaseException):
    """Raised by the first signal, inside work that may be dropped."""


class Interrupts:
    """The first SIGINT or SIGTERM ends the work at hand, the second one everything.

    ``signum`` is the first signal that came, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._working = False

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            raise KeyboardInterrupt
        self.signum = signum
        if self._working:
            raise _Stop

    def check(self) -> None:
        """Leave :meth:`working` at once if a signal came before it began."""
        if self.signum is not None:
            raise _Stop

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work that the first signal may cut off: an exception leaves it, and is swallowed here."""
        try:
            self._working = True
            yield
        except _Stop:
            pass
        finally:
            self._working = False


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Catch SIGINT and SIGTERM; outside the main thread, where Python cannot, nothing is caught."""
    state = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return
    before = {s: signal.signal(s, state.handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield state
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


# ---- where work is done ---------------------------------------------------------------------------------------


class Pool(Protocol):
    """Somewhere to run tasks. Results come as they are ready; a task that could not be run gives failed slots."""

    n_workers: int

    def run(
        self, function: SlotFunction, job: Any, tasks: Iterable[Task], stop: Interrupts
    ) -> Iterator[tuple[Task, list[SlotResult]]]: ...

    def prove(self, store: Store) -> None: ...


class SerialPool:
    """This process, one task after another."""

    n_workers = 1

    def run(
        self, function: SlotFunction, job: Any, tasks: Iterable[Task], stop: Interrupts
    ) -> Iterator[tuple[Task, list[SlotResult]]]:
        for task in tasks:
            results: list[SlotResult] | None = None
            with stop.working():
                stop.check()
                results = attempt(function, job, task)
            if results is None:
                return
            yield task, results

    def prove(self, store: Store) -> None:
        """This process sees the store by definition."""


class ClusterPool:
    """The workers of a Dask cluster."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.n_workers = max(1, sum(client.nthreads().values()))

    def run(
        self, function: SlotFunction, job: Any, tasks: Iterable[Task], stop: Interrupts
    ) -> Iterator[tuple[Task, list[SlotResult]]]:
        from distributed import as_completed

        waiting = iter(tasks)
        running: dict[Any, Task] = {}
        # The job is sent as bytes with each task: a scattered one would be one object a worker, gathering every
        # task's changes.
        packed = pickle.dumps(job)
        completed = as_completed(loop=self.client.loop)

        def submit(n: int) -> None:
            for _, task in zip(range(n), waiting, strict=False):
                future = self.client.submit(run_packed, function, packed, task, pure=False, retries=0)
                running[future] = task
                completed.add(future)

        submit(2 * self.n_workers)
        try:
            while running:
                future = None
                with stop.working():
                    stop.check()
                    future = next(completed)
                if future is None:
                    return
                task = running.pop(future)
                try:
                    results = future.result()
                except Exception as e:  # noqa: BLE001  (a worker died, or the task could not be sent)
                    results = [failed(p, f"the worker was lost or failed: {explain(e)}") for p in task.slots]
                future.release()
                submit(1)
                yield task, results
        finally:
            self.client.cancel(list(running))

    def prove(self, store: Store) -> None:
        """Check that each worker reads what this process wrote into the store, and the other way round.

        Raises :class:`WorkerError` naming the worker.
        """
        nonce = np.frombuffer(os.urandom(8 * PROBE_LENGTH), dtype="<i8")
        fork = _probe_array(session := store.repo.writable_session("main").fork())
        fork[...] = nonce
        answers = self.client.run(answer_probe, pickle.dumps(session), on_error="return")
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


def run_packed(function: SlotFunction, packed: bytes, task: Task) -> list[SlotResult]:
    """As :func:`attempt`, with a pickled job."""
    return attempt(function, pickle.loads(packed), task)


@contextmanager
def open_pool(workers: int | None, scheduler: str | None, n_tasks: int, n_bytes: int) -> Iterator[Pool]:
    """The cluster at ``scheduler``, or as many local processes as asked for; this process alone for one.

    By default as many as there are cores, or one if the work is so small that starting them would take longer.

    Raises :class:`WorkerError` if the cluster cannot be reached.
    """
    if scheduler is None:
        count = workers or (1 if n_bytes < MIN_BYTES_FOR_CLUSTER else _cores())
        count = min(count, max(1, n_tasks))
        if count == 1:
            yield SerialPool()
            return
        with _local_cluster(count) as client:
            yield ClusterPool(client)
        return
    from distributed import Client

    try:
        client = Client(scheduler, timeout=10, set_as_default=False)
    except (OSError, ValueError) as e:
        raise WorkerError(f"no Dask scheduler answers at {scheduler!r}: {first_line(e)}") from e
    with client:
        if not client.nthreads():
            raise WorkerError(f"the cluster at {scheduler!r} has no workers: start some with `dask worker {scheduler}`")
        yield ClusterPool(client)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _local_cluster(n_workers: int) -> Iterator[Client]:
    """Worker processes of one thread each, and a scheduler in this process.

    The workers are started as commands, not by multiprocessing, so they never import the caller's ``__main__``; and in
    a session of their own, so that Ctrl-C reaches this process alone. What they print goes to a file, which is shown if
    they do not start.
    """
    import json
    import tempfile

    from distributed import Client, Scheduler
    from distributed.deploy.spec import SpecCluster
    from distributed.deploy.subprocess import SubprocessWorker

    with tempfile.TemporaryFile() as log:

        class LocalWorker(SubprocessWorker):
            async def _start(self) -> None:
                spec = json.dumps({"cls": self.worker_class, "opts": self.worker_kwargs})
                command = [sys.executable, "-m", "dask", "spec", self.scheduler, "--spec", spec]
                environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
                self.process = await asyncio.create_subprocess_exec(
                    *command, start_new_session=True, stdout=log, stderr=log, env=environment
                )

        options = {
            "worker_class": "distributed.Nanny",
            "worker_kwargs": {"nthreads": 1, "dashboard": False, "preload": ["cubeingest.ingest"], "death_timeout": 60},
        }
        scheduler = {"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1", "port": 0}}
        workers = {i: {"cls": LocalWorker, "options": options} for i in range(n_workers)}
        with (
            SpecCluster(scheduler=scheduler, workers=workers, silence_logs=logging.CRITICAL) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            _wait_for_workers(client, cluster, n_workers, log)
            yield client


def _wait_for_workers(client: Client, cluster: Any, n_workers: int, log: IO[bytes]) -> None:
    """Wait until all workers have joined. Raises :class:`WorkerError` as soon as one has ended instead."""
    deadline = time.monotonic() + WORKER_START_SECONDS
    while True:
        try:
            client.wait_for_workers(n_workers, timeout=1)
            return
        except TimeoutError:
            ended = [w for w in cluster.workers.values() if w.process is not None and w.process.returncode is not None]
            if ended or time.monotonic() > deadline:
                log.seek(0)
                last = log.read().decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
                raise WorkerError(f"the local worker processes did not start: {last[0]}") from None


# ---- commit ---------------------------------------------------------------------------------------------------


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
    lost: list[SlotResult] = field(default_factory=list)
    committed: list[SlotResult] = field(default_factory=list)
    snapshot: str | None = None

    @property
    def kept_bytes(self) -> int:
        return sum(len(r.fork or b"") for r in self.kept)

    def keep(self, results: Iterable[SlotResult]) -> None:
        self.kept += [r for r in results if r.error is None]

    def commit(
        self, message: Callable[[list[SlotResult]], str], metadata: Callable[[list[SlotResult]], dict[str, Any]]
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
        snapshot = self.store.commit(build, lambda: message(kept), lambda: metadata(kept))
        self.committed += [_without_fork(r) for r in kept]
        self.lost += [_without_fork(r) for r in dropped]
        self.kept = []
        self.snapshot = snapshot or self.snapshot
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
