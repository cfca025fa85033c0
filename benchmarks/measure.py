"""A process and all that it starts: wall and processor time, memory; and several of them, interleaved."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.25
"""Between two looks at the memory of a tree of processes; a look takes some milliseconds."""
QUIET = {"ICECHUNK_LOG": "error", "PYTHONWARNINGS": "ignore"}
"""Icechunk and Xarray warn on every run of what the ways do on purpose."""


@dataclass(frozen=True)
class Measured:
    """Of one run. Memory in MB: of all processes at once (shared pages counted once, where the system tells), and of the largest."""

    seconds: float
    cpu_seconds: float
    memory: float
    largest: float


def run(command: Sequence[str], **options: Any) -> Measured:
    """Run ``command`` to its end. Raises :class:`RuntimeError` with the end of what it said if it fails.

    What was written before is on the disk first, so that it is not billed to this run. Modules are compiled once, as for users.
    """
    os.sync()
    environment = {**os.environ, **QUIET}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, **options
    ) as process:
        watch = _Watch(process.pid)
        watch.start()
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.stop()
    if process.returncode:
        last = said.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {last}")
    # The system's account misses processes that nobody waited for, the samples those that ended between two.
    return Measured(seconds, max(usage.ru_utime + usage.ru_stime, watch.cpu_seconds), watch.memory, watch.largest)


class _Watch(threading.Thread):
    """Looks at a tree of processes now and then."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.memory = self.largest = 0.0
        self._root, self._over = psutil.Process(pid), threading.Event()
        self._cpu: dict[int, float] = {}

    @property
    def cpu_seconds(self) -> float:
        return sum(self._cpu.values())

    def run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            with suppress(psutil.NoSuchProcess):
                self._look([self._root, *self._root.children(recursive=True)])

    def _look(self, processes: list[psutil.Process]) -> None:
        total = 0.0
        for process in processes:
            with suppress(psutil.Error, OSError):
                memory, peak = _memory(process)
                times = process.cpu_times()
                self._cpu[process.pid] = times.user + times.system
                total, self.largest = total + memory, max(self.largest, peak)
        self.memory = max(self.memory, total)

    def stop(self) -> None:
        self._over.set()
        self.join()


def _memory(process: psutil.Process) -> tuple[float, float]:
    """MB: now, with what is shared divided among those who share it; and at the most so far. Elsewhere than on Linux both are what is resident."""
    folder = Path(f"/proc/{process.pid}")
    if not (folder / "smaps_rollup").exists():
        resident = process.memory_info().rss / 1e6
        return resident, resident
    # The name of a process that is just being started is its parent's, and so is its memory.
    now = _kilobytes((folder / "smaps_rollup").read_text(), "Pss:")
    peak = _kilobytes((folder / "status").read_text(), "VmHWM:")
    return now, peak


def _kilobytes(text: str, key: str) -> float:
    line = next((line for line in text.splitlines() if line.startswith(key)), f"{key} 0 kB")
    return int(line.split()[1]) * 1024 / 1e6


def interleave(
    ways: Sequence[str], runs: int, measure: Callable[[str], Measured], say: Callable[[str], None]
) -> dict[str, list[Measured]]:
    """All of each way's runs: A B C A B C. None is left out."""
    found: dict[str, list[Measured]] = {way: [] for way in ways}
    for i in range(runs):
        for way in ways:
            result = measure(way)
            found[way].append(result)
            cost = f"{result.seconds:8.2f} s, {result.cpu_seconds:8.2f} s of processor, {result.memory:6.0f} MB"
            say(f"  run {i + 1} {way:14} {cost}")
    return found


def medians(results: Sequence[Measured]) -> dict[str, float]:
    return {key: statistics.median(asdict(r)[key] for r in results) for key in asdict(results[0])}


def machine() -> dict[str, Any]:
    """What it ran on."""
    import platform
    from importlib.metadata import version

    libraries = ["cubeingest", "icechunk", "zarr", "xarray", "rasterio", "dask", "numcodecs", "imagecodecs"]
    libraries += ["odc-stac", "rioxarray"]
    return {
        "processor": _processor(), "cores": os.cpu_count(), "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.release()}", "python": platform.python_version(),
        "libraries": {name: version(name) for name in libraries},
    }  # fmt: skip


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    import platform

    return platform.processor() or platform.machine()


def describe(found: Mapping[str, Any]) -> str:
    libraries = ", ".join(f"{name} {number}" for name, number in found["libraries"].items())
    return (f"{found['processor']}, {found['cores']} cores, {found['memory_gb']} GB, {found['system']}, "
            f"Python {found['python']}; {libraries}")  # fmt: skip
