"""Where tasks run: this process, worker processes started here, or a Dask cluster at an address."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import pickle
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from queue import Queue
from threading import Thread
from typing import IO, TYPE_CHECKING, Any, Protocol

from cubeingest.engine.interrupts import Interrupts
from cubeingest.engine.probe import Answer, Probe, answer_probe, check_versions, versions
from cubeingest.engine.work import SlotResult, Unit, UnitFunction, explain, failed, slots_in
from cubeingest.errors import WorkerError
from cubeingest.store import Store, quiet_icechunk, reason_of

if TYPE_CHECKING:
    from distributed import Client

MIN_BYTES_FOR_CLUSTER = 256 * 2**20
"""Pixels below which local worker processes are not worth the seconds that they take to start."""

CORES_PER_WORKER = 2
"""One worker reads ahead in a thread and encodes in two, which keeps two cores busy: on two cores one process did 380 Mpx/s,
two of them 280."""

UNITS_AT_ONCE = 2
"""Units that a local process takes at a time if they overlap: one is fetched or read while another is encoded."""

WORKER_MALLOC = {"MALLOC_TRIM_THRESHOLD_": 256 * 2**20, "MALLOC_MMAP_THRESHOLD_": 32 * 2**20}
"""How glibc hands out memory in local workers. Dask's own setting gives every chunk's buffers back to the system and takes
them anew, which took as long again as decoding and encoding."""

WORKER_START_SECONDS = 120
"""How long local workers may take to import what they need; on a busy machine it has been seen to take 20."""

WORKER_RETURN_SECONDS = 60
"""How long lost workers may take to be replaced before the tasks that they died of are given up."""

ASK_SECONDS = 1.0
"""How long the number of a cluster's threads is taken as known: asking after every small unit took as long as sending it."""


class Pool(Protocol):
    """Somewhere to run units of work. Results come as they are ready; a unit that could not be run gives failed slots."""

    def run(
        self, function: UnitFunction, job: Any, units: Iterable[Unit], stop: Interrupts
    ) -> Iterator[list[SlotResult]]: ...

    def prove(self, store: Store, writes: bool = True) -> None: ...


class SerialPool:
    """This process. Units run in threads that an interruption leaves behind, ``threads`` at a time."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def run(
        self, function: UnitFunction, job: Any, units: Iterable[Unit], stop: Interrupts
    ) -> Iterator[list[SlotResult]]:
        done: Queue[list[SlotResult]] = Queue()
        waiting, running = iter(units), 0
        while True:
            for unit in islice(waiting, 0 if stop.over else self.threads - running):
                Thread(target=_work, args=(function, job, unit, done), name="cubeingest-unit", daemon=True).start()
                running += 1
            if not running:
                return
            results = stop.wait_for(done)
            if results is None:
                return
            running -= 1
            yield results

    def prove(self, store: Store, writes: bool = True) -> None:
        """This process sees the store by definition."""


class ClusterPool:
    """The workers of a Dask cluster."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._threads = 1
        self._asked = -math.inf
        self._probe: Probe | None = None

    def prove(self, store: Store, writes: bool = True) -> None:
        """Check that every worker sees ``store``, writes there too if need be, and runs our versions. Raises :class:`WorkerError` naming the worker.

        One that joins later is checked with its first task, whose results are not kept if it fails.
        """
        self._probe = Probe(store, writes)
        self._probe.ask(self.client)

    def run(
        self, function: UnitFunction, job: Any, units: Iterable[Unit], stop: Interrupts
    ) -> Iterator[list[SlotResult]]:
        probe = self._probe
        assert probe is not None, "the workers were not proven"
        waiting = iter(units)
        running: dict[Any, Unit] = {}
        done: Queue[Any] = Queue()
        # The job is sent as bytes with each unit: a scattered one would be one object a worker, gathering every
        # unit's changes.
        packed = pickle.dumps(job)
        # Dask blames whatever a dead worker had been given: each of those tasks is tried once more with nothing beside it.
        blamed: deque[Unit] = deque()
        alone = False

        def submit(n: int, waiting: Iterator[Unit] = waiting) -> None:
            for unit in islice(waiting, n):
                future = self.client.submit(run_packed, function, packed, unit, probe.packed, versions(), pure=False)
                running[future] = unit
                future.add_done_callback(done.put)

        submit(2 * self._ask_threads())
        try:
            while running:
                future = stop.wait_for(done, self._is_alive)
                if future is None:
                    break
                unit = running.pop(future)
                if not alone and _killed_its_worker(future):
                    blamed.extend((task,) for task in unit)
                    results = []
                else:
                    results = self._results(future, unit)
                if not stop.over and self._is_alive():
                    submit(max(1, 2 * self._ask_threads() - len(running)))
                    if not running and blamed and self._has_workers(stop):
                        alone = True
                        submit(1, iter([blamed.popleft()]))
                if results:
                    yield results
            if not stop.over:
                why = "all workers were lost" if self._is_alive() else "the Dask scheduler was lost"
                for unit in [*running.values(), *blamed, *waiting]:
                    yield [failed(p, why) for p in slots_in(unit)]
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self.client.cancel(list(running))

    def _is_alive(self) -> bool:
        return bool(self.client.status == "running")

    def _has_workers(self, stop: Interrupts) -> bool:
        """Wait until there is one."""
        deadline = time.monotonic() + WORKER_RETURN_SECONDS
        while not stop.over and time.monotonic() < deadline:
            with suppress(TimeoutError, OSError):
                self.client.wait_for_workers(1, timeout=1)
                return True
        return False

    def _ask_threads(self) -> int:
        """Threads of the workers that were there a moment ago; some may have joined or left."""
        if time.monotonic() - self._asked > ASK_SECONDS:
            with suppress(OSError):  # the scheduler is being lost, which shows soon
                self._threads = max(1, sum(self.client.nthreads().values()))
            self._asked = time.monotonic()
        return self._threads

    def _results(self, future: Any, unit: Unit) -> list[SlotResult]:
        assert self._probe is not None
        try:
            results, answer = future.result()
            self._probe.check("that has joined", answer)
        except WorkerError as e:  # it must not go on taking work, and failing it
            return [failed(p, str(e), by_store=True) for p in slots_in(unit)]
        except Exception as e:  # noqa: BLE001  (a worker died, or the unit could not be sent)
            return [failed(p, f"the worker was lost or failed: {explain(e)}") for p in slots_in(unit)]
        else:
            checked: list[SlotResult] = results
            return checked
        finally:
            future.release()


