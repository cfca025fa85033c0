"""Starts command lines quickly: a process that has imported everything forks itself for each, a hundred times in a run.

Each one is a process of its own, that can be killed, stopped and interrupted as any other. Icechunk is not imported before
the fork: it starts threads, which a fork does not take along.

The lower half is the side of the tests, :class:`Starter`.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 120
"""Seconds that anything here may take on a busy machine. Nothing waits for them to pass."""


def serve_forks() -> dict[str, Any] | None:
    """Fork for each request on stdin, tell pid and exit code on stdout; the request in a child, None when stdin ends."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write_end)
    buffer = b""
    with selectors.DefaultSelector() as ready:
        ready.register(0, selectors.EVENT_READ)
        ready.register(read_end, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                data = os.read(key.fd, 65536)
                if key.fd == read_end:
                    continue
                if not data:
                    return None
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    request = json.loads(line)
                    pid = os.fork()
                    if pid == 0:
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        os.close(read_end)
                        os.close(write_end)
                        return dict(request)
                    _tell(token=request["token"], pid=pid)
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == 0:
                    break
                _tell(pid=pid, code=os.waitstatus_to_exitcode(status))


def _tell(**what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def run_command(request: dict[str, Any]) -> None:
    """In a child: become the command line that was asked for."""
    os.setsid()
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT),
        (2, request["err"], os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[:0] = [p for p in request["env"].get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.argv = ["cubeingest", *request["args"]]
    if request["inject"]:
        from tests.faults.injection import install

        install(request["inject"])
    from cubeingest.cli import main

    main()


def preload() -> None:
    """Import what commands import, but for Icechunk."""
    import distributed
    import filelock
    import odc.geo
    import psutil
    import pyproj
    import rasterio
    import rich.console
    import rioxarray
    import shapely
    import xarray
    import zarr.codecs

    import cubeingest.cli
    import cubeingest.cube

    used = (distributed, filelock, odc, psutil, pyproj, rasterio, rich, rioxarray, shapely, xarray, zarr, cubeingest)
    assert all(used)
    assert "icechunk" not in sys.modules, "Icechunk's threads would be lost in the forks"
    gc.collect()
    gc.freeze()  # a child that ends need not look through all of this


# ---- the side of the tests ------------------------------------------------------------------------------------


@dataclass
class Command:
    """A command line that was started."""

    pid: int
    out: Path
    err: Path
    ended: threading.Event = field(default_factory=threading.Event)
    code: int | None = None

    def send(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def wait(self, timeout: float = PATIENCE) -> int:
        assert self.ended.wait(timeout), f"the command did not end: {self.err.read_text()}"
        assert self.code is not None
        return self.code

    def kill(self) -> None:
        """Kill it with all that it started, if it still runs."""
        import psutil

        if self.ended.is_set():
            return
        family = [psutil.Process(self.pid)]
        family += family[0].children(recursive=True)
        for member in family:
            member.kill()
        self.wait()


class Starter:
    """Runs this file as a process, and asks it for forks."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._commands: dict[int, Command] = {}
        self._early: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._changed = threading.Condition()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | {"OPENBLAS_NUM_THREADS": "1"}
        root = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore:This process:DeprecationWarning", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def start(
        self, *args: object, cwd: Path, env: dict[str, str], inject: list[dict[str, Any]] | None = None
    ) -> Command:
        """Start ``cubeingest ARGS...``."""
        self._count += 1
        token = self._count
        out, err = (self._folder / f"{token}.{kind}" for kind in ("out", "err"))
        request = {
            "token": token, "args": [str(a) for a in args], "cwd": str(cwd), "env": env, "out": str(out), "err": str(err),
            "inject": inject or [],
        }  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        with self._changed:
            assert self._changed.wait_for(lambda: token in self._pids, PATIENCE), "no command could be started"
            pid = self._pids.pop(token)
            command = Command(pid, out, err)
            self._commands[pid] = command
            if pid in self._early:
                self._end(command, self._early.pop(pid))
        return command

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            with self._changed:
                if "token" in told:
                    self._pids[told["token"]] = told["pid"]
                elif told["pid"] in self._commands:
                    self._end(self._commands[told["pid"]], told["code"])
                else:
                    self._early[told["pid"]] = told["code"]
                self._changed.notify_all()

    def _end(self, command: Command, code: int) -> None:
        del self._commands[command.pid]
        command.code = code
        command.ended.set()

    def kill_all(self) -> None:
        with self._changed:
            left = list(self._commands.values())
        for command in left:
            command.kill()

    def close(self) -> None:
        self.kill_all()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._listener.join(PATIENCE)
        self._process.stdout.close()


def wait_until(holds: Any, what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.005)


if __name__ == "__main__":
    preload()
    asked = serve_forks()
    if asked is not None:
        run_command(asked)