def _killed_its_worker(future: Any) -> bool:
    from distributed.scheduler import KilledWorker

    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def _work(function: UnitFunction, job: Any, unit: Unit, done: Queue[list[SlotResult]]) -> None:
    try:
        done.put(function(job, unit))
    except BaseException as e:  # noqa: BLE001  (a panic of a library is no Exception; the wait for it must end)
        done.put([failed(p, explain(e)) for p in slots_in(unit)])


def run_packed(
    function: UnitFunction, packed: bytes, unit: Unit, probe: bytes, theirs: dict[str, str]
) -> tuple[list[SlotResult], Answer]:
    """On a worker: answer the coordinator's probe, and run ``function`` with a pickled job.

    Raises :class:`WorkerError` before anything is done if this worker has other versions than the coordinator, or cannot
    read what that has written.
    """
    quiet_icechunk()
    check_versions("that has joined", versions(), theirs)
    try:
        answer = answer_probe(probe)
    except Exception as e:
        raise WorkerError(
            f"a worker that has joined cannot read the store as the coordinator does: {explain(e)}"
        ) from e
    return function(pickle.loads(packed), unit), answer


@contextmanager
def open_pool(
    workers: int | None, scheduler: str | None, n_units: int, n_bytes: int, overlap: bool = False
) -> Iterator[Pool]:
    """The cluster at ``scheduler``, or as many local processes as asked for; this process alone for one.

    By default one for every two cores, or one if the work is so small that starting more would take longer. With
    ``overlap`` each local process takes ``UNITS_AT_ONCE``.

    Raises :class:`WorkerError` if the cluster cannot be reached.
    """
    if scheduler is None:
        count = min(workers or default_workers(n_units, n_bytes), max(1, n_units))
        threads = UNITS_AT_ONCE if overlap else 1
        if count == 1:
            yield SerialPool(threads)
            return
        with _local_cluster(count, threads) as client:
            yield ClusterPool(client)
        return
    from distributed import Client

    _check_address(scheduler)
    try:
        client = Client(scheduler, timeout=10, set_as_default=False)
    except (OSError, ValueError) as e:
        raise WorkerError(f"no Dask scheduler answers at {scheduler!r}: {reason_of(e)}") from e
    with client:
        if not client.nthreads():
            raise WorkerError(f"the cluster at {scheduler!r} has no workers: start some with `dask worker {scheduler}`")
        yield ClusterPool(client)


def _check_address(address: str) -> None:
    """See at once whether anything listens there: Dask's client takes half a minute to give up.

    Raises :class:`WorkerError` if nothing does, or the address is none.
    """
    from distributed.comm.addressing import parse_address, parse_host_port

    try:
        scheme, rest = parse_address(address)
        if scheme not in ("tcp", "tls", "ws", "wss"):
            raise ValueError(f"unknown scheme {scheme!r}")
        socket.create_connection(parse_host_port(rest), timeout=10).close()
    except (OSError, ValueError) as e:
        raise WorkerError(f"no Dask scheduler answers at {address!r}: {reason_of(e)}") from e


def default_workers(n_units: int, n_bytes: int) -> int:
    """Local processes that are started if nobody says how many."""
    return min(1 if n_bytes < MIN_BYTES_FOR_CLUSTER else max(1, _cores() // CORES_PER_WORKER), max(1, n_units))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _local_cluster(n_workers: int, n_threads: int) -> Iterator[Client]:
    """Worker processes of some threads each, and a scheduler in this process.

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
                environment = {
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                    "DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON": repr(WORKER_MALLOC),
                }
                self.process = await asyncio.create_subprocess_exec(
                    *command, start_new_session=True, stdout=log, stderr=log, env=environment
                )

        options = {
            "worker_class": "distributed.Nanny",
            "worker_kwargs": {
                "nthreads": n_threads,
                "host": "127.0.0.1",
                "dashboard": False,
                "dashboard_address": "127.0.0.1:0",
                "preload": ["cubeingest.ingest"],
                "death_timeout": 60,
            },
        }
        scheduler = {
            "cls": Scheduler,
            "options": {"dashboard": False, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1", "port": 0},
        }
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
